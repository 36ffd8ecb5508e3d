"""Allocate (RFC 8656, section 7)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("TURN-7.2-2", "TURN-7.2-30", "R09")
def test_second_allocate_on_a_5_tuple(a, p):
    relay = a.relay
    assert a.allocate().code == 437
    assert a.refresh().code == 0
    a.perm(p.address[0])
    a.send_to(p.address, b"first")
    assert p.take() == (b"first", relay)


@covers("TURN-7.2-2b", "TURN-12-2", "TURN-9-4")
def test_other_5_tuples(client, p):
    """Client address, client port and server address each make another allocation."""
    one = client()
    same_port = [one, client(CLIENTS4[1], port=one.address[1]),
                 client(CLIENTS4[0], (SERVER4B, PORT)), client(CLIENTS6[0], port=one.address[1])]
    for c in same_port:
        c.alloc()
        c.bind(0x4000, p.address)
    assert len({c.relay for c in same_port}) == len(same_port)
    for n, c in enumerate(same_port):
        c.send_on(0x4000, b"%d" % n)
        assert p.take() == (b"%d" % n, c.relay)


@table("attributes, code",
       ("TURN-7.2-3", [], 400),
       *(("TURN-7.2-3b", [attribute(RT, bytes([17]) * n)], 400) for n in (0, 1, 3, 8)),
       *(("TURN-7.2-3c+TTCP-5.1-1", [attribute(RT, bytes([n, 0, 0, 0]))], 442) for n in (0, 1, 33, 132, 255)),
       ("TURN-7.2-3c+P25", [attribute(RT, b"\x06\0\0\0")], 442),
       *(("TURN-18.2-1", [attribute(RT, UDP), attribute(LIFETIME, bytes(n))], 400) for n in (0, 2, 8)),
       ("TPA-7-6+N14", [attribute(RT, UDP), attribute(ACCESS_TOKEN, b"\xff" * 40)], 420),
       ("N14", [attribute(RT, UDP), attribute(ACCESS_TOKEN, b"")], 420),
       ("CLI-PJ-3", [attribute(RT, UDP), attribute(0x0010, bytes(4))], 420))
def test_refused(c, attributes, code):
    assert c.request(ALLOCATE, attributes).code == code
    assert c.refresh().code == 437
    c.alloc()


@table("extra",
       ("TURN-7.2-4+TURN-3.7-1", attribute(DONT_FRAGMENT)),
       ("MOB-3.1.2-3+N13", attribute(MOBILITY_TICKET)),
       ("CLI-COT-1", attribute(0x802F, b"origin") * 3 + attribute(0x8010, bytes(4))))
def test_accepted(c, extra):
    c.alloc(extra)


@covers("TURN-18.9-1")
def test_dont_fragment_with_a_value(c):
    assert c.allocate(attribute(DONT_FRAGMENT, b"four")).code in (0, 400)


@covers("TURN-18.8-1")
def test_reserved_bits_of_requested_transport(c):
    assert c.allocate(transport=b"\x11\xaa\xbb\xcc").code == 0


@covers("TURN-7.2-13", "TURN-7.2-14", "TURN-5-2", "TURN-3.1-1", "CLI-WEB-1", "CLI-WEB-4")
def test_success(c):
    m = c.alloc()
    assert set(m.types()) == {XRA, XMA, LIFETIME, MI}
    assert m.address(XMA) == c.address
    assert c.relay[0] == RELAY4 and 49152 <= c.relay[1] <= 65535
    assert m.lifetime == 600


@covers("CLI-FF-1", "CLI-WEB-2")
def test_as_browsers_do(client):
    firefox, chrome = client(), client()
    assert firefox.alloc(lifetime(3600)).lifetime == 3600
    raw = append(chrome.signed(ALLOCATE, [attribute(RT, UDP)]), attribute(0xFF05, b"log id" * 6))
    assert chrome.ask(raw, chrome.key, "sha1").code == 0
    chrome.allocated = True


@covers("CLI-PION-2")
def test_pion_puts_attributes_behind_integrity(c):
    raw = append(c.signed(ALLOCATE, [attribute(RT, UDP)]), attribute(RAF, V6) + attribute(EVEN_PORT, b"\x80"))
    m = c.ask(fingerprint(raw), c.key, "sha1")
    c.allocated = True
    assert m.address(XRA)[0] == RELAY4 and TOKEN not in m.types()


@table("wish, given",
       *(("TURN-7.2-18+TURN-7.2-19+TURN-7.2-20+R10", wish, given) for wish, given in (
           (0, 600), (1, 600), (599, 600), (600, 600), (601, 601), (1800, 1800), (3600, 3600),
           (3601, 3600), (0xFFFFFFFF, 3600))))
def test_lifetime(c, wish, given):
    m = c.alloc(lifetime(wish))
    assert m.lifetime == given


@covers("TURN-7.2-12", "TURN-9-3")
def test_begins_without_permissions(a, p):
    p.send(b"hello", a.relay)
    a.send_to(p.address, b"hello")
    assert p.silent() and a.silent() and p.silent()


@covers("TURN-6-3", "TURN-7.2-15", "TURN-7.2-16", "N02")
def test_relayed_addresses(client):
    """Unique, in range, and not to be guessed from one another."""
    clients = [client(CLIENTS4[n % 10]) for n in range(300)]
    ports = []
    for c in clients:
        c.nonce, c.algorithms = None, None
        c.alloc()
        ports.append(c.relay[1])
    assert len(set(ports)) == len(ports)
    assert all(49152 <= port <= 65535 for port in ports)
    steps = [(b - a) % 65536 for a, b in zip(ports, ports[1:])]
    assert sum(step in (1, 2) for step in steps) <= 3
    assert max(steps.count(step) for step in set(steps)) <= 4
    thirds = [sum(49152 + 5461 * n <= port < 49152 + 5461 * (n + 1) for port in ports)
              for n in range(3)]
    assert min(thirds) > 60


QUOTA = pytest.mark.config(limits={"allocations_per_user": 2})


@QUOTA
@covers("TURN-7.2-10", "TURN-7.2-10b", "TURN-5-10")
def test_quota(client):
    """Counted per user, whatever the address; given back with the allocation."""
    first, second, third = (client(CLIENTS4[n]) for n in range(3))
    first.alloc()
    second.alloc()
    assert third.allocate().code == 486
    client(CLIENTS4[0], user="bob").alloc()
    assert first.refresh(0).code == 0
    third.alloc()
    assert first.allocate().code == 486


@QUOTA
@covers("TURN-5-11", "R03")
def test_quota_is_given_back(client):
    keep = client(user="carol")
    keep.alloc()
    c = client(user="carol")
    for _ in range(50):
        raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
        assert c.ask(raw, c.key, "sha1").code == 0
        assert c.ask(raw, c.key, "sha1").code == 0
        assert client(user="carol").allocate().code == 486
        assert c.refresh(0).code == 0


@QUOTA
@covers("REST-11")
def test_quota_of_time_limited_names(client):
    """The user id counts, not the whole name."""
    names = [f"40000000{n:02}:dave" for n in range(3)]
    clients = [client(user=n, password=rest_password(n, SECRETS[0])) for n in names]
    assert [c.allocate().code for c in clients] == [0, 0, 486]
    name = "4000000000:erin"
    client(user=name, password=rest_password(name, SECRETS[0])).alloc()


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50003"})
@covers("TURN-7.2-17", "TURN-7.2-22", "R15")
def test_ports_run_out(client):
    clients = [client() for _ in range(4)]
    for c in clients:
        c.alloc()
    late = client()
    assert late.allocate().code == 508
    assert clients[2].refresh(0).code == 0
    # The freed port rests; it may come back only if nothing else is left.
    m = late.allocate()
    assert m.code in (0, 508)
    assert m.code == 508 or late.relay == clients[2].relay


@pytest.mark.config(limits={"allocations": 3})
@covers("R15")
def test_table_of_allocations_is_full(client, server):
    clients = [client() for _ in range(3)]
    for c in clients:
        c.alloc()
    late = client()
    assert late.allocate().code in (486, 508)
    assert server.ctl("status")["allocations"] == 3
    assert clients[0].refresh(0).code == 0
    late.alloc()


@covers("TURN-7.2-22", "L08")
def test_freed_port_rests(c):
    seen = set()
    for _ in range(60):
        c.alloc()
        assert c.relay not in seen
        seen.add(c.relay)
        c.refresh(0)


SHORT = pytest.mark.config(limits={"lifetime_default": "3 s", "lifetime_max": "3 s"})


@SHORT
@covers("TURN-7.2-21", "TURN-6-4", "TURN-9-5", "CLI-FF-3", "CLI-FF-5", "R10")
def test_expiry(client, peer, server):
    """At the second, whatever traffic there is; a Refresh just before it is in time."""
    c, kept, p = client(), client(), peer()
    kept.alloc()
    c.alloc()
    start = time.monotonic()
    c.perm(p.address[0])
    c.bind(0x4000, p.address)
    count = 0
    while time.monotonic() < start + 1.5:
        c.send_on(0x4000, b"up")
        p.send(b"down", c.relay)
        count += 1
        time.sleep(0.01)
    assert kept.refresh().code == 0
    time.sleep(max(0, start + 3.2 - time.monotonic()))
    assert len(drain(p.socket)) == count and len(drain(c.socket)) == count
    p.send(b"late", c.relay)
    c.send_on(0x4000, b"late")
    c.send_to(p.address, b"late")
    assert p.silent() and c.silent() and p.silent()
    assert c.refresh().code == 437
    c.allocated = False
    assert kept.refresh().code == 0
    c.alloc()


@table("address", ("TURN-21.4-1+TURN-21.4-2+P06+DEC-19", TUNNELS[0]), ("TURN-21.4-1+P06", TUNNELS[1]))
def test_tunnels_are_no_clients(client, c, address):
    tunnelled = client(address)
    raw = build(ALLOCATE, attributes=attribute(RT, UDP))
    tunnelled.send(raw)
    answer = tunnelled.answer_to(raw, 0.3)
    assert answer is None or check_answer(answer, raw).code == 403
    assert c.silent()


@covers("TURN-5-12")
def test_no_software_in_allocate_and_refresh(a):
    assert SOFTWARE not in a.refresh().types()


@covers("TURN-21.3.2-1")
def test_log_names_client_and_peer(a, p, server):
    a.perm(p.address[0])
    log = server.log()
    assert "%s:%d" % a.address in log and PEERS4[0] in log


EXTERNAL = "192.0.2.99"


@pytest.mark.config(relay={"addresses": [{"address": RELAY4, "external": EXTERNAL},
                                         {"address": RELAY6}]})
@covers("TURN-7.2-13", "TURN-14-P1")
def test_behind_a_1_to_1_nat(client, p):
    """Clients are told the outer address; among themselves it works by that name as well."""
    a, b = client(), client()
    for c in (a, b):
        c.alloc()
        assert c.relay[0] == EXTERNAL
    a.perm(p.address[0])
    a.send_to(p.address, b"out")
    assert p.take() == (b"out", (RELAY4, a.relay[1]))
    p.send(b"in", (RELAY4, a.relay[1]))
    assert a.take_data() == (p.address, b"in")
    a.bind(0x4000, b.relay)
    b.perm(EXTERNAL)
    a.send_on(0x4000, b"to a neighbour")
    assert b.take_data() == (a.relay, b"to a neighbour")
    b.send_to(a.relay, b"back")
    assert a.take_channel() == (0x4000, b"back")
    assert a.channel_bind(0x4001, a.relay).code == 403
    assert a.channel_bind(0x4001, (EXTERNAL, 22)).code == 403


@pytest.mark.config(relay={"addresses": [{"address": RELAY4}, {"address": RELAY4B},
                                         {"address": RELAY6}]})
@covers("TURN-6-3")
def test_several_relay_addresses(client, p):
    clients = [client() for _ in range(12)]
    for c in clients:
        c.alloc()
        c.bind(0x4000, p.address)
        for n in range(2):
            c.send_on(0x4000, b"up")
            assert p.take() == (b"up", c.relay)
            p.send(b"down", c.relay)
            assert c.take_channel() == (0x4000, b"down")
    assert {c.relay[0] for c in clients} == {RELAY4, RELAY4B}
    one = next(c for c in clients if c.relay[0] == RELAY4)
    two = next(c for c in clients if c.relay[0] == RELAY4B)
    one.bind(0x4001, two.relay)
    two.perm(RELAY4)
    one.send_on(0x4001, b"across addresses")
    assert two.take_data() == (one.relay, b"across addresses")
