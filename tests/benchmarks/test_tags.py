"""Whether a video's emotions follow their schedule, on made landmark tracks."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from moda.errors import InputError
from moda.structures import EmotionAt
from moda.structures.landmarks import Array, rotation_from_euler
from moda.weights.spaces import load_motion_space
from paths import ROOT, load_file


@pytest.fixture(scope="module")
def tags() -> ModuleType:
    return load_file(ROOT / "benchmarks" / "tags.py")


@pytest.fixture(scope="module")
def face() -> Array:
    canonical = load_motion_space().canonical_face
    assert canonical is not None
    return canonical.astype(np.float64)


class TestSchedule:
    """A smile of 0.04 from 2 s on that comes on a line within 0.6 s, after a frown of 0.02."""

    SCHEDULE = (EmotionAt(0.0, "sad", 1.0), EmotionAt(2.0, "happy", 1.0))

    def tracks(self, face: Array) -> tuple[Array, Array]:
        rise = np.interp(np.arange(100), [50, 65], [-0.02, 0.04])
        plain, tagged = [], []
        for frame, height in enumerate(rise):
            turned = rotation_from_euler(3.0 * np.sin(frame), frame % 5, 1.0).T
            smiling = face.copy()
            smiling[[61, 291], 1] -= height
            plain.append(120.0 * face @ turned + [200.0, 150.0, 0.0])
            tagged.append(110.0 * smiling @ turned + [220.0, 150.0, 0.0])
        return np.stack(plain), np.stack(tagged)

    def test_spans_and_the_moment_of_the_change(self, tags: ModuleType, face: Array) -> None:
        sad, happy = tags.schedule_effects(*self.tracks(face), self.SCHEDULE)
        assert (sad.end_seconds, sad.turned_seconds) == (2.0, None)
        assert sad.effects["corner_height"] == pytest.approx(-2.0, abs=0.05)
        assert happy.effects["corner_height"] == pytest.approx(4.0, abs=0.05)
        assert happy.end_seconds == 4.0
        assert happy.turned_seconds is not None
        assert happy.turned_seconds == pytest.approx(0.3, abs=0.05)

    def test_what_cannot_be_compared(self, tags: ModuleType, face: Array) -> None:
        plain, tagged = self.tracks(face)
        with pytest.raises(InputError, match="100 and 99 frames"):
            tags.schedule_effects(plain, tagged[:-1], self.SCHEDULE)
        short = (*self.SCHEDULE, EmotionAt(3.5, "fear", 1.0))
        with pytest.raises(InputError, match=r"at 3\.50 s lasts 0\.50 s"):
            tags.schedule_effects(plain, tagged, short)
