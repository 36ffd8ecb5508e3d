"""
What engine dpdk promises: ports that the kernel does not have are relayed between by workers, and
an exception interface each makes the kernel's world go on: ARP, neighbour discovery, ICMP, TCP, the
control plane's sockets. Over the virtual devices that a machine without spare NICs has.

Behaviour that is the same in all engines is in the other files, which run over net_af_xdp. Rows of
packets and buffers that are counted: tests/vectors (rows_dpdk, random_dpdk).
"""

import copy
import threading

import pytest

from harness import *
from rows import covers, table
from test_afxdp import OneQueue
from test_fastpath import Oracle, bound, exchange
from turn import *

pytestmark = pytest.mark.engines("dpdk")

KILLS = int(os.environ.get("TURNPIKE_KILLS", 5))
TAPS = {"tp0": "to_client", "tp1": "to_peer"}


def with_ports(change):
    """A copy of the configuration's part, changed."""
    made = copy.deepcopy(dpdk())
    change(made)
    return made


def net_tap():
    """
    Each virtual device is a TAP of its own, net0 and net1, that the kernel sees as a cable's end;
    wire_net_tap() joins it to the lab's cable.
    """
    made = copy.deepcopy(dpdk())
    made["eal"] = [a for a in made["eal"] if "vdev" not in a]
    made["eal"] += [f"--vdev=net_tap{n},iface=net{n},mac={MACS[d]}" for n, d in enumerate(TAPS.values())]
    return made


def wire_net_tap(lab):
    lines = ["table netdev wires", "delete table netdev wires", "table netdev wires {"]
    for n, device in enumerate(TAPS.values()):
        for here, there in ((device, f"net{n}"), (f"net{n}", device)):
            lines += [f"chain {here} {{", f"type filter hook ingress device {here} priority -1",
                      f"fwd to {there}", "}"]
    lab.server.run("nft", "-f", "-", input="\n".join([*lines, "}", ""]))


def ping(lab, address, count=3):
    return lab.client.run("ping", "-q", f"-c{count}", "-i0.1", "-W5", address, check=False).returncode == 0


def link_of(lab, device):
    return json.loads(run("ip", "-n", lab.server.name, "-d", "-j", "addr", "show", device).stdout)[0]


# ---- drivers ------------------------------------------------------------------------------------


def relays_exactly(client, peer, server, families=((4, 4), (6, 6))):
    """1000 packets each way in each family, by the worker, none of them lost."""
    for number, (one, other) in enumerate(families):
        c = client(CLIENTS4[number] if one == 4 else CLIENTS6[number])
        p = peer(PEERS4[number] if other == 4 else PEERS6[number])
        c.alloc(attribute(RAF, V4 if other == 4 else V6))
        c.bind(0x4000, p.address)
        server.warm(c, 0x4000, p)
        before = server.stats()
        assert exchange(c, p, 1000) == (0, 0)
        after = server.stats()
        for direction in ("client_to_peer", "peer_to_client"):
            assert after["directions"][direction]["packets"] \
                - before["directions"][direction]["packets"] == 1000, direction
        assert after["slow_path"] == before["slow_path"]


def kernel_goes_on(lab):
    """Neighbours are found anew, in both families."""
    for family, address in (("-4", SERVER4), ("-6", SERVER6)):
        lab.client.run("ip", family, "neigh", "flush", "dev", "veth")
        lab.server.run("ip", family, "neigh", "flush", "dev", "tp0")
        assert ping(lab, address), address


@covers("DP-26-1", "DP-26-6")
def test_net_af_xdp(lab, client, peer, server):
    assert "net_af_xdp0" in server.dataplane.log()
    relays_exactly(client, peer, server)
    kernel_goes_on(lab)


@pytest.mark.config(dataplane={"dpdk": dpdk("net_af_packet", ",framecnt=4096")})
@covers("DP-26-1", "DP-26-6")
def test_net_af_packet(lab, client, peer, server):
    relays_exactly(client, peer, server)
    kernel_goes_on(lab)


@pytest.mark.config(dataplane={"dpdk": net_tap()})
@covers("DP-26-1", "DP-26-6")
def test_net_tap(lab, client, peer, server):
    wire_net_tap(lab)
    relays_exactly(client, peer, server)
    kernel_goes_on(lab)


