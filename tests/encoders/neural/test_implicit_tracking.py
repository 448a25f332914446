"""Tracking into the neural space: what is known comes back, and the calm frame changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
import torch

from moda.encoders.face import FaceModels
from moda.encoders.neural import tracking
from moda.encoders.neural.face_crop import (
    crop_geometry,
    crop_picture,
    crop_points,
    extractor_picture,
)
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.encoders.neural.tracking import (
    ImplicitTrack,
    calmest_frame,
    relative_motion,
    steady_crop,
    track_implicit_motion,
)
from moda.encoders.portrait import choose_face
from moda.encoders.tracking import follow_face
from moda.errors import FaceError, MediaError
from moda.structures import Floats, Picture
from moda.structures.keypoints import angles_from_rotation, rotation_from_angles, split_motion

Video = Callable[[], Iterator[tuple[float, Picture]]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The network is tiny: on a busy machine more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def extractor() -> MotionExtractor:
    torch.manual_seed(0)
    return MotionExtractor(depths=(1, 1, 1, 1), channels=(8, 8, 8, 8)).eval()


@pytest.fixture(scope="module")
def landmarks(models: FaceModels, photograph: Picture) -> np.ndarray:
    return choose_face(photograph, models, None).points


def motion_rows(seed: int, num_frames: int) -> Floats:
    """Random but possible motion (T, 70)."""
    random = np.random.default_rng(seed)
    rows = random.normal(0.0, 0.05, (num_frames, 70))
    rows[:, 63] = random.uniform(0.8, 1.4, num_frames)
    rows[:, 67:] = random.uniform(-30, 30, (num_frames, 3))
    return rows.astype(np.float32)


def video_of(pictures: list[Picture], frames_per_second: float = 25.0) -> Video:
    return lambda: iter([(i / frames_per_second, picture) for i, picture in enumerate(pictures)])


def shifted(photograph: Picture, right: float, down: float) -> Picture:
    matrix = np.array([[1.0, 0.0, right], [0.0, 1.0, down]])
    return cv2.warpAffine(
        photograph, matrix, photograph.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    ).astype(np.uint8)


class TestAngles:
    def test_round_trip(self) -> None:
        angles = np.random.default_rng(0).uniform(-85, 85, (3, 500)).astype(np.float32)
        again = angles_from_rotation(rotation_from_angles(*angles))
        np.testing.assert_allclose(np.stack(again), angles, atol=2e-3)

    def test_composition(self) -> None:
        """Turns about one axis add up."""
        zero = np.zeros(1, np.float32)
        ten, twenty = zero + 10, zero + 20
        turn = rotation_from_angles(zero, ten, zero) @ rotation_from_angles(zero, twenty, zero)
        np.testing.assert_allclose(np.ravel(angles_from_rotation(turn)), [0, 30, 0], atol=1e-4)


class TestRelativeMotion:
    def test_calm_frame_is_the_other_face_at_rest(self) -> None:
        rest = motion_rows(1, 1)[0]
        driving = ImplicitTrack(motion_rows(2, 9), np.ones(9, bool), 4)
        moved = relative_motion(driving, rest)
        assert moved.shape == (9, 70)
        assert moved.dtype == np.float32
        np.testing.assert_allclose(moved[4], rest, atol=2e-5)
        assert np.abs(moved[3] - rest).max() > 1

    def test_own_video_comes_back(self) -> None:
        rows = motion_rows(3, 9)
        moved = relative_motion(ImplicitTrack(rows, np.ones(9, bool), 2), rows[2])
        np.testing.assert_allclose(moved, rows, atol=1e-4)

    def test_parts(self) -> None:
        """A head that turns by 10 degrees, comes nearer by a tenth, and opens a key point."""
        rows = np.zeros((2, 70), np.float32)
        rows[:, 63] = 1.0, 1.1
        rows[:, 68] = 5.0, 15.0
        rows[:, 64] = 0.2, 0.3
        rows[1, 40] = 0.03
        rest = np.zeros(70, np.float32)
        rest[[63, 68, 40, 64]] = 1.3, -20.0, 0.01, -0.1
        moved = split_motion(relative_motion(ImplicitTrack(rows, np.ones(2, bool), 0), rest))
        assert moved.scale[1] == pytest.approx(1.43, abs=1e-5)
        np.testing.assert_allclose(
            [moved.pitch[1], moved.yaw[1], moved.roll[1]], [0, -10, 0], atol=1e-4
        )
        assert moved.translation[1, 0] == pytest.approx(0.0, abs=1e-6)
        assert moved.expression.reshape(2, 63)[1, 40] == pytest.approx(0.04, abs=1e-6)


class TestCalmestFrame:
    def test_closed_mouth_open_eyes_usual_pose(self, landmarks: np.ndarray) -> None:
        faces = np.repeat(landmarks[None], 6, 0)
        motion = np.zeros((6, 70), np.float32)
        faces[:, [13, 14]] = faces[:, [13, 13]]  # closed
        faces[0, 14, 1] += 15  # in the middle of a word
        faces[1, [159, 386]] = faces[1, [145, 374]]  # of a blink
        motion[2, 68] = 25.0  # looking aside
        faces[3, 14, 1] += 10
        faces[4, 14, 1] += 3
        assert calmest_frame(faces, motion) == 5


class TestSteadyCrop:
    def test_still_face_is_cropped_as_a_portrait(self, landmarks: np.ndarray) -> None:
        clip = np.repeat(landmarks[None], 5, 0).astype(np.float32)
        steady, single = steady_crop(clip), crop_geometry(crop_points(landmarks))
        np.testing.assert_allclose(steady.crop_from_image, single.crop_from_image, atol=1e-3)

    def test_one_bad_frame_does_not_move_it(self, landmarks: np.ndarray) -> None:
        clip = np.repeat(landmarks[None], 41, 0).astype(np.float32)
        before = steady_crop(clip)
        clip[20, :, :2] = 3 * clip[20, :, 1::-1] + 400
        after = steady_crop(clip)
        np.testing.assert_allclose(after.crop_from_image, before.crop_from_image, atol=1e-3)

    def test_angles_near_half_a_turn(self, landmarks: np.ndarray) -> None:
        """Upside down, 179 and -179 degrees are neighbours."""
        clip = np.repeat(landmarks[None], 2, 0)
        centre = tuple(landmarks[:, :2].mean(0))
        for face, degrees in zip(clip, (177.0, 185.0), strict=True):
            turn = cv2.getRotationMatrix2D(centre, degrees, 1.0)
            face[:, :2] = face[:, :2] @ turn[:, :2].T + turn[:, 2]
        own = np.degrees(crop_geometry(crop_points(landmarks)).angle)
        angle = np.degrees(steady_crop(clip.astype(np.float32)).angle)
        assert (angle - own + 181 + 180) % 360 - 180 == pytest.approx(0.0, abs=0.1)

    def test_a_walking_face_stays_inside(self, landmarks: np.ndarray) -> None:
        clip = np.repeat(landmarks[None], 50, 0).astype(np.float32)
        clip[:, :, 0] += np.linspace(0, 400, 50)[:, None]
        geometry = steady_crop(clip)
        for face in clip[2:-2]:
            points = crop_points(face.astype(np.float64)).points
            inside = points @ geometry.crop_from_image[:, :2].T + geometry.crop_from_image[:, 2]
            assert inside.min() >= 0
            assert inside.max() <= 511


class TestTracking:
    def test_rows_are_those_of_one_crop(
        self, photograph: Picture, models: FaceModels, extractor: MotionExtractor
    ) -> None:
        """Ten pictures in more than one batch, cut out by the same square."""
        video = video_of([shifted(photograph, 2.0 * i, 0.0) for i in range(10)])
        track = track_implicit_motion(video, models, extractor)
        geometry = steady_crop(follow_face(video(), models)[1])
        crops = [extractor_picture(crop_picture(picture, geometry)) for _, picture in video()]
        expected = [extract_faces(extractor, crop[None])[0].motion for crop in crops]
        np.testing.assert_allclose(track.motion, expected, atol=1e-4)
        assert track.found.all()
        assert np.ptp(track.motion, axis=0).max() > 0.01

    def test_rate_and_gaps(
        self, photograph: Picture, models: FaceModels, extractor: MotionExtractor
    ) -> None:
        """A face that moves at 50 pictures a second, and is away for a while."""
        small = photograph[40:300, 110:370]
        pictures = [shifted(small, 0.4 * i, 0.0) for i in range(40)]
        steady = track_implicit_motion(video_of(pictures, 50.0), models, extractor)
        assert steady.motion.shape == (20, 70)
        pictures[12:22] = [np.full_like(small, 90)] * 10
        track = track_implicit_motion(video_of(pictures, 50.0), models, extractor)
        assert track.motion.shape == (20, 70)
        assert np.isfinite(track.motion).all()
        assert not track.found[8]
        assert track.found[[0, 3, 15, 19]].all()
        unlike = np.abs(track.motion - steady.motion).max(axis=0)
        assert (unlike < 0.25 * np.ptp(steady.motion, axis=0) + 0.02).mean() > 0.9

    def test_no_face(self, models: FaceModels, extractor: MotionExtractor) -> None:
        grey = np.full((200, 200, 3), 90, np.uint8)
        with pytest.raises(FaceError, match="fewer than 2 frames"):
            track_implicit_motion(video_of([grey] * 3), models, extractor)

    def test_video_that_ends_earlier_the_second_time(
        self,
        photograph: Picture,
        models: FaceModels,
        extractor: MotionExtractor,
    ) -> None:
        lengths = iter([6, 3])
        with pytest.raises(MediaError, match="fewer pictures"):
            track_implicit_motion(
                lambda: video_of([photograph] * next(lengths))(), models, extractor
            )

    def test_crops_of_one_batch_at_a_time(self, photograph: Picture, landmarks: np.ndarray) -> None:
        geometry = crop_geometry(crop_points(landmarks))
        seen = np.ones(20, bool)
        seen[3] = False
        batches = list(tracking._batches(video_of([photograph] * 20)(), seen, geometry))
        assert [len(indices) for indices, _ in batches] == [8, 8, 3]
        assert [i for indices, _ in batches for i in indices] == [0, 1, 2, *range(4, 20)]
