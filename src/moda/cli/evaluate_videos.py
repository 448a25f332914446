"""The commands that compare videos: ``moda evaluate-videos`` and ``moda evaluate-weights``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        "evaluate-videos",
        epilog="Example: moda evaluate-videos examples/evaluation/example.json -o report",
    )(evaluate_videos)
    weights = typer.Typer(
        help="Networks of others that some metrics need.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    weights.command("list")(list_weights)
    weights.command(epilog="Example: moda evaluate-weights convert syncnet_v2.model")(convert)
    app.add_typer(weights, name="evaluate-weights")


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
    import torch

    from moda.errors import OutputError
    from moda.evaluation.videos import protocol as protocols
    from moda.evaluation.videos.running import evaluate_videos as run
    from moda.evaluation.videos.running import write_inputs

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
        for path in write_inputs(opened, inputs, say):
            typer.echo(path)
        return
    from moda.evaluation.videos.report.files import markdown, write_report

    evaluation = run(opened, output, any_versions=any_versions, say=say)
    table = write_report(evaluation, output)
    typer.echo(markdown(evaluation, table), nl=False)
    typer.echo(f"report: {output / 'report.html'}", err=True)


def list_weights() -> None:
    """List the networks, what they are for, their licences, and which of them are here."""
    from moda.evaluation.videos.networks.weights import find_weights, weights_folder
    from moda.weights.catalogue import METRIC_NETWORKS

    for name, entry in METRIC_NETWORKS.items():
        state = "here" if find_weights(name) else "missing"
        typer.echo(f"{name} ({state}): {entry.what}, for {entry.metrics}")
        typer.echo(f"  licence: {entry.licence}")
        typer.echo(f"  get it: {entry.command}")
    typer.echo(
        "LPIPS and FID bring their own (AlexNet, Inception) the first time: pip install "
        "'.[evaluate]'"
    )
    typer.echo(f"folder: {weights_folder()}")


def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of the authors, of any name.")
    ],
) -> None:
    """Check and convert files that were downloaded.

    They are recognised by what is in them; whatever is missing, too much or of another shape is
    named, and nothing is written then.
    """
    from moda.evaluation.videos.networks.weights import convert_weights

    for source in sources:
        converted = convert_weights(source)
        typer.echo(f"{converted.name}: {converted.path}")
