"""The command that writes what a face does, for avatars that others draw: ``moda export``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options, steps
from moda.files import ScratchFolder, check_outputs
from moda.options import read_options
from moda.pipeline import exporting, loading
from moda.pipeline.jobs import VideoJob, notes_on_style, spoken

app = typer.Typer()


@app.command(epilog="Example: moda export portrait.jpg speech.wav -o talk.json")
@options.takes_video_options("export")
def export(
    portrait: options.PortraitFile,
    speech: Annotated[
        Path | None, typer.Argument(metavar="[SPEECH]", help="Sound or video file with speech.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.json, .csv); replaced.")
    ] = Path("talk.json"),
    *,
    given: options.Given,
) -> None:
    """Write visemes and ARKit blend shapes of speech, for a 3D avatar.

    There are 25 frames a second and 52 shapes; the motion is that of the video that moda generate
    makes of the same portrait and speech.
    """
    started = time.perf_counter()
    exporting.check_export_path(output)
    job = VideoJob(portrait, output, speech, read_options(given))
    check_outputs((output,), job.inputs)
    head = loading.load_head(*job.options.model_choice)
    with ScratchFolder("work") as folder:
        said = spoken(job, head, folder, stages=steps.progress_bar)
        video = head.generate(portrait, said, job.options)
        for note in (*notes_on_style(job.options), *video.notes):
            steps.warn(note)
        count = exporting.write_mouth(exporting.mouth_frames(head, video, said), output)
    took = time.perf_counter() - started
    typer.echo("; ".join((f"{count} frames in {took:.1f} s: {output}", *video.notes_afterwards())))
