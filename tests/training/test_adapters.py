"""Low-rank adapters: what is merged is what was trained, and the model below stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moda.errors import InputError
from moda.motion.model import MotionTransformer
from moda.training.adapters import add_adapters, merged
from moda.training.options import TrainingOptions
from small_runs import mesh_config, mesh_trainer, reader_config

RANK = 3


@pytest.fixture
def base() -> MotionTransformer:
    torch.manual_seed(0)
    model = MotionTransformer(mesh_config().motion)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def adapted(base: MotionTransformer) -> MotionTransformer:
    """A copy with adapters that change something."""
    model = MotionTransformer(base.config)
    model.load_state_dict(base.state_dict())
    add_adapters(model, RANK)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    return model.eval()


@torch.no_grad()
def velocity(model: MotionTransformer) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    size = model.config.motion_size

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    conditions = model.encode_conditions(
        normal(2, 20 + 24, 160), torch.tensor([8, 3]), normal(2, 63)
    )
    velocity: torch.Tensor = model(
        normal(2, 20, model.config.generated_size),
        normal(2, 1, size),
        torch.tensor([300.0, 900.0]),
        conditions,
    )
    return torch.cat((velocity, conditions.mean), dim=-1)


def test_a_new_adapter_changes_nothing(base: MotionTransformer) -> None:
    model = MotionTransformer(base.config)
    model.load_state_dict(base.state_dict())
    add_adapters(model.eval(), RANK)
    assert torch.equal(velocity(model), velocity(base))
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)


def test_merged_is_adapted(base: MotionTransformer) -> None:
    """And each weight is ``W + B A`` by an independent product."""
    model = adapted(base)
    plain = merged(model)
    assert (velocity(model) - velocity(base)).abs().max() > 0.05
    torch.testing.assert_close(velocity(plain), velocity(model), rtol=1e-4, atol=1e-5)
    tensors, before = model.state_dict(), base.state_dict()
    linear = [name for name, m in base.named_modules() if type(m) is torch.nn.Linear]
    assert len(linear) > 20
    for name in linear:
        a, b = (tensors[f"{name}.lora_{part}.default.weight"].double() for part in "AB")
        assert a.shape[0] == b.shape[1] == RANK
        expected = before[f"{name}.weight"].double() + b @ a
        found = plain.state_dict()[f"{name}.weight"]
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6, msg=name)
    for name, value in plain.state_dict().items():
        if name.removesuffix(".weight") not in linear:
            assert torch.equal(value, before[name]), name


def test_training_leaves_the_model_below_alone(base: MotionTransformer, tmp_path: Path) -> None:
    """Both stages, resumed in the middle; the mean of the mouth is not settled anew."""
    options = TrainingOptions(
        speech_steps=2, flow_steps=2, batch_size=4, window_frames=(16,), checkpoint_every=2
    )

    def start() -> MotionTransformer:
        model = MotionTransformer(base.config)
        model.load_state_dict(base.state_dict())
        add_adapters(model, RANK)
        return model

    torch.manual_seed(1)
    trainer = mesh_trainer(tmp_path, options, model=start())
    trainer.run()
    for name, value in trainer.average.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(value, base.state_dict()[name.replace(".base_layer", "")]), name
    moved = [
        name for name, v in trainer.average.state_dict().items() if "lora_B" in name and v.any()
    ]
    assert any("mouth_head" in name for name in moved)
    assert any("one_stream_blocks" in name for name in moved)
    again = mesh_trainer(tmp_path, options, model=start())
    assert again.resume()
    assert torch.equal(velocity(again.average.eval()), velocity(trainer.average.eval()))


def test_what_is_fitted_in_closed_form_gets_no_adapter() -> None:
    """The heads of a reader are as they were; what the flow trains learns."""
    model = MotionTransformer(reader_config().motion)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert any("mouth_head" in name for name in fixed)
    add_adapters(model, RANK)
    names = set(model.state_dict())
    assert set(fixed) <= names, "a wrapped layer has another name"
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("speech_embedder.linear" in name for name in learning)
    assert not any("head" in name for name in learning if "speech_embedder" in name)
    for name, value in merged(model).state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("rank", [0, 257])
def test_impossible_ranks(base: MotionTransformer, rank: int) -> None:
    with pytest.raises(InputError, match=f"is {rank}; it must be in 1..256"):
        add_adapters(base, rank)
