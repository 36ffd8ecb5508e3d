"""STUN message parsing and framing (RFC 8489, sections 5, 6 and 14)."""

import pytest

from harness import *
from rows import covers, table
from turn import *

TID = bytes(range(12))


def binding(attributes=b"", **wrong):
    return build(BINDING, REQUEST, attributes, TID, **wrong)


@table("raw",
       ("STUN-5-1", header(0x8001, 0, TID)),
       ("STUN-5-1", header(0xC001, 0, TID)),
       ("STUN-5-2", build(BINDING, cookie=0x2112A443)),
       ("STUN-6.3-1", binding(b"\0", length=1)),
       ("STUN-6.3-1", binding(b"\0\0", length=2)),
       ("STUN-6.3-1", binding(b"\0\0\0", length=3)),
       ("STUN-6.3-2", binding(length=8)),
       ("STUN-6.3-2", binding(length=0xFFFC)),
       ("STUN-6.3-3", binding(b"junk", length=0)),
       *(("STUN-6.3-4", binding()[:n]) for n in (0, 1, 3, 4, 19)),
       *(("STUN-6.3-5", build(m)) for m in (0x002, 0x005, 0x080, 0x0FF, 0xFFF)),
       ("MUX-9.1-1", build(0x100)),
       *(("MUX-7-2+TURN-12-T3", bytes([n]) + binding()[1:])
         for n in (4, 15, 16, 19, 20, 63, 80, 127, 192, 255)),
       ("MUX-7-3", bytes([0x80, 0x60]) + os.urandom(170)),
       *(("STUN-6.3-6", header(kind, 0, TID)) for kind in (0x0013, 0x0014, 0x0006, 0x0007, 0x0017)),
       *(("STUN-6.3-7+L03", header(kind, 0, TID))
         for kind in (0x0101, 0x0111, 0x0103, 0x0113, 0x0118, 0x0104, 0x0109)),
       ("STUN-6.3.2-2", build(BINDING, INDICATION)),
       ("STUN-6.3.2-2", build(SEND, INDICATION)),
       ("STUN-6.3.2-2", build(SEND, INDICATION, attribute(0x7FF0, b"bad"))),
       ("STUN-14-5", binding(attribute(LIFETIME, b"", length=0xFFFF))),
       ("STUN-14-5", binding(attribute(LIFETIME, b"abcd", length=8))),
       ("STUN-14-5", binding(attribute(SOFTWARE, b"abcd") + b"\x80\x22\0\1")),
       ("STUN-14-5", binding(b"\0\x0d\0\4")))
def test_dropped(c, a, raw):
    """Nothing is said about it, on a fresh 5-tuple and on one with an allocation."""
    assert c.dropped(raw)
    assert a.dropped(raw)
    assert a.refresh().code == 0


@table("tid", ("STUN-5-3", bytes(12)), ("STUN-5-3", b"\xff" * 12), ("STUN-5-3", os.urandom(12)))
def test_transaction_id(c, tid):
    assert c.ask(build(BINDING, tid=tid)).tid == tid


@covers("STUN-5-5", "STUN-5-2", "STUN-5-4", "CLI-WEB-10", "STUN-14.8-1", "STUN-14.8-2", "STUN-14-2", "STUN-14.13-2")
def test_shape(c):
    """check_answer() holds every answer of the suite to this; here the bytes themselves."""
    ok = c.binding()
    assert ok.raw[:2] == b"\x01\x01" and ok.raw[4:8] == b"\x21\x12\xa4\x42"
    assert ok.length + 20 == len(ok.raw) and ok.length % 4 == 0
    error = c.ask(build(BINDING, attributes=attribute(0x7FF0)))
    assert error.raw[:2] == b"\x01\x11"
    assert error.get(ERROR_CODE)[:4] == b"\0\0\x04\x14"
    unauthenticated = c.challenge()
    assert unauthenticated.raw[:2] == b"\x01\x13"
    assert unauthenticated.get(ERROR_CODE)[:4] == b"\0\0\x04\x01"
    assert not ok.padding.strip(b"\0") and not unauthenticated.padding.strip(b"\0")
    c.nonce = b"obMatJos2AAABnonsense"
    raw = c.signed(REFRESH)
    stale = c.ask(raw, c.key, "sha1")
    assert stale.get(ERROR_CODE)[:4] == b"\0\0\x04\x26"


