"""Which peers may be reached (threats P01-P26): one policy, on every path."""

import pytest

from harness import *
from rows import covers, table
from turn import *

DENIED4 = {
    "P01": ["127.0.0.1", "127.255.255.254"],
    "P02": ["0.0.0.0", "0.1.2.3"],
    "P10": ["169.254.169.254", "169.254.170.2"],
    "P11": ["168.63.129.16", "100.100.100.200", "192.0.0.192"],
    "P12": ["224.0.0.1", "255.255.255.255", "240.0.0.1", "203.0.113.255", "198.51.100.255"],
    "P13": [SERVER4, SERVER4B],
    "P17": [GATEWAY4],
    "P18": ["10.0.0.1", "172.16.0.1", "192.168.1.1", "198.18.0.1", "192.0.2.1", "192.88.99.1",
            "198.51.100.77", DENIED_PEER, "203.0.113.79"],
}
DENIED6 = {
    "P01": ["::1"],
    "P02": ["::"],
    "P03": ["::ffff:10.0.0.1", "::ffff:" + DENIED_PEER],
    "P04": ["::ffff:127.0.0.1"],
    "P05": ["::10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b::cb00:7142"],
    "P06": ["2001:0:1::1", "2002:7f00:1::1"],
    "P07": ["64:ff9b:1::1", "::ffff:0:127.0.0.1", "2620:fe::5efe:10.0.0.1", "2620:fe::200:5efe:7f00:1",
            "5f00::1"],
    "P10": ["fe80::a9fe:a9fe", "fd00:ec2::254", "fd20:ce::254", "fec0::1"],
    "P12": ["ff02::1", "ff0e::1"],
    "P13": [SERVER6],
    "P17": [GATEWAY6],
    "P18": ["2001:db8:3::1", "3fff::1", "100::1", "4000::1", "2001:2::1", "2001:20::1"],
}
CASES = [(row + "+P18+TURN-21.2.2-1+TURN-21.4-3", address)
         for denied in (DENIED4, DENIED6) for row, addresses in denied.items()
         for address in addresses]


@pytest.fixture
def both(client):
    """A client with a relayed address of each family."""
    c = client()
    c.alloc(attribute(AAF, V6))
    return c


@table("address", *CASES)
def test_denied(client, lab, address):
    """CreatePermission, ChannelBind and Send; and nothing leaves, on the wire or on loopback."""
    c = client()
    c.alloc(attribute(RAF, V6 if ":" in address else V4))
    with Tap(lab.peer) as wire, Tap(lab.server, "lo") as loopback:
        assert c.permit(address).code == 403
        assert c.channel_bind(0x4000, (address, 80)).code == 403
        c.send_to((address, 80), b"no")
        c.send_on(0x4000, b"no")
        assert c.silent()
        assert not wire.frames(lambda f: f.source == c.relay[0] and f.protocol == 17)
        # What a worker hands back to turnpiked (engine afxdp) comes by loopback, to the listener.
        assert not loopback.frames(lambda f: f.protocol == 17 and f.dport != PORT)


@table("address", ("P18", DENIED_PEER), ("P18+P17", GATEWAY4), ("P17", GATEWAY6))
def test_denied_peer_sends(both, peer, address):
    p = peer(address)
    for relay in both.relays:
        if (":" in relay[0]) == (":" in address):
            p.send(b"no", relay)
    assert p.silent() and both.silent()


@table("address", ("P05", "8.8.8.8"), ("P18", PUBLIC4), ("P18", PUBLIC6), ("P18", "203.0.113.200"),
       ("P18", "2001:db8:2::77"))
def test_allowed(both, address):
    assert both.permit(address).code == 0


@covers("P13")
def test_addresses_come_and_go(a, lab, server):
    address = "203.0.113.150"
    assert a.permit(address).code == 0
    lab.server.batch(f"addr add {address}/24 dev to_peer")
    try:
        assert eventually(lambda: a.permit(address).code == 403)
    finally:
        lab.server.batch(f"addr del {address}/24 dev to_peer")
    assert eventually(lambda: a.permit(address).code == 0)


@covers("P13", "P14", "P15")
def test_own_relay_address(client, p):
    """Only where another client's relay is alive; never oneself."""
    a, b = client(), client()
    a.alloc()
    b.alloc()
    a.perm(RELAY4)
    dead = next(port for port in range(50000, 60000) if port not in (a.relay[1], b.relay[1]))
    assert a.channel_bind(0x4000, (RELAY4, dead)).code == 403
    assert a.channel_bind(0x4000, (RELAY4, 22)).code == 403
    assert a.channel_bind(0x4000, (RELAY4, PORT)).code == 403
    assert a.channel_bind(0x4000, a.relay).code == 403
    a.send_to((RELAY4, dead), b"no")
    a.send_to(a.relay, b"no")
    assert a.silent()
    a.bind(0x4000, b.relay)


