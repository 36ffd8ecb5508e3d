"""Long-term credentials (RFC 8489, 9.2), checked in the order of section 9.2.4."""

import pytest

from harness import *
from rows import covers, table
from turn import *

METHODS = (ALLOCATE, REFRESH, CREATE_PERMISSION, CHANNEL_BIND)


@table("method", *(("TURN-7.2-1+STUN-9.2.4-1+STUN-9.2.4-2+TURN-5-5+N01", m) for m in METHODS))
def test_without_integrity(c, method):
    m = c.ask(build(method, attributes=attribute(RT, UDP)))
    assert m.code == 401
    assert {REALM_, NONCE} <= set(m.types())
    assert not {USERNAME, USERHASH, MI, MI256} & set(m.types())


@covers("STUN-9.2.4-3")
def test_nonces_differ(client):
    asked = [client(CLIENTS4[n % 3]) for n in range(6)]
    for c in asked:
        c.challenge()
    assert len({c.nonce for c in asked}) == len(asked)


@table("address", ("STUN-9.2.4-4+N03", CLIENTS4[0]), ("STUN-9.2.4-4+N03", CLIENTS4[1]))
def test_nonce_of_somebody_else(client, address):
    mine, other = client(), client(address)
    mine.challenge()
    other.nonce, other.algorithms = mine.nonce, mine.algorithms
    raw = other.signed(ALLOCATE, [attribute(RT, UDP)])
    m = other.ask(raw, other.key, "sha1")
    assert m.code == 438 and m.get(NONCE) != mine.nonce
    other.learn(m)
    other.alloc()


@covers("STUN-9.2.4-5", "TURN-5-6")
def test_realm_is_the_configured_one(c):
    assert c.challenge().get(REALM_) == REALM.encode()


@table("leave, integrity_kind", *(("STUN-9.2.4-6+STUN-9.2.4-7", attr, kind)
                                  for attr in (USERNAME, REALM_, NONCE)
                                  for kind in ("sha1", "sha256")))
def test_incomplete_credentials(c, leave, integrity_kind):
    c.challenge()
    parts = [p for p in c.credentials() if struct.unpack_from("!H", p)[0] != leave]
    raw = integrity(build(ALLOCATE, REQUEST, [attribute(RT, UDP), *parts]), c.key, integrity_kind)
    m = c.ask(raw)
    assert m.code == 400 and m.types() == [ERROR_CODE]


@table("user, password",
       ("STUN-9.2.4-8+N09", "nobody", "whatever"),
       ("STUN-9.2.4-9+N09", "alice", "wrong"),
       ("STUN-9.2.4-9+N09", "alice", ""),
       ("STUN-9.2.4-9", "bob", USERS["alice"]),
       ("N09", "Alice", USERS["alice"]))
def test_wrong_user_or_password(client, user, password):
    """All of them look the same."""
    c = client(user=user, password=password)
    m = c.allocate()
    assert m.code == 401
    assert m.types() == [ERROR_CODE, REALM_, NONCE, PASSWORD_ALGORITHMS]


@covers("STUN-9.2.4-9")
def test_one_flipped_bit(a):
    good = a.signed(REFRESH, [lifetime(700)])
    for at in (20, 27, 30, len(good) - 1, len(good) - 20):
        raw = bytearray(good)
        raw[at] ^= 1
        answer = a.answer_if_any(bytes(raw))
        assert answer is None or check_answer(answer, bytes(raw)).code in (400, 401), at
    assert a.refresh().code == 0


@covers("STUN-9.2.4-9")
def test_wrong_realm(c):
    key = long_term_key(c.user, c.password, "else.where")
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)], key=key)
    assert c.ask(raw).code == 401


FORGED = [b"", b"x", b"obMatJos2", b"obMatJos2AAAB", b"obMatJos2AAAA" + b"A" * 20,
          b"obMatJos2AAAD" + b"f" * 40, b"n" * 127, b"n" * 128, b"\xff" * 16, b"a\0b" * 8,
          b"n" * 700]


