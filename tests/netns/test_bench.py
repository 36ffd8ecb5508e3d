"""turnpike-bench: what it reports is what happened, also where the network loses something."""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import xml.etree.ElementTree

import pytest

from harness import *
import xdp_pass
from harness import build_dir, die_with_parent, inside
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
    done = bench(lab, "relay", "--progress", "0", *options, **keywords)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def relay_at_pace(lab, share, seconds, *options, **keywords):
    """Each sender offers `share` of what it should, and not more. Less only one that had no processor when it ended."""
    def keeps_pace(step):
        due = step["rate"] * seconds
        return all(share * due <= way["offered"] <= due + 1 for way in step["directions"].values())

    for _ in range(4):
        told = relay(lab, "--duration", str(seconds), *options, **keywords)
        if all(map(keeps_pace, told["steps"])):
            return told
    raise AssertionError(told["steps"])


@ENGINES
@table("direction, allocations, size, family, backend",
       ("DP-26-1", "up", 1, 32, 4, "sockets"), ("DP-26-1", "down", 20, 1200, 4, "sockets"),
       ("DP-26-1", "both", 20, 172, 4, "gso"), ("DP-26-1", "both", 5, 173, 6, "sockets"))
def test_relays(server, lab, direction, allocations, size, family, backend):
    """A low rate: nothing is lost, and every packet has a latency."""
    told = relay_at_pace(lab, 0.9, 0.5, "--direction", direction, "--allocations", str(allocations), "--size",
                         str(size), "--rate", "500", "--backend", backend, family=family)
    assert (told["size"], told["allocations"], told["lost_allocations"]) == (size, allocations, 0)
    assert told["making"]["per_second"] > 10 and told["making"]["request_ns"]["50"] > 1000
    step, = told["steps"]
    assert (step["rate"], step["active"], step["interrupted"]) == (500, allocations, False)
    assert set(step["directions"]) == ({"up", "down"} if direction == "both" else {direction})
    for way in step["directions"].values():
        assert_whole(way)
    assert eventually(lambda: server.ctl("status")["allocations"] == 0)


@pytest.fixture
def bare(lab):
    """The outer ends' interfaces are free for a program."""
    for fd in lab.programs:
        os.close(fd)
    lab.programs = []
    yield
    for namespace in (lab.client, lab.peer):
        with inside(namespace.name):
            lab.programs.append(xdp_pass.attach("veth"))


# Of hosts that no kernel is: DPDK's ends speak for themselves.
UNCLAIMED = {4: ("198.51.100.40", "203.0.113.40"), 6: ("2001:db8:1::40", "2001:db8:2::40")}


def ends(backend, family=4, devices=("net_af_packet0,iface=veth,framecnt=4096",
                                       "net_af_packet1,iface=veth,framecnt=4096")):
    """The options that a back end needs."""
    if backend != "dpdk":
        return ["--backend", backend]
    local, peer = UNCLAIMED[family]
    return ["--backend", "dpdk", "--local", local, "--peer", peer, "--client-device", devices[0],
            "--peer-device", devices[1], "--eal", "--no-huge -m 256"]


@ENGINES
@table("backend, allocations, size, family", ("DP-26-1", "afxdp", 50, 172, 4), ("DP-26-1", "afxdp", 5, 1400, 6),
       ("DP-26-1", "xdp", 50, 172, 4), ("DP-26-1", "xdp", 5, 1400, 6), ("DP-26-1", "dpdk", 50, 172, 4),
       ("DP-26-1", "dpdk", 5, 1400, 6))
def test_frames(bare, server, lab, tmp_path, backend, allocations, size, family):
    """The same without a socket for each client."""
    told = relay_at_pace(lab, 0.95, 1, *ends(backend, family), "--locals", "3", "--peers", "2", "--direction", "both",
                         "--allocations", str(allocations), "--size", str(size), "--rate", "200",
                         "--html", str(tmp_path / "page"), family=family)
    assert told["backend"] == backend and f"ends: {backend}," in (tmp_path / "page").read_text()
    for way in told["steps"][0]["directions"].values():
        assert_whole(way)
    assert eventually(lambda: server.ctl("status")["allocations"] == 0)


