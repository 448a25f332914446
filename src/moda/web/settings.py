"""What the person who starts the page decides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moda.errors import InputError
from moda.options import require_range

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOGIN_VARIABLE = "MODA_WEB_LOGIN"
"""Environment variable with ``user:password``."""


@dataclass(frozen=True)
class WebSettings:
    """How the page is served. Raises :class:`InputError` for values outside the limits."""

    host: str = "127.0.0.1"
    port: int = 7860
    """0 takes the first free one from 7860 on."""
    login: tuple[str, str] | None = None
    """Name and password that are asked for."""
    share: bool = False
    """A public address through Gradio's servers."""
    max_upload_mib: int = 50
    max_seconds: float = 300.0
    """Longest video that can be made."""
    max_waiting: int = 8
    """People who may wait while another one's video is made."""
    open_browser: bool = False

    def __post_init__(self) -> None:
        require_range("port", self.port, 0, 65_535)
        require_range("limit of uploads in MiB", self.max_upload_mib, 1, 4_096)
        require_range("limit of the length in s", self.max_seconds, 1.0, 4 * 3600)
        require_range("number of people who wait", self.max_waiting, 1, 1000)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the page."""
        return self.share or self.host not in LOOPBACK


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
    try:
        return parse_login(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InputError(f"login file {path} cannot be read ({reason}); give another") from None
