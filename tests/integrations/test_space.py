"""The folder for a Space: its page answers by the Space's name, its card and pins are ours."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace

import httpx
import pytest
import yaml

from moda.pipeline import TalkingHead
from moda.version import __version__
from moda.web.text import TextSpeaker
from paths import ROOT, load_file

pytest.importorskip("gradio", reason="the extra web is not installed")

from web_serving import served

SPACE = ROOT / "integrations" / "space"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def test_it_answers_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    app = load_file(SPACE / "app.py")
    monkeypatch.setenv("SPACE_HOST", "somebody-moda.hf.space")
    settings = replace(app.settings(port=0), host="127.0.0.1")
    assert settings.behind_proxy
    assert app.settings().port == 7860
    head = TalkingHead.from_pretrained("moda-tiny", device="cpu")
    with served(head, TextSpeaker("there is no voice"), settings) as page:
        for name, status in (("somebody-moda.hf.space", 200), ("elsewhere.example.org", 421)):
            answer = httpx.get(page.url, headers={"host": name, "x-forwarded-for": "203.0.113.7"})
            assert answer.status_code == status, name


def test_requirements_are_this_package() -> None:
    (line,) = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = re.fullmatch(r"moda-talking-head\[([\w,]+)\]==(\S+)", line)
    assert found
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(found[1].split(",")) <= set(project["optional-dependencies"])
    assert found[2] == __version__


def test_card() -> None:
    card = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (SPACE / card["app_file"]).is_file()
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"gradio=={card['sdk_version']}\n" in pins
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = f"Programming Language :: Python :: {card['python_version']}"
    assert wanted in project["classifiers"]
    assert len(card["short_description"]) <= 60
    assert card["sdk"] == "gradio"
    assert card["license"] == "apache-2.0"
