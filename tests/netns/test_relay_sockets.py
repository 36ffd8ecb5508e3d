"""
Shared relay sockets (relay.sockets): what a port is steered by, what is not steered, who suffers from a flood, and
which kind is taken. That they relay as sockets of their own do, the whole suite tells, which runs on both kinds.
"""

import pytest

from harness import *
from rows import covers, table
from turn import *

pytestmark = pytest.mark.engines("socket")
SHARED = pytest.mark.config(relay={"sockets": "shared"})
PER_ALLOCATION = pytest.mark.config(relay={"sockets": "per_allocation"})

SHARDS = 16  # bpf/relays.h


def waiting(lab, table="udp", local="080000C0"):
    """Bytes in the receive buffers of the sockets that relayed packets are steered to, or of others."""
    lines = lab.server.run("cat", f"/proc/net/{table}").stdout.splitlines()[1:]
    return sum(int(f[4].split(":")[1], 16) for f in map(str.split, lines) if f[1].startswith(f"{local}:"))


@contextlib.contextmanager
def stopped(server):
    """turnpiked does not read meanwhile."""
    server.signal(signal.SIGSTOP)
    assert eventually(lambda: "T" in open(f"/proc/{server.process.pid}/stat").read().split(")")[1])
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def is_refused(p, address):
    """Does the kernel answer that nobody is there?"""
    with Tap(p.lab.peer) as tap:
        p.send(b"anybody?", address)
        return tap.wait(lambda f: f.protocol == 1 and f.body[:2] == b"\x03\x03", 1) is not None


def let_pass(p):
    """What p sent before has passed the cable, whose queue is short: then a packet to a socket of the host arrives."""
    with contextlib.closing(p.lab.server.udp(p.server[0])) as there:
        def arrives():
            p.send(b"behind it", there.getsockname())
            return receive(there, 0.1)

        assert eventually(arrives)


@SHARED
@covers("R14")
def test_no_descriptor_for_an_allocation(client, server):
    def descriptors():
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    # Those of an earlier test may have had sockets to send by.
    assert eventually(lambda: server.ctl("status")["allocations"] == 0)
    before = descriptors()
    made = [client(CLIENTS4[n % 10]) for n in range(100)]
    for c in made:
        c.alloc()
    assert descriptors() <= before
    assert server.ctl("status")["allocations"] == len(made)


@SHARED
@covers("R17")
def test_only_owned_ports_reach_turnpiked(client, p, server, lab):
    """The ports beside it, other addresses, and its own once it is closed: left to the kernel."""
    c = client()
    c.alloc()
    address, port = c.relay
    others = [(address, port ^ 1), (RELAY4B, port), (SERVER4, port)]
    with stopped(server):
        for other in others:
            p.send(b"not for us", other)
        let_pass(p)
        assert waiting(lab) == 0
        p.send(b"for us", c.relay)
        assert eventually(lambda: waiting(lab) > 0)
    assert eventually(lambda: waiting(lab) == 0)
    assert c.refresh(0).code == 0
    with stopped(server):
        p.send(b"too late", c.relay)
        let_pass(p)
        assert waiting(lab) == 0
    assert all(eventually(lambda other=other: is_refused(p, other)) for other in (*others, c.relay))


@SHARED
@covers("TURN-7.2-36")
def test_reserved_port_is_steered_once_it_is_redeemed(client, p):
    first, second = client(), client()
    m = first.alloc(attribute(EVEN_PORT, b"\x80"))
    reserved = (first.relay[0], first.relay[1] + 1)
    assert eventually(lambda: is_refused(p, reserved))
    second.alloc(attribute(TOKEN, m.get(TOKEN)))
    assert second.relay == reserved
    second.perm(p.address[0])
    p.send(b"now", reserved)
    assert second.take_data() == (p.address, b"now")


def two_in_shards(client, same):
    """Two clients, on ports that share a socket or do not."""
    seen = {}
    for n in range(200):
        c = client(CLIENTS4[n % 10])
        c.alloc()
        shard = c.relay[1] % SHARDS
        for other, known in seen.items():
            if (other == shard) == same:
                return known, c
        seen.setdefault(shard, c)
    raise AssertionError("never in 200 ports")


def until_served(p, c):
    """What came before a packet that is sent again and again, while the buffer may be full."""
    got, behind = [], (p.address, b"and on")

    def is_served():
        p.send(behind[1], c.relay)
        got.extend(iter(lambda: c.take_data(0.2), None))
        return behind in got

    assert eventually(is_served, 30)
    return [one for one in got if one != behind]


@SHARED
@table("same", ("R17", False), ("R17", True))
def test_flood_to_one_relay(client, p, server, same):
    """
    More than the receive buffer holds, while nobody reads: clients whose ports have another socket lose nothing.
    One in sixteen shares the buffer; behind the flood it is served again at once.
    """
    victim, other = two_in_shards(client, same)
    before = server.stats()["slow_path"]["overflowed"]
    for c in (victim, other):
        c.perm(p.address[0])
    with stopped(server):
        for _ in range(15000):  # each takes more than 1,000 bytes of the kernel's 4 or 8 MiB
            p.send(bytes(900), victim.relay)
        let_pass(p)
        for n in range(20):
            p.send(f"mine {n}".encode(), other.relay)
        let_pass(p)
    got = until_served(p, other)
    assert len(got) < 10 if same else got == [(p.address, f"mine {n}".encode()) for n in range(20)]
    assert server.stats()["slow_path"]["overflowed"] > before + 1000
    until_served(p, victim)


