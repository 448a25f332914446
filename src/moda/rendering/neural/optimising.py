"""The networks made fast for where they are: fewer multiplications, the same results."""

from __future__ import annotations

import torch

from moda.config import Precision
from moda.rendering.neural.cpu.acceleration import accelerate_for_cpu
from moda.rendering.neural.layers import fold_batch_norms
from moda.rendering.neural.merging import merge_generator
from moda.rendering.neural.networks import RenderingNetworks


@torch.no_grad()
def optimise(networks: RenderingNetworks, precision: Precision = "float32") -> None:
    """Rearrange the arithmetic, in place, for the device that the networks are on.

    Results stay equal up to rounding. On a CPU in float32 a frame takes a third of the time, with
    the number of threads that torch has now. The state dict then no longer has the keys of the
    released files: load the weights first.
    """
    if next(networks.parameters()).device.type == "cpu" and precision == "float32":
        accelerate_for_cpu(networks)
    else:
        fold_batch_norms(networks)
        merge_generator(networks.generator)
