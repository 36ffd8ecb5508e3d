"""FINGERPRINT, MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489, sections 7, 9, 14)."""

import pytest

from harness import *
from rows import covers, table
from turn import *


def sha256_client(client):
    c = client(algorithm=SHA256)
    c.alloc()
    return c


@covers("STUN-14.7-1")
def test_fingerprint_of_answers(client):
    c = client(fingerprint=True)
    for m in (c.ask(fingerprint(build(BINDING))), c.ask(fingerprint(build(ALLOCATE))), c.alloc(),
              c.allocate(), c.refresh()):
        assert m.fingerprint_right()


@covers("STUN-14.7-2", "N10")
def test_fingerprint_is_last(a):
    """What stands behind it is never acted on."""
    raw = fingerprint(a.signed(REFRESH, [lifetime(700)]))
    a.answer_if_any(append(raw, lifetime(0)))
    assert a.silent()
    assert a.refresh(800).lifetime == 800


@covers("STUN-7-1", "N10")
def test_wrong_fingerprint(c, a):
    raw = bytearray(fingerprint(build(BINDING)))
    raw[-1] ^= 1
    assert c.dropped(bytes(raw))
    raw = bytearray(fingerprint(a.signed(REFRESH, [lifetime(0)])))
    raw[-2] ^= 0x80
    assert a.dropped(bytes(raw))
    assert a.refresh().code == 0


@covers("STUN-14.5-1")
def test_integrity_with_more_behind_it(c):
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
    m = c.ask(fingerprint(raw), c.key, "sha1")
    c.allocated = True
    assert m.code == 0


@covers("STUN-14.6-1", "STUN-9.2.4-0")
def test_both_integrities(client):
    """MESSAGE-INTEGRITY-SHA256 covers MESSAGE-INTEGRITY, and it alone is looked at."""
    c = sha256_client(client)
    bare = build(REFRESH, REQUEST, c.credentials())
    both = fingerprint(integrity(integrity(bare, c.key, "sha1"), c.key, "sha256"))
    assert c.ask(both, c.key, "sha256").code == 0
    wrong_sha1 = append(bare, attribute(MI, bytes(20)))
    assert c.ask(integrity(wrong_sha1, c.key, "sha256"), c.key, "sha256").code == 0
    right_sha1 = integrity(bare, c.key, "sha1")
    assert c.ask(append(right_sha1, attribute(MI256, bytes(32)))).code == 401


@table("size", *(("STUN-14.6-2+N07+DEC-14", n) for n in (0, 4, 12, 15, 16, 20, 28, 33, 36)))
def test_truncated_sha256(client, size):
    c = sha256_client(client)
    raw = integrity(build(REFRESH, REQUEST, [lifetime(0), *c.credentials()]), c.key, "sha256", size)
    answer = c.answer_if_any(raw)
    assert answer is None or check_answer(answer, raw).code in (400, 401)
    assert c.refresh().code == 0


@table("size", ("STUN-14.5-2", 0), ("STUN-14.5-2", 16), ("STUN-14.5-2", 32))
def test_length_of_integrity(a, size):
    raw = integrity(build(REFRESH, REQUEST, [lifetime(0), *a.credentials()]), a.key, "sha1", size)
    answer = a.answer_if_any(raw)
    assert answer is None or check_answer(answer, raw).code in (400, 401)
    assert a.refresh().code == 0


@table("algorithm, extra",
       ("STUN-9-1+N06", None, lifetime(0)),
       ("STUN-9-1", None, attribute(0x7FF0, b"what")),
       ("STUN-9-2+N06", SHA256, lifetime(0)),
       ("STUN-9-2", SHA256, attribute(0x7FF0, b"what")))
def test_behind_integrity_all_is_ignored(client, algorithm, extra):
    c = client(algorithm=algorithm)
    c.alloc()
    raw = append(c.signed(REFRESH, [lifetime(700)]), extra)
    m = c.ask(raw, c.key, c.integrity_kind)
    assert m.code == 0 and m.lifetime == 700
    assert c.refresh(800).lifetime == 800


