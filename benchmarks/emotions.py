"""What does each emotion change on the frames? The table of docs/model-card-moda-tiny.md.

    python benchmarks/emotions.py PORTRAIT... --speech examples/speech.wav

Every portrait speaks with every emotion at full strength and without any, seed 0, the head alone at
256 pixels. Means over the portraits, in hundredths of the outer-eye distance. Gap spread is the
standard deviation of the lip gap over that without an emotion, mean and least of the portraits; eye
opening is the height between the lids.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from moda import EMOTIONS, EmotionAt, Style, TalkingHead
from moda.encoders.tracking import track_landmarks
from moda.evaluation.rendered.emotions import eye_opening, gap_spread, landmark_effects
from moda.systems.embedded import EmbeddedSystem

SHOWN = (
    "mouth_width", "corner_height", "corner_slant", "inner_brow_height", "outer_brow_height",
    "lid_opening", "lip_gap",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--speech", type=Path, required=True)
    arguments = parser.parse_args()
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    plain = [landmarks(head, portrait, arguments.speech) for portrait in arguments.portraits]
    columns = [name.replace("_", " ") for name in SHOWN] + ["gap spread", "least", "eye opening"]
    print(f"| emotion | {' | '.join(columns)} |")
    print(f"|{' --- |' * (len(columns) + 1)}")
    print(f"| none |{' |' * len(SHOWN)} 1.00 | 1.00 | {mean_opening(plain):.1f} |", flush=True)
    corners = {}
    for emotion in EMOTIONS:
        tracks = [
            landmarks(head, portrait, arguments.speech, emotion) for portrait in arguments.portraits
        ]
        pairs = list(zip(plain, tracks, strict=True))
        effects = [landmark_effects(neutral, track) for neutral, track in pairs]
        means = {name: float(np.mean([effect[name] for effect in effects])) for name in SHOWN}
        corners[emotion] = means["corner_height"]
        spreads = [gap_spread(neutral, track) for neutral, track in pairs]
        cells = [f"{mean:+.1f}" for mean in means.values()]
        cells += [f"{np.mean(spreads):.2f}", f"{min(spreads):.2f}", f"{mean_opening(tracks):.1f}"]
        print(f"| {emotion} | {' | '.join(cells)} |", flush=True)
    print(f"\nCorners of happy above those of sad: {corners['happy'] - corners['sad']:.1f}")


def mean_opening(tracks: list[np.ndarray]) -> float:
    """Of the eyes, over all portraits, hundredths of the outer-eye distance."""
    return 100.0 * float(np.mean([eye_opening(track) for track in tracks]))


def landmarks(
    head: TalkingHead, portrait: Path, speech: Path, emotion: str | None = None
) -> np.ndarray:
    """Landmarks (T, 478, 3) of the frames, px."""
    system = head.system
    assert isinstance(system, EmbeddedSystem)
    style = Style() if emotion is None else Style((EmotionAt(0.0, emotion, 1.0),))
    video = head.generate(portrait, speech, style=style, size=256, full_frame=False)
    timed = ((index / 25, frame) for index, frame in enumerate(video.frames()))
    return track_landmarks(timed, system.models).landmarks.astype(np.float64)


if __name__ == "__main__":
    main()