@pytest.mark.config(dataplane={"workers": 2, "dpdk": dpdk("net_af_packet", ",framecnt=2048,qpairs=2")})
@covers("DP-26-4")
def test_two_workers(lab, client, peer, server):
    """Flows are spread over both, and either sends out of any port."""
    peers = [peer(PEERS4[n % 10]) for n in range(3)]
    clients = [client(CLIENTS4[n % 10]) for n in range(12)]
    for c in clients:
        c.alloc()
        for n, p in enumerate(peers):
            c.bind(0x4000 + n, p.address)
            server.warm(c, 0x4000 + n, p)
    before = server.stats()["workers"]
    for c in clients:
        assert exchange(c, peers[0], 100) == (0, 0)
    relayed = [sum(w["directions"][d]["packets"] - b["directions"][d]["packets"] for d in w["directions"])
               for w, b in zip(server.stats()["workers"], before)]
    assert sum(relayed) == 12 * 200 and all(n > 0 for n in relayed), relayed
    kernel_goes_on(lab)


@pytest.mark.config(dataplane={"cores": [max(os.sched_getaffinity(0))]})
def test_worker_has_its_core_alone(server):
    """The main thread and the one between TAPs and workers run anywhere else, where there is anywhere else."""
    worker = {max(os.sched_getaffinity(0))}
    assert server.dataplane.cores_of("worker-0") == worker
    for other in ("turnpike-datapl", "exception"):
        assert server.dataplane.cores_of(other) == (os.sched_getaffinity(0) - worker or worker)


@pytest.mark.config(dataplane={"workers": 3})
@covers("DP-26-4")
def test_more_workers_than_queues(lab, client, peer, server):
    """Workers without a queue have nothing to do, which the log says; the others go on."""
    log = server.dataplane.log()
    assert "port 0 has 1 receive queues: only the first 1 of 3 workers receive there" in log
    relays_exactly(client, peer, server, ((4, 4),))


# ---- the exception interface --------------------------------------------------------------------


