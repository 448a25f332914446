"""What the model reads from the tokens of the pretrained encoder: mouth, phones, voices.

The mouth is linear, because the encoder has done the work, and phones have one layer between: see
docs/experiments.md. Beside them, one convolution tells the transformer of the speech, from few
numbers, so that minutes of faces cannot be learned by heart.

Axis letters: B batch, T frames of 25 fps, F features, C token channels, K compressed, M mouth,
P phones.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from moda.config import NUM_PROSODY, SpeechEmbedderConfig, SpeechFeaturesConfig
from moda.motion.layers import BLOCK_NORM_EPS, DrawnDropout, SpeechEmbedder

MOUTH_FRAMES = 3
"""Frames of which the mouth of the middle one is read."""
PHONE_TOKENS, PHONE_WIDTH = 7, 96
"""Tokens of 20 ms of which the phone of the middle one is read, and the layer between."""
HEARD_FRAMES = 5
"""Frames that the convolution of the transformer's tokens sees."""


class SpeechReader(SpeechEmbedder):
    """Speech embedder on tokens of the pretrained encoder.

    ``compress``, ``mouth_head``, ``phone_head`` and ``voice_head`` are fitted before the training
    of the flow, and stay as they are in it.
    """

    token_mean: Tensor
    token_scale: Tensor
    """(C,) standardise the tokens"""

    def __init__(
        self,
        features: SpeechFeaturesConfig,
        mouth_size: int,
        hidden: int,
        config: SpeechEmbedderConfig,
    ) -> None:
        super().__init__()
        self.config = config
        channels, num_heard = features.channels, config.compressed + NUM_PROSODY
        self.register_buffer("token_mean", torch.zeros(channels))
        self.register_buffer("token_scale", torch.ones(channels))
        self.compress = nn.Linear(channels, config.compressed)
        self.mouth_head = nn.Linear(MOUTH_FRAMES * channels, mouth_size)
        self.phone_head = nn.Sequential(
            nn.Conv1d(channels, PHONE_WIDTH, PHONE_TOKENS),
            nn.GELU(),
            nn.Conv1d(PHONE_WIDTH, config.num_phones, 1),
        )
        num_judged = 2 * (config.num_phones + config.compressed)
        self.voice_head = nn.Linear(len(config.voice_spans) * num_judged, 1)
        for head in (self.compress, self.mouth_head, self.phone_head, self.voice_head):
            head.requires_grad_(False)
        self.hear = nn.Conv1d(num_heard, config.width, HEARD_FRAMES)
        self.dropout = DrawnDropout(config.dropout)
        self.linear = nn.Linear(config.width, hidden)
        self.norm = nn.RMSNorm(hidden, eps=BLOCK_NORM_EPS)
        self.null_speech = nn.Parameter(torch.randn(hidden))

    def halves(self, features: Tensor) -> Tensor:
        """(B, L, F) at 25 Hz -> standardised tokens (B, C, 2 L) at 50 Hz.

        Outside a recording, where features are 0, they are the mean.
        """
        tokens = rearrange(
            features[..., :-NUM_PROSODY],
            "batch time (half channel) -> batch (time half) channel",
            half=2,
        )
        is_known = (tokens != 0.0).any(-1, keepdim=True)
        standard = (tokens - self.token_mean) / self.token_scale * is_known
        return rearrange(standard, "batch time channel -> batch channel time")

    def mouth(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) -> (B, T, M), the mean of the normalised mouth."""
        frames = self._inside(_frames(self.halves(features)), (MOUTH_FRAMES - 1) // 2)
        count = frames.shape[2] - MOUTH_FRAMES + 1
        stacked = torch.cat([frames[:, :, k : k + count] for k in range(MOUTH_FRAMES)], dim=1)
        return self.mouth_head(stacked.transpose(1, 2))

    def phone_logits(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) at 25 Hz -> (B, P, 2 T) at 50 Hz."""
        margin = 2 * self.config.context - (PHONE_TOKENS - 1) // 2
        halves = self.halves(features)
        return self.phone_head(halves[:, :, margin : halves.shape[2] - margin])

    def voice_inputs(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) -> (B, T, N) what the voice head judges by.

        Means and spreads of phones and compressed tokens over each of the spans, as far as there is
        sound: a voice changes all the time, and like nothing else.
        """
        phones = torch.softmax(self.phone_logits(features), dim=1)
        tokens = self._inside(self._compressed(features), 0)
        heard = torch.cat((_frames(phones), tokens), dim=1)
        parts = []
        for span in self.config.voice_spans:
            mean, square = moving_mean(heard, span), moving_mean(heard**2, span)
            parts += [mean, (square - mean**2).clamp(min=0.0).add(1e-6).sqrt()]
        return rearrange(torch.cat(parts, dim=1), "batch band time -> batch time band")

    def voice_logits(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) -> (B, T), above 0 where somebody speaks."""
        return self.voice_head(self.voice_inputs(features))[..., 0]

    def forward(self, features: Tensor) -> Tensor:
        """(B, T + 2 * context, F) at 25 Hz -> (B, T, hidden): the speech of the transformer."""
        prosody = rearrange(features[..., -NUM_PROSODY:], "batch time band -> batch band time")
        heard = torch.cat((self._compressed(features), prosody), dim=1)
        sound = self.hear(self._inside(heard, (HEARD_FRAMES - 1) // 2))
        frames = self.dropout(F.gelu(rearrange(sound, "batch band time -> batch time band")))
        return self.norm(self.linear(frames).float())

    def layer_parameters(self) -> Iterator[nn.Parameter]:
        parts = (self.hear, self.linear, self.norm)
        return (value for part in parts for value in part.parameters())

    def _compressed(self, features: Tensor) -> Tensor:
        """(B, L, F) -> (B, K, L), principal components of unit spread."""
        frames = rearrange(_frames(self.halves(features)), "batch band time -> batch time band")
        compressed: Tensor = self.compress(frames)
        return compressed.transpose(1, 2)

    def _inside(self, frames: Tensor, reach: int) -> Tensor:
        """(B, n, T + 2 * context) -> (B, n, T + 2 * reach): the context that a layer sees."""
        margin = self.config.context - reach
        return frames[:, :, margin : frames.shape[2] - margin]


def moving_mean(values: Tensor, span: int) -> Tensor:
    """(B, C, T) mean over an odd number of frames around each, of those that there are."""
    return F.avg_pool1d(values, span, stride=1, padding=span // 2, count_include_pad=False)


def _frames(halves: Tensor) -> Tensor:
    """Means of the pairs of (B, n, 2 L) -> (B, n, L)."""
    pairs = rearrange(halves, "batch band (time half) -> batch band time half", half=2)
    return pairs.mean(dim=-1)
