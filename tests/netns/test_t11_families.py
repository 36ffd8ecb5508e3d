"""Address families and dual allocations (RFC 8656, sections 7, 8; formerly RFC 6156)."""

import pytest

from harness import *
from rows import covers, table
from turn import *

FAMILY = {V4: RELAY4, V6: RELAY6}


@table("address, wish, relay",
       ("TURN-7.2-7a", CLIENTS4[0], None, RELAY4),
       ("TURN-7.2-7a", CLIENTS6[0], None, RELAY4),
       *(("TURN-7.2-7d+TURN-18.6-1", address, wish, FAMILY[wish[:1] + bytes(3)])
         for address in (CLIENTS4[0], CLIENTS6[0])
         for wish in (V4, V6, b"\1\xaa\xbb\xcc", b"\2\xaa\xbb\xcc")))
def test_family(client, address, wish, relay):
    c = client(address)
    c.alloc(*([attribute(RAF, wish)] if wish else []))
    assert [r[0] for r in c.relays] == [relay]


@table("attributes, code",
       *(("TURN-7.2-7c+DEC-13", [attribute(RAF, bytes([n, 0, 0, 0]))], 440) for n in (0, 3, 255)),
       *(("TURN-18.6-2", [attribute(RAF, bytes([1]) * n)], 400) for n in (0, 1, 8)),
       ("TURN-7.2-5a", [attribute(RAF, V4), attribute(TOKEN, bytes(8))], 400),
       ("TURN-7.2-5a", [attribute(AAF, V6), attribute(TOKEN, bytes(8))], 400),
       ("TURN-7.2-6", [attribute(RAF, V4), attribute(AAF, V6)], 400),
       ("TURN-7.2-6", [attribute(AAF, V6), attribute(RAF, V6)], 400),
       ("TURN-7.2-9a", [attribute(AAF, V4)], 400),
       ("TURN-7.2-8a", [attribute(AAF, V6), attribute(EVEN_PORT, b"\x80")], 400),
       ("F13", [attribute(EVEN_PORT, b"\x80"), attribute(AAF, V6)], 400))
def test_refused(c, attributes, code):
    assert c.allocate(*attributes).code == code
    c.alloc()


@covers("TURN-7.1-1")
def test_two_families(c):
    m = c.allocate(attribute(RAF, V6), attribute(RAF, V4))
    assert m.code == 400 or c.relay[0] == RELAY6


@covers("TURN-7.2-9b")
def test_dual(client):
    for address in (CLIENTS4[0], CLIENTS6[0]):
        c = client(address)
        m = c.alloc(attribute(AAF, V6))
        assert sorted(r[0] for r in c.relays) == [RELAY6, RELAY4]
        assert ADDRESS_ERROR_CODE not in m.types()


@covers("TURN-7.2-8a")
def test_dual_with_even_ports(c):
    m = c.alloc(attribute(AAF, V6), attribute(EVEN_PORT, b"\0"))
    assert len(c.relays) == 2 and all(r[1] % 2 == 0 for r in c.relays)
    assert TOKEN not in m.types()


def only(address, ports="49152-65535"):
    return pytest.mark.config(relay={"addresses": [{"address": address}], "ports": ports})


@only(RELAY4)
@covers("TURN-7.2-9c", "TURN-18.12-1", "TURN-7.2-7c")
def test_server_without_ipv6(client):
    c = client()
    assert client().allocate(attribute(RAF, V6)).code == 440
    m = c.alloc(attribute(AAF, V6))
    assert [r[0] for r in c.relays] == [RELAY4]
    assert m.get(ADDRESS_ERROR_CODE)[:4] == b"\2\0\4\x28"


@only(RELAY6)
@covers("TURN-7.2-9c", "TURN-7.2-7b", "TURN-18.12-1", "TURN-7.2-7d")
def test_server_without_ipv4(client):
    c = client()
    assert client().allocate().code == 440
    assert client().allocate(attribute(RAF, V4)).code == 440
    client().alloc(attribute(RAF, V6))
    m = c.alloc(attribute(AAF, V6))
    assert [r[0] for r in c.relays] == [RELAY6]
    assert m.get(ADDRESS_ERROR_CODE)[:4] == b"\1\0\4\x28"


@pytest.mark.fresh
@pytest.mark.config(relay={"ports": "50000-50001"})
@covers("TURN-7.2-9c", "TURN-7.2-9d", "TURN-18.12-1")
def test_one_family_is_exhausted(client):
    six = [client() for _ in range(2)]
    for c in six:
        c.alloc(attribute(RAF, V6))
    c = client()
    m = c.alloc(attribute(AAF, V6))
    assert [r[0] for r in c.relays] == [RELAY4]
    assert m.get(ADDRESS_ERROR_CODE)[:4] == b"\2\0\5\x08"
    client().alloc(attribute(RAF, V4))
    assert client().allocate(attribute(AAF, V6)).code == 508


