"""``moda web`` as a user meets it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from moda import cli


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exited:
        cli.main(["web", *arguments])
    return int(exited.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "port 70000 is outside 0..65535"),
        (["--max-upload", "0"], "limit of uploads in MiB 0 is outside"),
        (["--max-seconds", "0"], "limit of the length in s 0 is outside"),
        (["--login-file", "none"], "login file none cannot be read"),
        (["--model", "moda-huge"], "no checkpoint 'moda-huge'"),
        (["--share", "--max-waiting", "0"], "people who wait 0 is outside"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    printed = capfd.readouterr()
    assert says in printed.err
    assert printed.err.count("\n") == 1


def test_a_bad_login_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODA_WEB_LOGIN", "secret")
    assert run() == 2
    said = capfd.readouterr().err
    assert "variable MODA_WEB_LOGIN holds no login" in said
    assert "secret" not in said


def test_without_gradio_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert run() == 2
    assert "pip install '.[web]'" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
def test_it_serves_until_it_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with subprocess.Popen(
        [sys.executable, "-m", "moda", "web", "--port", "0"],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"The page is at (http://127\.0\.0\.1:\d+/); Ctrl\+C ends it\n", line)
        assert found, line
        assert "MoDA" in httpx.get(found[1], timeout=30).text
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in said
    assert list(tmp_path.glob("moda-web-*")) == []
