"""The live head: sound in, frames with their sound out, on a clock that the tests hold."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from moda.errors import InputError
from moda.live import LiveFrame, LiveHead, LiveOptions, LiveSession, SoundQueue
from moda.media import AudioReader
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Floats, MotionSpace, Picture
from moda.systems.protocol import Actor
from paths import SPEECH

RATE = 24_000
FRAME = RATE // 25


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def actor(head: TalkingHead, photograph: Picture) -> Actor:
    return head.system.prepare(photograph, FrameOptions(size=128))


@pytest.fixture(scope="module")
def speech() -> Floats:
    return np.concatenate(list(AudioReader(SPEECH, RATE)))[: 3 * RATE]


def live(head: TalkingHead, actor: Actor, **options: object) -> LiveHead:
    values = {"sample_rate": RATE, "pace": "ahead", **options}
    return LiveHead(head.system, actor, LiveOptions(**values))  # type: ignore[arg-type]


def frames(head: LiveHead, count: int, *, draw: bool = False) -> list[LiveFrame]:
    return [head.next_frame(draw=draw) for _ in range(count)]


def sound_of(made: list[LiveFrame]) -> Floats:
    return np.concatenate([frame.sound for frame in made])


def test_sound_comes_out_whole_late_by_the_look_ahead(
    head: TalkingHead, actor: Actor, speech: Floats
) -> None:
    one = live(head, actor)
    one.push(speech)
    out = sound_of(frames(one, 90))
    late = one.options.look_ahead_frames * FRAME
    np.testing.assert_array_equal(out[late : late + len(speech)], speech)
    assert not out[:late].any()
    assert not out[late + len(speech) :].any()


def test_pictures_and_sound_do_not_depend_on_how_the_sound_arrives(
    head: TalkingHead, actor: Actor, speech: Floats
) -> None:
    together, apart = live(head, actor), live(head, actor)
    together.push(speech)
    sizes = np.random.default_rng(0).integers(1, 3000, 1000)
    first, second, sent = [], [], 0
    for number in range(60):
        while sent < len(speech) and apart.queued_seconds < 0.2:
            size = int(sizes[(number + sent) % 1000])
            apart.push(speech[sent : sent + size])
            sent += size
        first.append(together.next_frame(draw=number % 6 == 0))
        second.append(apart.next_frame(draw=number % 6 == 0))
    np.testing.assert_array_equal(sound_of(first), sound_of(second))
    assert [one.is_speaking for one in first] == [one.is_speaking for one in second]
    for one, other in zip(first, second, strict=True):
        if one.picture is not None:
            assert other.picture is not None
            np.testing.assert_array_equal(one.picture, other.picture)


def test_the_mouth_moves_with_the_sound_and_rests_without(
    head: TalkingHead, actor: Actor, speech: Floats
) -> None:
    one = live(head, actor)
    quiet = frames(one, 30, draw=True)
    one.push(speech)
    spoken = frames(one, 130, draw=True)
    assert all(frame.is_resting for frame in quiet)
    assert any(frame.is_speaking for frame in spoken)
    assert not any(frame.is_speaking for frame in quiet)
    assert spoken[-1].is_resting
    loud = next(k for k, frame in enumerate(spoken) if np.abs(frame.sound).max() > 0.05)
    moving = next(k for k, frame in enumerate(spoken) if frame.is_speaking)
    assert 0 <= loud - moving <= 8  # lips open first, by less than a third of a second


def test_an_interruption_ends_sound_and_speaking_with_the_next_frame(
    head: TalkingHead, actor: Actor, speech: Floats
) -> None:
    one = live(head, actor)
    one.push(speech)
    assert frames(one, 40)[-1].is_speaking
    one.interrupt()
    after = frames(one, 20)
    assert one.queued_seconds == 0.0
    fade = int(0.005 * RATE)
    assert not sound_of(after)[fade:].any()
    assert not any(frame.is_speaking for frame in after)
    one.push(speech)
    assert any(frame.is_speaking for frame in frames(one, 40))


def test_too_much_sound_and_no_sound_are_refused_whole(head: TalkingHead, actor: Actor) -> None:
    one = live(head, actor, max_queued_seconds=1.0)
    one.push(np.zeros(RATE // 2, np.float32))
    with pytest.raises(InputError, match="more than 1 s"):
        one.push(np.zeros(RATE, np.float32))
    assert one.queued_seconds == 0.5
    with pytest.raises(InputError, match="finite"):
        one.push(np.array([np.nan], np.float32))
    with pytest.raises(InputError, match="mono"):
        one.push(np.zeros((2, 10), np.float32))


@pytest.mark.parametrize(
    "values", [{"sample_rate": 44_100}, {"pace": "slow"}, {"look_ahead_frames": 3}]
)
def test_options_outside_the_limits_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        LiveOptions(**values)  # type: ignore[arg-type]


def test_late_sound_is_caught_up_in_pauses_and_speech_is_kept() -> None:
    queue = SoundQueue(LiveOptions(sample_rate=RATE, pace="realtime"))
    voice = np.sin(np.arange(RATE // 2) * 0.1).astype(np.float32)
    pause = np.zeros(RATE // 2, np.float32)
    queue.push(np.concatenate([voice, pause]))
    out = np.concatenate([queue.pull(FRAME) for _ in range(40)])
    assert 0 < queue.num_skipped <= len(pause)
    assert queue.num_skipped % FRAME == 0
    kept = out[np.flatnonzero(out)[0] - 1 :][: len(voice)]
    np.testing.assert_allclose(kept, voice, atol=1e-6)


def test_sound_that_is_much_too_late_is_left_out_at_once() -> None:
    queue = SoundQueue(LiveOptions(sample_rate=RATE, pace="realtime"))
    queue.push(np.ones(3 * RATE, np.float32))
    queue.pull(FRAME)
    assert len(queue) / RATE < 0.25
    ahead = SoundQueue(LiveOptions(sample_rate=RATE, pace="ahead"))
    ahead.push(np.ones(3 * RATE, np.float32))
    ahead.pull(FRAME)
    assert ahead.num_skipped == 0


def test_a_rest_of_sound_is_not_kept_back_for_ever() -> None:
    queue = SoundQueue(LiveOptions(sample_rate=RATE))
    queue.push(np.ones(100, np.float32))
    pulled = [queue.pull(FRAME).sum() for _ in range(6)]
    assert sum(pulled) == 100
    assert pulled[0] == 0


class Clock:
    """Time that passes when somebody sleeps, or works."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


