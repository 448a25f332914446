"""The parts of the transformer against loops written from the description, in float64 numpy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from motion_networks import small_config, small_model
from numpy.typing import NDArray
from torch import nn

from moda.motion.layers import (
    JointBlock,
    attend,
    gelu_,
    no_positions,
    rms_norm,
    rotary_positions,
    rotate,
    time_frequencies,
)
from moda.motion.model import MotionTransformer
from moda.motion.speech_embedder import SpeechConv

CPU = torch.device("cpu")
Array = NDArray[np.float64]


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().double().numpy()


def linear(module: nn.Module, values: Array) -> Array:
    weight, bias = (array(getattr(module, name)) for name in ("weight", "bias"))
    return values @ weight.T + bias


def rms(values: Array, eps: float) -> Array:
    return values / np.sqrt((values**2).mean(-1, keepdims=True) + eps)


def gelu(values: Array) -> Array:
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
    return 0.5 * values * (1 + np.tanh(inner))


def turn(vector: Array, frame: int | None, base: float) -> Array:
    """Rotary position of one head's vector, as complex numbers."""
    if frame is None:
        return vector
    pairs = vector[0::2] + 1j * vector[1::2]
    index = np.arange(len(pairs))
    pairs = pairs * np.exp(1j * frame * base ** (-2 * index / len(vector)))
    turned = np.empty_like(vector)
    turned[0::2], turned[1::2] = pairs.real, pairs.imag
    return turned


def loop_attention(q: Array, k: Array, v: Array, frames: list[int | None], base: float) -> Array:
    """(N, H, d) each, token by token and head by head -> (N, H*d)."""
    num_tokens, num_heads, size = q.shape
    out = np.zeros((num_tokens, num_heads, size))
    for head in range(num_heads):
        keys = np.array([turn(k[t, head], frames[t], base) for t in range(num_tokens)])
        for token in range(num_tokens):
            logits = keys @ turn(q[token, head], frames[token], base) / math.sqrt(size)
            weights = np.exp(logits - logits.max())
            out[token, head] = weights @ v[:, head] / weights.sum()
    return out.reshape(num_tokens, -1)


def loop_joint_block(
    block: JointBlock, streams: list[Array], condition: Array, frames: list[int | None], base: float
) -> list[Array]:
    """One clip through a joint block: streams of (N, C)."""
    width = streams[0].shape[1]
    weights: list[Any] = list(block.streams)
    modulations, parts = [], []
    for own, tokens in zip(weights, streams, strict=True):
        modulation = np.split(linear(own.modulation.linear, condition), 6)
        modulations.append(modulation)
        shift, scale = modulation[:2]
        qkv = linear(own.qkv, rms(tokens, 1e-6) * (1 + scale) + shift)
        q, k, v = (
            qkv[:, i * width : (i + 1) * width].reshape(len(tokens), own.num_heads, -1)
            for i in range(3)
        )
        q = rms(q, 1e-5) * array(own.query_norm.weight)
        k = rms(k, 1e-5) * array(own.key_norm.weight)
        parts.append((q, k, v))
    q, k, v = (np.concatenate(part) for part in zip(*parts, strict=True))
    attended = loop_attention(q, k, v, frames, base)
    results, start = [], 0
    for own, tokens, modulation in zip(weights, streams, modulations, strict=True):
        _, _, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        tokens = tokens + gate * linear(own.projection, attended[start : start + len(tokens)])
        hidden = rms(tokens, 1e-6) * (1 + mlp_scale) + mlp_shift
        tokens = tokens + mlp_gate * linear(own.mlp.second, gelu(linear(own.mlp.first, hidden)))
        results.append(tokens)
        start += len(tokens)
    return results


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    return small_model()


@torch.inference_mode()
def test_four_stream_block_is_the_described_one(model: MotionTransformer) -> None:
    """With T copies of emotion and identity in loops, one token with ln T in the block."""
    num_frames, hidden, base = 5, 32, model.config.rope_base
    block: Any = model.four_stream_blocks[0]
    generator = torch.Generator().manual_seed(1)
    motion, speech = torch.randn(2, 1, num_frames, hidden, generator=generator)
    emotion, identity = torch.randn(2, 1, 1, hidden, generator=generator)
    condition = torch.randn(1, hidden, generator=generator)
    turns, bias = model._positions(num_frames, 1, CPU)[1:]
    rows = block.modulations(condition)
    found = block([motion, speech, emotion, identity], rows, turns, bias)
    copies = [array(part[0]).repeat(num_frames, axis=0) for part in (emotion, identity)]
    frames = [*range(num_frames), *range(num_frames), *[None] * (2 * num_frames)]
    expected = loop_joint_block(
        block, [array(motion[0]), array(speech[0]), *copies], array(condition[0]), frames, base
    )
    for part, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(array(part[0]), reference[: part.shape[1]], atol=2e-5)
        if part.shape[1] == 1:  # all copies have stayed equal
            assert np.ptp(reference, axis=0).max() < 1e-12


