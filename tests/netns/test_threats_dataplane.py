"""The data plane as a target (threats D01-D26) as far as it is not in t18, t26 and fastpath."""

import stat

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("D01")
def test_no_privileges_are_left(server):
    with open(f"/proc/{server.process.pid}/status") as f:
        status = dict(line.split(":", 1) for line in f if ":" in line)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 0, kind
    assert status["NoNewPrivs"].strip() == "1"
    assert 0 not in map(int, status["Uid"].split()) and 0 not in map(int, status["Gid"].split())


@pytest.mark.engines("xdp")
@covers("D02", "D21")
def test_pins_are_private(server):
    """Nobody else may open the maps, and no secret is in them."""
    directories = server.pins()
    assert directories
    for directory in directories:
        assert stat.S_IMODE(os.stat(directory).st_mode) & 0o077 == 0
        for name in os.listdir(directory):
            assert stat.S_IMODE(os.stat(f"{directory}/{name}").st_mode) & 0o077 == 0, name
    ids = server.map_ids()
    ours = [m for m in json.loads(run("bpftool", "-j", "map", "show").stdout) if m["id"] in ids]
    assert len(ours) >= 8
    for m in ours:
        if m["bytes_value"] * m["max_entries"] > 1 << 20:
            continue
        dump = run("bpftool", "-j", "map", "dump", "id", str(m["id"]), check=False).stdout
        content = bytes(int(x, 16) for x in re.findall(r'"(0x[0-9a-f]{2})"', dump))
        assert not any(s.encode() in content for s in [*USERS.values(), *SECRETS])
        for name in ("alice", "bob", "carol"):
            assert long_term_key(name, USERS[name]) not in content


@pytest.mark.engines("xdp", "afxdp")
@covers("D20")
def test_program_is_not_multi_buffer(server, lab):
    for device in ("to_client", "to_peer"):
        shown = run("bpftool", "-j", "prog", "show", "id", str(attached(lab.server, device)))
        program = json.loads(shown.stdout)
        assert program["type"] == "xdp" and not program.get("xdp_has_frags")


def flood(tap, packets, source, destination):
    for packet in packets:
        tap.send(ethernet(packet, source, destination))


@pytest.fixture
def bound(a, p, server):
    a.bind(0x4000, p.address)
    server.warm(a, 0x4000, p)
    return a


def data_packet(c, payload=b"data", **fields):
    return ip_packet(c.address, c.server, channel_data(0x4000, payload), **fields)


@covers("D11", "D10")
def test_lengths_that_contradict_each_other(bound, p, lab):
    """Dropped; a packet padded to Ethernet's minimum is cut to what its headers say."""
    good = data_packet(bound)
    udp = udp_packet(bound.address, bound.server, channel_data(0x4000, b"data"))
    wrong = [
        ipv4(bound.address[0], bound.server[0], udp, length=len(good) + 8),
        ipv4(bound.address[0], bound.server[0], udp, length=len(good) - 4),
        ipv4(bound.address[0], bound.server[0], udp, length=20),
        ipv4(bound.address[0], bound.server[0], udp, length=0),
        ipv4(bound.address[0], bound.server[0], udp, ihl=4),
        ipv4(bound.address[0], bound.server[0], udp, ihl=0),
        ipv4(bound.address[0], bound.server[0], udp, ihl=15),
        ipv4(bound.address[0], bound.server[0], udp, version=5),
        ipv4(bound.address[0], bound.server[0], udp, protocol=0),
        *(data_packet(bound, udp_length=n) for n in (0, 7, 8, 11, 0xFFFF)),
    ]
    with Tap(lab.client) as tap:
        for packet in wrong:
            tap.send(ethernet(packet, "client", "to_client"))
        for packet in wrong[1:]:  # padding would make the first one whole
            tap.send(ethernet(packet, "client", "to_client") + bytes(20))
        for cut in range(0, len(good) + 14, 3):
            tap.send((ethernet(good, "client", "to_client")[:cut] + bytes(14))[:max(cut, 14)])
        assert bound.silent() and p.silent()
        tap.send(ethernet(good, "client", "to_client") + bytes(30))
    assert p.take() == (b"data", bound.relay)


