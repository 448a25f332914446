"""Time and peak memory of ``moda generate`` from start-up to the finished file, by length.

    python benchmarks/generate.py --seconds 15 60 600

Run by hand on a quiet machine; the results in benchmarks/results/ say on which. The speech is the
example sentence over and over. Every length runs in a process of its own.
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
import time
import wave
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("torch", "numpy", "numba", "onnxruntime", "opencv-python-headless", "av")


def write_speech(path: Path, seconds: float) -> None:
    """The example sentence repeated and cut to a length."""
    with wave.open(str(ROOT / "examples" / "speech.wav")) as source:
        settings, frames = source.getparams(), source.readframes(source.getnframes())
    wanted = int(seconds * settings.framerate) * settings.sampwidth
    with wave.open(str(path), "wb") as target:
        target.setparams(settings)
        target.writeframes((frames * (wanted // len(frames) + 1))[:wanted])


def measure(seconds: float, options: list[str]) -> dict[str, float]:
    """Run the command once; wall and processor seconds, peak memory in MB, factor of real time."""
    with tempfile.TemporaryDirectory() as folder:
        speech, video = Path(folder) / "speech.wav", Path(folder) / "talk.mp4"
        write_speech(speech, seconds)
        command = [sys.executable, "-m", "moda", "generate", str(ROOT / "examples/portrait.jpg")]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, str(speech), "-o", str(video), *options], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        if status:
            raise SystemExit(f"moda generate failed with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": seconds,
        "wall_seconds": round(wall, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * scale / 1e6),
        "real_time_factor": round(wall / seconds, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, nargs="+", default=[15.0, 60.0])
    parser.add_argument("--output", type=Path)
    arguments, options = parser.parse_known_args()
    measure(4.0, options)  # compiles and caches the kernels
    rows = []
    for seconds in arguments.seconds:
        rows.append(measure(seconds, options))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": "moda generate " + " ".join(options),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {part: version(part) for part in PARTS},
        "load_at_start": os.getloadavg()[0],
        "rows": rows,
        "own_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
