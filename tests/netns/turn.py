"""
A small STUN/TURN client that can be wrong on purpose: every field of a message is the caller's to
set, and every answer is held to what conformance.md asks of all answers (see check_answer).
"""

import base64
import hashlib
import hmac
import ipaddress
import os
import re
import socket
import struct
import time
import zlib

from harness import CLIENTS4, PATIENCE, PORT, REALM, SERVER4, SERVER6, USERS

COOKIE = 0x2112A442

BINDING, ALLOCATE, REFRESH, SEND, DATA_METHOD, CREATE_PERMISSION, CHANNEL_BIND = (
    0x001, 0x003, 0x004, 0x006, 0x007, 0x008, 0x009)
REQUEST, INDICATION, SUCCESS, ERROR = 0x0000, 0x0010, 0x0100, 0x0110

MAPPED_ADDRESS, USERNAME, MI, ERROR_CODE, UNKNOWN_ATTRIBUTES = 0x0001, 0x0006, 0x0008, 0x0009, 0x000A
CHANNEL_NUMBER, LIFETIME, XPA, DATA, REALM_, NONCE, XRA = (
    0x000C, 0x000D, 0x0012, 0x0013, 0x0014, 0x0015, 0x0016)
RAF, EVEN_PORT, RT, DONT_FRAGMENT, MI256, PASSWORD_ALGORITHM, USERHASH = (
    0x0017, 0x0018, 0x0019, 0x001A, 0x001C, 0x001D, 0x001E)
XMA, TOKEN, AAF, ADDRESS_ERROR_CODE, PASSWORD_ALGORITHMS, ICMP, SOFTWARE, FINGERPRINT = (
    0x0020, 0x0022, 0x8000, 0x8001, 0x8002, 0x8004, 0x8022, 0x8028)
MOBILITY_TICKET, ACCESS_TOKEN = 0x8030, 0x001B

MD5, SHA256 = 1, 2

V4, V6 = b"\x01\0\0\0", b"\x02\0\0\0"
UDP = b"\x11\0\0\0"


def attribute(kind, value=b"", length=None, pad=b"\0"):
    """length and pad may be wrong on purpose."""
    length = len(value) if length is None else length
    return struct.pack("!HH", kind, length) + value + pad * (-len(value) % 4)


def message_type(method, message_class):
    return ((method & 0x0F80) << 2 | (method & 0x0070) << 1 | (method & 0x000F) | message_class)


def header(kind, length, tid, cookie=COOKIE):
    return struct.pack("!HHI", kind, length, cookie) + tid


def fingerprint(message):
    """The message with its FINGERPRINT."""
    message = message[:2] + struct.pack("!H", len(message) - 20 + 8) + message[4:]
    crc = zlib.crc32(message) ^ 0x5354554E
    return message + attribute(FINGERPRINT, struct.pack("!I", crc))


def integrity(message, key, kind="sha1", cut=None):
    """The message with MESSAGE-INTEGRITY (sha1) or MESSAGE-INTEGRITY-SHA256; cut truncates it."""
    size = 20 if kind == "sha1" else 32
    size = size if cut is None else cut
    padded = size + -size % 4
    message = message[:2] + struct.pack("!H", len(message) - 20 + 4 + padded) + message[4:]
    digest = hmac.new(key, message, kind).digest()
    value = (digest + bytes(size))[:size]
    return message + attribute(MI if kind == "sha1" else MI256, value)


def build(method, message_class=REQUEST, attributes=b"", tid=None, cookie=COOKIE, length=None):
    if not isinstance(attributes, bytes):
        attributes = b"".join(attributes)
    tid = os.urandom(12) if tid is None else tid
    length = len(attributes) if length is None else length
    return header(message_type(method, message_class), length, tid, cookie) + attributes


def append(message, attributes):
    """Behind all that is there, with the header's length put right."""
    out = message + attributes
    return out[:2] + struct.pack("!H", len(out) - 20) + out[4:]


