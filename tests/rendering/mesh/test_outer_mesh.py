"""What moves with the head, and what stays: background, shoulders, hair at the picture's edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.evaluation.rendered.background import border_stripes
from moda.rendering.mesh.outer_mesh import BAND, GRID_STEP, outside_person
from moda.rendering.mesh.plate import shown_region
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Motion, MotionSpace, Picture, Portrait

if TYPE_CHECKING:
    from conftest import MakeMotion


def test_what_is_not_the_person_stays_bit_by_bit(
    renderer: MeshRenderer, wild_motion: Motion, space: MotionSpace
) -> None:
    plate = renderer._plate
    height, width = plate.image.shape[:2]
    rows = [
        np.column_stack([np.arange(width), np.full(width, y)]).astype(np.float64)
        for y in range(height)
    ]
    away = np.stack([outside_person(plate, row) for row in rows[::4]]).repeat(4, axis=0)
    background = away > BAND + 2 * GRID_STEP
    assert 0.2 < background.mean() < 0.8
    for frame in renderer.render(Motion(wild_motion.values[:8], space)):
        np.testing.assert_array_equal(frame[background], plate.image[background])


def test_only_the_box_of_the_mesh_is_drawn(renderer: MeshRenderer) -> None:
    plate, rig = renderer._plate, renderer._rig
    assert plate.box == rig.box
    low, high = rig.pixels[rig.solid.ravel()].min(0), rig.pixels[rig.solid.ravel()].max(0)
    assert (np.array(plate.box[:2]) <= np.maximum(low, 0)).all()
    assert (np.array(plate.box[2:]) >= np.minimum(high, plate.image.shape[1::-1])).all()


def test_shoulders_follow_a_little(renderer: MeshRenderer) -> None:
    plate, rig = renderer._plate, renderer._rig
    unit, chin = plate.rest.scale, plate.landmarks[152]
    outer = rig.pixels[468:]

    def share(below: float) -> np.ndarray:
        place = chin[:2] + np.array([0.0, below * unit])
        return rig.rigid[np.linalg.norm(outer - place, axis=1).argmin()]

    assert 0.6 < share(0.2)[1] < 1.0
    assert 0.2 < share(0.8)[1] < 0.5
    assert share(0.8)[1] > share(1.1)[1] > 0.0


@pytest.mark.parametrize("full_frame", [True, False], ids=["full frame", "crop"])
def test_hair_cut_by_the_edge_leaves_no_stripes(
    photograph: Picture, models: FaceModels, space: MotionSpace, make_motion: MakeMotion,
    full_frame: bool,
) -> None:  # fmt: skip
    cut = np.ascontiguousarray(photograph[24:280, 80:360])
    portrait = encode_portrait(cut, space, models=models)
    renderer = MeshRenderer(portrait, space, size=256, full_frame=full_frame)
    for x, y in ((0.0, 0.15), (0.15, 0.1), (-0.15, 0.0)):
        frame = next(renderer.render(make_motion(translation=(x, y, 0.0))))
        assert border_stripes(frame) < 0.05


def test_a_crop_shows_real_pixels_and_no_smaller_face(
    photograph: Picture, models: FaceModels, space: MotionSpace
) -> None:
    for top, bottom, left, right in ((0, 512, 0, 512), (0, 240, 110, 330), (10, 300, 130, 300)):
        picture = np.ascontiguousarray(photograph[top:bottom, left:right])
        portrait = encode_portrait(picture, space, models=models)
        region = shown_region(portrait, full_frame=False)
        height, width = picture.shape[:2]
        assert region.left >= 0 <= region.top
        assert region.right <= width
        assert region.bottom <= height
        whole, crop = (
            MeshRenderer(portrait, space, size=256, full_frame=full) for full in (True, False)
        )
        assert crop._plate.rest.scale >= 0.99 * whole._plate.rest.scale
        plate = crop._plate
        assert crop.frame_size == (plate.view.width, plate.view.height)
        assert max(crop.frame_size) == 256


def test_a_crop_is_square_unless_the_picture_has_no_room(
    portrait: Portrait, photograph: Picture, models: FaceModels, space: MotionSpace
) -> None:
    region = shown_region(portrait, full_frame=False)
    assert region.width == region.height
    narrow = np.ascontiguousarray(photograph[:, 145:307])
    cut = shown_region(encode_portrait(narrow, space, models=models), full_frame=False)
    assert cut.width == 162
    assert cut.height == pytest.approx(region.height, abs=4)


def test_the_crop_is_cut_out_of_the_picture(portrait: Portrait, space: MotionSpace) -> None:
    region = shown_region(portrait, full_frame=False)
    size = region.width // 2 * 2
    renderer = MeshRenderer(portrait, space, size=size, full_frame=False)
    shown = renderer._plate.view.cut(renderer._plate.image).astype(int)
    original = region.cut(portrait.image)[:size, :size].astype(int)
    assert np.abs(shown - original).mean() < 3
