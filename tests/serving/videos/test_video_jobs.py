"""The queue of videos, its limits and its files."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import httpx
import pytest
from in_process import eventually
from made_videos import ENDLESS, run_made_videos

from moda.pipeline.jobs import VideoJob
from moda.serving.access import BusyError
from moda.serving.app import create_app
from moda.serving.metrics import Metrics
from moda.serving.settings import ServerSettings
from moda.serving.videos import queue
from moda.serving.videos.queue import VideoJobs
from moda.serving.videos.records import Job


def make_job(folder: Path, name: str, ended: float | None) -> Job:
    folder.mkdir()
    request = VideoJob(folder / "portrait", folder / "video.mp4", folder / "speech")
    request.output.write_bytes(b"video")
    return Job(name, folder, {}, request, state="done", ended=ended)


def test_a_full_queue_refuses_with_a_time_and_keeps_nothing() -> None:
    settings = ServerSettings(max_sessions=0, max_jobs=0)
    app = create_app(settings)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))

    async def ask() -> tuple[httpx.Response, list[Path]]:
        app.state.settings, app.state.jobs = settings, VideoJobs(settings, Metrics())
        root = app.state.jobs.new_folder().parent
        for folder in root.iterdir():
            folder.rmdir()
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            files = {"portrait": b"x", "speech": b"y"}
            answer = await client.post("/v1/videos", files=files)
        left = list(root.iterdir())
        assert root.stat().st_mode & 0o077 == 0  # nobody else may look
        await app.state.jobs.close()
        assert not root.exists()
        return answer, left

    answer, left = asyncio.run(ask())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert left == []


def test_old_videos_go_first_by_time_and_then_by_number(tmp_path: Path) -> None:
    settings = ServerSettings(max_sessions=0, kept_jobs=2, kept_seconds=100.0)

    async def age() -> list[str]:
        jobs, now = VideoJobs(settings, Metrics()), time.time()
        for name, ended in (("old", now - 200), ("a", now - 3), ("b", now - 2), ("c", now - 1)):
            job = make_job(tmp_path / name, name, ended)
            jobs._jobs[name] = job
        assert jobs.get("nobody") is None
        kept = list(jobs._jobs)
        await jobs.close()
        return kept

    assert asyncio.run(age()) == ["b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_jobs_beyond_the_limit_are_refused() -> None:
    async def add() -> None:
        jobs = VideoJobs(ServerSettings(max_sessions=0, max_jobs=0), Metrics())
        folder = jobs.new_folder()
        request = VideoJob(folder / "portrait", folder / "video.mp4", folder / "speech")
        try:
            with pytest.raises(BusyError, match="limit"):
                jobs.add(Job("a", folder, {}, request))
        finally:
            await jobs.close()

    asyncio.run(add())


def test_a_deleted_video_takes_no_other_with_it_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The process that is killed for it may still end while the next video is begun."""
    monkeypatch.setattr(queue, "run_video_worker", run_made_videos)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def ask(jobs: VideoJobs, portrait: str) -> Job:
        folder = jobs.new_folder()
        request = VideoJob(folder / portrait, folder / "video.mp4", folder / "speech")
        job = Job(folder.name, folder, {}, request)
        jobs.add(job)
        return job

    async def run() -> list[str | None]:
        jobs, errors = VideoJobs(ServerSettings(max_sessions=0), Metrics()), []
        for _ in range(3):
            endless, other = (ask(jobs, portrait) for portrait in (ENDLESS, "portrait"))
            await eventually(lambda job=endless: job.progress > 0)  # type: ignore[misc]
            await jobs.delete(endless)
            await eventually(lambda job=other: job.is_over)  # type: ignore[misc]
            errors.append(other.error)
        endless = ask(jobs, ENDLESS)
        await eventually(lambda: endless.progress > 0)
        await jobs.close()
        return errors

    assert asyncio.run(run()) == [None] * 3
    assert list(tmp_path.iterdir()) == []
