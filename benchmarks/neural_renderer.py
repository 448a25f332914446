"""The neural renderer against the released implementation's order of computation, on the CPU.

    python benchmarks/neural_renderer.py --rounds 6 --output benchmarks/results/renderer.json

Times a frame both ways in turn, in one process, part by part: driving key points, warping network,
generator; then measures the peak memory of each in a process of its own. Weights are made up:
neither the arithmetic nor its time depends on them. Run by hand on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import reference_renderer as reference
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moda.rendering.neural.cpu.acceleration import accelerate_for_cpu
from moda.rendering.neural.generator import resolve_spectral_norm
from moda.rendering.neural.networks import RenderingNetworks
from moda.structures import ImplicitFace
from moda.structures.keypoints import EYE_OFFSET, driving_keypoints

PARTS = ("torch", "numpy", "numba")
NUM_KEYPOINT_FRAMES = 25
DAMPED = ("mlp_gamma", "mlp_beta", "conv_img", "dense_motion_network.mask")
Result = TypeVar("Result")
States = dict[str, dict[str, Tensor]]
"""Per network, tensors under their released names"""


class Clip(NamedTuple):
    """What is drawn."""

    face: ImplicitFace
    motion: np.ndarray[tuple[int, int], np.dtype[np.float32]]  # (T, 70)
    appearance: Tensor  # (1, 32, 16, 64, 64)


class Clock:
    """Wall and processor seconds of everything that was timed, by name."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = {}
        self.processor: dict[str, list[float]] = {}

    def __call__(self, name: str, task: Callable[..., Result], *arguments: object) -> Result:
        wall, processor = time.perf_counter(), time.process_time()
        result = task(*arguments)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        self.processor.setdefault(name, []).append(time.process_time() - processor)
        return result

    def summary(self, name: str) -> dict[str, float]:
        return {
            "wall_median_s": round(statistics.median(self.wall[name]), 5),
            "wall_min_s": round(min(self.wall[name]), 5),
            "processor_median_s": round(statistics.median(self.processor[name]), 5),
            "processor_min_s": round(min(self.processor[name]), 5),
        }


def made_up_weights(module: nn.Module) -> dict[str, Tensor]:
    """Random weights with which neither activations nor sigmoids run away."""
    state = {}
    for name, tensor in module.state_dict().items():
        values = torch.randn(tensor.shape)
        if tensor.ndim >= 2:
            values *= (2 / tensor[0].numel()) ** 0.5 * (
                0.3 if any(p in name for p in DAMPED) else 1
            )
        elif name.endswith(("running_var", "norm.weight")):
            values = 1 + 0.1 * values.abs()
        elif tensor.is_floating_point():
            values *= 0.05
        state[name] = values.to(tensor.dtype)
    return state


def with_spectral_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The generator's weights as they are released: a spectral norm is three tensors."""
    official = {}
    for name, tensor in state.items():
        layer, _, part = name.rpartition(".")
        if part != "weight" or not layer.endswith((".conv_0", ".conv_1", ".conv_s")):
            official[name] = tensor
            continue
        matrix = tensor.flatten(1)
        right = nn.functional.normalize(matrix.T @ torch.randn(len(matrix)), dim=0)
        left = nn.functional.normalize(matrix @ right, dim=0)
        official |= {f"{name}_orig": tensor, f"{name}_u": left, f"{name}_v": right}
    return official


def make_states() -> States:
    """All weights as they are released."""
    torch.manual_seed(0)
    with torch.device("meta"):
        networks = RenderingNetworks()
    states = {name: made_up_weights(part) for name, part in networks.named_children()}
    states["generator"] = with_spectral_norms(states["generator"])
    return states


def load_networks(folder: Path) -> RenderingNetworks:
    """Our networks, not yet accelerated, with weights that were saved."""
    with torch.device("meta"):
        networks = RenderingNetworks()
    for name, part in networks.named_children():
        state = load_file(folder / f"{name}.safetensors")
        part.load_state_dict(
            resolve_spectral_norm(state) if name == "generator" else state, assign=True
        )
    return networks.eval().requires_grad_(False)


def make_clip(networks: RenderingNetworks) -> Clip:
    """A picture of noise and a head that turns by some degrees."""
    numbers = np.random.default_rng(0)
    motion = np.zeros((NUM_KEYPOINT_FRAMES + 1, 70), np.float32)
    motion[:, :63] = 0.02 * numbers.standard_normal((len(motion), 63))
    motion[:, 63:] = [1.4, 0.02, 0.03, 0, 0, 0, 0]
    motion[:, 67:] += 5 * numbers.standard_normal((len(motion), 3))
    canonical = (0.3 * numbers.standard_normal((21, 3))).astype(np.float32)
    picture = nn.functional.interpolate(torch.rand(1, 3, 32, 32), size=(256, 256), mode="bilinear")
    return Clip(ImplicitFace(canonical, motion[0]), motion[1:], networks.appearance(picture))


