"""Does the face embedding tell people apart? The table of docs/evaluation.md.

    python benchmarks/face_embedding.py clips.csv

Every line of the file is a video, relative to the file, and a name of the speaker: ``a.mp4,anna``.
All pairs of frames are compared: within a clip, of one speaker in two clips, and of two speakers.
"""

from __future__ import annotations

import argparse
import csv
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from moda.encoders.face import FaceModels, FaceTracker
from moda.evaluation.videos.networks.face_embedding import (
    FaceEmbedder,
    embed_chips,
    face_chip,
    load_face_embedder,
)
from moda.media import VideoReader

SAME_PERSON_DISTANCE = 0.6
"""Below this Euclidean distance dlib takes two faces for one person."""
KINDS = ("the same clip", "one speaker, two clips", "different speakers")

Array = NDArray[np.floating]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, help="file with a video and a speaker a line")
    parser.add_argument("--every", type=int, default=10, help="frames from one to the next taken")
    parser.add_argument("--most", type=int, default=15, help="frames taken of a clip")
    arguments = parser.parse_args()
    models, network = FaceModels(), load_face_embedder()
    clips: list[tuple[str, Array]] = []
    with arguments.clips.open(newline="", encoding="utf-8") as lines:
        for name, speaker in csv.reader(lines):
            path = arguments.clips.parent / name
            faces = embeddings(path, models, network, arguments.every, arguments.most)
            clips.append((speaker, faces))
            print(f"{name}: {len(faces)} faces", flush=True)
    cosines, distances = pairs(clips)
    print("| pairs of frames | number | cosine: 5, 50, 95 % | Euclidean distance: 5, 50, 95 % |")
    print("| --- | --- | --- | --- |")
    for kind in KINDS:
        shown = [
            ", ".join(f"{value:.3f}" for value in np.percentile(found[kind], (5, 50, 95)))
            for found in (cosines, distances)
        ]
        print(f"| {kind} | {len(cosines[kind])} | {shown[0]} | {shown[1]} |")
    _, one, two = KINDS
    print(f"area under the curve, cosine: {area(cosines[one], cosines[two]):.4f}")
    print(f"area under the curve, distance: {area(-distances[one], -distances[two]):.4f}")
    for kind in (one, two):
        share = float((distances[kind] < SAME_PERSON_DISTANCE).mean())
        print(f"{kind}: {100 * share:.1f} % below {SAME_PERSON_DISTANCE}")


def embeddings(
    path: Path, models: FaceModels, network: FaceEmbedder, every: int, most: int
) -> Array:
    """(N, 128) of frames of a clip in which the face is seen."""
    tracker, chips = FaceTracker(models), []
    for index, frame in enumerate(islice(VideoReader(path), every * most)):
        face = tracker.track(frame)
        if face is not None and index % every == 0:
            chips.append(face_chip(frame, face.points))
    return embed_chips(network, chips)


def pairs(clips: list[tuple[str, Array]]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Cosines and distances of all pairs of frames, by kind."""
    clip = np.repeat(np.arange(len(clips)), [len(faces) for _, faces in clips])
    speakers = np.array([speaker for speaker, _ in clips])[clip]
    faces = np.concatenate([faces for _, faces in clips]).astype(np.float64)
    one, two = np.triu_indices(len(faces), 1)
    same = speakers[one] == speakers[two]
    within = clip[one] == clip[two]
    lengths = np.linalg.norm(faces, axis=1)
    products = faces @ faces.T
    cosines = (products / np.outer(lengths, lengths))[one, two]
    squares = (lengths[:, None] ** 2 + lengths**2 - 2.0 * products)[one, two]
    distances = np.sqrt(np.maximum(squares, 0.0))
    chosen = dict(zip(KINDS, (within, same & ~within, ~same), strict=True))
    return (
        {kind: cosines[mask] for kind, mask in chosen.items()},
        {kind: distances[mask] for kind, mask in chosen.items()},
    )


def area(positive: Array, negative: Array) -> float:
    """Share of pairs of a positive and a negative value in which the positive one is larger."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    count = len(positive)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(negative)))


if __name__ == "__main__":
    main()
