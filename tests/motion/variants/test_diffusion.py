"""Denoising diffusion against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from moda.motion.flow import uniform_schedule
from moda.motion.generation import Objective
from moda.motion.variants import diffusion
from moda.motion.variants.objectives import OBJECTIVES

MEAN, STD = 1.5, 0.4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def level(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def signal_of(name: str, sigma: float) -> tuple[float, float]:
    """Shares of motion and noise, written down again from the papers."""
    if name == "flow":
        return 1.0 - sigma, sigma
    angle = sigma * math.acos(0.0064)
    return math.cos(angle), math.sin(angle)


def exact_prediction(name: str, noisy: Tensor, sigma: float) -> Tensor:
    """E[target | noisy motion] for motion ~ N(MEAN, STD^2) and noise ~ N(0, 1), by Bayes."""
    alpha, beta = signal_of(name, sigma)
    centred = (noisy - alpha * MEAN) / (alpha**2 * STD**2 + beta**2)
    motion, noise = MEAN + alpha * STD**2 * centred, beta * centred
    return {
        "flow": noise - motion,
        "diffusion": noise,
        "v_diffusion": alpha * noise - beta * motion,
    }[name]


def sample_gaussian(name: str, noise: Tensor, num_steps: int) -> Tensor:
    schedule = uniform_schedule(num_steps)
    return OBJECTIVES[name].sample(  # type: ignore[index]
        lambda noisy, step: exact_prediction(name, noisy, float(schedule[step, 0])), noise, schedule
    )


@pytest.fixture(params=list(OBJECTIVES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objective(name: str) -> Objective:
    return OBJECTIVES[name]  # type: ignore[index]


def test_the_ends_of_the_path() -> None:
    motion, noise = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    assert torch.equal(diffusion.diffuse(motion, noise, level(0.0)), motion)
    at_noise = diffusion.diffuse(motion, noise, level(1.0))
    torch.testing.assert_close(
        at_noise, 0.0064 * motion + math.sqrt(1 - 0.0064**2) * noise, rtol=0, atol=1e-12
    )


def test_variance_is_kept_on_the_way() -> None:
    sigma = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, beta = diffusion.signal_and_noise(sigma)
    torch.testing.assert_close(alpha**2 + beta**2, torch.ones_like(sigma))
    assert (alpha.diff() < 0).all()


def test_the_velocity_is_the_derivative_by_the_angle() -> None:
    motion, noise = draw(2, 5, 3), draw(2, 5, 3, seed=1)
    step = 1e-5
    ahead, behind = (diffusion.diffuse(motion, noise, level(0.6 + s)) for s in (step, -step))
    found = diffusion.angular_velocity(motion, noise, level(0.6))
    torch.testing.assert_close((ahead - behind) / (2 * step * math.acos(0.0064)), found)


def test_a_right_prediction_gives_the_motion_back(objective: Objective) -> None:
    motion, noise = draw(3, 5, 3).clamp(-4, 4), draw(3, 5, 3, seed=1)
    sigma = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)[:, None, None]
    noisy = objective.corrupt(motion, noise, sigma)
    target = objective.target(motion, noise, sigma)
    torch.testing.assert_close(objective.estimate(noisy, target, sigma), motion)


def test_the_path_has_the_shares_of_the_papers(name: str, objective: Objective) -> None:
    motion, noise = draw(4), draw(4, seed=1)
    for sigma in (0.1, 0.7, 1.0):
        alpha, beta = signal_of(name, sigma)
        found = objective.corrupt(motion, noise, level(sigma))
        torch.testing.assert_close(found, alpha * motion + beta * noise)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_levels_of_equal_noise(name: str, objective: Objective, ratio: float) -> None:
    alpha, beta = signal_of(name, objective.sigma_at(ratio))
    assert beta / alpha == pytest.approx(ratio)


def test_levels_for_training_are_between_motion_and_noise(name: str, objective: Objective) -> None:
    torch.manual_seed(0)
    sigma = objective.sigma_of(torch.randn(20_000))
    assert ((sigma >= 0) & (sigma <= 1)).all()
    middle = 1 / (1 + math.exp(-0.3)) if name == "flow" else 0.5
    assert float(sigma.median()) == pytest.approx(middle, abs=0.01)


def test_a_gaussian_is_sampled_to_its_mean_and_deviation(name: str) -> None:
    """With the exact denoiser; the start, which ignores the last 0.64 % of signal, adds 0.01."""
    sampled = sample_gaussian(name, draw(1, 50_000, 1), num_steps=400)
    assert abs(sampled.mean() - MEAN) < 0.02
    assert abs(sampled.std() - STD) < 0.01


def test_ddim_follows_the_ode_with_first_order(name: str) -> None:
    """The optimal path carries noise e to mean + std e, up to what is left of the start."""
    noise = draw(1, 1000, 1)
    fine = sample_gaussian(name, noise, num_steps=3200)
    torch.testing.assert_close(fine, MEAN + STD * noise, atol=0.02, rtol=0)
    errors = [
        float((sample_gaussian(name, noise, num_steps=n) - fine).abs().max()) for n in (25, 50, 100)
    ]
    for coarse, finer in pairwise(errors):
        assert 1.7 < coarse / finer < 2.3


def test_one_exact_noise_is_undone_in_one_step() -> None:
    motion, noise = draw(2, 5, 3).clamp(-4, 4), draw(2, 5, 3, seed=1)
    start = diffusion.diffuse(motion, noise, level(1.0))
    for name in ("diffusion", "v_diffusion"):
        target = OBJECTIVES[name].target(motion, noise, level(1.0))  # type: ignore[index]
        for num_steps in (1, 7):
            schedule = uniform_schedule(num_steps)
            levels = torch.from_numpy(schedule[:, 0]).double()
            known = [OBJECTIVES[name].target(motion, noise, s) for s in levels]  # type: ignore[index]
            torch.testing.assert_close(target, known[0])
            sampled = OBJECTIVES[name].sample(  # type: ignore[index]
                lambda noisy, step, known=known: known[step], start, schedule
            )
            torch.testing.assert_close(sampled, motion)


def test_estimates_from_wrong_noise_stay_within_the_limit() -> None:
    noisy = draw(1, 50, 3)
    estimate = OBJECTIVES["diffusion"].estimate(noisy, noisy + 0.1, level(1.0))
    assert float(estimate.abs().max()) == diffusion.MOTION_LIMIT
