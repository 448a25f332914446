"""One real photograph, the face models and the packaged motion space, shared by the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moda.checkpoints import load_motion_space
from moda.encoders.face import FaceModels
from moda.structures import MotionSpace, Picture

PHOTOGRAPH = Path(__file__).parents[1] / "examples" / "portrait.jpg"


@pytest.fixture(scope="session")
def photograph() -> Picture:
    """(512, 512, 3) RGB, one frontal smiling face of about 110 px: Eileen Collins, NASA."""
    image = cv2.imread(str(PHOTOGRAPH), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@pytest.fixture(scope="session")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="session")
def space() -> MotionSpace:
    return load_motion_space()
