"""Phones with their times, as aligners and audio editors write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from moda.errors import InputError
from moda.media.tables import columns_of, table_rows
from moda.media.texts import read_text_file
from moda.phones import (
    OVERLAP_SECONDS,
    SILENCE_SYMBOLS,
    Classes,
    Phone,
    PhoneSegment,
    arpabet_phones,
    ipa_phones,
)

MAX_FILE_BYTES, MAX_ROWS = 16 * 2**20, 1_000_000
_BETWEEN = re.compile(r"\s*[\s,;]\s*")
PHONE_TIERS = ("phones", "phone", "phonemes", "phoneme", "segments", "mau")
"""Names, in small letters, of the tier of a TextGrid that holds phones."""
_VALUE = re.compile(
    r'"((?:[^"]|"")*)"|(?<!\S)(<exists>|<absent>)(?!\S)|(?<!\S)([-+]?[\d.]+(?:[eE][-+]?\d+)?)(?!\S)'
)


class TimedSymbol(NamedTuple):
    """What a file says of one phone, not yet understood."""

    place: str
    """Where in the file."""
    start: str
    end: str
    symbol: str


def read_phone_times(path: str | Path) -> tuple[PhoneSegment, ...]:
    """Phones with their times from a file.

    It is a Praat TextGrid with a tier of phones (as the Montreal Forced Aligner writes), a table of
    that aligner (``Begin,End,Label,Type,Speaker``), or lines of start and end in seconds and a
    symbol, separated by tabs, spaces, commas or semicolons; empty lines and lines that begin with
    ``#`` are passed over. Symbols are ARPAbet (``AH0``, ``p``) or IPA; none, ``sil``, ``sp``,
    ``spn`` and ``-`` mean silence. The alphabet is the one that knows more of the symbols.

    Raises:
        InputError: The file cannot be read, is of another form, times run backwards, or a symbol is
            not of the file's alphabet.
    """
    name = f"phone times {path}"
    text = read_text_file(Path(path), name, MAX_FILE_BYTES)
    if text.lstrip().startswith('File type = "oo') or text.lstrip().startswith('"ooTextFile'):
        symbols = list(_of_text_grid(text, name))
    elif {"begin", "end", "label"} <= set(columns_of(text)):
        symbols = list(_of_table(text, name))
    else:
        symbols = list(_of_lines(text, name))
    return _understood(symbols, name)


def _of_lines(text: str, name: str) -> Iterator[TimedSymbol]:
    for number, line in enumerate(text.splitlines(), start=1):
        parts = _BETWEEN.split(line.strip())
        if parts[0].startswith("#") or parts == [""]:
            continue
        place = f"{name}, line {number}"
        if len(parts) != 3:
            raise InputError(
                f"{place}: expected start, end and one symbol, got {' '.join(parts)!r}"
            )
        yield TimedSymbol(place, *parts)


def _of_table(text: str, name: str) -> Iterator[TimedSymbol]:
    """Rows of the Montreal Forced Aligner's CSV; those of words are left out."""
    for line, cells in table_rows(text, name, max_rows=MAX_ROWS):
        row = {column.lower(): value for column, value in cells.items()}
        if row.get("type", "phones").lower() in ("phones", "phone"):
            values = (row.get(column, "") for column in ("begin", "end", "label"))
            yield TimedSymbol(f"{name}, line {line}", *values)


def _of_text_grid(text: str, name: str) -> Iterator[TimedSymbol]:
    """The tier of phones in a Praat TextGrid, long or short.

    Source: Praat's manual, "TextGrid file formats": only texts in quotes, free-standing numbers and
    flags count; all else is comment.
    """
    tiers = dict(_interval_tiers(text, name))
    wanted = [tier for tier in tiers if tier.split(" - ")[-1].strip().lower() in PHONE_TIERS]
    if not wanted and len(tiers) == 1:
        wanted = list(tiers)
    if len(wanted) != 1:
        problem = "several tiers" if wanted else "no tier"
        raise InputError(
            f"{name} has {problem} of phones; its interval tiers are "
            f"{', '.join(map(repr, tiers)) or 'none'}; keep one tier named 'phones'"
        )
    yield from tiers[wanted[0]]


def _interval_tiers(text: str, name: str) -> Iterator[tuple[str, list[TimedSymbol]]]:
    values = (match.group(0) for match in _VALUE.finditer(text))
    try:
        kind, what, *_ = (next(values).strip('"') for _ in range(4))
        if (kind, what) != ("ooTextFile", "TextGrid"):
            raise InputError(f"{name} is a Praat {what}; save the TextGrid")
        num_tiers = int(next(values)) if next(values) == "<exists>" else 0
        for _ in range(num_tiers):
            tier_class, tier = next(values).strip('"'), _unquoted(next(values))
            next(values), next(values)
            count = int(next(values))
            if tier_class != "IntervalTier":
                for _ in range(2 * count):
                    next(values)
                continue
            place = f"{name}, tier {tier!r}, interval"
            yield (
                tier,
                [
                    TimedSymbol(
                        f"{place} {number}", next(values), next(values), _unquoted(next(values))
                    )
                    for number in range(1, count + 1)
                ],
            )
    except (StopIteration, RuntimeError, ValueError):
        raise InputError(f"{name} is damaged or cut off; save the TextGrid again") from None


def _unquoted(value: str) -> str:
    return value.removeprefix('"').removesuffix('"').replace('""', '"').strip()


def _understood(symbols: list[TimedSymbol], name: str) -> tuple[PhoneSegment, ...]:
    """Times in order, and symbols of the alphabet that knows more of them."""
    silent = ("", *SILENCE_SYMBOLS)
    spoken = [symbol.symbol for symbol in symbols if symbol.symbol not in silent]
    in_arpabet = sum(bool(arpabet_phones(symbol)) for symbol in spoken)
    is_arpabet = in_arpabet >= sum(bool(ipa_phones(symbol)) for symbol in spoken)
    segments: list[PhoneSegment] = []
    for place, start_text, end_text, symbol in symbols:
        try:
            start, end = float(start_text), float(end_text)
        except ValueError:
            said = " ".join((start_text, end_text, symbol))
            raise InputError(f"{place}: expected start, end and one symbol, got {said!r}") from None
        earliest = segments[-1].end_seconds - OVERLAP_SECONDS if segments else 0.0
        if not earliest <= start <= end < math.inf:
            raise InputError(
                f"{place}: {start:g} to {end:g} s does not follow on {max(earliest, 0.0):g} s; "
                "times must rise"
            )
        phones: Classes = (Phone.SILENCE,)
        if symbol not in silent:
            phones = arpabet_phones(symbol) if is_arpabet else ipa_phones(symbol)
        if not phones:
            alphabet = "ARPAbet" if is_arpabet else "IPA"
            raise InputError(
                f"{place}: {symbol!r} is no symbol of {alphabet}, in which the others are written"
            )
        segments.append(PhoneSegment(symbol or "sil", start, end, phones))
    if not segments:
        raise InputError(f"{name} holds no phones")
    return tuple(segments)
