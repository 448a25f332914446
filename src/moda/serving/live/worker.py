"""A process that shows one live session after the other.

Model and portraits are loaded once. The parent speaks over a pipe, whose end is the end of the
worker: a server that is killed leaves no process behind. What crosses the pipe are tuples that
begin with a word; :class:`Worker` is the worker's end, :mod:`moda.serving.live.pool` the other.

    open start portrait          ready names, rejected text
    sound bytes                  frame bytes, statistics dict
    camera bytes                 frame bytes
    control Control              event dict
    offer start portrait sdp ice answer sdp
    close                        ended reason, closed
    quit

``portrait`` is the file of one that the client has brought, or None.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moda.encoders.regions import shrink_to
from moda.errors import InputError, ModaError
from moda.live import (
    LiveFrame,
    LiveHead,
    LiveOptions,
    LiveReenactment,
    LiveSession,
    LiveStatistics,
)
from moda.live.outputs import LiveMouth
from moda.media import animation_bytes
from moda.options import FrameOptions, SpeakingOptions
from moda.pipeline import TalkingHead
from moda.serving.live.camera import CameraSession
from moda.serving.live.output import Output, Parent, PipeOutput
from moda.serving.live.protocol import (
    Control,
    End,
    Express,
    Interrupt,
    Say,
    Start,
    read_sound,
)
from moda.serving.live.texts import TextReader
from moda.serving.settings import IceServer, ServerSettings, portrait_names
from moda.structures import FRAMES_PER_SECOND, Background, EmotionAt, Floats, Motion, Style
from moda.systems.embedded import EmbeddedSystem
from moda.systems.portraits import prepare_portrait
from moda.systems.protocol import Actor
from moda.workers import take_gpu

STATISTICS_FRAMES = 25
NO_SPEECH = "no speech was found in the sound that was sent; the lips stayed closed"
SMALL_STEP_DOWN = 1
"""Live sessions come before everything else on the machine but not before the server itself."""
PREVIEW_PX, PREVIEW_FRAMES, PREVIEW_STEP = 384, 32, 2
"""Size and number of the pictures that show a portrait before a session, and frames from one to
the next."""


def run_worker(
    connection: Connection, settings: ServerSettings, uploads: Path, number: int
) -> None:
    """Body of the process: prepare, say so, and serve until the pipe ends.

    ``number`` tells it from the other workers, which take other GPUs. The folder ``uploads`` is
    removed if the server is killed.
    """
    take_gpu(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when a worker ends
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(OSError, AttributeError):
        os.nice(SMALL_STEP_DOWN)
    parent = Parent(connection)
    try:
        worker = Worker(parent, settings)
    except ModaError as error:
        parent.send("failed", str(error))
        return
    parent.send("ready", worker.previews)
    try:
        while True:
            word, *values = connection.recv()
            if word == "quit":
                break
            worker.answer(word, values)
    except (EOFError, OSError):
        shutil.rmtree(uploads, ignore_errors=True)
    worker.close_session()


class Worker:
    """Model, portraits, and at most one session."""

    def __init__(self, parent: Parent, settings: ServerSettings) -> None:
        self.parent, self.settings = parent, settings
        self.system, self.actors = prepare_actors(settings)
        self.previews = {
            name: idle_preview(self.system, actor) for name, actor in self.actors.items()
        }
        """Animated WebP of each portrait that can be shown."""
        self.session: LiveSession | None = None
        self.output: Output | None = None
        self.reader: TextReader | None = None
        self._portraits = portrait_names(settings.portraits)
        self._guest: tuple[Path, bool, Actor] | None = None
        """The last portrait that a client has brought, or wanted before a transparent background,
        which is the second value."""
        self._camera: CameraSession | None = None
        """In place of the session, where the portrait follows a camera."""
        self._is_ending = False
        self._spoke = self._ever_spoke = self._was_sent = False

    def answer(self, word: str, values: list[Any]) -> None:
        """Do what the server says."""
        if word == "open":
            start, portrait = values
            mouth = LiveMouth(self.system.space) if start.picture == "mouth" else None
            output = PipeOutput(self.parent, self.settings.jpeg_quality, mouth)
            if start.follow:
                self.follow(start, portrait, output)
            else:
                self.open(start, portrait, output)
        elif word == "offer":
            self.offer(*values)
        elif word == "close":
            self.close_session()
            self.parent.send("closed")
        elif self.session is not None and word == "sound":
            self.push(read_sound(values[0]))
        elif self.session is not None and word == "control":
            self.control(values[0])
        elif self._camera is not None and word == "camera":
            self._camera.push(values[0])
        elif self._camera is not None and word == "control":
            self._camera.control(values[0])

    def follow(self, start: Start, portrait: Path | None, output: PipeOutput) -> None:
        """Begin a session in which the portrait follows the pictures that the client sends."""
        self.close_session()
        try:
            live = LiveReenactment(self.system, self._actor(start, portrait))
        except ModaError as error:
            self.parent.send("rejected", str(error).replace(str(portrait), "the portrait"))
            return
        width, height = live.frame_size
        output.tell({"type": "started", "width": width, "height": height})
        self._camera = CameraSession(live, output, lambda: self.end("ended"))

    def open(self, start: Start, portrait: Path | None, output: Output) -> bool:
        """Begin a session; what cannot be had is said to the server."""
        self.close_session()
        try:
            head = self.make_head(start, portrait)
        except ModaError as error:
            self.parent.send("rejected", str(error).replace(str(portrait), "the portrait"))
            output.close()
            return False
        width, height = head.frame_size
        self._is_ending = self._spoke = self._ever_spoke = self._was_sent = False
        self.output = output
        self.reader = TextReader(
            start.sample_rate,
            self.settings.queued_seconds,
            lambda reason: output.tell({"type": "error", "message": reason}),
        )
        self.session = LiveSession(head, self._show, draw=start.picture != "mouth")
        self.tell(
            {
                "type": "started",
                "width": width,
                "height": height,
                "frames_per_second": 25,
                "sample_rate": start.sample_rate,
                "look_ahead_seconds": head.options.look_ahead_frames / 25,
            }
        )
        self.session.start()
        return True

    def offer(
        self, start: Start, portrait: Path | None, sdp: str, ice_servers: tuple[IceServer, ...]
    ) -> None:
        """Begin a session over WebRTC; its answer goes to the server."""
        from moda.live.outputs.tracks import SAMPLE_RATE_HZ
        from moda.serving.live.webrtc import PeerOutput

        if start.follow:
            self.parent.send("rejected", "a camera is followed over the WebSocket, not over WebRTC")
            return
        try:
            output = PeerOutput(sdp, ice_servers, self)
        except ModaError as error:
            self.parent.send("rejected", str(error))
            return
        start = replace(start, sample_rate=SAMPLE_RATE_HZ, pace="realtime", picture="jpeg")
        if self.open(start, portrait, output):
            self.parent.send("answer", output.answer)

    def push(self, samples: Floats) -> None:
        """Take sound (N,) of the client."""
        if self.session is not None:
            self._was_sent |= len(samples) > 0
            self.session.push(samples)

    def control(self, message: Control) -> None:
        """Do what the client says."""
        if self.session is None:
            return
        if isinstance(message, Say) and self.reader is not None:
            self.reader.say(message.values)
        elif isinstance(message, Interrupt):
            if self.reader is not None:
                self.reader.forget()
            self.session.interrupt(
                lambda number: self.tell({"type": "interrupted", "frame": number})
            )
        elif isinstance(message, Express):
            self.session.express(message.emotion, message.intensity)
        elif isinstance(message, End):
            self.session.call(self._begin_to_end)

    def _begin_to_end(self) -> None:
        """In the session's thread, when all sound that was sent before has been taken."""
        self._is_ending = True

    def tell(self, event: dict[str, Any]) -> None:
        """Say something to the client."""
        if self.output is not None:
            self.output.tell(event)

    def end(self, reason: str) -> None:
        """The session is over from this side; the server closes it."""
        self.parent.send("ended", reason)

    def close_session(self) -> None:
        """End the session, if there is one."""
        session, output, reader = self.session, self.output, self.reader
        self.session = self.output = self.reader = None
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if reader is not None:
            reader.close()
        if session is not None:
            session.close()
        if output is not None:
            output.close()

    def make_head(self, start: Start, portrait: Path | None) -> LiveHead:
        """A head as the client wants it. Raises :class:`ModaError`."""
        actor = self._actor(start, portrait)
        style = Style((EmotionAt(0.0, start.emotion, start.intensity),))
        options = LiveOptions(
            sample_rate=start.sample_rate,
            pace=start.pace,
            speaking=SpeakingOptions(style=style, seed=start.seed),
            max_queued_seconds=self.settings.queued_seconds,
        )
        return LiveHead(self.system, actor, options)

    def _actor(self, start: Start, portrait: Path | None) -> Actor:
        """The portrait that the client wants. Raises :class:`ModaError`."""
        name = next(iter(self.actors)) if start.portrait is None else start.portrait
        transparent = start.picture == "png"
        if portrait is not None:
            return self._prepare_guest(portrait, transparent)
        if name not in self.actors:
            raise InputError(f"there is no portrait {name!r}; choose {', '.join(self.actors)}")
        if transparent:
            return self._prepare_guest(self._portraits[name], transparent)
        return self.actors[name]

    def _prepare_guest(self, portrait: Path, transparent: bool) -> Actor:
        if self._guest is None or self._guest[:2] != (portrait, transparent):
            self._guest = None  # its memory is needed
            frame = FrameOptions(
                size=self.settings.size,
                full_frame=self.settings.full_frame,
                background=Background(None) if transparent else None,
            )
            actor = prepare_portrait(self.system, portrait, frame)
            _warm_up(self.system, actor)
            self._guest = portrait, transparent, actor
        return self._guest[2]

    def _show(self, frame: LiveFrame) -> None:
        """In the session's thread: a frame is there."""
        session, output, reader = self.session, self.output, self.reader
        if session is None or output is None or reader is None:
            return
        sound, emotions = reader.next_sound()
        if sound is not None:
            session.push(sound)
        for _, emotion, intensity in emotions:
            session.express(emotion, intensity)
        output.show(frame)
        if frame.is_speaking != self._spoke:
            self._spoke = frame.is_speaking
            self._ever_spoke |= frame.is_speaking
            self.tell({"type": "speaking" if self._spoke else "silent", "frame": frame.number})
        if session.rejected is not None:
            self.tell({"type": "error", "message": session.rejected})
            session.rejected = None
        if frame.number % STATISTICS_FRAMES == STATISTICS_FRAMES - 1:
            self.parent.send("statistics", session.statistics._asdict())
            self.tell(_status(session.statistics))
        if self._is_ending and frame.is_resting and sound is None and not reader.is_busy:
            self._is_ending = False
            if self._was_sent and not self._ever_spoke:
                self.tell({"type": "note", "message": NO_SPEECH})
            self.end("ended")


