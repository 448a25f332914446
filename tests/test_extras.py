"""Every extra brings what its parts import: they are loaded where nothing else can be."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paths import ROOT

LOAD = """
import importlib, json, pkgutil, sys
hidden, packages = json.loads(sys.stdin.read())

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hider())
for package in packages:
    found = importlib.import_module(package)
    for part in pkgutil.walk_packages(getattr(found, "__path__", ()), package + "."):
        importlib.import_module(part.name)
"""


def brought(extras: frozenset[str]) -> set[str]:
    """Distributions that come with the project and these extras, as far as they are installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [*project["dependencies"]]
    for extra in extras:
        own += project["optional-dependencies"][extra]
    first = map(Requirement, own)
    waiting = [(canonicalize_name(one.name), frozenset(one.extras)) for one in first]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for needed in map(Requirement, lines):
            environments = [default_environment() | {"extra": one} for one in ("", *wanted)]
            if needed.marker is None or any(map(needed.marker.evaluate, environments)):
                waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return {"moda-talking-head", *(name for name, _ in seen)}


@pytest.mark.parametrize(
    ("extras", "packages"),
    [
        (("web",), ["moda.web", "moda.doors"]),
        (("serve",), ["moda.serving.server", "moda.serving.videos", "moda.doors"]),
        (("serve", "webrtc"), ["moda.serving.live"]),
    ],
    ids=",".join,
)
def test_extras_bring_what_their_parts_import(extras: tuple[str, ...], packages: list[str]) -> None:
    if "web" in extras:
        pytest.importorskip("gradio")
    known = brought(frozenset(extras))
    hidden = [
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonicalize_name(owner) for owner in owners} & known
    ]
    assert "pytest" in hidden
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps([hidden, packages]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
