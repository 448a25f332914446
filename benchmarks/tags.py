"""Do emotions follow the tags of a text? Measured on the frames of the finished videos.

    python benchmarks/tags.py examples/portrait.jpg --output benchmarks/results/tags.json

A text in three languages is spoken and drawn with its tags and without, both videos are read back
from their files, and the face of each frame is tracked. Needs espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter1d

from moda import TalkingHead
from moda.encoders.tracking import track_landmarks
from moda.errors import InputError
from moda.evaluation.rendered.emotions import landmark_effects
from moda.media import VideoReader
from moda.motion.rules.emotion import CHANGE_SECONDS
from moda.speech_synthesis import Espeak, synthesise
from moda.structures import FRAMES_PER_SECOND, EmotionAt
from moda.structures.landmarks import Array
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
SMOOTH_FRAMES = 9


class SpanEffect(NamedTuple):
    """What one entry of an emotion schedule did to the frames it is in force for."""

    entry: EmotionAt
    end_seconds: float
    effects: dict[str, float]
    """Of :func:`landmark_effects`, once the change is over"""
    turned_seconds: float | None
    """When the corners of the mouth were halfway from the span before, after the entry's time; None
    for the first span, and where the two do not differ"""


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
        for span in schedule_effects(tracks[0], tracks[1], spoken.style.schedule)
    ]


def schedule_effects(
    plain: Array, tagged: Array, schedule: Sequence[EmotionAt]
) -> list[SpanEffect]:
    """Whether a video's emotions follow their schedule, span by span.

    Args:
        plain: (T, 478, 3) pixels, the same speech without emotions, at 25 fps.
        tagged: (T, 478, 3) pixels, with them.
        schedule: in the order of time; what the video was asked for.

    Raises:
        InputError: the tracks differ in length, or a span is over before its change is.
    """
    if len(plain) != len(tagged):
        raise InputError(f"tracks of {len(plain)} and {len(tagged)} frames cannot be compared")
    ends = [entry.seconds for entry in schedule[1:]] + [len(plain) / FRAMES_PER_SECOND]
    spans = []
    for entry, end in zip(schedule, ends, strict=True):
        begin, stop = (round(at * FRAMES_PER_SECOND) for at in (entry.seconds, end))
        settled = begin + round(CHANGE_SECONDS * FRAMES_PER_SECOND) if begin else 0
        if settled >= stop:
            raise InputError(
                f"the emotion at {entry.seconds:.2f} s lasts {end - entry.seconds:.2f} s; "
                f"give it more than {CHANGE_SECONDS} s"
            )
        effects = landmark_effects(plain[settled:stop], tagged[settled:stop])
        spans.append(SpanEffect(entry, end, effects, None))
    course = _corner_course(plain, tagged)
    for index in range(1, len(spans)):
        before, after = (each.effects["corner_height"] for each in spans[index - 1 : index + 1])
        begin = round(spans[index].entry.seconds * FRAMES_PER_SECOND)
        turn = _first_crossing(course[begin:], 0.5 * (before + after), after > before)
        if turn is not None and before != after:
            spans[index] = spans[index]._replace(turned_seconds=turn / FRAMES_PER_SECOND)
    return spans


def _corner_course(plain: Array, tagged: Array) -> Array:
    """Difference of the height of the mouth's corners (T,), smooth, in the unit of the effects."""
    frames = range(len(plain))
    raw = np.array(
        [
            landmark_effects(plain[index : index + 1], tagged[index : index + 1])["corner_height"]
            for index in frames
        ]
    )
    return uniform_filter1d(raw, SMOOTH_FRAMES, mode="nearest")


def _first_crossing(course: Array, level: float, is_rising: bool) -> int | None:
    passed = np.flatnonzero((course > level) if is_rising else (course < level))
    return int(passed[0]) if len(passed) else None


if __name__ == "__main__":
    main()
