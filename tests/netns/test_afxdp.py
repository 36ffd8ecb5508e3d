"""
What engine afxdp promises: granted packets go through a worker and touch no socket; each of the two
daemons may die and the other goes on; what a worker cannot take is the kernel's.

Behaviour that is the same in all engines is in the other files; sockets, rings and frames by
themselves are in tests/unit/test_afxdp.c.
"""

import sys

import pytest

from harness import *
from rows import covers, table
from test_fastpath import FOREIGN, Oracle, bound, exchange
from turn import *

pytestmark = pytest.mark.engines("afxdp")

DEVICES = ("to_client", "to_peer")
KILLS = int(os.environ.get("TURNPIKE_KILLS", 10))  # tests/run --long: 200


@covers("DP-26-1")
def test_says_what_it_is(server):
    assert server.dataplane.ready.endswith(
        "ready engine=afxdp workers=1 interfaces=to_client:copy,to_peer:copy")
    status = server.ctl("status")
    assert status["engine"] == "afxdp" and status["workers"] == 1
    assert [(i["name"], i["mode"]) for i in status["interfaces"]] == [(d, "copy") for d in DEVICES]


@covers("DP-26-1")
def test_worker_is_counted(bound, p, server):
    before = server.stats()["workers"][0]
    assert exchange(bound, p, 1000) == (0, 0)
    after = server.stats()["workers"][0]
    assert after["bursts"] > before["bursts"] and after["polls"] > after["bursts"]
    assert 0 < after["busy_ratio"] < 1


def relays_fast(server, client, p, number=0x4000):
    """A new client is served, and after a while by the worker."""
    c = client()
    c.alloc()
    c.bind(number, p.address)
    server.warm(c, number, p)
    assert exchange(c, p, 50) == (0, 0)
    return c


@pytest.mark.fresh
@covers("DP-19-2")
def test_killed_control_plane(bound, client, p, server):
    """While it is away nothing granted is lost; the next one takes back the workers' tables."""
    worker = server.dataplane.process.pid
    for _ in range(3):
        oracle = Oracle(bound, p)
        time.sleep(0.5)
        server.kill()
        time.sleep(1.5)
        eventually(lambda: oracle.sent >= 4000, 30, 0.1)  # the machine may be busy
        sent, lost_up, lost_down = oracle.stop()
        assert sent >= 4000 and (lost_up, lost_down) == (0, 0), (sent, lost_up, lost_down)
        server.start()
        assert bound.refresh().code == 0
        bound = relays_fast(server, client, p)
    assert server.dataplane.process.pid == worker and server.dataplane.is_running()
    assert server.dataplane.log().count("turnpiked is back, with the same tables") == 3
    assert server.dataplane.log().count("it granted is relayed on") == 3


@pytest.mark.fresh
@covers("DP-19-2", "D19")
def test_killed_data_plane(bound, a, p, server, lab):
    """
    kill -9 under load, again and again: it comes back, no queue is stuck, and meanwhile the sockets
    relay. At the end it stops cleanly, that is with every frame where it belongs.
    """
    rate = 1000
    oracle = Oracle(bound, p, rate)
    relayed_between = dying = 0
    for _ in range(KILLS):
        start = time.monotonic()
        server.dataplane.kill()
        dying += time.monotonic() - start
        assert a.refresh().code == 0
        server.dataplane.launch()
        server.dataplane.wait_ready()
        before = server.fast_packets()
        assert eventually(lambda: all(a > b for a, b in zip(server.fast_packets(), before)), 60), \
            server.dataplane.log()[-2000:]
        relayed_between += server.fast_packets()[0] - before[0]
    sent, lost_up, lost_down = oracle.stop()
    print(f"{KILLS} kills: of {sent} packets each way {lost_up} up and {lost_down} down were lost")
    # What comes between a worker's end and that of its sockets, and the moments of attaching.
    assert max(lost_up, lost_down) < rate * (2 * dying + 0.1 * KILLS) and relayed_between > 0
    assert exchange(bound, p, 500) == (0, 0)
    assert "turnpike-dataplane is back" in server.log()
    assert server.dataplane.halt() == 0, server.dataplane.log()[-2000:]
    assert all(attached(lab.server, d) is None for d in DEVICES)
    server.dataplane.launch()
    server.dataplane.wait_ready()


