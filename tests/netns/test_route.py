"""
route/: what the next-hop records say after each change of the kernel's tables. No server; the
eyes are build/tests/unit/route_probe, run as nobody.

    rt-us: v0 10.7.0.1/24, fd07::1/64 ------ v1 10.7.0.2/24, 10.7.0.3/24, fd07::2/64 :rt-it
                                       other link: w0 10.8.0.1/24 ------ w1, not the engine's

rt-us has no link-local addresses: their late notifications would cover up for missed ones.
"""

import os
import select
import subprocess
import time

import pytest

ROOT = os.path.dirname(os.path.abspath(__file__))
PROBE = os.path.join(
    os.environ.get("TURNPIKE_BUILD", os.path.join(ROOT, "../../build")), "tests/unit/route_probe"
)
US, IT = (f"rt-{side}-{os.getpid()}" for side in ("us", "it"))
FAR4, FAR6 = "198.51.100.7", "2001:db8:7::7"
TOPOLOGY = f"""
netns add {US}
netns add {IT}
link add v0 netns {US} address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02 netns {IT}
link add w0 netns {US} type veth peer name w1 netns {IT}
-n {US} link set v0 addrgenmode none
-n {US} link set w0 addrgenmode none
-n {US} link set lo up
-n {US} addr add 10.7.0.1/24 dev v0
-n {US} addr add fd07::1/64 dev v0 nodad
-n {US} addr add 10.8.0.1/24 dev w0
-n {US} link set v0 up
-n {US} link set w0 up
-n {IT} addr add 10.7.0.2/24 dev v1
-n {IT} addr add 10.7.0.3/24 dev v1
-n {IT} addr add fd07::2/64 dev v1 nodad
-n {IT} link set v1 up
-n {IT} link set w1 up
-n {US} route add default via 10.7.0.2
-n {US} -6 route add default via fd07::2
"""


def ip(command):
    subprocess.run(["ip"] + command.split(), check=True, timeout=60)


def remove():
    for name in US, IT:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, timeout=60)


class Probe:
    """Follows the remotes; `says` holds the last line of each, and that of "locals"."""

    def __init__(self, *pairs, interfaces="v0", busy=False):
        args = [word for pair in pairs for word in pair]
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{US}", "setpriv", "--reuid", "nobody",
             "--regid", "nogroup", "--clear-groups", PROBE, interfaces, *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, **({"ROUTE_PROBE_BUSY": "1"} if busy else {})})
        self.says = {}
        self.rest = b""
        for _, remote in pairs:
            self.wait(remote, "")

    def read(self, until):
        ready, _, _ = select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))
        if not ready:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        assert data, "the probe has ended"
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            key, _, text = line.decode().partition(" ")
            self.says[key] = text
        return True

    def wait(self, key, *parts, seconds=15.0):
        """Until the line of `key` holds all the parts."""
        until = time.monotonic() + seconds
        while not (key in self.says and all(p in self.says[key] for p in parts)):
            assert self.read(until), f"{key}: {self.says.get(key)!r} has not {parts}"
        return self.says[key]

    def settle(self, seconds=0.4):
        """Whatever is still on its way."""
        until = time.monotonic() + seconds
        while self.read(until):
            pass

    def hop(self, remote):
        return int(self.says[remote].split()[1])

    def close(self):
        self.process.stdin.close()
        try:
            assert self.process.wait(timeout=30) == 0
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def probe():
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    probes = []

    def start(*pairs, **options):
        probes.append(Probe(*pairs, **options))
        return probes[-1]

    remove()
    try:
        for line in TOPOLOGY.strip().splitlines():
            ip(line)
        yield start
        for each in probes:
            each.close()
    finally:
        for each in probes:
            each.process.kill()
            each.process.wait()
        remove()


def neighbour(gateway, mac):
    ip(f"-n {US} neigh replace {gateway} lladdr {mac} dev v0 nud reachable")


# family, source, remote, its gateway, another gateway
FAMILIES = pytest.mark.parametrize("flag, local, far, gateway, other", [
    pytest.param("-4", "10.7.0.1", FAR4, "10.7.0.2", "10.7.0.3", id="v4"),
    pytest.param("-6", "fd07::1", FAR6, "fd07::2", "fd07::3", id="v6"),
])