@torch.inference_mode()
def test_one_stream_block_is_the_described_one(model: MotionTransformer) -> None:
    hidden, base = 32, model.config.rope_base
    block: Any = model.one_stream_blocks[0]
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(1, 8, hidden, generator=generator)
    condition = torch.randn(1, hidden, generator=generator)
    single = rotary_positions(4, hidden // 2, base, device=CPU)
    rows = block.modulations(condition)
    found = block(tokens, rows, torch.cat((single, single)))

    z = array(tokens[0])
    shift, scale, gate = np.split(linear(block.modulation.linear, array(condition[0])), 3)
    normed = rms(z, 1e-6) * (1 + scale) + shift
    wide, keys_values = linear(block.query_and_inner, normed), linear(block.key_and_value, normed)
    q, k = (part.reshape(8, 2, -1) for part in (wide[:, :hidden], keys_values[:, :hidden]))
    q, k = (
        rms(part, 1e-5) * array(norm.weight)
        for part, norm in ((q, block.query_norm), (k, block.key_norm))
    )
    v = keys_values[:, hidden:].reshape(8, 2, -1)
    attended = loop_attention(q, k, v, [0, 1, 2, 3, 0, 1, 2, 3], base)
    branch = np.concatenate((attended, gelu(wide[:, hidden:])), axis=1)
    np.testing.assert_allclose(array(found[0]), z + gate * linear(block.output, branch), atol=2e-5)
    first = block(tokens, rows, torch.cat((single, single)), 3)
    torch.testing.assert_close(first, found[:, :3], atol=1e-6, rtol=1e-5)


def test_a_bias_of_ln_n_counts_a_key_n_times() -> None:
    generator = torch.Generator().manual_seed(3)
    query, key, value = torch.randn(3, 1, 2, 6, 8, generator=generator, dtype=torch.float64)
    bias = torch.zeros(6, dtype=torch.float64)
    bias[5] = math.log(80)
    repeated = [torch.cat((part[:, :, :5], *[part[:, :, 5:]] * 80), dim=2) for part in (key, value)]
    torch.testing.assert_close(attend(query, key, value, bias), attend(query, *repeated))


def test_rotary_positions_only_matter_relative_to_each_other() -> None:
    generator = torch.Generator().manual_seed(4)
    query, key = torch.randn(2, 8, generator=generator)
    frames = rotary_positions(60, 8, 256.0, device=CPU)
    turned = [rotate(vector.expand(1, 1, 60, 8), frames)[0, 0] for vector in (query, key)]
    logits = turned[0] @ turned[1].T
    for shift in (-7, 0, 13):
        diagonal = logits.diagonal(shift)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert logits[0, 0] != logits[0, 13]


def test_rotation_turns_adjacent_pairs_and_keeps_lengths() -> None:
    frames = rotary_positions(3, 4, 256.0, device=CPU)
    unit = torch.tensor([1.0, 0.0, 0.0, 1.0]).expand(1, 1, 3, 4)
    angle = 2 * 256.0 ** (-2 / 4)
    expected = torch.tensor([math.cos(2), math.sin(2), -math.sin(angle), math.cos(angle)])
    torch.testing.assert_close(rotate(unit, frames)[0, 0, 2], expected)
    still = no_positions(3, 4, device=CPU)
    assert torch.equal(rotate(unit, still), unit)


def test_gelu_is_the_described_one_in_place_or_with_gradients() -> None:
    wide = 3 * torch.randn(2, 70, 40, generator=torch.Generator().manual_seed(7))
    expected = gelu(array(wide))
    with torch.no_grad():
        part = wide.clone()
        gelu_(part[..., 8:])
        np.testing.assert_allclose(array(part[..., 8:]), expected[..., 8:], atol=2e-6)
        assert torch.equal(part[..., :8], wide[..., :8])
    kept = wide.clone().requires_grad_()
    result = gelu_(kept)
    np.testing.assert_allclose(array(result), expected, atol=2e-6)
    assert torch.equal(kept, wide)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert kept.grad is not None
    slope = (gelu(array(wide) + 1e-6) - gelu(array(wide) - 1e-6)) / 2e-6
    np.testing.assert_allclose(array(kept.grad), slope, atol=1e-5)


def test_rms_norm_is_the_described_one() -> None:
    generator = torch.Generator().manual_seed(8)
    values = torch.randn(3, 5, 16, generator=generator)
    values[0, 0] = 0
    weight = torch.randn(16, generator=generator)
    for eps in (1e-6, 1e-1):
        expected = rms(array(values), eps)
        np.testing.assert_allclose(array(rms_norm(values, eps)), expected, atol=1e-6)
        weighted = rms_norm(values, eps, weight)
        np.testing.assert_allclose(array(weighted), expected * array(weight), atol=1e-6)


def test_time_frequencies() -> None:
    sinusoids = time_frequencies(torch.tensor([7.0]))[0]
    assert sinusoids.shape == (256,)
    for index in (0, 1, 127):
        angle = 7.0 * math.exp(-math.log(10_000) * index / 128)
        assert sinusoids[index].item() == pytest.approx(math.cos(angle), abs=1e-6)
        assert sinusoids[128 + index].item() == pytest.approx(math.sin(angle), abs=1e-6)


@torch.inference_mode()
def test_a_speech_token_is_the_same_in_every_window(model: MotionTransformer) -> None:
    embedder = model.speech_embedder
    assert isinstance(embedder, SpeechConv)
    context = embedder.config.context
    sound = torch.randn(1, 120, 24, generator=torch.Generator().manual_seed(5))
    whole = embedder(sound)
    for start, length in ((0, 1), (3, 40), (50, 46)):
        window = embedder(sound[:, start : start + length + 2 * context])
        expected = whole[:, start : start + length]
        torch.testing.assert_close(window, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_speech_token_sees_its_context_and_no_further(model: MotionTransformer) -> None:
    embedder = model.speech_embedder
    sound = torch.randn(1, 90, 24, generator=torch.Generator().manual_seed(6))
    changed = sound.clone()
    changed[:, 45] += 1.0
    difference = (embedder(changed) - embedder(sound)).abs().amax(-1)[0]
    touched = difference.nonzero().flatten() + small_config().speech_embedder.before
    assert touched.min() == 45 - 9
    assert touched.max() == 45 + 15
