"""
coturn's client, turnutils_uclient, against this server. It exits 0 although packets were lost, so
its own count is read. Debian's version binds channels above 0x4FFF and sends EVEN-PORT at random.
"""

import concurrent.futures
import re
import subprocess

import pytest

from harness import *
from rows import table

pytestmark = pytest.mark.config(compat={"rfc5766_channels": True})

PEER_PORT = 3480


@pytest.fixture(scope="module")
def echo(lab):
    """turnutils_peer at the first peer addresses."""
    running = [subprocess.Popen(lab.peer.command("turnutils_peer", "-L", a, "-p", str(PEER_PORT)),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                preexec_fn=die_with_parent)
               for a in (PEERS4[0], PEERS6[0])]
    assert eventually(lambda: lab.peer.run("ss", "-Hlun").stdout.count(f":{PEER_PORT} ") >= 2)
    yield
    for one in running:
        one.kill()
        one.wait()


def uclient(lab, *arguments, server=SERVER4, user="alice", password=None, timeout=120):
    command = ["turnutils_uclient", "-u", user, "-w", password or USERS[user], *arguments, server]
    done = run(*lab.client.command("timeout", str(timeout), *command), check=False)
    return done.stdout + done.stderr


def lost(output):
    """(sent, lost) as the client counts at its end; None when it did not come that far."""
    sent = re.findall(r"tot_send_msgs=(\d+), tot_recv_msgs=(\d+)", output)
    total = re.findall(r"Total lost packets (\d+)", output)
    return (int(sent[-1][0]) if sent else 0, int(total[-1])) if total else None


TO_PEER = ["-e", PEERS4[0], "-r", str(PEER_PORT)]
TO_PEER6 = ["-e", PEERS6[0], "-r", str(PEER_PORT)]

# Row ids, arguments, the server's address, packets. Without -c each client has a second session
# (EVEN-PORT and RESERVATION-TOKEN), so that their number is even. -Z asks for two families by an
# attribute number of coturn's own, which is nothing to us.
RUNS = [
    ("CLI-COT-1", [*TO_PEER, "-c", "-m", "5", "-n", "50"], SERVER4, 250),
    ("CLI-COT-1", [*TO_PEER, "-m", "6", "-n", "50"], SERVER4, 300),
    ("CLI-COT-1+CLI-COT-2", [*TO_PEER, "-s", "-m", "6", "-n", "50"], SERVER4, 300),
    ("CLI-COT-1", [*TO_PEER, "-D", "-c", "-m", "5", "-n", "50", "-l", "101"], SERVER4, 250),
    ("CLI-COT-1", [*TO_PEER, "-g", "-m", "6", "-n", "50"], SERVER4, 300),
    ("CLI-COT-1", [*TO_PEER, "-X", "-c", "-m", "5", "-n", "50"], SERVER4, 250),
    ("CLI-COT-1", [*TO_PEER, "-G", "-c", "-m", "5", "-n", "50"], SERVER4, 250),
    ("CLI-COT-1", [*TO_PEER6, "-x", "-c", "-m", "5", "-n", "50"], SERVER4, 250),
    ("CLI-COT-1", [*TO_PEER6, "-x", "-s", "-m", "6", "-n", "50"], SERVER6, 300),
    ("CLI-COT-1", [*TO_PEER, "-c", "-m", "5", "-n", "50"], SERVER6, 250),
    ("CLI-COT-1", [*TO_PEER, "-c", "-m", "2", "-n", "50", "-l", "1300"], SERVER4, 100),
    ("CLI-COT-1", ["-y", "-c", "-m", "100", "-n", "10"], SERVER4, 1000),
    ("CLI-COT-1", ["-y", "-s", "-m", "20", "-n", "20"], SERVER4, 400),
    ("CLI-COT-1", ["-y", "-m", "20", "-n", "20"], SERVER4, 400),
    ("CLI-COT-1+REST-1", [*TO_PEER, "-c", "-m", "2", "-n", "20", "-W", SECRETS[0]], SERVER4, 40),
    ("CLI-COT-1+REST-9", [*TO_PEER, "-c", "-m", "2", "-n", "20", "-W", SECRETS[1]], SERVER4, 40),
]
_outputs = {}  # of the server process that ran them


@pytest.fixture
def outputs(lab, server, echo):
    """What all runs printed. They mostly wait, so they wait together."""
    key = server.process.pid
    if key not in _outputs:
        before = server.fast_packets() if server.engine != "socket" else (0, 0)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            _outputs[key] = list(pool.map(
                lambda r: uclient(lab, *r[1], "-z", "10", server=r[2]), RUNS))
        after = server.fast_packets() if server.engine != "socket" else (0, 0)
        _outputs[key].append(sum(after) - sum(before))
    return _outputs[key]


@table("number, packets", *((run[0], n, run[3]) for n, run in enumerate(RUNS)))
def test_uclient(outputs, number, packets):
    assert lost(outputs[number]) == (packets, 0), outputs[number][-3000:]


def test_fast_path_carries_it(outputs, server):
    if server.engine == "socket":
        pytest.skip("no fast path in this engine")
    assert outputs[-1] > 3000


def test_wrong_password(lab, server, echo):
    output = uclient(lab, *TO_PEER, "-c", "-m", "1", "-n", "5", password="wrong", timeout=3)
    assert lost(output) is None
    assert "401" in output or "cannot" in output.lower(), output[-3000:]


def test_stun_client(lab, server):
    """turnutils_stunclient wants MAPPED-ADDRESS or XOR-MAPPED-ADDRESS, and finds one."""
    done = run(*lab.client.command("timeout", "30", "turnutils_stunclient", "-p", str(PORT), SERVER4),
               check=False)
    assert "198.51.100." in done.stdout + done.stderr
