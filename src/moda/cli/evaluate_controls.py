"""The command that measures what the controls change: ``moda evaluate-controls``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options
from moda.devices import choose_device
from moda.encoders.face import FaceModels
from moda.evaluation.rendered.control_effects import control_effects
from moda.files import ScratchFolder, check_outputs, write_text
from moda.pipeline import loading

app = typer.Typer()


@app.command(
    "evaluate-controls",
    epilog="Example: moda evaluate-controls examples/portrait.jpg --speech examples/speech.wav",
)
def evaluate_controls(
    portraits: Annotated[
        list[Path], typer.Argument(metavar="PORTRAIT...", help="Pictures with a face.")
    ],
    speech: Annotated[Path, typer.Option(help="What they say.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Markdown file for the table.")
    ] = None,
    model: options.ModelName = None,
    device: options.Device = "auto",
) -> None:
    """Measure on rendered frames what each control of generate changes."""
    if output is not None:
        check_outputs([output], [*portraits, speech])
    head = loading.load_head(model, "mesh", device)
    models = FaceModels(choose_device(device))
    with ScratchFolder("work") as folder:
        effects = control_effects(
            head,
            models,
            portraits,
            speech,
            folder,
            watch=lambda run: typer.echo(run, err=True),
        )
    table = effects.markdown()
    if output is not None:
        write_text(output, table)
    typer.echo(
        f"Means of {effects.num_portraits} portraits, {effects.seconds:.1f} s each.\n\n{table}"
    )
