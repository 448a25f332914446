"""Phones with their times from files of aligners and editors."""

# ruff: noqa: RUF001 - IPA letters look like Latin ones

from __future__ import annotations

from pathlib import Path

import pytest

from moda.errors import InputError
from moda.media.phone_times import read_phone_times
from moda.phones import Phone, PhoneSegment


def phone_file(folder: Path, text: str) -> Path:
    path = folder / "phones.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_arpabet_times_are_read(tmp_path: Path) -> None:
    lines = (
        "# a comment, and an empty line",
        "",
        "0.0\t0.25\tsil",
        "  0.25   0.31  P ",
        "0.31 0.5 AY1",
        "  # another comment",
        "0.498 0.6 hh",
        "0.7 0.7 t",
        "1e0 2 pau",
    )
    segments = read_phone_times(phone_file(tmp_path, "\ufeff" + "\r\n".join(lines)))
    assert segments == (
        PhoneSegment("sil", 0.0, 0.25, (Phone.SILENCE,)),
        PhoneSegment("P", 0.25, 0.31, (Phone.BILABIAL,)),
        PhoneSegment("AY1", 0.31, 0.5, (Phone.A, Phone.I)),
        PhoneSegment("hh", 0.498, 0.6, (Phone.GLOTTAL,)),
        PhoneSegment("t", 0.7, 0.7, (Phone.ALVEOLAR,)),
        PhoneSegment("pau", 1.0, 2.0, (Phone.SILENCE,)),
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("heading", [True, False])
def test_tables_of_spreadsheets_are_read(
    tmp_path: Path, separator: str, encoding: str, heading: bool
) -> None:
    rows = [["0.0", "0.25", "HH"], ["0.25", "0.5", "AH0"]]
    if heading:
        of_words = ["0.0", "0.5", "hello", "Words"]
        rows = [["BEGIN", "End", "label", "Type"], of_words, [""] * 4, *rows]
    path = tmp_path / "phones.csv"
    path.write_bytes("\r\n".join(map(separator.join, rows)).encode(encoding))
    assert [segment.symbol for segment in read_phone_times(path)] == ["HH", "AH0"]


def test_ipa_times_are_read(tmp_path: Path) -> None:
    text = "0 0.1 sp\n0.1 0.2 tʃ\n0.2 0.3 aɪ\n0.3 0.4 y\n0.4 0.5 ch\n"
    segments = read_phone_times(str(phone_file(tmp_path, text)))
    assert [segment.phones for segment in segments] == [
        (Phone.SILENCE,),
        (Phone.POSTALVEOLAR,),
        (Phone.A, Phone.I),
        (Phone.ROUNDED,),  # in ARPAbet it would be an I
        (Phone.VELAR, Phone.GLOTTAL),
    ]


@pytest.mark.parametrize("symbol", ["sil", "SIL", "sp", "spn", "SPN", "-", "_", "pau"])
@pytest.mark.parametrize("other", ["AH0", "ʌ"])
def test_silence_fits_both_alphabets(tmp_path: Path, symbol: str, other: str) -> None:
    silence, vowel = read_phone_times(phone_file(tmp_path, f"0 1 {symbol}\n1 2 {other}\n"))
    assert silence.phones == (Phone.SILENCE,)
    assert vowel.phones == (Phone.A,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 0.1 p\n0.1 0.2\n", "line 2: expected start, end and one symbol, got '0.1 0.2'"),
        ("# times\n\n0 soon p\n", "line 3: expected .* got '0 soon p'"),
        ("0 0.1 p b\n", "line 1: expected .* got '0 0.1 p b'"),
        ("p\n", "line 1: expected .* got 'p'"),
        ("0 0.1 p\n0.05 0.2 b\n", "line 2: 0.05 to 0.2 s does not follow on 0.095 s"),
        ("0.2 0.1 p\n", "line 1: 0.2 to 0.1 s"),
        ("-0.1 0.1 p\n", "line 1: -0.1 to 0.1 s does not follow on 0 s"),
        ("0 nan p\n", "line 1: 0 to nan s"),
        ("0 inf p\n", "line 1: 0 to inf s"),
        ("0 0.1 ʌ\n0.1 0.2 ʘ\n", "line 2: 'ʘ' is .*IPA"),
        ("0 0.1 AH0\n0.1 0.2 B\n0.2 0.3 QQ\n", "line 3: 'QQ' is .*ARPAbet"),
        ("0 0.1 ʌ\n0.1 0.2 B\n0.2 0.3 ʃ\n", "line 2: 'B' is .*IPA"),
        ("Begin,End,Label\n0,1,p\n0,1," + "p" * 140_000, "field larger than"),
        ("Begin,End,Label\n0,1,p\n0,,p\n", "line 3: expected start, end"),
        ("", "holds no phones"),
        ("# only a comment\n\n", "holds no phones"),
    ],
)
def test_what_is_wrong_with_phone_times_is_said(tmp_path: Path, text: str, says: str) -> None:
    path = phone_file(tmp_path, text)
    with pytest.raises(InputError, match=says) as caught:
        read_phone_times(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_phone_times_that_cannot_be_read(tmp_path: Path) -> None:
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"0 1 p\n\xc3\x28")
    for path in (tmp_path / "missing.txt", tmp_path, binary):
        with pytest.raises(InputError, match=r"cannot be read|is not UTF-8") as caught:
            read_phone_times(path)
        assert str(path) in str(caught.value)


