"""What the documentation site needs besides its pages: hooks that mkdocs calls.

The page of the command line is made from the commands themselves. Links that leave ``docs/`` for a
file of the repository are checked and shown as names, because the site does not have those files.
References in docstrings, written for other tools, are shown as code. The sources of the pages are
beside them, for ``llms.txt``.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
COMMAND_LINE_PAGE = "reference/command-line.md"
PYTHON_PAGE = "reference/python.md"
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):<code>~?([^<]+)</code>")

log = logging.getLogger("mkdocs.hooks.docs_site")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links to files of the repository by their names; warn of those that lead nowhere."""
    folder = Path(config.docs_dir) / Path(page.file.src_uri).parent

    def repository_file(match: re.Match[str]) -> str:
        words, target = match[1], match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (folder / target).resolve()
        if path.is_relative_to(config.docs_dir):
            return match[0]
        if not path.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, target)
        name = path.relative_to(ROOT).as_posix()
        return f"`{name}`" if words in (name, path.name) else f"{words} (`{name}`)"

    if page.file.src_uri == COMMAND_LINE_PAGE:
        # Of the file itself only what is true on the site too: its title and last paragraph.
        title, *_, last = markdown.strip().split("\n\n")
        return f"{title}\n\n{last}\n{command_line()}"
    if page.file.src_uri == PYTHON_PAGE:
        markdown += f"\n## Options of a video\n\n{video_options()}"
    return LINK.sub(repository_file, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show references such as ``:class:`moda.TalkingHead``` as code."""
    return ROLE.sub(r"<code>\1</code>", html)


def on_post_build(config: MkDocsConfig) -> None:
    """Put the sources of the pages beside them."""
    docs, site = Path(config.docs_dir), Path(config.site_dir)
    for page in docs.rglob("*.md"):
        target = site / page.relative_to(docs)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)


def command_line() -> str:
    """Every command with its arguments and options, in Markdown."""
    from typer.main import get_command

    from moda.cli import app

    lines: list[str] = []
    for name, command in commands(get_command(app), "moda"):
        lines += ["", f"## {name}", "", plain(command.help or ""), ""]
        lines += ["```", " ".join([name, *arguments_of(command)]), "```"]
        rows = [row for parameter in command.params for row in rows_of(parameter)]
        if rows:
            lines += ["", "| option | meaning |", "| --- | --- |", *rows]
        if command.epilog:
            lines += ["", f"{plain(command.epilog)}"]
    return "\n".join(lines) + "\n"


def video_options() -> str:
    """The options of :meth:`moda.TalkingHead.generate`, and where else they are, in Markdown."""
    from moda.options import OPTIONS, for_visitors, of_head

    lines = [
        "Keywords of `TalkingHead.generate` and the same options elsewhere. Columns of tables are "
        "the options of the command line without dashes in front.",
        "",
        "| keyword | command line | page and server | meaning | default |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in of_head():
        known = OPTIONS[name]
        visitors = "yes" if name in for_visitors() else ""
        default = known.option.usual or ("" if known.default in (None, ()) else str(known.default))
        lines.append(
            f"| `{name}` | `{known.flag}` | {visitors} | {plain(known.help)} | {default} |"
        )
    return "\n".join(lines) + "\n"


def commands(command: Any, name: str) -> list[tuple[str, Any]]:
    """All commands below one, with their full names; groups themselves are left out."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    inner = {key: command.load(key) for key in command.commands}
    return [pair for key, one in inner.items() for pair in commands(one, f"{name} {key}")]


def arguments_of(command: Any) -> list[str]:
    """``PORTRAIT SPEECH [options]``: the options themselves are in the table."""
    names = [
        parameter.metavar or str(parameter.name).upper()
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    return [*names, "[options]"] if len(names) < len(command.params) else names


def rows_of(parameter: Any) -> list[str]:
    """One row of the table of options."""
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        names += f" `{parameter.metavar}`" if parameter.metavar else ""
    default = parameter.show_default if isinstance(parameter.show_default, str) else None
    if default is None and isinstance(parameter.default, int | float | str | Path):
        default = None if isinstance(parameter.default, bool) else str(parameter.default)
    told = f" Default: {default}." if default and "Default" not in (parameter.help or "") else ""
    return [f"| {names} | {plain(parameter.help or '')}{told} |"]


def plain(text: str) -> str:
    """One paragraph that a table and Markdown leave as it is."""
    line = " ".join(text.split())
    return line.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
