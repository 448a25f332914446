"""Sound to features and speech activity on the 25 fps grid, as a stream.

Features are tokens of a pretrained encoder with the prosody, or log-mel spectra. The spectra depend
neither on loudness nor on the microphone: the level of the speech and its mean spectrum are
followed and taken off. They are positive, small in silence, and 0 outside the recording. The whole
recording is never needed; memory is constant in its length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from moda.encoders.prosody import track_pitch
from moda.encoders.whisper import encode_tokens, load_speech_encoder
from moda.structures import FRAMES_PER_SECOND, Floats, Speech

SAMPLE_RATE_HZ = 16_000
HOP = 160  # 10 ms
WINDOW = 400  # 25 ms
FFT_SIZE = 512
NUM_BANDS = 40
HOPS_PER_FRAME = 4  # 25 fps
SAMPLES_PER_FRAME = int(SAMPLE_RATE_HZ / FRAMES_PER_SECOND)  # 640
FEATURE_SIZE = NUM_BANDS * HOPS_PER_FRAME

FLOOR_NATS = -11.0
"""Features end here: 48 dB below the speech level is as good as silence."""
LEVEL_LOOK_AHEAD_SECONDS = 5.0
"""The level starts from the loudest part of this much sound."""
LEVEL_RELEASE_SECONDS = 15.0
QUIETEST_LEVEL_NATS = -12.0
"""Level of speech at about -60 dB full scale; quieter recordings are not amplified further."""
ACTIVE_BELOW_LEVEL_NATS = 6.5
ACTIVE_ABOVE_NOISE_NATS = 1.5
NOISE_WINDOW_SECONDS = 4.0
SPECTRUM_SECONDS = 8.0
"""How long the mean spectrum remembers."""
HANGOVER_HOPS = 9
"""A pause shorter than twice this (a closure of p, t or k) is not silence."""
ONSET_HOPS = 14
"""Lips open before the sound: speech counts from this much earlier on."""


def mel_filters() -> Floats:
    """(257, 40) triangular filters from 0 to 8 kHz, HTK mel scale, not area-normalised."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE_HZ / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, NUM_BANDS + 2) / 2595.0) - 1.0)
    bins = np.fft.rfftfreq(FFT_SIZE, 1.0 / SAMPLE_RATE_HZ)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)


