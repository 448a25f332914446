"""SIGKILL in the middle of work: processes end with their parent, and the next start tidies up."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from media_files import decode_video
from paths import PORTRAIT, SPEECH

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc"),
]
SECONDS = 600.0
"""For anything to happen, also on a busy machine."""
LONGER_THAN_NEW = 2.5
"""Seconds after which what a dead process has left may be removed."""


def wait_until(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it has not happened in time"
        time.sleep(0.05)


def stat_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return ["Z"]


def is_alive(pid: int) -> bool:
    return stat_of(pid)[0] != "Z"


def descendants(pid: int) -> list[int]:
    alive = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    parents = {one: int(stat_of(one)[1]) for one in alive if is_alive(one)}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def workers(pid: int) -> list[int]:
    """Processes that work, without the one that counts shared memory."""

    def command(child: int) -> bytes:
        try:
            return Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            return b""

    return [child for child in descendants(pid) if b"spawn_main" in command(child)]


class Program:
    """A command in a process of its own with a folder for temporary files."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir(exist_ok=True)
        self.log = folder / "log"
        environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moda", *map(str, arguments)],
                stdout=file,
                stderr=file,
                env=environment,
                cwd=folder,
            )

    def is_running(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return True

    def left(self) -> list[Path]:
        """Ours; libraries keep folders of their own."""
        return list(self.temporary.glob("moda-*"))

    def videos_left(self) -> list[Path]:
        """Folders of videos that a server keeps."""
        return list(self.temporary.glob("moda-videos-*/*/"))

    def kill(self) -> None:
        """SIGKILL, and wait until all that it has started has ended as well."""
        children = descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        wait_until(lambda: not any(map(is_alive, children)), 60.0)
        time.sleep(LONGER_THAN_NEW)

    def finish(self) -> None:
        assert self.process.wait(SECONDS) == 0, self.log.read_text()


@contextmanager
def serving(folder: Path, command: str, *arguments: object) -> Iterator[tuple[Program, str]]:
    """A server that is ready, and its address; ended with SIGTERM unless it has been killed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program, address = (
        Program(folder, command, *arguments, "--port", port),
        f"http://127.0.0.1:{port}",
    )
    wait_until(lambda: program.is_running() and is_ready(address))
    try:
        yield program, address
    finally:
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
            program.process.wait(60)


def is_ready(address: str) -> bool:
    try:
        return httpx.get(address + "/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def ask_for_video(address: str, **options: object) -> str:
    files = {"portrait": PORTRAIT.read_bytes(), "speech": SPEECH.read_bytes()}
    answer = httpx.post(address + "/v1/videos", files=files, data=options, timeout=60)
    assert answer.status_code == 202, answer.text
    return f"{address}{answer.headers['location']}"


def state_of(video: str) -> dict[str, object]:
    return httpx.get(video, timeout=60).json()


SERVE = ("serve", PORTRAIT, "--sessions", 1, "--size", 128)


def test_a_server(tmp_path: Path) -> None:
    """With an upload, a result, a video in the making and one that waits."""
    with serving(tmp_path, *SERVE) as (program, address):
        videos = [ask_for_video(address, size=256) for _ in range(2)]
        wait_until(lambda: state_of(videos[0])["progress"])
        program.kill()
    with serving(tmp_path, *SERVE) as (program, address):
        assert program.videos_left() == [], "no video of the killed one"
        video = ask_for_video(address, size=64)
        wait_until(lambda: state_of(video)["state"] == "done")
    assert program.left() == []


def test_workers_of_a_server(tmp_path: Path) -> None:
    """Each is replaced; a video ends with a line, and the next one is made."""
    with serving(tmp_path, *SERVE) as (program, address):
        (live,) = workers(program.process.pid)
        video = ask_for_video(address, size=256)
        wait_until(lambda: state_of(video)["progress"])
        (maker,) = set(workers(program.process.pid)) - {live}
        os.kill(live, signal.SIGKILL)
        os.kill(maker, signal.SIGKILL)
        wait_until(lambda: state_of(video)["state"] == "failed")
        assert state_of(video)["error"] == "the process that made the video died"
        time.sleep(LONGER_THAN_NEW)
        again = ask_for_video(address, size=64)
        wait_until(lambda: state_of(again)["state"] == "done")
        wait_until(lambda: is_ready(address))
        assert not {live, maker} & set(workers(program.process.pid))
        for one in (video, again):
            assert httpx.delete(one, timeout=60).status_code == 204
        assert program.videos_left() == []
    assert program.left() == []


def test_a_page(tmp_path: Path) -> None:
    """With an upload and a video in the making."""
    pytest.importorskip("gradio")
    with serving(tmp_path, "web") as (program, address), httpx.Client(base_url=address) as visitor:
        visitor.get("/")
        paths = [
            visitor.post("gradio_api/upload", files={"files": (path.name, path.read_bytes())})
            for path in (PORTRAIT, SPEECH)
        ]
        entries = visitor.get("config").json()["dependencies"]
        make = next(entry for entry in entries if entry["api_name"] == "generate")
        named = [
            {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}} for answer in paths
        ]
        data = [*named, *[None] * (len(make["inputs"]) - 2)]
        components = {one["id"]: one["props"] for one in visitor.get("config").json()["components"]}
        for index, component in enumerate(make["inputs"][2:], start=2):
            data[index] = components[component].get("value")
        body = {"data": data, "fn_index": make["id"], "session_hash": "visitor"}
        assert visitor.post("gradio_api/queue/join", json=body).status_code == 200
        wait_until(lambda: list(program.temporary.glob("moda-web-*/jobs/job-*/segments/*")))
        program.kill()
    assert program.left()
    with serving(tmp_path, "web") as (program, _):
        (folder,) = program.left()
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert not [path for path in files if "visitors" in path.parts or "jobs" in path.parts]
    assert program.left() == []


def test_one_video(tmp_path: Path) -> None:
    """While it is written, and while its text is spoken; the next run removes what is left."""
    output, long = tmp_path / "talk.mp4", tmp_path / "long.txt"
    output.write_bytes(b"old")
    long.write_text("The quick brown fox jumps over the lazy dog. " * 400)
    common = ("-o", output, "--size", 256)
    program = Program(tmp_path, "generate", PORTRAIT, SPEECH, *common)
    wait_until(lambda: program.is_running() and list(tmp_path.glob(".moda-*.part")))
    time.sleep(0.3)
    program.kill()
    assert output.read_bytes() == b"old"
    spoken = Program(tmp_path, "generate", PORTRAIT, "--text-file", long, *common)
    wait_until(
        lambda: spoken.is_running() and list(spoken.temporary.glob("moda-work-*/speech.wav"))
    )
    spoken.kill()
    assert output.read_bytes() == b"old"
    assert spoken.left()
    last = Program(tmp_path, "generate", PORTRAIT, "--text", "Hello.", *common)
    last.finish()
    assert decode_video(output).frames
    assert last.left() == []
    assert list(tmp_path.glob(".moda-*")) == []


def test_a_batch_and_one_of_its_workers(tmp_path: Path) -> None:
    """A worker's row is made again; a killed batch is continued, and nothing is left of either."""
    table, rows = tmp_path / "list.csv", 5
    lines = [f"{PORTRAIT},{SPEECH},{tmp_path}/{row}.mp4,128" for row in range(rows)]
    table.write_text("\n".join(["portrait,speech,output,size", *lines]) + "\n")
    arguments = ("generate", "--batch", table, "--workers", 2)
    program = Program(tmp_path, *arguments)
    wait_until(lambda: program.is_running() and list(tmp_path.glob(".moda-*.part")))
    os.kill(workers(program.process.pid)[0], signal.SIGKILL)
    wait_until(lambda: program.is_running() and list(tmp_path.glob("*.mp4")))
    program.kill()
    made = {path.name for path in tmp_path.glob("*.mp4")}
    assert len(made) < rows
    again = Program(tmp_path, *arguments)
    again.finish()
    report = json.loads((tmp_path / "list.csv.report.json").read_text())
    assert {Path(row["output"]).name for row in report if row["status"] == "kept"} <= made
    assert all(row["status"] in ("kept", "made") for row in report)
    assert len(list(tmp_path.glob("*.mp4"))) == rows
    assert list(tmp_path.glob(".moda-*")) == []
    assert again.left() == []