@pytest.mark.fresh
@covers("DP-19-2")
def test_stopped_in_order(bound, client, p, server, lab):
    """SIGTERM: programs and sockets go at once, packets take turnpiked's; then it all comes back."""
    assert all(attached(lab.server, d) for d in DEVICES)
    oracle = Oracle(bound, p, rate=1000)
    time.sleep(0.3)
    assert server.dataplane.halt() == 0, server.dataplane.log()[-2000:]
    assert all(attached(lab.server, d) is None for d in DEVICES)
    sent, lost_up, lost_down = oracle.stop()
    assert max(lost_up, lost_down) <= 100, (sent, lost_up, lost_down)
    before = server.stats()["slow_path"]["packets"]
    assert exchange(bound, p, 100) == (0, 0)
    assert server.stats()["slow_path"]["packets"] == before + 200
    server.dataplane.launch()
    server.dataplane.wait_ready()
    relays_fast(server, client, p)


@pytest.mark.fresh
@covers("DP-19-2")
def test_either_may_start_first(server, client, p):
    assert server.halt() == 0 and server.dataplane.halt() == 0
    server.launch()
    assert eventually(lambda: "waiting for turnpike-dataplane" in server.log(server.log_start), 30)
    server.dataplane.launch()
    server.wait_ready(beside=server.dataplane)
    relays_fast(server, client, p).close()

    assert server.halt() == 0 and server.dataplane.halt() == 0
    server.dataplane.launch()

    def said():
        return server.dataplane.log(server.dataplane.log_start)

    waits = f"waiting for turnpiked at {server.directory}/dataplane.sock"
    assert eventually(lambda: waits in said(), 30)
    time.sleep(1)
    assert said().count(waits) == 1 and "ready" not in said()
    server.start()
    server.dataplane.wait_ready()
    relays_fast(server, client, p)


@pytest.mark.fresh
@covers("DP-19-2")
def test_stopped_while_it_waits(server, lab):
    server.halt()
    server.dataplane.halt()
    server.dataplane.launch()
    assert eventually(lambda: "waiting for turnpiked" in server.dataplane.log(server.dataplane.log_start), 30)
    assert server.dataplane.halt() == 0
    assert all(attached(lab.server, d) is None for d in DEVICES)
    server.start()


@pytest.mark.fresh
@covers("DP-19-2")
def test_tables_of_another_shape(server, client, p):
    """turnpiked comes back with a larger table: the workers cannot follow, and say so."""
    server.halt()
    bigger = {**server.config["dataplane"], "flows": 4 * server.config["dataplane"]["flows"]}
    server.write_config({**server.config, "dataplane": bigger})
    server.launch()
    assert server.dataplane.process.wait(60) == 1
    assert "has to be started anew" in server.dataplane.log()
    server.dataplane.launch()
    server.wait_ready(beside=server.dataplane)
    server.dataplane.wait_ready()
    relays_fast(server, client, p)


@covers("D01")
def test_no_privileges_are_left(server):
    """In no thread."""
    for task in glob.glob(f"/proc/{server.dataplane.process.pid}/task/*"):
        with open(f"{task}/status") as f:
            status = dict(line.split(":", 1) for line in f if ":" in line)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, (kind, status["Name"])
        assert status["NoNewPrivs"].strip() == "1"
        assert 0 not in map(int, status["Uid"].split()) and 0 not in map(int, status["Gid"].split())


@pytest.mark.fresh
@covers("D01")
def test_starts_with_few_rights(server, client, p, monkeypatch):
    """Those that its service file leaves it."""
    unit = os.path.join(os.path.dirname(__file__), "../../deploy/systemd/turnpike-dataplane.service")
    with open(unit, encoding="utf-8") as f:
        line = next(l for l in f if l.startswith("CapabilityBoundingSet="))
    rights = [r.removeprefix("CAP_").lower() for r in line.split("=")[1].split()]
    assert server.dataplane.halt() == 0
    inside = server.lab.server.command
    with monkeypatch.context() as patch:
        patch.setattr(server.lab.server, "command", lambda *c: inside(
            "setpriv", "--bounding-set", ",".join(["-all", *(f"+{r}" for r in rights)]), *c))
        server.dataplane.launch()
        server.dataplane.wait_ready()
    relays_fast(server, client, p)


@pytest.fixture
def foreign(lab, tmp_path):
    """The object file of a program that is not ours."""
    source = tmp_path / "foreign.c"
    source.write_text(FOREIGN)
    compiler = shutil.which("clang-14") or shutil.which("clang")
    run(compiler, "-O2", "-target", "bpf", "-I/usr/include/x86_64-linux-gnu", "-c", str(source),
        "-o", f"{tmp_path}/foreign.o")
    return f"{tmp_path}/foreign.o"


