"""EVEN-PORT and RESERVATION-TOKEN (RFC 8656, section 7)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


def reserve(client, *arguments, **keywords):
    c = client(*arguments, **keywords)
    m = c.alloc(attribute(EVEN_PORT, b"\x80"))
    assert c.relay[1] % 2 == 0
    assert len(m.get(TOKEN)) == 8
    return c, m.get(TOKEN)


@covers("TURN-7.2-26")
def test_even_without_reservation(client):
    for _ in range(50):
        c = client()
        m = c.alloc(attribute(EVEN_PORT, b"\0"))
        assert c.relay[1] % 2 == 0 and TOKEN not in m.types()


@covers("TURN-7.2-27", "TURN-7.2-36", "TURN-7.2-37", "TURN-7.2-5c", "N16")
def test_pairs(client):
    """The token is good on any 5-tuple, once."""
    for n in range(30):
        first, token = reserve(client, CLIENTS4[n % 3])
        second = client(CLIENTS6[0] if n % 2 else CLIENTS4[5], None if n % 2 else (SERVER4B, PORT))
        second.alloc(attribute(TOKEN, token))
        assert second.relay == (first.relay[0], first.relay[1] + 1)
        assert client().allocate(attribute(TOKEN, token)).code == 508
        second.refresh(0)
        assert client().allocate(attribute(TOKEN, token)).code == 508


@table("attributes, code",
       ("TURN-7.2-5b+F13", [attribute(TOKEN, bytes(8)), attribute(EVEN_PORT, b"\0")], 400),
       ("TURN-7.2-5b+F13", [attribute(EVEN_PORT, b"\x80"), attribute(TOKEN, bytes(8))], 400),
       ("TURN-7.2-5c", [attribute(TOKEN, os.urandom(8))], 508),
       ("TURN-7.2-5c", [attribute(TOKEN, bytes(8))], 508),
       *(("TURN-18.10-1", [attribute(TOKEN, bytes(n))], 400) for n in (0, 4, 7, 16)))
def test_refused(c, attributes, code):
    assert c.allocate(*attributes).code == code
    c.alloc()


@covers("TURN-7.2-38", "N16")
def test_token_of_another_user(client):
    first, token = reserve(client)
    assert client(user="bob").allocate(attribute(TOKEN, token)).code == 508
    second = client()
    second.alloc(attribute(TOKEN, token))
    assert second.relay[1] == first.relay[1] + 1


@table("value, has_token", ("TURN-18.7-1", b"\x7f", False), ("TURN-18.7-1", b"\xff", True))
def test_reserved_bits(c, value, has_token):
    m = c.alloc(attribute(EVEN_PORT, value))
    assert c.relay[1] % 2 == 0 and (TOKEN in m.types()) == has_token


@table("value", ("TURN-18.7-1", b""), ("TURN-18.7-1", bytes(4)))
def test_malformed_even_port(c, value):
    assert c.allocate(attribute(EVEN_PORT, value)).code in (0, 400)
    assert c.silent()


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50003"})
@covers("TURN-7.2-39", "TURN-7.2-8b")
def test_reserved_port_is_nobody_elses(client):
    first, token = reserve(client)
    others = [client() for _ in range(2)]
    for c in others:
        c.alloc()
        assert c.relay[1] not in (first.relay[1], first.relay[1] + 1)
    assert client().allocate().code == 508
    assert client().allocate(attribute(EVEN_PORT, b"\0")).code == 508
    second = client()
    second.alloc(attribute(TOKEN, token))
    assert second.relay[1] == first.relay[1] + 1


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50001-50001"})
@covers("TURN-7.2-8b")
def test_no_even_port(client):
    assert client().allocate(attribute(EVEN_PORT, b"\0")).code == 508
    client().alloc()


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50000"})
@covers("TURN-7.2-8b")
def test_no_pair(client):
    assert client().allocate(attribute(EVEN_PORT, b"\x80")).code == 508
    client().alloc(attribute(EVEN_PORT, b"\0"))


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50019"})
@covers("R05")
def test_even_port_holds_no_neighbour(client):
    """Ten even ports; none of the odd ones is lost to them. Nor by giving them back."""
    for _ in range(30):
        c = client()
        c.alloc(attribute(EVEN_PORT, b"\0"))
        c.refresh(0)
    evens = [client() for _ in range(10)]
    for c in evens:
        c.alloc(attribute(EVEN_PORT, b"\0"))
    odds = [client() for _ in range(10)]
    for c in odds:
        c.alloc()
    assert sorted(c.relay[1] for c in evens + odds) == list(range(50000, 50020))
