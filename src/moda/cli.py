"""The command line: ``moda generate | reenact``, and those of the other ``cli_*`` modules.

Exit codes: 0 done, 2 something the user can put right (one line on standard error), 1 a bug (with
a traceback), 130 interrupted. Heavy imports are inside the commands, so that help is quick.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from moda import __version__, cli_doctor, cli_models, cli_research, cli_training
from moda.errors import InputError, ModaError
from moda.structures import EMOTIONS, EmotionAt, Style

if TYPE_CHECKING:
    from moda.pipeline import TalkingHead, TalkingVideo

EXIT_USER_ERROR, EXIT_INTERRUPTED = 2, 130

app = typer.Typer(
    name="moda",
    help="A portrait and a speech recording become a talking-head video.",
    epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PortraitFile = Annotated[
    Path, typer.Argument(metavar="PORTRAIT", help="Picture with a face (jpg, png, webp, ...).")
]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="Video to write (.mp4, .mov, .mkv); replaced.")
]
Rate = Annotated[float, typer.Option("--fps", help="Frames per second, 10 to 60.")]
Size = Annotated[
    int | None,
    typer.Option(
        help="Longer side of the video in pixels, 64 to 2160.",
        show_default="512; with the neural renderer that of the picture, at most 1920",
    ),
]
FullFrame = Annotated[
    bool, typer.Option("--full-frame/--crop", help="The whole picture, or only the head.")
]
HeadMotion = Annotated[float, typer.Option(help="Amount of head motion, 0 to 2.")]
Expression = Annotated[float, typer.Option(help="Amount of expression, 0 to 2.")]
Face = Annotated[
    int | None,
    typer.Option(help="Which face, from left to right from 1.", show_default="the largest"),
]
Eyes = Annotated[
    float | None,
    typer.Option(
        help="Open the portrait's eyes this far, 0 to 0.8 of their width; neural renderer only.",
        show_default="as they are",
    ),
]
Lips = Annotated[
    float | None,
    typer.Option(
        help="Open the portrait's lips this far, 0 to 0.8 of their width; neural renderer only.",
        show_default="as they are",
    ),
]
RendererName = Annotated[
    str | None,
    typer.Option(
        "--renderer", help="How frames are made: mesh or neural.", show_default="the model's"
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="moda-tiny, moda-base, or a .safetensors file.",
        show_default="moda-tiny; moda-base with the neural renderer",
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of moda-base: float32; float16 or bfloat16 are for GPUs.")
]
Compat = Annotated[
    str | None,
    typer.Option(
        metavar="reference",
        help="moda-base exactly as its released implementation computes it.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
SyntheticMetadata = Annotated[
    bool,
    typer.Option(
        "--synthetic-metadata/--no-synthetic-metadata",
        help="Whether the tags of the file say that the video is synthetic.",
    ),
]


@app.callback(invoke_without_command=True)
def _moda(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        typer.echo(f"moda {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4 --emotion happy:0.7"
)
def generate(
    portrait: PortraitFile,
    speech: Annotated[
        Path,
        typer.Argument(metavar="SPEECH", help="Speech (wav, flac, mp3, m4a, ogg, or a video)."),
    ],
    output: Output = Path("talk.mp4"),
    emotion: Annotated[
        str | None,
        typer.Option(metavar="NAME[:AMOUNT]", help=f"One of {', '.join(EMOTIONS)}."),
    ] = None,
    emotion_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECONDS=NAME[:AMOUNT]",
            help="Change the emotion at a time; may be given again. The name none ends it.",
        ),
    ] = None,
    phones: Annotated[
        Path | None,
        typer.Option(help="What is said: a text file with start, end and phone per line."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed moves head and eyes differently.")] = 0,
    renderer: RendererName = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the sampler, 1 to 1000.", show_default="the model's"),
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="How much motion follows speech and emotion, 1 to 10.", show_default="the model's"
        ),
    ] = None,
    fps: Rate = 25.0,
    size: Size = None,
    full_frame: FullFrame = True,
    head_motion: HeadMotion = 1.0,
    expression: Expression = 1.0,
    blink: Annotated[bool, typer.Option("--blink/--no-blink", help="Let the eyes blink.")] = True,
    eyes: Eyes = None,
    lips: Lips = None,
    face: Face = None,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "float32",
    compat: Compat = None,
    synthetic_metadata: SyntheticMetadata = True,
) -> None:
    """Make a portrait speak.

    Writes a video in which the face of PORTRAIT says what is heard in SPEECH.
    """
    started = time.perf_counter()
    style = parse_style(emotion, emotion_at or [])
    check_early(output, portrait, speech)
    head = load_head(model, renderer, device, precision=precision, compat=compat)
    video = head.generate(
        portrait,
        speech,
        style=style,
        phones=phones,
        seed=seed,
        num_steps=steps,
        guidance_scale=guidance_scale,
        frames_per_second=fps,
        size=size,
        full_frame=full_frame,
        head_motion=head_motion,
        expression=expression,
        blink=blink,
        eyes=eyes,
        lips=lips,
        face=face,
    )
    write(video, output, synthetic_metadata=synthetic_metadata, started=started)


@app.command(epilog="Example: moda reenact portrait.jpg driving.mp4 -o talk.mp4 --head-motion 0.5")
def reenact(
    portrait: PortraitFile,
    driving: Annotated[
        Path, typer.Argument(metavar="DRIVING", help="Video of the face whose motion is copied.")
    ],
    output: Output = Path("talk.mp4"),
    renderer: RendererName = None,
    fps: Rate = 25.0,
    size: Size = None,
    full_frame: FullFrame = True,
    head_motion: HeadMotion = 1.0,
    expression: Expression = 1.0,
    eyes: Eyes = None,
    lips: Lips = None,
    face: Face = None,
    model: ModelName = None,
    device: Device = "auto",
    precision: Precision = "float32",
    synthetic_metadata: SyntheticMetadata = True,
) -> None:
    """Make a portrait move like the face in a video.

    The sound of DRIVING, if it has any, becomes that of the written video.
    """
    started = time.perf_counter()
    check_early(output, portrait, driving)
    head = load_head(model, renderer, device, precision=precision)
    with progress_bar("Tracking") as progress:
        video = head.reenact(
            portrait,
            driving,
            frames_per_second=fps,
            size=size,
            full_frame=full_frame,
            head_motion=head_motion,
            expression=expression,
            eyes=eyes,
            lips=lips,
            face=face,
            progress=progress,
        )
    write(video, output, synthetic_metadata=synthetic_metadata, started=started)


cli_doctor.register(app)
cli_models.register(app)
cli_research.register(app)
cli_training.register(app)


def check_early(output: Path, *inputs: Path) -> None:
    """Find wrong file names before models are loaded.

    Raises:
        InputError, OutputError: The output cannot be written.
        MediaError: An input is not there.
    """
    from moda.media import check_output_path

    path = check_output_path(output)
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"output {output} is also an input; choose another name")


def load_head(
    model: str | None,
    renderer: str | None,
    device: str,
    *,
    precision: str = "float32",
    compat: str | None = None,
) -> TalkingHead:
    """Load a model; the renderer chooses it where the model is not given.

    Raises:
        InputError: The renderer is unknown, or draws another kind of motion than the model makes.
    """
    import torch

    from moda.pipeline import DEFAULT_MODELS, TalkingHead

    if renderer is not None and renderer not in DEFAULT_MODELS:
        raise InputError(
            f"unknown renderer {renderer!r}; choose one of {', '.join(DEFAULT_MODELS)}"
        )
    name = model or DEFAULT_MODELS[renderer or "mesh"]
    head = TalkingHead.from_pretrained(name, device=device, precision=precision, compat=compat)
    if renderer not in (None, head.system.renderer):
        raise InputError(
            f"the {renderer} renderer cannot draw the motion of {name}, which is made for the "
            f"{head.system.renderer} renderer; choose {DEFAULT_MODELS[renderer]}, or leave "
            "--renderer out"
        )
    if head.system.renderer == "mesh":
        # A network this small gains nothing from more threads, and their busy waiting takes the
        # processor from the renderer and the encoder: a window takes 0.6 s of processor time on
        # one, 12 s on two.
        torch.set_num_threads(1)
    return head


def parse_style(emotion: str | None, emotion_at: list[str]) -> Style:
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


def write(video: TalkingVideo, output: Path, *, synthetic_metadata: bool, started: float) -> None:
    """Write a video with a progress bar, and say in one line what came of it."""
    with progress_bar("Rendering") as progress:
        summary = video.write(output, progress=progress, synthetic_metadata=synthetic_metadata)
    took = time.perf_counter() - started
    typer.echo(
        f"{summary.num_frames} frames, {summary.seconds:.2f} s of video in {took:.1f} s "
        f"(real-time factor {took / summary.seconds:.2f}): {summary.path}"
    )


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; yields what takes (done, total)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the ``moda`` command."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    try:
        code = app(args=arguments, prog_name="moda", standalone_mode=False)
    except (ModaError, KeyboardInterrupt, typer.Abort) as error:
        code = EXIT_INTERRUPTED
        if isinstance(error, ModaError):
            _complain(str(error))
            code = EXIT_USER_ERROR
    except Exception as error:
        # What typer raises for wrong arguments has this method, in all its versions.
        describe = getattr(error, "format_message", None)
        if describe is None:
            raise
        _complain(f"{describe().rstrip('.')}; see moda --help")
        code = EXIT_USER_ERROR
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    line = " ".join(message.split())
    sys.stderr.write(f"moda: {line}\n")


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by an exception, so that a half-written video is removed."""
    sys.exit(128 + number)
