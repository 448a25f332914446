"""The transformer as a whole, at a small size."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from motion_networks import SPACE, small_config, small_model
from torch import Tensor

from moda.config import preset
from moda.motion.model import Conditions, MotionTransformer
from moda.motion.reading import SpeechReader


def inputs(model: MotionTransformer, batch: int, frames: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    total = frames + 2 * config.speech_embedder.context
    size = config.motion_size
    return {
        "speech": torch.randn(batch, total, config.speech.size, generator=generator),
        "emotion": torch.arange(batch) % (config.num_emotions + 1),
        "identity": torch.randn(batch, config.identity_size, generator=generator),
        "noisy_motion": torch.randn(batch, frames, config.generated_size, generator=generator),
        "previous_motion": torch.randn(batch, 1, size, generator=generator),
        "timestep": torch.linspace(1, 1000, batch),
    }


def velocity(model: MotionTransformer, given: dict[str, Tensor]) -> Tensor:
    given = dict(given)
    names = ("speech", "emotion", "identity")
    conditions = model.encode_conditions(*(given.pop(name) for name in names))
    return model(**given, conditions=conditions)


@pytest.fixture(params=["conv", "mlp", "reader"])
def model(request: pytest.FixtureRequest) -> MotionTransformer:
    return small_model(request.param)


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 7, 80, 200])
def test_shortcuts_do_not_change_the_result(model: MotionTransformer, frames: int) -> None:
    given = inputs(model, 2, frames)
    short = velocity(model, given)
    model.exact_shortcuts = False
    torch.testing.assert_close(short, velocity(model, given), atol=2e-5, rtol=0)
    assert short.shape == (2, frames, model.config.generated_size)
    assert short.std() > 0.1


@torch.inference_mode()
def test_modulations_of_all_steps_are_those_of_each_step(model: MotionTransformer) -> None:
    given = inputs(model, 2, 6)
    conditions = model.encode_conditions(given["speech"], given["emotion"], given["identity"])
    steps = torch.tensor([1000.0, 445.0, 1.0])
    rows = model.modulations(steps[:, None], conditions.emotion)
    noisy, previous = given["noisy_motion"], given["previous_motion"]
    for step, timestep in enumerate(steps):
        expected = model(noisy, previous, timestep.expand(2), conditions)
        own = [part[step] for part in rows]
        found = model.velocity(noisy, previous, own, conditions)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert not torch.equal(rows[0][0], rows[0][1])


@torch.inference_mode()
def test_the_network_is_one_graph() -> None:
    """Compilation for an accelerator finds nothing that goes back to Python."""
    model = small_model("mlp")
    given = inputs(model, 2, 6)
    conditions = model.encode_conditions(given["speech"], given["emotion"], given["identity"])
    rows = model.modulations(given["timestep"], conditions.emotion)
    arguments = (given["noisy_motion"], given["previous_motion"], rows, conditions)
    compiled = torch.compile(model.velocity, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), model.velocity(*arguments))


@torch.inference_mode()
def test_samples_of_a_batch_do_not_see_each_other(model: MotionTransformer) -> None:
    given = inputs(model, 3, 20)
    together = velocity(model, given)
    for row in range(3):
        alone = velocity(model, {name: value[row : row + 1] for name, value in given.items()})
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(
    "name", ["speech", "emotion", "identity", "noisy_motion", "previous_motion", "timestep"]
)
def test_every_input_matters(model: MotionTransformer, name: str) -> None:
    given = inputs(model, 1, 10)
    changed = given | {name: given[name] + 1}
    assert (velocity(model, given) - velocity(model, changed)).abs().max() > 1e-3


@torch.inference_mode()
def test_guidance_half_knows_neither_speech_nor_emotion(model: MotionTransformer) -> None:
    first, second = inputs(model, 1, 10, seed=1), inputs(model, 1, 10, seed=2)
    identity = first["identity"]
    halves = [
        model.without_speech_and_emotion(
            model.encode_conditions(given["speech"], emotion, identity)
        )
        for given, emotion in ((first, torch.tensor([3])), (second, torch.tensor([5])))
    ]
    for one, other in zip(halves[0][:3], halves[1][:3], strict=True):
        assert torch.equal(one, other)
    none = torch.tensor([model.config.none_emotion])
    dropped = model.encode_conditions(
        first["speech"], none, identity, null_speech=torch.tensor([True])
    )
    for one, other in zip(halves[0], dropped, strict=True):
        assert torch.equal(one, other)


@torch.inference_mode()
def test_null_speech_is_chosen_per_sample(model: MotionTransformer) -> None:
    given = inputs(model, 2, 10)
    known = [given[name] for name in ("speech", "emotion", "identity")]
    full = model.encode_conditions(*known)
    half = model.encode_conditions(*known, null_speech=torch.tensor([False, True]))
    assert torch.equal(half.speech[0], full.speech[0])
    assert torch.equal(half.speech[1], model.speech_embedder.null_token().expand(10, -1))


@torch.inference_mode()
def test_published_null_feature_is_one_vector_in_every_layer() -> None:
    model = small_model("mlp")
    feature = model.speech_embedder.null_speech.expand(1, 4, 1, 2, 12)
    token = model.speech_embedder(feature)
    torch.testing.assert_close(token[0, 0], model.speech_embedder.null_token())


@torch.inference_mode()
def test_emotion_intensity_goes_from_none_to_full(model: MotionTransformer) -> None:
    given = inputs(model, 1, 4)

    def emotion(label: int, intensity: float | None) -> Tensor:
        strength = None if intensity is None else torch.tensor([intensity])
        conditions = model.encode_conditions(
            given["speech"], torch.tensor([label]), given["identity"], intensity=strength
        )
        return conditions.emotion

    none, full = emotion(8, None), emotion(4, None)
    assert torch.equal(emotion(4, 0.0), none)
    assert torch.equal(emotion(4, 1.0), full)
    torch.testing.assert_close(emotion(4, 0.25), none + 0.25 * (full - none))


READING = ("compress", "mouth_head", "phone_head", "voice_head")
"""What is fitted before, and stays as it is."""


@pytest.mark.parametrize("kind", ["conv", "reader"])
def test_training_starts_at_zero_velocity_and_reaches_every_weight(
    kind: Literal["conv", "reader"],
) -> None:
    torch.manual_seed(0)
    model = MotionTransformer(small_config(kind))
    given = inputs(model, 2, 12)
    assert torch.equal(velocity(model, given), torch.zeros(2, 12, model.config.generated_size))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(4):
        optimiser.zero_grad()
        dropped = torch.tensor([True, False])
        conditions = model.encode_conditions(
            given["speech"],
            given["emotion"],
            given["identity"],
            null_speech=dropped,
        )
        names = ("noisy_motion", "previous_motion", "timestep")
        out = model(*(given[name] for name in names), conditions)
        error = model.representation.decode(out - given["noisy_motion"].flip(1)) + conditions.mean
        error.square().mean().backward()
        optimiser.step()
    untouched = {
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or not weight.grad.abs().max() > 0
    }
    frozen = {name for name in before if name.removeprefix("speech_embedder.").startswith(READING)}
    frozen = set() if kind == "conv" else frozen
    assert len(frozen) == (0 if kind == "conv" else 10)
    assert untouched == frozen
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], before[name]) for name in frozen)


@pytest.mark.parametrize("counts", [(0, 0, 1), (0, 2, 1), (2, 0, 3)])
def test_any_number_of_blocks(counts: tuple[int, int, int]) -> None:
    names = ("four_stream_blocks", "two_stream_blocks", "one_stream_blocks")
    config = replace(small_config(), **dict(zip(names, counts, strict=True)))
    model = MotionTransformer(config).eval()
    assert velocity(model, inputs(model, 1, 6)).shape == (1, 6, SPACE.size)


@torch.inference_mode()
def test_what_is_not_sampled_is_zero_and_the_rest_comes_back() -> None:
    model = small_model("reader")
    motion = torch.randn(2, 5, SPACE.size, generator=torch.Generator().manual_seed(1))
    part = model.representation.encode(motion)
    kept = [0, 1, 2, 3, 5, 6, 7, 9]
    assert model.config.unsampled == (4, 8)
    assert torch.equal(part, motion[:, :, kept])
    whole = model.representation.decode(part)
    assert torch.equal(whole[:, :, kept], motion[:, :, kept])
    assert not whole[:, :, [4, 8]].any()
    assert torch.equal(model.representation.encode(whole), part)
    plain = small_model()
    assert torch.equal(plain.representation.encode(motion), motion)
    assert torch.equal(plain.representation.decode(motion), motion)


@torch.inference_mode()
def test_previous_motion_is_whole_and_noisy_motion_is_not() -> None:
    """What rules make of a number is told the flow, which does not make it."""
    model = small_model("reader")
    given = inputs(model, 1, 6)
    assert given["noisy_motion"].shape[2] == SPACE.size - 2
    assert given["previous_motion"].shape[2] == SPACE.size
    changed = given["previous_motion"].clone()
    changed[..., 4] += 1.0
    other = velocity(model, given | {"previous_motion": changed})
    assert (other - velocity(model, given)).abs().max() > 1e-3


def test_size_of_the_published_network() -> None:
    with torch.device("meta"):
        model = MotionTransformer(preset("moda-base").motion)
    count = sum(weight.numel() for weight in model.parameters())
    assert count == 372_983_878 + 768  # the null feature is counted apart in the description
    assert all(weight.requires_grad for weight in model.parameters())


def test_conditions_of_one_window_serve_both_halves() -> None:
    assert Conditions._fields == ("speech", "emotion", "identity", "mean")


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["conv", "reader"])
def test_the_mean_is_of_the_mouth_and_of_the_speech_alone(
    kind: Literal["conv", "reader"],
) -> None:
    model = small_model(kind)
    given = inputs(model, 1, 10)
    conditions = model.encode_conditions(given["speech"], given["emotion"], given["identity"])
    mouth = model.config.mouth_size
    assert conditions.mean.shape == (1, 10, SPACE.size)
    assert conditions.mean[..., :mouth].abs().min() > 0
    assert not conditions.mean[..., mouth:].any()
    other = model.encode_conditions(given["speech"], given["emotion"] * 0, given["identity"] + 1)
    assert torch.equal(other.mean, conditions.mean)


@torch.inference_mode()
def test_the_mean_of_a_reader_is_the_mouth_that_it_reads_even_of_untold_speech() -> None:
    model = small_model("reader")
    reader = model.speech_embedder
    assert isinstance(reader, SpeechReader)
    assert not hasattr(model, "mouth_head"), "it would not be used"
    given = inputs(model, 2, 10)
    mean = model.encode_conditions(
        given["speech"],
        given["emotion"],
        given["identity"],
        null_speech=torch.tensor([True, False]),
    ).mean
    assert torch.equal(mean[..., : model.config.mouth_size], reader.mouth(given["speech"]))
    assert torch.equal(
        mean, model.encode_conditions(given["speech"], given["emotion"], given["identity"]).mean
    )
