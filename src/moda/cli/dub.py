"""The command that gives footage new lips: ``moda dub``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options, steps
from moda.files import ScratchFolder
from moda.options import read_options
from moda.pipeline import dubbing
from moda.pipeline.jobs import VideoJob, spoken, write_video

app = typer.Typer()


@app.command(epilog="Example: moda dub interview.mp4 translated.wav -o dubbed.mp4")
@options.takes_video_options("dub")
def dub(
    footage: Annotated[
        Path, typer.Argument(metavar="FOOTAGE", help="Video of a face, seen from the front.")
    ],
    speech: Annotated[
        Path | None, typer.Argument(metavar="[SPEECH]", help="What it shall say instead.")
    ] = None,
    output: options.Output = Path("dubbed.mp4"),
    face: options.OneFace = None,
    loop: Annotated[
        bool, typer.Option(help="Let footage shorter than the speech play back and forth.")
    ] = False,
    *,
    given: options.Given,
) -> None:
    """Give the face in a video new lips for other speech.

    Head, eyes and light stay those of FOOTAGE; its sound is replaced by SPEECH.
    """
    started = time.perf_counter()
    chosen = read_options({**given, "face": face})
    job = VideoJob(footage, output, speech, chosen)
    job.check()
    head = steps.load_head(*chosen.model_choice)
    with ScratchFolder("work") as folder:
        said = spoken(job, head, folder, stages=steps.progress_bar)
        with steps.progress_bar("Tracking") as progress:
            video = dubbing.dub(
                head,
                footage,
                said,
                seed=chosen.seed,
                expression=chosen.amounts.expression,
                face=face,
                loop=loop,
                sound_track=chosen.sound_track,
                progress=progress,
            )
        summary = write_video(video, output, chosen, stages=steps.progress_bar, tell=steps.warn)
    steps.tell(summary, started)
