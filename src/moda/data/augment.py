"""Changes of the sound that leave the lips as they are: level, tilt, formants, noise, room, codec.

Waveforms are mono float32 at 16 kHz; every function returns a new array of the same length.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, fftconvolve, lfilter

from moda.data.nonspeech import make_music
from moda.encoders.speech import FEATURE_SIZE, NUM_BANDS
from moda.structures import Floats

SAMPLE_RATE_HZ = 16_000


def augment_waveform(samples: Floats, generator: np.random.Generator) -> Floats:
    """A random room, music, noise, band limit, spectral tilt, clipping and level."""
    sound = samples.astype(np.float64)
    if generator.random() < 0.5:
        sound = add_room(sound, generator)
    if generator.random() < 0.15:
        gain = np.sqrt((sound**2).mean()) * 10.0 ** (-generator.uniform(3.0, 25.0) / 20.0)
        sound = sound + gain * make_music(len(sound), generator)
    if generator.random() < 0.7:
        sound = add_noise(sound, generator, snr_db=generator.uniform(5.0, 35.0))
    if generator.random() < 0.35:
        cutoff_hz = generator.choice([3400.0, 4000.0, 5500.0, 7000.0])
        numerator, denominator = butter(4, cutoff_hz / (SAMPLE_RATE_HZ / 2))
        sound = lfilter(numerator, denominator, sound)
    if generator.random() < 0.3:
        cutoff_hz = generator.uniform(80.0, 300.0)
        numerator, denominator = butter(2, cutoff_hz / (SAMPLE_RATE_HZ / 2), "high")
        sound = lfilter(numerator, denominator, sound)
    if generator.random() < 0.5:
        sound = lfilter([1.0, -generator.uniform(-0.5, 0.7)], [1.0], sound)
    if generator.random() < 0.2:
        sound = mu_law(sound, levels=int(generator.choice([64, 256])))
    if generator.random() < 0.15:
        limit = np.abs(sound).max() * generator.uniform(0.3, 0.9)
        sound = np.clip(sound, -limit, limit)
    level = np.sqrt((sound**2).mean()) + 1e-9
    return (sound / level * 10.0 ** generator.uniform(-2.0, -0.7)).astype(np.float32)


def add_room(sound: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Exponentially decaying noise as the room's response, 0.1-0.6 s to -60 dB."""
    length = int(generator.uniform(0.1, 0.6) * SAMPLE_RATE_HZ)
    response = generator.standard_normal(length) * 10.0 ** (-3.0 * np.arange(length) / length)
    response *= generator.uniform(0.1, 0.8) / np.sqrt((response**2).sum())
    response[0] = 1.0
    return np.asarray(fftconvolve(sound, response)[: len(sound)])


def add_noise(sound: np.ndarray, generator: np.random.Generator, *, snr_db: float) -> np.ndarray:
    """White, brown, fluctuating or tonal noise at the given ratio to the mean power."""
    noise = generator.standard_normal(len(sound))
    kind = generator.integers(4)
    seconds = np.arange(len(sound)) / SAMPLE_RATE_HZ
    if kind == 1:
        noise = lfilter([1.0], [1.0, -0.97], noise)
    elif kind == 2:
        noise = lfilter([1.0], [1.0, -0.85], noise)
        noise = noise * (1.0 + 0.7 * np.sin(2 * np.pi * seconds * generator.uniform(0.5, 6.0)))
    elif kind == 3:
        noise = 0.1 * noise
        for _ in range(generator.integers(2, 6)):
            phase = 2 * np.pi * (seconds * generator.uniform(80.0, 2000.0) + generator.random())
            noise = noise + np.sin(phase) * generator.random()
    gain = np.sqrt((sound**2).mean() / ((noise**2).mean() + 1e-12)) * 10.0 ** (-snr_db / 20.0)
    return np.asarray(sound + gain * noise)


def mu_law(sound: np.ndarray, *, levels: int) -> np.ndarray:
    """Coarse companded quantisation, as in telephony."""
    peak = np.abs(sound).max() + 1e-9
    companded = np.sign(sound) * np.log1p(255.0 * np.abs(sound) / peak) / np.log(256.0)
    quantised = np.round(companded * levels / 2) / (levels / 2)
    return np.asarray(np.sign(quantised) * (256.0 ** np.abs(quantised) - 1.0) / 255.0 * peak)


def augment_features(features: Floats, generator: np.random.Generator) -> Floats:
    """Cheap changes of features (T, 160): level, tilt, formant shift, noise floor, masks."""
    bands = features.reshape(-1, NUM_BANDS).copy()
    tilt = np.linspace(-1.0, 1.0, NUM_BANDS, dtype=np.float32) * generator.uniform(-1.2, 1.2)
    bands += np.float32(generator.uniform(-1.0, 1.0)) + tilt.astype(np.float32)
    shift = generator.uniform(-2.5, 2.5)
    position = np.clip(np.arange(NUM_BANDS) + shift, 0, NUM_BANDS - 1)
    below = np.floor(position).astype(int)
    share = (position - below).astype(np.float32)
    bands = bands[:, below] * (1 - share) + bands[:, np.minimum(below + 1, NUM_BANDS - 1)] * share
    bands += 0.2 * generator.standard_normal(bands.shape).astype(np.float32)
    bands = np.maximum(bands, np.float32(max(0.0, generator.uniform(-3.0, 4.0))))
    if generator.random() < 0.4:
        first = generator.integers(0, NUM_BANDS - 6)
        bands[:, first : first + 6] = bands.mean()
    if generator.random() < 0.3:
        start = generator.integers(0, len(bands))
        bands[start : start + generator.integers(4, 14)] = bands.mean(0)
    return bands.reshape(-1, FEATURE_SIZE)
