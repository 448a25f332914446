"""Normal noise from a seed: the numbers that PyTorch draws from it, to a millionth.

PyTorch draws 24 bits of the Mersenne Twister (M. Matsumoto and T. Nishimura 1998) a number and
turns blocks of 16 uniform numbers into normal ones (G. Box and M. Muller 1958). Motion that was
sampled with it stays the same for its seed.
"""

from __future__ import annotations

import math

import numpy as np

from moda.structures import Floats

BLOCK = 16
MANTISSA = 24


class NoiseGenerator:
    """A stream of noise; one seed, one stream."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.RandomState(seed & 0xFFFF_FFFF)

    def normal(self, *shape: int) -> Floats:
        """The next numbers of mean 0 and deviation 1, in this shape."""
        count = math.prod(shape)
        whole = count // BLOCK * BLOCK
        numbers = np.zeros(count, np.float32)
        numbers[:whole] = _normal(self._uniform(count)[:whole])
        if whole < count:  # the last block is drawn anew and reaches back
            last = _normal(self._uniform(BLOCK))
            numbers[max(0, count - BLOCK) :] = last[-count:]
        return numbers.reshape(shape)

    def _uniform(self, count: int) -> Floats:
        """(count,) in 0..1, 1 left out."""
        bits = self._bits.randint(0, 2**32, count, np.uint32) & np.uint32(2**MANTISSA - 1)
        return bits.astype(np.float32) * np.float32(2.0**-MANTISSA)


def _normal(uniform: Floats) -> Floats:
    """Normal numbers from as many uniform ones, whole blocks."""
    first, second = np.split(uniform.reshape(-1, BLOCK), 2, axis=1)
    radius = np.sqrt(-2.0 * np.log(1.0 - first))
    angle = np.float32(2.0 * np.pi) * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
