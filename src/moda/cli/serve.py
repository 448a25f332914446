"""``moda serve``: live sessions and videos on request, over the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from moda.cli import options
from moda.devices import check_device
from moda.errors import InputError, MissingExtraError
from moda.serving.settings import ServerSettings, portrait_names, read_api_keys, read_ice_server

app = typer.Typer()

KEYS_VARIABLE = "MODA_API_KEYS"


@app.command(epilog="Example: moda serve portrait.jpg --port 8000")
@options.takes_fields(ServerSettings)
def serve(
    portraits: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PORTRAIT...", help="Pictures of those who can speak live."),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="API keys, one a line, with quotas such as videos=2 minutes=60 sessions=1. "
            f"Default: the variable {KEYS_VARIABLE}, by spaces.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="https://HOST",
            help="A web page, or a proxy's name, that may use this server; may be given again.",
        ),
    ] = None,
    allow_webhook: Annotated[
        list[str] | None,
        typer.Option(
            metavar="https://HOST",
            help="An address that may be told of finished videos, with a path or for all paths; "
            "may be given again.",
        ),
    ] = None,
    ice_server: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="STUN or TURN server for WebRTC, as turn:user:password@host:port; "
            "may be given again.",
        ),
    ] = None,
    *,
    given: options.Given,
) -> None:
    """Serve talking heads: live over WebSocket and WebRTC, and videos on request."""
    _require_extra()
    from moda.serving import server

    keys = read_api_keys(api_keys) if api_keys else os.environ.get(KEYS_VARIABLE, "").split()
    sessions = {} if portraits else {"max_sessions": 0}
    settings = ServerSettings(
        **{**given, **sessions},
        portraits=tuple(portraits or ()),
        api_keys=tuple(keys),
        allowed_origins=tuple(allow_origin or ()),
        allowed_webhooks=tuple(allow_webhook or ()),
        ice_servers=tuple(read_ice_server(text) for text in ice_server or ()),
    )
    for path in portrait_names(settings.portraits).values():
        if not path.is_file():
            raise InputError(f"portrait {path} does not exist; give a picture")
    check_device(settings.device)
    listener = server.open_socket(settings.host, settings.port)
    address = listener.getsockname()
    typer.echo(f"http://{address[0]}:{address[1]}/ is starting", err=True)
    if not server.serve(settings, listener):
        raise InputError("the server could not start; the lines above say why")


def _require_extra() -> None:
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise MissingExtraError(
            "moda serve needs FastAPI and uvicorn; install them with: "
            "pip install 'moda-talking-head[serve]'"
        )
