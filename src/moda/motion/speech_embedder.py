"""Speech features to one token per frame, for the transformer: three kinds with one interface.

Axis letters: B batch, T frames, F features, C hidden channels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import MotionModelConfig, SpeechEmbedderConfig, SpeechFeaturesConfig
from moda.motion.layers import BLOCK_NORM_EPS, DrawnDropout, SpeechEmbedder
from moda.motion.reading import SpeechReader


class SpeechMLP(SpeechEmbedder):
    """Published speech embedder: every frame alone through three layers and an RMS norm."""

    def __init__(self, config: SpeechFeaturesConfig, width: int, hidden: int) -> None:
        super().__init__()
        size, null_size = config.size, config.layer_size
        self.layers = nn.ModuleList(
            (nn.Linear(size, width), nn.Linear(width, width), nn.Linear(width, hidden))
        )
        self.norm = nn.RMSNorm(hidden, eps=BLOCK_NORM_EPS)
        self.null_speech = nn.Parameter(torch.randn(null_size))
        self.repeats = size // null_size

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, ...) features of F numbers per frame -> (B, T, C)."""
        first, second, third = self.layers
        inner = F.relu(second(F.relu(first(features.flatten(2)))))
        return self.norm(third(inner).float())

    def null_token(self) -> Tensor:
        """(C,) what an unknown sound gives: one learned feature, the same in all layers."""
        token: Tensor = self(self.null_speech.repeat(self.repeats)[None, None])
        return token[0, 0]


class ConvNorm(nn.Module):
    """Convolution over time, batch norm, GELU: (B, C, L) -> the same."""

    def __init__(self, channels_in: int, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, 5, dilation=dilation, padding="same")
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, sound: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(sound)))


class SpeechConv(SpeechEmbedder):
    """Speech embedder for spectra: convolutions at 50 Hz, then half the rate.

    A token depends on ``before`` frames before its own and ``after`` frames after it and on nothing
    else, so it is the same whichever window it is computed in.
    """

    def __init__(self, size: int, hidden: int, config: SpeechEmbedderConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.dropout = DrawnDropout(config.dropout)
        self.first = ConvNorm(size // 2, width)
        self.residual = nn.ModuleList(ConvNorm(width, width, d) for d in config.dilations)
        self.halve = nn.Conv1d(width, width, 4, stride=2)
        self.linear = nn.Linear(width, hidden)
        self.norm = nn.RMSNorm(hidden, eps=BLOCK_NORM_EPS)
        self.null_speech = nn.Parameter(torch.randn(hidden))

    def forward(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) at 25 Hz -> (B, T, C).

        The token of frame k describes frame ``k + delay``. Half a frame more on either side is seen
        by the step to half the rate.
        """
        halves = rearrange(features, "batch time (half band) -> batch band (time half)", half=2)
        sound: Tensor = self.first(halves)
        for layer in self.residual:
            sound = sound + self.dropout(layer(sound))
        context = 2 * self.config.context
        sound = sound[:, :, context - 1 : 2 * features.shape[1] - context + 1]
        frames = rearrange(F.gelu(self.halve(sound)), "batch band time -> batch time band")
        return self.norm(self.linear(frames).float())


def make_speech_embedder(config: MotionModelConfig) -> SpeechEmbedder:
    """A new embedder of the kind that the configuration names."""
    hidden, own = config.hidden, config.speech_embedder
    if own.kind == "mlp":
        return SpeechMLP(config.speech, own.width, hidden)
    if own.kind == "reader":
        return SpeechReader(config.speech, config.mouth_size, hidden, own)
    return SpeechConv(config.speech.size, hidden, own)
