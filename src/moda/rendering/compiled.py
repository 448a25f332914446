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
        kernel = _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # "no locator available": neither package nor home folder is writable
        kernel = _njit(**_OPTIONS)(function)
    return cast(Function, kernel)


def part_of_kernel(function: Function) -> Function:
    """A function that only compiled ones call: without its own way in from Python, and its cache.

    Both would take longer to compile than most such functions. So would a version for each whole
    number that a caller spells out, as numba makes them.
    """
    kernel = _njit(**_OPTIONS, no_cpython_wrapper=True)(function)
    template = kernel.get_call_template
    kernel.get_call_template = lambda args, kws: template(tuple(map(_unliteral, args)), kws)
    return cast(Function, kernel)


_njit: Any = numba.njit
_unliteral: Any = numba.types.unliteral
_OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
