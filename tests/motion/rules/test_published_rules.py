"""Rules around the published sampler against recordings of the released implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from moda.errors import InputError
from moda.motion.rules.published import (
    LIP_DIMENSIONS,
    LipModulation,
    modulate_lips,
    restore_scale,
    start_motion,
)
from moda.structures.keypoints import angles_from_logits
from moda.weights.official import load_published_space
from published_weights import noise

LIMIT = 1e-4
SPACE = load_published_space()


def recorded(name: str, *shape: int) -> NDArray[np.float32]:
    return noise(f"input/{name}", *shape).numpy()


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float32]]:
    path = Path(__file__).parents[2] / "data" / "published" / "motion_space.npz"
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def rest() -> NDArray[np.float32]:
    """Raw motion (70,) of the recorded portrait."""
    expression = SPACE.mean[:63] + SPACE.std[:63] * recorded("kp/src/exp", 1, 63)[0]
    scale = 1.3 + 0.1 * recorded("kp/src/scale", 1, 1)[0]
    translation = 0.05 * recorded("kp/src/t", 1, 3)[0]
    angles = [angles_from_logits(recorded(f"kp/src/{name}", 1, 66)) for name in ANGLES]
    return np.concatenate([expression, scale, translation, *angles]).astype(np.float32)


ANGLES = ("pitch", "yaw", "roll")


def test_motion_starts_at_the_portrait(
    golden: dict[str, NDArray[np.float32]], rest: NDArray[np.float32]
) -> None:
    start = start_motion(rest, SPACE)
    np.testing.assert_allclose(start.row, golden["norm/prev_motion"][0, 0], atol=LIMIT)
    assert start.scale_ratio == pytest.approx(golden["norm/rescale_ratio"].item(), abs=1e-6)


def test_motion_to_parameters(
    golden: dict[str, NDArray[np.float32]], rest: NDArray[np.float32]
) -> None:
    normalised = recorded("norm/motion", 120, 70)
    ratio = start_motion(rest, SPACE).scale_ratio
    raw = restore_scale(SPACE.denormalize(normalised), ratio)
    parts = {"exp": "expression", "scale": "scale", "t": "translation"} | {a: a for a in ANGLES}
    for theirs, ours in parts.items():
        expected = golden[f"norm/seq_{theirs}"].reshape(120, -1)
        np.testing.assert_allclose(raw[:, SPACE.slice(ours)], expected, atol=LIMIT, err_msg=ours)


def test_the_portrait_comes_back(rest: NDArray[np.float32]) -> None:
    start = start_motion(rest, SPACE)
    again = restore_scale(SPACE.denormalize(start.row[None]), start.scale_ratio)[0]
    depth = SPACE.slice("translation").stop - 1
    np.testing.assert_allclose(np.delete(again, depth), np.delete(rest, depth), atol=1e-4)
    assert again[depth] == 0


def test_lips_of_the_whole_clip(golden: dict[str, NDArray[np.float32]]) -> None:
    values = recorded("norm/motion", 120, 70)
    modulated = modulate_lips(values, num_silent=50)[:-50]
    np.testing.assert_allclose(modulated, golden["lip/modulated"], atol=LIMIT)
    others = np.delete(np.arange(70), LIP_DIMENSIONS)
    np.testing.assert_array_equal(modulated[:, others], values[:-50, others])


def test_a_clip_shorter_than_its_silence() -> None:
    with pytest.raises(InputError, match="silent"):
        modulate_lips(np.zeros((30, 70), np.float32), num_silent=50)


class TestStream:
    def test_stretches_do_not_show(self) -> None:
        values = recorded("norm/motion", 120, 70)
        whole = LipModulation(values[-37])(values)
        modulate = LipModulation(values[-37])
        parts = [modulate(part) for part in np.split(values, [1, 7, 70])]
        np.testing.assert_array_equal(np.concatenate(parts), whole)

    def test_equal_to_the_whole_clip_from_its_loudest_frame_on(self) -> None:
        values = recorded("norm/motion", 120, 70)
        values[0, LIP_DIMENSIONS] *= 10
        streamed = LipModulation(values[-37])(values)
        np.testing.assert_allclose(streamed, modulate_lips(values, num_silent=50), atol=1e-6)

    def test_the_future_does_not_count(self) -> None:
        values = recorded("norm/motion", 120, 70)
        louder = values.copy()
        louder[80:, LIP_DIMENSIONS] *= 10
        silent = values[-37]
        np.testing.assert_array_equal(
            LipModulation(silent)(values)[:80], LipModulation(silent)(louder)[:80]
        )
        assert not np.array_equal(
            modulate_lips(values, num_silent=50)[:80], modulate_lips(louder, num_silent=50)[:80]
        )
