"""The face networks against the originals, and the search and tracking around them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from tflite_reference import landmark_subsets, merge_landmarks, run_tflite

from moda.encoders.face import FaceLandmarks, FaceModels, FaceTracker
from moda.encoders.regions import FaceRegion, sample_region, shrink_to
from moda.structures import Picture

GOLDEN = Path(__file__).parent / "data" / "face_golden.npz"
"""Outputs of the original models on parts of the photograph, by ``tflite_reference.py``, and the
landmarks of the whole photograph by a prototype of MediaPipe's pipeline on top of the originals."""
DETECTOR_CORNER, MESH_CORNER, MASK_CORNER = (160, 60), (130, 30), (100, 40)
"""(left, top) of the parts; of the size of the networks' inputs, so that nothing is resampled."""

WHEEL = os.environ.get("MODA_MEDIAPIPE_WHEEL")
needs_wheel = pytest.mark.skipif(not WHEEL, reason="MODA_MEDIAPIPE_WHEEL names no wheel")

SHAPE_POINTS = [33, 133, 362, 263, 1, 13, 14, 61, 291, 152, 10, 468, 473]
MIRRORED_POINTS = [263, 362, 133, 33, 1, 13, 14, 291, 61, 152, 10, 473, 468]


def part(image: Picture, corner: tuple[int, int], width: int, height: int) -> Picture:
    left, top = corner
    return image[top : top + height, left : left + width]


def moved(face: FaceLandmarks, right: float, down: float) -> np.ndarray:
    return face.points + np.array([right, down, 0.0])


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(one[:, :2] - other[:, :2], axis=1)


def only_face(models: FaceModels, image: Picture) -> FaceLandmarks:
    (face,) = models.find_faces(image)
    return face


def paste(canvas: Picture, image: Picture, corner: tuple[int, int], size: int) -> Picture:
    """The canvas with the image on it, size x size, at (left, top)."""
    result = canvas.copy()
    method = cv2.INTER_AREA if size < len(image) else cv2.INTER_LINEAR
    part(result, corner, size, size)[:] = cv2.resize(image, (size, size), interpolation=method)
    return result


