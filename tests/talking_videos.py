"""Short talking videos of the example portrait, made with the program itself, and what spoils them.

They stand for the clips of a corpus: a real face that talks, with the sound it talks to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

import moda
from media_files import write_video, write_wav
from moda.media import AudioReader
from paths import EXAMPLES

Picture = NDArray[np.uint8]


class Talk(NamedTuple):
    """A talking face at 25 fps."""

    pictures: list[Picture]
    """(H, W, 3)"""
    sound: NDArray[np.float32]
    """(N,) at 16 kHz"""

    def write(self, path: Path, *, with_sound: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        milliseconds = [40 * index for index in range(len(self.pictures))]
        sound = self.sound if with_sound else None
        return write_video(path, self.pictures, milliseconds, sound=sound)

    def write_sound(self, path: Path) -> Path:
        """Sound alone, ``.wav`` or ``.m4a``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".wav":
            return write_wav(path, self.sound, 16_000)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16_000, layout="mono")
            for start in range(0, len(self.sound), 1024):
                frame = AudioFrame.from_ndarray(
                    self.sound[None, start : start + 1024], format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 16_000, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    def part(self, start: int, stop: int) -> Talk:
        """Frames from ``start`` to ``stop`` with their sound."""
        return Talk(self.pictures[start:stop], self.sound[640 * start : 640 * stop])

    def each(self, change: Callable[[Picture], NDArray]) -> Talk:
        """With every picture changed."""
        return Talk(
            [np.ascontiguousarray(change(picture)) for picture in self.pictures], self.sound
        )


def make_talk(folder: Path, seconds: float = 3.0) -> Talk:
    """The example portrait says the beginning of the example sentence."""
    sound = np.concatenate(list(AudioReader(EXAMPLES / "speech.wav", 16_000)))
    sound = sound[: round(16_000 * seconds)]
    speech = write_wav(folder / "talk.wav", sound, 16_000)
    video = moda.TalkingHead.from_pretrained("moda-tiny").generate(
        EXAMPLES / "portrait.jpg", speech, size=256, full_frame=False
    )
    pictures = [np.asarray(picture, np.uint8).copy() for picture in video.frames()]
    return Talk(pictures[: round(25 * seconds)], sound)


def beside_itself(picture: Picture) -> Picture:
    """Two of it: twice the person."""
    half = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2))
    return np.hstack([half, half])


def in_the_distance(picture: Picture) -> Picture:
    """A tenth as large, in the middle of grey."""
    height, width = picture.shape[:2]
    far = np.full_like(picture, 120)
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    far[height // 3 : height // 3 + height // 4, width // 3 : width // 3 + width // 4] = small
    return far
