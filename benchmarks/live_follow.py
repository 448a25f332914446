"""A portrait that follows a camera: pictures a second, delay, and how near to the reenactment of
the film as a whole.

    python benchmarks/live_follow.py portrait.jpg driving.mp4 --output result.json

Every picture of the driving video is given to :class:`moda.live.LiveReenactment` alone. The delay
is the time from a picture to the portrait's, its JPEG included; the lag is that of the motion
itself, which is smoothed: the shift at which it follows that of the whole film best.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moda.encoders.live_tracking import LEARNED_PICTURES
from moda.encoders.tracking import track_motion
from moda.evaluation.metrics import lagged_correlation
from moda.live import LiveReenactment
from moda.media import VideoReader, jpeg_bytes
from moda.motion.hearing.lips import lips_of_motion
from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.structures import Motion
from moda.systems.embedded import EmbeddedSystem

QUALITY = 85
WARM_PICTURES = LEARNED_PICTURES + 10
PACKAGES = ("numpy", "onnxruntime", "numba", "opencv-python-headless")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("driving", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=250)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    talking = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    assert isinstance(talking.system, EmbeddedSystem)
    live = LiveReenactment.of(talking, arguments.portrait, frame=FrameOptions(size=arguments.size))
    film = [
        (index / 25, picture)
        for index, picture in zip(
            range(arguments.pictures), VideoReader(arguments.driving), strict=False
        )
    ]
    rows, walls, processor = [], [], []
    for _, picture in film:
        begun, worked = time.perf_counter(), time.process_time()
        frame = live.push_frame(picture)
        jpeg_bytes(frame.picture[..., :3], QUALITY)
        walls.append(time.perf_counter() - begun)
        processor.append(time.process_time() - worked)
        rows.append(frame.motion.values)
    motion = Motion(np.concatenate(rows), talking.system.space)
    whole = track_motion(iter(film), talking.system.models, talking.system.space).motion
    moving = slice(WARM_PICTURES, None)
    pairs: dict[str, tuple[Any, Any]] = {
        name: (whole.part(name)[moving, 0], motion.part(name)[moving, 0])
        for name in ("pitch", "yaw", "roll")
    }
    pairs["lip gap"] = lips_of_motion(whole)[0][moving], lips_of_motion(motion)[0][moving]
    likeness = {name: lagged_correlation(*pair) for name, pair in pairs.items()}
    milliseconds = 1000 * np.array([walls, processor])[:, moving]
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "load_at_end": round(os.getloadavg()[0], 2),
        "size": arguments.size,
        "camera": list(film[0][1].shape[1::-1]),
        "delay_milliseconds": {
            "median": round(float(np.median(milliseconds[0])), 1),
            "p95": round(float(np.percentile(milliseconds[0], 95)), 1),
        },
        "processor_milliseconds": round(float(np.median(milliseconds[1])), 1),
        "pictures_a_second_a_core": round(1000 / float(milliseconds[1].mean()), 1),
        "like_the_whole_film": {
            name: {"r": round(found.correlation, 3), "lag_frames": found.lag}
            for name, found in likeness.items()
        },
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
