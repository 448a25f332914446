#!/usr/bin/env python3
"""Set MoDA up and run it, with nothing installed but Python 3.11 to 3.14.

python3 run.py demo    make the environment, install, leave demo.mp4 in the current folder
python3 run.py test    make the environment, install the development tools too, run all checks

The environment is the folder .venv beside this file. It is made once and used again as long as
pyproject.toml and constraints.txt stay the same. Only the standard library is used, and the
annotations are quoted, so that an old Python still reads this file and says what is wrong.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
IS_CPU = "import importlib.metadata as m; assert '+cpu' in m.version('torch')"
SYSTEM_WHEELS = Path("/usr/share/python-wheels")
"""Where Debian and Ubuntu keep the pip wheel that their venv uses."""

CAUSES = (
    ("No space left on device", "the disk is full: 1 GB is needed, 3 GB for the tests. Free some."),
    ("CERTIFICATE_VERIFY_FAILED", "the package index's TLS certificate could not be verified."),
    (
        "NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError"
        "|Failed to establish a new connection|Temporary failure in name resolution"
        "|getaddrinfo failed|nodename nor servname|Network is unreachable|Connection broken",
        "no network: the package index could not be reached. Connect (or set pip's proxy or"
        " index) and run it again.",
    ),
    (
        "No matching distribution found|ResolutionImpossible",
        "a package has no build for this Python on this system.",
    ),
)
"""What pip's output says, ``|`` between alternatives, and what that means for the user."""


class SetupError(Exception):
    """The set-up cannot go on; the message is one line for the user."""


class Environment(NamedTuple):
    """A virtual environment and the files in it that matter here."""

    folder: "Path"
    python: "Path"
    moda: "Path"

    @property
    def log(self) -> "Path":
        """All that pip printed."""
        return self.folder / "moda-install.log"

    @property
    def stamp(self) -> "Path":
        """What was installed, from which inputs."""
        return self.folder / "moda-environment.json"


def environment_in(folder: "Path", os_name: str = os.name) -> "Environment":
    """Name the parts of the virtual environment in a folder, on POSIX (``posix``) or Windows."""
    if os_name == "nt":
        scripts = folder / "Scripts"
        return Environment(folder, scripts / "python.exe", scripts / "moda.exe")
    return Environment(folder, folder / "bin" / "python", folder / "bin" / "moda")


def unsupported(version: "tuple[int, int]", bits: int, platform_tag: str, machine: str) -> str:
    """Say in one line why MoDA cannot be installed here; empty if it can.

    ``platform_tag`` is that of :func:`sysconfig.get_platform`, such as ``win-arm64``.
    """
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return "MoDA needs Python {}.{} to {}.{}, this is {}.{}; run it with one of those.".format(
            *OLDEST_PYTHON, *NEWEST_PYTHON, *version
        )
    if bits != 64:
        return f"MoDA needs a 64-bit Python, this one has {bits} bits."
    if platform_tag.startswith("macosx") and machine == "x86_64":
        return "some packages have no builds for Intel Macs (or an Intel Python on Apple silicon)."
    if platform_tag == "win-arm64":
        return "some packages have no builds for ARM Windows; install the x64 Python instead."
    return ""


def cause_of_failure(output: str) -> str:
    """Explain pip's output in one sentence; empty if it says nothing known.

    That PyTorch's own index cannot be reached is no reason to fail, so it is no explanation.
    """
    output = "\n".join(line for line in output.splitlines() if "/whl/cpu" not in line)
    for markers, meaning in CAUSES:
        if any(marker in output for marker in markers.split("|")):
            return meaning
    return ""


def inputs_digest(root: "Path") -> str:
    """Fingerprint of everything that decides what is installed."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA driver is installed."""
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()


def install_commands(python: "Path", dev: bool, cpu_torch: bool) -> "list[tuple[str, list[str]]]":
    """The installation as (what it does, command to run in the project's folder).

    Only the development tools need PyTorch. On Linux the default one brings gigabytes of CUDA
    libraries. Without an NVIDIA GPU the CPU build is asked for first, alone, so that no other
    package is ever looked for on PyTorch's own index. Where that index cannot be reached, pip goes
    on to whatever the user's pip finds.
    """
    install = [str(python), "-m", "pip", "install", "--constraint", "constraints.txt"]
    commands = []
    if dev and cpu_torch:
        once = ["--no-deps", "--extra-index-url", CPU_TORCH_INDEX, "--retries", "2"]
        commands.append(("Installing PyTorch (CPU build)", [*install, *once, "torch"]))
    project = ".[dev]" if dev else "."
    commands.append(("Installing MoDA and what it needs", [*install, "--editable", project]))
    return commands


