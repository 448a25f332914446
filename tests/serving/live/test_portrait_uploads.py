"""Portraits that clients bring: limits, owners, and where they lie."""

from __future__ import annotations

import io
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from in_process import Ask, key, serve
from PIL import Image

from moda.options import FrameOptions
from moda.pipeline import TalkingHead
from moda.serving.access import BusyError, owner_of
from moda.serving.live.pool import SessionPool
from moda.serving.live.portraits import MAX_ARRIVING, MAX_OF_OWNER, PATH, PortraitUploads
from moda.serving.live.worker import idle_preview
from moda.serving.settings import ServerSettings
from moda.systems.embedded import EmbeddedSystem
from moda.systems.portraits import prepare_portrait
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


def test_portraits_of_the_server_wait_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionPool, "previews", property(lambda _: {"mona lisa": b"RIFF"}))

    async def ask(app: Any, request: Ask) -> list[httpx.Response]:
        names = ("mona%20lisa", "nobody")
        return [await request("GET", f"{PATH}/{name}/preview", headers=key(ANNA)) for name in names]

    shown, missing = serve(ask, api_keys=(ANNA,))
    assert (shown.status_code, shown.content) == (200, b"RIFF")
    assert shown.headers["content-type"] == "image/webp"
    assert missing.status_code == 404


def test_a_preview_moves_and_repeats_without_a_jump() -> None:
    system = TalkingHead.from_pretrained("moda-tiny", device="cpu").system
    assert isinstance(system, EmbeddedSystem)
    actor = prepare_portrait(system, PORTRAIT, FrameOptions(size=128))
    with Image.open(io.BytesIO(idle_preview(system, actor))) as image:
        pictures = []
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            pictures.append(np.asarray(image.convert("RGB")).astype(float))
    assert len(pictures) > 40
    steps = [
        np.abs(a - b).mean() for a, b in zip(pictures, [*pictures[1:], pictures[0]], strict=True)
    ]
    assert np.abs(pictures[0] - pictures[31]).max() > 20, "something moves"
    assert steps[-1] <= max(steps[:-1]), "the last is followed by the first"