@FAMILIES
def test_neighbour_comes_moves_and_goes(probe, flag, local, far, gateway, other):
    p = probe((local, far))
    assert p.says[far].endswith("invalid")
    before = p.hop(far)
    assert before != 0, "an unresolved neighbour has its number already"

    neighbour(gateway, "02:00:00:00:00:02")
    p.wait(far, "v0 vlan 0 mtu 1500 02:00:00:00:00:02 02:00:00:00:00:01")
    neighbour(gateway, "02:00:00:00:00:22")
    p.wait(far, "02:00:00:00:00:22 02:00:00:00:00:01")
    ip(f"-n {US} neigh del {gateway} dev v0")
    p.wait(far, "invalid")
    assert p.hop(far) == before, "the record changes in place"


@FAMILIES
def test_gateway_changes(probe, flag, local, far, gateway, other):
    neighbour(gateway, "02:00:00:00:00:02")
    neighbour(other, "02:00:00:00:00:03")
    p = probe((local, far))
    p.wait(far, "02:00:00:00:00:02")
    before, left = p.hop(far), time.monotonic()
    ip(f"-n {US} {flag} route replace default via {other}")
    p.wait(far, "02:00:00:00:00:03")
    second = p.hop(far)
    third = other[:-1] + "4"
    neighbour(third, "02:00:00:00:00:04")
    ip(f"-n {US} {flag} route replace default via {third}")
    p.wait(far, "02:00:00:00:00:04")
    rests = {before, second} if time.monotonic() < left + 1 else {second}
    assert p.hop(far) not in rests, "a number that has just been left rests"
    time.sleep(1.1)
    ip(f"-n {US} {flag} route replace default via {other}")
    p.wait(far, "02:00:00:00:00:03")
    assert p.hop(far) in (before, second), "a number that has rested is used again"
    ip(f"-n {US} {flag} route del default")
    p.wait(far, "HOP 0 ")


@FAMILIES
def test_number_that_a_worker_may_hold(probe, flag, local, far, gateway, other):
    """A worker stands still in the middle of a burst: no number is given away under its eyes."""
    gateways = [gateway, other, other[:-1] + "4", other[:-1] + "5"]
    p = probe((local, far), busy=True)
    numbers = []
    for n, one in enumerate(gateways):
        neighbour(one, f"02:00:00:00:00:1{n}")
        ip(f"-n {US} {flag} route replace default via {one}")
        p.wait(far, f"02:00:00:00:00:1{n}")
        numbers.append(p.hop(far))
        time.sleep(1.1)
    assert len(set(numbers)) == len(gateways)


@FAMILIES
def test_route_with_mtu(probe, flag, local, far, gateway, other):
    near = gateway
    neighbour(gateway, "02:00:00:00:00:02")
    p = probe((local, far), (local, near))
    p.wait(far, "mtu 1500")
    ip(f"-n {US} {flag} route replace default via {gateway} mtu 1300")
    p.wait(far, "mtu 1300", "02:00:00:00:00:02")
    p.settle()
    assert "mtu 1500" in p.says[near], "another route to the same neighbour keeps its own"


@FAMILIES
def test_more_specific_and_forbidding_routes(probe, flag, local, far, gateway, other):
    neighbour(gateway, "02:00:00:00:00:02")
    neighbour(other, "02:00:00:00:00:03")
    length = 32 if flag == "-4" else 128
    p = probe((local, far))
    p.wait(far, "02:00:00:00:00:02")
    ip(f"-n {US} {flag} route add {far}/{length} via {other}")
    p.wait(far, "02:00:00:00:00:03")
    ip(f"-n {US} {flag} route replace blackhole {far}/{length}")
    p.wait(far, "HOP 0 ")
    ip(f"-n {US} {flag} route del blackhole {far}/{length}")
    p.wait(far, "02:00:00:00:00:02")


