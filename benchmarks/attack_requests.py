"""Hostile requests to a running ``moda serve`` or ``moda web``, drawn anew from a seed.

Every attack is a function of a target and a generator of random numbers. It returns the answers
that it got.
"""

from __future__ import annotations

import gzip
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from attack_keys import events, other_owner, portraits, quota, repeated, webhook
from attack_live import odd_json, offer, socket_frames, socket_texts
from attack_target import (
    HANGS_SECONDS,
    Answer,
    Bytes,
    Part,
    Target,
    form,
    media,
    post_video,
    request,
    send,
    status_of,
)

Attack = Callable[[Target, random.Random], list[Answer]]
SLOW_SECONDS = 14.0
"""Longer than the server waits for the headers of a request."""


def disguises(path: str) -> list[str]:
    """One file of the machine in the ways in which it can be named."""
    up = "../" * 12
    relative = path.lstrip("/")
    percent = "".join(f"%{byte:02x}" for byte in path.encode())
    return [
        path, "/" + path, up + relative, "x/../" + up + relative, "./" * 5 + up + relative,
        quote(up + relative, safe=""), quote(quote(up + relative, safe=""), safe=""),
        percent, percent.replace("%", "%25"), "..%c0%af" * 12 + relative,
        "..%ef%bc%8f" * 12 + relative, "%2e%2e/" * 12 + relative, ("..\\" * 12 + relative),
        ("..%5c" * 12 + relative.replace("/", "%5c")), "....//" * 12 + relative,
        "..;/" * 12 + relative, path + "%00.jpg", path + "\0.jpg", path + "?x", path + "#x",
        path + "/.", path + "/", path + "//", "/proc/self/root" + path,
        "/proc/self/cwd/" + up + relative, "/dev/fd/../../.." + path, "file://" + path,
        "file:" + path, "FILE://localhost" + path, "http://127.0.0.1:1" + path,
        "~root/" + up + relative, "\u202e" + path, "\uff0e\uff0e\uff0f" * 12 + relative,
        path.upper(), " " + path, path + " ", path + "::$DATA", "concat:" + path,
        "subfile,,start,0,end,0,,:" + path, "data:," + path,
    ]  # fmt: skip


ODD_NUMBERS = (
    "nan", "inf", "-inf", "1e400", "-1e400", "-1", "0", "-0", "9" * 400, "0x10", "1_0", "\u0661",
    "1e-400", "2147483648", "9223372036854775808", "1,5", "1 ", "+1", "", " ", "true", "[1]", "{}",
    "1e5", "-1e5", "1.7976931348623157e308",
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "\0", "a\0b", "\ud7ff", "\ufffe", "A" * 70_000, "[pause:60]" * 300 + "hi",
    "[pause:1e9]", "[pause:-1]", "[happy:nan]", "[" * 5000, "[happy" * 500, "<speak>" * 300,
    "\u0301" * 5000, "\u202e" * 200, "{{7*7}}", "${jndi:ldap://127.0.0.1:1/a}",
    "'; DROP TABLE x;--", "%s%s%s%n", "$(touch /tmp/moda-touched)", "`id`", "-f /etc/passwd",
    "--help", "\r\n\r\nGET /",
    "\u4f60\u597d" * 200, "\U0001f600" * 300, "1" * 5000, "zz " * 3000,
)  # fmt: skip
OPTIONS = (
    "seed", "size", "intensity", "head_motion", "expression", "blink_rate", "frames_per_second",
    "fps", "emotion", "gaze", "blink", "lips_only", "style", "language", "voice", "rate",
    "full_frame", "face", "background", "emotion_at", "text", "steps", "guidance",
)  # fmt: skip
SERVER_FILES = (
    "output", "driving", "phones", "transcript", "text_file", "sign_key", "sign_cert", "model",
    "tts_command", "device", "speakers", "portrait", "speech", "background",
)  # fmt: skip


def option(target: Target, rng: random.Random) -> list[Answer]:
    """A field of a form with a value that nobody means."""
    fields = [
        Part(rng.choice(OPTIONS), rng.choice(ODD_NUMBERS + ODD_TEXTS).encode("utf-8", "replace"))
        for _ in range(rng.choice((1, 1, 2, 8)))
    ]
    return [post_video(target, rng, *media(target), *fields)]


def server_file(target: Target, rng: random.Random) -> list[Answer]:
    """A field that names a file of the machine."""
    name = rng.choice(disguises(str(target.canary)))
    field_name = Part(rng.choice(SERVER_FILES), name.encode("utf-8", "replace"))
    return [post_video(target, rng, *media(target), field_name)]


