"""What does each part of the built-in model do? Parts are taken away one at a time.

    python benchmarks/parts.py prepared/talking --recipe recipes/moda-tiny.json

Motion as the product makes it, rules included, on the recipe's held-out speakers: correlation of
lip gap and width with the tracked lips, and how alike heads are that move to different speech from
the same noise, mean |r| of pitch, yaw and roll over all pairs of the longest clips' first 8 s.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moda.data.clips import read_clips
from moda.evaluation.model.lips import SpokenClip, mean_motion, sampled_motion, score, spoken_clips
from moda.motion.hearing.lips import lips_of_motion, mean_identity
from moda.structures import Motion
from moda.weights.checkpoints import Checkpoint, load_checkpoint

HEAD_FRAMES = 200
NUM_HEADS = 4
SEEDS = (0, 1, 2)

Make = Callable[[SpokenClip, int], Motion]


def without_speech(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with a flow that is told the unknown speech; the mouth's mean stays."""
    model = copy.deepcopy(checkpoint.model)
    encode = model.encode_conditions

    def deaf(*arguments: Any, **options: Any) -> Any:
        options["null_speech"] = torch.ones(len(arguments[0]), dtype=torch.bool)
        return encode(*arguments, **options)

    model.encode_conditions = deaf  # type: ignore[method-assign]
    return checkpoint._replace(model=model)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--model", default="moda-tiny")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.model)
    speakers = json.loads(arguments.recipe.read_text())["validation_speakers"]
    clips = [clip for clip in read_clips([arguments.folder]) if clip.speaker in speakers]
    spoken = spoken_clips(clips)
    identity = mean_identity(checkpoint.space)
    other = (identity + 0.05 * np.random.default_rng(0).standard_normal(63)).astype(np.float32)
    deaf = without_speech(checkpoint)

    def sampled(which: Checkpoint, face: np.ndarray) -> Make:
        return lambda clip, seed: sampled_motion(which, clip.speech, identity=face, seed=seed)

    rows: dict[str, Make] = {
        "everything": sampled(checkpoint, identity),
        "without the flow: the mean of the mouth and rules": lambda clip, seed: mean_motion(
            checkpoint, clip.speech
        ),
        "flow without speech": sampled(deaf, identity),
        "another identity": sampled(checkpoint, other),
    }
    print("| | lip gap r | lip width r | heads alike |\n| --- | --- | --- | --- |")
    for name, make in rows.items():
        scores = [
            score(name, spoken, lambda clip, m=make, s=seed: lips_of_motion(m(clip, s)))  # type: ignore[misc]
            for seed in SEEDS
        ]
        gap, width = (np.mean([getattr(row, part) for row in scores]) for part in ("gap", "width"))
        print(f"| {name} | {gap:.3f} | {width:.3f} | {alike(make, spoken):.2f} |", flush=True)


def alike(make: Make, spoken: list[SpokenClip]) -> float:
    """Mean |r| of the head's angles over pairs of speeches and over seeds."""
    longest = sorted(spoken, key=lambda clip: -clip.num_frames)[:NUM_HEADS]
    found = []
    for seed in SEEDS:
        heads = [make(clip, seed).values[:HEAD_FRAMES, -3:] for clip in longest]
        for one, other in combinations(heads, 2):
            count = min(len(one), len(other))
            for axis in range(3):
                pair = one[:count, axis], other[:count, axis]
                if min(values.std() for values in pair) > 1e-3:
                    found.append(abs(np.corrcoef(*pair)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


if __name__ == "__main__":
    main()
