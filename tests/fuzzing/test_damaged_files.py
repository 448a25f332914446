"""Files that somebody has damaged: every reader reads them, or refuses them in one line.

Quick with a few examples that are always the same; with ``-m slow`` many, other ones each time.
What is found goes to ``tests/data/hostile``, named after the kind, and is read in every run.
"""

from __future__ import annotations

import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moda.errors import ModaError
from paths import ROOT, load_file

hostile = load_file(ROOT / "benchmarks" / "attack_files.py")
FOUND = Path(__file__).parents[1] / "data" / "hostile"
KINDS = (*hostile.TEXTS, *hostile.PICTURES, "heic", "wav", *hostile.SOUNDS, *hostile.VIDEOS, "npz")
READ_SECONDS = 30
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
quick = settings(max_examples=8, derandomize=True, **COMMON)
thorough = settings(max_examples=300, **COMMON)


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return hostile.tiny_files(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which nothing may be left, not even in temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def limited_time(seconds: int) -> Iterator[None]:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_or_refuse(kind: str, place: Path, content: bytes) -> ModaError | None:
    """What a file was refused with; any other end of its reading is a failure."""
    path = place / f"file.{kind}"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal = None
    try:
        with limited_time(READ_SECONDS):
            hostile.read(kind, path)
    except ModaError as error:
        refusal = error
    assert refusal is None or len(str(refusal).splitlines()) == 1
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < hostile.GROWTH_MEGABYTES
    path.unlink()
    assert list(place.iterdir()) == [], "a file is left"
    return refusal


def damage(kind: str, valid: dict[str, bytes], rng: random.Random) -> bytes:
    if kind in hostile.TEXTS:
        return hostile.damaged_text(rng, valid[kind])
    return hostile.damaged(rng, valid[kind], list(valid.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_tiny_files_are_valid(valid: dict[str, bytes], place: Path, kind: str) -> None:
    if kind == "heic" and kind not in valid:
        pytest.skip("pillow-heif is not installed")
    refusal = read_or_refuse(kind, place, valid[kind])
    is_for_another = any(
        word in str(refusal)
        for word in ("not a picture", "no video track", "no sound track", "is a picture")
    )
    assert refusal is None or is_for_another, refusal


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(valid: dict[str, bytes], place: Path, kind: str) -> None:
    @quick
    @given(rng=st.randoms(use_true_random=False))
    def read_a_damaged_one(rng: random.Random) -> None:
        read_or_refuse(kind, place, damage(kind, valid, rng))

    if kind in valid:
        read_a_damaged_one()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(valid: dict[str, bytes], place: Path, kind: str) -> None:
    @thorough
    @given(rng=st.randoms(use_true_random=False))
    def read_a_damaged_one(rng: random.Random) -> None:
        read_or_refuse(kind, place, damage(kind, valid, rng))

    if kind in valid:
        read_a_damaged_one()


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    return hostile.bombs()


@pytest.mark.parametrize("kind", ["csv", "txt", "TextGrid", "recipe", "control", "labels", "npz"])
def test_small_files_that_want_to_become_large(
    bombs: dict[str, bytes], place: Path, kind: str
) -> None:
    assert read_or_refuse(kind, place, bombs[kind]) is not None


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_what_was_found_once(place: Path, path: Path) -> None:
    read_or_refuse(path.suffix[1:], place, path.read_bytes())
