"""Eyes that look aside: what the iris leaves behind is the white as it is seen on that side."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from moda.encoders.face import FaceModels
from moda.encoders.portrait import encode_portrait
from moda.media import read_image
from moda.rendering.mesh.renderer import MeshRenderer
from moda.structures import Motion, MotionSpace, Picture, Portrait
from moda.structures.landmarks import (
    LEFT_EYE_LOWER,
    LEFT_EYE_UPPER,
    LEFT_IRIS,
    RIGHT_EYE_LOWER,
    RIGHT_EYE_UPPER,
    RIGHT_IRIS,
)
from paths import EXAMPLES

MakeMotion = Callable[..., Motion]
EYES = (
    (RIGHT_EYE_UPPER, RIGHT_EYE_LOWER, RIGHT_IRIS),
    (LEFT_EYE_UPPER, LEFT_EYE_LOWER, LEFT_IRIS),
)
ASIDE = 0.028
"""About the largest gaze of talking people, canonical units."""


VARIANTS: dict[str, Callable[[Picture], Picture]] = {
    "as painted": lambda picture: picture,
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "dark": lambda picture: (picture * 0.55).astype(np.uint8),
    "lit from the right": lambda picture: (
        picture * np.linspace(0.3, 1, picture.shape[1])[:, None]
    ).astype(np.uint8),
}
"""One of her eyes has its outer corner in deep shadow."""


def opening(portrait: Portrait, eye: int) -> NDArray[np.bool_]:
    upper, lower, _ = EYES[eye]
    outline = portrait.landmarks[[*upper, *lower[::-1]], :2]
    mask = np.zeros(portrait.image.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    return cv2.erode(mask, np.ones((2, 2), np.uint8)) > 0


def looking(portrait: Portrait, space: MotionSpace, make_motion: MakeMotion) -> list[Picture]:
    """The eyes straight ahead, then to one side and to the other."""
    size = max(portrait.image.shape[:2]) // 2 * 2
    renderer = MeshRenderer(portrait, space, size=size)
    motions = [make_motion(gaze=(gaze, 0.0)) for gaze in (0.0, ASIDE, -ASIDE)]
    return [next(iter(renderer.render(motion))) for motion in motions]


def sides(portrait: Portrait, eye: int) -> list[NDArray[np.bool_]]:
    """The opening left and right of the iris's middle."""
    columns = np.arange(portrait.image.shape[1])[None]
    middle = portrait.landmarks[EYES[eye][2][0], 0]
    return [opening(portrait, eye) & side for side in (columns < middle, columns > middle)]


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_a_white_in_shadow_stays_in_shadow(
    space: MotionSpace, models: FaceModels, make_motion: MakeMotion, variant: str
) -> None:
    picture = VARIANTS[variant](read_image(EXAMPLES / "portraits" / "mona_lisa.jpg"))
    portrait = encode_portrait(picture, space, models=models)
    still, *aside = (picture.mean(2) for picture in looking(portrait, space, make_motion))
    for eye in range(2):
        for part in sides(portrait, eye):
            for moved in aside:
                assert np.percentile(moved[part], 98) < np.percentile(still[part], 98) + 15
                assert moved[part].min() > still[part].min() - 12
