"""One palette: both pages have its colours and none of their own, and can be read."""

from __future__ import annotations

import re

import pytest

from moda.doors import palette
from paths import ROOT

PAGE = ROOT / "src" / "moda" / "serving" / "page"
HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
BEHIND_PICTURES = {"#0c0d0e"}
READABLE = 4.5
"""Contrast of text that WCAG 2 asks for at level AA."""
PAIRS = [
    ("ink", "back"), ("ink", "card"), ("ink", "raised"), ("ink", "touched"), ("ink", "field"),
    ("ink", "glow"), ("soft", "back"), ("soft", "card"), ("soft", "field"), ("accent", "back"),
    ("accent", "card"), ("on-accent", "accent"), ("on-accent", "accent-touched"),
    ("wrong", "wrong-back"), ("wrong", "raised"),
]  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2, 0 to 1, of ``#rrggbb``."""
    channels = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [palette.DAY, palette.NIGHT], ids=["day", "night"])
def test_what_is_written_can_be_read(colours: dict[str, str]) -> None:
    for text, ground in PAIRS:
        dark, light = sorted(luminance(colours[name]) for name in (text, ground))
        assert (light + 0.05) / (dark + 0.05) >= READABLE, (text, ground)


def test_day_and_night_have_the_same_colours() -> None:
    assert list(palette.DAY) == list(palette.NIGHT)


def test_the_live_page_uses_the_palette() -> None:
    rules = (PAGE / "style.css").read_text(encoding="utf-8")
    defined = set(re.findall(r"--([a-z-]+):", palette.style_sheet()))
    assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) <= defined
    assert set(HEX.findall(rules)) <= BEHIND_PICTURES


def test_the_face_for_other_pages_uses_the_palette() -> None:
    colours = set(HEX.findall((PAGE / "face.js").read_text(encoding="utf-8")))
    assert colours <= BEHIND_PICTURES | {*palette.DAY.values(), *palette.NIGHT.values()}


def test_the_page_uses_the_palette() -> None:
    look = pytest.importorskip("moda.web.look", reason="the extra web is not installed")
    assert set(look.COLOURS.values()) <= set(palette.DAY)
    written = set(HEX.findall(look.style_sheet(("Painting",))))
    assert written <= {*palette.DAY.values(), *palette.NIGHT.values()}
    theme = look.theme()
    for name, colour in look.COLOURS.items():
        assert getattr(theme, name) == palette.DAY[colour]
        assert getattr(theme, f"{name}_dark") == palette.NIGHT[colour]
