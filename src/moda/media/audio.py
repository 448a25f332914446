"""Sound in: any sound or video file to a stream of samples, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av.container
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from moda.errors import MediaError
from moda.media.channels import OneVoice, to_stereo
from moda.media.containers import (
    MAX_SECONDS,
    check_seconds,
    decode,
    is_picture,
    open_media,
    require_decoder,
    sound_of,
    stream_seconds,
    stream_start,
    taken_for,
    time_zero,
    unreadable,
)
from moda.structures import Floats

MIN_SECONDS = 0.04
"""One frame at 25 frames per second."""
SAMPLE_RATE_LIMITS_HZ = (4_000, 384_000)
MAX_UNFILLED_GAP_SECONDS = 0.05
"""Longer holes between the time stamps (a recorder that stops in silence) become silence."""
CHUNK_SECONDS = 1
CHUNKED: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
"""How WAV and AIFF files begin, and how they write their length."""
LOUDEST = 8.0
"""Of decoded samples, where full scale is 1; integers that were saved as floats are far above."""


class AudioReader:
    """The sound track of a file, its default one of several, as mono chunks at one sample rate.

    Opening reads the header and the first samples, so that most errors show at once. Iterating
    reads from the start, each time anew.

    Args:
        path: Any sound or video file that FFmpeg opens.
        sample_rate: Of the chunks, in Hz.
        number: Which sound track of several, from 1; None is the default one.
        max_seconds: Longest track; headers lie, so the samples are counted too.

    Raises:
        MediaError: The file is missing or damaged, or has no such sound track, no samples, less
            than 40 ms of them, values that are not finite (also later, while iterating), or more
            than ``max_seconds`` (also later).
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int = 16_000,
        *,
        number: int | None = None,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.number = number
        self.max_seconds = max_seconds
        with open_media(self.path, "sound") as container:
            track = SoundTrack.of(container, self.path, number, max_seconds)
            num_tracks = len(container.streams.audio) if number is None else 1
            seconds = 0.0
            for block in track.blocks():
                seconds += block.shape[1] / track.rate_hz
                if seconds >= MIN_SECONDS:
                    break
        _check_long_enough(self.path, seconds)
        self.native_rate_hz = track.rate_hz
        self.num_channels = track.num_channels
        self.duration_seconds = max(track.claimed_seconds or seconds, seconds)
        """What the header claims; only reading everything tells the truth."""
        self.notes = tuple(_notes_on(self.path, num_tracks))
        """What the user should know of the file though it stops nothing."""

    def __iter__(self) -> Iterator[Floats]:
        """Yield mono chunks (N,), together as long as the track, to a sample."""
        with open_media(self.path, "sound") as container:
            track = SoundTrack.of(container, self.path, self.number, self.max_seconds)
            resampler = Resampler(track.rate_hz, self.sample_rate, num_channels=1)
            voice = OneVoice()
            for block in track.blocks():
                chunk = resampler.push(voice.mix(block))
                if chunk.shape[1]:
                    yield chunk[0]
            chunk = resampler.finish()
            if chunk.shape[1]:
                yield chunk[0]


