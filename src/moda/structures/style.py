"""How something is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from moda.errors import InputError

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
"""In the order of the published network's embedding table; one more row there means "none"."""
MAX_CHANGES = 1000


class EmotionAt(NamedTuple):
    """From this time on, this emotion."""

    seconds: float
    emotion: str | None
    intensity: float = 1.0


@dataclass(frozen=True)
class Style:
    """How it is said: an emotion schedule (empty: none)."""

    schedule: tuple[EmotionAt, ...] = field(default=())

    def __post_init__(self) -> None:
        if len(self.schedule) > MAX_CHANGES:
            raise InputError(
                f"there are {len(self.schedule)} emotions, more than the limit of {MAX_CHANGES}; "
                "leave some out"
            )
        for entry in self.schedule:
            if entry.emotion is not None and entry.emotion not in EMOTIONS:
                raise InputError(
                    f"unknown emotion {entry.emotion!r}; choose one of {', '.join(EMOTIONS)}"
                )
            if not 0.0 <= entry.intensity <= 1.0:
                raise InputError(f"emotion intensity {entry.intensity} is outside 0..1")
            if not (entry.seconds >= 0.0 and np.isfinite(entry.seconds)):
                raise InputError(f"emotion time {entry.seconds} s must be 0 or later")

    def at(self, seconds: float) -> EmotionAt:
        """The entry in force at a time; ``EmotionAt(0, None, 0)`` where there is none."""
        current = EmotionAt(0.0, None, 0.0)
        for entry in sorted(self.schedule, key=lambda entry: entry.seconds):
            if entry.seconds <= seconds + 1e-9:
                current = entry
        return current
