"""Colours and type of the pages, by day and by night: warm paper and red chalk."""

from __future__ import annotations

DAY = {
    "back": "#f6f1e8",
    "card": "#fffdf9",
    "raised": "#efe8dc",
    "touched": "#e4dac9",
    "field": "#fffdf9",
    "ink": "#241d16",
    "soft": "#63574a",
    "line": "#d8ccb9",
    "edge": "#8d7f6c",
    "accent": "#a63a1c",
    "accent-touched": "#8a2e14",
    "on-accent": "#fffaf4",
    "glow": "#f5ddd2",
    "tick": "#a63a1c",
    "good": "#1c7c46",
    "wrong": "#8a1c13",
    "wrong-back": "#fdeeea",
}
NIGHT = {
    "back": "#17130f",
    "card": "#211b16",
    "raised": "#352c23",
    "touched": "#43382d",
    "field": "#1b1612",
    "ink": "#f1e8db",
    "soft": "#b9ac9a",
    "line": "#43392e",
    "edge": "#8d7f6c",
    "accent": "#ef8d67",
    "accent-touched": "#f6a484",
    "on-accent": "#24100a",
    "glow": "#48281b",
    "tick": "#b4532f",
    "good": "#5fc48a",
    "wrong": "#fecaca",
    "wrong-back": "#450f0a",
}
TITLE = '"Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif'
"""Type of headings; all else is in the type of the reader's system, and nothing is loaded."""


def style_sheet() -> str:
    """The palette as CSS variables; the reader's system chooses between day and night."""
    return (
        f":root {{ color-scheme: light dark; --title: {TITLE};{_variables(DAY)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{{_variables(NIGHT)} }} }}\n"
    )


def _variables(colours: dict[str, str]) -> str:
    return "".join(f" --{name}: {colour};" for name, colour in colours.items())
