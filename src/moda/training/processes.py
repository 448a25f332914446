"""The processes of one training: one alone, or several under Hugging Face Accelerate.

``moda train`` is one process and needs no more than PyTorch. ``accelerate launch -m moda train``
starts as many as there are GPUs, on one machine or many; they share the work of every batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

from moda.errors import InputError, MissingExtraError

T = TypeVar("T")

LONGEST_WAIT = timedelta(hours=12)
"""For the first process, which fits the motion space and pretrains while the others wait."""


class Processes:
    """What the training loop needs of its processes; these are one by itself."""

    index = 0
    count = 1

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on this process's device, its gradients averaged over all processes."""
        return module.to(self.device)

    def without_averaging(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        """Gradients of passes inside stay in this process until the next pass outside."""
        return nullcontext()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over the processes, in each of them."""
        return values

    def same(self, values: Tensor) -> Tensor:
        """The first process's tensor, in each of them."""
        return values

    def wait(self) -> None:
        """Go on when all processes are here."""


class AcceleratedProcesses(Processes):
    """One of the processes that ``accelerate launch`` has started."""

    def __init__(self, device: str) -> None:
        try:
            from accelerate import Accelerator
            from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
        except ImportError as error:
            raise MissingExtraError(
                "training in several processes needs the package accelerate; in MoDA's folder run: "
                "pip install '.[train]'"
            ) from error
        self._accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision="no",  # the losses choose their own precision, see StepLosses
            kwargs_handlers=[
                # What a stage of the training leaves alone has no gradient.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=LONGEST_WAIT),
            ],
        )
        self.index = int(self._accelerator.process_index)
        self.count = int(self._accelerator.num_processes)
        self.device = self._accelerator.device

    def wrap(self, module: nn.Module) -> nn.Module:
        return self._accelerator.prepare_model(module)

    def without_averaging(self, wrapped: nn.Module) -> AbstractContextManager[object]:
        return self._accelerator.no_sync(wrapped)

    def mean(self, values: Tensor) -> Tensor:
        return self._accelerator.reduce(values, "mean")

    def same(self, values: Tensor) -> Tensor:
        from accelerate.utils import broadcast

        return broadcast(values.to(self.device)).to(values.device)

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()


def join_processes(device: str, environment: Mapping[str, str] = os.environ) -> Processes:
    """The processes that this one was started among.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``; under Accelerate, anything but ``cpu`` is the device
            that Accelerate gives to this process.

    Raises:
        MissingExtraError: It was started as one of several, and accelerate is not installed.
        InputError: Accelerate was told a precision; the recipe says it.
    """
    precision = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise InputError(
            f"accelerate was told mixed precision {precision!r}; leave it at 'no' and set "
            "'precision' in the options of the recipe"
        )
    launched = "ACCELERATE_MIXED_PRECISION" in environment
    if not launched and int(environment.get("WORLD_SIZE", "1")) == 1:
        return Processes(device)
    return AcceleratedProcesses(device)


def in_turn(processes: Processes, work: Callable[[], T]) -> T:
    """The first process works while the others wait; then they do, and find its files."""
    if processes.index:
        processes.wait()
        return work()
    result = work()
    processes.wait()
    return result
