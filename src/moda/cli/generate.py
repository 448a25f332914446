"""The commands that make videos: ``moda generate | reenact``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options, steps
from moda.cli.batch import run_batch
from moda.errors import InputError
from moda.files import example
from moda.media import check_output_path
from moda.options import read_options
from moda.pipeline.jobs import VideoJob, job_from_row, make_video, write_video

app = typer.Typer()


@app.command(
    epilog="Example: moda generate portrait.jpg speech.wav -o talk.mp4 --emotion happy:0.7"
)
@options.takes_video_options("generate")
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
    *,
    given: options.Given,
    batch: options.BatchList = None,
    workers: options.Workers = 1,
    ray: options.RayAddress = None,
) -> None:
    """Make a portrait speak.

    Writes a video in which the face of PORTRAIT says what is heard in SPEECH, or what --text says.
    With --batch, makes all the videos of a table.
    """
    started = time.perf_counter()
    row = {"portrait": portrait, "speech": speech, "output": output, **given}
    if batch is not None:
        run_batch(batch, {n: row[n] for n in row if _was_typed(context, n)}, workers, ray)
        return
    if ray is not None or workers != 1:
        raise InputError("--workers and --ray are for a batch; give its table with --batch")
    if portrait is None:
        raise typer.BadParameter("Missing argument 'PORTRAIT'")
    job = job_from_row(row, Path())
    job.check()
    head = steps.load_head(*job.options.model_choice)
    summary = make_video(job, head, stages=steps.progress_bar, tell=steps.warn)
    steps.tell(summary, started)


@app.command(epilog="Example: moda demo -o demo.mp4")
def demo(output: options.Output = Path("demo.mp4")) -> None:
    """Make the example video: the Mona Lisa speaks with a synthetic voice."""
    started = time.perf_counter()
    job = VideoJob(example("portraits/mona_lisa.jpg"), output, example("speech.wav"))
    job.check()
    head = steps.load_head(*job.options.model_choice)
    summary = make_video(job, head, stages=steps.progress_bar, tell=steps.warn)
    steps.tell(summary, started)
    typer.echo("Your own: moda generate portrait.jpg speech.wav -o talk.mp4")


def _was_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


@app.command(epilog="Example: moda reenact portrait.jpg driving.mp4 -o talk.mp4 --head-motion 0.5")
@options.takes_video_options("reenact")
def reenact(
    portrait: options.PortraitFile,
    driving: Annotated[
        Path, typer.Argument(metavar="DRIVING", help="Video of the face whose motion is copied.")
    ],
    output: options.Output = Path("talk.mp4"),
    face: options.OneFace = None,
    *,
    given: options.Given,
) -> None:
    """Make a portrait move like the face in a video.

    The sound of DRIVING, if it has any, becomes that of the written video.
    """
    started = time.perf_counter()
    chosen = read_options({**given, "face": face})
    transparent = chosen.is_transparent
    check_output_path(output, transparent=transparent, inputs=(portrait, driving, *chosen.files))
    head = steps.load_head(*chosen.model_choice)
    with steps.progress_bar("Tracking") as progress:
        video = head.reenact(portrait, driving, chosen, progress=progress)
    summary = write_video(video, output, chosen, stages=steps.progress_bar, tell=steps.warn)
    steps.tell(summary, started)
