"""Small media files made with tools other than the code under test."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from paths import EXAMPLES


def write_wav(path: Path, samples: NDArray[np.floating], rate_hz: int) -> Path:
    """16-bit wav of samples (N,) or (N, C) in -1..1."""
    values = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(values.tobytes())
    return path


def tone(seconds: float, rate_hz: int, frequency_hz: float = 300.0) -> NDArray[np.float64]:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.3 * np.sin(2 * np.pi * frequency_hz * time)


def click(seconds: float, rate_hz: int, at: float, channels: int = 1) -> NDArray[np.float64]:
    """Faint noise with one loud sample, (N, C)."""
    samples = np.random.default_rng(0).normal(0, 1e-3, (round(seconds * rate_hz), channels))
    samples[round(at * rate_hz)] = 0.9
    return samples


def level_pictures(levels: Sequence[int], size: tuple[int, int] = (96, 64)) -> list[NDArray]:
    """Evenly grey pictures, so that each can be told from the others after coding."""
    width, height = size
    return [np.full((height, width, 3), level, np.uint8) for level in levels]


def write_video(
    path: Path,
    pictures: Sequence[NDArray],
    milliseconds: Sequence[int],
    *,
    sound: NDArray | None = None,
    sound_start_ms: int = 0,
    display_matrix: Sequence[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rate: int = 1000,
) -> Path:
    """Video of pictures at given times, optionally with a 16 kHz sound track.

    ``rate`` is what the file says of its frames per second.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {"crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.max_b_frames = 0
        if display_matrix is not None:
            stream.set_display_matrix(list(display_matrix))
        if sound is not None:
            sound_stream = container.add_stream("flac", rate=16_000)
            sound_stream.layout = "mono"
            frame = AudioFrame.from_ndarray(
                (sound * 32767).astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = sound_start_ms * 16
        durations = np.diff([*milliseconds, 2 * milliseconds[-1] - milliseconds[-2]])
        for picture, time, duration in zip(pictures, milliseconds, durations, strict=True):
            frame_out = VideoFrame.from_ndarray(picture, "rgb24")
            frame_out.pts, frame_out.time_base = time, Fraction(1, 1000)
            frame_out.duration = int(duration)
            container.mux(stream.encode(frame_out))
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound_stream.encode(frame))
            container.mux(sound_stream.encode(None))
    return path


class Decoded(NamedTuple):
    """A video file decoded again."""

    frames: list[NDArray[np.uint8]]
    frame_times: NDArray[np.float64]
    frame_rate: Fraction
    video_seconds: float
    samples: NDArray[np.float32]
    """(C, N)"""
    sample_rate: int
    sound_start: float
    sound_seconds: float
    metadata: dict[str, str]

    @property
    def loudest_at(self) -> float:
        return self.sound_start + float(np.abs(self.samples[0]).argmax()) / self.sample_rate


def decode_video(path: Path) -> Decoded:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames, times = [], []
        for frame in container.decode(video):
            frames.append(frame.to_ndarray(format="rgb24"))
            times.append(frame.time)
        rate, metadata = video.average_rate, dict(container.metadata)
        video_seconds = float(video.duration * video.time_base)
    samples, sample_rate, sound_start, sound_seconds = np.zeros((1, 0), np.float32), 0, 0.0, 0.0
    with av.open(str(path)) as container:
        if container.streams.audio:
            sound = container.streams.audio[0]
            decoded = list(container.decode(sound))
            samples = np.concatenate([frame.to_ndarray() for frame in decoded], axis=1)
            sample_rate, sound_start = sound.rate, decoded[0].time
            sound_seconds = float(sound.duration * sound.time_base)
    return Decoded(
        frames, np.array(times), rate, video_seconds, samples, sample_rate, sound_start,
        sound_seconds, metadata,
    )  # fmt: skip


def write_moving_portrait(
    path: Path, shift_px: float, *, num_frames: int = 36, rate: int = 30
) -> None:
    """The example portrait moving to the right by ``shift_px`` in all, with a tone."""
    picture = cv2.resize(
        np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB")), (256, 256)
    )
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        video.width, video.height, video.pix_fmt = 256, 256, "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for index in range(num_frames):
            matrix = np.array([[1, 0, shift_px * index / num_frames], [0, 1, 0]], np.float64)
            frame = cv2.warpAffine(picture, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
            container.mux(video.encode(VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        length = 16_000 * num_frames // rate
        tone = 0.2 * np.sin(np.arange(length) * 2 * np.pi * 300 / 16_000)
        for start in range(0, length, 1024):
            piece = tone[None, start : start + 1024].astype(np.float32)
            audio = AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            audio.sample_rate, audio.pts = 16_000, start
            container.mux(sound.encode(audio))
        container.mux(sound.encode())
