"""Exhaustion, reflection, loops (threats R01-R20, L01-L08)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


@table("raw, times",
       ("L01", build(BINDING), 1.6),
       ("L01", build(BINDING, attributes=attribute(0x8FFF, bytes(40))), 1),
       ("L01", build(BINDING, attributes=attribute(0x7FF0) * 10), 1))
def test_amplification_of_binding(c, raw, times):
    """Answers to strangers are hardly larger than what they sent."""
    assert len(c.ask(raw).raw) <= times * len(raw)


@covers("L01")
def test_size_of_challenges(c):
    assert len(c.challenge().raw) <= 140


LIMITED = pytest.mark.config(limits={"unauthenticated_replies_per_source": "10/s"})


@LIMITED
@pytest.mark.fresh
@covers("L02", "R12", "STUN-16.1.2-2", "NBD-5-1")
def test_replies_per_source(lab, client):
    """Strangers of one address are held back; others, and who has credentials, are not."""
    known, known6 = client(), client(CLIENTS6[0])
    for c in (known, known6):
        c.alloc()
    victim, bystander = client(CLIENTS4[1]), client(CLIENTS4[2])
    raws = [build(ALLOCATE, attributes=attribute(RT, UDP)), build(BINDING)]
    start = time.monotonic()

    def are_few(sockets):
        """They were answered, and only as often as one bucket allows: 10, and 10 more each second."""
        return 1 <= sum(len(drain(s)) for s in sockets) <= 12 + 10 * (time.monotonic() - start)

    for n in range(1000):
        victim.send(raws[n % 2])
        if n % UNDER_WAY == UNDER_WAY - 1:
            assert known.refresh().code == 0  # answered behind what was sent before
    assert are_few([victim.socket])
    assert bystander.challenge().code == 401
    crowd = client(CLIENTS4[0])
    for n in range(200):
        crowd.send(raws[0])
    for _ in range(20):
        assert known.refresh().code == 0
    six = [client(address) for address in CLIENTS6]
    start = time.monotonic()
    for n in range(400):
        six[n % 10].send(raws[0])
        if n % UNDER_WAY == UNDER_WAY - 1:
            assert known6.refresh().code == 0
    assert are_few([s.socket for s in six])  # one /64, one bucket


# Small tables: what they touch would look like growth.
@pytest.mark.config(dataplane={"flows": 1024})
@covers("R03", "TURN-5-11", "CLI-REL-1")
def test_churn_leaves_nothing(client, server, peer):
    p = peer()
    before = server.ctl("status")
    memory = None
    for n in range(300):
        c = client(CLIENTS4[n % 10])
        c.alloc(*([attribute(AAF, V6)] if n % 3 == 0 else []))
        c.bind(0x4000, p.address)
        c.perm(PEERS4[1], PEERS4[2])
        c.close()
        if n == 100:
            memory = server.resident()
    after = server.ctl("status")
    assert after["allocations"] == before["allocations"] == 0
    assert eventually(lambda: server.ctl("status")["flows"] == before["flows"], step=0.1)
    assert server.is_sanitized or server.resident() - memory < 1 << 20


@covers("R07")
def test_many_ports_of_one_peer(a, p, server):
    a.perm(p.address[0])
    flows, memory = server.ctl("status")["flows"], server.resident()
    for port in range(10000, 15000):
        a.send_to((p.address[0], port), b"x")
        if port % 100 == 0:
            a.binding()
            a.inbox.clear()
    assert server.ctl("status")["flows"] == flows
    assert server.resident() - memory < 1 << 20
    drain(a.socket)


@pytest.mark.config(dataplane={"flows": 64})
@covers("R15")
def test_flow_table_is_full(client, server, peer):
    """More grants than the table holds: the sockets serve the rest, nothing is refused."""
    clients = [client(CLIENTS4[n % 10]) for n in range(40)]
    p = [peer(PEERS4[n]) for n in range(5)]
    for c in clients:
        c.alloc()
        for n, one in enumerate(p):
            c.bind(0x4000 + n, one.address)
    for c in clients:
        for n, one in enumerate(p):
            c.send_on(0x4000 + n, b"up")
            assert one.take() == (b"up", c.relay)
            one.send(b"down", c.relay)
            assert c.take_channel() == (0x4000 + n, b"down")
    assert server.audit()["differences"] == 0
    for c in clients:
        c.refresh(0)
    c = clients[0]
    c.alloc()
    c.bind(0x4000, p[0].address)
    c.send_on(0x4000, b"room again")
    assert p[0].take() == (b"room again", c.relay)


@pytest.mark.config(limits={"lifetime_default": "3 s"})
@pytest.mark.fresh
@covers("R16")
def test_many_expire_at_once(client, server, p):
    kept = client()
    kept.alloc(lifetime(600))
    kept.bind(0x4000, p.address)
    clients = [client(CLIENTS4[n % 10]) for n in range(400)]
    for c in clients:
        c.alloc()
        c.bind(0x4000, p.address)
        c.allocated = False
    waits = []
    end = time.monotonic() + 3.2
    while time.monotonic() < end:
        start = time.perf_counter()
        kept.send_on(0x4000, b"tick")
        assert p.take() == (b"tick", kept.relay)
        waits.append(time.perf_counter() - start)
        time.sleep(0.005)
    assert sorted(waits)[len(waits) * 99 // 100] < 0.25  # 400 at once are done in a few ms
    assert eventually(lambda: server.ctl("status")["allocations"] == 1)


@table("limits",
       ("R19", {"bandwidth_per_allocation": 10}), ("R19", {"lifetime_default": 600}),
       ("R19", {"lifetime_max": "3600"}), ("R19", {"permission_lifetime": "5 parsecs"}),
       ("R19", {"allocations": "many"}), ("R19", {"allocations": -1}),
       ("R19", {"allocations_per_user": 1 << 33}))
def test_numbers_need_units(tmp_path, limits):
    path = tmp_path / "turnpike.yaml"
    path.write_text(json.dumps(configuration(str(tmp_path), "socket", {"limits": limits})))
    done = run(program("turnpiked"), "--check", "-c", str(path), check=False)
    assert done.returncode == 2
    assert f"{path}:" in done.stderr and next(iter(limits)) in done.stderr


@covers("L03")
def test_answers_are_not_answered(c):
    for method in (BINDING, ALLOCATE, REFRESH, SEND, DATA_METHOD, CREATE_PERMISSION, CHANNEL_BIND):
        for message_class in (SUCCESS, ERROR):
            assert c.dropped(build(method, message_class))
            assert c.dropped(build(method, message_class, attribute(ERROR_CODE, b"\0\0\4\0")))


@covers("L05")
def test_peers_without_permission(a, peer):
    a.perm(PEERS4[0])
    a.bind(0x4000, (PEERS4[1], 5001))
    for address in PEERS4[:3]:
        for port in (5001, 5002):
            p = peer(address, port)
            p.send(b"%d" % port, a.relay)
            p.silent()
            if address == PEERS4[2]:
                assert a.silent()
            elif (address, port) == (PEERS4[1], 5001):
                assert a.take_channel() == (0x4000, b"5001")
            else:
                assert a.take_data() == ((address, port), b"%d" % port)


@covers("L06")
def test_addresses_are_not_learned_from_data(client, a, p, lab):
    """Right channel, right client address, other port: nobody's data."""
    a.bind(0x4000, p.address)
    with Tap(lab.client) as tap:
        tap.send(ethernet(ip_packet((a.address[0], a.address[1] ^ 1), a.server,
                                    channel_data(0x4000, b"not mine")), "client", "to_client"))
    assert a.silent() and p.silent()
    p.send(b"mine", a.relay)
    assert a.take_channel() == (0x4000, b"mine")


@table("source",
       *(("L07", address) for address in ("0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1",
                                          "255.255.255.255", SERVER4, RELAY4, "240.0.0.1")))
def test_martians(a, p, lab, source):
    """Sources that no honest packet has: neither answered nor relayed."""
    a.bind(0x4000, p.address)
    with Tap(lab.client) as client, Tap(lab.peer) as peer:
        for payload in (build(BINDING), channel_data(0x4000, b"no")):
            client.send(ethernet(ip_packet((source, a.address[1]), a.server, payload),
                                 "client", "to_client"))
        peer.send(ethernet(ip_packet((source, p.address[1]), a.relay, b"no"), "peer", "to_peer"))
        assert a.silent() and p.silent() and a.silent()
        assert not client.frames(lambda f: f.destination == source)


@covers("L07", "P23")
def test_source_port_zero(lab, c):
    with Tap(lab.client) as tap:
        tap.send(ethernet(ip_packet((CLIENTS4[0], 0), c.server, build(BINDING)), "client",
                          "to_client"))
        assert c.silent()
        assert not tap.frames(lambda f: f.dport == 0)
