"""Scores of made clips with known answers, and the built-in model's behaviour in silence."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from media_files import write_moving_portrait
from moda.checkpoints import load_checkpoint, load_motion_space
from moda.data.clips import PreparedClip
from moda.encoders.face import FaceModels
from moda.encoders.tracking import LandmarkTrack
from moda.errors import InputError
from moda.evaluation.lips import (
    HeldOutClip,
    baselines,
    held_out_clips,
    lips_of_motion,
    mean_identity,
    score,
    silence_report,
)
from moda.evaluation.reenactment import calmest_frame, match_gain, region_masks, self_reenactment
from moda.evaluation.report import LongMotion, ModelReport, evaluate_model
from moda.landmarks import lip_gap
from moda.structures import Motion

EXAMPLES = Path(__file__).parents[2] / "examples"


def made_clip(speaker: str, seed: int) -> PreparedClip:
    """A face whose lip gap follows the loudness of noise bursts, five seconds."""
    space = load_motion_space()
    assert space.canonical_face is not None
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.random(25), 5)
    level[40:60] = 0.0
    landmarks = np.repeat(100.0 * space.canonical_face[None].astype(np.float64), 125, 0)
    landmarks[:, 14, 1] = landmarks[:, 13, 1] + 20.0 * level
    landmarks[:, 61, 0] -= 5.0 * level
    sound = generator.standard_normal(125 * 640) * np.repeat(level, 640) * 3000.0
    track = LandmarkTrack(landmarks.astype(np.float32), np.ones(125, bool))
    return PreparedClip(f"{speaker}{seed}", speaker, None, track, sound.astype(np.int16))


@pytest.fixture(scope="module")
def clips() -> list[PreparedClip]:
    return [made_clip(speaker, seed) for seed, speaker in enumerate("abcdef")]


@pytest.fixture(scope="module")
def held_out(clips: list[PreparedClip]) -> list[HeldOutClip]:
    return held_out_clips(clips, ["a", "b"])


def test_the_truth_scores_one(held_out: list[HeldOutClip]) -> None:
    perfect = score("truth", held_out, lambda clip: (clip.gap, clip.width))
    assert perfect.gap == pytest.approx(1.0)
    assert perfect.width == pytest.approx(1.0)
    assert perfect.gap_spread == pytest.approx(1.0)
    assert set(perfect.per_clip) == {"a0", "b1"}


def test_late_and_damped_lips(held_out: list[HeldOutClip]) -> None:
    late = score("late", held_out, lambda clip: (0.5 * np.roll(clip.gap, 3), -clip.width))
    assert late.gap > 0.95
    assert late.gap_spread == pytest.approx(0.5)
    assert late.width < 0.6


def test_baselines_hear_the_made_link(
    clips: list[PreparedClip], held_out: list[HeldOutClip]
) -> None:
    others = held_out_clips(clips, ["c", "d", "e", "f"])
    training = [(clip.speech.features, np.stack([clip.gap, clip.width], 1), 0.0) for clip in others]
    loudness, linear = baselines(held_out, training)
    assert loudness.gap > 0.5
    assert linear.gap > 0.5
    assert loudness.row().count("|") == 6


def test_unknown_speakers_are_refused(clips: list[PreparedClip]) -> None:
    with pytest.raises(InputError, match="no clip with speech of nobody"):
        evaluate_model(load_checkpoint("moda-tiny"), clips, ["nobody"])


def test_the_built_in_model_rests_in_silence() -> None:
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
        rate = file.getframerate()
    seconds = np.arange(int(len(samples) / rate * 16_000)) / 16_000
    speech = np.interp(seconds, np.arange(len(samples)) / rate, samples).astype(np.float32)
    pause = np.zeros(24_000, np.float32)
    checkpoint = load_checkpoint("moda-tiny")
    identity = mean_identity(checkpoint.space)
    recording = np.concatenate([speech, pause, speech[:48_000], pause])
    closed, frames = silence_report(checkpoint, [recording], identity)
    assert frames > 40
    assert closed > 0.95


def test_lips_of_motion_are_those_of_the_mesh() -> None:
    space = load_motion_space()
    assert space.basis is not None
    generator = np.random.default_rng(0)
    values = np.zeros((5, space.size), np.float32)
    values[:, :16] = generator.standard_normal((5, 16))
    gap, width = lips_of_motion(Motion(values, space))
    offsets = np.tensordot(values[:, :16], space.basis[:16], 1)
    expected = offsets[:, 14, 1] - offsets[:, 13, 1]
    np.testing.assert_allclose(gap, np.maximum(expected, 0.0), atol=1e-5)
    np.testing.assert_allclose(width, offsets[:, 291, 0] - offsets[:, 61, 0], atol=1e-5)


def test_report_is_written_whole(tmp_path: Path, held_out: list[HeldOutClip]) -> None:
    row = score("truth", held_out, lambda clip: (clip.gap, clip.width))
    long = LongMotion(10.0, 15.0, 1.0, 1.2, 2.0, 0.3, 3.0, 0.95)
    report = ModelReport([row], 1.0, 100, long, ["a", "b"])
    report.write(tmp_path / "report.json")
    text = (tmp_path / "report.md").read_text()
    assert "| truth | 1.000 | 1.000 | 1.00 | 1.00 |" in text
    assert (tmp_path / "report.json").read_text().startswith("{")


def test_calmest_frame_is_closed() -> None:
    clip = made_clip("a", 7)
    landmarks = clip.track.landmarks.astype(np.float64)
    gap = lip_gap(landmarks)
    assert gap[calmest_frame(landmarks)] == pytest.approx(gap.min())


def test_gain_and_masks() -> None:
    generator = np.random.default_rng(1)
    picture = generator.integers(20, 100, (60, 60, 3)).astype(np.uint8)
    where = np.ones((60, 60), bool)
    np.testing.assert_allclose(match_gain(picture, 2.0 * picture, where), 2 * picture, atol=1)
    space = load_motion_space()
    assert space.canonical_face is not None
    points = 30.0 + 25.0 * space.canonical_face[:, :2].astype(np.float64)
    face, mouth = region_masks(points, (100, 60))
    assert face.sum() > 3 * mouth.sum() > 0
    assert (mouth & ~face).sum() < 0.1 * mouth.sum()


def test_self_reenactment_beats_the_still_where_the_face_moves(tmp_path: Path) -> None:
    path = tmp_path / "moves.mp4"
    write_moving_portrait(path, 8.0)
    score_, pairs = self_reenactment(path, FaceModels(), load_motion_space(), num_frames=8)
    assert score_.face > score_.face_still + 1.0
    assert len(pairs) == 5
