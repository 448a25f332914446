"""Accents: brows and head go along with some stressed syllables."""

from __future__ import annotations

import numpy as np
import pytest

from moda.motion.rules.controls import accent_change, shape_motion
from moda.motion.rules.idle import ACCENT_COOLDOWN_SECONDS, AccentRule, brow_raise
from moda.options import SpeakingOptions
from moda.structures import Floats, Motion, MotionSpace, Speech
from moda.structures.landmarks import LEFT_BROW, RIGHT_BROW


def speech_of(loudness: Floats | None, num_frames: int) -> Speech:
    """Nothing but a voice, as loud as it is said to be."""
    activity = np.ones(num_frames, np.float32)
    return Speech(np.zeros((num_frames, 160), np.float32), activity, loudness=loudness)


def stressed_speech(seed: int, seconds: int = 60) -> tuple[np.ndarray, list[int]]:
    """Loudness (T,) of syllables, five a second, and the frames at which stressed ones begin."""
    random = np.random.default_rng(seed)
    loudness, starts = np.full(25 * seconds, 3.0), []
    for start in range(0, 25 * seconds, 5):
        stressed = random.random() < 0.15
        loudness[start : start + 3] = 6.0 if stressed else 4.0 + 0.1 * random.standard_normal()
        if stressed:
            starts.append(start)
    return loudness, starts


def test_accents_go_along_with_some_stressed_syllables() -> None:
    loudness, starts = stressed_speech(0)
    rule = AccentRule(seed=3)
    amounts = np.array([rule.next(float(level), 1.0) for level in loudness])
    begins = np.flatnonzero((amounts[1:] > 0) & (amounts[:-1] == 0)) + 1
    assert 0.2 * len(starts) < len(begins) < 0.8 * len(starts)
    for begin in begins[begins > 100]:  # by then it knows what is loud
        assert min(abs(begin - start) for start in starts) <= 2
    assert np.diff(begins).min() >= 25 * ACCENT_COOLDOWN_SECONDS - 1
    assert 0.4 < amounts.max() <= 1.3
    again = AccentRule(seed=3)
    assert [again.next(float(level), 1.0) for level in loudness] == amounts.tolist()


def test_no_accents_without_a_voice_or_without_stress() -> None:
    loudness, _ = stressed_speech(1)
    silent, even = AccentRule(seed=0), AccentRule(seed=0)
    assert not any(silent.next(float(level), 0.0) for level in loudness)
    assert not any(even.next(5.0, 1.0) for _ in range(1000))


def test_an_accent_lifts_brows_and_head_alone(space: MotionSpace) -> None:
    assert space.basis is not None
    change = accent_change(space)
    brows = brow_raise(space)
    offset = np.einsum("b,bvc->vc", brows[: len(space.basis)], space.basis)
    assert offset[list(RIGHT_BROW + LEFT_BROW), 1].mean() == pytest.approx(-1.0, rel=1e-4)
    moved = np.flatnonzero(change)
    allowed = [*range(*space.slice("brows").indices(space.size)), space.slice("pitch").start]
    assert set(moved) <= set(allowed)
    loudness, _ = stressed_speech(2)
    speech = speech_of(loudness.astype(np.float32), len(loudness))
    still = Motion(np.repeat(space.rest[None], len(loudness), 0), space)
    (shown,) = shape_motion([(still, speech, True)], SpeakingOptions(seed=3))
    rule = AccentRule(seed=3)
    amounts = np.array([rule.next(float(level), 1.0) for level in loudness])
    pitch = shown.part("pitch")[:, 0]
    np.testing.assert_allclose(pitch, amounts * change[space.slice("pitch")], atol=1e-4)
    np.testing.assert_allclose(
        shown.part("brows") - still.part("brows"),
        np.outer(amounts, change[space.slice("brows")]),
        atol=1e-4,
    )
    (deaf,) = shape_motion([(still, speech_of(None, len(loudness)), True)], SpeakingOptions(seed=3))
    assert not deaf.part("brows").any(), "without loudness there is no stress"
