"""Text of whatever editor wrote it: its letters, and what is said in subtitles."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from moda.errors import InputError
from moda.files import read_limited

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, the longer one first where one begins like another."""
_TIME = r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}"
_TIMING = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}.*$")
_TAG = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}")
_BLOCKS_WITHOUT_SPEECH = ("WEBVTT", "NOTE", "STYLE", "REGION")


def decode_text(data: bytes, name: str) -> str:
    """The letters of a text file, in UTF-8, or in UTF-16 or UTF-32 as their marks say.

    Args:
        data: the whole file.
        name: of the file, for errors.

    Raises:
        InputError: It is none of these, or no text.
    """
    encoding = next((known for mark, known in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} is not UTF-8 (byte {error.start + 1}); save it as UTF-8 text"
        ) from None
    if "\0" in text:
        raise InputError(f"{name} holds zero bytes, so it is no UTF-8 text; save it as UTF-8 text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text_file(path: Path, name: str, max_bytes: int) -> str:
    """The letters of a small file, as :func:`decode_text` reads them; ``name`` is for errors.

    Raises:
        InputError: It cannot be read, is too large, or is no text.
    """
    try:
        data = read_limited(path, max_bytes)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{name} cannot be read: {reason}; give a text file") from None
    return decode_text(data, name)


def spoken_part(text: str) -> str:
    """What is said in subtitles (SRT or WebVTT), without numbers, times and markup.

    Any other text stays as it is. Subtitles have a line of times, ``0:01.0 --> 0:02.5``.
    """
    lines = text.split("\n")
    if not any(_TIMING.match(line) for line in lines):
        return text
    said = []
    for block in re.split(r"\n[ \t]*\n", text.strip("\n\ufeff ")):
        rows = block.split("\n")
        times = [index for index, row in enumerate(rows) if _TIMING.match(row)]
        if not times and rows[0].split(" ")[0] in _BLOCKS_WITHOUT_SPEECH:
            continue
        following = rows[times[0] + 1 :] if times else rows
        said += [_TAG.sub("", row).strip() for row in following if not _TIMING.match(row)]
    return " ".join(row for row in said if row)
