"""Checkpoints: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from moda.config import (
    ModelConfig,
    SamplerConfig,
    SpeechEmbedderConfig,
    SpeechFeaturesConfig,
    preset,
)
from moda.errors import CheckpointError, OutputError
from moda.motion.model import MotionTransformer
from moda.structures import MotionSpace
from moda.weights import files, motion_files, spaces
from moda.weights.checkpoints import (
    load_checkpoint,
    load_weights,
    read_network_weights,
    save_checkpoint,
    save_network_weights,
)
from moda.weights.files import ASSETS, read_arrays, write_arrays
from moda.weights.spaces import MESH_SPACE, load_motion_space, save_motion_space

Arrays = dict[str, NDArray[Any]]
Change = Callable[[Arrays, dict[str, str]], None]

STATISTICS = {
    "mean": np.linspace(-1, 1, 12, dtype=np.float32),
    "std": np.linspace(1, 2, 12, dtype=np.float32),
}
NEURAL = MotionSpace("neural", (("expression", 5),), **STATISTICS, pose_reference="camera")
MESH = MotionSpace(
    "mesh",
    (("mouth", 3), ("blink", 2)),
    **STATISTICS,
    pose_reference="rest",
    canonical_face=np.random.default_rng(0).normal(size=(478, 3)).astype(np.float32),
    triangles=np.array([[0, 1, 2], [2, 3, 467]], np.int32),
    basis=np.ones((4, 468, 3), np.float32),
)


def small_model() -> MotionTransformer:
    config = replace(
        preset("moda-tiny").motion,
        motion_size=12,
        hidden=16,
        num_heads=2,
        mouth_size=3,
        unsampled=(),
        speech=SpeechFeaturesConfig("whisper", channels=4),
        speech_embedder=SpeechEmbedderConfig(
            "reader",
            width=8,
            dilations=(),
            context=4,
            num_phones=4,
            voice_spans=(9,),
            compressed=3,
        ),
    )
    torch.manual_seed(0)
    model = MotionTransformer(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.uniform_(-1, 1)
    return model


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    with safe_open(path, framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, small_model(), MESH, {"steps": "12"})
    return path


def assert_same_space(found: MotionSpace, expected: MotionSpace) -> None:
    for name in ("name", "groups", "pose_reference"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("mean", "std", "canonical_face", "triangles", "basis"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None
        else:
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.mark.parametrize("space", [NEURAL, MESH])
def test_what_is_saved_is_loaded(tmp_path: Path, space: MotionSpace) -> None:
    model = small_model()
    config = ModelConfig("mine", model.config, SamplerConfig(num_steps=4, guidance_scale=2.5))
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, model, space, {"corpus": "HDTF", "ä": "ö"}, config=config)
    loaded_model, loaded_space, loaded_config, metadata = load_checkpoint(path)
    assert loaded_config == config
    assert metadata == {"corpus": "HDTF", "ä": "ö"}
    assert_same_space(loaded_space, space)
    assert not loaded_model.training
    expected = model.state_dict()
    found = loaded_model.state_dict()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
        assert found[key].dtype == value.dtype
    learns = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert FINAL.removeprefix("model.") in learns
    loaded = loaded_model.named_parameters()
    assert {name for name, weight in loaded if weight.requires_grad} == learns
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_defaults_are_the_name_of_the_file_and_default_sampling(path: Path) -> None:
    config = load_checkpoint(str(path)).config
    assert (config.name, config.sampler) == ("small", SamplerConfig())


def test_saving_is_reproducible(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again" / "small.safetensors"
    again.parent.mkdir()
    save_checkpoint(again, small_model(), MESH, {"steps": "12"})
    assert read(again)[1]["sha256"] == read(path)[1]["sha256"]


def test_who_may_read_a_saved_file_is_the_usual(path: Path, tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode


def drop(key: str) -> Change:
    return lambda arrays, header: (arrays if key in arrays else header).pop(key)  # type: ignore[attr-defined]


def put(key: str, value: Any) -> Change:
    def change(arrays: Arrays, header: dict[str, str]) -> None:
        target: Any = header if isinstance(value, str) else arrays
        target[key] = value

    return change


def describe(**entries: Any) -> Change:
    def change(arrays: Arrays, header: dict[str, str]) -> None:
        header["space"] = json.dumps(json.loads(header["space"]) | entries)

    return change


def configure(part: str, **entries: Any) -> Change:
    def change(arrays: Arrays, header: dict[str, str]) -> None:
        config = json.loads(header["config"])
        (config[part] if part else config).update(entries)
        header["config"] = json.dumps(config)

    return change


FINAL = "model.final_layer.linear.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(FINAL), r"missing: final_layer\.linear\.bias"),
        (put("model.extra", np.zeros(3, np.float32)), r"unexpected: extra"),
        (put("optimiser.step", np.zeros(1, np.float32)), r"unexpected tensor 'optimiser\.step'"),
        (put(FINAL, np.zeros(11, np.float32)), r"linear\.bias is \(11,\).*expected \(12,\)"),
        (put(FINAL, np.zeros(12, np.float64)), r"linear\.bias.*float64.*float32"),
        (put(FINAL, np.zeros(12, np.int32)), r"linear\.bias.*int32"),
        (drop("space.mean"), r"motion space.*missing: mean"),
        (put("space.colour", np.zeros(2, np.float32)), r"motion space.*unexpected: colour"),
        (put("space.std", np.full(12, -1, np.float32)), r"'std' has negative"),
        (put("space.std", np.full(12, np.nan, np.float32)), r"'std'.*finite"),
        (put("space.mean", np.zeros(13, np.float32)), r"'mean' is \(13,\)"),
        (put("space.triangles", np.full((1, 3), 468, np.int32)), r"'triangles' must be"),
        (put("space.triangles", np.full((1, 3), -1, np.int32)), r"'triangles' must be"),
        (put("space.triangles", np.zeros(3, np.int32)), r"'triangles' must be"),
        (put("space.basis", np.zeros((6, 468, 3), np.float32)), r"'basis' is \(6, 468, 3\)"),
        (put("space.canonical_face", np.zeros((9, 3), np.float32)), r"'canonical_face'"),
        (describe(name="sphere"), r"unknown motion space 'sphere'"),
        (describe(name=["mesh"]), r"motion space"),
        (describe(name="neural"), r"unexpected: basis"),
        (describe(pose_reference="moon"), r"moon"),
        (describe(groups=[["mouth", 4]]), r"space tensor 'mean'|motion size 12"),
        (describe(groups=[["mouth", -5], ["blink", 10]]), r"group sizes"),
        (describe(groups=7), r"damaged"),
        (put("space", "no json"), r"damaged"),
        (drop("config"), r"header lacks config"),
        (drop("space"), r"header lacks space"),
        (drop("sha256"), r"header lacks sha256"),
        (drop("format_version"), r"format None.*reads '1'"),
        (put("format_version", "2"), r"format '2'.*reads '1'"),
        (put("config", "{"), r"not JSON"),
        (put("metadata", "[1]"), r"metadata must be an object"),
        (configure("motion", depth=3), r"unknown key 'depth'"),
        (configure("motion", hidden=10**9), r"hidden 1000000000 is outside"),
        (configure("motion", motion_size=13), r"motion size 13"),
        (configure("motion", one_stream_blocks=3), r"missing: one_stream_blocks\.2"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    path: Path, change: Change, message: str
) -> None:
    arrays, header = read(path)
    change(arrays, header)
    save_file(arrays, path, metadata=header)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path, verify=False)
    with pytest.raises(CheckpointError, match=r"SHA-256|lacks|format"):
        load_checkpoint(path)


def earlier(**embedder: Any) -> Change:
    """What the header of earlier versions said of their speech embedder, on spectra."""

    def change(arrays: Arrays, header: dict[str, str]) -> None:
        config = json.loads(header["config"])
        config["motion"]["speech"]["kind"] = "log_mel"
        config["motion"]["speech_embedder"] = {
            "kind": "conv", "width": 8, "dilations": [1], "context": 4, "dropout": 0.1, "delay": 2,
            **embedder,
        }  # fmt: skip
        config["sampler"] = {"num_steps": 4, "guidance_scale": 1.0, "head_gain": 1.6}
        header["config"] = json.dumps(config)

    return change


@pytest.mark.parametrize(
    "change",
    [
        earlier(num_phones=17, voice_spans=[9, 25, 65]),
        earlier(num_phones=17, voice_spans=[]),
        earlier(num_phones=17),
    ],
)
def test_models_of_earlier_versions_are_refused_in_one_line(path: Path, change: Change) -> None:
    arrays, header = read(path)
    change(arrays, header)
    save_file(arrays, path, metadata=header)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, verify=False)
    assert str(caught.value) == (
        f"{path} was made by an earlier version, whose speech embedder recognised phones from "
        "spectra and is gone; train it again with its recipe, or use the release that made it"
    )


def test_one_gain_of_the_head_counts_for_all_its_numbers(path: Path) -> None:
    """As earlier versions wrote it, also into moda-base, which is still read."""
    arrays, header = read(path)
    config = json.loads(header["config"])
    del config["sampler"]["head_gains"], config["sampler"]["head_noise"]
    config["sampler"]["head_gain"] = 1.6
    save_file(arrays, path, metadata=header | {"config": json.dumps(config)})
    assert load_checkpoint(path, verify=False).config.sampler == SamplerConfig(
        head_gains=(1.6,) * 6
    )


@pytest.mark.parametrize(
    "change",
    [
        configure("", name="other"),
        configure("sampler", num_steps=3),
        put("metadata", '{"steps": "13"}'),
        put("space.mean", np.zeros(12, np.float32)),
    ],
)
def test_changes_that_would_fit_are_caught_by_the_hash(path: Path, change: Change) -> None:
    arrays, header = read(path)
    change(arrays, header)
    save_file(arrays, path, metadata=header)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(path)
    load_checkpoint(path, verify=False)


def test_one_flipped_bit_is_caught(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-10] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_file_cut_short_is_refused(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_checkpoint(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 a pickle", b"\xff" * 64, b"{}"])
def test_another_format_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for load in (load_checkpoint, load_motion_space):
        with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
            load(path)


def test_a_type_that_numpy_does_not_know_is_refused(path: Path) -> None:
    from safetensors.torch import save_file as save_torch

    save_torch({"model.x": torch.zeros(3, dtype=torch.bfloat16)}, path, {"format_version": "1"})
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_names_and_paths_that_do_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"'moda-huge'.*built-in names are moda-tiny"):
        load_checkpoint("moda-huge")
    with pytest.raises(CheckpointError, match="not a file"):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="is a folder; no model is in it"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "small.safetensors", small_model(), MESH)
    with pytest.raises(CheckpointError, match=r"give the model in it: .*small\.safetensors$"):
        load_checkpoint(tmp_path)
    for module in (motion_files, spaces):
        monkeypatch.setattr(module, "ASSETS", tmp_path)
    with pytest.raises(CheckpointError, match=r"moda-tiny.*not in this installation.*reinstall"):
        load_checkpoint("moda-tiny")
    with pytest.raises(CheckpointError, match=r"mesh_space.*missing; reinstall"):
        load_motion_space()


def test_a_built_in_name_is_an_asset(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(motion_files, "ASSETS", tmp_path)
    path.rename(tmp_path / "moda-tiny.safetensors")
    assert load_checkpoint("moda-tiny").config.name == "small"


def test_parts_that_do_not_belong_together_are_not_saved(tmp_path: Path) -> None:
    path, model = tmp_path / "a.safetensors", small_model()
    larger = replace(NEURAL, groups=(("expression", 6),))
    with pytest.raises(CheckpointError, match=r"motion size 12.*13"):
        save_checkpoint(path, model, larger)
    with pytest.raises(CheckpointError, match="not that of the model"):
        save_checkpoint(path, model, NEURAL, config=preset("moda-tiny"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(arrays: Arrays, name: Path, metadata: dict[str, str]) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(OutputError, match="no space left"):
        save_checkpoint(path, small_model(), MESH)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.undo()
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "no" / "folder.safetensors", small_model(), MESH)


@pytest.mark.parametrize("space", [NEURAL, MESH])
def test_motion_space_by_itself(tmp_path: Path, space: MotionSpace) -> None:
    path = tmp_path / "space.safetensors"
    save_motion_space(path, space)
    assert_same_space(load_motion_space(path), space)
    arrays, _ = read(path)
    save_file(arrays, path)
    with pytest.raises(CheckpointError, match="not a motion space"):
        load_motion_space(path)


def test_a_mesh_space_may_be_without_its_surface(tmp_path: Path) -> None:
    path = tmp_path / "space.safetensors"
    bare = replace(MESH, canonical_face=None, triangles=None, basis=None)
    save_motion_space(path, bare)
    assert_same_space(load_motion_space(path), bare)


def test_the_mesh_space_of_the_package() -> None:
    if not (ASSETS / MESH_SPACE).exists():
        pytest.skip("the asset is not there yet")
    space = load_motion_space()
    assert (space.name, space.size, space.pose_reference) == ("mesh", 33, "rest")
    assert space.basis is not None


def test_weights_into_a_model_are_copied_and_onto_meta_are_taken_over() -> None:
    weights = small_model().state_dict()
    with torch.device("meta"):
        empty = MotionTransformer(small_model().config)
    full = small_model()
    load_weights(empty, weights)
    load_weights(full, weights)
    key = "final_layer.linear.weight"
    weights[key].fill_(7.0)
    assert empty.state_dict()[key].eq(7).all()
    assert not full.state_dict()[key].eq(7).any()


NETWORK_WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}


@pytest.fixture
def network_path(tmp_path: Path) -> Path:
    path = tmp_path / "network.safetensors"
    metadata = {"source": "ö"}
    save_network_weights(path, "lens", NETWORK_WEIGHTS, config='{"x": 1}', metadata=metadata)
    return path


def test_other_networks_are_saved_and_read(network_path: Path) -> None:
    weights, config, metadata = read_network_weights(network_path, "lens")
    assert weights.keys() == NETWORK_WEIGHTS.keys()
    for key, value in NETWORK_WEIGHTS.items():
        assert torch.equal(weights[key], value)
        assert weights[key].dtype == value.dtype
    assert (config, metadata) == ('{"x": 1}', {"source": "ö"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("a.weight", np.zeros((2, 3), np.float32)), "SHA-256"),
        (put("kind", "mirror"), "SHA-256"),
        (put("config", '{"x": 2}'), "SHA-256"),
        (put("metadata", "{}"), "SHA-256"),
        (drop("kind"), "header lacks kind"),
        (put("format_version", "2"), "format '2'"),
    ],
)
def test_changed_files_of_other_networks_are_refused(
    network_path: Path, change: Change, message: str
) -> None:
    arrays, header = read(network_path)
    change(arrays, header)
    save_file(arrays, network_path, metadata=header)
    with pytest.raises(CheckpointError, match=message):
        read_network_weights(network_path, "lens")


def test_a_file_of_another_kind_is_refused(network_path: Path, path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds 'lens', expected 'mirror'"):
        read_network_weights(network_path, "mirror")
    with pytest.raises(CheckpointError, match="header lacks kind"):
        read_network_weights(path, "lens")
    with pytest.raises(CheckpointError, match="header lacks space"):
        load_checkpoint(network_path)


def test_long_lists_of_names_are_shortened() -> None:
    with pytest.raises(CheckpointError, match=r"missing: .* and \d+ more") as caught:
        load_weights(small_model(), {})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_neither_written_nor_read(
    path: Path, tmp_path: Path, value: float
) -> None:
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    key = max((key for key in arrays if key.startswith("model.")), key=lambda k: arrays[k].size)
    arrays[key].reshape(-1)[-1] = value
    target = tmp_path / "bad.safetensors"
    with pytest.raises(CheckpointError, match=f"{key}.*not finite"):
        write_arrays(target, arrays, {})
    assert not target.exists()
    save_file(arrays, target)
    with pytest.raises(CheckpointError, match=f"{key}.*not finite"):
        read_arrays(target)