@table("nonce", *(("STUN-9.2.4-14+STUN-9.2.4-13+N03+STUN-16-2", n) for n in FORGED))
def test_nonce_never_issued(c, nonce):
    c.challenge()
    m = c.request(ALLOCATE, [attribute(RT, UDP)], nonce=nonce)
    assert m.code == 438
    assert m.get(NONCE) != nonce
    c.alloc()


@covers("STUN-9.2.4-14", "N03")
def test_flipped_bits_of_a_nonce(c):
    c.challenge()
    good = c.nonce
    for at in range(len(good)):
        forged = bytearray(good)
        forged[at] ^= 1
        raw = c.signed(ALLOCATE, [attribute(RT, UDP)], nonce=bytes(forged))
        # A changed last base64 character may carry unused bits; the bits for features are
        # protected too, so whatever is changed, nothing is allocated.
        m = c.ask(raw, c.key, "sha1")
        assert m.code in (400, 438), (at, m)


@covers("STUN-9.2.4-11", "DEC-3")
def test_forged_nonce_and_wrong_password(client):
    c = client(password="wrong")
    c.challenge()
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)], nonce=b"obMatJos2AAABforged")
    assert c.ask(raw).code == 401


SHORT_NONCES = pytest.mark.config(auth={"nonce_lifetime": "1 s"})


@SHORT_NONCES
@covers("STUN-9.2.4-10", "TURN-5-7", "STUN-9.2.4-12", "N03", "CLI-NICE-2", "CLI-PJ-2")
def test_nonce_runs_out(client):
    """And with it nothing else: the allocation stays, the retry is served."""
    c, wrong = client(), client(password="wrong")
    c.alloc()
    wrong.challenge()
    time.sleep(2.2)
    old = c.nonce
    m = c.ask(c.signed(REFRESH), c.key, "sha1")
    assert m.code == 438 and m.get(NONCE) != old
    assert wrong.ask(wrong.signed(ALLOCATE, [attribute(RT, UDP)])).code == 401
    c.learn(m)
    assert c.refresh().code == 0


@covers("STUN-9.2.4-15", "STUN-9.2.4-18", "STUN-9.1.3-5")
@pytest.mark.parametrize("algorithm", [None, MD5, SHA256])
def test_answers_to_authenticated_requests_are_signed(client, algorithm):
    """check_answer() demands the integrity that belongs to what the request named."""
    c, other = client(algorithm=algorithm), client(user="bob", algorithm=algorithm)
    assert c.allocate(transport=None).code == 400
    assert c.allocate(transport=b"\x06\0\0\0").code == 442
    assert c.allocate(attribute(RAF, b"\x07\0\0\0")).code == 440
    assert c.allocate(attribute(0x7FF0)).code == 420
    assert c.allocate(attribute(TOKEN, bytes(8))).code == 508
    assert c.refresh().code == 437
    m = c.alloc()
    assert not {REALM_, NONCE, USERNAME, USERHASH} & set(m.types())
    assert c.permit(DENIED_PEER).code == 403
    assert c.permit(PEERS6[0]).code == 443
    assert c.refresh().code == 0
    assert c.allocate().code == 437
    assert other.permit(PEERS4[0]).code == 437


@covers("STUN-9.2.4-16", "DEC-5", "CLI-WEB-3")
def test_sha256_integrity_without_an_algorithm(c):
    """Processed as though MD5 had been named, so the answer has MESSAGE-INTEGRITY."""
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)], kind="sha256")
    m = c.ask(raw, c.key, "sha1")
    c.allocated = m.code == 0
    assert m.code == 0


@covers("STUN-9.2.4-17", "TURN-6-2")
def test_md5_named(client):
    c = client(algorithm=MD5)
    m = c.alloc()
    assert MI256 in m.types() and MI not in m.types()