@covers("D11")
def test_lengths_of_ipv6(client, peer, lab, server):
    c, p = client(CLIENTS6[0]), peer(PEERS6[0])
    c.alloc(attribute(RAF, V6))
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    udp = udp_packet(c.address, c.server, channel_data(0x4000, b"data"))
    with Tap(lab.client) as tap:
        for length in (0, 4, 8, len(udp) - 1, len(udp) + 1, 0xFFFF):
            tap.send(ethernet(ipv6(c.address[0], c.server[0], udp, length=length), "client",
                              "to_client"))
        assert c.silent() and p.silent()
        tap.send(ethernet(ipv6(c.address[0], c.server[0], udp), "client", "to_client") + bytes(9))
    assert p.take() == (b"data", c.relay)


@covers("D10", "DP-26-7")
def test_vlan_tags(bound, p, lab):
    """A tag that nobody configured: not ours, whatever is inside."""
    with Tap(lab.client) as tap:
        for tags in (b"\x81\x00\x00\x05", b"\x88\xa8\x00\x05\x81\x00\x00\x06", b"\x81\x00\x00\x00"):
            frame = ethernet(data_packet(bound), "client", "to_client")
            tap.send(frame[:12] + tags + frame[12:])
    assert bound.silent()
    assert p.take(0.05) in (None, (b"data", bound.relay))


@covers("D14", "TURN-14-10")
def test_ttl_of_raw_packets(bound, p, lab):
    with Tap(lab.client) as tap:
        for ttl in (0, 1):
            tap.send(ethernet(data_packet(bound, ttl=ttl), "client", "to_client"))
        assert bound.silent() and p.silent()


@covers("D05")
def test_refresh_after_expiry_of_a_channel(bound, p, server):
    """Taken away and given again many times: the data plane follows each time."""
    for n in range(50):
        assert bound.refresh(0).code == 0
        bound.alloc()
        with server.looked_at():
            bound.send_on(0x4000, b"not yet")
        bound.bind(0x4000, p.address)
        bound.send_on(0x4000, b"%d" % n)
        assert p.take() == (b"%d" % n, bound.relay)


@covers("D23", "D24")
def test_flood_of_malformed_frames(bound, p, lab, server):
    import random
    dice = random.Random(23)
    seeds = [ethernet(data_packet(bound), "client", "to_client")]
    with Tap(lab.client) as tap:
        for n in range(5000):
            frame = bytearray(dice.choice(seeds))
            for _ in range(dice.randint(1, 4)):
                frame[dice.randrange(12, len(frame))] = dice.randrange(256)
            tap.send(bytes(frame[:dice.randint(15, len(frame))]))
            if n % UNDER_WAY == UNDER_WAY - 1:
                bound.binding()
    drain(p.socket)
    bound.inbox.clear()
    bound.send_on(0x4000, b"alive")
    assert eventually(lambda: (b"alive", bound.relay) in [p.take(0.2)])


@covers("D26")
def test_verdicts_have_names(bound, p, server):
    """Every outcome is counted under a name of the list."""
    stats = server.stats()
    assert set(stats["directions"]) == {"client_to_peer", "peer_to_client"}
    assert all(isinstance(n, int) for n in stats["verdicts"].values())
    if server.engine == "xdp":
        bound.send_on(0x4fff, b"unbound")
        bound.binding()
        now = server.stats()["verdicts"]
        grown = {name: n - stats["verdicts"].get(name, 0) for name, n in now.items()
                 if n != stats["verdicts"].get(name, 0)}
        assert grown == {"unbound": 1, "control": 1}
