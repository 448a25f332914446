"""Pasting: the recorded result, and nothing touched that the square does not cover."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moda.errors import InputError
from moda.rendering.neural.pasting import Paster, feathered_square, limited_picture
from moda.rendering.placing import transform_points
from moda.structures import Picture
from moda.structures.landmarks import Array

RECORDED = Path(__file__).parents[2] / "data" / "published"
SIDE = 512


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED / "crop_paste.npz") as arrays:
        return dict(arrays)


def placement(scale: float, degrees: float, left: float, top: float) -> Array:
    """Map (2, 3) of the square's points: turned, scaled, and its centre moved there."""
    matrix: Array = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), degrees, scale)
    matrix[:, 2] += np.array([left, top]) - SIDE / 2
    return matrix


def textured(height: int, width: int, seed: int) -> Picture:
    """Smooth random colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(colours, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def pasted_as_a_whole(plate: Picture, square: Picture, plate_from_square: Array) -> Picture:
    """The same by the plain formula on every pixel of the plate."""
    square_from_plate = cv2.invertAffineTransform(plate_from_square)
    rows, columns = np.mgrid[: plate.shape[0], : plate.shape[1]].astype(np.float64)
    places = transform_points(square_from_plate, np.stack([columns.ravel(), rows.ravel()], 1))
    x, y = places.astype(np.float32).T.reshape(2, *plate.shape[:2])
    mask = cv2.remap(feathered_square().astype(np.float32) / 255, x, y, cv2.INTER_LINEAR)[..., None]
    drawn = cv2.remap(square, x, y, cv2.INTER_LINEAR)
    return np.floor(mask * drawn + (1 - mask) * plate + 0.5).astype(np.uint8)


class TestMask:
    def test_recorded(self, recorded: dict[str, np.ndarray]) -> None:
        mask = feathered_square().astype(int)
        parts = {"sub4": mask[::4, ::4], "corner": mask[:20, :20], "corner_br": mask[-20:, -20:]}
        for name, part in parts.items():
            assert np.abs(part - recorded[f"mask/{name}"]).max() <= 1, name

    def test_shape(self) -> None:
        mask = feathered_square()
        assert not mask[0].any()
        assert not mask[:, 0].any()
        assert mask[16:-16, 16:-16].min() == 255
        assert (np.diff(mask[:256, 256].astype(int)) >= 0).all()


class TestPaster:
    def test_recorded_result(self, recorded: dict[str, np.ndarray]) -> None:
        plate = cv2.imread(str(RECORDED / "crop_source.png"), cv2.IMREAD_COLOR_RGB)
        assert plate is not None
        to_crop = recorded["src106/M_o2c"][:2].astype(np.float64)
        crop = cv2.warpAffine(plate, to_crop, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        paster = Paster(plate, recorded["src106/M_c2o"][:2].astype(np.float64))
        result = paster.paste((255 - crop).astype(np.uint8))
        assert np.abs(result.astype(int) - recorded["paste/result"]).max() <= 3

    @pytest.mark.parametrize(
        "where",
        [
            placement(0.61, 0.0, 300.0, 200.0),
            placement(0.55, 33.0, 310.3, 210.7),
            placement(1.3, -12.0, 100.0, 80.0),  # reaches beyond two sides
            placement(2.5, 5.0, 320.0, 240.0),  # covers the plate
        ],
    )
    def test_box_is_enough(self, where: Array) -> None:
        plate, square = textured(480, 640, 1), textured(SIDE, SIDE, 2)
        paster = Paster(plate, where)
        frame = paster.paste(square)
        np.testing.assert_array_equal(frame, pasted_as_a_whole(plate, square, where))
        outside = np.ones(plate.shape[:2], bool)
        outside[paster.box.top : paster.box.bottom, paster.box.left : paster.box.right] = False
        np.testing.assert_array_equal(frame[outside], plate[outside])
        assert paster.frame_size == (640, 480)

    def test_what_was_cut_out_leaves_no_seam(self) -> None:
        plate = textured(480, 640, 3)
        where = placement(0.7, 20.0, 300.0, 230.0)
        to_crop = cv2.invertAffineTransform(where)
        square = cv2.warpAffine(plate, to_crop, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
        frame = Paster(plate, where).paste(square.astype(np.uint8))
        assert np.abs(frame.astype(int) - plate).max() <= 5

    def test_plate_and_square_stay(self) -> None:
        plate, square = textured(200, 300, 4), textured(SIDE, SIDE, 5)
        before = plate.copy(), square.copy()
        paster = Paster(plate, placement(0.3, 0.0, 150.0, 100.0))
        first = paster.paste(square)
        first[:] = 0
        np.testing.assert_array_equal(plate, before[0])
        np.testing.assert_array_equal(square, before[1])
        assert paster.paste(square).any()

    def test_small_faces_are_averaged(self) -> None:
        """Stripes of one pixel, reduced to a quarter: grey, not one of the two colours."""
        plate = np.zeros((300, 300, 3), np.uint8)
        square = np.zeros((SIDE, SIDE, 3), np.uint8)
        square[::2] = 255
        frame = Paster(plate, placement(0.24, 8.0, 150.0, 150.0)).paste(square)
        middle = frame[120:180, 120:180].astype(int)
        assert np.abs(middle - 127.5).max() <= 2

    def test_face_outside_of_the_plate(self) -> None:
        plate = np.zeros((100, 100, 3), np.uint8)
        with pytest.raises(InputError, match="covers only"):
            Paster(plate, placement(0.5, 0.0, 230.0, 50.0))


class TestLimitedPicture:
    def test_small_pictures_only_lose_an_odd_line(self) -> None:
        image = textured(301, 401, 6)
        plate, plate_from_image = limited_picture(image)
        np.testing.assert_array_equal(plate, image[:300, :400])
        np.testing.assert_array_equal(plate_from_image, np.eye(2, 3))

    def test_large_pictures(self) -> None:
        image = textured(1501, 2400, 7)
        plate, plate_from_image = limited_picture(image)
        assert plate.shape == (1200, 1920, 3)
        np.testing.assert_allclose(plate_from_image[:, :2], np.eye(2) * 0.8, atol=1e-3)
        place = transform_points(plate_from_image, np.array([[1200.0, 700.0]]))[0].round()
        x, y = place.astype(int)
        np.testing.assert_allclose(plate[y, x].astype(int), image[700, 1200].astype(int), atol=3)
