"""The published system on a GPU: recorded arrays, frames per second, memory.

    PYTHONPATH=tests python benchmarks/gpu.py --output benchmarks/results/gpu.json

First the networks are compared with the recordings of tests/data, on the device and at the limits
of the tests. Then the released implementation's order of computation and ours sample windows and
draw frames in turn, in one process, and the memory that each takes is noted. Weights are made up:
neither the arithmetic nor its time depends on them. ``--size tiny --device cpu`` tries the script
itself where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import reference_motion
import reference_renderer
import torch
from motion_sampler import EMOTION, GUIDANCE, PUBLISHED, make_model, official_state
from neural_renderer import made_up_weights, with_spectral_norms
from torch import Tensor

from moda.config import MotionModelConfig
from moda.devices import DEVICES, choose_device
from moda.motion.flow import published_schedule
from moda.motion.sampler import sample_window
from moda.rendering.neural.generator import resolve_spectral_norm
from moda.rendering.neural.layers import RenderingConfig
from moda.rendering.neural.networks import RenderingNetworks
from moda.rendering.neural.optimising import optimise
from moda.rendering.neural.renderer import NeuralRenderer
from moda.structures import ImplicitFace, Motion, NeuralPortrait
from moda.structures.keypoints import EYE_OFFSET
from moda.weights.official import load_published_space

WINDOW_FRAMES, NEW_FRAMES = 80, 64
"""Of a window, and those that it adds to the ones before."""
AIM = 3.2
"""Times as fast as the released order of computation, of sampler and renderer together."""
GOLDEN = Path(__file__).parents[1] / "tests" / "data" / "published"


class Size(NamedTuple):
    """What is measured."""

    motion: MotionModelConfig
    rendering: RenderingConfig
    num_frames: int


SIZES = {
    "published": Size(PUBLISHED, RenderingConfig(), WINDOW_FRAMES),
    "tiny": Size(
        replace(
            PUBLISHED,
            hidden=128,
            num_heads=2,
            four_stream_blocks=1,
            two_stream_blocks=1,
            one_stream_blocks=1,
            speech_embedder=replace(PUBLISHED.speech_embedder, width=64),
        ),
        RenderingConfig(
            picture_channels=(4, 4, 8),
            volume_channels=4,
            volume_depth=2,
            num_residual_blocks=1,
            compressed_channels=4,
            hourglass_channels=(4, 4, 4, 4, 4, 4),
            feature_channels=8,
            generator_channels=(8, 6, 4),
            spade_hidden=4,
        ),
        2,
    ),
}


class Pair(NamedTuple):
    """The released order of computation and ours; each ends on the host."""

    reference: Callable[[], Tensor]
    ours: Callable[[], Tensor]


def sampling(size: Size, device: torch.device) -> Pair:
    """One window (1, 80, 70)."""
    model = make_model(size.motion)
    speech, noise = torch.randn(1, 80, 1, 12, 768), torch.randn(1, 80, 70)
    keypoints, previous = 0.3 * torch.randn(1, 63), 0.5 * torch.randn(1, 1, 70)
    given = [values.to(device) for values in (speech, keypoints, previous, noise)]
    model = model.to(device)
    state = official_state(model)

    def ours() -> Tensor:
        speech, keypoints, previous, noise = given
        label = torch.tensor([EMOTION], device=device)
        conditions = model.encode_conditions(speech, label, keypoints)
        schedule = published_schedule(10, drop_last_step=True)
        sampled = sample_window(
            model, conditions, previous, noise, schedule=schedule, guidance_scale=GUIDANCE
        )
        return sampled.cpu()

    def reference() -> Tensor:
        speech, keypoints, previous, noise = given
        with torch.device(device):
            return reference_motion.sample_window(
                state, speech, EMOTION, keypoints, previous, noise, guidance_scale=GUIDANCE
            ).cpu()

    return Pair(reference, ours)


def drawing(size: Size, device: torch.device) -> Pair:
    """Squares (T, 512, 512, 3) uint8 of a head that turns by some degrees."""
    torch.manual_seed(0)
    with torch.device("meta"):
        networks = RenderingNetworks(size.rendering)
    states = {name: made_up_weights(part) for name, part in networks.named_children()}
    states["generator"] = with_spectral_norms(states["generator"])
    for name, part in networks.named_children():
        state = states[name]
        part.load_state_dict(
            resolve_spectral_norm(state) if name == "generator" else state, assign=True
        )
    networks = networks.eval().requires_grad_(False).to(device)
    numbers = np.random.default_rng(0)
    motion = np.zeros((size.num_frames + 1, 70), np.float32)
    motion[:, :63] = 0.02 * numbers.standard_normal((len(motion), 63))
    motion[:, 63] = 1.4
    motion[:, 67:] = 5 * numbers.standard_normal((len(motion), 3))
    crop = np.repeat(np.repeat(numbers.integers(0, 255, (16, 16, 3), np.uint8), 32, 0), 32, 1)
    canonical = (0.3 * numbers.standard_normal((21, 3))).astype(np.float32)
    face = ImplicitFace(canonical, motion[0])
    landmarks = numbers.random((478, 3))
    portrait = NeuralPortrait(crop, landmarks, crop, np.eye(2, 3), face)
    with torch.inference_mode():
        small = torch.from_numpy(crop[::2, ::2].copy()).to(device).permute(2, 0, 1)[None] / 255
        appearance = networks.appearance(small)
    moved = {
        name: {key: values.to(device) for key, values in states[name].items()}
        for name in ("stitching", "warping", "generator")
    }
    folded = deepcopy(networks)
    optimise(folded)
    space = load_published_space()
    told = motion[1:].copy()
    told[:, :63] += EYE_OFFSET.reshape(-1)
    renderer = NeuralRenderer(portrait, folded, space, full_frame=False)

    def ours() -> Tensor:
        return torch.from_numpy(np.stack(list(renderer.render(Motion(told, space)))))

    @torch.inference_mode()
    def reference() -> Tensor:
        frames = []
        with torch.device(device):
            source, driving = reference_renderer.drive(*face, motion[1:], moved["stitching"])
            for points in driving:
                warped = reference_renderer.warp(moved["warping"], appearance, source, points)
                picture = reference_renderer.draw(moved["generator"], warped)
                levels = (picture.clamp(0, 1) * 255).to(torch.uint8)
                frames.append(levels.movedim(1, -1).cpu())
        return torch.cat(frames)

    return Pair(reference, ours)


def compare(pair: Pair, rounds: int, device: torch.device) -> dict[str, object]:
    """Seconds of both ways in turn, their memory, and how far their results are apart."""
    seconds: dict[str, list[float]] = {name: [] for name in pair._fields}
    peaks: dict[str, float | None] = {}
    results: dict[str, Tensor] = {}
    for index in range(rounds + 1):
        for name, way in zip(pair._fields, pair, strict=True):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            started = time.perf_counter()
            results[name] = way()
            if index:  # the first round compiles and allocates
                seconds[name].append(time.perf_counter() - started)
            peaks[name] = peak_mb(device)
    difference = results["ours"].double() - results["reference"].double()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "median_s": {name: round(value, 5) for name, value in medians.items()},
        "min_s": {name: round(min(values), 5) for name, values in seconds.items()},
        "times_as_fast": round(medians["reference"] / medians["ours"], 2),
        "peak_mb": peaks,
        "largest_difference": float(difference.abs().max()),
    }


def peak_mb(device: torch.device) -> float | None:
    """Memory that tensors took at the most, weights included; known on CUDA alone."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)


