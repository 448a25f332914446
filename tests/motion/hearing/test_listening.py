"""What is heard in the sound, in pieces of any length: voices, closures, known phones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from motion_networks import small_model
from numpy.typing import NDArray
from torch import nn

from moda.motion.hearing import listening
from moda.motion.hearing.listening import (
    CLOSURE_CEILING,
    CLOSURE_FLOOR,
    CLOSURE_HINT,
    closures,
    join_speech,
    listen,
    tell_phones,
    widened,
    with_known_phones,
    with_known_voice,
    without_short_pauses,
)
from moda.motion.model import MotionTransformer
from moda.motion.reading import SpeechReader
from moda.motion.rules.idle import HINTED_CLOSURE
from moda.phones import Phone, PhoneSegment
from moda.structures import UNKNOWN_PHONE, Floats, Speech

NUM_FRAMES = 330


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    """Hears a voice about half of the time, and p, b and m surely or not at all."""
    model = small_model("reader")
    embedder = model.speech_embedder
    assert isinstance(embedder, SpeechReader)
    last = embedder.phone_head[2]
    assert isinstance(last, nn.Conv1d)
    assert last.bias is not None
    with torch.no_grad():
        last.weight *= 8.0
        last.bias[Phone.SILENCE] += 3.0
        last.bias[Phone.BILABIAL] += 3.5
        embedder.voice_head.bias += 0.45
    return model


@pytest.fixture(scope="module")
def speech() -> Speech:
    features = np.random.default_rng(0).standard_normal((NUM_FRAMES, 27)).astype(np.float32)
    loudness = np.repeat([0.3, 2.0, 0.3, 2.0], [90, 90, 90, 60]).astype(np.float32)
    features *= loudness[:, None]
    return Speech(features, np.ones(NUM_FRAMES, np.float32))


def cut(speech: Speech, length: int) -> Iterator[Speech]:
    for start in range(0, len(speech), length):
        yield speech[start : start + length]


def spoken_frames(reader: SpeechReader, tokens: Floats, shares: Floats) -> Floats:
    """What the voice head says of compressed tokens (T, K) and phones (T, 2, P), literally."""
    weight = reader.voice_head.weight[0].detach().numpy().astype(np.float64)
    bias = reader.voice_head.bias.item()
    frames = np.concatenate([shares.mean(1), tokens], axis=1).astype(np.float64)
    spoken = np.zeros(len(frames), np.float32)
    for index in range(len(frames)):
        inputs = []
        for span in reader.config.voice_spans:
            near = frames[max(0, index - span // 2) : index + span // 2 + 1]
            inputs += [near.mean(0), np.sqrt(near.var(0) + 1e-6)]
        spoken[index] = np.concatenate(inputs) @ weight + bias > 0.0
    return spoken


@pytest.mark.parametrize("length", [1, 37, NUM_FRAMES])
def test_pieces_do_not_matter(
    model: MotionTransformer, speech: Speech, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "VOICE_THRESHOLD", 0.0)  # the random head is balanced there
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    context = reader.config.context
    padded = torch.from_numpy(np.pad(speech.features, ((context, context), (0, 0))))[None]
    with torch.inference_mode():
        logits = reader.phone_logits(padded)[0].numpy()
        halves = reader.halves(padded)[0, :, 2 * context : -2 * context].T
        tokens = reader.compress(halves.reshape(NUM_FRAMES, 2, -1).mean(1)).numpy()
    weights = np.exp(logits - logits.max(0))
    shares = (weights / weights.sum(0)).T.reshape(NUM_FRAMES, 2, -1)
    voice = spoken_frames(reader, tokens, shares)
    heard = join_speech(list(listen(model, cut(speech, length))))
    assert heard.closure is not None
    assert len(heard) == NUM_FRAMES
    np.testing.assert_array_equal(heard.features, speech.features)
    np.testing.assert_array_equal(heard.activity, without_short_pauses(voice))
    np.testing.assert_allclose(heard.closure, closures(shares), atol=1e-4)
    assert set(heard.activity) == {0.0, 1.0}, "the test needs both"
    assert (heard.closure == 0.0).any()
    assert (heard.closure > 0.5).any()


def test_nothing_is_held_back_that_is_known(model: MotionTransformer, speech: Speech) -> None:
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    taken = 0

    def one_by_one() -> Iterator[Speech]:
        nonlocal taken
        for frame in cut(speech, 1):
            taken += 1
            yield frame

    # A phone is told 4 frames after it, the mean of 21 frames ten more, a pause to be a long one
    # fifteen more.
    ahead = reader.config.after + 10 + 15
    assert ahead == 29
    given = 0
    for part in listen(model, one_by_one()):
        given += len(part)
        assert given == taken - ahead or taken == NUM_FRAMES
    assert given == NUM_FRAMES


def test_silent_sound_stays_silent(model: MotionTransformer, speech: Speech) -> None:
    quiet = replace(speech, activity=np.zeros(NUM_FRAMES, np.float32))
    heard = join_speech(list(listen(model, [quiet])))
    assert not heard.activity.any()


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_a_model_that_reads_nothing_passes_speech_on(
    kind: Literal["conv", "mlp"], speech: Speech
) -> None:
    pieces = list(cut(speech, 40))
    assert [id(part) for part in listen(small_model(kind), pieces)] == [id(p) for p in pieces]


def test_no_speech_is_no_speech(model: MotionTransformer) -> None:
    assert list(listen(model, [])) == []


def test_loudness_and_features_pass_through(model: MotionTransformer, speech: Speech) -> None:
    loud = replace(speech, loudness=np.linspace(0, 8, NUM_FRAMES, dtype=np.float32))
    heard = join_speech(list(listen(model, cut(loud, 17))))
    assert heard.loudness is not None
    np.testing.assert_array_equal(heard.loudness, loud.loudness)
    assert join_speech(list(listen(model, cut(speech, 17)))).loudness is None


@pytest.mark.parametrize(
    ("where", "reach", "expected"),
    [("0001000", 2, "0111110"), ("1000001", 1, "1100011"), ("0000", 3, "0000"), ("1", 4, "1")],
)
def test_widening(where: str, reach: int, expected: str) -> None:
    wide = widened(np.array([sign == "1" for sign in where]), reach)
    assert "".join("1" if value else "0" for value in wide) == expected


def test_a_known_voice_wins_where_phones_are_known() -> None:
    phones = np.full((40, 2), UNKNOWN_PHONE, np.int8)
    phones[10:30] = Phone.SILENCE
    phones[20] = [Phone.SILENCE, Phone.A]
    heard = np.arange(40) % 2 == 0
    voice = with_known_voice(heard, phones)
    np.testing.assert_array_equal(voice[:10], heard[:10])
    np.testing.assert_array_equal(voice[30:], heard[30:])
    np.testing.assert_array_equal(np.flatnonzero(voice[10:30]) + 10, np.arange(16, 25))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1" * 5 + "0" * 14 + "1" * 5, "1" * 24),
        ("1" * 5 + "0" * 15 + "1" * 5, "1" * 5 + "0" * 15 + "1" * 5),
        ("1001" + "0" * 15 + "101", "1111" + "0" * 15 + "111"),
        ("0011" + "0" * 3 + "1100", "1" * 11),  # pauses at the ends are like all others
        ("0" * 15 + "11" + "0" * 15, "0" * 15 + "11" + "0" * 15),
        ("000", "000"),
        ("0" * 15, "0" * 15),
        ("111", "111"),
        ("", ""),
    ],
)
def test_lips_stay_open_in_short_pauses(text: str, expected: str) -> None:
    activity = np.array([float(sign) for sign in text], np.float32)
    bridged = without_short_pauses(activity)
    assert "".join(f"{value:.0f}" for value in bridged) == expected
    assert "".join(f"{value:.0f}" for value in activity) == text


def bilabial(*pairs: tuple[float, float]) -> Floats:
    shares = np.zeros((len(pairs), 2, len(Phone)), np.float32)
    shares[:, :, Phone.BILABIAL] = pairs
    shares[:, :, Phone.A] = 1.0 - shares[:, :, Phone.BILABIAL]
    return shares


def test_closures_rise_from_floor_to_ceiling() -> None:
    middle = 0.5 * (CLOSURE_FLOOR + CLOSURE_CEILING)
    shares = bilabial(
        (0.0, 0.0), (CLOSURE_FLOOR, 0.05), (middle, 0.0), (0.0, CLOSURE_CEILING), (1.0, 1.0)
    )
    np.testing.assert_allclose(closures(shares), [0.0, 0.0, 0.5, 1.0, 1.0], atol=1e-6)


def test_a_weak_peak_is_a_hint_and_no_closure() -> None:
    weak = 0.5 * (CLOSURE_HINT + CLOSURE_FLOOR)
    rising = bilabial((0.0, 0.0), (weak, 0.0), (weak + 0.01, 0.0), (0.02, 0.0))
    np.testing.assert_allclose(closures(rising), [0.0, 0.0, HINTED_CLOSURE, 0.0], atol=1e-6)
    too_weak = bilabial((0.0, 0.0), (0.9 * CLOSURE_HINT, 0.0), (0.0, 0.0))
    np.testing.assert_array_equal(closures(too_weak), 0.0)


def test_known_phones_win_where_they_are_known() -> None:
    shares = bilabial((1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0))
    unknown = UNKNOWN_PHONE
    phones = np.array(
        [
            [Phone.A, Phone.A],
            [Phone.BILABIAL, Phone.A],
            [unknown, unknown],
            [unknown, unknown],
            [Phone.SILENCE, unknown],
            [Phone.SILENCE, Phone.SILENCE],
        ],
        np.int8,
    )
    np.testing.assert_array_equal(
        closures(with_known_phones(shares, phones)), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    )


def test_what_is_told_is_what_closes(model: MotionTransformer, speech: Speech) -> None:
    segments = [
        PhoneSegment("p", 2.0, 2.2, (Phone.BILABIAL,)),
        PhoneSegment("a", 2.2, 2.6, (Phone.A,)),
    ]
    heard = join_speech(list(listen(model, tell_phones(cut(speech, 11), segments))))
    expected = np.zeros(NUM_FRAMES, np.float32)
    expected[50:55] = 1.0
    assert heard.closure is not None
    np.testing.assert_array_equal(heard.closure, expected)


def segments_with_a_pause(tick_seconds: float) -> list[PhoneSegment]:
    """Half a minute of phones that begin at multiples of a time, a pause in their middle."""
    generator = np.random.default_rng(3)
    segments, time = list[PhoneSegment](), 7
    for index in range(200):
        length = int(generator.integers(1, 40))
        phones = tuple(Phone(number) for number in generator.integers(1, 17, 1 + index % 2))
        end = time + length
        segments.append(PhoneSegment("?", time * tick_seconds, end * tick_seconds, phones))
        time = end + (150 if index == 100 else 0)
    return segments


def classes_at_centres(segments: list[PhoneSegment], num_frames: int) -> NDArray[np.int8]:
    """The class at the centre of the first and the third of the four hops of each frame."""
    found = np.zeros((num_frames, 2), np.int8)
    for frame in range(num_frames):
        for half in range(2):
            seconds = (4 * frame + 2 * half + 0.5) / 100
            for segment in segments:
                span = segment.end_seconds - segment.start_seconds
                for part, phone in enumerate(segment.phones):
                    begin = segment.start_seconds + span * part / len(segment.phones)
                    if begin <= seconds < segment.end_seconds:
                        found[frame, half] = phone
    return found


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("tick_seconds", [0.0049, 0.005])
def test_phones_are_told_by_the_time(length: int, tick_seconds: float) -> None:
    num_frames = 700
    speech = Speech(np.zeros((num_frames, 2), np.float32), np.zeros(num_frames, np.float32))
    segments = segments_with_a_pause(tick_seconds)
    told = join_speech(list(tell_phones(cut(speech, length), segments))).phones
    assert told is not None
    assert told.dtype == np.int8
    expected = classes_at_centres(segments, num_frames)
    assert (expected[:, 0] != expected[:, 1]).any()
    np.testing.assert_array_equal(told, expected)
