"""The node pack, loaded as ComfyUI loads it: the folder by its path, under a name of its choice."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
import wave
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from moda.errors import FaceError, InputError
from moda.options import OPTIONS
from paths import EXAMPLES

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    name = "custom_nodes_moda"
    spec = importlib.util.spec_from_file_location(
        name, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def portrait() -> torch.Tensor:
    """(1, 512, 512, 3) in 0..1, as Load Image gives it."""
    image = np.asarray(Image.open(EXAMPLES / "portrait.jpg").convert("RGB"))
    return torch.from_numpy(image.copy()).float()[None] / 255


@pytest.fixture(scope="module")
def speech() -> dict[str, Any]:
    """One second, as Load Audio gives it."""
    with wave.open(str(EXAMPLES / "speech.wav")) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(rate), "<i2") / 32768.0
    return {"waveform": torch.from_numpy(samples).float()[None, None], "sample_rate": rate}


@pytest.fixture(scope="module")
def model(pack: ModuleType) -> Any:
    return pack.NODE_CLASS_MAPPINGS["MoDALoadModel"]().load("moda-tiny", "cpu")[0]


def run(pack: ModuleType, **inputs: object) -> Any:
    """Call the node as ComfyUI does: every input by its name, defaults where nothing is given."""
    node = pack.NODE_CLASS_MAPPINGS["MoDATalkingHead"]
    values = {
        name: spec[1]["default"]
        for name, spec in node.INPUT_TYPES()["required"].items()
        if len(spec) > 1 and "default" in spec[1]
    }
    return getattr(node(), node.FUNCTION)(**(values | inputs))


class TestInterface:
    def test_names_go_together(self, pack: ModuleType) -> None:
        assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)

    def test_inputs_are_the_parameters_of_the_function(self, pack: ModuleType) -> None:
        for node in pack.NODE_CLASS_MAPPINGS.values():
            types = node.INPUT_TYPES()
            named = [*types["required"], *types.get("optional", {})]
            parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
            own = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD][1:]
            assert set(own) <= set(named)
            others = set(named) - set(own)
            assert others <= set(OPTIONS)
            assert bool(others) == (len(own) + 1 < len(parameters))
            optional = {n for n, p in parameters.items() if p.default is not p.empty}
            assert optional <= set(types.get("optional", {}))
            assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
            assert node.CATEGORY == "MoDA"

    def test_numbers_have_limits_that_hold_the_default(self, pack: ModuleType) -> None:
        for node in pack.NODE_CLASS_MAPPINGS.values():
            for kind, *options in node.INPUT_TYPES()["required"].values():
                if kind in ("INT", "FLOAT"):
                    assert options[0]["min"] <= options[0]["default"] <= options[0]["max"]

    def test_loading_the_pack_starts_nothing(self) -> None:
        code = (
            "import subprocess, socket, sys, importlib.util as u\n"
            "def no(*a, **k): raise AssertionError('started something')\n"
            "subprocess.Popen.__init__ = no; socket.socket.connect = no\n"
            f"s = u.spec_from_file_location('p', r'{PACK / '__init__.py'}',"
            f" submodule_search_locations=[r'{PACK}'])\n"
            "m = u.module_from_spec(s); sys.modules['p'] = m; s.loader.exec_module(m)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_frames_from_a_portrait_and_speech(
    pack: ModuleType, model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    (style,) = pack.NODE_CLASS_MAPPINGS["MoDAEmotion"]().make("happy", 0.5, 0.0)
    frames, sound, rate = run(
        pack, model=model, portrait=portrait, speech=speech, size=128, style=style
    )
    assert frames.shape == (25, 128, 128, 3)
    assert frames.dtype == torch.float32
    assert frames.min() >= 0
    assert 0.5 < frames.max() <= 1
    assert rate == 25.0
    assert sound is speech
    still = torch.nn.functional.interpolate(
        portrait.permute(0, 3, 1, 2), (128, 128), mode="area"
    ).permute(0, 2, 3, 1)
    assert (frames[0, :10] - still[0, :10]).abs().mean() < 0.04, "the background is the photograph"
    assert (frames[-1] - frames[0]).abs().max() > 0.1, "something moves"


def test_emotions_are_chained(pack: ModuleType) -> None:
    node = pack.NODE_CLASS_MAPPINGS["MoDAEmotion"]()
    (first,) = node.make("happy", 0.5, 0.0)
    (both,) = node.make("none", 1.0, 2.0, before=first)
    assert both.at(1.0).emotion == "happy"
    assert both.at(2.5).emotion is None


def test_more_frames_than_allowed(
    pack: ModuleType, model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="max_frames = 10"):
        run(pack, model=model, portrait=portrait, speech=speech, size=64, max_frames=10)


def test_wrong_input_says_what_is_wrong(
    pack: ModuleType, model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    with pytest.raises(FaceError):
        run(pack, model=model, portrait=torch.zeros(1, 128, 128, 3), speech=speech)
    with pytest.raises(InputError, match="not \\(pictures"):
        run(pack, model=model, portrait=portrait[0], speech=speech)
    silence = {"waveform": torch.zeros(2, 16_000), "sample_rate": 16_000}
    with pytest.raises(InputError, match="not \\(recordings"):
        run(pack, model=model, portrait=portrait, speech=silence)
