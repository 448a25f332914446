"""Sound that is still being spoken to features, frame by frame, without waiting.

The features are those of :mod:`moda.encoders.speech`, but the pretrained encoder hears no more than
the last :data:`WINDOW_FRAMES` and is asked again every :data:`REFRESH_FRAMES`, so that what it says
of a frame gets better while the frame waits to be judged. The level of the speech and its mean
spectrum start from what is usual, because nothing has been heard, and are learned quickly.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from moda.config import NUM_PROSODY
from moda.encoders import prosody as pitch
from moda.encoders.speech import (
    FLOOR_NATS,
    HANGOVER_HOPS,
    HOP,
    HOPS_PER_FRAME,
    MEAN_SPECTRUM_NATS,
    NUM_BANDS,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
    WINDOW,
    LevelTracker,
    log_mel,
    prosody,
    spread_activity,
)
from moda.encoders.whisper import load_speech_encoder
from moda.structures import FRAMES_PER_SECOND, Floats, HeardFrame, RecentSpeech

LIVE_RATES_HZ = (16_000, 24_000, 48_000)
"""Sample rates at which sound may arrive: 25 frames and 16 kHz come out even."""
FILTER_REACH = 16
"""Samples at 16 kHz that the change of rate looks at on either side: 1 ms."""
FRAME_BEGIN = (WINDOW - HOP) // 2
"""Samples before a frame that its first spectrum needs."""
LEAD_SAMPLES = FRAME_BEGIN + FILTER_REACH
"""Samples at 16 kHz beyond the end of a frame that its loudness needs: 8.5 ms."""

WINDOW_FRAMES = 50
"""Of sound that the pretrained encoder hears at once: 2 s."""
REFRESH_FRAMES = 3
"""The pretrained encoder is asked this often; no look-ahead may be shorter."""
REFRESHED_FRAMES = 12
"""The newest frames, of which the encoder's new answer counts."""

USUAL_LEVEL_NATS = 1.0
"""Where the level starts: rather low, because it rises at once and falls slowly."""
NOTHING_NATS = -14.0
"""Below this there is no microphone, only zeros."""
YOUNG_HOPS = 50
"""The estimates weigh what is usual like this many hops of speech."""


class LiveLevelTracker(LevelTracker):
    """Level, noise and mean spectrum of sound of which nothing is known yet."""

    def __init__(self) -> None:
        shape = MEAN_SPECTRUM_NATS - np.log(np.exp(MEAN_SPECTRUM_NATS[4:]).mean())
        quiet = np.full((30, NUM_BANDS), USUAL_LEVEL_NATS - 8.0, np.float32)
        usual = np.tile(shape + np.float32(USUAL_LEVEL_NATS), (30, 1)).astype(np.float32)
        super().__init__(np.concatenate([quiet, usual]))
        self.spectrum = MEAN_SPECTRUM_NATS.copy()
        self._minima.clear()
        self._slowest = self._release, self._spectrum_rate
        self._heard = YOUNG_HOPS
        self._begins = True
        """Whether nothing but digital silence came before."""

    def update(self, bands: Floats, energy: float) -> tuple[Floats, bool]:
        """As :meth:`LevelTracker.update`; the fewer hops of speech, the faster it learns.

        Digital silence is no noise to compare a voice with: it says that nothing was recorded.
        """
        if energy < NOTHING_NATS:
            self.forget()
            relative = np.maximum(bands - self.level, FLOOR_NATS)
            features = relative - (self.spectrum - MEAN_SPECTRUM_NATS) - FLOOR_NATS
            return np.maximum(features, 0.0).astype(np.float32), False
        if self._begins:
            self._recent, self._begins = energy, False
        release, spectrum_rate = self._slowest
        self._release = max(release, 1.0 / self._heard)
        self._spectrum_rate = max(spectrum_rate, 1.0 / self._heard)
        features, active = super().update(bands, energy)
        self._heard += int(active)
        return features, active

    def forget(self) -> None:
        """What was heard last is over; what was learned of the voice stays."""
        self._begins = True


