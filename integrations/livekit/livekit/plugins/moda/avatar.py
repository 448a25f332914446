"""The avatar of an agent: in the agent's process, or in a worker of its own."""

from __future__ import annotations

import os

import aiohttp
from livekit import api, rtc
from livekit.agents import AgentSession, get_job_context
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.agents.voice.avatar import AvatarRunner, DataStreamAudioOutput, QueueAudioOutput
from livekit.agents.voice.avatar import AvatarSession as BaseAvatarSession

from moda import InputError, ModaError
from moda.live import LiveStream

from .face import SAMPLE_RATE_HZ, Face, make_runner

REQUEST_SECONDS = 30.0


class AvatarSession(BaseAvatarSession):
    """Gives a face to an :class:`AgentSession`; to be started before the session.

    Args:
        face: shown from this process.
        worker_url: address of a worker (``python -m livekit.plugins.moda.worker``) that shows its
            own face instead, such as ``http://10.0.0.7:8089``.
        identity, name: of the worker's participant in the room.
        api_key, api_secret: of the LiveKit server, which sign the worker's token; the environment
            variables ``LIVEKIT_API_KEY`` and ``LIVEKIT_API_SECRET`` by default. They stay here.

    Raises:
        InputError: neither or both of face and worker are given.
    """

    def __init__(
        self,
        face: Face | None = None,
        *,
        worker_url: str | None = None,
        identity: str = "moda-avatar",
        name: str = "MoDA",
        api_key: str | None = None,
        api_secret: str | None = None,
    ) -> None:
        super().__init__()
        if (face is None) == (worker_url is None):
            raise InputError("an avatar needs a face, or the worker that has one; give one of both")
        self._face, self._worker_url = face, worker_url
        self._identity, self._name = identity, name
        self._api_key = api_key or os.environ.get("LIVEKIT_API_KEY", "")
        self._api_secret = api_secret or os.environ.get("LIVEKIT_API_SECRET", "")
        self._stream: LiveStream | None = None
        self._runner: AvatarRunner | None = None

    @property
    def avatar_identity(self) -> str:
        """The participant that publishes picture and sound."""
        if self._face is None or self._room is None:
            return self._identity
        return self._room.local_participant.identity

    @property
    def provider(self) -> str:
        """Named in metrics."""
        return "moda"

    def express(self, emotion: str | None, intensity: float = 1.0) -> None:
        """Another emotion from now on, of a face in this process. Raises ``moda.InputError``."""
        if self._stream is not None:
            self._stream.express(emotion, intensity)

    async def start(self, agent_session: AgentSession, room: rtc.Room) -> None:
        """Take the session's speech.

        Raises:
            ModaError: the portrait cannot be used, or the worker refuses.
        """
        await super().start(agent_session, room)
        if self._face is not None:
            await self._show_here(self._face, agent_session, room)
        else:
            await self._ask_worker(agent_session, room)

    async def _show_here(self, face: Face, agent_session: AgentSession, room: rtc.Room) -> None:
        self._stream = await face.open()
        output = QueueAudioOutput(sample_rate=SAMPLE_RATE_HZ, wait_playback_start=True)
        self._runner = make_runner(room, output, self._stream)
        await self._runner.start()
        agent_session.output.replace_audio_tail(output)

    async def _ask_worker(self, agent_session: AgentSession, room: rtc.Room) -> None:
        job = get_job_context(required=False)
        agent = room.local_participant.identity if job is None else job.local_participant_identity
        token = (
            api.AccessToken(self._api_key, self._api_secret)
            .with_kind("agent")
            .with_identity(self._identity)
            .with_name(self._name)
            .with_grants(api.VideoGrants(room_join=True, room=room.name))
            .with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: agent})
            .to_jwt()
        )
        timeout = aiohttp.ClientTimeout(REQUEST_SECONDS)
        request = {"token": token, "agent": agent}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.post(f"{self._worker_url}/sessions", json=request) as answer,
            ):
                if answer.status != 201:
                    raise ModaError(f"the worker refuses: {await answer.text()}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ModaError(f"{self._worker_url} cannot be reached: {error!r}") from error
        output = DataStreamAudioOutput(
            room,
            destination_identity=self._identity,
            sample_rate=SAMPLE_RATE_HZ,
            wait_remote_track=rtc.TrackKind.KIND_VIDEO,
            wait_playback_start=True,
        )
        agent_session.output.replace_audio_tail(output)

    async def aclose(self) -> None:
        """Take the face away; a worker's participant leaves the room."""
        runner, self._runner = self._runner, None
        stream, self._stream = self._stream, None
        if runner is not None:
            await runner.aclose()
        if stream is not None:
            await stream.close()
        if self._face is not None and self._room is not None:
            # The base class would remove the participant that shows the face: the agent itself.
            self._room.off("connection_state_changed", self._on_connection_state_changed)
            self._room = None
        await super().aclose()
