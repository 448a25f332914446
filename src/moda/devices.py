"""What computes: a processor or a GPU, in which precision, and whether its memory is enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from moda.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
LACK_OF_MEMORY = ("out of memory", "ALLOC_FAILED")
"""What errors say of it besides their class: those of MPS, and of NVIDIA's libraries."""


def choose_device(name: str) -> str:
    """The device to compute on: ``auto`` prefers CUDA, then MPS, then the CPU.

    Float32 is float32 in this process from here on: cuDNN would round the factors of its
    convolutions to 10 bits (TF32).

    Raises:
        InputError: The name is unknown, or there is no such device here.
    """
    if name not in DEVICES:
        raise InputError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, is_there in available.items() if is_there)
    if not available[name]:
        raise InputError(f"device {name!r} is not available here; choose cpu or auto")
    _allow_tf32(False)
    return name


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Networks compute in a precision while the context lasts; halves by torch's autocast.

    Each weight is converted once.
    """
    if precision in ("float32", "tf32"):
        return _float32(tf32=precision == "tf32")
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def in_float64(values: Tensor) -> Tensor:
    """A copy in float64 on the CPU: MPS has no such numbers."""
    return values.detach().cpu().double()


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device's memory is full."""
    words = str(error)
    is_told = any(part in words for part in LACK_OF_MEMORY)
    return is_told or isinstance(error, torch.OutOfMemoryError)


def free_memory(device: torch.device) -> None:
    """Give back what torch holds of a GPU's memory without using it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


@contextmanager
def _float32(*, tf32: bool) -> Iterator[None]:
    _allow_tf32(tf32)
    try:
        yield
    finally:
        _allow_tf32(False)


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
