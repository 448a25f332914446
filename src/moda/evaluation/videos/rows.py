"""The videos of every row: the real one, its motion rendered again, the photograph, the methods."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from moda.config import PRESETS
from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.tracking import motion_from_landmarks
from moda.errors import InputError
from moda.evaluation.rendered.reenactment import own_motion
from moda.evaluation.videos.generation import Cost, Task
from moda.evaluation.videos.protocol import (
    ROW_NAMES,
    Alignment,
    Method,
    OpenProtocol,
    Stated,
    Window,
)
from moda.evaluation.videos.references import Reference, write_video
from moda.media import VideoReader
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import MotionSpace, Picture
from moda.weights.checkpoints import load_checkpoint

REAL, RENDERED, STILL = ROW_NAMES
Make = Callable[[Task], Cost]


@dataclass(frozen=True)
class RowVideo:
    """One video of one row."""

    row: str
    clip: str
    seed: int | None
    """None where nothing is drawn at random"""
    frames: Callable[[], Iterator[Picture]]
    """at 25 fps, from the start each time"""
    path: Path | None
    """a file of it; None where there is none"""
    alignment: Alignment = "frame"
    window: Window = field(default_factory=Window)
    cost: Cost | Stated = field(default_factory=Stated)
    is_real: bool = False


def usual_rows(
    reference: Reference, folder: Path, models: FaceModels, space: MotionSpace
) -> Iterator[RowVideo]:
    """The rows that every report has, as far as a clip allows: without a real video only the still
    photograph."""
    if reference.real is not None:
        assert reference.real_file is not None
        frames = reference.real.frames
        yield RowVideo(REAL, reference.name, None, frames, reference.real_file, is_real=True)
        path = folder / "rendered.mp4"
        render_again(reference, path, models, space)
        yield RowVideo(RENDERED, reference.name, None, file_frames(path), path)
    yield RowVideo(STILL, reference.name, None, lambda: still_frames(reference), None)


def method_rows(
    opened: OpenProtocol, method: Method, reference: Reference, folder: Path, make: Make
) -> Iterator[RowVideo]:
    """The videos of a method for one clip, one a seed; models of this package make them here.

    Raises:
        InputError: a video is missing.
    """
    alignment: Alignment = "frame" if method.model else method.alignment
    for seed in opened.protocol.seeds:
        cost: Cost | Stated
        if method.model:
            path = folder / f"{safe_name(method.name)}-{seed}.mp4"
            cost = make(_task(opened, method, reference, path, seed))
            window = model_window(model_name(opened, method))
        else:
            path = find_video(opened, method.videos, reference.name, method.name, seed=seed)
            cost, window = method.stated, method.window
        frames = file_frames(path)
        yield RowVideo(method.name, reference.name, seed, frames, path, alignment, window, cost)


def emotion_video(
    opened: OpenProtocol,
    method: Method,
    reference: Reference,
    emotion: str,
    folder: Path,
    make: Make,
) -> Path | None:
    """The video of a method with an emotion, None if it has none.

    Raises:
        InputError: it should have one, but the file is missing.
    """
    if method.model:
        path = folder / f"{safe_name(method.name)}-{emotion}.mp4"
        make(_task(opened, method, reference, path, opened.protocol.seeds[0], emotion))
        return path
    if not method.emotion_videos:
        return None
    return find_video(opened, method.emotion_videos, reference.name, method.name, emotion=emotion)


def render_again(reference: Reference, path: Path, models: FaceModels, space: MotionSpace) -> None:
    """Animate the portrait with the real video's own motion: the best that the renderer can do."""
    assert reference.track is not None
    portrait = encode_portrait(reference.portrait, space, models=models)
    if reference.source_index is None:
        motion, _ = motion_from_landmarks(reference.track, space)
    else:
        motion = own_motion(reference.track, space, reference.source_index)
    renderer = MeshRenderer(portrait, space, size=max(reference.size) // 2 * 2)
    write_video(path, renderer.render(motion), renderer.frame_size, reference.speech_file)


def still_frames(reference: Reference) -> Iterator[Picture]:
    """The portrait, again and again."""
    return itertools.repeat(reference.portrait, reference.num_frames)


def file_frames(path: Path) -> Callable[[], Iterator[Picture]]:
    """How to read the frames of a file at 25 fps."""
    return lambda: iter(VideoReader(path))


def find_video(
    opened: OpenProtocol,
    pattern: str,
    clip: str,
    method: str,
    *,
    seed: int | None = None,
    emotion: str = "",
) -> Path:
    """The file that a pattern means. Raises :class:`InputError` if it is missing."""
    name = pattern.replace("{clip}", clip).replace("{emotion}", emotion)
    path = opened.locate(name.replace("{seed}", str(seed)))
    if not path.is_file():
        raise InputError(
            f"method {method}: {path} is missing; write the inputs of all clips with --inputs, "
            "make the videos, and name them as the protocol says"
        )
    return path


def model_name(opened: OpenProtocol, method: Method) -> str:
    """A built-in name as it is; a file relative to the protocol."""
    return method.model if method.model in PRESETS else str(opened.locate(method.model))


def model_window(model: str) -> Window:
    """Stride and overlap of a model's windows."""
    motion = PRESETS[model].motion if model in PRESETS else load_checkpoint(model).config.motion
    return Window(motion.stride, motion.overlap)


def safe_name(name: str) -> str:
    """A name as part of a file name."""
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _task(
    opened: OpenProtocol,
    method: Method,
    reference: Reference,
    path: Path,
    seed: int,
    emotion: str = "",
) -> Task:
    return Task(
        model_name(opened, method),
        reference.portrait_file,
        reference.speech_file,
        path,
        int(np.max(reference.size)),
        seed,
        emotion,
    )
