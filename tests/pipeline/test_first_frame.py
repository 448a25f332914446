"""A video begins as the photograph, goes its own way, and ends with open eyes."""

import numpy as np
import pytest
from PIL import Image

from moda import TalkingHead
from moda.encoders.tracking import track_landmarks
from moda.media import read_image
from moda.structures.landmarks import lip_gap
from moda.systems.embedded import EmbeddedSystem
from paths import EXAMPLES

SIZE = 320


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def frames(head: TalkingHead) -> list[np.ndarray]:
    video = head.generate(EXAMPLES / "portrait.jpg", EXAMPLES / "speech.wav", size=SIZE)
    return list(video.frames())


def landmarks(head: TalkingHead, pictures: list[np.ndarray]) -> np.ndarray:
    assert isinstance(head.system, EmbeddedSystem)
    timed = ((index / 25, picture) for index, picture in enumerate(pictures))
    return track_landmarks(timed, head.system.models).landmarks.astype(np.float64)


def test_the_first_frame_is_the_photograph(head: TalkingHead, frames: list[np.ndarray]) -> None:
    """The photograph made smaller by Pillow and tracked by itself, against the first frame."""
    photograph = read_image(EXAMPLES / "portrait.jpg")
    height, width = frames[0].shape[:2]
    small = np.array(Image.fromarray(photograph).resize((width, height), Image.Resampling.BOX))
    ours, theirs, later = landmarks(head, [frames[0], small, frames[60]])
    eyes = np.linalg.norm(theirs[33, :2] - theirs[263, :2])
    apart = np.linalg.norm(ours[:, :2] - theirs[:, :2], axis=1) / eyes
    assert np.median(apart) < 0.03
    assert abs(lip_gap(ours[None])[0] - lip_gap(theirs[None])[0]) < 0.03
    assert np.median(np.linalg.norm(later[:, :2] - theirs[:, :2], axis=1)) / eyes > np.median(apart)
    error = (frames[0].astype(float) - small.astype(float)) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 30.0


def test_the_last_frame_has_open_eyes(head: TalkingHead) -> None:
    for seed in range(6):
        video = head.generate(
            EXAMPLES / "portrait.jpg", EXAMPLES / "speech.wav", size=SIZE, seed=seed
        )
        rows = np.concatenate([part.part("blink") for part in video.motion()])
        assert rows[-1].max() < 0.05
        assert rows.max() > 0.9  # there are blinks


def test_another_speech_or_portrait_is_another_performance(head: TalkingHead) -> None:
    """No seed is given; the same files give the same motion."""

    def motion(portrait: np.ndarray, **options: float) -> np.ndarray:
        video = head.generate(portrait, EXAMPLES / "speech.wav", size=SIZE, **options)
        return np.concatenate([part.values for part in video.motion()])

    photograph = read_image(EXAMPLES / "portrait.jpg")
    first = motion(photograph)
    np.testing.assert_array_equal(motion(photograph), first)
    mirrored = motion(np.ascontiguousarray(photograph[:, ::-1]))
    assert not np.array_equal(mirrored[:, -3:], first[:, -3:])
    np.testing.assert_array_equal(motion(photograph, seed=5), motion(photograph, seed=5))
    assert not np.array_equal(motion(photograph, seed=5), first)
