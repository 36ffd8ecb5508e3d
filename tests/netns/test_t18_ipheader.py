"""IP header fields of relayed packets (RFC 8656, sections 13 and 14)."""

import pytest

from harness import *
from rows import covers, table
from turn import *

IP_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO = 10, 0, 2
FAMILIES = [(CLIENTS4[0], PEERS4[0]), (CLIENTS6[0], PEERS6[0])]
ACROSS = [(CLIENTS4[0], PEERS6[0]), (CLIENTS6[0], PEERS4[0])]


def mark(s, ttl=None, tos=None):
    six = s.family == socket.AF_INET6
    if ttl is not None:
        s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) if six
                       else (socket.IPPROTO_IP, socket.IP_TTL)), ttl)
    if tos is not None:
        s.setsockopt(*((socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if six
                       else (socket.IPPROTO_IP, socket.IP_TOS)), tos)


BRIEFLY = 0.3  # what is not expected is waited for


class Pair:
    """A client and a peer with a channel between them, warmed up, and ears at both ends."""

    def __init__(self, client, peer, lab, server, client_address, peer_address):
        self.c, self.p = client(client_address), peer(peer_address)
        self.c.alloc(attribute(RAF, V6 if ":" in peer_address else V4))
        self.c.bind(0x4000, self.p.address)
        server.warm(self.c, 0x4000, self.p)
        self.q = peer(peer_address)  # permitted, without a channel
        self.at_peer, self.at_client = Tap(lab.peer), Tap(lab.client)
        self.methods = {
            "channel": lambda payload: self.c.send_on(0x4000, payload),
            "send": lambda payload: self.c.send_to(self.p.address, payload),
        }

    def up(self, method, timeout=PATIENCE):
        payload = os.urandom(24)
        self.methods[method](payload)
        return self.at_peer.wait(lambda f: f.payload == payload, timeout)

    def down(self, peer, timeout=PATIENCE):
        payload = os.urandom(24)
        peer.send(payload, self.c.relay)
        return self.at_client.wait(lambda f: payload in f.payload, timeout)

    def raw_up(self, payload, timeout=PATIENCE, **fields):
        self.at_client.send(ethernet(
            ip_packet(self.c.address, self.c.server, channel_data(0x4000, payload), **fields),
            "client", "to_client"))
        return self.at_peer.wait(lambda f: f.payload == payload, timeout)

    def raw_down(self, payload, timeout=PATIENCE, **fields):
        self.at_peer.send(ethernet(ip_packet(self.p.address, self.c.relay, payload, **fields),
                                   "peer", "to_peer"))
        return self.at_client.wait(lambda f: f.payload == channel_data(0x4000, payload), timeout)

    def close(self):
        self.at_peer.close()
        self.at_client.close()


@pytest.fixture
def pair(client, peer, lab, server):
    made = []

    def make(client_address, peer_address):
        made.append(Pair(client, peer, lab, server, client_address, peer_address))
        return made[-1]

    yield make
    for one in made:
        one.close()


@table("addresses, tos",
       *(("TURN-14-2+TURN-14-4+CLI-COT-4+D15", FAMILIES[0], tos)
         for tos in (0x00, 0x01, 0x02, 0x03, 0x22, 0xB8, 0xB9)),
       *(("TURN-14-2+TURN-14-4+D15", FAMILIES[1], tos) for tos in (0x00, 0x03, 0xB9)),
       *(("TURN-13.1-2", ACROSS[0], tos) for tos in (0, 0xB9)),
       *(("TURN-13.3-1", ACROSS[1], tos) for tos in (0, 0xB9)))
def test_dscp_and_ecn(pair, addresses, tos):
    one = pair(*addresses)
    for s in (one.c.socket, one.p.socket, one.q.socket):
        mark(s, tos=tos)
    for method in one.methods:
        frame = one.up(method)
        assert frame and frame.valid and frame.tos == tos, method
    for peer in (one.p, one.q):
        frame = one.down(peer)
        assert frame and frame.valid and frame.tos == tos


@table("addresses, ttl, out",
       *(("TURN-14-10+DEC-18+CLI-COT-4+D14", FAMILIES[0], ttl, ttl - 1) for ttl in (2, 47, 64, 255)),
       ("TURN-14-10+D14+TURN-21.1.7-1", FAMILIES[0], 1, None),
       *(("TURN-13.2-2", FAMILIES[1], ttl, ttl - 1) for ttl in (2, 47, 255)),
       ("TURN-13.2-2+TURN-21.1.7-1", FAMILIES[1], 1, None),
       ("TURN-13.1-1", ACROSS[0], 47, 46), ("TURN-13.1-1", ACROSS[0], 1, None),
       ("TURN-13.3-2", ACROSS[1], 47, 46), ("TURN-13.3-2", ACROSS[1], 1, None))
def test_ttl(pair, addresses, ttl, out):
    one = pair(*addresses)
    for s in (one.c.socket, one.p.socket, one.q.socket):
        mark(s, ttl=ttl)
    timeout = PATIENCE if out else BRIEFLY
    for method in one.methods:
        frame = one.up(method, timeout)
        assert (frame and frame.ttl) == out, method
    for peer in (one.p, one.q):
        frame = one.down(peer, timeout)
        assert (frame and frame.ttl) == out


@covers("TURN-14-6")
@pytest.mark.parametrize("df", [False, True])
def test_df(pair, engine, df):
    """Copied by the engine; through a socket it cannot be seen and counts as 0."""
    one = pair(*FAMILIES[0])
    for s in (one.c.socket, one.p.socket, one.q.socket):
        s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO if df else PMTUDISC_DONT)
    copied = df and engine != "socket"
    assert one.up("channel").df == copied
    assert one.up("send").df == copied
    assert one.down(one.p).df == copied
    assert one.down(one.q).df == copied


