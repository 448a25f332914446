"""Windows: the same whoever draws them, cut from files as they lie on disk."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moda.data.clips import iterate_clips
from moda.data.dataset import Batch, TrainingClip, WindowSampler, build_neural_clips
from moda.errors import InputError
from moda.motion.rules.published import restore_scale, start_motion
from moda.structures import MotionSpace
from small_runs import neural_clip, write_prepared


def counted(num_frames: int, name: str = "counted") -> TrainingClip:
    """Every row of motion and features is its number."""
    rows = np.arange(num_frames, dtype=np.float32)[:, None]
    motion = np.repeat(rows, 5, 1)
    identity = np.zeros(63, np.float32)
    features = np.repeat(rows, 4, 1).astype(np.float16)
    return TrainingClip(
        name, "s", 8, (motion, -motion), (identity, identity), (features,), np.zeros((0, 2))
    )


def sampler(*clips: TrainingClip, **options: object) -> WindowSampler:
    defaults = {"before": 3, "after": 2, "seed": 4, "augment": False, "forget_previous": 0.0}
    return WindowSampler(clips, **{**defaults, **options})  # type: ignore[arg-type]


def same(first: Batch, second: Batch) -> None:
    for one, other in zip(first[:-1], second[:-1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.windows == second.windows


def test_parts_make_up_the_batch() -> None:
    windows = sampler(counted(100), counted(60, "other"))
    whole = windows.batch(8, 20, draw=7)
    parts = [windows.batch(8, 20, draw=7, part=slice(k, None, 4)) for k in range(4)]
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(part.motion, whole.motion[k::4])
        np.testing.assert_array_equal(part.speech, whole.speech[k::4])
        assert part.windows == whole.windows[k::4]
    same(whole, sampler(counted(100), counted(60, "other")).batch(8, 20, draw=7))
    assert whole.windows != windows.batch(8, 20, draw=8).windows


def test_draws_are_numbered_by_themselves() -> None:
    windows = sampler(counted(100))
    first, second = windows.batch(4, 20), windows.batch(4, 20)
    same(first, windows.batch(4, 20, draw=0))
    same(second, windows.batch(4, 20, draw=1))


def test_windows_say_where_they_are_from() -> None:
    batch = sampler(counted(60)).batch(40, 20)
    for k, window in enumerate(batch.windows):
        sign = 1 if batch.motion[k, 1, 0] > 0 else -1
        np.testing.assert_array_equal(
            sign * batch.motion[k, :, 0], np.arange(window.start, window.start + 20)
        )
        if window.start:
            assert sign * batch.previous_motion[k, 0, 0] == window.start - 1
        around = np.arange(window.start - 3, window.start + 22)
        expected = np.where((around >= 0) & (around < 60), around, 0)
        np.testing.assert_array_equal(batch.speech[k, :, 0], expected)
    assert len({window.seed for window in batch.windows}) == 40
    assert batch.speech.dtype == np.float16


def test_clips_shorter_than_a_window_are_padded() -> None:
    batch = sampler(counted(12)).batch(3, 20)
    assert (batch.weight.sum(1) == 12).all()
    np.testing.assert_array_equal(np.abs(batch.motion[0, :, 0]), [*range(12), *[11] * 8])
    np.testing.assert_array_equal(batch.speech[0, :, 0], [0] * 3 + [*range(12)] + [0] * 10)


def test_clips_are_drawn_by_their_length() -> None:
    windows = sampler(counted(50, "short"), counted(1600, "long"))
    names = [window.clip for window in windows.batch(600, 8).windows]
    expected = 1600**0.7 / (1600**0.7 + 50**0.7)
    found = names.count("long") / 600
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 600))


def test_without_speech_nothing_is_drawn() -> None:
    with pytest.raises(InputError, match="none of the 1 clips has sound"):
        sampler(replace(counted(50), features=()))


def test_neural_motion_is_brought_to_the_usual_size(published_space: MotionSpace) -> None:
    """As that of a portrait is: the inverse of what restores the scale when it is animated."""
    prepared = neural_clip(published_space, "anna", "anna")
    assert prepared.neural is not None
    (clip,) = build_neural_clips([prepared], published_space)
    windows = WindowSampler([clip], before=0, after=0, seed=0, augment=False)
    batch = windows.batch(20, 30)
    for k, window in enumerate(batch.windows):
        raw = prepared.neural.motion[:, window.start : window.start + 30]
        ratio = start_motion(raw[0, 0], published_space).scale_ratio
        options = []
        for own in raw:
            flat = own.copy()
            flat[:, 66] = 0.0
            options.append(flat)
        found = restore_scale(published_space.denormalize(batch.motion[k]), ratio)
        errors = [np.abs(found - option).max() for option in options]
        assert min(errors) < 2e-4
    with pytest.raises(InputError, match="clip anna has no motion of the neural space"):
        build_neural_clips([replace(prepared, neural=None)], published_space)


def test_neural_clips_survive_their_file(published_space: MotionSpace, tmp_path: Path) -> None:
    prepared = neural_clip(published_space, "anna", "anna")
    write_prepared(tmp_path, prepared)
    (again,) = (clip.neural for clip in iterate_clips(tmp_path))
    assert prepared.neural is not None
    assert again is not None
    for name in ("motion", "identity", "features"):
        np.testing.assert_array_equal(getattr(again, name), getattr(prepared.neural, name))


def test_a_corpus_stays_on_disk(published_space: MotionSpace, tmp_path: Path) -> None:
    """100 MB of prepared clips, read and drawn from with less than a tenth of it in memory."""
    rows, size = 700, 9216
    features = np.ones((rows, size), np.float16)
    for index in range(8):
        clip = neural_clip(published_space, f"clip{index}", f"speaker{index}", num_frames=rows)
        assert clip.neural is not None
        write_prepared(
            tmp_path,
            replace(
                clip,
                track=replace(clip.track, landmarks=np.zeros((1, 478, 3), np.float32)),
                samples=np.zeros(0, np.int16),
                neural=replace(clip.neural, features=features),
            ),
        )
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert on_disk > 100e6
    tracemalloc.start()
    clips = build_neural_clips(iterate_clips(tmp_path), published_space)
    windows = WindowSampler(clips, before=0, after=0, seed=0, augment=False)
    seen = set()
    for _ in range(12):
        seen |= {window.clip for window in windows.batch(2, 40).windows}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(seen) > 5
    assert peak < on_disk / 10
