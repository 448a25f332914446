"""One real photograph, the face models and the packaged motion space, shared by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from moda import cli
from moda.devices import has_torch
from moda.encoders.face import FaceModels
from moda.structures import MotionSpace, Picture
from moda.weights.spaces import load_motion_space
from paths import PORTRAIT

if TYPE_CHECKING:
    from device_double import DeviceDouble


TORCH_PARTS = ("torch", "einops")


class ModuleOfTests(pytest.Module):
    """Skipped as a whole where it needs torch and there is none."""

    def _getobj(self) -> Any:
        try:
            return super()._getobj()
        except self.CollectError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and cause.name in TORCH_PARTS:
                pytest.skip(f"needs {cause.name}", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> ModuleOfTests | None:
    return None if has_torch() else ModuleOfTests.from_parent(parent, path=module_path)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes; runs only with -m slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slow" in config.getoption("markexpr"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@pytest.fixture(scope="session")
def photograph() -> Picture:
    """(512, 512, 3) RGB, one frontal smiling face of about 110 px: Eileen Collins, NASA."""
    image = cv2.imread(str(PORTRAIT), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image.astype(np.uint8, copy=False)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceDouble]:
    """Tensors that are moved to ``mps`` lie on a device that has no float64."""
    import torch

    from device_double import DeviceDouble, GeneratorDouble

    with monkeypatch.context() as patch, DeviceDouble() as double:
        patch.setattr(torch, "Generator", GeneratorDouble)
        yield double


@pytest.fixture(scope="session")
def models() -> FaceModels:
    return FaceModels()


@pytest.fixture(scope="session")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="session")
def published_space() -> MotionSpace:
    from moda.weights.official import load_published_space

    return load_published_space()


@pytest.fixture(scope="session")
def published_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The published models at full size, filled by the rule of the golden data, 2.4 GB.

    Written in the official layout, then converted by the command.
    """
    from official_files import write_hubert, write_live_portrait, write_motion_model

    folder = tmp_path_factory.mktemp("models")
    official = folder / "official"
    for write in (write_motion_model, write_live_portrait, write_hubert):
        write(official)
    with pytest.raises(SystemExit) as caught:
        cli.main(["models", "convert", str(official), "--output-folder", str(folder)])
    assert caught.value.code == 0
    shutil.rmtree(official)
    yield folder
    shutil.rmtree(folder)
