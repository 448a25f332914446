"""The first blocks of a pretrained speech encoder: samples to tokens at 50 Hz.

The network is the audio encoder of Whisper (A. Radford et al., "Robust speech recognition via
large-scale weak supervision", arXiv 2212.04356), cut off after its first blocks: what the mouth
does is known there, and later blocks turn to words. Its weights are OpenAI's (MIT licence), kept in
half precision and computed in single precision.

Axis letters: B batch, N samples, M mel bands, H hops of 10 ms, L tokens of 20 ms, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from moda.structures import Floats

SAMPLE_RATE_HZ = 16_000
HOP = 160  # samples, 10 ms
FFT_SIZE = 400
NUM_BANDS = 80
SAMPLES_PER_TOKEN = 2 * HOP
HEAD_SIZE = 64
LARGEST_POSITION_PERIOD = 10_000.0

DYNAMIC_RANGE = 8.0
"""Decades below the loudest point of a piece that are told apart."""
PIECE_SECONDS, MARGIN_SECONDS = 30, 2
"""A long recording is encoded in pieces of this length; the margins at a cut are thrown away."""
TAIL_SECONDS = 1
"""Silence after a recording, as after those that the encoder was trained on."""

ENCODER_FILE = Path(__file__).parents[1] / "assets" / "speech_encoder.safetensors"


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

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        query, key, value = rearrange(
            self.attention_qkv(self.attention_norm(tokens)),
            "batch token (part head channel) -> part batch head token channel",
            part=3,
            channel=HEAD_SIZE,
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        merged = rearrange(attended, "batch head token channel -> batch token (head channel)")
        tokens = tokens + self.attention_out(merged)
        inner = F.gelu(self.mlp_in(self.mlp_norm(tokens)))
        return tokens + self.mlp_out(inner)


class WhisperEncoder(nn.Module):
    """Log-mel spectrogram to the residual stream after the last block, without a final norm."""

    def __init__(self, size: int, num_blocks: int) -> None:
        super().__init__()
        self.size = size
        self.conv1 = nn.Conv1d(NUM_BANDS, size, 3, padding=1)
        self.conv2 = nn.Conv1d(size, size, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(EncoderBlock(size) for _ in range(num_blocks))

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, 2 L) -> (B, L, C)."""
        sound = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        tokens = rearrange(sound, "batch channel token -> batch token channel")
        tokens = tokens + sinusoids(tokens.shape[1], self.size).to(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    @torch.inference_mode()
    def encode(self, samples: Floats) -> Floats:
        """Samples (N,) at 16 kHz of one piece -> tokens (ceil(N / 320), C).

        Token j is centred at sample 320 j.
        """
        count = -(-len(samples) // SAMPLES_PER_TOKEN)
        padded = np.zeros(max(2, count) * SAMPLES_PER_TOKEN, np.float32)
        padded[: len(samples)] = samples
        device = self.conv1.weight.device
        mel = log_mel_spectrogram(torch.from_numpy(padded).to(device))
        return self(mel[None])[0, :count].cpu().numpy()


@cache
def load_speech_encoder(path: Path = ENCODER_FILE) -> WhisperEncoder:
    """The encoder of the package, in evaluation mode; read once per file."""
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    num_blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    encoder = WhisperEncoder(len(weights["conv1.bias"]), num_blocks)
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False)


def encode_tokens(encoder: WhisperEncoder, chunks: Iterable[Floats]) -> Iterator[Floats]:
    """Samples in chunks of any length -> tokens (n, C) in stretches, ceil(N / 320) in all.

    No more than a piece of :data:`PIECE_SECONDS` is held, however long the recording is.
    """
    piece, margin = PIECE_SECONDS * SAMPLE_RATE_HZ, MARGIN_SECONDS * SAMPLE_RATE_HZ
    margin_tokens = margin // SAMPLES_PER_TOKEN
    held = np.zeros(0, np.float32)
    skipped = 0
    """Tokens at the beginning of what is held that have been given out."""
    for chunk in chunks:
        held = np.concatenate([held, np.asarray(chunk, np.float32)])
        while len(held) > piece:
            tokens = encoder.encode(held[:piece])
            end = len(tokens) - margin_tokens
            yield tokens[skipped:end]
            held, skipped = held[piece - 2 * margin :], margin_tokens
    count = -(-len(held) // SAMPLES_PER_TOKEN)
    if count > skipped:
        tail = np.zeros(TAIL_SECONDS * SAMPLE_RATE_HZ, np.float32)
        yield encoder.encode(np.concatenate([held, tail]))[skipped:count]


def log_mel_spectrogram(samples: Tensor) -> Tensor:
    """(N,) samples -> (M, N // 160): decimal logarithms, floored below the loudest point, scaled.

    Windows of 25 ms are centred at multiples of 10 ms, the signal is mirrored at its ends, and
    levels end 8 decades below the loudest point.
    """
    spectrum = torch.stft(
        samples,
        FFT_SIZE,
        HOP,
        window=torch.hann_window(FFT_SIZE, device=samples.device),
        pad_mode="reflect",
        return_complex=True,
    )
    energies = torch.from_numpy(mel_filters()).to(samples.device) @ spectrum[:, :-1].abs() ** 2
    levels = energies.clamp(min=1e-10).log10()
    return (torch.maximum(levels, levels.max() - DYNAMIC_RANGE) + 4.0) / 4.0


@cache
def mel_filters() -> NDArray[np.float32]:
    """(80, 201) triangles of equal area on M. Slaney's mel scale, from 0 to 8 kHz."""
    top = _mel(np.array(SAMPLE_RATE_HZ / 2))
    edges = _hertz(np.linspace(0.0, float(top), NUM_BANDS + 2))
    bins = np.fft.rfftfreq(FFT_SIZE, 1.0 / SAMPLE_RATE_HZ)
    below, centre, above = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - below) / (centre - below), (above - bins) / (above - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * 2.0 / (above - below)).astype(np.float32)


LINEAR_BELOW_HZ = 1000.0
HERTZ_PER_MEL = 200.0 / 3.0
LOG_STEP = math.log(6.4) / 27.0
"""Slaney's scale: linear below 1 kHz, 27 steps for a factor of 6.4 above."""


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    linear_top = LINEAR_BELOW_HZ / HERTZ_PER_MEL
    high = linear_top + np.log(np.maximum(hertz, 1.0) / LINEAR_BELOW_HZ) / LOG_STEP
    return np.where(hertz < LINEAR_BELOW_HZ, hertz / HERTZ_PER_MEL, high)


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    linear_top = LINEAR_BELOW_HZ / HERTZ_PER_MEL
    high = LINEAR_BELOW_HZ * np.exp(LOG_STEP * (mel - linear_top))
    return np.where(mel < linear_top, mel * HERTZ_PER_MEL, high)


@cache
def sinusoids(count: int, size: int) -> Tensor:
    """Positions (L, C): sines of geometric frequencies, then cosines, rounded as weights are."""
    half = size // 2
    step = math.log(LARGEST_POSITION_PERIOD) / (half - 1)
    frequencies = torch.exp(-step * torch.arange(half, dtype=torch.float64))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).half().float()
