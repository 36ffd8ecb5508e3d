"""Refresh (RFC 8656, section 8)."""

from harness import *
from rows import covers, table
from turn import *


@table("wish, given",
       *(("TURN-8.2-6+TURN-8.2-7+CLI-PJ-5", wish, given)
         for wish, given in ((1, 600), (600, 600), (601, 601), (3600, 3600), (9999, 3600),
                             (0xFFFFFFFF, 3600), (None, 600))))
def test_lifetime(a, wish, given):
    m = a.refresh(wish)
    assert m.code == 0 and m.lifetime == given


@covers("TURN-8.2-7", "TURN-8.2-8", "TURN-9-5", "TURN-12-7", "TURN-8.2-1", "CLI-PJ-4")
def test_delete(server, a, peer):
    """Port, permissions and channels end at once; the 5-tuple can begin anew, with nothing."""
    p, p2 = peer(), peer()
    a.bind(0x4000, p.address)
    old = a.relay
    m = a.refresh(0)
    assert m.code == 0 and m.lifetime == 0 and XRA not in m.types()
    a.send_on(0x4000, b"gone")
    assert a.silent() and p.silent()
    a.alloc()
    assert a.relay != old
    p.send(b"nobody asked", a.relay)
    p.send(b"nobody asked", old)
    with server.looked_at():
        a.send_on(0x4000, b"unbound")
    a.send_to(p.address, b"no permission")
    assert p.silent() and a.silent() and p.silent()
    a.bind(0x4000, p2.address)
    a.send_on(0x4000, b"another")
    assert p2.take() == (b"another", a.relay)


@covers("TURN-8.2-9")
def test_shorter(c):
    assert c.alloc(lifetime(3600)).lifetime == 3600
    assert c.refresh().lifetime == 600


@covers("TURN-5-14", "TURN-5-15", "TURN-5-18", "TURN-5-19", "CLI-ANY-1")
def test_other_five_tuples_have_no_allocation(client, a, peer):
    """Right credentials and the same user are not enough: the 5-tuple decides."""
    p = peer()
    others = [client(), client(CLIENTS4[1], port=a.address[1]),
              client(CLIENTS4[0], (SERVER4B, PORT)), client(CLIENTS6[0])]
    for c in others:
        assert c.refresh(0).code == 437
        assert c.permit(p.address[0]).code == 437
        assert c.channel_bind(0x4000, p.address).code == 437
    assert a.refresh().code == 0


@covers("TURN-8.2-10")
def test_unexpected_attributes(a):
    m = a.refresh(700, attribute(RT, UDP), attribute(EVEN_PORT, b"\x80"), attribute(TOKEN, bytes(8)),
                  attribute(AAF, V6), attribute(DONT_FRAGMENT))
    assert m.code == 0 and m.lifetime == 700


@table("value", ("TURN-18.2-1", b""), ("TURN-18.2-1", b"\0\0"), ("TURN-18.2-1", bytes(8)))
def test_malformed_lifetime(a, value):
    assert a.refresh(None, attribute(LIFETIME, value)).code == 400
    assert a.refresh().code == 0