def frames_per_second(
    sampler: dict[str, object], renderer: dict[str, object], size: Size
) -> object:
    """Of long clips: each frame is drawn, and each 64 take a window."""
    rates = {}
    for way in Pair._fields:
        window, clip = (part["median_s"][way] for part in (sampler, renderer))  # type: ignore[index]
        rates[way] = 1 / (window / NEW_FRAMES + clip / size.num_frames)
    rates["times_as_fast"] = rates["ours"] / rates["reference"]
    return {"aim": AIM, **{name: round(value, 2) for name, value in rates.items()}}


@contextmanager
def recordings(name: str, device: torch.device) -> Iterator[dict[str, Tensor]]:
    with np.load(GOLDEN / f"{name}.npz") as file:
        yield {key: torch.from_numpy(file[key]).to(device) for key in file}


@torch.inference_mode()
def golden_keypoints(device: torch.device) -> dict[str, float]:
    """The three small networks of the key points: largest differences over their limits."""
    from published_weights import load_filled, noise

    with torch.device("meta"):
        networks = RenderingNetworks()
    for name in ("stitching", "lip", "eye"):
        load_filled(name, networks.get_submodule(name))
        networks.get_submodule(name).to(device)
    source, driving = (
        (0.35 * noise(f"input/lp/stitch_{kind}", 2, 21, 3)).to(device)
        for kind in ("source", "driving")
    )
    lip, eye = (
        noise(f"input/lp/{kind}_ratio", 2, count).abs().to(device)
        for kind, count in (("lip", 2), ("eye", 3))
    )
    with recordings("liveportrait_nets", device) as expected:
        found = {
            "S/delta": networks.stitching(source, driving),
            "S/lip": networks.lip_offset(source, lip).flatten(1),
            "S/eye": networks.eye_offset(source, eye).flatten(1),
        }
        return {key: over(values, expected[key], 1e-6) for key, values in found.items()}


