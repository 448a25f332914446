"""What a server may do, and for whom. All limits are here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

from moda.doors.names import LOOPBACK_HOSTS
from moda.errors import InputError
from moda.media.texts import read_text_file
from moda.options import MIN_SIZE_PX, VISITOR_SIZE_PX, Option, require_range
from moda.options.description import check_limits
from moda.serving.access import read_key
from moda.serving.videos.webhooks import check_webhook

MAX_KEY_FILE_BYTES = 64 * 1024
FORM_BYTES = 64 * 1024
"""Of a form besides its files."""


class IceServer(NamedTuple):
    """A STUN or TURN server, in the words of WebRTC."""

    urls: str
    username: str | None = None
    credential: str | None = None


def read_ice_server(text: str) -> IceServer:
    """``stun:host:port`` or ``turn:user:password@host:port``.

    Raises:
        InputError: it is neither.
    """
    scheme, _, rest = text.partition(":")
    if scheme not in ("stun", "stuns", "turn", "turns") or not rest:
        raise InputError(
            "an ICE server begins with none of stun:, turn:, turns:; write "
            "turn:user:password@host:port"
        )
    credentials, at, address = rest.rpartition("@")
    if not at:
        return IceServer(text)
    user, _, password = credentials.partition(":")
    return IceServer(f"{scheme}:{address}", user, password)


@dataclass(frozen=True)
class ServerSettings:
    """How a server is set up. Raises :class:`InputError` for values outside the limits."""

    portraits: tuple[Path, ...] = ()
    """Whom live sessions can show; each is prepared once in every worker."""
    # fmt: off
    host: Annotated[str, Option(
        "Address to listen on; others than this machine need API keys.")] = "127.0.0.1"
    port: Annotated[int, Option("0 takes any that is free.", 0, 65535)] = 8000
    max_sessions: Annotated[int, Option(
        "Live sessions at once, each a process of about 0.8 GB.", 0, 64, name="sessions",
        label="live sessions")] = 2
    max_waiting: Annotated[int, Option(
        "Clients that may wait for a live session.", 0, 1000, name="waiting",
        label="waiting clients")] = 4
    max_jobs: Annotated[int, Option(
        "Videos on request that may wait.", 0, 1000, name="jobs", label="videos at once")] = 8
    size: Annotated[int, Option(
        "Longer side of live pictures in pixels.", MIN_SIZE_PX, VISITOR_SIZE_PX,
        label="size in pixels")] = 512
    full_frame: Annotated[bool, Option(
        "The whole picture, or only the head.", flag="--full-frame/--crop")] = True
    model: Annotated[str, Option("moda-tiny, or a .safetensors file.")] = "moda-tiny"
    device: Annotated[str, Option("auto, cpu, cuda or mps; several GPUs are shared out.")] = "cpu"
    max_speech_seconds: Annotated[float, Option(
        "Longest speech of a video on request, in seconds.", 1, 4 * 3600, name="max_speech",
        label="speech in s")] = 600.0
    requests_per_minute: Annotated[int, Option("Of one client.", 1, 1_000_000)] = 300
    behind_proxy: Annotated[bool, Option(
        "All clients come through a proxy, whose X-Forwarded-For is believed.",
        flag="--behind-proxy")] = False
    """Health checks are not counted."""
    jobs_folder: Annotated[Path | None, Option(
        "Where videos on request are kept, so that they survive a restart.", metavar="FOLDER",
        usual="a temporary folder")] = None
    # fmt: on
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Each with its quotas, see :func:`moda.serving.access.read_key`. Without any, everybody may
    do everything."""
    allowed_webhooks: tuple[str, ...] = ()
    """Addresses that may be told of finished videos: ``https://host`` for all of a host,
    ``https://host/path`` for this path alone."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages of other servers that may use this one, as ``https://host``."""
    ice_servers: tuple[IceServer, ...] = field(default=(), repr=False)
    """STUN and TURN servers for WebRTC."""

    waiting_seconds: float = 30.0
    session_seconds: float = 3600.0
    idle_seconds: float = 600.0
    """A session ends when its client has sent nothing for so long."""
    queued_seconds: float = 60.0
    """Sound of one session that may wait to be spoken."""
    jpeg_quality: int = 85
    kept_jobs: int = 32
    """Videos that are kept for their clients; the oldest go first."""
    kept_seconds: float = 3600.0
    max_portrait_bytes: int = 20 * 2**20
    max_speech_bytes: int = 100 * 2**20

    def __post_init__(self) -> None:
        check_limits(self, ServerSettings)
        require_range("kept videos", self.kept_jobs, 1, 10_000)
        require_range("quality of pictures", self.jpeg_quality, 10, 100)
        for line in self.api_keys:
            read_key(line)
        for address in self.allowed_webhooks:
            check_webhook(address)
        if self.allowed_webhooks and not self.api_keys:
            raise InputError(
                "webhooks are signed with the API key of whoever asks, and there are none; set "
                "MODA_API_KEYS or --api-keys FILE"
            )
        if self.max_sessions and not self.portraits:
            raise InputError("no portrait to speak live; give one, or set the sessions to 0")
        if not self.is_loopback and not self.api_keys:
            raise InputError(
                f"host {self.host} can be reached by others and there are no API keys; set "
                "MODA_API_KEYS or --api-keys FILE, or stay on 127.0.0.1"
            )

    @property
    def max_upload_bytes(self) -> int:
        """Of a request for a video, with all its files."""
        return self.max_portrait_bytes + self.max_speech_bytes + FORM_BYTES

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS


def portrait_names(portraits: tuple[Path, ...]) -> dict[str, Path]:
    """Portraits by the name that clients know them by: the file's, without folder and ending.

    Raises:
        InputError: two have the same name.
    """
    names: dict[str, Path] = {}
    for path in portraits:
        name = "".join(letter if letter.isalnum() else "-" for letter in path.stem.lower())
        if name in names:
            raise InputError(f"portraits {names[name]} and {path} have one name; rename one")
        names[name] = path
    return names


def read_api_keys(path: Path) -> tuple[str, ...]:
    """Keys from a text file, one a line; empty lines and those that begin with # are left out.

    Raises:
        InputError: the file cannot be read or holds none.
    """
    lines = read_text_file(path, f"file of API keys {path}", MAX_KEY_FILE_BYTES).splitlines()
    keys = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not keys:
        raise InputError(f"{path} holds no API key; write one a line")
    return keys
