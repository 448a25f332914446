"""What a server stands: full disks, lost folders, liars about lengths and addresses, long texts."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tempfile
import wave
from collections.abc import Awaitable, Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from starlette.datastructures import UploadFile

from moda.errors import InputError, MediaError
from moda.media import AudioReader
from moda.serving.app import create_app
from moda.serving.settings import ServerSettings
from moda.serving.videos import api
from moda.serving.videos.queue import VideoJobs
from moda.serving.videos.records import Job
from moda.speech_synthesis import Utterance, check_spoken_length, espeak_is_installed, synthesise
from paths import PORTRAIT

KEY = "key-of-these-tests-0123"
RATE = 16_000
Ask = Callable[..., Awaitable[httpx.Response]]


def serve(
    body: Callable[[Any, Ask], Awaitable[Any]], peer: str = "127.0.0.1", **settings: Any
) -> Any:
    """Run something against the server's application; nothing is rendered."""
    app = create_app(ServerSettings(max_sessions=0, **settings))

    async def never(jobs: VideoJobs, job: Job) -> None:
        await asyncio.sleep(60)

    async def run() -> Any:
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            return await body(app, client.request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VideoJobs, "_make", never)
        return asyncio.run(run())


def files(**changes: Any) -> dict[str, Any]:
    return {"portrait": PORTRAIT.read_bytes(), "speech": wav(1.0), **changes}


def wav(seconds: float) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        writer.writeframes(tone(seconds).tobytes())
    return file.getvalue()


def tone(seconds: float) -> np.ndarray:
    times = np.arange(round(seconds * RATE)) / RATE
    return (8000 * np.sin(2000 * times)).astype("<i2")


class OneWay(io.BytesIO):
    """A pipe: what is written cannot be corrected, so headers have no lengths."""

    def seekable(self) -> bool:
        return False


