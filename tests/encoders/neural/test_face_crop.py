"""The published crop: recorded geometry, and what it means on a real face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moda.encoders.face import FaceModels
from moda.encoders.neural.face_crop import (
    CROP_SIZE_PX,
    CropPoints,
    crop_geometry,
    crop_picture,
    crop_points,
    extractor_picture,
    square_crop,
)
from moda.encoders.portrait import choose_face, invert_affine
from moda.structures import Picture
from moda.structures.landmarks import FACE_OVAL, MOUTH_CORNERS, OUTER_EYE_CORNERS, Array

RECORDED = Path(__file__).parents[2] / "data" / "published"

LAYOUTS = {
    "src106": ([33, 35, 40, 39], [87, 89, 94, 93], [52, 61]),
    "src203": ([0, 6, 12, 18], [24, 30, 36, 42], [48, 66]),
}
"""Points of the eyes and lips in the recorded landmarks."""


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(RECORDED / "crop_paste.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def recorded_picture() -> Picture:
    image = cv2.imread(str(RECORDED / "crop_source.png"), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@pytest.fixture(scope="module")
def landmarks(models: FaceModels, photograph: Picture) -> Array:
    return choose_face(photograph, models, None).points


def recorded_points(layout: str, recorded: dict[str, np.ndarray]) -> CropPoints:
    left, right, lips = LAYOUTS[layout]
    points = recorded[f"{layout}/pts"].astype(np.float64)
    eyes = 0.5 * (points[left].mean(0) + points[right].mean(0))
    return CropPoints(points, eyes, points[lips].mean(0))


def mapped(matrix: Array, points: Array) -> Array:
    return points[..., :2] @ matrix[:, :2].T + matrix[:, 2]


class TestRecorded:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_geometry(self, layout: str, recorded: dict[str, np.ndarray]) -> None:
        face = recorded_points(layout, recorded)
        geometry = crop_geometry(face)
        expected = {name: recorded[f"{layout}/{name}"] for name in ("M_o2c", "M_c2o", "pt_crop")}
        np.testing.assert_allclose(geometry.crop_from_image, expected["M_o2c"][:2], atol=1e-3)
        np.testing.assert_allclose(
            invert_affine(geometry.crop_from_image), expected["M_c2o"][:2], atol=1e-3
        )
        in_crop = mapped(geometry.crop_from_image, face.points)
        np.testing.assert_allclose(in_crop, expected["pt_crop"], atol=1e-3)
        np.testing.assert_allclose(geometry.centre, recorded[f"{layout}/center"], atol=1e-3)
        np.testing.assert_allclose(geometry.side_px, recorded[f"{layout}/size"], atol=1e-3)
        assert geometry.angle == pytest.approx(float(recorded[f"{layout}/angle"]), abs=1e-5)

    def test_crop(self, recorded: dict[str, np.ndarray], recorded_picture: Picture) -> None:
        crop = crop_picture(recorded_picture, crop_geometry(recorded_points("src106", recorded)))
        difference = crop[::4, ::4].astype(int) - recorded["src106/img_crop_sub4"]
        assert np.abs(difference).max() <= 3
        small = extractor_picture(crop)[::2, ::2].astype(int)
        assert np.abs(small - recorded["src106/img_256_sub2"]).max() <= 3


class TestGeometry:
    def test_inverse(self, landmarks: Array) -> None:
        geometry = crop_geometry(crop_points(landmarks))
        again = mapped(
            invert_affine(geometry.crop_from_image), mapped(geometry.crop_from_image, landmarks)
        )
        np.testing.assert_allclose(again, landmarks[:, :2], atol=1e-9)
        np.testing.assert_allclose(
            mapped(geometry.crop_from_image, geometry.centre), CROP_SIZE_PX / 2, atol=1e-9
        )

    def test_square_of_the_same_place_is_the_same(self, landmarks: Array) -> None:
        geometry = crop_geometry(crop_points(landmarks))
        again = square_crop(geometry.centre, geometry.side_px, geometry.angle)
        np.testing.assert_array_equal(again.crop_from_image, geometry.crop_from_image)

    @pytest.mark.parametrize("degrees", [-170.0, -35.0, 90.0])
    def test_follows_the_face(self, landmarks: Array, degrees: float) -> None:
        """A picture that is turned, enlarged and moved has the same crop."""
        turn = cv2.getRotationMatrix2D((40.0, 90.0), degrees, 1.7)
        moved = landmarks.copy()
        moved[:, :2] = mapped(turn, landmarks)
        before, after = (crop_geometry(crop_points(points)) for points in (landmarks, moved))
        np.testing.assert_allclose(
            mapped(after.crop_from_image, moved),
            mapped(before.crop_from_image, landmarks),
            atol=1e-9,
        )
        assert after.side_px == pytest.approx(1.7 * before.side_px)

    def test_eyes_on_the_lips_count_as_upright(self) -> None:
        points = np.array([[0.0, 0.0], [10.0, 20.0]])
        geometry = crop_geometry(CropPoints(points, points[0], points[0]))
        assert geometry.angle == 0.0
        assert geometry.side_px == pytest.approx(46.0)
        np.testing.assert_allclose(geometry.centre, [5.0, 10.0 - 0.125 * 46.0])


class TestRealFace:
    def test_forehead_does_not_count(self, landmarks: Array) -> None:
        before = crop_geometry(crop_points(landmarks))
        higher = landmarks.copy()
        higher[[10, 338, 109, 151], 1] -= 40.0
        assert crop_geometry(crop_points(higher)).side_px == before.side_px
        longer = landmarks.copy()
        longer[152, 1] += 40.0
        assert crop_geometry(crop_points(longer)).side_px > 1.1 * before.side_px

    def test_face_lies_as_the_networks_know_it(self, landmarks: Array) -> None:
        """Upright; brows to chin in the middle, an eighth below it; 1 / 2.3 of the side."""
        geometry = crop_geometry(crop_points(landmarks))
        in_crop = mapped(geometry.crop_from_image, landmarks)
        face = mapped(geometry.crop_from_image, crop_points(landmarks).points) / CROP_SIZE_PX
        middle = 0.5 * (face.min(0) + face.max(0))
        np.testing.assert_allclose(middle, [0.5, 0.625], atol=1e-9)
        assert np.ptp(face, axis=0).max() == pytest.approx(1 / 2.3)
        right, left = in_crop[list(OUTER_EYE_CORNERS)]
        assert abs(np.degrees(np.arctan2(*(left - right)[::-1]))) < 3
        mouth = in_crop[list(MOUTH_CORNERS)].mean(0)
        assert abs(mouth[0] - 0.5 * (right + left)[0]) < 5
        whole = in_crop[list(FACE_OVAL)]
        assert whole.min() > 0.15 * CROP_SIZE_PX
        assert whole.max() < 0.9 * CROP_SIZE_PX

    def test_black_outside_of_the_picture(self, photograph: Picture, landmarks: Array) -> None:
        corner = landmarks.copy()
        corner[:, :2] -= landmarks[:, :2].min(0)
        crop = crop_picture(photograph, crop_geometry(crop_points(corner)))
        assert crop.shape == (CROP_SIZE_PX, CROP_SIZE_PX, 3)
        assert not crop[:100, :100].any()
        assert crop[-100:, -100:].any()
