"""
The two daemons of the engines afxdp and dpdk find each other by a socket: who may use it, what ends
the wait for the other one, and that nothing is left of those who went.
"""

import stat

import pytest

from harness import *
from rows import covers
from turn import *

pytestmark = pytest.mark.engines("afxdp", "dpdk")


def test_socket_is_private(server):
    """For root and the user that turnpiked became."""
    is_ = os.stat(f"{server.directory}/dataplane.sock")
    with open(f"/proc/{server.process.pid}/status") as f:
        uid = next(int(line.split()[1]) for line in f if line.startswith("Uid:"))
    assert stat.S_ISSOCK(is_.st_mode) and stat.S_IMODE(is_.st_mode) == 0o600
    assert uid != 0 and is_.st_uid == uid


@pytest.mark.fresh
@covers("DP-19-2")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_turnpiked_is_stopped_while_it_waits(server, number):
    assert server.halt() == 0 and server.dataplane.halt() == 0
    server.launch()
    assert eventually(lambda: "waiting for turnpike-dataplane" in server.log(server.log_start), 30)
    server.signal(number)
    assert server.process.wait(30) == 0
    assert "stopped while waiting" in server.log(server.log_start)
    server.start()


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def settled_descriptors(server):
    """Of both; a command's connection ends some time after the command."""
    now, before = (descriptors(server), descriptors(server.dataplane)), None
    while now != before:
        time.sleep(0.3)
        now, before = (descriptors(server), descriptors(server.dataplane)), now
    return now


@pytest.mark.fresh
@covers("DP-19-2")
def test_nothing_stays_open(server):
    """Each of the two comes back five times; the other has as many descriptors as before."""
    before = settled_descriptors(server)
    for _ in range(5):
        server.kill()
        server.start()
    assert eventually(lambda: (descriptors(server), descriptors(server.dataplane)) == before)
    for _ in range(5):
        server.dataplane.kill()
        server.dataplane.launch()
        server.dataplane.wait_ready()
    assert eventually(lambda: (descriptors(server), descriptors(server.dataplane)) == before)
    assert server.audit()["differences"] == 0


@pytest.mark.fresh
@covers("DP-19-2")
def test_lost_data_plane_is_seen(server):
    """status says so, the log once; and when it is back."""
    server.dataplane.kill()

    def attached_now():
        return [i["attached"] for i in server.ctl("status")["interfaces"]]

    assert eventually(lambda: attached_now() == [False, False])
    assert eventually(lambda: "turnpike-dataplane is gone" in server.log())
    time.sleep(2)
    assert server.log().count("turnpike-dataplane is gone") == 1
    server.dataplane.launch()
    server.dataplane.wait_ready()
    assert eventually(lambda: attached_now() == [True, True])
    assert eventually(lambda: "turnpike-dataplane is back" in server.log())
