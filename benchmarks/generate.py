"""What ``moda generate`` costs: start, first video, a minute of speech, memory, size on disk.

    python benchmarks/generate.py
    python benchmarks/generate.py --against ../older-checkout --runs 3 --output result.json

Run by hand on a quiet machine; the results in benchmarks/results/ say on which. With ``--against``
every step runs with the code of that checkout too, in turns, and each figure is given as a share of
the older one, which is what can be compared between machines. ``--older-python`` is the Python of
its environment where it needs another. Live sessions: ``benchmarks/live.py --sessions N``.

Of several runs the fastest counts. The speech is the example sentence over and over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import wave
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("torch", "numpy", "scipy", "numba", "onnxruntime", "opencv-python-headless", "av")

Row = dict[str, float]


class Program(NamedTuple):
    """A version of MoDA, and the Python that runs it."""

    checkout: Path
    python: str


def write_speech(path: Path, seconds: float) -> None:
    """The example sentence repeated and cut to a length."""
    with wave.open(str(ROOT / "examples" / "speech.wav")) as source:
        settings, frames = source.getparams(), source.readframes(source.getnframes())
    wanted = int(seconds * settings.framerate) * settings.sampwidth
    with wave.open(str(path), "wb") as target:
        target.setparams(settings)
        target.writeframes((frames * (wanted // len(frames) + 1))[:wanted])


def run(program: Program, arguments: list[str], kernels: Path) -> Row:
    """Run a command once: wall and processor seconds, peak memory in MB."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(program.checkout / "src"),
        "NUMBA_CACHE_DIR": str(kernels),
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        [program.python, "-m", "moda", *arguments], stdout=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"moda {' '.join(arguments)} failed with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "wall_seconds": round(wall, 2),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mb": round(usage.ru_maxrss * scale / 1e6),
    }


def environment_megabytes(python: str) -> float:
    """Size of all files of a Python's environment."""
    code = "import sys; print(sys.prefix)"
    prefix = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    files = (
        Path(folder) / name for folder, _, names in os.walk(prefix.stdout.strip()) for name in names
    )
    return round(sum(file.lstat().st_size for file in files) / 1e6)


def measure(programs: list[Program], seconds: list[float], runs: int) -> dict[str, list[Row]]:
    """Rows of all programs by step, the fastest run of each."""
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for length in seconds:
            write_speech(folder / f"{length:g}.wav", length)

        def add(step: str, arguments: list[str], *, fresh: bool = False) -> None:
            for turn in range(runs):
                for index, program in enumerate(programs):
                    kernels = folder / f"kernels-{index}{f'-{turn}' if fresh else ''}"
                    row = run(program, arguments, kernels)
                    rows = found.setdefault(step, [])
                    if len(rows) <= index:
                        rows.append(row)
                    rows[index] = min(rows[index], row, key=lambda one: one["wall_seconds"])
            print(step, json.dumps(found[step]), flush=True)

        def video(length: float) -> list[str]:
            speech, target = folder / f"{length:g}.wav", folder / "talk.mp4"
            portrait = ROOT / "examples" / "portrait.jpg"
            return ["generate", str(portrait), str(speech), "-o", str(target)]

        add("moda --help", ["--help"])
        add(f"first video, {seconds[0]:g} s", video(seconds[0]), fresh=True)
        for index, program in enumerate(programs):  # compiles all that the runs below need
            run(program, video(seconds[-1]), folder / f"kernels-{index}")
        for length in seconds:
            add(f"{length:g} s of speech", video(length))
    return found


def as_table(found: dict[str, list[Row]]) -> str:
    """Markdown; with two programs, the share of the older one behind each figure."""
    lines = ["| | time, s | processor, s | peak memory, MB |", "| --- | --- | --- | --- |"]
    for step, rows in found.items():
        cells = []
        for key, value in rows[0].items():
            share = f" ({value / rows[1][key]:.2f})" if len(rows) > 1 and rows[1][key] else ""
            cells.append(f"{value:g}{share}")
        lines.append(f"| {step} | {' | '.join(cells)} |")
    return "\n".join(lines)


def versions() -> dict[str, str]:
    """Of the packages that matter here, as far as they are installed."""
    found = {}
    for part in PARTS:
        try:
            found[part] = version(part)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 60.0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", type=Path, help="checkout of an older version")
    parser.add_argument("--older-python", default=sys.executable)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    programs = [Program(ROOT, sys.executable)]
    if arguments.against is not None:
        programs.append(Program(arguments.against.resolve(), arguments.older_python))
    found = measure(programs, arguments.seconds, arguments.runs)
    print(as_table(found))
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": versions(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "environment_megabytes": [environment_megabytes(program.python) for program in programs],
        "rows": found,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
