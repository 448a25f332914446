"""Commands, Python, links and names in the documents are those that there are."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import documented
from documented import PAGES, Command, name_of
from paths import ROOT

PROGRAMS = frozenset({"", "cp", "curl", "docker", "export", "git", "mkdir", "uv"})
"""Programs of others that the documents type; the nameless one is the shell's full stop."""
QUICK = ({"--version"}, {"--help"}, {"models", "list"})
"""Commands of ours that are run if a document types them."""
PLACEHOLDER = re.compile(r"[A-Z]+(\.\.\.)?")
OWN_PACKAGES = {
    "pipecat_moda": ROOT / "integrations" / "pipecat" / "src",
    "livekit.plugins.moda": ROOT / "integrations" / "livekit",
}

every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture(scope="module")
def app() -> Any:
    from moda.cli import app

    return typer.main.get_command(app)


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/tutorial.md", "integrations/livekit/README.md"} <= {
        name_of(page) for page in PAGES
    }
    found = [command for page in PAGES for command in documented.commands(page)]
    assert sum(command.words[0].endswith("moda") for command in found) > 60


@every_page
def test_commands_are_those_that_there_are(
    page: Path, app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in documented.commands(page):
        program = Path(command.words[0]).name
        if program == "moda":
            parse(app, command.words[1:], tmp_path)
        elif program == "pip":
            check_pip(command)
        elif program in ("python", "python3"):
            check_python(command)
        else:
            assert program in PROGRAMS, command.line


def parse(app: Any, words: tuple[str, ...], folder: Path) -> None:
    """Read a line with the program's own parser, without running it."""
    for word in words:  # files that a line names are there
        if re.search(r"\.\w{2,5}$", word) and not word.startswith(("-", "http")):
            place = folder / word
            if place.resolve().is_relative_to(folder):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
    group, name, rest = app, "moda", list(words)
    while hasattr(group, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in group.commands, f"{name} has no command {rest[0]}"
        name, group = f"{name} {rest[0]}", group.load(rest.pop(0))
    try:
        group.make_context(name, rest)
    except typer.Exit:  # such as --help
        return
    except Exception as error:
        reason = getattr(error, "message", str(error))
        pytest.fail(f"{' '.join(words)}: {reason}")


def check_pip(command: Command) -> None:
    """Folders and extras that are installed exist."""
    assert command.words[1] == "install", command.line
    for word in command.words[2:]:
        found = re.fullmatch(r"(?:/path/to/moda/?)?([./\w]*?)(?:\[([\w,]+)\])?", word)
        if word.startswith(("-", "http")) or not found or not re.match(r"[./]", word):
            continue
        folder = (ROOT if word.startswith("/path") else command.folder) / (found[1] or ".")
        folder = folder if folder.is_dir() else ROOT / found[1]
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        extras = set(project["project"].get("optional-dependencies", {}))
        assert set((found[2] or "").split(",")) - {""} <= extras, command.line


def check_python(command: Command) -> None:
    """A script is there and knows its options; a module is there."""
    words = command.words[1:]
    if words[0] == "-m":
        place = words[1].replace(".", "/")
        own = [command.folder / f"{place}.py", ROOT / "integrations/livekit" / f"{place}.py"]
        spec = words[1] in ("pytest", "venv") or any(path.exists() for path in own)
        assert spec, command.line
        script = next((path for path in own if path.exists()), None)
        words = words[2:]
    else:
        script, words = command.folder / words[0], words[1:]
        if not script.exists():
            script = ROOT / command.words[1]
        assert script.exists(), command.line
    if script is None:
        return
    code = script.read_text(encoding="utf-8")
    known = set(re.findall(r"add_argument\(\s*\"(--?[\w-]+)\"", code)) | {"--help"}
    known |= set(re.findall(r"add_argument\(\s*\"-\w\",\s*\"(--[\w-]+)\"", code))
    assert {word for word in words if re.match("--?[a-z]", word)} <= known, command.line


def test_quick_commands_run() -> None:
    from moda.cli import app

    lines = {
        command.words[1:]
        for page in PAGES
        for command in documented.commands(page)
        if Path(command.words[0]).name == "moda"
    } | {
        tuple(span.split()[1:])
        for page in PAGES
        for span in documented.INLINE.findall(documented.prose(page))
        if span.startswith("moda ") and "|" not in span
    }
    quick = [line for line in lines if any(few <= set(line) for few in QUICK)]
    assert len(quick) >= 2
    for line in quick:
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 0, (line, result.output)


@every_page
def test_commands_and_options_in_sentences_exist(page: Path, app: Any) -> None:
    known = all_options(app)
    for span in documented.INLINE.findall(documented.prose(page)):
        words = span.split()
        if words[0] == "moda" and len(words) > 1 and re.fullmatch(r"[a-z-]+", words[1]):
            if not words[1].startswith("-"):
                assert words[1] in app.commands, span
            assert {w for w in words[1:] if re.match(r"--[a-z]", w)} <= known, span
        elif re.fullmatch(r"--[a-z][a-z-]+", words[0]):
            assert words[0] in known, span


def all_options(app: Any) -> set[str]:
    """Options of every command of ours, of our scripts, and of others that are named."""
    found = {"--help", "--version"}

    def collect(command: Any) -> None:
        for parameter in command.params:
            found.update((*parameter.opts, *parameter.secondary_opts))
        for name in getattr(command, "commands", ()):
            collect(command.load(name))

    collect(app)
    for script in (*ROOT.glob("scripts/*.py"), *ROOT.glob("benchmarks/*.py"), ROOT / "run.py"):
        found |= set(re.findall(r"\"(--[a-z][\w-]*)\"", script.read_text(encoding="utf-8")))
    for script in ROOT.glob("integrations/**/*.py"):
        found |= set(re.findall(r"\"(--[a-z][\w-]*)\"", script.read_text(encoding="utf-8")))
    return found


@every_page
def test_python_is_python_and_knows_its_names(page: Path) -> None:
    for code in documented.blocks(page, "python"):
        tree = ast.parse(code)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert is_there(alias.name), alias.name
            elif isinstance(node, ast.ImportFrom) and is_ours(node.module or ""):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif isinstance(node, ast.ImportFrom):
                assert is_there(node.module or ""), node.module
            elif isinstance(node, ast.Attribute):
                check_attribute(node)
            elif isinstance(node, ast.Call):
                check_call(node)


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "moda"


def is_there(module: str) -> bool:
    """Ours exist; those of others are installed, or are known not to be here."""
    for name, folder in OWN_PACKAGES.items():
        if module == name:
            return (folder / name.replace(".", "/")).is_dir()
    if importlib.util.find_spec(module.split(".")[0]) is not None:
        return not is_ours(module) or importlib.import_module(module) is not None
    return module.split(".")[0] in ("hibari", "livekit", "moda_client", "pipecat", "skimage")


def dotted(node: ast.expr) -> list[str]:
    """``moda.Style`` as its words; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return [*before, node.attr] if before else []
    return []


def check_attribute(node: ast.Attribute) -> None:
    words = dotted(node)
    if words and words[0] == "moda":
        found: Any = importlib.import_module("moda")
        for word in words[1:]:
            if not hasattr(found, word):
                found = importlib.import_module(f"{found.__name__}.{word}")
            else:
                found = getattr(found, word)


def check_call(node: ast.Call) -> None:
    """Keywords of ``head.generate`` and of the public names are theirs."""
    import moda
    from moda.options import OPTIONS

    words = dotted(node.func)
    keywords = {keyword.arg for keyword in node.keywords if keyword.arg}
    if words[-1:] in (["generate"], ["reenact"]) and words[:1] == ["head"]:
        method = getattr(moda.TalkingHead, words[-1])
        assert keywords <= {*inspect.signature(method).parameters, *OPTIONS}, keywords
    elif len(words) > 1 and words[0] == "moda":
        called: Any = moda
        for word in words[1:]:
            called = getattr(called, word)
        parameters = inspect.signature(called).parameters
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            assert keywords <= set(parameters), (words, keywords)


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in documented.LINK.findall(documented.prose(page)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            assert re.fullmatch(r"(https://[\w.-]+\.[a-z]{2,}(/\S*)?|mailto:\S+@\S+)", link), link
            continue
        place = (page.parent / target).resolve() if target else page
        assert place.exists(), link
        if anchor and place.suffix == ".md" and "reference" not in place.parts:  # made by mkdocs
            assert anchor in documented.anchors(place), link


@every_page
def test_nothing_names_a_machine(page: Path) -> None:
    assert not re.search(r"/(work|root|tmp/\w+/|home/\w+/\w+/src)/", documented.text_of(page))