@FAMILIES
def test_wrapping_route(probe, flag, local, far, gateway, other):
    """What a route puts into a tunnel is the kernel's to send."""
    neighbour(gateway, "02:00:00:00:00:02")
    length = 32 if flag == "-4" else 128
    way = f"{far}/{length} encap seg6 mode encap segs fd07::9 via {gateway} dev v0"
    p = probe((local, far))
    p.wait(far, "02:00:00:00:00:02")
    ip(f"-n {US} {flag} route add {way}")
    p.wait(far, "HOP 0 ")
    ip(f"-n {US} {flag} route del {far}/{length}")
    p.wait(far, "02:00:00:00:00:02")


def test_interface_goes_down_and_comes_back(probe):
    """IPv4 only, whose routes go with the link without a word."""
    subprocess.run(["nsenter", f"--net=/run/netns/{US}", "sh", "-c",
                    "echo 1 > /proc/sys/net/ipv6/conf/v0/disable_ipv6"], check=True, timeout=60)
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p = probe(("10.7.0.1", FAR4), ("10.7.0.1", "10.7.0.2"))
    p.wait(FAR4, "02:00:00:00:00:02")
    p.settle()
    ip(f"-n {US} link set v0 down")
    p.wait(FAR4, "HOP 0 ")
    p.wait("10.7.0.2", "invalid")
    ip(f"-n {US} link set v0 up")
    ip(f"-n {US} route add default via 10.7.0.2")
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p.wait(FAR4, "02:00:00:00:00:02")
    p.wait("10.7.0.2", "02:00:00:00:00:02")


def test_carrier_is_lost(probe):
    """The kernel forgets neighbours then, but not those that were put in by hand."""
    ip(f"-n {US} neigh replace 10.7.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent")
    p = probe(("10.7.0.1", FAR4))
    p.wait(FAR4, "02:00:00:00:00:02")
    ip(f"-n {IT} link set v1 down")
    p.wait(FAR4, "invalid")


def test_link_changes_mac_and_mtu(probe):
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p = probe(("10.7.0.1", FAR4))
    p.wait(FAR4, "02:00:00:00:00:02")
    ip(f"-n {US} link set v0 mtu 1400")
    p.wait(FAR4, "mtu 1400")
    ip(f"-n {US} link set v0 address 02:00:00:00:00:11")
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p.wait(FAR4, "02:00:00:00:00:02 02:00:00:00:00:11")


def test_only_the_engines_interfaces(probe):
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    ip(f"-n {US} neigh replace 10.8.0.2 lladdr 02:00:00:00:00:08 dev w0")
    p = probe(("10.7.0.1", FAR4), ("10.8.0.1", "10.8.0.2"), ("10.7.0.1", "10.7.0.1"),
              ("10.7.0.1", "10.7.0.255"))
    p.wait(FAR4, "02:00:00:00:00:02")
    for remote in "10.8.0.2", "10.7.0.1", "10.7.0.255":
        assert p.says[remote] == "HOP 0 invalid"
    ip(f"-n {US} route replace default via 10.8.0.2")
    p.wait(FAR4, "HOP 0 ")


def test_source_address_comes_later(probe):
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p = probe(("10.7.0.77", FAR4))
    assert p.says[FAR4] == "HOP 0 invalid"
    ip(f"-n {US} addr add 10.7.0.77/24 dev v0")
    p.wait(FAR4, "02:00:00:00:00:02")


def test_rule_by_source(probe):
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    neighbour("10.7.0.3", "02:00:00:00:00:03")
    ip(f"-n {US} route add default via 10.7.0.3 table 77")
    ip(f"-n {US} rule add from 10.7.0.99 table 77")
    p = probe(("10.7.0.1", FAR4))
    p.wait(FAR4, "02:00:00:00:00:02")
    p.settle()
    ip(f"-n {US} rule add from 10.7.0.1 table 77")
    p.wait(FAR4, "02:00:00:00:00:03")


