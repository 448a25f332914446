"""Files of the official layout, filled by the rule of the golden data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

from published_weights import fill

Shapes = Mapping[str, list[int]]
State = dict[str, torch.Tensor]

OFFICIAL_SHAPES = Path(__file__).parent / "data" / "published" / "official_shapes.json"
"""Keys and shapes of every network, as recorded from the released implementation."""
BASE_MODELS = (
    "appearance_feature_extractor",
    "motion_extractor",
    "warping_module",
    "spade_generator",
)
RETARGETING_PARTS = {
    "retarget_shoulder": "stitching",
    "retarget_mouth": "lip",
    "retarget_eye": "eye",
}
HUBERT_CONFIG = {
    "architectures": ["HubertModel"],
    "model_type": "hubert",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "conv_dim": [512] * 7,
    "do_stable_layer_norm": False,
    "transformers_version": "4.20.0",
}


@cache
def official_shapes(network: str) -> Shapes:
    shapes: dict[str, Shapes] = json.loads(OFFICIAL_SHAPES.read_text())
    return shapes[network]


def official_state(network: str, make: Callable[[str, Shapes], State] = fill) -> State:
    """What the official file of a network holds, filled in two threads."""
    shapes = official_shapes(network)
    spectral = {key: shapes[key] for key in shapes if key.rpartition(".")[2].startswith("weight_")}
    parts = [{key: shapes[key]} for key in shapes if key not in spectral]
    with ThreadPoolExecutor(2) as threads:
        filled = threads.map(lambda part: make(network, part), [spectral, *parts])
    state = {key: value for part in filled for key, value in part.items()}
    return {key: state[key] for key in shapes}


def zeros(network: str, shapes: Shapes) -> State:
    """Weights that take no memory."""
    integers = {key for key in shapes if key.endswith("num_batches_tracked")}
    return {
        key: torch.zeros((), dtype=torch.int64 if key in integers else torch.float32).expand(shape)
        for key, shape in shapes.items()
    }


def motion_state(make: Callable[[str, Shapes], State] = fill) -> State:
    """MoDA-base's file, with the noise levels that it also holds."""
    return official_state("motion_diffusion", make) | {
        "scheduler.sigmas": torch.arange(1, 1001) / 1000
    }


def write_motion_model(folder: Path) -> Path:
    path = folder / "moda" / "net-200.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(motion_state(), path)
    return path


def write_live_portrait(folder: Path, make: Callable[[str, Shapes], State] = fill) -> Path:
    """The five files; returns their folder."""
    root = folder / "liveportrait"
    for name in ("base_models", "retargeting_models"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for network in BASE_MODELS:
        torch.save(official_state(network, make), root / "base_models" / f"{network}.pth")
    retargeting = {
        part: {f"module.{key}": value for key, value in official_state(network, make).items()}
        for part, network in RETARGETING_PARTS.items()
    }
    torch.save(retargeting, root / "retargeting_models" / "stitching_retargeting_module.pth")
    return root


def write_hubert(folder: Path, make: Callable[[str, Shapes], State] = fill) -> Path:
    """Configuration and weights, with the names that older files have; returns their folder."""
    root = folder / "chinese-hubert-base"
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.json").write_text(json.dumps(HUBERT_CONFIG))
    state = official_state("hubert_base", make)
    older = {"parametrizations.weight.original0": "weight_g"}
    older |= {"parametrizations.weight.original1": "weight_v"}
    renamed = {}
    for key, value in state.items():
        for new, old in older.items():
            key = key.replace(new, old)
        renamed[key] = value
    torch.save(renamed, root / "pytorch_model.bin")
    return root
