"""Two ICE agents (aioice) that may use relayed candidates only, and the data between them."""

import sys

from harness import *
from rows import table

AGENTS = """
import asyncio, sys
import aioice

async def main(server, user, password, count):
    def agent(controlling):
        c = aioice.Connection(ice_controlling=controlling, components=1,
                              turn_server=(server, 3478), turn_username=user,
                              turn_password=password, use_ipv6=":" in server, use_ipv4=":" not in server)
        return c
    a, b = agent(True), agent(False)
    for c in (a, b):
        await c.gather_candidates()
    for here, there in ((a, b), (b, a)):
        relayed = [c for c in here.local_candidates if c.type == "relay"]
        assert relayed, here.local_candidates
        for c in relayed:
            await there.add_remote_candidate(c)
        await there.add_remote_candidate(None)
        there.remote_username, there.remote_password = here.local_username, here.local_password
    for c in (a, b):
        # What is not relayed must not be tried.
        c._protocols = [p for p in c._protocols if p.local_candidate.type == "relay"]
    await asyncio.wait_for(asyncio.gather(a.connect(), b.connect()), 60)
    for here, there in ((a, b), (b, a)):
        for n in range(count):
            payload = b"%d " % n + b"x" * (n % 1000)
            await here.send(payload)
            assert await asyncio.wait_for(there.recv(), 20) == payload, n
    await a.close()
    await b.close()
    print("exchanged", 2 * count)

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
"""


@table("user, address",
       ("aioice", "alice", SERVER4), ("aioice", "alice", SERVER6),
       ("aioice", "\u30de\u30c8\u30ea\u30c3\u30af\u30b9", SERVER4))
def test_relayed_candidates_only(lab, server, user, address):
    done = run(*lab.client.command("timeout", "120", sys.executable, "-c", AGENTS, address, user,
                                   USERS[user], "300"), check=False)
    assert done.stdout.strip() == "exchanged 600", done.stderr[-3000:]
    assert eventually(lambda: server.ctl("status").get("allocations", 0) == 0)
