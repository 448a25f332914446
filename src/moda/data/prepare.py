"""Talking videos to prepared clips: tracked, with their sound, resumable, bad files reported."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moda.data.clips import PreparedClip, read_header, write_clip
from moda.encoders.face import FaceModels
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import track_landmarks
from moda.errors import FaceError, InputError, ModaError
from moda.media import AudioReader, VideoReader
from moda.structures import EMOTIONS

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v"})
SOUND_SUFFIXES = (".wav", ".flac", ".m4a", ".mp3")
MIN_SECONDS = 1.0
MIN_FOUND_SHARE = 0.8


@dataclass(frozen=True)
class ClipLabels:
    """What is known of a clip besides its file."""

    speaker: str
    emotion: str | None = None
    sound: bool = True
    """False where the sound is missing or not the speaker's own"""


@dataclass(frozen=True)
class ClipOutcome:
    """What became of one video."""

    file: str
    status: str
    """``prepared``, ``kept`` from an earlier run, or ``skipped``"""
    seconds: float = 0.0
    reason: str = ""


def prepare_folder(
    folder: Path,
    output: Path,
    *,
    models: FaceModels,
    labels: Path | None = None,
    sound: bool = True,
    report: Callable[[ClipOutcome, int, int], None] = lambda outcome, done, total: None,
) -> list[ClipOutcome]:
    """Track every video of a folder; one file per clip and ``report.json`` in ``output``.

    A clip whose file is already there and whose video has not changed is kept. The sound is that of
    a file with the same stem, or else of the video. ``labels`` is a CSV file with the columns
    ``file``, ``speaker``, ``emotion`` and ``sound`` (the last two may be empty or absent); without
    it every file is its own speaker. ``report`` is called with the outcome, the number of videos
    done and their total.

    Raises:
        InputError: the folder or the labels cannot be read, or hold nothing usable.
    """
    videos = list(find_videos(folder))
    table = read_labels(labels) if labels is not None else {}
    output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for index, video in enumerate(videos, start=1):
        known = table.get(video.name, ClipLabels(speaker=video.stem))
        if not sound:
            known = ClipLabels(known.speaker, known.emotion, sound=False)
        outcome = _prepare(video, output / f"{video.stem}.safetensors", known, models)
        outcomes.append(outcome)
        report(outcome, index, len(videos))
    _write_report(output / "report.json", outcomes)
    return outcomes


def find_videos(folder: Path) -> Iterator[Path]:
    """Videos directly in a folder, by name.

    Raises:
        InputError: it is no folder, or there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of talking videos")
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        kinds = ", ".join(sorted(VIDEO_SUFFIXES))
        raise InputError(f"{folder} holds no videos ({kinds})")
    stems = [video.stem for video in videos]
    doubled = sorted({stem for stem in stems if stems.count(stem) > 1})
    if doubled:
        raise InputError(f"{folder} has several videos named {doubled[0]!r}; rename one")
    yield from videos


def read_labels(path: Path) -> dict[str, ClipLabels]:
    """Labels by file name from a CSV file.

    Raises:
        InputError: no such file, a column is missing, or an emotion is unknown.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"labels {path} cannot be read: {error}") from error
    labels = {}
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or not row.get("speaker"):
            raise InputError(f"labels {path}, line {number}: columns file and speaker are needed")
        emotion = row.get("emotion") or None
        if emotion is not None and emotion not in EMOTIONS:
            raise InputError(
                f"labels {path}, line {number}: unknown emotion {emotion!r}; "
                f"choose one of {', '.join(EMOTIONS)}"
            )
        own_sound = (row.get("sound") or "own") != "none"
        labels[row["file"]] = ClipLabels(row["speaker"], emotion, own_sound)
    return labels


def _prepare(video: Path, target: Path, labels: ClipLabels, models: FaceModels) -> ClipOutcome:
    fingerprint = _fingerprint(video, labels)
    if target.exists():
        try:
            header = read_header(target)
        except ModaError:
            header = {}
        if header.get("fingerprint") == fingerprint:
            return ClipOutcome(video.name, "kept", float(header["seconds"]))
    try:
        clip = track_clip(video, labels, models)
    except ModaError as error:
        return ClipOutcome(video.name, "skipped", reason=str(error))
    header = {"fingerprint": fingerprint, "seconds": f"{clip.seconds:.2f}"}
    write_clip(target, clip, header)
    return ClipOutcome(video.name, "prepared", clip.seconds)


def track_clip(video: Path, labels: ClipLabels, models: FaceModels) -> PreparedClip:
    """Landmarks and sound of one video.

    Raises:
        ModaError: it cannot be read, is too short, or shows its face too seldom.
    """
    reader = VideoReader(video)
    track = track_landmarks(reader.timed_pictures(), models)
    if len(track) < MIN_SECONDS * track.frames_per_second:
        raise InputError(
            f"{video} lasts {len(track) / track.frames_per_second:.1f} s, less than "
            f"{MIN_SECONDS:g} s; use longer clips"
        )
    share = float(track.found.mean())
    if share < MIN_FOUND_SHARE:
        raise FaceError(
            f"{video} shows the face in {share:.0%} of its frames, less than "
            f"{MIN_FOUND_SHARE:.0%}; cut the clip to where the face is seen"
        )
    samples = np.zeros(0, np.int16)
    sidecar = next(
        (path for suffix in SOUND_SUFFIXES if (path := video.with_suffix(suffix)).exists()), None
    )
    if labels.sound and (sidecar or reader.has_sound):
        samples = _read_samples(sidecar or video)
    return PreparedClip(video.stem, labels.speaker, labels.emotion, track, samples)


def _read_samples(path: Path) -> NDArray[np.int16]:
    sound = np.concatenate(list(AudioReader(path, SAMPLE_RATE_HZ)))
    peak = max(1.0, float(np.abs(sound).max()))
    samples: NDArray[np.int16] = np.round(sound / peak * 32767.0).astype(np.int16)
    return samples


def _fingerprint(video: Path, labels: ClipLabels) -> str:
    status = video.stat()
    return f"{status.st_size}/{status.st_mtime_ns}/{json.dumps(asdict(labels), sort_keys=True)}"


def _write_report(path: Path, outcomes: list[ClipOutcome]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    partial.replace(path)
