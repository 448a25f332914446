"""Eyes: the ball seen through the lids, the lid's skin, and the lashes that travel with it.

Three layers are cut out of the photograph once per eye: a sclera with the iris taken away, the iris
completed under the lids, and the lid's skin without lashes. While an eye closes, the skin is
stretched by the mesh warp; the lashes are not, they ride on the lid's edge and fold down. With open
eyes and straight gaze the layers add up to the photograph again.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.rendering.mesh.eye_painting import (
    CURVE_SAMPLES,
    F32,
    LASH_COLUMNS,
    LASH_LENGTH,
    LASH_OVERHANG,
    LASH_ROWS,
    LID_SHADOW_LENGTH,
    LINE_WIDTH,
    SCRATCH_SIZE,
    EyeFrame,
    EyeLayers,
    lid_curve,
    paint_eye,
)
from moda.rendering.mesh.geometry import Head, smoothstep
from moda.rendering.mesh.plate import Plate, blur, polygon_mask
from moda.rendering.mesh.rig import Rig
from moda.rendering.mesh.warp import (
    TEXTURE_ZOOM,
    AffineMap,
    WarpBuffers,
    bounds_around,
    enlarge_texture,
)
from moda.rendering.placing import Box
from moda.structures import Picture
from moda.structures.landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
    Array,
)

LID_REGION = (
    *RIGHT_EYE_UPPER, *RIGHT_EYE_LOWER, *LEFT_EYE_UPPER, *LEFT_EYE_LOWER,
    247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25, 130, 226, 31, 228, 229, 230,
    231, 232, 233, 244, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255,
    359, 446, 261, 448, 449, 450, 451, 452, 453, 464,
)  # fmt: skip
"""Points of the lids and their surroundings, which the blink moves rather than the expression."""

LARGEST_EYE = 0.184
"""Height of an opening and radius of its iris together, in eye distances. Larger ones are drawn
ones, which go on beyond the landmarks: photographed people, children too, have up to .17."""
RIM_REACH = 1.45
"""In radii: where pixels may still belong to an iris that is not quite round or centred."""
SHADED_WHITE = 0.8
"""Over the white around it, what is darker is a lash or a vein."""
DARKEST_SHADE = 0.5
DRAWN_MARGIN = 0.15
LID_HEIGHT = 0.13
"""Of the skin over an eye that becomes the lid; eye distances, as the next."""
LASH_ROOM = 0.035
"""Above the lid's edge, where lashes hide the skin."""
BROW_DARKNESS = 0.85
"""Over the brightest skin above the eye, skin darker than this has begun to be the brow."""
LID_SHADE = 0.94
"""Brightness of a lid's edge over that of its middle."""


@dataclass(frozen=True)
class _Outline:
    """Lid lines of one eye in the texels of its region, along and across the line of corners."""

    upper: Array  # (9, 2)
    lower: Array
    along: F32  # (h, w) position along the corners, 0..1 between them
    above: F32  # (h, w) texels above the upper lid line, negative below
    below: F32  # (h, w) texels below the lower lid line
    width: float
    unit: float  # texels of an eye distance


class EyePair:
    """Both eyes of one portrait."""

    def __init__(self, plate: Plate, rig: Rig) -> None:
        self._eyes = [
            eye for side in range(2) if (eye := _Eye.from_plate(plate, rig, side)) is not None
        ]
        self._scratch = np.zeros(SCRATCH_SIZE, np.float32)

    def draw(
        self,
        drawn: Picture,
        buffers: WarpBuffers,
        screen: F32,
        head: Head,
        closing: Array,
        gaze: Array,
    ) -> None:
        """Paint both eyes on the warped box (h, w, 3) in place.

        ``screen`` (V, 3) are the vertices in pixels of the box, ``closing`` (2,) up to 1,
        ``gaze`` (2,) the offset of the irises in canonical units.
        """
        for eye in self._eyes:
            frame = eye.frame(screen, head, float(closing[eye.side]), gaze)
            bounds = bounds_around(
                screen[eye.lids],
                DRAWN_MARGIN * eye.unit + 2,
                drawn.shape[0],
                drawn.shape[1],
            )
            paint_eye(drawn, buffers.map_x, buffers.map_y, eye.layers, frame, bounds, self._scratch)


