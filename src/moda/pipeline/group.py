"""Several faces of one picture, each with speech of its own.

Every face is animated on the whole picture as if it were alone; around each, its own frame is
shown, and half way to the next face the frames fade into each other. Hardly anything moves there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moda.errors import InputError
from moda.media import AudioReader, read_image
from moda.media.containers import MAX_SECONDS
from moda.media.waves import wave_file
from moda.options import Speaker, VideoOptions, of_head, read_options
from moda.pipeline.talking_head import TalkingHead
from moda.pipeline.talking_video import TalkingVideo
from moda.structures import Floats, Picture

MIXED_RATE_HZ = 48_000
FADE_SHARE = 0.25
"""Of the distance of two faces: over this much one frame fades into the other."""
TURN_PAUSE_SECONDS = 0.4


def animate_group(
    head: TalkingHead,
    portrait: str | Path | Picture,
    speakers: Sequence[Speaker],
    folder: Path,
    options: VideoOptions | None = None,
    *,
    max_seconds: float = MAX_SECONDS,
    **changes: Any,
) -> TalkingVideo:
    """Make several faces of a picture speak; its motion is that of the first.

    Args:
        head: The model.
        portrait: Picture with all of them.
        speakers: Who says what; faces that are not named stay still.
        folder: For the sound, must exist as long as the video is used.
        options, changes: As in :meth:`TalkingHead.generate`, for all faces. Every face has a seed
            of its own that follows from the seed. ``in_turns``: one speaks after the other.
        max_seconds: Longest speech, of one face and of all.

    Raises:
        ModaError: As :meth:`TalkingHead.generate`.
    """
    options = read_options(changes, start=options, allowed=(*of_head(), "in_turns"))
    numbers = [speaker.face for speaker in speakers]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"a face is named twice in {numbers}; every face has one recording")
    image = portrait if isinstance(portrait, np.ndarray) else read_image(portrait)
    sounds, whole, notes = _arrange(
        speakers, folder, in_turns=options.in_turns, max_seconds=max_seconds
    )
    videos = [
        head.generate(
            image,
            sound,
            options,
            face=speaker.face,
            full_frame=True,
            seed=None if options.seed is None else options.seed + index,
            max_seconds=max_seconds,
        )
        for index, (speaker, sound) in enumerate(zip(speakers, sounds, strict=True))
    ]
    centres = [_face_centre(head, image, speaker.face) for speaker in speakers]
    width, height = videos[0].frame_size
    scale = np.array([width / image.shape[1], height / image.shape[0]])
    weights = ownership([centre * scale for centre in centres], (width, height))
    files = () if isinstance(portrait, np.ndarray) else (Path(portrait),)
    return replace(
        videos[0],
        sound=whole,
        sources=(*files, *(speaker.speech for speaker in speakers)),
        frames=lambda: _mixed(videos, weights),
        notes=_each_once([*notes, *(note for video in videos for note in video.notes)]),
        notes_afterwards=lambda: _each_once(
            [
                note.replace(sound.name, speaker.speech.name)
                for video, sound, speaker in zip(videos, sounds, speakers, strict=True)
                for note in video.notes_afterwards()
            ]
        ),
        moving=None,
    )


def _each_once(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))


def _mixed(videos: Sequence[TalkingVideo], weights: Sequence[Floats]) -> Iterator[Picture]:
    """Frames (H, W, 3) of all videos together, with the weight (H, W, 1) of each."""
    for pictures in zip(*(video.frames() for video in videos), strict=True):
        mixed = sum(weight * picture for weight, picture in zip(weights, pictures, strict=True))
        yield np.round(np.asarray(mixed)).astype(np.uint8)


def ownership(centres: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[Floats, ...]:
    """(H, W, 1) for each centre (x, y): 1 around it, 0 around the others, a soft edge half way."""
    width, height = size
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    shares = []
    for own in centres:
        share = np.ones((height, width))
        for other in centres:
            if other is own:
                continue
            across = other - own
            length = float(np.hypot(*across))
            middle = 0.5 * (own + other)
            ahead = ((columns - middle[0]) * across[0] + (rows - middle[1]) * across[1]) / length
            share *= np.clip(0.5 - ahead / (FADE_SHARE * max(length, 1.0)), 0.0, 1.0)
        shares.append(share)
    total = np.maximum(np.sum(shares, axis=0), 1e-9)
    return tuple((share / total).astype(np.float32)[:, :, None] for share in shares)


def _face_centre(head: TalkingHead, image: Picture, face: int) -> np.ndarray:
    """(x, y) in pixels of the picture."""
    points = head.system.find_face(image, face)
    return points[:, :2].mean(0)


def _arrange(
    speakers: Sequence[Speaker], folder: Path, *, in_turns: bool, max_seconds: float
) -> tuple[list[Path], Path, list[str]]:
    """Sound files of equal length, one for each face, all of them together, and notes on them."""
    readers = [
        AudioReader(speaker.speech, MIXED_RATE_HZ, max_seconds=max_seconds) for speaker in speakers
    ]
    lengths = [sum(len(chunk) for chunk in reader) for reader in readers]
    starts = [0] * len(readers)
    if in_turns:
        pause = round(TURN_PAUSE_SECONDS * MIXED_RATE_HZ)
        starts = [sum(lengths[:index]) + index * pause for index in range(len(lengths))]
    total = max(start + length for start, length in zip(starts, lengths, strict=True))
    paths = [folder / f"face-{speaker.face}.wav" for speaker in speakers]
    for reader, start, path in zip(readers, starts, paths, strict=True):
        _write_wave(path, _placed(reader, start, total))
    whole = folder / "all.wav"
    tracks = [_placed(reader, start, total) for reader, start in zip(readers, starts, strict=True)]
    _write_wave(whole, (np.sum(blocks, axis=0) for blocks in zip(*tracks, strict=True)))
    return paths, whole, [note for reader in readers for note in reader.notes]


def _placed(reader: AudioReader, start: int, total: int) -> Iterator[Floats]:
    """Blocks of a second of a recording that begins at a sample, silence around it."""
    waiting = [np.zeros(start, np.float32)]
    chunks = iter(reader)
    for begin in range(0, total, MIXED_RATE_HZ):
        length = min(MIXED_RATE_HZ, total - begin)
        while sum(map(len, waiting)) < length:
            waiting.append(next(chunks, np.zeros(length, np.float32)))
        held = np.concatenate(waiting)
        waiting = [held[length:]]
        yield held[:length]


def _write_wave(path: Path, blocks: Iterator[Floats]) -> None:
    with wave_file(path, MIXED_RATE_HZ) as file:
        for block in blocks:
            limited = np.clip(block, -1.0, 1.0)
            file.writeframes(np.round(limited * 32767).astype("<i2").tobytes())
