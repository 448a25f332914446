"""Do dubbed lips follow the motion they are drawn from? A film is dubbed with its own sound.

    python benchmarks/dubbing.py examples/portrait.jpg examples/speech.wav --seconds 7

A portrait speaks, and the film of it is dubbed with the same speech: both are drawn from the same
motion. The lip gap of the motion is compared with that of the frames, tracked again: how they
agree, and how large it is where the motion's lips are closed. What the portrait's frames reach is
what drawing and tracking can give.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from moda import TalkingHead
from moda.encoders.tracking import track_landmarks
from moda.media import AudioReader
from moda.motion.hearing.lips import lips_of_motion
from moda.pipeline import TalkingVideo
from moda.pipeline.dubbing import dub
from moda.structures import Motion, Picture
from moda.structures.landmarks import lip_gap
from moda.systems.embedded import EmbeddedSystem

RATE = 24_000
CLOSED = 0.006
"""Gap of the motion below which its lips are closed, in outer-eye distances."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--seconds", type=float, default=7.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    arguments = parser.parse_args()
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    for size in arguments.sizes:
        with TemporaryDirectory() as folder:
            speech = beginning(arguments.speech, Path(folder) / "a.wav", arguments.seconds)
            portrait = head.generate(
                arguments.portrait, speech, size=size, full_frame=False, seed=2
            )
            film = portrait.write(Path(folder) / "talk.mp4").path
            dubbed = dub(head, film, speech)
            row: dict[str, float] = {"size": size}
            for name, video in (("portrait", portrait), ("dubbed", dubbed)):
                row |= {f"{name}_{key}": round(v, 3) for key, v in measured(head, video).items()}
        print(json.dumps(row), flush=True)


def beginning(speech: Path, path: Path, seconds: float) -> Path:
    """The first seconds of a recording as a file of its own."""
    samples = np.concatenate(list(AudioReader(speech, RATE)))[: int(seconds * RATE)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def measured(head: TalkingHead, video: TalkingVideo) -> dict[str, float]:
    """Lip gap of a video's frames against that of its motion.

    ``r`` is their correlation; ``closed_gap`` what is seen where the motion's lips are closed.
    """
    motion = np.concatenate([part.values for part in video.motion()])
    wanted, _ = lips_of_motion(Motion(motion, head.space))
    drawn = tracked_gap(head, video.frames())
    length = min(len(wanted), len(drawn))
    wanted, drawn = wanted[:length], drawn[:length]
    return {
        "r": float(np.corrcoef(wanted, drawn)[0, 1]),
        "closed_gap": float(drawn[wanted < CLOSED].mean()),
    }


def tracked_gap(head: TalkingHead, frames: Iterable[Picture]) -> np.ndarray:
    system = head.system
    assert isinstance(system, EmbeddedSystem)
    timed = ((index / 25, frame) for index, frame in enumerate(frames))
    return lip_gap(track_landmarks(timed, system.models).landmarks.astype(np.float64))


if __name__ == "__main__":
    main()
