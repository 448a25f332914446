"""The file that fixes an evaluation: clips, crops, seeds, versions, and who is compared.

Whatever decides a figure is in it. Input files carry their SHA-256, so that two people who run the
same protocol measure the same thing or are told that they do not.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from moda.errors import ConfigError, InputError
from moda.files import write_text
from moda.media.texts import read_text_file
from moda.strict_json import from_json
from moda.structures import EMOTIONS
from moda.version import __version__
from moda.weights.transfer import file_sha256

FORMAT, DEFINITIONS = 1, 1
"""Version of this file's keys, and of what the metrics mean; either rises when old numbers would
no longer compare."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_SECONDS = 600.0
MAX_SEEDS = 20
MAX_PROTOCOL_BYTES = 2**28
SIZE_LIMITS_PX = (128, 1024)
ROW_NAMES = ("real video", "real motion, rendered again", "still photograph")
"""Rows that every report has: what is to be reached, what the renderer can reach, the floor."""
Alignment = Literal["frame", "face"]
RECORDED_PACKAGES = ("numpy", "torch", "onnxruntime", "opencv-python-headless", "av")


@dataclass(frozen=True)
class InputFile:
    """A file beside the protocol; no path means none."""

    path: str = ""
    sha256: str = ""

    def __bool__(self) -> bool:
        return bool(self.path)


@dataclass(frozen=True)
class Clip:
    """What the methods are given, and the real video where there is one.

    With ``video`` the portrait is one of its frames and the speech its sound, unless others are
    named. Without it ``portrait`` and ``speech`` are needed, and nothing that compares with a real
    video can be measured.
    """

    name: str
    video: InputFile = field(default_factory=InputFile)
    portrait: InputFile = field(default_factory=InputFile)
    speech: InputFile = field(default_factory=InputFile)
    phones: InputFile = field(default_factory=InputFile)
    """start, end and symbol a line, in seconds of the speech file (:mod:`moda.phones`)"""
    start_seconds: float = 0.0
    seconds: float = MAX_SECONDS
    """at most; clips end with their video or speech"""

    def files(self) -> Iterator[tuple[str, InputFile]]:
        """The files that are named, with what they are."""
        for kind in ("video", "portrait", "speech", "phones"):
            file = getattr(self, kind)
            if file:
                yield kind, file


@dataclass(frozen=True)
class Crop:
    """What of the video is evaluated and given to the methods."""

    kind: Literal["head", "frame"] = "head"
    """``head``: a square around all places of the head in the clip; ``frame``: the whole picture"""
    margin: float = 1.9
    """side of the square over the height of the face"""
    size_px: int = 512
    """longer side of what is compared"""


@dataclass(frozen=True)
class SourceFrame:
    """Which frame of a real video becomes the portrait."""

    rule: Literal["calmest", "first", "index"] = "calmest"
    """``calmest``: lips closed, eyes open, head at its usual place"""
    index: int = 0
    """for the rule ``index``; frame of the clip at 25 fps"""


@dataclass(frozen=True)
class Window:
    """How a method joins windows, in frames; a stride of 0: it has none, or nobody knows."""

    stride: int = 0
    overlap: int = 0


@dataclass(frozen=True)
class Stated:
    """Cost of a method as measured elsewhere; 0 where nothing is stated."""

    real_time_factor: float = 0.0
    first_frame_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    machine: str = ""


@dataclass(frozen=True)
class Method:
    """Who is compared: a model of this package, or videos that somebody else's program made."""

    name: str
    model: str = ""
    """built-in name, or a checkpoint beside the protocol: its videos are made here and timed"""
    videos: str = ""
    """pattern of video files with ``{clip}`` and ``{seed}``"""
    emotion_videos: str = ""
    """pattern with ``{clip}`` and ``{emotion}``, ``neutral`` among them"""
    alignment: Alignment = "frame"
    """``frame``: the videos show what the inputs show, at any size; ``face``: they are cropped
    otherwise, and laid on the real one by the usual place of the face"""
    window: Window = field(default_factory=Window)
    stated: Stated = field(default_factory=Stated)


