"""
Datagrams that the kernel takes several of at once (dataplane/engine/socket/transmit.h). What arrives in one batch is
made sure of by a server that does not read meanwhile.
"""

import pytest

from harness import *
from rows import covers, table
from test_relay_sockets import stopped
from test_t18_ipheader import FAMILIES, mark
from turn import *

pytestmark = [
    pytest.mark.engines("socket"),
    pytest.mark.parametrize("kind", [
        pytest.param(kind, marks=pytest.mark.config(relay={"sockets": kind}))
        for kind in ("shared", "per_allocation")])]


class Way:
    """One direction through an allocation with a channel: how to send, who receives, what it was."""

    def __init__(self, c, p, up):
        self.c, self.p, self.up = c, p, up
        self.sender = (c if up else p).socket

    def send(self, payload):
        if self.up:
            self.c.send_on(0x4000, payload)
        else:
            self.p.send(payload, self.c.relay)

    def take(self):
        if self.up:
            got = self.p.take()
            assert not got or got[1] == self.c.relay
            return got and got[0]
        got = self.c.take_channel()
        assert not got or got[0] == 0x4000
        return got and got[1]

    def burst(self, server, payloads):
        """All at once; returns how many left behind another one."""
        before = joined(server)
        with stopped(server):
            for payload in payloads:
                self.send(payload)
        assert [self.take() for _ in payloads] == payloads
        return joined(server) - before


def is_bound(lab, address):
    """Does any socket have this address and port? IPv4."""
    word = "%08X:%04X" % (struct.unpack("=I", packed(address[0]))[0], address[1])
    return word in lab.server.run("cat", "/proc/net/udp").stdout


def joined(server):
    return server.stats()["slow_path"]["joined"]


@pytest.fixture(params=["up", "down"])
def way(request, client, peer):
    made = []

    def make(client_address, peer_address):
        c, p = client(client_address), peer(peer_address)
        c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
        c.bind(0x4000, p.address)
        made.append(Way(c, p, request.param == "up"))
        return made[-1]

    return make


def numbered(sizes):
    return [struct.pack("!I", n) + os.urandom(size - 4) for n, size in enumerate(sizes)]


@table("addresses, sizes, least",
       *((row, addresses, sizes, least) for addresses in FAMILIES for row, sizes, least in (
           ("XLAT-4-1", 30 * [172], 20),
           ("XLAT-4-1", 60 * [1200], 30),
           ("XLAT-4-1", 8 * [400, 400, 400, 400, 400, 50], 20),  # a shorter one ends each run
           ("XLAT-4-1", list(range(100, 130)), 0),
           ("XLAT-4-1", list(range(130, 100, -1)), 0),
           ("XLAT-4-1", 4 * [20000], 0))))
def test_order_and_boundaries(way, server, kind, addresses, sizes, least):
    """Whatever their sizes; and where it counts, most are joined, once the server has seen that it should."""
    one = way(*addresses)
    for payloads in (numbered(sizes), numbered(sizes)):
        last = one.burst(server, payloads)
    assert last >= least


@covers("TURN-14-2", "TURN-14-10")
@pytest.mark.parametrize("addresses", FAMILIES)
def test_marks_of_each(way, server, lab, kind, addresses):
    one = way(*addresses)
    marks = [(ttl, tos) for ttl in (64, 33) for tos in (0, 0, 0xB9, 0xB9, 0x03, 0)] * 2
    payloads = numbered(len(marks) * [100])
    one.burst(server, numbered(8 * [100]))
    with Tap(lab.peer if one.up else lab.client) as tap:
        with stopped(server):
            for (ttl, tos), payload in zip(marks, payloads):
                mark(one.sender, ttl=ttl, tos=tos)
                one.send(payload)
        assert [one.take() for _ in payloads] == payloads
        frames = tap.frames(lambda f: f.payload[-100:] in payloads)
    seen = {f.payload[-100:]: (f.ttl, f.tos) for f in frames if f.ttl in (63, 32)}
    assert [seen[payload] for payload in payloads] == [(ttl - 1, tos) for ttl, tos in marks]
    assert all(f.valid for f in frames)


@covers("D13", "TURN-14-8")
@pytest.mark.fresh  # of such sizes none is joined for a while
def test_larger_than_the_link(way, server, lab, kind):
    """Each leaves in fragments of its own."""
    one = way(*FAMILIES[0])
    out, device = (lab.server, lab.to_peer if one.up else lab.to_client)
    try:
        set_mtu(out, device, 1280)
        for _ in range(2):
            one.burst(server, numbered(20 * [1400]))
    finally:
        set_mtu(out, device, 1500)


@covers("TURN-9-2", "TURN-12.2-2")
def test_each_is_asked_for(client, peer, server, kind):
    """Two peers, of which one is permitted, and two channels, in turn and in one burst."""
    c, friend, second, stranger = client(), peer(), peer(), peer(PEERS4[1])
    c.alloc()
    c.bind(0x4000, friend.address)
    c.bind(0x4001, second.address)
    for _ in range(2):
        with stopped(server):
            for n in range(5):
                for _ in range(2):
                    friend.send(b"friend %d" % n, c.relay)
                    stranger.send(b"friend %d" % n, c.relay)
                    c.send_on(0x4000, b"first %d" % n)
                    c.send_on(0x4001, b"other %d" % n)
                    c.send_on(0x4002, b"third %d" % n)
        twice = [n for n in range(5) for _ in range(2)]
        assert [c.take_channel() for _ in twice] == [(0x4000, b"friend %d" % n) for n in twice]
        assert [friend.take()[0] for _ in twice] == [b"first %d" % n for n in twice]
        assert [second.take()[0] for _ in twice] == [b"other %d" % n for n in twice]
        assert c.silent() and friend.silent() and second.silent() and stranger.silent()


@covers("R14")
def test_counted_and_given_back(way, server, lab, kind):
    """To the packet and byte; and what was opened for a burst is closed with the allocation."""
    one = way(*FAMILIES[0])
    for _ in range(2):
        one.burst(server, numbered(30 * [172]))
    shown = next(a for a in server.ctl("allocations", "list")["allocations"]
                 if a["relay"] == "%s:%d" % one.c.relay)
    there, back = ("sent", "received") if one.up else ("received", "sent")
    assert shown[there] == {"packets": 60, "bytes": 60 * 172}
    assert shown[back] == {"packets": 0, "bytes": 0}
    assert is_bound(lab, one.c.relay) == (one.up or kind == "per_allocation")
    assert one.c.refresh(0).code == 0
    assert not is_bound(lab, one.c.relay)


@covers("TURN-13.2-1")
def test_flow_label_stays(way, server, lab, kind):
    one = way(*FAMILIES[1])
    with Tap(lab.peer if one.up else lab.client) as tap:
        for _ in range(3):
            one.burst(server, numbered(10 * [172]))
        source = one.c.relay if one.up else one.c.server
        frames = tap.frames(lambda f: f.source == source[0] and f.protocol == 17 and len(f.payload) >= 172)
    assert len(frames) == 30 and len({f.label for f in frames}) == 1
