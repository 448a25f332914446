"""Rest, blinks and amounts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from motion_networks import mesh_config, small_model

from moda.evaluation.metrics import blinks_per_minute
from moda.motion.rules.controls import scale_motion, shape_motion
from moda.motion.rules.emotion import CHANGE_SECONDS, EmotionOffsets
from moda.motion.rules.idle import (
    BLINK_PROFILE,
    HINTED_CLOSURE,
    NEARLY_CLOSED_GAP,
    RESTING_GAP,
    STEADY_SECONDS,
    BlinkRule,
    Centred,
    EasedStart,
    Fixations,
    LipClosure,
    SteadyHead,
)
from moda.options import MotionAmounts, SpeakingOptions
from moda.structures import EMOTIONS, EmotionAt, Floats, Motion, MotionSpace, Speech, Style
from moda.structures.landmarks import lip_gaps

GAP_TOLERANCE = 4e-3
"""The gaps are not solved for exactly, which would twist the lips."""


def random_motion(space: MotionSpace, num_frames: int) -> Motion:
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((num_frames, space.size)).astype(np.float32)
    return Motion(space.denormalize(noise), space)


def speech_of(activity: np.ndarray) -> Speech:
    return Speech(np.zeros((len(activity), 160), np.float32), activity.astype(np.float32))


def gaps_of(motion: Motion) -> np.ndarray:
    basis = motion.space.basis
    assert basis is not None
    return motion.part("mouth") @ lip_gaps(basis[:16].astype(np.float64))


def test_resting_lips_touch_everywhere(space: MotionSpace) -> None:
    rest = LipClosure(space)
    mouth = 2.0 * space.std[:16].astype(np.float64)
    closed = rest.closed(mouth)
    gaps = closed @ lip_gaps(space.basis[:16].astype(np.float64))  # type: ignore[index]
    np.testing.assert_allclose(gaps, RESTING_GAP, atol=GAP_TOLERANCE)


def test_lips_rest_in_silence_and_not_in_speech(space: MotionSpace) -> None:
    activity = np.ones(200)
    activity[80:140] = 0.0
    motion = random_motion(space, 200)
    (shaped,) = shape_motion([(motion, speech_of(activity), True)], SpeakingOptions(seed=0))
    gaps = gaps_of(shaped)
    assert np.abs(gaps[85:140] - RESTING_GAP).max() < 2e-3
    np.testing.assert_array_equal(shaped.part("mouth")[10:80], motion.part("mouth")[10:80])
    jump = np.abs(np.diff(shaped.part("mouth"), axis=0))[78:88].max()
    assert jump <= np.abs(np.diff(motion.part("mouth"), axis=0)).max()


def test_stretches_do_not_matter(space: MotionSpace) -> None:
    motion, activity = random_motion(space, 300), np.repeat([1.0, 0.0, 1.0], 100)
    (whole,) = shape_motion([(motion, speech_of(activity), True)], SpeakingOptions(seed=3))
    pieces = [
        (Motion(motion.values[a:b], space), speech_of(activity[a:b]), b == 300)
        for a, b in ((0, 63), (63, 64), (64, 127), (127, 300))
    ]
    values = np.concatenate([part.values for part in shape_motion(pieces, SpeakingOptions(seed=3))])
    np.testing.assert_array_equal(values, whole.values)


@pytest.mark.parametrize("seed", range(5))
def test_blinks_are_as_many_as_peoples(seed: int) -> None:
    rule = BlinkRule(seed)
    lids = np.array([rule.next(float(np.sin(t / 40) > -0.5)) for t in range(25 * 600)])
    assert 8 <= blinks_per_minute(lids) <= 25
    closings = np.flatnonzero((lids[1:] > 0.6) & (lids[:-1] <= 0.6)) / 25.0
    intervals = np.diff(closings)
    assert intervals.std() / intervals.mean() > 0.3  # no metronome
    assert lids.max() == 1.0


def test_another_seed_blinks_otherwise() -> None:
    first, second = BlinkRule(1), BlinkRule(2)
    assert [first.next(1.0) for _ in range(500)] != [second.next(1.0) for _ in range(500)]


def test_amounts(space: MotionSpace) -> None:
    motion = random_motion(space, 50)
    still = scale_motion(motion, rest=motion.space.rest, head_motion=0.0)
    np.testing.assert_array_equal(still.part("pose"), [[1, 0, 0, 0, 0, 0, 0]] * 50)
    np.testing.assert_array_equal(still.part("mouth"), motion.part("mouth"))
    half = scale_motion(motion, rest=motion.space.rest, expression=0.5)
    np.testing.assert_allclose(half.part("brows"), 0.5 * motion.part("brows"), rtol=1e-6)
    np.testing.assert_allclose(half.part("pose"), motion.part("pose"), atol=1e-6)


def test_no_blink(space: MotionSpace) -> None:
    motion = random_motion(space, 500)
    (shaped,) = shape_motion(
        [(motion, speech_of(np.ones(500)), True)], SpeakingOptions(seed=0, blink=False)
    )
    assert shaped.part("blink").max() == 0.0


def speech_with_closure(closure: np.ndarray) -> Speech:
    num_frames = len(closure)
    return Speech(
        np.zeros((num_frames, 160), np.float32),
        np.ones(num_frames, np.float32),
        closure=closure.astype(np.float32),
    )


def shaped_gaps(motion: Motion, closure: np.ndarray, expression: float = 1.0) -> np.ndarray:
    pairs = [(motion, speech_with_closure(closure), True)]
    (shaped,) = shape_motion(
        pairs, SpeakingOptions(seed=0, amounts=MotionAmounts(expression=expression))
    )
    return gaps_of(shaped)[10:]  # by then the mouth has come from rest


def test_a_closure_closes_what_is_open_and_leaves_what_is_pressed(space: MotionSpace) -> None:
    motion = random_motion(space, 120)
    mouth = space.slice("mouth")
    pressed = LipClosure(space).closed(motion.values[:40, mouth].mean(0).astype(np.float64))
    motion.values[80:, mouth] = 1.5 * pressed
    before = gaps_of(motion)[10:]
    is_open = np.asarray(before.max(1) > 0.0)[:, None]
    assert is_open[:70].mean() > 0.5
    assert (before[is_open[:, 0]] < -0.001).any(), "the test needs some that are open only in part"
    assert not is_open[70:].any()
    after = shaped_gaps(motion, np.ones(120))
    expected = np.where(is_open, RESTING_GAP, before)
    np.testing.assert_allclose(after, expected, atol=GAP_TOLERANCE)
    stay = ~is_open[:, 0]
    np.testing.assert_allclose(after[stay], before[stay], atol=1e-6)
    np.testing.assert_allclose(shaped_gaps(motion, np.zeros(120)), before, atol=1e-6)


def test_half_a_closure_closes_half_of_the_way(space: MotionSpace) -> None:
    motion = random_motion(space, 60)
    before = gaps_of(motion)[10:]
    after = shaped_gaps(motion, np.full(60, 0.5))
    is_open = np.asarray(before.max(1) > 0.0)[:, None]
    is_near = (before[:, 4] < NEARLY_CLOSED_GAP)[:, None]
    assert is_near[is_open].any()
    assert not is_near[is_open].all()
    expected = np.where(is_near, RESTING_GAP, 0.5 * (before + RESTING_GAP))
    np.testing.assert_allclose(after, np.where(is_open, expected, before), atol=GAP_TOLERANCE)


def test_less_than_a_hint_closes_lips_no_further_than_it_says(space: MotionSpace) -> None:
    motion = random_motion(space, 60)
    before = gaps_of(motion)[10:]
    after = shaped_gaps(motion, np.full(60, 0.9 * HINTED_CLOSURE))
    share = 0.9 * HINTED_CLOSURE
    is_open = np.asarray(before.max(1) > 0.0)[:, None]
    expected = np.where(is_open, before + share * (RESTING_GAP - before), before)
    np.testing.assert_allclose(after, expected, atol=GAP_TOLERANCE)


def test_a_closure_changes_nothing_but_the_mouth(space: MotionSpace) -> None:
    motion = random_motion(space, 60)
    (closed,) = shape_motion(
        [(motion, speech_with_closure(np.ones(60)), True)], SpeakingOptions(seed=0)
    )
    (plain,) = shape_motion([(motion, speech_of(np.ones(60)), True)], SpeakingOptions(seed=0))
    mouth = space.slice("mouth")
    np.testing.assert_array_equal(closed.values[:, mouth.stop :], plain.values[:, mouth.stop :])


@pytest.mark.parametrize("expression", [0.5, 1.0, 2.0])
def test_no_amount_of_expression_opens_a_closure(space: MotionSpace, expression: float) -> None:
    closure = np.tile([0.0, 1.0], 60)
    gaps = shaped_gaps(random_motion(space, 120), closure, expression)
    assert gaps[1::2].max() < 1e-4
    assert gaps[::2].max() > 0.02 * expression


def followed(sampled: np.ndarray, *, on_camera: bool = False) -> np.ndarray:
    rule = Fixations(on_camera=on_camera)
    return np.array([rule.next(row.astype(np.float32)) for row in sampled])


def drifting_gaze(num_frames: int = 25 * 60, seed: int = 0) -> np.ndarray:
    """(T, 2) as wide as people's, without any jump: noise with a time constant of a second."""
    random = np.random.default_rng(seed)
    gaze = np.zeros((num_frames, 2))
    for frame in range(1, num_frames):
        gaze[frame] = 0.96 * gaze[frame - 1] + 0.28 * random.standard_normal(2) * [0.02, 0.012]
    return gaze


