"""Where the repository and its examples are."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PORTRAIT, SPEECH = EXAMPLES / "portrait.jpg", EXAMPLES / "speech.wav"


def load_file(path: Path) -> ModuleType:
    """A script or benchmark, which no package holds, as a module."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
