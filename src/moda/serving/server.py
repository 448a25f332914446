"""Runs the application until it is told to end."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from moda.doors.connections import guard
from moda.errors import InputError
from moda.serving.app import create_app
from moda.serving.live.protocol import MAX_SOUND_BYTES, MAX_TEXT_BYTES
from moda.serving.settings import ServerSettings

SHUTDOWN_SECONDS = 5
DEAD_PEER_MILLISECONDS = 20_000
"""A peer that acknowledges nothing for so long is cut off by the system."""


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    Raises:
        InputError: the address is in use or is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):
                listener.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MILLISECONDS
                )
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
        ) from None
    listener.set_inheritable(False)
    return listener


class Server(uvicorn.Server):
    """Tells those who watch videos to leave before it waits for them."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._application = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; see :meth:`uvicorn.Server.shutdown`."""
        if self.started:
            self._application.state.jobs.is_ending = True
        await super().shutdown(sockets)


def make_server(settings: ServerSettings, *, log_level: str = "info") -> uvicorn.Server:
    """The server, not running yet. Its own socket is given to ``run`` or ``serve``."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,
        server_header=False,
        ws_max_size=MAX_SOUND_BYTES + MAX_TEXT_BYTES,
        ws_ping_interval=10.0,
        ws_ping_timeout=15.0,
        ws_per_message_deflate=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    guard(config, behind_proxy=settings.behind_proxy)
    return Server(config, app)


def serve(settings: ServerSettings, listener: socket.socket) -> bool:
    """Run until SIGINT or SIGTERM; whether the server has ever been ready."""
    server = make_server(settings)
    server.run(sockets=[listener])
    return bool(server.started)
