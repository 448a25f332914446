"""A few training steps of MoDA-base at full size: loss, time and memory.

    python benchmarks/train_base.py [--device cuda] [--batch-size 2] [--steps 3] [-o result.json]

The clips are made on the spot: walks of the normalised motion and random features, in the layout
and the sizes of prepared clips. So the loss says that the network learns, and nothing about faces.
Everything else is what ``moda train recipes/moda-base.json`` runs: reading of clips, windows,
losses, optimiser, moving average, snapshot.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from moda.config import preset
from moda.data.clips import ClipEntry, NeuralTrack, PreparedClip, write_shard
from moda.data.statistics import MotionStatistics
from moda.encoders.tracking import LandmarkTrack
from moda.training.loop import Trainer
from moda.training.processes import Processes
from moda.training.recipe import read_recipe
from moda.training.stages import neural_data, window_sampler
from moda.weights.official import load_published_space

RECIPE = Path(__file__).parents[1] / "recipes" / "moda-base.json"
NUM_CLIPS, NUM_FRAMES = 4, 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options)
    text = json.dumps(result, indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Make clips, train some steps, and write a snapshot."""
    clips = folder / "clips"
    clips.mkdir()
    for index in range(NUM_CLIPS):
        write_made_clip(clips, index)
    config, space = preset("moda-base"), load_published_space()
    recipe = read_recipe(RECIPE)
    training = replace(
        recipe.options,
        flow_steps=options.steps,
        batch_size=options.batch_size,
        accumulation=options.accumulation,
        precision=options.precision,
        warm_up_steps=1,
        checkpoint_every=10**9,
    )
    data = neural_data([clips], space, (), ())
    windows = window_sampler(data.clips, config, training, seed=0)
    started = time.perf_counter()
    trainer = Trainer(
        config, space, windows, training, folder / "run", processes=Processes(options.device)
    )
    made = time.perf_counter()
    steps: list[dict[str, float]] = []
    trainer.run(steps.append)
    seconds = np.diff([0.0, *(values["seconds"] for values in steps)])
    snapshot = trainer.snapshots.paths()[-1]
    reading = time.perf_counter()
    for draw in range(5):
        windows.batch(options.batch_size, 80, draw=draw)
    reading = (time.perf_counter() - reading) / 5 / options.batch_size
    best = float(np.min(seconds))
    result = {
        "machine": f"{platform.machine()}, {options.threads} threads, {options.device}",
        "torch": torch.__version__,
        "precision": options.precision,
        "batch_size": options.batch_size,
        "accumulation": options.accumulation,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "losses": [round(values["flow"], 4) for values in steps],
        "gradient_norms": [round(values["gradient"], 4) for values in steps],
        "seconds_to_build": round(made - started, 1),
        "seconds_per_step": [round(float(value), 2) for value in seconds],
        "processor_seconds": round(time.process_time(), 1),
        "windows_per_second": round(options.batch_size / best, 4),
        "milliseconds_to_read_a_window": round(1000 * reading, 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "snapshot_gib": round(snapshot.stat().st_size / 2**30, 2),
    }
    if options.device == "cuda":
        result["machine"] = torch.cuda.get_device_name()
        result["peak_device_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return result


def write_made_clip(folder: Path, index: int) -> None:
    """A clip with the shapes and the statistics of a prepared one."""
    generator = np.random.default_rng(index)
    space = load_published_space()
    walk = np.cumsum(generator.standard_normal((2, NUM_FRAMES, space.size)), axis=1) / 8.0
    motion = space.denormalize(walk.astype(np.float32))
    scale = space.slice("scale").start
    motion[..., scale] = space.mean[scale]
    features = generator.standard_normal((NUM_FRAMES, 12 * 768)).astype(np.float16)
    identity = (0.1 * generator.standard_normal((2, 63))).astype(np.float32)
    landmarks = np.zeros((NUM_FRAMES, 478, 3), np.float32)
    clip = PreparedClip(
        name=f"made{index}",
        speaker=f"speaker{index}",
        emotion=None,
        track=LandmarkTrack(landmarks, np.ones(NUM_FRAMES, bool)),
        samples=np.zeros(640 * NUM_FRAMES, np.int16),
        neural=NeuralTrack(motion, identity, features),
    )
    path = folder / f"shard-{clip.name}.safetensors"
    statistics = MotionStatistics.total([], motion.shape[-1])
    write_shard(path, [ClipEntry.of(clip)], [clip], statistics, "neural")


if __name__ == "__main__":
    main()
