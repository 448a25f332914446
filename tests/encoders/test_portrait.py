"""Portraits of one real photograph, turned, scaled, doubled and emptied."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from moda.encoders.face import FaceLandmarks, FaceModels
from moda.encoders.portrait import (
    CROP_SIZE_PX,
    LARGEST_CLOSING,
    choose_face,
    close_mouth,
    crop_around,
    encode_portrait,
    invert_affine,
    map_points,
)
from moda.errors import ConfigError, FaceError
from moda.structures import MotionSpace, Picture, Portrait
from moda.structures.landmarks import (
    FACE_OVAL,
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    NUM_SURFACE,
    euler_from_rotation,
    rotation_from_euler,
)


def two_faces(photograph: Picture) -> Picture:
    """A small face on the left, a larger one on the right."""
    canvas = np.full((520, 900, 3), 120, np.uint8)
    canvas[100:460, :360] = cv2.resize(photograph, (360, 360), interpolation=cv2.INTER_AREA)
    canvas[:512, 388:] = photograph
    return canvas


def canonical_error(portrait: Portrait, other: Portrait) -> float:
    difference = portrait.canonical_keypoints - other.canonical_keypoints
    return float(np.linalg.norm(difference[:, :2], axis=1).mean())


def lip_gap_seen(keypoints: np.ndarray) -> float:
    """Largest vertical distance of the inner lips."""
    return float((keypoints[list(INNER_LIP_LOWER), 1] - keypoints[list(INNER_LIP_UPPER), 1]).max())


@pytest.fixture(scope="module")
def portrait(models: FaceModels, photograph: Picture, space: MotionSpace) -> Portrait:
    return encode_portrait(photograph, space, models=models)


class TestPortrait:
    def test_shapes_and_types(self, portrait: Portrait) -> None:
        assert portrait.crop_image.shape == (CROP_SIZE_PX, CROP_SIZE_PX, 3)
        assert portrait.crop_image.dtype == np.uint8
        assert portrait.person_mask.shape == (CROP_SIZE_PX, CROP_SIZE_PX)
        assert portrait.person_mask.dtype == np.float32
        for points in (portrait.landmarks, portrait.crop_landmarks, portrait.neutral_keypoints):
            assert points.shape == (478, 3)
            assert points.dtype == np.float64

    def test_crop_and_image_agree(self, portrait: Portrait) -> None:
        mapped = map_points(portrait.crop_from_image, portrait.landmarks)
        np.testing.assert_allclose(mapped, portrait.crop_landmarks, atol=1e-9)
        warped = cv2.warpAffine(
            portrait.image,
            portrait.crop_from_image,
            (CROP_SIZE_PX, CROP_SIZE_PX),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        difference = np.abs(warped.astype(int) - portrait.crop_image)
        assert difference.mean() < 1.0

    def test_head_is_framed(self, portrait: Portrait) -> None:
        oval = portrait.crop_landmarks[list(FACE_OVAL), :2]
        assert np.ptp(oval[:, 1]) / CROP_SIZE_PX == pytest.approx(1 / 2.35, rel=0.05)
        centre = 0.5 * (oval.min(0) + oval.max(0)) / CROP_SIZE_PX
        np.testing.assert_allclose(centre, [0.5, 0.52], atol=0.01)

    def test_person_is_masked(self, portrait: Portrait) -> None:
        x, y = portrait.crop_landmarks[1, :2].astype(int)
        assert portrait.person_mask[y, x] > 0.9
        assert portrait.person_mask[:30, :30].mean() < 0.5

    def test_pose_is_that_of_the_canonical_face(self, portrait: Portrait) -> None:
        again = portrait.pose.apply(portrait.canonical_keypoints)
        np.testing.assert_allclose(again, portrait.crop_landmarks, atol=1e-8)
        pitch, yaw, roll = euler_from_rotation(portrait.pose.rotation)
        assert max(abs(pitch), abs(yaw), abs(roll)) < 25

    def test_repeats_exactly(
        self, models: FaceModels, photograph: Picture, space: MotionSpace, portrait: Portrait
    ) -> None:
        again = encode_portrait(photograph, space, models=models)
        np.testing.assert_array_equal(again.crop_landmarks, portrait.crop_landmarks)
        np.testing.assert_array_equal(again.person_mask, portrait.person_mask)

    def test_turning_the_picture_turns_the_pose_only(
        self, models: FaceModels, photograph: Picture, space: MotionSpace, portrait: Portrait
    ) -> None:
        matrix = cv2.getRotationMatrix2D((255.5, 255.5), -18.0, 1.0)  # clockwise
        turned = cv2.warpAffine(photograph, matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        other = encode_portrait(turned.astype(np.uint8), space, models=models)
        before, after = (euler_from_rotation(p.pose.rotation) for p in (portrait, other))
        assert after[2] - before[2] == pytest.approx(18, abs=1.5)
        assert canonical_error(other, portrait) < 0.03

    @pytest.mark.parametrize("scale", [0.5, 9.0])
    def test_resolution_does_not_matter(
        self,
        models: FaceModels,
        photograph: Picture,
        space: MotionSpace,
        portrait: Portrait,
        scale: float,
    ) -> None:
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=method)
        other = encode_portrait(scaled.astype(np.uint8), space, models=models)
        assert canonical_error(other, portrait) < 0.02
        back = (other.landmarks + 0.5) / scale - 0.5
        error = np.linalg.norm(back[:, :2] - portrait.landmarks[:, :2], axis=1)
        assert error.mean() < 1.0


class TestChoice:
    def test_largest_unless_numbered(self, models: FaceModels, photograph: Picture) -> None:
        picture = two_faces(photograph)
        assert choose_face(picture, models, None).region.x > 450
        assert choose_face(picture, models, 1).region.x < 360
        assert choose_face(picture, models, 2).region.x > 450

    @pytest.mark.parametrize("number", [0, -1, 3])
    def test_impossible_number(self, models: FaceModels, photograph: Picture, number: int) -> None:
        with pytest.raises(FaceError, match=rf"2 faces, .* no face {number}; choose 1 to 2"):
            choose_face(two_faces(photograph), models, number)

    def test_only_face(self, models: FaceModels, photograph: Picture) -> None:
        with pytest.raises(FaceError, match="1 face, there is no face 2; choose 1,"):
            choose_face(photograph, models, 2)

    def test_no_face(self, models: FaceModels, space: MotionSpace) -> None:
        picture = np.full((300, 400, 3), 90, np.uint8)
        with pytest.raises(FaceError, match="no face found in the picture of 400 x 300 px; use"):
            encode_portrait(picture, space, models=models)

    def test_face_from_the_side(
        self, models: FaceModels, photograph: Picture, space: MotionSpace
    ) -> None:
        assert space.canonical_face is not None
        turned = space.canonical_face @ rotation_from_euler(0, 75, 0).T.astype(np.float32)
        sideways = dataclasses.replace(space, canonical_face=turned)
        with pytest.raises(FaceError, match="degrees to the side, the limit is 60; use"):
            encode_portrait(photograph, sideways, models=models)

    def test_space_without_a_face(
        self, models: FaceModels, photograph: Picture, space: MotionSpace
    ) -> None:
        with pytest.raises(ConfigError, match="canonical face"):
            encode_portrait(photograph, dataclasses.replace(space, basis=None), models=models)


class TestCrop:
    @pytest.fixture
    def face(self, portrait: Portrait) -> FaceLandmarks:
        """The face, as high as 100 px and centred at the origin."""
        oval = portrait.landmarks[list(FACE_OVAL), :2]
        centre = np.append(0.5 * (oval.min(0) + oval.max(0)), 0)
        return FaceLandmarks((portrait.landmarks - centre) * 100 / np.ptp(oval[:, 1]), 1.0)

    @pytest.mark.parametrize("size", [60, 700, 3000])
    def test_coordinates_of_a_ramp(self, face: FaceLandmarks, size: int) -> None:
        y, x = np.mgrid[:size, :size] * (255 / size)
        ramp = np.stack([x, y, x], -1).round().astype(np.uint8)
        points = face.points * size / 400 + [0.48 * size, 0.53 * size, 0]
        crop, matrix = crop_around(ramp, FaceLandmarks(points, 1.0))
        u, v = 200, 310
        place = map_points(invert_affine(matrix), np.array([[u, v, 0.0]]))[0]
        np.testing.assert_allclose(crop[v, u, :2], place[:2] * 255 / size, atol=2.5)

    def test_far_beyond_the_picture(self, face: FaceLandmarks) -> None:
        picture = np.full((900, 1200, 3), 70, np.uint8)
        picture[-1], picture[:, -1] = 250, 250
        points = face.points * 40 + [1100, 850, 0]
        crop, matrix = crop_around(picture, FaceLandmarks(points, 1.0))
        assert crop.shape == (CROP_SIZE_PX, CROP_SIZE_PX, 3)
        assert matrix[0, 0] == pytest.approx(CROP_SIZE_PX / (2.35 * 4000), rel=0.1)

    def test_affine_inverse(self) -> None:
        matrix = np.array([[0.3, 0.1, 5.0], [-0.1, 0.3, -7.0]])
        points = np.random.default_rng(0).normal(size=(9, 3)) * 100
        again = map_points(invert_affine(matrix), map_points(matrix, points))
        np.testing.assert_allclose(again, points, atol=1e-9)

    def test_landmarks_survive_an_empty_crop(
        self, models: FaceModels, photograph: Picture, space: MotionSpace
    ) -> None:
        class NearSighted(FaceModels):
            """Sees no face in crops."""

            def landmarks(self, image: Picture, region: object) -> FaceLandmarks | None:
                seen = super().landmarks(image, region)  # type: ignore[arg-type]
                return None if image is not photograph else seen

        found = choose_face(photograph, models, None)
        portrait = encode_portrait(photograph, space, models=NearSighted())
        np.testing.assert_allclose(portrait.landmarks, found.points, atol=1e-9)


class TestClosedMouth:
    def test_smile_is_closed(self, portrait: Portrait) -> None:
        assert lip_gap_seen(portrait.canonical_keypoints) > 0.05
        assert lip_gap_seen(portrait.neutral_keypoints) < 0.012
        assert portrait.identity.shape == (63,)

    def test_only_the_mouth_part_of_the_basis_moves(
        self, portrait: Portrait, space: MotionSpace
    ) -> None:
        assert space.basis is not None
        offset = portrait.neutral_keypoints - portrait.canonical_keypoints
        assert np.abs(offset[NUM_SURFACE:]).max() == 0
        mouth = space.slice("mouth")
        rows = space.basis[mouth].reshape(mouth.stop - mouth.start, -1).astype(np.float64)
        target = offset[:NUM_SURFACE].ravel()
        weights, *_ = np.linalg.lstsq(rows.T, target, rcond=None)
        np.testing.assert_allclose(weights @ rows, target, atol=1e-6)

    def test_closed_mouth_stays(self, portrait: Portrait, space: MotionSpace) -> None:
        closed = portrait.neutral_keypoints
        np.testing.assert_array_equal(close_mouth(closed, space), closed)

    def test_opened_by_the_basis_is_undone(self, portrait: Portrait, space: MotionSpace) -> None:
        assert space.basis is not None
        closed = portrait.neutral_keypoints
        jaw = int(np.argmax(np.abs(space.basis[:16, 14, 1] - space.basis[:16, 13, 1])))
        sign = np.sign(space.basis[jaw, 14, 1] - space.basis[jaw, 13, 1])
        opened = closed.copy()
        opened[:NUM_SURFACE] += sign * space.std[jaw] * space.basis[jaw]
        assert lip_gap_seen(opened) > 0.05
        assert np.abs(close_mouth(opened, space) - closed).mean() < 0.01

    def test_limited_to_what_mouths_do(self, portrait: Portrait, space: MotionSpace) -> None:
        assert space.basis is not None
        gaping = portrait.canonical_keypoints.copy()
        gaping[list(INNER_LIP_LOWER[1:-1]), 1] += 5.0
        offset = (close_mouth(gaping, space) - gaping)[:NUM_SURFACE]
        mouth = space.slice("mouth")
        furthest = np.tensordot(LARGEST_CLOSING * space.std[mouth], np.abs(space.basis[mouth]), 1)
        assert (np.abs(offset) <= furthest + 1e-6).all()
        assert lip_gap_seen(gaping + np.pad(offset, ((0, 10), (0, 0)))) > 1.0
