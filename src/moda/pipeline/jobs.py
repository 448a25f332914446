"""One video from what was asked for: the way of the command, tables, the page and the server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moda.encoders.style import delivery_of
from moda.errors import InputError
from moda.files import ScratchFolder, check_outputs, read_limited
from moda.media import check_output_path, outputs_of
from moda.media.containers import MAX_SECONDS
from moda.media.formats import check_rate
from moda.media.provenance import SigningIdentity
from moda.media.texts import decode_text, spoken_part
from moda.options import OPTIONS, VideoOptions, field_name, read_options
from moda.speech_synthesis import (
    CommandSynthesiser,
    SpokenText,
    espeak_is_installed,
    find_synthesiser,
    synthesise,
)
from moda.speech_synthesis.markup import MAX_CHARACTERS
from moda.structures import Picture

if TYPE_CHECKING:
    from moda.pipeline.talking_head import TalkingHead
    from moda.pipeline.talking_video import Progress, TalkingVideo, VideoSummary

Report = Callable[[str], None]
Stages = Callable[[str], Any]
"""Makes a context manager of a stage's name that yields what reports its progress."""


@contextmanager
def no_stages(name: str) -> Iterator[Progress | None]:
    """For work that nobody watches."""
    yield None


@dataclass(frozen=True)
class VideoJob:
    """All that is asked for in one video."""

    portrait: Path | Picture
    """Footage, where that is given new lips."""
    output: Path
    speech: Path | SpokenText | None = None
    """A recording, or a text that has been spoken already."""
    options: VideoOptions = field(default_factory=VideoOptions)
    max_seconds: float = MAX_SECONDS
    """Longest speech, and longest driving video."""

    def __post_init__(self) -> None:
        options = self.options
        given = [
            name
            for name, value in (
                ("a recording", self.speech),
                ("a text", options.text),
                ("a text file", options.text_file),
                ("--face with recordings", options.speakers),
            )
            if value
        ]
        if len(given) != 1:
            said = " and ".join(given) if given else "nothing"
            raise InputError(
                f"what is said must be given once, as a recording, as --text, as --text-file, or "
                f"with every --face; given is {said}"
            )
        for name in ("transcript", "sound track"):
            if getattr(options, field_name(name)) is not None and self.speech is None:
                raise InputError(f"a {name} is that of a recording; leave it out without one")
        if options.speakers:
            for name in ("phones", "transcript", "driving", "background"):
                if getattr(options, name) is not None:
                    raise InputError(f"several faces cannot be combined with {name}")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that the video is made of."""
        speech = self.speech.path if isinstance(self.speech, SpokenText) else self.speech
        files = (self.portrait, speech, *self.options.files)
        return tuple(file for file in files if isinstance(file, Path) and str(file) != "-")

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Files that are written: the video, and its subtitles."""
        return outputs_of(self.output, subtitles=self.options.subtitles)

    def check(self) -> None:
        """Find what is wrong without looking at a model or a picture.

        Raises:
            InputError, OutputError: An output cannot be written, or is an input too.
        """
        check_output_path(self.output, transparent=self.options.is_transparent)
        check_rate(self.output, self.options.frames_per_second)
        check_outputs(self.outputs, self.inputs)


def job_from_row(row: Mapping[str, Any], folder: Path) -> VideoJob:
    """A job from texts, such as a row of a table, or from values that are what they should be.

    Names may be written with dashes; empty texts are left out; relative files are in ``folder``.

    Raises:
        InputError: A column is unknown, a value is not of its type, or the job is not complete.
    """
    own = ("portrait", "output", "speech")
    files: dict[str, Path] = {}
    values: dict[str, Any] = {}
    for column, value in row.items():
        name = field_name(column)
        if name not in (*own, *OPTIONS):
            known = [option.name.replace("_", "-") for option in OPTIONS.values()]
            raise InputError(f"unknown column {column!r}; known are {', '.join((*own, *known))}")
        if value is None or value == "":
            continue
        if name in own:
            files[name] = folder / value
        else:
            values[name] = value
    missing = [name for name in ("portrait", "output") if name not in files]
    if missing:
        raise InputError(f"the {' and the '.join(missing)} is missing")
    options = read_options(values, folder=folder)
    return VideoJob(files["portrait"], files["output"], files.get("speech"), options)


def make_video(
    job: VideoJob, head: TalkingHead, *, stages: Stages = no_stages, tell: Report
) -> VideoSummary:
    """Make one video.

    Args:
        job: What is wanted.
        head: The model that the job asks for.
        stages: Shows the progress of a stage.
        tell: Takes what the user should know though it stops nothing.

    Raises:
        ModaError: As :meth:`moda.pipeline.TalkingHead.generate` and what is called before it.
    """
    with ScratchFolder("work") as folder:
        video = begin_video(job, head, folder, stages=stages)
        return write_video(video, job.output, job.options, stages=stages, tell=tell)


