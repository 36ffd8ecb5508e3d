"""turnpikectl against a server that works: documents, exit codes, who may do what."""

import threading

import pytest

from harness import *
from rows import covers, table
from turn import *


def ctl(server, *command, socket_path=None, json_=True):
    path = socket_path or server.config["control"]["socket"]
    return run(program("turnpikectl"), "--socket", path, *(["--json"] if json_ else []), *command,
               check=False)


def test_status(server, a):
    status = server.ctl("status")
    assert set(status) >= {"version", "uptime_s", "engine", "engine_reason", "interfaces", "workers",
                           "draining", "allocations", "allocations_limit", "flows", "flows_limit"}
    assert status["engine"] == server.engine and status["allocations"] == 1
    assert status["flows_limit"] >= 65536 and 0 <= status["uptime_s"] < 3600


def test_allocation(server, a, p):
    a.bind(0x4abc, p.address)
    for _ in range(3):
        a.send_on(0x4abc, b"12345")
        assert p.take() == (b"12345", a.relay)
    for _ in range(2):
        p.send(b"1234567", a.relay)
        assert a.take_channel() == (0x4abc, b"1234567")
    listed = server.ctl("allocations", "list")["allocations"]
    assert len(listed) == 1
    shown = server.ctl("allocations", "show", str(listed[0]["id"]))
    assert shown["id"] == listed[0]["id"] and shown["user"] == "alice"
    assert shown["client"] == "%s:%d" % a.address and shown["relay"] == "%s:%d" % a.relay
    assert shown["transport"] == "udp" and 590 <= shown["lifetime_s"] <= 600
    channel, permission = shown["channels"][0], shown["permissions"][0]
    assert channel["number"] == 0x4abc and channel["peer"] == "%s:%d" % p.address
    assert 590 <= channel["expires_s"] <= 600 and 290 <= permission["expires_s"] <= 300
    assert permission["peer"] == p.address[0]
    assert shown["sent"] == {"packets": 3, "bytes": 15}
    assert shown["received"] == {"packets": 2, "bytes": 14}
    assert server.ctl("allocations", "list", "--user", "bob")["allocations"] == []
    assert len(server.ctl("allocations", "list", "--user", "alice", "--limit", "1")["allocations"]) == 1


def test_ipv6_addresses_have_brackets(server, client, peer):
    c, p = client(CLIENTS6[0]), peer(PEERS6[0])
    c.alloc(attribute(RAF, V6))
    c.bind(0x4000, p.address)
    shown = server.ctl("allocations", "list")["allocations"][0]
    assert shown["client"] == "[%s]:%d" % c.address and shown["relay"] == "[%s]:%d" % c.relay
    assert shown["channels"][0]["peer"] == "[%s]:%d" % p.address
    assert shown["permissions"][0]["peer"] == p.address[0]


def test_flows(server, a, p):
    a.bind(0x4000, p.address)
    flows = server.ctl("flows", "list")["flows"]
    assert {f["kind"] for f in flows} >= {"channel", "peer", "permission"}
    client = next(f for f in flows if f["kind"] == "client" and f["in"]["remote"] == "%s:%d" % a.address)
    assert client["relays"] == ["%s:%d" % a.relay] and client["out"] is None
    permission = next(f for f in flows if f["kind"] == "permission" and f["allocation"] == client["allocation"])
    assert permission["out"]["remote"] == client["in"]["remote"] and not permission["hairpin"]
    assert len(server.ctl("flows", "list", "--limit", "1")["flows"]) == 1
    audit = server.audit()
    assert audit["differences"] == 0 and audit["details"] == []


def test_while_everything_changes(server, client, p):
    """Audits and lists are made between other events: what comes and goes meanwhile is no difference."""
    clients = [client(CLIENTS4[n % 10]) for n in range(20)]
    told = []

    def ask():
        for _ in range(10):
            told.append((server.audit(), server.ctl("allocations", "list"), server.ctl("flows", "list")))

    asking = threading.Thread(target=ask)
    asking.start()
    turns = 0
    while asking.is_alive() or turns <= len(clients):
        c = clients[turns % len(clients)]
        if c.allocated:
            assert c.refresh(0).code == 0
        else:
            c.alloc()
            c.bind(0x4000, p.address)
        turns += 1
    asking.join()
    assert len(told) == 10
    for audit, allocations, flows in told:
        assert audit == {"differences": 0, "details": []}
        assert len({a["id"] for a in allocations["allocations"]}) == len(allocations["allocations"])
        assert len({f["slot"] for f in flows["flows"]}) == len(flows["flows"])


def test_stats(server, a):
    before = server.stats()
    assert a.refresh().code == 0
    after = server.stats()
    assert set(after) >= {"verdicts", "directions", "slow_path", "workers", "requests"}
    assert json.dumps(after["requests"]) != json.dumps(before["requests"])
    assert after["hairpins"] == before["hairpins"] and after["outputs"] >= before["outputs"]


