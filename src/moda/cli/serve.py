"""``moda serve``: live sessions and videos on request, over the network."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from moda.errors import InputError, MissingExtraError
from moda.serving.settings import ServerSettings, portrait_names, read_api_keys, read_ice_server

app = typer.Typer()

KEYS_VARIABLE = "MODA_API_KEYS"


@app.command(epilog="Example: moda serve portrait.jpg --port 8000")
def serve(
    portraits: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PORTRAIT...", help="Pictures of those who can speak live."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need API keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any that is free.")] = 8000,
    sessions: Annotated[
        int, typer.Option(help="Live sessions at once, each a process of about 0.8 GB.")
    ] = 2,
    waiting: Annotated[int, typer.Option(help="Clients that may wait for a live session.")] = 4,
    jobs: Annotated[int, typer.Option(help="Videos on request that may wait.")] = 8,
    size: Annotated[int, typer.Option(help="Longer side of live pictures in pixels.")] = 512,
    full_frame: Annotated[
        bool, typer.Option("--full-frame/--crop", help="The whole picture, or only the head.")
    ] = True,
    model: Annotated[str, typer.Option(help="moda-tiny, or a .safetensors file.")] = "moda-tiny",
    api_keys: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"API keys, one a line. Default: the variable {KEYS_VARIABLE}, by spaces.",
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="https://HOST",
            help="A web page, or a proxy's name, that may use this server; may be given again.",
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
    max_speech: Annotated[
        float, typer.Option(help="Longest speech of a video on request, in seconds.")
    ] = 600.0,
    requests_per_minute: Annotated[int, typer.Option(help="Of one client.")] = 300,
) -> None:
    """Serve talking heads: live over WebSocket and WebRTC, and videos on request."""
    _require_extra()
    from moda.serving import server

    keys = read_api_keys(api_keys) if api_keys else os.environ.get(KEYS_VARIABLE, "").split()
    settings = ServerSettings(
        portraits=tuple(portraits or ()),
        host=host,
        port=port,
        model=model,
        size=size,
        full_frame=full_frame,
        api_keys=tuple(keys),
        allowed_origins=tuple(allow_origin or ()),
        ice_servers=tuple(read_ice_server(text) for text in ice_server or ()),
        max_sessions=sessions if portraits else 0,
        max_waiting=waiting,
        max_jobs=jobs,
        max_speech_seconds=max_speech,
        requests_per_minute=requests_per_minute,
    )
    for path in portrait_names(settings.portraits).values():
        if not path.is_file():
            raise InputError(f"portrait {path} does not exist; give a picture")
    listener = server.open_socket(host, port)
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
