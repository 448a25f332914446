"""The training loop at tiny size: it learns, resumes exactly, and stops on broken data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from device_double import DeviceDouble
from moda.config import ModelConfig, SpeechEmbedderConfig, SpeechFeaturesConfig, preset
from moda.data.dataset import Batch, DrawnWindow, TrainingClip, WindowSampler
from moda.errors import CheckpointError, ConfigError, InputError
from moda.motion.rules.idle import LipClosure
from moda.strict_json import from_dict, to_dict
from moda.structures import MotionSpace
from moda.training.loop import Trainer
from moda.training.losses import (
    LIP_DISTANCE_WEIGHT,
    SMOOTHNESS_WEIGHT,
    MotionMetric,
    masked_correlation,
)
from moda.training.options import TrainingOptions
from moda.training.processes import Processes
from small_runs import reader_config

OPTIONS = TrainingOptions(
    speech_steps=4, flow_steps=6, batch_size=4, window_frames=(16, 24), checkpoint_every=5
)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    tiny = preset("moda-tiny")
    embedder = SpeechEmbedderConfig(width=16, dilations=(1, 2))
    spectra = SpeechFeaturesConfig()
    motion = replace(tiny.motion, hidden=32, speech=spectra, speech_embedder=embedder)
    return replace(tiny, motion=motion)


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


def test_every_step_on_another_device(
    space: MotionSpace, config: ModelConfig, tmp_path: Path, device: DeviceDouble
) -> None:
    embedder = replace(config.motion.speech_embedder, dropout=0.0)
    config = replace(config, motion=replace(config.motion, speech_embedder=embedder))
    options = replace(OPTIONS, speech_steps=1, flow_steps=2, window_frames=(16,))
    curves = []
    for name in ("cpu", "mps"):
        windows = WindowSampler(clips(space), before=12, after=12, seed=1)
        run = Trainer(config, space, windows, options, tmp_path / name, processes=Processes(name))
        losses: list[float] = []
        run.run(lambda values, seen=losses: seen.append(values.get("flow", 0.0)))
        curves.append(losses)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-3)


def interrupt_after(values: dict[str, float], step: int) -> None:
    if values["step"] == step:
        raise KeyboardInterrupt


def test_it_learns(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    options = replace(OPTIONS, speech_steps=60, flow_steps=0, batch_size=8, warm_up_steps=5)
    options = replace(options, learning_rate=5e-3)
    losses: list[float] = []
    trainer(space, config, tmp_path, options).run(
        lambda values: losses.append(values["regression"])
    )
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_broken_clips_stop_the_run(space: MotionSpace, config: ModelConfig, tmp_path: Path) -> None:
    windows = WindowSampler(clips(space, broken=True), before=12, after=12, seed=1)
    run = Trainer(config, space, windows, replace(OPTIONS, flow_steps=50), tmp_path)
    says = r"the loss is nan at step .*windows are broken, .*: clip\d frames \d+\.\.\d+"
    with pytest.raises(InputError, match=says) as caught:
        run.run()
    assert run.step == int(str(caught.value).split("at step ")[1].split()[0])
    for value in run.model.state_dict().values():
        assert torch.isfinite(value).all(), "the weights are those of before"


def test_a_training_that_explodes_names_its_windows(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    options = replace(OPTIONS, speech_steps=0, warm_up_steps=1)
    object.__setattr__(options, "learning_rate", 1e20)  # far beyond what may be asked for
    with pytest.raises(InputError, match=r"lower the learning rate; they are clip\d frames"):
        trainer(space, config, tmp_path, options).run()


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_learning_rates_in_closed_form(
    space: MotionSpace, config: ModelConfig, tmp_path: Path, schedule: str
) -> None:
    """Each of the two stages warms up and comes down by itself."""
    options = replace(
        OPTIONS, speech_steps=4, flow_steps=8, warm_up_steps=2, learning_rate=1e-3, batch_size=2
    )
    rates: list[float] = []
    trainer(space, config, tmp_path, replace(options, schedule=schedule)).run(  # type: ignore[arg-type]
        lambda values: rates.append(values["rate"])
    )
    expected = []
    for length in (4, 8):
        for step in range(length):
            fall = 0.5 * (1.0 + np.cos(np.pi * step / length)) if schedule == "cosine" else 1.0
            expected.append(1e-3 * min(1.0, (step + 1) / 2) * max(0.02, fall))
    np.testing.assert_allclose(rates, expected, rtol=1e-9)


def test_the_average_is_the_recurrence(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    """In float64 from the weights after every step; the decay grows from 1/20 to its limit."""
    options = replace(OPTIONS, speech_steps=0, flow_steps=5, ema_decay=0.12)
    run = trainer(space, config, tmp_path, options)
    weight = run.model.final_layer.linear.weight
    average, step = weight.detach().double().clone(), 0

    def follow(values: dict[str, float]) -> None:
        nonlocal average, step
        decay = min(0.12, (step + 1) / (step + 20))
        average = decay * average + (1.0 - decay) * weight.detach().double()
        step += 1

    run.run(follow)
    assert step == 5
    found = run.average.final_layer.linear.weight.double()
    torch.testing.assert_close(found, average, rtol=1e-5, atol=1e-8)


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


def test_options_of_earlier_versions_are_read_where_they_change_nothing() -> None:
    earlier = to_dict(OPTIONS) | {"gradient_clip": 1.0, "keep_statistics": True}
    assert from_dict(TrainingOptions, earlier) == OPTIONS
    with pytest.raises(ConfigError, match="options: keep_statistics is always True; leave it out"):
        from_dict(TrainingOptions, earlier | {"keep_statistics": False})


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


def steady_batch(
    motion: np.ndarray, *, count: int = 96, num_frames: int = 40, emotion: int = 8, silent: int = 0
) -> Batch:
    """Windows that hold one normalised motion (D,), the first of them without sound."""
    context = 12
    is_silent = np.arange(count) < silent
    return Batch(
        motion=np.tile(motion.astype(np.float32), (count, num_frames, 1)),
        previous_motion=np.zeros((count, 1, len(motion)), np.float32),
        speech=np.random.default_rng(0)
        .standard_normal((count, num_frames + 2 * context, 160))
        .astype(np.float32),
        mouth_mean=np.zeros((count, num_frames, 0), np.float32),
        is_silent=is_silent,
        emotion=np.full(count, emotion, np.int64),
        identity=np.zeros((count, 63), np.float32),
        weight=np.ones((count, num_frames), np.float32),
        windows=tuple(DrawnWindow("made", 0, seed) for seed in range(count)),
    )


def test_the_flow_learns_what_differs_from_the_mean(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    """A new network's velocity is zero, so its loss is that of the noise and of the difference."""
    run = trainer(space, config, tmp_path)
    generator = torch.Generator().manual_seed(3)
    mean = torch.randn(16, generator=generator)
    offset, difference = torch.randn((2, space.size), generator=generator)
    with torch.no_grad():
        run.model.mouth_head.weight.zero_()
        run.model.mouth_head.bias.copy_(mean)
        run.model.emotion_mean[4] = offset
    motion = offset.clone()
    motion[:16] += mean
    weights, lip_rows = run.losses.metric.weights.clone(), run.losses.metric.lip_rows
    weights[list(config.motion.unsampled)] = 0.0  # rules make them
    # Of unit noise: its square is 1, that of its change 2, that of each lip distance 1.
    noise = (1.0 + 2.0 * SMOOTHNESS_WEIGHT) * weights.mean() + LIP_DISTANCE_WEIGHT
    extra = (weights * difference**2).mean()
    extra = extra + LIP_DISTANCE_WEIGHT * ((lip_rows @ difference[:16]) ** 2).mean()

    def loss(motion: torch.Tensor, emotion: int) -> float:
        (value,) = run.losses.flow_losses(steady_batch(motion.numpy(), emotion=emotion)).values()
        return value.item()

    assert loss(motion, 4) == pytest.approx(noise.item(), rel=0.02)
    assert loss(motion + difference, 4) == pytest.approx((noise + extra).item(), rel=0.02)
    assert loss(motion, 8) > 1.2 * noise.item(), "another emotion has another offset"