def begin_video(
    job: VideoJob, head: TalkingHead, folder: Path, *, stages: Stages = no_stages
) -> TalkingVideo:
    """The video of a job before anything of it is made, but for the speech of its text.

    ``folder`` takes sound files, which must exist as long as the video is used.
    """
    # A server that only waits for jobs needs no renderer.
    from moda.pipeline.group import animate_group

    options = job.options
    if options.speakers:
        alike = replace(options, face=None)
        video = animate_group(
            head, job.portrait, options.speakers, folder, alike, max_seconds=job.max_seconds
        )
    else:
        speech = spoken(job, head, folder, stages=stages)
        with stages("Tracking") if options.driving is not None else no_stages("") as progress:
            video = head.generate(
                job.portrait, speech, options, progress=progress, max_seconds=job.max_seconds
            )
    return replace(video, notes=(*notes_on_style(options), *video.notes))


def notes_on_style(options: VideoOptions) -> tuple[str, ...]:
    """That words of the style are not understood, if any are not."""
    words = delivery_of(options).not_understood
    return (f"not understood in the style: {'; '.join(words)}",) if words else ()


def write_video(
    video: TalkingVideo,
    path: Path,
    options: VideoOptions,
    *,
    stages: Stages = no_stages,
    tell: Report,
) -> VideoSummary:
    """Write a video as its options say, and hand on what the user should know of it before.

    The summary has what is known only then. Raises as :meth:`moda.pipeline.TalkingVideo.write`.
    """
    for note in video.notes:
        tell(note)
    identity = None
    if options.sign_cert is not None and options.sign_key is not None:
        identity = SigningIdentity(options.sign_cert, options.sign_key)
    with stages("Rendering") as progress:
        return video.write(
            path,
            progress=progress,
            synthetic_metadata=options.synthetic_metadata,
            identity=identity,
            subtitles=options.subtitles,
        )


def spoken(
    job: VideoJob, head: TalkingHead, folder: Path, *, stages: Stages = no_stages
) -> Path | SpokenText:
    """What is said: the recording, with its transcript where there is one, or the text as speech.

    Phones that the synthesiser does not tell are found in the sound.
    """
    options = job.options
    if job.speech is not None:
        if options.transcript is None or isinstance(job.speech, SpokenText):
            return job.speech
        transcript = text_or_file(options.transcript)
        return head.align(
            job.speech, transcript, language=options.language, sound_track=options.sound_track
        )
    said = speak_text(options, folder / "speech.wav", stages=stages, max_seconds=job.max_seconds)
    if not said.phones and head.system.takes_phones and espeak_is_installed():
        return said.with_phones(head.align(said.path, said.text, language=options.language))
    return said


def speak_text(
    options: VideoOptions,
    path: Path,
    *,
    stages: Stages = no_stages,
    max_seconds: float = MAX_SECONDS,
) -> SpokenText:
    """Speak the text of the options into a sound file, as fast as its style says.

    Raises:
        ModaError: As :func:`moda.speech_synthesis.synthesise`.
    """
    text = options.text
    if text is None:
        assert options.text_file is not None
        text = read_text(options.text_file)
    synthesiser = find_synthesiser(options.tts, options.tts_command, voice=options.voice)
    rate = delivery_of(options).rate
    if options.rate is None and isinstance(synthesiser, CommandSynthesiser):
        rate = 1.0
    with stages("Speaking") as progress:
        return synthesise(
            text,
            path,
            synthesiser=synthesiser,
            language=options.language,
            voice=options.voice,
            rate=rate,
            progress=progress,
            max_seconds=max_seconds,
        )


def read_text(path: Path) -> str:
    """What is said in a text file or in subtitles, or on standard input for ``-``.

    Raises:
        InputError: It cannot be read, or is no text.
    """
    most = 4 * MAX_CHARACTERS + 4
    try:
        data = sys.stdin.buffer.read(most) if str(path) == "-" else read_limited(path, most - 1)
    except OSError as error:
        raise InputError(
            f"text {path} cannot be read ({error.strerror or error}); give a text file"
        ) from None
    if len(data) == most:
        raise InputError(
            f"text {path} has more than {most - 1} bytes, the limit; cut it into parts"
        )
    return spoken_part(decode_text(data, f"text {path}"))


def text_or_file(text: str) -> str:
    """The content of a file of that name, if there is one, otherwise the text itself."""
    try:
        is_file = len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        is_file = False
    return read_text(Path(text)) if is_file else text
