"""Losses and gradients against numbers worked out by other means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from moda.config import ModelConfig
from moda.data.dataset import Batch, DrawnWindow
from moda.errors import InputError
from moda.motion.generation import SIGMA_LOGIT_MEAN, SIGMA_LOGIT_STD
from moda.motion.layers import DrawnDropout
from moda.motion.model import MotionTransformer
from moda.structures import MotionSpace
from moda.training.keypoint_metric import lip_columns
from moda.training.losses import SMOOTHNESS_WEIGHT
from moda.training.options import TrainingOptions
from moda.training.step_losses import StepLosses
from moda.training.sync.network import REACH, SyncConfig, SyncExpert, gated_sync_loss
from moda.weights.official import load_published_space
from small_runs import mesh_config, neural_config, reader_config

OPTIONS = TrainingOptions(speech_steps=0, condition_dropout=0.0, token_dropout=0.0)


@pytest.fixture(scope="module")
def neural() -> MotionSpace:
    return load_published_space()


@pytest.fixture
def model() -> MotionTransformer:
    torch.manual_seed(0)
    return MotionTransformer(neural_config().motion)


def batch(count: int = 3, num_frames: int = 30) -> Batch:
    generator = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    weight = np.ones((count, num_frames), np.float32)
    weight[0, 20:] = 0.0
    return Batch(
        motion=normal(count, num_frames, 70),
        previous_motion=normal(count, 1, 70),
        speech=normal(count, num_frames, 24).astype(np.float16),
        mouth_mean=np.zeros((count, num_frames, 0), np.float32),
        is_silent=np.zeros(count, bool),
        emotion=np.full(count, 8, np.int64),
        identity=normal(count, 63),
        weight=weight,
        windows=tuple(DrawnWindow("made", 0, 100 + k) for k in range(count)),
    )


def drawn_noise(made: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The noise levels and the noise of the windows, drawn again from their seeds."""
    sigma, noise = [], []
    for window in made.windows:
        generator = torch.Generator().manual_seed(window.seed)
        torch.rand(2, generator=generator)  # whether conditions are told
        logit = torch.randn((), generator=generator) * SIGMA_LOGIT_STD + SIGMA_LOGIT_MEAN
        sigma.append(1.0 / (1.0 + np.exp(-logit.item())))
        noise.append(torch.randn(made.motion.shape[1:], generator=generator).numpy())
    return np.array(sigma), np.stack(noise)


def test_flow_loss_and_its_gradient_in_closed_form(
    neural: MotionSpace, model: MotionTransformer
) -> None:
    """A new network's velocity is its last bias: the loss is a sum over numbers, its gradient too.

    In float64 numpy, frame by frame, from the formulas alone.
    """
    made = batch()
    bias = np.random.default_rng(2).standard_normal(70)
    with torch.no_grad():
        model.final_layer.linear.bias.copy_(torch.from_numpy(bias))
    (loss,) = StepLosses(model, neural, OPTIONS).flow_losses(made).values()
    loss.backward()  # type: ignore[no-untyped-call]

    _, noise = drawn_noise(made)
    error = bias - (noise.astype(np.float64) - made.motion)
    total, gradient = 0.0, np.zeros(70)
    size = error.size
    for b in range(3):
        for t in range(30):
            total += made.weight[b, t] * (error[b, t] ** 2).sum() / size
            gradient += 2.0 * made.weight[b, t] * error[b, t] / size
            if t:
                both = made.weight[b, t] * made.weight[b, t - 1]
                change = error[b, t] - error[b, t - 1]
                size_of_changes = 3 * 29 * 70
                total += SMOOTHNESS_WEIGHT * both * (change**2).sum() / size_of_changes
    assert loss.item() == pytest.approx(total, rel=1e-5)
    found = model.final_layer.linear.bias.grad
    assert found is not None
    np.testing.assert_allclose(found.numpy(), gradient, rtol=2e-4, atol=1e-6)


def test_gradients_are_those_of_finite_differences(neural: MotionSpace) -> None:
    """Through the whole network in float64, along random directions of single weights."""
    torch.manual_seed(1)
    model = MotionTransformer(neural_config().motion)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    losses = StepLosses(model, neural, OPTIONS)
    made = batch(count=2, num_frames=12)

    def loss() -> torch.Tensor:
        (value,) = losses.flow_losses(made).values()
        return value

    loss().backward()  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(3)
    for name in (
        "final_layer.linear.weight",
        "four_stream_blocks.0.streams.1.qkv.weight",
        "one_stream_blocks.0.modulation.linear.weight",
        "speech_embedder.layers.0.weight",
        "identity_embedder.first.weight",
    ):
        weight = model.get_parameter(name)
        assert weight.grad is not None
        direction = torch.randn(weight.shape, generator=generator)
        slope = (weight.grad * direction).sum().item()
        step = 8e-3 / direction.norm().item()
        with torch.no_grad():
            weight.add_(step * direction)
            above = loss().item()
            weight.sub_(2 * step * direction)
            below = loss().item()
            weight.add_(step * direction)
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=0.03, abs=2e-3), name