def u32(value):
    return struct.pack("!I", value)


def xor_address(address, port, tid=bytes(12), family=None, first=0):
    ip = ipaddress.ip_address(address).packed
    mask = struct.pack("!I", COOKIE) + tid
    family = (1 if len(ip) == 4 else 2) if family is None else family
    return struct.pack("!BBH", first, family, port ^ 0x2112) + bytes(
        a ^ b for a, b in zip(ip, mask))


def unxor_address(value, tid):
    mask = struct.pack("!I", COOKIE) + tid
    ip = bytes(a ^ b for a, b in zip(value[4:], mask))
    return str(ipaddress.ip_address(ip)), struct.unpack("!H", value[2:4])[0] ^ 0x2112


def lifetime(seconds):
    return attribute(LIFETIME, u32(seconds))


def channel_number(number, rffu=0):
    return attribute(CHANNEL_NUMBER, struct.pack("!HH", number, rffu))


def channel_data(number, payload, length=None, tail=b""):
    length = len(payload) if length is None else length
    return struct.pack("!HH", number, length) + payload + tail


def long_term_key(user, password, realm=REALM, algorithm=MD5):
    text = f"{user}:{realm}:{password}".encode()
    return hashlib.md5(text).digest() if algorithm == MD5 else hashlib.sha256(text).digest()


def rest_password(username, secret):
    return base64.b64encode(hmac.new(secret.encode(), username.encode(), "sha1").digest()).decode()


class Malformed(AssertionError):
    pass


class Message:
    """A STUN message taken apart; raises Malformed when it does not hold together."""

    def __init__(self, raw):
        self.raw = raw
        if len(raw) < 20:
            raise Malformed(f"{len(raw)} bytes")
        kind, self.length, self.cookie = struct.unpack_from("!HHI", raw)
        self.kind = kind
        self.tid = raw[8:20]
        self.message_class = kind & 0x0110
        self.method = (kind & 0x000F) | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2
        if kind & 0xC000:
            raise Malformed(f"type {kind:04x}")
        if self.length % 4 or self.length + 20 != len(raw):
            raise Malformed(f"length {self.length} of {len(raw)} bytes")
        self.attributes = []  # (type, value, offset)
        self.padding = b""
        at = 20
        while at < len(raw):
            if at + 4 > len(raw):
                raise Malformed("trailing bytes")
            kind, length = struct.unpack_from("!HH", raw, at)
            end = at + 4 + length
            if end > len(raw):
                raise Malformed(f"attribute {kind:04x} ends at {end} of {len(raw)}")
            self.attributes.append((kind, raw[at + 4:end], at))
            at = end + -length % 4
            self.padding += raw[end:at]

    def types(self):
        return [kind for kind, _, _ in self.attributes]

    def all(self, kind):
        return [value for k, value, _ in self.attributes if k == kind]

    def get(self, kind):
        values = self.all(kind)
        return values[0] if values else None

    def address(self, kind):
        value = self.get(kind)
        return None if value is None else unxor_address(value, self.tid)

    def addresses(self, kind):
        return [unxor_address(value, self.tid) for value in self.all(kind)]

    @property
    def code(self):
        """0 for success, else the error code."""
        if self.message_class == SUCCESS:
            return 0
        value = self.get(ERROR_CODE)
        return value[2] * 100 + value[3]

    @property
    def lifetime(self):
        value = self.get(LIFETIME)
        return None if value is None else struct.unpack("!I", value)[0]

    @property
    def unknown(self):
        value = self.get(UNKNOWN_ATTRIBUTES)
        return list(struct.unpack(f"!{len(value) // 2}H", value))

    def integrity_right(self, kind, key):
        number = MI if kind == "sha1" else MI256
        for k, value, at in self.attributes:
            if k == number:
                covered = self.raw[:2] + struct.pack("!H", at - 20 + 4 + len(value)) \
                    + self.raw[4:at]
                return hmac.compare_digest(hmac.new(key, covered, kind).digest(), value)
        return False

    def fingerprint_right(self):
        value, at = next((v, a) for k, v, a in self.attributes if k == FINGERPRINT)
        crc = zlib.crc32(self.raw[:at]) ^ 0x5354554E
        return at + 8 == len(self.raw) and value == struct.pack("!I", crc)

    def __repr__(self):
        what = f"{self.kind:04x}" + (f" {self.code}" if self.message_class == ERROR else "")
        return f"<{what} " + " ".join(f"{k:04x}({len(v)})" for k, v, _ in self.attributes) + ">"


