"""Hard cuts are found; what else changes a picture quickly is none."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from moda.encoders.shots import mark_cuts

SIZE = 128


@cache
def scenery(seed: int) -> np.ndarray:
    """Large soft spots (256, 512, 3) in 0..255 to look at parts of."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :512]
    field = np.zeros((256, 512, 3))
    for _ in range(60):
        row, column, radius = rng.uniform(0, 256), rng.uniform(0, 512), rng.uniform(10, 50)
        spot = np.exp(-(((rows - row) ** 2 + (columns - column) ** 2) / radius**2))
        field += spot[..., None] * rng.uniform(-80, 80, 3)
    return np.clip(128 + field, 0, 255)


def cuts_of(pictures: list[np.ndarray]) -> list[int]:
    rng = np.random.default_rng(0)
    noisy = [np.clip(p + rng.normal(0, 3, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    marked = list(mark_cuts(noisy, lambda same: same))
    assert len(marked) == len(noisy)
    assert all(one is other for (one, _), other in zip(marked, noisy, strict=True))
    return [index for index, (_, begins) in enumerate(marked) if begins]


def view(seed: int, count: int, *, speed: float = 1.0, zoom: int = 1) -> list[np.ndarray]:
    """A shot: a camera that moves sideways by ``speed`` pixels a picture."""
    whole = scenery(seed)
    places = [int(speed * index) % 300 for index in range(count)]
    return [
        whole[20 : 20 + SIZE // zoom, x : x + SIZE // zoom].repeat(zoom, 0).repeat(zoom, 1)
        for x in places
    ]


@pytest.mark.parametrize("speed", [0.0, 1.0, 6.0])
def test_cuts(speed: float) -> None:
    film = [*view(1, 12, speed=speed), *view(2, 7, speed=speed), *view(1, 12, speed=speed)]
    assert cuts_of(film) == [12, 19]
    assert cuts_of([*view(1, 10), *view(1, 10, zoom=2)]) == [10]


@pytest.mark.parametrize("shift", [4, 8, 30])
def test_jump_cuts(shift: int) -> None:
    """The same scene a little later, of a still camera and of one that moves."""
    for speed in (0.0, 0.5):
        film, later = view(1, 24, speed=speed), view(1, 60, speed=1.0)[12 + shift]
        moved = [later] * 12 if speed == 0.0 else view(1, 100, speed=speed)[24 + 2 * shift :][:12]
        assert cuts_of([*film[:12], *moved]) == [12], speed


def test_no_cuts() -> None:
    assert cuts_of([]) == []
    assert cuts_of(view(1, 3)) == []
    still = view(1, 30, speed=0.0)
    assert cuts_of(still) == []
    assert cuts_of([*still[:10], *view(1, 20, speed=12.0)]) == [], "a quick pan"
    halting = view(1, 8, speed=3.0)
    assert cuts_of([picture for picture in halting for _ in range(4)]) == [], "few pictures held"
    fade = np.linspace(0, 1, 12)
    other = view(2, 30, speed=0.0)
    dissolved = [(1 - share) * still[0] + share * other[0] for share in fade]
    assert cuts_of([*still[:10], *dissolved, *other[:10]]) == [], "a dissolve"
    dark = [(1 - share) * still[0] for share in fade]
    assert cuts_of([*still[:10], *dark, *dark[::-1], *still[:10]]) == [], "a fade"
    for length in (1, 2, 3):
        flash = [np.clip(picture * 0.4 + 170, 0, 255) for picture in still[:length]]
        assert cuts_of([*still[:10], *flash, *still[:10]]) == [], "a flash"
    assert cuts_of([*still[:10], *(0.4 * picture for picture in still[:10])]) == [], "a lamp"
