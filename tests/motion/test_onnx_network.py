"""The network of onnxruntime against that of torch, with the same weights in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from motion_networks import small_model

from moda.config import preset
from moda.encoders.whisper import (
    SpeechEncoder,
    log_mel_spectrogram,
    read_encoder_weights,
    sinusoids,
)
from moda.errors import CheckpointError
from moda.motion.hearing.listening import listen
from moda.motion.live.speaking import LiveSpeaker
from moda.motion.model import MotionTransformer
from moda.motion.onnx_network import OnnxNetwork, has_graph
from moda.motion.speaking import speak
from moda.options import SpeakingOptions
from moda.phones import Phone, PhoneSegment
from moda.structures import EmotionAt, Floats, RecentSpeech, Speech, Style
from moda.weights.motion_files import read_motion_file
from moda.weights.onnx_checkpoints import onnx_checkpoint
from speech_encoder_network import WhisperEncoder

CONFIG = preset("moda-tiny").motion
CONTEXT = CONFIG.speech_embedder.context
LENGTHS = (1, 7, 80, 200)


@pytest.fixture(scope="module")
def torch_network() -> MotionTransformer:
    """Of moda-tiny's sizes, with nothing at its zero start."""
    return small_model(config=CONFIG, seed=5)


@pytest.fixture(scope="module")
def network(torch_network: MotionTransformer) -> OnnxNetwork:
    weights = {name: value.numpy() for name, value in torch_network.state_dict().items()}
    return OnnxNetwork(CONFIG, weights)


def numbers(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def heard(num_frames: int) -> Floats:
    """Features with silence around them."""
    values = numbers(num_frames + 2 * CONTEXT, CONFIG.speech.size)
    values[:CONTEXT] = values[len(values) - CONTEXT :] = 0.0
    return values


def assert_close(found: Any, expected: Any, atol: float = 1e-5) -> None:
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), atol=atol, rtol=1e-4)


@pytest.mark.parametrize("num_frames", LENGTHS)
def test_hearing(network: OnnxNetwork, torch_network: MotionTransformer, num_frames: int) -> None:
    found, expected = (net.hear(heard(num_frames)) for net in (network, torch_network))
    assert_close(found.phones, expected.phones)
    assert_close(found.voice, expected.voice, atol=1e-3)
    assert_close(network.mean_of(heard(num_frames)), torch_network.mean_of(heard(num_frames)))
    assert_close(network.emotion_offsets(), torch_network.emotion_offsets())


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize(("emotion", "intensity"), [(8, 1.0), (3, 0.4), (0, 1.0)])
@pytest.mark.parametrize("num_frames", LENGTHS)
def test_every_call_of_a_step(
    network: OnnxNetwork,
    torch_network: MotionTransformer,
    num_frames: int,
    emotion: int,
    intensity: float,
    guided: bool,
) -> None:
    noisy, previous = numbers(1, num_frames, CONFIG.generated_size), numbers(1, 1, 33, seed=1)
    timesteps = np.array([[1000.0], [640.0], [3.0]], np.float32)

    def steps(net: Any) -> list[Sequence[Floats]]:
        with net.inference():
            conditions = net.encode(heard(num_frames), emotion, intensity, numbers(63))
            if guided:
                conditions = net.with_unconditional(conditions)
            modulations = net.modulations(net.array(timesteps), conditions.emotion)
            velocity = net.predict(
                net.array(noisy), net.array(previous), [part[1] for part in modulations], conditions
            )
            return [conditions, modulations, [velocity, net.decode(velocity)]]

    for found, expected in zip(steps(network), steps(torch_network), strict=True):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    kept = network.represent(numbers(1, 5, 33))
    assert_close(kept, torch_network.represent(torch.from_numpy(numbers(1, 5, 33))))


def spoken(num_frames: int) -> Speech:
    return Speech(
        numbers(num_frames, CONFIG.speech.size),
        np.ones(num_frames, np.float32),
        loudness=numbers(num_frames),
    )