@covers("TURN-8.2-3", "TURN-8.1-2", "TURN-8.2-4", "TURN-8.1-1")
def test_each_family_has_its_own_life(client, peer):
    c = client()
    p4, p6 = peer(PEERS4[0]), peer(PEERS6[0])
    c.alloc(attribute(AAF, V6))
    relay = {":" in r[0]: r for r in c.relays}
    c.bind(0x4000, p4.address)
    assert c.channel_bind(0x4000, p6.address).code == 400
    c.bind(0x4001, p6.address)
    c.send_on(0x4000, b"four")
    c.send_on(0x4001, b"six")
    assert p4.take() == (b"four", relay[False]) and p6.take() == (b"six", relay[True])
    m = c.refresh(0, attribute(RAF, V6))
    assert m.code == 0 and m.lifetime == 0
    c.send_on(0x4001, b"gone")
    p6.send(b"gone", relay[True])
    assert c.silent() and p6.silent()
    c.send_on(0x4000, b"four still")
    assert p4.take() == (b"four still", relay[False])
    p4.send(b"down", relay[False])
    assert c.take_channel() == (0x4000, b"down")
    assert c.refresh(None, attribute(RAF, V6)).code == 443
    assert c.permit(p6.address[0]).code == 443
    assert c.refresh(0).code == 0
    assert c.refresh().code == 437


@covers("TURN-8.1-1")
def test_refresh_of_both(c):
    c.alloc(attribute(AAF, V6))
    assert c.refresh(0).code == 0
    assert c.refresh().code == 437


@covers("TURN-8.2-4", "TURN-8.2-5")
def test_refresh_with_a_family(a):
    assert a.refresh(700, attribute(RAF, V6)).code == 443
    assert a.refresh(700, attribute(RAF, V4)).lifetime == 700


@covers("TURN-10.2-2", "TURN-12.2-2", "TURN-11.2-0", "P19")
def test_peer_of_another_family(client, peer):
    p4, p6 = peer(PEERS4[0]), peer(PEERS6[0])
    four, six, dual = client(), client(), client()
    four.alloc()
    six.alloc(attribute(RAF, V6))
    dual.alloc(attribute(AAF, V6))
    for c, wrong in ((four, p6), (six, p4)):
        assert c.permit(wrong.address[0]).code == 443
        assert c.channel_bind(0x4000, wrong.address).code == 443
        c.send_to(wrong.address, b"no")
        assert c.silent() and wrong.silent()
    dual.perm(p4.address[0], p6.address[0])
    for p in (p4, p6):
        dual.send_to(p.address, b"both")
        assert p.take()[0] == b"both"


@table("mapped", ("TURN-11-P1+P03", "::ffff:127.0.0.1"), ("TURN-11-P1+P04", "::ffff:8.8.8.8"),
       ("TURN-11-P1+P03", "::ffff:" + PEERS4[0]), ("TURN-11-P1+P03", "::ffff:" + DENIED_PEER))
def test_mapped_addresses(client, a, p, mapped):
    six = client()
    six.alloc(attribute(RAF, V6))
    assert a.permit(mapped).code in (403, 443)
    assert six.permit(mapped).code == 403
    assert six.channel_bind(0x4000, (mapped, 9)).code == 403
    six.send_to((mapped, p.address[1]), b"no")
    assert six.silent() and p.silent()


COMBINATIONS = [(client, peer) for client in (CLIENTS4[0], CLIENTS6[0])
                for peer in (PEERS4[0], PEERS6[0])]


@table("address, peer_address", *(("TURN-5-13", *pair) for pair in COMBINATIONS))
def test_data_across_families(client, peer, address, peer_address):
    c, p = client(address), peer(peer_address)
    c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
    c.perm(peer_address)
    sizes = (0, 1, 2, 3, 4, 5, 63, 100, 999, 1200)
    payloads = [os.urandom(n) for n in sizes]
    for payload in payloads:
        c.send_to(p.address, payload)
        assert p.take() == (payload, c.relay)
        p.send(payload, c.relay)
        assert c.take_data() == (p.address, payload)
    c.bind(0x4abc, p.address)
    for payload in payloads:
        c.send_on(0x4abc, payload)
        assert p.take() == (payload, c.relay)
        p.send(payload, c.relay)
        assert c.take_channel() == (0x4abc, payload)