@covers("STUN-9.2.4-24")
def test_sha256(client, p):
    c = client(algorithm=SHA256)
    c.alloc()
    c.perm(p.address[0])
    c.bind(0x4000, p.address)
    c.send_on(0x4000, b"data")
    assert p.take() == (b"data", c.relay)


@covers("STUN-9.2-3", "STUN-18.1-1", "STUN-9.2.4-20", "DEC-1", "DEC-4", "CLI-JUI-2")
def test_feature_bits(c):
    """Password algorithms and, where names can be resolved, anonymity; erratum 6290's order."""
    m = c.challenge()
    assert m.get(NONCE)[:13] == b"obMatJos2AAAB"  # time-limited names: STUN-14.4-3
    assert m.get(PASSWORD_ALGORITHMS) is not None


@pytest.mark.config(auth={"secrets": []})
@covers("STUN-9.2.4-26", "STUN-18.1-1", "STUN-14.4-1", "CLI-JUI-1")
def test_username_anonymity(client):
    c = client()
    m = c.challenge()
    anonymous = m.get(NONCE)[9:13] == b"AAAD"
    assert anonymous or m.get(NONCE)[9:13] == b"AAAB"
    raw = c.signed(ALLOCATE, [attribute(RT, UDP)], userhash=True)
    c.send(raw)
    answer = Message(c.answer_to(raw))
    c.allocated = answer.code == 0
    assert answer.code == (0 if anonymous else 401)


def algorithms(*numbers):
    return attribute(PASSWORD_ALGORITHMS, b"".join(struct.pack("!HH", n, 0) for n in numbers))


def chosen(number):
    return attribute(PASSWORD_ALGORITHM, struct.pack("!HH", number, 0))


@table("extra",
       ("STUN-9.2.4-21+N04", [chosen(SHA256)]),
       ("STUN-9.2.4-21+N04", [algorithms(SHA256, MD5)]),
       ("STUN-9.2.4-22+N04", [algorithms(MD5, SHA256), chosen(SHA256)]),
       ("STUN-9.2.4-22+N04", [algorithms(SHA256), chosen(SHA256)]),
       ("STUN-9.2.4-22+N04", [algorithms(MD5), chosen(MD5)]),
       ("STUN-9.2.4-22", [algorithms(SHA256, MD5, 3), chosen(SHA256)]),
       ("STUN-9.2.4-23", [algorithms(SHA256, MD5), chosen(3)]),
       ("STUN-9.2.4-23", [algorithms(SHA256, MD5), chosen(0)]),
       ("STUN-9.2.4-23", [algorithms(SHA256, MD5), attribute(PASSWORD_ALGORITHM, b"\0\2")]),
       ("STUN-14.11-1", [attribute(PASSWORD_ALGORITHMS, bytes.fromhex("00010001aa00000000020000")),
                         chosen(SHA256)]),
       ("STUN-14.11-1", [attribute(PASSWORD_ALGORITHMS, bytes.fromhex("0001ffff")), chosen(SHA256)]))
def test_bidding_down(client, extra):
    c = client()
    c.challenge()
    key = long_term_key(c.user, c.password, c.realm, SHA256)
    raw = integrity(build(ALLOCATE, REQUEST, [attribute(RT, UDP), *c.credentials(), *extra]), key,
                    "sha256")
    c.send(raw)
    m = Message(c.answer_to(raw))
    assert m.code == 400, m
    c.alloc()


@covers("STUN-9.2.4-25")
def test_both_integrities_with_the_sha256_key(client):
    c = client(algorithm=SHA256)
    c.challenge()
    bare = build(ALLOCATE, REQUEST, [attribute(RT, UDP), *c.credentials()])
    raw = integrity(integrity(bare, c.key, "sha1"), c.key, "sha256")
    c.allocated = c.ask(raw, c.key, "sha256").code == 0
    assert c.allocated


@table("value", ("STUN-14.4-1", bytes(32)), ("STUN-14.4-1", bytes(31)), ("STUN-14.4-1", b""))
def test_userhash_of_nobody(c, value):
    c.challenge()
    parts = [attribute(RT, UDP), attribute(USERHASH, value), *c.credentials()[1:]]
    raw = c.sign(build(ALLOCATE, REQUEST, parts))
    assert c.ask(raw).code in ((401,) if len(value) == 32 else (400,))