class LiveSpeechEncoder:
    """Mono samples at one of :data:`LIVE_RATES_HZ` to frames, each as soon as its sound is there.

    Frame t is there when :data:`LEAD_SAMPLES` beyond its end are. Memory is constant.
    """

    def __init__(self, sample_rate: int) -> None:
        self._to_16_khz = RateChange(sample_rate)
        self._tracker = LiveLevelTracker()
        self._pending = np.zeros(FRAME_BEGIN, np.float32)

    def push(self, samples: Floats) -> list[HeardFrame]:
        """Take samples (N,); return the frames that they complete."""
        self._pending = np.concatenate([self._pending, self._to_16_khz.push(samples)])
        frames = []
        while len(self._pending) >= SAMPLES_PER_FRAME - HOP + WINDOW:
            frames.append(self._hear(self._pending[: SAMPLES_PER_FRAME - HOP + WINDOW]))
            self._pending = self._pending[SAMPLES_PER_FRAME:]
        return frames

    def forget(self) -> None:
        """Samples that are not part of a frame yet have been silence."""
        self._pending[:] = 0.0
        self._to_16_khz.forget()
        self._tracker.forget()

    def _hear(self, samples: Floats) -> HeardFrame:
        hops = log_mel(samples)
        energies = np.log(np.exp(hops[:, 4:]).mean(1))
        heard = [
            self._tracker.update(bands, float(energy))
            for bands, energy in zip(hops, energies, strict=True)
        ]
        return HeardFrame(
            samples[FRAME_BEGIN : FRAME_BEGIN + SAMPLES_PER_FRAME].copy(),
            float(np.mean([bands for bands, _ in heard])),
            np.array([active for _, active in heard]),
        )


def silent_frame() -> HeardFrame:
    """A frame in which nothing was recorded."""
    nothing = np.zeros(SAMPLES_PER_FRAME, np.float32)
    return HeardFrame(nothing, 0.0, np.zeros(HOPS_PER_FRAME, np.bool_))


class LiveFeatures:
    """Remembers what was said of the last frames by the pretrained encoder, and their prosody.

    Args:
        num_frames: how many frames are remembered.
    """

    def __init__(self, num_frames: int) -> None:
        self._encoder = load_speech_encoder()
        self._pitch = pitch.PitchTracker()
        self._samples = np.zeros(WINDOW_FRAMES * SAMPLES_PER_FRAME, np.float32)
        num_tokens = 2 * self._encoder.size
        num_frames = max(num_frames, REFRESHED_FRAMES)
        self._features = np.zeros((num_frames, num_tokens + NUM_PROSODY), np.float32)
        self._tokens = self._features[:, :num_tokens]
        self._prosody = self._features[:, num_tokens:]
        self._loudness = np.zeros(num_frames, np.float32)
        self._active = np.zeros((num_frames, HOPS_PER_FRAME), np.bool_)
        self._heard = self._pending = 0

    def hear(self, frame: HeardFrame) -> RecentSpeech:
        """Take the next frame; the features of the last ones, copied."""
        for remembered in (self._features, self._loudness, self._active):
            remembered[:-1] = remembered[1:]
        self._samples[:-SAMPLES_PER_FRAME] = self._samples[SAMPLES_PER_FRAME:]
        self._samples[-SAMPLES_PER_FRAME:] = frame.samples
        self._loudness[-1] = frame.loudness
        self._active[-1] = frame.active
        self._tokens[-1] = 0.0
        self._prosody[-1] = prosody(self._loudness[-1:], np.zeros((1, 2), np.float32))[0]
        if self._heard:
            begin = len(self._samples) - 2 * SAMPLES_PER_FRAME - pitch.LEAD_SAMPLES
            heard = np.array([self._pitch(self._samples[begin : begin + pitch.WINDOW])], np.float32)
            self._prosody[-2] = prosody(self._loudness[-2:-1], heard)[0]
        self._heard += 1
        self._pending += 1
        if self._heard % REFRESH_FRAMES == 0:
            self._encode()
        past = np.zeros(HANGOVER_HOPS, np.bool_)
        active = np.concatenate([past, self._active.ravel()])
        return RecentSpeech(
            self._features.copy(), self._loudness.copy(), spread_activity(active), self._pending
        )

    def forget(self, num_frames: int) -> None:
        """The last frames, no more than :data:`REFRESHED_FRAMES`, have been silence."""
        silence = silent_frame()
        self._samples[-num_frames * SAMPLES_PER_FRAME :] = 0.0
        self._loudness[-num_frames:] = silence.loudness
        self._active[:] = False
        nothing = np.zeros((num_frames, 2), np.float32)
        self._prosody[-num_frames:] = prosody(self._loudness[-num_frames:], nothing)
        self._encode()

    def _encode(self) -> None:
        """Let the encoder say anew what it has heard, as far as it was heard at all."""
        count = min(REFRESHED_FRAMES, self._heard)
        if count:
            tokens = self._encoder.encode(self._samples, newest=2 * count)
            self._tokens[-count:] = tokens.reshape(count, -1)
        self._pending = 0


