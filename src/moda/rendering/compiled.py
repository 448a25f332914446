"""How inner loops are compiled, for both renderers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """``numba.njit`` with a cache on disk where any folder is writable, else compiled per process.

    ``fastmath`` stays off for comparisons with infinities; the loops do not profit from it.
    """
    try:
        kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # "no locator available": neither package nor home folder is writable
        kernel = numba.njit(nogil=True, error_model="numpy")(function)
    return cast(Function, kernel)
