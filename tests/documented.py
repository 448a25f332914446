"""What the documents of the repository type: commands, Python, links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paths import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "integrations/**/*.md")
    for path in ROOT.glob(pattern)
    if not {".venv", "node_modules"} & set(path.relative_to(ROOT).parts)
)
FENCE = re.compile(r"^([ ]*)```([\w-]*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(<?([^)>\s]+)>?(?:\s\"[^\"]*\")?\)(?:\{[^}]*\})?")


class Command(NamedTuple):
    """One command of a fenced block."""

    line: str
    words: tuple[str, ...]
    """Program and arguments, without variables in front and redirections."""
    folder: Path
    """Where it is typed: the repository, or what ``cd`` in the same block has changed to."""


def name_of(page: Path) -> str:
    """The page below the repository."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language; ``""`` are commands of a shell."""
    return [body for _, found, body in FENCE.findall(text_of(page)) if found == language]


def commands(page: Path) -> Iterator[Command]:
    """All that a page types into a shell."""
    for body in blocks(page, ""):
        folder = page.parent if "integrations" in page.parts else ROOT
        for line in re.sub(r"\\\n\s*", " ", body).splitlines():
            words = shlex.split(line, comments=True)
            for part in split(words):
                while part and re.match(r"[A-Z_]+=", part[0]):
                    part = part[1:]
                if not part:
                    continue
                if part[0] == "cd" and (ROOT / part[1]).is_dir():
                    folder = ROOT / part[1]
                elif part[0] != "cd":
                    yield Command(line, tuple(part), folder)


def split(words: list[str]) -> list[list[str]]:
    """One list for each command between ``&&`` and ``|``."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "|"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """What links to headings of a page may name."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        name = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
        times = found.get(name, 0)
        found[name] = times + 1
        names.add(f"{name}-{times}" if times else name)
    return names