def file_name(target: Target, rng: random.Random) -> list[Answer]:
    """An upload that is called like a file of the machine."""
    name = rng.choice(disguises(str(target.canary))).replace('"', "%22")
    content = rng.choice((b"no picture", target.portrait[:200], rng.randbytes(300)))
    if target.key is None:
        body, kind = form([Part("files", content, name)])
        return [request(target, rng, "POST", "/gradio_api/upload", body, kind)]
    return [post_video(target, rng, Part("portrait", content, name), media(target)[1])]


def path(target: Target, rng: random.Random) -> list[Answer]:
    """A file of the machine in the address."""
    prefixes = (
        ("/page/", "/v1/videos/", "/v1/live/", "/", "/page/../", "/v1/videos/x/result/../", "/api/",
         "/openapi.json/", "//", "/page//", "/v1/videos?x=", "/v1/videos/../page/")
        if target.key is not None
        else ("/gradio_api/file=", "/gradio_api/file/", "/file=", "/file/", "/static/", "/assets/",
              "/gradio_api/stream/", "/gradio_api/proxy=", "/gradio_api/component_server/",
              "/custom_component/", "/gradio_api/upload_progress?upload_id=", "/svelte/", "/",
              "/gradio_api/queue/data?session_hash=", "/gradio_api/heartbeat/", "/gradio_api/",
              "/gradio_api/file%3d", "/gradio_api/../gradio_api/file=", "/GRADIO_API/FILE=",
              "/gradio_api//file=", "/theme.css?v=", "/gradio_api/deep_link?path=")
    )  # fmt: skip
    named = rng.choice(disguises(str(target.canary)))
    method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "DELETE"))
    wanted = "".join(
        letter if 32 < ord(letter) < 127 else quote(letter)
        for letter in rng.choice(prefixes) + named
    )
    return [request(target, rng, method, wanted, logged_in=rng.random() < 0.8)]


def name(target: Target, rng: random.Random) -> list[Answer]:
    """Another name of the server, another page, another client."""
    evil = rng.choice(
        (b"evil.example", b"127.0.0.1.evil.example", b"127.0.0.1@evil.example", b"[::1", b"0x7f.1",
         b"2130706433", b"127.0.0.1:1:2", b"localhost.", b"evil.example:80#127.0.0.1", b"",
         b"127.0.0.1\tevil", b"\xff", b"127.0.0.1, evil.example", b"a" * 5000)
    )  # fmt: skip
    address = rng.choice((b"/v1/info", b"/config", b"/", b"/metrics", b"/gradio_api/info"))
    kinds = (
        (evil, b""),
        (b"127.0.0.1", b"origin: http://" + evil + b"\r\n"),
        (b"127.0.0.1", b"host: " + evil + b"\r\n"),
        (evil, b"x-forwarded-host: 127.0.0.1\r\nforwarded: host=127.0.0.1\r\n"),
        (b"127.0.0.1", b"origin: null\r\n"),
        (b"127.0.0.1", b"origin: http://127.0.0.1\r\norigin: http://" + evil + b"\r\n"),
    )
    host, headers = rng.choice(kinds)
    method = rng.choice(("GET", "POST"))
    return [request(target, rng, method, address, headers=headers, host=host)]


def malformed(target: Target, rng: random.Random) -> list[Answer]:
    """Bytes that are nearly HTTP."""
    start = b"POST /v1/videos HTTP/1.1\r\nhost: 127.0.0.1\r\n" + target.login()
    pieces = rng.choice(
        (
            start + b"content-length: -5\r\n\r\nhello", start + b"content-length: +5\r\n\r\nhello",
            start + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            start + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
            start + b"transfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
            start + b"transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\nx\r\n",
            start + b"transfer-encoding: chunked\r\n\r\n5;" + b"x" * 30_000 + b"\r\nhello\r\n",
            start + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
            start + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            start + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            start + b"transfer-encoding: chunked\r\n\r\n0\r\nx: y\r\nhost: evil\r\n\r\n",
            start + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
            start + b"".join(b"x%d: y\r\n" % k for k in range(3000)) + b"\r\n",
            start + b"x\0y: z\r\n\r\n", start + b"x: y\r\n folded\r\n\r\n", start + b": x\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"\r\n" * 200,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
            b"GET http://evil.example/ HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
            b"CONNECT evil.example:443 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
            b"GET * HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", rng.randbytes(rng.randrange(1, 4000)),
            b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nexpect: 100-continue\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nrange: bytes=0-,0-,0-,0-\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * rng.randrange(2, 60),
        )
    )  # fmt: skip
    return [send(target, rng, [pieces])]