def live_features(samples: Floats, look_ahead: int = 6) -> Floats:
    """Features (T, F) of a recording (N,) at 16 kHz as a live head judges them, frame by frame.

    Row t is what is known of frame t when ``look_ahead`` frames more have been heard; T is
    ``ceil(N / 640)``, as of :func:`moda.encoders.speech.encode_speech`.
    """
    num_frames = -(-len(samples) // SAMPLES_PER_FRAME)
    total = (num_frames + look_ahead) * SAMPLES_PER_FRAME + LEAD_SAMPLES
    heard = LiveSpeechEncoder(SAMPLE_RATE_HZ).push(np.pad(samples, (0, total - len(samples))))
    remembered = LiveFeatures(look_ahead + 1)
    rows = [
        remembered.hear(frame).features[-1 - look_ahead]
        for frame in heard[: num_frames + look_ahead]
    ]
    return np.stack(rows[look_ahead:])


class RateChange:
    """Sound at 16, 24 or 48 kHz to 16 kHz over a stream, with a reach of 1 ms.

    A linear-phase low-pass with its delay taken off. What is in :mod:`moda.media` is better and
    hands samples out in blocks, up to 40 ms late.
    """

    def __init__(self, sample_rate: int) -> None:
        self.lead = LEAD_SAMPLES * sample_rate // SAMPLE_RATE_HZ
        """Samples at the rate of the sound that :data:`LEAD_SAMPLES` take."""
        self.per_frame = int(sample_rate / FRAMES_PER_SECOND)
        common = int(np.gcd(sample_rate, SAMPLE_RATE_HZ))
        self._up, self._down = SAMPLE_RATE_HZ // common, sample_rate // common
        self._half = half = FILTER_REACH * self._down
        self._taps = _phases(half, self._up, self._down)
        """(up, K) for each place that a sample at 16 kHz can have between those that come."""
        self._first = -(half // self._up)
        """Place of the first held sample in the stream."""
        self._held = np.zeros(-self._first, np.float32)
        self._next = 0
        """Number of the next sample at 16 kHz."""

    def forget(self) -> None:
        """What is held has been silence."""
        self._held[:] = 0.0

    def push(self, samples: Floats) -> Floats:
        """Take samples (N,), return the samples (M,) at 16 kHz that they complete."""
        samples = np.asarray(samples, np.float32)
        if self._down == 1:
            return samples
        self._held = np.concatenate([self._held, samples])
        last = (self._first + len(self._held) - 1) * self._up - self._half
        numbers = np.arange(self._next, last // self._down + 1)
        if not len(numbers):
            return np.zeros(0, np.float32)
        begin = self._begin(numbers) - self._first
        # The last tap of some phases is 0, and meets a sample that has not come yet.
        windows = sliding_window_view(np.pad(self._held, (0, 1)), self._taps.shape[1])
        taps = self._taps[numbers % self._up]
        result: Floats = np.einsum("nk,nk->n", windows[begin], taps)
        self._next += len(numbers)
        oldest = int(self._begin(np.array(self._next))) - self._first
        self._held, self._first = self._held[oldest:], self._first + oldest
        return result

    def _begin(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of the first samples that the filter sees of samples at 16 kHz."""
        return -((self._half - numbers * self._down) // self._up)


def _phases(half: int, up: int, down: int) -> Floats:
    """Taps (up, K) of a low-pass for ``up`` / ``down`` of the rate, each beside its own inputs."""
    taps = np.pad(_low_pass(half, 0.94 / down, up), (0, up))
    phases = np.arange(up) * down
    begin = -((half - phases) // up)
    inputs = begin[:, None] + np.arange(2 * half // up + 1)
    return taps[inputs * up - phases[:, None] + half]


def _low_pass(half: int, cutoff: float, gain: float) -> Floats:
    """Taps (2 half + 1,) of a windowed sinc; ``cutoff`` as a share of half the sample rate."""
    taps = np.sinc(cutoff * np.arange(-half, half + 1)) * np.hamming(2 * half + 1)
    return (gain * taps / taps.sum()).astype(np.float32)
