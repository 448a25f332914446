"""The training loop at tiny size: it learns, resumes exactly, and stops on broken data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moda.checkpoints import load_motion_space
from moda.config import ModelConfig, SpeechEmbedderConfig, preset
from moda.data.dataset import TrainingClip, WindowSampler
from moda.errors import CheckpointError, InputError
from moda.structures import MotionSpace
from moda.training.loop import Trainer, TrainingOptions
from moda.training.losses import MotionMetric, masked_correlation

OPTIONS = TrainingOptions(
    speech_steps=4, flow_steps=6, batch_size=4, window_frames=(16, 24), checkpoint_every=5
)


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    tiny = preset("moda-tiny")
    embedder = SpeechEmbedderConfig(width=16, dilations=(1, 2))
    return replace(tiny, motion=replace(tiny.motion, hidden=32, speech_embedder=embedder))


def clips(space: MotionSpace, *, broken: bool = False) -> list[TrainingClip]:
    generator = np.random.default_rng(0)
    made = []
    for index in range(4):
        features = generator.standard_normal((120, 160)).astype(np.float32) + 3.0
        motion = 0.1 * generator.standard_normal((120, space.size)).astype(np.float32)
        motion[:, :16] += features[:, :16] - 3.0
        if broken:
            motion[60] = np.nan
        identity = generator.standard_normal(63).astype(np.float32)
        made.append(
            TrainingClip(
                name=f"clip{index}",
                speaker=f"speaker{index}",
                emotion=8 if index else 4,
                motion=(motion, motion),
                identity=(identity, identity),
                features=(features,) if index else (),
                lips=motion[:, :2].astype(np.float64),
            )
        )
    return made


def trainer(
    space: MotionSpace, config: ModelConfig, folder: Path, options: TrainingOptions = OPTIONS
) -> Trainer:
    windows = WindowSampler(clips(space), before=12, after=12, seed=1)
    return Trainer(config, space, windows, options, folder)


def test_resume_is_exact(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    whole = trainer(space, config, tmp_path / "whole")
    curve: list[dict[str, float]] = []
    whole.run(lambda values: curve.append({**values, "seconds": 0.0}))

    first = trainer(space, config, tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda values: interrupt_after(values, 7))
    second = trainer(space, config, tmp_path / "cut")
    assert second.resume()
    assert second.step == 5  # the last checkpoint, not the last step
    rest: list[dict[str, float]] = []
    second.run(lambda values: rest.append({**values, "seconds": 0.0}))
    assert rest == curve[5:]
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def interrupt_after(values: dict[str, float], step: int) -> None:
    if values["step"] == step:
        raise KeyboardInterrupt


def test_it_learns(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    options = replace(OPTIONS, speech_steps=60, flow_steps=0, batch_size=8, warm_up_steps=5)
    options = replace(options, learning_rate=5e-3, speech_learning_rate=5e-3)
    losses: list[float] = []
    trainer(space, config, tmp_path, options).run(
        lambda values: losses.append(values["regression"])
    )
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_broken_clips_stop_the_run(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    windows = WindowSampler(clips(space, broken=True), before=12, after=12, seed=1)
    run = Trainer(config, space, windows, replace(OPTIONS, flow_steps=50), tmp_path)
    with pytest.raises(InputError, match="the loss is nan at step"):
        run.run()


def test_a_foreign_state_is_refused(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    trainer(space, config, tmp_path).save()
    other = replace(config, motion=replace(config.motion, hidden=64))
    with pytest.raises(CheckpointError, match="does not fit this training"):
        trainer(space, other, tmp_path).resume()


def test_no_state_no_resume(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    assert not trainer(space, config, tmp_path).resume()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"flow_steps": -1}, {"window_frames": ()}])
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        TrainingOptions(**options)  # type: ignore[arg-type]


def test_no_error_no_loss(space: MotionSpace) -> None:
    metric = MotionMetric(space)
    inside = torch.ones(2, 20)
    assert metric.flow_loss(torch.zeros(2, 20, space.size), inside).item() == 0.0
    mouth = torch.randn(2, 20, 16)
    assert metric.regression_loss(mouth, mouth, inside).item() == pytest.approx(0.0, abs=1e-4)


def test_padding_does_not_count(space: MotionSpace) -> None:
    metric = MotionMetric(space)
    error = torch.zeros(1, 20, space.size)
    error[:, 10:] = 100.0
    inside = torch.ones(1, 20)
    inside[:, 10:] = 0.0
    assert metric.flow_loss(error, inside).item() == 0.0


def test_masked_correlation_is_pearsons() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.standard_normal((2, 40))
    second += first
    mask = torch.ones(1, 40, 1)
    mask[:, 30:] = 0.0
    found = masked_correlation(
        torch.tensor(first[None, :, None]), torch.tensor(second[None, :, None]), mask
    )
    assert found.item() == pytest.approx(np.corrcoef(first[:30], second[:30])[0, 1], abs=1e-3)


def test_windows_repeat_with_their_seed(space: MotionSpace) -> None:
    first = WindowSampler(clips(space), before=12, after=12, seed=5).batch(6, 24)
    second = WindowSampler(clips(space), before=12, after=12, seed=5).batch(6, 24)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert first.speech.shape == (6, 48, 160)
    assert first.is_silent.sum() == 1
