"""The next batch is read while a step is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Numbered items in order, each made by a thread while its predecessor is used.

    An item depends on its number alone, so it makes no difference where the numbers begin.
    """

    def __init__(self, make: Callable[[int], Item], end: int) -> None:
        self._make, self._end = make, end
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._next: tuple[int, Future[Item]] | None = None

    def __getitem__(self, number: int) -> Item:
        """An item; what its making raises is raised here."""
        ready, self._next = self._next, None
        if ready is None or ready[0] != number:
            ready = (number, self._thread.submit(self._make, number))
        item = ready[1].result()
        if number + 1 < self._end:
            self._next = (number + 1, self._thread.submit(self._make, number + 1))
        return item

    def close(self) -> None:
        """Forget what nobody will ask for."""
        self._thread.shutdown(cancel_futures=True)