@covers("TURN-14-6", "TURN-14-1")
def test_df_of_send(pair):
    one = pair(*FAMILIES[0])
    one.methods["send"] = lambda payload: one.c.send_to(one.p.address, payload,
                                                        attribute(DONT_FRAGMENT))
    frame = one.up("send")
    assert frame and frame.df


@covers("TURN-14-7")
def test_identification(pair):
    """The server's own, and not the same for all packets."""
    one = pair(*FAMILIES[0])
    seen = [one.raw_up(os.urandom(16), identification=n).identification for n in range(1, 30)]
    assert seen != list(range(1, 30))
    assert len(set(seen)) > 25


@covers("TURN-14-9", "D10", "DP-26-7")
def test_ipv4_options(pair):
    one = pair(*FAMILIES[0])
    for make in (one.raw_up, one.raw_down):
        frame = make(os.urandom(20), options=b"\x01\x01\x01\x01")
        assert frame and not frame.options and frame.valid


@covers("D10", "DP-26-7")
def test_options_that_look_like_udp(pair):
    """Where a header of 20 bytes would end, options pose as UDP and ChannelData: not relayed."""
    one = pair(*FAMILIES[0])
    rest = udp_packet(one.c.address, one.c.server, b"whatever")
    length = 12 + len(rest)
    options = struct.pack("!HHHHHH", one.c.address[1], one.c.server[1], length, 0, 0x4000, length - 12)
    packet = ipv4(one.c.address[0], one.c.server[0], rest, options=options)
    one.at_peer.frames()
    one.at_client.send(ethernet(packet, "client", "to_client"))
    assert one.c.silent() and one.p.silent()
    assert not one.at_peer.frames(lambda f: f.source == RELAY4)


@covers("XLAT-4.1-1", "D10")
def test_source_route(pair):
    one = pair(*FAMILIES[0])
    route = b"\x83\x07\x04" + packed(RELAY4) + b"\0"
    frame = one.raw_up(os.urandom(20), BRIEFLY, options=route)
    assert frame is None or not frame.options


@covers("TURN-13.2-1", "TURN-13.1-3")
def test_flow_label(pair):
    for addresses in (FAMILIES[1], ACROSS[0]):
        one = pair(*addresses)
        six = ":" in addresses[0]
        labels = {one.raw_up(os.urandom(16), **({"label": 0xABCDE + n} if six else {})).label
                  for n in range(5)}
        assert len(labels) == 1 and not labels & {0xABCDE + n for n in range(5)}


@covers("TURN-13.2-6", "TURN-13.1-7", "TURN-13.3-6")
def test_dont_fragment_without_ipv4_on_both_sides(pair):
    """No effect there: a packet that must be fragmented is."""
    for addresses in (FAMILIES[1], ACROSS[0], ACROSS[1]):
        one = pair(*addresses)
        payload = os.urandom(3000)
        one.c.send_to(one.p.address, payload, attribute(DONT_FRAGMENT))
        assert one.p.take() == (payload, one.c.relay)


@covers("DP-18-1", "DP-26-14", "D07")
def test_checksums(pair):
    for addresses in FAMILIES + ACROSS:
        one = pair(*addresses)
        for size in (1, 2, 3, 17, 18, 500, 501, 1200):
            payload = os.urandom(size)
            for frame in (one.raw_up(payload), one.raw_down(payload)):
                assert frame and frame.valid, (addresses, size)


@covers("DP-18-1", "D07")
def test_no_checksum(pair):
    four = pair(*FAMILIES[0])
    for make in (four.raw_up, four.raw_down):
        frame = make(os.urandom(20), udp_checksum=0)
        assert frame and frame.valid
    six = pair(*FAMILIES[1])
    for make in (six.raw_up, six.raw_down):
        assert make(os.urandom(20), BRIEFLY, udp_checksum=0) is None
    up = pair(*ACROSS[0])
    frame = up.raw_up(os.urandom(20), BRIEFLY, udp_checksum=0)
    assert frame is None or frame.valid