LONG_GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = "say ""pa"" 3 times"
    item [2]:
        class = "TextTier"
        name = "bells"
        xmin = 0
        xmax = 1.5
        points: size = 1
        points [1]:
            number = 0.7
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "{tier}"
        xmin = 0
        xmax = 1.5
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = ""
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = "{closing}"
        intervals [3]:
            xmin = 0.75
            xmax = 1.5
            text = "{vowel}"
"""
SHORT_GRID = """"ooTextFile"
"TextGrid"

0
1.5
<exists>
1
"IntervalTier"
"anything"
0
1.5
3
0
0.5
""
0.5
0.75
"P"
0.75
1.5
"AA1"
"""
MFA_TABLE = """Begin,End,Label,Type,Speaker
0.0,1.5,"pa, pa",words,anna
0.0,0.5,,phones,anna
0.5,0.75,P,phones,anna
0.75,1.5,AA1,phones,anna
"""
LINES = "0 0.5 sil\n0.5 0.75 P\n0.75 1.5 AA1\n"


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        MFA_TABLE,
        MFA_TABLE.replace("Begin", "begin").replace("\n", "\r\n"),
        SHORT_GRID,
        LONG_GRID.format(tier="phones", closing="P", vowel="AA1"),
        LONG_GRID.format(tier="anna - Phones", closing="pʰ", vowel="ɑː"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_phones_in_every_form(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "phones"
    path.write_bytes(text.encode(encoding))
    found = [(s.start_seconds, s.end_seconds, s.phones) for s in read_phone_times(path)]
    assert found == [
        (0.0, 0.5, (Phone.SILENCE,)),
        (0.5, 0.75, (Phone.BILABIAL,)),
        (0.75, 1.5, (Phone.A,)),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LONG_GRID.format(tier="marks", closing="P", vowel="AA1"), "no tier of phones.*'marks'"),
        (LONG_GRID.replace("words", "phone").format(tier="phones", closing="P", vowel="AA1"),
         "several tiers"),
        (SHORT_GRID[:-20], "damaged or cut off"),
        (SHORT_GRID.replace("TextGrid", "Sound"), "is a Praat Sound"),
        (SHORT_GRID.replace("0.75\n1.5", "0.6\n1.5"), "interval 3: 0.6 to 1.5 s"),
        (SHORT_GRID.replace("AA1", "QQ"), "interval 3: 'QQ' is no symbol of ARPAbet"),
        (MFA_TABLE.replace("0.75,1.5", "soon,1.5"), "line 5: expected start.* got 'soon 1.5 AA1'"),
        ("Begin,End,Label\n", "has no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_grid_or_a_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_phone_times(phone_file(tmp_path, text))
    assert "\n" not in str(caught.value)
