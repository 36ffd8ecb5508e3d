"""Parsing (threats F01-F18) as far as it is not in t02, t16 and t19."""

from harness import *
from rows import covers, table
from turn import *

@covers("F06", "STUN-14-2")
def test_no_byte_is_left_over(client, p):
    """Lengths are exact and padding is zero in everything that is sent (see check_answer)."""
    c = client()
    answers = [c.binding(), c.challenge(), c.ask(build(BINDING, attributes=attribute(0x7FF0))),
               c.alloc(attribute(EVEN_PORT, b"\x80")), c.refresh()]
    c.perm(p.address[0])
    for size in range(1, 9):
        p.send(b"\xee" * size, c.relay)
        m = check_data_indication(c.take())
        assert m.padding == bytes(-size % 4)
    assert all(not m.padding.strip(b"\0") for m in answers)


@covers("F12")
def test_five_hundred_attributes(c, server):
    """They cost the server hardly anything: of its time, since the machine may have other things to do."""
    raw = build(BINDING, attributes=attribute(0x8FFF) * 500)
    before = server.cpu_s()
    for n in range(300):
        c.send(raw)
        if n % UNDER_WAY == UNDER_WAY - 1:
            c.binding()
    assert server.cpu_s() - before < 0.3
    c.inbox.clear()


PAIRS = {
    "RAF+TOKEN": ([attribute(RAF, V4), attribute(TOKEN, bytes(8))], 400),
    "AAF+TOKEN": ([attribute(AAF, V6), attribute(TOKEN, bytes(8))], 400),
    "RAF+AAF": ([attribute(RAF, V4), attribute(AAF, V6)], 400),
    "EVEN+TOKEN": ([attribute(EVEN_PORT, b"\0"), attribute(TOKEN, bytes(8))], 400),
    "EVEN1+TOKEN": ([attribute(EVEN_PORT, b"\x80"), attribute(TOKEN, bytes(8))], 400),
    "EVEN1+AAF": ([attribute(EVEN_PORT, b"\x80"), attribute(AAF, V6)], 400),
}


@table("pair, order", *(("F13", name, order) for name in PAIRS for order in (0, 1)))
def test_pairs_that_exclude_each_other(c, pair, order):
    attributes, code = PAIRS[pair]
    assert c.allocate(*attributes[::-1 if order else 1]).code == code


@table("attributes, check",
       ("F13+STUN-14-4", [lifetime(700), lifetime(1800)], lambda c, m: m.lifetime == 700),
       ("F13+STUN-14-4", [lifetime(1800), lifetime(700)], lambda c, m: m.lifetime == 1800),
       ("F13", [attribute(EVEN_PORT, b"\0"), attribute(EVEN_PORT, b"\x80")],
        lambda c, m: TOKEN not in m.types()),
       ("F13", [attribute(EVEN_PORT, b"\x80"), attribute(EVEN_PORT, b"\0")],
        lambda c, m: TOKEN in m.types()))
def test_first_one_wins(c, attributes, check):
    assert check(c, c.alloc(*attributes))


@covers("F16")
def test_names_in_the_log(client, server):
    """One line, escaped; no second line that a user wrote."""
    before = len(server.log())
    c = client(user="%s%n%x\n2026 fake line", password="x")
    assert c.allocate().code in (400, 401)
    c.binding()
    assert not any(line.startswith("2026 fake") for line in server.log()[before:].splitlines())


@covers("F14")
def test_old_dialects(c):
    for cookie in (0, 0x72C64BC6, 0x2112A4FF):
        assert c.dropped(build(ALLOCATE, attributes=attribute(0x000F, b"\x72\xc6\x4b\xc6"),
                               cookie=cookie))


@covers("CLI-NICE-3")
def test_google_dialect(c):
    raw = header(0x0003, 8, os.urandom(12), 0x12345678) + attribute(0x000F, b"\x72\xc6\x4b\xc6")
    assert c.dropped(raw)
