"""Credentials and what they protect (threats N01-N20); most rows are in t05, t06 and t24."""

from harness import *
from rows import covers, table
from turn import *


@covers("N09", "N08")
def test_unknown_user_and_wrong_password_look_the_same(client):
    """Byte for byte, nonce and transaction aside; and in time, as far as it can be seen here."""
    known, unknown = client(password="wrong"), client(user="nobody", password="wrong")
    answers, times = [], ([], [])

    def look_the_same():
        """The quick half tells what the server does; how slow the others are, who else has the processors."""
        for n in range(400):
            c = (known, unknown)[n % 2]
            raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
            start = time.perf_counter()
            m = c.ask(raw)
            times[n % 2].append(time.perf_counter() - start)
            answers.append((m.code, m.types(), m.get(ERROR_CODE), m.get(REALM_), len(m.get(NONCE))))
        quick = [sorted(t)[len(t) // 4] for t in times]
        return max(quick) < 1.5 * min(quick)

    assert eventually(look_the_same)
    assert len({repr(a) for a in answers}) == 1


@table("secret, code", ("N15", "", 2), ("N15", "s3cret-one", 0), ("N15", "sixteen-bytes-ok", 0))
def test_weak_secrets(tmp_path, secret, code):
    """An empty one is refused, a short one warned of; nothing repeats it."""
    config = configuration(str(tmp_path), "socket", {"auth": {"secrets": [secret]}})
    path = tmp_path / "turnpike.yaml"
    path.write_text(json.dumps(config))
    done = run(program("turnpiked"), "--check", "-c", str(path), check=False)
    assert done.returncode == code
    assert ("auth.secrets" in done.stderr) == (len(secret) < 16), done.stderr
    assert not secret or secret not in done.stderr


@covers("N18")
def test_nothing_secret_on_the_command_line(server):
    with open(f"/proc/{server.process.pid}/cmdline") as f:
        line = f.read()
    assert not any(p in line for p in [*USERS.values(), *SECRETS])
    shown = json.dumps(server.ctl("config", "show", check=False))
    assert not any(p in shown for p in [*USERS.values(), *SECRETS])


@covers("N02")
def test_restart_makes_new_nonces(lab, server, client):
    """Nonces of one process mean nothing to the next."""
    c = client()
    c.challenge()
    other = client()
    forged = c.nonce[:-1] + bytes([c.nonce[-1] ^ 1])
    m = other.request(REFRESH, nonce=forged)
    assert m.code in (437, 438)


@covers("N20", "L06", "N03")
def test_replay_from_elsewhere(client, a):
    """A captured request, sent from another socket, does nothing."""
    raw = a.signed(REFRESH, [lifetime(0)])
    thief = client(CLIENTS4[3])
    thief.send(raw)
    assert Message(thief.answer_to(raw)).code == 438
    assert a.refresh().code == 0


@covers("N16")
def test_tokens_are_random(client):
    tokens = set()
    for _ in range(20):
        c = client()
        tokens.add(c.alloc(attribute(EVEN_PORT, b"\x80")).get(TOKEN))
    assert len(tokens) == 20
    assert len({t[:4] for t in tokens}) == 20 and len({t[4:] for t in tokens}) == 20
