"""Closed forms of the flow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from moda.motion.flow import (
    estimate_motion,
    guide,
    interpolate,
    published_schedule,
    sample_euler,
    timestep_of,
    uniform_schedule,
    velocity,
)

MEAN, STD = 1.5, 0.4


def gaussian_velocity(noisy: Tensor, sigma: float) -> Tensor:
    """E[noise - motion | noisy motion] for motion ~ N(MEAN, STD^2), noise ~ N(0, 1)."""
    centred = noisy - (1 - sigma) * MEAN
    variance = (1 - sigma) ** 2 * STD**2 + sigma**2
    expected_noise = sigma * centred / variance
    expected_motion = MEAN + (1 - sigma) * STD**2 * centred / variance
    return expected_noise - expected_motion


def sample_gaussian(noise: Tensor, num_steps: int) -> Tensor:
    schedule = uniform_schedule(num_steps)
    return sample_euler(
        lambda noisy, step: gaussian_velocity(noisy, float(schedule[step, 0])), noise, schedule
    )


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sigma_1_is_noise_and_0_is_motion() -> None:
    motion, noise = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    assert torch.equal(interpolate(motion, noise, torch.tensor(1.0)), noise)
    assert torch.equal(interpolate(motion, noise, torch.tensor(0.0)), motion)


def test_velocity_is_the_derivative_of_the_path() -> None:
    motion, noise = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    ahead, behind = (interpolate(motion, noise, torch.tensor(s)) for s in (0.75, 0.25))
    torch.testing.assert_close((ahead - behind) / 0.5, velocity(motion, noise))


def test_the_estimate_inverts_the_path() -> None:
    motion, noise = draw(3, 5, 3), draw(3, 5, 3, seed=1)
    sigma = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)[:, None, None]
    noisy = interpolate(motion, noise, sigma)
    torch.testing.assert_close(estimate_motion(noisy, velocity(motion, noise), sigma), motion)


@pytest.mark.parametrize("num_steps", [1, 2, 10, 37])
def test_schedules_run_from_1_to_0_without_a_gap(num_steps: int) -> None:
    for schedule in (uniform_schedule(num_steps), published_schedule(num_steps)):
        assert schedule.shape == (num_steps, 2)
        assert schedule[0, 0] == 1.0
        assert schedule[-1, 1] == 0.0
        np.testing.assert_allclose(schedule[1:, 0], schedule[:-1, 1], atol=1e-7)
        assert (schedule[:, 0] > schedule[:, 1]).all()


def test_dropping_the_last_step_saves_one_evaluation() -> None:
    full, short = published_schedule(10), published_schedule(10, drop_last_step=True)
    assert len(short) == 9
    np.testing.assert_array_equal(short[:-1], full[:8])
    assert short[-1, 1] == 0.0


def test_timesteps_are_whole_where_they_should_be() -> None:
    sigma = torch.linspace(1000, 1, 10) / 1000
    assert timestep_of(sigma).tolist() == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]


def test_euler_is_exact_on_a_straight_path() -> None:
    motion, noise = draw(1, 8, 3), draw(1, 8, 3, seed=1)
    for schedule in (published_schedule(), uniform_schedule(3)):
        sampled = sample_euler(lambda noisy, step: noise - motion, noise, schedule)
        torch.testing.assert_close(sampled, motion, atol=1e-6, rtol=0)


def test_a_gaussian_is_sampled_to_its_mean_and_deviation() -> None:
    sampled = sample_gaussian(draw(1, 50_000, 1), num_steps=400)
    assert abs(sampled.mean() - MEAN) < 0.01
    assert abs(sampled.std() - STD) < 0.01


def test_euler_converges_with_first_order_to_the_closed_form() -> None:
    """The optimal flow of a Gaussian carries noise e to mean + std e."""
    noise = draw(1, 1000, 1)
    exact = MEAN + STD * noise
    errors = [(sample_gaussian(noise, num_steps=n) - exact).abs().max() for n in (50, 100, 200)]
    for coarse, fine in pairwise(errors):
        assert 1.7 < coarse / fine < 2.3


def test_guidance() -> None:
    unconditional, conditional = draw(2, 3), draw(2, 3, seed=1)
    assert torch.equal(guide(unconditional, conditional, 0.0), unconditional)
    torch.testing.assert_close(guide(unconditional, conditional, 1.0), conditional)
    beyond = guide(unconditional, conditional, 3.0)
    torch.testing.assert_close(beyond - conditional, 2 * (conditional - unconditional))


def test_numpy_and_torch_give_the_same() -> None:
    motion, noise = draw(1, 8, 3), draw(1, 8, 3, seed=1)
    tensors = sample_euler(lambda noisy, step: noisy * motion, noise, uniform_schedule(3))
    arrays = sample_euler(
        lambda noisy, step: noisy * motion.numpy(), noise.numpy(), uniform_schedule(3)
    )
    np.testing.assert_array_equal(arrays, tensors.numpy())
