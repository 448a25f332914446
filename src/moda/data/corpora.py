"""Corpora of talking faces as their authors distribute them: which clips, whose, and what for.

A reader lists clips and opens no video. What it cannot use is in ``problems``, not an exception.
Splits are the corpus's own where it has them. Validation speakers are taken from the training part
by a hash of their names, so that more data never moves a speaker from one split to another.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from moda.errors import InputError
from moda.media.tables import MAX_TABLE_BYTES, table_rows
from moda.media.texts import read_text_file
from moda.strict_json import parse_json
from moda.structures import EMOTIONS

Split = Literal["train", "validation", "test"]
CorpusKind = Literal["folder", "lrs3", "voxceleb2", "hdtf", "mead", "celebv-hq"]
CORPUS_KINDS: tuple[str, ...] = get_args(CorpusKind)

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".m4v"})
SOUND_SUFFIXES = (".wav", ".flac", ".m4a", ".mp3")
VALIDATION_SHARE = 0.05
CELEBV_HQ_EMOTIONS: Mapping[str, str] = {
    "anger": "angry",
    "disgust": "disgusted",
    "sadness": "sad",
    "surprise": "surprised",
}
"""Its names that differ from ours."""
LRS3_PARTS: tuple[tuple[str, Split], ...] = (
    ("pretrain", "train"),
    ("trainval", "train"),
    ("test", "test"),
)
VOXCELEB2_PARTS: tuple[tuple[str, Split], ...] = (("dev", "train"), ("test", "test"))
OWN_SOUND, NO_SOUND = ("", "own", "yes", "true", "1"), ("none", "no", "false", "0")
"""What the column ``sound`` of labels may say."""
HDTF_NAME = re.compile(r"(?:(RD|WDA|WRA)_)?(.+?)_(\d+)")
MAX_LABELS, MAX_TRANSCRIPT_BYTES, MAX_LIST_BYTES = 1_000_000, 2**20, 2**30
HDTF_RAW = "_videos_raw"
"""Where the authors' script keeps whole videos before it cuts them."""


class Word(NamedTuple):
    """A word and when it is spoken."""

    text: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class CorpusClip:
    """One clip of a corpus, before anybody has looked at it."""

    video: Path
    name: str
    """unique in the corpus, without slashes; prepared clips are called so"""
    speaker: str
    split: Split = "train"
    emotion: str | None = None
    sound: Path | None = None
    """where it is not in the video"""
    has_own_sound: bool = True
    """False where the sound is missing or not the speaker's own"""
    transcript: str | None = None
    words: tuple[Word, ...] = ()


