"""Jobs in processes: all results once, killed workers replaced, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch

from moda.workers import MAX_ATTEMPTS, LocalProcesses, LostJob, one_thread, run_here


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
