"""Tables of videos: resumed, parallel, reported; killed in the middle they come out the same."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from media_files import decode_video, tone, write_wav
from moda import cli
from moda.config import preset
from moda.errors import InputError
from moda.motion.model import MotionTransformer
from moda.options import VideoOptions
from moda.pipeline import batch
from moda.pipeline.batch import Outcome, Row, choose_workers, make_batch, read_table
from moda.pipeline.jobs import VideoJob, make_video
from moda.pipeline.talking_head import TalkingHead
from moda.pipeline.talking_video import VideoSummary
from moda.weights.checkpoints import save_checkpoint
from moda.weights.spaces import load_motion_space
from paths import EXAMPLES

QUICK = {"size": "64", "steps": "1", "synthetic_metadata": "no"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A motion model that has learned nothing, in a real checkpoint file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    network = MotionTransformer(preset("moda-tiny").motion).eval()
    save_checkpoint(path, network, load_motion_space())
    return path


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    """A table of three videos beside its files."""
    (tmp_path / "face.jpg").write_bytes((EXAMPLES / "portrait.jpg").read_bytes())
    for name, pitch in (("a", 220.0), ("b", 330.0)):
        write_wav(tmp_path / f"{name}.wav", tone(0.4, 16_000, pitch), 16_000)
    write_table(
        tmp_path / "list.csv",
        model,
        [
            {"speech": "a.wav", "output": "one.mp4"},
            {"speech": "b.wav", "output": "two.mp4", "seed": "5"},
            {"speech": "a.wav", "output": "three.webm", "background": "none"},
        ],
    )
    return tmp_path


def write_table(path: Path, model: Path, rows: list[dict[str, str]]) -> None:
    names = ["portrait", "model", *QUICK, *dict.fromkeys(name for row in rows for name in row)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({"portrait": "face.jpg", "model": str(model), **QUICK, **row})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets_are_read(folder: Path, separator: str, encoding: str) -> None:
    rows = [
        ["Portrait", " Speech", "OUTPUT", "Head Motion", "", ""],
        ["face.jpg", "a.wav ", "one.mp4", "0.5", "", ""],
        ["", "", "", "", "", ""],
        ["face.jpg", "b.wav", "two.mp4", "", "", "", "", ""],
        [" ", "", "", "", "", ""],
    ]
    table = folder / "sheet.csv"
    text = "\r\n".join(separator.join(row) for row in rows) + "\r\n\r\n"
    table.write_bytes(text.encode(encoding))
    found = read_table(table, {})
    assert [(row.number, row.job.output.name) for row in found] == [(2, "one.mp4"), (4, "two.mp4")]
    assert [row.job.speech for row in found] == [folder / "a.wav", folder / "b.wav"]
    assert [row.job.options.head_motion for row in found] == [0.5, None]


def test_a_text_may_hold_what_parts_other_tables(folder: Path) -> None:
    table = folder / "list.csv"
    table.write_text('portrait;text;output\nface.jpg;"One, two; three,\nfour";a.mp4\n')
    (row,) = read_table(table, {})
    assert row.job.options.text == "One, two; three,\nfour"
    table.write_text('portrait;text;output\nface.jpg;"Open;a.mp4\n')
    with pytest.raises(InputError, match=r"after line 1: .*double quotes"):
        read_table(table, {})
    table.write_text("portrait,text,output\nface.jpg,One, two,a.mp4\n")
    with pytest.raises(InputError, match=r"line 2: there are more values than columns"):
        read_table(table, {})


def make(folder: Path, **options) -> list[Outcome]:
    table = folder / "list.csv"
    return make_batch(table, read_table(table, {}), **options)


def statuses(outcomes: list[Outcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


class TestMaking:
    def test_all_then_nothing_then_what_changed(self, folder: Path, model: Path) -> None:
        watched: list[tuple[int, int]] = []
        outcomes = make(folder, watch=lambda _, done, total: watched.append((done, total)))
        assert statuses(outcomes) == ["made"] * 3
        assert [outcome.row for outcome in outcomes] == [2, 3, 4]
        assert watched == [(1, 3), (2, 3), (3, 3)]
        assert [outcome.frames for outcome in outcomes] == [10, 10, 10]
        assert len(decode_video(folder / "one.mp4").frames) == 10
        times = {name: (folder / name).stat().st_mtime_ns for name in ("one.mp4", "two.mp4")}

        assert statuses(make(folder)) == ["kept"] * 3
        assert times["one.mp4"] == (folder / "one.mp4").stat().st_mtime_ns

        write_wav(folder / "b.wav", tone(0.6, 16_000), 16_000)
        (folder / "three.webm").unlink()
        assert statuses(make(folder)) == ["kept", "made", "made"]
        assert len(decode_video(folder / "two.mp4").frames) == 15

        with (folder / "list.csv.report.csv").open(encoding="utf-8") as file:
            reported = list(csv.DictReader(file))
        assert [row["status"] for row in reported] == ["kept", "made", "made"]
        assert json.loads((folder / "list.csv.report.json").read_text())[1]["frames"] == 15

    def test_a_row_that_fails_stops_no_other(self, folder: Path) -> None:
        (folder / "b.wav").write_text("no sound")
        outcomes = make(folder)
        assert statuses(outcomes) == ["made", "failed", "made"]
        assert "b.wav cannot be read as sound" in outcomes[1].message
        write_wav(folder / "b.wav", tone(0.4, 16_000), 16_000)
        assert statuses(make(folder)) == ["kept", "made", "kept"]

    def test_a_fault_of_ours_fails_one_row(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        def broken(job: VideoJob, head: TalkingHead, **options: Any) -> VideoSummary:
            if job.output.name == "two.mp4":
                raise ZeroDivisionError("division\nby zero")
            return make_video(job, head, **options)

        monkeypatch.setattr(batch, "make_video", broken)
        outcomes = make(folder)
        assert statuses(outcomes) == ["made", "failed", "made"]
        assert re.fullmatch(
            r"a fault of MoDA, ZeroDivisionError at test_batch.py:\d+: division by zero; "
            "please report it",
            outcomes[1].message,
        )
        assert "Traceback" in capfd.readouterr().err

    def test_a_journal_that_was_cut_off(self, folder: Path) -> None:
        make(folder)
        journal = folder / "list.csv.journal"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:1]) + lines[1][:40])
        assert statuses(make(folder)) == ["kept", "made", "made"]

    @pytest.mark.slow
    def test_workers_make_the_same(self, folder: Path) -> None:
        make(folder)
        alone = {name: (folder / name).read_bytes() for name in ("one.mp4", "two.mp4")}
        for name in alone:
            (folder / name).unlink()
        (folder / "list.csv.journal").unlink()
        outcomes = make(folder, run_jobs=choose_workers(2, None))
        assert statuses(outcomes) == ["made"] * 3
        assert alone == {name: (folder / name).read_bytes() for name in alone}

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    @pytest.mark.filterwarnings("ignore::FutureWarning:ray")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_ray_makes_the_same(self, folder: Path) -> None:
        pytest.importorskip("ray")
        make(folder)
        alone = (folder / "one.mp4").read_bytes()
        (folder / "list.csv.journal").unlink()
        assert statuses(make(folder, run_jobs=choose_workers(2, "local"))) == ["made"] * 3
        assert (folder / "one.mp4").read_bytes() == alone

    @pytest.mark.slow
    def test_killed_in_the_middle(self, folder: Path, model: Path) -> None:
        """SIGKILL once one video is done: resuming gives what an undisturbed run gives."""
        write_wav(folder / "a.wav", tone(3.0, 16_000), 16_000)
        make(folder)
        undisturbed = {name: (folder / name).read_bytes() for name in ("one.mp4", "two.mp4")}
        for path in (folder / "one.mp4", folder / "two.mp4", folder / "list.csv.journal"):
            path.unlink()
        command = [sys.executable, "-m", "moda", "generate", "--batch", folder / "list.csv"]
        with subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE) as process:
            while not (folder / "list.csv.journal").exists():
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert (folder / "one.mp4").exists()
        outcomes = make(folder)
        assert outcomes[0].status == "kept"
        assert {"made"} >= {outcome.status for outcome in outcomes[1:]} - {"kept"}
        assert undisturbed == {name: (folder / name).read_bytes() for name in undisturbed}


class TestTables:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "has no rows"),
            ("portrait,output\n", "has no rows"),
            ("portrait,mood,output\nface.jpg,x,a.mp4\n", "line 2: unknown column 'mood'"),
            ("portrait,speech,output\nface.jpg,a.wav,a.avi\n", r"line 2: .*a\.avi ends in '\.avi'"),
            (
                "portrait,speech,output\nface.jpg,a.wav,x.mp4\nface.jpg,a.wav,x.mp4\n",
                "line 3: its output .* is also that of line 2",
            ),
            ("portrait,text,output\nface.jpg,Hello, Bob,a.mp4\n", "more values than columns"),
            ("portrait,speech,output,fps\nface.jpg,a.wav,a.mp4,x\n", "fps 'x' is not a number"),
        ],
    )
    def test_mistakes_show_before_any_work(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "list.csv"
        path.write_text(text)
        with pytest.raises(InputError, match=says):
            read_table(path, {})

    def test_no_table(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            read_table(tmp_path / "no.csv", {})
        (tmp_path / "latin.csv").write_bytes(b"portrait,text\n\xff\xfe,\xe9")
        with pytest.raises(InputError, match="UTF-8"):
            read_table(tmp_path / "latin.csv", {})

    def test_defaults_are_for_rows_that_say_nothing(self, folder: Path) -> None:
        rows = read_table(folder / "list.csv", {"seed": 9, "text": "Hi", "fps": 30.0})
        assert [row.job.options.seed for row in rows] == [9, 5, 9]
        assert {row.job.options.text for row in rows} == {None}
        assert {row.job.options.frames_per_second for row in rows} == {30.0}

    def test_workers(self) -> None:
        with pytest.raises(InputError, match=r"workers 0 is outside 1\.\.256"):
            choose_workers(0, None)

    @pytest.mark.parametrize(
        ("options", "device"),
        [
            ({}, "cpu"),
            ({"device": "cuda"}, "cuda"),
            ({"renderer": "neural"}, "auto"),
            ({"model": "moda-base"}, "auto"),
            ({"model": "moda-base", "device": "cpu"}, "cpu"),
        ],
    )
    def test_which_gpus_a_cluster_is_asked_for(
        self, options: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch, "RayCluster", lambda address, workers, device_of: device_of)
        device_of: Any = choose_workers(1, "local")
        job = VideoJob(Path("a.jpg"), Path("a.mp4"), Path("a.wav"), VideoOptions(**options))
        assert device_of(Row(2, job, "")) == device


class TestCommand:
    def test_summary(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        (folder / "b.wav").write_text("no sound")
        with pytest.raises(SystemExit) as exited:
            cli.main(["generate", "--batch", str(folder / "list.csv")])
        assert exited.value.code == 2
        printed = capfd.readouterr()
        assert "2 videos made" in printed.out
        assert "1 failed" in printed.out
        assert "line 3: " in printed.err
        assert np.all(np.array([line.count("Traceback") for line in printed.err.split("\n")]) == 0)