@pytest.mark.parametrize("seed", range(4))
def test_eyes_rest_and_jump_where_the_sampled_gaze_drifts(seed: int) -> None:
    sampled = drifting_gaze(seed=seed)
    gaze = followed(sampled)
    steps = np.linalg.norm(np.diff(gaze, axis=0), axis=1)
    begins = np.flatnonzero((steps[1:] > 0.002) & (steps[1:] > 2.0 * steps[:-1])) + 1
    assert 0.4 < len(begins) / 60 < 4.2, "jumps a second"
    assert np.diff(begins).min() >= 6, "a fixation lasts 0.24 s"
    # Between jumps, once each has arrived, eyes hold.
    since = np.array([frame - max(begins[begins <= frame], default=-99) for frame in range(1499)])
    assert steps[since >= 5].max() < 2e-4
    assert np.mean(since >= 5) > 0.15
    # The drift itself moves in nearly every frame.
    assert np.mean(np.linalg.norm(np.diff(sampled, axis=0), axis=1) > 0.001) > 0.9
    # And yet they look where they should, within what is too small to follow and the delay.
    for axis in range(2):
        assert np.corrcoef(gaze[:, axis], sampled[:, axis])[0, 1] > 0.85
    np.testing.assert_array_less(np.abs(gaze - sampled).mean(0), 0.4 * sampled.std(0))


