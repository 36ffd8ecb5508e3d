"""
From a client to its peer where that is another client's relayed address (DP-26-5): inside the engine,
once, never on the wire, with both allocations' grants, counters and limits.
"""

import pytest

from harness import *
from rows import covers, table
from turn import *

pytestmark = pytest.mark.engines("xdp", "afxdp", "dpdk")

COUNT = 1000
CHANNEL, OTHER_CHANNEL = 0x4000, 0x4001


def shown(server, c):
    return next(a for a in server.ctl("allocations", "list")["allocations"]
                if a["relay"].rstrip("]").endswith(":%d" % c.relay[1]))


@pytest.fixture
def pair(client, server):
    """Makes two clients whose relays may talk; `up`, `down`: on channels, or by indications."""
    def make(addresses=CLIENTS4[:2], family=V4, users=("alice", "bob"), up=True, down=True):
        a, b = (client(address, user=user) for address, user in zip(addresses, users))
        for one in (a, b):
            one.alloc(attribute(RAF, family))
        a.perm(b.relay[0])
        b.perm(a.relay[0])
        a.to_peer = lambda payload: a.send_to(b.relay, payload)
        if up:
            a.bind(CHANNEL, b.relay)
            a.to_peer = lambda payload: a.send_on(CHANNEL, payload)
        if down:
            b.bind(OTHER_CHANNEL, a.relay)
        return a, b

    return make


def payload_of(raw, a, on_channel):
    if on_channel:
        assert struct.unpack_from("!HH", raw) == (OTHER_CHANNEL, len(raw) - 4), raw.hex()
        return raw[4:]
    m = check_data_indication(raw)
    assert m.address(XPA) == a.relay, m
    return m.get(DATA)


def warm(server, a, b):
    """The first packets are the kernel's where the way to b is not known yet."""
    def in_engine():
        before = server.stats()
        a.to_peer(b"warm")
        b.take(1)
        after = server.stats()
        return after["hairpins"] > before["hairpins"] and after["outputs"] == before["outputs"]

    assert eventually(in_engine, 30)
    drain(b.socket)


@table("addresses, family, users, up, down",
       ("DP-26-5", CLIENTS4[:2], V4, ("alice", "bob"), True, True),
       ("DP-26-5", CLIENTS4[:2], V4, ("alice", "alice"), True, False),
       ("DP-26-5", CLIENTS4[:2], V4, ("alice", "bob"), False, True),
       ("DP-26-5", CLIENTS4[:2], V4, ("alice", "alice"), False, False),
       ("DP-26-5", CLIENTS6[:2], V6, ("alice", "bob"), True, True),
       ("DP-26-5", CLIENTS6[:2], V6, ("alice", "bob"), False, False),
       ("DP-26-5", CLIENTS4[:2], V6, ("alice", "bob"), True, False),
       ("DP-26-5", [CLIENTS4[0], CLIENTS6[0]], V4, ("alice", "bob"), True, True),
       ("DP-26-5", [CLIENTS6[0], CLIENTS4[0]], V6, ("alice", "bob"), False, False))
def test_once_and_counted(lab, server, pair, addresses, family, users, up, down):
    a, b = pair(addresses, family, users, up, down)
    warm(server, a, b)
    before = server.stats(), shown(server, a), shown(server, b)
    arrived = []
    with Tap(lab.peer) as tap:
        for n in range(COUNT):
            a.to_peer(b"%04d" % n)
            if n % UNDER_WAY == UNDER_WAY - 1:
                assert eventually(lambda: arrived.extend(raw for raw, _ in drain(b.socket)) or len(arrived) > n)
        assert not tap.frames(lambda f: f.source in (a.relay[0], b.relay[0]))
    assert sorted(payload_of(raw, a, down) for raw in arrived) == [b"%04d" % n for n in range(COUNT)]
    after = server.stats(), shown(server, a), shown(server, b)
    assert after[0]["slow_path"] == before[0]["slow_path"]
    assert after[0]["hairpins"] - before[0]["hairpins"] == COUNT
    assert after[0]["verdicts"]["relayed"] - before[0]["verdicts"]["relayed"] == COUNT
    for which, way in ((1, "sent"), (2, "received")):
        assert after[which][way]["packets"] - before[which][way]["packets"] == COUNT
        assert after[which][way]["bytes"] - before[which][way]["bytes"] == 4 * COUNT


@table("up, down", ("P14", True, True), ("P14", False, False), ("DP-26-5", True, False))
def test_needs_both_grants(server, pair, up, down):
    """The other side's permission is asked too, and what is gone stays gone."""
    a, b = pair(up=up, down=down)
    warm(server, a, b)
    assert b.refresh(0).code == 0
    a.to_peer(b"nobody is there")
    assert a.silent() and b.silent()


@covers("P15")
def test_not_to_itself(server, client):
    c = client()
    c.alloc()
    c.perm(c.relay[0])
    c.send_to(c.relay, b"to myself")
    assert c.silent()


@pytest.mark.config(limits={"bandwidth_per_allocation": "1 Mbit/s"})
@covers("R18")
def test_limit_of_the_receiver(server, client):
    """Two senders with a limit each, and one receiver, whose limit is what comes out."""
    senders, b = [client(CLIENTS4[n]) for n in range(2)], client(CLIENTS4[2])
    for one in (*senders, b):
        one.alloc()
    for a in senders:
        a.bind(CHANNEL, b.relay)
        b.perm(a.relay[0])
        a.to_peer = lambda payload, a=a: a.send_on(CHANNEL, payload)
        warm(server, a, b)

    def share():
        """What comes out, as a share of the limit."""
        before = shown(server, b)["received"]["bytes"]
        start, sent = time.monotonic(), 0
        while (passed := time.monotonic() - start) < 3:
            while sent < passed * 90000:  # each of them within its own 125,000 bytes a second
                for a in senders:
                    a.to_peer(bytes(250))
                sent += 250
            drain(b.socket)
            time.sleep(0.001)
        of_limit = (shown(server, b)["received"]["bytes"] - before) / (125000 * passed)
        assert of_limit <= 1.05, of_limit
        return of_limit

    # Less only where somebody did not get the processor for longer than the limit looks back.
    assert any(share() >= 0.9 for _ in range(5))
