"""Retransmissions: the same state, whichever copy is answered (RFC 8489, 6.3.1)."""

from harness import *
from rows import covers, table
from turn import *


@covers("STUN-6.3.1-4", "TURN-7.2-30", "R09", "N20")
def test_allocate(c, server):
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
    before = server.ctl("status")["allocations"]
    answers = [c.ask(raw, c.key, "sha1") for _ in range(3)]
    c.allocated = True
    assert {m.code for m in answers} == {0}
    assert len({m.address(XRA) for m in answers}) == 1
    assert len({m.address(XMA) for m in answers}) == 1
    assert server.ctl("status")["allocations"] == before + 1


@covers("TURN-7.2-30", "TURN-7.2-40")
def test_allocate_with_a_token(c):
    raw = c.signed(ALLOCATE, [attribute(RT, UDP), attribute(EVEN_PORT, b"\x80")])
    answers = [c.ask(raw, c.key, "sha1") for _ in range(3)]
    c.allocated = True
    assert len({(m.address(XRA), m.get(TOKEN)) for m in answers}) == 1
    assert len(answers[0].get(TOKEN)) == 8


@covers("TURN-7.2-33")
def test_dual_allocate(c):
    raw = c.signed(ALLOCATE, [attribute(RT, UDP), attribute(AAF, V6)])
    answers = [c.ask(raw, c.key, "sha1") for _ in range(2)]
    c.allocated = True
    assert answers[0].addresses(XRA) == answers[1].addresses(XRA)
    assert len(answers[0].addresses(XRA)) == 2


@covers("TURN-7.2-31")
def test_same_transaction_other_request(c):
    tid = os.urandom(12)
    assert c.allocate(tid=tid).code == 0
    changed = c.signed(ALLOCATE, [attribute(RT, UDP), lifetime(1200)], tid)
    assert c.ask(changed, c.key, "sha1").code == 437
    forged = c.signed(ALLOCATE, [attribute(RT, UDP)], tid, key=bytes(16))
    assert c.ask(forged).code == 401


@covers("TURN-7.2-32", "CLI-COT-5")
def test_two_copies_at_once(client, server):
    before = server.ctl("status")["allocations"]
    for n in range(100):
        c = client(CLIENTS4[n % 10])
        raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
        c.send(raw)
        c.send(raw)
        first, second = Message(c.take()), Message(c.take())
        c.allocated = True
        assert first.code == second.code == 0
        assert first.address(XRA) == second.address(XRA)
    assert server.ctl("status")["allocations"] == before + 100


@covers("TURN-7.2-34", "N20")
def test_late_copy_of_a_deleted_allocation(c, server):
    before = server.ctl("status")["allocations"]
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
    assert c.ask(raw, c.key, "sha1").code == 0
    assert c.refresh(0).code == 0
    c.send(raw)
    assert Message(c.answer_to(raw)).code == 437
    assert server.ctl("status")["allocations"] == before


@covers("TURN-8.2-1", "TURN-8.2-2", "N20")
def test_refresh(a):
    raw = a.signed(REFRESH, [lifetime(700)])
    assert [a.ask(raw, a.key, "sha1").code for _ in range(3)] == [0, 0, 0]
    raw = a.signed(REFRESH, [lifetime(0)])
    assert a.ask(raw, a.key, "sha1").code == 0
    assert a.ask(raw, a.key, "sha1").code in (0, 437)
    assert a.refresh().code == 437


@covers("TURN-10.2-1", "TURN-12.2-1")
def test_permission_and_channel(a, p, server):
    tid = os.urandom(12)
    grant = a.signed(CREATE_PERMISSION, [attribute(XPA, xor_address(*p.address, tid))], tid)
    bind = a.signed(CHANNEL_BIND, [channel_number(0x4000), attribute(XPA, xor_address(*p.address, tid))],
                    tid)
    for raw in (grant, grant, bind, bind, grant):
        assert a.ask(raw, a.key, "sha1").code == 0
    a.send_on(0x4000, b"once")
    assert p.take() == (b"once", a.relay) and p.silent()


@covers("CLI-RTO-1", "CLI-WEB-5", "CLI-FF-2")
def test_every_copy_of_the_first_request_is_answered(c):
    raw = build(ALLOCATE, attributes=attribute(RT, UDP))
    answers = [c.ask(raw) for _ in range(9)]
    for m in answers:
        c.learn(m)
        assert c.refresh().code == 437  # each nonce is good


@covers("STUN-6.3.1-5", "R01", "R02")
def test_nothing_is_kept_of_strangers(lab, client, server):
    """Unauthenticated requests, with and without made-up integrity, leave no state."""
    c = client()
    with Tap(lab.client) as tap:
        def flood(count):
            junk = [attribute(RT, UDP), attribute(USERNAME, b"alice"), attribute(REALM_, REALM.encode()),
                    attribute(NONCE, b"obMatJos2AAABjunk"), attribute(MI, bytes(20))]
            for n in range(count):
                source = (CLIENTS4[n % 10], 1024 + n % 60000)
                raw = build(ALLOCATE, attributes=junk if n % 2 else junk[:1])
                tap.send(ethernet(ip_packet(source, (SERVER4, PORT), raw), "client", "to_client"))
                if n % UNDER_WAY == UNDER_WAY - 1:
                    c.binding()

        flood(2000)
        before = server.resident()
        flood(8000)
        assert server.is_sanitized or server.resident() - before < 1 << 20
    assert client().alloc().code == 0
    assert server.ctl("status")["allocations"] == 1


@covers("N20", "TURN-8.2-2")
def test_late_copy_of_a_deletion(c, p):
    """It must not end the next allocation of the same client."""
    c.alloc()
    deletion = c.signed(REFRESH, [lifetime(0)])
    assert c.ask(deletion, c.key, "sha1").code == 0
    c.alloc()
    c.perm(p.address[0])
    c.send(deletion)
    assert Message(c.answer_to(deletion)).code in (0, 437)
    c.send_to(p.address, b"alive")
    assert p.take() == (b"alive", c.relay)
    assert c.refresh().code == 0
