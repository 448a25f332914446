"""A session in which the portrait follows the camera of a client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from moda.errors import InputError
from moda.live import LiveReenactment
from moda.serving.live.output import PipeOutput
from moda.serving.live.protocol import Control, End, read_camera
from moda.threads import BackgroundThread

FIRST_STEP_SECONDS = 0.04


class CameraSession:
    """Answers the newest picture; those that came before it and were not looked at are left out.

    Args:
        live: nobody else may use it from now on.
        output: where pictures and events go.
        end: called when the client has ended the session.
    """

    def __init__(self, live: LiveReenactment, output: PipeOutput, end: Callable[[], None]) -> None:
        self._live, self._output, self._end = live, output, end
        self._newest: tuple[float, bytes] | None = None
        self._condition = threading.Condition()
        self._is_stopped = False
        self._last_seconds: float | None = None
        self._said: tuple[str, str | None] | None = None
        self._thread = BackgroundThread(self._run, "moda-camera", self._stop)
        self._thread.start()

    def push(self, data: bytes) -> None:
        """Take a JPEG or PNG, from any thread."""
        with self._condition:
            self._newest = time.monotonic(), data
            self._condition.notify()

    def control(self, message: Control) -> None:
        """Do what the client says."""
        if isinstance(message, End):
            self._end()
        else:
            reason = "this session follows a camera; it takes pictures and end"
            self._output.tell({"type": "error", "message": reason})

    def close(self) -> None:
        """End; returns when no picture is made any more."""
        self._stop()
        self._thread.join()

    def _stop(self) -> None:
        with self._condition:
            self._is_stopped = True
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_stopped or self._newest is not None)
                if self._is_stopped or self._newest is None:
                    return
                (seconds, data), self._newest = self._newest, None
            try:
                self._answer(seconds, data)
            except InputError as error:
                self._output.tell({"type": "error", "message": str(error)})

    def _answer(self, seconds: float, data: bytes) -> None:
        picture = read_camera(data)
        last = seconds - FIRST_STEP_SECONDS if self._last_seconds is None else self._last_seconds
        self._last_seconds = seconds
        frame = self._live.push_frame(picture, seconds - last)
        if self._said != (frame.state, frame.note):
            self._said = frame.state, frame.note
            event = {"type": "face", "state": frame.state, "note": frame.note}
            self._output.tell({**event, "frame": frame.number})
        self._output.send(frame.number, frame.picture)
