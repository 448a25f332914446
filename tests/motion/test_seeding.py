"""Seeds of those who name none: the same for the same, another for another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from moda.motion.seeding import HEARD_SAMPLES, MOST_SAMPLES, derive_seed
from moda.structures import Floats

FACE = np.linspace(-1.0, 1.0, 63, dtype=np.float32)


def sound(seconds: float = 5.0, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    return (0.1 * random.standard_normal(int(16_000 * seconds))).astype(np.float32)


def cut(samples: Floats, length: int) -> Iterator[Floats]:
    for start in range(0, len(samples), length):
        yield samples[start : start + length]


def seed_of(samples: Floats, face: Floats = FACE, length: int = 4000) -> int:
    return derive_seed(face, cut(samples, length))[0]


def test_the_same_face_and_sound_have_the_same_seed() -> None:
    seeds = {seed_of(sound(), length=length) for length in (11, 777, 4000, 10**6)}
    assert len(seeds) == 1
    assert 0 <= seeds.pop() < 2**32


def test_another_speech_or_another_face_has_another_seed() -> None:
    other_face = FACE.copy()
    other_face[20] += 0.01
    changed = sound()
    changed[40_000] += 0.01
    given = [
        (sound(), FACE),
        (sound(seed=1), FACE),
        (sound(), other_face),
        (changed, FACE),
        (0.5 * sound(), FACE),
        (sound(1.0), FACE),
    ]
    assert len({seed_of(samples, face) for samples, face in given}) == len(given)


@pytest.mark.parametrize("silence", [1, 640, 32_000])
def test_silence_before_the_speech_does_not_matter(silence: int) -> None:
    later = np.concatenate([np.zeros(silence, np.float32), sound()])
    assert seed_of(later) == seed_of(sound())


def test_only_the_beginning_decides() -> None:
    longer = np.concatenate([sound(), sound(30.0, seed=3)])
    assert seed_of(longer) == seed_of(sound())
    late = np.concatenate([np.zeros(MOST_SAMPLES, np.float32), sound()])
    assert seed_of(late) == seed_of(np.zeros(16_000, np.float32)), "30 s of silence, no more"


def test_rounding_does_not_matter() -> None:
    """Sound that has been through 16 bits, a face through a text file."""
    samples = np.round(32_767 * sound()) / np.float32(32_767)
    face = np.round(FACE, 3)
    nearly = samples * np.float32(1 + 1e-7)
    assert seed_of(samples, face) == seed_of(nearly, face + np.float32(1e-5))


@pytest.mark.parametrize("length", [1000, 16_000, 10**7])
def test_the_sound_comes_out_again_unchanged(length: int) -> None:
    samples = sound(8.0)
    chunks = list(cut(samples, length))
    _, again = derive_seed(FACE, iter(chunks))
    found = list(again)
    assert [id(chunk) for chunk in found] == [id(chunk) for chunk in chunks]
    np.testing.assert_array_equal(np.concatenate(found), samples)


def test_no_more_is_read_than_decides() -> None:
    taken = 0

    def endless() -> Iterator[Floats]:
        nonlocal taken
        while True:
            taken += 1
            yield sound(0.1, seed=taken)

    _, again = derive_seed(FACE, endless())
    assert taken == HEARD_SAMPLES // 1600
    for number in range(1, taken + 3):
        np.testing.assert_array_equal(next(again), sound(0.1, seed=number))


def test_no_sound_has_a_seed_of_its_face() -> None:
    seed, again = derive_seed(FACE, [])
    assert list(again) == []
    assert seed != derive_seed(FACE + 1.0, [])[0]
