"""What the command line lists, and what it imports for that."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module

import pytest
import typer

from moda import cli
from moda.cli.entry import Commands, LazyGroup, ModelCommands, WeightCommands
from paths import ROOT

GROUPS = (Commands, ModelCommands, WeightCommands)
HEAVY = {"av", "cv2", "numba", "numpy", "onnxruntime", "scipy", "torch"}


@pytest.mark.parametrize("kind", GROUPS)
def test_every_line_is_the_first_sentence_of_its_command(kind: type[LazyGroup]) -> None:
    group = kind()
    for name, line in kind.lines.items():
        help_text = group.load(name).help
        assert inspect.cleandoc(help_text).split("\n\n")[0].replace("\n", " ") == line


def test_every_command_of_the_modules_is_listed() -> None:
    known = {kind.modules.get(name, name) for kind in GROUPS for name in kind.lines}
    known = {name.replace("-", "_") for name in known}
    listed = sum(len(kind.lines) for kind in GROUPS)
    paths = (ROOT / "src" / "moda" / "cli").glob("*.py")
    modules = {path.stem: import_module(f"moda.cli.{path.stem}") for path in paths}
    apps = {name: module.app for name, module in modules.items() if hasattr(module, "app")}
    assert apps.keys() - {"__init__", "entry"} == known
    assert sum(len(apps[name].registered_commands) for name in known) == listed


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--help"], ["nothing"]], ids=" ".join)
def test_listing_commands_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom moda import cli\n"
        f"try: cli.main({arguments})\n"
        "except SystemExit: print('imported:', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    imported = done.stdout.split("imported:")[1].split()
    assert "moda.cli.entry" in imported
    assert not HEAVY & set(imported)


def test_groups_are_among_the_commands() -> None:
    group = typer.main.get_command(cli.app)
    assert isinstance(group, Commands)
    assert list(group.commands) == [*Commands.lines, "models", "evaluate-weights"]
    assert isinstance(group.load("models"), ModelCommands)
