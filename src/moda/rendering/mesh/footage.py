"""New lips on footage: every frame is its own texture, only the lower face is warped.

The mesh is prepared once, on a frame with a closed mouth. In every other frame the same mesh lies
where the landmarks of that frame are; what the speaker's mouth does there is taken out, what it
should do is put in, and the inside of the mouth is painted. Nothing above the nose and outside of
the box around the head changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from moda.rendering.mesh.geometry import FrameGeometry, Head, smoothstep
from moda.rendering.mesh.lips import open_share, paint_over_mouth
from moda.rendering.mesh.mouth import MouthInterior
from moda.rendering.mesh.outer_mesh import OVAL
from moda.rendering.mesh.plate import make_plate
from moda.rendering.mesh.renderer import FOLDING_MARGIN
from moda.rendering.mesh.retargeting import Retargeting
from moda.rendering.mesh.rig import build_rig
from moda.rendering.mesh.warp import (
    TEXTURE_ZOOM,
    bounds_around,
    enlarge_texture,
    make_buffers,
    warp_texture,
)
from moda.rendering.placing import Box
from moda.structures import Floats, Motion, MotionSpace, Picture, Portrait
from moda.structures.landmarks import NUM_SURFACE, Array, Similarity

FACE_BEGINS, MOUTH_BEGINS = 0.28, 0.5
"""Canonical heights between which the frame's own face passes into the one without its speech."""


class FootageRenderer:
    """Draws the lower face of one person into frames of one video.

    Args:
        reference: a frame with a closed mouth, as a portrait; frames have its size.
        space: the mesh motion space.
        tooth_colour: (3,) as frames with an open mouth show it.
    """

    def __init__(
        self, reference: Portrait, space: MotionSpace, tooth_colour: Floats | None = None
    ) -> None:
        assert space.canonical_face is not None
        assert space.triangles is not None
        self._space, self._reference = space, reference
        height, width = reference.image.shape[:2]
        plate = make_plate(reference, size=max(width, height), full_frame=True)
        canonical_face = space.canonical_face.astype(np.float64)
        closing = (reference.neutral_keypoints - reference.canonical_keypoints)[:NUM_SURFACE]
        self._rig = build_rig(plate, closing, canonical_face, space.triangles)
        self._retargeting = Retargeting(space, self._rig, plate)
        self._mouth = MouthInterior(
            plate.image, plate.landmarks, reference, plate.rest, tooth_colour
        )
        self._rest = plate.rest
        self._expression = slice(0, len(self._retargeting.basis))
        self._mouth_part = space.slice("mouth")
        self._lower = smoothstep(FACE_BEGINS, MOUTH_BEGINS, canonical_face[:, 1])[:, None]
        self._box_size = plate.box.width, plate.box.height
        self._buffers = make_buffers(plate.box.height, plate.box.width)

    @property
    def space(self) -> MotionSpace:
        return self._space

    @property
    def frame_size(self) -> tuple[int, int]:
        """(width, height) of the frames, both even."""
        height, width = self._reference.image.shape[:2]
        return width, height

    @property
    def moving(self) -> None:
        """Not known: footage moves everywhere."""

    def render(self, motion: Motion) -> Iterator[Picture]:
        """The reference frame with the mouth of every row of ``motion``."""
        motion.require_space(self._space)
        reference = self._reference
        for row in motion.values:
            yield self.draw(
                reference.image, reference.landmarks, self._rest, reference.neutral_keypoints, row
            )

    def draw(
        self, picture: Picture, landmarks: Array, pose: Similarity, neutral: Array, row: Floats
    ) -> Picture:
        """One frame (H, W, 3) with other lips.

        Args:
            picture: the frame as it was filmed.
            landmarks: (478, 3) px.
            pose: canonical coordinates to px.
            neutral: (478, 3) canonical face with a mouth at rest.
            row: (D,) motion of the mesh space, of which the mouth is taken.
        """
        box = self._box(landmarks, picture)
        face = pose.invert(landmarks)
        resting = face + self._lower * (neutral - face)
        outer = pose.apply(self._rig.outer)
        rig = replace(
            self._rig,
            photographed=face[:NUM_SURFACE],
            neutral=resting[:NUM_SURFACE],
            pixels=np.concatenate([landmarks[:NUM_SURFACE, :2], outer[:, :2]]),
        )
        parameters = np.zeros(self._expression.stop)
        parameters[self._mouth_part] = row[self._mouth_part]
        shape = self._retargeting.face_on(rig, parameters)
        still = Head(pose, rig.pivot, np.eye(3), np.zeros(3))
        screen = rig.project(shape, still)
        base, filmed_open = picture, open_share(face)
        if filmed_open > 0.0:
            base = paint_over_mouth(picture, landmarks, pose.scale, filmed_open)
        texture = enlarge_texture(np.ascontiguousarray(box.cut(base)))
        corner = np.array([box.left, box.top], np.float32)
        local = screen.copy()
        local[:, :2] -= corner
        texels = ((rig.pixels - corner) * TEXTURE_ZOOM).astype(np.float32)
        folding = bounds_around(local[OVAL], FOLDING_MARGIN * pose.scale, box.height, box.width)
        drawn = warp_texture(texture, local, texels, rig.triangles, folding, self._buffers)
        frame = picture.copy()
        box.cut(frame)[:] = self._below(picture, drawn, box, pose)
        self._mouth.draw(frame, FrameGeometry(shape, screen, self._scaled_head(pose)), filmed_open)
        return frame

    def _box(self, landmarks: Array, picture: Picture) -> Box:
        """The box of fixed size around the head of a frame, inside of the picture."""
        height, width = picture.shape[:2]
        centre = 0.5 * (landmarks[OVAL, :2].min(0) + landmarks[OVAL, :2].max(0))
        left = int(np.clip(round(centre[0] - self._box_size[0] / 2), 0, width - self._box_size[0]))
        top = int(np.clip(round(centre[1] - self._box_size[1] / 2), 0, height - self._box_size[1]))
        return Box(left, top, left + self._box_size[0], top + self._box_size[1])

    def _below(self, picture: Picture, drawn: Picture, box: Box, pose: Similarity) -> Picture:
        """What is drawn, with the frame's own pixels above the nose.

        The warp leaves them in place; sampled anew they would be a little softer.
        """
        rows = np.arange(box.top, box.bottom)[:, None] - pose.translation[1]
        columns = np.arange(box.left, box.right)[None] - pose.translation[0]
        down = pose.rotation[:2, 1]
        height = (columns * down[0] + rows * down[1]) / pose.scale
        share = smoothstep(0.1, 0.25, height)[..., None]
        mixed = box.cut(picture) * (1.0 - share) + drawn * share
        return np.round(mixed).astype(np.uint8)

    def _scaled_head(self, pose: Similarity) -> Head:
        """The same projection with the size of the reference, by which the mouth's is known."""
        scale = pose.scale / self._rest.scale
        rest = Similarity(self._rest.scale, pose.rotation, pose.translation)
        pivot = self._rig.pivot
        return Head(rest, pivot, np.eye(3), -pivot * (1.0 - scale), scale)