# What each success may carry besides integrity and FINGERPRINT (threat F15).
SUCCESS_ATTRIBUTES = {
    BINDING: {XMA},
    ALLOCATE: {XMA, XRA, LIFETIME, TOKEN, ADDRESS_ERROR_CODE},
    REFRESH: {LIFETIME},
    CREATE_PERMISSION: set(),
    CHANNEL_BIND: set(),
}
CHALLENGE = {REALM_, NONCE, PASSWORD_ALGORITHMS}
NONCE_COOKIE = re.compile(rb"^obMatJos2(AAA[A-D])[\x21\x23-\x5b\x5d-\x7e]*$")
LARGEST_ANSWER = 548

# What is our choice and not the RFC's is not asked of other servers.
STRICT = os.environ.get("TURNPIKE_SERVER", "turnpiked") == "turnpiked"


def as_message(raw):
    try:
        return Message(raw)
    except Malformed:
        return None


def check_answer(raw, request, key=None, kind=None):
    """
    What every answer must have, whatever it says. key: the answer must carry integrity made with
    it, of that kind; None: it must carry none.
    """
    m = Message(raw)
    asked = as_message(request)
    method = Message(request[:2] + b"\0\0" + request[4:20]).method
    types = m.types()

    assert m.message_class in (SUCCESS, ERROR), m
    assert m.method == method and m.tid == request[8:20] and m.cookie == COOKIE, m
    assert len(raw) <= LARGEST_ANSWER, f"{len(raw)} bytes"
    assert not m.padding.strip(b"\0"), f"padding {m.padding.hex()}"
    assert not {USERNAME, USERHASH} & set(types), m
    expected = set()
    if m.message_class == ERROR:
        value = m.get(ERROR_CODE)
        assert len(value) >= 4 and value[0] == 0 and value[1] == 0, value.hex()
        assert 3 <= value[2] <= 6 and value[3] <= 99, value.hex()
        reason = value[4:].decode()
        assert len(reason) < 128 and not reason.endswith("\0"), reason
        expected = {ERROR_CODE}
        if m.code == 420:
            expected |= {UNKNOWN_ATTRIBUTES}
            assert UNKNOWN_ATTRIBUTES in types, m
        if m.code in (401, 438):
            expected |= CHALLENGE
            check_challenge(m)
    else:
        expected = SUCCESS_ATTRIBUTES[method]
    assert not STRICT or set(types) - {MI, MI256, FINGERPRINT} <= expected, m
    check_integrity(m, key, kind)
    if FINGERPRINT in types:
        assert m.fingerprint_right(), m
    if asked and STRICT:
        assert (FINGERPRINT in types) == (FINGERPRINT in asked.types()), m
    return m


def check_challenge(m):
    realm, nonce = m.get(REALM_), m.get(NONCE)
    assert realm and nonce, m
    assert len(realm) < 128 and b'"' not in realm and b"\0" not in realm, realm
    assert len(nonce) < 128, nonce
    if not STRICT:
        return
    cookie = NONCE_COOKIE.match(nonce)
    assert cookie, nonce
    has_algorithms = cookie.group(1) in (b"AAAB", b"AAAD")
    assert has_algorithms == (m.get(PASSWORD_ALGORITHMS) is not None), m


