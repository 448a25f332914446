"""Whole recipes at tiny size: data on disk in, checkpoint that speaks out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moda import cli
from moda.checkpoints import load_checkpoint, load_motion_space, save_checkpoint
from moda.data.clips import PreparedClip
from moda.data.corpora import Split
from moda.encoders.speech import SAMPLE_RATE_HZ
from moda.encoders.tracking import LandmarkTrack
from moda.errors import ConfigError, InputError
from moda.landmarks import rotation_from_euler
from moda.motion.model import MotionTransformer
from moda.motion.sampler import sample_motion
from moda.published_weights import load_published_space
from moda.structures import Speech, Style
from moda.training.loop import TrainingOptions
from moda.training.preview import PreviewOptions
from moda.training.recipe import Recipe, read_recipe, train
from moda.training.run_log import read_log
from moda.training.stages import EXPERT_FILE
from moda.training.sync_expert import ExpertOptions
from small_runs import mesh_config, neural_clip, neural_config, write_prepared

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
    torch.manual_seed(0)
    config = neural_config()
    path = tmp_path / "start.safetensors"
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


def mesh_clip(folder: Path, name: str) -> None:
    """A face that moves its lips a little, with a buzzing voice."""
    space = load_motion_space()
    assert space.canonical_face is not None
    assert space.basis is not None
    generator = np.random.default_rng(list(name.encode()))
    speech = 0.5 * generator.standard_normal((60, len(space.basis)))
    faces = np.repeat(space.canonical_face[None].astype(np.float64), len(speech), 0)
    faces[:, :468] += np.tensordot(speech, space.basis.astype(np.float64), 1)
    turned = 100.0 * faces @ rotation_from_euler(2.0, -2.0, 1.0).T + 200.0
    track = LandmarkTrack(turned.astype(np.float32), np.ones(len(speech), bool))
    loud = np.repeat(np.abs(speech[:, 0]), SAMPLE_RATE_HZ // 25)
    sound = loud * generator.standard_normal(len(loud)) * 2000.0
    clip = PreparedClip(name, name, None, track, sound.astype(np.int16))
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


def test_finetune_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One person's clips: a small adapter, and a model that speaks and differs from the start."""
    torch.manual_seed(0)
    folder = tmp_path / "anna"
    folder.mkdir()
    for name in ("one", "two"):
        mesh_clip(folder, name)
    config, space = mesh_config(), load_motion_space()
    model = MotionTransformer(config.motion)
    save_checkpoint(tmp_path / "start.safetensors", model, space, config=config)
    arguments = ["finetune", str(tmp_path / "start.safetensors"), str(folder), "--rank", "2"]
    arguments += ["--steps", "3", "--batch-size", "2", "-o", str(tmp_path / "run")]
    arguments += ["--speech-steps", "1", "--device", "cpu", "--threads", "1"]
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    assert "finetuned.safetensors" in capsys.readouterr().out
    found = load_checkpoint(tmp_path / "run" / "finetuned.safetensors")
    assert found.config.sampler == config.sampler
    adapter = tmp_path / "run" / "adapter.safetensors"
    assert adapter.stat().st_size < (tmp_path / "run" / "finetuned.safetensors").stat().st_size / 3
    speech = Speech(np.ones((100, 160), np.float32), np.ones(100, np.float32))

    def motion(model: MotionTransformer) -> np.ndarray:
        stretches = sample_motion(
            model,
            space,
            iter([speech]),
            identity=np.zeros(63, np.float32),
            style=Style(),
            generator=torch.Generator().manual_seed(0),
            num_steps=2,
        )
        return np.concatenate([stretch.values for stretch in stretches])

    mine, theirs = motion(found.model), motion(model.eval())
    assert mine.shape == (100, space.size)
    assert np.isfinite(mine).all()
    assert np.abs(mine - theirs).max() > 0


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


def test_recipes_of_adapters_need_a_model(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"clips": ["a"], "adapter_rank": 4}))
    with pytest.raises(ConfigError, match="adapter_rank 4 and no model"):
        read_recipe(path)
