"""
turnpiked is killed and comes back: what it granted is relayed meanwhile and granted on, and its
clients notice nothing. With the engines whose tables outlive it.

Half-written tables, lost configurations and identities by themselves are in tests/unit/test_adopt.c.
"""

import pytest

from harness import *
from rows import covers, table
from test_fastpath import Oracle, bound, exchange
from turn import *

pytestmark = pytest.mark.engines("xdp", "afxdp", "dpdk")


class Indications(Oracle):
    """The same by Send and Data."""

    def send_one(self, payload):
        self.c.send_to(self.p.address, payload)
        self.p.send(payload, self.c.relay)

    def collect(self):
        self.up.update(struct.unpack("!I", raw)[0] for raw, _ in drain(self.p.socket) if len(raw) == 4)
        for raw, _ in drain(self.c.socket):
            if raw[:2] == b"\x00\x17":
                self.down.add(struct.unpack("!I", Message(raw).get(DATA))[0])


def restart(server):
    """kill -9, and some time without anybody."""
    server.kill()
    time.sleep(0.5)
    server.start()


def adopted(server):
    """(allocations, flows, dropped allocations, dropped flows) of the last start."""
    found = re.findall(r"adopted (\d+) allocations and (\d+) flows; dropped (\d+) and (\d+)",
                       server.log(server.log_start))
    assert len(found) == 1, server.log(server.log_start)
    return tuple(map(int, found[0]))


def shown(server):
    """What the allocations are, without what changes by itself."""
    return [{k: a[k] for k in ("id", "user", "client", "relay")}
            | {"channels": [(c["number"], c["peer"]) for c in a["channels"]],
               "permissions": [q["peer"] for q in a["permissions"]]}
            for a in server.ctl("allocations", "list")["allocations"]]


def allocated(client, p, address=CLIENTS4[0], family=V4, **who):
    c = client(address, **who)
    c.alloc(attribute(RAF, family))
    c.bind(0x4000, p.address)
    return c


@pytest.mark.fresh
@table("oracle, address, peer_address",
       ("DP-19-2", Oracle, CLIENTS4[0], PEERS4[0]), ("DP-19-2", Oracle, CLIENTS6[0], PEERS6[0]),
       ("DP-19-2", Indications, CLIENTS4[0], PEERS4[0]))
def test_nothing_is_lost(client, peer, server, oracle, address, peer_address):
    """Numbered packets both ways, before, during and after three kills: all of them arrive."""
    p = peer(peer_address)
    c = client(address)
    c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    if oracle is Indications:  # a permission, and no channel that would carry the peer's data
        c = client(address)
        c.alloc()
        c.perm(p.address[0])
    before = shown(server)
    load = oracle(c, p)
    time.sleep(0.5)
    for _ in range(3):
        restart(server)
        time.sleep(0.7)
    eventually(lambda: load.sent >= 5000, 30, 0.1)  # the machine may be busy
    sent, lost_up, lost_down = load.stop()
    print(f"{sent} packets each way, lost {lost_up} up and {lost_down} down")
    assert sent >= 5000 and (lost_up, lost_down) == (0, 0), (sent, lost_up, lost_down)
    assert shown(server) == before
    assert adopted(server)[0] == len(before) and adopted(server)[2:] == (0, 0)
    assert server.audit()["differences"] == 0
    assert c.refresh().code == 0


@pytest.mark.fresh
@covers("DP-19-2")
def test_the_client_goes_on(client, p, peer, server):
    """Every request works as if nothing had been; at the end Refresh 0 deletes."""
    q = peer(PEERS4[1])
    c = allocated(client, p)
    restart(server)
    assert c.refresh().code == 0
    c.bind(0x4000, p.address)
    c.bind(0x4001, q.address)
    assert c.channel_bind(0x4001, p.address).code == 400
    c.perm(q.address[0])
    assert c.allocate().code == 437
    server.warm(c, 0x4000, p)
    server.warm(c, 0x4001, q)
    assert exchange(c, p, 200) == (0, 0)
    assert server.audit()["differences"] == 0
    c.bind(0x4000, p.address)
    assert c.refresh(0).code == 0
    assert shown(server) == [] and server.audit()["differences"] == 0
    c.send_on(0x4000, b"late")
    assert p.take(0.3) is None
    c.alloc()


@pytest.mark.fresh
@covers("DP-19-2")
def test_it_is_still_the_owners(client, p, server, lab):
    """Another user on the same 5-tuple gets 441, before and after the owner has shown himself."""
    c = allocated(client, p)
    restart(server)
    other = Client(lab, user="bob", sock=c.socket)
    for _ in range(2):
        assert other.refresh().code == 441
        assert other.permit(p.address[0]).code == 441
        assert other.refresh(0).code == 441
        assert other.allocate().code == 437
        assert c.refresh().code == 0
    assert [a["user"] for a in shown(server)] == ["alice"]


@pytest.mark.fresh
@pytest.mark.config(limits={"allocations_per_user": 2},
                    relay={"ports": "50000-50003"})
@covers("DP-19-2")
def test_quota_and_ports_are_still_taken(client, p, server):
    """Who had two allocations has them; nobody is given a port that is in use."""
    held = [allocated(client, p) for _ in range(2)]
    restart(server)
    more = client()
    assert more.allocate().code == 486
    others = [client(user="bob") for _ in range(2)]
    for other in others:
        other.alloc()
    ports = {c.relay[1] for c in held + others}
    assert len(ports) == 4 and server.audit()["differences"] == 0
    held[0].refresh(0)
    more.alloc()


