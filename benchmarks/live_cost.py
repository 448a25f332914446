"""Processor time of a frame of a live session, from sound to the message that carries it.

    python benchmarks/live_cost.py
    python benchmarks/live_cost.py --against ../older-checkout --rounds 5 --output result.json

Processor time counts, which other programs disturb less than time on the wall; still run by hand on
a quiet machine. With ``--against`` every round runs with the code of that checkout too, in turns,
and the share of the older one is what can be compared between machines. Of several rounds the
cheapest counts. A core holds as many sessions at 25 pictures a second as its frames fit in 40 ms,
if nothing else runs on it.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAME_MILLISECONDS = 40.0
WARM_FRAMES, FRAMES = 40, 100
RATE = 48_000
QUALITY = 85
"""Of JPEG files, as the server has it."""

Row = dict[str, float]


class Pipe:
    """Takes what a session sends to the server."""

    def send(self, word: str, *values: object) -> None:
        """Nothing is done with it."""


def measure(size: int) -> Row:
    """Milliseconds a frame of 4 s of speech, drawn and without a picture."""
    import cv2
    import numpy as np

    from moda.live import LiveHead, LiveOptions
    from moda.media import AudioReader
    from moda.options import FrameOptions
    from moda.pipeline import TalkingHead
    from moda.serving.live.output import PipeOutput

    cv2.setNumThreads(1)
    head = LiveHead.of(
        TalkingHead.from_pretrained("moda-tiny", device="cpu"),
        ROOT / "examples" / "portrait.jpg",
        LiveOptions(sample_rate=RATE, pace="ahead"),
        frame=FrameOptions(size=size),
    )
    speech = np.concatenate(list(AudioReader(ROOT / "examples" / "speech.wav", RATE)))
    needed = (WARM_FRAMES + 2 * FRAMES) * RATE // 25
    head.push(np.tile(speech, needed // len(speech) + 1)[:needed])
    kinds = ("jpeg",) if "kind" in inspect.signature(PipeOutput).parameters else ()  # older: none
    output = PipeOutput(Pipe(), QUALITY, *kinds)  # type: ignore[arg-type]
    for _ in range(WARM_FRAMES):
        output.show(head.next_frame())
    row = {}
    for name, draw in (("drawn", True), ("without_picture", False)):
        begun = time.process_time()
        for _ in range(FRAMES):
            output.show(head.next_frame(draw=draw))
        row[name] = round(1000 * (time.process_time() - begun) / FRAMES, 2)
    return row


def run(checkout: Path, python: str, size: int) -> Row:
    """:func:`measure` with the code of a checkout."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "OPENBLAS_NUM_THREADS": "1",  # as the moda command has it
    }
    command = [python, __file__, "--only-measure", "--size", str(size)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=Path, help="checkout of an older version")
    parser.add_argument("--older-python", default=sys.executable)
    parser.add_argument("--only-measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.only_measure:
        print(json.dumps(measure(arguments.size)))
        return
    programs = [(ROOT, sys.executable)]
    if arguments.against is not None:
        programs.append((arguments.against.resolve(), arguments.older_python))
    rounds = [
        [run(*program, arguments.size) for program in programs] for _ in range(arguments.rounds)
    ]
    rows = [
        {name: min(row[index][name] for row in rounds) for name in rounds[0][index]}
        for index in range(len(programs))
    ]
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "size": arguments.size,
        "milliseconds": rows[0],
        "sessions_a_core": round(FRAME_MILLISECONDS / rows[0]["drawn"], 1),
    }
    if len(rows) > 1:
        result["older_milliseconds"] = rows[1]
        result["share"] = {name: round(rows[0][name] / rows[1][name], 3) for name in rows[0]}
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