def log_mel(samples: Floats) -> Floats:
    """Log-mel energies of whole windows: (N,) samples -> ((N - 400) // 160 + 1, 40) nats."""
    starts = np.arange((len(samples) - WINDOW) // HOP + 1) * HOP
    windows = samples[starts[:, None] + np.arange(WINDOW)] * _TAPER
    power = np.abs(np.fft.rfft(windows, FFT_SIZE)).astype(np.float32) ** 2
    return np.log(power @ _FILTERS + np.float32(1e-8))


MEAN_SPECTRUM_NATS = np.array(
    [
        -4.6, -2.8, -1.9, -1.7, -1.8, -1.9, -1.8, -2.0, -2.3, -2.7,
        -3.2, -3.7, -4.2, -4.6, -4.8, -5.0, -5.2, -5.2, -5.3, -5.4,
        -5.6, -5.7, -5.8, -5.9, -6.0, -6.3, -6.4, -6.4, -6.5, -6.6,
        -6.8, -7.1, -7.2, -7.4, -7.5, -7.6, -7.6, -7.7, -7.8, -8.4,
    ],
    np.float32,
)  # fmt: skip
"""Usual spectrum of speech relative to its level, to which every recording is equalised."""
_TAPER = np.hanning(WINDOW).astype(np.float32)
_FILTERS = mel_filters()


class LevelTracker:
    """Follows the level of the speech and of the noise under it, hop by hop.

    ``level`` rises at once with louder speech and falls slowly, only while somebody speaks: a pause
    does not turn the noise up. ``noise`` is the smallest smoothed energy of the last seconds.
    """

    def __init__(self, block: Floats) -> None:
        first = _energies(block)
        smooth = _moving_mean(first, 20)
        self.level = max(float(smooth.max()), QUIETEST_LEVEL_NATS)
        self._release = HOP / SAMPLE_RATE_HZ / LEVEL_RELEASE_SECONDS
        self._recent = float(first[:10].mean())
        block_hops = int(NOISE_WINDOW_SECONDS * SAMPLE_RATE_HZ / HOP / 8)
        self._block_hops, self._hops_in_block = block_hops, 0
        self._minima: deque[float] = deque([float(_moving_mean(first, 10).min())], maxlen=8)
        self._block_minimum = np.inf
        spoken = block[first > self.level - ACTIVE_BELOW_LEVEL_NATS]
        self.spectrum = np.maximum(spoken - self.level, FLOOR_NATS).mean(0)
        self._spectrum_rate = HOP / SAMPLE_RATE_HZ / SPECTRUM_SECONDS

    @property
    def noise(self) -> float:
        return min(*self._minima, self._block_minimum, self.level)

    def update(self, bands: Floats, energy: float) -> tuple[Floats, bool]:
        """Log-mel bands (40,) and energy of the next hop -> (features (40,), is it speech)."""
        self._recent += 0.25 * (energy - self._recent)
        self._block_minimum = min(self._block_minimum, self._recent)
        self._hops_in_block += 1
        if self._hops_in_block == self._block_hops:
            self._minima.append(self._block_minimum)
            self._block_minimum, self._hops_in_block = np.inf, 0
        active = self._recent > max(
            self.level - ACTIVE_BELOW_LEVEL_NATS,
            min(self.noise + ACTIVE_ABOVE_NOISE_NATS, self.level - 2.0),
        )
        if self._recent > self.level:
            self.level += 0.2 * (self._recent - self.level)
        elif active:
            self.level += self._release * (self._recent - self.level)
        self.level = max(self.level, QUIETEST_LEVEL_NATS)
        relative = np.maximum(bands - self.level, FLOOR_NATS)
        if active:
            self.spectrum += self._spectrum_rate * (relative - self.spectrum)
        features = relative - (self.spectrum - MEAN_SPECTRUM_NATS)
        return np.maximum(features - FLOOR_NATS, 0.0).astype(np.float32), active


def encode_speech(
    chunks: Iterable[Floats],
    kind: Literal["whisper", "log_mel"] = "whisper",
) -> Iterator[Speech]:
    """Mono 16 kHz samples in chunks of any length to stretches of :class:`Speech`.

    Frame ``t`` describes the sound from ``t / 25`` to ``(t + 1) / 25`` seconds; there are
    ``ceil(samples / 640)`` frames in all. ``whisper`` features (T, 771) are the two tokens of the
    pretrained encoder, then loudness, pitch and voicing, see :func:`prosody`; ``log_mel`` features
    (T, 160) are the spectra.
    """
    if kind == "log_mel":
        yield from _to_frames(_normalised_hops(_hops(chunks)))
        return
    spectra, sound, samples = tee(chunks, 3)
    encoder = load_speech_encoder()
    streams = (
        encode_speech(spectra, "log_mel"),
        _pairs(encode_tokens(encoder, sound)),
        track_pitch(samples),
    )
    for heard, tokens, pitch in in_step(*streams):
        yield Speech(
            np.concatenate([tokens, prosody(heard.loudness, pitch)], axis=1),
            heard.activity,
            loudness=heard.loudness,
        )


LOUDNESS_CENTRE_NATS, LOUDNESS_SPREAD_NATS = 4.0, 2.5


def prosody(loudness: Floats, pitch: Floats) -> Floats:
    """Loudness (T,) in nats and pitch with voicing (T, 2) -> three features (T, 3) of unit size."""
    level = (loudness - LOUDNESS_CENTRE_NATS) / LOUDNESS_SPREAD_NATS
    columns = [level, pitch[:, 0] / PITCH_SPREAD_OCTAVES, pitch[:, 1]]
    return np.stack(columns, axis=1).astype(np.float32)


PITCH_SPREAD_OCTAVES = 0.3


def in_step(*streams: Iterator[Any]) -> Iterator[tuple[Any, ...]]:
    """Streams of stretches that are cut differently, cut alike; all have as many frames."""
    held: list[Any] = [None] * len(streams)
    while True:
        for index, stream in enumerate(streams):
            if held[index] is None:
                held[index] = next(stream, None)
        if any(part is None for part in held):
            return
        count = min(len(part) for part in held)
        yield tuple(part[:count] for part in held)
        held = [part[count:] if len(part) > count else None for part in held]


def _pairs(stretches: Iterator[Floats]) -> Iterator[Floats]:
    """Tokens (n, C) at 50 Hz to frames (n / 2, 2 C) at 25 Hz; the last one may be doubled."""
    odd: Floats | None = None
    for stretch in stretches:
        tokens = stretch if odd is None else np.concatenate([odd, stretch])
        even = len(tokens) // 2 * 2
        if even:
            yield tokens[:even].reshape(even // 2, -1)
        odd = tokens[even:]
    if odd is not None and len(odd):
        yield np.concatenate([odd, odd]).reshape(1, -1)


def _hops(chunks: Iterable[Floats]) -> Iterator[Floats]:
    """Log-mel blocks (n, 40); hop k is centred at sample 160 k + 80; whole frames at the end."""
    lead = (WINDOW - HOP) // 2
    pending = np.zeros(lead, np.float32)
    received = emitted = 0
    for chunk in chunks:
        received += len(chunk)
        pending = np.concatenate([pending, np.asarray(chunk, np.float32)])
        if len(pending) >= WINDOW + 100 * HOP:
            block = log_mel(pending)
            yield block
            emitted += len(block)
            pending = pending[len(block) * HOP :]
    num_frames = -(-received // SAMPLES_PER_FRAME)
    missing = num_frames * HOPS_PER_FRAME - emitted
    if missing > 0:
        needed = (missing - 1) * HOP + WINDOW
        yield log_mel(np.pad(pending, (0, max(0, needed - len(pending))))[:needed])


def _normalised_hops(
    blocks: Iterator[Floats],
) -> Iterator[tuple[Floats, NDArray[np.bool_]]]:
    """Blocks of features, and for each hop whether it is speech."""
    held: list[Floats] = []
    tracker: LevelTracker | None = None
    look_ahead_hops = int(LEVEL_LOOK_AHEAD_SECONDS * SAMPLE_RATE_HZ / HOP)

    def normalise(block: Floats, tracker: LevelTracker) -> tuple[Floats, NDArray[np.bool_]]:
        tracked = [
            tracker.update(bands, float(energy))
            for bands, energy in zip(block, _energies(block), strict=True)
        ]
        return np.stack([hop for hop, _ in tracked]), np.array([active for _, active in tracked])

    for block in blocks:
        if tracker is not None:
            yield normalise(block, tracker)
            continue
        held.append(block)
        if sum(map(len, held)) >= look_ahead_hops:
            early = np.concatenate(held)
            tracker = LevelTracker(early[:look_ahead_hops])
            yield normalise(early, tracker)
    if tracker is None and held:
        early = np.concatenate(held)
        yield normalise(early, LevelTracker(early))


def _to_frames(hops: Iterator[tuple[Floats, NDArray[np.bool_]]]) -> Iterator[Speech]:
    """Hops to frames; activity is widened by the hangover and the onset before it is averaged."""
    features = np.zeros((0, NUM_BANDS), np.float32)
    active = np.zeros(HANGOVER_HOPS, np.bool_)  # of the hops from HANGOVER_HOPS before the features
    done = False
    while not done:
        block = next(hops, None)
        done = block is None
        if block is not None:
            features = np.concatenate([features, block[0]])
            active = np.concatenate([active, block[1]])
        ready = len(features) if done else max(0, len(features) - ONSET_HOPS)
        ready -= ready % HOPS_PER_FRAME
        if ready == 0:
            continue
        known = active if done else active[: HANGOVER_HOPS + ready + ONSET_HOPS]
        spectra = features[:ready].reshape(-1, FEATURE_SIZE)
        activity = spread_activity(known)[: ready // HOPS_PER_FRAME]
        yield Speech(spectra, activity, loudness=spectra.mean(1))
        features, active = features[ready:], active[ready:]


def spread_activity(active: NDArray[np.bool_]) -> Floats:
    """(T,) activity in 0..1 of frames, from the hops (H + 4 T,) that are speech themselves.

    The first H, :data:`HANGOVER_HOPS`, lie before the frames. Each hop of speech counts for some
    hops after it and before it; after the last hop there is silence.
    """
    padded = np.pad(active, (0, ONSET_HOPS))
    count = (len(active) - HANGOVER_HOPS) // HOPS_PER_FRAME * HOPS_PER_FRAME
    wide = np.zeros(count, np.bool_)
    for shift in range(HANGOVER_HOPS + ONSET_HOPS + 1):
        wide |= padded[shift : shift + count]
    return wide.reshape(-1, HOPS_PER_FRAME).mean(1).astype(np.float32)


def _energies(block: Floats) -> Floats:
    """Log of the mean band energy per hop, (n, 40) -> (n,); low hum below 200 Hz left out."""
    return np.log(np.exp(block[:, 4:]).mean(1))


def _moving_mean(values: Floats, width: int) -> Floats:
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1.0 / width), mode="valid").astype(np.float32)
