"""Requests that nobody should send, and the answers that each may get.

Where a session is needed, 503 and 1013 are right as well: another client may be leaving it.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from live_server import KEY, RunningServer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from paths import EXAMPLES

PORTRAIT = (EXAMPLES / "portrait.jpg").read_bytes()
SPEECH = (EXAMPLES / "speech.wav").read_bytes()
NAMES = (
    "../../etc/passwd", "..\\..\\windows\\system32", "/etc/passwd", "a" * 5000, "\u202e.jpg",
    "con", "portrait\x00.jpg", "%2e%2e%2f", "$(touch x)", "; rm -rf ~", "<script>",
)  # fmt: skip
PATHS = (
    "/v1/videos/../../etc/passwd", "/v1/videos/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/v1/videos/%00/result",
    "/v1/videos/" + "a" * 3000, "/v1/live/x", "/.git/config", "/page/..%5capp.py",
)  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """What is tried, and the statuses or close codes that are right answers."""

    name: str
    run: Callable[[RunningServer, random.Random], int]
    right: tuple[int, ...]


def _post(server: RunningServer, **parts: object) -> int:
    return server.request("POST", "/v1/videos", **parts).status_code


def _noise(rng: random.Random, count: int) -> bytes:
    return rng.randbytes(count)


def wrong_portrait(server: RunningServer, rng: random.Random) -> int:
    content = rng.choice([b"", b"text", _noise(rng, 2000), PORTRAIT[:20], b"GIF89a" + b"\0" * 50])
    return _post(server, files={"portrait": content, "speech": SPEECH})


def wrong_speech(server: RunningServer, rng: random.Random) -> int:
    content = rng.choice([b"", b"text", _noise(rng, 2000), PORTRAIT, SPEECH[:44], SPEECH[:30]])
    return _post(server, files={"portrait": PORTRAIT, "speech": content})


def huge_picture(server: RunningServer, rng: random.Random) -> int:
    """A header that promises 50,000 x 50,000 pixels."""
    header = b"BM" + b"\0" * 8 + (54).to_bytes(4, "little") + (40).to_bytes(4, "little")
    size = (50_000).to_bytes(4, "little") * 2
    content = header + size + b"\1\0\x18\0" + b"\0" * 24
    return _post(server, files={"portrait": content, "speech": SPEECH})


def path_name(server: RunningServer, rng: random.Random) -> int:
    name = rng.choice(NAMES)
    files = {"portrait": (name, b"no picture"), "speech": (name, SPEECH)}
    return _post(server, files=files)


def wrong_option(server: RunningServer, rng: random.Random) -> int:
    option = rng.choice(
        [
            {"seed": "-1"}, {"seed": "x"}, {"size": "1e9"}, {"size": "3"}, {"emotion": "furious"},
            {"intensity": "nan"}, {"head_motion": "inf"}, {"unknown": "1"}, {"blink": "maybe"},
            {"output": "/etc/passwd"}, {"expression": "-3"}, {"text": "both"},
            {"blink_rate": "nan"}, {"blink_rate": "61"}, {"gaze": "up"}, {"lips_only": "2"},
            {"style": "warm " * 200},
        ]
    )  # fmt: skip
    return _post(server, files={"portrait": PORTRAIT[:300], "speech": SPEECH[:300]}, data=option)


def missing_part(server: RunningServer, rng: random.Random) -> int:
    part = rng.choice(["portrait", "speech", "other"])
    return _post(server, files={part: PORTRAIT})


def broken_form(server: RunningServer, rng: random.Random) -> int:
    kind = rng.choice(
        ["multipart/form-data", "multipart/form-data; boundary=x", "application/json", "text/xml"]
    )
    return _post(server, content=_noise(rng, 500), headers={"content-type": kind})


def lying_length(server: RunningServer, rng: random.Random) -> int:
    """A body that is said to be far too large."""
    return _raw(server, b"content-length: 99999999999\r\n\r\n")


def endless_body(server: RunningServer, rng: random.Random) -> int:
    """Chunks without end where a small body is expected."""

    def chunks() -> object:
        for _ in range(40):
            yield b"x" * 10_000

    return server.request("POST", "/v1/live/offer", content=chunks()).status_code


def half_a_request(server: RunningServer, rng: random.Random) -> int:
    """Goes away in the middle of an upload."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/videos HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            + KEY.encode()
            + b"\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 5000\r\n\r\n"
            b'--b\r\ncontent-disposition: form-data; name="portrait"; filename="p"\r\n\r\n'
        )
        connection.sendall(_noise(rng, rng.randrange(1, 2000)))
    return 0