@covers("P16")
def test_turn_in_turn(client):
    """A relay is no way to the server's own listener."""
    a = client()
    a.alloc()
    assert a.permit(SERVER4).code == 403
    a.send_to((SERVER4, PORT), build(ALLOCATE, attributes=attribute(RT, UDP)))
    assert a.silent()


def check(directory, config):
    path = f"{directory}/turnpike.yaml"
    with open(path, "w") as f:
        json.dump(config, f)
    return run(program("turnpiked"), "--check", "-c", path, check=False)


@table("rule, good",
       ("P09", "10.0.0.0/33", False), ("P09", "10.0.0.0-9.0.0.0", False), ("P09", "10.0.0", False),
       ("P09", "::1/129", False), ("P09", "10.0.0.1/8", False), ("P09", "", False),
       ("P09", "example.org", False), ("P09", "10.0.0.0/-1", False), ("P09", "10.0.0.0/8 ", False),
       ("P09", "010.0.0.0/8", False), ("P09", "10.0.0.0/8", True), ("P09", "2001:db8::/32", True))
def test_rules_are_read_or_refused(tmp_path, rule, good):
    for side in ("allow", "deny"):
        done = check(tmp_path, configuration(str(tmp_path), "socket", {"peers": {side: [rule]}}))
        assert done.returncode == (0 if good else 2), done.stderr
        assert good or "turnpike.yaml:" in done.stderr


OVERLAPPING = pytest.mark.config(peers={
    "allow": ["203.0.113.0/24", "203.0.113.64/26", "203.0.113.70/32", "10.0.0.0/8", "10.1.2.0/24",
              "192.168.7.0/24", "127.0.0.0/8", "2001:db8::/32", "2001:db8:2:1::/64", "::/0",
              "169.254.169.254/32"],
    "deny": ["203.0.113.64/26", "203.0.113.71/32", "10.1.0.0/16", "192.168.7.0/24",
             "2001:db8:2::/48", "9.9.0.0/16"]})


@OVERLAPPING
@table("address, allowed",
       *(("P24", address, allowed) for address, allowed in (
           ("203.0.113.10", True), ("203.0.113.65", False), ("203.0.113.70", True),
           ("203.0.113.71", False), ("10.0.0.1", True), ("10.1.0.1", False), ("10.1.2.1", True),
           ("192.168.7.1", False), ("192.168.8.1", False), ("127.0.0.1", False),
           ("2001:db8:1:1::9", True), ("2001:db8:2::10", False), ("2001:db8:2:1::1", True),
           ("9.9.9.9", False), ("9.10.0.1", True), ("::1", False), ("fe80::1", False),
           ("169.254.169.254", False), ("203.0.113.254", False), ("8.8.8.8", True),
           # No rule can allow these, "::/0" least of all.
           ("64:ff9b::a9fe:a9fe", False), ("64:ff9b:1::1", False), ("2002:a9fe:a9fe::1", False),
           ("2001:0:1::1", False), ("::ffff:10.0.0.1", False), ("::10.0.0.1", False),
           ("::ffff:0:10.0.0.1", False), ("ff02::1", False), ("fd00::1", False))))
def test_longest_prefix_wins(both_here, server, address, allowed):
    explained = server.ctl("policy", "explain", address)
    assert explained["allowed"] == allowed and explained["rule"], explained
    assert both_here.permit(address).code == (0 if allowed else 403)


@pytest.fixture
def both_here(client):
    c = client()
    c.alloc(attribute(AAF, V6))
    return c


@covers("P19")
def test_families(both):
    for value in (xor_address(PEERS4[0], 9, family=0), xor_address(PEERS6[0], 9, family=1),
                  xor_address(PEERS4[0], 9, family=2), b"\0\1\0\0\0"):
        assert both.request(CREATE_PERMISSION, [attribute(XPA, value)]).code == 400


@covers("P23", "L07")
def test_port_zero(a, p, lab):
    a.bind(0x4000, p.address)
    with Tap(lab.peer) as tap:
        tap.send(ethernet(ip_packet((p.address[0], 0), a.relay, b"from nowhere"), "peer", "to_peer"))
    a.send_to((p.address[0], 0), b"to nowhere")
    assert p.silent() and a.silent()
    assert a.channel_bind(0x4001, (p.address[0], 0)).code == 400
