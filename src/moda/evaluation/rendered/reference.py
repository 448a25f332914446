"""Reference measures of a renderer: one fixed motion on still portraits, seen on the frames.

The motion is the same for every portrait and version of the model, and goes as far as a lively
speaker does. What is measured has been tracked or compared on finished frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.encoders.tracking import track_frames
from moda.evaluation.rendered.background import background_motion, border_stripes
from moda.evaluation.rendered.filming import SeenFace, see_face
from moda.evaluation.rendered.reenactment import region_masks
from moda.evaluation.rendered.steadiness import bending, flicker
from moda.rendering.mesh.renderer import MeshRenderer
from moda.rendering.placing import invert_affine
from moda.structures import FRAMES_PER_SECOND, Floats, Motion, MotionSpace, Picture, Portrait
from moda.structures.landmarks import MOUTH_CORNERS, Array, eye_distance, lip_gaps

SECONDS = 4.0
SYLLABLE_SECONDS = 0.4
GAPS = (0.06, 0.12, 0.20, 0.28, 0.16)
"""How far the lips part in one syllable after another, in outer-eye distances."""
WIDTHS = (0.03, -0.05, 0.0, 0.04)
"""What is added to the width of the mouth at the middle of one syllable after another."""
YAW, PITCH, ROLL = 9.0, 4.0, 4.0
"""Degrees by which the head turns to either side."""
SIDEWAYS = 0.08
"""How far the head moves to either side, in outer-eye distances."""
BLINKS_AT = (1.1, 2.7)
"""Middle of each blink in seconds; it takes a quarter of a second."""
ASKED_CLOSED = 0.004
"""A gap below it is asked to be closed, in outer-eye distances."""
NUM_BENDING_FRAMES = 8
"""The frames whose head is turned most."""
BACKGROUND_STEP, FLICKER_FRAMES = 4, 40
"""Every how many frames the background is looked at, and how many of the first for flicker."""
FACE_MARGIN = 0.1
"""How far from the face's outline flicker is looked for, in outer-eye distances."""


@dataclass(frozen=True)
class PictureFaults:
    """What is seen of one portrait in the reference motion.

    Lengths are in outer-eye distances. A share kept is the spread seen over the spread asked for.
    """

    background: float
    """90th percentile of the background's motion, whole picture; NaN where it is flat"""
    background_crop: float
    stripes: float
    """largest share of a border that shows repeated pixels, beyond that of the photograph"""
    stripes_crop: float
    gap_kept: float
    gap_correlation: float
    width_kept: float
    width_correlation: float
    yaw_kept: float
    pitch_kept: float
    roll_kept: float
    closed_gap: float
    """median gap seen where the motion asks for closed lips"""
    bending: float
    """of the hair over the upper line of the face, see :func:`steadiness.bending`"""
    flicker: float
    """of the face, grey levels of 255, see :func:`steadiness.flicker`"""

    def row(self, name: str) -> str:
        """A line of a Markdown table."""
        return f"| {name} | " + " | ".join(f"{v:.3f}" for v in asdict(self).values()) + " |"


def table_head() -> str:
    """The first two lines of a Markdown table of :meth:`PictureFaults.row`."""
    names = [name.replace("_", " ") for name in PictureFaults.__dataclass_fields__]
    return f"| portrait | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}"


def reference_motion(space: MotionSpace) -> Motion:
    """100 frames in the mesh space that begin at rest: syllables, a turning head, two blinks."""
    seconds = np.arange(round(SECONDS * FRAMES_PER_SECOND)) / FRAMES_PER_SECOND
    motion = np.repeat(space.rest[None], len(seconds), 0)
    lips = np.stack(_asked_lips(seconds), 1)
    motion[:, space.slice("mouth")] = lips @ _mouth_for_lips(space).T
    turn = 2.0 * np.pi * seconds / SECONDS
    motion[:, space.slice("yaw")] = YAW * np.sin(turn)[:, None]
    motion[:, space.slice("pitch")] = PITCH * np.sin(3.0 * turn)[:, None]
    motion[:, space.slice("roll")] = ROLL * np.sin(2.0 * turn)[:, None]
    motion[:, space.slice("translation")][:, 0] = SIDEWAYS * np.sin(turn)
    blink = sum(np.clip(1.0 - np.abs(seconds - middle) / 0.125, 0.0, 1.0) for middle in BLINKS_AT)
    motion[:, space.slice("blink")] = np.asarray(blink)[:, None]
    return Motion(motion.astype(np.float32), space)


