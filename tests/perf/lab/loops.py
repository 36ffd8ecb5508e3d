"""
Over veth: what a packet and a grant cost, and how long a packet is under way.

Frames are sent out of c0 by tests/perf/pump, so a packet costs the generator the same whatever
happens to it afterwards. Three methods for packets:

  flat out  the whole loop (generator, s0, back to c0) on one core, in runs of 32,768 frames timed by
            the kernel; a measurement is its fastest run, since everything else on a shared machine
            only adds. What a relay adds is the difference to a bare XDP bounce; what the server pays
            in all is the difference to an XDP program that drops at s0.
  paced     a fixed rate, a burst every half a millisecond. The generator looks at the clock until it is due,
            and what is missing between two looks others have had (spare.h): softirqs and the server, which
            have the same core. In turns 20 ms of frames that are relayed, and 20 ms of the same frames into
            the other cable, where they are dropped: CPU nanoseconds a packet are the difference, by the
            middle half of these pairs. On one core since waking somebody on another one is the hypervisor's
            work, 20 us on one of them, as is a timer's interrupt, 50; with real-time priorities since
            whatever else runs there would be taken for the relay. What the generator's own work takes
            meanwhile tells how fast the core is (figures.py). Known costs are measured beside the others.
  stamped   a fixed rate, one frame at a time with the time in it; the XDP program at c0 that counts
            what comes back looks at the clock. Nobody has to be woken at that end. Servers that are
            processes have core 1, the generator core 0; no core halts meanwhile.

What comes back is received by c0's kernel, on the core and at the expense of whoever sent it; with that
the first two methods charge every subject. A frame that XDP sent costs next to nothing there. One that comes
as a socket buffer costs more, as the XDP program that counts it may have it copied: of what kernel forwarding
costs, 0.15 µs flat out and 0.4 paced; of what a server over sockets costs paced, 0.7. Grants are CPU time of
a process, which would be charged with its clients' sockets: there both ends of the cable are like cards
(network.py), and the clients, their kernel and the softirq work of the server's end have core 0.

Each function measures one subject once; whoever calls it lets subjects take turns.
"""

import json
import statistics
import sys
import time

from . import memory, servers
from .network import BUILD, C, CLIENT, PEER, PEERS, S, SERVER, inside, like_cards, mac, run

LOAD = BUILD / "tests/perf/turnload"
SIZE = 172  # RTP: 20 ms of G.711
SLICE_S = 0.02  # pump's
BURNT = {"bounce": 3000, "bare": 20_000}  # ns, known costs
PACED = {"bounce": 100_000, "bounce+": 100_000, "forward": 100_000, "xdp": 100_000, "bare": 20_000,
         "bare+": 20_000, "socket": 20_000, "coturn": 20_000}  # packets a second
WAYS = ("ChannelData to the peer", "Send to the peer", "peer to ChannelData", "peer to Data",
        "hairpin, channel to channel")


def load(*options, local=CLIENT, peer=PEER, window=64, core=None):
    pinned = [] if core is None else ["taskset", "-c", core]
    return json.loads(run(*inside(C, *pinned, LOAD, "--server", f"{SERVER}:3478", "--local", local, "--peer",
                                  peer, "--user", servers.USER, "--password", servers.PASSWORD,
                                  "--window", window, *options)))


def make_flows(path, allocations, channels, peer=PEER):
    """Real allocations with channels; their flows are written to a file for a generator."""
    load("--allocations", allocations, "--channels", channels, "--out", path, peer=peer)
    return path


def invent_flows(path, allocations, channels):
    """The same lines where there is no server."""
    path.write_text("".join(f"{20000 + i} 3478 {0x4000 + c}\n"
                            for c in range(channels) for i in range(allocations)))
    return path


def pump(targets, count, destination=SERVER, source=CLIENT, **flags):
    command = [servers.PUMP, "generate", "--interface", "c0", "--mac", mac(S, "s0"), "--source",
               source, "--destination", destination, "--targets", targets, "--size", SIZE,
               "--count", count]
    for name, value in flags.items():
        if value is not False:
            command += [f"--{name}"] + ([] if value is True else [value])
    return json.loads(run(*inside(C, *command)))


class Subject:
    """
    Something that sends packets back: how to start it, and how its frames look. `grants`: its flows are those
    that clients were granted.
    """

    def __init__(self, name, start, grants=True, plain=False, bounced=False, ends=False):
        self.name, self.start, self.grants = name, start, grants
        self.plain, self.bounced, self.ends = plain, bounced, ends

    def flows(self, scratch, allocations, channels):
        path = scratch / "flows"
        if self.plain:
            path.write_text("20000 10000 0\n")
            return path
        return (make_flows if self.grants else invent_flows)(path, allocations, channels)

    def measure(self, scratch, shape, count, **flags):
        """`shape`: allocations, channels of each. Returns what pump counted."""
        process = self.start(shape[0] * shape[1])
        try:
            targets = self.flows(scratch, *shape)
            if process and "against" in flags:
                process.put_first()
            result = pump(targets, count, PEER if self.plain else SERVER, plain=self.plain,
                          bounced=self.bounced, **flags)
        finally:
            if process:
                process.stop()
        result["lost"] = result["sent"] - min(result["received"], result["sent"])
        if not self.ends and result["lost"] > result["sent"] * 0.001:
            print(f"  {self.name}: {result['lost']} of {result['sent']} lost", file=sys.stderr)
        return result


