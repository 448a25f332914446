"""The examples of docs/server.md, run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from in_process import wav
from live_server import start_server

from paths import PORTRAIT, ROOT

PAGE = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
DOCUMENTED_KEY = "a-key-of-16-letters-or-more"


def commands() -> list[str]:
    """All lines of the page that a shell understands, but for those that start servers."""
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    return [line for line in "".join(blocks).splitlines() if re.match(r"curl |[A-Z]+=", line)]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_commands_of_the_page(tmp_path: Path) -> None:
    shutil.copy(PORTRAIT, tmp_path / "portrait.jpg")
    (tmp_path / "speech.wav").write_bytes(wav(0.4))
    server = start_server(
        tmp_path, str(PORTRAIT), "--sessions", "1", "--size", "128", key=DOCUMENTED_KEY
    )
    setting: list[str] = []
    answers: list[str] = []
    try:
        for line in commands():
            command = line.replace("http://127.0.0.1:8000", server.address)
            if not command.startswith("curl"):
                setting.append(command)
                continue
            done = subprocess.run(
                ["bash", "-c", "\n".join([*setting, command.replace("curl ", "curl -f ")])],
                cwd=tmp_path,
                capture_output=True,
                check=False,
                text=True,
                timeout=240,
                env={**os.environ, "no_proxy": "*"},
            )
            assert done.returncode == 0, (command, done)
            answers.append(done.stdout)
            if "/v1/videos" in command and " -F " in command:
                setting.append(f"ID={json.loads(done.stdout)['id']}")
    finally:
        assert server.stop() == 143
    assert len(answers) >= 7
    assert (tmp_path / "talk.mp4").read_bytes()[4:8] == b"ftyp"
    assert json.loads(answers[5])["id"] == json.loads(answers[6])["id"], "asked again"


def test_quotas_of_the_page_are_read() -> None:
    from moda.serving.access import read_key

    (lines,) = re.findall(r"# a customer\n(.*?)```", PAGE, re.DOTALL)
    keys = [read_key(line) for line in lines.splitlines() if not line.startswith("#")]
    assert keys[0][1] == (2, 60, 1)
    assert keys[1][1] == (None, None, None)


def test_signatures_of_the_page_are_ours() -> None:
    from moda.serving.videos.webhooks import signature_headers

    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:1]
    names: dict[str, object] = {}
    exec(code, names)
    headers = signature_headers("id", b"{}", DOCUMENTED_KEY)
    genuine = names["is_genuine"]
    assert callable(genuine)
    assert genuine(headers, b"{}", DOCUMENTED_KEY)
    assert not genuine(headers, b"{ }", DOCUMENTED_KEY)
