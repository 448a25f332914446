"""Several processes train what one would; a killed run goes on as if it had not been."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from moda.errors import InputError, MissingExtraError
from moda.training.loop import Trainer
from moda.training.options import TrainingOptions
from moda.training.processes import Processes, join_processes
from small_runs import mesh_trainer, read_log, run_logged, start

OPTIONS = TrainingOptions(
    speech_steps=3,
    flow_steps=5,
    batch_size=8,
    window_frames=(16, 24),
    warm_up_steps=2,
    checkpoint_every=3,
    log_every=1,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the programs that are started: sums come out another way on two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """One process that was never interrupted."""
    return run_logged(tmp_path_factory.mktemp("alone"), OPTIONS)


def curve(folder: Path) -> list[dict[str, float]]:
    return [{**line, "seconds": 0.0} for line in read_log(folder)]


def test_two_processes_train_what_one_does(alone: Trainer, tmp_path: Path) -> None:
    """Each of the two has half of every batch, in two passes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    options = replace(OPTIONS, accumulation=2)
    runs = [
        start(tmp_path, options, RANK=str(rank), LOCAL_RANK=str(rank), **together)
        for rank in range(2)
    ]
    assert [run.wait(timeout=900) for run in runs] == [0, 0]
    expected, found = curve(alone.folder), curve(tmp_path)
    assert len(found) == len(expected) == 8
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, rel=2e-5)
    trainer = mesh_trainer(tmp_path, OPTIONS)
    assert trainer.resume()
    for name, value in alone.average.state_dict().items():
        torch.testing.assert_close(
            trainer.average.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name
        )


def test_passes_add_up_to_one(alone: Trainer, tmp_path: Path) -> None:
    run_logged(tmp_path, replace(OPTIONS, accumulation=4))
    for one, other in zip(curve(alone.folder), curve(tmp_path), strict=True):
        assert other == pytest.approx(one, rel=2e-5)


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL as soon as a step after the first snapshot is logged, then the rest in here."""
    options = replace(OPTIONS, flow_steps=40)
    alone = run_logged(tmp_path / "alone", options)
    folder = tmp_path / "killed"
    folder.mkdir()
    run = start(folder, options)
    deadline = time.monotonic() + 900.0
    try:
        while not any(line["step"] >= 4 for line in read_log(folder)):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.002)
    finally:
        run.kill()
    assert run.wait(timeout=60) == -signal.SIGKILL
    again = mesh_trainer(folder, options)
    assert again.resume()
    assert 3 <= again.step < again.num_steps
    finished = run_logged(folder, options)
    assert curve(folder) == curve(alone.folder)
    assert len(curve(folder)) == alone.num_steps
    for name, value in alone.average.state_dict().items():
        assert torch.equal(finished.average.state_dict()[name], value), name


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"8 windows cannot be shared .* multiple of 3"):
        mesh_trainer(tmp_path, replace(OPTIONS, accumulation=3))


def test_one_process_needs_no_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert type(join_processes("cpu", {})) is Processes
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[train\]'"):
        join_processes("cpu", {"WORLD_SIZE": "2"})
    with pytest.raises(MissingExtraError):
        join_processes("cpu", {"ACCELERATE_MIXED_PRECISION": "no"})


def test_precision_is_the_recipes() -> None:
    with pytest.raises(InputError, match=r"'bf16'.* set 'precision'"):
        join_processes("cpu", {"ACCELERATE_MIXED_PRECISION": "bf16"})
