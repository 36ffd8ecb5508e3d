"""Hazards of two planes that must agree (conformance.md, 26)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("DP-26-1", "D05")
def test_grants_are_there_before_the_answer(a, peer):
    """The first packet after each success arrives."""
    p = peer()
    a.bind(0x4000, p.address)
    for n in range(60):
        one = peer()
        a.bind(0x4001 + n, one.address)
        a.send_on(0x4001 + n, b"%d" % n)
        assert one.take() == (b"%d" % n, a.relay)
        one.send(b"%d" % n, a.relay)
        assert a.take_channel() == (0x4001 + n, b"%d" % n)


@covers("D05", "DP-26-3", "TURN-8.2-8")
def test_nothing_passes_after_a_deletion(client, p, server):
    c = client()
    for n in range(100):
        c.alloc()
        c.bind(0x4000, p.address)
        if n == 0:
            server.warm(c, 0x4000, p)
        c.send_on(0x4000, b"alive")
        assert p.take() == (b"alive", c.relay)
        relay = c.relay
        assert c.refresh(0).code == 0
        with server.looked_at():
            c.send_on(0x4000, b"dead")
            p.send(b"dead", relay)
    assert c.silent() and p.silent()


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50001"})
@covers("DP-26-3", "L08")
def test_old_peers_do_not_reach_new_owners(client, p):
    """The port of a dead allocation, when it comes back, knows nothing of the old peer."""
    first, second = client(), client(CLIENTS4[1], user="bob")
    first.alloc()
    first.bind(0x4000, p.address)
    relay = first.relay
    first.refresh(0)
    p.send(b"stray", relay)
    for _ in range(2):
        m = second.allocate()
        if m.code == 508:
            break
        p.send(b"stray", second.relay)
        p.send(b"stray", relay)
        assert p.silent() and second.silent()
        second.refresh(0)


@covers("DP-26-4", "DP-26-10")
def test_many_clients_and_peers(client, peer):
    peers = [peer(PEERS4[n]) for n in range(5)]
    clients = [client(CLIENTS4[n % 10] if n % 3 else CLIENTS6[n % 10]) for n in range(40)]
    for c in clients:
        c.alloc()
        for n, p in enumerate(peers):
            c.bind(0x4000 + n, p.address)
    for c in clients:
        for n, p in enumerate(peers):
            c.send_on(0x4000 + n, b"up %d" % c.address[1])
    for p in peers:
        got = {p.take() for _ in clients}
        assert got == {(b"up %d" % c.address[1], c.relay) for c in clients}
    for c in clients:
        for p in peers:
            p.send(b"down", c.relay)
    for c in clients:
        assert {c.take_channel() for _ in peers} == {(0x4000 + n, b"down") for n in range(5)}


@covers("DP-26-6")
def test_peer_changes_its_address_on_the_link(pair_of, lab, p, server):
    """The next hop's hardware address changes: the data plane follows the kernel."""
    a = pair_of
    server.warm(a, 0x4000, p)
    other = "02:00:00:00:02:aa"
    try:
        lab.peer.batch(f"link set veth address {other}")
        lab.server.run("ip", "neigh", "flush", "dev", lab.to_peer)
        lab.peer.run("ping", "-c1", "-W1", RELAY4, check=False)

        def arrives():
            a.send_on(0x4000, b"found")
            return p.take(0.1) == (b"found", a.relay)

        assert eventually(arrives)
        for n in range(20):
            a.send_on(0x4000, b"%d" % n)
            assert p.take() == (b"%d" % n, a.relay)
    finally:
        lab.peer.batch(f"link set veth address {MACS['peer']}")
        lab.server.run("ip", "neigh", "flush", "dev", lab.to_peer)
        server.hear()


@pytest.fixture
def pair_of(a, p):
    a.bind(0x4000, p.address)
    return a


@covers("DP-26-6")
def test_peer_behind_a_router(a, peer, server):
    """The default route's gateway is the next hop; a public address needs no rule."""
    for address in (PUBLIC4,):
        p = peer(address)
        a.bind(0x4000, p.address)
        server.warm(a, 0x4000, p)
        a.send_on(0x4000, b"far")
        assert p.take() == (b"far", a.relay)
        p.send(b"back", a.relay)
        assert a.take_channel() == (0x4000, b"back")


@covers("DP-26-6")
def test_unresolved_neighbour(a, lab, p, server):
    """Without a hardware address yet: the kernel asks for it, nothing is lost for good."""
    a.bind(0x4000, p.address)
    lab.server.run("ip", "neigh", "flush", "dev", lab.to_peer)
    server.hear()
    for n in range(5):
        a.send_on(0x4000, b"%d" % n)
    assert [p.take()[0] for _ in range(5)] == [b"%d" % n for n in range(5)]


@pytest.mark.config(relay={"ports": "49407-49408"})
@covers("D06")
def test_ports_around_a_byte(client, p):
    for _ in range(2):
        c = client()
        c.alloc()
        c.bind(0x4000, p.address)
        c.send_on(0x4000, b"up")
        assert p.take() == (b"up", c.relay)
        p.send(b"down", c.relay)
        assert c.take_channel() == (0x4000, b"down")


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "65535-65535"})
@covers("D06")
def test_last_port(client, p):
    c = client()
    c.alloc()
    assert c.relay[1] == 65535
    c.bind(0x4000, p.address)
    c.send_on(0x4000, b"up")
    assert p.take() == (b"up", c.relay)
    p.send(b"down", c.relay)
    assert c.take_channel() == (0x4000, b"down")


@covers("DP-26-5", "P13")
def test_server_is_no_peer(a):
    for address in (SERVER4, SERVER4B):
        assert a.permit(address).code == 403
        assert a.channel_bind(0x4000, (address, PORT)).code == 403


@covers("D05")
def test_random_operations(client, server, peer):
    """After every few hundred random steps the tables say what the allocations say."""
    import random
    dice = random.Random(26)
    clients = [client(CLIENTS4[n % 10]) for n in range(12)]
    peers = [(PEERS4[n % 10], 1000 + n) for n in range(20)]
    for n in range(1200):
        c, where = dice.choice(clients), dice.choice(peers)
        step = dice.randrange(10)
        if not c.allocated:
            c.allocate(*([attribute(AAF, V6)] if dice.randrange(4) == 0 else []))
        elif step < 4:
            assert c.channel_bind(0x4000 + dice.randrange(16), where).code in (0, 400)
        elif step < 7:
            assert c.permit(where[0]).code == 0
        elif step < 9:
            assert c.refresh(dice.choice((600, 1200))).code == 0
        else:
            assert c.refresh(0).code == 0
        if n % 300 == 299:
            assert server.audit()["differences"] == 0