@ENGINES
@table("backend", ("DP-26-1", "xdp"), ("DP-26-1", "dpdk"))
def test_calls_as_frames(bare, server, lab, backend):
    """Frames of many lengths in one burst, and none of a warm-up is counted."""
    told = relay(lab, *ends(backend), "--mix", "rtp", "--direction", "both", "--warm-up", "0.3", "--duration", "0.7")
    for way in told["steps"][0]["directions"].values():
        assert 0 < way["offered"] < 200  # a cable's end has places for more than these and the first ones
        assert_whole(way)


MEMIF = [os.path.join(os.environ.get("TURNPIKE_SCRATCH", tempfile.gettempdir()), f"cable{n}") for n in (0, 1)]


def memif():
    """The server's ports are cables to another process."""
    made = dpdk()
    made["eal"] = [a for a in made["eal"] if "vdev" not in a]
    made["eal"] += [f"--vdev=net_memif{n},role=server,id=0,socket={path},socket-abstract=no,mac={MACS[end]}"
                    for n, (path, end) in enumerate(zip(MEMIF, ("to_client", "to_peer")))]
    return made


@pytest.mark.engines("dpdk")
@pytest.mark.config(dataplane={"dpdk": memif()})
@table("family", ("DP-26-1", 4), ("DP-26-1", 6))
def test_memif(server, lab, family):
    """From DPDK to DPDK, without a kernel between them."""
    devices = [f"net_memif{n},role=client,id=0,socket={path},socket-abstract=no" for n, path in enumerate(MEMIF)]
    told = relay(lab, *ends("dpdk", family, devices), "--direction", "both", "--allocations", "20", "--rate", "500",
                 "--duration", "1", family=family)
    ways = told["steps"][0]["directions"]
    for way, fast in zip((ways["up"], ways["down"]), server.fast_packets()):
        assert_whole(way)
        assert fast > 0.9 * way["relayed"]


@pytest.mark.engines("socket")
@table("gateways", ("DP-26-1", (MACS["to_client"], MACS["to_peer"])), ("DP-26-1", (SERVER4B, RELAY4B)))
def test_gateways(server, lab, gateways):
    """By MAC address without asking anybody; by another address than who it is for."""
    told = relay(lab, *ends("dpdk"), "--client-gateway", gateways[0], "--peer-gateway", gateways[1],
                 "--direction", "both", "--rate", "200", "--duration", "0.5")
    for way in told["steps"][0]["directions"].values():
        assert_whole(way)


@pytest.mark.engines("socket")
@table("options, words",
       ("DP-26-1", ["--client-gateway", "198.51.100.99"], "nobody answers for 198.51.100.99 on its link"),
       ("DP-26-1", ["--client-gateway", "2001:db8::1"], "neither a MAC address nor an IP address of the family"),
       ("DP-26-1", ["--peer-device", "net_nothing0"], "--peer: DPDK has no port net_nothing0"),
       ("DP-26-1", ["--peer-device", "0000:ff:1f.7"], "--peer: DPDK has no port 0000:ff:1f.7"),
       ("DP-26-1", ["--eal", "--no-huge --fly"], "EAL refuses to start"))
def test_ports_that_are_not_there(server, lab, options, words):
    done = bench(lab, "relay", *ends("dpdk"), *options)
    assert done.returncode == 1 and words in done.stderr


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_live_frames_and_loopback(server, lab):
    done = bench(lab, "relay", "--backend", "xdp", "--peer", "127.0.0.1")
    assert done.returncode == 1 and "live frames cannot leave by the loopback interface" in done.stderr


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_live_frames_need_a_receiver(bare, server, lab):
    """Without one a veth device drops them in silence: a hint is all there is."""
    lab.server.run("ethtool", "-K", "to_client", "gro", "off")
    running = start(lab, "relay", "--backend", "xdp", "--progress", "0.1")
    try:
        assert "allocations made: 0 of 1" in running.stderr.readline()
        running.send_signal(signal.SIGTERM)
        done = end(running)
    finally:
        running.kill()
        lab.server.run("ethtool", "-K", "to_client", "gro", "on")
    assert done.returncode == 1 and "--local: nothing came" in done.stderr and "gro on" in done.stderr


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_frames_need_an_interface(server, lab):
    """Which has a program of somebody else here."""
    done = bench(lab, "relay", "--backend", "afxdp")
    assert done.returncode == 1 and "veth has an XDP program already" in done.stderr


