"""Who a client is."""

from __future__ import annotations

import pytest

from moda.doors.clients import Presence, client_of, network_of, without_proxy_headers
from moda.doors.names import Names


def scope(peer: str, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (peer, 1), "headers": headers}


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "10.0.0.7", "203.0.113.5"])
@pytest.mark.parametrize("forwarded", ["1.2.3.4", "127.0.0.1", "1.2.3.4, 5.6.7.8", "", "x", "::9"])
def test_nobody_chooses_an_address_without_a_proxy(peer: str, forwarded: str) -> None:
    assert client_of(scope(peer, forwarded), behind_proxy=False) == network_of(peer)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (("1.2.3.4",), "1.2.3.4"),
        (("9.9.9.9, 1.2.3.4",), "1.2.3.4"),
        (("9.9.9.9", "1.2.3.4"), "1.2.3.4"),
        (("1.2.3.4, nobody",), "127.0.0.1"),
        (("",), "127.0.0.1"),
        ((), "127.0.0.1"),
        (("2001:db8::7",), "2001:db8::/64"),
    ],
)
def test_a_proxy_says_only_the_last_address(forwarded: tuple[str, ...], client: str) -> None:
    assert client_of(scope("127.0.0.1", *forwarded), behind_proxy=True) == client


def test_a_stranger_is_no_proxy() -> None:
    assert client_of(scope("8.8.8.8", "1.2.3.4"), behind_proxy=True) == "8.8.8.8"


def test_a_network_of_ipv6_is_one_client() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db9::1")
    assert network_of("::ffff:1.2.3.4") == "1.2.3.4"
    assert network_of("unknown") == "unknown"


def test_what_only_a_proxy_may_say_is_taken_away() -> None:
    told = [
        (b"x-forwarded-host", b"evil"), (b"x-forwarded-proto", b"https"), (b"forwarded", b"for=x"),
        (b"x-real-ip", b"1.2.3.4"), (b"host", b"x"),
    ]  # fmt: skip
    assert without_proxy_headers({"headers": told})["headers"] == [(b"host", b"x")]


def test_presence_forgets_who_has_gone() -> None:
    present = Presence(2)
    with present.counted("a"), present.counted("a"):
        assert present.is_full("a")
        assert not present.is_full("b")
        assert present.total == 2
    assert present.total == 0
    assert not present._counts


@pytest.mark.parametrize(
    ("host", "has_login", "asked", "status"),
    [
        ("127.0.0.1", True, "127.0.0.1:8000", None),
        ("127.0.0.1", True, "[::1]:8000", None),
        ("127.0.0.1", True, "LOCALHOST", None),
        ("127.0.0.1", True, "talk.example.org", None),
        ("127.0.0.1", True, "evil.example", 421),
        ("127.0.0.1", True, "192.168.1.5", 421),
        ("127.0.0.1", True, "127.0.0.1.evil.example", 421),
        ("127.0.0.1", True, "127.0.0.1@evil.example", 421),
        ("127.0.0.1", True, "[::", 421),
        ("127.0.0.1", True, "", 421),
        ("0.0.0.0", False, "192.168.1.5:7860", None),
        ("0.0.0.0", False, "evil.example", 421),
        ("0.0.0.0", True, "evil.example", None),
    ],
)
def test_a_server_answers_to_its_names(
    host: str, has_login: bool, asked: str, status: int | None
) -> None:
    names = Names(host, ["https://talk.example.org"], has_login=has_login)
    refusal = names.refusal({"host": asked})
    assert (refusal[0] if refusal else None) == status


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://[::", "http://127.0.0.1:1", "//"]
)
def test_pages_of_others_are_refused(origin: str) -> None:
    names = Names("127.0.0.1", [], has_login=False)
    assert names.refusal({"host": "127.0.0.1:8000", "origin": origin})[0] == 403
