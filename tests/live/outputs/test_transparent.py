"""Live pictures before a transparent background, and frames of a socket in all their kinds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from live_frames import SPACE, live_frames
from moda.live import LiveFrame, LiveHead
from moda.live.outputs import LiveMouth
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.serving.live.output import PipeOutput
from moda.serving.live.protocol import (
    ProtocolError,
    Start,
    read_control,
    unpack_frame,
)
from moda.structures import Background
from paths import PORTRAIT

SIZE = (64, 48)


class Parent:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def send(self, word: str, value: Any) -> None:
        self.said.append((word, value))


def sent(parent: Parent) -> np.ndarray:
    (data,) = [value for word, value in parent.said if word == "frame"]
    return cv2.imdecode(np.frombuffer(unpack_frame(data).jpeg, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="module")
def live() -> LiveFrame:
    """A head before nothing."""
    talking = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    frame = FrameOptions(size=96, background=Background(None))
    return LiveHead.of(talking, PORTRAIT, frame=frame).next_frame()


def test_a_head_before_nothing_is_sent_as_png_without_loss(live: LiveFrame) -> None:
    assert live.picture is not None
    assert live.picture.shape[2] == 4
    alpha = live.picture[:, :, 3]
    assert (alpha == 0).mean() > 0.1
    assert (alpha == 255).mean() > 0.3
    assert alpha[0, 0] == 0
    parent: Any = Parent()
    PipeOutput(parent, 80, "png").show(live)
    picture = sent(parent)[:, :, [2, 1, 0, 3]]
    assert np.array_equal(picture[alpha > 0], live.picture[alpha > 0])
    assert not picture[alpha == 0].any()


def test_webp_is_smaller_and_keeps_the_outline(live: LiveFrame) -> None:
    assert live.picture is not None
    sizes = {}
    for kind in ("png", "webp"):
        parent: Any = Parent()
        PipeOutput(parent, 85, kind).show(live)
        sizes[kind] = len(unpack_frame(parent.said[0][1]).jpeg)
    assert sizes["webp"] < sizes["png"] / 3
    picture, alpha = sent(parent)[:, :, [2, 1, 0, 3]], live.picture[:, :, 3:]
    assert np.array_equal(picture[:, :, 3:], alpha)
    difference = np.abs(picture[:, :, :3].astype(float) - live.picture[:, :, :3]) * (alpha / 255.0)
    assert difference.mean() < 4.0


def test_other_pictures_are_jpeg() -> None:
    (frame,) = live_frames(1, SIZE)
    assert frame.picture is not None
    parent: Any = Parent()
    PipeOutput(parent, 90, "jpeg").show(frame)
    assert sent(parent).shape == (48, 64, 3)
    assert parent.said[0][0] == "frame"


def test_a_mouth_in_the_place_of_pictures() -> None:
    (frame,) = live_frames(1, SIZE)
    parent: Any = Parent()
    PipeOutput(parent, 90, "mouth", LiveMouth(SPACE)).show(frame._replace(picture=None))
    (event, told), (_, data) = parent.said
    assert (event, told["type"], told["frame"], told["viseme"]) == ("event", "mouth", 0, "aa")
    assert unpack_frame(data).jpeg == b""


@pytest.mark.parametrize("picture", ["jpeg", "webp", "png", "mouth"])
def test_what_a_client_asks_for(picture: Any) -> None:
    text = f'{{"type":"start","picture":"{picture}"}}'
    assert read_control(text) == Start(picture=picture)


def test_other_kinds() -> None:
    with pytest.raises(ProtocolError, match="picture is none of jpeg, webp, png, mouth"):
        read_control('{"type":"start","picture":"gif"}')
