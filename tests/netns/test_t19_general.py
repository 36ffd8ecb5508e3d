"""General rules of the server, and what it does with nonsense (conformance.md, 19)."""

import random

import pytest

from harness import *
from rows import covers, table
from turn import *


@covers("TURN-3.2-1", "TURN-21.1.4-1", "TURN-5-18")
def test_allocation_is_found_by_its_5_tuple(client, p):
    """Data needs no credentials, but it needs the 5-tuple and the permission."""
    owner = client()
    owner.alloc()
    owner.perm(p.address[0])
    owner.send_to(p.address, b"mine")
    assert p.take() == (b"mine", owner.relay)
    for other in (client(), client(CLIENTS4[1], port=owner.address[1]),
                  client(server=(SERVER4B, PORT), sock=None)):
        other.send_to(p.address, b"not mine")
        assert other.silent()
    assert p.silent()


def corpus(c, p):
    """One of each kind of packet, valid."""
    tid = os.urandom(12)
    peer_address = attribute(XPA, xor_address(*p.address, tid))
    return [
        build(BINDING),
        fingerprint(build(BINDING)),
        build(ALLOCATE, attributes=attribute(RT, UDP)),
        c.signed(ALLOCATE, [attribute(RT, UDP), lifetime(700), attribute(EVEN_PORT, b"\x80")]),
        c.signed(REFRESH, [lifetime(700), attribute(RAF, V4)]),
        c.signed(CREATE_PERMISSION, [peer_address, peer_address], tid),
        c.signed(CHANNEL_BIND, [channel_number(0x4000), peer_address], tid),
        c.indication(p.address, b"payload", attribute(DONT_FRAGMENT)),
        channel_data(0x4000, b"payload"),
    ]


def mutate(random, raw):
    out = bytearray(raw)
    for _ in range(random.randint(1, 3)):
        if not out:
            break
        kind = random.randrange(5)
        at = random.randrange(len(out))
        if kind == 0:
            out[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            out = out[:at]
        elif kind == 2:
            out[at] = random.choice((0, 0xFF, 0x7F, 0x80))
        elif kind == 3:
            out[at:at] = bytes(random.randrange(256) for _ in range(random.randint(1, 9)))
        elif len(out) > 4:
            struct.pack_into("!H", out, at & ~1 if (at & ~1) + 2 <= len(out) else 0,
                             random.choice((0, 1, 4, 0xFFFC, 0xFFFF, len(out) & 0xFFFF)))
    return bytes(out)


@covers("DP-19-1", "F18", "F02")
def test_mutations(a, p):
    """Whatever comes, the next good request is answered as if nothing had been."""
    dice = random.Random(8656)
    a.bind(0x4000, p.address)
    seeds = corpus(a, p)
    for n in range(3000):
        a.send(mutate(dice, dice.choice(seeds)))
        if n % 10 == 9:
            raw = build(BINDING)
            a.send(raw)
            assert a.answer_to(raw) is not None, n
            a.inbox.clear()
    drain(p.socket)
    drain(a.socket)
    assert a.refresh().code in (0, 437)
    assert a.binding().code == 0


@covers("F01", "DP-19-1")
def test_prefixes(a, c):
    """Every beginning of a valid request is dropped."""
    whole = c.signed(ALLOCATE, [attribute(RT, UDP)])
    for n in range(len(whole)):
        c.send(whole[:n])
    assert c.silent()
    raw = c.indication((PEERS4[0], 9), b"x" * 30)
    for n in range(len(raw)):
        a.send(raw[:n])
    assert a.silent()


ATTRIBUTES = (USERNAME, MI, ERROR_CODE, UNKNOWN_ATTRIBUTES, CHANNEL_NUMBER, LIFETIME, XPA, DATA,
              REALM_, NONCE, XRA, RAF, EVEN_PORT, RT, DONT_FRAGMENT, MI256, PASSWORD_ALGORITHM,
              USERHASH, XMA, TOKEN, AAF, PASSWORD_ALGORITHMS, FINGERPRINT)


@covers("F02", "F03", "N17")
def test_attribute_lengths(a, c):
    """Each attribute with each length, in requests, authenticated requests and indications."""
    c.challenge()
    for kind in ATTRIBUTES:
        for length in (*range(18), 255, 0xFFFC, 0xFFFF):
            value = attribute(kind, b"\1" * min(length, 64), length)
            for message in (build(BINDING, attributes=value),
                            build(SEND, INDICATION, value),
                            build(BINDING, ERROR, value),
                            build(DATA_METHOD, INDICATION, value),
                            c.sign(build(ALLOCATE, REQUEST, [value, *c.credentials()]))):
                c.send(message)
        raw = build(BINDING)
        c.send(raw)
        assert c.answer_to(raw) is not None, f"{kind:04x}"
        c.inbox.clear()
    c.refresh(0)
    assert a.refresh().code == 0


@covers("DP-19-2", "CLI-ANY-2")
@pytest.mark.fresh
def test_restart(client, server, p):
    """A new process knows nothing of the old allocations and nonces; clients recover."""
    c = client()
    c.alloc()
    c.perm(p.address[0])
    server.halt()
    server.start()
    raw = c.signed(REFRESH)
    c.send(raw)
    m = Message(c.answer_to(raw))
    assert m.code in (437, 438)
    c.send_to(p.address, b"ignored")
    assert c.silent() and p.silent()
    if m.code == 438:
        c.learn(m)
    assert c.refresh().code == 437
    c.alloc()
    c.perm(p.address[0])
    c.send_to(p.address, b"recovered")
    assert p.take() == (b"recovered", c.relay)


@covers("CLI-ANY-2", "R13")
def test_garbage_does_not_flood_the_log(c, server):
    before = len(server.log())
    for n in range(3000):
        c.send(b"GET / HTTP/1.1\r\n\r\n" if n % 2 else b"\0" * (n % 40))
        if n % UNDER_WAY == UNDER_WAY - 1:
            assert c.silent()
    assert len(server.log()) - before < 20000


@covers("DP-26-12", "R17", "TURN-21.3.1-1")
def test_requests_beside_a_data_flood(client, p):
    flooder, c = client(), client(user="bob")
    flooder.alloc()
    c.alloc()
    flooder.perm(p.address[0])
    raw = flooder.indication(p.address, b"x" * 500)
    waits = []
    for _ in range(40):
        for _ in range(50):
            flooder.send(raw)
        start = time.monotonic()
        assert c.refresh().code == 0
        waits.append(time.monotonic() - start)
    assert sorted(waits)[len(waits) * 9 // 10] < 0.2
    assert flooder.refresh().code == 0
    drain(p.socket)


@covers("D17")
def test_other_traffic_of_the_host(lab, server, a, p):
    """What is not ours passes by: UDP to other ports, both families, both sides."""
    a.bind(0x4000, p.address)
    for name, mine, theirs in ((lab.client, CLIENTS4[0], SERVER4), (lab.client, CLIENTS6[0], SERVER6),
                               (lab.peer, PEERS4[0], RELAY4), (lab.peer, PEERS6[0], RELAY6)):
        for port in (53, 123, 3479, 40000):
            service, user = lab.server.udp(theirs, port), name.udp(mine)
            user.sendto(b"question", (theirs, port))
            data, source = service.recvfrom(100)
            assert data == b"question"
            service.sendto(b"answer", source)
            assert user.recvfrom(100)[0] == b"answer"
            service.close()
            user.close()
    assert name.run("ping", "-c1", "-W1", RELAY4).returncode == 0
