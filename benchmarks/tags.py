"""Do emotions follow the tags of a text? Measured on the frames of the finished videos.

    python benchmarks/tags.py examples/portrait.jpg --output benchmarks/results/tags.json

A text in three languages is spoken and drawn with its tags and without, both videos are read back
from their files, and the face of each frame is tracked. Needs espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from moda import TalkingHead
from moda.encoders.tracking import track_landmarks
from moda.evaluation.rendered.emotions import schedule_effects
from moda.media import VideoReader
from moda.speech_synthesis import Espeak, synthesise
from moda.systems.embedded import EmbeddedSystem

TEXTS = {
    "en-us": "[happy] What a lovely day it is, and all of you came. [sad] But I have to leave you"
    " now, and it is hard. [angry] Nobody told me that it would be so early!",
    "de": "[happy] Was für ein schöner Tag, und ihr seid alle da. [sad] Aber ich muss euch jetzt"
    " verlassen, so schwer es ist. [angry] Niemand hat mir gesagt, dass es so früh wird!",
    "fr-fr": "[happy] Quelle belle journée, et vous voilà tous. [sad] Mais je dois vous quitter"
    " maintenant, et c'est dur. [angry] Personne ne m'a dit que ce serait si tôt !",
}
SHOWN = ("corner_height", "mouth_width", "inner_brow_height", "lid_opening")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    rows = []
    for portrait in arguments.portraits:
        for language in TEXTS:
            rows += measured(head, portrait, language, arguments.size)
            print(json.dumps(rows[-3:], indent=1), flush=True)
    result = {
        "machine": f"{platform.machine()}, {platform.system()}",
        "size": arguments.size,
        "num_portraits": len(arguments.portraits),
        "rows": rows,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(head: TalkingHead, portrait: Path, language: str, size: int) -> list[dict[str, Any]]:
    """One row for each tag of one text."""
    system = head.system
    assert isinstance(system, EmbeddedSystem)
    tracks = []
    with TemporaryDirectory() as folder:
        spoken = synthesise(
            TEXTS[language], Path(folder) / "a.wav", synthesiser=Espeak(), language=language
        )
        for name in ("plain", "tagged"):
            speech = spoken if name == "tagged" else spoken.path
            video = head.generate(
                portrait, speech, phones=spoken.phones, size=size, full_frame=False
            )
            path = video.write(Path(folder) / f"{name}.mp4").path
            frames = enumerate(VideoReader(path))
            timed = ((index / 25, frame) for index, frame in frames)
            tracks.append(track_landmarks(timed, system.models).landmarks.astype(np.float64))
    return [
        {
            "language": language,
            "tag": span.entry.emotion,
            "seconds": [round(span.entry.seconds, 2), round(span.end_seconds, 2)],
            "turned_after_seconds": span.turned_seconds,
            **{name: round(span.effects[name], 2) for name in SHOWN},
        }
        for span in schedule_effects(*tracks, spoken.style.schedule)
    ]


if __name__ == "__main__":
    main()