@covers("STUN-9-3")
def test_first_integrity_decides(a):
    bare = build(REFRESH, REQUEST, [lifetime(0), *a.credentials()])
    raw = integrity(append(bare, attribute(MI, bytes(20))), a.key)
    assert a.ask(raw).code == 401
    assert a.refresh().code == 0


@covers("STUN-9.2.2-1", "STUN-18.5.1.2-1")
def test_keys():
    """Vectors of conformance.md, 28; the codec of this suite is checked against them."""
    assert long_term_key("user", "pass", "realm").hex() == "8493fbc53ba582fb4c044c456bdc40eb"
    assert long_term_key("user", "pass", "realm", SHA256).hex() == \
        "07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b"


@covers("STUN-18.5.1.1-1", "STUN-9.2.4-19")
def test_sha256_is_offered_first(c):
    assert c.challenge().get(PASSWORD_ALGORITHMS) == bytes.fromhex("0002000000010000")


@table("user, code",
       ("STUN-14.3-1", "l" * 508, (0,)),
       ("STUN-14.3-1+N17", "u" * 509, (400, 401)),
       ("STUN-14.3-1+N17", "u" * 513, (400, 401)),
       ("STUN-14.3-1", "u" * 763, (400, 401)),
       ("STUN-14.3-1+N17", "u" * 764, (400, 401, None)),
       ("STUN-14.3-1+N17", "u" * 2000, (400, 401, None)),
       ("N17", "al\0ice", (400, 401)),
       ("N17", "alice\0", (400, 401)),
       ("N17+F16", "%s%n%x\n2026 fake line", (400, 401)),
       ("N17", "", (400, 401)))
def test_usernames(client, user, code):
    c = client(user=user)
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)])
    answer = c.answer_if_any(raw)
    if answer is None:
        assert None in code
    else:
        m = check_answer(answer, raw, c.key if code == (0,) else None, "sha1")
        assert m.code in code
        c.allocated = m.code == 0
    assert c.silent()


@covers("N17")
def test_username_that_is_no_utf8(c):
    c.challenge()
    key = hashlib.md5(b"\xff\xfe\x80:" + REALM.encode() + b":x").digest()
    raw = c.sign(build(ALLOCATE, REQUEST, [attribute(RT, UDP), *c.credentials(user=b"\xff\xfe\x80")]),
                 key)
    assert c.ask(raw).code in (400, 401)


@covers("STUN-9.2.2-2")
def test_katakana(client):
    client(user="\u30de\u30c8\u30ea\u30c3\u30af\u30b9").alloc()


@covers("STUN-14.9-1", "STUN-14.10-1", "CLI-COT-3", "CLI-FF-6")
def test_realm_and_nonce(c):
    m = c.challenge()
    assert m.get(REALM_) == REALM.encode()
    assert m.get(NONCE).isascii() and 13 < len(m.get(NONCE)) < 128


@covers("STUN-14.9-1", "STUN-9.2.2-1")
def test_quotes_around_the_realm(c):
    """A client that sends the realm in quotes means the realm without them."""
    c.challenge()
    raw = c.sign(build(ALLOCATE, REQUEST, [attribute(RT, UDP), *c.credentials(realm=f'"{REALM}"')]))
    c.send(raw)
    m = Message(c.answer_to(raw))
    c.allocated = m.code == 0
    assert m.code == 0


@covers("TURN-6-1", "N18")
def test_passwords_are_not_kept(server, a):
    """The process holds keys: no password is in its memory."""
    if server.is_sanitized:
        pytest.skip("AddressSanitizer keeps what was freed")
    found = set()
    with open(f"/proc/{server.process.pid}/maps") as maps, \
            open(f"/proc/{server.process.pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if "w" not in rights or "[v" in line:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            if end - start > 64 << 20:
                continue
            try:
                memory.seek(start)
                content = memory.read(end - start)
            except OSError:
                continue
            found |= {p for p in USERS.values() if p.encode() in content}
    assert not found


@covers("STUN-9.2-1")
def test_minted_passwords_have_enough_bits(server):
    minted = server.ctl("credentials", "mint", "alice")
    assert len(base64.b64decode(minted["password"])) * 8 >= 128
