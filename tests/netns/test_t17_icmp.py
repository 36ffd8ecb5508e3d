"""ICMP errors about relayed datagrams (RFC 8656, section 11.5)."""

from harness import *
from rows import covers, table
from turn import *


def take_icmp(c, timeout=PATIENCE):
    """((address, port), type, code, data) of the next indication, or None."""
    raw = c.take(timeout)
    if raw is None:
        return None
    m = check_data_indication(raw)
    value = m.get(ICMP)
    assert value is not None and len(value) == 8 and value[:2] == b"\0\0", m
    assert DATA not in m.types()
    return m.address(XPA), value[2], value[3], struct.unpack("!I", value[4:])[0]


def closed_port(peer, address):
    p = peer(address)
    p.socket.close()
    return p.address


def inner(relay, peer_address, payload=b"relayed", **fields):
    """What an ICMP error quotes: the datagram that was relayed."""
    return ip_packet(relay, peer_address, payload, **fields)


def icmp4(source, destination, kind, code, quoted, data=0):
    body = struct.pack("!BBHI", kind, code, 0, data) + quoted
    body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
    return ethernet(ipv4(source, destination, body, protocol=1), "peer", "to_peer")


def icmp6(source, destination, kind, code, quoted, data=0):
    body = struct.pack("!BBHI", kind, code, 0, data) + quoted
    total = checksum(pseudo_header(source, destination, len(body), 58) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    return ethernet(ipv6(source, destination, body, protocol=58), "peer", "to_peer")


@table("address, wanted",
       ("TURN-11.5-1+TURN-18.13-1+TURN-18.13-3+TURN-11.5-7+DEC-11", PEERS4[0], (3, 3, 0)),
       ("TURN-11.5-1+TURN-18.13-3+TURN-11.5-7", PEERS6[0], (1, 4, 0)))
def test_closed_port(client, peer, address, wanted):
    c = client()
    c.alloc(attribute(RAF, V6 if ":" in address else V4))
    closed = closed_port(peer, address)
    c.perm(address)
    c.send_to(closed, b"anybody?")
    assert take_icmp(c) == (closed, *wanted)
    assert c.silent()


@covers("TURN-12.5-4", "TURN-11.5-8", "F17")
def test_channel_survives(client, peer):
    c = client()
    c.alloc()
    closed = closed_port(peer, PEERS4[0])
    c.bind(0x4000, closed)
    c.send_on(0x4000, b"anybody?")
    assert take_icmp(c) == (closed, 3, 3, 0)
    p = peer(*closed)
    c.send_on(0x4000, b"now")
    assert p.take() == (b"now", c.relay)
    p.send(b"here", c.relay)
    assert c.take_channel() == (0x4000, b"here")


@table("kind, code, data, wanted",
       ("TURN-11.5-1+TURN-11.5-5", 3, 0, 0, True),
       ("TURN-11.5-1+TURN-11.5-5", 3, 1, 0, True),
       ("TURN-11.5-1", 11, 0, 0, True),
       ("TURN-18.13-3", 3, 1, 0xBEEF, True),
       ("TURN-18.13-2", 3, 4, 1280, True),
       ("TURN-11.5-2", 4, 0, 0, False),
       ("TURN-11.5-2", 5, 1, 0, False),
       ("TURN-11.5-2", 12, 0, 0, False))
def test_types_v4(a, p, lab, kind, code, data, wanted):
    """From a router that has no permission."""
    a.perm(p.address[0])
    with Tap(lab.peer) as tap:
        tap.send(icmp4(PEERS4[7], RELAY4, kind, code, inner(a.relay, p.address), data))
    if wanted:
        assert take_icmp(a) == (p.address, kind, code, data if (kind, code) == (3, 4) else 0)
    p.send(b"behind it", a.relay)
    assert a.take_data() == (p.address, b"behind it")
    assert a.silent()


@table("kind, code, data, wanted",
       ("TURN-11.5-1+TURN-11.5-5", 1, 0, 0, True),
       ("TURN-11.5-1", 3, 0, 0, True),
       ("TURN-18.13-3", 1, 4, 0xBEEF, True),
       ("TURN-18.13-2", 2, 0, 1280, True),
       ("TURN-11.5-2", 4, 1, 0, False))
def test_types_v6(client, peer, lab, kind, code, data, wanted):
    c, p = client(), peer(PEERS6[0])
    c.alloc(attribute(RAF, V6))
    c.perm(p.address[0])
    with Tap(lab.peer) as tap:
        tap.send(icmp6(PEERS6[7], RELAY6, kind, code, inner(c.relay, p.address), data))
    if wanted:
        assert take_icmp(c) == (p.address, kind, code, data if kind == 2 else 0)
    p.send(b"behind it", c.relay)
    assert c.take_data() == (p.address, b"behind it")
    assert c.silent()


@covers("TURN-11.5-3", "TURN-11.5-6")
def test_not_about_our_datagrams(a, p, lab):
    a.perm(p.address[0])
    datagram = inner(a.relay, p.address)
    quotes = [
        ipv4(a.relay[0], p.address[0], struct.pack("!HHIIHHHH", a.relay[1], p.address[1], 0, 0,
                                                   0x5000, 0, 0, 0), protocol=6),
        datagram[:24],
        datagram[:12],
        inner(a.relay, (PEERS4[5], p.address[1])),
        inner((a.relay[0], a.relay[1] ^ 1), p.address),
        inner((SERVER4, a.relay[1]), p.address),
    ]
    with Tap(lab.peer) as tap:
        for quote in quotes:
            tap.send(icmp4(PEERS4[7], RELAY4, 3, 3, quote))
    p.send(b"behind them", a.relay)
    assert a.take_data() == (p.address, b"behind them")
    assert a.silent()


@covers("TURN-11.5-4")
def test_the_right_client(client, p, lab):
    one, two = client(), client()
    for c in (one, two):
        c.alloc()
        c.perm(p.address[0])
    with Tap(lab.peer) as tap:
        tap.send(icmp4(PEERS4[7], RELAY4, 3, 1, inner(two.relay, p.address)))
    assert take_icmp(two) == (p.address, 3, 1, 0)
    assert one.silent()


@covers("TURN-11.5-8", "F17", "CLI-ICMP-1")
def test_forged_flood(a, p, lab, server):
    """Hints, never more: grants stay, packets keep their size, and few are passed on."""
    a.bind(0x4000, p.address)
    server.warm(a, 0x4000, p)
    with Tap(lab.peer) as tap:
        for n in range(600):
            code, mtu = ((3, 0), (4, 68), (1, 0))[n % 3]
            tap.send(icmp4(PEERS4[7], RELAY4, 3, code, inner(a.relay, p.address), mtu))
            if n % UNDER_WAY == UNDER_WAY - 1:
                assert p.silent()
    hints = len(drain(a.socket))
    assert hints < 600
    with Tap(lab.peer) as wire:
        for method in (lambda data: a.send_on(0x4000, data), lambda data: a.send_to(p.address, data)):
            payload = os.urandom(1300)
            method(payload)
            assert wire.wait(lambda f: f.payload == payload), "cut into fragments"
            assert p.take() == (payload, a.relay)
    p.send(payload, a.relay)
    while (raw := a.take()) and raw[0] < 0x40:  # a hint that was late
        check_data_indication(raw)
    assert raw == channel_data(0x4000, payload)
    assert a.refresh().code == 0


@covers("DP-17-1")
def test_unallocated_port(lab, p):
    """Of relay ports that are nobody's, nothing is said but what the kernel says."""
    with Tap(lab.peer) as tap:
        for port in (49152, 55555, 65535):
            p.send(b"hello", (RELAY4, port))
        assert p.silent()
        assert len(tap.frames(lambda f: f.protocol == 1)) <= 3
