"""Jobs in processes: all results once, killed workers replaced, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch

from moda import workers
from moda.errors import InputError
from moda.workers import (
    MAX_ATTEMPTS,
    VISIBLE_GPUS,
    LocalProcesses,
    LostJob,
    RayCluster,
    one_thread,
    run_here,
    take_gpu,
)


def square(job: int) -> int:
    return job * job


def die_the_first_time(job: Path) -> str:
    """Kills its process unless a run before has left a file."""
    tries = len(list(job.parent.glob(f"{job.name}-*")))
    if job.name.startswith("mortal") and tries < 1:
        (job.parent / f"{job.name}-{tries}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if job.name.startswith("fatal"):
        (job.parent / f"{job.name}-{tries}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job.name


def fail(job: int) -> int:
    raise ZeroDivisionError(f"job {job}")


def test_here() -> None:
    assert list(run_here(square, [1, 2, 3])) == [(1, 1), (2, 4), (3, 9)]
    with pytest.raises(ZeroDivisionError):
        list(run_here(fail, [1]))


def test_one_thread_and_back() -> None:
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    with one_thread():
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 2)


@pytest.mark.parametrize(
    ("named", "found", "expected"),
    [
        (None, 3, ["0", "1", "2", "0"]),
        ("4,2", 2, ["4", "2", "4", "2"]),
        ("GPU-8932f937", 1, ["GPU-8932f937"] * 4),
        ("", 0, [""] * 4),
        (None, 1, [None] * 4),
        (None, 0, [None] * 4),
    ],
)
def test_workers_share_the_gpus_out(
    named: str | None,
    found: int,
    expected: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "count_gpus", lambda: found)
    seen = []
    for number in range(4):
        monkeypatch.delenv(VISIBLE_GPUS, raising=False)
        if named is not None:
            monkeypatch.setenv(VISIBLE_GPUS, named)
        take_gpu(number)
        seen.append(os.environ.get(VISIBLE_GPUS))
    assert seen == expected


def gpu_of_this_process(job: int) -> str:
    time.sleep(0.2)  # or one worker does all
    return os.environ[VISIBLE_GPUS]


@pytest.mark.slow
def test_each_process_has_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE_GPUS, "5,7")
    gpus = [gpu for _, gpu in LocalProcesses(2)(gpu_of_this_process, range(12))]
    assert set(gpus) == {"5", "7"}


class RayDouble:
    """As much of Ray as :class:`RayCluster` asks for; remembers the GPUs that jobs ask for."""

    exceptions = SimpleNamespace(
        WorkerCrashedError=OSError, OutOfMemoryError=OSError, NodeDiedError=OSError
    )

    def __init__(self, **resources: float) -> None:
        self.resources, self.num_gpus = resources, list[float]()

    def init(self, **options: object) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **options: object) -> Callable[[Callable[[Any], Any]], Any]:
        def options_of(function: Callable[[Any], Any], num_gpus: float) -> SimpleNamespace:
            self.num_gpus.append(num_gpus)
            return SimpleNamespace(remote=lambda job: (function, job))

        return lambda function: SimpleNamespace(
            options=lambda num_gpus: options_of(function, num_gpus)
        )

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return running[:num_returns], running[num_returns:]

    def get(self, done: tuple[Callable[[Any], Any], Any]) -> object:
        return done[0](done[1])


class TestGpusOfACluster:
    def cluster(
        self, monkeypatch: pytest.MonkeyPatch, **resources: float
    ) -> tuple[RayDouble, RayCluster]:
        double = RayDouble(**resources)
        monkeypatch.setitem(sys.modules, "ray", double)
        return double, RayCluster("local", 2, device_of=lambda job: job)

    def test_jobs_on_gpus_ask_for_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        double, cluster = self.cluster(monkeypatch, CPU=8, GPU=2)
        jobs = ["cpu", "cuda", "auto", "cpu"]
        assert list(cluster(str.upper, jobs)) == [(job, job.upper()) for job in jobs]
        assert double.num_gpus == [0, 1, 1, 0]

    def test_a_cluster_without_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        double, cluster = self.cluster(monkeypatch, CPU=8)
        assert dict(cluster(str.upper, ["auto"])) == {"auto": "AUTO"}
        assert double.num_gpus == [0]
        with pytest.raises(InputError, match="this Ray cluster has no GPU"):
            list(cluster(str.upper, ["cuda"]))


@pytest.mark.slow
def test_processes() -> None:
    assert sorted(LocalProcesses(2)(square, range(5))) == [(n, n * n) for n in range(5)]
    with pytest.raises(ZeroDivisionError, match="job 1"):
        list(LocalProcesses(2)(fail, [1]))


@pytest.mark.slow
def test_killed_workers(tmp_path: Path) -> None:
    """What died by accident is done; what kills every worker is given up, and nothing else."""
    jobs = [tmp_path / name for name in ("a", "mortal", "b", "fatal", "c")]
    results = dict(LocalProcesses(2)(die_the_first_time, jobs))
    lost = results.pop(tmp_path / "fatal")
    assert isinstance(lost, LostJob)
    assert str(MAX_ATTEMPTS) in lost.reason
    assert len(list(tmp_path.glob("fatal-*"))) == MAX_ATTEMPTS
    for job, result in results.items():
        assert result == job.name


WAITING = """
import os, sys, time
from pathlib import Path
from moda.workers import LocalProcesses

def wait(path):
    path.write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(LocalProcesses(1)(wait, [Path(sys.argv[1])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script, note = tmp_path / "waiting.py", tmp_path / "pid"
    script.write_text(WAITING)
    with subprocess.Popen([sys.executable, str(script), str(note)]) as process:
        deadline = time.monotonic() + 120
        while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        worker = Path("/proc") / note.read_text()
        assert worker.exists()
        process.kill()
        process.wait()
        while worker.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not worker.exists()
