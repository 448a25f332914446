"""Speech to shown motion in one stream: the same as its three steps, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from motion_networks import mesh_config, small_model

from moda.config import SamplerConfig
from moda.motion.hearing.listening import join_speech, listen, tell_phones
from moda.motion.model import MotionTransformer
from moda.motion.reading import SpeechReader
from moda.motion.rules.controls import shape_motion
from moda.motion.rules.emotion import EmotionOffsets
from moda.motion.sampler import sample_motion, sampling_options
from moda.motion.speaking import speak, with_end
from moda.options import MotionAmounts, SpeakingOptions
from moda.phones import Phone, PhoneSegment
from moda.structures import EmotionAt, Floats, Motion, MotionSpace, Speech, Style
from moda.structures.landmarks import lip_gaps
from moda.weights.spaces import load_motion_space

NUM_FRAMES = 170
"""Three windows."""
SAMPLER = SamplerConfig(num_steps=2, guidance_scale=1.5, mouth_share=0.8, head_noise=0.5)
SEGMENTS = (
    PhoneSegment("a", 0.4, 2.0, (Phone.A,)),
    PhoneSegment("p", 2.0, 2.4, (Phone.BILABIAL,)),
    PhoneSegment("o", 2.4, 6.0, (Phone.O,)),
)
IDENTITY = np.linspace(-1.0, 1.0, 63, dtype=np.float32)


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    model = small_model(config=mesh_config())
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    with torch.no_grad():
        reader.voice_head.bias += 3.0  # all that is loud is a voice
    table = 0.3 * np.random.default_rng(0).standard_normal(model.emotion_mean.shape)
    model.emotion_mean.copy_(torch.from_numpy(table))
    return model


@pytest.fixture(scope="module")
def speech() -> Speech:
    features = np.random.default_rng(1).standard_normal((NUM_FRAMES, 27)).astype(np.float32)
    activity = np.ones(NUM_FRAMES, np.float32)
    activity[100:120] = 0.0
    return Speech(features, activity)


def cut(speech: Speech, length: int) -> Iterator[Speech]:
    for start in range(0, len(speech), length):
        yield speech[start : start + length]


def spoken(
    model: MotionTransformer,
    space: MotionSpace,
    speech: Speech,
    options: SpeakingOptions | None = None,
    length: int = NUM_FRAMES,
) -> Floats:
    pieces = cut(speech, length)
    motions = speak(model, space, SAMPLER, pieces, identity=IDENTITY, options=options)
    return np.concatenate([motion.values for motion in motions])


@pytest.mark.parametrize("phones", [(), SEGMENTS], ids=["heard", "told"])
def test_it_is_listening_sampling_and_shaping(
    model: MotionTransformer,
    space: MotionSpace,
    speech: Speech,
    phones: tuple[PhoneSegment, ...],
) -> None:
    style = Style((EmotionAt(0.0, "happy", 0.6), EmotionAt(3.0, "sad")))
    options = SpeakingOptions(
        style, seed=5, num_steps=3, guidance_scale=1.0, blink=False,
        amounts=MotionAmounts(head_motion=0.5, expression=1.4), phones=phones,
    )  # fmt: skip
    known = join_speech(list(tell_phones([speech], phones))) if phones else speech
    heard = join_speech(list(listen(model, [known])))
    sampling = sampling_options(space, SAMPLER)
    sampling["num_steps"], sampling["guidance_scale"] = 3, 1.0
    sampled = sample_motion(
        model, space, [heard], identity=IDENTITY, style=style, generator=5, **sampling
    )
    whole = Motion(np.concatenate([part.values for part in sampled]), space)
    (shaped,) = shape_motion(
        [(whole, heard, True)], options, emotion=EmotionOffsets(model, space, style)
    )
    found = spoken(model, space, speech, options)
    np.testing.assert_allclose(found, shaped.values, atol=1e-5)
    assert np.abs(found - spoken(model, space, speech)).max() > 0.1


@pytest.mark.parametrize("length", [1, 37])
def test_pieces_do_not_matter(
    model: MotionTransformer, space: MotionSpace, speech: Speech, length: int
) -> None:
    options = SpeakingOptions(phones=SEGMENTS)
    in_pieces = spoken(model, space, speech, options, length)
    assert len(in_pieces) == NUM_FRAMES
    np.testing.assert_allclose(in_pieces, spoken(model, space, speech, options), atol=1e-4)


def test_known_phones_close_the_lips(
    model: MotionTransformer, space: MotionSpace, speech: Speech
) -> None:
    assert space.basis is not None
    size = space.groups[0][1]
    gaps = lip_gaps(space.basis[:size].astype(np.float64))  # (16, 9)
    told = spoken(model, space, speech, SpeakingOptions(phones=SEGMENTS))[:, :size]
    heard = spoken(model, space, speech)[:, :size]
    closed = slice(50, 60)  # 2.0 to 2.4 s
    assert (heard @ gaps)[closed].max() > 0.01
    assert (told @ gaps)[closed].max() < 1e-3
    # What the network is told is the sound alone: vowels change no more than a heard closure.
    closure = join_speech(list(listen(model, [speech]))).closure
    assert closure is not None
    vowels = 20 + np.flatnonzero(closure[20:45] == 0.0)
    assert len(vowels) > 15
    np.testing.assert_array_equal(told[vowels], heard[vowels])


def stretches(*lengths: int) -> list[Motion]:
    space = load_motion_space()
    rows = np.arange(sum(lengths) * space.size, dtype=np.float32).reshape(-1, space.size)
    ends = np.cumsum(lengths)
    return [Motion(rows[end - n : end], space) for n, end in zip(lengths, ends, strict=True)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ((63, 64, 20), [63, 64, 20]),
        ((63, 64, 16), [63, 64, 16]),
        ((63, 64, 15), [63, 79]),
        ((63, 64, 1), [63, 65]),
        ((5,), [5]),
        ((80,), [80]),
        ((), []),
    ],
)
def test_a_short_end_joins_the_stretch_before_it(
    lengths: tuple[int, ...], expected: list[int]
) -> None:
    given = stretches(*lengths)
    found = list(with_end(given))
    assert [len(motion) for motion, _ in found] == expected
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True] * bool(found)
    if given:
        np.testing.assert_array_equal(
            np.concatenate([motion.values for motion, _ in found]),
            np.concatenate([motion.values for motion in given]),
        )


def test_the_end_is_known_one_stretch_late_and_no_later() -> None:
    taken = 0

    def counted() -> Iterator[Motion]:
        nonlocal taken
        for motion in stretches(63, 64, 64, 64):
            taken += 1
            yield motion

    needed = [taken for _ in with_end(counted())]
    assert needed == [2, 3, 4, 4]


@pytest.mark.parametrize("num_frames", [128, 129, 143, 150, 170])
def test_a_video_ends_with_open_eyes(
    model: MotionTransformer, space: MotionSpace, num_frames: int
) -> None:
    random = np.random.default_rng(num_frames)
    features = random.standard_normal((num_frames, 27)).astype(np.float32)
    speech = Speech(features, np.ones(num_frames, np.float32))
    lids = space.slice("blink")
    blinked = False
    for seed in range(4):
        shown = spoken(model, space, speech, SpeakingOptions(seed=seed, blink_rate=58.0))[:, lids]
        assert not shown[-1].any()
        blinked |= shown.max() == 1.0
    assert blinked