def read_stamp(path: "Path") -> "dict[str, object]":
    """What :func:`prepare` noted in the environment; empty if there is nothing usable."""
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def interpreter() -> "dict[str, str]":
    """What a virtual environment is tied to: it works with this Python, in this folder."""
    return {"python": platform.python_version(), "base": sys.base_prefix, "root": str(ROOT)}


def run_pip(command: "list[str]", log: "Path") -> "tuple[bool, str]":
    """Run pip, show what it downloads, log all; whether it succeeded, and all it printed."""
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
    lines = []
    with log.open("a", encoding="utf-8") as file:
        file.write("$ {}\n".format(" ".join(command)))
        with subprocess.Popen(
            command,
            cwd=str(ROOT),
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                file.write(line)
                lines.append(line)
                if line.lstrip().startswith("Downloading"):
                    print("  " + line.strip()[:120], flush=True)
    return process.returncode == 0, "".join(lines)


def succeeds(command: "list[str]") -> bool:
    """Run a command silently."""
    quiet = subprocess.DEVNULL
    return subprocess.run(command, stdout=quiet, stderr=quiet, check=False).returncode == 0


def make_environment(environment: "Environment", clear: bool) -> None:
    """Make a virtual environment with pip in it, also where Debian has left ensurepip out."""
    python, folder = str(environment.python), str(environment.folder)
    print("Making the environment " + folder, flush=True)
    venv = [sys.executable, "-m", "venv", *(["--clear"] if clear else [])]
    if succeeds([*venv, folder]) and succeeds([python, "-m", "pip", "--version"]):
        return
    if not succeeds([*venv, "--without-pip", folder]):
        raise SetupError(f"cannot make the environment in {folder}: is it writable?")
    for wheel in sorted(SYSTEM_WHEELS.glob("pip-*.whl")):
        if succeeds([python, str(wheel / "pip"), "install", "--no-index", str(wheel)]):
            return
    if succeeds([sys.executable, "-m", "pip", "--python", python, "install", "pip"]):
        return
    raise SetupError(
        "this Python has no ensurepip. On Debian and Ubuntu:"
        " sudo apt install python{}.{}-venv".format(*sys.version_info[:2])
    )


def install(environment: "Environment", dev: bool) -> None:
    """Install the pinned packages and the project, in editable form."""
    cpu_torch = platform.system() == "Linux" and not has_nvidia_gpu()
    environment.log.write_text("", encoding="utf-8")
    for title, command in install_commands(environment.python, dev, cpu_torch):
        print(title, flush=True)
        succeeded, output = run_pip(command, environment.log)
        if not succeeded:
            cause = cause_of_failure(output) or "pip failed."
            raise SetupError(f"{cause} All it printed is in {environment.log}")
        if CPU_TORCH_INDEX in command and not succeeds([str(environment.python), "-c", IS_CPU]):
            print("  PyTorch's CPU index was not reached: the CUDA build comes instead (5 GB)")


def prepare(environment: "Environment", dev: bool) -> None:
    """Bring the environment up to date, doing nothing if it is."""
    stamp = read_stamp(environment.stamp)
    made_for, digest = interpreter(), inputs_digest(ROOT)
    usable = stamp.get("interpreter") == made_for and environment.python.exists()
    current = usable and stamp.get("inputs") == digest and environment.moda.exists()
    if current and (stamp.get("dev") or not dev):
        return
    if not usable:
        make_environment(environment, clear=bool(stamp))
    begun = {"interpreter": made_for}
    environment.stamp.write_text(json.dumps(begun), encoding="utf-8")
    install(environment, dev)
    done = {**begun, "inputs": digest, "dev": dev}
    environment.stamp.write_text(json.dumps(done), encoding="utf-8")


def demo(environment: "Environment") -> int:
    """Make demo.mp4 in the current folder."""
    prepare(environment, dev=False)
    output = Path.cwd() / "demo.mp4"
    command = [str(environment.moda), "demo", "--output", str(output)]
    return subprocess.run(command, check=False).returncode


def test(environment: "Environment") -> int:
    """Run the checks and the tests."""
    prepare(environment, dev=True)
    check = [str(environment.python), str(ROOT / "scripts" / "check.py")]
    return subprocess.run(check, check=False).returncode


def main() -> int:
    """Read the command line and do it; 0 success, 2 cannot set up, else what was run returned."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("demo", "test"))
    action = {"demo": demo, "test": test}[parser.parse_args().action]
    try:
        problem = unsupported(
            sys.version_info[:2],
            8 * struct.calcsize("P"),
            sysconfig.get_platform(),
            platform.machine(),
        )
        if problem:
            raise SetupError(problem)
        return action(environment_in(ROOT / ".venv"))
    except SetupError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
