"""How much of real time does it take to make motion?"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass

import numpy as np
import torch

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.evaluation.model.lips import hear, sampled_motion
from moda.structures import Floats
from moda.weights.checkpoints import Checkpoint


@dataclass(frozen=True)
class Speed:
    """Sound to motion, features included."""

    sound_seconds: float
    wall_seconds: float
    processor_seconds: float
    """of all threads together; the figure to read where other programs run beside"""
    threads: int
    processor: str

    def markdown(self) -> list[str]:
        """Lines of the report."""
        wall, processor = (
            taken / self.sound_seconds for taken in (self.wall_seconds, self.processor_seconds)
        )
        return [
            f"Motion takes {wall:.1%} of real time ({processor:.1%} in processor time) on "
            f"{self.processor} with torch set to {self.threads} threads."
        ]


def measure_speed(checkpoint: Checkpoint, samples: Floats) -> Speed:
    """Time ``samples`` (N,) after a warm-up, with as many threads as torch is set to."""
    sampled_motion(checkpoint, hear(checkpoint, samples[: 2 * SAMPLE_RATE_HZ]))
    wall, processor = time.perf_counter(), time.process_time()
    sampled_motion(checkpoint, hear(checkpoint, samples))
    return Speed(
        sound_seconds=len(samples) / SAMPLE_RATE_HZ,
        wall_seconds=time.perf_counter() - wall,
        processor_seconds=time.process_time() - processor,
        threads=torch.get_num_threads(),
        processor=platform.processor() or platform.machine(),
    )


def repeat_sound(sounds: list[Floats], seconds: float) -> Floats:
    """(seconds * 16000,) recordings one after the other, over and over."""
    wanted = int(seconds * SAMPLE_RATE_HZ)
    return np.resize(np.concatenate(sounds), wanted)
