"""What a face does, as files for avatars."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media_files import tone, write_wav
from moda import cli
from moda.errors import InputError
from moda.motion.blend_shapes import ARKIT_SHAPES
from moda.options import read_options
from moda.phones import Phone, PhoneSegment
from moda.pipeline import TalkingHead, loading
from moda.pipeline.exporting import HEAD, MouthFrame, check_export_path, mouth_frames, write_mouth
from moda.speech_synthesis import SpokenText
from moda.structures import Style
from paths import PORTRAIT

OPTIONS = read_options({"size": "64", "num_steps": "1", "seed": "3"})
JAW, CLOSE = ARKIT_SHAPES.index("jawOpen"), ARKIT_SHAPES.index("mouthClose")


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("moda-tiny", device="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "a.wav"
    return write_wav(path, tone(0.6, 16_000), 16_000)


@pytest.fixture(scope="module")
def frames(head: TalkingHead, speech: Path) -> list[MouthFrame]:
    """Of a speech whose phones are known: p from 0.2 to 0.36 s between two vowels."""
    phones = (
        PhoneSegment("a", 0.0, 0.2, (Phone.A,)),
        PhoneSegment("p", 0.2, 0.36, (Phone.BILABIAL,)),
        PhoneSegment("a", 0.36, 0.6, (Phone.A,)),
    )
    said = SpokenText(speech, 0.6, "apa", Style(), (), phones, "en-us")
    return list(mouth_frames(head, head.generate(PORTRAIT, said, OPTIONS), said))


def test_lips_close_in_the_frames_of_a_p(frames: list[MouthFrame]) -> None:
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(15) / 25)
    assert [frame.viseme for frame in frames] == ["aa"] * 5 + ["PP"] * 4 + ["aa"] * 6
    for frame in frames[6:8]:
        assert frame.shapes[JAW] - frame.shapes[CLOSE] < 0.02
    assert frames[3].shapes[JAW] - frames[3].shapes[CLOSE] > 0.02


def test_both_formats_say_the_same(frames: list[MouthFrame], tmp_path: Path) -> None:
    assert write_mouth(iter(frames), tmp_path / "a.json") == len(frames)
    assert write_mouth(iter(frames), tmp_path / "a.csv") == len(frames)
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["framesPerSecond"], found["shapes"]) == (25.0, list(ARKIT_SHAPES))
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["frames"]) == len(frames)
    for row, entry, frame in zip(rows, found["frames"], frames, strict=True):
        assert row["viseme"] == entry["viseme"] == frame.viseme
        amounts = [float(row[name]) for name in ARKIT_SHAPES]
        assert amounts == pytest.approx(entry["shapes"], abs=1e-4)
        assert amounts == pytest.approx(frame.shapes, abs=1e-4)
        assert [float(row[name]) for name in HEAD] == pytest.approx(frame.head, abs=1e-3)


def test_the_phones_that_are_heard(head: TalkingHead, speech: Path) -> None:
    heard = list(mouth_frames(head, head.generate(PORTRAIT, speech, OPTIONS), speech))
    assert len(heard) == 15
    assert all(frame.shapes.min() >= 0.0 and frame.shapes.max() <= 1.0 for frame in heard)


def test_the_command(
    head: TalkingHead, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(loading, "load_head", lambda *choice: head)

    def run(*arguments: Any) -> int:
        with pytest.raises(SystemExit) as exited:
            cli.main(["export", str(PORTRAIT), *map(str, arguments)])
        return int(exited.value.code or 0)

    assert run(speech, "-o", tmp_path / "a.csv", "--steps", "1", "--seed", "3") == 0
    assert capsys.readouterr().out.startswith("15 frames in ")
    assert run(speech, "-o", tmp_path / "a.mp4") == 2
    assert "neither .json nor .csv" in capsys.readouterr().err
    silent = write_wav(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    glued = tmp_path / "glued.wav"
    glued.write_bytes(silent.read_bytes() * 2)
    assert run(glued, "-o", tmp_path / "a.json", "--steps", "1", "--style", "purple") == 0
    said = capsys.readouterr()
    assert said.out.endswith("; no speech was found in glued.wav; the lips stay closed\n")
    assert "not understood in the style: 'purple'" in said.err
    assert "several recordings" in said.err
    assert run("-o", tmp_path / "a.json") == 2
    assert "what is said must be given once" in capsys.readouterr().err


@pytest.mark.parametrize("check", [check_export_path, lambda path: write_mouth(iter(()), path)])
def test_other_formats(check: Callable[[Path], Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a name that ends in one of them"):
        check(tmp_path / "a.bvh")
