"""The inside of the mouth, on one real photograph (Eileen Collins, NASA, public domain)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.rendering.mesh.complexion import measure_palette
from moda.rendering.mesh.geometry import FrameGeometry, Head
from moda.rendering.mesh.mouth import CHIN, MouthInterior
from moda.rendering.mesh.teeth import find_real_teeth, tooth_texture
from moda.structures import Picture, Portrait
from moda.structures.landmarks import (
    INNER_LIP_LOWER,
    INNER_LIP_UPPER,
    NUM_SURFACE,
    OUTER_LIP,
    Array,
    Similarity,
    rotation_from_euler,
)
from moda.weights.spaces import load_motion_space
from paths import PORTRAIT

UPPER, LOWER = list(INNER_LIP_UPPER), list(INNER_LIP_LOWER)
PROFILE = np.sin(np.linspace(0.0, np.pi, len(LOWER)))
"""How a gap is spread from corner to corner of the mouth."""


class Scene(NamedTuple):
    portrait: Portrait
    mouth: MouthInterior

    @property
    def plate(self) -> Picture:
        return self.portrait.crop_image


@pytest.fixture(scope="session")
def portrait() -> Portrait:
    if PORTRAIT.exists():
        image = cv2.imread(str(PORTRAIT), cv2.IMREAD_COLOR_RGB)
        assert image is not None
    else:
        image = pytest.importorskip("skimage.data").astronaut()
    return encode_portrait(np.asarray(image, np.uint8), load_motion_space(), models=FaceModels())


def closed(portrait: Portrait) -> Portrait:
    """The same face, as if photographed with the mouth closed: all teeth are drawn."""
    return replace(portrait, canonical_keypoints=portrait.neutral_keypoints)


def scene_of(portrait: Portrait) -> Scene:
    landmarks = portrait.pose.apply(portrait.canonical_keypoints)
    mouth = MouthInterior(portrait.crop_image, landmarks, portrait, portrait.pose)
    return Scene(portrait, mouth)


@pytest.fixture(scope="session")
def scene(portrait: Portrait) -> Scene:
    return scene_of(closed(portrait))


def geometry(
    scene: Scene, gap: float, *, yaw: float = 0.0, rest: Similarity | None = None
) -> FrameGeometry:
    """The neutral face with only the jaw dropped, so that the lips are ``gap`` apart."""
    shape = scene.portrait.neutral_keypoints[:NUM_SURFACE].copy()
    line = 0.5 * (shape[UPPER, 1] + shape[LOWER, 1])
    shape[UPPER, 1] = line
    shape[LOWER, 1] = line + gap * PROFILE
    shape[CHIN, 1] += gap
    head = Head(
        rest or scene.portrait.pose,
        np.array([0.0, 1.25, 0.6]),
        rotation_from_euler(0.0, yaw, 0.0),
        np.zeros(3),
    )
    return FrameGeometry(shape, head.project(shape).astype(np.float32), head)


def painted(scene: Scene, gap: float, yaw: float = 0.0) -> Picture:
    frame = scene.plate.copy()
    scene.mouth.draw(frame, geometry(scene, gap, yaw=yaw))
    return frame


def inside(scene: Scene, gap: float, grow: float = 0.0, yaw: float = 0.0) -> NDArray[np.bool_]:
    """Pixels (H, W) no more than ``grow`` px outside the inner lips."""
    screen = geometry(scene, gap, yaw=yaw).screen
    outline = np.concatenate([screen[UPPER, :2], screen[LOWER[::-1][1:-1], :2]])
    rows, columns = np.indices(scene.plate.shape[:2])
    points = np.column_stack([columns.ravel(), rows.ravel()]).astype(np.float32)
    near = np.abs(points - outline.mean(0)).max(1) < 100
    distance = np.full(len(points), -np.inf)
    distance[near] = [
        cv2.pointPolygonTest(outline, (float(x), float(y)), True) for x, y in points[near]
    ]
    return (distance >= -grow).reshape(rows.shape)


@pytest.mark.parametrize("gap", [0.0, 0.003])
def test_closed_mouth_is_left_alone(scene: Scene, gap: float) -> None:
    np.testing.assert_array_equal(painted(scene, gap), scene.plate)


@pytest.mark.parametrize(("gap", "yaw"), [(0.03, 0.0), (0.12, 8.0), (0.28, -8.0)])
def test_only_the_opening_is_painted(scene: Scene, gap: float, yaw: float) -> None:
    changed = (painted(scene, gap, yaw) != scene.plate).any(2)
    assert changed.any()
    assert not (changed & ~inside(scene, gap, 2.0, yaw)).any()


def test_painted_area_grows_with_the_gap(scene: Scene) -> None:
    areas = [
        int((painted(scene, gap) != scene.plate).any(2).sum())
        for gap in (0.01, 0.03, 0.06, 0.12, 0.2, 0.3)
    ]
    assert areas == sorted(areas)
    assert areas[0] < 0.3 * areas[-1]


def test_opening_starts_gently(scene: Scene) -> None:
    """A mouth that begins to open must not flash."""
    before = painted(scene, 0.004).astype(float)
    after = painted(scene, 0.008).astype(float)
    assert np.abs(after - before).max() < 90


def test_same_frame_twice(scene: Scene, portrait: Portrait) -> None:
    np.testing.assert_array_equal(painted(scene, 0.15), painted(scene, 0.15))
    again = scene_of(closed(portrait))
    np.testing.assert_array_equal(painted(scene, 0.15), painted(again, 0.15))


def test_grey_stays_grey(portrait: Portrait) -> None:
    grey = portrait.crop_image.mean(2).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for version in (portrait, closed(portrait)):
        frame = painted(scene_of(replace(version, crop_image=picture)), 0.2)
        assert not (np.ptp(frame.astype(int), axis=2)).any()


def luma(picture: Array) -> Array:
    return picture.astype(np.float64).mean(-1)


def test_teeth_are_darker_than_the_eyes(scene: Scene) -> None:
    """The brightest of the mouth stays below the white of the eyes, and there are teeth."""
    teeth = luma(painted(scene, 0.12))[inside(scene, 0.12, -1.0)]
    eyes = []
    for outline in (
        [33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7],
        [263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249],
    ):
        mask = np.zeros(scene.plate.shape[:2], np.uint8)
        points = scene.portrait.crop_landmarks[outline, :2]
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (1,))
        eyes.append(luma(scene.plate[mask > 0]))
    white = np.percentile(np.concatenate(eyes), 95)
    assert np.percentile(teeth, 99) < white
    assert np.percentile(teeth, 90) > 2.0 * np.percentile(teeth, 5)


def test_upper_teeth_stay_on_the_skull(scene: Scene) -> None:
    """When only the jaw drops, the biting edge in the middle of the mouth keeps its row."""
    rows = []
    for gap in (0.14, 0.2, 0.28):
        screen = geometry(scene, gap).screen
        column = round(float(screen[13, 0]))
        top = round(float(screen[13, 1]))
        profile = luma(painted(scene, gap)[top : top + round(0.1 * scene.portrait.pose.scale)])
        rows.append(int(np.argmin(np.diff(profile[:, column - 2 : column + 3].mean(1)))))
    assert max(rows) - min(rows) <= 1


def test_size_of_the_picture_does_not_matter(scene: Scene) -> None:
    small = cv2.resize(scene.plate, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    pose = scene.portrait.pose
    half = pose._replace(scale=0.5 * pose.scale, translation=0.5 * (pose.translation + 0.5) - 0.5)
    halved = replace(
        scene.portrait, crop_image=np.asarray(small, np.uint8), pose=half,
        crop_landmarks=half.apply(scene.portrait.canonical_keypoints),
    )  # fmt: skip
    frame = painted(scene_of(halved), 0.16).astype(float)
    large = painted(scene, 0.16)
    expected = cv2.resize(large, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(float)
    opening = inside(scene, 0.16, 2.0)[::2, ::2]
    assert np.abs(frame - expected)[opening].mean() < 12


def test_own_teeth_are_found_and_painted_over(portrait: Portrait) -> None:
    """The photograph shows a smile with teeth; closed, its texture must not."""
    palette = measure_palette(portrait.crop_image, portrait.crop_landmarks)
    real = find_real_teeth(
        portrait.crop_image,
        portrait.crop_landmarks,
        portrait.pose,
        portrait.canonical_keypoints,
        palette,
    )
    assert real is not None
    assert real.patch[..., 3].max() > 0.9
    mouth = MouthInterior(portrait.crop_image, portrait.crop_landmarks, portrait, portrait.pose)
    texture = mouth.base_texture()
    outline = portrait.crop_landmarks[[*UPPER, *LOWER[::-1][1:-1]], :2]
    hole = np.zeros(texture.shape[:2], np.uint8)
    cv2.fillPoly(hole, [np.round(outline).astype(np.int32)], (1,))
    lips = np.zeros_like(hole)
    outer = np.round(portrait.crop_landmarks[list(OUTER_LIP), :2]).astype(np.int32)
    cv2.fillPoly(lips, [outer], (1,))
    lip = np.percentile(luma(portrait.crop_image)[(lips > 0) & (hole == 0)], 95)
    before, after = luma(portrait.crop_image)[hole > 0], luma(texture)[hole > 0]
    assert np.percentile(after, 95) < 1.02 * lip < 0.95 * np.percentile(before, 95)
    np.testing.assert_array_equal(texture[lips == 0], portrait.crop_image[lips == 0])


def test_texture_of_a_closed_mouth_is_the_photograph(scene: Scene) -> None:
    np.testing.assert_array_equal(scene.mouth.base_texture(), scene.plate)


def test_blurred_photographs_get_blurred_teeth() -> None:
    sharp, soft = (tooth_texture(True, blur).looks[20:50, 250:450, 0] for blur in (0.1, 1.5))
    assert soft.std() < 0.6 * sharp.std()
    assert soft.mean() == pytest.approx(sharp.mean(), abs=0.02)


def test_opening_at_the_border_of_the_picture(scene: Scene) -> None:
    """A mouth half outside the frame paints what is inside and nothing else."""
    pose = scene.portrait.pose
    left = float(pose.apply(scene.portrait.neutral_keypoints)[13, 0])
    moved = pose._replace(translation=pose.translation - [left, 0.0, 0.0])
    frame = scene.plate.copy()
    scene.mouth.draw(frame, geometry(scene, 0.2, rest=moved))
    changed = (frame != scene.plate).any(2)
    assert changed[:, 0].any()
    assert not changed[:, 60:].any()
