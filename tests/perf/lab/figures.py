"""
From samples to figures: each row of the table is a ratio to a named reference (or a difference, where
the aim is one), computed for every round and shown as median and spread, beside its aim.
"""

import dataclasses
import statistics

from . import distance
from .loops import BURNT, PACED

NAMES = {
    "xdp": "turnpike xdp", "afxdp": "turnpike afxdp", "dpdk": "turnpike dpdk",
    "socket": "turnpike socket", "coturn": "coturn", "forward": "kernel forwarding",
    "bounce": "bare XDP bounce", "end": "XDP drop", "testpmd": "testpmd macswap",
    "core": "the core alone", "canned": "ready-made answers", "bare": "a bare relay over sockets",
}
WHO = {"bare": "the least over sockets"}  # in rows, where it is not the key
ENGINES = ("xdp", "afxdp", "dpdk", "socket")


@dataclasses.dataclass
class Aim:
    limit: float
    text: str
    at_least: bool = False

    def met(self, value):
        return value >= self.limit if self.at_least else value <= self.limit


@dataclasses.dataclass
class Within:
    low: float
    high: float

    limit = None

    @property
    def text(self):
        return f"{self.low:g} to {self.high:g}"

    def met(self, value):
        return self.low <= value <= self.high


def at_most(limit, text=None):
    return Aim(limit, f"≤ {text or format(limit, 'g')}")


def at_least(limit):
    return Aim(limit, f"≥ {limit:.2f}" if limit < 1 else f"≥ {limit:g}", at_least=True)


@dataclasses.dataclass
class Row:
    group: str
    what: str
    against: str
    values: list
    aim: Aim | Within | None = None
    unit: str = ""

    @property
    def median(self):
        return statistics.median(self.values)

    def number(self, value):
        return f"{show(value)} {self.unit}".strip()

    def cells(self):
        """What, against, median, spread, aim, and whether it is met."""
        aim = f"{self.aim.text} {self.unit}".strip() if self.aim else ""
        if not self.values:
            return [self.what, self.against, "no figure", "", aim, ""]
        spread = "one round"
        if len(self.values) > 1:
            spread = f"{show(min(self.values))} to {show(max(self.values))}"
        met = ("yes" if self.aim.met(self.median) else "no") if self.aim else ""
        return [self.what, self.against, self.number(self.median), spread, aim, met]


def show(value):
    """Three digits that mean something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


class Samples:
    def __init__(self, report):
        self.samples = report["samples"]

    def of(self, experiment, point, subject, part=None):
        """One value a round; None where there is none."""
        values = self.samples.get(experiment, {}).get(str(point), {}).get(subject, [])
        if part is None:
            return values
        if callable(part):
            return [None if value is None else part(value) for value in values]
        return [None if value is None else value.get(part) for value in values]

    def distances(self):
        return distance.known(counted for subjects in self.samples.get("polling", {}).values()
                              for counts in subjects.values() for counted in counts)

    def rates(self, *whats):
        """A list of rates over memif for each (point, subject), of rounds that can be compared."""
        counts = {what: self.of("polling", *what) for what in whats}
        return list(distance.like_with_like(counts, distance.usual(self.distances())).values())

    def median(self, *what):
        return middle(self.of(*what))

    def points(self, experiment, subject):
        found = self.samples.get(experiment, {})
        return [point for point in found if any(v is not None for v in found[point].get(subject, []))]


def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def each(function, *lists):
    """Round by round; None of those that do not have all of them."""
    return [None if None in values else function(*values) for values in zip(*lists)]


def combine(function, *lists):
    """Of rounds that have all of them."""
    return [value for value in each(function, *lists) if value is not None]


def count(flows):
    return f"{int(flows):,} flow{'s' if int(flows) > 1 else ''}"


def ratio(above, below):
    """Of two costs; not where noise made one of them nothing."""
    return [a / b for a, b in combine(lambda a, b: (a, b), above, below) if a > 0 and b > 0]


def cost(s, flows, key):
    """
    Paced CPU of a packet on a core that is as fast as this one was at best, which is what flat out figures are of. Another
    guest on the other thread of a core makes it slower by three quarters; the generator's own work, which is always
    the same, tells.
    """
    best = min((value for point in s.samples.get("paced", {}) for other in PACED if PACED[other] == PACED[key]
                for value in s.of("paced", point, other, "generator") if value), default=None)
    return each(lambda ns, own: ns * best / own, s.of("paced", flows, key, "ns"),
                s.of("paced", flows, key, "generator"))


def share(s, key, point=1):
    """What the server pays, flat out."""
    return each(lambda own, end: own - end, s.of("flat", point, key), s.of("flat", point, "end"))


def core_ns(s, *points):
    """A polling core is the worker's alone: what it costs is the time between two packets. A list for each point."""
    return [each(lambda mpps: 1e3 / mpps, rates) for rates in s.rates(*((point, "dpdk") for point in points))]


