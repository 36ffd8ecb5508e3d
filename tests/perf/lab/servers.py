"""
What is measured: turnpike on its engines, coturn, and plain forwarders to compare them with. Each is
an object that serves when it has been made, and ends with stop().
"""

import json
import pathlib

from . import network
from .network import BUILD, PERF, MEMIF_PEERS, MEMIF_RELAY, Process, S, SERVER, inside, run

PUMP = BUILD / "tests/perf/pump"
TURNPIKED = BUILD / "controlplane/turnpiked"
DATAPLANE = BUILD / "turnpike-dataplane"
USER, PASSWORD, REALM = "alice", "correct-horse-battery", "example.org"
MEMIF_PEER_MAC = "02:00:00:00:00:77"
EAL = ["--in-memory", "--no-pci", "--no-telemetry", "--huge-unlink"]
ROOMY = {"flows": 65536, "allocations": 20000}
TINY = {"flows": 1024, "allocations": 64}


def room_for(flows):
    """As much as ROOMY unless that is too little; half of a table stays empty."""
    return {**ROOMY, "flows": max(ROOMY["flows"], 21 * flows // 10)}


def configure(scratch, engine, dataplane="", relay=SERVER, room=None, sockets="auto"):
    room = room or ROOMY
    config = scratch / f"{engine}.yaml"
    config.write_text(f"""realm: {REALM}
listen:
  - {{transport: udp, address: {SERVER}, port: 3478}}
relay:
  addresses:
    - {{address: {relay}}}
  ports: 49152-65535
  sockets: {sockets}
auth:
  users:
    - {{name: {USER}, password: {PASSWORD}}}
peers:
  allow: [198.51.100.0/24, 203.0.113.0/24]
limits:
  allocations: {room["allocations"]}
  allocations_per_user: {room["allocations"]}
  channels_per_allocation: 4096
  unauthenticated_replies_per_source: 1000000/s
  lifetime_default: 3600 s
  permission_lifetime: 3600 s
  channel_lifetime: 3600 s
dataplane:
  engine: {engine}
  flows: {room["flows"]}
{dataplane}control:
  socket: {scratch}/{engine}.sock
log: {{level: warning, format: text}}
""")
    return config


def turnpike(scratch, engine, room=None, core=None, sockets="auto"):
    """turnpiked alone: engines xdp and socket."""
    interfaces = "  interfaces: [s0]\n" if engine == "xdp" else ""
    config = configure(scratch, engine, interfaces, room=room, sockets=sockets)
    return Process(S, [TURNPIKED, "-c", config], "ready engine=", scratch / f"{engine}.log", core)


class Both:
    """turnpiked on core 0 and turnpike-dataplane with its worker on core 1; they wait for each other."""

    def __init__(self, scratch, engine, dataplane, relay=SERVER, room=None):
        config = configure(scratch, engine, f"  workers: 1\n  cores: [1]\n{dataplane}", relay, room)
        self.workers = Process(S, [DATAPLANE, "-c", config], "", scratch / f"{engine}-dataplane.log",
                               core="0,1")
        self.control = None
        try:
            self.control = Process(S, [TURNPIKED, "-c", config], "ready engine=",
                                   scratch / f"{engine}.log", core=0)
            self.workers.wait_for("ready engine=")
        except RuntimeError as error:
            said = self.workers.said()[-800:]
            self.stop()
            raise RuntimeError(f"{error}\n{said}") from None

    def cpu_ns(self):
        return self.control.cpu_ns()

    def stop(self):
        if self.control:
            self.control.stop()
        self.workers.stop()


def turnpike_afxdp(scratch, room=None):
    return Both(scratch, "afxdp", "  interfaces: [s0]\n", room=room)


def turnpike_dpdk(scratch, room=None):
    """Port 0 is a memif cable, port 1 the clients' veth: use it while s0 is lent."""
    vdevs = [cable(scratch, "server"), "--vdev=net_af_packet0,iface=s0,framecnt=4096"]
    quoted = ", ".join(json.dumps(word) for word in ["--no-pci", *vdevs])
    both = Both(scratch, "dpdk", f"""  dpdk:
    eal: [{quoted}]
    ports:
      - {{port: 0, exception: tap, addresses: [{MEMIF_RELAY}/24]}}
      - {{port: 1, exception: tap, addresses: [{SERVER}/24]}}
""", MEMIF_RELAY, room)
    for peer in MEMIF_PEERS:
        run(*inside(S, "ip", "neigh", "replace", peer, "lladdr", MEMIF_PEER_MAC, "dev", "tp0",
                    "nud", "permanent"))
    return both


def cable(scratch, role):
    """The client's end makes no copies: whoever is measured is the one that does."""
    if role == "server":
        (scratch / "memif.sock").unlink(missing_ok=True)
    own = ",zero-copy=yes" if role == "client" else ""
    return f"--vdev=net_memif0,role={role},id=0,socket={scratch}/memif.sock,socket-abstract=no{own}"


def coturn(scratch, core=None):
    return Process(S, ["turnserver", "-n", "--listening-ip", SERVER, "--relay-ip", SERVER,
                       "--user", f"{USER}:{PASSWORD}", "--realm", REALM, "--lt-cred-mech",
                       "--no-tls", "--no-dtls", "--no-cli", "--pidfile", scratch / "coturn.pid",
                       "--log-file", "stdout", "--no-software-attribute"],
                   "IO method (auth thread)", scratch / "coturn.log", core)


def canned(scratch, core=None):
    """Answers like a server's, and no server."""
    return Process(S, [BUILD / "tests/perf/canned", f"{SERVER}:3478"], "ready", scratch / "canned.log", core)


def bare(scratch, core=None, flows=1, burn_ns=0):
    """Relays over sockets, and does nothing else."""
    return Process(S, [BUILD / "tests/perf/bare", "--flows", flows, "--burn", burn_ns, f"{SERVER}:3478",
                       f"{network.PEER}:10000"], "ready", scratch / "bare.log", core)


def held(scratch, program, burn_ns=0):
    """An XDP program of the bench at s0: `bounce` or `sink`."""
    return Process(S, [PUMP, "hold", "s0", program, burn_ns], "attached", scratch / f"{program}.log")


class Testpmd(Process):
    """A DPDK forwarder on core 1 that swaps the MAC addresses of what it receives."""

    def __init__(self, scratch, vdev):
        super().__init__(S, ["dpdk-testpmd", "--lcores", "0@0,1@1", *EAL, vdev, "--",
                             "--forward-mode=macswap", "--auto-start", "--total-num-mbufs=16384",
                             "--burst=32"], "Checking link statuses", scratch / "testpmd.log")
        network.time.sleep(1)
