"""Offsets of sound and picture, on clips made with known ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moda.data.sync import SyncClip, anchored, estimate_lags, rows_at, shift_frames, stack_context


def made_clips(lags: list[int]) -> list[SyncClip]:
    """Lips that are a fixed linear map of one of three bands, late by a known number of frames."""
    generator = np.random.default_rng(0)
    clips = []
    for index, lag in enumerate(lags):
        drive = np.cumsum(generator.standard_normal((300, 3)), axis=0)
        drive -= np.apply_along_axis(lambda c: np.convolve(c, np.ones(25) / 25, "same"), 0, drive)
        spectra = np.repeat(drive, 14, axis=1)[:, :40] + 0.3 * generator.standard_normal((300, 40))
        features = np.tile(spectra, (1, 4)).astype(np.float32)
        lips = np.stack([drive[:, 0] - drive[:, 1], drive[:, 2]], axis=1)
        lips = lips[np.clip(np.arange(300) - lag, 0, 299)]
        lips = lips + 0.5 * generator.standard_normal(lips.shape)
        around = stack_context(features)
        clips.append(SyncClip(f"clip{index}", f"speaker{index}", around, lips))
    return clips


def test_lags_are_found_up_to_a_common_zero() -> None:
    known = [0, 0, 0, 3, -2, 5, 1, 0, -4, 0]
    lags = estimate_lags(made_clips(known))
    found = anchored(lags, ["clip0", "clip1", "clip2", "clip7", "clip9"])
    assert [round(found[f"clip{index}"]) for index in range(len(known))] == known


def test_lags_of_one_speaker_are_found_among_the_clips() -> None:
    known = [0, 3, -2, 0, 4, 0, -3, 0]
    clips = [replace(clip, speaker="anna") for clip in made_clips(known)]
    found = anchored(estimate_lags(clips), ["clip0", "clip3", "clip5", "clip7"])
    assert [round(found[f"clip{index}"]) for index in range(len(known))] == known
    assert estimate_lags(clips[1:2]) == {"clip1": 0}


def test_an_outlier_does_not_move_the_zero() -> None:
    lags = {"a": 1, "b": 1, "c": 1, "d": -8, "e": 2}
    assert anchored(lags, ["a", "b", "c", "d"])["e"] == 1.0


def test_no_known_clip_leaves_the_zero() -> None:
    assert anchored({"a": 2}, []) == {"a": 2.0}


def test_shift_and_back() -> None:
    ramp = np.arange(50.0)[:, None]
    np.testing.assert_allclose(shift_frames(ramp, 2.5)[:40, 0], np.arange(40) + 2.5)
    np.testing.assert_allclose(rows_at(ramp, np.array([-3.0, 60.0]))[:, 0], [0.0, 49.0])
