"""What is known of a recording once motion has been made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media_files import write_wav
from moda.media import AudioReader
from moda.motion.hearing.lips import lips_of_motion
from moda.pipeline import TalkingHead
from moda.pipeline.talking_head import HeardRecording
from moda.structures import Motion, MotionSpace

RATE = 16_000


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu").space


def heard(path: Path, space: MotionSpace, gaps: list[float], expression: float = 1.0) -> str:
    """What is noted of a recording whose lips part by so much, frame by frame."""
    wide = np.zeros((1, space.size), np.float32)
    mouth = space.slice("mouth")
    wide[0, mouth.start] = 1.0
    if not lips_of_motion(Motion(wide, space))[0][0]:
        wide = -wide
    unit = lips_of_motion(Motion(wide, space))[0][0]
    values = np.array(gaps, np.float32)[:, None] / unit * wide
    recording = HeardRecording(AudioReader(path, RATE), expression)
    list(recording.samples())
    list(recording.watch(iter([Motion(values, space)])))
    return " ".join(recording.notes())


@pytest.mark.parametrize(
    ("gaps", "expression", "speaks"),
    [
        ([0.1, 0.06, 0.03, 0.01, 0.0, 0.0], 1.0, False),
        ([0.1, 0.06], 1.0, False),
        ([0.0, 0.001, 0.0, 0.002] * 9, 1.0, False),
        ([0.0, 0.002, 0.0, 0.003] * 9, 0.5, True),
        ([0.1, 0.02, 0.05, 0.01], 1.0, True),
        ([0.0] * 20, 0.0, True),
    ],
    ids=["closing", "two frames", "still", "less motion", "parting", "no motion wanted"],
)
def test_lips_that_never_part_say_nothing(
    tmp_path: Path, space: MotionSpace, gaps: list[float], expression: float, speaks: bool
) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(RATE), RATE)
    assert (heard(path, space, gaps, expression) == "") == speaks


@pytest.mark.parametrize(("level", "speaks"), [(0.0, False), (5e-4, False), (0.05, True)])
def test_other_systems_judge_the_sound(tmp_path: Path, level: float, speaks: bool) -> None:
    path = write_wav(tmp_path / "a.wav", level * np.sin(np.arange(RATE)), RATE)
    recording = HeardRecording(AudioReader(path, RATE), 1.0)
    list(recording.samples())
    assert ("no speech was found in a.wav" in "".join(recording.notes())) != speaks