@dataclass(frozen=True)
class SoundTrack:
    """The sound track of an open container, at its own rate."""

    container: av.container.InputContainer
    stream: AudioStream
    path: Path
    rate_hz: int
    num_channels: Literal[1, 2]
    """Of the blocks: everything with more channels becomes stereo."""
    claimed_seconds: float | None
    lead_seconds: float
    """Silence before the first sample: the pictures of a video may begin earlier."""
    max_seconds: float = MAX_SECONDS

    @classmethod
    def of(
        cls,
        container: av.container.InputContainer,
        path: Path,
        number: int | None = None,
        max_seconds: float = MAX_SECONDS,
    ) -> SoundTrack:
        """Check the header of the sound track with a number from 1, or of the default one.

        Raises:
            MediaError: There is none, or its rate or duration is outside the limits.
        """
        stream = sound_of(container)
        if stream is None:
            if is_picture(path):
                raise taken_for(path, "sound")
            raise MediaError(f"{path} has no sound track; give a recording of speech")
        if number is not None:
            if not 1 <= number <= len(container.streams.audio):
                raise MediaError(
                    f"{path} has no sound track {number}; it has {len(container.streams.audio)}, "
                    "counted from 1"
                )
            stream = container.streams.audio[number - 1]
        require_decoder(stream, path, "sound")
        rate = stream.rate or 0
        low, high = SAMPLE_RATE_LIMITS_HZ
        if not low <= rate <= high:
            raise MediaError(
                f"{path} has a sample rate of {rate} Hz, outside {low}..{high}; save it as wav "
                "at 48000 Hz"
            )
        lead = max(float(stream_start(stream) - time_zero(container)), 0.0)
        seconds = stream_seconds(container, stream)
        seconds = None if seconds is None else lead + seconds
        check_seconds(path, seconds or 0.0, max_seconds)
        channels: Literal[1, 2] = 1 if stream.channels == 1 else 2
        return cls(container, stream, path, rate, channels, seconds, lead, max_seconds)

    def blocks(self) -> Iterator[Floats]:
        """Yield the samples (C, N) in order, holes filled with silence, -1..1 nominal.

        Raises:
            MediaError: The track is damaged, too long, or holds values that are not finite.
        """
        position, origin = 0, None
        packets = self.container.demux(self.stream)
        for frame in decode(packets, self.stream.decode, self.path, "sound"):
            if frame.sample_rate != self.rate_hz:
                raise MediaError(
                    f"{self.path} changes its sample rate from {self.rate_hz} to "
                    f"{frame.sample_rate} Hz; save it as wav"
                )
            if frame.time is not None:
                origin = frame.time - self.lead_seconds if origin is None else origin
                gap = frame.time - origin - position / self.rate_hz
                if gap > (MAX_UNFILLED_GAP_SECONDS if position else 0.0):
                    check_seconds(self.path, frame.time - origin, self.max_seconds)
                    for silence in self._silence(round(gap * self.rate_hz)):
                        position += silence.shape[1]
                        yield silence
            samples = self._samples(frame)
            loudest = float(np.abs(samples).max(initial=0.0))
            if not np.isfinite(loudest):
                raise MediaError(
                    f"{self.path} holds samples that are no numbers (NaN or infinite) at "
                    f"{position / self.rate_hz:.2f} s; repair the file or save it again"
                )
            if loudest > LOUDEST:
                raise MediaError(
                    f"{self.path} holds samples up to {loudest:.6g} at "
                    f"{position / self.rate_hz:.2f} s, where full scale is 1; save it as wav with "
                    "16 bits"
                )
            position += samples.shape[1]
            check_seconds(self.path, position / self.rate_hz, self.max_seconds)
            yield samples

    def _silence(self, count: int) -> Iterator[Floats]:
        chunk = CHUNK_SECONDS * self.rate_hz
        for start in range(0, count, chunk):
            yield np.zeros((self.num_channels, min(chunk, count - start)), np.float32)

    def _samples(self, frame: AudioFrame) -> Floats:
        """Decoded samples of any format as (C, N) float32."""
        try:
            values = frame.to_ndarray()
        except ValueError as error:
            raise unreadable(self.path, "sound", error) from None
        if not frame.format.is_planar:
            values = values.reshape(-1, frame.layout.nb_channels).T
        if values.dtype == np.uint8:
            samples = (values.astype(np.float32) - 128.0) / 128.0
        elif values.dtype.kind == "i":
            full_scale = 2.0 ** (8 * values.dtype.itemsize - 1)
            samples = (values / full_scale).astype(np.float32)
        else:
            with np.errstate(over="ignore"):
                samples = values.astype(np.float32)
        if len(samples) > 2:
            return to_stereo(samples, tuple(channel.name for channel in frame.layout.channels))
        if len(samples) == self.num_channels:
            return samples
        mono = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        return np.repeat(mono, self.num_channels, axis=0)


class Resampler:
    """Change of sample rate over a stream: no drift, no delay, the length exact to a sample."""

    def __init__(self, source_hz: int, target_hz: int, *, num_channels: int) -> None:
        self._ratio = (target_hz, source_hz)
        self._num_channels = num_channels
        self._pushed = self._given = 0
        self._stream = (
            None
            if source_hz == target_hz
            else soxr.ResampleStream(source_hz, target_hz, num_channels, "float32", "HQ")
        )

    def push(self, samples: Floats) -> Floats:
        """Take samples (C, N), return as many as are ready (C, M)."""
        self._pushed += samples.shape[1]
        if self._stream is None:
            return samples
        return self._given_up_to_end(self._run(samples, last=False))

    def finish(self) -> Floats:
        """Return what is left (C, M)."""
        empty = np.zeros((self._num_channels, 0), np.float32)
        if self._stream is None:
            return empty
        tail = self._given_up_to_end(self._run(empty, last=True))
        missing = self._total() - self._given
        return np.pad(tail, ((0, 0), (0, max(missing, 0))))

    def _run(self, samples: Floats, *, last: bool) -> Floats:
        assert self._stream is not None
        interleaved = np.ascontiguousarray(samples.T)
        result: Floats = self._stream.resample_chunk(interleaved, last=last)
        return result.reshape(-1, self._num_channels).T

    def _total(self) -> int:
        target, source = self._ratio
        return -(-self._pushed * target // source)

    def _given_up_to_end(self, samples: Floats) -> Floats:
        samples = samples[:, : max(self._total() - self._given, 0)]
        self._given += samples.shape[1]
        return samples


def _notes_on(path: Path, num_tracks: int) -> Iterator[str]:
    if num_tracks > 1:
        yield (
            f"{path} has {num_tracks} sound tracks; its default one, or else the first, is used; "
            "--sound-track chooses another"
        )
    with path.open("rb") as file:
        kind, size = file.read(4), file.read(4)
        if kind in CHUNKED and len(size) == 4:
            length = int.from_bytes(size, CHUNKED[kind])
            file.seek(8 + length + length % 2)
            if file.read(4) == kind:
                yield f"{path} holds several recordings one after the other; the first is used"


def _check_long_enough(path: Path, seconds: float) -> None:
    if seconds == 0.0:
        raise MediaError(f"{path} has a sound track without samples; give a recording of speech")
    if seconds < MIN_SECONDS:
        raise MediaError(
            f"{path} lasts {seconds * 1000:.0f} ms, less than the limit of "
            f"{MIN_SECONDS * 1000:.0f} ms; give a longer recording"
        )
