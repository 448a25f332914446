"""Portraits from files that hold more or less than one picture of a face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from moda.errors import FaceError, InputError
from moda.options import FrameOptions, VideoOptions
from moda.pipeline import TalkingHead
from moda.pipeline.jobs import VideoJob
from moda.structures import Motion, Picture
from moda.systems.portraits import prepare_portrait
from paths import PORTRAIT, SPEECH


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_picture_with_a_face_is_used(
    head: TalkingHead, photograph: Picture, tmp_path: Path, suffix: str
) -> None:
    face = Image.fromarray(photograph)
    dark, grey = (Image.new("RGB", face.size, (level,) * 3) for level in (0, 90))
    path = tmp_path / f"fades.{suffix}"
    dark.save(path, save_all=True, append_images=[grey, face], duration=100)
    actor = prepare_portrait(head.system, path, FrameOptions(size=128))
    assert "picture 3 of the animation is used" in actor.notes[0]
    (frame,) = actor.renderer.render(_at_rest(head))
    assert frame.mean() > 40
    plain = prepare_portrait(head.system, PORTRAIT, FrameOptions(size=128))
    assert not any("animation" in note for note in plain.notes)


def test_no_picture_of_an_animation_shows_a_face(head: TalkingHead, tmp_path: Path) -> None:
    path = tmp_path / "dark.gif"
    dark = [Image.new("RGB", (128, 128), (n, n, n)) for n in (0, 9)]
    dark[0].save(path, save_all=True, append_images=dark[1:])
    with pytest.raises(FaceError, match="no face found in the picture of 128 x 128"):
        prepare_portrait(head.system, path, FrameOptions())


def test_a_gif_is_not_asked_for_more_pictures_than_it_shows(tmp_path: Path) -> None:
    job = VideoJob(PORTRAIT, tmp_path / "a.gif", SPEECH, VideoOptions(frames_per_second=60.0))
    with pytest.raises(InputError, match="at most 50 pictures a second, not 60; choose --fps 50"):
        job.check()
    VideoJob(PORTRAIT, tmp_path / "a.gif", SPEECH, VideoOptions(frames_per_second=50.0)).check()
    VideoJob(PORTRAIT, tmp_path / "a.mp4", SPEECH, VideoOptions(frames_per_second=60.0)).check()


def _at_rest(head: TalkingHead) -> Motion:
    return Motion(np.asarray(head.space.rest)[None], head.space)
