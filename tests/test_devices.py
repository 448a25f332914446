"""Devices: their choice, float32 on them, and the double that stands for one in the tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from device_double import DeviceDouble
from moda.devices import choose_device, computing_in, in_float64, lacks_memory
from moda.encoders.neural.motion_extractor import MotionExtractor, extract_faces
from moda.encoders.speech import encode_speech
from moda.media import AudioReader
from moda.motion.flow import timestep_of
from moda.motion.hearing.aligning import heard_probabilities
from moda.motion.hearing.lips import mean_identity
from moda.motion.speaking import speak
from moda.options import SpeakingOptions
from moda.structures import Floats
from moda.weights.checkpoints import load_checkpoint
from paths import SPEECH
from published_weights import fill

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def speech() -> Floats:
    return np.concatenate(list(AudioReader(SPEECH, 16_000)))[:40_000]


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


class TestFloat32:
    def test_a_chosen_device_does_not_round(self) -> None:
        torch.backends.cudnn.allow_tf32 = True  # as torch begins
        choose_device("cpu")
        assert tf32() == (False, False)

    def test_only_the_option_rounds_and_only_inside(self) -> None:
        with computing_in("tf32", CPU):
            assert tf32() == (True, True)
        assert tf32() == (False, False)
        with pytest.raises(ZeroDivisionError), computing_in("tf32", CPU):
            raise ZeroDivisionError
        torch.backends.cudnn.allow_tf32 = True
        with computing_in("float32", CPU):
            assert tf32() == (False, False)

    def test_halves_are_autocast(self) -> None:
        with computing_in("bfloat16", CPU):
            assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16


def test_timesteps_are_those_of_float64() -> None:
    sigma = torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(timestep_of(sigma), (sigma.double() * 1000).float())


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (torch.OutOfMemoryError("Tried to allocate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_lacks_memory(error: RuntimeError, lacks: bool) -> None:
    assert lacks_memory(error) is lacks


class TestDouble:
    """What the double refuses, and what it lets pass."""

    @pytest.mark.parametrize(
        "refused",
        [
            lambda here, there: here + there,
            lambda here, there: torch.cat((here, there)),
            lambda here, there: nn.functional.linear(there, here),
            lambda here, there: there.double(),
            lambda here, there: there.numpy(),
            lambda here, there: np.asarray(there),
            lambda here, there: torch.zeros(3, dtype=torch.float64, device="mps"),
            lambda here, there: here.to("mps", torch.float64),
        ],
    )
    def test_refuses(
        self, device: DeviceDouble, refused: Callable[[Tensor, Tensor], object]
    ) -> None:
        here = torch.ones(2, 2)
        with pytest.raises((RuntimeError, TypeError), match="device"):
            refused(here, here.to("mps"))

    def test_lets_pass_and_notes_copies(self, device: DeviceDouble) -> None:
        there = torch.ones(2, 2).to("mps")
        made = (2 * there + torch.tensor(1.0))[0]
        assert {made.device.type, there.new_zeros(1).device.type} == {"mps"}
        assert float(made.cpu().sum()) == 6.0
        assert there.sum().item() == 4.0
        assert device.copies == ["in", "out", "out"]
        assert in_float64(there).dtype == torch.float64

    def test_networks_move_and_learn(self, device: DeviceDouble) -> None:
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).to("mps")
        assert {values.device.type for values in network.state_dict().values()} == {"mps"}
        network(torch.ones(3, 2, device="mps")).square().sum().backward()
        torch.optim.AdamW(network.parameters()).step()
        assert network[0].weight.grad is not None
        assert network[0].weight.grad.device.type == "mps"


class TestSystems:
    """On the double as on the CPU, up to the rounding of other kernels."""

    def test_speech_to_motion(self, device: DeviceDouble, speech: Floats) -> None:
        heard = list(encode_speech([speech]))
        made = []
        for name in ("cpu", "mps"):
            tiny = load_checkpoint("moda-tiny", name)
            options = SpeakingOptions(seed=1, guidance_scale=2.0)
            stretches = speak(
                tiny.model,
                tiny.space,
                tiny.config.sampler,
                heard,
                identity=mean_identity(tiny.space),
                options=options,
            )
            made.append(np.concatenate([motion.values for motion in stretches]))
            heard_probabilities(tiny.model, heard)
        assert made[0].std() > 0
        np.testing.assert_allclose(made[1], made[0], atol=1e-3)

    def test_motion_extractor(self, device: DeviceDouble) -> None:
        with torch.device("meta"):
            extractor = MotionExtractor()
        shapes = {key: tuple(value.shape) for key, value in extractor.state_dict().items()}
        extractor.load_state_dict(fill("motion_extractor", shapes), assign=True)
        crops = np.random.default_rng(0).integers(0, 255, (1, 256, 256, 3), np.uint8)
        expected = extract_faces(extractor.eval(), crops)
        found = extract_faces(extractor.to("mps"), crops)
        np.testing.assert_allclose(found[0].motion, expected[0].motion, atol=1e-4)
