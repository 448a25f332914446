"""Official files become ours, or are refused by the names of what is wrong in them."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from moda.config import preset
from moda.encoders.neural.hubert import build_hubert
from moda.errors import CheckpointError, ConfigError, OutputError
from moda.motion.model import MotionTransformer
from moda.weights.checkpoints import save_network_weights
from moda.weights.official import (
    KINDS,
    LIVE_PORTRAIT,
    convert_official_files,
    convert_published_motion_keys,
    load_hubert,
    load_live_portrait,
    load_published_space,
    read_official,
    recorded_null_speech,
)
from official_files import (
    BASE_MODELS,
    HUBERT_CONFIG,
    motion_state,
    official_shapes,
    official_state,
    write_hubert,
    write_live_portrait,
    zeros,
)
from published_weights import fill

GOLDEN = Path(__file__).parents[1] / "data" / "published"
NULL_KEY = "speech_embedder.null_speech"
Change = Callable[[dict[str, Any]], None]


def test_the_motion_space_is_the_recorded_one() -> None:
    space = load_published_space()
    with np.load(GOLDEN / "motion_stats.npz") as golden:
        np.testing.assert_array_equal(space.mean, golden["mean"])
        np.testing.assert_array_equal(space.std, golden["std"])
    assert (space.name, space.size, space.pose_reference) == ("neural", 70, "camera")
    assert space.slice("scale") == slice(63, 64)
    assert space.slice("roll") == slice(69, 70)


def test_the_null_speech_is_what_the_entry_script_draws() -> None:
    with np.load(GOLDEN / "null_feats_seed42.npz") as golden:
        recorded = golden["seed42_after_hubert/null_audio_feat"]
    np.testing.assert_array_equal(recorded_null_speech().numpy(), recorded)


def test_moda_base_has_exactly_the_official_tensors() -> None:
    with torch.device("meta"):
        ours = MotionTransformer(preset("moda-base").motion).state_dict()
    converted = convert_published_motion_keys(motion_state(zeros))
    assert converted.keys() == ours.keys()
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in ours.items()
    }


def test_rows_of_one_stream_blocks_are_kept_in_two_parts() -> None:
    rows = torch.arange(7 * 768.0)
    state = motion_state(zeros) | {"talking_head_dit.blocks.3.qkv_xs.bias": rows}
    converted = convert_published_motion_keys(state)
    query_and_inner = converted["one_stream_blocks.3.query_and_inner.bias"]
    key_and_value = converted["one_stream_blocks.3.key_and_value.bias"]
    assert torch.equal(key_and_value, rows[768 : 3 * 768])
    assert torch.equal(query_and_inner, torch.cat((rows[:768], rows[3 * 768 :])))


def test_null_speech_of_the_file_or_the_recorded_one() -> None:
    state = motion_state(zeros) | {"null_audio_feat": torch.full((1, 1, 1, 1, 768), 2.0)}
    assert convert_published_motion_keys(state)[NULL_KEY].eq(2).all()
    for key in ("null_audio_feat", "null_motion_feat", "scheduler.sigmas"):
        del state[key]
    assert torch.equal(convert_published_motion_keys(state)[NULL_KEY], recorded_null_speech())
    with pytest.raises(CheckpointError, match=r"null_audio_feat is \(5,\).*768"):
        convert_published_motion_keys(state | {"null_audio_feat": torch.zeros(5)})


def rename(old: str, new: str) -> Change:
    return lambda state: state.update({new: state.pop(old)})


def drop(key: str) -> Change:
    return lambda state: state.pop(key)


def put(key: str, value: Any) -> Change:
    return lambda state: state.update({key: value})


LAST = "talking_head_dit.final_layer.linear.bias"
POSITION = "encoder.pos_conv_embed.conv.parametrizations"
FIRST_CONV = "feature_extractor.conv_layers.0.conv.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename(LAST, "talking_head_dit.new.bias"), rf"missing: {LAST}; unexpected: .*new\.bias"),
        (drop(LAST), rf"missing: {LAST}$"),
        (put("talking_head_dit.extra", torch.zeros(1)), r"unexpected: talking_head_dit\.extra$"),
        (put(LAST, torch.zeros(71)), rf"{LAST} is \(71,\) .*expected \(70,\)"),
        (put(LAST, torch.zeros(70).half()), rf"{LAST} is .*float16, expected .*float32"),
        (
            put("talking_head_dit.blocks.2.qkv_xs.bias", torch.zeros(5)),
            r"blocks\.2\.qkv_xs\.bias is \(5,\) .*expected \(5376,\)",
        ),
    ],
)
def test_motion_files_that_do_not_fit_are_refused_by_name(change: Change, message: str) -> None:
    state = motion_state(zeros)
    change(state)
    with pytest.raises(CheckpointError, match=message):
        convert_published_motion_keys(state)


@pytest.fixture(scope="module")
def live_portrait_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Official LivePortrait files full of zeros."""
    return write_live_portrait(tmp_path_factory.mktemp("official"), zeros)


