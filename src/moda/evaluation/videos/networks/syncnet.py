"""SyncNet: how well lips and speech fit together, and how far they are apart in time.

Source: J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", ACCV workshops
2016; the layers, the cepstra and the search over offsets are those that the authors' published
weights were evaluated with, which is what papers call Sync-C and Sync-D.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct
from torch import Tensor, nn

from moda.errors import InputError
from moda.structures import Floats, Picture
from moda.structures.landmarks import FACE_OVAL, Array

SAMPLE_RATE_HZ = 16_000
CLIP_FRAMES, CEPSTRA_PER_FRAME, NUM_CEPSTRA = 5, 4, 13
CLIP_CEPSTRA = CLIP_FRAMES * CEPSTRA_PER_FRAME
FACE_SIZE_PX = 224
MAX_OFFSET = 15
"""Frames in either direction that are searched."""
CROP_SCALE = 0.4
"""How much is added around the face on each side, and twice that below."""
EMBEDDING = 1024

WINDOW_SECONDS, HOP_SECONDS, FFT_SIZE, NUM_FILTERS, LIFTER, PREEMPHASIS = (
    0.025, 0.01, 512, 26, 22, 0.97,
)  # fmt: skip


class SyncScore(NamedTuple):
    """What SyncNet says of one video."""

    distance: float
    """Sync-D (LSE-D): mean distance of the embeddings at the best offset; lower is better"""
    confidence: float
    """Sync-C (LSE-C): median over the offsets less the minimum; higher is better"""
    offset_frames: int
    """the speech is this many frames later than the lips"""


class SyncNet(nn.Module):
    """Two towers into one space: five frames of a face, and the 0.2 s of speech that go with them.

    The names of the parts are those of the published weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_block2d(1, 64),
            nn.MaxPool2d(1, 1),
            *_block2d(64, 192),
            nn.MaxPool2d(3, (1, 2)),
            *_block2d(192, 384),
            *_block2d(384, 256),
            *_block2d(256, 256),
            nn.MaxPool2d(3, 2),
            *_block2d(256, 512, kernel=(5, 4), padding=0),
        )
        self.netcnnlip = nn.Sequential(
            *_block3d(3, 96, kernel=(5, 7, 7), stride=2, padding=0),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block3d(96, 256, kernel=(1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_block3d(256, 256),
            *_block3d(256, 256),
            *_block3d(256, 256),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block3d(256, 512, kernel=(1, 6, 6), padding=0),
        )
        self.netfcaud, self.netfclip = _head(), _head()

    def embed_speech(self, cepstra: Tensor) -> Tensor:
        """(B, 1, 13, 20) cepstra -> (B, 1024)."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def embed_lips(self, faces: Tensor) -> Tensor:
        """(B, 3, 5, 224, 224) faces, blue-green-red, 0..255 -> (B, 1024)."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


def _block2d(
    channels: int, out: int, *, kernel: tuple[int, int] = (3, 3), padding: int = 1
) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, kernel, padding=padding), nn.BatchNorm2d(out), nn.ReLU()


def _block3d(
    channels: int,
    out: int,
    *,
    kernel: tuple[int, int, int] = (1, 3, 3),
    stride: int = 1,
    padding: int = 1,
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv3d(
        channels, out, kernel, stride=(1, stride, stride), padding=(0, padding, padding)
    )
    return convolution, nn.BatchNorm3d(out), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING)
    )


