"""The commands that make videos: ``moda generate | reenact``."""

# The parameters of ``generate`` reach the job by their names, through the context.

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moda import cli_options as options
from moda import cli_steps
from moda.errors import InputError

if TYPE_CHECKING:
    from moda.pipeline import VideoSummary


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4 --emotion happy:0.7"
    )(generate)
    app.command(
        epilog="Example: moda reenact portrait.jpg driving.mp4 -o talk.mp4 --head-motion 0.5"
    )(reenact)


def generate(
    context: typer.Context,
    portrait: Annotated[
        Path | None,
        typer.Argument(metavar="PORTRAIT", help="Picture with a face (jpg, png, webp, ...)."),
    ] = None,
    speech: Annotated[
        Path | None,
        typer.Argument(metavar="[SPEECH]", help="Speech (wav, flac, mp3, m4a, ogg, or a video)."),
    ] = None,
    output: options.Output = Path("talk.mp4"),
    text: options.Text = None,
    text_file: options.TextFile = None,
    transcript: options.Transcript = None,
    language: options.Language = "en-us",
    voice: options.Voice = None,
    rate: options.Rate = None,
    tts: options.Synthesiser = None,
    tts_command: options.SynthesiserCommand = None,
    subtitles: options.Subtitles = False,
    phones: options.Phones = None,
    emotion: options.Emotion = None,
    emotion_at: options.EmotionTimes = None,
    style: options.StyleWords = None,
    head_motion: options.HeadMotion = None,
    expression: options.Expression = None,
    blink: options.Blink = True,
    blink_rate: options.BlinkRate = None,
    gaze: options.GazeName = None,
    lips_only: options.LipsOnly = False,
    driving: options.Driving = None,
    seed: options.Seed = None,
    fps: options.FramesPerSecond = 25.0,
    size: options.Size = None,
    full_frame: options.FullFrame = True,
    background: options.BackgroundName = None,
    face: options.Faces = None,
    in_turns: options.InTurns = False,
    eyes: options.Eyes = None,
    lips: options.Lips = None,
    steps: options.Steps = None,
    guidance_scale: options.GuidanceScale = None,
    renderer: options.RendererName = None,
    model: options.ModelName = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    compat: options.Compat = None,
    synthetic_metadata: options.SyntheticMetadata = True,
    sign_cert: options.SigningCertificate = None,
    sign_key: options.SigningKey = None,
    batch: options.BatchList = None,
    workers: options.Workers = 1,
    ray: options.RayAddress = None,
) -> None:
    """Make a portrait speak.

    Writes a video in which the face of PORTRAIT says what is heard in SPEECH, or what --text says.
    With --batch, makes all the videos of a table.
    """
    started = time.perf_counter()
    given = {
        name: value
        for name, value in context.params.items()
        if name not in ("batch", "workers", "ray") and value not in (None, (), [])
    }
    if batch is not None:
        from moda.cli_batch import run_batch

        typed = {name for name in given if _was_typed(context, name)}
        run_batch(batch, {name: given[name] for name in typed}, workers, ray)
        return
    if ray is not None or workers != 1:
        raise InputError("--workers and --ray are for a batch; give its table with --batch")
    if portrait is None:
        raise typer.BadParameter("Missing argument 'PORTRAIT'")
    cli_steps.tell(_make_one(given), started)


def _make_one(given: dict[str, Any]) -> VideoSummary:
    from moda.jobs import job_from_row, make_video

    job = job_from_row(given, Path())
    job.check()
    head = cli_steps.load_head(*job.model_choice)
    return make_video(job, head, stages=cli_steps.progress_bar, tell=cli_steps.warn)


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def reenact(
    portrait: options.PortraitFile,
    driving: Annotated[
        Path, typer.Argument(metavar="DRIVING", help="Video of the face whose motion is copied.")
    ],
    output: options.Output = Path("talk.mp4"),
    renderer: options.RendererName = None,
    fps: options.FramesPerSecond = 25.0,
    size: options.Size = None,
    full_frame: options.FullFrame = True,
    head_motion: options.HeadMotion = 1.0,
    expression: options.Expression = 1.0,
    background: options.BackgroundName = None,
    eyes: options.Eyes = None,
    lips: options.Lips = None,
    face: options.Face = None,
    model: options.ModelName = None,
    device: options.Device = "auto",
    precision: options.Precision = "float32",
    synthetic_metadata: options.SyntheticMetadata = True,
) -> None:
    """Make a portrait move like the face in a video.

    The sound of DRIVING, if it has any, becomes that of the written video.
    """
    started = time.perf_counter()
    from moda.jobs import parse_background, parse_size

    behind = parse_background(background)
    transparent = behind is not None and behind.colour is None
    cli_steps.check_early(output, portrait, driving, transparent=transparent)
    head = cli_steps.load_head(model, renderer, device, precision)
    with cli_steps.progress_bar("Tracking") as progress:
        video = head.reenact(
            portrait,
            driving,
            frames_per_second=fps,
            size=parse_size(size),
            full_frame=full_frame,
            head_motion=1.0 if head_motion is None else head_motion,
            expression=1.0 if expression is None else expression,
            background=behind,
            eyes=eyes,
            lips=lips,
            face=face,
            progress=progress,
        )
    with cli_steps.progress_bar("Rendering") as progress:
        summary = video.write(output, progress=progress, synthetic_metadata=synthetic_metadata)
    cli_steps.tell(summary, started)
