"""The networks that compare videos: ``moda evaluate-weights list | convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moda.evaluation.videos.networks.weights import convert_weights, find_weights, weights_folder
from moda.weights.catalogue import METRIC_NETWORKS

app = typer.Typer()


@app.command("list")
def list_weights() -> None:
    """List the networks, what they are for, their licences, and which of them are here."""
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


@app.command(epilog="Example: moda evaluate-weights convert syncnet_v2.model")
def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Files of the authors, of any name.")
    ],
) -> None:
    """Check and convert files that were downloaded.

    They are recognised by what is in them; whatever is missing, too much or of another shape is
    named, and nothing is written then.
    """
    for source in sources:
        converted = convert_weights(source)
        typer.echo(f"{converted.name}: {converted.path}")
