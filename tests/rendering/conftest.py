"""One real portrait on its mesh renderer, shared by the tests of rendering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Motion, MotionSpace, Picture, Portrait

MakeMotion = Callable[..., Motion]


@pytest.fixture(scope="session")
def portrait(photograph: Picture, space: MotionSpace, models: FaceModels) -> Portrait:
    return encode_portrait(photograph, space, models=models)


@pytest.fixture(scope="session")
def closed_portrait(portrait: Portrait) -> Portrait:
    """The portrait as if it had been photographed with the mouth closed."""
    return replace(portrait, neutral_keypoints=portrait.canonical_keypoints)


@pytest.fixture(scope="session")
def renderer(portrait: Portrait, space: MotionSpace) -> MeshRenderer:
    """The whole photograph at its own size."""
    return MeshRenderer(portrait, space, size=512)


@pytest.fixture(scope="session")
def crop_renderer(portrait: Portrait, space: MotionSpace) -> MeshRenderer:
    return MeshRenderer(portrait, space, size=256, full_frame=False)


@pytest.fixture(scope="session")
def make_motion(space: MotionSpace) -> MakeMotion:
    """One frame of motion at rest, but for the parts given: ``make_motion(yaw=5.0)``."""

    def make(**parts: object) -> Motion:
        values = np.zeros((1, space.size), np.float32)
        values[:, space.slice("scale")] = 1.0
        for name, value in parts.items():
            values[:, space.slice(name)] = value
        return Motion(values, space)

    return make


@pytest.fixture(scope="session")
def wild_motion(space: MotionSpace) -> Motion:
    """200 unrelated frames, each parameter within three standard deviations of its mean."""
    random = np.random.default_rng(7)
    values = space.mean + space.std * np.clip(random.standard_normal((200, space.size)), -3, 3)
    return Motion(values.astype(np.float32), space)
