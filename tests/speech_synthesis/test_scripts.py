"""Names in another script are read in a language of that script."""

# ruff: noqa: RUF001 - wide letters look like Latin ones

from __future__ import annotations

import pytest

from moda.errors import InputError
from moda.speech_synthesis.scripts import check_scripts, script_runs


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("Hello, 2 worlds!", "en-us", [("Hello, 2 worlds!", "en-us")]),
        (
            "Say Привет, then 你好。",
            "en-us",
            [("Say ", "en-us"), ("Привет, ", "ru"), ("then ", "en-us"), ("你好。", "cmn")],
        ),
        ("Мы пишем Python", "ru", [("Мы пишем ", "ru"), ("Python", "en-us")]),
        ("Добрий день", "uk", [("Добрий день", "uk")]),
        ("今日はテスト", "ja", [("今日はテスト", "ja")]),
        ("한국어 text", "de", [("한국어 ", "ko"), ("text", "de")]),
        ("123 नमस्ते", "en", [("123 नमस्ते", "hi")]),
        ("12 + 30", "fr-fr", [("12 + 30", "fr-fr")]),
    ],
)
def test_runs(text: str, language: str, expected: list[tuple[str, str]]) -> None:
    runs = script_runs(text, language)
    assert [tuple(run) for run in runs] == expected
    assert "".join(run.text for run in runs) == text


@pytest.mark.parametrize(
    ("text", "script"), [("Say ភាសា", "Khmer"), ("བོད", "Tibetan"), ("ᏣᎳᎩ", "Cherokee")]
)
def test_letters_that_no_voice_reads_are_named(text: str, script: str) -> None:
    with pytest.raises(InputError, match=f"letter of the {script} script, .*--tts-command"):
        check_scripts(text, "en-us")


@pytest.mark.parametrize(
    "text", ["naïve café 3², 5 µm, 1ª", "สวัสดี", "ＡＢＣ ｶﾅ", "ไทย සිංහල ଓଡ଼ିଆ አማርኛ", "a\u0301 ß ﬁ"]
)
def test_letters_that_are_read_are_not(text: str) -> None:
    check_scripts(text, "en-us")
