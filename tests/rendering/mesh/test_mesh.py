"""The mesh renderer as a whole: what moves, what must not, and where to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from moda.errors import InputError
from moda.rendering.mesh.renderer import MeshRenderer
from moda.rendering.mesh.retargeting import LIP_CONTACT, LOWER_LIP, UPPER_LIP, soft_limit
from moda.structures import Motion, MotionSpace, Picture, Portrait
from moda.structures.landmarks import (
    FACE_OVAL,
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LIPS,
    MOUTH_CORNERS,
    NUM_SURFACE,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    Similarity,
    lip_width,
)

if TYPE_CHECKING:
    from conftest import MakeMotion


def psnr(first: Picture, second: Picture, where: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over the pixels of a mask (H, W)."""
    error = (first[where].astype(np.float64) - second[where]) ** 2
    return float(10 * np.log10(255.0**2 / max(error.mean(), 1e-9)))


def outside_mouth(renderer: MeshRenderer) -> np.ndarray:
    """Mask (H, W) without the lower face, which a closing mouth changes."""
    plate = renderer._plate
    mask = np.ones(plate.image.shape[:2], np.uint8)
    oval = plate.landmarks[list(FACE_OVAL), :2]
    lips = plate.landmarks[list(LIPS), :2]
    reach = np.ptp(lips[:, 0])
    centre = lips.mean(0)
    cv2.circle(mask, (int(centre[0]), int(centre[1])), int(1.6 * reach), (0,), -1)
    assert mask[int(oval[0, 1]), int(oval[0, 0])] == 1
    return mask.astype(bool)


def test_rest_motion_reproduces_the_photograph(
    renderer: MeshRenderer, make_motion: MakeMotion
) -> None:
    frame = next(renderer.render(make_motion()))
    assert psnr(frame, renderer._plate.image, outside_mouth(renderer)) > 45


def test_rest_motion_of_a_closed_mouth_is_the_photograph_everywhere(
    closed_portrait: Portrait, space: MotionSpace, make_motion: MakeMotion
) -> None:
    renderer = MeshRenderer(closed_portrait, space, size=512)
    frame = next(renderer.render(make_motion()))
    plate = renderer._plate
    lips = plate.landmarks[list(LIPS), :2].astype(np.float32)
    mask = np.ones(frame.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, cv2.convexHull(lips).astype(np.int32), (0,))
    mask = cv2.erode(mask, np.ones((5, 5), np.uint8))
    assert psnr(frame, plate.image, mask.astype(bool)) > 45


def test_nothing_outside_the_box_nor_on_its_border_ever_changes(
    renderer: MeshRenderer, wild_motion: Motion, space: MotionSpace
) -> None:
    plate = renderer._plate
    outside = np.ones(plate.image.shape[:2], bool)
    free = plate.free_sides
    left = plate.box.left + ("left" not in free)
    top = plate.box.top + ("top" not in free)
    outside[top : plate.box.bottom - 1, left : plate.box.right - ("right" not in free)] = False
    assert outside.any()
    for frame in renderer.render(Motion(wild_motion.values[:12], space)):
        np.testing.assert_array_equal(frame[outside], plate.image[outside])


def test_frames_do_not_depend_on_their_neighbours_and_repeat_exactly(
    crop_renderer: MeshRenderer, wild_motion: Motion, space: MotionSpace
) -> None:
    values = wild_motion.values[:6]
    forwards = list(crop_renderer.render(Motion(values, space)))
    backwards = list(crop_renderer.render(Motion(values[::-1].copy(), space)))[::-1]
    interleaved = zip(
        crop_renderer.render(Motion(values, space)),
        crop_renderer.render(Motion(values[::-1].copy(), space)),
        strict=True,
    )
    for k, (first, second) in enumerate(interleaved):
        np.testing.assert_array_equal(first, forwards[k])
        np.testing.assert_array_equal(second, forwards[-1 - k])
    for first, second in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(first, second)
        assert first is not second