@covers("DP-26-6")
def test_exception_interface_stands_for_the_port(lab, server):
    expected = {"tp0": {f"{SERVER4}/24", f"{SERVER4B}/24", f"{SERVER6}/64"},
                "tp1": {f"{RELAY4}/24", f"{RELAY4B}/24", f"{RELAY6}/64"}}
    for tap, cable in TAPS.items():
        link = link_of(lab, tap)
        assert link["address"] == MACS[cable] and link["mtu"] == 1500
        assert "LOWER_UP" in link["flags"]
        assert {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"} \
            == expected[tap]
        assert not [a for a in link["addr_info"] if a.get("tentative")]
        offloads = lab.server.run("ethtool", "-k", tap).stdout
        assert "\ntx-checksumming: off" in offloads and "\ntcp-segmentation-offload: off" in offloads
    routes = [r for family in ("-4", "-6")
              for r in json.loads(lab.server.run("ip", family, "-j", "route", "show", "default").stdout)]
    assert {(r["gateway"], r["dev"]) for r in routes} == {(GATEWAY4, "tp1"), (GATEWAY6, "tp1")}
    status = server.ctl("status")
    assert {(i["name"], i["mode"]) for i in status["interfaces"]} == {("tp0", "dpdk"), ("tp1", "dpdk")}


@covers("D17")
def test_kernel_speaks_tcp(lab, server):
    """Two megabytes to a service of the host: whole, whatever the stack leaves to NICs elsewhere."""
    listener = lab.server.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((SERVER4, 0))
    listener.listen()
    data = os.urandom(2 << 20)
    got = bytearray()
    with lab.client.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.settimeout(60)
        s.connect(listener.getsockname())
        served = listener.accept()[0]
        served.settimeout(60)
        sender = threading.Thread(target=served.sendall, args=(data,))
        sender.start()
        while len(got) < len(data):
            got += s.recv(65536)
        sender.join()
        served.close()
    listener.close()
    assert bytes(got) == data


@covers("DP-26-6")
def test_icmp_of_every_size(lab, server):
    """Larger than the port's MTU: in fragments, both ways."""
    for size in (0, 1, 56, 1472, 1473, 4000):
        done = lab.client.run("ping", "-q", "-c2", "-i0.1", "-W5", f"-s{size}", SERVER4, check=False)
        assert done.returncode == 0, (size, done.stdout)


@pytest.mark.config(dataplane={"dpdk": net_tap()})
@covers("DP-26-6")
def test_link_state_follows(lab, server):
    """Of the drivers here net_tap is the one that tells it: the other end of its device goes down."""
    def has_carrier():
        return "LOWER_UP" in link_of(lab, "tp0")["flags"]

    wire_net_tap(lab)
    assert ping(lab, SERVER4) and has_carrier()
    try:
        lab.server.batch("link set net0 down")
        assert eventually(lambda: not has_carrier())
        # Said once it is done.
        assert eventually(lambda: "port 0 (tp0): link is down" in server.dataplane.log())
        assert "LOWER_UP" in link_of(lab, "tp1")["flags"]
    finally:
        lab.server.batch("link set net0 up")
    assert eventually(has_carrier)
    assert eventually(lambda: ping(lab, SERVER4) and ping(lab, SERVER6), 30)


def by_vhost_net(made):
    for port in made["ports"]:
        port["exception"] = "virtio-user"


@pytest.mark.skipif(not os.path.exists("/dev/vhost-net"), reason="the host has no /dev/vhost-net")
@pytest.mark.config(dataplane={"dpdk": with_ports(by_vhost_net)})
@covers("DP-26-6")
def test_virtio_user(lab, client, peer, server):
    assert "exception interface tp0, by vhost-net" in server.dataplane.log()
    kernel_goes_on(lab)
    relays_exactly(client, peer, server, ((4, 4),))


# ---- restarts -----------------------------------------------------------------------------------


def relays_fast(server, client, p):
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    server.warm(c, 0x4000, p)
    assert exchange(c, p, 50) == (0, 0)


@pytest.mark.fresh
@covers("DP-19-2")
def test_stopped_in_order(bound, a, p, server, lab):
    """The exception interfaces stay: turnpiked's sockets keep their addresses, and it all goes on."""
    before = {tap: link_of(lab, tap)["ifindex"] for tap in TAPS}
    assert server.dataplane.halt() == 0, server.dataplane.log()[-2000:]
    assert {tap: link_of(lab, tap)["ifindex"] for tap in TAPS} == before
    assert "LOWER_UP" not in link_of(lab, "tp0")["flags"]
    server.dataplane.launch()
    server.dataplane.wait_ready()
    assert {tap: link_of(lab, tap)["ifindex"] for tap in TAPS} == before
    assert a.refresh().code == 0
    server.warm(bound, 0x4000, p)
    assert exchange(bound, p, 200) == (0, 0)


@pytest.mark.fresh
@covers("DP-19-2", "D23")
def test_killed_data_plane(bound, client, p, server, lab):
    """
    kill -9 under load, again and again: each time it comes back, and what was granted before is
    relayed again without a word of the client. At the end every buffer is where it belongs.
    """
    oracle = Oracle(bound, p, rate=500)
    for n in range(KILLS):
        server.dataplane.kill()
        server.dataplane.launch()
        server.dataplane.wait_ready()
        before = server.fast_packets()
        assert eventually(lambda: all(now > b for now, b in zip(server.fast_packets(), before)), 60), \
            (n, server.dataplane.log()[-2000:])
    oracle.stop()
    assert exchange(bound, p, 200) == (0, 0)
    relays_fast(server, client, p)
    assert server.dataplane.halt() == 0, server.dataplane.log()[-2000:]
    server.dataplane.launch()
    server.dataplane.wait_ready()


@pytest.mark.fresh
@covers("DP-19-2")
def test_killed_control_plane(bound, client, p, server):
    """Of what was granted nothing is lost meanwhile; the next one takes back the workers' tables."""
    worker = server.dataplane.process.pid
    oracle = Oracle(bound, p, rate=1000)
    time.sleep(0.3)
    server.kill()
    time.sleep(1)
    eventually(lambda: oracle.sent > 1000, 30, 0.1)  # the machine may be busy
    sent, lost_up, lost_down = oracle.stop()
    assert sent > 1000 and (lost_up, lost_down) == (0, 0)
    server.start()
    bound.allocated = False
    relays_fast(server, client, p)
    assert server.dataplane.process.pid == worker and server.dataplane.is_running()


@pytest.mark.fresh
@covers("DP-19-2")
def test_queue_that_a_predecessor_is_leaving(server, lab, client, p):
    """The kernel takes AF_XDP sockets apart some time after their process has ended: it says so, and the next one runs."""
    server.dataplane.halt()
    predecessor = OneQueue(lab.server, "to_client", 0)
    try:
        server.dataplane.launch()
        assert server.dataplane.process.wait(60) == 1
    finally:
        predecessor.close()
    assert "Failed to create xsk socket" in server.dataplane.log(server.dataplane.log_start)
    server.dataplane.wait_ready()
    relays_fast(server, client, p)


# ---- what is refused, and what is left ----------------------------------------------------------


def refused(server, change):
    """What turnpike-dataplane says to a configuration of DPDK that cannot work; it must end by itself."""
    made = with_ports(change)
    server.write_config({**server.config, "dataplane": {**server.config["dataplane"], "dpdk": made}})
    server.dataplane.launch()
    try:
        assert server.dataplane.process.wait(60) == 1
    finally:
        server.write_config()
    said = server.dataplane.log(server.dataplane.log_start)
    return next(line for line in said.splitlines() if "dpdk cannot run" in line)


def set_port(number, **what):
    return lambda made: made["ports"][number].update(what)


@pytest.mark.fresh
@covers("DP-26-1")
def test_refusals(server, lab):
    """One sentence each, that says what to do."""
    server.dataplane.halt()
    assert "EAL found no port 7, only 2 ports" in refused(server, set_port(1, port=7))
    assert "EAL refuses to start" in refused(server, lambda made: made["eal"].append("--what"))
    if not os.path.exists("/dev/vhost-net"):
        assert "load vhost_net, or use tap" in refused(server, set_port(0, exception="virtio-user"))
    assert "there is a default route already" in refused(server, set_port(0, gateway=CLIENTS4[0]))
    server.dataplane.launch()
    server.dataplane.wait_ready()
    first = server.dataplane
    server.dataplane = Dataplane(lab, server.config_path, f"{server.directory}/second.log")
    said = refused(server, lambda made: made["eal"].__setitem__(slice(None), [
        "--no-pci", "--no-huge", "-m", "256", "--vdev=net_null0,no-rx=1", "--vdev=net_null1,no-rx=1"]))
    server.dataplane = first
    assert "tp0 is another process's" in said


@pytest.mark.fresh
@covers("DP-26-1")
def test_addresses_follow_the_configuration(server, lab):
    """What is no longer configured is gone with the next start, and nothing else."""
    server.dataplane.halt()
    made = with_ports(set_port(0, addresses=[f"{SERVER4}/24", f"{SERVER6}/64"]))
    server.write_config({**server.config, "dataplane": {**server.config["dataplane"], "dpdk": made}})
    server.dataplane.launch()
    server.dataplane.wait_ready()
    left = {a["local"] for a in link_of(lab, "tp0")["addr_info"]}
    assert SERVER4B not in left and {SERVER4, SERVER6} < left
    assert any(a.startswith("fe80") for a in left)
    server.write_config()


@covers("D22")
def test_leaves_nothing_for_others(server):
    """No files, no sockets by which another process could take part."""
    pid = server.dataplane.process.pid
    # Another one that is just starting has it for a moment.
    assert eventually(lambda: not os.path.exists("/var/run/dpdk/turnpike"), 30)
    with open(f"/proc/{pid}/maps") as f:
        files = {line.split()[5] for line in f if len(line.split()) > 5}
    files |= {os.readlink(f) for f in glob.glob(f"/proc/{pid}/fd/*")}
    assert not [f for f in files if "hugepages" in f or "/run/dpdk" in f]
    sockets = {os.readlink(f)[8:-1] for f in glob.glob(f"/proc/{pid}/fd/*")
               if os.readlink(f).startswith("socket:[")}
    with open(f"/proc/{pid}/net/unix") as f:
        mine = [line.split() for line in f if line.split()[6] in sockets]
    assert not [line for line in mine if int(line[3], 16) & 0x10000], "it listens"


@covers("D01", "D22")
def test_no_privileges_are_left(server):
    """In no thread: EAL's and that of the exception interfaces are older than the drop."""
    tasks = glob.glob(f"/proc/{server.dataplane.process.pid}/task/*")
    names = set()
    for task in tasks:
        with open(f"{task}/status") as f:
            status = dict(line.split(":", 1) for line in f if ":" in line)
        names.add(status["Name"].strip())
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, (kind, status["Name"])
        assert status["NoNewPrivs"].strip() == "1", status["Name"]
        assert 0 not in map(int, status["Uid"].split()) and 0 not in map(int, status["Gid"].split())
    assert {"turnpike-datapl", "exception", "worker-0"} < names
