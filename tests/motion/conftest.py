"""The published network, filled by the rule of the golden data, and the golden data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moda.config import preset
from moda.devices import one_torch_thread

if TYPE_CHECKING:
    import torch

    from moda.motion.model import MotionTransformer

GOLDEN = Path(__file__).parents[1] / "data" / "published"


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, torch.Tensor]]:
    import torch

    def load(name: str) -> dict[str, torch.Tensor]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file}

    return load


@pytest.fixture(scope="module")
def published_model() -> MotionTransformer:
    """MoDA-base at full size; 1.5 GB."""
    import torch
    from motion_networks import published_shapes

    from moda.motion.model import MotionTransformer
    from moda.weights.checkpoints import load_weights
    from moda.weights.official import convert_published_motion_keys
    from published_weights import fill

    state = fill("motion_diffusion", published_shapes())
    with torch.device("meta"):
        model = MotionTransformer(preset("moda-base").motion)
    load_weights(model, convert_published_motion_keys(state))
    return model.eval()
