"""
The lab: three network namespaces as three hosts, a server under test in the middle one.

     client namespace              server namespace                  peer namespace
   +-------------------+        +-----------------------+          +-------------------+
   |               veth|========|to_client      to_peer |==========|veth               |
   | 198.51.100.10-.19 |        |198.51.100.1           |          | 203.0.113.10-.19  |
   | 2001:db8:1::10-19 |        |198.51.100.2           |          | 2001:db8:2::10-19 |
   | 2002:.., 2001:0:..|        |2001:db8:1::1          |          | 203.0.113.66      |
   |  (tunnels)        |        |           203.0.113.1 |          | 9.9.9.9           |
   +-------------------+        |           203.0.113.2 |          | 2620:fe::9        |
                                |         2001:db8:2::1 |          | .254 gateway      |
                                +-----------------------+          +-------------------+
                                 listeners       relays

Listeners are on the client's side, relayed addresses on the peer's. The default route of the
server leads to the peer, which also owns two public addresses. TX checksum offload is off
everywhere (a program in the driver would see partial checksums), and the outer ends have a program
that does nothing (see xdp_pass.py).

Everything has the name of this process in it; what crashed runs left behind is removed first.
"""

import contextlib
import ctypes
import glob
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import xdp_pass

PREFIX = "tptest"

CLIENTS4 = [f"198.51.100.{n}" for n in range(10, 20)]
CLIENTS6 = [f"2001:db8:1::{n}" for n in range(10, 20)]
PEERS4 = [f"203.0.113.{n}" for n in range(10, 20)]
PEERS6 = [f"2001:db8:2::{n}" for n in range(10, 20)]
DENIED_PEER = "203.0.113.66"
PUBLIC4, PUBLIC6 = "9.9.9.9", "2620:fe::9"
GATEWAY4, GATEWAY6 = "203.0.113.254", "2001:db8:2::fe"
TUNNELS = ["2002:c633:6401::1", "2001:0:c633:6401::1"]
SERVER4, SERVER4B, SERVER6 = "198.51.100.1", "198.51.100.2", "2001:db8:1::1"
RELAY4, RELAY4B, RELAY6 = "203.0.113.1", "203.0.113.2", "2001:db8:2::1"
PORT = 3478

# Seconds. What must come is waited for so long, since a busy machine may take its time: nothing is told by how soon it
# comes. What must not come is looked for behind something that comes later, or for a time that the test names. From
# the positive control much does not come.
PATIENCE = 2 if os.environ.get("TURNPIKE_SERVER") == "coturn" else 10

MACS = {
    "client": "02:00:00:00:01:0c",
    "to_client": "02:00:00:00:01:05",
    "to_peer": "02:00:00:00:02:05",
    "peer": "02:00:00:00:02:0e",
}

CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33  # not in the socket module, like
AF_XDP = 44
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command, check=True, **keywords):
    done = subprocess.run(command, capture_output=True, text=True, **keywords)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stderr or done.stdout}")
    return done


def build_dir():
    here = os.path.dirname(os.path.abspath(__file__))
    return os.environ.get("TURNPIKE_BUILD", os.path.join(here, "../../build"))


def program(name):
    """The path of a built program, wherever meson put it."""
    for path in (f"controlplane/{name}", f"controlplane/ctl/{name}", name):
        full = os.path.join(build_dir(), path)
        if os.access(full, os.X_OK) and not os.path.isdir(full):
            return full
    raise FileNotFoundError(f"{name} is not in {build_dir()}: build first, or set TURNPIKE_BUILD")


