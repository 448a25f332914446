"""A virtual camera, with a double of the package that needs a driver."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from live_frames import live_frames
from moda.errors import MissingExtraError, OutputError
from moda.live.outputs import CameraOutput

SIZE = (64, 48)


class Camera:
    """As pyvirtualcam's, but for the driver."""

    def __init__(self, *, width: int, height: int, fps: float, device: str | None) -> None:
        if device == "none":
            raise RuntimeError("'v4l2loopback' backend: no device\nfor more see")
        self.width, self.height, self.fps = width, height, fps
        self.device = device or "/dev/video7"
        self.sent: list[np.ndarray] = []
        self.is_open = True

    def send(self, picture: np.ndarray) -> None:
        assert self.is_open
        assert picture.shape == (self.height, self.width, 3)
        assert picture.dtype == np.uint8
        self.sent.append(picture)

    def close(self) -> None:
        self.is_open = False


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))


def test_pictures_are_shown(double: None) -> None:
    output = CameraOutput(SIZE)
    frames = list(live_frames(5, SIZE, undrawn=(2,)))
    for frame in frames:
        output.show(frame)
    camera: Any = output._camera
    assert (output.device, camera.fps) == ("/dev/video7", 25.0)
    drawn = [frame.picture for frame in frames if frame.picture is not None]
    assert len(camera.sent) == len(drawn) == 4
    for sent, picture in zip(camera.sent, drawn, strict=True):
        assert np.array_equal(sent, picture)
    output.close()
    assert not camera.is_open


def test_no_driver(double: None) -> None:
    with pytest.raises(OutputError, match=r"no virtual camera \('v4l2.* no device\)"):
        CameraOutput(SIZE, device="none")


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingExtraError, match="pip install pyvirtualcam"):
        CameraOutput(SIZE)
