"""Figures of generated motion, on made clips with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ablations.generated_motion import (
    FEATURE_FRAMES,
    NUM_FEATURES,
    fit_feature_space,
    generate,
    jitter,
    measure_generated,
    measure_reconstruction,
    piece_statistics,
    real_motion,
)
from made_clips import made_training_clips, tiny_checkpoint
from moda.config import AutoencoderConfig, VariantConfig
from moda.data.dataset import TrainingClip
from moda.evaluation.metrics import RunningGaussian, frechet_distance
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
    made = made_training_clips(checkpoint.space, 3)
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

    monkeypatch.setattr("ablations.generated_motion.generate", real)
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


def test_an_untrained_autoencoder_keeps_little(clips: list[TrainingClip]) -> None:
    tiny = tiny_checkpoint(has_mean=False)
    motion = replace(tiny.config.motion, variant=VariantConfig(autoencoder=AutoencoderConfig(4, 8)))
    autoencoder = build_model(motion).eval().representation
    assert isinstance(autoencoder, MotionAutoencoder)
    shares = measure_reconstruction(autoencoder, clips, tiny.space)
    assert set(shares) == {"lip_gap", "lip_width", "mouth", "pose"}
    assert shares["mouth"] < 0.5
