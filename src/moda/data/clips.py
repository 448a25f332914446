"""Prepared clips: one safetensors file each with landmarks, sound and labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moda.data.mapped import map_tensors
from moda.encoders.tracking import LandmarkTrack
from moda.errors import CheckpointError
from moda.structures import EMOTIONS, Floats

FORMAT = "moda-clip-1"
NEURAL = ("motion", "identity", "features")
"""Tensors of a :class:`NeuralTrack`, mapped when a clip is read."""


@dataclass(frozen=True)
class NeuralTrack:
    """What the neural system needs of a clip at 25 fps. The arrays may be mapped files."""

    motion: Floats
    """(2, T, 70) raw motion of the picture and of its mirror image"""
    identity: Floats
    """(2, 63) canonical key points of both"""
    features: NDArray[np.float16]
    """(T, F) of the speech"""


@dataclass(frozen=True)
class PreparedClip:
    """One talking video, tracked; ``samples`` is empty where the sound is not the speaker's."""

    name: str
    speaker: str
    emotion: str | None
    track: LandmarkTrack
    samples: NDArray[np.int16]
    """(N,) mono 16 kHz"""
    neural: NeuralTrack | None = None

    @property
    def has_speech(self) -> bool:
        return len(self.samples) > 0

    @property
    def sound(self) -> Floats:
        """(N,) samples in -1..1"""
        return self.samples.astype(np.float32) / np.float32(32768.0)

    @property
    def seconds(self) -> float:
        return len(self.track) / self.track.frames_per_second


def write_clip(path: Path, clip: PreparedClip, header: Mapping[str, str]) -> None:
    """Write a clip, whole or not at all. ``header`` adds to what the clip says of itself."""
    partial = path.with_suffix(".partial")
    tensors: dict[str, NDArray[Any]] = {
        "landmarks": np.ascontiguousarray(clip.track.landmarks),
        "found": clip.track.found.astype(np.uint8),
        "samples": clip.samples if clip.has_speech else np.zeros(1, np.int16),
    }
    if clip.neural is not None:
        tensors |= {name: np.ascontiguousarray(getattr(clip.neural, name)) for name in NEURAL}
    own = {
        "format": FORMAT,
        "name": clip.name,
        "speaker": clip.speaker,
        "emotion": clip.emotion or "",
        "has_speech": str(clip.has_speech).lower(),
    }
    save_file(tensors, partial, metadata={**header, **own})
    partial.replace(path)


def read_header(path: Path) -> dict[str, str]:
    """The labels of a prepared clip.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a prepared clip: {error}") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a prepared clip of format {FORMAT}")
    return header


def read_clip(path: Path) -> PreparedClip:
    """Read what :func:`write_clip` wrote.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    header = read_header(path)
    with safe_open(path, framework="np") as file:
        landmarks, found = file.get_tensor("landmarks"), file.get_tensor("found")
        samples = file.get_tensor("samples")
    emotion = header["emotion"] or None
    if emotion is not None and emotion not in EMOTIONS:
        raise CheckpointError(f"{path} has an unknown emotion {emotion!r}")
    mapped = map_tensors(path)
    neural = NeuralTrack(*(mapped[name] for name in NEURAL)) if NEURAL[0] in mapped else None
    return PreparedClip(
        name=header["name"],
        speaker=header["speaker"],
        emotion=emotion,
        track=LandmarkTrack(landmarks, found.astype(bool)),
        samples=samples if header["has_speech"] == "true" else np.zeros(0, np.int16),
        neural=neural,
    )


def iterate_clips(folder: Path) -> Iterator[PreparedClip]:
    """The clips of a folder in the order of their names; one is in memory at a time.

    Raises:
        CheckpointError: The folder holds none, or a file is damaged.
    """
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"{folder} holds no prepared clips; run moda prepare first")
    for path in paths:
        yield read_clip(path)


def read_clips(folders: list[Path]) -> list[PreparedClip]:
    """All clips of some folders in the order of their names.

    Raises:
        CheckpointError: a folder holds none, or a file is damaged.
    """
    return [clip for folder in folders for clip in iterate_clips(folder)]