@pytest.mark.parametrize("start", [1, 20, 33])
def test_eyes_follow_a_step_within_a_third_of_a_second_and_then_hold(start: int) -> None:
    sampled = np.zeros((60, 2))
    sampled[start:] = [0.03, -0.01]
    gaze = followed(sampled)
    assert not gaze[:start].any()
    late = start + 8
    np.testing.assert_allclose(gaze[late:], np.tile([0.03, -0.01], (60 - late, 1)), atol=1.2e-3)
    np.testing.assert_allclose(
        gaze[start + 15 :], np.tile([0.03, -0.01], (45 - start, 1)), atol=1e-6
    )
    # It is one jump: three quarters of the way in its first frame.
    way = np.linalg.norm(np.diff(gaze, axis=0), axis=1) / np.linalg.norm([0.03, -0.01])
    assert way.max() == pytest.approx(0.75, abs=1e-3)


def test_eyes_do_not_follow_what_is_small() -> None:
    random = np.random.default_rng(0)
    small = random.uniform(-1.0, 1.0, (500, 2)) * [0.004, 0.0025]
    assert not followed(small).any()
    np.testing.assert_array_equal(followed(drifting_gaze()), followed(drifting_gaze()))


def test_eyes_on_the_camera_go_a_smaller_way() -> None:
    step = np.tile([0.04, 0.02], (40, 1))
    camera = followed(step, on_camera=True)
    np.testing.assert_allclose(camera[-1], 0.2 * followed(step)[-1], atol=1e-6)
    sampled = drifting_gaze()
    spread = followed(sampled, on_camera=True).std(0) / followed(sampled).std(0)
    assert (spread > 0.1).all()
    assert (spread < 0.5).all()