def check_integrity(m, key, kind):
    there = {MI, MI256} & set(m.types())
    if key is None:
        assert not there, f"integrity in an answer that can have none: {m}"
        return
    if m.code == 438 and not there:
        return  # it may be left out there
    assert there == {MI if kind == "sha1" else MI256}, m
    assert m.integrity_right(kind, key), f"wrong integrity: {m}"
    behind = m.types()[m.types().index(there.pop()) + 1:]
    assert behind in ([], [FINGERPRINT]), m


class Client:
    """A TURN client on one socket. Requests raise nothing: they return the checked answer."""

    def __init__(self, lab, address=CLIENTS4[0], server=None, user="alice", password=None,
                 algorithm=None, port=0, fingerprint=False, sock=None):
        self.lab = lab
        self.server = server or ((SERVER6, PORT) if ":" in address else (SERVER4, PORT))
        self.socket = sock or lab.client.udp(address, port)
        self.address = self.socket.getsockname()[:2]
        self.user = user
        self.password = USERS.get(user, "") if password is None else password
        self.algorithm = algorithm  # None: MD5 as RFC 5389 clients do it
        self.fingerprint = fingerprint
        self.realm = REALM
        self.nonce = None
        self.algorithms = None
        self.inbox = []  # what came while an answer was waited for
        self.relays = []
        self.allocated = False

    # ---- requests

    @property
    def key(self):
        return long_term_key(self.user, self.password, self.realm, self.algorithm or MD5)

    @property
    def integrity_kind(self):
        """What answers to this client carry: depends on what it named, not on what it used."""
        return "sha1" if self.algorithm is None else "sha256"

    def credentials(self, user=None, userhash=False, realm=None, nonce=None, pad=b"\0"):
        user = self.user if user is None else user
        user = user if isinstance(user, bytes) else user.encode()
        realm = self.realm if realm is None else realm
        out = []
        if userhash:
            out.append(attribute(USERHASH, hashlib.sha256(user + b":" + realm.encode()).digest()))
        else:
            out.append(attribute(USERNAME, user, pad=pad))
        out.append(attribute(REALM_, realm.encode()))
        out.append(attribute(NONCE, self.nonce if nonce is None else nonce))
        if self.algorithm is not None:
            out.append(attribute(PASSWORD_ALGORITHMS, self.algorithms))
            out.append(attribute(PASSWORD_ALGORITHM, struct.pack("!HH", self.algorithm, 0)))
        return out

    def sign(self, message, key=None, kind=None):
        kind = kind or ("sha1" if self.algorithm in (None, MD5) else "sha256")
        message = integrity(message, key or self.key, kind)
        return fingerprint(message) if self.fingerprint else message

    def signed(self, method, attributes=(), tid=None, kind=None, key=None, **credentials):
        """The bytes of an authenticated request."""
        if self.nonce is None:
            self.challenge()
        message = build(method, REQUEST, [*attributes, *self.credentials(**credentials)], tid)
        return self.sign(message, key, kind)

    def challenge(self, method=ALLOCATE):
        """Asks without credentials; takes realm, nonce and algorithms from the 401."""
        request = build(method, REQUEST, [attribute(RT, UDP)] if method == ALLOCATE else [])
        self.send(request)
        raw = self.answer_to(request, 1)
        if raw is None:  # as every client: a first packet may get lost on the way to a new neighbour
            self.send(request)
            raw = self.answer_to(request)
        assert raw is not None, f"no answer to {request.hex()}"
        m = check_answer(raw, request, None, None)
        assert m.code == 401, m
        self.learn(m)
        return m

    def learn(self, m):
        self.realm = m.get(REALM_).decode()
        self.nonce = m.get(NONCE)
        self.algorithms = m.get(PASSWORD_ALGORITHMS)

    def send(self, raw):
        self.socket.sendto(raw, self.server)

    def take(self, timeout=PATIENCE):
        """The next datagram, from the inbox first; it must come from where we send to."""
        if self.inbox:
            return self.inbox.pop(0)
        self.socket.settimeout(timeout)
        try:
            raw, source = self.socket.recvfrom(65535)
        except (socket.timeout, TimeoutError):
            return None
        assert source[:2] == self.server, f"from {source}, asked {self.server}"
        return raw

    def answer_to(self, request, timeout=PATIENCE):
        """Waits for the answer to these bytes; other datagrams go to the inbox."""
        end = time.monotonic() + timeout
        others = self.inbox
        self.inbox = []
        try:
            while time.monotonic() < end:
                raw = self.take(max(end - time.monotonic(), 0.001))
                if raw is None:
                    return None
                if len(raw) >= 20 and raw[0] < 0x40 and raw[8:20] == request[8:20] \
                        and struct.unpack_from("!H", raw)[0] & 0x0100:
                    return raw
                others.append(raw)
            return None
        finally:
            self.inbox = others

    def ask(self, request, key=None, kind=None):
        """Sends the bytes, returns the checked answer. key and kind as in check_answer()."""
        self.send(request)
        raw = self.answer_to(request)
        assert raw is not None, f"no answer to {request.hex()}"
        return check_answer(raw, request, key, kind)

    def request(self, method, attributes=(), tid=None, expect_signed=True, **credentials):
        """An authenticated request; a stale nonce is renewed once."""
        for attempt in range(2):
            raw = self.signed(method, attributes, tid, **credentials)
            self.send(raw)
            answer = self.answer_to(raw)
            assert answer is not None, f"no answer to {raw.hex()}"
            code = Message(answer).code
            is_signed = expect_signed and code not in (401,)
            m = check_answer(answer, raw, self.key if is_signed else None, self.integrity_kind)
            if code != 438 or attempt:
                return m
            self.learn(m)
        return m

    # ---- TURN

    def allocate(self, *attributes, transport=UDP, tid=None):
        wanted = [] if transport is None else [attribute(RT, transport)]
        m = self.request(ALLOCATE, [*wanted, *attributes], tid)
        if m.code == 0:
            self.relays = m.addresses(XRA)
            self.allocated = True
        return m

    def alloc(self, *attributes):
        """allocate() that must succeed."""
        m = self.allocate(*attributes)
        assert m.code == 0, m
        assert m.address(XMA) == self.address, m.address(XMA)
        assert self.relays and m.lifetime is not None, m
        return m

    @property
    def relay(self):
        return self.relays[0]

    def refresh(self, seconds=None, *attributes):
        wanted = [] if seconds is None else [lifetime(seconds)]
        m = self.request(REFRESH, [*wanted, *attributes])
        if m.code == 0 and m.lifetime == 0 and not attributes:
            self.allocated = False
        return m

    def permit(self, *peers):
        """CreatePermission for addresses."""
        tid = os.urandom(12)
        return self.request(CREATE_PERMISSION,
                            [attribute(XPA, xor_address(p, 0, tid)) for p in peers], tid)

    def perm(self, *peers):
        m = self.permit(*peers)
        assert m.code == 0, m
        return m

    def channel_bind(self, number, peer):
        tid = os.urandom(12)
        return self.request(CHANNEL_BIND,
                            [channel_number(number), attribute(XPA, xor_address(*peer, tid))], tid)

    def bind(self, number, peer):
        m = self.channel_bind(number, peer)
        assert m.code == 0, m
        return m

    def indication(self, peer, payload, *attributes):
        """The bytes of a Send indication."""
        tid = os.urandom(12)
        parts = [] if peer is None else [attribute(XPA, xor_address(*peer, tid))]
        parts += [] if payload is None else [attribute(DATA, payload)]
        message = build(SEND, INDICATION, [*parts, *attributes], tid)
        return fingerprint(message) if self.fingerprint else message

    def send_to(self, peer, payload, *attributes):
        self.send(self.indication(peer, payload, *attributes))

    def send_on(self, number, payload, **wrong):
        self.send(channel_data(number, payload, **wrong))

    def take_data(self, timeout=PATIENCE):
        """The next Data indication: ((address, port), payload), or None."""
        raw = self.take(timeout)
        if raw is None:
            return None
        m = check_data_indication(raw)
        return m.address(XPA), m.get(DATA)

    def take_channel(self, timeout=PATIENCE):
        """The next ChannelData: (number, payload), or None."""
        raw = self.take(timeout)
        if raw is None:
            return None
        assert 0x40 <= raw[0] <= 0x7F, raw.hex()
        number, length = struct.unpack_from("!HH", raw)
        assert length == len(raw) - 4, f"length {length} of {len(raw)} bytes"
        return number, raw[4:]

    # ---- silence

    def binding(self):
        return self.ask(build(BINDING))

    def silent(self):
        """
        Nothing has come and nothing comes of what was sent before: the server answers in order,
        so a Binding's answer is the next datagram. Also shows that the server lives.
        """
        raw = build(BINDING)
        self.send(raw)
        answer = self.take()
        assert answer is not None, "no answer to a Binding request"
        assert answer[8:20] == raw[8:20], f"unexpected: {answer.hex()}"
        return True

    def dropped(self, raw):
        self.send(raw)
        return self.silent()

    def answer_if_any(self, raw):
        """Sends the bytes; what was answered to them, or None, when a Binding behind them is answered."""
        behind = build(BINDING)
        self.send(raw)
        self.send(behind)
        assert self.answer_to(behind) is not None, "no answer to a Binding request"
        return next((self.inbox.pop(n) for n, other in enumerate(self.inbox) if other[8:20] == raw[8:20]), None)

    def close(self):
        """Leaves nothing behind."""
        if self.allocated and self.nonce:
            for _ in range(2):
                raw = self.signed(REFRESH, [lifetime(0)])
                self.send(raw)
                answer = self.answer_to(raw, 3)
                if answer is None or Message(answer).code != 438:
                    break
                self.learn(Message(answer))
            self.allocated = False
        self.socket.close()


