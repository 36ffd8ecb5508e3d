"""Binding and the basic STUN server (RFC 8489, section 12)."""

from harness import *
from rows import covers, table
from turn import *


@table("address, size",
       ("STUN-12-1+STUN-12-2+STUN-12-4+STUN-12-6+STUN-6.3.1.1-2+L01+STUN-16.1.2-2", CLIENTS4[1], 32),
       ("STUN-12-1+STUN-12-2+STUN-12-4+STUN-12-6+STUN-6.3.1.1-2+L01+STUN-16.1.2-2", CLIENTS6[1], 44))
def test_binding(client, address, size):
    c = client(address)
    m = c.binding()
    assert m.code == 0 and m.address(XMA) == c.address
    assert m.types() == [XMA]
    assert len(m.raw) == size


@covers("STUN-14.2-1")
def test_xor_of_ipv6_depends_on_the_transaction(client):
    c = client(CLIENTS6[0])
    first, second = c.ask(build(BINDING, tid=b"a" * 12)), c.ask(build(BINDING, tid=b"b" * 12))
    assert first.get(XMA) != second.get(XMA)
    assert first.address(XMA) == second.address(XMA) == c.address


@covers("STUN-12-7", "STUN-7-2", "TURN-5-4")
def test_fingerprint_is_mirrored(client):
    plain = client()
    assert FINGERPRINT not in plain.binding().types()
    m = plain.ask(fingerprint(build(BINDING)))
    assert m.types()[-1] == FINGERPRINT and m.fingerprint_right()
    marked = client(fingerprint=True)
    m = marked.alloc()
    assert m.types()[-1] == FINGERPRINT


@table("extra",
       ("STUN-9.1-0", attribute(USERNAME, b"alice") + attribute(MI, bytes(20))),
       ("STUN-9.1-0", attribute(USERNAME, b"nobody") + attribute(MI256, bytes(32))),
       ("STUN-9.1-0", attribute(MI, bytes(20))),
       ("TTC-3-1", attribute(0x8025, b"\0\0\1\0")))
def test_binding_with_more(c, extra):
    assert c.ask(build(BINDING, attributes=extra)).code == 0


@covers("STUN-6.3.2-3")
def test_binding_indication_is_a_keepalive(c, a):
    raw = build(BINDING, INDICATION)
    assert c.dropped(raw) and a.dropped(raw)
    assert a.refresh().code == 0


@covers("TURN-5-0")
def test_binding_beside_an_allocation(a, p):
    a.perm(p.address[0])
    a.binding()
    a.send_to(p.address, b"still here")
    assert p.take() == (b"still here", a.relay)
    assert a.refresh().code == 0


@table("cookie", ("OLD-12-3+F14", 0), ("OLD-12-3+F14", 0xDEADBEEF), ("OLD-12-3+F14", 0x2112A443))
def test_classic_stun_is_not_spoken(c, cookie):
    assert c.dropped(build(BINDING, cookie=cookie))


@covers("TURN-5-1")
def test_turn_without_cookie(c):
    assert c.dropped(build(ALLOCATE, attributes=attribute(RT, UDP), cookie=0x01020304))
    raw = bytearray(c.signed(ALLOCATE, [attribute(RT, UDP)]))
    raw[4] ^= 1
    assert c.dropped(bytes(raw))


@covers("STUN-12-5")
def test_no_redirection(c):
    assert c.binding().code == 0
