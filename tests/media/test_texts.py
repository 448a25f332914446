"""Text files of several editors, and what is said in subtitles."""

from __future__ import annotations

import pytest

from moda.errors import InputError
from moda.media.texts import decode_text, spoken_part

TEXT = "Größe: ünïcode, 你好."


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]
)
def test_text_is_read_as_its_mark_says(encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith(("le", "be")) else ""
    data = (mark + TEXT + "\r\nSecond line\rthird").encode(encoding)
    assert decode_text(data, "text a.txt") == TEXT + "\nSecond line\nthird"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("Größe".encode("latin-1"), r"text a.txt is not UTF-8 \(byte 3\); save it as UTF-8"),
        ("Hello".encode("utf-16-le"), "holds zero bytes"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8"),
        ("Hello".encode("utf-16") + b"\x00", "is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        decode_text(data, "text a.txt")
    assert "codec" not in str(caught.value)


@pytest.mark.parametrize(
    "subtitles",
    [
        "1\n00:00:00,000 --> 00:00:01,200\nHello there,\n\n"
        "2\n00:00:01,200 --> 00:00:02,400\n<i>how are</i>\nyou today?\n",
        "\n\n1\n0:00:00,000 --> 0:00:01,200 X1:5\n{\\an8}Hello there,\n  \n"
        "2\n0:00:01,200 --> 0:00:02,400\nhow are you today?",
        "WEBVTT - a film\nKind: captions\n\nNOTE\nnot said\n\nSTYLE\n::cue {}\n\n"
        "intro\n00:00.000 --> 00:01.200 align:start\n<v Anna>Hello there,</v>\n\n"
        "00:01.200 --> 00:02.400\nhow are you today?\n",
    ],
)
def test_only_what_is_said_is_left_of_subtitles(subtitles: str) -> None:
    assert spoken_part(subtitles) == "Hello there, how are you today?"


@pytest.mark.parametrize(
    "text", ["One.\n\nTwo --> three.", "1\n2\n3", "At 10:30 --> 11:00 we meet.", ""]
)
def test_other_text_stays(text: str) -> None:
    assert spoken_part(text) == text


def test_a_number_that_is_said_stays() -> None:
    text = "7\n00:00:00,000 --> 00:00:01,000\n42\nis the answer\n"
    assert spoken_part(text) == "42 is the answer"
