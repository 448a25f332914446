"""Voices that a server offers, and refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from kokoro_double import write_kokoro
from moda.serving.app import create_app
from moda.serving.settings import ServerSettings
from moda.speech_synthesis import espeak_is_installed


@pytest.mark.skipif(not espeak_is_installed(), reason="espeak-ng is not installed")
def test_voices_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODA_KOKORO", str(write_kokoro(tmp_path / "kokoro")))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(ServerSettings(max_sessions=0)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/v1/voices")

    found = asyncio.run(ask()).json()
    assert "de" in found["languages"]
    assert found["voices"][0] == {
        "name": "af_heart", "synthesiser": "kokoro", "language": "en-us",
    }  # fmt: skip
    assert {"name": "f2", "synthesiser": "espeak", "language": None} in found["voices"]