def blank(width: int, height: int) -> Picture:
    return np.full((height, width, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def face(models: FaceModels, photograph: Picture) -> FaceLandmarks:
    return only_face(models, photograph)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as data:
        return dict(data)


class TestConversion:
    def test_mesh_equals_the_original(
        self, models: FaceModels, photograph: Picture, golden: dict[str, np.ndarray]
    ) -> None:
        left, top = MESH_CORNER
        found = models.landmarks(photograph, FaceRegion(left + 96, top + 96, 192, 0.0))
        assert found is not None
        expected = golden["mesh_points"] + [left, top, 0]
        assert np.abs(found.points - expected).max() < 0.2
        assert found.presence == pytest.approx(1 / (1 + np.exp(-golden["presence"])), abs=1e-3)

    def test_detector_equals_the_original(
        self, models: FaceModels, photograph: Picture, golden: dict[str, np.ndarray]
    ) -> None:
        anchors = [
            (128 / cells * (column + 0.5), 128 / cells * (row + 0.5))
            for cells, count in ((16, 2), (8, 6))
            for row in range(cells)
            for column in range(cells)
            for _ in range(count)
        ]
        positive = golden["scores"] > 0
        weights = 1 / (1 + np.exp(-golden["scores"][positive]))
        places = golden["boxes"].reshape(-1, 8, 2)
        centres = places[:, 0] + np.array(anchors)[positive]
        box = np.concatenate([centres - places[:, 1] / 2, centres + places[:, 1] / 2], axis=1)
        whole = part(photograph, DETECTOR_CORNER, 128, 128)
        (found,) = next(detections for detections in models._search(whole, "whole") if detections)
        assert found.score == pytest.approx(weights.max(), abs=0.01)
        assert np.abs(found.box - np.average(box, axis=0, weights=weights)).max() < 0.2

    def test_mask_equals_the_original(
        self, models: FaceModels, photograph: Picture, golden: dict[str, np.ndarray]
    ) -> None:
        mask = models.person_mask(part(photograph, MASK_CORNER, 256, 144))
        assert mask.dtype == np.float32
        assert np.abs(mask - golden["mask"]).mean() < 0.002
        assert np.abs(mask - golden["mask"]).max() < 0.1

    def test_whole_way_agrees_with_mediapipe_prototype(
        self, face: FaceLandmarks, golden: dict[str, np.ndarray]
    ) -> None:
        error = distances(face.points, golden["landmarks"])
        assert error.mean() < 0.25
        assert error.max() < 0.8
        assert np.abs(face.points[:, 2] - golden["landmarks"][:, 2]).max() < 0.8

    @needs_wheel
    @pytest.mark.parametrize("roll", [0.0, 0.6, -0.4])
    def test_mesh_equals_the_wheel(
        self, models: FaceModels, photograph: Picture, roll: float
    ) -> None:
        path = "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite"
        region = FaceRegion(225, 122, 210, roll)
        crop = sample_region(photograph, region, 192, border=cv2.BORDER_REPLICATE)
        data = zipfile.ZipFile(str(WHEEL)).read(path)
        expected = merge_landmarks(run_tflite(data, crop / 255), landmark_subsets(data))
        found = models.landmarks(crop, FaceRegion(96, 96, 192, 0.0))
        assert found is not None
        assert np.abs(found.points - expected).max() < 0.01

    @needs_wheel
    def test_mask_equals_the_wheel(self, models: FaceModels, photograph: Picture) -> None:
        path = "mediapipe/modules/selfie_segmentation/selfie_segmentation_landscape.tflite"
        crop = cv2.resize(photograph, (256, 144), interpolation=cv2.INTER_AREA).astype(np.uint8)
        (expected,) = run_tflite(zipfile.ZipFile(str(WHEEL)).read(path), crop / 255).values()
        assert np.abs(models.person_mask(crop) - expected[..., 0]).max() < 1e-3


class TestFindFaces:
    @pytest.mark.parametrize("degrees", [-35, 20])
    def test_turns_with_the_picture(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks, degrees: float
    ) -> None:
        matrix = cv2.getRotationMatrix2D((255.5, 255.5), degrees, 1.0)
        turned = cv2.warpAffine(photograph, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        found = only_face(models, turned.astype(np.uint8))
        expected = face.points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        assert distances(found.points, expected).mean() < 0.8
        assert distances(found.points, expected).max() < 2.5

    @pytest.mark.parametrize("scale", [0.75, 2.0, 6.0])
    def test_scales_with_the_picture(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks, scale: float
    ) -> None:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=method)
        found = only_face(models, scaled.astype(np.uint8))
        back = (found.points + 0.5) / scale - 0.5
        assert distances(back, face.points).mean() < 0.8
        assert distances(back, face.points).max() < 2.0

    def test_mirrors_with_the_picture(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks
    ) -> None:
        found = only_face(models, np.ascontiguousarray(photograph[:, ::-1]))
        back = found.points[MIRRORED_POINTS] * [-1, 1, 1] + [511, 0, 0]
        assert distances(back, face.points[SHAPE_POINTS]).mean() < 1.0

    def test_several_faces_largest_first(self, models: FaceModels, photograph: Picture) -> None:
        canvas = paste(paste(blank(900, 520), photograph, (0, 100), 360), photograph, (390, 5), 510)
        faces = models.find_faces(canvas, search="all")
        assert [round(found.region.x) // 450 for found in faces] == [1, 0]
        assert faces[0].height / faces[1].height == pytest.approx(510 / 360, rel=0.05)

    @pytest.mark.parametrize("corner", [(60, 900), (1400, 333)])
    def test_small_face_in_a_large_picture(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks, corner: tuple[int, int]
    ) -> None:
        canvas = paste(blank(1800, 1300), photograph, corner, 300)
        found = only_face(models, canvas)
        expected = (face.points + 0.5) * 300 / 512 - 0.5 + [*corner, 0]
        assert distances(found.points, expected).mean() < 0.8

    def test_face_that_fills_the_picture(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks
    ) -> None:
        found = only_face(models, part(photograph, (180, 72), 90, 106))
        assert distances(found.points, moved(face, -180, -72)).mean() < 2.5

    @pytest.mark.parametrize("blur", [0.0, 4.0, 12.0])
    def test_no_face_in_noise(self, models: FaceModels, blur: float) -> None:
        noise = np.random.default_rng(3).integers(0, 256, (400, 500, 3)).astype(np.uint8)
        if blur:
            noise = cv2.GaussianBlur(noise, (0, 0), blur).astype(np.uint8)
            noise = cv2.normalize(noise, noise, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        assert models.find_faces(noise) == []

    @pytest.mark.parametrize("shape", [(1, 1, 3), (3, 700, 3), (2500, 20, 3)])
    def test_odd_pictures_are_harmless(
        self, models: FaceModels, shape: tuple[int, int, int]
    ) -> None:
        image = np.full(shape, 200, np.uint8)
        assert models.find_faces(image, search="all") == []
        assert models.person_mask(image).shape == shape[:2]

    def test_unknown_accelerator_falls_back(self, face: FaceLandmarks, photograph: Picture) -> None:
        found = only_face(FaceModels(device="cuda:0"), photograph)
        assert distances(found.points, face.points).max() < 0.5


class TestSampling:
    @pytest.mark.parametrize("roll", [0.0, 0.7])
    @pytest.mark.parametrize("side", [40.0, 150.0])
    def test_ramp_keeps_its_coordinates(self, roll: float, side: float) -> None:
        y, x = np.mgrid[:240, :250]
        ramp = np.stack([x, y, x], -1).astype(np.uint8)
        region = FaceRegion(120.0, 118.0, side, roll)
        crop = sample_region(ramp, region, 32, border=cv2.BORDER_REPLICATE).astype(float)
        v, u = (np.mgrid[:32, :32] / 32 - 0.5) * side
        assert np.abs(crop[..., 0] - (120 + u * np.cos(roll) - v * np.sin(roll))).max() < 1.0
        assert np.abs(crop[..., 1] - (118 + u * np.sin(roll) + v * np.cos(roll))).max() < 1.0

    def test_reduction_averages(self) -> None:
        board = ((np.indices((1024, 1024)).sum(0) % 2) * 255).astype(np.uint8)
        board = np.repeat(board[..., None], 3, axis=2)
        crop = sample_region(board, FaceRegion(512, 512, 700, 0.3), 64, border=cv2.BORDER_REPLICATE)
        assert np.abs(crop.astype(int) - 128).max() < 40

    def test_shrinking_keeps_the_shape(self) -> None:
        assert shrink_to(blank(4000, 1000), 1000).shape == (250, 1000, 3)
        assert shrink_to(blank(400, 100), 1000).shape == (100, 400, 3)


class TestTracker:
    def test_still_picture_equals_detection(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks
    ) -> None:
        tracker = FaceTracker(models)
        tracks = [tracker.track(photograph) for _ in range(12)]
        points = [found.points for found in tracks if found]
        assert len(points) == 12
        assert max(distances(found, face.points).mean() for found in points) < 0.8
        assert distances(points[-1], points[-2]).mean() < 0.1

    def test_follows_a_moving_face(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks
    ) -> None:
        tracker = FaceTracker(models)
        for step in range(8):
            found = tracker.track(np.roll(photograph, (2 * step, 6 * step), axis=(0, 1)))
            assert found is not None
            assert distances(found.points, moved(face, 6 * step, 2 * step)).mean() < 1.0

    def test_loses_and_finds_again(
        self, models: FaceModels, photograph: Picture, face: FaceLandmarks
    ) -> None:
        tracker = FaceTracker(models)
        assert tracker.track(photograph) is not None
        assert tracker.track(blank(512, 512)) is None
        assert tracker.track(blank(512, 512)) is None
        found = tracker.track(np.roll(photograph, 100, axis=1))
        assert found is not None
        assert distances(found.points, moved(face, 100, 0)).mean() < 0.8

    def test_stays_on_its_face(self, models: FaceModels, photograph: Picture) -> None:
        def frame(left_size: int, right_size: int) -> Picture:
            canvas = paste(blank(1024, 520), photograph, (0, 5), left_size)
            return paste(canvas, photograph, (514, 5), right_size)

        tracker = FaceTracker(models)
        first = tracker.track(frame(505, 440))
        assert first is not None
        assert first.region.x < 512
        for picture in (frame(500, 505), blank(1024, 520), frame(480, 505)):
            found = tracker.track(picture)
        assert found is not None
        assert found.region.x < 512
