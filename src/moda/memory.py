"""Memory that was freed and that the C library keeps."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back_memory() -> None:
    """Hand freed memory back to the system, in a few milliseconds.

    glibc keeps that of large calculations for their thread; other C libraries need no asking.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