def cepstra(samples: Floats) -> Array:
    """Mel-frequency cepstra (T, 13) at 100 Hz of speech (N,) at 16 kHz in -1..1.

    As the published weights expect them: 16-bit values, pre-emphasis 0.97, rectangular windows of
    25 ms every 10 ms, 26 mel filters over a 512-point power spectrum, logarithm, orthonormal
    DCT-II, lifter 22, and the logarithm of the energy in place of the first coefficient.

    Source: S. Davis and P. Mermelstein, 1980; mel scale ``2595 log10(1 + f / 700)``.
    """
    signal = np.round(samples.astype(np.float64) * 32768.0).clip(-32768, 32767)
    signal = np.append(signal[:1], signal[1:] - PREEMPHASIS * signal[:-1])
    size, hop = (round(s * SAMPLE_RATE_HZ) for s in (WINDOW_SECONDS, HOP_SECONDS))
    count = 1 if len(signal) <= size else 1 + -(-(len(signal) - size) // hop)
    padded = np.pad(signal, (0, (count - 1) * hop + size - len(signal)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][:count]
    power = np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2 / FFT_SIZE
    tiny = np.finfo(float).eps
    energy = power.sum(1)
    bands = power @ mel_filters().T
    logarithms = np.log(np.where(bands == 0.0, tiny, bands))
    coefficients = dct(logarithms, type=2, axis=1, norm="ortho")[:, :NUM_CEPSTRA]
    order = np.arange(NUM_CEPSTRA)
    coefficients = coefficients * (1.0 + LIFTER / 2.0 * np.sin(np.pi * order / LIFTER))
    coefficients[:, 0] = np.log(np.where(energy == 0.0, tiny, energy))
    return coefficients


def mel_filters() -> Array:
    """(26, 257) triangles between points that are evenly spaced on the mel scale up to 8 kHz."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE_HZ / 2.0 / 700.0)
    mels = np.linspace(0.0, top, NUM_FILTERS + 2)
    hertz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = np.floor((FFT_SIZE + 1) * hertz / SAMPLE_RATE_HZ).astype(int)
    filters = np.zeros((NUM_FILTERS, FFT_SIZE // 2 + 1))
    for index, (low, middle, high) in enumerate(zip(bins, bins[1:], bins[2:], strict=False)):
        rising, falling = np.arange(low, middle), np.arange(middle, high)
        filters[index, rising] = (rising - low) / (middle - low)
        filters[index, falling] = (high - falling) / (high - middle)
    return filters


def face_square(landmarks: Array) -> tuple[Array, Array]:
    """Where SyncNet looks in each frame: centres (T, 2) and half sides (T,), in pixels.

    The bounding box of the face, medians over 13 frames against the tracker's jitter.
    """
    oval = landmarks[:, list(FACE_OVAL), :2]
    low, high = oval.min(1), oval.max(1)
    centres, halves = 0.5 * (low + high), 0.5 * (high - low).max(1)
    window = min(13, len(centres) | 1)
    padded = np.pad(np.column_stack([centres, halves]), ((window // 2,) * 2, (0, 0)), mode="edge")
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window, axis=0), axis=-1)
    return smooth[: len(centres), :2], smooth[: len(centres), 2]


def crop_face(picture: Picture, centre: Array, half: float) -> NDArray[np.uint8]:
    """(224, 224, 3) blue-green-red: the face with 0.4 of its half side around, more below."""
    reach = half * (1.0 + CROP_SCALE)
    left, top = centre[0] - reach, centre[1] - half
    scale = FACE_SIZE_PX / (2.0 * reach)
    matrix = np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])
    border = cv2.BORDER_CONSTANT
    crop = cv2.warpAffine(
        picture, matrix, (FACE_SIZE_PX, FACE_SIZE_PX), borderMode=border, borderValue=(110,) * 3
    )
    return np.ascontiguousarray(crop[..., ::-1]).astype(np.uint8)


def sync_score(lips: Tensor, speech: Tensor, *, max_offset: int = MAX_OFFSET) -> SyncScore:
    """Sync-D, Sync-C and offset from embeddings of lips and speech (T, n), one of each a frame.

    The distance at an offset is the mean over the frames of the Euclidean distance; beyond the ends
    speech counts as 0, as in the published evaluation.

    Raises:
        InputError: there are no frames.
    """
    if not len(lips) or len(lips) != len(speech):
        raise InputError(f"{len(lips)} embeddings of lips and {len(speech)} of speech; give pairs")
    padded = nn.functional.pad(speech, (0, 0, max_offset, max_offset))
    distances = torch.stack(
        [
            nn.functional.pairwise_distance(lips, padded[shift : shift + len(lips)]).mean()
            for shift in range(2 * max_offset + 1)
        ]
    )
    best = int(distances.argmin())
    confidence = float(distances.median() - distances[best])
    return SyncScore(float(distances[best]), confidence, max_offset - best)


class LipEmbedder:
    """Embeds every five frames in a row as they come; memory is that of a batch.

    Args:
        network: in evaluation mode.
        batch: how many stretches are embedded at once.
    """

    def __init__(self, network: SyncNet, batch: int = 8) -> None:
        self._network, self._batch = network, batch
        self._recent: deque[NDArray[np.uint8]] = deque(maxlen=CLIP_FRAMES)
        self._waiting: list[NDArray[np.uint8]] = []
        self._done: list[Tensor] = []

    def see(self, face: NDArray[np.uint8]) -> None:
        """Take the next frame (224, 224, 3) of :func:`crop_face`."""
        self._recent.append(face)
        if len(self._recent) == CLIP_FRAMES:
            self._waiting.append(np.stack(self._recent))
        if len(self._waiting) == self._batch:
            self._flush()

    def finish(self) -> Tensor:
        """(T - 4, 1024) of T frames; none of fewer than five."""
        if self._waiting:
            self._flush()
        return torch.cat(self._done) if self._done else torch.zeros(0, EMBEDDING)

    @torch.inference_mode()
    def _flush(self) -> None:
        clips = torch.from_numpy(np.stack(self._waiting)).float().permute(0, 4, 1, 2, 3)
        self._waiting = []
        self._done.append(self._network.embed_lips(clips))


@torch.inference_mode()
def embed_speech(network: SyncNet, samples: Floats, count: int, *, batch: int = 64) -> Tensor:
    """(min(count, what there is), 1024) the 0.2 s of speech from every frame on.

    Args:
        network: in evaluation mode.
        samples: (N,) 16 kHz, from the time of the first frame on.
        count: how many frames' worth.
        batch: how many are embedded at once.
    """
    sound = torch.from_numpy(cepstra(samples)).float().T
    possible = (sound.shape[1] - CLIP_CEPSTRA) // CEPSTRA_PER_FRAME + 1
    places = range(max(0, min(count, possible)))
    done = [torch.zeros(0, EMBEDDING)]
    for start in places[::batch]:
        pieces = torch.stack(
            [
                sound[:, CEPSTRA_PER_FRAME * place :][:, :CLIP_CEPSTRA]
                for place in places[start : start + batch]
            ]
        )
        done.append(network.embed_speech(pieces[:, None]))
    return torch.cat(done)
