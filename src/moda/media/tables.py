"""Tables of whatever spreadsheet wrote them: the one reader of all tables that users give."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import NamedTuple

from moda.errors import InputError

SEPARATORS = (",", ";", "\t")
"""What parts columns: the one that the heading has most of. Spreadsheets write all three."""
MAX_TABLE_BYTES = 64 * 2**20
_TOLD = re.compile(r"sep=([,;\t])")
"""A first line by which spreadsheets say the separator."""


class TableRow(NamedTuple):
    """A row that holds anything."""

    line: int
    """On which it ends; the first line is 1."""
    cells: dict[str, str]
    """By column, without the empty ones and the space around them."""


def columns_of(text: str) -> list[str]:
    """The heading of a table, in small letters; of any other text, what it would be."""
    first = text.lstrip("\n").partition("\n")[0]
    parts = csv.reader([first], delimiter=_separator(first))
    return [name.strip().lower() for name in next(parts, [])]


def table_rows(text: str, name: str, *, max_rows: int) -> list[TableRow]:
    """Rows of a table with a heading; commas, semicolons or tabs part the columns.

    Args:
        text: Of the whole table, with line feeds alone.
        name: Of the table, for errors.
        max_rows: How many rows it may have.

    Raises:
        InputError: It is no table, a column is named twice, a row has more values than there are
            columns, or there are no rows or too many.
    """
    first = text.lstrip("\n").partition("\n")[0]
    told = _TOLD.fullmatch(first.strip(" "))
    separator = told.group(1) if told else _separator(first)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    heading: list[str] = []
    rows: list[TableRow] = []
    line = 0
    try:
        for row in reader:
            values, line = [value.strip() for value in row], reader.line_num
            if not any(values):
                continue
            if told is not None:
                told = None
            elif not heading:
                heading = _checked(values, name)
            elif any(values[len(heading) :]):
                raise InputError(
                    f"{name}, line {line}: there are more values than columns; put texts in quotes"
                )
            elif len(rows) == max_rows:
                raise InputError(f"{name} has more rows than the limit of {max_rows}; split it")
            else:
                named = zip(heading, values, strict=False)
                cells = {column: value for column, value in named if value}
                rows.append(TableRow(line, cells))
    except csv.Error as error:
        raise InputError(
            f"{name}, after line {line}: {error}; put texts with quotes, line breaks or "
            f"{separator!r} in double quotes"
        ) from None
    if not rows:
        raise InputError(f"{name} has no rows; its first line names the columns")
    return rows


def _checked(heading: list[str], name: str) -> list[str]:
    counts = Counter(column.lower() for column in heading if column)
    twice = [column for column, count in counts.items() if count > 1]
    if twice:
        raise InputError(f"{name} has several columns {twice[0]!r}; keep one of them")
    return heading


def _separator(heading: str) -> str:
    return max(SEPARATORS, key=heading.count)
