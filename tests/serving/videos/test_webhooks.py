"""Webhooks: which may be called, how they are signed, and how often they are tried."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from in_process import Ask, at_once, eventually, files, key, serve

from moda.errors import InputError
from moda.serving.settings import ServerSettings
from moda.serving.videos import webhooks
from moda.serving.videos.webhooks import require_allowed

ANNA = "key-of-anna-0123456789"
ALLOWED = ("https://app.example.org", "http://127.0.0.1:9000/moda")


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example.org/any?of=them",
        "https://APP.example.org:443/",
        "http://127.0.0.1:9000/moda",
        "http://127.0.0.1:9000/moda?id=7",
    ],
)
def test_what_the_operator_names_may_be_called(address: str) -> None:
    require_allowed(address, ALLOWED)


@pytest.mark.parametrize(
    "address",
    [
        "http://app.example.org/",
        "https://app.example.org:444/",
        "https://app.example.org.evil.example/",
        "https://app.example.org@evil.example/",
        "https://evil.example#@app.example.org/",
        "https://evil.example\\@app.example.org/",
        "https://app.example.org\r\nx: y",
        "https://app.example.org/a b",
        "http://127.0.0.1:9000/",
        "http://127.0.0.1:9000/moda/../admin",
        "http://127.0.0.1:9000/moda/",
        "http://127.0.0.1:9000/%6doda",
        "http://127.1:9000/moda",
        "http://[::ffff:127.0.0.1]:9000/moda",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://app.example.org/",
        "https://",
        "https://app.example.org:99999/",
        "https://\u0430pp.example.org/",
        "http://[::1",
        "",
    ],
)
def test_nothing_else_may(address: str) -> None:
    with pytest.raises(InputError, match="webhook"):
        require_allowed(address, ALLOWED)


def test_nothing_may_by_default_and_keys_are_needed() -> None:
    with pytest.raises(InputError, match="--allow-webhook"):
        require_allowed("https://app.example.org/", ())
    with pytest.raises(InputError, match="signed"):
        ServerSettings(max_sessions=0, allowed_webhooks=ALLOWED)
    with pytest.raises(InputError, match="webhook"):
        ServerSettings(max_sessions=0, allowed_webhooks=("app",), api_keys=(ANNA,))


class Receiver:
    """A server that answers one status after the other and remembers what it was sent."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests = list(answers), []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/moda"

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append((head[0], headers, body))
        writer.write(self.answers.pop(0))
        writer.close()


OK, BROKEN = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 Broken\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n"


def told(receiver: Receiver, tmp_path: Path | None = None, restart: bool = False) -> str:
    """What becomes of the webhook of a video, with a restart in the middle if wanted."""

    async def run() -> str:
        async with receiver as address:

            async def ask(app: Any, request: Ask) -> str:
                answer = await request(
                    "POST",
                    "/v1/videos",
                    files=files(),
                    data={"webhook": address},
                    headers=key(ANNA),
                )
                assert answer.status_code == 202, answer.text
                assert answer.json()["webhook"] == "pending"
                job = app.state.jobs._jobs[answer.json()["id"]]
                await eventually(lambda: job.is_over)
                if not restart:
                    await eventually(lambda: job.hook_state != "pending")
                return job.hook_state

            async def look(app: Any, request: Ask) -> str:
                (job,) = app.state.jobs._jobs.values()
                await eventually(lambda: job.hook_state != "pending")
                return job.hook_state

            settings = {
                "api_keys": (ANNA,), "allowed_webhooks": (address,), "jobs_folder": tmp_path,
            }  # fmt: skip
            state = await asyncio.to_thread(serve, ask, at_once, **settings)
            return await asyncio.to_thread(serve, look, **settings) if restart else state

    return asyncio.run(run())


def test_a_message_is_signed_with_the_key_of_whoever_asked() -> None:
    receiver = Receiver(OK)
    assert told(receiver) == "delivered"
    ((line, headers, body),) = receiver.requests
    assert line == "POST /moda HTTP/1.1"
    message = json.loads(body)
    assert message["type"] == "video.done"
    assert message["data"]["result"] == f"/v1/videos/{message['data']['id']}/result"
    signed = f"{message['data']['id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(ANNA.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"].lower() == f"v1,{digest}".lower()
    assert ANNA not in str(receiver.requests)


def test_it_is_tried_again_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRIES_AFTER_SECONDS", (0.01, 0.01, 0.01))
    receiver = Receiver(BROKEN, b"no http\r\n", OK)
    assert told(receiver) == "delivered"
    assert len(receiver.requests) == 3
    receiver = Receiver(*[BROKEN] * 4)
    assert told(receiver) == "failed"
    assert len(receiver.requests) == 4


def test_a_redirection_is_not_followed_and_gone_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "RETRIES_AFTER_SECONDS", (0.01,))
    receiver = Receiver(REDIRECT, b"HTTP/1.1 410 Gone\r\n\r\n")
    assert told(receiver) == "failed"
    assert len(receiver.requests) == 2


def test_a_restart_does_not_forget_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = Receiver(BROKEN, OK)
    assert told(receiver, tmp_path / "jobs", restart=True) == "delivered"
    assert len(receiver.requests) == 2


@pytest.mark.parametrize(
    ("address", "peers", "called"),
    [
        ("http://app.example.org/", ["10.0.0.5"], None),
        ("http://app.example.org/", ["127.0.0.1"], None),
        ("http://app.example.org./", ["169.254.169.254", "::1", "fe80::1%eth0"], None),
        ("http://app.example.org/", ["::ffff:127.0.0.1", "0.0.0.0", "100.64.0.1"], None),
        ("http://app.example.org/", ["127.0.0.1", "8.8.8.8"], "8.8.8.8"),
        ("https://app.example.org/", ["10.0.0.5"], "10.0.0.5"),
        ("http://hooks/", ["10.0.0.5"], "10.0.0.5"),
        ("http://hooks.corp.internal/", ["10.0.0.5"], "10.0.0.5"),
        ("http://10.0.0.5:8080/", ["10.0.0.5"], "10.0.0.5"),
        ("http://[::1]:8080/", ["::1"], "::1"),
    ],
)
def test_public_names_do_not_lead_into_private_networks(
    monkeypatch: pytest.MonkeyPatch, address: str, peers: list[str], called: str | None
) -> None:
    """As a name does whose owner points it there after it was allowed."""

    async def resolve(self: Any, host: str, port: int, **options: Any) -> list[Any]:
        return [(0, 0, 0, "", (peer, port)) for peer in peers]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    find = webhooks.find_peer(webhooks.check_webhook(address))
    if called is None:
        with pytest.raises(OSError, match="private network; allow it by https"):
            asyncio.run(find)
    else:
        assert asyncio.run(find) == called


def test_one_that_is_not_allowed_is_refused() -> None:
    async def ask(app: Any, request: Ask) -> httpx.Response:
        data = {"webhook": "http://169.254.169.254/"}
        return await request("POST", "/v1/videos", files=files(), data=data, headers=key(ANNA))

    answer = serve(ask, api_keys=(ANNA,), allowed_webhooks=ALLOWED)
    assert answer.status_code == 422
    assert "--allow-webhook" in answer.json()["detail"]
