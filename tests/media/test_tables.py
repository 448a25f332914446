"""Tables of several spreadsheets."""

from __future__ import annotations

import pytest

from moda.errors import InputError
from moda.media.tables import TableRow, columns_of, table_rows


def rows_of(text: str) -> list[TableRow]:
    return table_rows(text, "table a.csv", max_rows=3)


@pytest.mark.parametrize(
    "text",
    [
        "Name,Text\na,One\nb,\n",
        "\n\nName;Text;;\n\na;One;;\n;;;\nb\n",
        "sep=;\nName;Text\na;One\nb;\n",
        "sep=\t\nName\tText\na\tOne\nb\n",
        '"Name";"Text"\n"a";" One"\n"b";""\n',
        ",,\nName,Text,\na,One,,,\nb,,\n",
    ],
)
def test_the_same_rows_of_every_spreadsheet(text: str) -> None:
    lines = [row.line for row in rows_of(text)]
    assert [row.cells for row in rows_of(text)] == [{"Name": "a", "Text": "One"}, {"Name": "b"}]
    assert [text.split("\n")[line - 1].strip('"')[0] for line in lines] == ["a", "b"]


def test_the_heading() -> None:
    assert columns_of("\nBegin;END; Label \n0;1;p\n") == ["begin", "end", "label"]
    assert columns_of('"Begin"\t"End"\n') == ["begin", "end"]
    assert columns_of("") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "table a.csv has no rows"),
        ("sep=;\n", "has no rows"),
        ("Name,Text\n,,\n", "has no rows"),
        ("Name,Text,name\na,b,c\n", "several columns 'name'; keep one"),
        ("Name,Text\na,Hello, Bob\n", "line 2: there are more values than columns; put texts in"),
        ('Name;Text\na;"open\n', r"after line 1: .* or ';' in double quotes"),
        ("Name,Text\n" + "a" * 140_000 + ",b\n", "field larger than field limit"),
        ("Name\n" + "a\n" * 4, "more rows than the limit of 3; split it"),
    ],
)
def test_what_is_no_table_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        rows_of(text)
