"""What the person who starts the page decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from moda.doors.names import LOOPBACK_HOSTS
from moda.errors import InputError
from moda.media.texts import read_text_file
from moda.options.description import Option, check_limits

LOGIN_VARIABLE = "MODA_WEB_LOGIN"
"""Environment variable with ``user:password``."""
MAX_LOGIN_BYTES = 4096


@dataclass(frozen=True)
class WebSettings:
    """How the page is served. Raises :class:`InputError` for values outside the limits."""

    login: tuple[str, str] | None = None
    """Name and password that are asked for."""
    # fmt: off
    host: Annotated[str, Option(
        "Address to serve at; 0.0.0.0 lets other machines in.")] = "127.0.0.1"
    port: Annotated[int, Option("Port; 0 takes the first free one from 7860 on.", 0, 65_535)] = 7860
    share: Annotated[bool, Option(
        "A public address too, through Gradio's servers.", flag="--share")] = False
    max_upload_mib: Annotated[int, Option(
        "Largest file, in MiB.", 1, 4_096, name="max_upload",
        label="limit of uploads in MiB")] = 50
    max_seconds: Annotated[float, Option(
        "Longest video, in seconds.", 1, 4 * 3600, label="limit of the length in s")] = 300.0
    max_waiting: Annotated[int, Option(
        "People who may wait for their turn.", 1, 1000, label="number of people who wait")] = 8
    behind_proxy: Annotated[bool, Option(
        "All visitors come through a proxy, whose X-Forwarded-For is believed.",
        flag="--behind-proxy")] = False
    open_browser: Annotated[bool, Option("Open it in a browser.", flag="--open")] = False
    # fmt: on
    allowed_origins: tuple[str, ...] = ()
    """Other names of the page, and pages that may use it, as ``https://host``."""

    def __post_init__(self) -> None:
        check_limits(self, WebSettings)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the page."""
        return self.share or self.host not in LOOPBACK_HOSTS


def parse_login(text: str, source: str) -> tuple[str, str]:
    """``user:password``, as it stands in a file or a variable called ``source``.

    Raises:
        InputError: A part is missing; the message does not repeat the password.
    """
    user, colon, password = text.strip().partition(":")
    if not (user and colon and password):
        raise InputError(f"{source} holds no login; write it like user:password")
    return user, password


def read_login(path: Path) -> tuple[str, str]:
    """The login in a text file of one line.

    Raises:
        InputError: The file cannot be read or holds something else.
    """
    return parse_login(read_text_file(path, f"login file {path}", MAX_LOGIN_BYTES), str(path))
