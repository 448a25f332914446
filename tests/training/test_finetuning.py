"""Whole recipes at tiny size: data on disk in, checkpoint that speaks out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moda import cli
from moda.config import ModelConfig
from moda.data.clips import PreparedClip, write_shard
from moda.data.corpora import Split
from moda.data.statistics import MotionStatistics
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import LandmarkTrack
from moda.errors import ConfigError, InputError
from moda.motion.model import MotionTransformer
from moda.motion.sampler import sample_motion
from moda.structures import Speech, Style
from moda.structures.landmarks import rotation_from_euler
from moda.training.options import TrainingOptions
from moda.training.preview import PreviewOptions
from moda.training.recipe import Recipe, read_recipe
from moda.training.run import train
from moda.training.stages import EXPERT_FILE
from moda.training.sync.expert import ExpertOptions
from moda.weights.checkpoints import load_checkpoint, save_checkpoint
from moda.weights.official import load_published_space
from moda.weights.spaces import load_motion_space
from small_runs import (
    mesh_config,
    neural_clip,
    neural_config,
    read_log,
    reader_config,
    write_prepared,
)

FAST = TrainingOptions(
    speech_steps=0,
    flow_steps=4,
    batch_size=4,
    window_frames=(32,),
    checkpoint_every=2,
    log_every=1,
)


@pytest.fixture
def neural_start(tmp_path: Path) -> Path:
    return save_neural_start(tmp_path / "start.safetensors")


def save_neural_start(path: Path) -> Path:
    torch.manual_seed(0)
    config = neural_config()
    model = MotionTransformer(config.motion)
    save_checkpoint(path, model, load_published_space(), config=config)
    return path


@pytest.fixture
def neural_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "neural"
    folder.mkdir()
    splits: dict[str, Split] = {"dora": "validation", "edna": "test"}
    for name in ("anna", "bert", "carl", "dora", "edna"):
        clip = neural_clip(load_published_space(), name, name)
        write_prepared(folder, replace(clip, split=splits.get(name, "train")))
    return folder


def mesh_clip(folder: Path, name: str, speaker: str = "anna", num_frames: int = 130) -> None:
    """A face whose parts move together and slowly, with a voice as loud as they move."""
    space = load_motion_space()
    assert space.canonical_face is not None
    assert space.basis is not None
    generator = np.random.default_rng(list(name.encode()))
    opening = np.convolve(generator.standard_normal(num_frames), np.hanning(9), "same")
    noise = 0.2 * generator.standard_normal((num_frames, len(space.basis)))
    speech = 0.5 * (opening[:, None] + noise)
    faces = np.repeat(space.canonical_face[None].astype(np.float64), len(speech), 0)
    faces[:, :468] += np.tensordot(speech, space.basis.astype(np.float64), 1)
    turned = 100.0 * faces @ rotation_from_euler(2.0, -2.0, 1.0).T + 200.0
    track = LandmarkTrack(turned.astype(np.float32), np.ones(len(speech), bool))
    loud = np.repeat(np.exp(opening), SAMPLE_RATE_HZ // 25)
    sound = np.clip(loud * generator.standard_normal(len(loud)) * 500.0, -32768, 32767)
    clip = PreparedClip(name, speaker, None, track, sound.astype(np.int16))
    write_prepared(folder, clip)


def test_the_neural_space_trains_from_disk(
    neural_start: Path, neural_folder: Path, tmp_path: Path
) -> None:
    """All weights, with a sync expert of its own, clips held out; then again, interrupted."""
    said: list[str] = []
    options = replace(FAST, sync_weight=0.1, precision="bfloat16", accumulation=2)
    recipe = Recipe(
        clips=("neural",),
        validation_speakers=("carl",),
        start_from="start.safetensors",
        options=options,
        expert=ExpertOptions(steps=3, batch_size=4, width=8, embedding=4),
    )
    path = train(recipe, tmp_path, tmp_path / "run", say=said.append)
    assert path == tmp_path / "run" / "finetuned.safetensors"
    assert any("2 clips, 0.1 minutes" in text for text in said)
    assert any("sync expert on 2 held-out clips" in text for text in said)
    log = read_log(tmp_path / "run")
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert all(np.isfinite([line["flow"], line["sync"], line["gradient"]]).all() for line in log)
    assert [line["step"] for line in log if line.get("validation", 0.0) > 0.0] == [2, 4]
    result = load_checkpoint(path)
    assert result.space.name == "neural"
    before = load_checkpoint(neural_start).model.state_dict()
    changed = [k for k, v in result.model.state_dict().items() if not torch.equal(v, before[k])]
    assert len(changed) > 0.5 * len(before)

    given = replace(recipe, sync_expert=f"run/{EXPERT_FILE}")
    with pytest.raises(KeyboardInterrupt):
        train(given, tmp_path, tmp_path / "again", report=interrupt_at_three)
    again = train(given, tmp_path, tmp_path / "again")
    for name, value in load_checkpoint(again).model.state_dict().items():
        assert torch.equal(value, result.model.state_dict()[name]), name


def test_a_sync_loss_that_never_counts_is_said(
    neural_start: Path, neural_folder: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        clips=("neural",),
        start_from="start.safetensors",
        options=replace(FAST, flow_steps=2, sync_weight=0.1, sync_gate=1.0),
        expert=ExpertOptions(steps=1, batch_size=2, width=8, embedding=4),
    )
    said: list[str] = []
    train(recipe, tmp_path, tmp_path / "idle", say=said.append)
    assert [line["sync"] for line in read_log(tmp_path / "idle")] == [0.0, 0.0]
    assert any("the sync loss is idle: in 2 steps no lips" in text for text in said)
    busy = replace(recipe, options=replace(recipe.options, sync_gate=-1.0))
    said.clear()
    train(busy, tmp_path, tmp_path / "busy", say=said.append)
    assert not any("idle" in text for text in said)


def test_the_validation_loss_is_that_of_strangers(
    neural_start: Path, neural_folder: Path, tmp_path: Path
) -> None:
    """Always of the same windows and noise."""
    still = replace(FAST, learning_rate=1e-12, weight_decay=0.0, log_every=4)
    recipe = Recipe(
        clips=("neural",),
        validation_speakers=("carl",),
        start_from="start.safetensors",
        options=still,
    )
    train(recipe, tmp_path, tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert [line["step"] for line in log] == [2, 4], "snapshots, though not due"
    assert log[0]["validation"] == log[1]["validation"] > 0.0
    assert log[0]["flow"] != log[1]["flow"]


def interrupt_at_three(values: dict[str, float]) -> None:
    if values["step"] == 3:
        raise KeyboardInterrupt


def test_an_expert_of_another_space_is_refused(
    neural_start: Path, neural_folder: Path, tmp_path: Path
) -> None:
    options = replace(FAST, flow_steps=1, sync_weight=0.1)
    recipe = Recipe(
        clips=("neural",),
        start_from="start.safetensors",
        options=options,
        expert=ExpertOptions(steps=1, batch_size=2, width=8, embedding=4),
    )
    train(recipe, tmp_path, tmp_path / "run")
    shifted = load_checkpoint(neural_start)
    other = replace(shifted.space, mean=shifted.space.mean + 1)
    save_checkpoint(neural_start, shifted.model, other, config=shifted.config)
    with pytest.raises(InputError, match="another motion space"):
        train(replace(recipe, sync_expert=f"run/{EXPERT_FILE}"), tmp_path, tmp_path / "other")


Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Refused:
    """What a command says that ends with one clear line."""

    def run(arguments: list[str]) -> str:
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        line = capfd.readouterr().err.splitlines()[-1]
        assert line.startswith("moda: ")
        return line

    return run


@pytest.fixture
def anna(tmp_path: Path) -> Path:
    """Ten seconds of one person, and a model to begin with."""
    folder = tmp_path / "anna"
    folder.mkdir()
    for name in ("one", "two"):
        mesh_clip(folder, name)
    return folder


def start_model(folder: Path, config: ModelConfig) -> MotionTransformer:
    torch.manual_seed(0)
    model = MotionTransformer(config.motion).eval()
    save_checkpoint(folder / "start.safetensors", model, load_motion_space(), config=config)
    return model


def finetune_arguments(folder: Path, clips: str = "anna", **options: object) -> list[str]:
    values = {"rank": 2, "steps": 3, "batch-size": 2, "output": folder / "run", **options}
    arguments = ["finetune", str(folder / "start.safetensors"), str(folder / clips)]
    for name, value in values.items():
        arguments += [f"--{name}", str(value)]
    return [*arguments, "--device", "cpu", "--threads", "1"]


def test_finetune_command(
    anna: Path, tmp_path: Path, refused: Refused, capfd: pytest.CaptureFixture[str]
) -> None:
    """One person's clips: a model that speaks and differs from the start; and no other run."""
    config, space = mesh_config(), load_motion_space()
    model = start_model(tmp_path, config)
    arguments = finetune_arguments(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    printed = capfd.readouterr()
    assert caught.value.code == 0, printed.err
    assert "finetuned.safetensors" in printed.out
    assert "there are only 10 s of speech: little can be learned" in printed.err
    result = tmp_path / "run" / "finetuned.safetensors"
    found = load_checkpoint(result)
    assert found.config.sampler == config.sampler
    assert [path.name for path in (tmp_path / "run").glob("*.safetensors")] == [result.name]
    speech = Speech(np.ones((100, 160), np.float32), np.ones(100, np.float32))

    def motion(model: MotionTransformer) -> np.ndarray:
        stretches = sample_motion(
            model,
            space,
            iter([speech]),
            identity=np.zeros(63, np.float32),
            style=Style(),
            generator=0,
            num_steps=2,
        )
        return np.concatenate([stretch.values for stretch in stretches])

    mine, theirs = motion(found.model), motion(model)
    assert mine.shape == (100, space.size)
    assert np.isfinite(mine).all()
    assert np.abs(mine - theirs).max() > 0

    (tmp_path / "bert").mkdir()
    mesh_clip(tmp_path / "bert", "three", "bert", num_frames=800)
    line = refused(finetune_arguments(tmp_path, "bert"))
    assert line == (
        f"moda: {tmp_path / 'run'} holds another run: clips of anna there, of bert now; "
        "use another folder, or remove it"
    )
    mesh_clip(anna, "three", num_frames=800)
    assert "other clips (2 there, 3 now" in refused(finetune_arguments(tmp_path))
    (anna / "shard-three.safetensors").unlink()
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0, "the same again"
    again = load_checkpoint(result)
    assert again.metadata == found.metadata
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name


def test_lips_of_a_reader_are_adapted(
    anna: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With tokens of the pretrained encoder, through the command; its fitted heads get no steps."""
    mesh_clip(anna, "three", num_frames=600)
    start_model(tmp_path, reader_config())
    with pytest.raises(SystemExit) as caught:
        cli.main(finetune_arguments(tmp_path))
    printed = capfd.readouterr()
    assert caught.value.code == 0, printed.err
    assert "on held-out stretches read and tracked lips agree by r gap" in printed.err
    found = load_checkpoint(tmp_path / "run" / "finetuned.safetensors").model.state_dict()
    before = load_checkpoint(tmp_path / "start.safetensors").model.state_dict()
    kept = [name for name in found if torch.equal(found[name], before[name])]
    moved = {name for name in found if name not in kept}
    of_speech = {name for name in moved if name.startswith("speech_embedder.")}
    assert of_speech == {f"speech_embedder.mouth_head.{part}" for part in ("weight", "bias")}
    assert "lips adapted" in printed.err, "a loud voice is an open mouth"
    assert any("one_stream_blocks" in name for name in moved)


def test_runs_that_cannot_be(
    anna: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is read, or made."""
    start_model(tmp_path, mesh_config())
    assert "the rank of the adapter is 999; it must be in 1..256" in refused(
        finetune_arguments(tmp_path, "nobody", rank=999)
    )
    for name, value, message in (
        ("learning-rate", "nan", "learning rate nan is outside 0..1.0"),
        ("learning-rate", "-0.001", "learning rate -0.001 is outside"),
        ("seed", "-1", "seed -1 is outside 0..2^63 - 1"),
    ):
        line = refused(finetune_arguments(tmp_path, "nobody", **{name: value}))
        assert message in line
    odd = Recipe(clips=("nobody",), options=replace(FAST, accumulation=3))
    with pytest.raises(InputError, match="make it a multiple of 3"):
        train(odd, tmp_path, tmp_path / "run")
    arguments = finetune_arguments(tmp_path)
    assert "no checkpoint 'moda-huge'" in refused(["finetune", "moda-huge", *arguments[2:]])
    monkeypatch.setenv("MODA_HOME", str(tmp_path / "no models"))
    assert "moda models download moda-base" in refused(["finetune", "moda-base", *arguments[2:]])
    assert f"{tmp_path} is a folder; give the model in it: {tmp_path / 'start.safetensors'}" in (
        refused(["finetune", str(tmp_path), *arguments[2:]])
    )
    assert f"{anna} is a folder; no model is in it" in refused(
        ["finetune", str(anna), *arguments[2:]]
    )
    (tmp_path / "short").mkdir()
    mesh_clip(tmp_path / "short", "one", num_frames=60)
    assert "the clips hold 2.4 s of speech; at least 10 s" in refused(
        finetune_arguments(tmp_path, "short")
    )
    (tmp_path / "mute").mkdir()
    write_shard(tmp_path / "mute" / "shard-0.safetensors", [], [], MotionStatistics.total([], 1))
    line = refused(finetune_arguments(tmp_path, "mute"))
    assert f"none of the 0 clips in {tmp_path / 'mute'} has sound of its own" in line
    assert str(tmp_path / "mute" / "report.json") in line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_previews_are_videos(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "anna"
    folder.mkdir()
    mesh_clip(folder, "one")
    config, space = mesh_config(), load_motion_space()
    model = MotionTransformer(config.motion)
    save_checkpoint(tmp_path / "start.safetensors", model, space, config=config)
    examples = Path(__file__).parents[2] / "examples"
    recipe = Recipe(
        clips=("anna",),
        start_from="start.safetensors",
        adapter_rank=1,
        augmented_versions=0,
        options=replace(FAST, flow_steps=2),
        preview=PreviewOptions(
            2, str(examples / "portrait.jpg"), str(short_speech(tmp_path)), size=64
        ),
    )
    train(recipe, tmp_path, tmp_path / "run")
    (video,) = (tmp_path / "run" / "previews").iterdir()
    assert video.name == "step-00000002.mp4"
    from moda.media import VideoReader

    assert len(list(VideoReader(video))) == 20


def short_speech(folder: Path) -> Path:
    import soundfile

    path = folder / "speech.wav"
    generator = np.random.default_rng(0)
    soundfile.write(path, 0.1 * generator.standard_normal(12_800), SAMPLE_RATE_HZ)
    return path


def test_misspelt_validation_speakers(neural_folder: Path, anna: Path) -> None:
    folder = anna.parent
    start_model(folder, mesh_config())
    for clips, start, known in (
        ("anna", "start.safetensors", "anna"),
        ("neural", "start_neural.safetensors", "anna, bert, carl, dora"),
    ):
        if clips == "neural":
            save_neural_start(folder / start)
        recipe = Recipe(clips=(clips,), start_from=start, validation_speakers=("ana", "anna"))
        with pytest.raises(ConfigError, match=f"validation speaker ana; known are {known}$"):
            train(recipe, folder, folder / f"run {clips}")
        odd = Recipe(clips=(clips,), start_from=start, unreliable=("*n*", "lipnet-*"))
        with pytest.raises(ConfigError, match=r"named like lipnet-\*; clips are named like \w+, "):
            train(odd, folder, folder / f"odd {clips}")
    odd = Recipe(clips=("anna",), start_from="start.safetensors", in_sync="lipnet-*")
    with pytest.raises(ConfigError, match=r"named like lipnet-\*; clips are named like one, two"):
        train(odd, folder, folder / "in sync")


def test_recipes_of_adapters_need_a_model(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"clips": ["a"], "adapter_rank": 4, "synthetic_phones": ["b"]}))
    with pytest.raises(ConfigError, match="adapter_rank 4 and no model"):
        read_recipe(path)
