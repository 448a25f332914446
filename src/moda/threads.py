"""Threads that end before the interpreter does."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

LONGEST_WAIT_SECONDS = 30.0


class BackgroundThread(threading.Thread):
    """Does work until it ends or the program does; the program waits for it.

    A daemon thread that the interpreter abandons inside native code can end the process with
    SIGABRT, which hides the exit code and loses what is cleaned up afterwards.

    Args:
        work: the body of the thread.
        name: of the thread.
        stop: makes ``work`` return soon; called from another thread when the program ends.
    """

    def __init__(self, work: Callable[[], None], name: str, stop: Callable[[], None]) -> None:
        super().__init__(target=work, name=name, daemon=True)
        self._stop_work = stop

    def start(self) -> None:
        """Begin the work."""
        atexit.register(self._end)
        super().start()

    def run(self) -> None:
        """Body of the thread."""
        try:
            super().run()
        finally:
            atexit.unregister(self._end)

    def _end(self) -> None:
        self._stop_work()
        self.join(LONGEST_WAIT_SECONDS)
