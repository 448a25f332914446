"""The mathematics of denoising diffusion, the alternative that the flow is measured against.

The direction of time is that of :mod:`moda.motion.flow`: ``sigma`` 1 is noise, 0 is motion. With x
the motion, e the noise and ``alpha = cos(phi)``, ``beta = sin(phi)`` at ``phi = sigma phi_end``:
``x_sigma = alpha x + beta e``, which keeps the variance of normalised motion. This is the cosine
schedule (A. Nichol and P. Dhariwal, arXiv 2102.09672, eq. 17) without its offset at 0, ended at
``alpha = 0.0064``, where the linear schedule of DDPM (arXiv 2006.11239) ends after 1000 steps: at
``alpha = 0`` a prediction of the noise would say nothing of the motion.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

END_SIGNAL = 0.0064
"""Share of the motion that is left at ``sigma = 1``."""
END_ANGLE = math.acos(END_SIGNAL)
"""Radians."""
MOTION_LIMIT = 5.0
"""Estimates of normalised motion are cut here, in standard deviations. A prediction of the noise
that is wrong by 1 % is wrong by 1.6 standard deviations of the motion where sampling begins."""


def signal_and_noise(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """``alpha`` and ``beta`` of noise levels, of their shape."""
    angle = sigma * END_ANGLE
    return torch.cos(angle), torch.sin(angle)


def diffuse(motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Noisy motion ``alpha x + beta e``; ``sigma`` broadcasts against (B, T, D)."""
    alpha, beta = signal_and_noise(sigma)
    return alpha * motion + beta * noise


def angular_velocity(motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``v = d x_sigma / d phi = alpha e - beta x`` (T. Salimans and J. Ho, arXiv 2202.00512)."""
    alpha, beta = signal_and_noise(sigma)
    return alpha * noise - beta * motion


def motion_of_noise(noisy_motion: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """The motion when the noise is known: ``(x_sigma - beta e) / alpha``."""
    alpha, beta = signal_and_noise(sigma)
    return (noisy_motion - beta * noise) / alpha


def split_by_velocity(
    noisy_motion: Tensor, velocity: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """Motion and noise when v is known: ``alpha x_sigma - beta v`` and ``beta x_sigma + alpha v``.

    Source: arXiv 2202.00512, appendix D.
    """
    alpha, beta = signal_and_noise(sigma)
    return alpha * noisy_motion - beta * velocity, beta * noisy_motion + alpha * velocity