@covers("STUN-14.4-2")
def test_username_and_userhash(c, server):
    """Both, and of different users: the name decides, whose key made the integrity."""
    c.challenge()
    other = hashlib.sha256(f"bob:{REALM}".encode()).digest()
    raw = c.sign(build(ALLOCATE, REQUEST, [attribute(RT, UDP), attribute(USERHASH, other),
                                           *c.credentials()]))
    assert c.ask(raw, c.key, "sha1").code == 0
    c.allocated = True
    assert [a["user"] for a in server.ctl("allocations", "list")["allocations"]] == ["alice"]
    bob = long_term_key("bob", USERS["bob"])
    raw = c.sign(build(REFRESH, REQUEST, [attribute(USERHASH, other), *c.credentials()]), bob)
    assert c.ask(raw).code == 401


@covers("STUN-14.4-3")
def test_no_anonymity_beside_time_limited_names(c):
    assert c.challenge().get(NONCE)[9:13] == b"AAAB"


@covers("STUN-9.2-5")
def test_integrity_of_indications_is_not_checked(a, p):
    a.perm(p.address[0])
    a.send(append(a.indication(p.address, b"data"), attribute(MI, b"junk" * 5)))
    assert p.take() == (b"data", a.relay)


@table("method, extra",
       ("TURN-5-8+N12", REFRESH, [lifetime(0)]),
       ("TURN-5-8+N12", CREATE_PERMISSION, [attribute(XPA, xor_address(PEERS4[0], 0))]),
       ("TURN-5-8+N12", CHANNEL_BIND, [channel_number(0x4000),
                                       attribute(XPA, xor_address(PEERS4[0], 1000))]))
def test_another_users_allocation(client, method, extra, peer):
    owner = client()
    owner.alloc()
    thief = client(user="bob", sock=owner.socket)
    assert thief.request(method, extra).code == 441
    assert thief.allocate().code == 437
    assert owner.refresh().code == 0
    owner.send_on(0x4000, b"no channel")
    p = peer(PEERS4[0], 1000)
    owner.send_to(p.address, b"no permission")
    assert owner.silent() and p.silent()


@table("method, extra",
       ("TURN-5-9+N12+TURN-5-15", REFRESH, [lifetime(0)]),
       ("TURN-5-9+N12+TURN-5-15", CREATE_PERMISSION, [attribute(XPA, xor_address(PEERS4[0], 0))]),
       ("TURN-5-9+N12+TURN-5-15", CHANNEL_BIND, [channel_number(0x4000),
                                                 attribute(XPA, xor_address(PEERS4[0], 1000))]))
def test_no_allocation_comes_before_wrong_user(client, a, method, extra):
    for user in ("alice", "bob"):
        assert client(user=user).request(method, extra).code == 437
    assert a.refresh().code == 0


@covers("CRED-2")
def test_failed_authentication_changes_nothing(a):
    a.password, right = "wrong", a.password
    assert a.refresh(0).code == 401
    a.password, a.allocated = right, True
    assert a.refresh().code == 0


@covers("N02")
def test_nonces_are_not_predictable(client):
    c = client()
    seen = [c.challenge().get(NONCE) for _ in range(300)]
    other = client()
    seen += [other.challenge().get(NONCE) for _ in range(300)]
    assert not set(seen[:300]) & set(seen[300:])
    # What nonces of the same second share is at most the time in them, never the code behind it.
    assert seen[0][-16:] != seen[300][-16:]


@covers("N05")
def test_origin_does_not_choose_the_realm(c):
    for n in range(100):
        m = c.ask(build(ALLOCATE, attributes=[attribute(RT, UDP),
                                              attribute(0x802F, f"realm{n}.example".encode())]))
        assert m.get(REALM_) == REALM.encode()
