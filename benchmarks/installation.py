"""What an installation from the wheel alone takes, and whether every platform has its packages.

    python benchmarks/installation.py moda_talking_head-0.1.0-py3-none-any.whl --output result.json
    python benchmarks/installation.py WHEEL --resolve uv --output result.json

The first measures this Python: a fresh environment, pip, and ``moda demo`` in an empty folder; run
it with each Python, the rows of others stay in the file. The second asks uv for wheels of all
packages on every supported Python and platform. Only the standard library is used, so that it runs
on a bare system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "Linux x86-64": "x86_64-manylinux_2_28",
    "Linux ARM64": "aarch64-manylinux_2_28",
    "macOS 14 (Apple silicon)": "aarch64-apple-darwin",
    "Windows x64": "x86_64-pc-windows-msvc",
}
"""What uv calls the platforms that README names."""
OLDEST_MACOS = "14.0"


def install(wheel: Path) -> dict[str, Any]:
    """Install into a fresh environment and make the demo: seconds, megabytes, packages."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "environment", with_pip=True)
        binaries = folder / "environment" / ("Scripts" if os.name == "nt" else "bin")
        python, begun = str(binaries / "python"), time.monotonic()
        pip = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", str(wheel)]
        subprocess.run(pip, check=True)
        installed = time.monotonic()
        listed = subprocess.run(
            [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
        )
        size = megabytes(folder / "environment")
        shown = time.monotonic()
        subprocess.run([str(binaries / "moda"), "demo"], cwd=folder, check=True)
        finished = time.monotonic()
        if not (folder / "demo.mp4").stat().st_size:
            raise SystemExit("demo.mp4 is empty")
    return {
        "python": platform.python_version(),
        "system": system(),
        "packages": len(json.loads(listed.stdout)) - 1,  # without pip
        "install_seconds": round(installed - begun, 1),
        "installed_mb": size,
        "demo_seconds": round(finished - shown, 1),
    }


def system() -> str:
    """Such as ``Debian GNU/Linux 13 (trixie)``."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def megabytes(folder: Path) -> int:
    """Size of all files in a folder."""
    files = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return round(sum(file.lstat().st_size for file in files) / 1e6)


def resolve(wheel: Path, uv: str) -> dict[str, list[str]]:
    """Ask for wheels of all packages, each Python with each platform.

    Raises:
        SystemExit: A package has none; uv says which.
    """
    for python in PYTHONS:
        for name, tag in PLATFORMS.items():
            command = [
                uv, "pip", "compile", "-", "--quiet", "--no-header", "--only-binary", ":all:",
                "--python-version", python, "--python-platform", tag,
            ]  # fmt: skip
            asked = f"moda-talking-head @ {wheel.resolve().as_uri()}"
            found = subprocess.run(
                command,
                input=asked,
                text=True,
                stdout=subprocess.PIPE,
                env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": OLDEST_MACOS},
            )
            if found.returncode:
                raise SystemExit(f"Python {python} on {name}: not all packages have wheels")
            print(f"Python {python} on {name}: {len(found.stdout.splitlines())} lines", flush=True)
    return {"pythons": list(PYTHONS), "platforms": list(PLATFORMS)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--resolve", metavar="UV", help="the program uv")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output
    result = json.loads(output.read_text()) if output and output.exists() else {"rows": []}
    result |= {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "wheel_mb": round(arguments.wheel.stat().st_size / 1e6, 1),
    }
    if arguments.resolve:
        result["resolved"] = resolve(arguments.wheel, arguments.resolve)
    else:
        row = install(arguments.wheel)
        others = [one for one in result["rows"] if one["python"] != row["python"]]
        result["rows"] = sorted(
            [*others, row], key=lambda one: [int(part) for part in one["python"].split(".")]
        )
    print(json.dumps(result, indent=1))
    if output:
        output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
