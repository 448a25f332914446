"""Make the moving pictures of README.md, docs/gallery.md and the page: again for every model.

python scripts/make_gallery.py             # all of them, some minutes
python scripts/make_gallery.py emotions    # one of them
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moda import EMOTIONS, TalkingHead
from moda.structures import Picture

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, IMAGES = ROOT / "examples", ROOT / "docs" / "images"
PREVIEWS = ROOT / "src" / "moda" / "web" / "previews"
PAINTING, PHOTOGRAPH, DRAWING, ASTRONAUT = (
    EXAMPLES / name
    for name in (
        "portraits/mona_lisa.jpg", "portraits/hopper.jpg", "portraits/drawing.jpg", "portrait.jpg",
    )
)  # fmt: skip
SPEECH = EXAMPLES / "speech.wav"
TILE_PX, LABEL_PX = 256, 26
PREVIEW_PX = 112
FIRST, LAST = 5, 85
"""Frames that are shown: the first sentence, without the silence before it."""
Video = list[Picture]


def main() -> None:
    """Write those that are asked for."""
    makers = {
        function.__name__: function
        for function in (speaking, emotions, amounts, seeds, whole, previews)
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*makers, []], help="all without any")
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    for name in parser.parse_args().names or makers:
        makers[name](head)


def speaking(head: TalkingHead) -> None:
    """A painting, a photograph and a drawing say the same."""
    portraits = (PAINTING, PHOTOGRAPH, DRAWING)
    save("speaking", [frames(head, portrait, full_frame=True) for portrait in portraits])


def emotions(head: TalkingHead) -> None:
    """The same sentence with each emotion."""
    made = [frames(head, PHOTOGRAPH, emotion=name, seed=0) for name in EMOTIONS]
    save("emotions", made, EMOTIONS, step=2)


def amounts(head: TalkingHead) -> None:
    """Head motion and expression, from none to twice the usual."""
    factors = (0.0, 1.0, 2.0)
    heads = [frames(head, PAINTING, head_motion=factor, seed=0) for factor in factors]
    faces = [frames(head, PAINTING, expression=factor, seed=0) for factor in factors]
    labels = [f"head motion {factor:g}" for factor in factors]
    labels += [f"expression {factor:g}" for factor in factors]
    save("amounts", heads + faces, labels, columns=3, step=2)


def seeds(head: TalkingHead) -> None:
    """The same sentence four times."""
    numbers = (1, 2, 3, 4)
    made = [frames(head, PAINTING, seed=number) for number in numbers]
    save("seeds", made, [f"seed {number}" for number in numbers], step=2)


def whole(head: TalkingHead) -> None:
    """A face that is small in its picture, whole and as a crop."""
    made = [frames(head, ASTRONAUT, full_frame=flag, seed=0) for flag in (True, False)]
    save("whole", made, ("the whole picture", "--crop"), columns=2, step=2)


def previews(head: TalkingHead) -> None:
    """The examples of the page, each standing and moving."""
    PREVIEWS.mkdir(exist_ok=True)
    named = {"painting": PAINTING, "photograph": PHOTOGRAPH, "drawing": DRAWING}
    for name, portrait in named.items():
        tiles = frames(head, portrait, full_frame=True)[::2]
        small = [Image.fromarray(tile).resize((PREVIEW_PX, PREVIEW_PX)) for tile in tiles]
        small[0].save(PREVIEWS / f"{name}.jpg", quality=80)
        small[0].save(
            PREVIEWS / f"{name}.webp", save_all=True, append_images=small[1:], duration=80,
            loop=0, quality=50, method=5,
        )  # fmt: skip


def frames(head: TalkingHead, portrait: Path, *, full_frame: bool = False, **options: Any) -> Video:
    """The first sentence, each frame cut to a square of TILE_PX."""
    video = head.generate(portrait, SPEECH, full_frame=full_frame, size=2 * TILE_PX, **options)
    tiles = []
    for frame in islice(video.frames(), FIRST, LAST):
        side = min(frame.shape[:2])
        square = Image.fromarray(frame[:side, (frame.shape[1] - side) // 2 :][:, :side])
        tiles.append(np.asarray(square.resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)))
    return tiles


def save(
    name: str,
    videos: Sequence[Video],
    labels: Sequence[str] = (),
    *,
    columns: int = 4,
    step: int = 1,
) -> None:
    """Write videos side by side as one moving picture of every ``step``-th frame."""
    sheets = [sheet(tiles, labels, columns) for tiles in list(zip(*videos, strict=True))[::step]]
    sheets[0].save(
        IMAGES / f"{name}.webp", save_all=True, append_images=sheets[1:], duration=40 * step,
        loop=0, quality=55, method=5,
    )  # fmt: skip


def sheet(tiles: Sequence[Picture], labels: Sequence[str], columns: int) -> Image.Image:
    """Tiles in rows, each with its label below."""
    columns = min(columns, len(tiles))
    height = TILE_PX + (LABEL_PX if labels else 0)
    image = Image.new("RGB", (columns * TILE_PX, -(-len(tiles) // columns) * height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for index, tile in enumerate(tiles):
        x, y = index % columns * TILE_PX, index // columns * height
        image.paste(Image.fromarray(tile), (x, y))
        if labels:
            middle = (x + TILE_PX // 2, y + TILE_PX + LABEL_PX // 2)
            draw.text(middle, labels[index], "black", font, anchor="mm")
    return image


if __name__ == "__main__":
    main()
