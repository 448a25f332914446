"""One video from the options of the command line, or of a row of a table."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, cast, get_args, get_type_hints

from moda.encoders.style import Delivery, encode_style
from moda.errors import InputError
from moda.group import Speaker, animate_group
from moda.media import check_output_path
from moda.pipeline import Progress, TalkingHead, TalkingVideo, VideoSummary
from moda.provenance import SigningIdentity
from moda.speech_synthesis import (
    DEFAULT_LANGUAGE,
    CommandSynthesiser,
    SpokenText,
    espeak_is_installed,
    find_synthesiser,
    synthesise,
)
from moda.speech_synthesis.markup import MAX_CHARACTERS
from moda.structures import Background, EmotionAt, Style
from moda.system import Gaze

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "gray": (128, 128, 128),
    "green": (0, 177, 64),
    "blue": (0, 71, 187),
    "red": (200, 30, 40),
    "beige": (240, 230, 210),
}
"""Green and blue are those of studio screens."""

Report = Callable[[str], None]
Stages = Callable[[str], Any]
"""Makes a context manager of a stage's name that yields what reports its progress."""


class ModelChoice(NamedTuple):
    """What has to be loaded for a job."""

    model: str | None
    renderer: str | None
    device: str
    precision: str
    compat: str | None


@dataclass(frozen=True)
class VideoJob:
    """All that is said about one video; the names are those of the options."""

    portrait: Path
    output: Path
    speech: Path | None = None
    text: str | None = None
    text_file: Path | None = None
    transcript: str | None = None
    language: str = DEFAULT_LANGUAGE
    voice: str | None = None
    rate: float | None = None
    tts: str | None = None
    tts_command: str | None = None
    subtitles: bool = False
    phones: Path | None = None
    emotion: str | None = None
    emotion_at: tuple[str, ...] = ()
    style: str | None = None
    head_motion: float | None = None
    expression: float | None = None
    blink: bool = True
    blink_rate: float | None = None
    gaze: str | None = None
    lips_only: bool = False
    driving: Path | None = None
    seed: int | None = None
    fps: float = 25.0
    size: str | None = None
    full_frame: bool = True
    background: str | None = None
    face: tuple[str, ...] = ()
    in_turns: bool = False
    eyes: float | None = None
    lips: float | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    renderer: str | None = None
    model: str | None = None
    device: str = "auto"
    precision: str = "float32"
    compat: str | None = None
    synthetic_metadata: bool = True
    sign_cert: Path | None = None
    sign_key: Path | None = None

    def __post_init__(self) -> None:
        speakers = [entry for entry in self.face if "=" in entry]
        given = [
            name
            for name, value in (
                ("a recording", self.speech),
                ("a text", self.text),
                ("a text file", self.text_file),
                ("--face with recordings", speakers),
            )
            if value
        ]
        if len(given) != 1:
            said = " and ".join(given) if given else "nothing"
            raise InputError(
                f"what is said must be given once, as a recording, as --text, as --text-file, or "
                f"with every --face; given is {said}"
            )
        if self.transcript is not None and self.speech is None:
            raise InputError("a transcript is that of a recording; leave it out with a text")
        if (self.sign_cert is None) != (self.sign_key is None):
            raise InputError("a signature needs both --sign-cert and --sign-key")
        if len(self.face) > 1 and len(speakers) != len(self.face):
            raise InputError(
                "several faces need a recording each; write --face 1=a.wav --face 2=b.wav"
            )

    @property
    def model_choice(self) -> ModelChoice:
        return ModelChoice(self.model, self.renderer, self.device, self.precision, self.compat)

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that the video is made of."""
        files = (self.portrait, self.speech, self.text_file, self.phones, self.driving)
        spoken = tuple(Path(entry.partition("=")[2]) for entry in self.face if "=" in entry)
        return (*(file for file in files if file is not None and str(file) != "-"), *spoken)

    def check(self) -> None:
        """Find what is wrong without looking at a model or a picture.

        Raises:
            InputError, OutputError, MediaError: As making the video would.
        """
        background = parse_background(self.background)
        path = check_output_path(
            self.output, transparent=background is not None and background.colour is None
        )
        for source in self.inputs:
            if path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"output {path} is also an input; choose another name")
        parse_style(self.emotion, self.emotion_at)
        parse_size(self.size)
        for entry in self.face:
            parse_face(entry)


def job_from_row(row: Mapping[str, Any], folder: Path) -> VideoJob:
    """A job from texts, such as a row of a table, or from values that are what they should be.

    Names may be written with dashes; empty texts are left out; relative files are in ``folder``.

    Raises:
        InputError: A column is unknown, a value is not of its type, or the job is not complete.
    """
    types = get_type_hints(VideoJob)
    values: dict[str, Any] = {}
    for column, value in row.items():
        name = column.strip().removeprefix("--").replace("-", "_")
        if name not in types:
            known = ", ".join(field.name.replace("_", "-") for field in fields(VideoJob))
            raise InputError(f"unknown column {column!r}; known are {known}")
        if value is None or value == "":
            continue
        values[name] = _converted(name, value, types[name], folder)
    missing = [name for name in ("portrait", "output") if name not in values]
    if missing:
        raise InputError(f"the {' and the '.join(missing)} is missing")
    return VideoJob(**values)


def make_video(
    job: VideoJob,
    head: TalkingHead,
    *,
    stages: Stages,
    tell: Report,
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
    delivery = encode_style(job.style) if job.style is not None else Delivery(Style())
    if delivery.not_understood:
        tell(f"not understood in the style: {'; '.join(delivery.not_understood)}")
    identity = None
    if job.sign_cert is not None and job.sign_key is not None:
        identity = SigningIdentity(job.sign_cert, job.sign_key)
    with tempfile.TemporaryDirectory(prefix="moda-") as folder:
        video = _video(job, head, delivery, Path(folder), stages)
        with stages("Rendering") as progress:
            return video.write(
                job.output,
                progress=progress,
                synthetic_metadata=job.synthetic_metadata,
                identity=identity,
                subtitles=job.subtitles,
            )


def _video(
    job: VideoJob, head: TalkingHead, delivery: Delivery, folder: Path, stages: Stages
) -> TalkingVideo:
    """The video of a job before anything of it is made, but for the speech of its text."""
    delivery = delivery.with_chosen(
        head_motion=job.head_motion,
        expression=job.expression,
        blink_rate=job.blink_rate,
        gaze=cast("Gaze | None", job.gaze),
    )
    chosen = parse_style(job.emotion, job.emotion_at)
    base = Style((*delivery.style.schedule[: 0 if job.emotion else 1], *chosen.schedule))
    options: dict[str, Any] = {
        "seed": job.seed,
        "num_steps": job.steps,
        "guidance_scale": job.guidance_scale,
        "frames_per_second": job.fps,
        "size": parse_size(job.size),
        "head_motion": delivery.head_motion,
        "expression": delivery.expression,
        "blink": job.blink,
        "blink_rate": delivery.blink_rate,
        "gaze": delivery.gaze,
        "lips_only": job.lips_only,
    }
    faces = [parse_face(entry) for entry in job.face]
    if any(recording for _, recording in faces):
        _refuse(job, "several faces", ("phones", "transcript", "driving", "background"))
        speakers = [Speaker(number, recording) for number, recording in faces if recording]
        return animate_group(
            head, job.portrait, speakers, folder, in_turns=job.in_turns, style=base, **options
        )
    speech: Path | SpokenText
    if job.speech is None:
        speech = _spoken(job, head, delivery, folder, stages)
    elif job.transcript is None:
        speech = job.speech
    else:
        speech = head.align(job.speech, text_or_file(job.transcript), language=job.language)
    style = base
    if isinstance(speech, SpokenText):
        style = Style((*base.schedule, *speech.style.schedule))
    with stages("Tracking") if job.driving is not None else no_stages("") as progress:
        return head.generate(
            job.portrait,
            speech,
            style=style,
            phones=job.phones,
            full_frame=job.full_frame,
            driving=job.driving,
            background=parse_background(job.background),
            eyes=job.eyes,
            lips=job.lips,
            face=faces[0][0] if faces else None,
            progress=progress,
            **options,
        )


def _spoken(
    job: VideoJob, head: TalkingHead, delivery: Delivery, folder: Path, stages: Stages
) -> SpokenText:
    """Speak the text of a job; phones that the synthesiser does not tell are found in the sound."""
    text = job.text if job.text is not None else read_text(cast("Path", job.text_file))
    synthesiser = find_synthesiser(job.tts, job.tts_command)
    rate = job.rate
    if rate is None:
        rate = 1.0 if isinstance(synthesiser, CommandSynthesiser) else delivery.rate
    with stages("Speaking") as progress:
        spoken = synthesise(
            text,
            folder / "speech.wav",
            synthesiser=synthesiser,
            language=job.language,
            voice=job.voice,
            rate=rate,
            progress=progress,
        )
    if not spoken.phones and head.system.takes_phones and espeak_is_installed():
        aligned = head.align(spoken.path, spoken.text, language=job.language)
        return spoken.with_phones(aligned)
    return spoken


def read_text(path: Path) -> str:
    """A text file, or standard input for ``-``.

    Raises:
        InputError: It cannot be read, is not UTF-8, or is too long.
    """
    try:
        if str(path) == "-":
            text = sys.stdin.buffer.read(4 * MAX_CHARACTERS + 1).decode("utf-8-sig")
        else:
            with path.open("rb") as file:
                text = file.read(4 * MAX_CHARACTERS + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"text {path} cannot be read: {error}; give a UTF-8 file") from None
    return text


def text_or_file(text: str) -> str:
    """The content of a file of that name, if there is one, otherwise the text itself."""
    try:
        is_file = len(text) < 4096 and "\n" not in text and Path(text).is_file()
    except (OSError, ValueError):
        is_file = False
    return read_text(Path(text)) if is_file else text


def parse_style(emotion: str | None, emotion_at: Sequence[str]) -> Style:
    """``happy:0.7`` from the beginning, then ``3.2=sad`` from those times on.

    Raises:
        InputError: A part is not written like that, or the emotion is unknown.
    """
    schedule = [] if emotion is None else [_parse_emotion(0.0, emotion)]
    for entry in emotion_at:
        seconds, equals, name = entry.partition("=")
        if not equals:
            raise InputError(f"emotion {entry!r} names no time; write it like 3.2=sad:0.5")
        schedule.append(_parse_emotion(_parse_number(seconds, entry), name))
    return Style(tuple(schedule))


def _parse_emotion(seconds: float, text: str) -> EmotionAt:
    name, colon, intensity = text.partition(":")
    amount = _parse_number(intensity, text) if colon else 1.0
    return EmotionAt(seconds, None if name == "none" else name, amount)


def _parse_number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{text!r} in emotion {whole!r} is not a number; write it like happy:0.7 or 3.2=sad"
        ) from None


def parse_size(text: str | None) -> int | Literal["own"] | None:
    """A number of pixels, or ``own``.

    Raises:
        InputError: It is neither.
    """
    if text is None or text == "own":
        return cast("Literal['own'] | None", text)
    try:
        return int(text)
    except ValueError:
        raise InputError(f"size {text!r} is neither a number of pixels nor own") from None


def parse_background(text: str | None) -> Background | None:
    """``none``, the name of a colour, or ``#rrggbb``.

    Raises:
        InputError: It is nothing of these.
    """
    if text is None:
        return None
    name = text.strip().lower()
    if name == "none":
        return Background(None)
    if name in COLOURS:
        return Background(COLOURS[name])
    digits = name.removeprefix("#")
    if name.startswith("#") and len(digits) == 6 and all(d in "0123456789abcdef" for d in digits):
        red, green, blue = bytes.fromhex(digits)
        return Background((red, green, blue))
    raise InputError(
        f"background {text!r} is no colour; write none, {', '.join(COLOURS)}, or #rrggbb"
    )


def parse_face(text: str) -> tuple[int, Path | None]:
    """``2``, or ``2=speech.wav``.

    Raises:
        InputError: It is written in another way.
    """
    number, equals, recording = text.partition("=")
    try:
        face = int(number)
    except ValueError:
        face = 0
    if face < 1 or (equals and not recording):
        raise InputError(
            f"face {text!r} is not a number from 1, counted from the left, or a number with a "
            "recording such as 2=speech.wav"
        )
    return face, Path(recording) if equals else None


def _refuse(job: VideoJob, what: str, names: Sequence[str]) -> None:
    for name in names:
        if getattr(job, name) is not None:
            raise InputError(f"{what} cannot be combined with {name.replace('_', '-')}")


def _converted(name: str, value: Any, kind: Any, folder: Path) -> Any:
    """A text as the type of a field; values of that type as they are."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if tuple[str, ...] in kinds:
        parts = value.split(";") if isinstance(value, str) else value
        texts = tuple(str(part).strip() for part in parts)
        return tuple(_in_folder(text, folder) for text in texts) if name == "face" else texts
    if not isinstance(value, str):
        return value
    try:
        if bool in kinds:
            return _TRUTH[value.strip().lower()]
        if Path in kinds:
            return Path(value) if value == "-" else folder / value
        if int in kinds:
            return int(value)
        if float in kinds:
            return float(value)
    except (KeyError, ValueError):
        expected = "yes or no" if bool in kinds else "a number"
        raise InputError(f"{name.replace('_', '-')} {value!r} is not {expected}") from None
    return value


def _in_folder(face: str, folder: Path) -> str:
    number, equals, recording = face.partition("=")
    return f"{number}={folder / recording}" if equals and recording else face


_TRUTH = {"yes": True, "true": True, "1": True, "on": True} | {
    "no": False, "false": False, "0": False, "off": False,
}  # fmt: skip


@contextmanager
def no_stages(name: str) -> Iterator[Progress | None]:
    """For work that nobody watches."""
    yield None