@torch.inference_mode()
def golden_renderer(device: torch.device) -> dict[str, float]:
    """Appearance, warping and generator at full size, as they are and made fast."""
    from published_weights import filled_rendering_networks, recorded_picture

    networks = filled_rendering_networks().to(device)
    found: dict[str, float] = {}
    with recordings("liveportrait_nets", device) as expected:
        for way in ("plain", "optimised"):
            if way == "optimised":
                optimise(networks)
            appearance = networks.appearance(recorded_picture().to(device))
            source = networks.warping.prepare(appearance, expected["kp_source"])
            features = networks.warping(source, expected["kp_driving"]).features
            picture = networks.generator(features)
            parts = {
                "F/slice": (appearance[:, ::4, ::4, ::4, ::4], 1e-4),
                "W/out_slice": (features[:, ::8, ::4, ::4], 5e-4),
                "G/out_slice": (picture[:, :, ::4, ::4], 5e-4),
            }
            found |= {
                f"{way} {key}": over(values, expected[key], limit)
                for key, (values, limit) in parts.items()
            }
    return found


@torch.inference_mode()
def golden_motion(device: torch.device) -> dict[str, float]:
    """MoDA-base at full size: ten guided steps."""
    from moda.motion.model import MotionTransformer
    from moda.weights.checkpoints import load_weights
    from moda.weights.official import convert_published_motion_keys
    from official_files import official_state as filled_state
    from published_weights import noise

    with torch.device("meta"):
        model = MotionTransformer(PUBLISHED)
    state = filled_state("motion_diffusion")
    load_weights(model, convert_published_motion_keys(state), device)
    conditions = model.eval().encode_conditions(
        noise("input/subclip/audio", 1, 80, 1, 12, 768).to(device),
        torch.tensor([3], device=device),
        (0.3 * noise("input/subclip/ref_kp", 1, 63)).to(device),
    )
    sampled = sample_window(
        model,
        conditions,
        (0.5 * noise("input/subclip/prev_motion", 1, 1, 70)).to(device),
        noise("input/subclip/init_latents", 1, 80, 70).to(device),
        schedule=published_schedule(),
        guidance_scale=GUIDANCE,
    )
    with recordings("subclip", device) as expected:
        return {"out": over(sampled, expected["out"], 1e-4)}


def over(found: Tensor, expected: Tensor, limit: float) -> float:
    """Largest difference over the limit of the tests: up to 1 is right."""
    return round(float((found - expected).abs().max()) / limit, 4)


def measure(device: torch.device, size: Size, rounds: int) -> dict[str, object]:
    """Sampler, renderer, and both together."""
    sampler = compare(sampling(size, device), rounds, device)
    renderer = compare(drawing(size, device), rounds, device)
    whole = frames_per_second(sampler, renderer, size)
    return {"sampler, a window": sampler, "renderer, a clip": renderer, "frames_per_second": whole}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--size", choices=SIZES, default="published")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    device = torch.device(choose_device(arguments.device))
    golden = [golden_keypoints]
    if arguments.size == "published":
        golden += [golden_renderer, golden_motion]
    is_cuda = device.type == "cuda"
    result = {
        "device": torch.cuda.get_device_name() if is_cuda else device.type,
        "machine": f"{platform.machine()}, {platform.system()}",
        "torch": torch.__version__,
        "size": arguments.size,
        "rounds": arguments.rounds,
        "differences_over_limits": {check.__name__: check(device) for check in golden},
        **measure(device, SIZES[arguments.size], arguments.rounds),
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