def slow(target: Target, rng: random.Random) -> list[Answer]:
    """A client that takes its time."""
    start = b"POST /v1/videos HTTP/1.1\r\nhost: 127.0.0.1\r\n" + target.login()
    body, kind = form(media(target))
    drip: list[Bytes] = []
    for letter in start[: int(2 * SLOW_SECONDS)]:
        drip += [bytes([letter]), 0.5]
    ways: tuple[list[Bytes], ...] = (
        [SLOW_SECONDS],
        [start[:20], SLOW_SECONDS],
        drip,
        [start + kind + b"content-length: %d\r\n\r\n" % len(body), body[:300], SLOW_SECONDS],
        [start + kind + b"transfer-encoding: chunked\r\n\r\n5\r\nab", SLOW_SECONDS],
    )
    return [send(target, rng, rng.choice(ways))]


def gone(target: Target, rng: random.Random) -> list[Answer]:
    """An upload that is broken off, politely or not."""
    upload = b"/v1/videos" if target.key is not None else b"/gradio_api/upload"
    parts = media(target) if target.key is not None else [Part("files", target.speech, "s.wav")]
    body, kind = form(parts)
    head = b"POST " + upload + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n" + target.login() + kind
    with target.connect(rng) as connection, suppress(OSError):
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body))
        connection.sendall(body[: rng.randrange(len(body))])
        if rng.random() < 0.5:  # a reset in place of an end
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return [Answer(0, b"")]


