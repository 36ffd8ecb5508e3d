"""
Over memif: what a polling core relays.

tests/perf/memload on core 0 sends as fast as frames are taken, the subject on core 1 gives them back:
`testpmd` swapping MAC addresses, or turnpike-dataplane relaying ChannelData of real allocations, which
were made over a second port of it.

    memload ===memif=== port 0  turnpike-dataplane  port 1 ===s0 veth c0=== the clients

What comes back per second is what that core can do; the better of two such programs on one machine is
told by their ratio. Huge pages have to be there, and s0 has to be lent.
"""

import json

from . import loops, servers
from .network import BUILD, CLIENT, MEMIF_PEERS, SERVER, run

MEMLOAD = BUILD / "tests/perf/memload"


def send(scratch, targets, size, seconds, random=False, swapped=False, rate=0):
    command = [MEMLOAD, "--lcores", "0@0", *servers.EAL, servers.cable(scratch, "client"), "--",
               "--targets", targets, "--mac", servers.MEMIF_PEER_MAC, "--source", CLIENT,
               "--destination", SERVER, "--size", size, "--seconds", seconds]
    command += ["--random"] * random + ["--swapped"] * swapped
    command += ["--rate", rate] if rate else []
    return json.loads(run(*command).splitlines()[-1])


def testpmd(scratch, shape, size, seconds, **options):
    """What memload counted with a forwarder at the other end."""
    targets = loops.invent_flows(scratch / "targets", *shape)
    forwarder = servers.Testpmd(scratch, servers.cable(scratch, "server"))
    try:
        return send(scratch, targets, size, seconds, swapped=True, **options)
    finally:
        forwarder.stop()


def turnpike(scratch, shape, size, seconds, **options):
    """What memload counted with turnpike there."""
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
