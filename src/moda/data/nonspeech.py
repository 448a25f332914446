"""Sounds that nobody speaks: music and noise, made on the spot.

A mouth that moves to a melody looks broken. The speech embedder learns from these that they are as
good as silence, and under speech they are what it must not be confused by.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, lfilter

SAMPLE_RATE_HZ = 16_000
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 6, 7, 10))
"""Major, minor, pentatonic and blues, in semitones."""

Sound = NDArray[np.float64]


def make_music(num_samples: int, generator: np.random.Generator) -> Sound:
    """A tune with chords, and drums in half of the cases; root mean square 1."""
    beat = round(SAMPLE_RATE_HZ * 60.0 / generator.uniform(70.0, 160.0))
    scale = SCALES[generator.integers(len(SCALES))]
    root_hz = 440.0 * 2.0 ** (generator.uniform(-36.0, 0.0) / 12.0)
    sound = np.zeros(num_samples)
    for _ in range(generator.integers(1, 4)):
        timbre = _timbre(generator)
        octave, lengths = generator.integers(0, 3), generator.choice([0.5, 1.0, 2.0, 4.0], 3)
        loudness, start = generator.uniform(0.3, 1.0), 0
        degree = int(generator.integers(len(scale)))
        while start < num_samples:
            length = round(beat * float(generator.choice(lengths)))
            degree = int(np.clip(degree + generator.integers(-2, 3), 0, len(scale) - 1))
            voices = 3 if generator.random() < 0.3 else 1
            for voice in range(voices if generator.random() < 0.9 else 0):
                step = scale[(degree + 2 * voice) % len(scale)]
                note_hz = root_hz * 2.0 ** (octave + step / 12.0)
                _add(sound, start, loudness * _note(note_hz, length, timbre, generator))
            start += length
    if not sound.any():  # rests only, in a short stretch
        _add(sound, 0, _note(root_hz, num_samples, timbre, generator))
    if generator.random() < 0.5:
        for start in range(0, num_samples, beat // 2):
            if generator.random() < 0.7:
                _add(sound, start, generator.uniform(0.3, 1.5) * _drum(generator))
    return _unit(sound)


def make_noise(num_samples: int, generator: np.random.Generator) -> Sound:
    """Hiss, rumble, hum, gusts, clicks or several of them; root mean square 1."""
    sound = np.zeros(num_samples)
    seconds = np.arange(num_samples) / SAMPLE_RATE_HZ
    for _ in range(generator.integers(1, 4)):
        kind = generator.integers(5)
        layer = generator.standard_normal(num_samples)
        if kind == 0:
            layer = lfilter([1.0], [1.0, -generator.uniform(0.0, 0.98)], layer)
        elif kind == 1:
            low = generator.uniform(100.0, 3000.0)
            high = min(low * generator.uniform(1.2, 4.0), 7500.0)
            numerator, denominator = butter(2, [low / 8000.0, high / 8000.0], "band")
            layer = lfilter(numerator, denominator, layer)
        elif kind == 2:
            phase = 2 * np.pi * generator.choice([50.0, 60.0, 100.0, 120.0]) * seconds
            layer = sum(np.sin(k * phase + generator.random()) / k for k in range(1, 9))
        elif kind == 3:
            gusts = np.interp(
                seconds, np.arange(0.0, seconds[-1] + 1.0, 0.2), _gusts(seconds[-1], generator)
            )
            layer = layer * gusts
        else:
            clicks = (generator.random(num_samples) < generator.uniform(0.5, 8.0) / 16_000).astype(
                float
            )
            clicks[num_samples // 2] = clicks[num_samples // 2] or not clicks.any()
            layer = lfilter([1.0], [1.0, -generator.uniform(0.9, 0.998)], clicks) * layer
        sound += generator.uniform(0.2, 1.0) * _unit(np.asarray(layer))
    return _unit(sound)


def make_non_speech(num_samples: int, generator: np.random.Generator) -> Sound:
    """Music or noise or both, with pauses, at root mean square 1."""
    kind = generator.random()
    if kind < 0.5:
        sound = make_music(num_samples, generator)
    elif kind < 0.8:
        sound = make_noise(num_samples, generator)
    else:
        sound = make_music(num_samples, generator)
        sound = sound + generator.uniform(0.1, 1.0) * make_noise(num_samples, generator)
    if generator.random() < 0.4:
        for _ in range(generator.integers(1, 4)):
            start = int(generator.integers(num_samples))
            sound[start : start + int(generator.uniform(0.1, 1.0) * SAMPLE_RATE_HZ)] *= 0.01
    return _unit(sound)


def _timbre(generator: np.random.Generator) -> tuple[Sound, float, float, float]:
    """Amplitudes of partials, attack and decay in seconds, vibrato in semitones."""
    partials = generator.random(8) * np.arange(1, 9) ** -generator.uniform(0.3, 2.0)
    attack = 10.0 ** generator.uniform(-2.5, -0.7)
    return partials, attack, 10.0 ** generator.uniform(-1.0, 0.7), generator.choice([0.0, 0.0, 0.3])


def _note(
    note_hz: float,
    length: int,
    timbre: tuple[Sound, float, float, float],
    generator: np.random.Generator,
) -> Sound:
    partials, attack, decay, vibrato = timbre
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    bend = 2.0 ** (vibrato * np.sin(2 * np.pi * 5.5 * seconds) / 12.0)
    phase = 2 * np.pi * np.cumsum(note_hz * bend) / SAMPLE_RATE_HZ
    orders = [k for k in range(1, 9) if k * note_hz < 7500.0]
    tone = sum(partials[k - 1] * np.sin(k * phase) for k in orders) if orders else np.zeros(length)
    release = np.minimum(1.0, (length - np.arange(length)) / 320.0)
    envelope = np.minimum(1.0, seconds / attack) * np.exp(-seconds / decay) * release
    return np.asarray(tone * envelope * generator.uniform(0.6, 1.0))


def _drum(generator: np.random.Generator) -> Sound:
    """A kick, or a burst of noise as of a snare or a cymbal."""
    length = int(generator.uniform(0.03, 0.3) * SAMPLE_RATE_HZ)
    seconds = np.arange(length) / SAMPLE_RATE_HZ
    fall = np.exp(-seconds / generator.uniform(0.01, 0.1))
    if generator.random() < 0.4:
        sweep_hz = 50.0 + 120.0 * np.exp(-seconds / 0.03)
        return np.asarray(2.0 * np.sin(2 * np.pi * np.cumsum(sweep_hz) / SAMPLE_RATE_HZ) * fall)
    burst = generator.standard_normal(length)
    tilt = generator.uniform(-0.9, 0.7)
    return np.asarray(lfilter([1.0, tilt], [1.0], burst) * fall)


def _gusts(seconds: float, generator: np.random.Generator) -> Sound:
    return np.asarray(generator.random(len(np.arange(0.0, seconds + 1.0, 0.2))) ** 3)


def _add(sound: Sound, start: int, part: Sound) -> None:
    count = min(len(part), len(sound) - start)
    sound[start : start + count] += part[:count]


def _unit(sound: Sound) -> Sound:
    return np.asarray(sound / (np.sqrt((sound**2).mean()) + 1e-9))
