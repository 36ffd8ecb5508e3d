"""Administration (threats O01-O10) as far as it is built, and draining."""

import stat

import pytest

from harness import *
from rows import covers, table
from turn import *



@covers("O01", "O05")
def test_control_socket_is_not_for_everybody(server, lab):
    path = server.config["control"]["socket"]
    mode = stat.S_IMODE(os.stat(path).st_mode)
    assert mode & 0o007 == 0
    done = run("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", program("turnpikectl"),
               "--socket", path, "status", check=False)
    assert done.returncode in (1, 3), done.stdout
    listening = lab.server.run("ss", "-H", "-tlnp").stdout
    assert listening.strip() == ""


@covers("O08")
def test_process_cannot_be_read(server):
    """No core, no ptrace by the same user."""
    pid = server.process.pid
    with open(f"/proc/{pid}/limits") as f:
        core = next(line for line in f if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    with open(f"/proc/{pid}/status") as f:
        uid = next(line for line in f if line.startswith("Uid")).split()[1]
    done = run("setpriv", f"--reuid={uid}", "--regid=65534", "--clear-groups", "cat",
               f"/proc/{pid}/environ", check=False)
    assert done.returncode != 0


@table("section, value",
       *(("O06", *pair) for pair in (
           ("listen", [{"transport": "udp", "address": SERVER4, "port": 65536}]),
           ("listen", [{"transport": "udp", "address": SERVER4, "port": -1}]),
           ("listen", [{"transport": "udp", "address": SERVER4, "port": "3478x"}]),
           ("listen", [{"transport": "udp", "address": "198.51.100.256", "port": 3478}]),
           ("listen", []),
           ("relay", {"ports": "49152"}), ("relay", {"ports": "65535-49152"}),
           ("relay", {"ports": "49152-65536"}), ("relay", {"ports": "0-1023"}),
           ("relay", {"addresses": []}),
           ("relay", {"addresses": [{"address": "0.0.0.0"}]}),
           ("limits", {"allocations": "1e9"}), ("limits", {"channels_per_allocation": 4294967297}),
           ("limits", {"lifetime_default": "0 s"}), ("limits", {"lifetime_max": "1 s"}),
           ("dataplane", {"engine": "warp"}), ("dataplane", {"flows": 0}),
           ("dataplane", {"flows": "99999999999"}),
           ("log", {"level": "loud"}), ("nonsense", 1), ("auth", {"nonce_lifetime": "-1 s"}),
           ("auth", {"users": [{"name": "alice"}]}), ("realm", ""))))
def test_wrong_configuration(tmp_path, section, value):
    """Exit 2 and one line: file:line:column: key: what is wrong."""
    path = tmp_path / "turnpike.yaml"
    path.write_text(json.dumps(configuration(str(tmp_path), "socket", {section: value}), indent=1))
    done = run(program("turnpiked"), "--check", "-c", str(path), check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.match(rf"^{re.escape(str(path))}:\d+:\d+: ", done.stderr), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.fresh
@covers("DP-19-3")
def test_drain(client, server, p):
    """No new allocations; those that live are served."""
    old, new = client(), client()
    old.alloc()
    old.bind(0x4000, p.address)
    assert server.ctl("status")["draining"] is False
    server.signal(signal.SIGUSR1)
    assert eventually(lambda: server.ctl("status")["draining"])
    assert new.allocate().code in (486, 508)
    assert old.refresh().code == 0
    old.send_on(0x4000, b"served")
    assert p.take() == (b"served", old.relay)


@covers("DP-19-3")
def test_delete_by_the_operator(client, server, p):
    c = client()
    c.alloc()
    c.bind(0x4000, p.address)
    listed = server.ctl("allocations", "list")["allocations"]
    mine = next(a for a in listed if a["client"] == "%s:%d" % c.address)
    assert mine["user"] == "alice" and mine["relay"] == "%s:%d" % c.relay
    shown = server.ctl("allocations", "show", str(mine["id"]))
    assert [ch["number"] for ch in shown["channels"]] == [0x4000]
    assert shown["channels"][0]["peer"] == "%s:%d" % p.address
    assert [pe["peer"] for pe in shown["permissions"]] == [p.address[0]]
    server.ctl("allocations", "delete", str(mine["id"]))
    c.send_on(0x4000, b"gone")
    assert c.silent() and p.silent()
    assert c.refresh().code == 437
    c.allocated = False


@pytest.mark.fresh
@covers("O09")
def test_orderly_stop(server, client, lab):
    client().alloc()
    assert server.halt() == 0
    assert not os.path.exists(server.config["control"]["socket"])
    server.start()
