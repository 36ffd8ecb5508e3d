"""
What engine xdp promises, and in part those of polling workers: granted packets touch no socket,
relaying goes on while turnpiked does not, and where the program is gone the sockets take over.
"""

import threading

import pytest

from harness import *
from rows import covers, table
from turn import *

pytestmark = pytest.mark.engines("xdp")
all_engines = pytest.mark.engines("xdp", *POLLING)  # that there are, beside the sockets


@pytest.fixture
def bound(client, p, server):
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    return c


def shown(server, c):
    """The allocation as turnpikectl shows it."""
    return next(a for a in server.ctl("allocations", "list")["allocations"]
                if a["relay"].rstrip("]").endswith(":%d" % c.relay[1]))


def exchange(c, p, count, size=100):
    """Numbered packets both ways; (lost upwards, lost downwards)."""
    up = [struct.pack("!I", n) + bytes(size - 4) for n in range(count)]
    wanted, arrived = set(up), [set(), set()]

    def collect():
        """Of these: something that was sent before may come late."""
        arrived[0].update(raw for raw, _ in drain(p.socket) if raw in wanted)
        arrived[1].update(raw[4:] for raw, _ in drain(c.socket) if raw[4:] in wanted)

    for n, payload in enumerate(up, 1):
        c.send_on(0x4000, payload)
        p.send(payload, c.relay)
        if (n % UNDER_WAY == 0 or n == count) and not eventually(
                lambda: collect() or all(len(a) == n for a in arrived), 3):
            break
    return n - len(arrived[0]), n - len(arrived[1])


@all_engines
@table("address, peer_address",
       ("DP-26-1", CLIENTS4[0], PEERS4[0]), ("DP-26-1", CLIENTS6[0], PEERS6[0]))
def test_no_packet_meets_a_socket(client, peer, server, address, peer_address):
    """Counted exactly: N packets in each direction by the engine, none by the slow path."""
    c, p = client(address), peer(peer_address)
    c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    before = server.stats()
    assert exchange(c, p, 1000) == (0, 0)
    after = server.stats()
    for direction in ("client_to_peer", "peer_to_client"):
        for what, number in (("packets", 1000), ("bytes", 100 * 1000)):
            assert after["directions"][direction][what] - before["directions"][direction][what] \
                == number, (direction, what)
    assert after["slow_path"] == before["slow_path"]
    allocation = shown(server, c)
    assert allocation["sent"]["packets"] >= 1000 and allocation["received"]["packets"] >= 1000


@all_engines
@covers("DP-26-1")
def test_indications_meet_no_socket_either(bound, p, peer, server):
    """Sends count at the client's flow, Data at the permission's; the allocation has both."""
    q = peer()
    before, allocation = server.stats(), shown(server, bound)
    for n in range(100):
        bound.send_to(p.address, b"indication %3d" % n)
        assert p.take() == (b"indication %3d" % n, bound.relay)
        q.send(b"other port %3d" % n, bound.relay)
        assert bound.take_data() == (q.address, b"other port %3d" % n)
    after = server.stats()
    assert after["slow_path"] == before["slow_path"]
    for direction, way in (("client_to_peer", "sent"), ("peer_to_client", "received")):
        for what, number in (("packets", 100), ("bytes", 1400)):
            assert after["directions"][direction][what] - before["directions"][direction][what] == number
            assert shown(server, bound)[way][what] - allocation[way][what] == number


class Oracle:
    """Sends numbered packets both ways at a steady rate, in threads, until told to stop."""

    def __init__(self, c, p, rate=2500):
        self.c, self.p, self.rate = c, p, rate
        self.sent = 0
        self.up, self.down = set(), set()
        self.running = True
        self.threads = [threading.Thread(target=f) for f in (self.send, self.receive)]
        for t in self.threads:
            t.start()

    def send(self):
        start = time.monotonic()
        while self.running:
            due = int((time.monotonic() - start) * self.rate)
            for _ in range(min(due - self.sent, UNDER_WAY)):
                self.send_one(struct.pack("!I", self.sent))
                self.sent += 1
            time.sleep(0.002)

    def send_one(self, payload):
        self.c.send_on(0x4000, payload)
        self.p.send(payload, self.c.relay)

    def collect(self):
        self.up.update(struct.unpack("!I", raw)[0] for raw, _ in drain(self.p.socket) if len(raw) == 4)
        self.down.update(struct.unpack("!I", raw[4:])[0] for raw, _ in drain(self.c.socket)
                         if len(raw) == 8)

    def receive(self):
        while self.running:
            self.collect()
            time.sleep(0.005)

    def stop(self):
        """(sent, lost up, lost down)"""
        self.running = False
        for t in self.threads:
            t.join()
        eventually(lambda: self.collect() or len(self.up) == len(self.down) == self.sent, 2)
        before = -1
        while before != len(self.up) + len(self.down):  # until nothing more comes
            before = len(self.up) + len(self.down)
            time.sleep(0.2)
            self.collect()
        return self.sent, self.sent - len(self.up), self.sent - len(self.down)