class Problem(NamedTuple):
    """Something of a corpus that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """What a reader found; clips in the order of their names."""

    clips: tuple[CorpusClip, ...]
    problems: tuple[Problem, ...] = ()


def read_corpus(
    kind: str,
    root: Path,
    *,
    labels: Path | None = None,
    validation_share: float = VALIDATION_SHARE,
) -> Corpus:
    """List the clips of a corpus of one of :data:`CORPUS_KINDS`.

    ``labels`` is a CSV file for the kind ``folder`` alone, see :func:`read_labels`.

    Raises:
        InputError: The kind is unknown, the folder does not look like it, or holds no clip.
    """
    if kind not in CORPUS_KINDS:
        raise InputError(f"unknown corpus {kind!r}; choose one of {', '.join(CORPUS_KINDS)}")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; give the folder of the corpus")
    if labels is not None and kind != "folder":
        raise InputError(f"labels {labels} are for plain folders; {kind} has its own")
    reader = _READERS[kind]
    found = list(read_folder(root, labels) if kind == "folder" else reader(root))
    problems = [item for item in found if isinstance(item, Problem)]
    clips = [item for item in found if isinstance(item, CorpusClip)]
    if not clips:
        expected = (reader.__doc__ or "").splitlines()[0].rstrip(".")
        raise InputError(f"{root} holds no clips of the layout {kind!r} ({expected})")
    doubled = [name for name, count in Counter(clip.name for clip in clips).items() if count > 1]
    if doubled:
        raise InputError(f"{root} has several videos named {min(doubled)!r}; rename one")
    clips = [_with_validation(clip, validation_share) for clip in clips]
    return Corpus(
        tuple(sorted(clips, key=lambda clip: clip.name)),
        tuple(sorted(problems, key=lambda problem: problem.name)),
    )


def _with_validation(clip: CorpusClip, share: float) -> CorpusClip:
    if clip.split != "train":
        return clip
    number = int.from_bytes(hashlib.sha256(clip.speaker.encode()).digest()[:8], "big") / 2**64
    return replace(clip, split="validation") if number < share else clip


Found = Iterator[CorpusClip | Problem]


def read_folder(root: Path, labels: Path | None = None) -> Found:
    """Videos in a folder and the folders in it, each its own speaker unless labels say more.

    Sound is that of a file beside the video with the same stem, or else of the video.
    """
    table = read_labels(labels) if labels is not None else {}
    videos = {video.relative_to(root).as_posix(): video for video in _videos(root)}
    for file in sorted(table.keys() - videos.keys()):
        yield Problem(file, "missing: the labels name it, but there is no such video")
    for file, video in videos.items():
        name = "-".join(Path(file).with_suffix("").parts)
        known = table.get(file, ClipLabels(speaker=name))
        yield CorpusClip(
            video,
            name,
            known.speaker,
            emotion=known.emotion,
            sound=_beside(video) if known.sound else None,
            has_own_sound=known.sound,
        )


def read_lrs3(root: Path) -> Found:
    """{pretrain,trainval,test}/VIDEO/NNNNN.mp4 with NNNNN.txt.

    The text file has a line ``Text:`` and, in ``pretrain``, a table of words with their times under
    a line that begins with ``WORD``. A video of YouTube, a talk, stands for its speaker; no talk of
    ``test`` is in the other parts. Source: T. Afouras et al., "LRS3-TED: a large-scale dataset for
    visual speech recognition", arXiv 1809.00496.
    """
    for part, split in LRS3_PARTS:
        texts = set((root / part).glob("*/*.txt"))
        videos = set(_videos(root / part, "*/*.mp4"))
        for stem in sorted({path.with_suffix("") for path in texts | videos}):
            name = f"{part}-{stem.parent.name}-{stem.name}"
            video = stem.with_suffix(".mp4")
            if video not in videos:
                yield Problem(name, "missing: there is a text, but no video")
                continue
            try:
                text, words = read_lrs3_text(stem.with_suffix(".txt"))
            except (InputError, ValueError) as error:
                yield Problem(name, f"text unreadable: {error}")
                continue
            yield CorpusClip(video, name, stem.parent.name, split, transcript=text, words=words)


def read_lrs3_text(path: Path) -> tuple[str, tuple[Word, ...]]:
    """The transcript and, where there is a table of them, the words.

    Raises:
        InputError: The file cannot be read.
        ValueError: There is no line ``Text:``, or a time is no number.
    """
    text, words, inside = None, [], False
    for line in read_text_file(path, path.name, MAX_TRANSCRIPT_BYTES).splitlines():
        parts = line.split()
        if line.startswith("Text:"):
            text = " ".join(parts[1:])
        elif parts[:1] == ["WORD"]:
            inside = True
        elif inside and len(parts) >= 3:
            words.append(Word(parts[0], float(parts[1]), float(parts[2])))
        else:
            inside = False
    if text is None:
        raise ValueError(f"{path.name} has no line that begins with Text:")
    return text, tuple(words)


def read_voxceleb2(root: Path) -> Found:
    """{dev,test}/mp4/idNNNNN/VIDEO/NNNNN.mp4, sound in {dev,test}/aac/.../NNNNN.m4a.

    Speakers of ``test`` are in no other part. Source: J. S. Chung et al., "VoxCeleb2: Deep Speaker
    Recognition", Interspeech 2018.
    """
    for part, split in VOXCELEB2_PARTS:
        base = root / part / "mp4"
        for video in _videos(base, "*/*/*.mp4"):
            inner = video.relative_to(base)
            sound = (root / part / "aac" / inner).with_suffix(".m4a")
            yield CorpusClip(
                video,
                "-".join(inner.with_suffix("").parts),
                inner.parts[0],
                split,
                sound=sound if sound.exists() else _beside(video),
            )


def read_hdtf(root: Path) -> Found:
    """{RD,WDA,WRA}_NAME_NNN.mp4 or NAME_N.mp4, anywhere below: clips cut from whole videos.

    The first is how the script in the corpus's repository names them, the second how its text does.
    A number after a name counts the person's videos; after ``Radio`` it counts the persons. The
    corpus has no split: all of it is training data but for the validation speakers. Source: Z.
    Zhang et al., "Flow-guided One-shot Talking Face Generation with a High-resolution Audio-visual
    Dataset", CVPR 2021.
    """
    for video in _videos(root):
        if HDTF_RAW in video.relative_to(root).parts:
            continue
        match = HDTF_NAME.fullmatch(video.stem)
        if match is None:
            yield Problem(video.stem, "unknown name: it is not like WDA_AdamSchiff_000")
            continue
        person = match.group(2)
        speaker = person if person.startswith("Radio") else person.rstrip("0123456789_")
        yield CorpusClip(video, video.stem, speaker or person, sound=_beside(video))


def read_mead(root: Path) -> Found:
    """PERSON/video/front/EMOTION/level_N/NNN.mp4, sound in PERSON/audio/EMOTION/level_N/NNN.m4a.

    Only the frontal camera is read. Source: K. Wang et al., "MEAD: A Large-scale Audio-visual
    Dataset for Emotional Talking-face Generation", ECCV 2020.
    """
    for video in _videos(root, "*/video/front/*/level_*/*.mp4"):
        person, _, _, emotion, level, _ = video.relative_to(root).parts
        name = f"{person}-{emotion}-{level}-{video.stem}"
        sound = root / person / "audio" / emotion / level / f"{video.stem}.m4a"
        if emotion not in EMOTIONS:
            yield Problem(name, f"unknown emotion: {emotion!r} is none of {', '.join(EMOTIONS)}")
            continue
        yield CorpusClip(
            video, name, person, emotion=emotion, sound=sound if sound.exists() else _beside(video)
        )


def read_celebv_hq(root: Path) -> Found:
    """celebvhq_info.json, and the clips it names, cut by the authors' script, anywhere below.

    Nobody says who is seen: a video of YouTube stands for its speaker. An emotion counts where one
    holds for the whole clip. Source: H. Zhu et al., "CelebV-HQ: A Large-Scale Video Facial
    Attributes Dataset", ECCV 2022.
    """
    listing = root / "celebvhq_info.json"
    try:
        content = read_text_file(listing, str(listing), MAX_LIST_BYTES)
        clips: Mapping[str, Any] = parse_json(content)["clips"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{listing} cannot be read: {error}; it comes with the corpus") from error
    videos = {video.stem: video for video in _videos(root)}
    for name, entry in clips.items():
        if name not in videos:
            yield Problem(name, "missing: the list names it, but there is no such video")
            continue
        try:
            speaker = str(entry["ytb_id"])
            emotion = _celebv_hq_emotion(entry["attributes"]["emotion"])
        except (KeyError, TypeError) as error:
            yield Problem(name, f"damaged list: its entry lacks {error}")
            continue
        yield CorpusClip(videos[name], name, speaker, emotion=emotion, sound=_beside(videos[name]))


def _celebv_hq_emotion(entry: Mapping[str, Any]) -> str | None:
    labels = entry["labels"]
    if entry.get("sep_flag") or not isinstance(labels, str):
        return None
    emotion = CELEBV_HQ_EMOTIONS.get(labels, labels)
    return emotion if emotion in EMOTIONS else None


_READERS: Mapping[str, Callable[[Path], Found]] = {
    "folder": read_folder,
    "lrs3": read_lrs3,
    "voxceleb2": read_voxceleb2,
    "hdtf": read_hdtf,
    "mead": read_mead,
    "celebv-hq": read_celebv_hq,
}


@dataclass(frozen=True)
class ClipLabels:
    """What a CSV file says of a clip."""

    speaker: str
    emotion: str | None = None
    sound: bool = True


def read_labels(path: Path) -> dict[str, ClipLabels]:
    """Labels by file (its path in the folder) from a table, see :mod:`moda.media.tables`.

    Columns: ``file``, ``speaker``, ``emotion`` (may be empty), ``sound``: one of :data:`OWN_SOUND`,
    or of :data:`NO_SOUND` where the sound is not the speaker's own. Capitals do not matter.

    Raises:
        InputError: no such file, a column is missing, an emotion or a sound is unknown, or a file
            has two rows.
    """
    name = f"labels {path}"
    labels: dict[str, ClipLabels] = {}
    text = read_text_file(path, name, MAX_TABLE_BYTES)
    for line, cells in table_rows(text, name, max_rows=MAX_LABELS):
        row = {column.lower(): value for column, value in cells.items()}
        place = f"{name}, line {line}"
        file, speaker = row.get("file", "").replace("\\", "/"), row.get("speaker")
        if not file or not speaker:
            raise InputError(f"{place}: columns file and speaker are needed")
        if file in labels:
            raise InputError(f"{place}: {file} has labels already; keep one line for each file")
        emotion = row.get("emotion", "").lower() or None
        if emotion is not None and emotion not in EMOTIONS:
            raise InputError(
                f"{place}: unknown emotion {emotion!r}; choose one of {', '.join(EMOTIONS)}"
            )
        sound = row.get("sound", "").lower()
        if sound not in OWN_SOUND + NO_SOUND:
            raise InputError(
                f"{place}: unknown sound {sound!r}; choose own (or yes, true, nothing) where it is "
                "the speaker's own, none (or no, false) where it is not"
            )
        labels[file] = ClipLabels(speaker, emotion, sound in OWN_SOUND)
    return labels


def _videos(folder: Path, pattern: str = "**/*") -> Iterator[Path]:
    yield from sorted(
        path for path in folder.glob(pattern) if path.suffix.lower() in VIDEO_SUFFIXES
    )


def _beside(video: Path) -> Path | None:
    """A sound file with the stem of the video."""
    candidates = (video.with_suffix(suffix) for suffix in SOUND_SUFFIXES)
    return next((path for path in candidates if path.exists()), None)