@pytest.mark.fresh
@pytest.mark.config(limits={"channel_lifetime": "12 s", "permission_lifetime": "15 s"})
@covers("DP-19-2", "TURN-12-3")
def test_it_still_ends(client, p, server):
    """Grants end when they would have ended."""
    c = allocated(client, p)
    began = time.monotonic()
    restart(server)
    a = server.ctl("allocations", "list")["allocations"][0]
    assert 1 <= a["channels"][0]["expires_s"] <= 12 and 1 <= a["permissions"][0]["expires_s"] <= 15
    assert eventually(lambda: shown(server)[0]["channels"] == [], 14)
    assert 11 < time.monotonic() - began < 14
    assert eventually(lambda: shown(server)[0]["permissions"] == [])
    c.send_on(0x4000, b"late")
    p.send(b"late", c.relay)
    assert p.take(0.3) is None and c.silent()
    assert server.audit()["differences"] == 0


@pytest.mark.fresh
@covers("DP-19-2")
def test_grants_outlive_a_short_relay(client, p, server):
    """A channel bound for longer than the allocation was to live: a Refresh later it is still there."""
    c = client()
    c.alloc(lifetime(600))
    c.bind(0x4000, p.address)
    c.refresh(600)
    before = server.ctl("allocations", "list")["allocations"][0]
    began = time.monotonic()
    restart(server)
    after = server.ctl("allocations", "list")["allocations"][0]
    away = time.monotonic() - began
    for what in ("channels", "permissions"):
        assert 0 <= before[what][0]["expires_s"] - after[what][0]["expires_s"] <= away + 2
    c.refresh(1200)
    server.warm(c, 0x4000, p)
    assert server.audit()["differences"] == 0


@pytest.mark.fresh
@covers("DP-19-2")
def test_what_no_longer_fits_is_dropped(client, p, server):
    """Other relay ports in the new configuration: the allocation goes, and nothing of it is left."""
    c = allocated(client, p)
    server.kill()
    low = 50000 if c.relay[1] >= 60000 else 60000
    server.write_config({**server.config, "relay": {**server.config["relay"],
                                                    "ports": f"{low}-{low + 999}"}})
    server.start()
    assert adopted(server)[0] == 0 and adopted(server)[2] == 1 and adopted(server)[3] > 0
    assert shown(server) == [] and server.audit()["differences"] == 0
    assert c.refresh().code == 437
    c.allocated = False
    server.write_config()


@pytest.mark.fresh
@covers("DP-19-2")
def test_a_start_that_fails_takes_nothing(client, p, server):
    """What was granted is relayed on when the next one cannot serve, and the one after that adopts it."""
    c = allocated(client, p)
    server.warm(c, 0x4000, p)
    before = shown(server)
    server.kill()
    elsewhere = {"transport": "udp", "address": "192.0.2.250", "port": 3478}
    server.write_config({**server.config, "listen": [*server.config["listen"], elsewhere]})
    with pytest.raises(ServerFailed):
        server.start()
    assert exchange(c, p, 100) == (0, 0)
    server.write_config()
    server.start()
    assert shown(server) == before and adopted(server)[2:] == (0, 0)
    assert exchange(c, p, 100) == (0, 0)
    assert server.audit()["differences"] == 0
    assert c.refresh().code == 0


@pytest.mark.fresh
@covers("DP-19-2")
def test_an_orderly_stop_leaves_nothing(client, p, server):
    """SIGTERM gives everything back: there is nothing to adopt."""
    c = allocated(client, p)
    server.halt()
    server.start()
    assert "dropped" not in server.log(server.log_start) or adopted(server) == (0, 0, 0, 0)
    assert shown(server) == []
    assert c.refresh().code == 437
    c.allocated = False


@pytest.mark.fresh
@pytest.mark.parametrize("name", ["alice", "a" * 200])
@covers("DP-19-2", "REST-7")
def test_name_that_has_run_out(client, p, server, name):
    """A time-limited name counts as it did when the allocation was made, its length regardless."""
    name = f"{int(time.time()) + 3}:{name}"
    c = client(user=name, password=rest_password(name, SECRETS[0]))
    c.alloc()
    c.bind(0x4000, p.address)
    restart(server)
    assert shown(server)[0]["user"] == name[:40]
    # The server's seconds are those of the kernel's last tick, which time.time() may be ahead of.
    assert eventually(lambda: time.time() > int(name.split(":")[0]) + 1.2, 8)
    assert c.refresh().code == 0
    assert shown(server)[0]["user"] == name
    late = client(user=name, password=rest_password(name, SECRETS[0]))
    assert late.allocate().code == 401


@pytest.mark.fresh
@pytest.mark.engines("xdp")
@covers("DP-19-2")
def test_other_places_of_interfaces(client, p, server):
    """Next hops name interfaces by their places: in another order nothing goes astray."""
    c = allocated(client, p)
    server.warm(c, 0x4000, p)
    server.kill()
    dataplane = server.config["dataplane"]
    server.write_config({**server.config, "dataplane": {
        **dataplane, "interfaces": dataplane["interfaces"][::-1]}})
    server.start()
    assert exchange(c, p, 100) == (0, 0)
    server.warm(c, 0x4000, p)
    assert server.audit()["differences"] == 0
    server.write_config()
