"""The mathematics of the motion flow (rectified flow, arXiv 2209.03003), in one place.

Direction of time: ``sigma`` 1 is noise, 0 is motion. Formulas with x the motion, e the noise:
``x_sigma = (1 - sigma) x + sigma e`` and ``velocity = d x_sigma / d sigma = e - x``. The formulas
hold for arrays of numpy and for tensors alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from moda.structures import Floats

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", Floats, "Tensor")

TIMESTEPS = 1000
"""Factor between ``sigma`` and the time step at the network's door."""


def interpolate(motion: Values, noise: Values, sigma: Values | float) -> Values:
    """Noisy motion ``(1 - sigma) x + sigma e``; ``sigma`` broadcasts against (B, T, D)."""
    return (1 - sigma) * motion + sigma * noise


def velocity(motion: Values, noise: Values) -> Values:
    """What the network learns to predict: ``e - x``."""
    return noise - motion


def estimate_motion(noisy_motion: Values, velocity: Values, sigma: Values) -> Values:
    """The motion at the end of a straight path: ``x_sigma - sigma v``."""
    return noisy_motion - sigma * velocity


def timestep_of(sigma: Tensor) -> Tensor:
    """``1000 sigma`` as float32, rounded once (0.889 gives 889, not 888.99994)."""
    return sigma.float() * TIMESTEPS


def published_schedule(num_steps: int = 10, *, drop_last_step: bool = False) -> Floats:
    """Steps (N, 2) from sigma to the next sigma, as the released sampler takes them.

    The N noise levels are evenly spaced from 1 to 0.001 and the last step goes from there to 0, so
    it costs as much as the others and moves the result by a thousandth of the velocity.
    ``drop_last_step`` leaves it out: the last but one step then goes all the way to 0.
    """
    if num_steps == 1:
        return np.array([[1.0, 0.0]], np.float32)
    sigma = np.linspace(TIMESTEPS, 1, num_steps, dtype=np.float32) / np.float32(TIMESTEPS)
    following = sigma - np.float32((1 - 1 / TIMESTEPS) / (num_steps - 1))
    following[-1] = 0.0
    if drop_last_step:
        sigma, following = sigma[:-1], following[:-1]
        following[-1] = 0.0
    return np.stack((sigma, following), axis=1)


def uniform_schedule(num_steps: int) -> Floats:
    """Steps (N, 2) of equal length 1/N from 1 to 0."""
    sigma = np.linspace(1, 0, num_steps + 1, dtype=np.float32)
    return np.stack((sigma[:-1], sigma[1:]), axis=1)


def guide(unconditional: Values, conditional: Values, guidance_scale: float | Values) -> Values:
    """Classifier-free guidance ``v_u + s (v_c - v_u)`` (arXiv 2207.12598, eq. 6 with s = 1 + w)."""
    return unconditional + guidance_scale * (conditional - unconditional)


def sample_euler(
    velocity_at: Callable[[Values, int], Values], noise: Values, schedule: Floats
) -> Values:
    """Follow the velocity field from noise (B, T, D) to motion with Euler's method.

    ``velocity_at(noisy_motion, step)`` with the number of the step; ``schedule`` (N, 2) holds
    (sigma, next sigma) of every step.
    """
    noisy_motion = noise
    for step, (sigma, next_sigma) in enumerate(schedule.tolist()):
        slope = velocity_at(noisy_motion, step)
        noisy_motion = noisy_motion + (next_sigma - sigma) * slope
    return noisy_motion
