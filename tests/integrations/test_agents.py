"""The distributions for voice agents, as far as they go without the packages that they extend.

Their own tests run those packages, see the README in each folder.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from paths import ROOT

FOLDERS = [ROOT / "integrations" / "pipecat", ROOT / "integrations" / "livekit"]
MODULES = {
    "pipecat": ("pipecat", "src", "pipecat_moda"),
    "livekit": ("livekit.agents", "", "livekit.plugins.moda"),
}


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if ".venv" not in path.parts)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
class TestDistribution:
    def test_what_a_listing_wants_is_there(self, folder: Path) -> None:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        host = next(one for one in project["dependencies"] if one.startswith(folder.name))
        tested = host.split(">=")[1].split(",")[0]
        readme = (folder / project["readme"]).read_text(encoding="utf-8")
        assert f"v{tested}." in readme, "the README says with which version it was tested"
        changes = (folder / "CHANGELOG.md").read_text(encoding="utf-8")
        assert f"## {project['version']}" in changes
        assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
        assert (folder / "example.py").is_file()

    def test_what_it_takes_from_moda_exists(self, folder: Path) -> None:
        names = {
            (node.module, alias.name)
            for path in sources(folder)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "moda"
            for alias in node.names
        }
        assert names
        for module, name in names:
            assert hasattr(__import__(str(module), fromlist=[name]), name), (module, name)

    def test_it_is_imported_beside_its_host(self, folder: Path) -> None:
        host, root, module = MODULES[folder.name]
        pytest.importorskip(host)
        code = f"import sys; sys.path.insert(0, {str(folder / root)!r}); import {module}"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
