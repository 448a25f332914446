"""What a face does, frame by frame, for avatars that somebody else draws."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.errors import InputError
from moda.files import whole_file
from moda.media import AudioReader
from moda.motion.blend_shapes import ARKIT_SHAPES, BlendShapes
from moda.motion.visemes import frame_visemes
from moda.phones import LABELS_PER_SECOND, PhoneSegment, label_segments
from moda.pipeline.talking_head import TalkingHead
from moda.pipeline.talking_video import TalkingVideo
from moda.speech_synthesis import SpokenText
from moda.structures import FRAMES_PER_SECOND, Floats

HEARD_PER_SECOND = 50
"""Probabilities of phones that the model hears."""
HEAD = ("headPitch", "headYaw", "headRoll")
"""Degrees; pitch down, yaw to the person's left, roll to the right of the picture are positive."""
SUFFIXES = (".json", ".csv")


class MouthFrame(NamedTuple):
    """What the face does in one frame."""

    seconds: float
    viseme: str
    """One of the 15 of Oculus"""
    shapes: Floats
    """(52,) amounts of :data:`moda.motion.blend_shapes.ARKIT_SHAPES`"""
    head: Floats
    """(3,) degrees, see :data:`HEAD`"""


def check_export_path(path: Path) -> None:
    """Raise :class:`InputError` unless the file has a format that is written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is neither .json nor .csv; give a name that ends in one of them")


def mouth_frames(
    head: TalkingHead,
    video: TalkingVideo,
    speech: Path | SpokenText,
) -> Iterator[MouthFrame]:
    """The frames of a video of the head that says ``speech``, at 25 a second, without drawing them.

    Visemes are those of the phones where they are known, otherwise those that the model hears.

    Raises:
        InputError, MediaError: The speech cannot be read; the model does not move a mesh; or nobody
            knows the phones of a recording of over half an hour.
    """
    shapes = BlendShapes(head.space)
    known = speech.phones if isinstance(speech, SpokenText) else ()
    sound = speech.path if isinstance(speech, SpokenText) else speech
    heard = AudioReader(sound, SAMPLE_RATE_HZ, number=video.sound_track)
    visemes = _visemes(head, heard, known, video.num_frames)
    pose = [head.space.slice(name).start for name in ("pitch", "yaw", "roll")]
    number = 0
    for motion in video.motion():
        for amounts, row in zip(shapes(motion), motion.values, strict=True):
            viseme = visemes[min(number, len(visemes) - 1)]
            yield MouthFrame(number / FRAMES_PER_SECOND, viseme, amounts, row[pose])
            number += 1


def _visemes(
    head: TalkingHead, sound: AudioReader, known: tuple[PhoneSegment, ...], num_frames: int
) -> list[str]:
    if known:
        count = int(np.ceil(num_frames / FRAMES_PER_SECOND * LABELS_PER_SECOND))
        labels = label_segments(known, count)
        return frame_visemes(labels, num_frames, LABELS_PER_SECOND)
    return frame_visemes(head.system.hear_phones(sound).argmax(1), num_frames, HEARD_PER_SECOND)


def write_mouth(frames: Iterator[MouthFrame], path: Path) -> int:
    """Write frames into a file, .json or .csv, that is whole or not there; how many there were.

    Raises:
        InputError: The name ends otherwise.
        OutputError: The file cannot be written.
    """
    check_export_path(path)
    write = _write_json if path.suffix.lower() == ".json" else _write_csv
    with whole_file(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        return write(frames, file)


def _write_json(frames: Iterator[MouthFrame], file: TextIO) -> int:
    """One object: ``framesPerSecond``, ``shapes``, ``head`` and ``frames``, a line each."""
    names = {"framesPerSecond": FRAMES_PER_SECOND, "shapes": ARKIT_SHAPES, "head": HEAD}
    file.write(json.dumps(names)[:-1] + ', "frames": [')
    count = 0
    for frame in frames:
        entry = {
            "seconds": round(frame.seconds, 3),
            "viseme": frame.viseme,
            "shapes": [round(float(amount), 4) for amount in frame.shapes],
            "head": [round(float(angle), 3) for angle in frame.head],
        }
        file.write((",\n" if count else "\n") + json.dumps(entry))
        count += 1
    file.write("\n]}\n")
    return count


def _write_csv(frames: Iterator[MouthFrame], file: TextIO) -> int:
    """A row a frame: ``seconds``, ``viseme``, the 52 shapes and the three angles of the head."""
    writer = csv.writer(file)
    writer.writerow(["seconds", "viseme", *ARKIT_SHAPES, *HEAD])
    count = 0
    for frame in frames:
        amounts = [f"{amount:.4f}" for amount in frame.shapes]
        angles = [f"{angle:.3f}" for angle in frame.head]
        writer.writerow([f"{frame.seconds:.3f}", frame.viseme, *amounts, *angles])
        count += 1
    return count
