"""The embedded renderer: the photograph itself, warped as a face mesh. No network, CPU only.

Frame i depends on row i of the motion alone; the same row gives the same pixels, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from moda.errors import InputError
from moda.rendering.mesh.backdrop import clean_plate, person_matte, put_behind
from moda.rendering.mesh.eyes import EyePair
from moda.rendering.mesh.first_use import wait_until_compiled
from moda.rendering.mesh.folds import Folds
from moda.rendering.mesh.mouth import MouthInterior
from moda.rendering.mesh.outer_mesh import OVAL
from moda.rendering.mesh.plate import make_plate
from moda.rendering.mesh.retargeting import Retargeting
from moda.rendering.mesh.rig import build_rig
from moda.rendering.mesh.warp import (
    TEXTURE_ZOOM,
    bounds_around,
    enlarge_texture,
    last_warp,
    make_buffers,
    warp_texture,
)
from moda.structures import Background, Floats, Motion, MotionSpace, Part, Picture, Portrait
from moda.structures.landmarks import NUM_SURFACE

FOLDING_MARGIN = 0.25
"""Folds of the mesh end this far outside of the face's outline, in eye distances."""


class MeshRenderer:
    """Renders one portrait; see :class:`moda.structures.Renderer`.

    ``size`` is the longer side of the frame in pixels, even. ``full_frame`` renders the whole
    photograph, otherwise only what it has of a square around the head. With a ``background`` the
    person is cut out, by the portrait's mask and a mask of the whole picture, if it is known. A
    covered mouth is left as it is.
    Preparation takes about half a second. One thread at a time may render.
    """

    def __init__(
        self,
        portrait: Portrait,
        space: MotionSpace,
        *,
        size: int = 512,
        full_frame: bool = True,
        background: Background | None = None,
        whole_mask: Floats | None = None,
    ) -> None:
        if space.canonical_face is None or space.triangles is None or space.basis is None:
            raise InputError(
                f"the {space.name} motion space has no face mesh; the mesh renderer needs one"
            )
        self._space = space
        self._plate = make_plate(portrait, size=size, full_frame=full_frame)
        self._background = background
        if background is not None:
            self._cut_out(whole_mask)
        canonical_face = space.canonical_face.astype(np.float64)
        closing = portrait.neutral_keypoints - portrait.canonical_keypoints
        self._rig = build_rig(self._plate, closing[:NUM_SURFACE], canonical_face, space.triangles)
        self._retargeting = Retargeting(space, self._rig, self._plate)
        plate = self._plate = replace(self._plate, box=self._rig.box)
        self._mouth: MouthInterior | None = None
        base = plate.image
        if not portrait.mouth_covered:
            self._mouth = MouthInterior(plate.image, plate.landmarks, portrait, plate.rest)
            base = self._mouth.base_texture()
        self._texture = enlarge_texture(np.ascontiguousarray(plate.box.cut(base)))
        corner = np.array([plate.box.left, plate.box.top], np.float32)
        self._texels = ((self._rig.pixels - corner) * TEXTURE_ZOOM).astype(np.float32)
        if background is not None:
            coverage = np.repeat(plate.box.cut(self._matte)[:, :, None], 3, axis=2)
            self._matte_texture = enlarge_texture(np.ascontiguousarray(coverage))
        self._eyes = EyePair(plate, self._rig)
        unit = TEXTURE_ZOOM * plate.rest.scale
        self._buffers = make_buffers(plate.box.height, plate.box.width)
        self._folds = Folds(self._texture, self._texels, self._rig.photographed, unit)

    def _cut_out(self, whole_mask: Floats | None) -> None:
        """Find the person, and clean the rim of what was behind it."""
        plate = self._plate
        self._matte = person_matte(plate, whole_mask)
        self._plate = clean_plate(plate, self._matte)

    @property
    def space(self) -> MotionSpace:
        return self._space

    def photographed_mouth(self) -> Floats:
        """(M,) raw motion of the mouth that comes closest to the mouth of the photograph."""
        return self._retargeting.photographed_mouth()

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the frames, both even."""
        return self._plate.view.width, self._plate.view.height

    @property
    def moving(self) -> Part:
        """The part outside of which all frames are the same."""
        box, view = self._plate.box, self._plate.view
        return (
            slice(max(box.top - view.top, 0), min(box.bottom - view.top, view.height)),
            slice(max(box.left - view.left, 0), min(box.right - view.left, view.width)),
        )

    def render(self, motion: Motion) -> Iterator[Picture]:
        """Yield one new frame (H, W, 3) per row of ``motion``, in order, as it is asked for.

        With a transparent background it is (H, W, 4).
        """
        motion.require_space(self._space)
        return (self._draw(row) for row in motion.values)

    def _draw(self, row: Floats) -> Picture:
        plate, rig, texture, buffers = self._plate, self._rig, self._texture, self._buffers
        if self._mouth is None:
            row = row.copy()
            row[self._space.slice("mouth")] = 0.0
        geometry, closing, gaze = self._retargeting.geometry(row)
        screen = geometry.screen.copy()
        screen[:, :2] -= (plate.box.left, plate.box.top)
        folding = bounds_around(
            screen[OVAL], FOLDING_MARGIN * plate.rest.scale, plate.box.height, plate.box.width
        )
        if self._mouth is not None:
            self._folds.deepen(texture, geometry.shape)
        drawn = warp_texture(texture, screen, self._texels, rig.triangles, folding, buffers)
        self._eyes.draw(drawn, buffers, screen, geometry.head, closing, gaze)
        frame = plate.image.copy()
        plate.box.cut(frame)[:] = drawn
        if self._mouth is not None:
            wait_until_compiled()
            self._mouth.draw(frame, geometry)
        if self._background is None:
            return np.ascontiguousarray(plate.view.cut(frame))
        matte = self._matte.copy()
        plate.box.cut(matte)[:] = last_warp(self._matte_texture, buffers)[:, :, 0]
        return put_behind(plate.view.cut(frame), plate.view.cut(matte), self._background.colour)