@contextlib.contextmanager
def inside(namespace):
    """What the calling thread opens in here, it opens in that namespace."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:
        if _libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if _libc.setns(home.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns back")


def die_with_parent():
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Namespace:
    def __init__(self, name):
        self.name = name

    def command(self, *command):
        # Not `ip netns exec`: that would hide bpffs behind a sysfs of its own.
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]

    def run(self, *command, **keywords):
        return run(*self.command(*command), **keywords)

    def batch(self, *lines):
        run("ip", "-n", self.name, "-batch", "-", input="\n".join(lines) + "\n")

    def socket(self, *arguments):
        with inside(self.name):
            return socket.socket(*arguments)

    def udp(self, address, port=0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        s = self.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        s.bind((address, port))
        s.settimeout(PATIENCE)
        return s

    def packets(self, device, ethertype=0x0003):
        """An AF_PACKET socket on the device: frames in both directions."""
        s = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        s.bind((device, ethertype))
        s.settimeout(PATIENCE)
        return s


def drain(s):
    """Everything that is waiting in a socket."""
    out = []
    s.setblocking(False)
    try:
        while True:
            out.append(s.recvfrom(65535))
    except BlockingIOError:
        return out
    finally:
        s.settimeout(PATIENCE)


def receive(s, timeout=PATIENCE):
    """One datagram's payload, or None."""
    s.settimeout(timeout)
    try:
        return s.recvfrom(65535)[0]
    except (socket.timeout, TimeoutError):
        return None
    finally:
        s.settimeout(PATIENCE)


