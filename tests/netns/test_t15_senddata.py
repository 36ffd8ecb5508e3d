"""Send and Data indications (RFC 8656, section 11)."""

from harness import *
from rows import covers, table
from turn import *


@covers("TURN-11.2-1", "CLI-PJ-1")
def test_incomplete(a, p):
    a.perm(p.address[0])
    assert a.dropped(a.indication(None, b"no address"))
    assert a.dropped(a.indication(p.address, None))
    assert a.dropped(a.indication(None, b""))
    assert a.dropped(build(SEND, INDICATION))
    assert p.silent()


@table("size", *(("TURN-11.2-2+TURN-11.2-5+TURN-11.3-3+TURN-11.3-1", n)
                 for n in (0, 1, 2, 3, 4, 5, 7, 8, 1200, 1400)))
def test_sizes(a, p, size):
    payload = os.urandom(size)
    a.perm(p.address[0])
    a.send_to(p.address, payload)
    assert p.take() == (payload, a.relay)
    p.send(payload, a.relay)
    raw = a.take()
    m = check_data_indication(raw)
    assert m.get(DATA) == payload and m.address(XPA) == p.address


@covers("TURN-11.2-3", "L05")
def test_permission_of_send(server, a, peer):
    """Send neither installs nor needs anything but the address's permission."""
    p, q = peer(PEERS4[0]), peer(PEERS4[1])
    with server.looked_at():
        a.send_to(p.address, b"not yet")
    p.send(b"not yet", a.relay)
    assert p.silent() and a.silent()
    a.perm(p.address[0])
    a.send_to(p.address, b"now")
    a.send_to(q.address, b"still not")
    assert p.take() == (b"now", a.relay) and q.silent()


@covers("TURN-11.2-4")
def test_forbidden(a, peer):
    p = peer(DENIED_PEER)
    assert a.permit(DENIED_PEER).code == 403
    a.send_to(p.address, b"no")
    assert a.silent() and not receive(p.socket, 0.05)


@covers("TURN-5-16")
def test_no_allocation(c, p):
    assert c.dropped(c.indication(p.address, b"no"))
    assert p.silent()


@covers("TURN-11.2-8", "TURN-11.2-7")
def test_send_beside_a_channel(a, p):
    a.bind(0x4000, p.address)
    a.send_to(p.address, b"by indication")
    assert p.take() == (b"by indication", a.relay)
    a.send_on(0x4000, b"by channel")
    assert p.take() == (b"by channel", a.relay)


@covers("TURN-11.3-2", "N02")
def test_transactions_of_data_indications(a, p):
    a.perm(p.address[0])
    seen = set()
    for n in range(50):
        p.send(b"%d" % n, a.relay)
        m = check_data_indication(a.take())
        assert not {MI, MI256} & set(m.types())
        seen.add(m.tid)
    assert len(seen) == 50


@covers("TURN-11.3-4", "TURN-12.5-3", "TURN-12.2-10", "DP-26-13", "L05")
def test_channel_is_for_the_exact_peer(a, peer):
    p, other_port, other_address = peer(), peer(), peer(PEERS4[1])
    a.bind(0x4000, p.address)
    p.send(b"channel", a.relay)
    assert a.take_channel() == (0x4000, b"channel")
    other_port.send(b"indication", a.relay)
    assert a.take_data() == (other_port.address, b"indication")
    other_address.send(b"nothing", a.relay)
    assert other_address.silent() and a.silent()


@table("address, peer_address",
       *(("TURN-11.3-6+DP-26-9+DP-18-3+TURN-13.2-5", a, p)
         for a in (CLIENTS4[0], CLIENTS6[0]) for p in (PEERS4[0], PEERS6[0])))
def test_large(client, peer, address, peer_address):
    """Larger than the links: whole, both ways, by both methods, within and across families."""
    c, p = client(address), peer(peer_address)
    c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
    c.bind(0x4000, p.address)
    for size in (1440, 1472, 3000, 8000):
        payload = os.urandom(size)
        c.send_to(p.address, payload)
        assert p.take() == (payload, c.relay), size
        c.send_on(0x4000, payload)
        assert p.take() == (payload, c.relay), size
        p.send(payload, c.relay)
        assert c.take_channel() == (0x4000, payload), size
        q = peer(peer_address)
        q.send(payload, c.relay)
        assert c.take_data() == (q.address, payload), size


@covers("TURN-18.4-1")
def test_udp_option_surplus_is_not_relayed(a, p, lab):
    a.perm(p.address[0])
    with Tap(lab.peer) as tap:
        tap.send(ethernet(ipv4(p.address[0], a.relay[0],
                               udp_packet(p.address, a.relay, b"data", udp_length=12) + b"surplus!"),
                          "peer", "to_peer"))
    got = a.take(0.3)
    assert got is None or check_data_indication(got).get(DATA) == b"data"


@covers("TURN-14-1")
def test_dont_fragment(a, p, lab):
    a.perm(p.address[0])
    with Tap(lab.peer) as tap:
        a.send_to(p.address, b"whole", attribute(DONT_FRAGMENT))
        frame = tap.wait(lambda f: f.payload == b"whole")
        assert frame and frame.df
    assert p.take() == (b"whole", a.relay)
