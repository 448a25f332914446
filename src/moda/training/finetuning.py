"""A recipe for one person's clips: a checkpoint to begin with, few steps, a low-rank adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moda.training.loop import TrainingOptions
from moda.training.recipe import Recipe

WARM_UP_SHARE = 0.1
EMA_DECAY = 0.98
"""A short training is averaged over fewer steps."""


def finetuning_recipe(
    model: str,
    clips: Sequence[Path],
    *,
    rank: int,
    steps: int,
    speech_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Recipe:
    """The recipe of ``moda finetune``; its paths are relative to the current folder.

    Raises:
        InputError: an option is impossible.
    """
    return Recipe(
        clips=tuple(str(folder) for folder in clips),
        start_from=model,
        adapter_rank=rank,
        options=TrainingOptions(
            speech_steps=speech_steps,
            flow_steps=steps,
            batch_size=batch_size,
            window_frames=(64, 80),
            learning_rate=learning_rate,
            warm_up_steps=max(1, round(WARM_UP_SHARE * steps)),
            ema_decay=EMA_DECAY,
            checkpoint_every=max(1, steps // 4),
            seed=seed,
        ),
        seed=seed,
    )
