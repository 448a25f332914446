"""A ``moda serve`` or ``moda web`` in a process of its own, and what it holds and leaves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 300.0
STOP_SECONDS = 60.0
KEY = "key-of-the-attack-0123456789"
FAULTS = re.compile(
    r"Traceback \(most recent call last\):\n(?: .*\n)*.*|Task exception was never.*|"
    r"Segmentation fault|Fatal Python error.*"
)
LAST_LINES = 8
"""Of a traceback."""


@dataclass
class Running:
    """The process, where it answers, and where it may write."""

    process: subprocess.Popen[bytes]
    address: str
    temporary: Path
    log: Path

    def processes(self) -> list[int]:
        """The server and all that it has started, alive."""
        found, known = [self.process.pid], parents()
        for pid in found:
            found += [child for child, parent in known.items() if parent == pid]
        return found

    def open_files(self) -> dict[str, str]:
        """What the server's own process has open, by its number; connections with their state."""
        found, known = {}, connections()
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):
                name = str(path.readlink())
                found[path.name] = known.get(name, name)
        return found

    def files(self) -> list[Path]:
        """Everything in its temporary folder."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]

    def faults(self) -> list[str]:
        """The ends of tracebacks, and other signs of a bug, in what it has said."""
        said = self.log.read_text(errors="replace")
        found = [match.group(0) for match in FAULTS.finditer(said)]
        return ["\n".join(text.splitlines()[-LAST_LINES:]) for text in found]

    def megabytes(self) -> dict[str, float]:
        """Resident memory of each of its processes."""
        return {f"{command_of(pid)} {pid}": memory_of(pid) for pid in self.processes()}

    def stop(self) -> int:
        """End it as an init system does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def start(folder: Path, command: str, *arguments: str, key: str | None = KEY) -> Running:
    """Start a command on a free port with a temporary folder of its own; returns when it is ready.

    Raises:
        RuntimeError: It has ended, or was not ready in time.
    """
    temporary, log = folder / f"{command}-temporary", folder / f"{command}.log"
    temporary.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    if key is not None:
        environment["MODA_API_KEYS"] = key
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moda", command, *arguments, "--port", str(port)],
            stdout=file,
            stderr=file,
            env=environment,
        )
    running = Running(process, f"127.0.0.1:{port}", temporary, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready(running.address):
            return running
        time.sleep(0.3)
    process.kill()
    raise RuntimeError(f"moda {command} did not start: {log.read_text(errors='replace')[-2000:]}")


def is_ready(address: str) -> bool:
    """Whether a server says that it is ready."""
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def connections() -> dict[str, str]:
    """Peers and states (numbers of the system) of the machine's TCP connections, by their files."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {f"socket:[{one[9]}]": f"connection to {one[2]} in state {one[3]}" for one in fields}


def parents() -> dict[int, int]:
    """Parents of all processes that are alive."""
    known = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            fields = _fields(int(path.name))
            if fields and fields[0] != "Z":
                known[int(path.name)] = int(fields[1])
    return known


def memory_of(pid: int) -> float:
    """Resident memory in MB; 0 for a process that is gone."""
    fields = _fields(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if fields else 0.0


def command_of(pid: int) -> str:
    """What a process is, in a word."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "gone"
    if b"resource_tracker" in command:
        return "tracker"
    return "worker" if b"spawn_main" in command else "server"


def _fields(pid: int) -> list[str]:
    """Of ``/proc/PID/stat``, from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
