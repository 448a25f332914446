"""``moda dub`` as a user meets it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from media_files import decode_video, tone, write_video, write_wav
from moda import cli
from moda.encoders.regions import shrink_to
from moda.media import read_image
from moda.pipeline import loading
from paths import PORTRAIT


@pytest.fixture(scope="module", autouse=True)
def load_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_head", functools.cache(loading.load_head))
        yield


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example beside a smaller one of herself, 0.4 s."""
    large = shrink_to(read_image(PORTRAIT), 240)[:240, :192]
    small = np.zeros_like(large)
    part = shrink_to(large, 160)
    small[: part.shape[0], : part.shape[1]] = part
    pictures = [np.hstack([small, large])] * 10
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return write_video(path, pictures, [40 * n for n in range(10)], rate=25)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exited:
        cli.main(["dub", *(str(argument) for argument in arguments)])
    return int(exited.value.code or 0)


def test_which_face_is_said(film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    speech = write_wav(tmp_path / "speech.wav", tone(0.4, 16_000), 16_000)
    assert run(film, speech, "-o", tmp_path / "dubbed.mkv") == 0
    assert capfd.readouterr().err == (
        "moda: 2 faces are seen at 0.0 s; the largest is dubbed, number 2 from the left; choose "
        "another with --face\n"
    )
    assert run(film, speech, "-o", tmp_path / "dubbed.mkv", "--face", 1) == 0
    assert capfd.readouterr().err == ""
    assert run(film, speech, "-o", tmp_path / "other.mkv", "--face", 3) == 2
    assert "shows a face 3" in capfd.readouterr().err
    assert run(film, speech, "-o", tmp_path / "other.mkv", "--face", "1=a.wav") == 2
    assert not (tmp_path / "other.mkv").exists()


def test_loops(film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    speech = write_wav(tmp_path / "speech.wav", tone(1.0, 16_000), 16_000)
    assert run(film, speech, "-o", tmp_path / "dubbed.mkv") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "the footage only 0.4 s" in line
    assert "--loop" in line
    assert run(film, speech, "-o", tmp_path / "dubbed.mp4", "--face", 2, "--loop") == 0
    video = decode_video(tmp_path / "dubbed.mp4")
    assert len(video.frames) == 25
    assert video.sound_seconds == pytest.approx(1.0, abs=0.05)
