"""Hostile WebSockets and WebRTC offers, and JSON that is none or too much."""

from __future__ import annotations

import base64
import json
import random
import socket
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from attack_target import Answer, Bytes, Target, request, status_of

Message = dict[str, Any] | bytes | float
"""A text message, a binary one, or a pause in seconds."""


def odd_json(rng: random.Random) -> bytes:
    """JSON that is deep, long, doubled, or none."""

    def value(depth: int) -> Any:
        kind = rng.randrange(9)
        if depth > 3 or kind < 4:
            return rng.choice((None, True, -1, 1e308, 2**70, "", "x" * 300, "\0", [], {}, -0.0))
        if kind < 6:
            return [value(depth + 1) for _ in range(rng.randrange(4))]
        names = (
            "path",
            "data",
            "type",
            "sdp",
            "start",
            "meta",
            "url",
            "x",
            "fn_index",
            "event_data",
        )
        return {rng.choice(names): value(depth + 1) for _ in range(rng.randrange(4))}

    text = json.dumps(value(0)).encode()
    return rng.choice(
        (text, text, text, text[: len(text) // 2], b"[" * 90_000, b'{"a":' * 40_000, b"NaN", b"",
         b'{"sdp":"a","sdp":5}', b'{"type":"start","seed":1e999}', b"\xff\xfe[\0]\0", b'"\\ud800"',
         b"-" * 100, b"1" * 100_000, b'{"data":' + b"[" * 500 + b"]" * 500 + b"}")
    )  # fmt: skip


def socket_frames(target: Target, rng: random.Random) -> list[Answer]:
    """A WebSocket that breaks the rules of WebSockets."""
    start = json.dumps({"type": "start", "sample_rate": 16_000}).encode()
    odd: tuple[list[Bytes], ...] = (
        [frame(1, start, mask=False)], [frame(3, b"x")], [frame(11, b"")], [frame(9, bytes(200))],
        [frame(8, b"\3")], [frame(8, b"\0\1")], [frame(8, b"\x03\xe8\xff")],
        [frame(1, b"\xff\xfe")], [frame(0, b"x")], [frame(1, b"{", final=False), frame(1, b"}")],
        [b"\xf1\x80\0\0\0\0"],
        [b"\x82\xff" + b"\xff" * 12], [b"\x82\xff" + struct.pack(">Q", 2**40) + bytes(4)],
        [frame(1, start), frame(2, bytes(300_001))], [frame(1, start), *[frame(2, b"\0")] * 5],
        [frame(2, b"x" * 1000, final=False), *[frame(0, b"y" * 60_000, final=False)] * 8],
        [frame(1, start)] * 2, [frame(1, odd_json(rng)[:60_000])], [frame(1, rng.randbytes(50))],
        [frame(1, start), frame(1, odd_json(rng)[:4000])], [rng.randbytes(300)], [start],
        [frame(1, start[:-1] + b',"portrait":"' + str(target.canary).encode() + b'"}')],
        [frame(1, start), *[frame(2, rng.randbytes(2000))] * 40, 0.3], [*[frame(9, b"p")] * 500],
    )  # fmt: skip
    names = b"moda.v1, moda.key." + (target.key or "").encode()
    if rng.random() < 0.2:
        names = rng.choice((b"moda.v1", b"moda.key.x", b"", b"," * 500, b"\xff"))
    with target.connect(rng) as connection:
        connection.sendall(_handshake(rng, names))
        with suppress(OSError):
            for piece in rng.choice(odd):
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)
        if rng.random() < 0.3:
            return [Answer(0, b"")]
        return [_until_closed(connection)]


def _handshake(rng: random.Random, names: bytes) -> bytes:
    key = base64.b64encode(rng.randbytes(16))
    return (
        b"GET /v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n"
        b"sec-websocket-protocol: " + names + b"\r\n\r\n"
    )


def converse(target: Target, rng: random.Random, messages: Iterable[Message]) -> Answer:
    """A session that is told something, well-formed as WebSockets go."""
    with target.connect(rng) as connection:
        names = b"moda.v1, moda.key." + (target.key or "").encode()
        connection.sendall(_handshake(rng, names))
        with suppress(OSError):
            for message in messages:
                if isinstance(message, float):
                    time.sleep(message)
                elif isinstance(message, bytes):
                    connection.sendall(frame(2, message))
                else:
                    connection.sendall(frame(1, json.dumps(message).encode()))
        return _until_closed(connection)