def _status(statistics: LiveStatistics) -> dict[str, Any]:
    return {
        "type": "status",
        "frames": statistics.num_frames,
        "undrawn_frames": statistics.num_undrawn,
        "late_seconds": round(statistics.max_late_seconds, 3),
        "queued_seconds": round(statistics.queued_seconds, 3),
        "skipped_seconds": round(statistics.skipped_seconds, 3),
    }


def prepare_actors(settings: ServerSettings) -> tuple[EmbeddedSystem, dict[str, Actor]]:
    """The system with all portraits, warm: everything has run once.

    Raises:
        ModaError: a portrait or the model cannot be used.
    """
    cv2.setNumThreads(1)
    system = TalkingHead.from_pretrained(settings.model, device=settings.device).system
    if not isinstance(system, EmbeddedSystem):
        raise InputError(f"the model {settings.model} is too slow to speak live; use moda-tiny")
    frame = FrameOptions(size=settings.size, full_frame=settings.full_frame)
    actors = {
        name: prepare_portrait(system, path, frame)
        for name, path in portrait_names(settings.portraits).items()
    }
    for actor in actors.values():
        _warm_up(system, actor)
    return system, actors


def idle_preview(system: EmbeddedSystem, actor: Actor) -> bytes:
    """A portrait that waits alive, there and back again, as an animated WebP."""
    head = LiveHead(system, actor)
    pictures = []
    for index in range(PREVIEW_FRAMES * PREVIEW_STEP):
        frame = head.next_frame(draw=index % PREVIEW_STEP == 0)
        if frame.picture is not None:
            pictures.append(shrink_to(frame.picture, PREVIEW_PX))
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    return animation_bytes(there_and_back, round(1000 * PREVIEW_STEP / FRAMES_PER_SECOND))


def _warm_up(system: EmbeddedSystem, actor: Actor) -> None:
    """Run everything once: the first open mouth and the first blink would take seconds."""
    head = LiveHead(system, actor)
    for _ in range(10):
        head.next_frame()
    amounts = np.linspace(-1.5, 1.5, 7, dtype=np.float32)[:, None]
    rows = system.space.rest + amounts * system.space.std
    rows[:, system.space.slice("blink")] = np.abs(amounts) / 1.5
    for _ in actor.renderer.render(Motion(rows, system.space)):
        pass