def subjects(scratch, core=None):
    """By key; `core` is for servers that are processes."""
    def engine(name, sockets="auto"):
        return lambda flows=1: servers.turnpike(scratch, name, servers.room_for(flows), core, sockets)

    def held(program, burn_ns=0):
        return lambda flows: servers.held(scratch, program, burn_ns)

    def bare(burn_ns=0):
        return lambda flows=1: servers.bare(scratch, core, flows, burn_ns)

    return {
        "end": Subject("XDP drop at s0", held("sink"), grants=False, ends=True),
        "bounce": Subject("bounce", held("bounce"), grants=False, bounced=True),
        "bounce+": Subject(f"the same and {BURNT['bounce']} ns", held("bounce", BURNT["bounce"]), grants=False,
                           bounced=True),
        "forward": Subject("kernel forwarding", lambda flows: None, plain=True),
        "xdp": Subject("turnpike xdp", engine("xdp")),
        "socket": Subject("turnpike socket", engine("socket")),
        "each": Subject("the same, a socket each", engine("socket", "per_allocation")),
        "afxdp": Subject("turnpike afxdp", lambda flows=1: servers.turnpike_afxdp(
            scratch, servers.room_for(flows))),
        "testpmd": Subject("testpmd net_af_xdp", lambda flows: servers.Testpmd(
            scratch, "--vdev=net_af_xdp0,iface=s0,force_copy=1"), grants=False, bounced=True),
        "coturn": Subject("coturn", lambda flows=1: servers.coturn(scratch, core)),
        "canned": Subject("ready-made answers", lambda flows=1: servers.canned(scratch, core)),
        "bare": Subject("a bare relay over sockets", bare(), grants=False),
        "bare+": Subject(f"the same and {BURNT['bare']} ns", bare(BURNT["bare"]), grants=False),
    }


def flat_out_ns(subject, scratch, shape, count, random=False):
    """Nanoseconds of the whole loop per packet: the fastest run."""
    return subject.measure(scratch, shape, count, random=random)["fastest_ns"]


def flat_out_mpps(subject, scratch, shape, count):
    """Millions a second of what comes back while the generator floods."""
    result = subject.measure(scratch, shape, count)
    return result["received"] / result["elapsed_ns"] * 1e3


def paced_ns(subject, scratch, shape, rate, seconds):
    """CPU nanoseconds per relayed packet, and of the generator for sending it; `rate` is packets a second."""
    pairs = round(seconds / 2 / SLICE_S)
    return cost_of(subject.measure(scratch, shape, round(pairs * rate * SLICE_S), rate=rate, against="c1"))


def cost_of(result):
    """
    Of a packet, by what pump counted. What comes now and then, such as a tick or another guest of the host, falls
    into some slices and not into others: the outer quarters are left out.
    """
    own = result["dropped_ns"]
    relayed = result["slice"] * min(result["received"] / result["sent"], 1)
    return {"ns": _usual([spent - dropped for spent, dropped in zip(result["measured_ns"], own)]) / relayed,
            "generator": _usual(own) / result["slice"]}


def _usual(values):
    outer = len(values) // 4
    return statistics.fmean(sorted(values)[outer:len(values) - outer])


def latency(subject, scratch, rate, seconds):
    """Nanoseconds under way by percentile, and the share that was lost."""
    result = subject.measure(scratch, (1, 1), rate * seconds, rate=rate, stamp=True)
    return {**result["latency_ns"], "lost": result["lost"] / result["sent"]}


def ways_ns(scratch, count):
    """Nanoseconds of the whole loop, flat out, by the way a packet takes through engine xdp."""
    samples = {}
    up, down, pairs = scratch / "up", scratch / "down", scratch / "pairs"
    process = servers.turnpike(scratch, "xdp")
    try:
        load("--allocations", 1, "--channels", 1, "--out", up, "--down", down)
        load("--allocations", 2, "--channels", 1, "--pairs", "--out", pairs, local=PEERS[1])
        channel = up.read_text().split()[0]
        unbound = scratch / "unbound"
        unbound.write_text(down.read_text().replace("10000 ", "9999 "))
        pairs.write_text(pairs.read_text().splitlines()[0] + "\n")
        back = {"source": PEER, "plain": True, "sink-port": channel}
        options = ({"targets": up}, {"targets": up, "send": PEER}, {"targets": down, **back},
                   {"targets": unbound, **back},
                   {"targets": pairs, "source": PEERS[1], "sink-port": 20001})
        for name, arguments in zip(WAYS, options):
            result = pump(count=count, **arguments)
            if result["received"] < result["sent"] * 0.999:
                print(f"  {name}: {result['received']} of {result['sent']} arrived",
                      file=sys.stderr)
            samples[name] = result["fastest_ns"]
    finally:
        process.stop()
    return samples


def grant_ns(start, allocations):
    """Server CPU nanoseconds per allocation with one channel."""
    with like_cards():
        process = start()
        try:
            before = process.cpu_ns()
            load("--allocations", allocations, "--channels", 1, core=0)
            return (process.cpu_ns() - before) / allocations
        finally:
            process.stop()


def idle_bytes(start_empty, start, scratch, allocations):
    """
    Bytes that one more idle allocation with a channel takes: the process, its tables and the kernel,
    with room for them, against the same server with next to no room and nobody there. The clients'
    sockets are closed when it is weighed.
    """
    empty = start_empty()
    try:
        before = memory.weigh(empty.pid)
    finally:
        empty.stop()
    server = start()
    try:
        make_flows(scratch / "flows", allocations, 1)
        time.sleep(2)  # what was closed is freed after a grace period
        after = memory.weigh(server.pid)
    finally:
        server.stop()
    return {part: (after[part] - before[part]) / allocations for part in after}
