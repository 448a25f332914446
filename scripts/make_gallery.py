"""Make the moving pictures of README.md, docs/gallery.md and the page: again for every model.

python scripts/make_gallery.py             # all of them, some minutes
python scripts/make_gallery.py emotions    # one of them
"""

from __future__ import annotations

import argparse
import tempfile
import wave
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from moda import EMOTIONS, TalkingHead
from moda.live import LiveHead, LiveOptions
from moda.media import read_image
from moda.options import VideoOptions
from moda.pipeline.dubbing import dub
from moda.pipeline.jobs import VideoJob, begin_video, spoken
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
SENTENCES = {
    "en-us": ("English", "A moment ago, I was only a picture."),
    "de": ("German", "Vor einem Moment war ich nur ein Bild."),
    "fr-fr": ("French", "Il y a un moment, je n'étais qu'une image."),
}
"""Spoken by espeak-ng."""
IDLE_SECONDS = 1.2
Video = list[Picture]


def main() -> None:
    """Write those that are asked for."""
    makers = {function.__name__: function for function in MAKERS}
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


def before_after(head: TalkingHead) -> None:
    """The photograph beside the video that is made of it."""
    image = read_image(PHOTOGRAPH)
    moving = frames(head, PHOTOGRAPH, emotion="happy", full_frame=True, seed=0)
    still = [squares([image])[0]] * len(moving)
    save("before_after", [still, moving], ("the photograph", "the video"), columns=2, step=2)


def languages(head: TalkingHead) -> None:
    """The same portrait says a sentence in three languages."""
    made, labels = [], []
    for language, (name, text) in SENTENCES.items():
        options = VideoOptions(text=text, language=language, size=2 * TILE_PX, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            job = VideoJob(PAINTING, Path(folder) / "talk.mp4", None, options)
            made.append(squares(begin_video(job, head, Path(folder)).frames()))
        labels.append(name)
    save("languages", as_long(made), labels, step=2)


def dubbing(head: TalkingHead) -> None:
    """Footage, and the same footage with the lips of another sentence."""
    with tempfile.TemporaryDirectory() as name:
        footage = Path(name) / "footage.mp4"
        options = {"size": 2 * TILE_PX, "head_motion": 1.5, "seed": 3, "emotion": "happy:0.4"}
        head.generate(PHOTOGRAPH, SPEECH, full_frame=False, **options).write(footage)
        _, text = SENTENCES["de"]
        job = VideoJob(footage, Path(name) / "d.mp4", None, VideoOptions(text=text, language="de"))
        speech = spoken(job, head, Path(name))
        dubbed = squares(dub(head, footage, speech, seed=0).frames())
        filmed = squares(head.generate(PHOTOGRAPH, SPEECH, full_frame=False, **options).frames())
    length = min(len(dubbed), len(filmed), LAST)
    videos = [filmed[:length], dubbed[:length]]
    save("dubbing", videos, ("footage, in English", "dubbed, in German"), columns=2, step=2)


def live(head: TalkingHead) -> None:
    """A live head: it waits, speaks as it is spoken to it, is interrupted, and waits again."""
    with wave.open(str(SPEECH)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(3 * rate), "<i2").astype(np.float32) / 32768
    session = LiveHead.of(head, PAINTING, LiveOptions(sample_rate=rate))
    hop, pictures = rate // 25, []
    words: list[str] = []
    for index in range(round((2 * IDLE_SECONDS + len(samples) / rate) * 25)):
        begin = index - round(IDLE_SECONDS * 25)
        if 0 <= begin * hop < len(samples):
            session.push(samples[begin * hop :][:hop])
        if begin * hop == len(samples) // hop * hop:
            session.interrupt()
        frame = session.next_frame()
        pictures.append(frame.picture.copy())
        words.append("speaks" if frame.is_speaking else "waits")
    labels = [f"a live head, {index / 25:.1f} s: it {word}" for index, word in enumerate(words)]
    sheets = [
        sheet([tile], [label], 1)
        for tile, label in list(zip(squares(pictures), labels, strict=True))[::2]
    ]
    write("live", sheets, step=2)


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
    return squares(islice(video.frames(), FIRST, LAST))


def squares(pictures: Iterable[Picture]) -> Video:
    """The upper square of each, TILE_PX wide."""
    tiles = []
    for frame in pictures:
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
    write(name, sheets, step)


def as_long(videos: Sequence[Video]) -> list[Video]:
    """All as long as the longest: the others stand still at their ends."""
    length = max(map(len, videos))
    return [[*video, *[video[-1]] * (length - len(video))] for video in videos]


def write(name: str, sheets: Sequence[Image.Image], step: int) -> None:
    """Write a moving picture that shows every ``step``-th frame."""
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


MAKERS = (
    speaking, emotions, amounts, seeds, whole, before_after, languages, dubbing, live, previews,
)  # fmt: skip


if __name__ == "__main__":
    main()
