"""The device that a server is told reaches all that compute for it, and workers share GPUs out."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from moda import cli
from moda.errors import InputError
from moda.pipeline import TalkingHead
from moda.pipeline.jobs import VideoJob
from moda.serving.live import pool, worker
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings
from moda.serving.videos import queue
from moda.serving.videos import worker as video_worker
from moda.workers import VISIBLE_GPUS
from paths import PORTRAIT


class Connection:
    """The worker's end of a pipe: gives one message, and keeps what it is sent."""

    def __init__(self, *messages: object) -> None:
        self.messages, self.sent = list(messages), list[Any]()

    def recv(self) -> object:
        if not self.messages:
            raise EOFError
        return self.messages.pop(0)

    def send(self, message: object) -> None:
        self.sent.append(message)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Devices that models are asked for, with the GPUs that are visible then; none is loaded."""
    seen: list[tuple[str, str]] = []

    def load(model: str, *, device: str) -> TalkingHead:
        seen.append((device, os.environ[VISIBLE_GPUS]))
        raise InputError("enough")

    monkeypatch.setattr(TalkingHead, "from_pretrained", load)
    monkeypatch.setattr(os, "nice", lambda step: 0)
    monkeypatch.setenv(VISIBLE_GPUS, "6,7")
    return seen


def test_live_workers(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker.signal, "signal", lambda *which: None)
    settings = ServerSettings(portraits=(PORTRAIT,), device="cuda")
    connection = Connection()
    worker.run_worker(connection, settings, tmp_path, 3)  # type: ignore[arg-type]
    assert connection.sent == [("failed", "enough")]
    assert asked == [("cuda", "7")]


def test_the_video_worker(
    asked: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(video_worker.signal, "signal", lambda *which: None)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "")
    monkeypatch.setattr(video_worker, "_read", lambda connection, requests, folders: None)
    job = VideoJob(PORTRAIT, tmp_path / "video.mp4", PORTRAIT)
    requests = video_worker.queue.SimpleQueue[VideoJob]()
    requests.put(job)
    monkeypatch.setattr(video_worker.queue, "SimpleQueue", lambda: requests)

    class OneAnswer(Connection):
        def send(self, message: object) -> None:
            raise OSError("the server is gone")

    with pytest.raises(OSError, match="gone"):
        video_worker.run_video_worker(OneAnswer(), "moda-tiny", "cuda", 2, tmp_path, None)  # type: ignore[arg-type]
    assert asked == [("cuda", "6")]


def test_numbers_and_devices_are_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker that takes the place of a dead one has its number, and so its GPU."""
    started: list[tuple[object, ...]] = []

    class Process:
        exitcode = 0

        def __init__(self, *, target: object, args: tuple[Any, ...], **others: object) -> None:
            started.append(args[1:])

        def start(self) -> None:
            pass

    context = pool.multiprocessing.get_context("spawn")
    monkeypatch.setattr(type(context), "Process", Process)
    settings = ServerSettings(portraits=(PORTRAIT,), device="cuda", max_sessions=2)

    async def start() -> None:
        async def ready(worker: pool.LiveWorker) -> None:
            worker.previews = {"portrait": b""}

        monkeypatch.setattr(pool.LiveWorker, "wait_until_ready", ready)
        sessions = pool.SessionPool(settings, Metrics())
        await sessions.start()
        await sessions._replace(1)
        sessions.uploads.close()
        queue.VideoMaker(settings, tmp_path)

    asyncio.run(start())
    assert [args[-1] for args in started[:3]] == [0, 1, 1]
    assert (*started[3][:3], started[3][-1]) == ("moda-tiny", "cuda", 2, tmp_path)


def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["serve", str(PORTRAIT), "--device", "tpu"])
    assert caught.value.code == 2
    assert "unknown device 'tpu'" in capsys.readouterr().err