@table("kind, value", *(("STUN-6.3-8", k, bytes(n))
                        for k in (0x8FFF, 0xC123, 0xFF05) for n in (0, 1, 5, 200)))
def test_unknown_optional_attributes(c, kind, value):
    assert c.ask(build(BINDING, attributes=attribute(kind, value))).code == 0


@table("extra",
       ("STUN-6.3-9", lifetime(600)),
       ("STUN-6.3-9", channel_number(0x4000)),
       ("STUN-6.3-9", attribute(XMA, xor_address("192.0.2.1", 9))),
       ("STUN-6.3-9", attribute(ERROR_CODE, b"\0\0\4\1")),
       ("STUN-6.1-2", attribute(SOFTWARE, b"s")),
       ("STUN-6.1-2", attribute(SOFTWARE, b"s" * 508)),
       ("STUN-6.1-2", attribute(SOFTWARE, b"s" * 763)))
def test_unexpected_attributes(c, extra):
    assert c.ask(build(BINDING, attributes=extra)).code == 0


@covers("STUN-6.3-10")
def test_authentication_before_unknown_attributes(c):
    unknown = attribute(0x7FF0, b"what")
    assert c.ask(build(ALLOCATE, attributes=[attribute(RT, UDP), unknown])).code == 401
    m = c.allocate(unknown)
    assert m.code == 420 and m.unknown == [0x7FF0]


@table("kinds, length",
       ("STUN-6.3.1-1+STUN-14.13-1", [0x0030], 2),
       ("STUN-6.3.1-1+STUN-14.13-1", [0x0030, 0x7FFF, 0x4000], 6),
       ("F11", [0x0030, 0x0030, 0x0031, 0x0030], 4))
def test_unknown_attributes(c, kinds, length):
    m = c.ask(build(BINDING, attributes=[attribute(k) for k in kinds]))
    assert m.code == 420
    assert m.unknown == list(dict.fromkeys(kinds))
    assert len(m.get(UNKNOWN_ATTRIBUTES)) == length


@table("count", ("STUN-6.3.1-2+F11", 60), ("STUN-6.3.1-2+F11", 120), ("STUN-6.3.1-2+F11", 300))
def test_many_unknown_attributes(c, count):
    """More attributes than an honest client sends may be dropped; a 420 must stay small."""
    raw = build(BINDING, attributes=[attribute(0x0030 + n) for n in range(count)])
    answer = c.answer_if_any(raw)
    if answer is not None or count <= 60:
        m = check_answer(answer, raw)
        assert m.code == 420 and len(answer) <= len(raw)
        assert set(m.unknown) <= {0x0030 + n for n in range(count)}
    assert c.silent()


@covers("STUN-6.3.2-1")
def test_unknown_attribute_in_indication(a, p):
    a.perm(p.address[0])
    assert a.dropped(a.indication(p.address, b"no", attribute(0x7FF0)))
    a.send_to(p.address, b"yes", attribute(0xC001, b"optional"))
    assert p.take() == (b"yes", a.relay)


@table("user", *(("STUN-14-1", u) for u in ("x", "xy", "xyz", "alice")))
def test_username_lengths(client, user):
    client(user=user).alloc()


@table("pad", ("STUN-14-3", b"\xff"), ("STUN-14-3", b"\x20"))
def test_padding_is_ignored(client, pad):
    c = client(user="xyz")
    assert c.request(ALLOCATE, [attribute(RT, UDP)], pad=pad).code == 0
    c.allocated = True