@all_engines
@covers("DP-19-2")
def test_stopped_control_plane(bound, p, server):
    """turnpiked stands still for five seconds or more; of 10,000 packets each way none is lost."""
    server.signal(signal.SIGSTOP)
    try:
        oracle = Oracle(bound, p)
        time.sleep(5)
        eventually(lambda: oracle.sent >= 10000, 30, 0.1)  # the machine may be busy
        sent, lost_up, lost_down = oracle.stop()
    finally:
        server.signal(signal.SIGCONT)
    assert sent >= 10000 and (lost_up, lost_down) == (0, 0)
    assert bound.refresh().code == 0


@all_engines
@pytest.mark.config(limits={"channel_lifetime": "2 s", "permission_lifetime": "4 s"})
@covers("DP-26-2", "TURN-12-3")
def test_expiry_holds_while_stopped(client, p, server):
    """After the channel's end a peer's data comes as indications, after the permission's not at all."""
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    c.bind(0x4000, p.address)
    start = time.monotonic()
    server.signal(signal.SIGSTOP)
    try:
        assert exchange(c, p, 100) == (0, 0)
        time.sleep(max(0, start + 2.2 - time.monotonic()))
        for _ in range(100):
            c.send_on(0x4000, b"late")
            p.send(b"late", c.relay)
        late = []
        assert eventually(lambda: late.extend(drain(c.socket)) or len(late) >= 100)
        time.sleep(0.2)
        assert not drain(p.socket) and not drain(c.socket) and len(late) == 100
        assert all(check_data_indication(raw).get(DATA) == b"late" for raw, _ in late)
        time.sleep(max(0, start + 4.2 - time.monotonic()))
        for _ in range(100):
            c.send_to(p.address, b"too late")
            p.send(b"too late", c.relay)
        time.sleep(0.2)
        assert not drain(p.socket) and not drain(c.socket)
    finally:
        server.signal(signal.SIGCONT)
    c.refresh()
    c.inbox.clear()


