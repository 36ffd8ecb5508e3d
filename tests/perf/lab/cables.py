"""
Over memif: what a polling core relays.

tests/perf/memload on core 0 sends as fast as frames are taken, the subject on core 1 gives them back:
`testpmd` swapping MAC addresses, or turnpike-dataplane relaying ChannelData of real allocations, which
were made over a second port of it.

    memload ===memif=== port 0  turnpike-dataplane  port 1 ===s0 veth c0=== the clients

What comes back per second is what that core can do; the better of two such programs on one machine is
told by their ratio. memload's end of the cable makes no copies, so that the subject is the slower one;
where the cable was hardly ever full, it was not, and a line on stderr says so.

On a virtual machine the two cores may at times be far apart, and a packet then costs everybody several
times as much: each measurement waits a while for the nearest they have been.
Huge pages have to be there, and s0 has to be lent.
"""

import json
import sys
import time

from . import loops, servers
from .network import BUILD, CLIENT, MEMIF_PEERS, SERVER, run

MEMLOAD = BUILD / "tests/perf/memload"
DISTANCE = BUILD / "tests/perf/distance"
PATIENCE_S = 60  # in all
_seen_ns = []  # how long a cache line took from core to core and back
_waited_s = 0.0


def wait_until_near():
    """Until that is at most half as much again as the least there was, or patience is at its end."""
    global _waited_s
    while not is_near(measure_distance()) and _waited_s < PATIENCE_S:
        time.sleep(1)
        _waited_s += 1


def measure_distance():
    _seen_ns.append(int(run(DISTANCE, 0, 1)))
    return _seen_ns[-1]


def is_near(distance_ns):
    return distance_ns <= 1.5 * min(_seen_ns)


def are_at_one_distance(together):
    return max(c["distance_ns"] for c in together) <= 1.5 * min(c["distance_ns"] for c in together)


def like_with_like(samples):
    """
    Rates by subject, of what these counted round by round (or None). What was measured at two distances
    of the cores says nothing, so only rounds count where they were near each other for all subjects;
    where there is none, those where they were equally far.
    """
    def rounds_where(suits):
        return [all(together) and suits(together) for together in zip(*samples.values())]

    chosen = rounds_where(lambda together: all(is_near(c["distance_ns"]) for c in together))
    if not any(chosen):
        print("  the cores were far apart in all rounds: ratios mean little", file=sys.stderr)
        chosen = rounds_where(are_at_one_distance)
    return {name: [c["mpps"] if ok else None for c, ok in zip(rounds, chosen)]
            for name, rounds in samples.items()}


def send(scratch, targets, size, seconds, random=False, swapped=False, rate=0):
    command = [MEMLOAD, "--lcores", "0@0", *servers.EAL, "--single-file-segments",
               servers.cable(scratch, "client"), "--", "--targets", targets, "--mac",
               servers.MEMIF_PEER_MAC, "--source", CLIENT, "--destination", SERVER, "--size", size,
               "--seconds", seconds]
    command += ["--random"] * random + ["--swapped"] * swapped
    command += ["--rate", rate] if rate else []
    before = measure_distance()
    counted = json.loads(run(*command).splitlines()[-1])
    counted["distance_ns"] = max(before, measure_distance())
    if not rate and counted["full"] < 0.05:
        print(f"  the cable was full in {counted['full']:.0%} of the bursts: bounded by the sender",
              file=sys.stderr)
    return counted


def testpmd(scratch, shape, size, seconds, **options):
    """What memload counted with a forwarder at the other end."""
    targets = loops.invent_flows(scratch / "targets", *shape)
    wait_until_near()
    forwarder = servers.Testpmd(scratch, servers.cable(scratch, "server"))
    try:
        return send(scratch, targets, size, seconds, swapped=True, **options)
    finally:
        forwarder.stop()


def turnpike(scratch, shape, size, seconds, **options):
    """What memload counted with turnpike there."""
    wait_until_near()
    server = servers.turnpike_dpdk(scratch, servers.room_for(shape[0] * shape[1]))
    try:
        targets = loops.make_flows(scratch / "targets", *shape, peer=MEMIF_PEERS[0])
        return send(scratch, targets, size, seconds, **options)
    finally:
        server.stop()


def distance_seen():
    """A sentence about this run."""
    return (f"A cache line took {min(_seen_ns)} to {max(_seen_ns)} ns from core 0 to core 1 and back."
            if _seen_ns else "")


SUBJECTS = {"testpmd": testpmd, "dpdk": turnpike}


def latency(key, scratch, size, rate, seconds):
    """Nanoseconds under way by percentile, and the share that was lost."""
    counted = SUBJECTS[key](scratch, (1, 1), size, seconds, rate=rate)
    return {**counted["latency_ns"], "lost": 1 - counted["back"] / counted["sent"]}
