"""Videos that outlive the server, whose they are, quotas, and requests that are repeated."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from in_process import Ask, at_once, eventually, files, key, never, serve, wav
from live_server import start_server, wait_until

from moda.errors import InputError
from moda.serving.access import ApiKeys, Quotas, read_key
from moda.serving.videos import records
from moda.serving.videos.records import Records
from paths import EXAMPLES

ANNA, BERT = "key-of-anna-0123456789", "key-of-bert-0123456789"


async def ask_for_one(request: Ask, **parts: Any) -> httpx.Response:
    answer = await request("POST", "/v1/videos", files=files(), **parts)
    assert answer.status_code == 202, answer.text
    return answer


class TestRestart:
    def test_what_waits_is_made_by_the_next_server(self, tmp_path: Path) -> None:
        folder = tmp_path / "jobs"

        async def first(app: Any, request: Ask) -> str:
            (folder / "video-unfinished").mkdir()
            (folder / "of the operator").mkdir()
            form = {"size": "128", "style": "sad, purple", "emotion": "happy", "intensity": "0.5"}
            answer = await ask_for_one(request, data=form)
            await eventually(lambda: app.state.jobs.get(answer.json()["id"]).state == "running")
            return answer.json()["id"]

        async def second(app: Any, request: Ask) -> list[Any]:
            job = app.state.jobs.get(identifier)
            await eventually(lambda: job.is_over)
            answers = [await request("GET", f"/v1/videos/{identifier}{p}") for p in ("", "/result")]
            return [*answers, job.request.options]

        async def third(app: Any, request: Ask) -> list[httpx.Response]:
            answers = [await request("GET", f"/v1/videos/{identifier}{p}") for p in ("", "/result")]
            return [*answers, await request("DELETE", f"/v1/videos/{identifier}")]

        identifier = serve(first, never, jobs_folder=folder)
        assert folder.stat().st_mode & 0o077 == 0
        status, result, options = serve(second, at_once, jobs_folder=folder)
        assert status.json()["notes"] == ["not understood in the style: 'purple'"]
        assert (options.size, options.emotion[1:]) == (128, ("happy", 0.5))
        assert result.content == b"video"
        kept, again, deleted = serve(third, never, jobs_folder=folder)
        assert kept.json() == status.json()
        assert again.content == b"video"
        assert deleted.status_code == 204
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["of the operator"]

    def test_a_video_with_which_servers_end_is_given_up(self, tmp_path: Path) -> None:
        folder = tmp_path / "jobs"

        async def ask(app: Any, request: Ask) -> str:
            return (await ask_for_one(request)).json()["id"]

        async def read(app: Any, request: Ask) -> dict[str, Any]:
            return (await request("GET", f"/v1/videos/{identifier}")).json()

        identifier = serve(ask, jobs_folder=folder)
        kept = Records(folder)
        (job,) = kept.load()
        job.state, job.attempts = "running", 3
        kept.save(job)
        kept.close()
        status = serve(read, jobs_folder=folder)
        assert status["state"] == "failed"
        assert "stopped 3 times" in status["error"]

    def test_two_servers_do_not_share_a_folder(self, tmp_path: Path) -> None:
        kept = Records(tmp_path)
        with pytest.raises(InputError, match="a server that runs"):
            Records(tmp_path)
        kept.close()
        Records(tmp_path).close()

    def test_a_full_disk_is_told_and_keeps_nothing(self, tmp_path: Path) -> None:
        async def ask(app: Any, request: Ask) -> httpx.Response:
            app.state.jobs._records._database.execute("PRAGMA query_only = 1")
            return await request("POST", "/v1/videos", files=files())

        assert serve(ask, jobs_folder=tmp_path / "jobs").status_code == 507
        assert list((tmp_path / "jobs").glob("video-*")) == []


class TestOwners:
    def test_see_their_own_videos_only(self) -> None:
        async def ask(app: Any, request: Ask) -> None:
            made = await ask_for_one(request, headers=key(ANNA))
            address = made.headers["location"]
            for method, path in (
                ("GET", address),
                ("GET", f"{address}/result"),
                ("GET", f"{address}/events"),
                ("DELETE", address),
            ):
                assert (await request(method, path, headers=key(BERT))).status_code == 404
            lists = [
                (await request("GET", "/v1/videos", headers=key(name))).json()["videos"]
                for name in (ANNA, BERT)
            ]
            assert [len(videos) for videos in lists] == [1, 0]
            assert lists[0][0] == (await request("GET", address, headers=key(ANNA))).json()

        serve(ask, api_keys=(ANNA, BERT))

    def test_do_not_push_out_the_videos_of_others(self) -> None:
        async def ask(app: Any, request: Ask) -> list[int]:
            for name in (ANNA, *[BERT] * 4):
                made = await ask_for_one(request, headers=key(name))
                job = app.state.jobs._jobs[made.json()["id"]]
                await eventually(lambda job=job: job.is_over)
            answers = [await request("GET", "/v1/videos", headers=key(n)) for n in (ANNA, BERT)]
            return [len(answer.json()["videos"]) for answer in answers]

        assert serve(ask, at_once, api_keys=(ANNA, BERT), kept_jobs=2) == [1, 2]


class TestQuotas:
    def test_of_videos_at_once(self) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            first = await ask_for_one(request, headers=key(ANNA))
            answers = [
                await request("POST", "/v1/videos", files=files(), headers=key(name))
                for name in (ANNA, BERT)
            ]
            await request("DELETE", first.headers["location"], headers=key(ANNA))
            answers.append(await ask_for_one(request, headers=key(ANNA)))
            return answers

        spent, other, later = serve(ask, api_keys=(f"{ANNA} videos=1", BERT))
        assert (spent.status_code, other.status_code, later.status_code) == (429, 202, 202)
        assert "its quota" in spent.json()["detail"]
        assert int(spent.headers["retry-after"]) > 0

    def test_of_minutes_a_day_count_after_a_restart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = {"api_keys": (f"{ANNA} minutes=2",), "jobs_folder": tmp_path / "jobs"}

        async def make(app: Any, request: Ask) -> None:
            made = await ask_for_one(request, headers=key(ANNA))
            job = app.state.jobs._jobs[made.json()["id"]]
            await eventually(lambda: job.is_over)
            await request("DELETE", made.headers["location"], headers=key(ANNA))

        async def ask(app: Any, request: Ask) -> httpx.Response:
            return await request("POST", "/v1/videos", files=files(), headers=key(ANNA))

        serve(make, at_once, **settings)
        serve(make, at_once, **settings)
        spent = serve(ask, at_once, **settings)
        assert spent.status_code == 429
        assert "2 minutes" in spent.json()["detail"]
        assert 0 < int(spent.headers["retry-after"]) <= records.DAY_SECONDS
        day = records._today()
        monkeypatch.setattr(records, "_today", lambda: day + 1)
        assert serve(ask, at_once, **settings).status_code == 202

    def test_are_written_behind_keys(self) -> None:
        assert read_key(f"{ANNA} sessions=1  minutes=60") == (ANNA, Quotas(None, 60, 1))
        (caller,) = {ApiKeys([f"{ANNA} videos=2"]).caller(ANNA)}
        assert caller.quotas.videos == 2
        assert ANNA not in caller.owner
        for wrong in ("video=1", "videos", "videos=-1", "videos=99999999", "more"):
            with pytest.raises(InputError, match="quota"):
                read_key(f"{ANNA} {wrong}")


class TestRepeats:
    def repeat(self, **settings: Any) -> Any:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            async def post(name: str, repeat_key: str, **changes: Any) -> httpx.Response:
                headers = {**key(name), "idempotency-key": repeat_key}
                return await request(
                    "POST", "/v1/videos", headers=headers, files=files(**changes), data={"seed": 3}
                )

            return [
                await post(ANNA, "one"),
                await post(ANNA, "one"),
                await post(ANNA, "one", speech=wav(1.1)),
                await post(BERT, "one"),
                await post(ANNA, "two"),
                await post(ANNA, ""),
                await post(ANNA, "x" * 256),
            ]

        return serve(ask, api_keys=(ANNA, BERT), **settings)

    def test_are_the_same_video(self) -> None:
        first, again, other, of_bert, second, *wrong = self.repeat()
        assert [a.status_code for a in (first, again, of_bert, second)] == [202] * 4
        assert first.json()["id"] == again.json()["id"]
        assert first.headers["location"] == again.headers["location"]
        assert len({a.json()["id"] for a in (first, of_bert, second)}) == 3
        assert other.status_code == 422
        assert "Idempotency-Key" in other.json()["detail"]
        assert [a.status_code for a in wrong] == [422, 422]

    def test_get_through_where_the_queue_is_full(self) -> None:
        first, again, _, of_bert, *_ = self.repeat(max_jobs=1)
        assert (first.json()["id"], of_bert.status_code) == (again.json()["id"], 503)

    def test_at_the_same_time_are_one(self) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            headers = {"idempotency-key": "one"}
            posts = [request("POST", "/v1/videos", headers=headers, files=files()) for _ in "abc"]
            return await asyncio.gather(*posts)

        answers = serve(ask)
        assert {answer.status_code for answer in answers} == {202, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1

    def test_after_a_restart_too(self, tmp_path: Path) -> None:
        async def ask(app: Any, request: Ask) -> str:
            return (await ask_for_one(request, headers={"idempotency-key": "one"})).json()["id"]

        assert len({serve(ask, jobs_folder=tmp_path / "jobs") for _ in range(2)}) == 1


class TestEvents:
    def test_tell_what_changes_until_it_is_over(self) -> None:
        async def make(jobs: Any, job: Any) -> None:
            for progress in (0.25, 0.5):
                job.progress = progress
                await asyncio.sleep(0.4)
            await at_once(jobs, job)

        async def ask(app: Any, request: Ask) -> httpx.Response:
            made = await ask_for_one(request)
            return await request("GET", f"{made.headers['location']}/events")

        answer = serve(ask, make)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = answer.text.split("\n\n")[:-1]
        assert all(event.startswith("event: status\ndata: {") for event in events)
        told = [json.loads(event.split("data: ")[1]) for event in events]
        assert {0.25, 0.5} <= {status["progress"] for status in told}
        assert told[-1]["state"] == "done"

    def test_end_when_the_video_is_deleted_or_the_server_ends(self) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            addresses = [(await ask_for_one(request)).headers["location"] for _ in "ab"]
            streams = [asyncio.create_task(request("GET", f"{a}/events")) for a in addresses]
            await asyncio.sleep(0.3)
            await request("DELETE", addresses[1])
            deleted = await streams[1]
            app.state.jobs.is_ending = True
            return [await streams[0], deleted]

        left, deleted = serve(ask)
        assert '"state":"running"' in left.text
        assert '"error":"deleted"' in deleted.text


@pytest.mark.slow
def test_a_server_that_is_killed_loses_no_video(tmp_path: Path) -> None:
    """The real one, with SIGKILL in the middle of a video, and one behind it."""
    arguments = ("--jobs-folder", str(tmp_path / "jobs"))
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    first = start_server(tmp_path / "first", *arguments)
    portrait = (EXAMPLES / "portrait.jpg").read_bytes()
    forms = [
        {"portrait": portrait, "speech": wav(1.0)},
        {"portrait": portrait, "speech": wav(0.4)},
    ]
    headers = {"idempotency-key": "the first"}
    addresses = [
        first.request("POST", "/v1/videos", files=form, data={"size": "64"}, headers=extra)
        .raise_for_status()
        .headers["location"]
        for form, extra in zip(forms, (headers, {}), strict=True)
    ]
    assert wait_until(lambda: first.request("GET", addresses[0]).json()["state"] == "running")
    time.sleep(1.0)
    assert first.request("GET", addresses[0]).json()["state"] == "running"
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    time.sleep(1.0)
    second = start_server(tmp_path / "second", *arguments)
    try:
        again = second.request(
            "POST", "/v1/videos", files=forms[0], data={"size": "64"}, headers=headers
        )
        assert again.headers["location"] == addresses[0]
        for address in addresses:
            assert wait_until(
                lambda address=address: second.request("GET", address).json()["state"] == "done",
                900,
            )
            video = second.request("GET", f"{address}/result")
            assert video.content[4:8] == b"ftyp"
            assert second.request("HEAD", f"{address}/result").headers["content-length"] == str(
                len(video.content)
            )
        listed = second.request("GET", "/v1/videos").json()["videos"]
        assert [f"/v1/videos/{video['id']}" for video in listed] == addresses[::-1]
    finally:
        assert second.stop() == 143
    assert "Traceback" not in second.log.read_text()
