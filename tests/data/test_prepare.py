"""Preparation of a folder: what comes out, what a second run keeps, that no kill loses anything.

The clips are short pieces of a made talk; limits that they would not keep to are lifted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moda import cli
from moda.cli import prepare as prepare_command
from moda.data import clip_jobs, prepare
from moda.data.clip_jobs import ClipJob, PrepareOptions, track_clip
from moda.data.clips import ClipEntry, Shard, read_clips, read_shards
from moda.data.corpora import Corpus, CorpusClip, Problem, read_corpus
from moda.data.packing import ShardFolder, shard_number
from moda.data.prepare import Outcome, count_reasons, prepare_corpus
from moda.data.quality import QualityLimits
from moda.data.statistics import MotionStatistics
from moda.encoders.tracking import motion_from_landmarks
from moda.errors import CheckpointError, OutputError
from moda.structures import MotionSpace
from moda.workers import LocalProcesses, LostJob, run_here
from talking_videos import Talk

LIFTED = QualityLimits(
    min_seconds=0.2,
    min_speech_share=0.0,
    min_lip_correlation=-1.0,
    min_lip_correlation_of_a_second=-1.0,
)
OPTIONS = PrepareOptions(LIFTED, clips_per_shard=2)


@pytest.fixture(scope="module")
def folder(talk: Talk, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of half a second, and one file that is none."""
    made = tmp_path_factory.mktemp("videos")
    for index, name in enumerate(("anna", "ben", "cleo", "dora")):
        talk.part(12 * index, 12 * index + 12).write(made / f"{name}.mp4")
    (made / "broken.mp4").write_bytes(b"this is not a video")
    return made


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an uninterrupted run makes of it."""
    output = tmp_path_factory.mktemp("whole")
    run(folder, output)
    return output


def run(
    folder: Path, output: Path, options: PrepareOptions = OPTIONS, **arguments: Any
) -> dict[str, str]:
    arguments.setdefault("run_jobs", run_here)
    outcomes = prepare_corpus(read_corpus("folder", folder), output, options=options, **arguments)
    return {outcome.name: outcome.status for outcome in outcomes}


def contents(output: Path) -> dict[str, bytes]:
    """All files of a preparation but the report, which tells of one run."""
    files = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in files} | {
        "report.json": b""
    }


class TestOneRun:
    def test_clips(self, whole: Path, talk: Talk) -> None:
        clips = read_clips([whole])
        assert [clip.name for clip in clips] == ["anna", "ben", "cleo", "dora"]
        for index, clip in enumerate(clips):
            assert len(clip.track) == 12
            assert clip.track.found.all()
            expected = talk.sound[640 * 12 * index :][: len(clip.samples)]
            assert len(clip.samples) == 12 * 640
            assert np.corrcoef(clip.sound, expected)[0, 1] > 0.999
        middles = [clip.track.landmarks[:, 1, :2].mean(0) for clip in clips]
        assert np.ptp(middles, axis=0).max() < 20.0, "the same face at the same place"

    def test_shards(self, whole: Path) -> None:
        for shard in read_shards(whole):
            numbers = {shard_number(entry.name, 3) for entry in shard.entries}
            assert numbers == {int(shard.path.name[6:11])}
            assert shard.path.name.endswith("-of-00003.safetensors")
        names = [entry.name for shard in read_shards(whole) for entry in shard.entries]
        assert sorted(names) == ["anna", "ben", "broken", "cleo", "dora"]
        assert not (whole / "work").exists()

    def test_index(self, whole: Path, space: MotionSpace) -> None:
        index = json.loads((whole / "index.json").read_text())
        assert index["space"] == "mesh"
        assert [clip["name"] for clip in index["clips"]] == [
            "anna",
            "ben",
            "broken",
            "cleo",
            "dora",
        ]
        for clip in index["clips"]:
            entries = Shard(whole / clip["shard"]).entries
            assert clip["name"] in [entry.name for entry in entries]
        motions = [
            motion_from_landmarks(clip.track, space)[0].values for clip in read_clips([whole])
        ]
        rows = np.concatenate(motions).astype(np.float64)
        assert index["statistics"]["num_frames"] == 48
        np.testing.assert_allclose(index["statistics"]["mean"], rows.mean(0), atol=1e-9)
        np.testing.assert_allclose(index["statistics"]["std"], rows.std(0), atol=1e-9)

    def test_report(self, whole: Path) -> None:
        report = json.loads((whole / "report.json").read_text())
        assert report["clips"] == {"prepared": 4, "skipped": 1}
        assert report["reasons"] == {"unreadable": 1}
        assert report["seconds"] == pytest.approx(4 * 0.48)
        broken = next(outcome for outcome in report["outcomes"] if outcome["name"] == "broken")
        assert "broken.mp4" in broken["reasons"][0]


class TestLaterRuns:
    @pytest.fixture
    def output(self, whole: Path, tmp_path: Path) -> Path:
        shutil.copytree(whole, tmp_path / "again")
        return tmp_path / "again"

    def test_nothing_is_made_twice(self, folder: Path, whole: Path, output: Path) -> None:
        def never(function: object, jobs: list[ClipJob]) -> Iterator[tuple[ClipJob, ClipEntry]]:
            assert jobs == []
            return iter(())

        stamps = {path: path.stat().st_mtime_ns for path in output.glob("shard-*")}
        statuses = run(folder, output, run_jobs=never)
        assert statuses.pop("broken") == "skipped"
        assert set(statuses.values()) == {"kept"}
        assert contents(output) == contents(whole)
        assert {path: path.stat().st_mtime_ns for path in output.glob("shard-*")} == stamps

    def test_damaged_shards_are_made_again(self, folder: Path, whole: Path, output: Path) -> None:
        damaged = sorted(output.glob("shard-*"))[0]
        damaged.write_bytes(damaged.read_bytes()[:-100])
        (output / "shard-00000-of-00003.safetensors.0123.partial").write_bytes(b"half")
        statuses = run(folder, output)
        lost = {entry.name for entry in Shard(whole / damaged.name).entries}
        assert {name for name, status in statuses.items() if status == "prepared"} == lost - {
            "broken"
        }
        assert contents(output) == contents(whole)

    def test_changed_added_and_removed_clips(
        self, folder: Path, output: Path, tmp_path: Path, talk: Talk
    ) -> None:
        moved = tmp_path / "videos"
        shutil.copytree(folder, moved)  # with the times of the files
        (moved / "dora.mp4").unlink()
        talk.part(40, 55).write(moved / "ben.mp4")
        talk.part(40, 55).write(moved / "eve.mp4")
        statuses = run(moved, output)
        assert statuses == {
            "anna": "kept",
            "cleo": "kept",
            "broken": "skipped",
            "ben": "prepared",
            "eve": "prepared",
        }
        frames = {clip.name: len(clip.track) for clip in read_clips([output])}
        assert frames == {"anna": 12, "ben": 15, "cleo": 12, "eve": 15}

    def test_other_limits(self, folder: Path, output: Path) -> None:
        strict = PrepareOptions(QualityLimits(), clips_per_shard=2)
        assert set(run(folder, output, strict).values()) == {"skipped"}
        assert list(read_shards(output)), "what was left out is in the shards"
        assert read_clips([output]) == []
        index = json.loads((output / "index.json").read_text())
        assert all("too short" in clip["reasons"][0] for clip in index["clips"][:2])

    def test_keep_all(self, folder: Path, output: Path) -> None:
        lenient = PrepareOptions(QualityLimits(), keep_all=True, clips_per_shard=2)
        statuses = run(folder, output, lenient)
        assert statuses.pop("broken") == "skipped"
        assert set(statuses.values()) == {"prepared"}
        entries = [entry for shard in read_shards(output) for entry in shard.entries]
        assert all(entry.reasons for entry in entries), "what speaks against them is beside them"

    def test_a_folder_of_another_space_or_count(self, folder: Path, output: Path) -> None:
        with pytest.raises(CheckpointError, match="shards of the mesh space, not neural"):
            ShardFolder(read_corpus("folder", folder), output, PrepareOptions(space="neural"))
        first = sorted(output.glob("shard-*"))[0]
        shutil.copyfile(first, output / "shard-00004-of-00005.safetensors")
        with pytest.raises(CheckpointError, match="shards of several preparations"):
            run(folder, output)


class Killed(BaseException):
    """Stands for a kill: nothing in the program catches it."""


class KillSwitch:
    """Ends the run before or after one of the changes that it makes to files."""

    CHANGES = ("replace", "unlink", "rmdir")

    def __init__(self, patch: pytest.MonkeyPatch, moment: int) -> None:
        self.left = moment
        for name in self.CHANGES:
            patch.setattr(Path, name, self._change(getattr(Path, name)))

    def _change(self, real: Any) -> Any:
        def changed(path: Path, *arguments: Any, **options: Any) -> Any:
            self._tick()
            result = real(path, *arguments, **options)
            self._tick()
            return result

        return changed

    def _tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Memory:
    """Runs every job once; later its work file is written from memory, as it was."""

    def __init__(self) -> None:
        self._made: dict[str, bytes] = {}

    def __call__(self, function: Any, jobs: list[ClipJob]) -> Iterator[tuple[ClipJob, ClipEntry]]:
        for job in jobs:
            if job.clip.name not in self._made:
                function(job)
                self._made[job.clip.name] = job.target.read_bytes()
            partial = job.target.with_suffix(".partial")
            partial.write_bytes(self._made[job.clip.name])
            partial.replace(job.target)
            yield job, Shard(job.target).entries[0]


def test_a_kill_before_or_after_any_write_loses_nothing(
    folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, memory = contents(whole), Memory()
    run(folder, tmp_path / "first", run_jobs=memory)
    assert contents(tmp_path / "first") == expected
    for moment in range(1, 200):
        output = tmp_path / str(moment)
        with monkeypatch.context() as patch:
            switch = KillSwitch(patch, moment)
            with contextlib.suppress(Killed):
                run(folder, output, run_jobs=memory)
        for shard in output.glob("shard-*.safetensors"):
            Shard(shard)  # never half a shard
        run(folder, output, run_jobs=memory)
        assert contents(output) == expected, f"killed at moment {moment}"
        if switch.left > 0:
            break
    assert switch.left > 0, "the last run came to its end"
    assert moment > 25, "the others did not"


RUN = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_prepare import OPTIONS, run
from moda.workers import LocalProcesses, run_here

if __name__ == "__main__":
    workers = int(sys.argv[4])
    run(Path(sys.argv[1]), Path(sys.argv[2]), OPTIONS,
        run_jobs=LocalProcesses(workers) if workers > 1 else run_here)
"""


