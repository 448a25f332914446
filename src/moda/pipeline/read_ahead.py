"""Items made in a thread while earlier ones are used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, TypeVar

from moda.threads import BackgroundThread

Item = TypeVar("Item")


class _End(NamedTuple):
    error: BaseException | None


def read_ahead(items: Iterator[Item], limit: int = 2) -> Iterator[Item]:
    """The same items, made in a thread while earlier ones are used; at most ``limit`` wait."""
    ready: queue.Queue[Item | _End] = queue.Queue(limit)
    stopped = threading.Event()

    def offer(item: Item | _End) -> None:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                break

    def work() -> None:
        try:
            for item in items:
                offer(item)
                if stopped.is_set():
                    return
        except BaseException as error:  # raised again where the items are used
            offer(_End(error))
        else:
            offer(_End(None))

    thread = BackgroundThread(work, "moda-sampler", stopped.set)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
