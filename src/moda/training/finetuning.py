"""A recipe for one person's clips: a checkpoint to begin with, few steps, a low-rank adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from moda.data.clips import iterate_clips
from moda.errors import InputError
from moda.structures import FRAMES_PER_SECOND
from moda.training.adapters import require_adapters
from moda.training.fits.reading import Say
from moda.training.options import TrainingOptions
from moda.training.recipe import Recipe
from moda.training.stages import require_sound

WARM_UP_SHARE = 0.1
EMA_DECAY = 0.98
"""A short training is averaged over fewer steps."""
AUGMENTED_VERSIONS = 2
LEAST_SECONDS, ENOUGH_SECONDS = 10.0, 30.0
"""Of speech: below the first nothing can be learned, below the second little."""


def finetuning_recipe(
    model: str,
    clips: Sequence[Path],
    *,
    rank: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Recipe:
    """The recipe of ``moda finetune``; its paths are relative to the current folder.

    Raises:
        InputError: an option is impossible.
        MissingExtraError: adapters are wanted and peft is not installed.
    """
    if rank:
        require_adapters(rank)
    return Recipe(
        clips=tuple(str(folder) for folder in clips),
        start_from=model,
        adapter_rank=rank,
        augmented_versions=AUGMENTED_VERSIONS,
        options=TrainingOptions(
            speech_steps=0,
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


def require_speech(folders: Sequence[Path], say: Say) -> None:
    """See that prepared clips hold enough of one person's speech.

    Raises:
        InputError: there is less than ten seconds.
        CheckpointError: a folder holds no prepared clips.
    """
    clips = [clip for folder in folders for clip in iterate_clips(folder) if clip.split != "test"]
    speaking = [clip for clip in clips if clip.has_speech]
    require_sound(len(clips), bool(speaking), folders)
    seconds = sum(len(clip.track) for clip in speaking) / FRAMES_PER_SECOND
    if seconds < LEAST_SECONDS:
        raise InputError(
            f"the clips hold {seconds:.1f} s of speech; at least {LEAST_SECONDS:.0f} s are needed "
            "to learn how somebody speaks, and a minute is better"
        )
    if seconds < ENOUGH_SECONDS:
        say(f"there are only {seconds:.0f} s of speech: little can be learned; take a minute")
    speakers = sorted({clip.speaker for clip in speaking})
    if len(speakers) > 1:
        say(f"clips of {', '.join(speakers)} are taken for one person")