def socket_texts(target: Target, rng: random.Random) -> list[Answer]:
    """Texts that nobody means, too many of them, or in the voice of a file."""
    odd: tuple[Any, ...] = (
        "",
        " ",
        "\0",
        "a" * 3900,
        "[pause:60]" * 300,
        "[pause:1e9]",
        "[happy:nan] a",
        "[" * 3000,
        "\u0301" * 900,
        "\u4f60\u597d" * 300,
        "\U0001f600" * 300,
        "1" * 3000,
        "-f /etc/passwd",
        "$(touch /tmp/moda-touched)",
        "<speak><audio src='file:///etc/passwd'/></speak>",
        None,
        5,
        [],
        {},
        True,
        str(target.canary),
        "Hello. " * 400,
        "\ud800",
    )
    names = (str(target.canary), "../" * 9 + "etc/passwd", "en-us", "-w/tmp/x", "x" * 3000, "", 7)
    start: Message = {
        "type": "start",
        "sample_rate": 16_000,
        "pace": rng.choice(("ahead", "realtime")),
    }

    def text() -> Message:
        said: dict[str, Any] = {"type": "text", "text": rng.choice(odd)}
        for field in ("language", "voice"):
            if rng.random() < 0.4:
                said[field] = rng.choice(names)
        if rng.random() < 0.4:
            said["rate"] = rng.choice((0, -1, 1e308, 1e-9, 0.5, 2, "1", None, 10**400))
        return said

    stop: Message = {"type": "interrupt"}
    happy: Message = {"type": "emotion", "emotion": "happy", "intensity": rng.random()}
    plain: Message = {"type": "text", "text": "Hello there, and good day."}
    floods: tuple[list[Message], ...] = (
        [text()],
        [text(), plain, stop, {"type": "end"}],
        [plain] * 60,
        [plain, stop] * 300,
        [stop] * 3000,
        [happy] * 3000,
        [plain, bytes(2000)] * 50,
        [plain, 0.5, stop, text()],
    )
    return [converse(target, rng, [start, 0.2, *rng.choice(floods)])]


def _until_closed(connection: socket.socket) -> Answer:
    """A session that was begun by mistake sends pictures; a few are enough."""
    content = b""
    connection.settimeout(6.0)
    with suppress(OSError):
        while len(content) < 2**18 and (piece := connection.recv(2**16)):
            content += piece
    return Answer(status_of(content), content)


def frame(opcode: int, data: bytes, *, final: bool = True, mask: bool = True) -> bytes:
    """A WebSocket's frame; the mask is 0."""
    length, marked = len(data), 0x80 if mask else 0
    head = bytes([(0x80 if final else 0) | opcode])
    if length < 126:
        head += bytes([marked | length])
    elif length < 2**16:
        head += bytes([marked | 126]) + struct.pack(">H", length)
    else:
        head += bytes([marked | 127]) + struct.pack(">Q", length)
    return head + (bytes(4) if mask else b"") + data


def offer(target: Target, rng: random.Random) -> list[Answer]:
    """A WebRTC offer that is none."""
    lines = (
        "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "t=0 0", "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 0 x 1", "a=rtpmap:111 opus/48000/2", "a=fingerprint:sha-256 00", "a=setup:actpass",
        "a=ice-ufrag:x", "a=ice-pwd:" + "y" * 30, "a=mid:0", "a=sendrecv", "c=IN IP4 224.0.0.1",
        "a=candidate:1 1 udp 1 10.0.0.1 9 typ host", "a=group:BUNDLE 0 1", "a=rtpmap:x", "m=", "a=",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=sctp-port:99999999", "\0",
    )  # fmt: skip
    sdp = "\r\n".join(rng.choice(lines) for _ in range(rng.randrange(40)))
    start: Any = rng.choice(
        ({}, {"seed": -1}, {"portrait": str(target.canary)}, {"x": 1}, [], None)
    )
    body = json.dumps({"sdp": sdp, "type": rng.choice(("offer", "answer", "")), "start": start})
    kind = b"content-type: application/json\r\n"
    return [request(target, rng, "POST", "/v1/live/offer", body.encode(), kind)]