def killed_run(folder: Path, output: Path, script: Path, *, workers: int, clips: int) -> None:
    """A preparation in a process of its own, killed when so many clips are done."""
    script.write_text(RUN)
    tests = str(Path(__file__).parent)
    arguments = [str(script), str(folder), str(output), tests, str(workers)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(tests).parent), *sys.path])}
    with subprocess.Popen([sys.executable, *arguments], env=environment) as process:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            done = [*output.glob("work/*.safetensors"), *output.glob("shard-*.safetensors")]
            if len(done) >= clips:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was still running"


@pytest.mark.slow
@pytest.mark.parametrize("clips", [1, 2])
def test_a_killed_process_and_the_next_run(
    folder: Path, whole: Path, tmp_path: Path, clips: int
) -> None:
    output = tmp_path / "out"
    killed_run(folder, output, tmp_path / "run.py", workers=1, clips=clips)
    assert not (output / "index.json").exists()
    statuses = run(folder, output)
    assert sum(status == "prepared" for status in statuses.values()) < 4, "some were there"
    assert contents(output) == contents(whole)


@pytest.mark.slow
def test_processes_make_the_same_shards_and_may_be_killed(
    folder: Path, whole: Path, tmp_path: Path
) -> None:
    run(folder, tmp_path / "two", run_jobs=LocalProcesses(2))
    assert contents(tmp_path / "two") == contents(whole)
    output = tmp_path / "killed"
    killed_run(folder, output, tmp_path / "run.py", workers=2, clips=1)
    run(folder, output, run_jobs=LocalProcesses(2))
    assert contents(output) == contents(whole)


