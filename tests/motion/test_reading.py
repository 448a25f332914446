"""What is read from tokens: against loops over frames, and the same in windows as in the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from motion_networks import small_model
from numpy.typing import NDArray

from moda.config import preset
from moda.motion.model import MotionTransformer
from moda.motion.reading import SpeechReader

CHANNELS = 12
NUM_FRAMES = 90
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def reader() -> SpeechReader:
    embedder = small_model("reader").speech_embedder
    assert isinstance(embedder, SpeechReader)
    return embedder


@pytest.fixture(scope="module")
def features(reader: SpeechReader) -> torch.Tensor:
    """(1, T + 2 * context, F) a recording with nothing around it."""
    context = reader.config.context
    sound = torch.randn(1, NUM_FRAMES, 27, generator=torch.Generator().manual_seed(5))
    return torch.nn.functional.pad(sound, (0, 0, context, context))


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()


def standard_tokens(reader: SpeechReader, features: torch.Tensor) -> Array:
    """(2 L, C) token by token; what is unknown is 0, the mean."""
    rows = []
    for frame in array(features[0]):
        for half in range(2):
            token = frame[half * CHANNELS : (half + 1) * CHANNELS]
            scaled = (token - array(reader.token_mean)) / array(reader.token_scale)
            rows.append(scaled if token.any() else np.zeros(CHANNELS))
    return np.array(rows)


def gelu(values: Array) -> Array:
    """Exactly, by the error function."""
    return 0.5 * values * (1.0 + np.vectorize(math.erf)(values / math.sqrt(2.0)))


def linear(module: torch.nn.Module, values: Array) -> Array:
    weight, bias = (array(getattr(module, name)) for name in ("weight", "bias"))
    return values @ weight.T + bias


def convolution(module: torch.nn.Module, rows: Array) -> Array:
    """One output of a convolution, of as many rows (N, C) as its kernel has."""
    weight, bias = (array(getattr(module, name)) for name in ("weight", "bias"))
    return np.einsum("ocn,nc->o", weight, rows) + bias


def phones_of(reader: SpeechReader, features: torch.Tensor) -> Array:
    """(2 T, P) logits, phone by phone."""
    tokens, context = standard_tokens(reader, features), reader.config.context
    first, _, second = reader.phone_head
    logits = []
    for middle in range(2 * context, len(tokens) - 2 * context):
        inner = gelu(convolution(first, tokens[middle - 3 : middle + 4]))
        logits.append(convolution(second, inner[None]))
    return np.array(logits)


@torch.inference_mode()
def test_halves_are_the_tokens_in_their_order(reader: SpeechReader, features: torch.Tensor) -> None:
    halves = array(reader.halves(features)[0]).T
    np.testing.assert_allclose(halves, standard_tokens(reader, features), atol=1e-6)


@torch.inference_mode()
def test_the_mouth_is_a_linear_map_of_three_frames(
    reader: SpeechReader, features: torch.Tensor
) -> None:
    frames = standard_tokens(reader, features).reshape(-1, 2, CHANNELS).mean(1)
    context = reader.config.context
    expected = [
        linear(reader.mouth_head, frames[k - 1 : k + 2].reshape(-1))
        for k in range(context, context + NUM_FRAMES)
    ]
    np.testing.assert_allclose(array(reader.mouth(features)[0]), expected, atol=1e-5)


@torch.inference_mode()
def test_phones_have_one_layer_between(reader: SpeechReader, features: torch.Tensor) -> None:
    found = array(reader.phone_logits(features)[0]).T
    assert found.shape == (2 * NUM_FRAMES, reader.config.num_phones)
    np.testing.assert_allclose(found, phones_of(reader, features), atol=1e-5)


@torch.inference_mode()
def test_voices_are_judged_by_means_and_spreads(
    reader: SpeechReader, features: torch.Tensor
) -> None:
    logits = phones_of(reader, features)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    phones = (weights / weights.sum(1, keepdims=True)).reshape(NUM_FRAMES, 2, -1).mean(1)
    frames = standard_tokens(reader, features).reshape(-1, 2, CHANNELS).mean(1)
    context = reader.config.context
    compressed = linear(reader.compress, frames[context : context + NUM_FRAMES])
    heard = np.concatenate([phones, compressed], axis=1)
    expected = []
    for frame in range(NUM_FRAMES):
        inputs = []
        for span in reader.config.voice_spans:
            near = heard[max(0, frame - span // 2) : frame + span // 2 + 1]
            inputs += [near.mean(0), np.sqrt(near.var(0) + 1e-6)]
        expected.append(linear(reader.voice_head, np.concatenate(inputs))[0])
    np.testing.assert_allclose(array(reader.voice_logits(features)[0]), expected, atol=1e-4)


@torch.inference_mode()
def test_the_transformer_is_told_components_and_prosody(
    reader: SpeechReader, features: torch.Tensor
) -> None:
    frames = standard_tokens(reader, features).reshape(-1, 2, CHANNELS).mean(1)
    heard = np.concatenate([linear(reader.compress, frames), array(features[0, :, -3:])], axis=1)
    context = reader.config.context
    expected = []
    for k in range(context, context + NUM_FRAMES):
        token = linear(reader.linear, gelu(convolution(reader.hear, heard[k - 2 : k + 3])))
        size = np.sqrt((token**2).mean() + reader.norm.eps)
        expected.append(token / size * array(reader.norm.weight))
    np.testing.assert_allclose(array(reader(features)[0]), expected, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("start", "length"), [(0, 1), (3, 40), (50, 40), (89, 1)])
def test_a_window_is_read_as_the_whole_recording(
    reader: SpeechReader, features: torch.Tensor, start: int, length: int
) -> None:
    window = features[:, start : start + length + 2 * reader.config.context]
    for read in (reader, reader.mouth):
        expected = read(features)[:, start : start + length]
        torch.testing.assert_close(read(window), expected, atol=1e-5, rtol=0)
    expected = reader.phone_logits(features)[..., 2 * start : 2 * (start + length)]
    torch.testing.assert_close(reader.phone_logits(window), expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_voices_of_a_window_are_the_recordings_a_span_inside_of_it(
    reader: SpeechReader, features: torch.Tensor
) -> None:
    reach = reader.config.voice_reach
    assert reach == 10
    whole = reader.voice_logits(features)
    window = reader.voice_logits(features[:, 20 : 20 + 50 + 2 * reader.config.context])
    inside = slice(reach, 50 - reach)
    expected = whole[:, 20:70]
    torch.testing.assert_close(window[:, inside], expected[:, inside], atol=1e-4, rtol=0)
    assert (window - expected)[:, 0].abs().max() > 1e-3, "the edge hears less"


@torch.inference_mode()
def test_what_is_outside_the_recording_counts_as_the_mean(
    reader: SpeechReader, features: torch.Tensor
) -> None:
    """The mean itself, told in so many words, changes nothing but the prosody's zeros."""
    context = reader.config.context
    mean = torch.cat([reader.token_mean, reader.token_mean])
    told = features.clone()
    told[:, :context, :-3] = mean
    told[:, -context:, :-3] = mean
    for read in (reader, reader.mouth, reader.phone_logits, reader.voice_logits):
        torch.testing.assert_close(read(told), read(features), atol=1e-5, rtol=0)
    other = features.clone()
    other[:, :context, :-3] = mean + 1.0
    assert (reader.mouth(other) - reader.mouth(features)).abs().max() > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("forward", 45 - 2, 45 + 2),
        ("mouth", 45 - 1, 45 + 1),
        ("phone_logits", 2 * 45 - 3, 2 * 45 + 1 + 3),
        ("voice_logits", 45 - 2 - 10, 45 + 2 + 10),
    ],
)
def test_a_frame_is_heard_so_far_and_no_further(
    reader: SpeechReader, features: torch.Tensor, name: str, first: int, last: int
) -> None:
    changed = features.clone()
    changed[:, 45 + reader.config.context] += 1.0
    read = getattr(reader, name)
    difference = (read(changed) - read(features)).abs()[0]
    if name == "phone_logits":
        difference = difference.T
    touched = difference.reshape(len(difference), -1).amax(1).nonzero().ravel().tolist()
    assert touched == list(range(first, last + 1))