@covers("DP-18-2", "D07", "DP-26-11")
def test_wrong_checksum(pair):
    """Never made right: dropped, or as wrong as it came."""
    for addresses in FAMILIES + ACROSS:
        one = pair(*addresses)
        for make in (one.raw_up, one.raw_down):
            frame = make(os.urandom(20), BRIEFLY, udp_checksum=0x1234)
            assert frame is None or not frame.valid
    one = pair(*FAMILIES[0])
    for make in (one.raw_up, one.raw_down):
        frame = make(os.urandom(20), BRIEFLY, ip_checksum=0x4321)
        assert frame is None or not frame.valid


def fragments(packet, size, identification=77):
    """An IPv4 packet cut into fragments of `size` bytes of payload."""
    source, destination = (str(ipaddress.ip_address(packet[at:at + 4])) for at in (12, 16))
    body = packet[20:]
    return [ipv4(source, destination, body[at:at + size], identification=identification,
                 fragment=at, more=at + size < len(body))
            for at in range(0, len(body), size)]


@covers("DP-18-3", "D09", "DP-26-9")
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_fragments(pair, order):
    one = pair(*FAMILIES[0])
    payload = os.urandom(2900)
    down = fragments(ip_packet(one.p.address, one.c.relay, payload), 1000)
    up = fragments(ip_packet(one.c.address, one.c.server, channel_data(0x4000, payload)), 1000)
    step = 1 if order == "forward" else -1
    for f in up[::step]:
        one.at_client.send(ethernet(f, "client", "to_client"))
    assert one.p.take() == (payload, one.c.relay)
    for f in down[::step]:
        one.at_peer.send(ethernet(f, "peer", "to_peer"))
    assert one.c.take_channel() == (0x4000, payload)


@covers("D09", "DP-18-3")
def test_fragments_that_look_like_packets(pair):
    """A later fragment is no UDP packet, whatever its bytes say; a lone one goes nowhere."""
    one = pair(*FAMILIES[0])
    inner = udp_packet(one.c.address, one.c.server, channel_data(0x4000, b"inner packet"))
    lone = ipv4(one.c.address[0], one.c.server[0], inner, fragment=8, identification=5)
    first = ipv4(one.c.address[0], one.c.server[0], inner, more=True, identification=6)
    for packet in (lone, first):
        one.at_client.send(ethernet(packet, "client", "to_client"))
    assert one.c.silent() and one.p.silent()


@covers("TURN-14-8", "D13")
def test_small_link(pair, server, lab):
    """DF=0 and larger than the outgoing link: in fragments, whole at the end."""
    one = pair(*FAMILIES[0])
    payload = os.urandom(1400)
    try:
        set_mtu(lab.server, lab.to_peer, 1280)
        server.hear()
        one.at_peer.frames()
        one.at_client.send(ethernet(ip_packet(one.c.address, one.c.server,
                                              channel_data(0x4000, payload)), "client", "to_client"))
        assert one.p.take() == (payload, one.c.relay)
        assert all(f.length <= 1280 for f in one.at_peer.frames(lambda f: f.source == RELAY4))
    finally:
        set_mtu(lab.server, lab.to_peer, 1500)
        server.hear()


@covers("D13")
def test_growth_beyond_the_link(pair):
    """A full packet of the peer grows by 4 or 36 bytes: never cut off, at worst not delivered."""
    one = pair(*FAMILIES[0])
    for size in (1464, 1468, 1469, 1472):
        payload = os.urandom(size)
        one.p.send(payload, one.c.relay)
        assert one.c.take_channel() == (0x4000, payload), size


@covers("XLAT-4-1", "DP-26-8")
def test_order_and_boundaries(pair):
    one = pair(*FAMILIES[0])
    sizes = [(n * 37) % 1300 for n in range(200)]
    payloads = [struct.pack("!I", n) + bytes(size) for n, size in enumerate(sizes)] + [b""]
    for payload in payloads:
        one.c.send_on(0x4000, payload)
    assert [one.p.take()[0] for _ in payloads] == payloads
    for payload in payloads:
        one.p.send(payload, one.c.relay)
    assert [one.c.take_channel()[1] for _ in payloads] == payloads


def extension(kind, next_header, size=8):
    return bytes([next_header, size // 8 - 1]) + b"\x01" + bytes([size - 4]) + bytes(size - 4)


@covers("TURN-13.2-7", "D10", "DP-26-7")
def test_extension_headers(pair):
    one = pair(*FAMILIES[1])
    for kind in (0, 60):
        payload = os.urandom(20)
        udp = udp_packet(one.c.address, one.c.server, channel_data(0x4000, payload))
        packet = ipv6(one.c.address[0], one.c.server[0], extension(kind, 17) + udp, protocol=kind)
        one.at_client.send(ethernet(packet, "client", "to_client"))
        frame = one.at_peer.wait(lambda f, want=payload: f.payload == want, BRIEFLY)
        assert frame is None or (frame.protocol == 17 and frame.valid)
        assert one.c.silent()