def measure_picture(
    picture: Picture, models: FaceModels, space: MotionSpace, *, size: int = 512
) -> tuple[PictureFaults, list[Picture]]:
    """Animate a portrait (H, W, 3) by the reference motion and measure the frames.

    Returns the figures and eight frames of the whole picture, for a sheet.

    Raises:
        FaceError: no face is found in the picture or in its frames.
    """
    motion = reference_motion(space)
    portrait = encode_portrait(picture, space, models=models)
    whole, crop = (
        list(MeshRenderer(portrait, space, size=size, full_frame=full).render(motion))
        for full in (True, False)
    )
    seen = see_face(track_frames(crop, models).landmarks)
    first = encode_portrait(whole[0], space, models=models)
    turned = np.argsort(-np.abs(motion.part("yaw")[:, 0]))[:NUM_BENDING_FRAMES]
    bends = [bending(whole[0], whole[index], first.landmarks) for index in turned]
    faults = PictureFaults(
        background=_background(whole, first, models),
        background_crop=_background(crop, encode_portrait(crop[0], space, models=models), models),
        stripes=_new_stripes(whole),
        stripes_crop=_new_stripes(crop),
        **_kept(motion, seen),
        bending=float(np.median(bends)),
        flicker=flicker(whole[:FLICKER_FRAMES], _still_skin(first)),
    )
    return faults, whole[6::12]


def _asked_lips(seconds: Array) -> tuple[Array, Array]:
    """Lip gap and change of the width (T,), in outer-eye distances; both begin and end at rest."""
    syllable = (seconds / SYLLABLE_SECONDS).astype(int)
    opening = 0.5 - 0.5 * np.cos(2.0 * np.pi * seconds / SYLLABLE_SECONDS)
    gap = np.array(GAPS)[syllable % len(GAPS)] * opening
    return gap, np.array(WIDTHS)[syllable % len(WIDTHS)] * opening


def _mouth_for_lips(space: MotionSpace) -> Array:
    """(M, 2) most probable mouth parameters for a unit of the lip gap and of the lip width.

    Parameters are taken as independent and normal with the deviations of the space, without its
    mean: the conditional mean of a Gaussian, ``S B^T (B S B^T)^-1``.
    """
    assert space.basis is not None
    assert space.canonical_face is not None
    mouth = space.slice("mouth")
    basis = space.basis[mouth].astype(np.float64)
    right, left = MOUTH_CORNERS
    lips = np.stack([lip_gaps(basis)[:, 4], basis[:, left, 0] - basis[:, right, 0]])
    lips /= eye_distance(space.canonical_face.astype(np.float64))
    spread = np.diag(space.std[mouth].astype(np.float64) ** 2)
    return spread @ lips.T @ np.linalg.inv(lips @ spread @ lips.T)


def _kept(motion: Motion, seen: SeenFace) -> dict[str, float]:
    """Shares kept, correlations and the closed gap, by their names in :class:`PictureFaults`."""
    gap, width = _asked_lips(np.arange(len(motion)) / FRAMES_PER_SECOND)
    pitch, yaw, roll = (motion.part(name)[:, 0] for name in ("pitch", "yaw", "roll"))

    def kept(asked: Floats | Array, found: Array) -> float:
        return float(found.std() / asked.std())

    return {
        "gap_kept": kept(gap, seen.gap),
        "gap_correlation": float(np.corrcoef(gap, seen.gap)[0, 1]),
        "width_kept": kept(width, seen.width),
        "width_correlation": float(np.corrcoef(width, seen.width)[0, 1]),
        "yaw_kept": kept(yaw, seen.angles[:, 1]),
        "pitch_kept": kept(pitch, seen.angles[:, 0]),
        "roll_kept": kept(roll, seen.angles[:, 2]),
        "closed_gap": float(np.median(seen.gap[gap < ASKED_CLOSED])),
    }


def _background(frames: Sequence[Picture], first: Portrait, models: FaceModels) -> float:
    """Motion of what is neither in the mask of the head nor in that of the whole picture."""
    height, width = first.image.shape[:2]
    image_from_crop = invert_affine(first.crop_from_image)
    near = cv2.warpAffine(
        first.person_mask, image_from_crop, (width, height), borderMode=cv2.BORDER_REPLICATE
    )
    person = np.maximum(near, models.person_mask(first.image)).astype(np.float32)
    return background_motion(
        frames[::BACKGROUND_STEP], person, float(eye_distance(first.landmarks))
    ).largest


def _new_stripes(frames: Sequence[Picture]) -> float:
    """Striped share of a border in the worst frame beyond that of the first."""
    return max(border_stripes(frame) for frame in frames) - border_stripes(frames[0])


def _still_skin(first: Portrait) -> NDArray[np.bool_]:
    """(H, W) the face without the mouth, a little inside its outline, for the head moves."""
    face, mouth = region_masks(first.landmarks[:, :2], first.image.shape[:2])
    margin = max(1, round(FACE_MARGIN * float(eye_distance(first.landmarks))))
    inner = cv2.erode(face.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    return (inner > 0) & ~mouth
