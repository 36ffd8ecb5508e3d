"""TURN REST time-limited credentials."""

from harness import *
from rows import covers, table
from turn import *


def rest(client, username, secret=SECRETS[0], password=None, **keywords):
    return client(user=username, password=password or rest_password(username, secret), **keywords)


def now(offset=0):
    return str(int(time.time()) + offset)


@covers("REST-2")
def test_vectors():
    assert rest_password("1266890800:mbzrxpgjys", "north") == "nbRcrnq5h6xXhyNhlwk+lDLvVVo="
    assert rest_password("2000000000:alice", "north") == "uoDL/AHil9mhKpZV8sTerU3VXBM="


@table("username, secret, algorithm",
       ("REST-1+REST-3", "4000000000:alice", 0, None),
       ("REST-1+REST-3", "4000000000", 0, None),
       ("REST-1", "4000000000:a:b:c", 0, None),
       ("REST-1", "4000000000:", 0, None),
       ("REST-9", "4000000000:alice", 1, None),
       ("REST-12", "4000000000:alice", 0, SHA256),
       ("REST-12", "4000000000:alice", 1, MD5))
def test_valid(client, p, username, secret, algorithm):
    c = rest(client, username, SECRETS[secret], algorithm=algorithm)
    c.alloc()
    c.perm(p.address[0])
    assert c.refresh().code == 0


@table("username",
       *(("REST-5+N11", u) for u in (
           "alice", ":alice", "-5:alice", "99999999999999999999:a", "18446744073709551616:a",
           "0x7fffffff:a", "1e9:a", " 4000000000:a", "+4000000000:a", "4000000000 :a", "", ":",
           "40000000x0:a")),
       ("REST-6", "alice:4000000000"),
       ("REST-4+REST-8+N11", now(-2) + ":alice"),
       ("REST-4+N11", "0:alice"),
       ("REST-4+N11", "1:alice"))
def test_refused(client, username):
    assert rest(client, username).allocate().code == 401


@table("password",
       ("REST-14", rest_password("4000000000:alice", SECRETS[0]).rstrip("=")),
       ("REST-2", rest_password("4000000000:alice", "another secret")),
       ("REST-2", rest_password("4000000000:bob", SECRETS[0])))
def test_wrong_password(client, password):
    assert rest(client, "4000000000:alice", password=password).allocate().code == 401


@covers("REST-7", "REST-8", "REST-4")
def test_name_runs_out(client, p):
    """The allocation it made lives on; a new one is refused."""
    end = int(now(2))
    name = f"{end}:short"
    c = rest(client, name)
    c.alloc()
    # The server's seconds are those of the kernel's last tick, which time.time() may be ahead of.
    assert eventually(lambda: time.time() > end + 1.2)
    assert rest(client, name).allocate().code == 401
    assert c.refresh().code == 0
    c.perm(p.address[0])
    c.send_to(p.address, b"still")
    assert p.take() == (b"still", c.relay)


@covers("REST-13")
def test_renewed_name_is_another_user(client):
    c = rest(client, "4000000000:alice")
    c.alloc()
    renewed = rest(client, "4000000001:alice", sock=c.socket)
    assert renewed.refresh().code == 441
    assert c.refresh().code == 0


@covers("REST-3")
def test_minted_by_the_server(client, server):
    minted = server.ctl("credentials", "mint", "zoe", "--ttl", "1h")
    assert minted["username"].endswith(":zoe")
    assert abs(minted["expires_at"] - time.time() - 3600) < 5
    client(user=minted["username"], password=minted["password"]).alloc()
