"""A portrait that follows a camera: pictures drawn from a known motion are what the camera sees."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.live_tracking import LEARNED_PICTURES, OneEuroFilter
from moda.encoders.tracking import track_motion
from moda.live import LiveReenactment, ReenactedFrame
from moda.motion.hearing.lips import lips_of_motion
from moda.options import FrameOptions, MotionAmounts
from moda.pipeline import TalkingHead
from moda.structures import Floats, Motion, MotionSpace, Picture
from moda.systems.protocol import Actor

NUM_PICTURES = 60
AT_REST = 20
"""Pictures before anything moves."""
GREY = np.full((192, 192, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def actor(head: TalkingHead, photograph: Picture) -> Actor:
    return head.system.prepare(photograph, FrameOptions(size=192, full_frame=False))


@pytest.fixture(scope="module")
def known(space: MotionSpace) -> Motion:
    """A head that turns and nods, and a mouth that opens twice a second."""
    rows = np.tile(space.rest, (NUM_PICTURES, 1))
    seconds = np.maximum(np.arange(NUM_PICTURES) - AT_REST, 0) / 25
    rows[:, space.slice("yaw")] += (8 * np.sin(2 * np.pi * 0.7 * seconds))[:, None]
    rows[:, space.slice("pitch")] += (5 * np.sin(2 * np.pi * 0.9 * seconds))[:, None]
    mouth = space.slice("mouth")
    opened = space.std[mouth] * _opening_direction(space)
    rows[:, mouth] += (0.5 - 0.5 * np.cos(2 * np.pi * 2 * seconds))[:, None] * opened
    return Motion(rows.astype(np.float32), space)


def _opening_direction(space: MotionSpace) -> Floats:
    """(M,) standard deviations of the mouth that open the lips."""
    step = np.tile(space.rest, (space.std[space.slice("mouth")].size, 1))
    part = space.slice("mouth")
    step[:, part] += np.diag(space.std[part])
    gaps = (
        lips_of_motion(Motion(step, space))[0] - lips_of_motion(Motion(space.rest[None], space))[0]
    )
    return (1.5 * gaps / np.linalg.norm(gaps)).astype(np.float32)


@pytest.fixture(scope="module")
def filmed(actor: Actor, known: Motion) -> list[Picture]:
    return list(actor.renderer.render(known))


@pytest.fixture(scope="module")
def followed(head: TalkingHead, actor: Actor, filmed: list[Picture]) -> list[ReenactedFrame]:
    live = LiveReenactment(head.system, actor)
    return [live.push_frame(picture) for picture in filmed]


def motion_of(frames: list[ReenactedFrame]) -> Motion:
    return Motion(np.concatenate([frame.motion.values for frame in frames]), frames[0].motion.space)


def test_the_portrait_moves_as_the_reenactment_of_the_same_film(
    head: TalkingHead, filmed: list[Picture], followed: list[ReenactedFrame], known: Motion
) -> None:
    timed = ((index / 25, picture) for index, picture in enumerate(filmed))
    offline = track_motion(timed, head.system.models, head.system.space).motion
    live, moving = motion_of(followed), slice(AT_REST + 15, None)
    for name in ("yaw", "pitch"):
        angle = live.part(name)[moving, 0]
        for other, limit in ((offline, 0.98), (known, 0.95)):
            assert np.corrcoef(angle, other.part(name)[moving, 0])[0, 1] > limit
    gaps = [lips_of_motion(motion)[0][moving] for motion in (live, offline, known)]
    assert np.corrcoef(gaps[0], gaps[1])[0, 1] > 0.95
    assert np.corrcoef(gaps[0], gaps[2])[0, 1] > 0.9
    assert gaps[0].std() > 0.7 * gaps[1].std()


def test_the_person_is_learned_first_and_that_is_said(followed: list[ReenactedFrame]) -> None:
    states = [frame.state for frame in followed]
    assert states[: LEARNED_PICTURES - 1] == ["learning"] * (LEARNED_PICTURES - 1)
    assert set(states[LEARNED_PICTURES:]) == {"followed"}
    assert "mouth closed" in (followed[0].note or "")
    assert followed[-1].note is None
    assert [frame.number for frame in followed] == list(range(NUM_PICTURES))


def test_the_portrait_waits_calmly_where_no_face_is_seen_and_follows_again(
    head: TalkingHead, actor: Actor, filmed: list[Picture]
) -> None:
    live = LiveReenactment(head.system, actor)
    before = [live.push_frame(GREY) for _ in range(3)]
    assert {frame.state for frame in before} == {"absent"}
    assert "no face" in (before[0].note or "")
    seen = [live.push_frame(picture) for picture in filmed[: AT_REST + 10]]
    away = [live.push_frame(GREY) for _ in range(25)]
    back = [live.push_frame(filmed[AT_REST + 10]) for _ in range(18)]
    yaw = motion_of([*seen, *away, *back]).part("yaw")[:, 0]
    assert abs(yaw[len(seen) - 1]) > 3.0
    assert abs(yaw[len(seen) + len(away) - 1]) < 1.0
    assert abs(yaw[-1]) > 3.0
    assert np.abs(np.diff(yaw)).max() < 2.0
    assert back[-1].state == "followed"


def test_amounts_are_factors_on_what_is_seen(
    head: TalkingHead, actor: Actor, filmed: list[Picture], followed: list[ReenactedFrame]
) -> None:
    calm = LiveReenactment(head.system, actor, MotionAmounts(head_motion=0.5))
    frames = [calm.push_frame(picture) for picture in filmed[: AT_REST + 15]]
    whole = followed[len(frames) - 1].motion.part("yaw")[0, 0]
    assert frames[-1].motion.part("yaw")[0, 0] == pytest.approx(0.5 * whole, abs=0.5)


def test_a_filter_keeps_what_is_quick_and_calms_what_stands_still(space: MotionSpace) -> None:
    calm = OneEuroFilter(space)
    noise = np.random.default_rng(0).normal(size=(100, space.size)).astype(np.float32)
    noisy = 0.05 * noise * space.std
    still = np.stack([calm(row, 0.04) for row in noisy])
    yaw = space.slice("yaw")
    assert still[20:, yaw].std() < 0.6 * noisy[20:, yaw].std()
    turned = space.rest + 3 * space.std
    quick = [calm(turned, 0.04)[yaw].item() for _ in range(3)]
    assert quick[-1] > 0.9 * turned[yaw].item()