def centred(values: np.ndarray) -> np.ndarray:
    rule = Centred()
    return np.array([rule(row.astype(np.float32)) for row in values])


def test_what_is_centred_begins_at_rest_without_its_place_and_drift() -> None:
    seconds = np.arange(25 * 60)[:, None] / 25.0
    place = np.array([3.0, -0.2, 11.0])
    np.testing.assert_array_equal(centred(np.tile(place, (100, 1))), 0.0)
    slope = np.array([0.1, -0.02, 0.0])
    drift = centred(place + slope * seconds)
    np.testing.assert_array_equal(drift[0], 0.0)
    # A high-pass of first order turns a ramp into a constant: slope times the time constant.
    np.testing.assert_allclose(drift[-1], 5.0 * slope, rtol=0.01, atol=1e-5)
    half_minutes = centred(np.sin(2 * np.pi / 120.0 * seconds))
    assert np.abs(half_minutes).max() < 0.27, "a period of two minutes"


def test_what_is_centred_keeps_nods() -> None:
    seconds = np.arange(25 * 40)[:, None] / 25.0
    for hertz in (0.5, 1.0, 2.0):
        nods = np.sin(2 * np.pi * hertz * seconds)
        found = centred(5.0 + nods)[25 * 20 :, 0]
        assert found.std() == pytest.approx(nods[25 * 20 :].std(), rel=0.02)
        assert np.corrcoef(found, nods[25 * 20 :, 0])[0, 1] > 0.997


def test_an_eased_start_is_the_portraits_own_and_soon_the_models() -> None:
    random = np.random.default_rng(0)
    values = 2.0 + random.standard_normal((100, 6)).cumsum(0) * 0.05
    rule = EasedStart()
    shown = np.array([rule(row.astype(np.float32)) for row in values])
    np.testing.assert_array_equal(shown[0], 0.0)
    excess = np.exp(-np.arange(100) / 25.0)[:, None] * values[0]
    np.testing.assert_allclose(shown, values - excess, atol=1e-5)
    assert (np.abs(shown - values)[75:] < 0.05 * np.abs(values[0])).all()
    largest = np.abs(np.diff(values, axis=0)).max() + np.abs(values[0]).max() / 25.0
    assert np.abs(np.diff(shown, axis=0)).max() <= largest + 1e-6, "no jump"


def test_a_video_begins_as_the_portrait(space: MotionSpace) -> None:
    """Head, brows, cheeks, gaze and mouth of the first frame are the photograph's."""
    motion = random_motion(space, 40)
    speech = speech_of(np.concatenate([np.zeros(5), np.ones(35)]))
    (shaped,) = shape_motion([(motion, speech, True)], SpeakingOptions(seed=0))
    first = shaped.values[0].copy()
    mouth = space.slice("mouth")
    np.testing.assert_allclose(
        np.delete(first, range(mouth.stop)), np.delete(space.rest, range(mouth.stop)), atol=1e-6
    )
    assert np.abs(gaps_of(shaped)[0] - RESTING_GAP).max() < 2e-3
    assert np.abs(motion.values[0] - space.rest).max() > 0.1