def run_session(
    head: LiveHead, count: int, work_seconds: float, *, pause_at: int | None = None
) -> tuple[list[LiveFrame], list[float], LiveSession]:
    """A session on a clock on which every drawn frame takes ``work_seconds``."""
    clock, made, times = Clock(), list[LiveFrame](), list[float]()
    done = threading.Event()

    def emit(frame: LiveFrame) -> None:
        clock.time += work_seconds if frame.picture is not None else 0.001
        if pause_at == frame.number:
            clock.time += 30.0
        made.append(frame)
        times.append(clock.time)
        if len(made) == count:
            done.set()
            session._is_stopped.set()

    session = LiveSession(head, emit, now=clock.now, sleep=clock.sleep)
    session.start()
    assert done.wait(60)
    session.close()
    assert session.error is None
    return made, times, session


def test_a_session_keeps_the_time_without_drift(head: TalkingHead, actor: Actor) -> None:
    made, times, session = run_session(live(head, actor), 100, 0.01)
    assert [frame.number for frame in made] == list(range(100))
    assert times[-1] == pytest.approx(99 / 25 + 0.01, abs=1e-6)
    assert session.statistics.num_undrawn == 0


def test_a_slow_machine_leaves_out_pictures_and_never_sound(
    head: TalkingHead, actor: Actor, speech: Floats
) -> None:
    slow = live(head, actor)
    slow.push(speech)
    made, times, session = run_session(slow, 100, 0.06)
    assert times[-1] == pytest.approx(99 / 25, abs=0.2)
    assert session.statistics.num_undrawn > 20
    late = slow.options.look_ahead_frames * FRAME
    np.testing.assert_array_equal(sound_of(made)[late : late + len(speech)], speech)


def test_a_machine_that_stood_still_goes_on_from_there(head: TalkingHead, actor: Actor) -> None:
    made, times, _ = run_session(live(head, actor), 40, 0.01, pause_at=10)
    assert [frame.number for frame in made] == list(range(40))
    assert np.diff(times)[12:].max() < 0.05


def test_a_session_says_what_it_did_not_take(head: TalkingHead, actor: Actor) -> None:
    one = live(head, actor, max_queued_seconds=0.5)
    session = LiveSession(one, lambda frame: None)
    session.push(np.zeros(RATE, np.float32))
    with pytest.raises(InputError, match="furious"):
        session.express("furious")
    session._answer_calls()
    assert session.rejected is not None
    assert "0.5 s" in session.rejected


def test_only_the_embedded_system_speaks_live(photograph: Picture) -> None:
    class Other:
        space = MotionSpace("neural", (), np.zeros(7), np.ones(7), "camera")

    with pytest.raises(InputError, match="too slow"):
        LiveHead.of(TalkingHead(Other()), photograph)  # type: ignore[arg-type]
