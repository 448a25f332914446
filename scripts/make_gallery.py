"""Make the pictures of docs/gallery.md from examples/: run it again when the model changes.

python scripts/make_gallery.py
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moda import EMOTIONS, EmotionAt, Style, TalkingHead
from moda.structures import Picture

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT, SPEECH = ROOT / "examples" / "portrait.jpg", ROOT / "examples" / "speech.wav"
IMAGES = ROOT / "docs" / "images"
TILE_PX, LABEL_PX = 240, 26
EMOTION_FRAME = 45
SPEAKING_FRAMES = (10, 17, 24, 31, 38, 45, 52, 59)


def main() -> None:
    """Write the sheets."""
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    speaking = frames(head, SPEAKING_FRAMES)
    labels = [f"{index / 25:.2f} s" for index in SPEAKING_FRAMES]
    save_sheet("gallery-speaking.jpg", speaking, labels)

    emotions = [frames(head, (EMOTION_FRAME,), emotion=name)[0] for name in EMOTIONS]
    save_sheet("gallery-emotions.jpg", emotions, list(EMOTIONS))

    amounts = (0.0, 1.0, 2.0)
    heads = [frames(head, (EMOTION_FRAME,), head_motion=amount)[0] for amount in amounts]
    seeds = [frames(head, (EMOTION_FRAME,), seed=seed)[0] for seed in (1, 2, 3, 4, 5)]
    labels = [f"head motion {amount:g}" for amount in amounts]
    save_sheet("gallery-seeds.jpg", heads + seeds, labels + [f"seed {n}" for n in (1, 2, 3, 4, 5)])


def frames(
    head: TalkingHead, indices: tuple[int, ...], *, emotion: str | None = None, seed: int = 0,
    head_motion: float = 1.0,
) -> list[Picture]:  # fmt: skip
    """Some frames (TILE_PX, TILE_PX, 3) of the example, only the head."""
    style = Style() if emotion is None else Style((EmotionAt(0.0, emotion),))
    video = head.generate(
        PORTRAIT, SPEECH, style=style, size=TILE_PX, full_frame=False, seed=seed,
        head_motion=head_motion, blink=False,
    )  # fmt: skip
    made = islice(video.frames(), max(indices) + 1)
    return [frame.copy() for index, frame in enumerate(made) if index in indices]


def save_sheet(name: str, pictures: list[Picture], labels: list[str]) -> None:
    """Write pictures in rows of four, each with its label below."""
    rows = -(-len(pictures) // 4)
    sheet = Image.new("RGB", (4 * TILE_PX, rows * (TILE_PX + LABEL_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for index, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        x, y = index % 4 * TILE_PX, index // 4 * (TILE_PX + LABEL_PX)
        sheet.paste(Image.fromarray(np.asarray(picture)), (x, y))
        middle = (x + TILE_PX // 2, y + TILE_PX + LABEL_PX // 2)
        draw.text(middle, label, "black", font, anchor="mm")
    sheet.save(IMAGES / name, quality=85, optimize=True)


if __name__ == "__main__":
    main()