def test_from_speech_to_motion_with_phones_and_emotions(
    network: OnnxNetwork, torch_network: MotionTransformer
) -> None:
    file = read_motion_file("moda-tiny")
    phones = (
        PhoneSegment("p", 1.0, 1.2, (Phone.BILABIAL,)),
        PhoneSegment("", 1.2, 6.0, (Phone.SILENCE,)),
    )
    style = Style((EmotionAt(0.0, "happy", 0.6), EmotionAt(4.0, "sad", 1.0)))
    options = SpeakingOptions(seed=3, guidance_scale=2.0, style=style, phones=phones)

    def motion(net: Any) -> Floats:
        parts = speak(
            net, file.space, file.config.sampler, [spoken(150)], identity=numbers(63),
            options=options,
        )  # fmt: skip
        return np.concatenate([part.values for part in parts])

    found, expected = motion(network), motion(torch_network)
    assert found.shape == (150, 33)
    assert found.std(0).max() > 0.01
    assert_close(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found, motion(network))
    for one, other in zip(
        listen(network, [spoken(60)]), listen(torch_network, [spoken(60)]), strict=True
    ):
        assert_close(one.closure, other.closure, atol=1e-4)
        np.testing.assert_array_equal(one.activity, other.activity)


def test_live(network: OnnxNetwork, torch_network: MotionTransformer) -> None:
    file = read_motion_file("moda-tiny")

    def motion(net: Any) -> Floats:
        speaker = LiveSpeaker(
            net, file.space, file.config.sampler, identity=numbers(63),
            options=SpeakingOptions(seed=1, guidance_scale=2.0), look_ahead=6,
        )  # fmt: skip
        features = numbers(speaker.num_frames + 20, CONFIG.speech.size)
        rows = []
        for end in range(speaker.num_frames, len(features)):
            recent = features[end - speaker.num_frames : end]
            flat = np.ones(len(recent), np.float32)
            rows.append(speaker.hear(RecentSpeech(recent, flat, flat, 2)).values)
        return np.concatenate(rows)

    found = motion(network)
    assert found.std(0).max() > 0.01
    assert_close(found, motion(torch_network), atol=1e-4)


def test_the_speech_encoder() -> None:
    """The weights are others than those of the package, so that no constant can stand for one."""
    generator = np.random.default_rng(0)
    weights = {
        name: value + 0.02 * generator.normal(size=value.shape).astype(np.float32)
        for name, value in read_encoder_weights().items()
    }
    encoder = WhisperEncoder.of(weights)
    for num_tokens in (2, 49, 300):
        samples = 0.1 * numbers(320 * num_tokens)
        mel = torch.from_numpy(log_mel_spectrogram(samples))[None]
        with torch.inference_mode():
            expected = encoder(mel, torch.from_numpy(sinusoids(num_tokens, encoder.size)))[0]
        assert_close(SpeechEncoder(weights).encode(samples), expected, atol=1e-4)
        newest = SpeechEncoder(weights).encode(samples, newest=num_tokens // 2)
        assert_close(newest, expected[-(num_tokens // 2) :], atol=1e-4)


def test_a_graph_keeps_no_hold_of_the_weights_it_was_given() -> None:
    weights = read_encoder_weights()
    encoder, samples = SpeechEncoder(weights), np.sin(np.arange(8000, dtype=np.float32))
    expected = encoder.encode(samples)
    for array in weights.values():
        array.fill(0.0)
    np.testing.assert_array_equal(encoder.encode(samples), expected)


def test_which_networks_have_a_graph() -> None:
    assert has_graph(read_motion_file("moda-tiny").config.motion)
    assert has_graph(replace(CONFIG, window=40, overlap=8))
    assert not has_graph(replace(CONFIG, hidden=256))
    assert not has_graph(preset("moda-base").motion)


def test_weights_that_do_not_fit_are_named() -> None:
    file = read_motion_file("moda-tiny")
    weights = dict(file.weights)
    weights["motion_embedder.first.weight"] = np.zeros((2, 3), np.float32)
    with pytest.raises(CheckpointError, match=r"motion_embedder\.first\.weight is \(2, 3\)"):
        onnx_checkpoint(file._replace(weights=weights))
    del weights["motion_embedder.first.weight"]
    with pytest.raises(CheckpointError, match=r"missing: motion_embedder\.first\.weight"):
        onnx_checkpoint(file._replace(weights=weights))
