#!/usr/bin/python3
"""Writes the first inputs of every fuzz target: what honest clients, servers and operators send.

tests/fuzz/seeds.py FOLDER      one folder per target in there
"""
import json
import pathlib
import random
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "netns"))
sys.dont_write_bytecode = True
import turn  # noqa: E402

CONFIG = """\
realm: example.org
listen:
  - {transport: udp, address: 192.0.2.1, port: 3478}
relay:
  addresses:
    - address: 192.0.2.1
      external: 203.0.113.1
    - address: 2001:db8::1
  ports: 49152-65535
auth:
  users:
    - {name: alice, password: alice-has-a-long-password}
  users_file: users
  secrets: [north-secret-of-thirty-two-bytes]
  secrets_file: secrets
  nonce_lifetime: 10 min
peers:
  allow: [10.0.0.0/8, "2001:db8::/32"]
  deny: [192.0.2.66]
limits:
  allocations: 1000
  allocations_per_user: 10
  permissions_per_allocation: 10
  channels_per_allocation: 10
  unauthenticated_replies_per_source: 500/s
  lifetime_default: 600 s
  lifetime_max: 1 h
  permission_lifetime: 300 s
  channel_lifetime: 600 s
compat: {rfc5766_channels: true}
dataplane: {engine: auto, interfaces: [eth0], xdp_mode: native, flows: 4096}
control: {socket: /run/turnpike/control.sock, group: turnpike}
log: {level: info, format: json}
"""

LINES = [
    '{"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"name": "x", "count": 3}}',
    '{"jsonrpc": "2.0", "id": "a", "method": "refuse", "params": {"name": "\\u00e9"}}',
    '{"jsonrpc": "2.0", "method": "none"}',
    '{"jsonrpc": "2.0", "id": null, "method": "absent"}',
    "[]",
    "{",
]

DOCUMENTS = [
    {"version": "1", "engine": "xdp", "engine_reason": "asked", "workers": 1, "draining": False,
     "interfaces": [{"name": "eth0", "mode": "native", "attached": False}], "uptime_s": 5,
     "allocations": 1, "allocations_limit": 2, "flows": 3, "flows_limit": 4,
     "warnings": ["\u001b[2J"]},
    {"directions": {"client_to_peer": {"packets": 1, "bytes": 2}, "peer_to_client": {}},
     "slow_path": {"packets": 1, "bytes": 2}, "workers": [{"directions": {}}],
     "verdicts": {"relayed": 1}, "requests": {"allocate": {"0": 1, "437": 2}}},
    {"allocations": [{"id": 1, "user": "alice", "client": "192.0.2.1:1", "relay": "192.0.2.2:2",
                      "lifetime_s": 100000, "permissions": [{}], "channels": [{}],
                      "sent": {"packets": 1}, "received": {"packets": 1}}]},
    {"id": 1, "user": "a", "transport": "udp", "client": "c", "relay": "r", "relay_additional": "s",
     "lifetime_s": 1, "sent": {"packets": 1, "bytes": 1}, "received": {},
     "permissions": [{"peer": "p", "expires_s": 1}],
     "channels": [{"number": 16384, "peer": "p:1", "expires_s": 1}]},
    {"flows": [{"slot": 1, "kind": "peer", "in": {"remote": "a", "local": "b", "channel": 0},
                "out": {"remote": "a", "local": "b", "channel": 16384}, "expires_s": 1,
                "allocation": 1, "next_hop": 2, "packets": 3, "bytes": 4}]},
    {"differences": 1, "details": ["\u009b", 7]},
    {"address": "192.0.2.1", "allowed": True, "rule": "none", "relays_only": True},
    {"username": "1700000000:a", "password": "p", "expires_at": 1700000000},
]


def messages():
    tid = bytes(range(12))
    peer = turn.attribute(turn.XPA, turn.xor_address("192.0.2.9", 9, tid))
    peer6 = turn.attribute(turn.XPA, turn.xor_address("2001:db8::9", 9, tid))
    bodies = [
        (turn.BINDING, b""),
        (turn.ALLOCATE, turn.attribute(turn.RT, turn.UDP) + turn.attribute(turn.EVEN_PORT, b"\x80")),
        (turn.ALLOCATE, turn.attribute(turn.RT, turn.UDP) + turn.attribute(turn.AAF, turn.V6)),
        (turn.REFRESH, turn.lifetime(600)),
        (turn.CREATE_PERMISSION, peer + peer6),
        (turn.CHANNEL_BIND, turn.channel_number(0x4000) + peer),
        (turn.BINDING, turn.attribute(0x7777, b"abc")),
    ]
    for method, body in bodies:
        plain = turn.build(method, turn.REQUEST, body, tid)
        yield plain
        for kind in ("sha1", "sha256"):
            yield turn.fingerprint(turn.integrity(plain, b"0123456789abcde\0", kind))
    yield turn.build(turn.SEND, turn.INDICATION, peer + turn.attribute(turn.DATA, b"hello"), tid)


