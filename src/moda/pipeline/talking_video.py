"""A video that does not exist yet, and the way from its frames to a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moda.errors import InputError
from moda.files import check_empty, check_outputs, whole_file
from moda.media import VideoWriter, check_output_path, exact_rate, outputs_of
from moda.media.provenance import (
    MIME_TYPES,
    ManifestSigner,
    SigningIdentity,
    can_sign,
    synthetic_media_tags,
)
from moda.media.subtitles import make_cues, write_srt
from moda.structures import Motion, Part, Picture
from moda.structures.words import TimedWord

Progress = Callable[[int, int], None]
"""Called with the number of frames written and the expected number of frames."""


class VideoSummary(NamedTuple):
    """What was written."""

    path: Path
    num_frames: int
    seconds: float
    """Length of the video."""
    wall_seconds: float
    """Time it took to sample, render and write."""
    notes: tuple[str, ...] = ()
    """What the user should know of the recording, known only now."""

    @property
    def real_time_factor(self) -> float:
        """Time taken over the length of the video; below 1 is faster than real time."""
        return self.wall_seconds / self.seconds


@dataclass(frozen=True)
class TalkingVideo:
    """A video that does not exist yet; its frames are made when they are asked for."""

    frame_size: tuple[int, int]
    """(width, height), even."""
    frames_per_second: float
    num_frames: int
    """Expected; the header of a sound file may be wrong about its length."""
    sound: Path | None
    sources: tuple[Path, ...]
    """Files that must not be overwritten while the video is made of them."""
    motion: Callable[[], Iterator[Motion]]
    """Stretches of motion with one row per frame, from the start each time."""
    frames: Callable[[], Iterator[Picture]]
    """Frames (H, W, 3) in order, from the start each time; the same ones, bit for bit.

    Those of a transparent video are (H, W, 4).
    """
    words: tuple[TimedWord, ...] = ()
    """What is said and when, where that is known: for subtitles."""
    notes: tuple[str, ...] = ()
    """What the user should know of what was given though it stops nothing."""
    notes_afterwards: Callable[[], tuple[str, ...]] = tuple
    """The same, once all frames have been made."""
    sound_track: int | None = None
    """Which track of the sound's file, from 1; None is the default one."""
    transparent: bool = False
    """Whether frames are (H, W, 4)."""
    moving: Part | None = None
    """The part outside of which all frames are the same; None where that is not known."""
    made_from: str = "a still photograph"
    """In words, for what the file says of itself."""

    def write(
        self,
        path: str | Path,
        *,
        progress: Progress | None = None,
        synthetic_metadata: bool = True,
        identity: SigningIdentity | None = None,
        subtitles: bool = False,
        segments: Path | None = None,
    ) -> VideoSummary:
        """Make all frames and write them with the sound to a video file.

        The file is replaced if it exists, once the new one is whole.

        Args:
            path: .mp4, .mov, .mkv, .webm or .gif; transparent videos .webm, .mov or .gif.
            progress: Called after every frame; what it raises ends the work and leaves no file.
            synthetic_metadata: Whether the file says that it is synthetic: in its tags and, where
                c2pa-python is installed and the format can carry it, in a signed manifest.
            identity: Whose signature that is; without one, that of nobody in particular.
            subtitles: Write the words as subtitles, into the file and into one beside it that ends
                in .srt.
            segments: Empty folder for a copy in pieces that play while the rest is made, see
                :mod:`moda.media.segments`.

        Raises:
            InputError: The name does not say a known format, or is that of an input; the words are
                not known; the certificate cannot be used.
            OutputError: The file cannot be written.
            MediaError: The speech turns out to be damaged.
            MissingExtraError: There is an identity, and c2pa-python is not installed.
        """
        started = time.perf_counter()
        path = check_output_path(path, transparent=self.transparent)
        check_outputs(outputs_of(path, subtitles=subtitles), self.sources)
        if segments is not None:
            check_empty(segments)
        if subtitles and not self.words:
            raise InputError(
                "subtitles need the words that are said; give a text or a transcript, or leave "
                "them out"
            )
        cues = make_cues(self.words) if subtitles else ()
        signer = None
        if synthetic_metadata and path.suffix.lower() in MIME_TYPES:
            if identity is not None or can_sign():
                signer = ManifestSigner(identity, path.suffix, self.made_from)
        elif identity is not None:
            raise InputError(
                f"{path.name} cannot be signed: only {', '.join(MIME_TYPES)} carry a manifest, and "
                "only with their other metadata"
            )
        with ExitStack() as together:
            for beside in outputs_of(path, subtitles=subtitles)[1:]:
                write_srt(together.enter_context(whole_file(beside)), cues)
            video = together.enter_context(
                VideoWriter(
                    path,
                    self.frame_size,
                    self.frames_per_second,
                    sound=self.sound,
                    sound_track=self.sound_track,
                    metadata=synthetic_media_tags(self.made_from) if synthetic_metadata else {},
                    cues=cues,
                    transparent=self.transparent,
                    finish=signer,
                    segments=segments,
                    moving=self.moving,
                )
            )
            for frame in self.frames():
                video.write(frame)
                if progress is not None:
                    progress(video.num_frames, max(self.num_frames, video.num_frames))
        seconds = float(video.num_frames / exact_rate(self.frames_per_second))
        wall_seconds = time.perf_counter() - started
        return VideoSummary(path, video.num_frames, seconds, wall_seconds, self.notes_afterwards())
