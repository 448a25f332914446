"""The commands around published models: ``moda models list | download | convert | verify``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from moda.devices import require_torch
from moda.errors import CheckpointError, InputError
from moda.files import check_folder, models_folder
from moda.weights.catalogue import CATALOGUE, ConvertedModel, PublishedModel, published_model
from moda.weights.installation import install_model, model_state, verify_model

app = typer.Typer()

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="moda-base, liveportrait, hubert, kokoro. Default: all."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(help="Folder of the models. Default: $MODA_HOME, else ~/.cache/moda."),
]


@app.command("list")
def list_models(folder: Folder = None) -> None:
    """List the published models, their licences, and which of them are here."""
    folder = folder or models_folder()
    row = "{:<14}{:>8}  {:<12}{:<12}{}"
    typer.echo(row.format("name", "size", "licence", "state", "what"))
    for name, model in CATALOGUE.items():
        state = model_state(model, folder)
        typer.echo(row.format(name, megabytes(model.size), model.licence, state, model.what))
    typer.echo(f"folder: {folder}")


@app.command(epilog="Example: moda models download kokoro --yes")
def download(
    names: Names = None,
    folder: Folder = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Agree to the licences without being asked.")
    ] = False,
    keep_originals: Annotated[
        bool,
        typer.Option(
            "--keep-originals/--remove-originals",
            help="Whether the downloaded files stay after they were converted.",
        ),
    ] = True,
) -> None:
    """Download published models and convert them.

    Shows the licences first. Files that have arrived are kept when a later one fails. HF_ENDPOINT
    chooses a mirror of the hub; HF_HUB_OFFLINE=1 uses only what is here.
    """
    folder = folder or models_folder()
    models = _chosen(names)
    if any(model.is_converted for model in models):
        require_torch("the conversion of published models")
    for model in models:
        typer.echo(
            f"{model.name}: {model.what}\n"
            f"  from {model.repository}, {megabytes(model.size)}\n"
            f"  licence: {model.licence}; {model.licence_note}"
        )
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody is here to agree to the licences above; add --yes if you do")
        typer.confirm(f"Download to {folder}?", abort=True)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # before the client is imported
    for model in models:
        converted = install_model(
            model,
            folder,
            keep_originals=keep_originals,
            say=lambda text: typer.echo(text, err=True),
        )
        _report(converted)


@app.command(epilog="Example: moda models convert pretrained_weights/")
def convert(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|FOLDER...", help="Official files, or folders with them, of any name."
        ),
    ],
    output_folder: Annotated[
        Path | None,
        typer.Option(help="Where to. Default: the folder of the models."),
    ] = None,
) -> None:
    """Convert official files that are on disk already.

    Files are recognised by what is in them. Whatever is missing, too much or of another shape is
    named, and nothing is written then.
    """
    folder = output_folder or models_folder()
    check_folder(folder)
    require_torch("the conversion of published models")
    from moda.weights.official import convert_official_files

    conversion = convert_official_files(sources, folder)
    for reason in conversion.skipped:
        typer.echo(f"not used: {reason}", err=True)
    for converted in conversion.models:
        _report(converted)


@app.command()
def verify(names: Names = None, folder: Folder = None) -> None:
    """Read models anew and compare them with their recorded hashes.

    Without names: those that are here.
    """
    folder = folder or models_folder()
    models = _chosen(names)
    if not names:
        models = [model for model in models if model_state(model, folder) != "missing"]
    bad = []
    for model in models:
        try:
            verify_model(model, folder)
        except CheckpointError as error:
            bad.append(model.name)
            typer.echo(f"PROBLEM  {model.name}: {error}")
        else:
            typer.echo(f"ok       {model.name}: {folder / model.converted_name}")
    if bad:
        raise CheckpointError(f"not right: {', '.join(bad)}; see above, or download them again")
    if not models:
        raise CheckpointError(f"no model is in {folder}; get them with: moda models download")


def megabytes(size: int) -> str:
    """Bytes as a number to read."""
    return f"{size / 1e6:.0f} MB"


def _chosen(names: list[str] | None) -> list[PublishedModel]:
    return [published_model(name) for name in dict.fromkeys(names or CATALOGUE)]


def _report(converted: ConvertedModel) -> None:
    typer.echo(f"{converted.name}: {converted.path}")
    for note in converted.notes:
        typer.echo(f"  {note}")