@pytest.mark.fresh
@covers("D25")
def test_foreign_program_is_not_replaced(server, lab, client, p, foreign):
    server.dataplane.halt()
    lab.server.run("ip", "link", "set", "to_peer", "xdpdrv", "obj", foreign, "sec", "xdp")
    theirs = attached(lab.server, "to_peer")
    try:
        server.dataplane.launch()
        assert server.dataplane.process.wait(60) == 1
        said = server.dataplane.log(server.dataplane.log_start)
        assert "afxdp cannot run: to_peer: another XDP program is attached there" in said
        assert attached(lab.server, "to_peer") == theirs and attached(lab.server, "to_client") is None
    finally:
        lab.server.run("ip", "link", "set", "to_peer", "xdpdrv", "off")
    server.dataplane.launch()
    server.dataplane.wait_ready()
    relays_fast(server, client, p)


@covers("D25")
def test_program_cannot_be_taken_off_by_hand(bound, p, lab):
    for device in DEVICES:
        for mode in ("xdp", "xdpdrv", "xdpgeneric"):
            run("ip", "-n", lab.server.name, "link", "set", device, mode, "off", check=False)
    assert all(attached(lab.server, d) for d in DEVICES)
    assert exchange(bound, p, 200) == (0, 0)


@pytest.mark.fresh
@covers("D25")
def test_program_is_removed(bound, p, server, lab):
    """By force: noticed within about a second and told; packets take the sockets."""
    ids = {attached(lab.server, d) for d in DEVICES}
    for link in json.loads(run("bpftool", "-j", "link", "show").stdout or "[]"):
        if link.get("prog_id") in ids:
            run("bpftool", "link", "detach", "id", str(link["id"]))
    assert eventually(lambda: server.dataplane.log().count("go to the kernel now") == 2)
    before = server.stats()["slow_path"]["packets"]
    assert exchange(bound, p, 100) == (0, 0)
    assert server.stats()["slow_path"]["packets"] >= before + 200


@pytest.mark.fresh
@covers("D25")
def test_link_goes_down_and_up(bound, p, server, lab):
    lab.server.batch("link set to_peer down", "link set to_peer up",
                     f"addr replace {RELAY6}/64 dev to_peer nodad",
                     f"route replace default via {GATEWAY4}",
                     f"route replace default via {GATEWAY6}")

    def flows():
        bound.send_on(0x4000, b"again")
        return p.take(0.1) == (b"again", bound.relay)

    assert eventually(flows, 30)
    server.warm(bound, 0x4000, p)
    assert exchange(bound, p, 100) == (0, 0)


@pytest.mark.config(dataplane={"xdp_mode": "generic"})
@covers("D25")
def test_generic_mode(server, client, p):
    """Where a driver has no XDP: said in the log, and it relays all the same."""
    assert "to_client: generic XDP, copy, 1 of 1 queues" in server.dataplane.log()
    relays_fast(server, client, p)


@pytest.mark.config(dataplane={"idle_sleep": "0 us"})
@covers("DP-26-1")
def test_pure_polling(server, client, p):
    relays_fast(server, client, p)
    before = server.stats()["workers"][0]["polls"]
    # One that sleeps a millisecond in between would need minutes.
    assert eventually(lambda: server.stats()["workers"][0]["polls"] > before + 200000)


@pytest.mark.config(dataplane={"cores": [max(os.sched_getaffinity(0))]})
@covers("DP-26-1")
def test_worker_has_its_core_alone(server):
    worker = {max(os.sched_getaffinity(0))}
    assert server.dataplane.cores_of("worker-0") == worker
    assert server.dataplane.cores_of("turnpike-datapl") == (os.sched_getaffinity(0) - worker or worker)


