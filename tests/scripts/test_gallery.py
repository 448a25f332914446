"""The pictures of the documentation: each has a maker, moves if it should, and is not too large."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from paths import ROOT, load_file

IMAGES = ROOT / "docs" / "images"
MOVING = sorted(IMAGES.glob("*.webp"))
MOST_BYTES = 3_000_000


@pytest.mark.parametrize("path", MOVING, ids=lambda path: path.stem)
def test_moving_pictures_move_and_are_small(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as image:
        assert image.n_frames > 20


def test_every_moving_picture_is_made_by_the_script_and_shown() -> None:
    gallery = load_file(ROOT / "scripts" / "make_gallery.py")
    made = {maker.__name__ for maker in gallery.MAKERS} - {"previews"}
    assert made == {path.stem for path in MOVING}
    shown = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert set(re.findall(r"images/(\w+)\.webp", shown)) == made


def test_every_figure_is_made_by_the_script_and_shown() -> None:
    code = (ROOT / "scripts" / "make_figures.py").read_text(encoding="utf-8")
    shown = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    figures = {path.stem.removeprefix("figure-") for path in IMAGES.glob("figure-*.png")}
    assert figures == {"streams", "flow", "space", "encoder"}
    for name in figures:
        assert f'"{name}": ' in code
        assert f"images/figure-{name}.png" in shown
