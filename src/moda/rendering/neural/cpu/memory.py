"""Memory that a network keeps between frames, and the way into it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from moda.rendering.neural.cpu.kernels import F32


class Memory:
    """Arrays by name, allocated once: pages of fresh memory cost as much as a pass over them."""

    def __init__(self) -> None:
        self._numbers: dict[str, F32] = {}

    def array(self, name: str, *shape: int) -> F32:
        """The array of this name, with the numbers of its last use; larger ones replace it."""
        count = int(np.prod(shape))
        if name not in self._numbers or self._numbers[name].size < count:
            self._numbers[name] = np.zeros(count, np.float32)
        return self._numbers[name][:count].reshape(shape)


def channels_last(volume: Tensor) -> F32:
    """Volume (B, C, D, H, W) as an array (B, D, H, W, C); a copy unless it lies that way."""
    return volume.detach().float().movedim(1, -1).contiguous().numpy()
