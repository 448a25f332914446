"""Commands where torch is not installed: what works, and what says which part is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from media_files import decode_video, tone, write_wav
from paths import PORTRAIT, ROOT

HIDDEN = "import without_torch; from moda import cli; cli.main()"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process that has no torch."""
    command = [sys.executable, "-c", HIDDEN, *map(str, arguments)]
    environment = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "speech.wav", tone(0.5, 16_000), 16_000)


def test_a_portrait_speaks(speech: Path, tmp_path: Path) -> None:
    output = tmp_path / "talk.mp4"
    done = run("generate", PORTRAIT, speech, "-o", output, "--size", "64", "--emotion", "happy")
    assert done.returncode == 0, done.stderr
    assert len(decode_video(output).frames) == 13


def test_the_installation_is_sound() -> None:
    done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert "PROBLEM" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "recipe.toml"), r"needs PyTorch.*\[train\]"),
        (("evaluate", "folder"), r"needs PyTorch.*\[train\]"),
        (("generate", PORTRAIT, "speech.wav", "--device", "cuda"), r"'cuda' needs.*\[neural\]"),
        (("generate", PORTRAIT, "speech.wav", "--renderer", "neural"), r"moda-base.*\[neural\]"),
        (("models", "download", "--yes"), r"needs PyTorch.*\[neural\]"),
    ],
)
def test_what_is_missing_is_one_line(
    arguments: tuple[str | Path, ...], said: str, speech: Path
) -> None:
    done = run(*(speech if part == "speech.wav" else part for part in arguments))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(said, done.stderr)
