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
from moda.structures import Floats


class NoiseDiffusion(Objective):
    """Denoising diffusion that predicts the noise (arXiv 2006.11239), sampled by DDIM."""

    def sigma_of(self, draw: Tensor) -> Tensor:
        level: Tensor = torch.special.ndtr(draw)  # all levels alike
        return level

    def corrupt(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return diffusion.diffuse(motion, noise, sigma)

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise

    def split(
        self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The motion and the noise that a prediction speaks of."""
        motion = diffusion.motion_of_noise(noisy_motion, prediction, sigma)
        return motion.clamp(-diffusion.MOTION_LIMIT, diffusion.MOTION_LIMIT), prediction

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        return self.split(noisy_motion, prediction, sigma)[0]

    def sigma_at(self, noise_to_signal: float) -> float:
        return math.atan(noise_to_signal) / diffusion.END_ANGLE

    def sample(self, predict: Predict, noise: Tensor, schedule: Floats) -> Tensor:
        """Without new noise: ``alpha' x + beta' e`` step by step.

        Source: DDIM, J. Song, C. Meng and S. Ermon, arXiv 2010.02502, eq. 12 with their sigma 0.
        """
        noisy_motion = noise
        for step, (sigma, next_sigma) in enumerate(torch.from_numpy(schedule).to(noise)):
            both = self.split(noisy_motion, predict(noisy_motion, step), sigma)
            noisy_motion = diffusion.diffuse(*both, next_sigma)
        return noisy_motion


class VelocityDiffusion(NoiseDiffusion):
    """The same diffusion, predicting its angular velocity (arXiv 2202.00512)."""

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return diffusion.angular_velocity(motion, noise, sigma)

    def split(
        self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        return diffusion.split_by_velocity(noisy_motion, prediction, sigma)


OBJECTIVES: Mapping[ObjectiveName, Objective] = {
    "flow": FLOW,
    "diffusion": NoiseDiffusion(),
    "v_diffusion": VelocityDiffusion(),
}