class TestTrouble:
    def test_lost_jobs_are_reported_and_made_by_the_next_run(
        self, folder: Path, whole: Path, tmp_path: Path
    ) -> None:
        def lose_ben(function: Any, jobs: list[ClipJob]) -> Iterator[tuple[ClipJob, Any]]:
            for job in jobs:
                yield job, (LostJob("no memory") if job.clip.name == "ben" else function(job))

        with pytest.raises(OutputError, match="1 clips were not made, the first is ben: no memory"):
            run(folder, tmp_path, run_jobs=lose_ben)
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["clips"] == {"failed": 1, "prepared": 3, "skipped": 1}
        run(folder, tmp_path)
        assert contents(tmp_path) == contents(whole)

    def test_a_fault_of_ours_loses_one_clip(
        self, folder: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(clip: CorpusClip, options: PrepareOptions) -> Any:
            if clip.name == "ben":
                raise ZeroDivisionError("division by zero")
            return track_clip(clip, options)

        monkeypatch.setattr(clip_jobs, "track_clip", broken)
        with pytest.raises(OutputError, match="is ben: a fault of MoDA, ZeroDivisionError at test"):
            run(folder, tmp_path)
        assert json.loads((tmp_path / "report.json").read_text())["clips"] == {
            "failed": 1, "prepared": 3, "skipped": 1,
        }  # fmt: skip
        monkeypatch.undo()
        run(folder, tmp_path)
        assert contents(tmp_path) == contents(whole)

    def test_problems_of_the_corpus_are_counted(self, tmp_path: Path) -> None:
        seen: list[tuple[str, int, int]] = []
        corpus = Corpus((), (Problem("x", "missing: no video"), Problem("y", "missing: none")))
        outcomes = prepare_corpus(
            corpus, tmp_path, options=OPTIONS, run_jobs=run_here,
            report=lambda outcome, done, total: seen.append((outcome.name, done, total)),
        )  # fmt: skip
        assert count_reasons(outcomes) == {"missing": 2}
        assert seen == [("x", 1, 2), ("y", 2, 2)]
        assert json.loads((tmp_path / "index.json").read_text())["clips"] == []


class TestCommand:
    def test_lines(self, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            cli.main(["prepare", str(folder), str(tmp_path / "out"), "--keep-all", "--no-sound"])
        assert caught.value.code == 0
        printed = capfd.readouterr()
        lines = printed.err.splitlines()
        assert len(lines) == 5
        assert lines[0].startswith("[1/5] prepared anna: too short: 0.48 s")
        assert "clips a minute, " in lines[0]
        assert lines[0].endswith("min left)")
        out = printed.out.splitlines()
        assert out[0].startswith("4 prepared, 0 kept, 1 skipped; 0.0 minutes of video in ")
        assert [line.split() for line in out[1:]] == [["4", "too", "short"], ["1", "unreadable"]]
        assert not any(clip.has_speech for clip in read_clips([tmp_path / "out"]))

    def test_nothing_of_use_is_an_error(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "videos").mkdir()
        (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
        with pytest.raises(SystemExit) as caught:
            cli.main(["prepare", str(tmp_path / "videos"), str(tmp_path / "out")])
        assert caught.value.code == 2
        line = capfd.readouterr().err.splitlines()[-1]
        report = tmp_path / "out" / "report.json"
        assert line == f"moda: none of the 1 clips can be used; {report} says why"
        assert report.is_file()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--layout", "lrs4"], "unknown corpus 'lrs4'"),
            (["--validation-share", "0.9"], "validation share 0.9 is outside 0..0.5"),
            (["--space", "neural"], "liveportrait is not in"),
            (["--layout", "mead", "--labels", "x.csv"], "mead has its own"),
        ],
        ids=["layout", "share", "weights", "labels"],
    )
    def test_mistakes(
        self, folder: Path, tmp_path: Path, arguments: list[str], message: str,
        monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setenv("MODA_HOME", str(tmp_path / "no models"))
        with pytest.raises(SystemExit) as caught:
            cli.main(["prepare", str(folder), str(tmp_path / "out"), *arguments])
        assert caught.value.code == 2
        printed = capfd.readouterr()
        assert message in printed.err
        assert printed.err.count("\n") == 1


def test_index_of_a_folder_without_shards(tmp_path: Path) -> None:
    prepare.write_index(tmp_path, "neural")
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["space"] == "neural"
    assert MotionStatistics.from_dict(index["statistics"]).mean.shape == (70,)
    assert Outcome("a", "kept").reasons == ()


@pytest.mark.parametrize(
    ("arguments", "device", "asked_for"),
    [
        (["--ray", "local"], "auto", "cpu"),
        (["--ray", "local", "--device", "cuda"], "cuda", "cuda"),
        ([], "cpu", "cpu"),
    ],
)
def test_a_cluster_has_devices_that_this_machine_has_not(
    arguments: list[str],
    device: str,
    asked_for: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.mp4").touch()
    seen: list[str] = []

    def look(found: Corpus, output: Path, *, options: PrepareOptions, **others: Any) -> list[Any]:
        job = ClipJob(found.clips[0], output, "", options)
        seen.extend((options.device, clip_jobs.device_of(job)))
        return []

    monkeypatch.setattr(prepare_command, "prepare_corpus", look)
    monkeypatch.setattr(prepare_command, "RayCluster", lambda *arguments: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        cli.main(["prepare", str(tmp_path / "corpus"), str(tmp_path / "out"), *arguments])
    assert seen == [device, asked_for]
