"""Motion of the mesh space as the 52 blend shapes of ARKit, for three-dimensional avatars.

Each amount is read from how far a few points of the face mesh have moved, in units of the distance
of the outer eye corners; :data:`FULL` says how far is 1. Lips add up: what the jaw opens, less
``mouthClose``, plus what the lips part, is the gap between the lips of the mesh.
"""

from __future__ import annotations

import numpy as np

from moda.errors import InputError
from moda.structures import Floats, Motion, MotionSpace
from moda.structures.landmarks import LEFT_BROW, RIGHT_BROW, Array

ARKIT_SHAPES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight",
    "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight", "jawForward",
    "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft",
    "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft",
    "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)  # fmt: skip
"""In Apple's order; left and right are the person's own. Some stay 0: nothing in the motion tells
of cheeks that are puffed, of the tongue, of a sneer, or of rolled and shrugged lips."""
FULL = {
    "jaw": 0.45, "press": 0.1, "lower": 0.12, "upper": 0.1, "smile": 0.06, "frown": 0.06,
    "spread": 0.08, "round": 0.09, "sideways": 0.08, "brow_down": 0.04, "brow_up": 0.05,
    "squint": 0.025, "wide": 0.25, "look": 0.08,
}  # fmt: skip
"""How far a point moves where an amount is 1: in outer-eye distances, lids in parts of a blink."""
LIP_PER_CHIN = 1.8
"""The lower lip goes this much further than the chin where only the jaw moves; the landmarks of
a chin follow the outline of the face, which gives way less."""
CORNER_PER_CHIN = 0.32
"""What an opening jaw pulls the corners of the mouth down, in its own way."""
OPEN_GAP = 0.15
"""From this gap on round lips are a funnel, below they are a pucker."""
SIDES = ("Left", "Right")
_POINTS = {
    "chin": (152,),
    "upper_left": (312, 311), "upper_right": (82, 81), "upper": (13,),
    "lower_left": (317, 402), "lower_right": (87, 178), "lower": (14,),
    "corner_left": (291,), "corner_right": (61,),
    "brow_left": LEFT_BROW, "brow_right": RIGHT_BROW, "brows_inner": (55, 107, 285, 336),
    "brow_outer_left": (300, 276), "brow_outer_right": (70, 46),
    "cheek_left": (280, 330), "cheek_right": (50, 101),
}  # fmt: skip


class BlendShapes:
    """Reads the amounts of :data:`ARKIT_SHAPES` from motion.

    Raises:
        InputError: The motion is not of the mesh space.
    """

    def __init__(self, space: MotionSpace) -> None:
        if space.basis is None:
            raise InputError(
                f"blend shapes are read from motion of the mesh space, not of the {space.name} "
                "space; choose the model moda-tiny"
            )
        self._space = space
        self._basis = {name: space.basis[:, list(p)].mean(1) for name, p in _POINTS.items()}
        self._size = len(space.basis)

    def __call__(self, motion: Motion) -> Floats:
        """Amounts (T, 52) in 0..1 of motion of T frames."""
        motion.require_space(self._space)
        values = motion.values[:, : self._size].astype(np.float64)
        moved = {name: values @ basis for name, basis in self._basis.items()}  # (T, 3) each
        right = {name: offset[:, 0] for name, offset in moved.items()}
        down = {name: offset[:, 1] for name, offset in moved.items()}
        amounts = self._lips(right, down) | self._brows(down)
        amounts |= self._eyes(motion.part("blink"), motion.part("gaze"))
        columns = [amounts.get(name, np.zeros(len(motion))) for name in ARKIT_SHAPES]
        return np.clip(np.stack(columns, axis=1) + 0.0, 0.0, 1.0).astype(np.float32)

    def _lips(self, right: dict[str, Array], down: dict[str, Array]) -> dict[str, Array]:
        jaw = np.maximum(LIP_PER_CHIN * down["chin"], 0.0)
        below, above = down["lower"] - jaw, -down["upper"]
        closing = -(np.minimum(below, 0.0) + np.minimum(above, 0.0))
        gap = np.maximum(down["lower"] - down["upper"], 0.0)
        outward = {"Left": right["corner_left"], "Right": -right["corner_right"]}
        rounded = -(outward["Left"] + outward["Right"]) / (2 * FULL["round"])
        is_open = np.clip(gap / OPEN_GAP, 0.0, 1.0)
        shift = (right["corner_left"] + right["corner_right"]) / (2 * FULL["sideways"])
        amounts = {
            "jawOpen": jaw / FULL["jaw"],
            "jawLeft": right["chin"] / FULL["sideways"],
            "jawRight": -right["chin"] / FULL["sideways"],
            "mouthClose": np.minimum(closing, jaw) / FULL["jaw"],
            "mouthFunnel": rounded * is_open,
            "mouthPucker": rounded * (1.0 - is_open),
            "mouthLeft": shift,
            "mouthRight": -shift,
        }
        pressed = (closing - jaw) / FULL["press"]
        for side in SIDES:
            end = side.lower()
            corner_up = CORNER_PER_CHIN * down["chin"] - down[f"corner_{end}"]
            smile = np.clip(corner_up / FULL["smile"], 0.0, 1.0)
            amounts |= {
                f"mouthSmile{side}": smile,
                f"mouthFrown{side}": -corner_up / FULL["frown"],
                f"mouthStretch{side}": outward[side] / FULL["spread"] - smile,
                f"mouthPress{side}": pressed,
                f"mouthLowerDown{side}": (down[f"lower_{end}"] - jaw) / FULL["lower"],
                f"mouthUpperUp{side}": -down[f"upper_{end}"] / FULL["upper"],
            }
        return amounts

    def _brows(self, down: dict[str, Array]) -> dict[str, Array]:
        amounts = {"browInnerUp": -down["brows_inner"] / FULL["brow_up"]}
        for side in SIDES:
            end = side.lower()
            amounts |= {
                f"browDown{side}": down[f"brow_{end}"] / FULL["brow_down"],
                f"browOuterUp{side}": -down[f"brow_outer_{end}"] / FULL["brow_up"],
                f"cheekSquint{side}": -down[f"cheek_{end}"] / FULL["squint"],
            }
        return amounts

    def _eyes(self, blink: Floats, gaze: Floats) -> dict[str, Array]:
        to_left, downward = (gaze / FULL["look"]).T.astype(np.float64)
        amounts = {
            "eyeLookOutLeft": to_left, "eyeLookInRight": to_left,
            "eyeLookInLeft": -to_left, "eyeLookOutRight": -to_left,
        }  # fmt: skip
        for side, lid in zip(("Right", "Left"), blink.T.astype(np.float64), strict=True):
            amounts |= {
                f"eyeBlink{side}": lid,
                f"eyeWide{side}": -lid / FULL["wide"],
                f"eyeLookDown{side}": downward,
                f"eyeLookUp{side}": -downward,
            }
        return amounts
