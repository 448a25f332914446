"""What the command loads: what it does not use would only make it slow to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from media_files import write_wav
from paths import PORTRAIT

REPORT = """
import atexit, sys
from moda import cli
atexit.register(lambda: print("\\n".join(sorted(sys.modules))))
cli.main(sys.argv[1:])
"""
UNUSED = (
    "accelerate", "einops", "fastapi", "gradio", "matplotlib", "moda.data", "moda.evaluation",
    "moda.serving", "moda.training", "moda.web", "peft",
    "scipy.ndimage", "scipy.sparse", "scipy.spatial", "sympy", "torch",
    "transformers",
)  # fmt: skip


def modules_of(*arguments: str | Path) -> set[str]:
    """Names of all modules that a command of a process of its own has loaded in the end."""
    command = [sys.executable, "-c", REPORT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("\n"))


def test_generate_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    speech = tmp_path / "speech.wav"
    write_wav(speech, np.zeros(3200, np.float32), 16_000)
    loaded = modules_of("generate", PORTRAIT, speech, "-o", tmp_path / "a.mp4", "--size", "64")
    assert "moda.pipeline.talking_head" in loaded
    assert loaded.isdisjoint(UNUSED)


def test_help_loads_no_numbers() -> None:
    loaded = modules_of("--help")
    assert "typer" in loaded
    assert loaded.isdisjoint({*UNUSED, "numpy", "torch", "moda.pipeline"})
