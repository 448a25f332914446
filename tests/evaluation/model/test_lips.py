"""Scores of lips on made clips with known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from made_clips import made_clip, tiny_checkpoint
from moda.evaluation.model.lips import (
    SpokenClip,
    heard_by,
    known_phones,
    mean_motion,
    mean_of_seeds,
    sampled_motion,
    score,
    sound_spectra,
    spoken_clips,
    takes_phones,
    whole_speech,
)
from moda.motion.hearing.lips import lips_of_motion
from moda.structures import UNKNOWN_PHONE, Motion
from moda.weights.spaces import load_motion_space


@pytest.fixture(scope="module")
def clips() -> list[SpokenClip]:
    return spoken_clips([made_clip(speaker, seed) for seed, speaker in enumerate("ab")])


def test_the_truth_scores_one(clips: list[SpokenClip]) -> None:
    perfect = score("truth", clips, lambda clip: (clip.gap, clip.width))
    assert perfect.gap == pytest.approx(1.0)
    assert perfect.width == pytest.approx(1.0)
    assert perfect.gap_amplitude == pytest.approx(1.0)
    assert set(perfect.per_clip) == {"a0", "b1"}
    assert perfect.row() == "| truth | 1.000 | 1.000 | 1.00 | 1.00 |"


def test_late_and_damped_lips(clips: list[SpokenClip]) -> None:
    late = score("late", clips, lambda clip: (0.5 * np.roll(clip.gap, 3), -clip.width))
    assert late.gap > 0.95
    assert late.gap_amplitude == pytest.approx(0.5)
    assert late.width < 0.6


def test_a_method_may_give_fewer_frames(clips: list[SpokenClip]) -> None:
    short = score("short", clips, lambda clip: (clip.gap[:50], clip.width[:50]))
    assert short.gap == pytest.approx(1.0)
    assert {clip.num_frames for clip in short.per_clip.values()} == {50}


def test_seeds_are_averaged(clips: list[SpokenClip]) -> None:
    right = score("right", clips, lambda clip: (clip.gap, clip.width))
    still = score("still", clips, lambda clip: (0 * clip.gap, clip.width))
    both = mean_of_seeds("both", [right, still])
    assert both.gap == pytest.approx(0.5)
    assert both.gap_deviation == pytest.approx(0.5)
    assert both.width_deviation == pytest.approx(0.0)
    assert both.per_clip["a0"].gap == pytest.approx(0.5)
    assert both.row().startswith("| both | 0.500 ± 0.500 | 1.000 ± 0.000 |")


def test_known_phones_are_those_of_half_frames() -> None:
    labels = np.arange(10, dtype=np.int8)
    expected = [[0, 2], [4, 6], [8, UNKNOWN_PHONE], [UNKNOWN_PHONE, UNKNOWN_PHONE]]
    np.testing.assert_array_equal(known_phones(labels, 4), expected)
    np.testing.assert_array_equal(known_phones(labels, 1), [[0, 2]])
    speech = whole_speech(np.zeros(1600, np.float32), labels)
    assert speech.phones is not None
    assert len(speech.phones) == len(speech) == 3


def test_spectra_are_those_of_the_sound_at_its_time() -> None:
    """A tone of a second in silence is loud in those frames, in all four hops of each."""
    samples = np.zeros(75 * 640, np.float32)
    samples[25 * 640 : 50 * 640] = 0.3 * np.sin(2.0 * np.pi * 1000.0 * np.arange(16_000) / 16_000)
    spectra = sound_spectra(samples)
    assert spectra.shape == (75, 160)
    level = spectra.mean(1)
    assert level[27:48].min() > level[:23].max() + 0.1
    hops = spectra.reshape(75, 4, 40).mean(2)
    assert hops[27:48].min() > hops[:23].max()


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


def test_what_a_model_can_do_is_known() -> None:
    able, plain = tiny_checkpoint(), tiny_checkpoint(knows_phones=False, has_mean=False)
    assert takes_phones(able)
    assert not takes_phones(plain)


def test_every_model_hears_its_own_features(clips: list[SpokenClip]) -> None:
    """Of the same sound; what is already right is left as it is."""
    able, plain = tiny_checkpoint(), tiny_checkpoint(knows_phones=False)
    assert all(one is other for one, other in zip(heard_by(able, clips), clips, strict=True))
    for clip, spectra in zip(clips, heard_by(plain, clips), strict=True):
        assert (clip.kind, spectra.kind) == ("whisper", "log_mel")
        np.testing.assert_array_equal(spectra.speech.features, sound_spectra(clip.samples))
        np.testing.assert_array_equal(spectra.speech.activity, clip.speech.activity)
        assert spectra.gap is clip.gap


def test_the_mean_motion_is_that_of_the_head_alone(clips: list[SpokenClip]) -> None:
    checkpoint = tiny_checkpoint(knows_phones=False)
    clips = heard_by(checkpoint, clips)
    space = checkpoint.space
    with torch.no_grad():
        checkpoint.model.mouth_head.weight.zero_()
        checkpoint.model.mouth_head.bias.fill_(0.7)
    motion = mean_motion(checkpoint, clips[0].speech)
    expected = space.denormalize(np.full(space.size, 0.7, np.float32))[:16]
    active = clips[0].speech.activity > 0.99
    talking = np.flatnonzero(np.convolve(active, np.ones(9), mode="same") > 8.5)
    assert len(talking) > 20
    np.testing.assert_allclose(
        motion.part("mouth")[talking], np.tile(expected, (len(talking), 1)), atol=1e-5
    )
    brows, last = space.mean[space.slice("brows")], len(motion) - 1
    np.testing.assert_array_equal(motion.part("brows")[0], 0.0)  # as the portrait has them
    eased = brows * (1.0 - np.exp(-last / 25.0))
    accents = np.abs(motion.part("brows")[last] - eased).max()
    assert accents < 0.05 * space.std[space.slice("brows")].max()


def test_another_seed_is_another_motion(clips: list[SpokenClip]) -> None:
    checkpoint = tiny_checkpoint()
    first, again, other = (
        sampled_motion(checkpoint, clips[0].speech, seed=seed).values for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
