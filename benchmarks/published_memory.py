"""Peak memory of the published system against the length of the recording.

    python benchmarks/published_memory.py MODELS [--output results.json]

MODELS is a folder with the three converted files (``moda models convert``); made-up weights serve
as well as the released ones. Every measurement runs in a process of its own. Motion is made of all
of the speech with a single sampler step, and the given number of frames is rendered and encoded:
both grow with a recording, one after the other, in the same way for any number of steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from generate import ROOT, write_speech

CASES = ((5, 5), (60, 5), (5, 50))
"""Seconds of speech, and frames rendered."""


def measure(seconds: float, num_frames: int, folder: Path) -> float:
    """Megabytes at the peak of one process."""
    from moda.media import VideoWriter
    from moda.pipeline import TalkingHead

    speech = folder / "speech.wav"
    write_speech(speech, seconds)
    head = TalkingHead.from_pretrained("moda-base", device="cpu")
    video = head.generate(ROOT / "examples" / "portrait.jpg", speech, num_steps=1)
    for _ in video.motion():
        pass
    with VideoWriter(folder / "talk.mp4", video.frame_size, 25) as written:
        for frame in islice(video.frames(), num_frames):
            written.write(frame)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure every case in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--case", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        with tempfile.TemporaryDirectory() as folder:
            seconds, num_frames = arguments.case
            print(measure(seconds, num_frames, Path(folder)))
        return
    rows = []
    for seconds, num_frames in CASES:
        command = [sys.executable, __file__, str(arguments.models)]
        done = subprocess.run(
            [*command, "--case", str(seconds), str(num_frames)],
            env=os.environ | {"MODA_HOME": str(arguments.models)},
            capture_output=True,
            check=True,
            text=True,
        )
        rows.append(
            {"speech_seconds": seconds, "frames": num_frames, "peak_mb": float(done.stdout)}
        )
        print(f"{seconds:4d} s of speech, {num_frames:3d} frames: {rows[-1]['peak_mb']:.0f} MB")
    if arguments.output:
        result = {
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "torch": version("torch"),
            "cases": rows,
        }
        arguments.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