def test_silent_clips_do_not_teach_the_mouth(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    run = trainer(space, config, tmp_path)
    motion = np.ones(space.size)

    def taught(silent: int) -> torch.Tensor:
        run.model.zero_grad()
        batch = steady_batch(motion, count=4, silent=silent)
        (loss,) = run.losses.flow_losses(batch).values()
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = run.model.final_layer.linear.bias.grad
        assert gradient is not None
        return gradient.abs() > 0

    assert taught(0).all()
    assert taught(3).all()
    assert taught(4).tolist() == [False] * 16 + [True] * (config.motion.generated_size - 16)


def test_speech_steps_ignore_silent_clips(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    run = trainer(space, config, tmp_path)
    run.model.eval()
    batch = steady_batch(np.ones(space.size), count=4, silent=2)
    broken = batch._replace(motion=batch.motion.copy())
    broken.motion[:2] = np.nan
    torch.manual_seed(0)
    (first,) = run.losses.speech_losses(batch).values()
    torch.manual_seed(0)
    (second,) = run.losses.speech_losses(broken).values()
    assert first.item() == second.item()


def with_means(space: MotionSpace) -> list[TrainingClip]:
    """The first number of the mouth's mean is that of the motion: the number of the frame; that of
    the mirrored clip is 1000 more."""
    made = []
    for clip in clips(space):
        motion = clip.motion[0].copy()
        motion[:, 0] = np.arange(120)
        mirrored = motion.copy()
        mirrored[:, 0] += 1000.0
        means = (motion[:, :16], mirrored[:, :16])
        made.append(
            replace(clip, motion=(motion, mirrored), mouth_mean=means if clip.features else None)
        )
    return made


def test_windows_have_the_mean_of_their_frames(space: MotionSpace) -> None:
    windows = WindowSampler(with_means(space), before=15, after=9, seed=2)
    batch = windows.batch(80, 32)
    assert batch.mouth_mean.shape == (80, 32, 16)
    assert 0 < batch.is_silent.sum() < 80
    assert set((batch.motion[:, 0, 0] >= 1000.0).tolist()) == {False, True}
    told = ~batch.is_silent
    np.testing.assert_array_equal(batch.mouth_mean[told], batch.motion[told][:, :, :16])
    assert not batch.mouth_mean[batch.is_silent].any(), "silence has a mean of its own"


def test_windows_without_means_leave_them_to_the_model(space: MotionSpace) -> None:
    windows = WindowSampler(clips(space), before=15, after=9, seed=2)
    assert windows.batch(20, 32).mouth_mean.shape == (20, 32, 0)


def test_the_mean_that_a_window_brings_takes_the_place_of_the_models(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    """The same loss as if the model itself predicted that mean."""
    run = trainer(space, config, tmp_path)
    mean = np.linspace(-1.0, 1.0, 16, dtype=np.float32)
    motion = np.zeros(space.size)
    motion[:16] = mean

    def loss(batch: Batch) -> float:
        (value,) = run.losses.flow_losses(batch).values()
        return value.item()

    with torch.no_grad():
        run.model.mouth_head.weight.zero_()
        run.model.mouth_head.bias.copy_(torch.from_numpy(mean))
    batch = steady_batch(motion, count=8)
    own = loss(batch)
    with torch.no_grad():
        run.model.mouth_head.bias.zero_()
    assert loss(batch) > 1.05 * own
    told = batch._replace(mouth_mean=np.tile(mean, (8, 40, 1)))
    assert loss(told) == pytest.approx(own, rel=1e-6)


def reader_clips(space: MotionSpace, config: ModelConfig) -> list[TrainingClip]:
    """With tokens in the place of spectra."""
    generator = np.random.default_rng(3)
    size = config.motion.speech.size
    return [
        replace(clip, features=(generator.standard_normal((120, size)).astype(np.float32),))
        if clip.features
        else clip
        for clip in with_means(space)
    ]


def test_resume_is_exact_with_a_reader(space: MotionSpace, tmp_path: Path) -> None:
    """Its heads stay as they are, and what it tells the transformer is trained."""
    config = reader_config()
    options = replace(
        OPTIONS,
        speech_steps=0,
        flow_steps=5,
        checkpoint_every=2,
        freeze_speech_embedder=False,
        warm_up_steps=1,
    )

    def run(folder: str) -> Trainer:
        windows = WindowSampler(
            reader_clips(space, config), before=2, after=2, seed=1, augment=False
        )
        return Trainer(config, space, windows, options, tmp_path / folder)

    whole = run("whole")
    before = {
        name: value.clone() for name, value in whole.model.speech_embedder.state_dict().items()
    }
    whole.run()
    fitted = ("token_", "compress.", "mouth_head.", "phone_head.", "voice_head.")
    for name, value in whole.model.speech_embedder.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(fitted), name
    first = run("cut")
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda values: interrupt_after(values, 3))
    second = run("cut")
    assert second.resume()
    assert second.step == 2
    second.run()
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, second.average.state_dict()[name]), name


def test_a_reader_has_no_mean_to_train(space: MotionSpace, tmp_path: Path) -> None:
    config = reader_config()
    windows = WindowSampler(reader_clips(space, config), before=2, after=2, seed=1, augment=False)
    with pytest.raises(InputError, match=r"4 speech steps .* or reads it; set speech_steps to 0"):
        Trainer(config, space, windows, OPTIONS, tmp_path)


def test_statistics_of_the_pretraining_are_kept(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    run = trainer(space, config, tmp_path, replace(OPTIONS, speech_steps=2, flow_steps=0))
    name = "speech_embedder.first.norm.running_mean"
    before = run.model.state_dict()[name].clone()
    run.run()
    assert torch.equal(run.model.state_dict()[name], before)


def middle_gaps(run: Trainer, space: MotionSpace) -> np.ndarray:
    """Of the averaged mean mouth, over speech that it was not settled on."""
    windows = WindowSampler(clips(space), before=12, after=12, seed=9, silent_share=0.0)
    speech = torch.from_numpy(windows.batch(40, 80).speech)
    average = run.average.eval()
    with torch.no_grad():
        mouth = average.mouth_head(average.speech_embedder(speech)).numpy()
    raw = mouth * (space.std[:16] + np.float32(1e-5)) + space.mean[:16]
    return LipClosure(space).gaps(raw.astype(np.float64))[..., 4]


@pytest.mark.parametrize("is_open", [True, False])
def test_lips_of_the_mean_come_together_in_speech(
    space: MotionSpace, config: ModelConfig, tmp_path: Path, is_open: bool
) -> None:
    run = trainer(space, config, tmp_path, replace(OPTIONS, batch_size=16))
    closure = LipClosure(space)
    raw = closure.narrowing(np.full(9, -0.05 if is_open else 0.05)) - space.mean[:16]
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        weight = run.average.mouth_head.weight
        weight.copy_(0.01 * torch.randn(weight.shape, generator=generator))
        run.average.mouth_head.bias.copy_(torch.from_numpy(raw / space.std[:16]))
    before = {name: value.clone() for name, value in run.average.state_dict().items()}
    gaps = middle_gaps(run, space)
    assert (np.quantile(gaps, 0.1) > 0.02) == is_open
    run.settle_mean()
    settled = middle_gaps(run, space)
    if is_open:
        assert np.quantile(settled, 0.1) == pytest.approx(0.0, abs=4e-3)
        # The same change in all frames.
        np.testing.assert_allclose(gaps - settled, (gaps - settled).mean(), atol=1e-5)
    else:
        np.testing.assert_allclose(settled, gaps, atol=1e-7)
    for name, value in run.average.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name]), name
        if name != "mouth_head.bias":
            assert torch.equal(value, before[name]), name


def test_the_flow_leaves_the_speech_embedder_alone(
    space: MotionSpace, config: ModelConfig, tmp_path: Path
) -> None:
    run = trainer(space, config, tmp_path, replace(OPTIONS, speech_steps=2, flow_steps=2))
    embedder = run.model.speech_embedder
    kept: dict[str, torch.Tensor] = {}

    def remember(values: dict[str, float]) -> None:
        if values["step"] == 2:
            kept.update({name: value.clone() for name, value in embedder.state_dict().items()})
        else:
            assert any(module.training for module in embedder.modules()) == (values["step"] < 2)

    run.run(remember)
    kept.pop("null_speech")
    assert len(kept) > 5
    for name, value in kept.items():
        assert torch.equal(value, embedder.state_dict()[name]), name