@all_engines
@covers("DP-26-1", "D05")
def test_first_packet_after_each_of_a_thousand_binds(client, peer, server):
    sockets = [peer(PEERS4[n % 10]) for n in range(50)]
    before = server.stats()["directions"]["client_to_peer"]["packets"]
    for n in range(1000):
        if n % 50 == 0:
            c = client(CLIENTS4[n // 50 % 10])
            c.alloc()
        p = sockets[n % 50]
        c.bind(0x4000 + n % 50, p.address)
        c.send_on(0x4000 + n % 50, b"%d" % n)
        assert p.take() == (b"%d" % n, c.relay)
        p.send(b"%d" % n, c.relay)
        assert c.take_channel() == (0x4000 + n % 50, b"%d" % n)
    assert server.stats()["directions"]["client_to_peer"]["packets"] - before > 900


@covers("D25")
def test_program_cannot_be_taken_off_by_hand(bound, p, server, lab):
    """It is held by a link: `ip link set xdp off` is refused, and packets go on."""
    for device in ("to_client", "to_peer"):
        for mode in ("xdp", "xdpdrv", "xdpgeneric"):
            run("ip", "-n", lab.server.name, "link", "set", device, mode, "off", check=False)
        if attached(lab.server, device) is None:
            pytest.skip("attached without a link: the next test covers it")
    assert exchange(bound, p, 200) == (0, 0)


def detach(lab):
    """Takes the links away, as an administrator with bpftool would."""
    links = json.loads(run("bpftool", "-j", "link", "show").stdout or "[]")
    ids = {attached(lab.server, d) for d in ("to_client", "to_peer")}
    for link in links:
        if link.get("prog_id") in ids:
            run("bpftool", "link", "detach", "id", str(link["id"]))


@pytest.mark.fresh
@covers("D25")
def test_program_is_removed(bound, p, server, lab):
    """Noticed within about a second and told; not one packet is lost, before or after."""
    oracle = Oracle(bound, p, rate=1000)
    time.sleep(0.3)
    detach(lab)
    assert attached(lab.server, "to_client") is None
    told = eventually(lambda: "relayed by sockets now" in server.log())
    sent, lost_up, lost_down = oracle.stop()
    assert told
    assert (lost_up, lost_down) == (0, 0), sent
    before = server.stats()["slow_path"]["packets"]
    assert exchange(bound, p, 100) == (0, 0)
    assert server.stats()["slow_path"]["packets"] >= before + 200
    assert bound.refresh().code == 0


@pytest.mark.fresh
@covers("D25")
def test_link_goes_down_and_up(bound, p, server, lab):
    """A flapping interface: afterwards the data flows again."""
    lab.server.batch("link set to_peer down", "link set to_peer up",
                     f"addr replace {RELAY6}/64 dev to_peer nodad", f"route replace default via {GATEWAY4}", f"route replace default via {GATEWAY6}")

    def flows():
        bound.send_on(0x4000, b"again")
        return p.take(0.1) == (b"again", bound.relay)

    assert eventually(flows, 30)
    assert exchange(bound, p, 100) == (0, 0)


FOREIGN = """
#include <linux/bpf.h>
__attribute__((section("xdp"), used)) int pass(struct xdp_md *ctx) { return XDP_PASS; }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""


@pytest.mark.fresh
@covers("D25")
def test_foreign_program_is_not_replaced(lab, server, client, p, tmp_path):
    """
    Somebody else's program is there first: engine xdp says so and does not start; engine auto
    takes what is left and says why.
    """
    server.halt()
    good = server.config
    source = tmp_path / "foreign.c"
    source.write_text(FOREIGN)
    compiler = shutil.which("clang-14") or shutil.which("clang")
    run(compiler, "-O2", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-c", str(source),
        "-o", f"{tmp_path}/foreign.o")
    lab.server.run("ip", "link", "set", "to_client", "xdpdrv", "obj", f"{tmp_path}/foreign.o", "sec",
                   "xdp")
    foreign = attached(lab.server, "to_client")
    try:
        with pytest.raises(ServerFailed) as refusal:
            server.start()
        assert "to_client" in str(refusal.value)
        assert attached(lab.server, "to_client") == foreign
        server.write_config({**good, "dataplane": {**good["dataplane"], "engine": "auto"}})
        server.start()
        status = server.ctl("status")
        assert status["engine"] == "socket" and "to_client" in status["engine_reason"], status
        assert attached(lab.server, "to_client") == foreign
        c = client()
        c.alloc()
        c.bind(0x4000, p.address)
        assert exchange(c, p, 50) == (0, 0)
        c.close()
        server.halt()
    finally:
        lab.server.run("ip", "link", "set", "to_client", "xdpdrv", "off")
        server.write_config()
    server.start()


@pytest.mark.fresh
@covers("DP-19-2")
def test_pins_and_programs_go_with_the_server(lab, server, bound):
    assert attached(lab.server, "to_client") is not None
    pins = server.pins()
    assert pins and all(map(os.path.isdir, pins))
    assert server.halt() == 0
    assert attached(lab.server, "to_client") is None
    assert not any(map(os.path.exists, pins))
    server.start()


@pytest.mark.fresh
@covers("DP-19-2")
def test_killed_and_restarted(lab, server, client, p):
    """kill -9: the next start takes the pins over and serves, old clients and new ones."""
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    server.process.kill()
    server.process.wait()
    server.start()
    assert c.refresh().code == 0
    assert exchange(c, p, 200) == (0, 0)
    again = client()
    again.alloc()
    again.bind(0x4000, p.address)
    server.warm(again, 0x4000, p)
    assert exchange(again, p, 200) == (0, 0)
    assert server.audit()["differences"] == 0


@covers("D26")
def test_status_says_which_engine_and_why(server):
    status = server.ctl("status")
    assert status["engine"] == "xdp" and status["engine_reason"]
    assert {i["name"] for i in status["interfaces"]} == {"to_client", "to_peer"}
    assert all(i["mode"] == "native" for i in status["interfaces"])
    assert "engine=xdp" in server.ready


@pytest.mark.config(dataplane={"xdp_mode": "generic"})
@covers("D25")
def test_generic_mode(client, p, server):
    """Where the driver has no XDP of its own."""
    assert all(i["mode"] == "generic" for i in server.ctl("status")["interfaces"])
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    before = server.fast_packets()
    assert exchange(c, p, 300) == (0, 0)
    assert server.fast_packets() == (before[0] + 300, before[1] + 300)


@pytest.mark.config(dataplane={"engine": "auto"})
@covers("D25")
def test_auto_takes_the_fastest(server):
    status = server.ctl("status")
    assert status["engine"] == "xdp" and "native" in status["engine_reason"]


@pytest.mark.engines("xdp", "afxdp")
@pytest.mark.config(dataplane={"interfaces": ["to_client"]})
@covers("DP-26-6")
def test_peers_on_another_interface(client, p, server):
    """What leaves elsewhere is the kernel's: slower, and whole."""
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    assert exchange(c, p, 300) == (0, 0)
    assert server.audit()["differences"] == 0


@pytest.mark.fresh
@covers("D25")
def test_interface_that_is_not_there(lab, server):
    server.halt()
    good = server.config
    server.config = {**good, "dataplane": {**good["dataplane"], "interfaces": ["nowhere0"]}}
    server.write_config()
    with pytest.raises(ServerFailed) as refusal:
        server.start()
    assert "nowhere0" in str(refusal.value) and server.process.returncode in (1, 2)
    server.config = good
    server.write_config()
    server.start()