def drive_together(networks: RenderingNetworks, clip: Clip, source_keypoints: Tensor) -> Tensor:
    """Driving key points (T, 21, 3) of a clip."""
    motion = clip.motion.copy()
    motion[:, :63] += EYE_OFFSET.reshape(-1)
    motion[:, 63] = clip.face.motion[63]
    driven = torch.from_numpy(driving_keypoints(clip.face, motion))
    return networks.stitch(source_keypoints, driven)


def compare(folder: Path, rounds: int) -> dict[str, object]:
    """Both ways in turn, on the same frames."""
    networks, clock = load_networks(folder), Clock()
    clip = make_clip(networks)
    states = {
        name: load_file(folder / f"{name}.safetensors")
        for name in ("stitching", "warping", "generator")
    }
    source, driving = reference.drive(*clip.face, clip.motion, states["stitching"])
    clock("acceleration", accelerate_for_cpu, networks)
    warping, generator = networks.warping, networks.generator
    prepared = warping.prepare(clip.appearance, source)
    generator(warping(prepared, driving[0]).features)  # compiles and allocates
    differences = dict.fromkeys(("keypoints", "warping", "generator", "picture"), 0.0)
    for index in range(rounds):
        alone = clock(
            "reference keypoints", reference.drive, *clip.face, clip.motion, states["stitching"]
        )[1]
        together = clock("ours keypoints", drive_together, networks, clip, source)
        points = driving[index % len(driving)]
        warped = clock(
            "reference warping", reference.warp, states["warping"], clip.appearance, source, points
        )
        picture = clock("reference generator", reference.draw, states["generator"], warped)
        features = clock("ours warping", warping, prepared, points).features
        own_picture = clock("ours generator", generator, features)
        found = together, features, generator(warped), own_picture
        expected = torch.cat(alone), warped, picture, picture
        for name, ours, theirs in zip(differences, found, expected, strict=True):
            differences[name] = max(differences[name], float((ours - theirs).abs().max()))
    return {"parts": summarise(clock), "largest_differences": differences}


def summarise(clock: Clock) -> dict[str, dict[str, object]]:
    """Seconds of a frame and ratios, part by part and of the whole."""
    for way in ("reference", "ours"):
        keypoints = clock.wall[f"{way} keypoints"], clock.processor[f"{way} keypoints"]
        for seconds in keypoints:
            seconds[:] = [value / NUM_KEYPOINT_FRAMES for value in seconds]
        for times in (clock.wall, clock.processor):
            parts = (times[f"{way} {part}"] for part in ("keypoints", "warping", "generator"))
            times[f"{way} frame"] = [sum(values) for values in zip(*parts, strict=True)]
    rows: dict[str, dict[str, object]] = {"acceleration, once": dict(clock.summary("acceleration"))}
    for part in ("keypoints", "warping", "generator", "frame"):
        theirs, ours = (clock.summary(f"{way} {part}") for way in ("reference", "ours"))
        ratios = {name[:-2]: round(theirs[name] / ours[name], 2) for name in ours}
        rows[part] = {"reference": theirs, "ours": ours, "ratio": ratios}
    return rows


def prepare(folder: Path) -> None:
    """Write made-up weights of all networks and two frames to draw."""
    states = make_states()
    for name, state in states.items():
        save_file(state, folder / f"{name}.safetensors")
    clip = make_clip(load_networks(folder))
    source, driving = reference.drive(*clip.face, clip.motion[:2], states["stitching"])
    points = torch.cat((source, *driving))
    save_file({"appearance": clip.appearance, "points": points}, folder / "clip.safetensors")


def draw_alone(way: str, folder: Path) -> int:
    """Megabytes at the peak of a process that draws two frames one way."""
    saved = load_file(folder / "clip.safetensors")
    source, *driving = torch.split(saved["points"], 1)
    if way == "ours":
        networks = load_networks(folder)
        accelerate_for_cpu(networks)
        prepared = networks.warping.prepare(saved["appearance"], source)
        for points in driving:
            networks.generator(networks.warping(prepared, points).features)
    else:
        warping, generator = (
            load_file(folder / f"{name}.safetensors") for name in ("warping", "generator")
        )
        for points in driving:
            warped = reference.warp(warping, saved["appearance"], source, points)
            reference.draw(generator, warped)
    scale = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6)


def run(task: str, folder: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """One of the tasks in a process of its own, whose peak of memory is its own too."""
    command = [sys.executable, __file__, "--task", task, str(folder)]
    command += ["--rounds", str(arguments.rounds)]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def do(task: str, folder: Path, rounds: int) -> object:
    if task == "prepare":
        prepare(folder)
        return None
    if task == "compare":
        return compare(folder, rounds)
    return draw_alone(task, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.task:
        with torch.inference_mode():
            task, folder = arguments.task
            print(json.dumps(do(task, Path(folder), arguments.rounds)))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        run("prepare", Path(folder), arguments)
        result = run("compare", Path(folder), arguments)
        ways = ("reference", "ours")
        result["peak_mb"] = {way: run(way, Path(folder), arguments) for way in ways}
    result |= {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}",
        "threads": torch.get_num_threads(),
        "rounds": arguments.rounds,
        "load_at_start": load,
        "versions": {part: version(part) for part in PARTS},
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