@covers("STUN-14-4", "P21")
def test_first_of_duplicates_counts(a, peer):
    p1, p2 = peer(PEERS4[0]), peer(PEERS4[1])
    a.perm(PEERS4[0], PEERS4[1])
    tid = os.urandom(12)
    a.send(build(SEND, INDICATION, [attribute(XPA, xor_address(*p1.address, tid)),
                                    attribute(XPA, xor_address(*p2.address, tid)),
                                    attribute(DATA, b"one"), attribute(DATA, b"two")], tid))
    assert p1.take() == (b"one", a.relay)
    assert p2.silent() and p1.silent()
    m = a.request(REFRESH, [lifetime(700), lifetime(0)])
    assert m.code == 0 and m.lifetime == 700
    tid = os.urandom(12)
    m = a.request(CHANNEL_BIND, [channel_number(0x4000), channel_number(0x4001),
                                 attribute(XPA, xor_address(*p1.address, tid))], tid)
    assert m.code == 0
    a.send_on(0x4001, b"no")
    a.send_on(0x4000, b"yes")
    assert p1.take() == (b"yes", a.relay)


@covers("P21")
def test_denied_first_address_of_send(a, p):
    a.perm(p.address[0])
    tid = os.urandom(12)
    assert a.dropped(build(SEND, INDICATION, [attribute(XPA, xor_address(DENIED_PEER, 9, tid)),
                                              attribute(XPA, xor_address(*p.address, tid)),
                                              attribute(DATA, b"no")], tid))
    assert p.silent()


@covers("STUN-14.1-1")
def test_first_byte_of_addresses_is_ignored(a, p):
    tid = os.urandom(12)
    m = a.request(CHANNEL_BIND, [channel_number(0x4000),
                                 attribute(XPA, xor_address(*p.address, tid, first=0xAA))], tid)
    assert m.code == 0
    a.send_on(0x4000, b"there")
    assert p.take() == (b"there", a.relay)


WRONG_ADDRESSES = [
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9, family=0)),
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9, family=3)),
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9, family=0xFF)),
    ("STUN-14.1-2+P19", xor_address(PEERS6[0], 9, family=1)),
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9, family=2)),
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9)[:4]),
    ("STUN-14.1-2+P19", xor_address(PEERS4[0], 9)[:5]),
    ("STUN-14.1-2+P19", b""),
]


@table("value", *WRONG_ADDRESSES)
def test_wrong_address(a, p, value):
    assert a.request(CREATE_PERMISSION, [attribute(XPA, value)]).code == 400
    assert a.request(CHANNEL_BIND, [channel_number(0x4000), attribute(XPA, value)]).code == 400
    assert a.dropped(build(SEND, INDICATION, [attribute(XPA, value), attribute(DATA, b"no")]))
    assert p.silent()


@pytest.mark.config(realm="r" * 127)
@covers("STUN-6.1-1")
def test_largest_challenge(c):
    assert len(c.challenge().raw) <= 548
    assert c.realm == "r" * 127


@covers("STUN-6.2-1")
def test_many_requests_at_once(c):
    asked = [build(BINDING) for _ in range(100)]
    for raw in asked:
        c.send(raw)
    answered = {Message(c.take()).tid for _ in asked}
    assert answered == {raw[8:20] for raw in asked}


@table("asked", ("STUN-6.3.1.2-1", (SERVER4, PORT)), ("STUN-6.3.1.2-1", (SERVER4B, PORT)),
       ("STUN-6.3.1.2-1", (SERVER6, PORT)))
def test_answers_come_from_where_one_asked(client, asked):
    c = client(CLIENTS6[0] if ":" in asked[0] else CLIENTS4[0], asked)
    c.socket.connect(asked)
    c.send = c.socket.send
    c.binding()
    c.alloc()
    assert c.refresh().code == 0


@covers("STUN-6.3.1-3", "STUN-6.3.1.2-2")
def test_same_binding_twice(c):
    raw = build(BINDING)
    assert c.ask(raw).raw == c.ask(raw).raw


@covers("STUN-16.1.2-1", "STUN-14.14-1", "F15", "TURN-21.1.6-1")
def test_no_software(c):
    """The option is off and cannot be turned on: versions are nobody's business."""
    answers = [c.binding(), c.challenge(), c.alloc(), c.refresh(), c.allocate()]
    assert not any(SOFTWARE in m.types() for m in answers)
    assert all(len(m.get(ERROR_CODE)) == 4 for m in answers if m.code)


@covers("STUN-14-6")
def test_empty_attributes(c, p):
    c.alloc(attribute(DONT_FRAGMENT), attribute(0xC000))
    c.perm(p.address[0])
    c.send_to(p.address, b"")
    assert p.take() == (b"", c.relay)
