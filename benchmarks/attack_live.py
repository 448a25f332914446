"""Hostile WebSockets and WebRTC offers, and JSON that is none or too much."""

from __future__ import annotations

import base64
import json
import random
import socket
import struct
import time
from contextlib import suppress
from typing import Any

from attack_target import Answer, Bytes, Target, request, status_of


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
    key = base64.b64encode(rng.randbytes(16))
    head = (
        b"GET /v1/live HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: " + key + b"\r\n"
        b"sec-websocket-protocol: " + names + b"\r\n\r\n"
    )
    with target.connect(rng) as connection:
        connection.sendall(head)
        with suppress(OSError):
            for piece in rng.choice(odd):
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                else:
                    time.sleep(piece)
        if rng.random() < 0.3:
            return [Answer(0, b"")]
        return [_until_closed(connection)]


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