def bounce_rows(s):
    for point, limit in ((1, 40), (1000, None), (10_000, 60), (100_000, None), (1_000_000, 200)):
        yield Row("Cost above a bare XDP bounce, flat out", f"xdp, {count(point)}", "XDP bounce",
                  combine(lambda a, b: a - b, s.of("flat", point, "xdp"), s.of("flat", point, "bounce")),
                  at_most(limit) if limit else None, "ns")


def forwarding_rows(s):
    group, name = "CPU per relayed packet against kernel forwarding of the same packet", NAMES["forward"]
    flat, paced = share(s, "forward"), cost(s, 1, "forward")
    afxdp = combine(lambda mpps: 1e3 / mpps, s.of("afxdp", 100, "afxdp"))
    yield Row(group, "xdp, flat out", name, ratio(share(s, "xdp"), flat), at_most(1 / 5, "1/5"))
    yield Row(group, "xdp, paced (veth copies)", name, ratio(cost(s, 1, "xdp"), paced))
    yield Row(group, "dpdk, its whole core", name, ratio(*core_ns(s, "1/218"), flat),
              at_most(1 / 8, "1/8"))
    yield Row(group, "afxdp, its whole core (veth copies)", name, ratio(afxdp, flat))
    yield Row(group, "socket, paced", name, ratio(cost(s, 1, "socket"), paced))


def polling_rows(s):
    group, name = "Packets through one polling core against testpmd", NAMES["testpmd"]
    for point, limit in (("1/64", .85), ("10000/64", .80), ("1000000/64", .60), ("1/218", None),
                         ("1/1000", .85)):
        flows, size = point.split("/")
        order = " in random order" if flows == "1000000" else ""
        yield Row(group, f"dpdk, memif, {count(flows)}{order}, {int(size):,} bytes", name,
                  ratio(*s.rates((point, "dpdk"), (point, "testpmd"))),
                  at_least(limit) if limit else None)
    yield Row(group, "afxdp, veth, 100 flows, 218 bytes", "testpmd net_af_xdp",
              ratio(s.of("afxdp", 100, "afxdp"), s.of("afxdp", 100, "testpmd")), at_least(.90))


def coturn_rows(s):
    group, name = "Packets per CPU second against coturn", NAMES["coturn"]
    for key, limit in (("socket", 2), ("bare", None), ("xdp", 60)):
        for flows in (1, 1000):
            yield Row(group, f"{WHO.get(key, key)}, paced, {count(flows)}", name,
                      ratio(cost(s, flows, "coturn"), cost(s, flows, key)), at_least(limit) if limit else None)
    for flows in (1, 1000):
        yield Row(group, f"xdp, flat out, {count(flows)}", name,
                  ratio(cost(s, flows, "coturn"), share(s, "xdp", flows)), at_least(60))
    yield Row(group, "dpdk, its whole core, 1 flow", name,
              ratio(cost(s, 1, "coturn"), *core_ns(s, "1/218")), at_least(100))


def latency_rows(s):
    group = "Latency at 20,000 packets a second"
    for part, name in (("50", "p50"), ("99", "p99")):
        for reference, aim in (("coturn", at_most(1 / 3, "1/3")), ("forward", at_most(1))):
            for key in (*ENGINES, "bare"):
                yield Row(group, f"{WHO.get(key, key)}{' (memif)' if key == 'dpdk' else ''}, {name}", NAMES[reference],
                          ratio(s.of("latency", 20000, key, part),
                                s.of("latency", 20000, reference, part)),
                          aim if name == "p99" and key != "bare" else None)


