"""Throughput of ``moda prepare`` per core: seconds of video in a second of processor time.

    python benchmarks/prepare.py --output benchmarks/results/prepare.json
    python benchmarks/prepare.py --space neural       # needs the published networks

The corpus is the example portrait saying the example sentence, 512 pixels, several times over.
Processor time counts, not the clock, so that a busy machine measures the same to a few per cent;
what a run costs besides its clips is taken out by a second one with fewer. Run by hand; the
results in benchmarks/results/ say on which machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("torch", "numpy", "onnxruntime", "opencv-python-headless", "av", "safetensors")


def run(*arguments: str | Path) -> tuple[float, float, float]:
    """Run the command; wall seconds, processor seconds with workers, peak memory in MB of one."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "moda", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"moda {arguments[0]} failed with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    wall = time.perf_counter() - started
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale / 1e6


def prepare(corpus: Path, options: list[str]) -> dict[str, float]:
    """One preparation into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "prepared"
        wall, processor, peak = run("prepare", corpus, output, "--keep-all", *options)
        report = json.loads((output / "report.json").read_text())
        size = sum(path.stat().st_size for path in output.glob("shard-*"))
    return {
        "clips": report["clips"]["prepared"],
        "video_seconds": report["seconds"],
        "wall_seconds": round(wall, 2),
        "processor_seconds": round(processor, 2),
        "peak_mb": round(peak),
        "shards_mb": round(size / 1e6, 2),
    }


def measure(
    video: Path, folder: Path, counts: tuple[int, int], options: list[str]
) -> dict[str, Any]:
    """One clip for each worker, and more; the difference is what the clips cost."""
    rows = []
    for count in counts:
        corpus = folder / f"corpus{count}"
        corpus.mkdir(exist_ok=True)
        for index in range(count):
            shutil.copyfile(video, corpus / f"clip{index:03d}.mp4")
        rows.append(prepare(corpus, options))
    few, many = rows
    video_seconds = many["video_seconds"] - few["video_seconds"]
    processor = many["processor_seconds"] - few["processor_seconds"]
    return {
        "options": " ".join(options),
        "rows": rows,
        "video_seconds_per_processor_second": round(video_seconds / processor, 2),
        "megabytes_per_hour": round(many["shards_mb"] / many["video_seconds"] * 3600),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--space", default="mesh")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = folder / "talk.mp4"
        examples = ROOT / "examples"
        run("generate", examples / "portrait.jpg", examples / "speech.wav", "-o", video)
        for workers in arguments.workers:
            options = ["--space", arguments.space, "--workers", str(workers)]
            counts = (workers, workers + arguments.clips)
            results.append(measure(video, folder, counts, options))
            print(json.dumps(results[-1]), flush=True)
    result = {
        "command": "moda prepare CORPUS OUTPUT --keep-all",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": {part: version(part) for part in PARTS},
        "load_at_start": round(load, 1),
        "results": results,
        "own_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
