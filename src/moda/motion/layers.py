"""Parts of the motion transformer: rotary positions, modulation, attention, blocks.

Axis letters: B batch, T frames, N tokens, C hidden channels, H heads, d channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK_NORM_EPS = 1e-6
HEAD_NORM_EPS = 1e-5
NUM_TIME_FREQUENCIES = 128
MAX_TIME_PERIOD = 10_000.0
GELU_ROWS = 64
"""Tokens that a CPU works on at a time, so that they stay in its cache."""


def rotary_positions(
    num_frames: int, head_size: int, base: float, *, device: torch.device
) -> Tensor:
    """Rotations (T, d/2) of frames p = 0..T-1, complex: ``exp(i p base^(-2k/d))``.

    Source: RoFormer, arXiv 2104.09864, eq. 15.
    """
    exponent = torch.arange(0, head_size, 2, dtype=torch.float32, device=device) / head_size
    frame = torch.arange(num_frames, dtype=torch.float32, device=device)
    angle = torch.outer(frame, base**-exponent)
    return torch.view_as_complex(torch.stack((angle.cos(), angle.sin()), dim=-1))


def no_positions(num_tokens: int, head_size: int, *, device: torch.device) -> Tensor:
    """Rotations (N, d/2) by the angle 0: these tokens stay as they are."""
    return torch.ones(num_tokens, head_size // 2, dtype=torch.complex64, device=device)


def rotate(heads: Tensor, rope: Tensor) -> Tensor:
    """Rotate adjacent channel pairs (2k, 2k+1) of (B, H, N, d), as complex numbers, in float32."""
    pairs = rearrange(heads.float(), "... (pair two) -> ... pair two", two=2)
    return torch.view_as_real(torch.view_as_complex(pairs) * rope).flatten(-2)


def attend(query: Tensor, key: Tensor, value: Tensor, key_bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of (B, H, N, d); ``key_bias`` (N,) is added to every logit row.

    Returns (B, N_query, H*d). A bias of ln n on one key counts that key n times, exactly.
    """
    query, key = query.type_as(value), key.type_as(value)
    mask = None if key_bias is None else key_bias.type_as(value).expand(query.shape[2], -1)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return rearrange(attended, "batch head token channel -> batch token (head channel)")


@dataclass(frozen=True)
class Modulation:
    """What the conditioning vector does to one residual branch; each (B, 1, C)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Shift and scale normalised tokens (adaLN, DiT, arXiv 2212.09748, section 3.2)."""
        return torch.addcmul(self.shift, tokens, 1 + self.scale)


class ModulationHead(nn.Module):
    """Conditioning vectors (..., C), after their SiLU, -> (..., 3C) for every branch."""

    def __init__(self, hidden: int, num_branches: int) -> None:
        super().__init__()
        self.num_branches = num_branches
        self.linear = nn.Linear(hidden, 3 * num_branches * hidden)

    def forward(self, condition: Tensor) -> Tensor:
        return self.linear(condition)

    def split(self, modulations: Tensor) -> list[Modulation]:
        """One :class:`Modulation` per branch from what this head gives (B, 3C * branches)."""
        chunks = modulations.unsqueeze(1).chunk(3 * self.num_branches, dim=-1)
        return [Modulation(*chunks[3 * i : 3 * i + 3]) for i in range(self.num_branches)]


def rms_norm(values: Tensor, eps: float, weight: Tensor | None = None) -> Tensor:
    """``x / sqrt(mean(x^2) + eps)`` over the last axis, times ``weight``.

    PyTorch has one kernel for it on accelerators; on a CPU it takes seven passes, this takes three.
    """
    if values.device.type != "cpu":
        return F.rms_norm(values, values.shape[-1:], weight, eps)
    norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    normed = values * torch.rsqrt(norm.square() / values.shape[-1] + eps)
    return normed if weight is None else normed * weight


def block_norm(tokens: Tensor) -> Tensor:
    """RMS norm without weights over the channels."""
    return rms_norm(tokens, BLOCK_NORM_EPS)


