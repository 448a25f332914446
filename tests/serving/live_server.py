"""A real ``moda serve`` in a process of its own, as the tests use it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

KEY = "key-of-the-tests-0123456789"
START_SECONDS = 600.0


@dataclass
class RunningServer:
    """The server's process with its address and the folder that it may write to."""

    process: subprocess.Popen[bytes]
    address: str
    temporary: Path
    log: Path
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {KEY}"})

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        headers = {**self.headers, **content.pop("headers", {})}
        return httpx.request(method, self.address + path, headers=headers, timeout=60.0, **content)

    def children(self) -> list[int]:
        """Processes that the server has started, alive."""
        return [pid for pid in _all_processes() if _parent(pid) == self.process.pid]

    def leftovers(self) -> list[Path]:
        """What clients have sent and what was made for them, as far as it is still there."""
        return [path for folder in self.folders() for path in folder.iterdir()]

    def folders(self) -> list[Path]:
        """The folder of all videos, while the server runs. Libraries have others of their own."""
        return list(self.temporary.glob("moda-*"))

    def stop(self) -> int:
        """Ask it to end as an init system does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start_server(folder: Path, *arguments: str, key: str | None = KEY) -> RunningServer:
    """Start a server and wait until it is ready."""
    temporary, log = folder / "temporary", folder / "server.log"
    temporary.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    environment.pop("MODA_API_KEYS", None)
    if key is not None:
        environment["MODA_API_KEYS"] = key
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moda", "serve", *arguments, "--port", str(port)],
            stdout=file,
            stderr=file,
            env=environment,
        )
    server = RunningServer(process, f"http://127.0.0.1:{port}", temporary, log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(server.address + "/readyz", timeout=5.0).status_code == 200:
                return server
        except httpx.TransportError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the server did not start: {log.read_text()}")


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Any, seconds: float = 30.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _parent(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[1])