def changed(source: Path, folder: Path, change: Change) -> Path:
    """A copy of an official file with another content."""
    state = dict(torch.load(source, weights_only=True))
    change(state)
    path = folder / source.name
    torch.save(state, path)
    return path


def with_changed_part(part: str, change: Change) -> Change:
    return lambda state: state.update({part: apply(dict(state[part]), change)})


def apply(state: dict[str, Any], change: Change) -> dict[str, Any]:
    change(state)
    return state


ORIG = "G_middle_0.conv_0.weight_orig"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "base_models/appearance_feature_extractor.pth",
            rename("second.bias", "third.bias"),
            r"missing: second\.bias; unexpected: third\.bias",
        ),
        ("base_models/motion_extractor.pth", drop("detector.fc_t.bias"), r"missing: .*fc_t\.bias"),
        ("base_models/warping_module.pth", put("x", torch.zeros(1)), r"unexpected: x"),
        (
            "base_models/spade_generator.pth",
            put(ORIG, torch.zeros(512, 512, 3, 1)),
            r"conv_0\.weight_orig is \(512, 512, 3, 1\).*expected \(512, 512, 3, 3\)",
        ),
        (
            "base_models/spade_generator.pth",
            drop("up_0.conv_s.weight_u"),
            r"up_0\.conv_s\.weight_u",
        ),
        (
            "base_models/spade_generator.pth",
            rename(ORIG, "G_middle_0.conv_0.weight"),
            rf"missing: {ORIG}; unexpected: G_middle_0\.conv_0\.weight",
        ),
        (
            "base_models/motion_extractor.pth",
            put("detector.fc_t.bias", "text"),
            r"detector\.fc_t\.bias is not a plain tensor \(str\)",
        ),
        (
            "retargeting_models/stitching_retargeting_module.pth",
            with_changed_part("retarget_mouth", drop("module.mlp.0.bias")),
            r"missing: retarget_mouth\.mlp\.0\.bias",
        ),
        (
            "retargeting_models/stitching_retargeting_module.pth",
            drop("retarget_eye"),
            r"missing: retarget_eye\.mlp\.0\.bias",
        ),
    ],
)
def test_live_portrait_files_that_do_not_fit_are_refused_by_name(
    live_portrait_folder: Path, tmp_path: Path, name: str, change: Change, message: str
) -> None:
    path = changed(live_portrait_folder / name, tmp_path, change)
    others = [other for other in live_portrait_folder.rglob("*.pth") if other.name != path.name]
    output = tmp_path / "output"
    with pytest.raises(CheckpointError, match=message) as caught:
        convert_official_files([path, *others], output)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(output.iterdir()) == []


def test_a_live_portrait_that_is_incomplete(live_portrait_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"also needs .*motion_extractor\.pth.* beside"):
        convert_official_files(
            [live_portrait_folder / "base_models" / "spade_generator.pth"], tmp_path
        )


def test_a_live_portrait_with_spectral_norms_and_parts_that_nobody_needs(
    live_portrait_folder: Path, tmp_path: Path
) -> None:
    """All-ones matrices have the singular value sqrt(rows columns); a rank-one one its factor."""
    state = official_state("spade_generator", zeros)
    for key in [key for key in state if key.endswith("weight_orig")]:
        layer, shape = key.removesuffix("_orig"), state[key].shape
        rows, columns = shape[0], shape[1:].numel()
        state[key] = torch.ones(()).expand(shape)
        state[f"{layer}_u"] = torch.full((rows,), rows**-0.5)
        state[f"{layer}_v"] = torch.full((columns,), columns**-0.5)
    u, v = state["G_middle_0.conv_0.weight_u"], state["G_middle_0.conv_0.weight_v"]
    rank_one = torch.outer(u, v).view(512, 512, 3, 3)
    state[ORIG] = 5.0 * rank_one
    official = tmp_path / "official"
    shutil.copytree(live_portrait_folder, official)
    torch.save(state, official / "base_models" / "spade_generator.pth")
    retargeting = official / "retargeting_models" / "stitching_retargeting_module.pth"
    extra = {"retarget_tail": {"mlp.0.bias": torch.zeros(3)}, "epoch": 7}
    torch.save(torch.load(retargeting, weights_only=True) | extra, retargeting)
    (converted,) = convert_official_files([official], tmp_path).models
    assert converted.notes == (f"not needed of {retargeting.name}: epoch, retarget_tail",)
    networks = load_live_portrait(converted.path).networks
    weights = networks.generator.state_dict()
    torch.testing.assert_close(weights["G_middle_0.conv_0.weight"], rank_one)
    expected = torch.full((256, 512, 1, 1), (256 * 512) ** -0.5)
    torch.testing.assert_close(weights["up_0.conv_s.weight"], expected)
    assert not networks.training


