"""What a network makes from noise, and how it learns to: the paper's two answers.

The numbers of the joint parameter space are made by flow matching. :mod:`moda.motion.variants` has
other answers. Axis letters: B batch, T frames, D motion, G numbers that are made from noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from moda.config import MotionModelConfig
from moda.motion import flow
from moda.structures import Floats

SIGMA_LOGIT_MEAN, SIGMA_LOGIT_STD = 0.3, 1.2
"""Noise levels of the flow are drawn from a logit-normal; a little more of the noisy ones."""

Predict = Callable[[Tensor, int], Tensor]
"""``predict(noisy_motion, step)`` is the network's answer (B, T, G) in one step of a schedule."""


class Objective:
    """One way to learn motion: the velocity of a straight path, followed with Euler's method.

    Other ways override all of it. ``sigma`` is 1 at the noise and broadcasts against (B, T, G).
    """

    def sigma_of(self, draw: Tensor) -> Tensor:
        """(B,) noise levels for training, from standard normal numbers (B,)."""
        return torch.sigmoid(draw * SIGMA_LOGIT_STD + SIGMA_LOGIT_MEAN)

    def corrupt(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noisy motion."""
        return flow.interpolate(motion, noise, sigma)

    def target(self, motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """What the network is to predict of it."""
        return flow.velocity(motion, noise)

    def estimate(self, noisy_motion: Tensor, prediction: Tensor, sigma: Tensor) -> Tensor:
        """The motion that a prediction speaks of."""
        return flow.estimate_motion(noisy_motion, prediction, sigma)

    def sigma_at(self, noise_to_signal: float) -> float:
        """The noise level at which noise is this many times as large as motion."""
        return noise_to_signal / (1.0 + noise_to_signal)

    def sample(self, predict: Predict, noise: Tensor, schedule: Floats) -> Tensor:
        """From noise (B, T, G) to motion along the steps (N, 2) of a schedule."""
        return flow.sample_euler(predict, noise, schedule)


FLOW = Objective()


class Representation(nn.Module, ABC):
    """What normalised motion (B, T, D) is while it is made from noise: (B, T, G)."""

    @abstractmethod
    def encode(self, motion: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, G)."""

    @abstractmethod
    def decode(self, generated: Tensor) -> Tensor:
        """(B, T, G) -> (B, T, D)."""


class SampledNumbers(Representation):
    """Some numbers of the motion, as they are; rules make the others, which are 0 here."""

    def __init__(self, config: MotionModelConfig) -> None:
        super().__init__()
        self.motion_size, self.sampled = config.motion_size, list(config.sampled)

    def encode(self, motion: Tensor) -> Tensor:
        return motion if len(self.sampled) == self.motion_size else motion[..., self.sampled]

    def decode(self, generated: Tensor) -> Tensor:
        if len(self.sampled) == self.motion_size:
            return generated
        whole = generated.new_zeros(*generated.shape[:-1], self.motion_size)
        whole[..., self.sampled] = generated
        return whole
