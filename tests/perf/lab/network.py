"""
The place: two network namespaces, one cable, one arm.

    C  198.51.100.2 (client) .64-.95 (peers)  c0 ===== s0  198.51.100.1  S
                                              c1 ===== s1  drops what arrives

The client and the peer are addresses of namespace C, the server is namespace S. The second cable shows what
sending costs where nobody relays. Under `dpdk` the
other side of the relay is a network of its own behind a memif cable.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

PERF = pathlib.Path(__file__).resolve().parent.parent
ROOT = PERF.parent.parent
BUILD = pathlib.Path(os.environ.get("TURNPIKE_BUILD", ROOT / "build"))
C, S = f"tpp{os.getpid()}c", f"tpp{os.getpid()}s"
CLIENT, SERVER = "198.51.100.2", "198.51.100.1"
PEERS = [f"198.51.100.{64 + n}" for n in range(32)]  # as many as bench.h says
PEER = PEERS[0]
MEMIF_RELAY = "203.0.113.1"
MEMIF_PEERS = [f"203.0.113.{64 + n}" for n in range(32)]
PAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
ENDS = ((C, "c0"), (S, "s0"))
MODERATION_NS = 50_000
PAGES_WANTED = 1024
FIRST = 2  # a real-time priority above that of spare.h
DROP = """table netdev bench {
    chain in { type filter hook ingress device s1 priority 0; meta l4proto udp drop; }
}"""


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=True, **options)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise RuntimeError(f"{command[0]}: exit {done.returncode}: {said}")
    return done.stdout


def inside(namespace, *command):
    return ["nsenter", f"--net=/run/netns/{namespace}", *[str(c) for c in command]]


def greet_neighbours():
    for address in (CLIENT, *PEERS):
        run(*inside(C, "ping", "-c", "1", "-w", "5", "-I", address, SERVER))


def make_network():
    for namespace in (C, S):
        run("ip", "netns", "add", namespace)
        run(*inside(namespace, "ip", "link", "set", "lo", "up"))
    run("ip", "link", "add", "c0", "netns", C, "type", "veth", "peer", "name", "s0", "netns", S)
    run("ip", "link", "add", "c1", "netns", C, "type", "veth", "peer", "name", "s1", "netns", S)
    for namespace, device, addresses in ((C, "c0", (CLIENT, *PEERS)), (S, "s0", (SERVER,)), (C, "c1", ()),
                                         (S, "s1", ())):
        for address in addresses:
            run(*inside(namespace, "ip", "addr", "add", f"{address}/24", "dev", device))
        run(*inside(namespace, "ip", "link", "set", device, "up"))
        run(*inside(namespace, "ethtool", "-K", device, "tx", "off", "gro", "on"))
    run(*inside(S, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.s0.send_redirects=0", "net.ipv4.conf.all.rp_filter=0",
                "net.ipv4.ip_local_reserved_ports=49152-65535"))  # relays may share sockets
    run(*inside(S, "nft", DROP))
    greet_neighbours()


def remove_network():
    for namespace in (C, S):
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


@contextlib.contextmanager
def network(huge_pages=False):
    """The namespaces, and huge pages for DPDK, for as long as something is measured."""
    pages = PAGES.read_text()
    try:
        if huge_pages and int(pages) < PAGES_WANTED:
            PAGES.write_text(str(PAGES_WANTED))
        make_network()
        yield
    finally:
        remove_network()
        PAGES.write_text(pages)


def set_queues(namespace, device, **values):
    """In the sysfs that belongs to the namespace."""
    write = " && ".join(f"echo {value} > /sys/class/net/{device}/{name}" for name, value in values.items())
    run("ip", "netns", "exec", namespace, "sh", "-c", write)


def poll_threads():
    """The kernel's threads that receive for a device of ours, by process id."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith(tuple(f"napi/{device}-" for _, device in ENDS)):
                found.add(process.name)
    return found


@contextlib.contextmanager
def like_cards():
    """
    Both ends of the cable receive as network cards do: soon, not at once, and not at the expense of whoever
    sends. By itself a veth device has the sender's core do what the receiver's kernel does with the frame,
    to the waking of the process that waits for it. Here threads on core 0 do, at most MODERATION_NS later.
    """
    before = poll_threads()
    try:
        for end in ENDS:
            set_queues(*end, threaded=1, gro_flush_timeout=MODERATION_NS, napi_defer_hard_irqs=2)
        for thread in poll_threads() - before:
            run("taskset", "-pc", "0", thread)
        yield
    finally:
        for end in ENDS:
            set_queues(*end, threaded=0, gro_flush_timeout=0, napi_defer_hard_irqs=0)


@contextlib.contextmanager
def s0_lent():
    """The kernel has no address there while DPDK has the other end of the clients' cable."""
    run(*inside(S, "ip", "addr", "flush", "dev", "s0"))
    try:
        yield
    finally:
        for device in ("tp0", "tp1"):  # they outlive the workers, with their addresses
            subprocess.run(inside(S, "ip", "link", "del", device), capture_output=True)
        run(*inside(S, "ip", "addr", "add", f"{SERVER}/24", "dev", "s0"))
        greet_neighbours()


def mac(namespace, device):
    link = json.loads(run(*inside(namespace, "ip", "-j", "link", "show", device)))
    return link[0]["address"]


class Process:
    """A program in a namespace that is ready when it has printed a word, ended by its own pid."""

    def __init__(self, namespace, command, ready, log, core=None):
        pinned = [] if core is None else ["taskset", "-c", core]
        self.log = open(log, "w+")
        self.process = subprocess.Popen(inside(namespace, *pinned, *command), stdout=self.log,
                                        stdin=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            self.wait_for(ready)
        except RuntimeError:
            self.stop()
            raise

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        return pathlib.Path(self.log.name).read_text()

    def wait_for(self, word):
        deadline = time.monotonic() + 20
        while word not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.process.args[2]}: {self.said()[-800:]}")
            time.sleep(0.05)

    def put_first(self):
        """On its core nobody comes before it but interrupts."""
        run("chrt", "--all-tasks", "--fifo", "--pid", FIRST, self.pid)

    def cpu_ns(self):
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def stop(self):
        self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