def test_two_files_of_one_kind(live_portrait_folder: Path, tmp_path: Path) -> None:
    twin = changed(
        live_portrait_folder / "base_models" / "motion_extractor.pth", tmp_path, lambda state: None
    )
    with pytest.raises(CheckpointError, match=r"are both a motion_extractor\.pth; give one"):
        convert_official_files([live_portrait_folder, twin], tmp_path)


@pytest.fixture(scope="module")
def hubert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An official HuBERT full of zeros."""
    return write_hubert(tmp_path_factory.mktemp("official"), zeros)


def test_a_folder_with_an_older_hubert_and_other_files(hubert_folder: Path, tmp_path: Path) -> None:
    torch.save({"cp.resnet.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04")
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).symlink_to(hubert_folder / name)
    conversion = convert_official_files([tmp_path], tmp_path / "output")
    broken, other = conversion.skipped
    assert "broken.pth cannot be read" in broken
    assert "other.pth is none of the official files" in other
    (converted,) = conversion.models
    state = load_hubert(converted.path).state_dict()
    found = {key: list(value.shape) for key, value in state.items()}
    assert found == official_shapes("hubert_base")
    assert not any(value.is_meta for value in state.values())


def test_of_two_formats_of_hubert_the_safer_is_read(hubert_folder: Path, tmp_path: Path) -> None:
    save_file({FIRST_CONV: torch.zeros(1)}, tmp_path / "model.safetensors")
    for name in ("config.json", "pytorch_model.bin"):
        (tmp_path / name).symlink_to(hubert_folder / name)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*missing: "):
        convert_official_files([tmp_path], tmp_path / "output")


@pytest.mark.parametrize("in_file", [True, False])
@pytest.mark.parametrize("in_config", [0.05, 0.0])
def test_hubert_with_and_without_the_mask_of_training(
    tmp_path: Path, in_file: bool, in_config: float
) -> None:
    config = HUBERT_CONFIG | {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": [16] * 7,
        "mask_time_prob": in_config,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    masked = build_hubert(config | {"mask_time_prob": 0.05 if in_file else 0.0})
    state = {key: torch.ones(value.shape) for key, value in masked.state_dict().items()}
    assert ("masked_spec_embed" in state) == in_file
    torch.save(state, tmp_path / "pytorch_model.bin")
    convert_official_files([tmp_path], tmp_path)
    model = load_hubert(tmp_path / "hubert.safetensors")
    assert model.state_dict().keys() == state.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            rename(FIRST_CONV, "feature_extractor.conv_layers.9.conv.weight"),
            rf"missing: {FIRST_CONV}",
        ),
        (put(FIRST_CONV, torch.zeros(512, 1, 9)), rf"{FIRST_CONV} is \(512, 1, 9\)"),
        (put("lm_head.weight", torch.zeros(1)), r"unexpected: lm_head\.weight"),
    ],
)
def test_a_hubert_that_does_not_fit(
    hubert_folder: Path, tmp_path: Path, change: Change, message: str
) -> None:
    path = changed(hubert_folder / "pytorch_model.bin", tmp_path, change)
    (tmp_path / "config.json").write_text(json.dumps(HUBERT_CONFIG))
    with pytest.raises(CheckpointError, match=message):
        convert_official_files([path], tmp_path)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (None, CheckpointError, r"config\.json.*cannot be read .*beside pytorch_model\.bin"),
        ("{", CheckpointError, r"config\.json.*cannot be read"),
        ("[1]", CheckpointError, r"config\.json is not the configuration"),
        ('{"model_type": "wav2vec2"}', ConfigError, "model_type is 'wav2vec2'"),
        (json.dumps(HUBERT_CONFIG | {"hidden_size": 1536}), CheckpointError, "1536"),
    ],
)
def test_a_hubert_without_its_configuration(
    hubert_folder: Path, tmp_path: Path, config: str | None, error: type, message: str
) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.symlink_to(hubert_folder / "pytorch_model.bin")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(error, match=message):
        convert_official_files([path], tmp_path)


class Evil:
    """Something that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no weights at all", "holds more than tensors|cannot be read"),
        (b"PK\x03\x04 and nothing", "cannot be read"),
        (pickle.dumps(Evil()), "holds more than tensors"),
        (pickle.dumps({"detector.fc_t.bias": Evil()}, protocol=2), "holds more than tensors"),
    ],
)
def test_other_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "motion_extractor.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_official(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "was_run").exists()