def eventually(condition, timeout=PATIENCE, step=0.02):
    """Polls until the condition is true; its last value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Lab:
    def __init__(self):
        remove_leftovers()
        base = f"{PREFIX}-{os.getpid()}"
        self.client = Namespace(f"{base}-client")
        self.server = Namespace(f"{base}-server")
        self.peer = Namespace(f"{base}-peer")
        self.namespaces = (self.client, self.server, self.peer)
        self.programs = []
        try:
            self.build()
        except BaseException:
            self.remove()
            raise

    def build(self):
        for namespace in self.namespaces:
            run("ip", "netns", "add", namespace.name)
            namespace.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0",
                          "net.ipv6.conf.default.accept_dad=0",
                          "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0",
                          "net.ipv6.conf.all.router_solicitations=0",
                          "net.ipv6.conf.default.router_solicitations=0",
                          # one a second, else, to each address: tests ask for more
                          "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
            namespace.batch("link set lo up")
        self.cable(self.client, "veth", MACS["client"], self.server, "to_client", MACS["to_client"])
        self.cable(self.server, "to_peer", MACS["to_peer"], self.peer, "veth", MACS["peer"])
        for namespace in (self.client, self.peer):
            with inside(namespace.name):
                self.programs.append(xdp_pass.attach("veth"))
        self.client.batch(
            *(f"addr add {a}/24 dev veth" for a in CLIENTS4),
            *(f"addr add {a}/64 dev veth nodad" for a in CLIENTS6),
            *(f"addr add {a}/128 dev veth nodad" for a in TUNNELS),
            f"route add default via {SERVER4}",
            f"route add default via {SERVER6}")
        self.to_client = self.to_peer = None
        self.dress("kernel")
        self.peer.batch(
            *(f"addr add {a}/24 dev veth" for a in PEERS4 + [DENIED_PEER, GATEWAY4]),
            *(f"addr add {a}/64 dev veth nodad" for a in PEERS6 + [GATEWAY6]),
            f"addr add {PUBLIC4}/32 dev veth",
            f"addr add {PUBLIC6}/128 dev veth nodad",
            f"route add 198.51.100.0/24 via {RELAY4}",
            f"route add 2001:db8:1::/64 via {RELAY6}")

    def dress(self, engine):
        """
        Whose the server's ends of the cables are: the kernel's, with the server's addresses; or
        DPDK's, whose exception interfaces get the addresses from turnpike-dataplane. The names of
        the interfaces with the addresses are in to_client and to_peer.
        """
        if engine == "dpdk" and self.to_client != "tp0":
            self.lend_to_dpdk()
            self.to_client, self.to_peer = "tp0", "tp1"
        elif engine != "dpdk" and self.to_client != "to_client":
            self.take_back()
            self.to_client, self.to_peer = "to_client", "to_peer"

    def lend_to_dpdk(self):
        """What PMDs over packet sockets see, the kernel must not answer a second time."""
        rules = []
        for device in ("to_client", "to_peer"):
            self.server.run("ip", "route", "flush", "dev", device)
            self.server.run("ip", "-6", "route", "flush", "dev", device)
            self.server.run("ip", "addr", "flush", "dev", device)
            rules += [f"chain {device} {{", f"type filter hook ingress device {device} priority 0",
                      "policy drop", "}"]
        self.server.run("nft", "-f", "-", input="\n".join(["table netdev dpdk {", *rules, "}", ""]))

    def take_back(self):
        for n in range(2):
            self.server.run("ip", "link", "del", f"tp{n}", check=False)
        for device in ("to_client", "to_peer"):  # net_af_xdp's, when it was killed
            self.server.run("ip", "link", "set", device, "xdp", "off")
        self.server.run("nft", "delete", "table", "netdev", "dpdk", check=False)
        for device in ("to_client", "to_peer"):  # net_af_xdp's program outlives a killed process
            self.server.run("ip", "link", "set", device, "xdp", "off", check=False)
        self.server.batch(
            f"addr add {SERVER4}/24 dev to_client",
            f"addr add {SERVER4B}/24 dev to_client",
            f"addr add {SERVER6}/64 dev to_client nodad",
            f"addr add {RELAY4}/24 dev to_peer",
            f"addr add {RELAY4B}/24 dev to_peer",
            f"addr add {RELAY6}/64 dev to_peer nodad",
            f"route add default via {GATEWAY4}",
            f"route add default via {GATEWAY6}")
        self.add_tunnels("to_client")

    def add_tunnels(self, device):
        self.server.batch(*(f"route replace {a}/128 via {CLIENTS6[0]} dev {device}" for a in TUNNELS))

    def cable(self, left, left_device, left_mac, right, right_device, right_mac):
        run("ip", "link", "add", left_device, "netns", left.name, "address", left_mac, "type",
            "veth", "peer", "name", right_device, "netns", right.name, "address", right_mac)
        for namespace, device in ((left, left_device), (right, right_device)):
            namespace.batch(f"link set {device} up")
            namespace.run("ethtool", "-K", device, "tx", "off", "gro", "on")
            self.keep_neighbours(namespace, device)

    def keep_neighbours(self, namespace, device):
        """The kernel has one table for all namespaces, and takes away what it has not used itself for a minute."""
        namespace.run("sysctl", "-qw", *(f"net.{ip}.neigh.{device}.gc_stale_time=86400" for ip in ("ipv4", "ipv6")))

    def remove(self):
        for fd in self.programs:
            os.close(fd)
        self.programs = []
        for namespace in self.namespaces:
            run("ip", "netns", "del", namespace.name, check=False)


def is_abandoned(name):
    """Is tptest-PID-... of a process that is no more?"""
    pid = name.split("-")[1]
    return pid.isdigit() and not os.path.exists(f"/proc/{pid}")


def remove_leftovers():
    """Namespaces and folders of runs that were killed, and the servers that live in them."""
    for path in glob.glob(f"/run/netns/{PREFIX}-*"):
        name = os.path.basename(path)
        if not is_abandoned(name):
            continue
        for number in (signal.SIGTERM, signal.SIGKILL):  # first so that it removes its pins
            pids = run("ip", "netns", "pids", name, check=False).stdout.split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), number)
            eventually(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids))
        run("ip", "netns", "del", name, check=False)
    # Folders are shared with process namespaces in which our eyes see no owner: hence the hour.
    for path in glob.glob(f"{tempfile.gettempdir()}/{PREFIX}-*"):
        if is_abandoned(os.path.basename(path)) and time.time() - os.path.getmtime(path) > 3600:
            shutil.rmtree(path, ignore_errors=True)


USERS = {
    "alice": "alice-has-a-long-password",
    "bob": "bob-has-another-password",
    "carol": "carol-too-has-one-of-hers",
    "\u30de\u30c8\u30ea\u30c3\u30af\u30b9": "TheMatrIX-TheMatrIX",
    "x": "the-name-is-one-byte-long",
    "xy": "the-name-is-two-bytes-long",
    "xyz": "the-name-is-three-bytes-long",
    "l" * 508: "the-longest-name-there-may-be",
}
SECRETS = ["north-secret-of-thirty-two-bytes", "south-secret-of-thirty-two-bytes"]
REALM = "example.org"


# Engines whose packets go through turnpike-dataplane. What one test process needs of it is little,
# and the machine has other things to do: workers sleep when they find nothing.
POLLING = {
    "afxdp": {"workers": 1, "idle_sleep": "1 ms"},
    "dpdk": {"workers": 1, "idle_sleep": "1 ms", "interfaces": [], "dpdk": None},
}


def dpdk(driver="net_af_xdp", more=""):
    """
    dataplane.dpdk with the lab's cables as virtual devices of that driver. (net_af_packet puts
    fragments together before it passes them on, and then cuts off what its frames cannot hold.)
    """
    return {
        "eal": ["--no-pci", "--no-huge", "-m", "512",
                f"--vdev={driver}0,iface=to_client{more}", f"--vdev={driver}1,iface=to_peer{more}"],
        "ports": [
            {"port": 0, "addresses": [f"{SERVER4}/24", f"{SERVER4B}/24", f"{SERVER6}/64"]},
            {"port": 1, "addresses": [f"{RELAY4}/24", f"{RELAY4B}/24", f"{RELAY6}/64"],
             "gateway": GATEWAY4, "gateway6": GATEWAY6}]}


POLLING["dpdk"]["dpdk"] = dpdk()


# Relayed addresses have a socket each, or share a few: the suite runs on both under engine `socket` (tests/run), and
# on one of them under each other engine.
RELAY_SOCKETS = {"socket": "per_allocation", "xdp": "shared", "afxdp": "per_allocation", "dpdk": "shared"}


def configuration(directory, engine, changes=None):
    """What the server is told; `changes` are merged in, section by section."""
    config = {
        "realm": REALM,
        "listen": [{"transport": "udp", "address": a, "port": PORT}
                   for a in (SERVER4, SERVER4B, SERVER6)],
        "relay": {"addresses": [{"address": RELAY4}, {"address": RELAY6}],
                  "ports": "49152-65535",
                  "sockets": os.environ.get("TURNPIKE_RELAY_SOCKETS") or RELAY_SOCKETS.get(engine, "auto")},
        "auth": {"users": [{"name": n, "password": p} for n, p in USERS.items()],
                 "secrets": SECRETS},
        "peers": {"allow": ["203.0.113.0/24", "2001:db8:2::/64"],
                  "deny": [DENIED_PEER, "203.0.113.64/28"]},
        # One test process is all clients at once.
        "limits": {"allocations_per_user": 5000, "unauthenticated_replies_per_source": "1000000/s"},
        "dataplane": {"engine": engine, "interfaces": ["to_client", "to_peer"], "flows": 65536,
                      **POLLING.get(engine, {})},
        "control": {"socket": f"{directory}/control.sock", "group": "root"},
        "log": {"level": "debug"},
    }
    for section, value in (changes or {}).items():
        if isinstance(value, dict) and isinstance(config.get(section), dict):
            config[section] = {**config[section], **value}
        else:
            config[section] = value
    return config


class ServerFailed(Exception):
    pass


def missing_for(engine, said):
    """What an engine needs and is not here, by its name; None: it has to run. `said`: what a daemon that ended has logged."""
    if "this build has no engine" in said or "this build lacks it" in said:
        return "this build has no such engine"
    with open("/proc/filesystems") as f:
        if engine != "socket" and "\tbpf\n" not in f.read():
            return "the kernel has no BPF"
    if engine in ("afxdp", "dpdk"):  # net_af_xdp is the cables of dpdk
        try:
            socket.socket(AF_XDP, socket.SOCK_RAW).close()
        except OSError as error:
            return f"the kernel has no AF_XDP ({error.strerror})"
    if engine == "dpdk" and not os.path.exists("/dev/net/tun"):
        return "the kernel has no TAP"
    return None


class Daemon:
    """A program of ours in the lab's server namespace, and its log."""

    name = None

    def __init__(self, lab, config_path, log_path):
        self.lab = lab
        self.config_path = config_path
        self.log_path = log_path
        self.log_start = 0
        self.process = None
        self.ready = ""

    def launch(self):
        with open(self.log_path, "ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                self.lab.server.command(program(self.name), "-c", self.config_path),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
                env={**os.environ, **self.environment()})

    def environment(self):
        return {}

    def must_run(self):
        if self.process.poll() is not None:
            raise ServerFailed(f"{self.name}: exit {self.process.returncode}\n"
                               f"{self.log(self.log_start)}")

    def wait_ready(self, timeout=60, beside=None):
        """Until it says so; `beside` is another one without which it will not."""

        def is_ready():
            for daemon in filter(None, (self, beside)):
                daemon.must_run()
            lines = [l for l in self.log(self.log_start).splitlines() if "ready engine=" in l]
            return lines[-1] if lines else ""

        self.ready = eventually(is_ready, timeout)
        if not self.ready:
            raise ServerFailed(f"{self.name}: not ready in {timeout} s\n{self.log()}")

    def log(self, start=0):
        with open(self.log_path, "rb") as f:
            f.seek(start)
            return f.read().decode(errors="replace")

    def signal(self, number):
        os.kill(self.process.pid, number)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        self.process.kill()
        self.process.wait()

    def halt(self, timeout=30):
        """Stops it in the orderly way; its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


class Dataplane(Daemon):
    """turnpike-dataplane, beside turnpiked; may be started before it or after."""

    name = "turnpike-dataplane"

    def must_run(self):
        """
        A cable's queue may be a predecessor's for a moment after that has ended, since the kernel takes AF_XDP sockets
        apart later than processes. net_af_xdp cannot be asked twice in one process: a supervisor would start another.
        """
        taken = "Failed to create xsk socket"
        if self.process.poll() is not None and taken in self.log(self.log_start) and self.log().count(taken) < 20:
            time.sleep(0.3)
            self.launch()
        super().must_run()

    def environment(self):
        """Without privileges net_af_xdp cannot take its program off, and leaks what held it."""
        if self.lab.to_client != "tp0":
            return {}
        path = f"{os.path.dirname(self.config_path)}/leaks"
        with open(path, "w") as f:
            f.write("leak:xsk_umem__create\n")
        return {"LSAN_OPTIONS": f"suppressions={path}:print_suppressions=0"}


    def cores_of(self, thread):
        for task in glob.glob(f"/proc/{self.process.pid}/task/*"):
            with open(f"{task}/comm") as f:
                if f.read().strip() == thread:
                    return os.sched_getaffinity(int(os.path.basename(task)))
        raise LookupError(thread)


class Server(Daemon):
    """turnpiked; with the engines of polling workers `dataplane` is turnpike-dataplane, else None."""

    name = kind = "turnpiked"

    def __init__(self, lab, engine, changes=None):
        self.engine = engine
        self.directory = tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-",
                                          dir=os.environ.get("TURNPIKE_SCRATCH"))
        os.chmod(self.directory, 0o777)
        super().__init__(lab, f"{self.directory}/turnpike.yaml", f"{self.directory}/log")
        self.config = configuration(self.directory, engine, changes)
        self.dataplane = None
        lab.dress(self.config["dataplane"]["engine"])
        if self.config["dataplane"]["engine"] in POLLING:
            self.dataplane = Dataplane(lab, self.config_path, f"{self.directory}/dataplane.log")
        try:
            self.write_config()
            self.start()
        except BaseException:
            self.stop()
            raise

    def write_config(self, config=None):
        with open(self.config_path, "w", encoding="utf-8") as f:  # JSON is YAML
            json.dump(config or self.config, f, indent=1, ensure_ascii=False)
        os.chmod(self.config_path, 0o644)

    def start(self):
        """Starts what does not run."""
        if self.dataplane and not self.dataplane.is_running():
            self.dataplane.launch()
        self.launch()
        self.wait_ready(beside=self.dataplane)
        if self.dataplane and not self.dataplane.ready:
            self.dataplane.wait_ready()
        if self.lab.to_client == "tp0":
            self.lab.add_tunnels("tp0")
            for device in ("tp0", "tp1"):
                self.lab.keep_neighbours(self.lab.server, device)

    def stop(self):
        for daemon in (self, self.dataplane):
            if daemon and daemon.process:
                daemon.halt()
        shutil.rmtree(self.directory, ignore_errors=True)

    def ctl(self, *command, check=True):
        """turnpikectl --json; the document, or on refusal its words."""
        done = run(program("turnpikectl"), "--socket", self.config["control"]["socket"], "--json",
                   *command, check=False)
        if done.returncode:
            if check:
                raise RuntimeError(f"turnpikectl {' '.join(command)}: {done.returncode}: "
                                   f"{done.stderr}")
            return done.stderr
        return json.loads(done.stdout)

    def audit(self):
        return self.ctl("flows", "audit")

    def stats(self):
        return self.ctl("stats")

    def hear(self):
        """
        When this returns turnpiked has read what the kernel had told of links and neighbours: a command takes more than
        one turn of its event loop.
        """
        self.ctl("status")

    def map_ids(self):
        """Of the BPF maps that the attached program uses."""
        program = attached(self.lab.server, "to_client")
        return set(json.loads(run("bpftool", "-j", "prog", "show", "id", str(program)).stdout)["map_ids"])

    def pins(self):
        """The folders of bpffs in which its maps are pinned."""
        shown = json.loads(run("bpftool", "-j", "-f", "map", "show").stdout)
        ids = self.map_ids()
        return {os.path.dirname(pin) for m in shown if m["id"] in ids for pin in m.get("pinned", [])}

    @property
    def is_sanitized(self):
        """Built with AddressSanitizer, which keeps what was freed."""
        with open(f"/proc/{self.process.pid}/maps") as f:
            return "libasan" in f.read()

    def cpu_s(self):
        """Seconds of processors that it has used."""
        with open(f"/proc/{self.process.pid}/schedstat") as f:
            return int(f.read().split()[0]) / 1e9

    def resident(self):
        """Bytes of memory."""
        with open(f"/proc/{self.process.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


    def fast_packets(self):
        """Packets that the engine forwarded, by direction."""
        directions = self.stats()["directions"]
        return tuple(directions[d]["packets"] for d in ("client_to_peer", "peer_to_client"))

    def packets_seen(self):
        """Packets that the engine has decided about."""
        return sum(self.stats()["verdicts"].values())

    @contextlib.contextmanager
    def looked_at(self, count=1):
        """
        When this ends a polling worker has looked at what was sent inside it: `count` packets that
        it takes. Requests go another way and may be first.
        """
        before = self.packets_seen() if self.dataplane else 0
        yield
        assert not self.dataplane or eventually(lambda: self.packets_seen() >= before + count)

    def warm(self, client, number, peer):
        """
        Sends on a bound channel until, both ways, the engine forwards by itself: the first packets
        to an unknown neighbour are the kernel's. Nothing to wait for where there is no engine, nor
        where a packet has to be translated to the other family: that is the sockets' work.
        """
        across = (":" in client.address[0]) != (":" in peer.address[0])
        came = []

        def forwards():
            outputs, before = self.stats()["outputs"], self.fast_packets()
            client.send_on(number, b"warm up")
            came.append(receive(peer.socket, 1))
            peer.send(b"down", client.relay)
            came.append(receive(client.socket, 1))
            after = self.fast_packets()
            return after[0] > before[0] and after[1] > before[1] and self.stats()["outputs"] == outputs

        if self.engine != "socket" and not across:
            assert eventually(forwards, 30, 0.05), "the fast path does not take over"
            if None in came:  # lost, or late
                time.sleep(0.5)
                drain(peer.socket)
                drain(client.socket)


class Coturn(Server):
    """The positive control: Debian's coturn, which some rows must find wanting."""

    kind = "coturn"

    def start(self):
        c = self.config
        lines = ["no-tls", "no-dtls", "no-cli", "lt-cred-mech", f"realm={c['realm']}", "log-file=stdout",
                 "simple-log", "fingerprint", "verbose",
                 f"userdb={self.directory}/userdb", f"pidfile={self.directory}/pid",
                 "no-software-attribute", "no-rfc5780", "no-stun-backward-compatibility"]
        lines += [f"listening-ip={l['address']}" for l in c["listen"]]
        lines += [f"relay-ip={r['address']}" for r in c["relay"]["addresses"]]
        lines += [f"user={u['name']}:{u['password']}" for u in c["auth"]["users"]]
        denied = [ipaddress.ip_network(a) for a in [*c["peers"].get("deny", []), "10.0.0.0/8"]]
        lines += [f"denied-peer-ip={n[0]}-{n[-1]}" for n in denied]
        low, high = c["relay"]["ports"].split("-")
        lines += [f"min-port={low}", f"max-port={high}"]
        path = f"{self.directory}/turnserver.conf"
        with open(path, "w") as f:
            f.write("\n".join(lines) + "\n")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.lab.server.command("turnserver", "-c", path),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        assert eventually(lambda: self.process.poll() is not None or self.listens()), "it does not listen"
        self.ready = "ready engine=socket"

    def listens(self):
        return all(f"{a}:{PORT} " in self.lab.server.run("ss", "-Hlun").stdout for a in (SERVER4, SERVER4B, f"[{SERVER6}]"))

    def audit(self):
        return {"differences": 0}

    def ctl(self, *command, check=True):
        return {}