def test_the_heads_are_fitted_before_and_frozen() -> None:
    model = MotionTransformer(preset("moda-tiny").motion)
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    frozen = {name.split(".")[0] for name, w in reader.named_parameters() if not w.requires_grad}
    trained = {name.split(".")[0] for name, w in reader.named_parameters() if w.requires_grad}
    assert frozen == {"compress", "mouth_head", "phone_head", "voice_head"}
    assert trained == {"hear", "linear", "norm", "null_speech"}
    learning = {id(weight) for weight in reader.layer_parameters()}
    assert learning == {
        id(weight)
        for name, weight in reader.named_parameters()
        if weight.requires_grad and name != "null_speech"
    }
    outside = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert all(name.startswith("speech_embedder.") for name in outside)


def test_nothing_of_the_flow_reaches_the_mouth() -> None:
    """In training mode the mouth and the phones are read without dropout."""
    model = small_model("reader").train()
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    sound = torch.randn(1, 30, 27, generator=torch.Generator().manual_seed(6))
    for read in (reader.mouth, reader.phone_logits, reader.voice_logits):
        assert torch.equal(read(sound), read(sound))
        assert not read(sound).requires_grad
    assert reader(sound).requires_grad
    assert not torch.equal(reader(sound), reader(sound)), "the transformer's speech has dropout"
