"""Motion made while somebody speaks, against the motion of the whole recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from device_double import DeviceDouble
from moda.config import preset
from moda.encoders.live_speech import LiveFeatures, LiveSpeechEncoder, silent_frame
from moda.encoders.speech import HANGOVER_HOPS, encode_speech, spread_activity
from moda.errors import InputError
from moda.evaluation.metrics import lagged_correlation
from moda.media import AudioReader
from moda.motion.hearing.lips import lips_of_motion, mean_identity, predicted_mean
from moda.motion.hearing.listening import join_speech, listen
from moda.motion.live.listening import LiveListener
from moda.motion.live.planning import STRIDE_FRAMES, HeadPlanner
from moda.motion.live.speaking import LiveSpeaker
from moda.motion.model import MotionTransformer
from moda.motion.noise import NoiseGenerator
from moda.motion.reading import SpeechReader
from moda.motion.sampler import sampling_options
from moda.motion.speaking import speak
from moda.options import SpeakingOptions
from moda.structures import Floats, HeardFrame, Motion, RecentSpeech, Speech
from moda.weights.checkpoints import Checkpoint, load_checkpoint
from paths import SPEECH

SECONDS = 5


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    return load_checkpoint("moda-tiny")


@pytest.fixture(scope="module")
def samples() -> Floats:
    return np.concatenate(list(AudioReader(SPEECH, 16_000)))[: 16_000 * SECONDS]


@pytest.fixture(scope="module")
def heard(samples: Floats) -> list[HeardFrame]:
    return LiveSpeechEncoder(16_000).push(np.pad(samples, (0, 16_000)))


@pytest.fixture(scope="module")
def whole(samples: Floats) -> Speech:
    return join_speech(list(encode_speech([samples])))


def make_speaker(tiny: Checkpoint, look_ahead: int = 6, seed: int = 0) -> LiveSpeaker:
    return LiveSpeaker(
        tiny.model,
        tiny.space,
        tiny.config.sampler,
        identity=mean_identity(tiny.space),
        options=SpeakingOptions(seed=seed),
        look_ahead=look_ahead,
    )


def spoken(
    speaker: LiveSpeaker, frames: list[HeardFrame], memory: LiveFeatures | None = None
) -> Floats:
    memory = memory or LiveFeatures(speaker.num_frames)
    return np.concatenate([speaker.hear(memory.hear(frame)).values for frame in frames])


def test_on_another_device(tiny: Checkpoint, heard: list[HeardFrame], device: DeviceDouble) -> None:
    moved = load_checkpoint("moda-tiny", "mps")
    here, there = (spoken(make_speaker(one), heard[:12]) for one in (tiny, moved))
    assert here.std() > 0
    np.testing.assert_allclose(there, here, atol=1e-3)


def test_with_all_the_future_the_mouth_is_exactly_that_of_the_recording(
    tiny: Checkpoint, whole: Speech
) -> None:
    """The same features, told one by one with all the future that is looked at."""
    reader = tiny.config.motion.speech_embedder
    ahead = reader.voice_reach + reader.after
    listener = LiveListener(tiny.model, ahead)
    features = np.pad(whole.features, ((listener.num_frames, 0), (0, 0)))
    assert whole.loudness is not None
    loudness = np.pad(whole.loudness, (listener.num_frames, 0))
    told = []
    for end in range(listener.num_frames + 1, len(features) + 1):
        last = slice(end - listener.num_frames, end)
        recent = RecentSpeech(features[last], loudness[last], np.ones_like(loudness[last]), 0)
        told.append(listener.judge(recent))
    mouths = tiny.space.denormalize(np.stack([frame.mouth for frame in told[ahead:]]))
    expected = predicted_mean(tiny.model, tiny.space, whole.features)
    np.testing.assert_allclose(mouths, expected.values[: len(mouths)], atol=2e-4)
    assert told[-1].speech.closure is not None
    closures = [float(frame.speech.closure[0]) for frame in told[ahead:]]
    offline = join_speech(list(listen(tiny.model, [whole]))).closure
    assert offline is not None
    np.testing.assert_allclose(closures, offline[: len(closures)], atol=2e-3)
    heard = [frame.speech.loudness for frame in told[ahead:]]
    np.testing.assert_array_equal(np.concatenate(heard), whole.loudness[: len(heard)])


def test_activity_follows_the_whole_recordings_and_pauses_end_in_time() -> None:
    """Loud, a short pause, loud, a long pause: as offline, but for the time it takes to know."""
    model = MotionTransformer(preset("moda-tiny").motion).eval()
    assert isinstance(model.speech_embedder, SpeechReader)
    model.speech_embedder.voice_head.weight.zero_()
    model.speech_embedder.voice_head.bias.fill_(1.0)  # all that is loud is a voice
    listener, ahead = LiveListener(model, 6), 6
    pattern = [0] * 20 + [1] * 20 + [0] * 12 + [1] * 20 + [0] * 60
    quiet = np.zeros((listener.num_frames, model.config.speech.size), np.float32)
    loudness = np.zeros(len(quiet), np.float32)
    told = []
    for end in range(1, len(pattern) + 1):
        hops = np.repeat([0] * len(quiet) + pattern[:end], 4).astype(np.bool_)
        activity = spread_activity(np.pad(hops, (HANGOVER_HOPS, 0)))[-len(quiet) :]
        told.append(listener.judge(RecentSpeech(quiet, loudness, activity, 0)))
    judged = [float(frame.speech.activity[0]) for frame in told][ahead:]
    spoken_from = judged.index(1.0)
    assert 16 <= spoken_from <= 18  # loudness reaches 3.5 frames ahead
    assert all(judged[spoken_from:72])  # the short pause is none
    end = 72 + 2 + 15 - ahead  # hangover, and the time after which a pause is a long one
    assert not any(judged[end + 2 :])
    assert judged[end - 2] == 1.0


def test_lips_follow_the_offline_ones_with_a_look_ahead_of_a_quarter_second(
    tiny: Checkpoint, heard: list[HeardFrame], whole: Speech
) -> None:
    parts = speak(
        tiny.model, tiny.space, tiny.config.sampler, [whole], identity=mean_identity(tiny.space)
    )
    offline = Motion(np.concatenate([part.values for part in parts]), tiny.space)
    live = spoken(make_speaker(tiny), heard)[6 : 6 + len(offline)]
    lips = zip(lips_of_motion(Motion(live, tiny.space)), lips_of_motion(offline), strict=True)
    # a share of what the flow draws is in both, and drawn anew
    for (ours, theirs), expected in zip(lips, (0.85, 0.7), strict=True):
        match = lagged_correlation(ours, theirs)
        assert match.correlation > expected
        assert match.lag == 0


def test_same_seed_same_motion_and_another_seed_other_head_and_equal_lips(
    tiny: Checkpoint, heard: list[HeardFrame]
) -> None:
    first, second, other = (spoken(make_speaker(tiny, seed=seed), heard[:60]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    pose, mouth = tiny.space.slice("pose"), tiny.space.slice("mouth")
    assert np.abs(first[:, pose] - other[:, pose]).max() > 1.0
    if tiny.config.sampler.mouth_share == 0.0:
        np.testing.assert_array_equal(first[:, mouth], other[:, mouth])


def test_an_interruption_closes_the_lips_within_four_frames(
    tiny: Checkpoint, heard: list[HeardFrame]
) -> None:
    speaker = make_speaker(tiny)
    memory = LiveFeatures(speaker.num_frames)
    before = spoken(speaker, heard[:70], memory)
    gap, _ = lips_of_motion(Motion(before, tiny.space))
    assert gap[-10:].max() > 0.01
    memory.forget(6)
    speaker.interrupt()
    after = spoken(speaker, [silent_frame()] * 20, memory)
    gap, _ = lips_of_motion(Motion(after, tiny.space))
    assert gap[3:].max() == pytest.approx(0.0, abs=1e-6)


def test_nobody_speaks_and_the_face_is_alive(tiny: Checkpoint) -> None:
    motion = Motion(spoken(make_speaker(tiny), [silent_frame()] * 25 * 6), tiny.space)
    gap, _ = lips_of_motion(motion)
    assert gap.max() == pytest.approx(0.0, abs=1e-6)
    assert motion.part("blink").max() == 1.0
    assert 0.3 < np.abs(motion.part("yaw") - motion.part("yaw").mean()).max() < 20.0
    steps = np.abs(np.diff(motion.values[:, tiny.space.slice("pose")], axis=0))
    joins = steps[STRIDE_FRAMES - 1 :: STRIDE_FRAMES].max(0)
    assert (joins <= steps.max(0)).all()
    assert (joins < 2.5 * np.quantile(steps, 0.98, axis=0)).all()


def test_an_emotion_changes_the_face_over_its_usual_time(
    tiny: Checkpoint, heard: list[HeardFrame]
) -> None:
    plain, happy = make_speaker(tiny), make_speaker(tiny)
    memories = [LiveFeatures(plain.num_frames) for _ in range(2)]
    spoken(plain, heard[:30], memories[0])
    spoken(happy, heard[:30], memories[1])
    happy.express("happy")
    one = spoken(plain, heard[30:60], memories[0])
    other = spoken(happy, heard[30:60], memories[1])
    expression = tiny.space.slice("expression")
    difference = np.abs(one - other)[:, expression].mean(1)
    assert difference[0] < 0.2 * difference[-1]
    assert difference[-1] > 0.05
    with pytest.raises(InputError, match="furious"):
        happy.express("furious")


def test_planned_windows_keep_what_was_shown(tiny: Checkpoint) -> None:
    """What the flow is told of the past is what was given out; steps in between stay small."""
    planner = HeadPlanner(
        tiny.model,
        identity=mean_identity(tiny.space),
        generator=NoiseGenerator(0),
        sampling=sampling_options(tiny.space, tiny.config.sampler),
        pose=tiny.space.slice("pose"),
        look_ahead=6,
    )
    nothing = np.zeros(tiny.space.size, np.float32)
    speech = np.zeros((planner.num_frames, tiny.config.motion.speech.size), np.float32)
    rows = []
    for _ in range(60):
        rows.append(planner.next(nothing, speech))
    motion = np.stack(rows)
    assert np.isfinite(motion).all()
    assert not motion[:, list(tiny.config.motion.unsampled)].any()
    yaw = motion[:, tiny.space.slice("yaw")][:, 0]
    assert yaw.std() > 0.05
    assert np.abs(np.diff(yaw)).max() < 6.0 * np.abs(np.diff(yaw)).mean() + 0.05


def test_models_that_cannot_speak_live_say_so() -> None:
    config = preset("moda-base").motion
    with torch.device("meta"):
        model = MotionTransformer(config)
    with pytest.raises(InputError, match="moda-tiny"):
        LiveListener(model, 6)
