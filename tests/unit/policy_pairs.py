#!/usr/bin/python3
"""10^5 pairs of address and rule set: what Python's ipaddress says, against policy/ (threat P08).

usage: policy_pairs.py TOOL [SEED]
"""
import random
import subprocess
import sys
from ipaddress import ip_address, ip_network

SETS, RULES, ADDRESSES = 1000, 20, 100

# Written down a second time, so that a slip in the server's table shows.
ALWAYS = """0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/4 240.0.0.0/4
    ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 2001::/32 2002::/16
    fe80::/10 ff00::/8"""
DENIED = """10.0.0.0/8 100.64.0.0/10 168.63.129.16/32 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
    192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15
    198.51.100.0/24 203.0.113.0/24
    ::/0 100::/64 100:0:0:1::/64 2001::/23 2001:2::/48 2001:20::/28 2001:db8::/32
    2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fec0::/10"""
ALLOWED = "0.0.0.0/0 2000::/3"

always = [ip_network(n) for n in ALWAYS.split()]
builtin = [(ip_network(n), False) for n in DENIED.split()]
builtin += [(ip_network(n), True) for n in ALLOWED.split()]
mapped = ip_network("::ffff:0:0/96")


def network(rng, near):
    """A rule's prefix: anywhere, or around or inside of one that is there already."""
    bits = rng.choice((32, 128))
    if near and rng.random() < 0.7:
        base = rng.choice(near)
        bits = base.max_prefixlen
        length = min(bits, max(0, base.prefixlen + rng.randint(-6, 12)))
        value = int(base.network_address) | rng.getrandbits(bits) >> base.prefixlen
    else:
        length = rng.randint(0, bits)
        value = rng.getrandbits(bits)
    value = value >> (bits - length) << (bits - length)
    return ip_network((value, length) if bits == 32 else (ip_address(value.to_bytes(16, "big")), length))


def address(rng, networks):
    """Mostly in, at or just outside the edge of a prefix that matters."""
    base = rng.choice(networks)
    bits = base.max_prefixlen
    first, size = int(base.network_address), 1 << bits - base.prefixlen
    kind = rng.random()
    if kind < 0.5:
        value = first + rng.randrange(size)
    elif kind < 0.9:
        value = rng.choice((first - 1, first, first + size - 1, first + size))
    else:
        value = rng.getrandbits(bits)
    return ip_address((value % (1 << bits)).to_bytes(bits // 8, "big"))


def isatap(peer):
    return peer.version == 6 and int(peer) >> 32 & 0xFDFFFFFF == 0x5EFE


def verdict(peer, rules):
    if any(peer in n for n in always):
        return "deny"
    # The longest; among those the operator's; among those the one that denies.
    found = [(n.prefixlen, 0, not allow) for n, allow in builtin if peer in n]
    found += [(n.prefixlen, 1, not allow) for n, allow in rules if peer in n]
    return "deny" if max(found)[2] else "allow"


def lines(rng):
    for _ in range(SETS):
        rules = []
        near = [n for n, _ in builtin]
        while len(rules) < RULES:
            net = network(rng, near)
            if net.version == 4 or not net.subnet_of(mapped):
                rules.append((net, rng.random() < 0.5))
                near.append(net)
        yield "new"
        for net, allow in rules:
            yield f"{'allow' if allow else 'deny'} {net}"
        near = [n for n, _ in rules] * 3 + always + [n for n, _ in builtin]
        done = 0
        while done < ADDRESSES:
            peer = address(rng, near)
            if not isatap(peer):
                yield f"check {peer} {verdict(peer, rules)}"
                done += 1


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print("seed", seed, flush=True)
    text = "\n".join(lines(random.Random(seed))) + "\n"
    sys.exit(subprocess.run([sys.argv[1]], input=text, text=True).returncode)


main()
