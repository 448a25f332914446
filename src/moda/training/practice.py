"""Speech with known phones and no face, on which lips practise their closures.

Minutes of tracked faces hold some hundreds of p, b and m; hours of synthesised speech hold as many
as one likes, and what lips must do there is known without seeing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from moda.data.augment import augment_features
from moda.structures import UNKNOWN_PHONE, Floats
from moda.training.speech_pretraining import PhoneGroup, draw_items


class PracticeBatch(NamedTuple):
    """Windows of speech."""

    speech: Floats  # (B, before + T + after, F)
    told: NDArray[np.int64]
    """(B, 2 (before + T + after)) classes at 50 Hz that the model is told, -1 for none"""
    phones: NDArray[np.int64]
    """(B, T, 2) classes of the window itself"""


class PracticeSampler:
    """Draws random windows of utterances; half of them are told what is said."""

    def __init__(
        self, groups: Sequence[PhoneGroup], *, before: int, after: int, seed: int, told: float = 0.5
    ) -> None:
        self._groups = groups
        self._before, self._after = before, after
        self._told = told
        self._generator = np.random.default_rng([seed, 0x9A])

    @property
    def random_state(self) -> dict[str, Any]:
        """State of the random numbers, to continue an interrupted run exactly."""
        return dict(self._generator.bit_generator.state)

    @random_state.setter
    def random_state(self, state: dict[str, Any]) -> None:
        self._generator.bit_generator.state = state

    def batch(self, size: int, num_frames: int) -> PracticeBatch:
        """``size`` windows of ``num_frames`` frames."""
        windows = [self._window(num_frames) for _ in range(size)]
        return PracticeBatch(*(np.stack(parts) for parts in zip(*windows, strict=True)))

    def _window(self, num_frames: int) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
        random = self._generator
        (item,) = draw_items(self._groups, 1, random)
        wanted = self._before + num_frames + self._after
        start = int(random.integers(0, max(0, len(item.features) - num_frames) + 1))
        features = np.pad(item.features.astype(np.float32), ((self._before, wanted), (0, 0)))
        speech = augment_features(features[start : start + wanted], random)
        padded = np.pad(item.phones, (2 * self._before, 2 * wanted), constant_values=UNKNOWN_PHONE)
        around = padded[2 * start : 2 * (start + wanted)]
        phones = around[2 * self._before : 2 * (self._before + num_frames)].reshape(-1, 2)
        told = around if random.random() < self._told else np.full_like(around, UNKNOWN_PHONE)
        return speech, told, phones
