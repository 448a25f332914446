"""What the network learns to predict, and how motion is sampled from its predictions.

Three objectives over one network: the velocity of a straight flow (the paper's), and the noise or
the angular velocity of a denoising diffusion. Axis letters: B batch, T frames, D motion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from moda.config import ObjectiveName
from moda.motion import diffusion, flow

SIGMA_LOGIT_MEAN, SIGMA_LOGIT_STD = 0.3, 1.2
"""Noise levels of the flow are drawn from a logit-normal; a little more of the noisy ones."""

Predict = Callable[[Tensor, int], Tensor]
"""``predict(noisy_motion, step)`` is the network's answer (B, T, D) in one step of a schedule."""


class Objective(Protocol):
    """One way to learn motion. ``sigma`` is 1 at the noise and broadcasts against (B, T, D)."""

    def sigma_of(self, draw: Tensor) -> Tensor:
        """(B,) noise levels for training, from standard normal numbers (B,)."""
        ...

    def corrupt(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noisy motion."""
        ...

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the network is to predict of it."""
        ...

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        """The motion that a prediction speaks of."""
        ...

    def sigma_at(self, noise_to_signal: float) -> float:
        """The noise level at which noise is this many times as large as motion."""
        ...

    def sample(self, predict: Predict, noise: Tensor, schedule: Tensor) -> Tensor:
        """From noise (B, T, D) to motion along the steps (N, 2) of a schedule."""
        ...


class FlowMatching:
    """Velocity of a straight path, followed with Euler's method."""

    def sigma_of(self, draw: Tensor) -> Tensor:
        return torch.sigmoid(draw * SIGMA_LOGIT_STD + SIGMA_LOGIT_MEAN)

    def corrupt(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return flow.interpolate(motion, noise, sigma)

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return flow.velocity(motion, noise)

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        return flow.estimate_motion(noisy_motion, prediction, sigma)

    def sigma_at(self, noise_to_signal: float) -> float:
        return noise_to_signal / (1.0 + noise_to_signal)

    def sample(self, predict: Predict, noise: Tensor, schedule: Tensor) -> Tensor:
        return flow.sample_euler(predict, noise, schedule)


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
    "flow": FlowMatching(),
    "diffusion": NoiseDiffusion(),
    "v_diffusion": VelocityDiffusion(),
}