@pytest.mark.parametrize("part", ["pose", "gaze"])
def test_a_place_that_the_flow_holds_is_not_shown(space: MotionSpace, part: str) -> None:
    """Only what changes is: a head that is told to look aside all the time looks ahead."""
    motion = random_motion(space, 300)
    moved = Motion(motion.values.copy(), space)
    moved.values[:, space.slice(part)] += 0.5
    pair = [
        shape_motion([(each, speech_of(np.ones(300)), True)], SpeakingOptions(seed=0))
        for each in (motion, moved)
    ]
    (plain,), (other,) = pair
    np.testing.assert_allclose(plain.values, other.values, atol=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_eyes_are_open_in_the_last_frame(space: MotionSpace, seed: int) -> None:
    """A blink that would outlast the end does not begin, at any length and however often."""
    length = 150 + 7 * seed
    motion = Motion(np.tile(space.rest, (length, 1)), space)
    activity = np.ones(length)
    activity[-12:] = 0.0  # a pause draws a blink
    cuts = [0, 63, length - 40, length]
    pieces = [
        (Motion(motion.values[a:b], space), speech_of(activity[a:b]), b == length)
        for a, b in pairwise(cuts)
    ]
    parts = list(shape_motion(pieces, SpeakingOptions(seed=seed, blink_rate=55.0)))
    lids = np.concatenate([part.part("blink") for part in parts])
    assert lids.max() == 1.0, "somebody who blinks often"
    assert not lids[-1].any()


def test_blinks_that_are_cut_off_are_the_last_ones_alone() -> None:
    """Up to the end the same seed blinks at the same times."""
    open_end, known_end = BlinkRule(5, 50.0), BlinkRule(5, 50.0)
    free = [open_end.next(1.0) for _ in range(300)]
    held = [known_end.next(1.0, 300 - frame) for frame in range(300)]
    assert free[:284] == held[:284]
    assert held[-1] == 0.0
    cut_off = [BlinkRule(seed, 50.0) for seed in range(20)]
    ends = [[rule.next(1.0) for _ in range(300)][-1] for rule in cut_off]
    assert any(ends), "without a known end some are shut in the last frame"


def test_the_head_is_steady() -> None:
    pose = np.array([1.0, 0.1, -0.2, 0.0, 3.0, -5.0, 0.5], np.float32)
    steady = SteadyHead()
    np.testing.assert_array_equal([steady(pose) for _ in range(20)], [pose] * 20)
    steps = np.arange(1, 101)
    kept = np.exp(-1.0 / (25.0 * STEADY_SECONDS))
    way = 1.0 - kept**steps * (1.0 + steps * (1.0 - kept))  # of two low-passes, one after another
    target = pose + np.linspace(-2.0, 3.0, 7, dtype=np.float32)
    found = np.array([steady(target) for _ in steps])
    np.testing.assert_allclose(found, pose + way[:, None] * (target - pose), atol=1e-5)
    share = (found[:, [0, 6]] - pose[[0, 6]]) / (target - pose)[[0, 6]]
    assert (np.diff(share, axis=0) > -1e-6).all()
    assert share.max() <= 1.0 + 1e-6
    np.testing.assert_allclose(found[-1], target, atol=1e-5)


def test_what_is_shown_has_a_steady_head_around_rest(space: MotionSpace) -> None:
    motion, steady = random_motion(space, 80), SteadyHead()
    (shaped,) = shape_motion([(motion, speech_of(np.ones(80)), True)], SpeakingOptions(seed=0))
    pose = motion.part("pose").astype(np.float64)
    slow, expected = pose[0], []
    for row in pose:
        slow = slow + (row - slow) / (5.0 * 25.0)
        expected.append(steady((space.rest[space.slice("pose")] + row - slow).astype(np.float32)))
    np.testing.assert_allclose(shaped.part("pose"), expected, atol=1e-5)


def emotion_of(space: MotionSpace, offset: Floats) -> EmotionOffsets:
    """Happy from the beginning, with this raw offset (D,)."""
    model = small_model(config=mesh_config())
    row = torch.from_numpy(offset / (space.std + np.float32(1e-5)))
    model.emotion_mean[EMOTIONS.index("happy")] = row
    return EmotionOffsets(model, space, Style((EmotionAt(0.0, "happy"),)))


def test_emotions_are_added_to_talking_and_to_resting_faces(space: MotionSpace) -> None:
    motion, activity = random_motion(space, 150), np.repeat([1.0, 0.0], 75)
    offset = np.zeros(space.size, np.float32)
    offset[space.slice("mouth")] = LipClosure(space).closed(np.linspace(-0.1, 0.2, 16))
    offset[space.slice("brows")] = [0.3, -0.2, 0.1, 0.4]
    offset[space.slice("gaze")] = [0.01, -0.02]
    offset[space.slice("pitch")] = 2.0
    pairs = [(motion, speech_of(activity), True)]
    (plain,) = shape_motion(pairs, SpeakingOptions(seed=1))
    (happy,) = shape_motion(pairs, SpeakingOptions(seed=1), emotion=emotion_of(space, offset))
    difference = happy.values - plain.values
    np.testing.assert_allclose(difference[14:], np.tile(offset, (136, 1)), atol=1e-4)
    # It comes over the first 0.6 s, and the first frame has next to nothing of it.
    steps = np.arange(1, 151) / (25 * CHANGE_SECONDS)
    share = np.where(steps < 1.0, steps**2 * (3.0 - 2.0 * steps), 1.0)
    others = np.arange(space.slice("mouth").stop, space.size)
    np.testing.assert_allclose(difference[:, others], np.outer(share, offset[others]), atol=1e-4)
    assert share[0] < 0.02


@pytest.mark.parametrize("lids", [-0.3, 0.0, 0.25, 0.6])
def test_lids_of_emotions_and_blinks_combine(space: MotionSpace, lids: float) -> None:
    motion = random_motion(space, 600)
    offset = np.zeros(space.size, np.float32)
    offset[space.slice("blink")] = lids
    pairs = [(motion, speech_of(np.ones(600)), False)]
    (shaped,) = shape_motion(pairs, SpeakingOptions(seed=0), emotion=emotion_of(space, offset))
    found = shaped.part("blink")[15:]
    assert found.max() <= 1.0 + 1e-6
    # What an emotion leaves open of the eyes, a blink closes: fully at its height.
    blinks, closings = BlinkRule(0), []
    for _ in range(600):
        closings.append(blinks.next(1.0))
    assert max(closings) == BLINK_PROFILE.max() == 1.0
    expected = 1.0 - (1.0 - lids) * (1.0 - np.array(closings[15:]))
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 2, axis=1), atol=1e-5)


