"""
The soak: clients come, talk and go, some without a word, for as long as TURNPIKE_SOAK_S says
(default 600 s for each engine). Afterwards memory, open files and flows are where they were before.
`tests/run --long` runs it; pytest does not find it by itself.
"""

import os
import random

import pytest

from harness import *
from turn import *

SECONDS = int(os.environ.get("TURNPIKE_SOAK_S", "600"))
CLIENTS = 40
GROWTH_MAX = 2 << 20

# What silent clients leave behind must end within the run.
pytestmark = [pytest.mark.fresh, pytest.mark.config(
    dataplane={"flows": 1024},
    limits={"lifetime_default": "10 s", "lifetime_max": "20 s", "permission_lifetime": "5 s",
            "channel_lifetime": "10 s"},
    log={"level": "info"})]


class Churn:
    def __init__(self, client, peers):
        self.client = client
        self.peers = peers
        self.dice = random.Random(20)
        self.live = []
        self.made = self.sent = self.arrived = 0

    def come(self):
        dice = self.dice
        c = self.client(dice.choice(CLIENTS4 + CLIENTS6), user=dice.choice(["alice", "bob"]))
        dual = [attribute(AAF, V6)] if dice.random() < 0.3 else []
        if c.allocate(*dual).code == 0:
            c.channels = {}
            self.live.append(c)
            self.made += 1

    def go(self):
        """Every fourth client leaves without saying so: its allocation has to run out."""
        c = self.live.pop(self.dice.randrange(len(self.live)))
        if self.dice.random() < 0.25:
            c.allocated = False
        c.close()

    def talk(self):
        c, peer = self.dice.choice(self.live), self.dice.choice(self.peers)
        number = 0x4000 + self.dice.randrange(4)
        action = self.dice.randrange(8)
        if action == 0:
            c.permit(peer.address[0])
        elif action == 1:
            c.refresh()
        elif action == 2 and c.channel_bind(number, peer.address).code == 0:
            c.channels[number] = peer
        elif action == 3:
            c.send_to(peer.address, b"indication")
        elif number in c.channels:
            c.send_on(number, b"channel data")
            c.channels[number].send(b"answer", c.relay)
            self.sent += 2
        c.inbox.clear()

    def collect(self):
        for s in [p.socket for p in self.peers] + [c.socket for c in self.live]:
            self.arrived += len(drain(s))

    def round(self):
        while len(self.live) < CLIENTS:
            self.come()
        for _ in range(100):
            self.talk()
        self.collect()
        for _ in range(self.dice.randrange(8)):
            self.go()

    def end(self):
        while self.live:
            self.go()


def open_files(server):
    """What they are; how many there are is what counts."""
    folder = f"/proc/{server.process.pid}/fd"
    names = []
    for entry in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"{folder}/{entry}").split("[")[0])
    return sorted(names)


def is_empty(server):
    status = server.ctl("status")
    return status["allocations"] == 0 and status["flows"] == 0


def test_soak(server, client, peer):
    churn = Churn(client, [peer(PEERS4[0]), peer(PEERS4[1])])
    files = open_files(server)
    end = time.monotonic() + SECONDS
    settled = time.monotonic() + SECONDS / 3
    memory = None
    rounds = 0
    while time.monotonic() < end:
        churn.round()
        rounds += 1
        if rounds % 20 == 0:
            assert server.audit()["differences"] == 0, server.audit()
        if memory is None and time.monotonic() > settled:
            memory = server.resident()
    churn.end()
    assert eventually(lambda: is_empty(server), 30, 0.2), server.ctl("status")
    grown = server.resident() - memory
    print(f"\n{server.engine}: {churn.made} allocations, {churn.sent} packets sent both ways on "
          f"channels, {churn.arrived} arrived, grown by {grown} bytes in the last two thirds")
    assert server.audit()["differences"] == 0, server.audit()
    assert churn.made > SECONDS and churn.arrived > SECONDS * 10
    assert eventually(lambda: open_files(server) == files), open_files(server)
    assert server.is_sanitized or grown < GROWTH_MAX
