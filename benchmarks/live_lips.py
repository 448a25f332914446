"""Do the lips of a live head follow unseen speakers as the offline ones do?

    python benchmarks/live_lips.py prepared/talking --recipe recipes/moda-tiny.json

Correlation of the sampled lips with the tracked ones, clip by clip at the clip's own offset, for
the whole recording at once and frame by frame with several look-aheads. Every clip begins with
nothing known of its level, as a live session does. The clips are private; the numbers are not.

Also the processor time of hearing and judging a second of sound, without planning and rules.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moda.data.clips import read_clips
from moda.encoders.live_speech import LEAD_SAMPLES, LiveFeatures, LiveSpeechEncoder
from moda.encoders.speech import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from moda.evaluation.model.lips import LipScore, sampled_motion, score, spoken_clips
from moda.live import LOOK_AHEAD_FRAMES
from moda.motion.hearing.lips import lips_of_motion, mean_identity
from moda.motion.live.listening import LiveListener
from moda.motion.live.speaking import LiveSpeaker
from moda.options import SpeakingOptions
from moda.structures import Floats, Motion
from moda.weights.checkpoints import Checkpoint, load_checkpoint


def live_motion(checkpoint: Checkpoint, samples: Floats, look_ahead: int) -> Motion:
    """Motion of every frame of a recording, made frame by frame."""
    encoder = LiveSpeechEncoder(SAMPLE_RATE_HZ)
    speaker = LiveSpeaker(
        checkpoint.model,
        checkpoint.space,
        checkpoint.config.sampler,
        identity=mean_identity(checkpoint.space),
        options=SpeakingOptions(),
        look_ahead=look_ahead,
    )
    memory = LiveFeatures(speaker.num_frames)
    num_frames = -(-len(samples) // SAMPLES_PER_FRAME)
    total = (num_frames + look_ahead) * SAMPLES_PER_FRAME + LEAD_SAMPLES
    heard = encoder.push(np.pad(samples, (0, total - len(samples))))
    rows = [speaker.hear(memory.hear(frame)).values for frame in heard[: num_frames + look_ahead]]
    return Motion(np.concatenate(rows[look_ahead:]), checkpoint.space)


def listening_seconds(checkpoint: Checkpoint, samples: Floats, look_ahead: int) -> float:
    """Processor time for a second of sound, from samples to mouth, phones and voices."""
    encoder = LiveSpeechEncoder(SAMPLE_RATE_HZ)
    listener = LiveListener(checkpoint.model, look_ahead)
    features = LiveFeatures(listener.num_frames)
    begun = time.process_time()
    for start in range(0, len(samples), SAMPLES_PER_FRAME):
        for frame in encoder.push(samples[start : start + SAMPLES_PER_FRAME]):
            listener.judge(features.hear(frame))
    return (time.process_time() - begun) / (len(samples) / SAMPLE_RATE_HZ)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--model", default="moda-tiny")
    parser.add_argument("--look-ahead", type=int, nargs="+", default=[4, 5, 6, 8])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.model)
    speakers = json.loads(arguments.recipe.read_text())["validation_speakers"]
    clips = [clip for clip in read_clips([arguments.folder]) if clip.speaker in speakers]
    spoken = spoken_clips(clips)
    scores: list[LipScore] = [
        score(
            "offline",
            spoken,
            lambda clip: lips_of_motion(sampled_motion(checkpoint, clip.speech)),
        )
    ]
    print(scores[0].row(), flush=True)
    for frames in arguments.look_ahead:

        def live_lips(clip: Any, frames: int = frames) -> Any:
            return lips_of_motion(live_motion(checkpoint, clip.samples, frames))

        scores.append(score(f"live, {frames * 40} ms", spoken, live_lips))
        print(scores[-1].row(), flush=True)
    longest = max((clip.samples for clip in spoken), key=len)
    cost = listening_seconds(checkpoint, longest, LOOK_AHEAD_FRAMES)
    print(f"listening takes {1000 * cost:.0f} ms of one core for a second of sound")
    if arguments.output:
        rows = [{**asdict(row), "per_clip": None} for row in scores]
        for row in rows:
            del row["per_clip"]
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "clips": len(spoken),
            "frames": sum(clip.num_frames for clip in spoken),
            "listening_seconds_per_second": round(cost, 3),
            "rows": rows,
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
