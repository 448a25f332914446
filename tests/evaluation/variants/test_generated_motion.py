"""Figures of generated motion, on made clips with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from made_clips import made_clip, tiny_checkpoint
from moda.config import AutoencoderConfig, ModelConfig, SamplerConfig, VariantConfig
from moda.data.dataset import TrainingClip, WindowSampler, build_clips
from moda.evaluation.metrics import RunningGaussian, frechet_distance, jitter
from moda.evaluation.model.hearing import Hearing, hearing_report
from moda.evaluation.variants.generated_motion import (
    FEATURE_FRAMES,
    NUM_FEATURES,
    Denoising,
    fit_feature_space,
    generate,
    measure_denoising,
    measure_generated,
    measure_reconstruction,
    piece_statistics,
    real_motion,
    with_other_sounds,
)
from moda.motion.model import MotionTransformer
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.motion.variants.building import build_model
from moda.structures import Motion, MotionSpace
from moda.structures.landmarks import Array
from moda.weights.checkpoints import Checkpoint


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return tiny_checkpoint(has_mean=False)


@pytest.fixture(scope="module")
def clips(checkpoint: Checkpoint) -> list[TrainingClip]:
    """Three speakers, whose heads turn."""
    prepared = [made_clip(f"speaker{seed}", seed) for seed in range(3)]
    made = build_clips(prepared, checkpoint.space, versions=0, in_sync="*")
    turns = np.sin(np.arange(125)[:, None] / np.linspace(3.0, 20.0, 7)).astype(np.float32)
    for clip in made:
        clip.motion[0][:, checkpoint.space.slice("pose")] += turns
    return made


def made_motion(space: MotionSpace, seed: int, *, scale: float = 1.0) -> Motion:
    """Independent normalised numbers."""
    generator = np.random.default_rng(seed)
    values = scale * generator.standard_normal((200, space.size)).astype(np.float32)
    return Motion(space.denormalize(values), space)


def distance(first: Array, second: Array) -> float:
    """Of two sets of features (N, d) and (M, d)."""
    return frechet_distance(RunningGaussian.of(first), RunningGaussian.of(second))


@pytest.mark.parametrize("size", [1, 4])
def test_frechet_distance_against_the_matrix_root(size: int) -> None:
    generator = np.random.default_rng(0)
    first = generator.standard_normal((60, size)) @ generator.standard_normal((size, size)) + 1.0
    second = generator.standard_normal((80, size)) @ generator.standard_normal((size, size))
    one, other = (np.atleast_2d(np.cov(part, rowvar=False)) for part in (first, second))
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected += np.trace(one + other - 2.0 * np.real(sqrtm(one @ other)))
    assert distance(first, second) == pytest.approx(expected)
    assert distance(first, first) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_two_normals_on_a_line() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2"""
    generator = np.random.default_rng(0)
    first, second = 3.0 + 2.0 * generator.standard_normal((2, 200_000, 1))
    assert distance(first, 0.5 * second) == pytest.approx(1.5**2 + 1.0**2, rel=0.02)


def test_frechet_distance_of_fewer_points_than_dimensions_is_a_number() -> None:
    generator = np.random.default_rng(0)
    assert np.isfinite(distance(*generator.standard_normal((2, 5, 30))))


def test_jitter_of_a_line_is_0_and_of_a_zigzag_known() -> None:
    frames = np.arange(20.0)[:, None]
    assert jitter(3.0 * frames) == pytest.approx(0.0, abs=1e-12)
    assert jitter((-1.0) ** frames) == pytest.approx(4.0)


def test_statistics_of_a_piece(checkpoint: Checkpoint) -> None:
    space = checkpoint.space
    ramp = np.arange(FEATURE_FRAMES, dtype=np.float32)[:, None] * np.ones(space.size, np.float32)
    (row,) = piece_statistics(Motion(space.denormalize(0.1 * ramp), space))
    mean, spread, speed = row.reshape(3, -1)
    np.testing.assert_allclose(mean, 1.2, rtol=1e-3)
    np.testing.assert_allclose(spread, 0.1 * np.arange(25).std(), rtol=1e-3)
    np.testing.assert_allclose(speed, 0.1, rtol=1e-3)
    assert len(piece_statistics(Motion(space.denormalize(ramp[:10]), space))) == 0


