"""What `moda finetune` gains for the lips of somebody whom the reader has never seen.

For each of some speakers the mouth is fitted on all others, adapted to the first 60 % of that
speaker's clips, and compared with the tracked lips of the last 40 %. The heads are fitted anew in
closed form; the flow is not trained.

    python benchmarks/finetune.py recipes/moda-tiny.json runs/moda-tiny
    python benchmarks/finetune.py recipes/moda-tiny.json runs/moda-tiny --speakers Obama andrew
"""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moda.data.dataset import TrainingClip
from moda.data.sync import correlation_at_lag, rows_at
from moda.motion.reading import SpeechReader
from moda.structures import MotionSpace
from moda.structures.landmarks import Array
from moda.training.fits.adapting import adapt_mouth, lip_rows, with_read_lags
from moda.training.fits.reading import lip_gains, mouth_products, solve_mouth, stacked_frames
from moda.training.recipe import read_recipe
from moda.training.run import load_training_data

SPEAKERS = ("Obama", "edtalk-pose2", "andrew", "feifeili", "reagan", "infinitetalk")
LEARNED_SHARE = 0.6
GAP_FRAMES = 25
"""Between what is learned of and what is measured."""


def cut(clip: TrainingClip, rows: slice) -> TrainingClip:
    """Some frames of a clip, at its lag."""
    times = np.arange(len(clip)) + clip.lag
    own, other = (rows_at(motion, times)[rows].astype(np.float32) for motion in clip.motion)
    return replace(
        clip,
        motion=(own, other),
        features=tuple(part[: len(clip)][rows] for part in clip.features),
        lips=rows_at(clip.lips, times)[rows],
        lag=0.0,
    )


def measured(reader: SpeechReader, clips: Sequence[TrainingClip], space: MotionSpace) -> Array:
    """r of gap and width, and how large read movements are beside real ones; by frames."""
    weights = reader.mouth_head.weight.double().numpy().T @ lip_rows(space).T
    rows = []
    for clip in clips:
        read = stacked_frames(reader, clip.features[0]) @ weights
        both = [correlation_at_lag(read[:, k], clip.lips[:, k], 0) for k in (0, 1)]
        rows.append([*both, *(read.std(0) / clip.lips.std(0))])
    return np.average(rows, axis=0, weights=[len(clip) for clip in clips])


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("folder", type=Path, help="of a run of the recipe, or a new one")
    parser.add_argument("--speakers", nargs="+", default=SPEAKERS)
    parser.add_argument("--data", type=Path, help="pickle of the clips, made if it is not there")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = read_recipe(arguments.recipe)
    if arguments.data and arguments.data.exists():
        data = pickle.loads(arguments.data.read_bytes())
    else:
        data = load_training_data(recipe, arguments.recipe.parent, arguments.folder, print)
        if arguments.data:
            arguments.data.write_bytes(pickle.dumps(data))
    space, options = data.space, recipe.reader
    clips = [clip for clip in [*data.clips, *data.held_out] if clip.features]
    learned = [clip for clip in data.clips if clip.features]
    sums = {clip.name: mouth_products(data.embedder, clip, space) for clip in learned}
    larger, _ = lip_gains(space, options)
    results: dict[str, Any] = {}
    print("| speaker | seconds | gap r | width r | gap size | width size | took |")
    for speaker in arguments.speakers:
        others = [sums[clip.name] for clip in learned if clip.speaker != speaker]
        reader = copy.deepcopy(data.embedder)
        head = torch.from_numpy((solve_mouth(others, options.ridge) @ larger).T)
        reader.mouth_head.weight.copy_(head)
        own = [clip for clip in clips if clip.speaker == speaker]
        first, last = [], []
        for clip in with_read_lags(reader, own, space):
            border = round(LEARNED_SHARE * len(clip))
            first.append(cut(clip, slice(0, border)))
            last.append(cut(clip, slice(border + GAP_FRAMES, None)))
        before = measured(reader, last, space)
        started = time.process_time()
        _, found = adapt_mouth(reader, first, space, options)
        seconds = time.process_time() - started
        after = measured(reader, last, space)
        parts = (f"{a:.3f} -> {b:.3f}" for a, b in zip(before, after, strict=True))
        print(
            f"| {speaker} | {sum(map(len, first)) / 25:.0f} + {sum(map(len, last)) / 25:.0f} | "
            f"{' | '.join(parts)} | {seconds:.1f} s |\n    {found}",
            flush=True,
        )
        results[speaker] = {
            "learned_seconds": sum(map(len, first)) / 25,
            "before": before.round(4).tolist(),
            "after": after.round(4).tolist(),
            "said": str(found),
            "processor_seconds": round(seconds, 1),
        }
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
