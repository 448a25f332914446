"""A process of its own that shows a face in the rooms of agents.

    python -m livekit.plugins.moda.worker portrait.jpg --port 8089

Agents ask for it with ``AvatarSession(worker_url=...)``. The worker connects to the one LiveKit
server that it was told (``LIVEKIT_URL``), with the token that the agent has signed: it needs no
key. Who cannot sign a token for that server gets nothing from it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable

from aiohttp import web
from livekit import rtc
from livekit.agents.voice.avatar import DataStreamAudioReceiver

from moda import ModaError, TalkingHead

from .face import Face, make_runner
from .log import logger

MAX_REQUEST_BYTES = 64 * 1024


class AvatarWorker:
    """Shows one face in up to ``num_sessions`` rooms at once.

    Args:
        face: what is shown.
        livekit_url: the only server that is connected to.
        make_room: makes the room that is joined.
    """

    def __init__(
        self,
        face: Face,
        livekit_url: str,
        *,
        num_sessions: int = 1,
        make_room: Callable[[], rtc.Room] = rtc.Room,
    ) -> None:
        self._face, self._url = face, livekit_url
        self._num_sessions, self._make_room = num_sessions, make_room
        self._talking: TalkingHead | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        """Load the model, which all sessions share, and try the portrait."""
        self._talking = await asyncio.to_thread(TalkingHead.from_pretrained, "moda-tiny")
        await self._face.open(self._talking)

    def application(self) -> web.Application:
        """The HTTP side: ``POST /sessions`` with ``token`` and ``agent``."""
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.router.add_post("/sessions", self._answer)
        application.on_shutdown.append(self._end)
        return application

    async def attend(self, room: rtc.Room, agent: str) -> None:
        """Give the agent of a connected room a face until one of them leaves."""
        left = asyncio.Event()

        def leave(participant: rtc.RemoteParticipant) -> None:
            if participant.identity == agent:
                left.set()

        room.on("participant_disconnected", leave)
        room.on("disconnected", lambda *_: left.set())
        stream = await self._face.open(self._talking)
        runner = make_runner(room, DataStreamAudioReceiver(room, sender_identity=agent), stream)
        try:
            await runner.start()
            await left.wait()
        finally:
            await runner.aclose()
            await stream.close()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            token, agent = str(body["token"]), str(body["agent"])
        except (ValueError, KeyError, TypeError):
            return web.Response(status=400, text="send JSON with token and agent")
        if len(self._tasks) >= self._num_sessions:
            return web.Response(status=503, text=f"all {self._num_sessions} sessions are taken")
        room = self._make_room()
        task = asyncio.create_task(self._serve(room, token, agent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return web.Response(status=201)

    async def _serve(self, room: rtc.Room, token: str, agent: str) -> None:
        try:
            await room.connect(self._url, token)
            await self.attend(room, agent)
        except (rtc.ConnectError, ModaError, RuntimeError) as error:
            logger.error("the session with %s has ended: %s", agent, error)
        finally:
            await room.disconnect()

    async def _end(self, _: web.Application) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--crop", action="store_true")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8089)
    parser.add_argument("--livekit-url", default=os.environ.get("LIVEKIT_URL"))
    arguments = parser.parse_args()
    if not arguments.livekit_url:
        parser.error("no LiveKit server: give --livekit-url, or set LIVEKIT_URL")

    async def ready() -> web.Application:
        face = Face(arguments.portrait, size=arguments.size, crop=arguments.crop)
        worker = AvatarWorker(face, arguments.livekit_url, num_sessions=arguments.sessions)
        await worker.load()
        return worker.application()

    try:
        web.run_app(ready(), host=arguments.host, port=arguments.port)
    except ModaError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
