"""How well is noise seen through? The error of the network on noisy windows of real motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from moda.data.dataset import Batch, TrainingClip, WindowSampler
from moda.motion.generation import SampledNumbers
from moda.weights.checkpoints import Checkpoint

NOISE_TO_SIGNAL = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Levels at which the denoising error is measured, the same for every objective."""
DENOISED_BATCHES, DENOISED_WINDOWS, DENOISED_FRAMES = 4, 24, 48


@dataclass(frozen=True)
class Denoising:
    """How well noisy windows of held-out speakers are seen through, without sampling."""

    objective_loss: float
    """mean square of what the network predicts, in the units of its own objective"""
    mouth: float
    """mean square error of the estimated mouth, means over :data:`NOISE_TO_SIGNAL`; NaN of latents,
    whose noise is another one"""
    rest: float
    """the same of all other numbers"""


@torch.inference_mode()
def measure_denoising(
    checkpoint: Checkpoint,
    clips: Sequence[TrainingClip],
    *,
    seed: int = 0,
    swap_sounds: bool = False,
) -> Denoising:
    """Losses on windows of held-out speakers; the windows and their noise depend on the seed only.

    The mean that a model may predict is taken off before and does not count. ``swap_sounds`` gives
    each of the same windows, with the same noise, the sound of another clip.
    """
    model, config = checkpoint.model, checkpoint.config.motion
    objective, mouth = model.objective, checkpoint.space.slice("mouth")
    reach = config.speech_embedder
    windows = WindowSampler(
        clips,
        before=reach.before,
        after=reach.after,
        seed=seed,
        silent_share=0.0,
        forget_identity=0.0,
        forget_emotion=0.0,
        augment=config.speech.kind == "log_mel",
    )
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    losses, mouths, rests = list[float](), list[float](), list[float]()
    for _ in range(DENOISED_BATCHES):
        batch = windows.batch(DENOISED_WINDOWS, DENOISED_FRAMES)
        if swap_sounds:
            batch = with_other_sounds(batch)
        levels = [torch.full((DENOISED_WINDOWS,), objective.sigma_at(r)) for r in NOISE_TO_SIGNAL]
        for index, sigma in enumerate([objective.sigma_of(torch.randn(DENOISED_WINDOWS)), *levels]):
            loss, error = _denoise(checkpoint, batch, sigma)
            if not index:
                losses.append(loss)
            elif isinstance(model.representation, SampledNumbers):
                mouths.append(float(error[..., mouth].mean()))
                rests.append(float(error[..., mouth.stop :].mean()))
    torch.set_rng_state(state)
    return Denoising(
        float(np.mean(losses)),
        float(np.mean(mouths)) if mouths else float("nan"),
        float(np.mean(rests)) if rests else float("nan"),
    )


def with_other_sounds(batch: Batch) -> Batch:
    """The same windows, each with the sound of the next one of another clip, if there is one."""
    names = [window.clip for window in batch.windows]
    count = len(names)
    after = [[(index + step) % count for step in range(1, count)] for index in range(count)]
    chosen = [
        next((other for other in others if names[other] != names[index]), (index + 1) % count)
        for index, others in enumerate(after)
    ]
    return batch._replace(speech=batch.speech[chosen])


def _denoise(
    checkpoint: Checkpoint, batch: Batch, sigma: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Mean square of the prediction's error, and squares of the estimated motion's (B, T, D)."""
    model = checkpoint.model
    objective, level = model.objective, sigma[:, None, None]
    conditions = model.encode_conditions(
        torch.from_numpy(batch.speech),
        torch.from_numpy(batch.emotion),
        torch.from_numpy(batch.identity),
    )
    motion = torch.from_numpy(batch.motion) - conditions.mean
    inside = torch.from_numpy(batch.weight)[..., None]
    motion = model.representation.encode(motion)
    noise = torch.randn_like(motion)
    noisy = objective.corrupt(motion, noise, level)
    predicted = model(
        noisy,
        torch.from_numpy(batch.previous_motion),
        (1000.0 * sigma).clamp(min=1.0),
        conditions,
    )
    loss = inside * (predicted - objective.target(motion, noise, level)) ** 2
    error = inside * (objective.estimate(noisy, predicted, level) - motion) ** 2
    if isinstance(model.representation, SampledNumbers):
        error = model.representation.decode(error)
    return float(loss.mean()), error
