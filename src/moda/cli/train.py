"""The commands of people who train: ``moda train | finetune | train-expert``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from moda.devices import choose_device
from moda.files import check_folder
from moda.training import run
from moda.training.finetuning import finetuning_recipe, require_speech
from moda.training.processes import join_processes
from moda.training.recipe import Recipe, read_recipe

app = typer.Typer()

Threads = Annotated[int, typer.Option(help="Processor threads of each process.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
RecipeFile = Annotated[Path, typer.Argument(help="JSON file, see recipes/.")]


@app.command(epilog="Example: moda train recipes/miniature.json -o runs/miniature/model")
def train(
    recipe: RecipeFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; a run in it is continued.")
    ] = Path("runs/moda"),
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Train a motion model.

    Fits or takes the motion space, pretrains what the recipe asks for, trains the flow, and writes
    a checkpoint that moda generate --model takes. On several GPUs or machines:
    accelerate launch -m moda train RECIPE -o FOLDER.
    """
    _run(read_recipe(recipe), recipe.parent, output, threads, device)


@app.command(epilog="Example: moda finetune moda-tiny prepared/anna -o runs/anna --rank 8")
def finetune(
    model: Annotated[str, typer.Argument(help="Built-in model, or a .safetensors file.")],
    clips: Annotated[list[Path], typer.Argument(help="Folders of one person's prepared clips.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; a run in it is continued.")
    ] = Path("runs/finetuned"),
    rank: Annotated[
        int, typer.Option(help="Of the low-rank adapter, 1 to 256; 0 trains all weights.", min=0)
    ] = 8,
    steps: Annotated[int, typer.Option(help="Steps of the flow.", min=1)] = 300,
    batch_size: Annotated[int, typer.Option(help="Windows of a step.", min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(help="After the warm-up.")] = 5e-4,
    seed: Annotated[int, typer.Option(help="Of all that is random.")] = 0,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Teach a model the way one person speaks and moves.

    What moda-tiny reads of the mouth is pulled towards the person in seconds, as far as parts of
    the clips that were kept aside agree; head, brows and eyes are trained after it. Writes
    finetuned.safetensors, which moda generate --model takes. A minute of speech is enough.
    """
    recipe = finetuning_recipe(
        model,
        clips,
        rank=rank,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    require_speech(clips, _say)
    _run(recipe, Path(), output, threads, device)


@app.command(
    "train-expert",
    epilog="Example: moda train-expert recipes/miniature.json -o runs/sync_expert.safetensors",
)
def train_expert(
    recipe: RecipeFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of the expert (.safetensors); replaced.")
    ] = Path("runs/sync_expert.safetensors"),
    threads: Threads = 2,
) -> None:
    """Train the network that tells whether lips and speech belong together.

    Takes the clips of a recipe, leaves its validation speakers out, and measures on them how often
    the right speech is found among shifted windows and those of other clips.
    """
    check_folder(output.parent)
    torch.set_num_threads(threads)
    started = time.perf_counter()

    def report(step: int, loss: float) -> None:
        if step % 100 == 0:
            typer.echo(f"step {step}: loss {loss:.3f}", err=True)

    run.train_sync_expert(read_recipe(recipe), recipe.parent, output, report=report, say=_say)
    typer.echo(f"trained in {(time.perf_counter() - started) / 60:.1f} minutes: {output}")


def _run(recipe: Recipe, base: Path, output: Path, threads: int, device: str) -> None:
    """Run a recipe in this process, or in this one of several; the first one speaks."""
    check_folder(output)
    torch.set_num_threads(threads)
    started = time.perf_counter()
    processes = join_processes(choose_device(device))
    speaks = processes.index == 0

    def report(values: dict[str, float]) -> None:
        if values["step"] % 100 == 0 or "validation" in values:
            hidden = ("step", "seconds", "rate", "gradient")
            losses = ", ".join(
                f"{name} {value:.3f}" for name, value in values.items() if name not in hidden
            )
            _say(f"step {values['step']:.0f}: {losses}")

    say = _say if speaks else lambda text: None
    result = run.train(recipe, base, output, report=report, say=say, processes=processes)
    if speaks:
        typer.echo(f"trained in {(time.perf_counter() - started) / 60:.1f} minutes: {result}")


def _say(text: str) -> None:
    typer.echo(text, err=True)
