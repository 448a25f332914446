"""The documentation site: what its own strict build does not notice."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import typer

from paths import ROOT, load_file

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site() -> ModuleType:
    return load_file(ROOT / "scripts" / "docs_site.py")


def test_every_command_and_option_is_in_the_reference(site: ModuleType) -> None:
    from moda.cli import app

    page = site.command_line()
    found = site.commands(typer.main.get_command(app), "moda")
    assert {"moda generate", "moda web", "moda models list"} <= {name for name, _ in found}
    for name, command in found:
        section = page.split(f"## {name}\n")[1].split("\n## ")[0]
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("-"):
                    assert f"`{option}`" in section, (name, option)


def test_reference_pages_name_things_that_exist() -> None:
    import importlib

    names = [
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(names) > 20
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_links_to_files_of_the_repository(site: ModuleType) -> None:
    class AnyFile:
        src_uri = "how-to/page.md"

    class AnyPage:
        file = AnyFile()

    class Config:
        docs_dir = str(DOCS)

    def shown(markdown: str) -> str:
        return str(site.on_page_markdown(markdown, AnyPage(), Config(), None))

    assert shown("[README.md](../../README.md)") == "`README.md`"
    assert shown("[numbers](../../benchmarks)") == "numbers (`benchmarks`)"
    kept = "[card](../model-card-moda-tiny.md) [paper](https://arxiv.org/abs/2507.03256)"
    assert shown(kept) == kept


class TestListForLanguageModels:
    def test_it_is_what_the_command_makes(self) -> None:
        made = load_file(ROOT / "scripts" / "make_llms.py")
        assert made.text() == made.PAGE.read_text(encoding="utf-8"), (
            "docs/llms.txt is stale: python scripts/make_llms.py"
        )

    def test_every_page_is_in_it(self) -> None:
        listed = set(re.findall(r"\]\(([^)]+\.md)\)", (DOCS / "llms.txt").read_text("utf-8")))
        assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}

    def test_its_links_lead_somewhere_on_the_site(self, site: ModuleType, tmp_path: Path) -> None:
        class Config:
            docs_dir, site_dir = str(DOCS), str(tmp_path)

        site.on_post_build(Config())
        for name in re.findall(r"\]\(([^)]+)\)", (DOCS / "llms.txt").read_text("utf-8")):
            assert (tmp_path / name).is_file(), name