@dataclass(frozen=True)
class EmotionTest:
    """On which clip the emotions are tried; none without a name."""

    clip: str = ""
    emotions: tuple[str, ...] = ("happy", "sad", "angry", "surprised")


@dataclass(frozen=True)
class Protocol:
    """The whole file."""

    name: str
    clips: tuple[Clip, ...]
    methods: tuple[Method, ...]
    format: int = FORMAT
    definitions: int = DEFINITIONS
    seeds: tuple[int, ...] = (0,)
    crop: Crop = field(default_factory=Crop)
    source_frame: SourceFrame = field(default_factory=SourceFrame)
    emotions: EmotionTest = field(default_factory=EmotionTest)
    versions: tuple[str, ...] = ()
    """exact versions that the numbers hold for, such as ``torch==2.13.0``"""


class OpenProtocol(NamedTuple):
    """A protocol with the folder that its paths start from."""

    protocol: Protocol
    path: Path

    def locate(self, name: str) -> Path:
        """A path of the file as a path of this machine."""
        return self.path.parent / name


def read_protocol(path: Path) -> OpenProtocol:
    """Read and check a protocol; the files it names are checked by :func:`check_inputs`.

    Raises:
        InputError: the file cannot be read.
        ConfigError: a key is unknown, or a value impossible.
    """
    protocol = from_json(Protocol, _text(path))
    try:
        _check(protocol)
    except ConfigError as error:
        raise ConfigError(f"protocol {path}: {error}") from None
    return OpenProtocol(protocol, path)


def check_inputs(opened: OpenProtocol) -> None:
    """All input files must be there with the hashes of the protocol, and the versions right.

    Raises:
        InputError: a file is missing, has no hash in the protocol, or another one.
    """
    for clip in opened.protocol.clips:
        for kind, file in clip.files():
            where = f"clip {clip.name}: {kind} {file.path}"
            found = _hash(opened.locate(file.path), where)
            if not file.sha256:
                raise InputError(
                    f"{where} has no sha256; write the hashes with: moda evaluate-videos "
                    f"{opened.path} --seal"
                )
            if found != file.sha256:
                raise InputError(
                    f"{where} has SHA-256 {found}, the protocol says {file.sha256}: it is another "
                    "file; bring the right one, or --seal the protocol anew under another name"
                )


def version_mismatches(protocol: Protocol) -> list[str]:
    """Packages of another version than the protocol fixes, in words."""
    wrong = []
    for pin in protocol.versions:
        name, expected = pin.split("==")
        try:
            found = __version__ if name == "moda" else metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        if found != expected:
            wrong.append(f"{name} is {found}, the protocol fixes {expected}")
    return wrong


def used_versions() -> dict[str, str]:
    """Versions that a report names."""
    found = {"moda": __version__, "python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def seal(opened: OpenProtocol) -> int:
    """Write the hashes of all input files into the protocol; how many were new or others.

    Only hashes are touched; everything else of the file stays as it was written.

    Raises:
        InputError: an input file is missing.
        OutputError: the protocol cannot be written.
    """
    raw = json.loads(_text(opened.path))
    changed = 0
    for written, clip in zip(raw["clips"], opened.protocol.clips, strict=True):
        for kind, file in clip.files():
            found = _hash(opened.locate(file.path), f"clip {clip.name}: {kind} {file.path}")
            changed += found != file.sha256
            written[kind]["sha256"] = found
    write_text(opened.path, json.dumps(raw, indent=2) + "\n")
    return changed


def _text(path: Path) -> str:
    return read_text_file(path, f"protocol {path}", MAX_PROTOCOL_BYTES)


def _hash(path: Path, where: str) -> str:
    if not path.is_file():
        raise InputError(f"{where} is missing; paths are relative to the protocol's folder")
    return file_sha256(path)


def _check(protocol: Protocol) -> None:
    for what, found, known in (
        ("format", protocol.format, FORMAT),
        ("definitions", protocol.definitions, DEFINITIONS),
    ):
        if found != known:
            raise ConfigError(f"{what} {found} is not {known}, the one of moda {__version__}")
    _check_names("clips", [clip.name for clip in protocol.clips])
    _check_names("methods", [method.name for method in protocol.methods])
    if not protocol.clips:
        raise ConfigError("there are no clips; name at least one")
    seeds = protocol.seeds
    if not 1 <= len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ConfigError(f"seeds {list(seeds)}: give 1 to {MAX_SEEDS} different ones from 0 up")
    _check_crop(protocol.crop)
    if protocol.source_frame.index < 0:
        raise ConfigError(f"source_frame.index {protocol.source_frame.index} is below 0")
    for clip in protocol.clips:
        _check_clip(clip)
    for method in protocol.methods:
        _check_method(method, protocol)
    _check_emotions(protocol)
    for pin in protocol.versions:
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", pin):
            raise ConfigError(f"version {pin!r} is not of the form name==1.2.3")


def _check_names(what: str, names: list[str]) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{what}: the name {name!r} is no plain one; use up to 64 letters, digits, "
                "spaces and . _ + -"
            )
        if name.lower() in ROW_NAMES:
            raise ConfigError(f"{what}: {name!r} is the name of a row that every report has")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{what}: {', '.join(twice)} is there twice")


