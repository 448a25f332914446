"""Errors of the network on noisy windows, on made clips with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from made_clips import made_clip, made_training_clips, tiny_checkpoint
from moda.config import AutoencoderConfig, ModelConfig, SamplerConfig, VariantConfig
from moda.data.dataset import TrainingClip, WindowSampler
from moda.evaluation.model.denoising import Denoising, measure_denoising, with_other_sounds
from moda.evaluation.model.hearing import Hearing, hearing_report
from moda.motion.model import MotionTransformer
from moda.motion.variants.building import build_model
from moda.weights.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(has_mean=False)


@pytest.fixture(scope="module")
def clips(checkpoint: Checkpoint) -> list[TrainingClip]:
    """Of three speakers."""
    return made_training_clips(checkpoint.space, 3)


def zero_error(objective: str) -> Denoising:
    """Denoising figures of a model whose answer is 0."""
    tiny = tiny_checkpoint(has_mean=False)
    motion = replace(tiny.config.motion, variant=VariantConfig(objective=objective))
    model = build_model(motion).eval()
    clips = made_training_clips(tiny.space, 2)
    for clip in clips:
        clip.motion[0][:] = 0.0
        clip.motion[1][:] = 0.0
    whole = ModelConfig("tiny", motion, SamplerConfig())
    return measure_denoising(tiny._replace(model=model, config=whole), clips)


def test_denoising_of_nothing_is_known() -> None:
    """Motion 0 and answer 0: what is predicted wrong is the noise, the estimate known."""
    flow, noise, velocity = map(zero_error, ("flow", "diffusion", "v_diffusion"))
    assert flow.objective_loss == pytest.approx(1.0, rel=0.02)
    assert noise.objective_loss == pytest.approx(1.0, rel=0.02)
    assert 0.4 < velocity.objective_loss < 0.6  # cos^2 of the angle, half on average
    ratios = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
    # Flow: the noisy motion itself; its noise is r / (1 + r).
    expected = ((ratios / (1 + ratios)) ** 2).mean()
    assert flow.mouth == pytest.approx(expected, rel=0.03)
    assert flow.rest == pytest.approx(expected, rel=0.03)
    # Angular velocity: alpha times the noisy motion.
    expected = ((ratios / (1 + ratios**2)) ** 2).mean()
    assert velocity.rest == pytest.approx(expected, rel=0.03)


def test_denoising_leaves_random_numbers_alone(
    checkpoint: Checkpoint, clips: list[TrainingClip]
) -> None:
    before = torch.get_rng_state()
    assert measure_denoising(checkpoint, clips) == measure_denoising(checkpoint, clips)
    assert torch.equal(before, torch.get_rng_state())


def test_every_window_gets_the_sound_of_another_clip(clips: list[TrainingClip]) -> None:
    batch = WindowSampler(clips, before=2, after=2, seed=0).batch(16, 40)
    other = with_other_sounds(batch)
    origins = [
        next(i for i in range(16) if np.array_equal(batch.speech[i], sound))
        for sound in other.speech
    ]
    names = [window.clip for window in batch.windows]
    assert all(names[origin] != name for origin, name in zip(origins, names, strict=True))
    np.testing.assert_array_equal(other.motion, batch.motion)
    np.testing.assert_array_equal(other.identity, batch.identity)
    alone = WindowSampler(clips[:1], before=2, after=2, seed=0).batch(3, 40)
    np.testing.assert_array_equal(with_other_sounds(alone).speech, alone.speech[[1, 2, 0]])


def test_a_deaf_flow_has_the_same_error_with_any_sound(checkpoint: Checkpoint) -> None:
    """The untrained one answers 0; with other weights the sound counts, in all parts."""
    prepared = [made_clip(f"speaker{seed}", seed) for seed in range(3)]
    deaf = hearing_report(checkpoint, prepared)
    assert deaf.rest_ratio == deaf.mouth_ratio == 1.0
    torch.manual_seed(1)
    model = MotionTransformer(checkpoint.config.motion).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    hearing = hearing_report(checkpoint._replace(model=model), prepared)
    assert abs(hearing.rest_ratio - 1.0) > 1e-6
    assert abs(hearing.mouth_ratio - 1.0) > 1e-6


def test_hearing_is_wrong_over_right() -> None:
    found = Hearing(Denoising(1.0, 0.2, 0.5), Denoising(1.0, 0.3, 0.6))
    assert found.rest_ratio == pytest.approx(1.2)
    assert found.mouth_ratio == pytest.approx(1.5)
    assert "1.200 for head" in found.markdown()[0]


def test_latents_have_no_error_of_the_mouth(clips: list[TrainingClip]) -> None:
    tiny = tiny_checkpoint(has_mean=False)
    motion = replace(tiny.config.motion, variant=VariantConfig(autoencoder=AutoencoderConfig(4, 8)))
    whole = ModelConfig("latent", motion, SamplerConfig())
    found = measure_denoising(tiny._replace(model=build_model(motion).eval(), config=whole), clips)
    assert found.objective_loss > 0.0
    assert np.isnan(found.mouth)
    assert np.isnan(found.rest)
