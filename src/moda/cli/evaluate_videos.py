"""The command that compares videos: ``moda evaluate-videos``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from moda.errors import OutputError
from moda.evaluation.videos import protocol as protocols
from moda.evaluation.videos import running
from moda.files import check_outputs

app = typer.Typer()


@app.command(
    "evaluate-videos",
    epilog="Example: moda evaluate-videos examples/evaluation/example.json -o report",
)
def evaluate_videos(
    protocol: Annotated[Path, typer.Argument(help="JSON file, see docs/evaluation.md.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the report; made if missing.")
    ] = Path("report"),
    seal: Annotated[
        bool, typer.Option("--seal", help="Only write the hashes of all inputs into the protocol.")
    ] = False,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Only write what the methods are given into this folder."),
    ] = None,
    any_versions: Annotated[
        bool, typer.Option("--any-versions", help="Go on with other versions than the protocol's.")
    ] = False,
    threads: Annotated[int, typer.Option(help="Processor threads.", min=1)] = 2,
) -> None:
    """Compare talking videos of any method with real ones.

    Writes report.json, report.md and report.html with plots and clips side by side. What needs
    weights that are not here is left out, with the command that gets them.
    """
    torch.set_num_threads(threads)

    def say(text: str) -> None:
        typer.echo(text, err=True)

    opened = protocols.read_protocol(protocol)
    if seal:
        typer.echo(f"{protocols.seal(opened)} hashes written: {protocol}")
        return
    folder = inputs or output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}); choose another") from error
    if inputs is not None:
        for path in running.write_inputs(opened, inputs, say):
            typer.echo(path)
        return
    from moda.evaluation.videos.report.files import REPORT_FILES, markdown, write_report

    named = [opened.locate(file.path) for clip in opened.protocol.clips for _, file in clip.files()]
    check_outputs([output / name for name in REPORT_FILES], [protocol, *named])
    evaluation = running.evaluate_videos(opened, output, any_versions=any_versions, say=say)
    table = write_report(evaluation, output)
    typer.echo(markdown(evaluation, table), nl=False)
    typer.echo(f"report: {output / 'report.html'}", err=True)