def no_http(server: RunningServer, rng: random.Random) -> int:
    """Bytes that are no HTTP."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(_noise(rng, 200) + b"\r\n\r\n")
        answer = connection.recv(1000)
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def strange_path(server: RunningServer, rng: random.Random) -> int:
    return _raw(server, b"\r\n", method=b"GET", path=rng.choice(PATHS).encode())


def wrong_method(server: RunningServer, rng: random.Random) -> int:
    method = rng.choice(["PUT", "PATCH", "TRACE", "OPTIONS", "DELETE"])
    return server.request(method, rng.choice(["/v1/videos", "/v1/info", "/healthz"])).status_code


def no_key(server: RunningServer, rng: random.Random) -> int:
    key = rng.choice(["x", KEY[:-1], KEY + "x", KEY.upper(), "\u00e9" * 20])
    header = {"authorization": f"Bearer {key}".encode()}
    path = rng.choice(["/v1/info", "/metrics", "/v1/videos/x", "/v1/info?key=" + KEY])
    return httpx.get(server.address + path, headers=header, timeout=30).status_code


def other_origin(server: RunningServer, rng: random.Random) -> int:
    origin = rng.choice(["https://evil.example", "null", "http://127.0.0.1:1", "\u00e9"])
    return server.request("GET", "/v1/info", headers={"origin": origin.encode()}).status_code


def other_host(server: RunningServer, rng: random.Random) -> int:
    """The name of somebody else's server, resolved to this machine."""
    host = rng.choice(["evil.example", "127.0.0.1.evil.example", "[::", ""])
    return server.request("GET", "/v1/info", headers={"host": host}).status_code


def wrong_offer(server: RunningServer, rng: random.Random) -> int:
    sdp = rng.choice(["", "v=0", "\r\n" * 100, _noise(rng, 300).hex(), "v=0\r\nm=audio x y z\r\n"])
    offer = rng.choice(
        [
            {"sdp": sdp}, {"sdp": 5}, {}, {"sdp": sdp, "type": "answer"}, [], None,
            {"sdp": sdp, "start": {"portrait": 3}}, {"sdp": sdp, "start": {"seed": -1}},
        ]
    )  # fmt: skip
    return server.request("POST", "/v1/live/offer", json=offer).status_code


def deep_json(server: RunningServer, rng: random.Random) -> int:
    body = b"[" * 100_000
    header = {"content-type": "application/json"}
    return server.request("POST", "/v1/live/offer", content=body, headers=header).status_code


def wrong_start(server: RunningServer, rng: random.Random) -> int:
    """The first message of a WebSocket is none that begins a session."""
    message = rng.choice(
        [
            b"\0\0", "", "no json", "[]", "{}", '{"type":"interrupt"}', '{"type":["start"]}',
            '{"type":"start","portrait":5}', '{"type":"start","portrait":"../../etc/passwd"}',
            '{"type":"start","sample_rate":44100}', '{"type":"start","seed":1e400}',
            '{"type":"start","intensity":NaN}', '{"type":"start","x":1}', "[" * 4000,
            '{"type":"start","emotion":{}}', "\ud7ff" * 2000, '{"type":"start","sample_rate":true}',
        ]
    )  # fmt: skip
    return _socket(server, [message])


