"""The first blocks of a pretrained speech encoder: samples to tokens at 50 Hz.

The network is the audio encoder of Whisper (A. Radford et al., "Robust speech recognition via
large-scale weak supervision", arXiv 2212.04356), cut off after its first blocks: what the mouth
does is known there, and later blocks turn to words. Its weights are OpenAI's (MIT licence), kept in
half precision and computed in single precision.

Axis letters: B batch, N samples, M mel bands, H hops of 10 ms, L tokens of 20 ms, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from safetensors import safe_open

from moda.graphs import Graph
from moda.memory import give_back_memory
from moda.structures import Floats

SAMPLE_RATE_HZ = 16_000
HOP = 160  # samples, 10 ms
FFT_SIZE = 400
NUM_BANDS = 80
SMALL_PRODUCT = 16
"""Windows whose bands are computed in one product; for larger ones OpenBLAS wakes threads, which
then wait busily for longer than they compute."""
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
ENCODER_GRAPH = "speech_encoder.onnx"


class SpeechEncoder:
    """Samples to tokens, computed by onnxruntime on one thread; safe from several threads."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self.size = len(weights["conv1.bias"])
        self._graph = Graph(ENCODER_GRAPH, weights)

    def encode(self, samples: Floats, newest: int | None = None) -> Floats:
        """Samples (N,) at 16 kHz of one piece -> tokens (ceil(N / 320), C), or the ``newest``.

        Token j is centred at sample 320 j.
        """
        count = -(-len(samples) // SAMPLES_PER_TOKEN)
        length = max(2, count)
        padded = np.zeros(length * SAMPLES_PER_TOKEN, np.float32)
        padded[: len(samples)] = samples
        given: dict[str, NDArray[Any]] = {
            "mel": log_mel_spectrogram(padded)[None],
            "positions": sinusoids(length, self.size),
            "wanted": np.arange(count, dtype=np.int64)[-(newest or count) :],
        }
        return self._graph.run(given)[0][0]


@cache
def load_speech_encoder() -> SpeechEncoder:
    """The encoder of the package; read once."""
    return SpeechEncoder(read_encoder_weights())


def read_encoder_weights(path: Path = ENCODER_FILE) -> dict[str, Floats]:
    """Weights of the encoder by their names, in single precision."""
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118


def encode_tokens(encoder: SpeechEncoder, chunks: Iterable[Floats]) -> Iterator[Floats]:
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
            tokens = _encode_piece(encoder, held[:piece])
            end = len(tokens) - margin_tokens
            yield tokens[skipped:end]
            held, skipped = held[piece - 2 * margin :], margin_tokens
    count = -(-len(held) // SAMPLES_PER_TOKEN)
    if count > skipped:
        tail = np.zeros(TAIL_SECONDS * SAMPLE_RATE_HZ, np.float32)
        yield _encode_piece(encoder, np.concatenate([held, tail]))[skipped:count]


def _encode_piece(encoder: SpeechEncoder, samples: Floats) -> Floats:
    """A piece is long: it takes as much memory as all other networks together."""
    tokens = encoder.encode(samples)
    give_back_memory()
    return tokens


def log_mel_spectrogram(samples: Floats) -> Floats:
    """(N,) samples -> (M, N // 160): decimal logarithms, floored below the loudest point, scaled.

    Windows of 25 ms are centred at multiples of 10 ms, the signal is mirrored at its ends, and
    levels end 8 decades below the loudest point.
    """
    mirrored = np.pad(samples, FFT_SIZE // 2, mode="reflect")
    windows = sliding_window_view(mirrored, FFT_SIZE)[: len(samples) // HOP * HOP : HOP]
    taper = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    spectrum = np.fft.rfft(windows * taper.astype(np.float32))
    power, filters = spectrum.real**2 + spectrum.imag**2, mel_filters()
    starts = range(0, len(power), SMALL_PRODUCT)
    energies = np.hstack([filters @ power[start : start + SMALL_PRODUCT].T for start in starts])
    levels = np.log10(np.maximum(energies, np.float32(1e-10)))
    return (np.maximum(levels, levels.max() - np.float32(DYNAMIC_RANGE)) + np.float32(4.0)) / 4.0


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
def sinusoids(count: int, size: int) -> Floats:
    """Positions (L, C): sines of geometric frequencies, then cosines, rounded as weights are."""
    half = size // 2
    step = math.log(LARGEST_POSITION_PERIOD) / (half - 1)
    angles = np.arange(count)[:, None] * np.exp(-step * np.arange(half))
    rounded = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float16)
    return rounded.astype(np.float32)
