"""The daemons as users of their own (base/privileges.h): what one of them may do with the other."""

import contextlib
import errno
import os
import signal
import socket
import subprocess

import pytest

import harness
import turn

USERS = {"turnpike": 64100, "turnpike-dataplane": 64101}


@contextlib.contextmanager
def user_database(tmp_path):
    """The sandbox has a mount namespace of its own."""
    file = tmp_path / "passwd"
    with open("/etc/passwd") as f:
        file.write_text(f.read() + "".join(f"{name}:x:{n}:{n}::/:/bin/false\n" for name, n in USERS.items()))
    os.chmod(file, 0o644)
    subprocess.run(["mount", "--bind", str(file), "/etc/passwd"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/passwd"], check=True)


def user_of(daemon):
    with open(f"/proc/{daemon.process.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Uid:"))


def as_user(uid, action):
    """Does something in a child with that user and its group; the errno it ends with, 0 for none."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            action()
            code = 0
        except OSError as error:
            code = error.errno
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def connect(path, kind):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.connect(path)


@pytest.mark.engines("afxdp")
def test_each_has_its_own(lab, servers, engine, tmp_path):
    servers.stop()
    with user_database(tmp_path):
        server = harness.Server(lab, engine)
        try:
            control, dataplane = USERS.values()
            commands = server.config["control"]["socket"]
            link = os.path.join(os.path.dirname(commands), "dataplane.sock")
            assert (user_of(server), user_of(server.dataplane)) == (control, dataplane)
            assert as_user(dataplane, lambda: connect(link, socket.SOCK_SEQPACKET)) == 0
            assert as_user(dataplane, lambda: connect(commands, socket.SOCK_STREAM)) == errno.EACCES
            assert as_user(dataplane, lambda: os.kill(server.process.pid, signal.SIGTERM)) == errno.EPERM
            assert as_user(control, lambda: os.kill(server.dataplane.process.pid, signal.SIGTERM)) == errno.EPERM
            goes_on(lab, server)
        finally:
            server.stop()


def goes_on(lab, server):
    """A turnpiked that comes back is found by workers that have no rights left, and adopts what they have mapped."""
    client, peer = turn.Client(lab), turn.Peer(lab, harness.PEERS4[0])
    try:
        client.alloc()
        client.bind(0x4001, peer.address)
        server.kill()
        server.start()
        assert "adopted 1 allocations" in server.log(server.log_start)
        client.send_on(0x4001, b"still")
        assert peer.take()[0] == b"still"
        assert server.audit()["differences"] == 0
    finally:
        client.close()
        peer.close()