def lying(container: str, codec: str, seconds: float) -> bytes:
    """Sound in a file whose header does not say how long it is."""
    file = OneWay()
    options = {"live": "1"} if container in ("webm", "matroska") else {}
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=48_000 if codec == "libopus" else RATE)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(tone(seconds)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


LIARS = [
    ("flac", "flac"), ("webm", "libopus"), ("matroska", "pcm_s16le"), ("ogg", "libopus"),
    ("wav", "pcm_s16le"), ("mp3", "libmp3lame"), ("adts", "aac"), ("mpegts", "aac"),
    ("au", "pcm_s16be"),
]  # fmt: skip


class TestLengths:
    @pytest.mark.parametrize(("container", "codec"), LIARS)
    def test_are_counted_and_not_believed(self, tmp_path: Path, container: str, codec: str) -> None:
        path = tmp_path / "speech"
        path.write_bytes(lying(container, codec, 8.0))
        with pytest.raises(MediaError, match="more than the limit of 5 s"):
            list(AudioReader(path, RATE, max_seconds=5.0))
        assert sum(map(len, AudioReader(path, RATE, max_seconds=8.0))) > 7.9 * RATE

    def test_a_header_that_says_too_little(self, tmp_path: Path) -> None:
        path, content = tmp_path / "speech.wav", bytearray(wav(8.0))
        content[40:44] = (0xFFFFFFFF).to_bytes(4, "little")
        path.write_bytes(content)
        with pytest.raises(MediaError, match="more than the limit of 5 s"):
            list(AudioReader(path, RATE, max_seconds=5.0))

    def test_a_hole_is_not_filled_beyond_the_limit(self, tmp_path: Path) -> None:
        """Time stamps that jump would become hours of silence."""
        path = tmp_path / "hole.mka"
        with av.open(str(path), "w", format="matroska") as output:
            stream = output.add_stream("pcm_s16le", rate=RATE)
            stream.layout = "mono"
            for start in (0, 3600 * RATE):
                frame = av.AudioFrame.from_ndarray(tone(0.5)[None], "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
                output.mux(stream.encode(frame))
        with pytest.raises(MediaError, match="more than the limit of 5 s"):
            list(AudioReader(path, RATE, max_seconds=5.0))

    def test_reach_whoever_makes_the_video(self) -> None:
        async def ask(app: Any, request: Ask) -> tuple[httpx.Response, Any]:
            sound = {"speech": lying("flac", "flac", 8.0)}
            answer = await request("POST", "/v1/videos", files=files(**sound))
            return answer, next(iter(app.state.jobs._jobs.values())).request

        answer, made = serve(ask, max_speech_seconds=5.0)
        assert answer.status_code == 202
        assert made.max_seconds == 5.0

    def test_a_known_one_is_refused_at_once(self) -> None:
        async def ask(app: Any, request: Ask) -> httpx.Response:
            return await request("POST", "/v1/videos", files=files(speech=wav(8.0)))

        answer = serve(ask, max_speech_seconds=5.0)
        assert answer.status_code == 422
        assert "the speech lasts 8.0 s, more than the limit of 5 s" in answer.json()["detail"]


class Voice:
    """Says every letter in a tenth of a second."""

    takes_language = True

    def __init__(self) -> None:
        self.num_calls = 0

    def speak(self, text: str, *, language: str, voice: str | None, rate: float) -> Utterance:
        self.num_calls += 1
        return Utterance(np.zeros(len(text) * RATE // 10, np.int16), RATE, (), ())


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "[pause:60]" * 250 + "hi",
            "[pause:60] a " * 250,
            "[pause:60][sad] a [none]" * 100,
            "[pause]" * 900 + "hi",
            "word " * 2000,
            "[sad]a" * 5000,
            "[pause:0]" * 5000 + "a",
        ],
    )
    def test_have_a_bound_on_what_they_become(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(InputError, match="more than the limit"):
            check_spoken_length(text, 100.0)
        voice = Voice()
        with pytest.raises(InputError, match="more than the limit"):
            synthesise(text, tmp_path / "a.wav", synthesiser=voice, max_seconds=100.0)
        assert voice.num_calls == 0, "nothing was made"
        assert list(tmp_path.iterdir()) == []

    def test_a_voice_that_is_slower_than_any_is_stopped(self, tmp_path: Path) -> None:
        voice = Voice()
        with pytest.raises(InputError, match="more than the limit of 20 s"):
            synthesise("Anna. " * 150, tmp_path / "a.wav", synthesiser=voice, max_seconds=20.0)
        assert list(tmp_path.iterdir()) == []

    def test_usual_ones_pass(self, tmp_path: Path) -> None:
        said = synthesise(
            "[pause:2] Anna. [sad] Anna.", tmp_path / "a.wav", synthesiser=Voice(), max_seconds=20.0
        )
        assert 2.5 < said.seconds < 5.0

    @pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
    def test_a_server_refuses_them_quickly(self) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            texts = ["[pause:60]" * 250 + "hi", "a " * 4000, "[pause:30] b " * 200]
            return [
                await request(
                    "POST", "/v1/videos", files={"portrait": files()["portrait"]}, data={"text": t}
                )
                for t in texts
            ]

        for answer in serve(ask, max_speech_seconds=60.0):
            assert answer.status_code == 422
            assert "more than the limit of 60 s" in answer.json()["detail"]

    def test_speaking_has_a_time_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api, "SPEAKING_SECONDS", -1.0)
        with (
            pytest.raises(InputError, match="to speak here"),
            api._in_time("Speaking") as progress,
        ):
            progress(1, 2)


class TestAddresses:
    def ask_as(self, peer: str, behind_proxy: bool, forwarded: Callable[[int], str]) -> list[int]:
        async def ask(app: Any, request: Ask) -> list[int]:
            answers = [
                await request("GET", "/v1/info", headers={"x-forwarded-for": forwarded(number)})
                for number in range(12)
            ]
            return [answer.status_code for answer in answers]

        settings = {"requests_per_minute": 5, "api_keys": (KEY,), "behind_proxy": behind_proxy}
        return serve(ask, peer, **settings)

    def test_are_not_chosen_by_clients(self) -> None:
        """Wrong keys get 429 in the end, whatever they claim to be."""
        assert self.ask_as("127.0.0.1", False, lambda n: f"10.0.0.{n}") == [401] * 5 + [429] * 7
        assert (
            self.ask_as("127.0.0.1", True, lambda n: f"10.0.0.{n}, 8.8.8.8")
            == [401] * 5 + [429] * 7
        )
        assert self.ask_as("8.8.8.8", True, lambda n: f"10.0.0.{n}") == [401] * 5 + [429] * 7

    def test_of_a_proxys_clients_are_told_apart(self) -> None:
        assert self.ask_as("127.0.0.1", True, lambda n: f"10.0.0.{n}") == [401] * 12


class TestRoom:
    def test_a_full_queue_reads_nothing(self) -> None:
        """And neither does one whose last place is taken by a request that still arrives."""

        async def ask(app: Any, request: Ask) -> list[Any]:
            sent = []

            async def receive() -> dict[str, Any]:
                raise AssertionError("the body was read")

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {
                "type": "http", "method": "POST", "path": "/v1/videos", "raw_path": b"/v1/videos",
                "query_string": b"", "client": ("10.0.0.1", 1), "root_path": "", "scheme": "http",
                "headers": [(b"host", b"localhost"), (b"content-length", b"90000000")],
                "http_version": "1.1", "server": ("localhost", 80), "asgi": {"version": "3.0"},
            }  # fmt: skip
            with app.state.jobs.arriving("a"), app.state.jobs.arriving("b"):
                await app(scope, receive, send)
            return sent

        start, body = serve(ask, max_jobs=2)
        assert start["status"] == 503
        assert dict(start["headers"])[b"retry-after"]
        assert b"limit" in body["body"]

    def test_one_client_does_not_take_all_places(self) -> None:
        async def ask(app: Any, request: Ask) -> httpx.Response:
            jobs = app.state.jobs
            with jobs.arriving("127.0.0.1"), jobs.arriving("127.0.0.1"), jobs.arriving("x"):
                return await request("POST", "/v1/videos", files=files())

        answer = serve(ask, max_jobs=4)
        assert answer.status_code == 503
        assert "still arriving" in answer.json()["detail"]

    def test_places_are_given_back(self) -> None:
        async def ask(app: Any, request: Ask) -> list[int]:
            wrong = [await request("POST", "/v1/videos", files={"x": b"y"}) for _ in range(5)]
            right = await request("POST", "/v1/videos", files=files())
            return [answer.status_code for answer in (*wrong, right)]

        assert serve(ask, max_jobs=2) == [422] * 5 + [202]


class TestDisk:
    @pytest.mark.parametrize("lost", ["folder", "all temporary files"])
    def test_a_folder_that_was_removed_comes_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
    ) -> None:
        place = tmp_path / "temporary"
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))

        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            root = app.state.jobs.new_folder().parent
            shutil.rmtree(root if lost == "folder" else place)
            large = files(speech=wav(60.0))  # more than is kept in memory
            answers = [await request("POST", "/v1/videos", files=large)]
            shutil.rmtree(root if lost == "folder" else place)
            answers.append(await request("GET", "/readyz"))
            assert root.stat().st_mode & 0o077 == 0
            return answers

        made, ready = serve(ask)
        assert made.status_code == 202
        assert ready.status_code == 200
        assert not list(tmp_path.rglob("moda-videos-*"))

    def test_a_folder_of_strangers_is_not_used(self, tmp_path: Path) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            root = app.state.jobs.new_folder().parent
            shutil.rmtree(root)
            root.mkdir(mode=0o777)
            root.chmod(0o777)
            try:
                return [
                    await request("POST", "/v1/videos", files=files()),
                    await request("GET", "/readyz"),
                ]
            finally:
                assert list(root.iterdir()) == []

        made, ready = serve(ask)
        assert made.status_code == 507
        assert ready.status_code == 503
        assert "files cannot be kept" in ready.json()["problems"][0]

    def test_a_disk_that_is_nearly_full_is_told_before_the_body(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage("/")._replace(free=2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            return [
                await request("POST", "/v1/videos", files=files()),
                await request("GET", "/readyz"),
                await request("GET", "/healthz"),
            ]

        made, ready, alive = serve(ask)
        assert made.status_code == 507
        assert "space" in made.json()["detail"]
        assert ready.status_code == 503
        assert alive.status_code == 200

    @pytest.mark.parametrize("number", [28, 122, 2, 13, 30, 5])
    @pytest.mark.parametrize("where", ["while it arrives", "while it is copied"])
    def test_a_disk_that_fails_is_one_clear_line(
        self, monkeypatch: pytest.MonkeyPatch, number: int, where: str
    ) -> None:
        async def fail(*arguments: object) -> None:
            raise OSError(number, os.strerror(number), "/secret/place")

        if where == "while it arrives":
            monkeypatch.setattr(UploadFile, "write", fail)
        else:
            monkeypatch.setattr(api, "_copy", fail)

        async def ask(app: Any, request: Ask) -> tuple[httpx.Response, list[Path]]:
            answer = await request("POST", "/v1/videos", files=files())
            return answer, list(app.state.jobs.new_folder().parent.iterdir())

        answer, left = serve(ask)
        assert answer.status_code == 507
        assert "space" in answer.json()["detail"]
        assert "/secret" not in answer.text
        assert len(left) == 1, "the folder that was asked for just now"

    def test_a_result_that_is_lost_is_gone(self) -> None:
        async def ask(app: Any, request: Ask) -> httpx.Response:
            made = await request("POST", "/v1/videos", files=files())
            app.state.jobs.get(made.json()["id"]).state = "done"
            return await request("GET", f"{made.headers['location']}/result")

        assert serve(ask).status_code == 410


class TestReadiness:
    def test_is_the_truth_about_the_queue(self) -> None:
        async def ask(app: Any, request: Ask) -> list[httpx.Response]:
            answers = [await request("GET", "/readyz")]
            await request("POST", "/v1/videos", files=files())
            answers.append(await request("GET", "/readyz"))
            return answers

        empty, full = serve(ask, max_jobs=1)
        assert empty.json() == {"status": "ready", "workers": 0}
        assert full.status_code == 503
        assert full.json()["problems"] == ["the queue is full"]

    def test_is_the_truth_about_a_queue_that_has_stopped(self) -> None:
        async def ask(app: Any, request: Ask) -> httpx.Response:
            app.state.jobs._task.cancel()
            await asyncio.sleep(0.01)
            return await request("GET", "/readyz")

        answer = serve(ask)
        assert answer.status_code == 503
        assert "the queue has stopped" in answer.json()["problems"]


def test_a_queue_goes_on_when_no_process_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ServerSettings(max_sessions=0)

    async def ask() -> list[str]:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))

        async def fail(jobs: VideoJobs, job: Job) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        monkeypatch.setattr(VideoJobs, "_make", fail)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            states = []
            for _ in range(2):
                made = await client.post("/v1/videos", files=files())
                await asyncio.sleep(0.05)
                states.append((await client.get(made.headers["location"])).json()["state"])
            return states

    assert asyncio.run(ask()) == ["failed", "failed"]
