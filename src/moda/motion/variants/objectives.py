"""Three objectives over one network: the flow, and two of denoising diffusion.

The diffusion predicts the noise, or its angular velocity. Axis letters: B batch, T frames, D
motion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from moda.config import ObjectiveName
from moda.motion.generation import FLOW, Objective, Predict
from moda.motion.variants import diffusion


class NoiseDiffusion:
    """Denoising diffusion that predicts the noise (arXiv 2006.11239), sampled by DDIM."""

    def sigma_of(self, draw: Tensor) -> Tensor:
        level: Tensor = torch.special.ndtr(draw)  # all levels alike
        return level

    def corrupt(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return diffusion.diffuse(motion, noise, sigma)

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        motion = diffusion.motion_of_noise(noisy_motion, prediction, sigma)
        return motion.clamp(-diffusion.MOTION_LIMIT, diffusion.MOTION_LIMIT)

    def sigma_at(self, noise_to_signal: float) -> float:
        return math.atan(noise_to_signal) / diffusion.END_ANGLE

    def sample(self, predict: Predict, noise: Tensor, schedule: Tensor) -> Tensor:
        def split_at(noisy_motion: Tensor, step: int, sigma: Tensor) -> tuple[Tensor, Tensor]:
            predicted = predict(noisy_motion, step)
            return self.estimate(noisy_motion, predicted, sigma), predicted

        return diffusion.sample_ddim(split_at, noise, schedule)


class VelocityDiffusion(NoiseDiffusion):
    """The same diffusion, predicting its angular velocity (arXiv 2202.00512)."""

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return diffusion.angular_velocity(motion, noise, sigma)

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        return diffusion.split_by_velocity(noisy_motion, prediction, sigma)[0]

    def sample(self, predict: Predict, noise: Tensor, schedule: Tensor) -> Tensor:
        def split_at(noisy_motion: Tensor, step: int, sigma: Tensor) -> tuple[Tensor, Tensor]:
            return diffusion.split_by_velocity(noisy_motion, predict(noisy_motion, step), sigma)

        return diffusion.sample_ddim(split_at, noise, schedule)


OBJECTIVES: Mapping[ObjectiveName, Objective] = {
    "flow": FLOW,
    "diffusion": NoiseDiffusion(),
    "v_diffusion": VelocityDiffusion(),
}