# ---- frames -------------------------------------------------------------------------------------


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address):
    return ipaddress.ip_address(address).packed


def pseudo_header(source, destination, length, protocol):
    if ":" in source:
        return packed(source) + packed(destination) + struct.pack("!II", length, protocol)
    return packed(source) + packed(destination) + struct.pack("!BBH", 0, protocol, length)


def udp_packet(source, destination, payload, udp_checksum=None, udp_length=None):
    """source and destination are (address, port)."""
    length = len(payload) + 8 if udp_length is None else udp_length
    header = struct.pack("!HHHH", source[1], destination[1], length, 0)
    if udp_checksum is None:
        udp_checksum = checksum(pseudo_header(source[0], destination[0], length, 17)
                                + header + payload) or 0xFFFF
    return header[:6] + struct.pack("!H", udp_checksum) + payload


def ipv4(source, destination, payload, protocol=17, ttl=64, tos=0, df=False, identification=0x1234,
         options=b"", fragment=0, more=False, version=4, ihl=None, length=None, ip_checksum=None):
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if length is None else length
    flags = (0x4000 if df else 0) | (0x2000 if more else 0) | fragment // 8
    header = struct.pack("!BBHHHBBH4s4s", version << 4 | ihl, tos, length, identification, flags,
                         ttl, protocol, 0, packed(source), packed(destination)) + options
    if ip_checksum is None:
        ip_checksum = checksum(header)
    return header[:10] + struct.pack("!H", ip_checksum) + header[12:] + payload