def bomb(target: Target, rng: random.Random) -> list[Answer]:
    """Little that wants to become much."""
    packed = gzip.compress(bytes(64 * 2**20), 9)
    rows = zlib.compress(bytes(200 * 2**20 // 8), 9)
    picture = rng.choice(
        (
            png(rng.choice((1, 60_000, 2**31 - 1)), rng.choice((60_000, 2**31 - 1)), b""),
            png(10_000, 10_000, rows), png(8_000, 8_000, rows), png(30_000, 30_000, rows),
            b"GIF89a" + b"\xff" * 4 + bytes(9) + b",\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
            b"BM" + bytes(8) + struct.pack("<IIiiHH", 54, 40, 60_000, 60_000, 1, 24) + bytes(44),
            b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
            b"P6\n99999 99999\n255\n",
            b"8BPS\0\1" + bytes(6) + struct.pack(">HII", 3, 30000, 30000) + bytes(30),
            png(4000, 4000, b"", text=zlib.compress(bytes(100 * 2**20), 9)),
        )
    )  # fmt: skip
    if target.key is None:
        body, kind = form([Part("files", packed, "x.gz")])
        encoded = kind + b"content-encoding: gzip\r\n"
        return [request(target, rng, "POST", "/gradio_api/upload", packed, encoded)]
    if rng.random() < 0.3:
        body, kind = form(media(target))
        zipped = gzip.compress(body + bytes(32 * 2**20))
        headers = kind + b"content-encoding: gzip\r\n"
        return [request(target, rng, "POST", "/v1/videos", zipped, headers)]
    return [post_video(target, rng, Part("portrait", picture, "p"), media(target)[1])]


def png(width: int, height: int, rows: bytes, *, text: bytes = b"") -> bytes:
    """A picture that says how large it is, with whatever rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    note = chunk(b"zTXt", b"note\0\0" + text) if text else b""
    return b"\x89PNG\r\n\x1a\n" + header + note + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def oversized(target: Target, rng: random.Random) -> list[Answer]:
    """A body that is larger than it may be, said or not."""
    addresses = (
        ("/v1/videos", "/v1/live/offer", "/v1/info", "/healthz")
        if target.key is not None
        else ("/gradio_api/upload", "/gradio_api/queue/join", "/login", "/healthz", "/")
    )
    start = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\n" % rng.choice(addresses).encode()
    start += target.login() + b"connection: close\r\n"
    if rng.random() < 0.4:
        length = rng.choice((b"99999999999", b"9" * 40, b"200000000"))
        return [
            send(target, rng, [start + b"content-length: " + length + b"\r\n\r\n" + bytes(5000)])
        ]
    kind = b"content-type: multipart/form-data; boundary=cut\r\n"
    chunks = [start + kind + b"transfer-encoding: chunked\r\n\r\n"]
    chunks += [b"10000\r\n" + bytes(2**16) + b"\r\n"] * rng.choice((8, 80))
    return [send(target, rng, [*chunks, b"0\r\n\r\n"])]


def json_body(target: Target, rng: random.Random) -> list[Answer]:
    """JSON where JSON is expected, and where it is not."""
    addresses = (
        ("/v1/live/offer", "/v1/videos", "/v1/live/offer", "/v1/live/offer")
        if target.key is not None
        else ("/gradio_api/queue/join", "/gradio_api/run/generate", "/gradio_api/call/generate",
              "/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/call/v2/generate", "/login",
              "/gradio_api/component_server", "/gradio_api/stream/x/y/z/playlist.m3u8")
    )  # fmt: skip
    kind = b"content-type: " + rng.choice((b"application/json", b"text/plain", b"x")) + b"\r\n"
    return [request(target, rng, "POST", rng.choice(addresses), odd_json(rng), kind)]


def ask_page(target: Target, rng: random.Random) -> list[Answer]:
    """Ask the page for a video of a file of the machine, or with values that nobody means."""
    named = rng.choice(disguises(str(target.canary)))
    meta = {"_type": "gradio.FileData"}
    shapes: tuple[Any, ...] = (
        {"path": named}, {"path": named, "meta": meta}, {"path": named, "url": named, "meta": meta},
        [{"path": named, "meta": meta}], {"value": {"path": named}, "__type__": "update"}, named,
        {"url": named}, {"image": {"path": named}}, {"path": [named]}, {"path": {"path": named}},
        {"name": named, "is_file": True, "data": None}, {"video": {"path": named}, "subtitles": 1},
        {"PATH": named}, {"path": None, "orig_name": named, "meta": meta}, {"path": 5},
    )  # fmt: skip
    data: list[Any] = [None] * target.page_fields
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(max(1, len(data)))
        odd = (*shapes, *ODD_TEXTS, 1e308, -1, [], {}, True)
        if data:
            data[place] = rng.choice(odd if place > 2 else shapes)
    session = rng.randbytes(5).hex()
    number = rng.choice((*[target.page_function] * 6, 0, 1, 3, 99, -1))
    body = {"data": data, "fn_index": number, "session_hash": session}
    if rng.random() < 0.2:
        body |= {"trigger_id": named, "event_data": {"path": named}, "api_name": named}
    kind = b"content-type: application/json\r\n"
    content = json.dumps(body).encode("utf-8", "replace")
    joined = request(target, rng, "POST", "/gradio_api/queue/join", content, kind)
    if joined.status != 200:
        return [joined]
    return [joined, _events(target, rng, f"/gradio_api/queue/data?session_hash={session}")]


def _events(target: Target, rng: random.Random, address: str) -> Answer:
    """What the page says of a request, until it is over."""
    content, deadline = b"", time.monotonic() + HANGS_SECONDS
    with target.connect(rng) as connection:
        connection.sendall(f"GET {address} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        connection.settimeout(20.0)
        while b"process_completed" not in content and b"close_stream" not in content:
            if time.monotonic() > deadline:
                return Answer(status_of(content), content, True)
            try:
                piece = connection.recv(2**16)
            except OSError:
                break
            if not piece:
                break
            content += piece
    return Answer(status_of(content), content)


def hang_up_on_page(target: Target, rng: random.Random) -> list[Answer]:
    """Ask for something and do not wait for it."""
    body = json.dumps({"data": [None] * target.page_fields, "fn_index": 1, "session_hash": "gone"})
    with target.connect(rng) as connection, suppress(OSError):
        connection.sendall(
            b"POST /gradio_api/queue/join HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: "
            b"application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body.encode()
        )
    return [Answer(0, b"")]


def cancelled_video(target: Target, rng: random.Random) -> list[Answer]:
    """A video that is asked for, looked at in every way, and deleted."""
    asked = post_video(target, rng, *media(target), Part("size", b"128"))
    if asked.status != 202:
        return [asked]
    identifier = json.loads(asked.content.split(b"\r\n\r\n", 1)[1])["id"]
    address, answers = f"/v1/videos/{identifier}", [asked]
    ways = ("GET", "DELETE", "PUT", "POST", "HEAD", "PATCH")
    for _ in range(rng.randrange(6)):
        ending = rng.choice(("", "/result", "/result/", "/", "/../result", "/result?x=1"))
        answers.append(request(target, rng, rng.choice(ways), address + ending))
    time.sleep(rng.random())
    return [*answers, request(target, rng, "DELETE", address)]


SERVE: dict[Attack, int] = {
    option: 5, server_file: 4, file_name: 2, path: 6, name: 4, malformed: 6, slow: 2, gone: 3,
    bomb: 3, oversized: 2, json_body: 3, socket_frames: 6, offer: 3, cancelled_video: 2,
    socket_texts: 4, portraits: 4, events: 3, webhook: 4, repeated: 4, other_owner: 3, quota: 1,
}  # fmt: skip
"""Attacks on ``moda serve``, with how often each is drawn."""
PAGE: dict[Attack, int] = {
    file_name: 4, path: 9, name: 4, malformed: 4, slow: 1, gone: 3, bomb: 2, oversized: 2,
    json_body: 5, ask_page: 12, hang_up_on_page: 1,
}  # fmt: skip
"""Attacks on ``moda web``."""


def draw(attacks: dict[Attack, int], rng: random.Random, count: int) -> Iterator[Attack]:
    """So many attacks, in the order of chance."""
    yield from rng.choices(list(attacks), list(attacks.values()), k=count)