def check_data_indication(raw):
    m = Message(raw)
    assert m.kind == 0x0017 and m.cookie == COOKIE, m
    assert set(m.types()) <= {XPA, DATA, ICMP, FINGERPRINT}, m
    assert not m.padding.strip(b"\0"), m
    assert m.get(XPA) is not None and (m.get(DATA) is None) != (m.get(ICMP) is None), m
    if FINGERPRINT in m.types():
        assert m.fingerprint_right(), m
    return m


class Peer:
    """A UDP socket in the peer's namespace."""

    def __init__(self, lab, address, port=0, server=None):
        self.lab = lab
        self.socket = lab.peer.udp(address, port)
        self.address = self.socket.getsockname()[:2]
        self.server = server or ((SERVER6, PORT) if ":" in address else (SERVER4, PORT))

    def send(self, payload, relay):
        self.socket.sendto(payload, relay)

    def take(self, timeout=PATIENCE):
        """The next payload and where it came from, or None."""
        self.socket.settimeout(timeout)
        try:
            payload, source = self.socket.recvfrom(65535)
            return payload, source[:2]
        except (socket.timeout, TimeoutError):
            return None

    def silent(self):
        """
        Nothing has arrived; and what this peer sent before has been dealt with, since the server
        answers a Binding that was sent behind it.
        """
        raw = build(BINDING)
        self.socket.sendto(raw, self.server)
        answer = self.take()
        assert answer is not None, "no answer to a Binding request"
        assert answer[0][8:20] == raw[8:20], f"unexpected: {answer[0].hex()}"
        return True

    def close(self):
        self.socket.close()


__all__ = [name for name in globals() if not name.startswith("_")]
