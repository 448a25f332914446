"""Prepared clips in shards: safetensors files of many clips, memory-mapped when read.

A shard holds the landmarks and the sound of its clips, in the neural space also motion, identity
and speech features, and as JSON what is known of each, also of those that were left out and why.
The same clips give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from moda.data.corpora import CorpusClip, Split, Word
from moda.data.mapped import map_tensors
from moda.data.statistics import MotionStatistics
from moda.encoders.tracking import LandmarkTrack
from moda.errors import CheckpointError
from moda.files import whole_file
from moda.strict_json import parse_json
from moda.structures import EMOTIONS, Floats

SpaceName = Literal["mesh", "neural"]

FORMAT = "moda-shard-1"
SHARD_PATTERN = "shard-*.safetensors"
PARTIAL_PATTERN = "*.partial"


@dataclass(frozen=True)
class NeuralTrack:
    """What a clip is in the neural space; T frames at 25 fps. The arrays may be mapped files."""

    motion: Floats
    """(2, T, 70) raw, of the picture and of the mirrored picture"""
    identity: Floats
    """(2, 63) canonical key points of both, means over the clip"""
    features: NDArray[np.float16]
    """(T, F) HuBERT features of the sound; (0, F) without speech"""


TRACK_TENSORS = ("landmarks", "found", "samples")
NEURAL_TENSORS = tuple(item.name for item in fields(NeuralTrack))


@dataclass(frozen=True)
class PreparedClip:
    """One talking video, tracked; ``samples`` is empty where the sound is not the speaker's."""

    name: str
    speaker: str
    emotion: str | None
    track: LandmarkTrack
    samples: NDArray[np.int16]
    """(N,) mono 16 kHz"""
    split: Split = "train"
    transcript: str | None = None
    words: tuple[Word, ...] = ()
    neural: NeuralTrack | None = None
    """where the clip was prepared for the neural space"""

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


@dataclass(frozen=True)
class ClipEntry:
    """What a shard says of a clip."""

    name: str
    speaker: str
    split: Split
    status: Literal["prepared", "skipped"]
    fingerprint: str
    """of the files and options that it was made from"""
    seconds: float = 0.0
    reasons: tuple[str, ...] = ()
    """why it was skipped, or what speaks against it; a few words and a colon, then more"""
    emotion: str | None = None
    transcript: str | None = None
    words: tuple[Word, ...] = ()

    @classmethod
    def of(cls, clip: PreparedClip | CorpusClip, fingerprint: str = "") -> ClipEntry:
        """Of a clip that is worth training on, or of one that was skipped."""
        seconds = round(clip.seconds, 2) if isinstance(clip, PreparedClip) else None
        return cls(
            clip.name,
            clip.speaker,
            clip.split,
            "skipped" if seconds is None else "prepared",
            fingerprint,
            seconds=seconds or 0.0,
            emotion=clip.emotion,
            transcript=clip.transcript,
            words=clip.words,
        )


class Shard:
    """One file of prepared clips. Opening it reads the entries alone.

    Raises:
        CheckpointError: The file is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="np") as file:
                header = parse_json((file.metadata() or {}).get("shard", "{}"))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is no shard of prepared clips: {error}") from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise CheckpointError(f"{path} is no shard of prepared clips of format {FORMAT}")
        try:
            self.space = _space_name(header["space"])
            self.entries = tuple(_entry(values) for values in header["clips"])
            self.statistics = MotionStatistics.from_dict(header["statistics"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} has entries that cannot be read: {error}") from error

    def clip(self, entry: ClipEntry) -> PreparedClip:
        """One of the prepared clips.

        Raises:
            CheckpointError: It is not in the file.
        """
        try:
            with safe_open(self.path, framework="np") as file:
                tensors = {key: file.get_tensor(f"{entry.name}/{key}") for key in TRACK_TENSORS}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.path} lacks the clip {entry.name}: {error}") from error
        return PreparedClip(
            entry.name,
            entry.speaker,
            entry.emotion,
            LandmarkTrack(tensors["landmarks"], tensors["found"].astype(bool)),
            tensors["samples"],
            entry.split,
            entry.transcript,
            entry.words,
            self._neural(entry.name) if self.space == "neural" else None,
        )

    @cached_property
    def _mapped(self) -> dict[str, NDArray[Any]]:
        return map_tensors(self.path)

    def _neural(self, name: str) -> NeuralTrack:
        try:
            return NeuralTrack(*(self._mapped[f"{name}/{key}"] for key in NEURAL_TENSORS))
        except KeyError as error:
            raise CheckpointError(f"{self.path} lacks a part of the clip {name}: {error}") from None

    def clips(self) -> Iterator[PreparedClip]:
        """All prepared clips, one after the other."""
        for entry in self.entries:
            if entry.status == "prepared":
                yield self.clip(entry)


def write_shard(
    path: Path,
    entries: Sequence[ClipEntry],
    clips: Iterable[PreparedClip],
    statistics: MotionStatistics,
    space: SpaceName = "mesh",
) -> None:
    """Write a shard, whole or not at all; ``clips`` are those of the entries that are prepared."""
    tensors: dict[str, NDArray[Any]] = {}
    for clip in clips:
        values = {
            "landmarks": clip.track.landmarks,
            "found": clip.track.found.astype(np.uint8),
            "samples": clip.samples,
        }
        if clip.neural is not None:
            values |= vars(clip.neural)
        for key in _tensor_names(space):
            tensors[f"{clip.name}/{key}"] = np.ascontiguousarray(values[key])
    header = {
        "format": FORMAT,
        "space": space,
        "clips": [asdict(entry) for entry in entries],
        "statistics": statistics.to_dict(),
    }
    with whole_file(path) as part:
        mode = part.stat().st_mode
        save_file(tensors, part, metadata={"shard": json.dumps(header, sort_keys=True)})
        part.chmod(mode)  # safetensors leaves files that only their owner can read


def read_shards(folder: Path) -> Iterator[Shard]:
    """The shards of a folder in the order of their names.

    Raises:
        CheckpointError: There are none, or one is damaged.
    """
    paths = sorted(folder.glob(SHARD_PATTERN))
    if not paths:
        raise CheckpointError(f"{folder} holds no prepared clips; run moda prepare first")
    for path in paths:
        yield Shard(path)


def iterate_clips(folder: Path) -> Iterator[PreparedClip]:
    """Prepared clips of a folder; one is in memory at a time.

    Raises:
        CheckpointError: The folder holds none, or a file is damaged.
    """
    for shard in read_shards(folder):
        yield from shard.clips()


def read_clips(folders: list[Path]) -> list[PreparedClip]:
    """All clips of some folders, in the order of the names in each.

    Raises:
        CheckpointError: A folder holds none, or a file is damaged.
    """
    return [
        clip
        for folder in folders
        for clip in sorted(iterate_clips(folder), key=lambda clip: clip.name)
    ]


def _tensor_names(space: SpaceName) -> tuple[str, ...]:
    return (*TRACK_TENSORS, *NEURAL_TENSORS) if space == "neural" else TRACK_TENSORS


def _space_name(value: object) -> SpaceName:
    if value not in get_args(SpaceName):
        raise ValueError(f"unknown motion space {value!r}")
    return value  # type: ignore[return-value]


def _entry(values: dict[str, Any]) -> ClipEntry:
    words = tuple(Word(*word) for word in values.pop("words"))
    entry = ClipEntry(**values | {"words": words, "reasons": tuple(values["reasons"])})
    if entry.emotion is not None and entry.emotion not in EMOTIONS:
        raise ValueError(f"unknown emotion {entry.emotion!r} of {entry.name}")
    return entry
