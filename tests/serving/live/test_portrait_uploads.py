"""Portraits that clients bring: limits, owners, and where they lie."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from in_process import Ask, key, serve

from moda.serving.access import BusyError, owner_of
from moda.serving.live.portraits import MAX_ARRIVING, MAX_OF_OWNER, PATH, PortraitUploads
from moda.serving.settings import ServerSettings
from paths import PORTRAIT

ANNA, BERT = "key-of-anna-0123456789", "key-of-bert-0123456789"


async def bring(request: Ask, name: str, content: bytes = PORTRAIT.read_bytes()) -> httpx.Response:
    return await request("POST", PATH, files={"portrait": content}, headers=key(name))


def test_a_portrait_is_its_owners_until_it_is_removed() -> None:
    async def ask(app: Any, request: Ask) -> None:
        uploads = app.state.pool.uploads
        answer = await bring(request, ANNA)
        assert answer.status_code == 201
        name = answer.json()["portrait"]
        anna, bert = owner_of(ANNA), owner_of(BERT)
        path = uploads.find(anna, name)
        assert path.read_bytes() == PORTRAIT.read_bytes()
        assert uploads.find(bert, name) is None
        assert uploads.find(anna, None) is None
        assert uploads.find(anna, "../../etc/passwd") is None
        address = f"{PATH}/{name}"
        assert (await request("DELETE", address, headers=key(BERT))).status_code == 404
        assert (await request("DELETE", address, headers=key(ANNA))).status_code == 204
        assert (await request("DELETE", address, headers=key(ANNA))).status_code == 404
        assert not path.exists()

    serve(ask, api_keys=(ANNA, BERT))


def test_what_is_no_picture_is_refused_and_not_kept() -> None:
    async def ask(app: Any, request: Ask) -> tuple[list[httpx.Response], list[Path]]:
        wrong = [b"", b"text", b"BM" + b"\0" * 50, b"x" * 3000]
        answers = [await bring(request, ANNA, content) for content in wrong]
        answers.append(await request("POST", PATH, files={"other": b"x"}, headers=key(ANNA)))
        return answers, list(app.state.pool.uploads.new_path().parent.iterdir())

    answers, left = serve(ask, api_keys=(ANNA,), max_portrait_bytes=2000)
    assert [answer.status_code for answer in answers] == [422, 422, 422, 413, 422]
    assert all("/" not in answer.json()["detail"] for answer in answers)
    assert left == []


def test_a_body_without_end_and_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(app: Any, request: Ask) -> list[httpx.Response]:
        answers = [await bring(request, ANNA, b"x" * 100_000)]
        usage = shutil.disk_usage("/")._replace(free=2**10)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        return [*answers, await bring(request, ANNA, b"x")]

    answers = serve(ask, api_keys=(ANNA,), max_portrait_bytes=2000)
    assert [answer.status_code for answer in answers] == [413, 507]


def test_only_so_many_arrive_at_once() -> None:
    """Of one client half; nothing of the body is read before."""

    async def body(app: Any, request: Ask) -> None:
        uploads, picture = app.state.pool.uploads, {"portrait": PORTRAIT.read_bytes()}
        with ExitStack() as stack:
            for _ in range(MAX_ARRIVING // 2):
                stack.enter_context(uploads.arriving("127.0.0.1"))
            refused = await request("POST", PATH, files=picture)
            assert refused.status_code == 503
            assert refused.headers["retry-after"]
            for _ in range(MAX_ARRIVING // 2):
                stack.enter_context(uploads.arriving("10.0.0.1"))
            with pytest.raises(BusyError):
                stack.enter_context(uploads.arriving("10.0.0.2"))
        assert (await request("POST", PATH, files=picture)).status_code == 201

    serve(body)


def test_old_ones_go_by_number_and_by_time() -> None:
    uploads = PortraitUploads(ServerSettings(max_sessions=0, kept_seconds=100.0))
    try:
        names = []
        for owner in ["anna"] * (MAX_OF_OWNER + 1) + ["bert"]:
            path = uploads.new_path()
            path.write_bytes(b"x")
            names.append(uploads.add(owner, path))
        assert uploads.find("anna", names[0]) is None
        assert uploads.find("anna", names[1]) is not None
        folder = uploads.new_path().parent
        assert len(list(folder.iterdir())) == MAX_OF_OWNER + 1
        for name in list(uploads._known)[:3]:
            uploads._known[name] -= 200.0
        assert uploads.find("anna", names[1]) is None
        assert len(list(folder.iterdir())) == MAX_OF_OWNER - 2
    finally:
        uploads.close()
    assert not folder.exists()
