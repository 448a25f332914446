"""What a client of a voice agent got: pictures a second, sound against picture, interruptions.

    python benchmarks/agents.py run.npz --video run.mp4 --output result.json

``run.npz`` is what the examples of the integrations (Pipecat, LiveKit, Realtime) record: pictures
and pieces of sound, each with the time at which it was shown or heard.

new pictures: those that differ from the one before, of which a live head makes 25 a second.
lips: offset of the lips that are seen against those that the offline model gives the recorded
    sound; positive is picture late.
silence: from the interruption to the end of the last piece of sound that was heard before the next
    answer.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr
from live_measures import RATE, tracked_gaps

from moda.evaluation.model.lips import sampled_motion, whole_speech
from moda.motion.hearing.lips import lips_of_motion
from moda.weights.checkpoints import load_checkpoint

PAUSE_SECONDS = 0.5
"""After an interruption; the next answer comes later."""


def timeline(run: Any) -> np.ndarray:
    """The sound (N,) in -1..1 at 16 kHz, at the times at which it was heard."""
    rate = int(run["sample_rate"])
    sound = run["sound"].astype(np.float32) / 32768.0
    whole = np.zeros(int((run["picture_times"][-1] + 1.0) * rate), np.float32)
    place = 0
    for at, size in zip(run["sound_times"], run["sound_sizes"], strict=True):
        begin = round(float(at) * rate)
        piece = sound[place : place + size][: max(0, len(whole) - begin)]
        whole[begin : begin + len(piece)] = piece
        place += size
    return soxr.resample(whole, rate, RATE).astype(np.float32)


def lips_milliseconds(run: Any, sound: np.ndarray) -> tuple[float, float]:
    """Offset of the lips against the sound, and the correlation there."""
    gaps = tracked_gaps(list(run["pictures"]))
    known = np.isfinite(gaps)
    offline, _ = lips_of_motion(sampled_motion(load_checkpoint("moda-tiny"), whole_speech(sound)))
    times = np.arange(0.0, run["picture_times"][-1], 0.02)
    seen = np.interp(times, run["picture_times"][known], gaps[known])
    lags = np.arange(-0.32, 0.321, 0.005)
    scores = [
        np.corrcoef(seen, np.interp((times - lag) * 25, np.arange(len(offline)), offline))[0, 1]
        for lag in lags
    ]
    best = int(np.argmax(scores))
    return float(lags[best] * 1000), float(scores[best])


def report(run: Any) -> dict[str, Any]:
    """All that is measured on one run."""
    times, pictures = run["picture_times"], run["pictures"]
    changed = [True, *((a != b).any() for a, b in itertools.pairwise(pictures))]
    new = times[np.array(changed)]
    ends = run["sound_times"] + run["sound_sizes"] / float(run["sample_rate"])
    at = float(run["interrupted"])
    before = ends[run["sound_times"] < at + PAUSE_SECONDS]
    offset, correlation = lips_milliseconds(run, timeline(run))
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "load_before_and_after": [round(float(one), 2) for one in run["load"]],
        "size": list(pictures.shape[2:0:-1]),
        "seconds": round(float(times[-1] - times[0]), 2),
        "pictures_a_second": round((len(times) - 1) / float(times[-1] - times[0]), 2),
        "new_pictures_a_second": round((len(new) - 1) / float(new[-1] - new[0]), 2),
        "seconds_between_new_pictures_p99": round(float(np.quantile(np.diff(new), 0.99)), 3),
        "seconds_between_new_pictures_max": round(float(np.diff(new).max()), 3),
        "lips_milliseconds": round(offset, 1),
        "lips_correlation": round(correlation, 3),
        "silence_after_interruption_seconds": round(float(before.max()) - at, 3),
    }


def write_video(run: Any, path: Path) -> None:
    """The pictures at their times, with the sound at its own."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": "20"})
        video.height, video.width = run["pictures"].shape[1:3]
        video.pix_fmt, video.time_base = "yuv420p", Fraction(1, 1000)
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        last = -1
        for at, picture in zip(run["picture_times"], run["pictures"], strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts = last = max(last + 1, round(1000 * float(at)))
            frame.time_base = Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(timeline(run)[None], "fltp", "mono")
        sound.sample_rate, sound.pts = RATE, 0
        container.mux([*audio.encode(sound), *audio.encode(None)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with np.load(arguments.run) as archive:
        run = dict(archive)
    result = report(run)
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.video:
        write_video(run, arguments.video)


if __name__ == "__main__":
    main()
