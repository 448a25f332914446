"""The person cut out of the picture: outline, colours, and what moves with the head."""

from __future__ import annotations

import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.rendering.mesh.backdrop import guided_filter, put_behind
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Background, Motion, MotionSpace, Picture, Portrait


@pytest.fixture(scope="module")
def portrait(photograph: Picture, models: FaceModels, space: MotionSpace) -> Portrait:
    return encode_portrait(photograph, space, models=models)


def frames(
    portrait: Portrait, space: MotionSpace, background: Background | None, mask: np.ndarray | None
) -> list[Picture]:
    renderer = MeshRenderer(
        portrait, space, size=256, full_frame=mask is not None, background=background,
        whole_mask=mask,
    )  # fmt: skip
    rows = np.stack([space.rest, space.rest])
    rows[1, space.slice("yaw")] = 8.0
    return list(renderer.render(Motion(rows, space)))


@pytest.mark.parametrize("full", [True, False], ids=["full frame", "crop"])
def test_colour_and_transparency(
    portrait: Portrait, models: FaceModels, space: MotionSpace, full: bool
) -> None:
    mask = models.person_mask(portrait.image) if full else None
    (clear, turned), (green, _) = (
        frames(portrait, space, Background(colour), mask) for colour in (None, (0, 200, 0))
    )
    assert clear.shape == (256, 256, 4)
    assert green.shape == (256, 256, 3)
    cover = clear[..., 3]
    corner = (slice(0, 12), slice(0, 12))
    assert cover[corner].max() == 0
    assert (green[corner] == (0, 200, 0)).all()
    face = cover[60:110, 95:125] if full else cover[90:150, 110:150]
    assert face.min() > 220
    assert 0.2 < (cover > 127).mean() < 0.9
    unsure = ((cover > 25) & (cover < 230)).mean()
    assert unsure < 0.12, "an outline, not a fog"
    assert np.abs(turned[..., 3].astype(int) - cover).max() > 100, "the outline turns along"
    solid = cover == 255
    np.testing.assert_array_equal(green[solid], clear[..., :3][solid])


def test_without_a_background_nothing_changes(
    portrait: Portrait, models: FaceModels, space: MotionSpace
) -> None:
    mask = models.person_mask(portrait.image)
    (plain, _), (clear, _) = (
        frames(portrait, space, background, mask) for background in (None, Background(None))
    )
    solid = clear[..., 3] == 255
    difference = np.abs(plain[solid].astype(int) - clear[..., :3][solid])
    assert difference.max() <= 4, "at the outline colours are cleaned"
    assert (difference > 0).mean() < 0.01


def test_put_behind() -> None:
    frame = np.full((1, 3, 3), 200, np.uint8)
    matte = np.array([[255, 128, 0]], np.uint8)
    mixed = put_behind(frame, matte, (0, 100, 50))
    assert mixed[0].tolist() == [[200, 200, 200], [100, 150, 125], [0, 100, 50]]
    np.testing.assert_array_equal(put_behind(frame, matte, None)[..., 3], matte)


def test_the_guided_filter_follows_edges() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[:, 30:] = 255
    rough = np.zeros((60, 60), np.float32)
    rough[:, 27:] = 1.0
    smooth = guided_filter(picture, rough, 8)
    assert smooth[30, 34] > 0.9
    assert smooth[30, 25] < 0.35
    assert abs(float(smooth[30, 29]) - float(smooth[30, 30])) > 0.4, "the step is at the edge"
