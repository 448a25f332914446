"""MoDA-base as the released implementation computes it: the baseline of the sampler's benchmark.

Written from a description of the released network, as functions over its weights under their
official names, and deliberately without any short cut: every step embeds the conditions again,
makes every rotary table and every modulation again, and carries 320 tokens through every block.

Axis letters: B batch, T frames, N tokens, C hidden channels, H heads, d channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_FRAMES = 80
HEAD_SIZE = 64
NONE_EMOTION = 8
SPEECH_STREAMS = ("1", "2", "3")

Weights = Mapping[str, Tensor]


def linear(weights: Weights, name: str, values: Tensor) -> Tensor:
    return F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])


def rms(values: Tensor, eps: float) -> Tensor:
    return values * torch.rsqrt(values.pow(2).mean(dim=-1, keepdim=True) + eps)


def modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return rms(tokens, 1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def modulation(weights: Weights, name: str, condition: Tensor, num_chunks: int) -> list[Tensor]:
    return list(linear(weights, f"{name}.1", F.silu(condition)).chunk(num_chunks, dim=-1))


def mlp(weights: Weights, name: str, tokens: Tensor) -> Tensor:
    inner = F.gelu(linear(weights, f"{name}.fc1", tokens), approximate="tanh")
    return linear(weights, f"{name}.fc2", inner)


def rotary_table(num_frames: int) -> tuple[Tensor, Tensor]:
    frequency = 256.0 ** (-torch.arange(0, 64, 2).float() / 64)
    angle = torch.outer(torch.arange(num_frames).float(), frequency)
    return angle.cos(), angle.sin()


def rotate(heads: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = table
    even, odd = heads[..., 0::2], heads[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)


def split_heads(
    weights: Weights, attention: str, qkv: Tensor, stream: str, number: str = ""
) -> list[Tensor]:
    """Normed query and key, and value, each (B, H, N, d), from (B, N, 3C)."""
    batch, num_tokens, _ = qkv.shape
    parts = qkv.view(batch, num_tokens, 3, -1, HEAD_SIZE).permute(2, 0, 3, 1, 4)
    normed = [
        rms(part, 1e-5) * weights[f"{attention}.{stream}_{kind}_norm{number}.weight"]
        for part, kind in zip(parts[:2], "qk", strict=True)
    ]
    return [*normed, parts[2]]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)


def joint_block(
    weights: Weights, block: str, streams: list[Tensor], condition: Tensor, num_turned: int
) -> list[Tensor]:
    """Streams with weights of their own; the first ``num_turned`` carry rotary positions."""
    numbers = SPEECH_STREAMS if len(streams) == 4 else ("",)
    names = [("xs", "xs", ""), *(("au", "audio", number) for number in numbers)]
    chunks, heads = [], []
    for index, (tokens, (short, long, number)) in enumerate(zip(streams, names, strict=True)):
        head = f"{block}.adaLN_modulation_{long}{number}"
        chunks.append(modulation(weights, head, condition, 6))
        shift, scale, *_ = chunks[-1]
        qkv = linear(weights, f"{block}.attn1.qkv_{short}{number}", modulate(tokens, shift, scale))
        query, key, value = split_heads(weights, f"{block}.attn1", qkv, short, number)
        if index < num_turned:
            cos, sin = rotary_table(NUM_FRAMES)
            repeats = tokens.shape[1] // NUM_FRAMES
            table = cos.repeat(repeats, 1), sin.repeat(repeats, 1)
            query, key = rotate(query, table), rotate(key, table)
        heads.append((query, key, value))
    query, key, value = (torch.cat(parts, dim=2) for parts in zip(*heads, strict=True))
    lengths = [part.shape[1] for part in streams]
    attended = torch.split(attend(query, key, value), lengths, dim=1)
    results = []
    for tokens, seen, chunk, (short, long, number) in zip(
        streams, attended, chunks, names, strict=True
    ):
        _, _, gate, mlp_shift, mlp_scale, mlp_gate = chunk
        projected = linear(weights, f"{block}.attn1.{short}_proj{number}", seen)
        tokens = tokens + gate.unsqueeze(1) * projected
        inner = mlp(weights, f"{block}.{long}_mlp{number}", modulate(tokens, mlp_shift, mlp_scale))
        results.append(tokens + mlp_gate.unsqueeze(1) * inner)
    return results


def one_stream_block(weights: Weights, block: str, tokens: Tensor, condition: Tensor) -> Tensor:
    shift, scale, gate = modulation(weights, f"{block}.adaLN_modulation_xs", condition, 3)
    wide = linear(weights, f"{block}.qkv_xs", modulate(tokens, shift, scale))
    hidden = tokens.shape[-1]
    qkv, inner = torch.split(wide, [3 * hidden, 4 * hidden], dim=-1)
    query, key, value = split_heads(weights, f"{block}.attn1", qkv, "xs")
    turned = []
    for part in (query, key):
        motion, others = torch.split(part, [NUM_FRAMES, 3 * NUM_FRAMES], dim=2)
        cos, sin = rotary_table(NUM_FRAMES)
        others = rotate(others, (cos.repeat(3, 1), sin.repeat(3, 1)))
        turned.append(torch.cat((rotate(motion, (cos, sin)), others), dim=2))
    seen = attend(turned[0], turned[1], value)
    both = torch.cat((seen, F.gelu(inner, approximate="tanh")), dim=-1)
    return tokens + gate.unsqueeze(1) * linear(weights, f"{block}.linear2", both)


def embed(weights: Weights, name: str, values: Tensor) -> Tensor:
    return linear(weights, f"{name}.mlp.2", F.silu(linear(weights, f"{name}.mlp.0", values)))


def num_blocks(weights: Weights) -> list[int]:
    """Of four, two and one streams."""
    names = [f"{kind}." for kind in ("blocks4", "blocks2", "blocks")]
    return [len({key.split(".")[1] for key in weights if key.startswith(name)}) for name in names]


def velocity(
    weights: Weights,
    counts: Sequence[int],
    motion: Tensor,
    times: Tensor,
    speech: Tensor,
    emotion: Tensor,
    keypoints: Tensor,
) -> Tensor:
    """Velocity (B, 80, 70).

    ``motion`` (B, 80, 140) holds the previous and the noisy motion, ``times`` (B,) are in
    1..1000, ``speech`` is (B, 80, 1, 12, 768), ``emotion`` (B,) labels, and ``keypoints``
    (B, 80, 63) the same row 80 times. ``counts`` are those of the blocks. The names of ``weights``
    begin after ``talking_head_dit.``.
    """
    x = embed(weights, "motion_embedder", motion)
    frequency = torch.exp(-math.log(10_000.0) * torch.arange(128).float() / 128)
    angle = times[:, None] * frequency
    time = embed(weights, "time_embedder", torch.cat((angle.cos(), angle.sin()), dim=-1))
    label = F.embedding(emotion, weights["emo_embedder.embedding_table.weight"])
    inner = F.relu(linear(weights, "audio_embedder.proj1", speech.flatten(2)))
    inner = F.relu(linear(weights, "audio_embedder.proj2", inner))
    inner = linear(weights, "audio_embedder.proj3", inner)
    audio = rms(inner, 1e-6) * weights["audio_embedder.norm.weight"]
    identity = embed(weights, "identity_embedder", keypoints.mean(dim=1))
    condition = time + label

    repeated = [row.unsqueeze(1).repeat(1, NUM_FRAMES, 1) for row in (label, identity)]
    streams = [x, audio, *repeated]
    for index in range(counts[0]):
        streams = joint_block(weights, f"blocks4.{index}", streams, condition, num_turned=2)
    streams = [streams[0], torch.cat(streams[1:], dim=1)]
    for index in range(counts[1]):
        streams = joint_block(weights, f"blocks2.{index}", streams, condition, num_turned=2)
    tokens = torch.cat(streams, dim=1)
    for index in range(counts[2]):
        tokens = one_stream_block(weights, f"blocks.{index}", tokens, condition)
    shift, scale = modulation(weights, "final_layer.adaLN_modulation", condition, 2)
    return linear(weights, "final_layer.linear", modulate(tokens[:, :NUM_FRAMES], shift, scale))


@torch.inference_mode()
def sample_window(
    state: Weights,
    speech: Tensor,
    emotion: int,
    keypoints: Tensor,
    previous_motion: Tensor,
    noise: Tensor,
    *,
    num_steps: int = 10,
    guidance_scale: float = 1.2,
) -> Tensor:
    """Motion (1, 80, 70) by Euler's method with guidance, both halves as one batch.

    ``state`` is the official state dict; ``speech`` (1, 80, 1, 12, 768), ``keypoints`` (1, 63),
    ``previous_motion`` (1, 1, 70), ``noise`` (1, 80, 70).
    """
    prefix = "talking_head_dit."
    weights = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
    counts = num_blocks(weights)
    both_speech = torch.cat((state["null_audio_feat"].expand_as(speech), speech))
    both_emotions = torch.tensor([NONE_EMOTION, emotion])
    both_keypoints = keypoints.unsqueeze(1).repeat(2, NUM_FRAMES, 1)
    previous = previous_motion.repeat(2, NUM_FRAMES, 1)
    noisy = noise
    for time in torch.linspace(1000, 1, num_steps):
        sigma = time / 1000
        next_sigma = (sigma - (1 - 0.001) / (num_steps - 1)).clamp(min=0)
        motion = torch.cat((previous, noisy.repeat(2, 1, 1)), dim=-1)
        times = torch.tensor([float(time)] * 2)
        unconditional, conditional = velocity(
            weights, counts, motion, times, both_speech, both_emotions, both_keypoints
        ).chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        noisy = noisy + guided * (next_sigma - sigma)
    return noisy