def test_a_checkpoint_with_code_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.pth"
    torch.save({"talking_head_dit.x": torch.zeros(1), "hook": Evil()}, path)
    with pytest.raises(CheckpointError, match=r"holds more than tensors, such as code .*official"):
        convert_official_files([path], tmp_path)
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("keep", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_short_is_refused(tmp_path: Path, keep: float, zipped: bool) -> None:
    path = tmp_path / "net.pth"
    state = {f"detector.{index}": torch.rand(5000) for index in range(5)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert_equal(read_official(path), state)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CheckpointError, match=r"cannot be read|damaged"):
        read_official(path)


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value)


@pytest.mark.parametrize("content", [[torch.zeros(1)], torch.zeros(3), 5])
def test_weights_without_names_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match="not weights with names"):
        read_official(tmp_path / "net.pth")


def test_files_of_others_and_our_own_are_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "face_parser.pth"
    torch.save({"cp.resnet.conv1.weight": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match=r"face_parser\.pth is none of the official files"):
        convert_official_files([foreign], tmp_path)
    ours = tmp_path / "hubert.safetensors"
    save_network_weights(ours, "hubert", {FIRST_CONV: torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"hubert\.safetensors is no official file: MoDA"):
        convert_official_files([ours], tmp_path)
    with pytest.raises(CheckpointError, match=r"no official file among .*face_parser.*MoDA made"):
        convert_official_files([tmp_path], tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        convert_official_files([tmp_path / "nothing"], tmp_path)


def test_a_folder_that_cannot_be_made(hubert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot make the folder"):
        convert_official_files([hubert_folder], tmp_path / "file" / "models")


def test_every_kind_is_told_by_its_keys() -> None:
    """A mark occurs in the file of its own kind only."""
    networks = {
        "net-200.pth": ["motion_diffusion"],
        "pytorch_model.bin": ["hubert_base"],
        "stitching_retargeting_module.pth": [],
    } | {f"{name}.pth": [name] for name in BASE_MODELS}
    for kind in KINDS:
        for name, members in networks.items():
            marked = any(
                key.startswith(kind.mark) for member in members for key in official_shapes(member)
            )
            assert marked == (name == kind.usual_name and bool(members))


def test_a_converted_file_that_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_network_weights(path, LIVE_PORTRAIT, {"networks.x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"unexpected: networks\.x"):
        load_live_portrait(path)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_live_portrait(tmp_path / "none.safetensors")


def test_full_size_files_through_the_command(published_folder: Path) -> None:
    """Spot checks against the rule; the golden tests compute with these files."""
    samples = {
        ("moda-base", "model.final_layer.linear.weight"): (
            "motion_diffusion",
            "talking_head_dit.final_layer.linear.weight",
        ),
        ("liveportrait", "networks.eye.mlp.0.weight"): ("eye", "mlp.0.weight"),
        ("liveportrait", "extractor.detector.fc_exp.bias"): (
            "motion_extractor",
            "detector.fc_exp.bias",
        ),
        ("hubert", f"{POSITION}.weight.original0"): ("hubert_base", f"{POSITION}.weight.original0"),
    }
    for (model, ours), (network, official) in samples.items():
        shapes = {official: official_shapes(network)[official]}
        with safe_open(published_folder / f"{model}.safetensors", framework="pt") as file:
            assert torch.equal(file.get_tensor(ours), fill(network, shapes)[official])
    with safe_open(published_folder / "moda-base.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["metadata"])
    assert metadata["null_speech"] == "from the file"
    assert len(metadata["sha256 of net-200.pth"]) == 64