def _check_crop(crop: Crop) -> None:
    low, high = SIZE_LIMITS_PX
    if not low <= crop.size_px <= high or crop.size_px % 2:
        raise ConfigError(f"crop.size_px {crop.size_px} is not an even number from {low} to {high}")
    if not 1.0 <= crop.margin <= 6.0:
        raise ConfigError(f"crop.margin {crop.margin} is outside 1..6")


def _check_clip(clip: Clip) -> None:
    if not clip.video and not (clip.portrait and clip.speech):
        raise ConfigError(f"clip {clip.name}: give a video, or a portrait and speech")
    if not 0.0 <= clip.start_seconds <= 4 * 3600.0:
        raise ConfigError(f"clip {clip.name}: start_seconds {clip.start_seconds} is below 0")
    if not 0.4 <= clip.seconds <= MAX_SECONDS:
        raise ConfigError(
            f"clip {clip.name}: seconds {clip.seconds} is outside 0.4..{MAX_SECONDS:.0f}"
        )
    for kind, file in clip.files():
        if file.sha256 and not SHA256.fullmatch(file.sha256):
            raise ConfigError(f"clip {clip.name}: the sha256 of {kind} is not 64 hex digits")


def _check_method(method: Method, protocol: Protocol) -> None:
    where = f"method {method.name}"
    if bool(method.model) == bool(method.videos):
        raise ConfigError(f"{where}: give either a model or a pattern of videos")
    needed = {"videos": ["{clip}"] if len(protocol.clips) > 1 else []}
    needed["videos"] += ["{seed}"] if len(protocol.seeds) > 1 else []
    needed["emotion_videos"] = ["{emotion}"]
    for key, marks in needed.items():
        pattern = getattr(method, key)
        missing = [mark for mark in marks if mark not in pattern]
        if pattern and missing:
            raise ConfigError(f"{where}: {key} {pattern!r} lacks {' and '.join(missing)}")
        unknown = set(re.findall(r"\{[^}]*\}?", pattern)) - {"{clip}", "{seed}", "{emotion}"}
        if unknown:
            raise ConfigError(f"{where}: {key} has the unknown mark {', '.join(sorted(unknown))}")
    if not 0 <= method.window.overlap <= max(method.window.stride, 0):
        raise ConfigError(f"{where}: a window's overlap must lie between 0 and its stride")


def _check_emotions(protocol: Protocol) -> None:
    test = protocol.emotions
    if test.clip and test.clip not in [clip.name for clip in protocol.clips]:
        raise ConfigError(f"emotions.clip {test.clip!r} is no clip of the protocol")
    for emotion in test.emotions:
        if emotion not in EMOTIONS:
            raise ConfigError(f"unknown emotion {emotion!r}; choose from {', '.join(EMOTIONS)}")
