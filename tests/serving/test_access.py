"""Keys, origins and rates."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from moda.doors.clients import RateLimit
from moda.doors.names import is_own_origin
from moda.errors import InputError
from moda.serving.access import ApiKeys, presented_key
from moda.serving.app import create_app
from moda.serving.settings import (
    IceServer,
    ServerSettings,
    portrait_names,
    read_api_keys,
    read_ice_server,
)

KEY = "0123456789abcdef"


def test_only_the_whole_key_opens() -> None:
    keys = ApiKeys([KEY, "another-key-of-somebody"])
    assert keys.caller(KEY) is not None
    assert keys.caller("another-key-of-somebody") not in (None, keys.caller(KEY))
    for wrong in (None, "", KEY[:-1], KEY + "0", KEY.upper(), "\udcff", "ключ"):
        assert not keys.caller(wrong)
    assert ApiKeys([]).caller(None) is not None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"authorization": f"Bearer {KEY}"}, KEY),
        ({"authorization": f"bearer  {KEY} "}, KEY),
        ({"authorization": f"Basic {KEY}"}, None),
        ({"x-api-key": KEY}, KEY),
        ({"sec-websocket-protocol": f"moda.v1, moda.key.{KEY}"}, KEY),
        ({}, None),
    ],
)
def test_where_a_key_may_stand(headers: dict[str, str], key: str | None) -> None:
    assert presented_key(headers) == key


@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        (None, True),
        ("http://127.0.0.1:8000", True),
        ("https://127.0.0.1:8000", True),
        ("http://127.0.0.1:9000", False),
        ("https://evil.example", False),
        ("https://good.example", True),
        ("null", False),
        ("", False),
    ],
)
def test_pages_of_other_servers_stay_outside(origin: str | None, passes: bool) -> None:
    headers = {"host": "127.0.0.1:8000"} | ({} if origin is None else {"origin": origin})
    assert is_own_origin(headers, ("https://good.example",)) is passes


def test_a_client_that_floods_waits_and_others_do_not() -> None:
    time = 0.0
    limit = RateLimit(6, now=lambda: time)
    assert [limit.wait_seconds("a") for _ in range(7)] == [0] * 6 + [10]
    assert limit.wait_seconds("b") == 0
    time = 9.0
    assert limit.wait_seconds("a") == 1
    time = 10.0
    assert limit.wait_seconds("a") == 0
    assert limit.wait_seconds("a") == 10


def test_rates_of_many_clients_do_not_fill_the_memory() -> None:
    limit = RateLimit(5)
    for number in range(20_000):
        limit.wait_seconds(str(number))
    assert len(limit._clients) <= 10_000


def test_a_server_for_others_needs_keys() -> None:
    with pytest.raises(InputError, match="API keys"):
        ServerSettings(host="0.0.0.0", max_sessions=0)
    assert not ServerSettings(host="0.0.0.0", max_sessions=0, api_keys=(KEY,)).is_loopback
    with pytest.raises(InputError, match="16"):
        ServerSettings(max_sessions=0, api_keys=("short",))
    with pytest.raises(InputError, match="portrait"):
        ServerSettings()
    assert KEY not in repr(ServerSettings(max_sessions=0, api_keys=(KEY,)))


def test_keys_come_from_a_file_and_portraits_have_names(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{KEY}\n")
    assert read_api_keys(file) == (KEY,)
    for encoding in ("utf-8-sig", "utf-16"):
        file.write_text(f"{KEY}\n", encoding=encoding)
        assert read_api_keys(file) == (KEY,)
    file.write_text("# nothing\n")
    with pytest.raises(InputError, match="no API key"):
        read_api_keys(file)
    with pytest.raises(InputError):
        read_api_keys(tmp_path / "missing")
    assert portrait_names((Path("x/Anna B..jpg"),)) == {"anna-b-": Path("x/Anna B..jpg")}
    with pytest.raises(InputError, match="rename"):
        portrait_names((Path("x/a.jpg"), Path("y/A.png")))


def test_turn_servers_are_told_with_their_credentials_apart() -> None:
    assert read_ice_server("stun:host:3478") == IceServer("stun:host:3478")
    turn = read_ice_server("turn:anna:p:w@host:3478")
    assert turn == IceServer("turn:host:3478", "anna", "p:w")
    assert "p:w" not in repr(ServerSettings(max_sessions=0, ice_servers=(turn,)))
    with pytest.raises(InputError, match="turn:user"):
        read_ice_server("http://host")


def test_pages_of_allowed_origins_may_ask_first_without_a_key() -> None:
    settings = ServerSettings(
        max_sessions=0, api_keys=(KEY,), allowed_origins=("https://good.example",)
    )
    transport = httpx.ASGITransport(create_app(settings), client=("127.0.0.1", 1))

    async def ask(method: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, "/v1/info", headers=headers)

    asked = {"origin": "https://good.example", "access-control-request-method": "GET"}
    allowed = asyncio.run(ask("OPTIONS", **asked))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://good.example"
    refused = asyncio.run(ask("OPTIONS", **{**asked, "origin": "https://evil.example"}))
    assert "access-control-allow-origin" not in refused.headers
    assert asyncio.run(ask("GET", origin="https://evil.example")).status_code == 403
    assert asyncio.run(ask("GET", origin="https://good.example")).status_code == 401


def test_a_flood_is_answered_with_429_and_a_time() -> None:
    app = create_app(ServerSettings(max_sessions=0, requests_per_minute=3))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))

    async def flood() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return [await client.get("/api") for _ in range(5)]

    answers = asyncio.run(flood())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