def test_a_new_renderer_draws_the_same_pixels(
    portrait: Portrait, crop_renderer: MeshRenderer, space: MotionSpace, wild_motion: Motion
) -> None:
    motion = Motion(wild_motion.values[:2], space)
    again = MeshRenderer(portrait, space, size=256, full_frame=False)
    for first, second in zip(crop_renderer.render(motion), again.render(motion), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_closed_mouth_is_not_painted(
    closed_portrait: Portrait,
    space: MotionSpace,
    make_motion: MakeMotion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lips = closed_portrait.neutral_keypoints.copy()
    lips[LOWER_LIP, 1] = lips[UPPER_LIP, 1] + 0.9 * LIP_CONTACT
    renderer = MeshRenderer(
        replace(closed_portrait, canonical_keypoints=lips, neutral_keypoints=lips),
        space,
        size=256,
        full_frame=False,
    )
    motion = make_motion(yaw=3.0)
    geometry, _, _ = renderer._retargeting.geometry(motion.values[0])
    gap = geometry.shape[LOWER_LIP, 1] - geometry.shape[UPPER_LIP, 1]
    assert np.abs(gap[1:-1]).max() == 0.0
    painted = next(renderer.render(motion))
    monkeypatch.setattr(renderer._mouth, "draw", lambda frame, geometry: None)
    np.testing.assert_array_equal(painted, next(renderer.render(motion)))


def test_lips_never_cross(renderer: MeshRenderer, wild_motion: Motion) -> None:
    for row in wild_motion.values:
        shape = renderer._retargeting.geometry(row)[0].shape
        assert (shape[LOWER_LIP, 1] - shape[UPPER_LIP, 1]).min() >= 0.0


def test_no_triangle_turns_over(renderer: MeshRenderer, wild_motion: Motion) -> None:
    rig = renderer._rig
    rest = areas(rig.pixels, rig.solid)
    assert (rest != 0).all()
    unit = renderer._plate.rest.scale
    for row in wild_motion.values:
        screen = renderer._retargeting.geometry(row)[0].screen.astype(np.float64)
        now = areas(screen, rig.solid) * np.sign(rest)
        assert now.min() > -3e-4 * unit**2  # a fifth of a pixel at 512


def areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Signed double areas (N,) of triangles (N, 3) of points (V, >=2)."""
    a, b, c = (points[triangles[:, k], :2] for k in range(3))
    first, second = b - a, c - a
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


@pytest.mark.parametrize("yaw", [-6.0, -3.0, 3.0, 6.0])
def test_yaw_turns_the_nose_by_the_right_amount(
    renderer: MeshRenderer, make_motion: MakeMotion, yaw: float
) -> None:
    """The tip of the nose found in the rendered picture against a plain rotation matrix."""
    plate = renderer._plate
    still = next(renderer.render(make_motion()))
    turned = next(renderer.render(make_motion(yaw=yaw)))
    nose = plate.landmarks[1, :2]
    reach = int(0.16 * plate.rest.scale)
    x, y = (round(v) for v in nose)
    patch = still[y - reach : y + reach, x - reach : x + reach]
    score = cv2.matchTemplate(turned, patch, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    found = np.array([column + reach - x, row + reach - y], np.float64)
    np.testing.assert_allclose(found, expected_shift(plate.rest, plate.landmarks[1], yaw), atol=1.6)
    assert np.sign(found[0]) == -np.sign(yaw)  # positive yaw turns to the left of the picture


def expected_shift(rest: Similarity, landmark: np.ndarray, yaw: float) -> np.ndarray:
    """Shift in pixels of a point that turns about the vertical axis through the neck."""
    angle = np.radians(yaw)
    point = (landmark - rest.translation) @ rest.rotation / rest.scale
    x, z = point[0], point[2] - 0.60
    moved = np.array(
        [
            np.cos(angle) * x + np.sin(angle) * z,
            point[1],
            0.60 - np.sin(angle) * x + np.cos(angle) * z,
        ]
    )
    return (rest.rotation @ (moved - point))[:2] * rest.scale


def test_blink_hides_the_eyes(renderer: MeshRenderer, make_motion: MakeMotion) -> None:
    plate = renderer._plate
    shut = next(renderer.render(make_motion(blink=1.0)))
    still = next(renderer.render(make_motion()))
    for centre in (468, 473):
        x, y = (round(v) for v in plate.landmarks[centre, :2])
        iris, lid = still[y - 1 : y + 2, x - 1 : x + 2], shut[y - 1 : y + 2, x - 1 : x + 2]
        assert lid.mean() > iris.mean() + 10


def lids_of(renderer: MeshRenderer, motion: Motion) -> tuple[float, float]:
    """Mean height of the upper and of the lower lid lines, canonical, down is positive."""
    shape = renderer._retargeting.geometry(motion.values[0])[0].shape
    upper = [point for eye in (RIGHT_EYE_UPPER, LEFT_EYE_UPPER) for point in eye[1:-1]]
    lower = [point for eye in (RIGHT_EYE_LOWER, LEFT_EYE_LOWER) for point in eye[1:-1]]
    return float(shape[upper, 1].mean()), float(shape[lower, 1].mean())


def test_eyes_open_wider_by_the_upper_lid(renderer: MeshRenderer, make_motion: MakeMotion) -> None:
    (upper, lower), (wide_upper, wide_lower) = (
        lids_of(renderer, make_motion(blink=blink)) for blink in (0.0, -0.2)
    )
    assert wide_lower - wide_upper == pytest.approx(1.2 * (lower - upper), rel=0.01)
    assert upper - wide_upper > 5 * (wide_lower - lower)
    widest = lids_of(renderer, make_motion(blink=-3.0))
    assert widest[1] - widest[0] < 1.3 * (lower - upper)
    still, wide = (next(renderer.render(make_motion(blink=blink))) for blink in (0.0, -0.2))
    rows = np.flatnonzero((still != wide).any((1, 2)))
    brow, cheek = renderer._plate.landmarks[[105, 50], 1]
    assert brow - 5 < rows.min() < rows.max() < cheek


def test_a_smile_narrows_the_eyes_from_below_and_a_blink_from_above(
    renderer: MeshRenderer, make_motion: MakeMotion, space: MotionSpace
) -> None:
    assert space.basis is not None
    raised = space.basis[space.slice("cheeks")][:, [280, 50], 1].mean(1).astype(np.float64)
    cheeks = -0.04 * raised / (raised @ raised)
    upper, lower = lids_of(renderer, make_motion(cheeks=cheeks))
    squint_upper, squint_lower = lids_of(renderer, make_motion(cheeks=cheeks, blink=0.3))
    opening = lower - upper
    assert squint_lower - squint_upper == pytest.approx(0.7 * opening, rel=0.01)
    assert lower - squint_lower > 2 * (squint_upper - upper)
    tired_upper, tired_lower = lids_of(renderer, make_motion(blink=0.3))
    upper, lower = lids_of(renderer, make_motion())
    assert tired_upper - upper > 5 * (lower - tired_lower)
    shut_upper, shut_lower = lids_of(renderer, make_motion(cheeks=cheeks, blink=1.0))
    assert shut_lower - shut_upper == pytest.approx(0.0, abs=0.003)


def test_gaze_moves_only_the_eyes(renderer: MeshRenderer, make_motion: MakeMotion) -> None:
    still = next(renderer.render(make_motion()))
    aside = next(renderer.render(make_motion(gaze=(0.02, 0.0))))
    changed = np.argwhere(np.abs(still.astype(int) - aside).max(2) > 3)
    eyes = renderer._plate.landmarks[[33, 133, 362, 263, 159, 145, 386, 374], :2]
    assert len(changed) > 20
    assert (changed.min(0)[::-1] > eyes.min(0) - 4).all()
    assert (changed.max(0)[::-1] < eyes.max(0) + 4).all()


@pytest.mark.parametrize(
    ("shape", "size", "full_frame", "expected"),
    [
        ((512, 512), 256, True, (256, 256)),
        ((512, 400), 300, True, (234, 300)),
        ((302, 512), 256, True, (256, 152)),
        ((512, 512), 96, True, (96, 96)),
        ((512, 512), 130, False, (130, 130)),
    ],
)
def test_frame_sizes_are_even(
    portrait: Portrait,
    space: MotionSpace,
    make_motion: MakeMotion,
    shape: tuple[int, int],
    size: int,
    full_frame: bool,
    expected: tuple[int, int],
) -> None:
    cut = np.ascontiguousarray(portrait.image[: shape[0], : shape[1]])
    renderer = MeshRenderer(replace(portrait, image=cut), space, size=size, full_frame=full_frame)
    frame = next(renderer.render(make_motion(yaw=5.0, blink=0.5)))
    assert renderer.frame_size == expected
    assert frame.shape == (expected[1], expected[0], 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("side", [96, 2400])
def test_tiny_and_huge_portraits(
    portrait: Portrait,
    space: MotionSpace,
    make_motion: MakeMotion,
    side: int,
) -> None:
    renderer = MeshRenderer(resized(portrait, side), space, size=256)
    frame = next(renderer.render(make_motion(mouth=space.std[:16])))
    assert frame.shape == (256, 256, 3)
    still = next(renderer.render(make_motion()))
    assert psnr(still, renderer._plate.image, outside_mouth(renderer)) > 40


def resized(portrait: Portrait, side: int) -> Portrait:
    """The portrait of a smaller or larger scan of the same square photograph."""
    scale = side / len(portrait.image)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(portrait.image, (side, side), interpolation=method)
    crop_from_image = portrait.crop_from_image.copy()
    crop_from_image[:, :2] /= scale
    crop_from_image[:, 2] += portrait.crop_from_image[:, :2] @ np.full(2, 0.5 / scale - 0.5)
    return replace(portrait, image=image.astype(np.uint8), crop_from_image=crop_from_image)


def test_grey_stays_grey(portrait: Portrait, space: MotionSpace, wild_motion: Motion) -> None:
    def grey(picture: Picture) -> Picture:
        luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        return cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB).astype(np.uint8)

    drained = replace(portrait, image=grey(portrait.image), crop_image=grey(portrait.crop_image))
    renderer = MeshRenderer(drained, space, size=256)
    for frame in renderer.render(Motion(wild_motion.values[:5], space)):
        assert np.ptp(frame.astype(int), axis=2).max() <= 1


def test_an_empty_person_mask_is_no_obstacle(
    portrait: Portrait, space: MotionSpace, make_motion: MakeMotion
) -> None:
    empty = replace(portrait, person_mask=np.zeros_like(portrait.person_mask))
    renderer = MeshRenderer(empty, space, size=256)
    still = next(renderer.render(make_motion()))
    turned = next(renderer.render(make_motion(yaw=6.0)))
    assert (still != turned).any()


def test_extreme_motion_is_limited_smoothly(
    renderer: MeshRenderer, make_motion: MakeMotion
) -> None:
    """A pose of 90 degrees draws nearly what the limit draws; small poses pass unchanged."""
    head = renderer._retargeting.geometry(make_motion(yaw=90.0).values[0])[0].head
    turned = np.degrees(np.arccos((np.trace(head.rotation) - 1) / 2))
    assert 20.0 < turned < 22.5
    values = np.linspace(-3, 3, 101)
    limited = soft_limit(values, 1.0)
    assert (np.diff(limited) > 0).all()
    assert np.abs(limited).max() < 1.0
    np.testing.assert_allclose(limited[45:56], values[45:56], rtol=0.01)


def test_useless_requests_are_refused(
    portrait: Portrait, space: MotionSpace, renderer: MeshRenderer
) -> None:
    for size in (0, 63, 255, 5000):
        with pytest.raises(InputError, match="frame size"):
            MeshRenderer(portrait, space, size=size)
    other = replace(space, name="neural", canonical_face=None, triangles=None, basis=None)
    with pytest.raises(InputError, match="face mesh"):
        MeshRenderer(portrait, other)
    foreign = Motion(np.zeros((1, other.size), np.float32), other)
    with pytest.raises(InputError, match="neural"):
        renderer.render(foreign)


def mouth_parts(space: MotionSpace, deviations: np.ndarray) -> np.ndarray:
    mouth = space.slice("mouth")
    return deviations * (space.std[mouth].astype(np.float64) + 1e-6)


@pytest.mark.parametrize("largest", [0.5, 3.0, 7.0, 30.0])
def test_the_mouth_is_limited_as_one(
    renderer: MeshRenderer, space: MotionSpace, largest: float
) -> None:
    """All its numbers by one factor, so that lips that meet still meet; others one by one."""
    random = np.random.default_rng(0)
    deviations = random.uniform(-1.0, 1.0, 16)
    deviations *= largest / np.abs(deviations).max()
    parameters = np.zeros(len(renderer._retargeting.basis))
    mouth, brows = space.slice("mouth"), space.slice("brows")
    parameters[mouth] = mouth_parts(space, deviations)
    parameters[brows] = 9.0 * space.std[brows]
    limited = renderer._retargeting._limited(parameters)
    factors = limited[mouth] / parameters[mouth]
    expected = 1.0 / (1.0 + (largest / 6.0) ** 4) ** 0.25
    np.testing.assert_allclose(factors, expected, rtol=1e-6)
    np.testing.assert_allclose(
        limited[brows], parameters[brows] / (1.0 + 1.5**4) ** 0.25, rtol=1e-3
    )
    np.testing.assert_array_equal(renderer._retargeting._limited(0.0 * parameters), 0.0)


def test_a_mouth_widens_as_far_as_any_may_and_no_further(
    renderer: MeshRenderer, space: MotionSpace
) -> None:
    assert space.canonical_face is not None
    right, left = MOUTH_CORNERS
    retargeting = renderer._retargeting

    def width(shape: np.ndarray) -> float:
        return float(shape[left, 0] - shape[right, 0])

    own = width(renderer._rig.neutral)
    widest = max(1.40 * float(lip_width(space.canonical_face.astype(np.float64))), own + 0.14)
    basis = retargeting.basis[space.slice("mouth")]
    pull = basis[:, left, 0] - basis[:, right, 0]
    widths = []
    for wanted in (0.0, 0.02, 0.1, 0.3, 1.0):
        parameters = np.zeros(len(retargeting.basis))
        parameters[space.slice("mouth")] = wanted * pull / (pull @ pull)
        widths.append(width(retargeting.face_on(renderer._rig, parameters)))
    assert widths[0] == pytest.approx(own, abs=1e-6)
    assert widths[1] == pytest.approx(own + 0.02, rel=0.01)
    assert (np.diff(widths) >= -1e-9).all()
    assert own + 0.1 < widths[-1] <= widest + 1e-6


def test_a_corner_takes_the_skin_beside_it_along(
    renderer: MeshRenderer, space: MotionSpace
) -> None:
    """The nearer the skin, the more of its way sideways is the corner's."""
    assert space.canonical_face is not None
    face = space.canonical_face[:NUM_SURFACE, :2].astype(np.float64)
    basis = renderer._retargeting.basis[space.slice("mouth")][:, :, 0]
    skin = np.array([point for point in range(NUM_SURFACE) if point not in LIPS])
    for corner in MOUTH_CORNERS:
        away = np.linalg.norm(face[skin] - face[corner], axis=1)
        way = basis[:, corner]
        likeness = basis[:, skin].T @ way / (way @ way)
        near = likeness[np.argsort(away)]
        assert near[0] > 0.9
        assert near[:4].mean() > 0.8
        assert likeness[away > 0.9].mean() < 0.4
