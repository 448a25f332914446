"""Connections that ask nothing, ask slowly, or take no answer, on a real server."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

uvicorn = pytest.importorskip("uvicorn")

from moda.doors import connections  # noqa: E402
from moda.doors.connections import guard  # noqa: E402

BIG = bytes(4 * 2**20)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers once the body is there; /big with more than any buffer holds."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/early":
        await answer(send, b"ok")
        return
    while (await receive()).get("more_body"):
        pass
    await answer(send, BIG if scope["path"] == "/big" else b"ok")


async def answer(send: Any, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server whose patience is short."""
    for name, value in (
        ("HEAD_SECONDS", 1.0),
        ("BODY_SECONDS", 1.0),
        ("READ_SECONDS", 0.5),
        ("SLOWEST_BYTES", 2**22),
        ("SWEEP_SECONDS", 0.1),
        ("MAX_CONNECTIONS", 40),
        ("MAX_OF_ONE_ADDRESS", 20),
        ("RESERVE", 5),
    ):
        monkeypatch.setattr(connections, name, value)
    config = uvicorn.Config(app, log_level="critical", timeout_keep_alive=60)
    guard(config, behind_proxy=False)
    server = uvicorn.Server(config)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def connect(port: int, data: bytes = b"", host: str = "127.0.0.1") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10, (host, 0))
    connection.sendall(data)
    return connection


def ask(port: int, path: str = "/", host: str = "127.0.0.1") -> int:
    """Status of a request of its own connection."""
    request = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with connect(port, request.encode(), host) as connection:
        return int(connection.recv(1000).split()[1])


def is_closed(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


BODY = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx: y\r\n"])
def test_a_crowd_that_asks_nothing_keeps_nobody_out(port: int, data: bytes) -> None:
    crowd = [connect(port, data) for _ in range(100)]
    assert ask(port) == 200
    assert ask(port, "/healthz") == 200
    for connection in crowd:
        connection.close()


def test_crowds_of_many_addresses_keep_nobody_out(port: int) -> None:
    crowd = [connect(port, b"", f"127.0.0.{2 + number % 10}") for number in range(100)]
    assert ask(port) == 200
    for connection in crowd:
        connection.close()


def test_health_is_answered_beside_a_crowd_that_is_served(port: int) -> None:
    crowd = [connect(port, BODY) for _ in range(20)]
    time.sleep(0.3)  # until they have been heard
    assert ask(port) == 503
    assert ask(port, "/healthz") == 200
    assert ask(port, "/", "127.0.0.9") == 200, "others do not suffer"
    for connection in crowd:
        connection.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: x\r\n",
        BODY,
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        BODY.replace(b"/ ", b"/early "),
    ],
    ids=["nothing", "half of the headers", "no body", "no chunk", "no second one", "answered"],
)
def test_a_client_is_not_waited_for_for_ever(port: int, data: bytes) -> None:
    with connect(port, data) as connection:
        begun = time.monotonic()
        assert is_closed(connection, 4.0)
        assert 0.8 < time.monotonic() - begun < 3.0


@pytest.mark.parametrize(
    "beginning", [b"GET / HTTP/1.1\r\nx: ", BODY, BODY.replace(b"/ ", b"/early ")]
)
def test_a_byte_now_and_then_does_not_help(port: int, beginning: bytes) -> None:
    with connect(port, beginning) as connection:
        begun = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - begun < 4.0:
                connection.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - begun < 3.0


def test_who_is_too_slow_is_told_so(port: int) -> None:
    with connect(port, BODY) as connection:
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("more", [b"", b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n" * 3])
def test_who_takes_no_answer_is_given_up(port: int, more: bytes) -> None:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n" + more)
    time.sleep(3.5)
    received = 0
    connection.settimeout(2)
    with suppress(ConnectionError):
        while data := connection.recv(2**20):
            received += len(data)
    assert received < len(BIG)
    connection.close()


def test_a_steady_client_is_served_whatever_it_takes(port: int) -> None:
    """A body and an answer that take longer than a client may be silent."""
    half = 10 * 2**20
    head = f"POST /big HTTP/1.1\r\nhost: x\r\ncontent-length: {half}\r\n\r\n".encode()
    with connect(port, head) as connection:
        for _ in range(20):
            connection.sendall(bytes(half // 20))
            time.sleep(0.1)
        received = 0
        while received < len(BIG):
            received += len(connection.recv(2**18))
            time.sleep(0.01)
    assert received >= len(BIG)


def test_connections_come_to_an_end_one_after_the_other(port: int) -> None:
    for _ in range(60):
        assert ask(port) == 200


@pytest.mark.parametrize(
    "start",
    [
        b"POST /early HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /big HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n",
    ],
)
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_bodies_that_turn_out_malformed_are_no_fault(
    port: int, caplog: pytest.LogCaptureFixture, start: bytes, pause: float
) -> None:
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.ERROR)
    logger.addHandler(caplog.handler)
    try:
        with connect(port, start) as connection:
            time.sleep(pause)
            connection.sendall(b"no number\r\n")
            while connection.recv(2**16):
                pass
        with suppress(OSError), connect(port, start + b"no number\r\n") as connection:
            while connection.recv(2**16):
                pass
        time.sleep(0.2)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(logging.CRITICAL)
    assert caplog.messages == []
    assert ask(port) == 200
