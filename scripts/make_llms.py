"""Make docs/llms.txt, the list of the documentation for language models, from mkdocs.yml.

    python scripts/make_llms.py

Each page of the navigation has a line with its first sentence. The site has the pages' sources
beside the pages, so that the links lead to Markdown there too; see ``scripts/docs_site.py``.
The format is that of https://llmstxt.org.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGE = DOCS / "llms.txt"
SUMMARY = (
    "MoDA makes a talking-head video of one portrait and one speech recording, on an ordinary "
    "CPU, offline. Install the package moda-talking-head (Python 3.11 to 3.14); the models are in "
    "it. Command: moda generate portrait.jpg speech.wav -o talk.mp4. Python: "
    'moda.TalkingHead.from_pretrained("moda-tiny").generate("portrait.jpg", "speech.wav")'
    '.write("talk.mp4").'
)


class Settings(yaml.SafeLoader):
    """mkdocs.yml, whose tags of Python are not needed here."""


Settings.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def text() -> str:
    """The list."""
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Settings)
    lines = [f"# {settings['site_name']}", "", f"> {SUMMARY}", "", "## Start", ""]
    sections = []
    for entry in settings["nav"]:
        ((title, what),) = entry.items()
        if isinstance(what, list):
            sections += ["", f"## {title}", "", *(line(one) for one in what)]
        else:
            lines.append(line(entry))
    return "\n".join([*lines, *sections]) + "\n"


def line(entry: dict[str, Any]) -> str:
    """One page: title, link, first sentence."""
    ((title, name),) = entry.items()
    said = first_sentence((DOCS / name).read_text(encoding="utf-8"))
    return f"- [{title}]({name})" + (f": {said}" if said else "")


def first_sentence(page: str) -> str:
    """The first sentence of the first paragraph of words, without links; empty without one."""
    page = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    for part in page.split("\n\n"):
        words = " ".join(part.split())
        if re.match(r"[A-Z`*]", words) and not words.startswith(":::"):
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", words)
            found = re.match(r".*?(?<! [A-Z])[.:](?= [A-Z`]|$)", plain)
            return (found[0] if found else plain).rstrip(":.") + "."
    return ""


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