@covers("DP-26-1")
def test_idle_worker_sleeps(server):
    """With idle_sleep a worker that has nothing to do leaves its core to others."""

    def used():
        with open(f"/proc/{server.dataplane.process.pid}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(2)
    assert used() - before < 0.8


@covers("DP-26-1")
def test_command_line(server, tmp_path):
    """As turnpiked's."""
    dataplane = program("turnpike-dataplane")
    assert run(dataplane, "--check", "-c", server.config_path).stdout == "ok\n"
    assert run(dataplane, "--version").stdout.startswith("turnpike-dataplane ")
    assert "--config" in run(dataplane, "--help").stdout
    assert run(dataplane, "--what", check=False).returncode == 2
    wrong = tmp_path / "wrong.yaml"
    for engine, says in (("xdp", "for afxdp and dpdk only"), ("none", "engine")):
        wrong.write_text(json.dumps(configuration(str(tmp_path), engine)))
        done = run(dataplane, "-c", str(wrong), check=False)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


WIDE_SERVER = "192.168.77.1"
WIDE_CLIENTS = [f"192.168.77.{n}" for n in range(10, 20)]


@pytest.fixture
def wide(lab):
    """A second way to clients, with two queues."""
    queues = ["numtxqueues", "2", "numrxqueues", "2"]
    run("ip", "link", "add", "wide", "netns", lab.client.name, *queues, "type", "veth",
        "peer", "name", "to_wide", "netns", lab.server.name, *queues)
    for namespace, device, addresses in ((lab.client, "wide", WIDE_CLIENTS),
                                         (lab.server, "to_wide", [WIDE_SERVER])):
        namespace.batch(*(f"addr add {a}/24 dev {device}" for a in addresses),
                        f"link set {device} up")
        namespace.run("ethtool", "-K", device, "tx", "off", "gro", "on")
    yield
    lab.server.batch("link del to_wide")


class OneQueue:
    """Somebody else's AF_XDP socket on a queue, in a process that keeps it."""

    CODE = """
import mmap, socket, struct, sys, time
AF_XDP, SOL_XDP = 44, 283
s = socket.socket(AF_XDP, socket.SOCK_RAW)
umem = mmap.mmap(-1, 64 * 4096)
import ctypes
base = ctypes.addressof(ctypes.c_char.from_buffer(umem))
s.setsockopt(SOL_XDP, 4, struct.pack("QQIIII", base, 64 * 4096, 4096, 0, 0, 0))
for option in (5, 6, 2):
    s.setsockopt(SOL_XDP, option, 64)
address = struct.pack("HHIII", AF_XDP, 1 << 1, socket.if_nametoindex(sys.argv[1]), int(sys.argv[2]), 0)
libc = ctypes.CDLL(None, use_errno=True)
if libc.bind(s.fileno(), address, len(address)):
    sys.exit(f"bind: {ctypes.get_errno()}")
print("bound", flush=True)
time.sleep(600)
"""

    def __init__(self, namespace, device, queue):
        self.process = subprocess.Popen(
            namespace.command(sys.executable, "-c", self.CODE, device, str(queue)),
            stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        assert self.process.stdout.readline() == "bound\n"

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def taken(lab, wide):
    """The wide way's second queue is somebody else's."""
    other = OneQueue(lab.server, "to_wide", 1)
    yield
    other.close()


WIDE = {"listen": [{"transport": "udp", "address": a, "port": PORT} for a in (SERVER4, WIDE_SERVER)],
        "dataplane": {"interfaces": ["to_client", "to_peer", "to_wide"], "workers": 2}}


@pytest.mark.fresh
@pytest.mark.config(**WIDE)
@covers("DP-26-1")
def test_two_workers(wide, client, peer, server):
    """Two queues, a worker each; out of the peers' only queue both send, one of them by a detour."""
    assert server.dataplane.ready.endswith("workers=2 interfaces=to_client:copy,to_peer:copy,to_wide:copy")
    p = peer()
    for n in range(24):  # clients enough that each queue gets some
        c = client(WIDE_CLIENTS[n % 10], server=(WIDE_SERVER, PORT))
        c.alloc()
        c.bind(0x4000, p.address)
        server.warm(c, 0x4000, p)
        before = server.stats()
        assert exchange(c, p, 20) == (0, 0)
        assert server.stats()["slow_path"] == before["slow_path"]
    bursts = [w["bursts"] for w in server.stats()["workers"]]
    assert len(bursts) == 2 and all(bursts), bursts


@pytest.mark.fresh
@pytest.mark.config(**WIDE)
@covers("D24")
def test_queue_without_a_socket(taken, client, peer, server):
    """One of two queues is bound: what comes by the other is relayed by turnpiked's sockets."""
    assert "to_wide: queue 1 gets no socket" in server.dataplane.log()
    slow = fast = 0
    p = peer()
    for n in range(24):
        c = client(WIDE_CLIENTS[n % 10], server=(WIDE_SERVER, PORT))
        c.alloc()
        c.bind(0x4000, p.address)
        before = server.stats()
        assert exchange(c, p, 20) == (0, 0)
        after = server.stats()
        slow += after["slow_path"]["packets"] - before["slow_path"]["packets"]
        fast += sum(after["directions"][d]["packets"] - before["directions"][d]["packets"]
                    for d in after["directions"])
    assert slow >= 20 and fast >= 20 and slow + fast >= 24 * 40, (slow, fast)
