"""MoDA-base's sampler against the released implementation's order of computation, on the CPU.

    python benchmarks/motion_sampler.py --rounds 4 --output benchmarks/results/sampler.json

Samples a window of 80 frames both ways in turn, in one process, and with fewer steps; compares the
results. Weights are made up: neither the arithmetic nor its time depends on them. Run by hand on a
quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import reference_motion as reference
import torch
from torch import Tensor

from moda.config import MotionModelConfig, preset
from moda.motion.flow import published_schedule, uniform_schedule
from moda.motion.model import MotionTransformer
from moda.motion.sampler import sample_window
from moda.structures import Floats
from moda.weights.official_keys import official_keys

PUBLISHED = preset("moda-base").motion
EMOTION = 3
GUIDANCE = 1.2
SCHEDULES = {
    "ours": published_schedule(10),
    "without the last step": published_schedule(10, drop_last_step=True),
    "5 steps": uniform_schedule(5),
    "4 steps": uniform_schedule(4),
}


def make_model(config: MotionModelConfig = PUBLISHED) -> MotionTransformer:
    """A network with random weights, none of them zero."""
    torch.manual_seed(0)
    model = MotionTransformer(config).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.normal_(std=weight.shape[1] ** -0.5)
        elif name.endswith("bias"):
            weight.normal_(std=0.05)
    return model


def official_state(model: MotionTransformer) -> dict[str, Tensor]:
    """The same weights under their released names."""
    ours = model.state_dict()
    state = {"null_audio_feat": ours["speech_embedder.null_speech"].view(1, 1, 1, 1, -1)}
    for official, name in official_keys().items():
        if "qkv_and_inner" in name and name.replace("qkv_", "query_") in ours:
            query_and_inner, key_and_value = (
                ours[name.replace("qkv_and_inner", part)]
                for part in ("query_and_inner", "key_and_value")
            )
            hidden = model.config.hidden
            rows = (query_and_inner[:hidden], key_and_value, query_and_inner[hidden:])
            state[official] = torch.cat(rows)
        elif name in ours:  # a smaller network has fewer blocks
            state[official] = ours[name]
    return state


@torch.inference_mode()
def compare(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of a window each way, and how far the results are from the reference's."""
    model = make_model()
    state = official_state(model)
    speech, noise = torch.randn(1, 80, 1, 12, 768), torch.randn(1, 80, 70)
    keypoints, previous = 0.3 * torch.randn(1, 63), 0.5 * torch.randn(1, 1, 70)

    def sample(schedule: Floats) -> Tensor:
        conditions = model.encode_conditions(speech, torch.tensor([EMOTION]), keypoints)
        return sample_window(
            model, conditions, previous, noise, schedule=schedule, guidance_scale=GUIDANCE
        )

    ways: dict[str, Callable[[], Tensor]] = {
        "reference": lambda: reference.sample_window(
            state, speech, EMOTION, keypoints, previous, noise, guidance_scale=GUIDANCE
        ),
        **{name: partial(sample, schedule) for name, schedule in SCHEDULES.items()},
    }
    sample(SCHEDULES["4 steps"])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Tensor] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            results[name] = way()
            seconds[name].append(time.perf_counter() - started)
    expected = results["reference"]
    rows = {}
    for name, values in seconds.items():
        difference = results[name] - expected
        rows[name] = {
            "median_s": round(statistics.median(values), 3),
            "min_s": round(min(values), 3),
            "times_as_fast": round(
                statistics.median(seconds["reference"]) / statistics.median(values), 2
            ),
            "times_as_fast_by_min": round(min(seconds["reference"]) / min(values), 2),
            "largest_difference": float(difference.abs().max()),
            "rms_difference": float(difference.square().mean().sqrt()),
            "rms": float(expected.square().mean().sqrt()),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    result = {
        "ways": compare(arguments.rounds),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}",
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "load_at_start": load,
        "torch": version("torch"),
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