def ipv6(source, destination, payload, protocol=17, ttl=64, tos=0, label=0, length=None):
    length = len(payload) if length is None else length
    return struct.pack("!IHBB16s16s", 6 << 28 | tos << 20 | label, length, protocol, ttl,
                       packed(source), packed(destination)) + payload


def ip_packet(source, destination, payload, **fields):
    udp = {k: fields.pop(k) for k in ("udp_checksum", "udp_length") if k in fields}
    body = udp_packet(source, destination, payload, **udp)
    make = ipv6 if ":" in source[0] else ipv4
    return make(source[0], destination[0], body, **fields)


def ethernet(packet, source, destination, ethertype=None):
    if ethertype is None:
        ethertype = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    mac = bytes.fromhex(MACS[destination].replace(":", "") + MACS[source].replace(":", ""))
    return mac + struct.pack("!H", ethertype) + packet


class Frame:
    """A captured UDP packet, fields by name; `valid` says that both checksums are right."""

    def __init__(self, raw):
        self.raw = raw
        self.ethertype = struct.unpack_from("!H", raw, 12)[0]
        ip = raw[14:]
        self.version = ip[0] >> 4
        self.fragmented = False
        if self.version == 4:
            (_, self.tos, self.length, self.identification, flags, self.ttl, self.protocol, _,
             source, destination) = struct.unpack_from("!BBHHHBBH4s4s", ip)
            header = (ip[0] & 15) * 4
            self.options = ip[20:header]
            self.df, self.more, self.offset = bool(flags & 0x4000), bool(flags & 0x2000), flags & 0x1FFF
            self.fragmented = self.more or self.offset > 0
            self.label = None
            self.valid = checksum(ip[:header]) == 0
            self.ip = ip[:self.length]
        else:
            word, length, self.protocol, self.ttl, source, destination = struct.unpack_from(
                "!IHBB16s16s", ip)
            self.tos, self.label, header = word >> 20 & 255, word & 0xFFFFF, 40
            self.length = length + 40
            self.df = None
            self.valid = True
            self.ip = ip[:self.length]
            self.fragmented = self.protocol == 44
        self.source, self.destination = (str(ipaddress.ip_address(a)) for a in (source, destination))
        self.body = self.ip[header:]
        self.payload = b""
        self.sport = self.dport = 0
        if self.protocol == 17 and not self.fragmented and len(self.body) >= 8:
            self.sport, self.dport, udp_length, self.udp_checksum = struct.unpack_from("!HHHH",
                                                                                       self.body)
            self.payload = self.body[8:udp_length]
            covered = pseudo_header(self.source, self.destination, len(self.body), 17) + self.body
            if self.udp_checksum or self.version == 6:
                self.valid = self.valid and checksum(covered) == 0 and self.udp_checksum != 0


