"""Permissions (RFC 8656, sections 9 and 10)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("TURN-9-2")
def test_any_port_of_the_address(a, peer):
    p, q = peer(), peer()
    a.perm(p.address[0])
    for one in (p, q):
        one.send(b"from here", a.relay)
        assert a.take_data() == (one.address, b"from here")


@covers("TURN-9-3")
def test_no_permission_no_word(a, lab, peer):
    p = peer(PEERS4[1])
    a.perm(PEERS4[0])
    with Tap(lab.peer) as tap:
        p.send(b"hello", a.relay)
        assert p.silent() and a.silent()
        assert not tap.frames(lambda f: f.protocol in (1, 58))


@covers("TURN-9-4")
def test_permission_of_another_allocation(client, p):
    a, b = client(), client()
    a.alloc()
    b.alloc()
    a.perm(p.address[0])
    p.send(b"hello", b.relay)
    b.send_to(p.address, b"hello")
    assert p.silent() and b.silent() and p.silent()


SHORT = pytest.mark.config(limits={"permission_lifetime": "3 s", "channel_lifetime": "6 s"})


@SHORT
@covers("TURN-9-1", "TURN-9-6", "TURN-9-7", "TURN-9-8", "TURN-11.2-3", "TURN-12.6-3", "TURN-12.6-4",
        "TURN-12.6-5", "DEC-7")
def test_lifetimes(client, peer):
    """
    Permissions of 3 s, channels of 6 s. Traffic extends neither; CreatePermission and ChannelBind
    do. With the permission gone a bound channel carries data to the peer, but not back.
    """
    c, p, q = client(), peer(PEERS4[0]), peer(PEERS4[1])
    c.alloc()
    c.perm(q.address[0])
    c.bind(0x4000, p.address)
    start = time.monotonic()

    def until(seconds):
        while time.monotonic() < start + seconds:
            c.send_on(0x4000, b"up")
            c.send_to(q.address, b"up")
            p.send(b"down", c.relay)
            q.send(b"down", c.relay)
            time.sleep(0.02)
        counts = len(drain(p.socket)), len(drain(q.socket))
        got = [raw for raw, _ in drain(c.socket)]
        return *counts, sum(r[0] >= 0x40 for r in got), sum(r[0] < 0x40 for r in got)

    assert min(until(1.7)) > 20
    c.perm(q.address[0])  # until 4.7
    until(3.3)
    to_p, to_q, from_p, from_q = until(4)
    assert to_p > 5 and to_q > 5 and from_q > 5
    assert from_p == 0
    until(6.3)
    assert until(6.6) == (0, 0, 0, 0)
    c.bind(0x4001, p.address)
    c.send_on(0x4001, b"again")
    assert p.take() == (b"again", c.relay)
    p.send(b"again", c.relay)
    assert c.take_channel() == (0x4001, b"again")


@SHORT
@covers("TURN-9-6")
def test_bind_refreshes_the_permission(client, peer):
    c, p = client(), peer()
    c.alloc()
    c.perm(p.address[0])
    time.sleep(1.7)
    c.bind(0x4000, p.address)
    time.sleep(1.7)  # beyond the end of the first
    q = peer()
    q.send(b"still permitted", c.relay)
    assert c.take_data() == (q.address, b"still permitted")


@covers("TURN-10.2-3")
def test_none(a):
    assert a.permit().code == 400


@table("bad", ("TURN-10.2-4+TURN-10.2-8", xor_address(PEERS4[1], 0, family=3)),
       ("TURN-10.2-4", b"\0\1"))
def test_one_malformed_of_several(a, p, bad):
    tid = os.urandom(12)
    good = attribute(XPA, xor_address(p.address[0], 0, tid))
    for order in ([good, attribute(XPA, bad)], [attribute(XPA, bad), good]):
        assert a.request(CREATE_PERMISSION, order, tid).code == 400
        p.send(b"nothing was installed", a.relay)
        assert p.silent() and a.silent()


@table("count", ("TURN-10.2-5+CLI-PION-1", 1), ("TURN-10.2-5+CLI-PION-1", 2),
       ("TURN-10.2-5+CLI-PION-1", 20))
def test_many(a, p, count):
    addresses = PEERS4 + [f"203.0.113.{n}" for n in range(100, 110)]
    m = a.perm(*addresses[:count])
    assert m.types() == [MI]
    a.send_to(p.address, b"one of them")
    assert p.take() == (b"one of them", a.relay)


@covers("TURN-10.2-6", "TURN-10.2-10", "TURN-11.2-7")
def test_port_is_ignored(a, peer):
    a.perm(PEERS4[0])
    for _ in range(2):
        p = peer()
        a.send_to(p.address, b"any port")
        assert p.take() == (b"any port", a.relay)


@covers("TURN-10.2-7", "TURN-10.2-8", "P20")
def test_one_forbidden_of_several(a, p):
    for order in ([p.address[0], DENIED_PEER], [DENIED_PEER, p.address[0]]):
        assert a.permit(*order).code == 403
        p.send(b"nothing was installed", a.relay)
        a.send_to(p.address, b"nothing was installed")
        assert p.silent() and a.silent() and p.silent()


@pytest.mark.config(limits={"permissions_per_allocation": 10})
@covers("TURN-10.2-9", "R06")
def test_table_is_full(client, p):
    c = client()
    c.alloc()
    addresses = PEERS4[:10]
    for address in addresses:
        c.perm(address)
    assert c.permit("203.0.113.120").code == 508
    c.perm(*addresses)
    c.perm(p.address[0])
    assert c.channel_bind(0x4000, ("203.0.113.121", 9)).code == 508
    assert client().allocate().code == 0


@pytest.mark.config(limits={"permissions_per_allocation": 10})
@covers("TURN-10.2-9", "R15")
def test_too_many_in_one_request(client, p):
    c = client()
    c.alloc()
    assert c.permit(p.address[0], *(f"203.0.113.{n}" for n in range(100, 110))).code == 508
    p.send(b"nothing was installed", c.relay)
    assert p.silent() and c.silent()


@table("addresses, family",
       ("TURN-14-P1+P14+DP-26-5+D16", CLIENTS4, V4), ("TURN-14-P1+P14+DP-26-5+D16", CLIENTS6, V6),
       ("TURN-14-P1+P14", CLIENTS4, V6))
def test_relay_to_relay(client, lab, addresses, family):
    """Both clients behind the same relay: inside the server, nothing on the wire."""
    a, b = client(addresses[0]), client(addresses[1])
    a.alloc(attribute(RAF, family))
    b.alloc(attribute(RAF, family))
    a.perm(b.relay[0])
    b.perm(a.relay[0])
    with Tap(lab.peer) as tap:
        for n in range(200):
            a.send_to(b.relay, b"%d" % n)
            assert b.take_data() == (a.relay, b"%d" % n)
            b.send_to(a.relay, b"back %d" % n)
            assert a.take_data() == (b.relay, b"back %d" % n)
        a.bind(0x4000, b.relay)
        b.bind(0x4001, a.relay)
        for n in range(200):
            a.send_on(0x4000, b"%d" % n)
            assert b.take_channel() == (0x4001, b"%d" % n)
            b.send_on(0x4001, b"back %d" % n)
            assert a.take_channel() == (0x4000, b"back %d" % n)
        assert a.silent() and b.silent()
        assert not tap.frames(lambda f: f.source == a.relay[0])


@covers("P14")
def test_relay_to_relay_needs_both_permissions(client):
    a, b = client(), client()
    a.alloc()
    b.alloc()
    a.perm(b.relay[0])
    a.send_to(b.relay, b"no")
    assert a.silent() and b.silent()


@covers("TURN-14-P2", "CLI-FF-4", "CLI-WEB-8")
def test_permission_and_data_in_one_burst(client, p):
    c = client()
    c.alloc()
    for n in range(200):
        if n % 50 == 0:
            c.refresh(0)
            c.alloc()
        tid = os.urandom(12)
        raw = c.signed(CREATE_PERMISSION, [attribute(XPA, xor_address(*p.address, tid))], tid)
        data = c.indication(p.address, b"%d" % n)
        c.send(raw)
        c.send(data)
        assert Message(c.answer_to(raw)).code == 0
        assert p.take() == (b"%d" % n, c.relay)


@covers("CLI-WEB-7")
def test_many_refusals_do_no_harm(a, p):
    for n in range(50):
        assert a.permit(f"127.0.0.{n}").code == 403
    a.perm(p.address[0])
    a.send_to(p.address, b"fine")
    assert p.take() == (b"fine", a.relay)
