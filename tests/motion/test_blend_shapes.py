"""Motion of the mesh as blend shapes and visemes."""

from __future__ import annotations

import numpy as np
import pytest

from moda.errors import InputError
from moda.motion.blend_shapes import ARKIT_SHAPES, FULL, BlendShapes
from moda.motion.visemes import VISEMES, frame_visemes
from moda.phones import Phone
from moda.structures import Motion, MotionSpace
from moda.weights.official import load_published_space
from moda.weights.spaces import load_motion_space

SPACE = load_motion_space()
COLUMN = {name: index for index, name in enumerate(ARKIT_SHAPES)}


def shapes_of(**moved: tuple[float, float]) -> dict[str, float]:
    """Shapes other than 0 of a face whose points (by number) have moved right and down."""
    assert SPACE.basis is not None
    basis = SPACE.basis
    rows = {int(name[1:]): offset for name, offset in moved.items()}
    design = np.concatenate([basis[:, point, :2].T for point in rows])
    wanted = np.concatenate(list(rows.values()))
    values = np.zeros((1, SPACE.size), np.float32)
    values[0, : len(basis)] = np.linalg.lstsq(design, wanted, rcond=None)[0]
    (amounts,) = BlendShapes(SPACE)(Motion(values, SPACE))
    return {name: float(amounts[index]) for name, index in COLUMN.items() if amounts[index] > 0.01}


def test_there_are_52_in_apples_order() -> None:
    assert len(set(ARKIT_SHAPES)) == 52
    assert (ARKIT_SHAPES[0], ARKIT_SHAPES[17], ARKIT_SHAPES[-1]) == (
        "eyeBlinkLeft", "jawOpen", "tongueOut",
    )  # fmt: skip
    assert not BlendShapes(SPACE)(Motion(SPACE.rest[None], SPACE)).any(), "a face at rest"


def test_lips_that_meet_while_the_jaw_is_open() -> None:
    open_wide = shapes_of(p152=(0.0, 0.08), p14=(0.0, 0.15), p13=(0.0, 0.0))
    assert open_wide["jawOpen"] == pytest.approx(0.32, abs=0.01)
    assert open_wide.get("mouthClose", 0.0) < 0.05
    closed = shapes_of(p152=(0.0, 0.08), p14=(0.0, 0.0), p13=(0.0, 0.0))
    assert closed["mouthClose"] == pytest.approx(closed["jawOpen"], abs=0.01)
    pressed = shapes_of(p152=(0.0, 0.0), p14=(0.0, -0.03), p13=(0.0, 0.03))
    assert pressed["mouthPressLeft"] == pressed["mouthPressRight"] > 0.5


def test_corners_of_the_mouth() -> None:
    still = {"p152": (0.0, 0.0), "p13": (0.0, 0.0), "p14": (0.0, 0.0)}
    smile = shapes_of(p291=(0.05, -0.05), p61=(-0.05, -0.05), **still)
    assert smile["mouthSmileLeft"] == pytest.approx(0.05 / FULL["smile"], abs=0.02)
    assert "mouthFrownLeft" not in smile
    crooked = shapes_of(p291=(0.0, 0.04), p61=(0.0, 0.0), **still)
    assert crooked["mouthFrownLeft"] > 0.6 > crooked.get("mouthFrownRight", 0.0)
    pucker = shapes_of(p291=(-0.07, 0.0), p61=(0.07, 0.0), **still)
    assert pucker["mouthPucker"] == pytest.approx(0.07 / FULL["round"], abs=0.02)
    funnel = shapes_of(p291=(-0.07, 0.0), p61=(0.07, 0.0), **(still | {"p14": (0.0, 0.2)}))
    assert funnel["mouthFunnel"] > 0.7
    assert "mouthPucker" not in funnel


def test_eyes() -> None:
    values = np.repeat(SPACE.rest[None], 3, axis=0)
    values[0, SPACE.slice("blink")] = (1.0, 0.0)
    values[1, SPACE.slice("blink")] = (-0.1, -0.1)
    values[2, SPACE.slice("gaze")] = (0.04, -0.02)
    blink, wide, look = BlendShapes(SPACE)(Motion(values, SPACE))
    assert blink[COLUMN["eyeBlinkRight"]] == 1.0
    assert blink[COLUMN["eyeBlinkLeft"]] == 0.0
    assert wide[COLUMN["eyeWideLeft"]] == pytest.approx(0.4)
    found = {name: look[index] for name, index in COLUMN.items() if look[index] > 0.0}
    assert found == {
        "eyeLookOutLeft": pytest.approx(0.5), "eyeLookInRight": pytest.approx(0.5),
        "eyeLookUpLeft": pytest.approx(0.25), "eyeLookUpRight": pytest.approx(0.25),
    }  # fmt: skip


def test_only_a_mesh_has_them() -> None:
    space: MotionSpace = load_published_space()
    with pytest.raises(InputError, match="choose the model moda-tiny"):
        BlendShapes(space)


def test_visemes() -> None:
    assert set(VISEMES) == set(Phone)
    assert len(set(VISEMES.values())) == 15
    labels = np.array([Phone.BILABIAL] * 4 + [Phone.A] * 4)
    assert frame_visemes(labels, 4, 100) == ["PP", "aa", "sil", "sil"]
    assert frame_visemes(labels, 2, 50) == ["PP", "PP"]
