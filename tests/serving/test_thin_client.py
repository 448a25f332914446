"""The client that needs nothing of MoDA: what it imports, its wheel, and what it does when answers
are lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from moda.serving import client
from moda.serving.client import ServerError, VideoClient, read_frame
from moda.serving.live.protocol import PackedFrame, pack_frame
from paths import PORTRAIT, ROOT

SOURCE = ROOT / "integrations" / "client"


def test_it_imports_nothing_of_the_engine(tmp_path: Path) -> None:
    shutil.copy(client.__file__, tmp_path / "moda_client.py")
    code = "import sys, moda_client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    assert not {"moda", "torch", "numpy", "av", "onnxruntime"} & set(done.stdout.split())


def test_its_wheel_is_that_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=SOURCE, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("moda_client-*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if ".dist-info/" not in name]
        assert names == ["moda_client.py"]
        assert file.read("moda_client.py") == Path(client.__file__).read_bytes()


def test_frames_are_those_of_the_server() -> None:
    packed = PackedFrame(7, True, b"jpeg", b"sound")
    assert read_frame(pack_frame(packed)) == packed
    for wrong in (b"", b"x" * 30, pack_frame(packed)[:-1]):
        with pytest.raises(ServerError, match="frame"):
            read_frame(wrong)


@contextmanager
def forgetful(*answers: int) -> Iterator[tuple[str, list[str]]]:
    """A server that hangs up (0) or answers with a status, and the keys of its requests."""
    keys: list[str] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            keys.append(self.headers["idempotency-key"])
            status = left.pop(0)
            if not status:
                self.close_connection = True
                return
            body = json.dumps({"id": "a", "detail": "why"}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", keys
        finally:
            server.shutdown()
            thread.join()


def test_a_lost_answer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TRY_AGAIN_SECONDS", 0.0)
    with forgetful(0, 409, 202) as (address, keys), VideoClient(address) as made:
        assert made.request_video(PORTRAIT, text="Hi") == "a"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    with forgetful(422) as (address, keys), VideoClient(address) as made:
        with pytest.raises(ServerError, match="why") as refusal:
            made.request_video(PORTRAIT, text="Hi", idempotency_key="mine")
        assert refusal.value.status == 422
    assert keys == ["mine"]
    with (
        forgetful(0, 0, 0, 0) as (address, _),
        VideoClient(address) as made,
        pytest.raises(ServerError, match="cannot be reached"),
    ):
        made.request_video(PORTRAIT, text="Hi")


def test_a_folder_that_is_missing_costs_nothing(tmp_path: Path) -> None:
    with VideoClient("http://127.0.0.1:1") as made, pytest.raises(FileNotFoundError):
        made.make_video(PORTRAIT, PORTRAIT, tmp_path / "missing" / "talk.mp4")