def test_multipath_and_other_familys_gateway(probe):
    neighbour("10.7.0.3", "02:00:00:00:00:03")
    neighbour("fd07::2", "02:00:00:00:00:02")
    p = probe(("10.7.0.1", FAR4))
    ip(f"-n {US} -4 route replace default via inet6 fd07::2 dev v0")
    p.wait(FAR4, "02:00:00:00:00:02")
    ip(f"-n {US} route replace default nexthop via 10.7.0.3 dev v0 nexthop via 10.7.0.3 dev v0")
    p.wait(FAR4, "02:00:00:00:00:03")


def test_kernel_resolves(probe):
    """No hand-made neighbour: a packet through the kernel is what makes the record valid."""
    p = probe(("10.7.0.1", FAR4), ("fd07::1", FAR6))
    p.settle()
    for far in FAR4, FAR6:
        subprocess.run(["nsenter", f"--net=/run/netns/{US}", "ping", "-c1", "-W0.2", far],
                       stdout=subprocess.DEVNULL, timeout=60)
        p.wait(far, "02:00:00:00:00:02 02:00:00:00:00:01")


def test_locals(probe):
    p = probe(("10.7.0.1", FAR4))
    p.wait("locals", "")
    for entry in ("10.7.0.1/32", "10.7.0.0/24c", "10.7.0.255/32", "10.7.0.2/32", "127.0.0.0/8c",
                  "fd07::1/128", "fd07::/64c", "fd07::2/128", "10.8.0.1/32"):
        assert entry in p.says["locals"].split(), entry
    ip(f"-n {US} addr add 10.99.0.1/16 dev w0")
    for entry in " 10.99.0.1/32", " 10.99.0.0/16c", " 10.99.255.255/32":
        p.wait("locals", entry)
    ip(f"-n {US} route add 192.0.2.0/24 via 10.8.0.9")
    p.wait("locals", " 10.8.0.9/32")
    ip(f"-n {US} route add 192.0.3.0/24 nexthop via 10.8.0.21 nexthop via 10.8.0.22")
    p.wait("locals", " 10.8.0.21/32", " 10.8.0.22/32")
    ip(f"-n {US} addr del 10.99.0.1/16 dev w0")
    until = time.monotonic() + 15
    while "10.99." in p.says["locals"]:
        assert p.read(until), p.says["locals"]


def test_lost_notifications(probe):
    """While the probe sleeps the kernel has more to tell than its socket holds."""
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    p = probe(("10.7.0.1", FAR4))
    p.wait(FAR4, "02:00:00:00:00:02")
    p.process.send_signal(19)  # SIGSTOP
    try:
        batch = "".join(f"route add 203.0.{i >> 8}.{i & 255}/32 via 10.7.0.2\n"
                        for i in range(40000))
        subprocess.run(["ip", "-n", US, "-batch", "-"], input=batch.encode(), check=True,
                       timeout=60)
        neighbour("10.7.0.2", "02:00:00:00:00:44")
        ip(f"-n {US} addr add 10.99.0.1/16 dev w0")
    finally:
        p.process.send_signal(18)  # SIGCONT
    p.wait(FAR4, "02:00:00:00:00:44", seconds=60)
    p.wait("locals", " 10.99.0.1/32", seconds=60)


def test_more_neighbours_than_numbers(probe):
    """The last one is left to the kernel; the others have a number each."""
    ip(f"-n {US} addr add 10.50.0.1/16 dev v0")
    remotes = [f"10.50.{16 + (i >> 8)}.{i & 255}" for i in range(4096)]
    p = probe(*[("10.50.0.1", r) for r in remotes])
    assert sorted(p.hop(r) for r in remotes) == list(range(4096))


def test_many_destinations(probe):
    """A gateway change reaches thousands of destinations, all by one neighbour."""
    neighbour("10.7.0.2", "02:00:00:00:00:02")
    neighbour("10.7.0.3", "02:00:00:00:00:03")
    remotes = [f"198.51.{i >> 8}.{i & 255}" for i in range(3000)]
    p = probe(*[("10.7.0.1", r) for r in remotes])
    ip(f"-n {US} route replace default via 10.7.0.3")
    for remote in remotes:
        p.wait(remote, "02:00:00:00:00:03")
    assert len({p.hop(r) for r in remotes}) == 1
