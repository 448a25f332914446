"""What computes: a processor or a GPU, in which precision, on how many threads.

Torch is loaded where it is needed and nowhere before: the built-in system does without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from moda.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEVICES = ("auto", "cpu", "cuda", "mps")
LACK_OF_MEMORY = ("out of memory", "ALLOC_FAILED")
"""What errors say of it besides their class: those of MPS, and of NVIDIA's libraries."""
THREADS = "OMP_NUM_THREADS"
"""What torch asks when it is loaded."""


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not loaded."""
    return find_spec("torch") is not None


def require_torch(what: str, extra: str = "neural") -> None:
    """Raise :class:`MissingExtraError` where PyTorch is not installed, which ``what`` needs."""
    if not has_torch():
        raise MissingExtraError(
            f"{what} needs PyTorch, which is not installed; in MoDA's folder run: "
            f"pip install '.[{extra}]'"
        )


def check_device(name: str) -> None:
    """Whether a device can be chosen. Raises as :func:`choose_device`."""
    if name not in DEVICES:
        raise InputError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    if name not in ("auto", "cpu"):
        choose_device(name)


def choose_device(name: str) -> str:
    """The device to compute on: ``auto`` prefers CUDA, then MPS, then the CPU.

    Float32 is float32 in this process from here on: cuDNN would round the factors of its
    convolutions to 10 bits (TF32).

    Raises:
        InputError: The name is unknown, or there is no such device here.
        MissingExtraError: The device is a GPU, and PyTorch is not installed.
    """
    if name not in DEVICES:
        raise InputError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    if name in ("auto", "cpu") and not has_torch():
        return "cpu"
    require_torch(f"device {name!r}")
    import torch

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
    import torch

    if precision in ("float32", "tf32"):
        return _float32(tf32=precision == "tf32")
    return torch.autocast(device.type, dtype=getattr(torch, precision))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute on one thread, also if it is first loaded meanwhile.

    A network of moda-tiny's size gains nothing from more, and their busy waiting takes the
    processor from the renderer and the encoder: a window takes 0.6 s of processor time on one
    thread, 12 s on two.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        before = os.environ.get(THREADS)
        os.environ[THREADS] = "1"
        try:
            yield
        finally:
            del os.environ[THREADS]
            if before is not None:
                os.environ[THREADS] = before
        return
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def in_float64(values: Tensor) -> Tensor:
    """A copy in float64 on the CPU: MPS has no such numbers."""
    return values.detach().cpu().double()


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device's memory is full."""
    import torch

    words = str(error)
    is_told = any(part in words for part in LACK_OF_MEMORY)
    return is_told or isinstance(error, torch.OutOfMemoryError)


def free_memory(device: torch.device) -> None:
    """Give back what torch holds of a GPU's memory without using it."""
    import torch

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
    import torch

    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
