"""Fusion by cross-attention: the alternative that coarse-to-fine fusion is measured against.

Motion looks at itself, then at the conditions, which stay as they are from block to block.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from moda.motion.layers import HeadNorm, ModulationHead, Stream, attend, block_norm, rotate


class CrossAttentionBlock(nn.Module):
    """Self-attention of the motion, its attention to the conditions, MLP; each with a modulation.

    Source: "Attention is all you need", arXiv 1706.03762, section 3.1 (the decoder's layer), with
    the modulation of DiT, arXiv 2212.09748, section 3.2.
    """

    def __init__(self, hidden: int, num_heads: int, inner: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.stream = Stream(hidden, num_heads, inner)
        self.modulation = ModulationHead(hidden, num_branches=1)
        self.query = nn.Linear(hidden, hidden)
        self.key_and_value = nn.Linear(hidden, 2 * hidden)
        self.query_norm = HeadNorm(hidden // num_heads)
        self.key_norm = HeadNorm(hidden // num_heads)
        self.projection = nn.Linear(hidden, hidden)

    def modulations(self, condition: Tensor) -> Tensor:
        """Conditioning vectors (..., C) -> (..., 9C)."""
        return torch.cat((self.stream.modulation(condition), self.modulation(condition)), dim=-1)

    def forward(self, tokens: Sequence[Tensor], modulations: Tensor, rope: Tensor) -> list[Tensor]:
        """Motion (B, T, C), conditions (B, N, C), modulations (B, 9C), rotations of T + N."""
        motion, conditions = tokens
        stream, hidden = self.stream, motion.shape[-1]
        attention, mlp = stream.modulation.split(modulations[..., : 6 * hidden])
        (cross,) = self.modulation.split(modulations[..., 6 * hidden :])
        own, theirs = rope[: motion.shape[1]], rope[motion.shape[1] :]

        query, key, value = stream.heads(motion, attention)
        attended = attend(rotate(query, own), rotate(key, own), value)
        motion = torch.addcmul(motion, attention.gate, stream.projection(attended))

        query = rearrange(
            self.query(cross(block_norm(motion))),
            "batch token (head channel) -> batch head token channel",
            head=self.num_heads,
        )
        key, value = rearrange(
            self.key_and_value(block_norm(conditions)),
            "batch token (part head channel) -> part batch head token channel",
            part=2,
            head=self.num_heads,
        )
        query, key = rotate(self.query_norm(query), own), rotate(self.key_norm(key), theirs)
        attended = attend(query, key, value)
        motion = torch.addcmul(motion, cross.gate, self.projection(attended))
        return [
            torch.addcmul(motion, mlp.gate, stream.mlp(mlp(block_norm(motion)))),
            conditions,
        ]