# As many packets may be under way to one end of a cable: its queue has room for 256, and is read by whichever processor
# has the time.
UNDER_WAY = 100


class Tap:
    """Frames that arrive at one end of a cable; outgoing ones are left out."""

    def __init__(self, namespace, device="veth"):
        self.socket = namespace.packets(device)
        self.device = device

    def send(self, frame):
        self.socket.send(frame)

    def frames(self, condition=lambda frame: True):
        PACKET_OUTGOING = 4
        out = []
        for raw, address in drain(self.socket):
            if address[2] == PACKET_OUTGOING or raw[12:14] not in (b"\x08\x00", b"\x86\xdd"):
                continue
            frame = Frame(raw)
            if condition(frame):
                out.append(frame)
        return out

    def wait(self, condition, timeout=PATIENCE):
        """The first frame for which the condition holds, or None."""
        found = eventually(lambda: self.frames(condition), timeout, 0.002)
        return found[0] if found else None

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def attached(namespace, device):
    """The id of the XDP program on the device, or None."""
    text = run("ip", "-n", namespace.name, "-d", "-j", "link", "show", device).stdout
    return json.loads(text)[0].get("xdp", {}).get("prog", {}).get("id")


def set_mtu(namespace, device, mtu):
    run("ip", "-n", namespace.name, "link", "set", device, "mtu", str(mtu))
