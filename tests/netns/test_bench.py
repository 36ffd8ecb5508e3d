"""turnpike-bench: what it reports is what happened, also where the network loses something."""

import contextlib
import json
import os
import pathlib
import re
import subprocess

import pytest

from harness import *
from harness import build_dir, die_with_parent
from rows import covers, table

ENGINES = pytest.mark.engines("socket", "xdp")
FAMILIES = {4: (SERVER4, CLIENTS4[0], PEERS4[0]), 6: (SERVER6, CLIENTS6[0], PEERS6[0])}


def start(lab, command, *options, family=4, password=USERS["alice"], json_wanted=True):
    server, local, peer = FAMILIES[family]
    name = f"[{server}]:{PORT}" if family == 6 else f"{server}:{PORT}"
    secret = {"TURNPIKE_PASSWORD": password} if password else {}
    return subprocess.Popen(
        [os.path.join(build_dir(), "tests/perf/turnpike-bench"), command, "--server", name,
         "--local", local, "--peer", peer, "--user", "alice", "--client-netns", lab.client.name,
         "--peer-netns", lab.peer.name, *(["--json"] if json_wanted else []), *options],
        env={**os.environ, **secret}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=die_with_parent)


def end(running, timeout=60):
    try:
        out, err = running.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def bench(*arguments, **keywords):
    return end(start(*arguments, **keywords))


def relay(lab, *options, **keywords):
    done = bench(lab, "relay", *options, **keywords)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


@ENGINES
@table("direction, allocations, size, family",
       ("DP-26-1", "up", 1, 32, 4), ("DP-26-1", "down", 20, 1200, 4),
       ("DP-26-1", "both", 20, 172, 4), ("DP-26-1", "both", 5, 173, 6))
def test_relays(server, lab, direction, allocations, size, family):
    """A low rate: nothing is lost, and every packet has a latency."""
    told = relay(lab, "--direction", direction, "--allocations", str(allocations), "--size",
                 str(size), "--rate", "500", "--duration", "1", family=family)
    assert (told["rate"], told["size"], told["allocations"]) == (500, size, allocations)
    ways = told["directions"]
    assert set(ways) == ({"up", "down"} if direction == "both" else {direction})
    for way in ways.values():
        assert 450 <= way["offered"] <= 501
        assert way["relayed"] == way["offered"] and way["lost"] == 0
        assert way["duplicated"] == way["reordered"] == way["too_late"] == way["foreign"] == 0
        latency = way["latency_ns"]
        assert 0 < latency["50"] <= latency["99"] <= latency["100"] < 10**9
    assert eventually(lambda: server.ctl("status")["allocations"] == 0)


@pytest.mark.engines("xdp")
@covers("DP-26-1")
def test_as_fast_as_it_can(server, lab):
    told = relay(lab, "--rate", "max", "--allocations", "10", "--duration", "1")
    assert told["rate"] == "max"
    way = told["directions"]["up"]
    assert way["offered"] > 2000 and way["offered"] == way["relayed"] + way["lost"]


@contextlib.contextmanager
def loss(namespace, share):
    """Of long datagrams that arrive there, one in `share` is dropped."""
    namespace.run("nft", "-f", "-", input=f"""table inet bench {{
        chain input {{
            type filter hook input priority 0
            udp length > 900 numgen inc mod {share} 0 drop
        }}
    }}""")
    try:
        yield
    finally:
        namespace.run("nft", "delete", "table", "inet", "bench")


@ENGINES
@covers("DP-26-1")
def test_loss(server, lab):
    """What is lost on the way is said, and in which direction."""
    options = ("--size", "1000", "--duration", "1", "--rate", "1000")
    with loss(lab.client, 4):
        ways = relay(lab, "--direction", "both", *options)["directions"]
        assert bench(lab, "relay", "--direction", "down", *options, "--max-loss", "20").returncode == 1
        assert bench(lab, "relay", "--direction", "down", *options, "--max-loss", "30").returncode == 0
        assert bench(lab, "relay", "--direction", "up", *options, "--max-loss", "0").returncode == 0
    assert ways["up"]["lost"] == 0
    assert abs(ways["down"]["lost"] - ways["down"]["offered"] / 4) <= 1
    assert ways["down"]["relayed"] + ways["down"]["lost"] == ways["down"]["offered"]


@ENGINES
@covers("DP-26-1")
def test_allocate(server, lab):
    done = bench(lab, "allocate", "--allocations", "300", "--pid", str(server.process.pid))
    assert done.returncode == 0, done.stderr
    out = json.loads(done.stdout)
    assert out["allocations"] == 300 and out["per_second"] > 10
    assert out["request_ns"]["50"] > 1000
    assert 1000 < out["cpu_ns_per_allocation"] < 10**8
    assert eventually(lambda: server.ctl("status")["allocations"] == 0)


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_text(server, lab):
    done = bench(lab, "relay", "--duration", "1", "--pid", str(server.process.pid), json_wanted=False)
    assert done.returncode == 0 and "lost 0 (0.000 %)" in done.stdout
    assert "ns of CPU a relayed packet" in done.stdout
    told = re.search(r"latency p50 (\S+) us, p90 (\S+), p99 (\S+), p99.9 (\S+), max (\S+)\n", done.stdout)
    assert told and 0 < float(told[1]) <= float(told[2]) <= float(told[5])


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_wrong_password(server, lab):
    done = bench(lab, "relay", password="wrong")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == ("turnpike-bench: Allocate: the server does not take user and password "
                           "(401)\n")


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_password_on_the_command_line(server, lab):
    """It works, with a warning, and the list of processes does not show it for long."""
    running = start(lab, "relay", "--password", USERS["alice"], "--duration", "20", password=None)
    assert "TURNPIKE_PASSWORD" in running.stderr.readline()
    shown = pathlib.Path(f"/proc/{running.pid}/cmdline").read_text()
    assert "--password" in shown and USERS["alice"] not in shown
    assert eventually(lambda: server.ctl("status")["allocations"] == 1)
    running.kill()
    running.communicate()
    for allocation in server.ctl("allocations", "list")["allocations"]:
        server.ctl("allocations", "delete", str(allocation["id"]))


@table("options, word",
       ("DP-26-1", [], "one command"), ("DP-26-1", ["fly"], "not a command"),
       ("DP-26-1", ["relay"], "are needed"), ("DP-26-1", ["relay", "--rate", "0"], "--rate"),
       ("DP-26-1", ["relay", "--size", "31"], "32 to 1400"),
       ("DP-26-1", ["relay", "--server", "192.0.2.1"], "--server"),
       ("DP-26-1", ["relay", "--direction", "left"], "up, down, both"),
       ("DP-26-1", ["relay", "--fast"], "--help"))
def test_usage(options, word):
    done = subprocess.run([os.path.join(build_dir(), "tests/perf/turnpike-bench"), *options],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and word in done.stderr and not done.stdout