def test_stats_by_pair_of_families(server, client, peer):
    """What the engine relays is counted in one pair of families, and the pairs add up."""
    for address, peer_address, pair in ((CLIENTS4[0], PEERS4[0], "v4_to_v4"), (CLIENTS6[0], PEERS6[0], "v6_to_v6")):
        c, p = client(address), peer(peer_address)
        c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
        c.bind(0x4000, p.address)
        server.warm(c, 0x4000, p)
        before, fast = server.stats()["directions"], server.engine != "socket"
        for n in range(10):
            c.send_on(0x4000, b"up")
            assert p.take() == (b"up", c.relay)
            p.send(b"down", c.relay)
            assert c.take_channel() == (0x4000, b"down")
        after = server.stats()["directions"]
        for direction in ("client_to_peer", "peer_to_client"):
            now, was = after[direction], before[direction]
            assert now["pairs"][pair]["packets"] - was["pairs"][pair]["packets"] == 10 * fast
            assert now["packets"] == sum(one["packets"] for one in now["pairs"].values())
            assert now["bytes"] == sum(one["bytes"] for one in now["pairs"].values())


def test_workers(server):
    """How they spend their time is told of those that poll only."""
    status, workers = server.ctl("status"), server.stats()["workers"]
    assert len(workers) == status["workers"] and [w["worker"] for w in workers] == list(range(len(workers)))
    assert status["memory"] in {"socket": ["plain"], "xdp": ["maps"], "afxdp": ["maps"],
                                "dpdk": ["pages", "huge pages"]}[server.engine]
    for worker in workers:
        assert ("busy_ratio" in worker) == (server.engine in ("afxdp", "dpdk"))
        assert set(worker) >= {"verdicts", "directions", "hairpins"}
        if "busy_ratio" in worker:
            assert 0 <= worker["busy_ratio"] <= 1 and worker["polls"] >= worker["bursts"] >= 0


@covers("P24")
def test_policy_explain(server):
    allowed = server.ctl("policy", "explain", PEERS4[0])
    assert allowed["address"] == PEERS4[0] and allowed["allowed"] and "203.0.113.0/24" in allowed["rule"]
    denied = server.ctl("policy", "explain", "127.0.0.1")
    assert not denied["allowed"] and "loopback" in denied["rule"]


@table("command, code",
       ("ctl", ["allocations", "show", "999999"], 1),
       ("ctl", ["allocations", "delete", "999999"], 1),
       ("ctl", ["policy", "explain", "nonsense"], 1),
       ("ctl", ["nonsense"], 2), ("ctl", ["allocations"], 2), ("ctl", [], 2),
       ("ctl", ["allocations", "show"], 2), ("ctl", ["status"], 0))
def test_exit_codes(server, command, code):
    done = ctl(server, *command)
    assert done.returncode == code, done.stdout + done.stderr
    assert bool(done.stderr) == (code != 0)


def test_no_server(server, tmp_path):
    assert ctl(server, "status", socket_path=f"{tmp_path}/nobody.sock").returncode == 3


def test_no_socket_name():
    """As of a variable that is not set. The kernel has such a name, and anybody may wait there."""
    with socket.socket(socket.AF_UNIX) as anybody:
        anybody.bind(b"\0" * 108)
        anybody.listen()
        anybody.settimeout(0)
        command = subprocess.Popen([program("turnpikectl"), "--socket", "", "status"])
        try:
            assert command.wait(10) == 3
        finally:
            command.kill()
        with pytest.raises(BlockingIOError):
            anybody.accept()


def test_text_for_people(server, a, p):
    a.bind(0x4000, p.address)
    for command in (["status"], ["stats"], ["allocations", "list"], ["flows", "list"],
                    ["flows", "audit"], ["policy", "explain", PEERS4[0]]):
        done = ctl(server, *command, json_=False)
        assert done.returncode == 0 and done.stdout.strip(), command
        assert "\x1b" not in done.stdout and not done.stdout.startswith("{")
    assert "%s:%d" % a.relay in ctl(server, "allocations", "list", json_=False).stdout


# Not by a number of a process alone: sandboxes have numbers of their own.
READONLY = pytest.mark.config(control={
    "readonly_socket": f"{os.environ.get('TURNPIKE_SCRATCH') or tempfile.gettempdir()}/looks-{os.getpid()}.sock",
    "readonly_group": "root"})


@READONLY
@covers("O09")
def test_readonly_socket(server, client):
    """It looks and does not touch."""
    path = server.config["control"]["readonly_socket"]
    c = client()
    c.alloc()
    assert ctl(server, "status", socket_path=path).returncode == 0
    mine = server.ctl("allocations", "list")["allocations"][0]["id"]
    assert ctl(server, "allocations", "delete", str(mine), socket_path=path).returncode == 1
    assert ctl(server, "credentials", "mint", "eve", socket_path=path).returncode == 1
    assert c.refresh().code == 0


def test_garbage_on_the_socket(server):
    """A client that does not speak the protocol harms nobody."""
    path = server.config["control"]["socket"]
    for garbage in (b"\0" * 100, b"{" * 100000, b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b"null\n",
                    b'{"jsonrpc":"2.0","id":1,"method":"' + b"x" * 10000 + b'"}\n'):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(1)
        s.connect(path)
        try:
            s.sendall(garbage)
            s.shutdown(socket.SHUT_WR)
            s.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.close()
    assert server.ctl("status")["engine"] == server.engine
