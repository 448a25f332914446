"""The speech encoder of the package as a network of torch, from which its graph is exported.

Axis letters: B batch, M mel bands, L tokens of 20 ms, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from moda.encoders.whisper import HEAD_SIZE, NUM_BANDS


class EncoderBlock(nn.Module):
    """Self-attention and MLP, each after a layer norm and beside a residual."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size)
        self.attention_qkv = nn.Linear(size, 3 * size)
        self.attention_out = nn.Linear(size, size)
        self.mlp_norm = nn.LayerNorm(size)
        self.mlp_in = nn.Linear(size, 4 * size)
        self.mlp_out = nn.Linear(4 * size, size)

    def forward(self, tokens: Tensor, wanted: Tensor | None = None) -> Tensor:
        """(B, L, C) -> (B, L, C), or of the ``wanted`` (K,) tokens alone (B, K, C)."""
        query, key, value = self.attention_qkv(self.attention_norm(tokens)).chunk(3, dim=-1)
        if wanted is not None:
            query, tokens = query.index_select(1, wanted), tokens.index_select(1, wanted)
        tokens = tokens + self.attention_out(self.attend(query, key, value))
        inner = F.gelu(self.mlp_in(self.mlp_norm(tokens)))
        return tokens + self.mlp_out(inner)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, K, C), (B, L, C) and (B, L, C) -> (B, K, C)."""
        parts = (
            rearrange(part, "batch token (head size) -> batch head token size", size=HEAD_SIZE)
            for part in (query, key, value)
        )
        attended = F.scaled_dot_product_attention(*parts)
        return rearrange(attended, "batch head token channel -> batch token (head channel)")


class WhisperEncoder(nn.Module):
    """Log-mel spectrogram to the residual stream after the last block, without a final norm."""

    def __init__(self, size: int, num_blocks: int) -> None:
        super().__init__()
        self.size = size
        self.conv1 = nn.Conv1d(NUM_BANDS, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(EncoderBlock(size) for _ in range(num_blocks))

    @classmethod
    def of(cls, weights: Mapping[str, NDArray[Any]]) -> WhisperEncoder:
        """The encoder with the weights of a file, in evaluation mode."""
        blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
        encoder = cls(len(weights["conv1.bias"]), len(blocks))
        encoder.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        return encoder.eval().requires_grad_(False)

    def forward(self, mel: Tensor, positions: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Spectrogram (B, M, 2 L) and positions (L, C) -> (B, L, C), or (B, K, C) ``wanted``."""
        sound = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        tokens = rearrange(sound, "batch channel token -> batch token channel") + positions
        *blocks, last = self.blocks
        for block in blocks:
            tokens = block(tokens)
        return last(tokens, wanted)  # type: ignore[no-any-return]