@pytest.mark.config(relay={"sockets": "shared", "ports": "50000-50199"})
@pytest.mark.fresh
@covers("TURN-7.2-22")
def test_ports_that_somebody_has_bound_stay_theirs(lab, client, p):
    """Many at once, so that turnpiked asks for the list of sockets (controlplane/transport/bound.h)."""
    everywhere = (RELAY4, "0.0.0.0", "::")
    with contextlib.ExitStack() as stack:
        held = {}
        for port in range(50000, 50180, 2):
            # Taken already: by a socket that turnpiked steers into, whose port the kernel chose.
            with contextlib.suppress(OSError):
                held[port] = stack.enter_context(lab.server.udp(everywhere[port % 3], port))
        assert len(held) > 80
        made = [client(CLIENTS4[n % 10]) for n in range(100)]
        for c in made:
            c.alloc()
        ports = {c.relay[1] for c in made}
        assert len(ports) == len(made) and not ports & set(held)
        for port in list(held)[:3]:
            p.send(b"theirs", (RELAY4, port))
            assert receive(held[port]) == b"theirs"


@SHARED
@covers("F17", "TURN-11.5-8")
def test_icmp_about_others(client, peer, server, lab):
    """Errors that quote what we cannot have sent never reach turnpiked; those behind them do."""
    from test_t17_icmp import icmp4, icmp6, inner, take_icmp

    for family, make, p in ((V4, icmp4, peer()), (V6, icmp6, peer(PEERS6[0]))):
        c = client()
        c.alloc(attribute(RAF, family))
        c.perm(p.address[0])
        address, port = c.relay
        router = PEERS4[7] if family == V4 else PEERS6[7]
        table, local = ("raw", "00000000") if family == V4 else ("raw6", 32 * "0")
        with Tap(lab.peer) as tap, stopped(server):
            for n in range(1, 200):
                tap.send(make(router, address, 3, 0, inner((address, port ^ n), p.address)))
            tap.send(make(router, address, 3, 0, inner((p.address[0], port), p.address)))
            let_pass(p)
            assert waiting(lab, table, local) == 0
            tap.send(make(router, address, 3, 0, inner(c.relay, p.address)))
            assert eventually(lambda: waiting(lab, table, local) > 0)
        assert take_icmp(c) == (p.address, 3, 0, 0)


def kind_of(server):
    return server.ctl("status")["relay_sockets"]


@pytest.mark.parametrize("kind", [pytest.param("shared", marks=SHARED),
                                  pytest.param("per_allocation", marks=PER_ALLOCATION)])
def test_status_says_which(server, kind):
    assert kind_of(server) == {"kind": kind, "reason": "as configured"}
    assert f"relay sockets {kind}: as configured" in server.log()


@pytest.mark.config(relay={"sockets": "auto"})
@pytest.mark.fresh
@covers("R14")
def test_auto(lab, server):
    """Shared only where the kernel gives no relay port to anybody who asks for any."""
    said = kind_of(server)
    assert said["kind"] == "per_allocation", said
    assert "ip_local_reserved_ports" in said["reason"] and "49152 to 60999" in said["reason"]
    assert said["reason"] in server.log()
    try:
        for setting in ("ip_local_reserved_ports=49152-65535", "ip_local_port_range=32768 49151"):
            lab.server.run("sysctl", "-qw", f"net.ipv4.{setting}")
            server.halt()
            server.start()
            assert kind_of(server)["kind"] == "shared", setting
            lab.server.run("sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=",
                           "net.ipv4.ip_local_port_range=32768 60999")
    finally:
        lab.server.run("sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=",
                       "net.ipv4.ip_local_port_range=32768 60999")


@pytest.mark.config(relay={"sockets": "auto"})
@pytest.mark.fresh
@covers("R14")
def test_no_port_for_sockets_to_steer_to(lab, server):
    """The kernel may keep all ports from everybody: said in one sentence, with what to do; auto goes on without."""
    what_to_do = "out of net.ipv4.ip_local_reserved_ports"
    server.halt()
    try:
        lab.server.run("sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=1024-65535")
        server.start()
        said = kind_of(server)
        assert said["kind"] == "per_allocation" and what_to_do in said["reason"], said
        server.halt()
        server.write_config({**server.config, "relay": {**server.config["relay"], "sockets": "shared"}})
        with pytest.raises(ServerFailed) as refusal:
            server.start()
        line, = (l for l in str(refusal.value).splitlines() if what_to_do in l)
        assert "32 sockets" in line and "in use" not in line
    finally:
        lab.server.run("sysctl", "-qw", "net.ipv4.ip_local_reserved_ports=")
    server.start()
    assert kind_of(server)["kind"] == "shared"


@pytest.mark.config(relay={"sockets": "shared"})
@pytest.mark.fresh
@covers("DP-19-2")
def test_nothing_stays_of_one_that_was_killed(lab, server, client, p):
    c = client()
    c.alloc()
    server.kill()
    assert eventually(lambda: is_refused(p, c.relay))
    server.start()
    again = client()
    again.alloc()
    again.perm(p.address[0])
    p.send(b"hello", again.relay)
    assert again.take_data() == (p.address, b"hello")