def test_an_emotion_goes_on_over_stretches(space: MotionSpace) -> None:
    motion = random_motion(space, 60)
    offset = np.zeros(space.size, np.float32)
    offset[space.slice("cheeks")] = 0.5
    model = small_model(config=mesh_config())
    model.emotion_mean[EMOTIONS.index("sad")] = torch.from_numpy(offset / (space.std + 1e-5))
    style = Style((EmotionAt(1.0, "sad"),))
    pieces = [
        (Motion(motion.values[a:b], space), speech_of(np.ones(b - a)), b == 60)
        for a, b in ((0, 20), (20, 33), (33, 60))
    ]
    shaped = shape_motion(
        pieces, SpeakingOptions(seed=0), emotion=EmotionOffsets(model, space, style)
    )
    plain = shape_motion(pieces, SpeakingOptions(seed=0))
    cheeks = np.concatenate(
        [
            part.part("cheeks") - other.part("cheeks")
            for part, other in zip(shaped, plain, strict=True)
        ]
    )
    changed = 25 + round(CHANGE_SECONDS * 25) - 1
    np.testing.assert_allclose(cheeks[:25], 0.0, atol=1e-6)
    np.testing.assert_allclose(cheeks[changed:], 0.5, atol=1e-4)
    assert (np.diff(cheeks[24 : changed + 1], axis=0) > 0.0).all()
