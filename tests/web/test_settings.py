from __future__ import annotations

from pathlib import Path

import pytest

from moda.errors import InputError
from moda.web import words
from moda.web.job import JobView
from moda.web.settings import WebSettings, parse_login, read_login


class TestSettings:
    def test_only_this_computer_unless_asked(self) -> None:
        assert not WebSettings().is_public
        assert not WebSettings().share
        assert WebSettings(host="0.0.0.0").is_public
        assert WebSettings(share=True).is_public

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"port": 70_000}, "port 70000 is outside 0..65535"),
            ({"max_upload_mib": 0}, "uploads in MiB 0 is outside"),
            ({"max_seconds": 0.5}, "length in s 0.5 is outside"),
            ({"max_waiting": 0}, "people who wait 0 is outside"),
        ],
    )
    def test_limits(self, options: dict[str, float], says: str) -> None:
        with pytest.raises(InputError, match=says):
            WebSettings(**options)  # type: ignore[arg-type]

    def test_logins(self, tmp_path: Path) -> None:
        path = tmp_path / "login"
        path.write_text("ada:a:b c\n", encoding="utf-8")
        assert read_login(path) == ("ada", "a:b c")
        path.write_text("ada:a:b c\n", encoding="utf-8-sig")
        assert read_login(path) == ("ada", "a:b c")

    @pytest.mark.parametrize("text", ["", "ada", "ada:", ":secret"])
    def test_incomplete_logins_are_not_repeated(self, text: str) -> None:
        with pytest.raises(InputError, match="like user:password") as caught:
            parse_login(text, "the file")
        assert "secret" not in str(caught.value)

    def test_unreadable_login_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read"):
            read_login(tmp_path / "none")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="not UTF-8"):
            read_login(tmp_path / "binary")


class TestWords:
    @pytest.mark.parametrize(
        ("seconds", "spoken"), [(0.2, "0 s"), (59.6, "1 min"), (90, "1 min 30 s"), (300, "5 min")]
    )
    def test_seconds(self, seconds: float, spoken: str) -> None:
        assert words.spoken_seconds(seconds) == spoken

    @pytest.mark.parametrize(
        "name",
        [
            "me.jpg",
            "zero.jpg",
            "\u00fcbung  eins.jpg",
            "\u043c\u0430\u043c\u0430.png",
            "i" * 180 + ".gif",
            "\u00df (1).wav",
        ],
    )
    def test_names_of_uploads_keep_their_letters(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        said = words.for_readers(f"{path} is damaged (bad\nmarker)", path)
        assert said == f"{name} is damaged (bad marker)"
        assert words.for_readers(f"there is no face in {path}", path).startswith("There is no")
        assert name in words.for_readers(f"there is no face in {path}", path)

    def test_options_are_called_as_on_the_page(self) -> None:
        said = words.for_readers("use shorter speech, or --loop; choose another with --steps")
        assert said == "Use shorter speech, or 'Loop'; choose another with 'Number of steps'"

    def test_status_says_how_far_and_how_long(self) -> None:
        view = JobView("rendering", 50, 200, 61.2, (), None, None)
        line = words.status(view)
        assert "50 of 200 frames, 1 min 2 s left" in line
        assert 'aria-valuenow="25"' in line

    def test_errors_cannot_bring_markup(self) -> None:
        line = words.status(None, error="<script>alert(1)</script> is not a picture")
        assert "<script>" not in line
        assert 'role="alert"' in line

    def test_where_pictures_go_is_said_as_it_is(self) -> None:
        assert "stays on this computer" in words.introduction(WebSettings())
        assert "stays on this computer" not in words.introduction(WebSettings(share=True))
