"""Snapshots are whole or absent, and only the last few stay."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from moda.errors import CheckpointError, OutputError
from moda.training.run_log import RunLog
from moda.training.snapshots import Snapshots
from small_runs import read_log


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path / "snapshots", keep=2)
    assert snapshots.read() is None
    for step in (5, 10, 1500):
        snapshots.write(step, {"weight": torch.full((3,), float(step))})
    assert [path.name for path in snapshots.paths()] == ["step-00000010.pt", "step-00001500.pt"]
    found = snapshots.read()
    assert found is not None
    assert found.step == 1500
    assert torch.equal(found.state["weight"], torch.full((3,), 1500.0))


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(tmp_path, keep=1)
    snapshots.write(5, {"weight": torch.ones(3)})

    def half(state: dict[str, Any], file: Any) -> None:
        file.write(b"half a state")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OutputError, match="no space left"):
        snapshots.write(10, {"weight": torch.zeros(3)})
    found = snapshots.read()
    assert found is not None
    assert found.step == 5


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, keep=2)
    path = snapshots.write(5, {"weight": torch.ones(3)})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"step-00000005\.pt is damaged"):
        snapshots.read()


def test_the_log_forgets_what_will_happen_again(tmp_path: Path) -> None:
    with closing(RunLog(tmp_path, step=0)) as log:
        for step in range(1, 8):
            log.scalars({"step": step, "flow": 1.0 / step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "fl')  # what a kill leaves
    with closing(RunLog(tmp_path, step=5)) as log:
        assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5]
        log.scalars({"step": 6, "flow": 0.5})
    assert read_log(tmp_path)[-1] == {"step": 6, "flow": 0.5}


def test_scalars_and_pictures_reach_tensorboard(tmp_path: Path) -> None:
    import numpy as np
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with closing(RunLog(tmp_path, step=0)) as log:
        for step in range(1, 4):
            log.scalars({"step": step, "flow": 1.0 / step})
        log.picture("preview", np.zeros((8, 16, 3), np.uint8), 3)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("flow")] == [1, 2, 3]
    assert events.Scalars("flow")[1].value == pytest.approx(0.5)
    assert events.Images("preview")[0].width == 16
