"""Channels (RFC 8656, section 12)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("TURN-12.2-3")
def test_incomplete(a):
    tid = os.urandom(12)
    assert a.request(CHANNEL_BIND, [channel_number(0x4000)]).code == 400
    assert a.request(CHANNEL_BIND, [attribute(XPA, xor_address(PEERS4[0], 9, tid))], tid).code == 400
    assert a.request(CHANNEL_BIND).code == 400


@table("number, code",
       *(("TURN-12.2-4+F10+DEC-15+MUX-9.3-1+CLI-PION-5", n, 400)
         for n in (0, 0x3FFF, 0x5000, 0x7FFE, 0x7FFF, 0x8000, 0xFFFF)),
       *(("TURN-12.2-4", n, 0) for n in (0x4000, 0x4FFF)))
def test_numbers(a, p, number, code):
    assert a.channel_bind(number, p.address).code == code
    a.send(channel_data(number, b"data"))
    if code:
        assert a.silent() and p.silent()
    else:
        assert p.take() == (b"data", a.relay)


@pytest.mark.config(compat={"rfc5766_channels": True})
@table("number, code", *(("OLD-5766-11-1+CLI-COT-2", n, 0) for n in (0x4000, 0x5000, 0x7FFE)),
       *(("OLD-5766-11-1", n, 400) for n in (0x3FFF, 0x7FFF, 0x8000, 0xFFFF)))
def test_numbers_of_old_clients(client, p, number, code):
    c = client()
    c.alloc()
    assert c.channel_bind(number, p.address).code == code
    if not code:
        c.send_on(number, b"data")
        assert p.take() == (b"data", c.relay)
        p.send(b"data", c.relay)
        assert c.take_channel() == (number, b"data")


@covers("TURN-12.2-5", "TURN-12.2-6", "TURN-12.2-7", "TURN-12.2-11")
def test_conflicts(a, peer):
    p, q, other = peer(), peer(), peer(PEERS4[1])
    a.bind(0x4000, p.address)
    assert a.channel_bind(0x4000, q.address).code == 400
    assert a.channel_bind(0x4000, other.address).code == 400
    assert a.channel_bind(0x4001, p.address).code == 400
    a.bind(0x4000, p.address)
    a.send_on(0x4000, b"as it was")
    assert p.take() == (b"as it was", a.relay)
    a.send_on(0x4001, b"unbound")
    assert a.silent() and p.silent()
    other.send(b"no permission came of it", a.relay)
    assert other.silent() and a.silent()


@covers("TURN-12-1")
def test_another_port_is_another_peer(a, peer):
    p, q = peer(), peer()
    a.bind(0x4000, p.address)
    a.bind(0x4001, q.address)
    for number, one in ((0x4000, p), (0x4001, q)):
        a.send_on(number, b"%d" % number)
        assert one.take() == (b"%d" % number, a.relay)
        one.send(b"%d" % number, a.relay)
        assert a.take_channel() == (number, b"%d" % number)


@table("address, code",
       ("TURN-12.2-8", DENIED_PEER, 403), ("TURN-12.2-8", "127.0.0.1", 403))
def test_forbidden(a, address, code):
    assert a.channel_bind(0x4000, (address, 9)).code == code


@table("address", ("TURN-21.4-4+P06", "2002:7f00:1::1"), ("TURN-21.4-4+P06", "2001:0:1::1"))
def test_tunnels(client, address):
    c = client()
    c.alloc(attribute(RAF, V6))
    assert c.channel_bind(0x4000, (address, 9)).code == 403
    assert c.permit(address).code == 403


@pytest.mark.config(limits={"channels_per_allocation": 8})
@covers("TURN-12.2-9", "R15")
def test_table_is_full(client, peer):
    c, p = client(), peer()
    c.alloc()
    for n in range(8):
        c.bind(0x4000 + n, (p.address[0], 1000 + n))
    assert c.channel_bind(0x4008, p.address).code == 508
    c.send_on(0x4008, b"no")
    assert c.silent() and p.silent()
    c.bind(0x4003, (p.address[0], 1003))


@covers("TURN-12.2-12", "P23")
def test_port_zero(a):
    assert a.channel_bind(0x4000, (PEERS4[0], 0)).code == 400


@pytest.mark.config(limits={"channels_per_allocation": 4096})
@covers("TURN-12-6")
def test_all_channels(client, peer):
    c, p = client(), peer()
    c.alloc()
    for n in range(0x4000, 0x5000):
        c.bind(n, (p.address[0], 10000 + n - 0x4000))
    for n in (0x4000, 0x4777, 0x4FFF):
        q = peer(p.address[0], 10000 + n - 0x4000)
        c.send_on(n, b"%d" % n)
        assert q.take() == (b"%d" % n, c.relay)


SHORT = pytest.mark.config(limits={"permission_lifetime": "6 s", "channel_lifetime": "3 s"})


@SHORT
@covers("TURN-12-3", "TURN-12-4", "TURN-12.6-3", "CLI-NICE-1", "DP-26-2")
def test_expiry(client, peer, server):
    """Traffic does not extend it; then number and address are free at once."""
    c, p, q = client(), peer(), peer()
    c.alloc()
    c.bind(0x4000, p.address)
    start = time.monotonic()
    count = 0
    while time.monotonic() < start + 1.5:
        c.send_on(0x4000, b"up")
        p.send(b"down", c.relay)
        count += 1
        time.sleep(0.01)
    time.sleep(max(0, start + 3.2 - time.monotonic()))
    assert len(drain(p.socket)) == count and len(drain(c.socket)) == count
    c.perm(p.address[0])
    with server.looked_at():
        c.send_on(0x4000, b"late")
    assert c.silent() and p.silent()
    p.send(b"permitted", c.relay)
    assert c.take_data() == (p.address, b"permitted")
    c.bind(0x4000, q.address)
    c.bind(0x4001, p.address)
    for number, one in ((0x4000, q), (0x4001, p)):
        c.send_on(number, b"new")
        assert one.take() == (b"new", c.relay)


@SHORT
@covers("TURN-12-3", "TURN-12.2-7")
def test_refresh(client, p):
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    time.sleep(1.7)
    c.bind(0x4000, p.address)
    time.sleep(1.7)  # beyond the end of the first
    c.send_on(0x4000, b"still")
    assert p.take() == (b"still", c.relay)


@covers("TURN-12.6-6", "TURN-12.6-7", "F10", "MUX-9.3-1")
def test_unbound(a, p):
    a.bind(0x4000, p.address)
    for number in (0x4001, 0x4FFF, 0x5000, 0x7FFF, 0x8000, 0xFFFF):
        assert a.dropped(channel_data(number, b"no"))
    assert p.silent()


@table("size", *(("TURN-12.6-8+TURN-12.5-3", n) for n in (0, 1, 2, 3, 4, 5, 1200, 1400)))
def test_sizes(a, p, size):
    payload = os.urandom(size)
    a.bind(0x4123, p.address)
    for _ in range(3):
        a.send_on(0x4123, payload)
        assert p.take() == (payload, a.relay)
        p.send(payload, a.relay)
        assert a.take_channel() == (0x4123, payload)


@table("payload, length, tail, arrives",
       ("TURN-12.5-2+CLI-PION-3+F08", b"12345", 5, b"\0" * 3, b"12345"),
       ("TURN-12.5-2+F08", b"12345", 5, b"\xff" * 7, b"12345"),
       ("F08", b"", 0, b"", b""),
       ("F08", b"a", 1, b"a", b"a"),
       ("TURN-12.6-2+F08", b"x" * 50, 100, b"", None),
       ("TURN-12.6-2+F08", b"", 0xFFFF, b"\0", None),
       ("TURN-12.6-2+F08", b"", 1, b"", None))
def test_lengths(a, p, payload, length, tail, arrives):
    a.bind(0x4000, p.address)
    for _ in range(2):
        a.send_on(0x4000, payload, length=length, tail=tail)
        assert a.silent()
        if arrives is None:
            assert p.silent()
        else:
            assert p.take() == (arrives, a.relay)


@table("raw", *(("F08", bytes([0x40, 0, 0][:n])) for n in (1, 2, 3)))
def test_cut_header(a, p, raw):
    a.bind(0x4000, p.address)
    assert a.dropped(raw) and p.silent()


@covers("TURN-12-5", "CLI-WEB-8")
def test_bind_and_data_in_one_burst(a, peer):
    for n in range(100):
        p = peer()
        tid = os.urandom(12)
        raw = a.signed(CHANNEL_BIND, [channel_number(0x4000 + n),
                                      attribute(XPA, xor_address(*p.address, tid))], tid)
        a.send(raw)
        a.send_on(0x4000 + n, b"early")
        assert Message(a.answer_to(raw)).code in (0, 508)
        if n < 60:
            assert p.take() == (b"early", a.relay)


@covers("TURN-5-17", "L06")
def test_other_5_tuples(client, a, p):
    """Without an allocation, or from another port of the same client, data is nothing."""
    a.bind(0x4000, p.address)
    fresh, owner = client(), client()
    owner.alloc()
    for c in (fresh, owner):
        assert c.dropped(channel_data(0x4000, b"no"))
    assert p.silent()


@covers("TURN-18.1-1")
def test_reserved_bits(a, p):
    tid = os.urandom(12)
    m = a.request(CHANNEL_BIND, [channel_number(0x4000, 0xFFFF),
                                 attribute(XPA, xor_address(*p.address, tid))], tid)
    assert m.code == 0 and m.types() == [MI]


@table("value", *(("TURN-18.1-2", bytes([0x40] + [0] * n)[:n]) for n in (0, 2, 8)))
def test_malformed_number(a, value):
    tid = os.urandom(12)
    assert a.request(CHANNEL_BIND, [attribute(CHANNEL_NUMBER, value),
                                    attribute(XPA, xor_address(PEERS4[0], 9, tid))], tid).code == 400


@covers("TURN-12.6-8")
def test_data_like_stun_is_data(a, p):
    a.bind(0x4000, p.address)
    payload = build(BINDING)
    a.send_on(0x4000, payload)
    assert p.take() == (payload, a.relay)
    p.send(payload, a.relay)
    assert a.take_channel() == (0x4000, payload)