class HeadNorm(nn.Module):
    """RMS norm over the channels of a head, with one weight for all heads; in float32."""

    def __init__(self, head_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_size))

    def forward(self, heads: Tensor) -> Tensor:
        return rms_norm(heads.float(), HEAD_NORM_EPS, self.weight)


def gelu_(values: Tensor) -> Tensor:
    """GELU in its tanh form (arXiv 1606.08415, section 2) of (B, N, C).

    In place on a CPU where no gradient is wanted: ``x (1 + tanh y) / 2`` is ``x sigmoid(2y)``,
    which takes half the time.
    """
    if values.device.type != "cpu" or torch.is_grad_enabled():
        return F.gelu(values, approximate="tanh")
    slope = 2 * math.sqrt(2 / math.pi)
    for piece in torch.split(values.flatten(0, 1), GELU_ROWS):
        gate = piece.square().mul_(0.044715 * slope).add_(slope)
        piece.mul_(gate.mul_(piece).sigmoid_())
    return values


class MLP(nn.Module):
    """Linear, GELU (tanh form), Linear."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, inner)
        self.second = nn.Linear(inner, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.second(gelu_(self.first(tokens)))


class Stream(nn.Module):
    """The weights that one token stream has in a joint block."""

    def __init__(self, hidden: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.modulation = ModulationHead(hidden, num_branches=2)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.query_norm = HeadNorm(hidden // num_heads)
        self.key_norm = HeadNorm(hidden // num_heads)
        self.projection = nn.Linear(hidden, hidden)
        self.mlp = MLP(hidden, inner)

    def heads(self, tokens: Tensor, modulation: Modulation) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value (B, H, N, d) of tokens (B, N, C), not yet rotated."""
        query, key, value = rearrange(
            self.qkv(modulation(block_norm(tokens))),
            "batch token (part head channel) -> part batch head token channel",
            part=3,
            head=self.num_heads,
        )
        return self.query_norm(query), self.key_norm(key), value

    def update(self, tokens: Tensor, attended: Tensor, modulations: list[Modulation]) -> Tensor:
        """Add both branches to the residual stream (B, N, C)."""
        attention, mlp = modulations
        tokens = torch.addcmul(tokens, attention.gate, self.projection(attended.contiguous()))
        return torch.addcmul(tokens, mlp.gate, self.mlp(mlp(block_norm(tokens))))