def whole(parts):
    return parts["process"] + parts["kernel"]


def held_rows(s):
    group, coturn = "Server CPU per allocation with its channel", s.of("grants", 1, "coturn")
    for key in ENGINES:
        yield Row(group, key, NAMES["coturn"], ratio(s.of("grants", 1, key), coturn), at_most(1 / 8, "1/8"))
    yield Row(group, "the same datagrams, ready-made", NAMES["coturn"],
              ratio(s.of("grants", 1, "canned"), coturn))
    for point in s.samples.get("memory", {"10000": {}}):
        for key in ("xdp", "socket"):
            yield Row("Memory per idle allocation with a channel, process and kernel",
                      f"{key}, {int(point):,} allocations", NAMES["coturn"],
                      ratio(s.of("memory", point, key, whole), s.of("memory", point, "coturn", whole)),
                      at_most(1 / 8, "1/8"))


def growth_rows(s):
    group = "Growth: cost of a packet with 1,000,000 flows, in random order"
    yield Row(group, "xdp, flat out", "itself with 1,000 flows",
              ratio(share(s, "xdp", 1_000_000), share(s, "xdp", 1000)), at_most(5))
    yield Row(group, "dpdk, memif, 64 bytes", "itself with 1,000 flows",
              ratio(*core_ns(s, "1000000/64", "1000/64")), at_most(3))
    yield Row(group, "the core alone, MAC swap taken off", "itself with 1,000 flows",
              ratio(s.of("core", 1_000_000, "core"), s.of("core", 1000, "core")))


def known_rows(s):
    """Time that is burnt is the same on a slow core."""
    for key, where in (("bounce", "in XDP"), ("bare", "in a process")):
        known = BURNT[key]
        yield Row("A known cost, as paced figures show it", f"{known:,} ns a packet {where}", f"{known:,} ns",
                  [added / known for added in combine(lambda burnt, own: burnt - own,
                                                      s.of("paced", 1, f"{key}+", "ns"),
                                                      s.of("paced", 1, key, "ns"))], Within(.9, 1.1))


def rows(report):
    s = Samples(report)
    return [row for make in (bounce_rows, forwarding_rows, polling_rows, coturn_rows, latency_rows,
                             held_rows, growth_rows, known_rows) for row in make(s) if row.values or wanted(report)]


def wanted(report):
    """Rows without a figure are shown where everything was to be measured."""
    return not report["only"]


def groups(report):
    """[(group, its rows)] in order."""
    found = {}
    for row in rows(report):
        found.setdefault(row.group, []).append(row)
    return list(found.items())


def repeatability(report):
    """By reference: how far its rounds lie apart, in percent of their median."""
    s, found = Samples(report), {}
    measured = {"XDP bounce, flat out": s.of("flat", 1, "bounce"),
                "kernel forwarding, flat out": s.of("flat", 1, "forward"),
                "kernel forwarding, paced": cost(s, 1, "forward"),
                "coturn, paced": cost(s, 1, "coturn"),
                "coturn, CPU per allocation": s.of("grants", 1, "coturn"),
                "testpmd over memif, 64 bytes": s.rates(("1/64", "testpmd"))[0]}
    for title, values in measured.items():
        values = [value for value in values if value is not None]
        if len(values) > 1:
            found[title] = 100 * (max(values) - min(values)) / statistics.median(values)
    return found


HEADINGS = ["", "against", "median", "spread", "aim", "met"]


def as_text(report):
    lines = []
    for group, members in groups(report):
        table = [row.cells() for row in members]
        lines += ["", group]
        for cells in table:
            lines.append("  {:<55} {:<24} {:>12} {:>16} {:>8} {}".format(*cells).rstrip())
    return "\n".join(lines).lstrip("\n")


def as_markdown(report):
    lines = []
    for group, members in groups(report):
        lines += ["", f"| {group} | " + " | ".join(HEADINGS[1:]) + " |", "|---" * 6 + "|"]
        for row in members:
            cells = row.cells()
            cells[2] = f"**{cells[2]}**"
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines).lstrip("\n")