def links():
    """RTM_NEWLINK of eth0 and of a VLAN on it, RTM_NEWADDR, RTM_NEWNEIGH, RTM_NEWROUTE."""
    def attr(kind, value):
        return struct.pack("=HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)

    def message(kind, body):
        return struct.pack("=IHHII", len(body) + 16, kind, 0, 0, 0) + body

    up = 0x1 | 0x40
    mac = attr(1, b"\2\0\0\0\0\1")
    vlan = attr(18, attr(1, b"vlan\0") + attr(2, attr(1, struct.pack("=H", 7))))
    hop = struct.pack("=HBBI", 16, 0, 0, 2) + attr(5, b"\xc0\0\2\1")
    yield message(16, struct.pack("=BxHiII", 0, 1, 2, up, 0) + mac + attr(4, struct.pack("=I", 1500)))
    yield message(16, struct.pack("=BxHiII", 0, 1, 4, up, 0) + mac + attr(5, struct.pack("=I", 2)) + vlan)
    yield message(20, struct.pack("=BBBBI", 2, 24, 0, 0, 2) + attr(1, b"\xc0\0\2\1")
                  + attr(2, b"\xc0\0\2\1") + attr(4, b"\xc0\0\2\xff"))
    yield message(28, struct.pack("=BxxxiHBB", 2, 2, 2, 0, 1) + attr(1, b"\xc0\0\2\1") + attr(2, b"\2\0\0\0\0\1"))
    yield message(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0)
                  + attr(4, struct.pack("=I", 2)) + attr(5, b"\xc0\0\2\1")
                  + attr(8, attr(2, struct.pack("=I", 1400))))
    yield message(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + attr(9, hop + hop))
    yield message(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0)
                  + attr(18, struct.pack("=H", 10) + bytes(16)))
    # The last attribute is too short.
    link = struct.pack("=BxHiII", 0, 1, 2, up, 0)
    for kind in (1, 4, 5, 18):
        yield message(16, link + attr(kind, b""))
    for kind in (4, 5, 8, 9, 18):
        yield message(24, struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 254, 0, 0, 1, 0) + attr(kind, b""))


def sessions():
    """Op streams of fuzz_turn: allocate, permit, bind, talk, and random ones."""
    def peer(n):
        return bytes([0, n])

    allocate = bytes([0, 1, 0, 0])
    permit = bytes([1, 1]) + peer(0) + b"\0"
    bind = bytes([2, 2, 3, 1]) + peer(0) + b"\0"
    talk = bytes([8, 1, 5]) + b"hello\0" + bytes([12, 0, 0, 5]) + b"hello\x40"
    send = bytes([10, 2]) + peer(0) + bytes([13, 5]) + b"hello\x40"
    yield b"\0" + allocate + permit + bind + talk + send
    yield b"\x08" + allocate + permit + bind + talk + bytes([15, 5])
    dice = random.Random(1)
    for length in (64, 256, 1024):
        yield dice.randbytes(length)


def seeds():
    stun = list(messages())
    links_ = list(links())
    return {
        "stun": stun,
        "auth": [bytes(64), bytes([0, 0, 0, 0, 0, 0, 1, 2]) + bytes(16),
                 bytes([0, 3, 0x44]) + b"name" + bytes(8), bytes([0, 0, 0, 0, 0, 2, 1]) + bytes(8)],
        "turn": list(sessions()),
        "core": [bytes([m, 1]) + bytes(8) for m in range(2)] + [bytes([m]) + bytes(12) for m in range(2)]
        + [b"\2" + bytes(12) + b"\x08\0\x45" + bytes(40), b"\3" + bytes(12) + b"\x86\xdd\x60" + bytes(60)],
        "config": [(CONFIG + "\xff- {name: bob, password: bob-has-one-of-his-own}\n"
                    "\xffsouth-secret-of-thirty-two-bytes\n").encode("latin-1"),
                   b"realm: [", b"\xfe-c\nfile\n--check", b"\xfe--config=x\n-V"],
        "rpc": [b"\0" + "\n".join(LINES).encode(), b"\1" + LINES[0].encode() + b"\n",
                b"\x81" + LINES[1].encode() + b"\n\n" + LINES[2].encode() + b"\n"],
        "ctl": [json.dumps(d).encode() for d in DOCUMENTS],
        "netlink": links_ + [b"".join(links_)],
    }


def main():
    for target, inputs in seeds().items():
        folder = pathlib.Path(sys.argv[1]) / target
        folder.mkdir(parents=True, exist_ok=True)
        for n, data in enumerate(inputs):
            (folder / f"seed-{n}").write_bytes(data)


if __name__ == "__main__":
    main()