class JointBlock(nn.Module):
    """Streams with their own weights that meet in one attention (four-stream, two-stream)."""

    def __init__(self, num_streams: int, hidden: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(Stream(hidden, num_heads, inner) for _ in range(num_streams))

    def modulations(self, condition: Tensor) -> Tensor:
        """Conditioning vectors (..., C) -> (..., M), M = 6C for every stream."""
        return torch.cat([stream.modulation(condition) for stream in self._streams()], dim=-1)

    def forward(
        self,
        tokens: Sequence[Tensor],
        modulations: Tensor,
        rope: Tensor,
        key_bias: Tensor | None = None,
    ) -> list[Tensor]:
        """Streams of (B, N_i, C), modulations (B, M), rotations and bias of all N tokens."""
        streams = self._streams()
        modulated = [
            stream.modulation.split(own)
            for stream, own in zip(streams, modulations.chunk(len(streams), dim=-1), strict=True)
        ]
        heads = [
            stream.heads(part, modulation[0])
            for stream, part, modulation in zip(streams, tokens, modulated, strict=True)
        ]
        query, key, value = (torch.cat(parts, dim=2) for parts in zip(*heads, strict=True))
        attended = attend(rotate(query, rope), rotate(key, rope), value, key_bias)
        seen = torch.split(attended, [part.shape[1] for part in tokens], dim=1)
        return [
            stream.update(part, own, modulation)
            for stream, part, own, modulation in zip(streams, tokens, seen, modulated, strict=True)
        ]

    def _streams(self) -> list[Stream]:
        return cast("list[Stream]", list(self.streams))


class OneStreamBlock(nn.Module):
    """All tokens with one set of weights; attention and MLP side by side."""

    def __init__(self, hidden: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.sizes = [hidden, inner]
        self.modulation = ModulationHead(hidden, num_branches=1)
        self.query_and_inner = nn.Linear(hidden, hidden + inner)
        self.key_and_value = nn.Linear(hidden, 2 * hidden)
        self.query_norm = HeadNorm(hidden // num_heads)
        self.key_norm = HeadNorm(hidden // num_heads)
        self.output = nn.Linear(hidden + inner, hidden)

    def modulations(self, condition: Tensor) -> Tensor:
        """Conditioning vectors (..., C) -> (..., 3C)."""
        return self.modulation(condition)

    def forward(
        self, tokens: Tensor, modulations: Tensor, rope: Tensor, num_outputs: int | None = None
    ) -> Tensor:
        """(B, N, C) -> (B, num_outputs, C): only the first tokens are computed, seeing all."""
        (modulation,) = self.modulation.split(modulations)
        modulated = modulation(block_norm(tokens))
        first = slice(num_outputs)
        query, inner = torch.split(self.query_and_inner(modulated[:, first]), self.sizes, dim=-1)
        key, value = rearrange(
            self.key_and_value(modulated),
            "batch token (part head channel) -> part batch head token channel",
            part=2,
            head=self.num_heads,
        )
        query = rearrange(query, "batch token (head c) -> batch head token c", head=self.num_heads)
        query = rotate(self.query_norm(query), rope[first])
        attended = attend(query, rotate(self.key_norm(key), rope), value)
        branch = self.output(torch.cat((attended, gelu_(inner)), dim=-1))
        return torch.addcmul(tokens[:, first], modulation.gate, branch)


class FinalLayer(nn.Module):
    """Tokens (B, T, C) -> velocity (B, T, D)."""

    def __init__(self, hidden: int, motion_size: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(hidden, 2 * hidden)
        self.linear = nn.Linear(hidden, motion_size)

    def modulations(self, condition: Tensor) -> Tensor:
        """Conditioning vectors (..., C) -> (..., 2C)."""
        return self.modulation(condition)

    def forward(self, tokens: Tensor, modulations: Tensor) -> Tensor:
        shift, scale = modulations.unsqueeze(1).chunk(2, dim=-1)
        return self.linear(torch.addcmul(shift, block_norm(tokens), 1 + scale))


class Embedder(nn.Module):
    """Linear, SiLU, Linear on the last axis."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(size, hidden)
        self.second = nn.Linear(hidden, hidden)

    def forward(self, values: Tensor) -> Tensor:
        return self.second(F.silu(self.first(values)))


class DrawnDropout(nn.Dropout):
    """Dropout whose masks a training step may draw, so that they belong to the windows."""

    draw: Callable[[Tensor, float], Tensor] | None = None
    """Drops numbers of a tensor with a probability; None takes PyTorch's own numbers."""

    def forward(self, values: Tensor) -> Tensor:
        if self.training and self.draw is not None:
            return self.draw(values, self.p)
        return super().forward(values)


class SpeechEmbedder(nn.Module):
    """Speech features (B, ..., F) to one token (C,) per frame."""

    linear: nn.Linear
    norm: nn.RMSNorm
    null_speech: nn.Parameter

    def null_token(self) -> Tensor:
        """(C,) learned token that stands for an unknown sound."""
        return self.null_speech

    def layer_parameters(self) -> Iterator[nn.Parameter]:
        """All that turns sound into tokens, which is not what stands for an unknown sound."""
        return (value for name, value in self.named_parameters() if name != "null_speech")


def time_frequencies(timestep: Tensor) -> Tensor:
    """Sinusoids (..., 256) of time steps (...) in 1..1000: first cosines, then sines."""
    index = torch.arange(NUM_TIME_FREQUENCIES, dtype=torch.float32, device=timestep.device)
    frequency = torch.exp(-math.log(MAX_TIME_PERIOD) * index / NUM_TIME_FREQUENCIES)
    angle = timestep.float()[..., None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)
