"""The notebook: what it shows was made by it, and its code still runs."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from media_files import decode_video
from paths import EXAMPLES

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "moda.ipynb"
MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def cells() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    cells: list[dict[str, Any]] = notebook["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_it_was_run_from_top_to_bottom_without_errors(cells: list[dict[str, Any]]) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"execute_result", "stream"}
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert "/home/" not in NOTEBOOK.read_text(encoding="utf-8")


def test_it_shows_pictures_in_which_something_moves(cells: list[dict[str, Any]]) -> None:
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(output["data"]["image/jpeg"]))))
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "execute_result"
    ]
    assert [picture.shape for picture in pictures] == [
        (192, 192, 3), (128, 768, 3), (128, 512, 3),
    ]  # fmt: skip
    for strip in pictures[1:]:
        tiles = np.split(strip.astype(float), strip.shape[1] // 128, axis=1)
        changes = [np.abs(a - b).max() for a, b in itertools.pairwise(tiles)]
        assert min(changes) > 60


def test_its_code_runs(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    program = "\n".join("".join(cell["source"]) for cell in cells)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path / "notebooks",
        env=os.environ | {"PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "221 frames, 8.8 s" in done.stdout
    assert "face" in done.stdout
    assert len(decode_video(tmp_path / "notebooks" / "talk.mp4").frames) == 221