def wrong_message(server: RunningServer, rng: random.Random) -> int:
    """A session is begun, and then nonsense comes."""
    message = rng.choice(
        [
            b"\0", b"\0" * 300_000, "x" * 10_000, "no json", '{"type":"start"}', '{"type":"x"}',
            '{"type":"emotion","emotion":"furious"}', '{"type":"end","x":1}', "\0",
            '{"type":"emotion","emotion":"happy","intensity":7}', b"\0" * 195_001,
        ]
    )  # fmt: skip
    start = json.dumps({"type": "start", "sample_rate": 16_000})
    return _socket(server, [start, b"\1\0" * 640, message])


def vanish(server: RunningServer, rng: random.Random) -> int:
    """Goes away in the middle of a session without a word."""
    try:
        with _connect(server) as connection:
            connection.send(json.dumps({"type": "start", "sample_rate": 16_000}))
            for _ in range(rng.randrange(4)):
                connection.send(_noise(rng, 640))
            connection.socket.shutdown(socket.SHUT_RDWR)
    except InvalidStatus as refusal:  # those who vanished before are still being noticed
        return refusal.response.status_code
    return 0


def wrong_socket_key(server: RunningServer, rng: random.Random) -> int:
    subprotocols = rng.choice([[], ["moda.v1"], ["moda.v1", "moda.key.wrong"], ["x"]])
    try:
        with connect(
            server.address.replace("http", "ws") + "/v1/live",
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        ):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


ATTACKS = (
    Attack("wrong portrait", wrong_portrait, (422,)),
    Attack("wrong speech", wrong_speech, (422,)),
    Attack("huge picture", huge_picture, (422,)),
    Attack("path name", path_name, (400, 422)),
    Attack("wrong option", wrong_option, (422,)),
    Attack("missing part", missing_part, (422,)),
    Attack("broken form", broken_form, (400, 422)),
    Attack("lying length", lying_length, (413,)),
    Attack("endless body", endless_body, (413,)),
    Attack("half a request", half_a_request, (0,)),
    Attack("no HTTP", no_http, (0, 400)),
    Attack("strange path", strange_path, (400, 404, 405)),
    Attack("wrong method", wrong_method, (405,)),
    Attack("no key", no_key, (401,)),
    Attack("other origin", other_origin, (403,)),
    Attack("other host", other_host, (400, 421)),
    Attack("wrong offer", wrong_offer, (422, 503)),
    Attack("deep JSON", deep_json, (400, 422)),
    Attack("wrong start", wrong_start, (503, 1008, 1013)),
    Attack("wrong message", wrong_message, (503, 1008, 1009, 1013)),
    Attack("vanish", vanish, (0, 503)),
    Attack("wrong key of a socket", wrong_socket_key, (401,)),
)


def _connect(server: RunningServer) -> object:
    names = [Subprotocol("moda.v1"), Subprotocol("moda.key." + KEY)]
    address = server.address.replace("http", "ws") + "/v1/live"
    return connect(address, subprotocols=names, max_size=2**24, close_timeout=1)


def _socket(server: RunningServer, messages: list[str | bytes]) -> int:
    """Send messages; the code with which the server closes, or the status of its refusal."""
    try:
        with _connect(server) as connection:
            for message in messages:
                connection.send(message)
            while True:
                connection.recv(timeout=30)
    except InvalidStatus as refusal:
        return refusal.response.status_code
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


def _raw(
    server: RunningServer, rest: bytes, *, method: bytes = b"POST", path: bytes = b"/v1/videos"
) -> int:
    """A request as it stands, without a library that puts it right."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            method + b" " + path + b" HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer "
            + KEY.encode() + b"\r\nconnection: close\r\n" + rest
        )  # fmt: skip
        answer = connection.recv(1000)
    return int(answer.split()[1])
