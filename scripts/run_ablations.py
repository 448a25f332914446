"""Train and measure all ablations of a folder of recipes, and write one table.

    python scripts/run_ablations.py recipes/ablations -o runs/ablations --seeds 0 1 2

Recipes that differ only in how motion is sampled share one training. What is done is kept: the
command continues where it was stopped or killed, and several at once may share the work by giving
each other seeds. The table is written anew after every result.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ablations.generated_motion import (
    FeatureSpace,
    fit_feature_space,
    measure_generated,
    measure_reconstruction,
    real_motion,
)
from ablations.table import FIGURES, FIGURES_OF_SIZE, AblationTable, Result
from moda.config import SamplerConfig
from moda.data.clips import read_clips
from moda.data.dataset import TrainingClip, build_clips
from moda.evaluation.metrics import RunningGaussian, frechet_distance
from moda.evaluation.model.denoising import measure_denoising
from moda.motion.variants.autoencoder import MotionAutoencoder
from moda.motion.variants.building import build_model
from moda.strict_json import to_dict
from moda.training.recipe import Recipe, read_recipe
from moda.training.run import load_training_data, train
from moda.training.stages import TrainingData
from moda.weights.checkpoints import Checkpoint, load_checkpoint

GROUPS = {
    "Fusion": ("base", "one_stream", "two_stream", "cross_attention"),
    "Fusion at equal cost": ("base", "one_stream_4"),
    "Objective": ("base", "diffusion", "v_diffusion"),
    "Space": ("base", "latent"),
    "Loss": ("base", "sync_0.1", "sync_1.0"),
    "Conditions": ("base", "without_style", "without_identity", "without_previous_motion"),
    "Steps of the flow": (
        "base",
        *(f"steps_{number}" for number in (1, 2, 4, 5, 25, 50)),
    ),
    "Steps of the diffusion": (
        "diffusion",
        *(f"diffusion_steps_{number}" for number in (1, 2, 4, 5, 25, 50)),
    ),
    "Steps of the diffusion of angular velocity": (
        "v_diffusion",
        *(f"v_diffusion_steps_{number}" for number in (1, 2, 4, 5)),
    ),
    "Guidance": ("base", *(f"guidance_{scale}" for scale in ("1.0", "1.5", "2.0", "3.0"))),
    "Floor": ("base", "another_sound"),
}
SAMPLING_GROUPS = [title for title in GROUPS if title.startswith(("Steps", "Guidance", "Floor"))]
LEFT_OUT = {
    **dict.fromkeys(("Objective", "Conditions"), ("parameters",)),
    **dict.fromkeys(SAMPLING_GROUPS, ("denoising", "parameters", "train_seconds")),
}
"""Figures that are the same for the whole group."""
BEGIN, END = "<!-- begin of the table -->", "<!-- end of the table -->"
FLOOR = "another_sound"
"""The base, with each clip told the sound of another one."""
BASE = "base"


@dataclass(frozen=True)
class HeldOut:
    """What every variant is measured on."""

    clips: list[TrainingClip]
    features: FeatureSpace
    real_frechet: float
    """between real motion of the training speakers and of the held-out ones"""


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    output: Path = arguments.output
    recipes = read_recipes(arguments.recipes)
    wanted = [name for name in [*recipes, FLOOR] if not arguments.only or name in arguments.only]
    todo = [
        (seed, name)
        for seed in arguments.seeds
        for name in wanted
        if not result_path(output, name, seed).exists()
    ]
    if todo:
        base = recipes[BASE]
        say("reading the prepared clips")
        data = load_training_data(base, arguments.recipes, output / "data", say)
        held_out = load_held_out(base, arguments.recipes, data)
        for number, (seed, name) in enumerate(todo, 1):
            if result_path(output, name, seed).exists():  # by another run, meanwhile
                continue
            say(f"[{number}/{len(todo)}] {name}, seed {seed}")
            recipe = with_seed(recipes[BASE if name == FLOOR else name], seed)
            values = run(recipe, arguments.recipes, output, data, held_out, name == FLOOR)
            write_json(result_path(output, name, seed), values | {"variant": name, "seed": seed})
            write_table(output)
    write_table(output)
    say(f"table: {output / 'table.md'}")
    if arguments.document:
        insert_table(arguments.document, (output / "table.md").read_text(encoding="utf-8"))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, help="folder with base.json and the variants")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of variants")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--document", type=Path, help="text whose table is replaced in the end")
    return parser.parse_args()


def read_recipes(folder: Path) -> dict[str, Recipe]:
    """All recipes of a folder by name of file, in the order of the table."""
    found = {path.stem: read_recipe(path) for path in sorted(folder.glob("*.json"))}
    if BASE not in found:
        raise SystemExit(f"{folder} holds no {BASE}.json")
    order = list(dict.fromkeys(name for names in GROUPS.values() for name in names))
    return {
        name: found[name] for name in [*order, *sorted(set(found) - set(order))] if name in found
    }


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    return replace(recipe, seed=seed, options=replace(recipe.options, seed=seed))


def training_key(recipe: Recipe) -> str:
    """The same for recipes that train the same network in the same way."""
    plain = to_dict(replace(recipe, name="", sampler=SamplerConfig()))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def run(
    recipe: Recipe,
    base: Path,
    output: Path,
    data: TrainingData,
    held_out: HeldOut,
    swap_sounds: bool,
) -> dict[str, Any]:
    """Train, unless that is done already, and measure."""
    folder = output / "trainings" / training_key(recipe)
    trained = folder / "trained.safetensors"
    done = folder / "seconds.json"
    if not done.exists():
        started = time.process_time()
        train(replace(recipe, name="trained"), base, folder, data=data, say=say)
        write_json(done, {"train_seconds": time.process_time() - started})
    loaded = load_checkpoint(trained)
    checkpoint = loaded._replace(config=replace(loaded.config, sampler=recipe.sampler))
    measured = {
        "generated": asdict(
            measure_generated(
                checkpoint,
                held_out.clips,
                held_out.features,
                seed=recipe.seed,
                swap_sounds=swap_sounds,
            )
        ),
        "denoising": asdict(measure_denoising(checkpoint, held_out.clips, seed=0)),
        "parameters": count_parameters(loaded),
        "real_frechet": held_out.real_frechet,
        "training": folder.name,
        **json.loads(done.read_text(encoding="utf-8")),
    }
    autoencoder = checkpoint.model.representation
    if isinstance(autoencoder, MotionAutoencoder):
        measured["reconstruction"] = dict(
            measure_reconstruction(autoencoder, held_out.clips, checkpoint.space)
        )
    return measured


def count_parameters(checkpoint: Checkpoint) -> int:
    """Weights of the transformer that take part in its answer, without the speech embedder.

    What the last block of two streams does to the conditions reaches nobody.
    """
    model = build_model(checkpoint.config.motion)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    config = checkpoint.config.motion
    context = config.speech_embedder.before + config.speech_embedder.after
    conditions = model.encode_conditions(
        torch.randn(2, 8 + context, config.speech.size),
        torch.tensor([0, config.none_emotion]),
        torch.randn(2, config.identity_size),
    )
    noisy, previous = (
        torch.randn(2, 8, config.generated_size),
        torch.randn(2, 1, config.motion_size),
    )
    generated = model(noisy, previous, torch.tensor([10.0, 900.0]), conditions)
    model.representation.decode(generated).square().mean().backward()  # type: ignore[no-untyped-call]
    return sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if not name.startswith("speech_embedder.")
        and weight.grad is not None
        and bool(weight.grad.any())
    )


def load_held_out(recipe: Recipe, base: Path, data: TrainingData) -> HeldOut:
    """The clips of the validation speakers, and where their motion is compared."""
    prepared = [
        clip
        for clip in read_clips([base / name for name in recipe.clips])
        if clip.speaker in recipe.validation_speakers and clip.has_speech
    ]
    clips = build_clips(prepared, data.space, versions=0, in_sync=recipe.in_sync)
    trained_on = [real_motion(clip, data.space) for clip in data.clips]
    features = fit_feature_space(trained_on)
    real = [real_motion(clip, data.space) for clip in clips]
    seconds = sum(len(motion) for motion in real) / 25
    say(f"{len(clips)} held-out clips, {seconds:.0f} seconds")
    known, unknown = (RunningGaussian.of(features.features(c)) for c in (trained_on, real))
    distance = frechet_distance(known, unknown)
    return HeldOut(clips, features, distance)


def result_path(output: Path, name: str, seed: int) -> Path:
    return output / "results" / f"{name}-{seed}.json"


def read_results(output: Path) -> list[Result]:
    paths = sorted((output / "results").glob("*.json"))
    values = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [Result(each["variant"], each["seed"], each) for each in values]


def write_table(output: Path) -> None:
    results = read_results(output)
    table = AblationTable(GROUPS, results, (*FIGURES, *FIGURES_OF_SIZE), LEFT_OUT)
    write_json(output / "table.json", table.to_json())
    notes = [
        "Real motion of training speakers and held-out ones: Fréchet distance "
        f"{np.mean([result.value('real_frechet') for result in results]):.1f}."
    ]
    for result in results:
        if found := result.values.get("reconstruction"):
            shown = ", ".join(f"{name.replace('_', ' ')} {v:.3f}" for name, v in found.items())
            notes.append(f"Autoencoder of seed {result.seed} on held-out motion: {shown}.")
    write_text(output / "table.md", table.markdown() + "\n" + "\n\n".join(notes) + "\n")


def insert_table(document: Path, table: str) -> None:
    """Replace what stands between the two marks of a document."""
    text = document.read_text(encoding="utf-8")
    if not text.count(BEGIN) == text.count(END) == 1:
        raise SystemExit(f"{document} lacks the marks {BEGIN} and {END}; add them once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(document, f"{before}{BEGIN}\n\n{table}\n{END}{after}")


def write_json(path: Path, values: object) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Whole or not at all, also with several writers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{time.monotonic_ns()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


if __name__ == "__main__":
    main()
