"""Hostile requests to what keys own: videos, events, webhooks, portraits, repeats, quotas."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from attack_live import Message, converse
from attack_target import Answer, Hooks, Part, Target, form, media, request, send

OWN, LIMITED = "key-of-the-attack-0123456789", "key-of-the-attack-limited-01"
OTHER = "key-of-the-attack-another-01"
KEY_LINES = f"{OWN}\n{OTHER}\n{LIMITED} videos=1 minutes=1 sessions=1\n"
PORTRAITS = "/v1/live/portraits"
SHORT = Part("size", b"64")


class _Receiver(BaseHTTPRequestHandler):
    """Takes webhooks as badly as receivers can."""

    hooks: ReceivedHooks

    def do_POST(self) -> None:
        hooks = self.hooks
        hooks.note(self.headers.items())
        self.rfile.read(min(int(self.headers["content-length"] or 0), 10**6))
        kind = self.path.strip("/").partition("?")[0]
        if kind == "redirect":
            self.send_response(302)
            self.send_header("location", hooks.trap)
            self.end_headers()
        elif kind == "endless":
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"HTTP/1.1 " + b"2" * 2**16)
        elif kind == "nothing":
            self.close_connection = True
        elif kind == "slow":
            time.sleep(12.0)
        else:
            self.send_response(int(kind) if kind in ("200", "410", "500") else 204)
            self.end_headers()

    do_GET = do_POST  # noqa: N815

    def log_message(self, *values: object) -> None:
        """Nothing is said."""


class ReceivedHooks:
    """A receiver that the operator allows, and a service beside it that nobody may reach."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        """What was called that should not have been, or how."""
        self._receiver, self._trap = (
            ThreadingHTTPServer(("127.0.0.1", 0), type(kind.__name__, (kind,), {"hooks": self}))
            for kind in (_Receiver, _Trap)
        )
        for server in (self._receiver, self._trap):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.allowed, self.trap = (
            f"http://127.0.0.1:{server.server_port}" for server in (self._receiver, self._trap)
        )

    def note(self, headers: Iterable[tuple[str, str]]) -> None:
        """A message came: it must be signed, and have no header that a client has put into it."""
        names = {name.lower() for name, _ in headers}
        if "webhook-signature" not in names or "x-injected" in names or len(names) > 8:
            self.wrong.append(f"a webhook with the headers {sorted(names)}")

    def close(self) -> None:
        """End both."""
        for server in (self._receiver, self._trap):
            server.shutdown()
            server.server_close()


class _Trap(_Receiver):
    def do_POST(self) -> None:
        self.hooks.wrong.append(f"a private service was called: {self.requestline}")

    do_GET = do_POST  # noqa: N815


@contextmanager
def receiving() -> Iterator[ReceivedHooks]:
    """Receivers that end with the context."""
    hooks = ReceivedHooks()
    try:
        yield hooks
    finally:
        hooks.close()


def ask_video(
    target: Target, rng: random.Random, *parts: Part, key: str | None = None, headers: bytes = b""
) -> Answer:
    """Ask for a small video with a key."""
    body, kind = form([*media(target), SHORT, *parts])
    other = target if key is None else target.with_key(key)
    return request(other, rng, "POST", "/v1/videos", body, kind + headers)


def identifier_of(answer: Answer) -> str | None:
    """Of a video that was taken."""
    if answer.status != 202:
        return None
    return str(json.loads(answer.content.split(b"\r\n\r\n", 1)[1])["id"])


def webhook(target: Target, rng: random.Random) -> list[Answer]:
    """An address that nobody should be able to have called."""
    hooks: Hooks | None = target.hooks
    allowed, trap = (hooks.allowed, hooks.trap) if hooks else ("http://127.0.0.1:9", "http://[::1]")
    host, port = trap.removeprefix("http://"), trap.rsplit(":", 1)[-1]
    address = rng.choice(
        (
            trap, trap + "/moda", f"{allowed}@{host}/", f"{allowed}#@{host}/",
            f"{allowed}\\@{host}", f"http://localhost:{port}/", f"http://[::1]:{port}/", f"http://0:{port}/",
            f"http://[::ffff:127.0.0.1]:{port}/", f"http://2130706433:{port}/",
            f"http://0x7f.1:{port}/", f"http://127.1:{port}/", f"http://0.0.0.0:{port}/",
            "http://169.254.169.254/latest/meta-data", "http://[fe80::1%25lo]/", "http://100.64.0.1",
            f"file://{target.canary}", f"gopher://{host}/_POST", f"unix://{target.canary}",
            f"{allowed}/\r\nx-injected: 1", f"{allowed}/ HTTP/1.1\r\nx-injected: 1\r\n\r\n",
            f"{allowed}/%0d%0ax-injected:%201", f"{allowed}/\u010d\u010ax-injected: 1",
            f"{allowed}//{host}/", f"{allowed}/../..//{host}/", f"{allowed}?@{host}",
            f"https://{allowed.removeprefix('http://')}/", f"{allowed}:{port}/", "http://", "//",
            allowed + "/" + "a" * 3000, "http://" + "a" * 300 + ".test/", "http://[::1", "\0",
            *(f"{allowed}/{kind}" for kind in (
                "redirect", "redirect", "endless", "nothing", "slow", "410", "500", "200")),
        )
    )  # fmt: skip
    asked = ask_video(target, rng, Part("webhook", address.encode()))
    identifier = identifier_of(asked)
    if identifier is None:
        return [asked]
    time.sleep(rng.random() * 6.0)
    return [asked, request(target, rng, "DELETE", f"/v1/videos/{identifier}")]


def other_owner(target: Target, rng: random.Random) -> list[Answer]:
    """Whatever one key has asked for, another one finds nothing of it."""
    asked = ask_video(target, rng)
    identifier = identifier_of(asked)
    if identifier is None:
        return [asked]
    address, answers = f"/v1/videos/{identifier}", [asked]
    stranger = target.with_key(rng.choice((OTHER, LIMITED)))
    for _ in range(3):
        method, ending = rng.choice(
            (
                ("GET", ""),
                ("DELETE", ""),
                ("GET", "/result"),
                ("HEAD", "/result"),
                ("GET", "/events"),
            )
        )
        answer = request(stranger, rng, method, address + ending)
        is_told = 200 <= answer.status < 300 or answer.status in (409, 410)
        wrong = f"{answer.status} for {method} {ending} of a stranger's video" if is_told else ""
        answers.append(answer._replace(wrong=wrong))
    listed = request(stranger, rng, "GET", "/v1/videos")
    if identifier.encode() in listed.content:
        listed = listed._replace(wrong="a stranger's video is listed")
    last = request(target, rng, "DELETE", address)
    wrong = "a stranger has removed a video" if last.status == 404 else ""
    return [*answers, listed, last._replace(wrong=wrong)]


def repeated(target: Target, rng: random.Random) -> list[Answer]:
    """Idempotency keys that are odd, used twice, at once, or by others."""
    odd = rng.choice(
        (
            b"", b" ", b"x" * 255, b"x" * 256, b"x" * 60_000, b"\xff\xfe", b"\t", b"a\tb", b"\0",
            "\u00fc\U0001f600".encode(), b"'; DROP TABLE videos;--", b"%s%n", b"../../x", b"a,b",
            b"a\r\nidempotency-key: b", b"null", rng.randbytes(20).hex().encode(),
        )
    )  # fmt: skip
    header = b"idempotency-key: " + odd + b"\r\n"
    ways = rng.randrange(4)
    if ways == 0:
        found = [ask_video(target, rng, headers=header)]
    elif ways == 1:
        found = _at_once(
            [partial(ask_video, target, random.Random(n), headers=header) for n in range(3)]
        )
    elif ways == 2:
        other = Part("seed", b"%d" % rng.randrange(10**6))
        found = [ask_video(target, rng, *parts, headers=header) for parts in ((), (other,))]
    else:
        found = [ask_video(target, rng, key=key, headers=header) for key in (OWN, OTHER)]
        names = [name for name in map(identifier_of, found) if name]
        if len(set(names)) < len(names):
            found[1] = found[1]._replace(wrong="two keys were given one video")
    for answer, key in zip(found, (OWN, OTHER if ways == 3 else OWN, OWN), strict=False):
        name = identifier_of(answer)
        if name is not None:
            request(target.with_key(key), rng, "DELETE", f"/v1/videos/{name}")
    return found


def quota(target: Target, rng: random.Random) -> list[Answer]:
    """More at once than a key may have."""
    found = _at_once([partial(ask_video, target, random.Random(n), key=LIMITED) for n in range(4)])
    limited = target.with_key(LIMITED)
    listed = request(limited, rng, "GET", "/v1/videos")
    waiting = listed.content.count(b'"state":"queued"') + listed.content.count(b'"running"')
    if waiting > 1:
        listed = listed._replace(wrong=f"{waiting} videos of a key that may have one")
    for name in filter(None, map(identifier_of, found)):
        request(limited, rng, "DELETE", f"/v1/videos/{name}")
    return [*found, listed]


def events(target: Target, rng: random.Random) -> list[Answer]:
    """Events of a video that are asked for oddly, read slowly, or left."""
    asked = ask_video(target, rng)
    identifier = identifier_of(asked) or "x"
    address = f"/v1/videos/{quote(identifier)}/events"
    headers = rng.choice(
        (b"", b"accept: text/event-stream\r\n", b"last-event-id: " + b"9" * 400 + b"\r\n",
         b"range: bytes=5-\r\n", b"accept-encoding: gzip, br\r\n", b"te: trailers\r\n")
    )  # fmt: skip
    head = f"GET {address} HTTP/1.1\r\nhost: 127.0.0.1\r\n".encode() + target.login() + headers
    ways = rng.randrange(4)
    if ways == 0:  # a reader that never reads
        with target.connect(rng) as connection, suppress(OSError):
            connection.sendall(head + b"\r\n")
            time.sleep(rng.random() * 4.0)
        answer = Answer(0, b"")
    elif ways == 1:
        answer = request(target, rng, rng.choice(("HEAD", "POST", "DELETE")), address)
    elif ways == 2:  # many at once
        with suppress(OSError):
            crowd = [target.connect(rng) for _ in range(20)]
            for connection in crowd:
                connection.sendall(head + b"\r\n")
            for connection in crowd:
                connection.close()
        answer = Answer(0, b"")
    else:
        answer = send(target, rng, [head + b"connection: close\r\n\r\n"])
    return [asked, answer, request(target, rng, "DELETE", f"/v1/videos/{quote(identifier)}")]


def portraits(target: Target, rng: random.Random) -> list[Answer]:
    """Portraits for live sessions that are none, nobody's, or somebody else's."""
    content = rng.choice(
        (target.portrait, target.portrait[:300], b"", b"GIF89a" + bytes(40), rng.randbytes(4000),
         b"P6\n99999 99999\n255\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
         b"\x89PNG\r\n\x1a\n" + bytes(60), bytes(6 * 10**6))
    )  # fmt: skip
    name = rng.choice((None, "", str(target.canary), "../x.jpg", "\u202egpj.x", "a" * 4000, "con"))
    parts = [Part("portrait", content, name or "p")] * rng.choice((1, 1, 1, 3, 60))
    if rng.random() < 0.2:
        parts += [Part(rng.choice(("path", "portrait", "x")), str(target.canary).encode())] * 5
    body, kind = form(parts)
    brought = request(
        target, rng, "POST", PORTRAITS + rng.choice(("", "", "/", "?x=1")), body, kind
    )
    if brought.status != 201:
        return [brought]
    portrait = json.loads(brought.content.split(b"\r\n\r\n", 1)[1])["portrait"]
    stranger, answers = target.with_key(OTHER), [brought]
    removed = request(stranger, rng, "DELETE", f"{PORTRAITS}/{portrait}")
    wrong = "a stranger has removed a portrait" if removed.status == 204 else ""
    answers.append(removed._replace(wrong=wrong))
    if rng.random() < 0.4:
        start: Message = {"type": "start", "portrait": portrait, "sample_rate": 16_000}
        shown = converse(stranger, rng, [start, {"type": "end"}])
        wrong = "a stranger's portrait is shown" if b'"started"' in shown.content else ""
        answers.append(shown._replace(wrong=wrong))
    odd = rng.choice((portrait, portrait + "/..", f"../{portrait}", "%2e%2e%2f", "upload-x", "*"))
    answers.append(request(target, rng, rng.choice(("DELETE", "GET")), f"{PORTRAITS}/{odd}"))
    return [*answers, request(target, rng, "DELETE", f"{PORTRAITS}/{portrait}")]


def remove_all(target: Target) -> None:
    """Delete the videos of all keys: what is kept for clients is not left behind."""
    rng = random.Random(0)
    for key in (OWN, OTHER, LIMITED):
        owner = target.with_key(key)
        listed = request(owner, rng, "GET", "/v1/videos").content.partition(b"\r\n\r\n")[2]
        for video in json.loads(listed or b"{}").get("videos", ()):
            request(owner, rng, "DELETE", f"/v1/videos/{video['id']}")


def _at_once(calls: Iterable[Callable[[], Answer]]) -> list[Answer]:
    found: list[Answer] = []
    threads = [threading.Thread(target=lambda one=one: found.append(one())) for one in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
