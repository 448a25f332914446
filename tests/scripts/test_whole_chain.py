"""The miniature corpus: the documents' commands are the script's, and they work as typed."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from media_files import decode_video
from moda.data.corpora import read_labels
from moda.training.recipe import read_recipe
from moda.weights.checkpoints import load_checkpoint
from paths import EXAMPLES, ROOT
from small_runs import read_log

SCRIPT = ROOT / "scripts" / "whole_chain.sh"


def commands(text: str) -> list[str]:
    """The lines that make, copy or run something; of what is continued, one line."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [" ".join(line.split()) for line in lines if re.match(r"(mkdir|cp|moda) ", line)]


@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_documents_say_what_the_script_does(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    (block,) = (block for block in blocks if "miniature/*.csv" in block)
    assert commands(block) == commands(SCRIPT.read_text(encoding="utf-8"))


def test_labels_recipe_and_table_name_the_same() -> None:
    labels = read_labels(EXAMPLES / "miniature" / "labels.csv")
    with (EXAMPLES / "miniature" / "list.csv").open(encoding="utf-8") as file:
        assert [row["output"] for row in csv.DictReader(file)] == list(labels)
    speakers = {label.speaker for label in labels.values()}
    assert set(read_recipe(ROOT / "recipes" / "miniature.json").validation_speakers) < speakers


@pytest.mark.slow
def test_it_works_as_typed(tmp_path: Path) -> None:
    for name in ("examples", "recipes", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = tmp_path / "bin" / "moda"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moda "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join((str(command.parent), os.environ["PATH"]))
    subprocess.run(
        ["bash", "scripts/whole_chain.sh"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=True,
        timeout=1800,
    )
    run = tmp_path / "runs" / "miniature"
    outcomes = json.loads((run / "prepared" / "report.json").read_text(encoding="utf-8"))
    assert outcomes["clips"] == {"prepared": 6}
    log = read_log(run / "model")
    assert [line["step"] for line in log if "validation" in line] == [20, 40]
    assert load_checkpoint(run / "model" / "miniature.safetensors").config.name == "miniature"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["lips"]["speakers"] == ["mona_lisa"]
    assert len(decode_video(run / "talk.mp4").frames) == 220