def test_real_pieces_are_white_and_other_motion_is_far(checkpoint: Checkpoint) -> None:
    space = checkpoint.space
    real = [made_motion(space, seed) for seed in range(12)]
    features = fit_feature_space(real)
    rows = features.features(real)
    assert rows.shape[1] == NUM_FEATURES
    np.testing.assert_allclose(np.cov(rows, rowvar=False), np.eye(NUM_FEATURES), atol=0.02)
    same = features.features([made_motion(space, seed) for seed in range(20, 32)])
    larger = features.features([made_motion(space, seed, scale=1.3) for seed in range(20, 32)])
    assert distance(rows, larger) > 5.0 * distance(rows, same)


def test_the_real_motion_is_right_in_every_ratio(
    checkpoint: Checkpoint, clips: list[TrainingClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = checkpoint.space

    def real(_: Checkpoint, features: np.ndarray, *told: object) -> Motion:
        for clip in clips:
            if np.array_equal(clip.features[0][: len(features)], features):
                return real_motion(clip, space)
        whole = np.concatenate([real_motion(clip, space).values for clip in clips])
        return Motion(whole[: len(features)], space)

    monkeypatch.setattr("moda.evaluation.variants.generated_motion.generate", real)
    found = measure_generated(
        checkpoint, clips, fit_feature_space([real_motion(clip, space) for clip in clips])
    )
    assert found.lip_gap > 0.95
    assert found.gap_amplitude == found.width_amplitude == pytest.approx(1.0)
    assert found.head_amplitude == pytest.approx(1.0)
    assert found.mouth_jitter == pytest.approx(1.0)
    assert found.head_diversity == 0.0
    assert found.frechet < 0.5
    swapped = measure_generated(
        checkpoint,
        clips,
        fit_feature_space([real_motion(clip, space) for clip in clips]),
        swap_sounds=True,
    )
    assert swapped.lip_gap < found.lip_gap - 0.3


def test_figures_of_a_real_model(checkpoint: Checkpoint, clips: list[TrainingClip]) -> None:
    features = fit_feature_space([real_motion(clip, checkpoint.space) for clip in clips])
    found = measure_generated(checkpoint, clips, features)
    assert found.head_diversity > 0.1
    assert found.mouth_jitter > 1.0, "an untrained model gives back its noise"
    assert found.cpu_seconds_per_second > 0.0
    assert measure_generated(checkpoint, clips, features).lip_gap == found.lip_gap


def test_generation_is_told_the_emotion(checkpoint: Checkpoint, clips: list[TrainingClip]) -> None:
    clip = clips[0]
    torch.manual_seed(1)
    model = MotionTransformer(checkpoint.config.motion).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    trained = checkpoint._replace(model=model)
    happy, none = (
        generate(trained, clip.features[0], clip.identity[0], emotion, 0).values
        for emotion in (4, 8)
    )
    assert np.abs(happy - none).max() > 1e-4


def zero_error(objective: str) -> Denoising:
    """Denoising figures of a model whose answer is 0."""
    tiny = tiny_checkpoint(has_mean=False)
    motion = replace(tiny.config.motion, variant=VariantConfig(objective=objective))
    model = build_model(motion).eval()
    prepared = [made_clip(f"speaker{seed}", seed) for seed in range(2)]
    clips = build_clips(prepared, tiny.space, versions=0, in_sync="*")
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
    model = build_model(motion).eval()
    latent = tiny._replace(model=model, config=ModelConfig("latent", motion, SamplerConfig()))
    found = measure_denoising(latent, clips)
    assert found.objective_loss > 0.0
    assert np.isnan(found.mouth)
    assert np.isnan(found.rest)
    assert isinstance(model.representation, MotionAutoencoder)
    shares = measure_reconstruction(model.representation, clips, tiny.space)
    assert set(shares) == {"lip_gap", "lip_width", "mouth", "pose"}
    assert shares["mouth"] < 0.5, "an untrained autoencoder keeps little"
