"""Motion metrics on made landmarks whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from moda.evaluation.videos import motion
from moda.phones import PhoneSegment, arpabet_phones, label_segments
from moda.structures.landmarks import Array, eye_distance, lip_gap
from moda.weights.spaces import load_motion_space


def made_faces(num_frames: int, unit: float = 100.0) -> Array:
    face = load_motion_space().canonical_face
    assert face is not None
    faces = np.repeat(face[None].astype(np.float64), num_frames, 0) * unit + 300.0
    return faces / eye_distance(faces)[:, None, None] * unit


def with_gap(gaps: Array, unit: float = 100.0) -> Array:
    """Faces whose lip gap is exactly the given one, in outer-eye distances."""
    faces = made_faces(len(gaps), unit)
    faces[:, 14] = faces[:, 13]
    faces[:, 14, 1] += gaps * unit
    return faces


def speech_like(num_frames: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    rough = generator.random(num_frames // 4 + 2)
    times = np.arange(num_frames) / 4
    return 0.2 * np.interp(times, np.arange(len(rough)), rough)


class TestLandmarkDistances:
    def test_shift_counts_in_lmd_and_not_in_the_mouth(self) -> None:
        real = made_faces(5)
        moved = real + np.array([3.0, 4.0, 0.0])
        assert motion.landmark_distance(moved, real) == pytest.approx(5.0)
        assert motion.mouth_landmark_distance(moved, real) == pytest.approx(0.0, abs=1e-9)
        assert motion.expression_distance(moved, real) == pytest.approx(0.0, abs=1e-9)

    def test_does_not_depend_on_the_size_of_the_picture(self) -> None:
        generator = np.random.default_rng(1)
        real = made_faces(4)
        other = real + generator.normal(0, 2, real.shape)
        for measure in (motion.landmark_distance, motion.mouth_landmark_distance):
            assert measure(3 * other, 3 * real) == pytest.approx(measure(other, real))

    def test_turning_the_head_is_no_expression(self) -> None:
        real = made_faces(6)
        turns = Rotation.from_euler("xyz", [[4, 8, 3]], degrees=True).as_matrix()[0]
        turned = (real - 300.0) @ turns.T + 310.0
        assert motion.expression_distance(turned, real) == pytest.approx(0.0, abs=1e-9)
        assert motion.landmark_distance(turned, real) > 5.0

    def test_one_moved_lip_point_has_its_share(self) -> None:
        real = made_faces(3)
        other = real.copy()
        other[:, 13, 1] += 8.0
        others_of_forty = 39 * (8.0 / 40) / 40
        expected = 8.0 * (1 - 1 / 40) / 40 + others_of_forty
        assert motion.mouth_landmark_distance(other, real) == pytest.approx(expected)


class TestLipTiming:
    @pytest.mark.parametrize("shift", [-4, 0, 3])
    def test_known_lag(self, shift: int) -> None:
        gap = speech_like(220)
        real = gap[10:210]
        late = gap[10 - shift : 210 - shift]
        timing = motion.lip_timing(late, real)
        assert timing.correlation == pytest.approx(1.0)
        assert timing.lag_seconds == pytest.approx(shift / 25)
        assert timing.drift_seconds_per_minute == pytest.approx(0.0)

    def test_known_drift(self) -> None:
        gap = speech_like(800)
        real = gap[10:510]
        frames = np.arange(500)
        late = np.interp(10 + frames - np.where(frames < 250, 0, 4), np.arange(800), gap)
        timing = motion.lip_timing(late, real)
        assert timing.drift_seconds_per_minute == pytest.approx((4 / 25) / (250 / 25 / 60))

    def test_unrelated_lips_have_no_drift_and_still_ones_no_lag(self) -> None:
        real = speech_like(300)
        unrelated = motion.lip_timing(speech_like(300, seed=9), real)
        assert unrelated.correlation < 0.4
        still = motion.lip_timing(np.full(300, 0.1), real)
        assert still.correlation == 0.0
        assert np.isnan(still.lag_seconds)
        assert np.isnan(still.drift_seconds_per_minute)

    def test_amplitude_in_percent(self) -> None:
        gaps = np.tile([0.02, 0.10], 20)
        assert motion.mouth_amplitude(with_gap(gaps)) == pytest.approx(4.0)
        np.testing.assert_allclose(lip_gap(with_gap(gaps)), gaps)


class TestClosedLips:
    def test_closures_at_given_times(self) -> None:
        times = {"p": (0.4, 0.48), "AA": (0.48, 1.2), "m": (1.2, 1.32), "b": (2.0, 2.08)}
        segments = [
            PhoneSegment(symbol, start, end, arpabet_phones(symbol.upper()))
            for symbol, (start, end) in times.items()
        ]
        segments.insert(3, PhoneSegment("AA", 1.32, 2.0, arpabet_phones("AA")))
        labels = label_segments(segments, 300)
        gap = np.full(75, 0.1)
        gap[10:12] = 0.0  # the p is closed
        gap[31] = 0.01  # and the m, in a frame of it; the b is not
        closed, chance = motion.closure_share(gap, labels)
        assert closed == pytest.approx(2 / 3)
        assert chance == 0.0

    def test_without_such_sounds_nothing_is_known(self) -> None:
        labels = label_segments([PhoneSegment("AA", 0.0, 2.0, arpabet_phones("AA"))], 200)
        assert all(np.isnan(share) for share in motion.closure_share(np.ones(50), labels))

    def test_silence_is_trimmed(self) -> None:
        gap, silent = np.full(60, 0.1), np.zeros(60, np.bool_)
        silent[20:45] = True
        gap[25:33] = 0.0  # 8 of the 16 frames that are left of 25
        assert motion.silence_share(gap, silent) == pytest.approx(0.5)
        assert np.isnan(motion.silence_share(gap, np.zeros(60, np.bool_)))


class TestHead:
    def test_angles_are_those_of_the_rotation(self) -> None:
        frames = np.arange(50)
        known = np.stack(
            [5 * np.sin(frames / 20), 8 * np.cos(frames / 25) - 8, frames / 25], axis=1
        )
        matrices = Rotation.from_euler("xyz", known, degrees=True).as_matrix()
        faces = np.einsum("tij,tkj->tki", matrices, made_faces(50) - 300.0) + 300.0
        np.testing.assert_allclose(motion.head_angles(faces, made_faces(1)[0]), known, atol=0.02)
        assert motion.head_amplitude(known) == pytest.approx(known.std(0).mean())

    def test_diversity_is_the_mean_distance_of_all_pairs(self) -> None:
        still = np.zeros((30, 3))
        assert motion.head_diversity(
            [still, still + np.array([3.0, 4.0, 0.0]), still[:20]]
        ) == pytest.approx(10 / 3)
        assert np.isnan(motion.head_diversity([still]))

    def test_jerk_of_a_cubic_is_six_times_its_coefficient(self) -> None:
        time = np.arange(40) / 25
        assert motion.jerk((2.0 * time**3 + time**2)[:, None]) == pytest.approx(12.0)
        both = np.stack([3 * time**3, 4 * time**3], axis=1)
        assert motion.jerk(both) == pytest.approx(30.0)
        assert np.isnan(motion.jerk(both[:3]))

    def test_jerk_of_head_and_lips(self) -> None:
        time = np.arange(40) / 25
        faces = made_faces(40)
        faces[..., 0] += 100.0 * (0.5 * time**3)[:, None]
        assert motion.head_jerk(faces) == pytest.approx(3.0)
        assert motion.lip_jerk(with_gap(0.05 + 0.01 * time**3)) == pytest.approx(0.06)

    def test_border_jump_sees_jumps_where_windows_join_only(self) -> None:
        steps = np.full(199, 0.5)
        smooth = np.concatenate([[0.0], np.cumsum(steps)])
        angles = np.stack([smooth, 0 * smooth, 0 * smooth], axis=1)
        assert motion.border_jump(angles, 50, 0) == pytest.approx(1.0)
        for place in (49, 99, 149):
            steps[place] = 2.0
        jumping = np.concatenate([[0.0], np.cumsum(steps)])
        angles = np.stack([jumping, 0 * jumping, 0 * jumping], axis=1)
        assert motion.border_jump(angles, 50, 0) == pytest.approx(4.0)
        assert motion.border_jump(angles, 37, 0) < 1.1
        assert np.isnan(motion.border_jump(angles, 0, 0))
        assert np.isnan(motion.border_jump(angles[:40], 50, 0))


def test_blinks_are_counted() -> None:
    faces = made_faces(250)
    upper, lower = (160, 159, 158, 387, 386, 385), (144, 145, 153, 373, 374, 380)
    shut = faces[:, list(lower)].copy()
    for start in (40, 120, 200):
        faces[start : start + 4, list(upper)] = shut[start : start + 4] - [0.0, 0.5, 0.0]
    assert motion.blink_rate(faces) == pytest.approx(3 / (10 / 60))
    assert motion.blink_rate(made_faces(100)) == 0.0
