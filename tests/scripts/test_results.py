"""The page of results, and what other pages repeat of it."""

from __future__ import annotations

import json
import re
from types import ModuleType

import pytest

from paths import ROOT, load_file


@pytest.fixture(scope="module")
def results() -> ModuleType:
    return load_file(ROOT / "scripts" / "make_results.py")


def test_the_page_is_what_the_command_makes(results: ModuleType) -> None:
    assert results.page() == results.PAGE.read_text(encoding="utf-8"), (
        "docs/results.md is stale: python scripts/make_results.py"
    )


def test_another_figure_makes_another_page(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = results.stored("lips")
    stored["rows"][0]["gap"] = 0.123
    original = results.stored
    monkeypatch.setattr(
        results, "stored", lambda name: stored if name == "lips" else original(name)
    )
    assert "| moda-tiny | 0.123 |" in results.page()
    assert results.page() != results.PAGE.read_text(encoding="utf-8")


def test_other_pages_repeat_the_stored_figures(results: ModuleType) -> None:
    for page, figures in results.quotes().items():
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for figure in figures:
            assert figure in text, f"{page} has another figure than {figure!r}"


def test_every_result_says_when_and_where(results: ModuleType) -> None:
    linked = set(re.findall(r"\[(\w[\w-]*)\.json\]", results.page()))
    assert len(linked) >= 10
    for name in linked:
        found = json.loads((results.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        parts = list(found.values()) if name == "robustness" else [found]
        for part in parts:
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", part["date"]), name
            assert part["machine"], name


def test_figures_by_recording_come_to_the_figure_of_all(results: ModuleType) -> None:
    rows = results.stored("beside_published")["rows"]
    whole = results.mean_rows(rows)
    assert results.pair(whole["filmed"]) in results.beside_published()
    assert len(rows) == 17