def assert_whole(way):
    assert way["relayed"] == way["offered"] and way["lost"] == 0
    assert way["duplicated"] == way["reordered"] == way["too_late"] == way["foreign"] == way["unread"] == 0
    latency = way["latency_ns"]
    assert 0 < latency["50"] <= latency["99"] <= latency["100"] < PATIENCE * 10**9


BACKENDS = [("DP-26-1", backend) for backend in ("sockets", "gso", "afxdp", "xdp", "dpdk")]


def make_room_for(backend, request):
    if backend in ("afxdp", "xdp"):
        request.getfixturevalue("bare")


@pytest.mark.engines("xdp")
@table("backend", *BACKENDS)
def test_as_fast_as_it_can(request, server, lab, backend):
    make_room_for(backend, request)
    step, = relay(lab, "--rate", "max", "--allocations", "10", "--duration", "0.5", "--warm-up", "0.5",
                  *ends(backend))["steps"]
    assert step["rate"] == "max"
    way = step["directions"]["up"]
    assert way["offered"] > 2000 and way["offered"] == way["relayed"] + way["lost"]
    assert 0.45 < way["seconds"] < PATIENCE


@contextlib.contextmanager
def held(thread):
    """It does not run meanwhile, and the process's other threads do."""
    PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def ptrace(request):
        if libc.ptrace(request, thread, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    libc = ctypes.CDLL(None, use_errno=True)
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def threads_of(process):
    """Their ids by name."""
    found = {}
    for path in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found[(path / "comm").read_text().strip()] = int(path.name)
    return found


@pytest.mark.engines("xdp")
@table("backend, room", ("DP-26-1", "sockets", 60000), ("DP-26-1", "afxdp", 8000), ("DP-26-1", "xdp", 8000))
def test_unread(request, server, lab, backend, room):
    """The receiver does not run while the server relays more than there is room for."""
    make_room_for(backend, request)
    before, _ = server.fast_packets()
    running = start(lab, "relay", *ends(backend), "--rate", "30000", "--size", "1400", "--duration", "1000",
                    "--progress", "0")
    try:
        receiver = eventually(lambda: threads_of(running).get("receive up"), 20)
        assert receiver, (running.poll(), threads_of(running))
        with held(receiver):
            assert eventually(lambda: server.fast_packets()[0] - before > room, 60)
        running.send_signal(signal.SIGINT)
        done = end(running)
    finally:
        running.kill()
    assert done.returncode == 0, done.stderr
    way = json.loads(done.stdout)["steps"][0]["directions"]["up"]
    assert way["offered"] == way["relayed"] + way["lost"] and way["duplicated"] == 0
    assert 0 < way["unread"] <= way["lost"]


@ENGINES
@covers("DP-26-1")
def test_steps(server, lab, tmp_path):
    """Several rates with several numbers of allocations; from several addresses to several peers; a page of it."""
    steps = relay_at_pace(lab, 0.9, 0.5, "--rate", "200,400", "--active", "3,40", "--allocations", "40", "--locals", "3",
                          "--peers", "2", "--order", "random", "--direction", "both",
                          "--pid", str(server.process.pid), "--html", str(tmp_path / "page"))["steps"]
    check_page((tmp_path / "page").read_text(), steps)
    assert [(step["active"], step["rate"]) for step in steps] == [(3, 200), (3, 400), (40, 200), (40, 400)]
    for step in steps:
        assert step["cpu_ns_per_packet"] > 0 or server.engine == "xdp"
        for way in step["directions"].values():
            assert_whole(way)


def check_page(page, steps):
    """A row for each step and direction, and in the charts every step with 40 allocations."""
    assert page.count("<tr>") == 1 + 2 * len(steps)
    charts = [xml.etree.ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", page, re.S)]
    assert [chart.get("aria-label") for chart in charts] == [
        "Throughput against loss", "Latency against throughput", "Latency by percentile",
        "Cost against the number of allocations"]
    for chart, points in zip(charts, (2 * 2, 2 * 3 * 2, 8 * 9, 2 * 2)):
        dots = chart.findall("circle")
        assert len(dots) == points
        for dot in dots:
            assert 70 <= float(dot.get("cx")) <= 600 and 30 <= float(dot.get("cy")) <= 330
    for step in steps[2:]:
        latency = min(step["directions"]["up"]["latency_ns"]["50"], step["directions"]["down"]["latency_ns"]["50"])
        assert f"<td>{latency / 1e3:.1f}</td>" in page
    assert not re.search("https?:|nan|inf[^o]", page)


@ENGINES
@covers("DP-26-1")
def test_calls(server, lab):
    told = relay(lab, "--mix", "rtp", "--allocations", "10", "--direction", "both", "--duration", "1")
    assert told["mix"] == "rtp" and "size" not in told
    for way in told["steps"][0]["directions"].values():
        assert 1500 < way["offered"] < 2200
        assert_whole(way)


@contextlib.contextmanager
def rate_limit(namespace, rate):
    """Of long datagrams that arrive there, only so many a second, and 40 at once: senders are not always punctual."""
    namespace.run("nft", "-f", "-", input=f"""table inet bench {{
        chain input {{
            type filter hook input priority 0
            udp length > 900 limit rate over {rate}/second burst 40 packets drop
        }}
    }}""")
    try:
        yield
    finally:
        namespace.run("nft", "delete", "table", "inet", "bench")


@pytest.mark.engines("socket")
@covers("DP-26-1")
def test_search(server, lab):
    options = ("--size", "1000", "--duration", "1", "--max-loss", "5", "--search")
    with rate_limit(lab.peer, 300):
        told = relay(lab, *options, "250-450")
        low = bench(lab, "relay", *options, "900-1000", json_wanted=False)
    assert 300 <= told["highest_rate"] <= 365, told["highest_rate"]  # 340 in the first second
    assert [step["rate"] for step in told["steps"][:3]] == [250, 450, 350]
    assert low.returncode == 1 and "at 900/s already more than 5 % is lost" in low.stdout


@ENGINES
@pytest.mark.config(limits={"lifetime_default": "3 s", "lifetime_max": "3 s", "permission_lifetime": "3 s",
                            "channel_lifetime": "3 s"})
@covers("DP-26-1")
def test_renewed(server, lab):
    """What would have ended goes on."""
    told = relay(lab, "--allocations", "20", "--duration", "4", "--renew", "1", "--rate", "500",
                 "--direction", "both")
    assert told["lost_allocations"] == 0
    for way in told["steps"][0]["directions"].values():
        assert_whole(way)


@ENGINES
@table("number", ("DP-26-1", signal.SIGINT), ("DP-26-1", signal.SIGTERM))
def test_ends_early(server, lab, number):
    running = start(lab, "relay", "--duration", "1000", "--allocations", "10", "--direction", "both",
                    "--progress", "0.2")
    assert "allocations: " in running.stderr.readline()
    while int(re.search(r"offered (\d+)|$", running.stderr.readline())[1] or 0) < 700:
        assert running.poll() is None
    running.send_signal(number)
    done = end(running)
    assert done.returncode == 0, done.stderr
    step, = json.loads(done.stdout)["steps"]
    assert step["interrupted"] is True
    for way in step["directions"].values():
        assert 300 < way["offered"] < 10000
        assert_whole(way)
    assert server.ctl("status")["allocations"] == 0


@pytest.mark.engines("socket")
@pytest.mark.config(limits={"allocations_per_user": 12000})
@covers("DP-26-1")
def test_ends_while_making(lab, server):
    """Nothing is left, not even what the server has made and not told yet."""
    running = start(lab, "allocate", "--allocations", "12000", "--window", "1")
    assert eventually(lambda: server.ctl("status")["allocations"] > 10)
    running.send_signal(signal.SIGTERM)
    done = end(running)
    assert done.returncode == 1 and not done.stdout
    assert re.search(r"interrupted when \d+ of 12000 allocations were made", done.stderr)
    assert server.ctl("status")["allocations"] == 0


@pytest.mark.engines("socket")
@pytest.mark.config(limits={"lifetime_default": "3 s", "lifetime_max": "3 s"})
@table("command, code", ("DP-26-1", "allocate", 1), ("DP-26-1", "relay", 0))
def test_kept(lab, server, command, code):
    """Beyond their time, until it is told to stop; one that the server deleted is said."""
    running = start(lab, command, "--allocations", "10", "--keep", "--renew", "1", "--duration", "0.1")
    assert json.loads(running.stdout.readline())["allocations"] == 10
    time.sleep(4)
    kept = server.ctl("allocations", "list")["allocations"]
    assert len(kept) == 10
    server.ctl("allocations", "delete", str(kept[0]["id"]))
    assert "Refresh refused with 437: an allocation was lost" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    assert end(running).returncode == code
    assert server.ctl("status")["allocations"] == 0


def frames_of(path):
    data = path.read_bytes()
    assert struct.unpack_from("<IHHiIII", data) == (0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
    frames, at = [], 24
    while at < len(data):
        length, on_wire = struct.unpack_from("<II", data, at + 8)
        assert length == on_wire
        frames.append(data[at + 16:at + 16 + length])
        at += 16 + length
    return frames


def replay(namespace, frames):
    with contextlib.closing(namespace.packets("veth")) as wire:
        for frame in frames:
            wire.send(frame)


def arrived(wire, count, length):
    """So many frames of that length, give or take the padding of the shortest and of ChannelData."""
    got = 0
    while got < count:
        try:
            frame, (_, _, kind, *_) = wire.recvfrom(2048)
        except TimeoutError:
            return False
        got += kind == socket.PACKET_HOST and 0 <= len(frame) - length < 4
    return True


@ENGINES
@table("family, size, kept", ("DP-26-1", 4, ("--frame", "222"), True), ("DP-26-1", 6, ("--size", "77"), True),
       ("DP-26-1", 4, ("--frame", "64"), False))
def test_captures(server, lab, tmp_path, family, size, kept):
    """What is in the files is relayed, whoever sends it."""
    up, down, flows = tmp_path / "up.pcap", tmp_path / "down.pcap", tmp_path / "flows"
    running = start(lab, "pcap", "--allocations", "20", "--order", "random", *size, "-o", str(up),
                    "--down", str(down), "--flows", str(flows), *(["--keep"] if kept else []),
                    family=family, json_wanted=False)
    if kept:
        assert running.stdout.readline() == "written\n", end(running).stderr
    else:
        done = end(running)
        assert done.returncode == 0 and not done.stdout and not done.stderr
    up, down = frames_of(up), frames_of(down)
    headers = 42 if family == 4 else 62
    way_up = int(size[1]) if size[0] == "--size" else int(size[1]) - headers - 8
    way_down = int(size[1]) if size[0] == "--size" else int(size[1]) - headers - 4
    assert {len(f) for f in up} == {headers + 4 + way_up}
    assert {len(f) for f in down} == {headers + way_down}
    clients = [int.from_bytes(f[headers - 8:headers - 6], "big") for f in up]
    assert sorted(clients) == list(range(1024, 1044)) and clients != sorted(clients)
    ports = [(int.from_bytes(f[headers - 8:headers - 6], "big"),
              int.from_bytes(f[headers - 6:headers - 4], "big")) for f in down]
    assert [tuple(map(int, line.split()[:2])) for line in flows.read_text().splitlines()] == ports

    with contextlib.closing(lab.client.packets("veth")) as at_client, \
            contextlib.closing(lab.peer.packets("veth")) as at_peer:
        replay(lab.client, up)
        replay(lab.peer, down)
        assert arrived(at_peer, 20, headers + way_up)
        assert arrived(at_client, 20, headers + 4 + way_down)
    if kept:
        running.send_signal(signal.SIGINT)
        assert end(running).returncode == 0
    for allocation in server.ctl("allocations", "list")["allocations"]:
        assert not kept
        server.ctl("allocations", "delete", str(allocation["id"]))


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
    options = ("--size", "1000", "--duration", "0.4", "--rate", "1000")
    with loss(lab.client, 4):
        ways = relay(lab, "--direction", "both", *options)["steps"][0]["directions"]
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
    done = bench(lab, "relay", "--duration", "0.5", "--pid", str(server.process.pid), json_wanted=False)
    assert done.returncode == 0 and done.stdout.startswith("ends: sockets\n")
    assert "lost 0 (0.000 %)" in done.stdout
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


@pytest.mark.engines("socket")
@pytest.mark.config(limits={"allocations_per_user": 30})
@covers("DP-26-1")
def test_quota(server, lab):
    """What was made before the server refused is deleted."""
    done = bench(lab, "allocate", "--allocations", "100")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == "turnpike-bench: Allocate refused with 486\n"
    assert server.ctl("status")["allocations"] == 0


WHOLE = ["relay", "--server", "192.0.2.1:3478", "--user", "u", "--password", "w", "--peer", "192.0.2.2"]


@table("options, word",
       ("DP-26-1", [], "one command"), ("DP-26-1", ["fly"], "not a command"),
       ("DP-26-1", ["relay"], "are needed"), ("DP-26-1", ["relay", "--rate", "0"], "--rate"),
       ("DP-26-1", ["relay", "--size", "31"], "32 to 1400"),
       ("DP-26-1", ["relay", "--server", "192.0.2.1"], "--server"),
       ("DP-26-1", ["relay", "--direction", "left"], "up, down, both"),
       ("DP-26-1", ["relay", "--rate", "5,x"], "--rate: x"),
       ("DP-26-1", ["relay", "--backend", "pigeon"], "sockets, gso, afxdp, xdp, dpdk"),
       ("DP-26-1", [*WHOLE, "--backend", "xdp"], "--local is needed"),
       ("DP-26-1", [*WHOLE, "--eal", "-m 1"], "for --backend dpdk"),
       ("DP-26-1", [*WHOLE, *ends("dpdk", devices=("net_tap0", "net_tap0"))], "cannot be the peer's"),
       ("DP-26-1", [*WHOLE, "--backend", "dpdk", "--local", "192.0.2.3", "--peer-device", "x"], "are needed"),
       ("DP-26-1", ["pcap", *WHOLE[1:], *ends("dpdk"), "-o", "/dev/null"], "not with --backend dpdk"),
       ("DP-26-1", [*WHOLE, "--active", "2"], "more than --allocations"),
       ("DP-26-1", [*WHOLE, "--search", "9"], "LOW-HIGH"),
       ("DP-26-1", [*WHOLE, "--search", "9-3"], "--search"),
       ("DP-26-1", [*WHOLE, "--search", "1-9", "--rate", "5"], "not with --rate"),
       ("DP-26-1", [*WHOLE, "--mix", "rtp", "--rate", "5"], "--mix"),
       ("DP-26-1", [*WHOLE, "--locals", "2"], "--local says"),
       ("DP-26-1", [*WHOLE, "--local", "192.0.2.3", "--locals", "2", "--allocations", "1000000"],
        "500000 are needed on each"),
       ("DP-26-1", [*WHOLE, "--local", "255.255.255.255", "--locals", "2"], "not so many addresses"),
       ("DP-26-1", [*WHOLE, "-o", "/dev/null"], "pcap is what"),
       ("DP-26-1", ["pcap", *WHOLE[1:], "-o", "/dev/null"], "--local is needed"),
       ("DP-26-1", ["pcap", *WHOLE[1:], "--local", "192.0.2.3"], "needs one of them"),
       ("DP-26-1", ["allocate", *WHOLE[1:], "--html", "/dev/null"], "--html"),
       ("DP-26-1", ["pcap", "--frame", "63"], "64 to 1518"),
       ("DP-26-1", ["relay", "--fast"], "--help"))
def test_usage(options, word):
    done = subprocess.run([os.path.join(build_dir(), "tests/perf/turnpike-bench"), *options],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and word in done.stderr and not done.stdout
