"""
What a polling worker took, but cannot send by itself, the kernel's IP output sends for it: without
turnpiked too. It is counted by its verdict, as relayed, and among the outputs.
"""

import pytest

from harness import *
from rows import covers, table
from test_fastpath import bound, exchange
from test_t18_ipheader import FAMILIES, pair
from turn import *

pytestmark = pytest.mark.engines(*POLLING)

ABSENT = "203.0.113.200"  # on the peers' link, and nobody has it


@contextlib.contextmanager
def without(server, how):
    if how == "stopped":
        server.signal(signal.SIGSTOP)
    else:
        server.kill()
    try:
        yield
    finally:
        if how == "stopped":
            server.signal(signal.SIGCONT)
        else:
            server.start()


def counted(server):
    stats = server.stats()
    names = ("no_next_hop", "too_big", "not_sent", "queue_full")
    return {"outputs": stats["outputs"], "slow": stats["slow_path"]["packets"],
            "up": stats["directions"]["client_to_peer"]["packets"],
            "down": stats["directions"]["peer_to_client"]["packets"],
            **{name: stats["verdicts"][name] for name in names}}


@contextlib.contextmanager
def counts(server, **want):
    """What is counted meanwhile; what is not named does not count."""
    before = counted(server)
    yield
    after = counted(server)
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    assert grown == want


def forget_neighbours(server, lab):
    """Whoever is spoken to next has to be looked for."""
    for device in (lab.to_client, lab.to_peer):
        lab.server.run("ip", "neigh", "flush", "dev", device)
    server.hear()


def with_stranger(c, peer, server, lab, address, number=0x4001):
    """A peer to whom nobody has spoken yet, with a channel."""
    q = peer(address)
    forget_neighbours(server, lab)
    c.bind(number, q.address)
    return q


@table("address, stranger", ("DP-26-6+DP-19-2", CLIENTS4[0], PEERS4[7]),
       ("DP-26-6+DP-19-2", CLIENTS6[0], PEERS6[7]), ("DP-26-6+DP-19-2", CLIENTS4[0], PEERS6[7]))
def test_unknown_neighbour(client, peer, server, lab, address, stranger):
    """The kernel looks for it; nothing is lost, in order, by either method."""
    c = client(address)
    c.alloc(attribute(RAF, V6 if ":" in stranger else V4))
    q = with_stranger(c, peer, server, lab, stranger)
    with counts(server, outputs=40, no_next_hop=40, up=40):
        with without(server, "stopped"):
            for n in range(20):
                c.send_on(0x4001, b"channel %d" % n)
                c.send_to(q.address, b"send %d" % n)
            got = [q.take() for _ in range(40)]
    assert got == [(b"%s %d" % (method, n), c.relay) for n in range(20) for method in (b"channel", b"send")]
    # From now on its address is known.
    server.warm(c, 0x4001, q)


@pytest.mark.fresh
@covers("DP-19-2")
def test_unknown_neighbour_without_turnpiked(client, peer, server, lab):
    c = client()
    c.alloc()
    q = with_stranger(c, peer, server, lab, PEERS4[7])
    with without(server, "killed"):
        for n in range(20):
            c.send_on(0x4001, b"%d" % n)
        assert [q.take() for _ in range(20)] == [(b"%d" % n, c.relay) for n in range(20)]
    assert server.stats()["outputs"] == 20
    server.warm(c, 0x4001, q)


@covers("D18", "DP-26-6")
def test_neighbour_that_never_answers(bound, p, peer, server, lab):
    """Holds up nobody."""
    bound.bind(0x4001, (ABSENT, 4000))
    payload = bytes(1000)
    with without(server, "stopped"):
        for _ in range(20):
            for _ in range(100):
                bound.send_on(0x4001, payload)
            assert exchange(bound, p, 20) == (0, 0)


@table("which", ("TURN-14-8+D13+DP-19-2", 0), ("D13+DP-19-2", 1))
def test_small_link(pair, server, lab, which):
    """Too large for the link to the peer: in fragments, as the sockets would send it; DF or not."""
    one = pair(*FAMILIES[which])
    data = [os.urandom(1400) for _ in range(4)]
    try:
        set_mtu(lab.server, lab.to_peer, 1280)
        server.hear()
        one.at_peer.frames()
        with counts(server, outputs=4, too_big=4, up=4), without(server, "stopped"):
            for n, payload in enumerate(data):
                fields = {"df": n % 2 == 1} if which == 0 else {}
                one.at_client.send(ethernet(
                    ip_packet(one.c.address, one.c.server, channel_data(0x4000, payload),
                              tos=0xB9, ttl=33, **fields), "client", "to_client"))
                assert one.p.take() == (payload, one.c.relay)
        frames = one.at_peer.frames(lambda f: f.source == one.c.relay[0])
        assert len(frames) == 8 and all(f.fragmented and f.length <= 1280 for f in frames)
        assert {(f.tos, f.ttl) for f in frames} == {(0xB9, 32)}
        if which == 0:
            assert len({f.identification for f in frames}) == 4
    finally:
        set_mtu(lab.server, lab.to_peer, 1500)
        server.hear()


@covers("TURN-14-1", "TURN-14-8")
def test_dont_fragment(pair, server, lab):
    """A Send that forbids fragments: whole with DF, or, too large, not at all, and counted."""
    one = pair(*FAMILIES[0])
    small, large = os.urandom(1200), os.urandom(1300)
    try:
        set_mtu(lab.server, lab.to_peer, 1280)
        server.hear()
        with counts(server, outputs=1, too_big=1, up=2, not_sent=1), without(server, "stopped"):
            one.c.send_to(one.p.address, large, attribute(DONT_FRAGMENT))
            one.c.send_to(one.p.address, small, attribute(DONT_FRAGMENT))
            assert one.p.take() == (small, one.c.relay)
            assert not one.p.take(0.1)
    finally:
        set_mtu(lab.server, lab.to_peer, 1500)
        server.hear()


@covers("TURN-14-1")
def test_dont_fragment_to_an_unknown_neighbour(client, peer, server, lab):
    c = client()
    c.alloc()
    q = with_stranger(c, peer, server, lab, PEERS4[8])
    with Tap(lab.peer) as tap, without(server, "stopped"):
        c.send_on(0x4001, b"may be cut")
        c.send_to(q.address, b"whole", attribute(DONT_FRAGMENT))
        assert {q.take(), q.take()} == {(b"may be cut", c.relay), (b"whole", c.relay)}
        df = {f.payload: f.df for f in tap.frames(lambda f: f.source == c.relay[0])}
    assert df == {b"may be cut": False, b"whole": True}


@covers("D13")
def test_growth_beyond_the_link(pair, peer, server):
    """A full packet of the peer's, whose DF says nothing of what becomes of it."""
    for addresses in FAMILIES:
        one = pair(*addresses)
        size = 1472 if ":" not in addresses[0] else 1452
        payload = os.urandom(size)
        with counts(server, outputs=2, too_big=2, down=2), without(server, "stopped"):
            one.p.send(payload, one.c.relay)
            assert one.c.take_channel() == (0x4000, payload)
            one.q.send(payload, one.c.relay)
            assert one.c.take_data() == (one.q.address, payload)
