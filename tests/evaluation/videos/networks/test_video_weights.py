"""Weights of others: recognised by their contents, checked, converted, and otherwise refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from moda import cli
from moda.errors import CheckpointError
from moda.evaluation.videos.networks.identity import ResidualBlock
from moda.evaluation.videos.networks.learned import available_scorers
from moda.evaluation.videos.networks.syncnet import SyncNet
from moda.evaluation.videos.networks.weights import (
    build_network,
    convert_weights,
    find_weights,
    load_network,
    weights_folder,
)
from moda.weights.catalogue import METRIC_NETWORKS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return SyncNet().state_dict()


def save(path: Path, tensors: object) -> Path:
    torch.save(tensors, path)
    return path


def test_official_file_becomes_ours(
    tmp_path: Path, home: Path, state: dict[str, torch.Tensor]
) -> None:
    official = {key: value for key, value in state.items() if "num_batches" not in key}
    named = {f"module.{key}": value for key, value in official.items()}
    wrapped = {"state_dict": named, "epoch": 3}
    converted = convert_weights(save(tmp_path / "any_name.model", wrapped))
    assert converted == ("syncnet", home / "evaluation" / "syncnet.safetensors")
    assert find_weights("syncnet") == converted.path
    network = load_network("syncnet", converted.path)
    assert not network.training
    torch.testing.assert_close(network.state_dict()["netfcaud.3.bias"], state["netfcaud.3.bias"])
    scorers, absent = available_scorers()
    assert len(scorers) >= 1
    assert not any(entry.metrics.startswith("Sync") for entry in absent)


def test_without_weights_every_metric_says_what_gets_it() -> None:
    _, absent = available_scorers()
    by_metric = {entry.metrics: entry for entry in absent}
    assert {"Sync-C, Sync-D", "CSIM (SFace)", "CSIM (ArcFace)", "FVD"} <= set(by_metric)
    assert by_metric["Sync-C, Sync-D"].command == (
        "curl -LO http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model && "
        "moda evaluate-weights convert syncnet_v2.model"
    )
    assert all(entry.command and entry.reason for entry in absent)


@pytest.mark.parametrize("change", ["missing", "too much", "shape"])
def test_a_file_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, state: dict[str, torch.Tensor], change: str
) -> None:
    tensors = dict(state)
    name = {"missing": "netcnnaud.4.weight", "too much": "surplus", "shape": "netfclip.3.bias"}
    if change == "missing":
        del tensors[name[change]]
    else:
        tensors[name[change]] = torch.zeros(7)
    with pytest.raises(CheckpointError, match=name[change].replace(".", r"\.")):
        convert_weights(save(tmp_path / "bad.pt", tensors))
    assert not list(weights_folder().glob("*.safetensors"))


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "sprung"),)  # type: ignore[return-value]

    path = tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps({"netfclip.3.weight": Trap()}))
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        convert_weights(path)
    assert not (tmp_path / "sprung").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="none of syncnet, i3d, sface, arcface"):
        convert_weights(save(tmp_path / "other.pt", {"weight": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match="holds a list, not weights"):
        convert_weights(save(tmp_path / "list.pt", [1, 2]))
    with pytest.raises(CheckpointError, match="does not exist"):
        convert_weights(tmp_path / "none.pt")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(CheckpointError, match="no face recogniser"):
        convert_weights(junk)


def test_face_networks_are_told_apart_by_their_depth() -> None:
    with torch.device("meta"):
        small = build_network("arcface", {})
        large = build_network("arcface", {"layer3.29.conv1.weight": torch.zeros(1)})
    blocks = [
        sum(isinstance(part, ResidualBlock) for part in network.modules())
        for network in (small, large)
    ]
    assert blocks == [24, 49]


def test_list_names_licences_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate-weights", "list"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for entry in METRIC_NETWORKS.values():
        assert entry.licence in text
        assert entry.command in text
    assert text.count("(missing)") == len(METRIC_NETWORKS)
