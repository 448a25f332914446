"""The miniature corpus: the documents' commands are the script's, and they work as typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from media_files import decode_video
from moda.data.corpora import read_labels
from moda.pipeline.batch import read_table
from moda.speech_synthesis import espeak_is_installed
from moda.training.recipe import read_recipe
from moda.weights.checkpoints import load_checkpoint
from paths import ROOT
from small_runs import read_log

SCRIPT = ROOT / "scripts" / "whole_chain.sh"


def commands(text: str) -> list[str]:
    """The lines that make, copy or run something; of what is continued, one line."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [" ".join(line.split()) for line in lines if re.match(r"(mkdir|cp|moda) ", line)]


@pytest.mark.parametrize("page", ["docs/training.md"])
def test_documents_say_what_the_script_does(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    (block,) = (block for block in blocks if "miniature/*.csv" in block)
    assert commands(block) == commands(SCRIPT.read_text(encoding="utf-8"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder like that of the repository."""
    for name in ("examples", "recipes", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_labels_recipe_and_table_name_the_same(root: Path) -> None:
    videos = root / "runs" / "miniature" / "videos"
    videos.mkdir(parents=True)
    for name in ("list.csv", "labels.csv"):
        shutil.copy(root / "examples" / "miniature" / name, videos)
    rows, labels = read_table(videos / "list.csv", {}), read_labels(videos / "labels.csv")
    assert [row.job.output.name for row in rows] == list(labels)
    assert all(row.job.portrait.is_file() for row in rows)
    speakers = {label.speaker for label in labels.values()}
    assert set(read_recipe(ROOT / "recipes" / "miniature.json").validation_speakers) < speakers


@pytest.mark.slow
@pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
def test_it_works_as_typed(root: Path) -> None:
    command = root / "bin" / "moda"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moda "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(command.parent), os.environ["PATH"]))
    subprocess.run(
        ["bash", "scripts/whole_chain.sh"],
        cwd=root,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=1800,
    )
    run = root / "runs" / "miniature"
    outcomes = json.loads((run / "prepared" / "report.json").read_text(encoding="utf-8"))
    assert outcomes["clips"] == {"prepared": 6}
    log = read_log(run / "model")
    assert [line["step"] for line in log if "validation" in line] == [20, 40]
    assert load_checkpoint(run / "model" / "miniature.safetensors").config.name == "miniature"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["lips"]["speakers"] == ["mona_lisa"]
    assert len(decode_video(run / "talk.mp4").frames) == 220