@pytest.mark.parametrize("config", [mesh_config, reader_config, neural_config])
def test_all_dropout_inside_belongs_to_the_windows(config: Callable[[], ModelConfig]) -> None:
    """PyTorch's own would differ from process to process."""
    parts = MotionTransformer(config().motion).modules()
    assert {type(part) for part in parts if isinstance(part, nn.Dropout)} <= {DrawnDropout}


def test_forgotten_speech_teaches_its_stand_in_alone(
    neural: MotionSpace, model: MotionTransformer
) -> None:
    with torch.no_grad():
        model.final_layer.linear.weight.normal_()
        model.one_stream_blocks[-1].modulation.linear.weight.normal_(std=0.1)
        model.two_stream_blocks[-1].streams[1].modulation.linear.weight.normal_(std=0.1)

    def learns(share: float) -> tuple[bool, bool]:
        model.zero_grad()
        options = replace(OPTIONS, speech_dropout=share)
        (loss,) = StepLosses(model, neural, options).flow_losses(batch()).values()
        loss.backward()  # type: ignore[no-untyped-call]
        null = model.speech_embedder.null_speech.grad
        first = model.emotion_embedder.weight.grad
        assert null is not None
        assert first is not None
        return bool(null.abs().sum() > 0), bool(first[8].abs().sum() > 0)

    assert learns(0.0) == (False, True)
    assert learns(0.999) == (True, True)


def test_half_precision_is_near_single(neural: MotionSpace, model: MotionTransformer) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made = batch()
    (single,) = StepLosses(model, neural, OPTIONS).flow_losses(made).values()
    options = replace(OPTIONS, precision="bfloat16")
    (half,) = StepLosses(model, neural, options).flow_losses(made).values()
    assert half.dtype == torch.float32
    assert half.item() != single.item()
    assert half.item() == pytest.approx(single.item(), rel=0.02)


class Given(nn.Module):
    """Takes embeddings as they are, without the frames at the ends."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(values[:, REACH:-REACH], dim=-1)


def test_the_sync_loss_counts_where_the_expert_knows() -> None:
    """Embeddings in the plane: cosines are known, and so is which positions pass the gate."""
    expert = SyncExpert(SyncConfig(2, 2))
    expert.lips, expert.speech = Given(), Given()  # type: ignore[assignment]
    num_frames = 2 * REACH + 4

    def at(*degrees: float) -> torch.Tensor:
        angle = torch.deg2rad(torch.tensor([0.0] * REACH + list(degrees) + [0.0] * REACH))
        return torch.stack((angle.cos(), angle.sin()), dim=-1)[None]

    speech = at(0, 0, 0, 0)
    true = at(0, 60, 70, 0)  # cosines 1, 0.5, 0.34, 1
    found = at(90, 60, 90, 0)
    weight = torch.ones(1, num_frames)
    weight[0, REACH] = 0.25
    loss = gated_sync_loss(expert, found, true, speech, weight, gate=0.4)
    assert loss.item() == pytest.approx((0.25 * 1.0 + 0.5 + 0.0 + 0.0) / 4, abs=1e-6)
    found.requires_grad_(True)
    gated_sync_loss(expert, found, true, speech, weight, gate=0.4).backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    moved = found.grad[0, REACH : REACH + 4].abs().sum(-1)
    assert (moved > 1e-6).tolist() == [True, True, False, False]


def test_the_expert_teaches_the_lips_alone(neural: MotionSpace, model: MotionTransformer) -> None:
    torch.manual_seed(4)
    expert = SyncExpert(SyncConfig(18, 24, width=8, embedding=4))
    options = replace(OPTIONS, sync_weight=2.0, sync_gate=-1.0)
    losses = StepLosses(model, neural, options, expert).flow_losses(batch())
    assert set(losses) == {"flow", "sync"}
    losses["sync"].backward()  # type: ignore[no-untyped-call]
    gradient = model.final_layer.linear.bias.grad
    assert gradient is not None
    taught = torch.nonzero(gradient).flatten().tolist()
    assert taught == lip_columns(neural)
    assert all(parameter.grad is None for parameter in expert.parameters())
    with pytest.raises(InputError, match="18 lip numbers by 23 speech features"):
        StepLosses(model, neural, options, SyncExpert(SyncConfig(18, 23)))