def are_too_large(face: Array) -> bool:
    """Whether the eyes of a pose-free face (478, 3) are larger than their landmarks can follow."""
    sizes = []
    for upper, lower, iris in (
        (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS),
        (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS),
    ):
        opening = (face[list(lower[1:-1]), 1] - face[list(upper[1:-1]), 1]).mean()
        radius = np.linalg.norm(face[list(iris[1:]), :2] - face[iris[0], :2], axis=1).mean()
        sizes.append(float(opening + radius))
    return min(sizes) > LARGEST_EYE


@dataclass(frozen=True)
class _Eye:
    side: int
    lids: NDArray[np.intp]
    """Upper, then lower lid line, each from the picture's left to its right"""
    layers: EyeLayers
    frame_points: Array
    """(3, 3) canonical: the middle of the opening and a step along x and y from it"""
    roi: Box  # pixels of the plate
    plate_corner: Array  # (2,) of the box
    unit: float
    rest_rotation: Array
    still: Array
    """(3, 2) where the points of the frame are at rest, pixels of the region"""

    @classmethod
    def from_plate(cls, plate: Plate, rig: Rig, side: int) -> _Eye | None:
        """Cut the layers out of the plate; None where the eye is outside of the picture."""
        upper = (RIGHT_EYE_UPPER, LEFT_EYE_UPPER)[side]
        lower = (RIGHT_EYE_LOWER, LEFT_EYE_LOWER)[side]
        if side == 1:  # listed from the outer corner, here from left to right
            upper, lower = upper[::-1], lower[::-1]
        iris = (RIGHT_IRIS, LEFT_IRIS)[side]
        lids = plate.landmarks[[*upper, *lower], :2]
        centre, box = lids.mean(0), plate.box
        reach = 0.95 * float(np.linalg.norm(lids[0] - lids[8])) + 2
        roi = Box(
            max(box.left, int(centre[0] - reach)),
            max(box.top, int(centre[1] - reach)),
            min(box.right, int(centre[0] + reach) + 1),
            min(box.bottom, int(centre[1] + reach) + 1),
        )
        if roi.width < 4 or roi.height < 4:
            return None
        layers = _cut_layers(plate, roi, upper, lower, iris)
        opening = rig.photographed[[upper[4], lower[4]]].mean(0)
        points = opening + np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
        return cls(
            side=side,
            lids=np.array([*upper, *lower]),
            layers=layers,
            frame_points=points,
            roi=roi,
            plate_corner=np.array([box.left, box.top], np.float64),
            unit=plate.rest.scale,
            rest_rotation=plate.rest.rotation,
            still=plate.rest.apply(points)[:, :2] - (roi.left, roi.top),
        )

    def frame(self, screen: F32, head: Head, closing: float, gaze: Array) -> EyeFrame:
        """Where the eye is now."""
        lids = screen[self.lids, :2].astype(np.float64)
        upper, lower = lids[: len(self.lids) // 2], lids[len(self.lids) // 2 :]
        axis = upper[-1] - upper[0]
        width = float(np.linalg.norm(axis)) + 1e-6
        axis = axis / width
        offset = self.unit * TEXTURE_ZOOM * (self.rest_rotation[:2, :2] @ gaze)
        roi = (np.array([self.roi.left, self.roi.top]) - self.plate_corner) * TEXTURE_ZOOM
        return EyeFrame(
            origin_x=float(upper[0, 0]),
            origin_y=float(upper[0, 1]),
            axis_x=float(axis[0]),
            axis_y=float(axis[1]),
            width=width,
            upper=lid_curve(upper, upper[0], axis, width),
            lower=lid_curve(lower, upper[0], axis, width),
            unit=self.unit,
            closing=closing,
            outward=-1.0 if self.side == 0 else 1.0,
            ball_from_box=self._ball_from_box(head),
            gaze_x=float(offset[0]),
            gaze_y=float(offset[1]),
            roi_x=float(roi[0]),
            roi_y=float(roi[1]),
        )

    def _ball_from_box(self, head: Head) -> AffineMap:
        """Map of the rigid eyeball: pixels of the box -> texels of the layers."""
        still = self.still
        moved = head.project(self.frame_points)[:, :2] - self.plate_corner
        linear = (still[1:] - still[0]).T @ np.linalg.inv((moved[1:] - moved[0]).T)
        shift = still[0] - linear @ moved[0]
        return AffineMap(*(np.column_stack([linear, shift]) * TEXTURE_ZOOM).ravel().tolist())


# ---------------------------------------------------------------------------- cutting the layers


def _cut_layers(
    plate: Plate, roi: Box, upper: tuple[int, ...], lower: tuple[int, ...], iris: tuple[int, ...]
) -> EyeLayers:
    photo = enlarge_texture(np.ascontiguousarray(roi.cut(plate.image))).astype(np.float32)
    corner = np.array([roi.left, roi.top])
    texels = (plate.landmarks[:, :2] - corner) * TEXTURE_ZOOM
    outline = _outline(
        texels[list(upper)], texels[list(lower)], photo.shape, plate.rest.scale * TEXTURE_ZOOM
    )
    area = Box(0, 0, photo.shape[1], photo.shape[0])
    polygon = np.concatenate([outline.upper, outline.lower[-2:0:-1]])
    hole = polygon_mask(polygon, area)
    centre = texels[iris[0]]
    radius = float(np.linalg.norm(texels[list(iris[1:])] - centre, axis=1).mean())
    rows, columns = np.mgrid[0 : area.height, 0 : area.width].astype(np.float32)
    distance = np.hypot(columns - centre[0], rows - centre[1])
    radius = _limbus(photo.mean(2), hole, distance, radius)
    outside_iris = _outside_iris(photo.mean(2), hole, distance, radius, outline)
    sclera = _sclera(photo, hole, outside_iris, outline)
    lid = _lid_skin(photo, outline)
    lashes, line = _lashes(photo, lid, outline)
    return EyeLayers(
        sclera=sclera,
        iris=_iris(photo, sclera, hole, distance, radius),
        lid=lid,
        lashes=lashes,
        line=line,
    )


def _outline(upper: Array, lower: Array, shape: tuple[int, ...], unit: float) -> _Outline:
    axis = upper[-1] - upper[0]
    width = float(np.linalg.norm(axis)) + 1e-6
    axis = axis / width
    normal = np.array([-axis[1], axis[0]])
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    along = ((columns - upper[0, 0]) * axis[0] + (rows - upper[0, 1]) * axis[1]) / width
    across = (columns - upper[0, 0]) * normal[0] + (rows - upper[0, 1]) * normal[1]
    places = np.linspace(0, 1, CURVE_SAMPLES)
    high = np.interp(along, places, lid_curve(upper, upper[0], axis, width))
    low = np.interp(along, places, lid_curve(lower, upper[0], axis, width))
    return _Outline(
        upper=upper,
        lower=lower,
        along=along.astype(np.float32),
        above=(high - across).astype(np.float32),
        below=(across - low).astype(np.float32),
        width=width,
        unit=unit,
    )


def _sclera(photo: F32, hole: F32, outside_iris: NDArray[np.bool_], outline: _Outline) -> F32:
    """The white of the eye, filled in under the iris and the lids from what is seen of it near."""
    seen = ((hole > 0.5) & outside_iris).astype(np.float32)
    luma = photo.mean(2)
    shade = _lid_shade(luma, seen > 0, outline)
    filled = photo.reshape(-1, 3).mean(0)
    sigma = 0.10 * outline.width
    if int(seen.sum()) > 8:
        wide = 1.5 * sigma
        usual = blur(luma * seen, wide) / np.maximum(blur(seen, wide), 1e-3)
        filled = photo[(seen > 0) & (luma >= np.median(luma[seen > 0]))].mean(0)
        seen = np.where(luma < SHADED_WHITE * usual, 0.05 * seen, seen)
    for reach in (4 * sigma, 2 * sigma, sigma):
        weighted = blur(photo * seen[..., None], reach) + 0.02 * filled
        filled = weighted / (blur(seen, reach) + np.float32(0.02))[..., None]
    keep = np.maximum(hole, 0) * outside_iris
    keep = np.minimum(blur(keep.astype(np.float32), 1.6), keep)[..., None]
    return (photo * keep + filled * shade[..., None] * (1 - keep)).astype(np.float32)


def _lid_shade(luma: F32, seen: NDArray[np.bool_], outline: _Outline) -> F32:
    """Share of light (h, w) that the upper lid leaves to the white, by what is ``seen`` of it."""
    reach = LID_SHADOW_LENGTH * outline.unit
    band = seen & (outline.above > -reach)
    free = seen & (outline.above < -1.5 * reach)
    if int(band.sum()) < 8 or int(free.sum()) < 8:
        return np.ones_like(luma)
    dark = 1 - float(np.median(luma[band]) / np.median(luma[free]))
    depth = np.clip(dark / (1 - np.exp(-1)), 0, DARKEST_SHADE)
    return (1 - depth * np.exp(np.minimum(outline.above, 0) / reach)).astype(np.float32)


def _outside_iris(
    luma: F32, hole: F32, distance: F32, radius: float, outline: _Outline
) -> NDArray[np.bool_]:
    """Where the white is seen (h, w): off the iris's disc, and none of its rim next to it.

    A rim is darker than the white on its own side, and a white in shadow is none; nor is the
    shadow under the upper lid.
    """
    outside: NDArray[np.bool_] = distance > 1.12 * radius
    open_, inner = hole > 0.8, distance < 0.8 * radius
    if int((open_ & inner).sum()) < 8:
        return outside
    dark, middle = np.median(luma[open_ & inner]), outline.along[inner].mean()
    rim = np.zeros_like(outside)
    for side in (outline.along < middle, outline.along >= middle):
        white = luma[open_ & outside & side]
        if len(white) >= 8:
            rim |= side & (luma < 0.5 * (np.percentile(white, 70) + dark))
    rim &= (distance < RIM_REACH * radius) & (hole > 0.5)
    rim &= outline.above < -LID_SHADOW_LENGTH * outline.unit
    size = 1 + 2 * max(1, round(0.08 * radius))
    widened = cv2.dilate(rim.astype(np.uint8), np.ones((size, size), np.uint8))
    outside[widened > 0] = False
    return outside


def _limbus(luma: F32, hole: F32, distance: F32, radius: float) -> float:
    """Radius in texels at which dark turns to white, near that of the landmarks.

    Painted and drawn irises are often larger than the landmarks say.
    """
    radii = np.arange(max(1, int(0.85 * radius)), int(1.55 * radius) + 2)
    seen = hole > 0.8
    profile = np.full(len(radii), np.nan)
    for k, ring in enumerate(radii):
        inside = seen & (np.abs(distance - ring) < 1.0)
        if int(inside.sum()) >= 6:
            profile[k] = luma[inside].mean()
    step = max(1, round(0.1 * radius))
    rise = profile[2 * step :] - profile[: -2 * step]
    if not np.isfinite(rise).any() or np.nanmax(rise) < 12.0:
        return radius
    return float(radii[int(np.nanargmax(rise)) + step])


def _iris(photo: F32, sclera: F32, hole: F32, distance: F32, radius: float) -> F32:
    """(h, w, 4): over the sclera it gives back the photograph exactly where the eye is open."""
    visible = hole > 0.9
    count = int(1.5 * radius) + 3
    rings = np.zeros((count, 3), np.float32)
    for ring in range(count):
        inside = visible & (np.abs(distance - ring) < 1.5)
        if int(inside.sum()) > 3:
            rings[ring] = np.median(photo[inside], axis=0)
        else:
            rings[ring] = rings[ring - 1] if ring else sclera.mean((0, 1)) * 0.3
    completed = rings[np.clip(distance, 0, count - 1).astype(np.intp)]
    alpha = np.clip((1.03 * radius - distance) / (0.12 * radius + 1.6) + 0.5, 0, 1)[..., None]
    shown = blur((hole > 0.8).astype(np.float32), 1.5)[..., None]
    whole = photo * shown + (completed * alpha + sclera * (1 - alpha)) * (1 - shown)
    near = (1 - smoothstep(RIM_REACH * radius, 1.2 * RIM_REACH * radius, distance))[..., None]
    added = (whole - sclera * (1 - alpha)) * near
    return np.concatenate([added, alpha * near], axis=2).astype(np.float32)


def _lid_skin(photo: F32, outline: _Outline) -> F32:
    """Skin of the upper lid without lashes: that from above the eye, stretched down to its edge."""
    unit = outline.unit
    band = LID_HEIGHT * unit * float(np.clip(outline.width / (0.34 * unit), 0.7, 1.2))
    luma = photo.mean(2)
    band = _height_below_brow(luma, outline, band)
    weight = _clear_skin(luma, outline, band)
    sigma = 0.10 * unit
    smooth = blur(photo * weight[..., None], sigma) / (blur(weight, sigma) + 1e-4)[..., None]
    stretched = _stretched_skin(photo, outline, band)
    rise = np.clip((outline.above / band), 0, 1)
    shade = (LID_SHADE + (1 - LID_SHADE) * np.sin(np.pi * np.minimum(rise, 0.5)))[..., None]
    skin = (0.3 * smooth + 0.7 * stretched) * shade + _grain(photo, unit)
    height = 1 - smoothstep(0.75 * band, band, outline.above)
    inside = smoothstep(-0.02 * unit, 0.01 * unit, -outline.below)
    beside = smoothstep(-0.14, -0.03, outline.along) * (1 - smoothstep(1.03, 1.14, outline.along))
    dark = smoothstep(0.02, 0.12, 1 - luma / np.maximum(skin.mean(2), 1))
    near = 1 - smoothstep(0.5 * LASH_LENGTH * unit, LASH_LENGTH * unit, outline.above)
    amount = height * inside * beside * np.maximum(near, 0.45 + 0.3 * dark)
    soft = blur(amount.astype(np.float32), max(1.0, 0.012 * unit))[..., None]
    return np.clip(photo * (1 - soft) + skin * soft, 0, 255).astype(np.float32)


def _height_below_brow(luma: F32, outline: _Outline, most: float) -> float:
    """How far above the lid the skin is free of the brow, in texels, at most ``most``."""
    middle = (outline.along > 0.2) & (outline.along < 0.8)
    heights = np.linspace(0.45, 1.0, 12) * most
    profile = np.full(len(heights), np.nan)
    for k, height in enumerate(heights):
        row = middle & (np.abs(outline.above - height) < max(1.0, 0.03 * most))
        if row.any():
            profile[k] = np.median(luma[row])
    if np.isnan(profile).any():
        return most
    brightest = int(profile.argmax())
    dark = np.flatnonzero(profile[brightest:] < BROW_DARKNESS * profile[brightest])
    return float(heights[brightest + dark[0]]) if len(dark) else most


def _stretched_skin(photo: F32, outline: _Outline, band: float) -> F32:
    """The photograph (h, w, 3) with what lies over the lashes drawn down to the lid's edge."""
    unit = outline.unit
    foot = min(LASH_ROOM * unit, 0.6 * band)
    source = np.maximum(foot + outline.above * (1 - foot / band), 0.5 * foot)
    up = (source - outline.above) * (outline.above < band)
    axis = (outline.upper[-1] - outline.upper[0]) / outline.width
    rows, columns = np.mgrid[0 : photo.shape[0], 0 : photo.shape[1]].astype(np.float32)
    size = max(3, int(0.04 * unit) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    clear = cv2.morphologyEx(photo, cv2.MORPH_CLOSE, kernel)
    moved = cv2.remap(
        clear,
        (columns + up * axis[1]).astype(np.float32),
        (rows - up * axis[0]).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return blur(moved.astype(np.float32), max(1.0, 0.014 * unit))


def _clear_skin(luma: F32, outline: _Outline, band: float) -> F32:
    """Weight (h, w) of the skin around the eye from which the lid takes its shade."""
    unit = outline.unit
    weight = np.zeros(luma.shape, np.float32)
    over = (outline.above > band) & (outline.above < band + 0.07 * unit)
    under = (outline.below > 0.045 * unit) & (outline.below < 0.11 * unit)
    weight[over] = 1.0
    weight[under] = 0.35
    for area in (over, under):
        if int(area.sum()) > 10:
            weight[area & (luma < np.percentile(luma[area], 35))] *= 0.1
    return weight


def _grain(photo: F32, unit: float) -> F32:
    """Fine structure of the skin under the eye, moved up to the lid."""
    fine = photo - blur(photo, max(1.2, 0.012 * unit))
    shift = round(0.26 * unit)
    rows = np.arange(len(photo)) + shift
    rows = np.where(rows < len(photo), rows, 2 * (len(photo) - 1) - rows)
    limit = 2.0 * float(np.median(np.abs(fine))) + 1.0
    return np.clip(fine[np.clip(rows, 0, len(photo) - 1)], -limit, limit)


def _lashes(photo: F32, lid: F32, outline: _Outline) -> tuple[F32, F32]:
    """Lashes unrolled along the lid's edge, as the share of light they leave."""
    ratio = np.clip((photo + 2) / (np.maximum(lid, 1) + 2), 0.10, 1.0)
    along = np.linspace(-LASH_OVERHANG, 1 + LASH_OVERHANG, LASH_COLUMNS)
    above = np.linspace(0, LASH_LENGTH, LASH_ROWS) * outline.unit
    axis = (outline.upper[-1] - outline.upper[0]) / outline.width
    curve = lid_curve(outline.upper, outline.upper[0], axis, outline.width)
    height = np.interp(along, np.linspace(0, 1, CURVE_SAMPLES), curve)
    across = height[None] - above[:, None]
    x = outline.upper[0, 0] + along[None] * outline.width * axis[0] - across * axis[1]
    y = outline.upper[0, 1] + along[None] * outline.width * axis[1] + across * axis[0]
    lashes = cv2.remap(
        ratio.astype(np.float32),
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    ends = smoothstep(-LASH_OVERHANG, 0.02, along) * (
        1 - smoothstep(0.98, 1 + LASH_OVERHANG, along)
    )
    fade = (1 - smoothstep(0.6, 1.0, np.linspace(0, 1, LASH_ROWS)))[:, None] * ends[None]
    lashes = (1 - (1 - lashes) * fade[..., None]).astype(np.float32)
    root = max(2, round(LASH_ROWS * LINE_WIDTH * 1.3 / LASH_LENGTH))
    line = lashes[:root].min(0)
    return np.ascontiguousarray(lashes), np.ascontiguousarray(blur(line[None], 1.0)[0])
