"""
Over memif: what a polling core relays.

tests/perf/memload on core 0 sends as fast as frames are taken, the subject on core 1 gives them back:
`testpmd` swapping MAC addresses, or turnpike-dataplane relaying ChannelData of real allocations, which
were made over a second port of it.

    memload ===memif=== port 0  turnpike-dataplane  port 1 ===s0 veth c0=== the clients

What comes back per second is what that core can do; the better of two such programs on one machine is
told by their ratio. memload's end of the cable makes no copies, so that the subject is the slower one;
where the cable was hardly ever full, it was not, and a line on stderr says so.

What this is depends on how far the two cores are apart (distance.py), which may change on a virtual machine: each
measurement waits a while for the usual distance, and is made again if the cores were moved meanwhile.
Huge pages have to be there, and s0 has to be lent.
"""

import json
import sys
import time

from . import distance, loops, servers
from .network import BUILD, CLIENT, MEMIF_PEERS, SERVER, run

MEMLOAD = BUILD / "tests/perf/memload"
DISTANCE = BUILD / "tests/perf/distance"
PATIENCE_S = 60  # in all
FIRST_LOOKS = 9
_seen_ns = []  # how long a cache line took from core to core and back
_waited_s = 0.0


def wait_until_usual():
    """Until the cores are as far apart as they mostly are, or patience is at its end."""
    while len(_seen_ns) < FIRST_LOOKS:
        measure_distance()
        time.sleep(0.2)
    while not is_usual(measure_distance()) and _waited_s < PATIENCE_S:
        wait(1)


def measure_distance():
    _seen_ns.append(int(run(DISTANCE, 0, 1)))
    return _seen_ns[-1]


def is_usual(*distances_ns):
    return distance.alike(*distances_ns, distance.usual(_seen_ns))


def wait(seconds):
    global _waited_s
    time.sleep(seconds)
    _waited_s += seconds


def unmoved(count):
    """What `count` returns, again if the cores were elsewhere or moved meanwhile, as long as there is patience."""
    while True:
        before = measure_distance()
        counted = count()
        after = measure_distance()
        counted["distance_ns"] = before if distance.alike(before, after) else None
        if is_usual(before, after) or _waited_s >= PATIENCE_S:
            return counted
        wait(1)
        wait_until_usual()


def send(scratch, targets, size, seconds, random=False, swapped=False, rate=0):
    command = [MEMLOAD, "--lcores", "0@0", *servers.EAL, "--single-file-segments",
               servers.cable(scratch, "client"), "--", "--targets", targets, "--mac",
               servers.MEMIF_PEER_MAC, "--source", CLIENT, "--destination", SERVER, "--size", size,
               "--seconds", seconds]
    command += ["--random"] * random + ["--swapped"] * swapped
    command += ["--rate", rate] if rate else []
    counted = unmoved(lambda: json.loads(run(*command).splitlines()[-1]))
    if not rate and counted["full"] < 0.05:
        print(f"  the cable was full in {counted['full']:.0%} of the bursts: bounded by the sender",
              file=sys.stderr)
    return counted


def testpmd(scratch, shape, size, seconds, **options):
    """What memload counted with a forwarder at the other end."""
    targets = loops.invent_flows(scratch / "targets", *shape)
    wait_until_usual()
    forwarder = servers.Testpmd(scratch, servers.cable(scratch, "server"))
    try:
        return send(scratch, targets, size, seconds, swapped=True, **options)
    finally:
        forwarder.stop()


def turnpike(scratch, shape, size, seconds, **options):
    """What memload counted with turnpike there."""
    wait_until_usual()
    server = servers.turnpike_dpdk(scratch, servers.room_for(shape[0] * shape[1]))
    try:
        targets = loops.make_flows(scratch / "targets", *shape, peer=MEMIF_PEERS[0])
        return send(scratch, targets, size, seconds, **options)
    finally:
        server.stop()


SUBJECTS = {"testpmd": testpmd, "dpdk": turnpike}


def latency(key, scratch, size, rate, seconds):
    """Nanoseconds under way by percentile, and the share that was lost."""
    counted = SUBJECTS[key](scratch, (1, 1), size, seconds, rate=rate)
    return {**counted["latency_ns"], "lost": 1 - counted["back"] / counted["sent"]}
