"""The node pack, loaded as ComfyUI loads it: the folder by its path, under a name of its choice."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
import wave
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import comfy_double
from moda.errors import FaceError, InputError
from moda.options import OPTIONS, for_visitors, of_head
from paths import EXAMPLES

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def pack() -> Iterator[ModuleType]:
    name = "custom_nodes_moda"
    spec = importlib.util.spec_from_file_location(
        name, PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for double, found in comfy_double.modules().items():
            patch.setitem(sys.modules, double, found)
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def nodes(pack: ModuleType) -> dict[str, Any]:
    """The nodes by their names, as ComfyUI gets them."""

    async def ask() -> list[Any]:
        extension = await pack.comfy_entrypoint()
        await extension.on_load()
        return list(await extension.get_node_list())

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(ask())}


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
def model(nodes: dict[str, Any]) -> Any:
    return nodes["MoDALoadModel"].execute("moda-tiny", "cpu").args[0]


def run(nodes: dict[str, Any], **inputs: object) -> Any:
    """Call the node as ComfyUI does: every input by its name, defaults where nothing is given."""
    node = nodes["MoDATalkingHead"]
    values = {
        part.id: part.default
        for part in node.GET_SCHEMA().inputs
        if part.default is not None and not part.optional
    }
    return node.execute(**(values | inputs)).args


class TestInterface:
    def test_names_are_those_of_saved_workflows(self, nodes: dict[str, Any]) -> None:
        assert set(nodes) == {"MoDALoadModel", "MoDAEmotion", "MoDATalkingHead"}
        inputs = [part.id for part in nodes["MoDATalkingHead"].GET_SCHEMA().inputs]
        assert inputs[:6] == ["model", "portrait", "speech", "seed", "frames_per_second", "size"]

    def test_inputs_are_the_parameters_of_the_function(self, nodes: dict[str, Any]) -> None:
        for node in nodes.values():
            schema = node.GET_SCHEMA()
            named = {part.id: part for part in schema.inputs}
            parameters = inspect.signature(node.execute).parameters
            own = {n: p for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
            assert set(own) <= set(named)
            others = set(named) - set(own)
            assert others <= set(OPTIONS)
            assert bool(others) == (len(own) < len(parameters))
            for name, parameter in own.items():
                assert bool(named[name].optional) == (parameter.default is not parameter.empty)
            assert schema.category == "MoDA"
            assert schema.display_name.startswith("MoDA ")
            assert all(output.display_name for output in schema.outputs)

    def test_every_option_of_visitors_is_an_input(self, nodes: dict[str, Any]) -> None:
        inputs = {part.id: part for part in nodes["MoDATalkingHead"].GET_SCHEMA().inputs}
        wanted = {n for n in of_head() if n in for_visitors() and Path not in OPTIONS[n].kinds}
        assert wanted - set(inputs) == {"emotion", "emotion_at"}  # these are nodes
        assert inputs["blink_rate"].force_input
        assert inputs["gaze"].options == ["usual", "wander", "camera"]

    def test_numbers_have_limits_that_hold_the_default(self, nodes: dict[str, Any]) -> None:
        for node in nodes.values():
            for part in node.GET_SCHEMA().inputs:
                if part.io_type in ("INT", "FLOAT") and part.default is not None:
                    assert part.min <= part.default <= part.max, part.id

    def test_the_registry_can_read_what_it_needs(self) -> None:
        project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))
        name = project["project"]["name"]
        assert re.fullmatch(r"[a-z](?:[-_.]?[a-z0-9])+", name)
        assert "comfyui" not in name
        assert re.fullmatch(r"\d+\.\d+\.\d+", project["project"]["version"])
        assert (PACK / project["project"]["license"]["file"]).is_file()
        assert set(project["tool"]["comfy"]) >= {"PublisherId", "DisplayName"}

    def test_loading_the_pack_starts_nothing(self) -> None:
        code = (
            f"import sys; sys.path.insert(0, r'{Path(__file__).parents[1]}')\n"
            "import comfy_double; sys.modules.update(comfy_double.modules())\n"
            "import subprocess, socket, sys, importlib.util as u\n"
            "def no(*a, **k): raise AssertionError('started something')\n"
            "subprocess.Popen.__init__ = no; socket.socket.connect = no\n"
            f"s = u.spec_from_file_location('p', r'{PACK / '__init__.py'}',"
            f" submodule_search_locations=[r'{PACK}'])\n"
            "m = u.module_from_spec(s); sys.modules['p'] = m; s.loader.exec_module(m)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_frames_from_a_portrait_and_speech(
    nodes: dict[str, Any], model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    (style,) = nodes["MoDAEmotion"].execute("happy", 0.5, 0.0).args
    frames, sound, rate = run(
        nodes, model=model, portrait=portrait, speech=speech, size=128, style=style
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


def test_emotions_are_chained(nodes: dict[str, Any]) -> None:
    node = nodes["MoDAEmotion"]
    (first,) = node.execute("happy", 0.5, 0.0).args
    (both,) = node.execute("none", 1.0, 2.0, before=first).args
    assert both.at(1.0).emotion == "happy"
    assert both.at(2.5).emotion is None


def test_more_frames_than_allowed(
    nodes: dict[str, Any], model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="max_frames = 10"):
        run(nodes, model=model, portrait=portrait, speech=speech, size=64, max_frames=10)


def test_wrong_input_says_what_is_wrong(
    nodes: dict[str, Any], model: Any, portrait: torch.Tensor, speech: dict[str, Any]
) -> None:
    with pytest.raises(FaceError):
        run(nodes, model=model, portrait=torch.zeros(1, 128, 128, 3), speech=speech)
    with pytest.raises(InputError, match="not \\(pictures"):
        run(nodes, model=model, portrait=portrait[0], speech=speech)
    silence = {"waveform": torch.zeros(2, 16_000), "sample_rate": 16_000}
    with pytest.raises(InputError, match="not \\(recordings"):
        run(nodes, model=model, portrait=portrait, speech=silence)
