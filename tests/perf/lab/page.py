"""The report as one HTML page that needs nothing else: the table, the charts, method and noise."""

import html

from . import chart, figures, machine
from .figures import NAMES, Samples
from .plan import EXPERIMENTS

COLOURS = {
    "xdp": "#0a7d8c", "afxdp": "#7a5fc0", "dpdk": "#2e8b3d", "socket": "#3b74c9",
    "coturn": "#d2691e", "forward": "#8a8a8a", "bounce": "#a98f5a", "testpmd": "#b0607e",
    "core": "#c23b4b", "canned": "#8a8a8a", "bare": "#6b8fc9",
}
SUBJECTS = {**NAMES, "end": "XDP drop at s0", "each": "turnpike socket, a socket each",
            "bounce+": "the bounce and a known cost", "bare+": "the bare relay and a known cost"}
STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5d646d; --line: #d9dde2; --paper: #fff;
  --panel: #f6f7f9; --good: #1f7a36; --bad: #b3361b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a8b1; --line: #3a4048;
  --paper: #16191d; --panel: #1e2227; --good: #63c97c; --bad: #f08a6c; } }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .4rem; }
p { max-width: 46rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
td:first-child, th:first-child, td:nth-child(2), th:nth-child(2) { text-align: left;
  white-space: normal; }
th { color: var(--soft); font-weight: 500; } tr.group th { color: var(--ink); font-weight: 600;
  padding-top: 1.1rem; text-align: left; }
td:first-child, th:first-child { padding-left: 0; }
td.yes { color: var(--good); font-weight: 600; } td.no { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; background: var(--panel); padding: 1rem; border-radius: 6px; }
figcaption { color: var(--soft); margin-top: .6rem; font-size: .9rem; max-width: 46rem; }
.table { overflow-x: auto; } svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); } svg .tick, svg .label {
  fill: var(--soft); } svg .group { font-weight: 600; } svg .grid { stroke: var(--line); }
svg .axis { stroke: var(--soft); } svg .aim { stroke: var(--ink); stroke-width: 2; }
"""


def _flows_chart(s):
    series = []
    for key in ("xdp", "bounce"):
        points = [(flows, _less(s, key, flows)) for flows in _flows(s, "flat", key)]
        series.append((NAMES[key], COLOURS[key], key == "bounce",
                       [p for p in points if p[1] is not None]))
    forward = _less(s, "forward", 1)
    if forward is not None:
        series.append((NAMES["forward"], COLOURS["forward"], True, [(1, forward), (10**6, forward)]))
    dpdk = [(int(p.split("/")[0]), 1e3 / mpps) for p in s.points("polling", "dpdk")
            if p.endswith("/64") and (mpps := figures.middle(*s.rates((p, "dpdk"))))]
    series.append((NAMES["dpdk"], COLOURS["dpdk"], False, sorted(dpdk)))
    series.append((NAMES["core"], COLOURS["core"], False,
                   [(f, s.median("core", f, "core")) for f in _flows(s, "core", "core")]))
    ticks = [(10**n, f"{10**n:,}") for n in range(7)]
    return chart.lines("cost against number of flows", series, "flows, in random order",
                       "ns per packet", ticks)


def _flows(s, experiment, key):
    return sorted(int(point) for point in s.points(experiment, key))


def _less(s, key, flows):
    own, end = s.median("flat", flows, key), s.median("flat", flows, "end")
    return None if own is None or end is None else own - end


def _throughput_chart(s):
    items = []
    for point, subjects in s.samples.get("polling", {}).items():
        flows, size = point.split("/")
        items.append((None, [], f"{figures.count(flows)}, {int(size):,} bytes", None))
        items += _rate_bars(subjects, s.rates(*((point, key) for key in subjects)))
    for point, subjects in s.samples.get("afxdp", {}).items():
        items.append((None, [], "AF_XDP on veth, 218 bytes", None))
        items += _rate_bars(subjects, subjects.values(), {"testpmd": "testpmd net_af_xdp"})
    return chart.bars("throughput", items, "million packets a second, one core")


def _rate_bars(keys, rates, names=NAMES):
    found = [(key, figures.middle(values)) for key, values in zip(keys, rates)]
    return [(names.get(key, NAMES[key]), [(COLOURS[key], value)], figures.show(value), None)
            for key, value in found if value is not None]


def _latency_chart(s):
    parts = ("50", "75", "90", "95", "99", "99.5", "99.9", "99.99")
    series = []
    for key in ("coturn", "socket", "bare", "afxdp", "dpdk", "forward", "xdp", "bounce", "testpmd"):
        points = [(100 / (100 - float(part)), s.median("latency", 20000, key, part)) for part in parts]
        series.append((NAMES[key] + (" (memif)" if key in ("dpdk", "testpmd") else ""), COLOURS[key],
                       key in ("bare", "forward", "bounce", "testpmd"),
                       [(x, y / 1e3) for x, y in points if y]))
    ticks = [(100 / (100 - float(part)), part) for part in ("50", "90", "99", "99.9", "99.99")]
    return chart.lines("latency", series, "percentile", "microseconds", ticks, log_y=True)


def _grants_chart(s):
    items = [(NAMES[key], [(COLOURS[key], value / 1e3)], figures.show(value / 1e3), None)
             for key in ("coturn", "socket", "xdp", "afxdp", "dpdk", "canned")
             if (value := s.median("grants", 1, key)) is not None]
    return chart.bars("grants", items, "µs of server CPU per allocation with its channel")


def _memory_chart(s):
    items = []
    for point in s.samples.get("memory", {}):
        for key in ("coturn", "socket", "xdp"):
            process = s.median("memory", point, key, "process")
            kernel = s.median("memory", point, key, "kernel")
            if process is None:
                continue
            kernel = max(kernel, 0)  # of the whole machine: that of others is in it, which may become less
            note = f"{figures.show(process / 1024)} + {figures.show(kernel / 1024)}"
            items.append((NAMES[key], [(COLOURS[key], process / 1024), ("#9aa3ad", kernel / 1024)],
                          note, None))
    return chart.bars("memory", items, "KiB per allocation: the process, and the kernel (grey)")


def _coturn_chart(rows):
    items = []
    for row in rows:
        if row.group == "Packets per CPU second against coturn" and row.values and row.median > 0:
            colour = COLOURS[next(key for key in COLOURS if row.what.startswith(figures.WHO.get(key, key)))]
            items.append((row.what, [(colour, row.median)], f"{figures.show(row.median)} times",
                          row.aim.limit if row.aim else None))
    return chart.bars("against coturn", items, "times coturn's packets per CPU second; the mark is the aim",
                      log=True)


CHARTS = (
    ("Cost against the number of flows", lambda s, rows: _flows_chart(s),
     "What a relayed packet costs the server: the loop over veth less the same loop with an XDP program "
     "that drops; for dpdk the time between two packets of a busy worker over memif, 64 bytes; for the core "
     "alone what relaying adds to a MAC swap, without any NIC."),
    ("Throughput", lambda s, rows: _throughput_chart(s),
     "What comes back from one polling core that gets as much as it takes: over memif, with all cores as far apart "
     "as they mostly were, and over veth."),
    ("Latency at 20,000 packets a second", lambda s, rows: _latency_chart(s),
     "From the sending of a frame to the arrival of what the relay made of it. memif cables have a polling "
     "core at either end and no kernel in between, so those two compare with each other."),
    ("Cost of a grant", lambda s, rows: _grants_chart(s),
     "CPU time of the server's process for an Allocate with its 401, and a ChannelBind; receiving at either "
     "end of the cable is the kernel's threads'. The last one answers the same datagrams with ready-made "
     "ones: what they cost by themselves."),
    ("Memory of an idle allocation with a channel", lambda s, rows: _memory_chart(s),
     "What a server with these allocations takes more than the same server with next to no room and "
     "nobody there; tables are part of it."),
    ("Against coturn", lambda s, rows: _coturn_chart(rows),
     "Paced: what a packet takes of the core that it and the server have, less the generator's share. Frames enter a "
     "veth device as socket buffers then, which XDP has to copy and a network card's driver would not make; flat out "
     "there are none. The least over sockets is a process that does nothing but relay, unasked and unchecked."),
)


def _table(report):
    out = []
    for group, rows in figures.groups(report):
        out.append(f'<tr class="group"><th colspan="6">{html.escape(group)}</th></tr>')
        for row in rows:
            cells = row.cells()
            out.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells[:5]) +
                       f'<td class="{cells[5]}">{cells[5]}</td></tr>')
    head = "".join(f"<th>{name}</th>" for name in figures.HEADINGS)
    return f'<div class="table"><table><tr>{head}</tr>{"".join(out)}</table></div>'


def _absolute(s):
    out = []
    for experiment, points in s.samples.items():
        out.append(f'<tr class="group"><th colspan="4">{html.escape(experiment)}: '
                   f"{html.escape(EXPERIMENTS.get(experiment, ''))}</th></tr>")
        for point, subjects in points.items():
            for key, values in subjects.items():
                out += _absolute_rows(_with_commas(point), SUBJECTS.get(key, key),
                                      [v for v in values if v is not None])
    return ('<div class="table"><table><tr><th>flows, rate or number</th><th>subject</th><th>median</th><th>spread</th>'
            f'</tr>{"".join(out)}</table></div>')


def _absolute_rows(point, subject, values):
    if values and isinstance(values[0], dict):
        for part in values[0]:
            parts = [value[part] for value in values if value.get(part) is not None]
            name = f"p{part}" if part[0].isdigit() else part
            yield from _absolute_rows(point, f"{subject}: {name}", parts)
        return
    row = figures.Row("", point, subject, values)
    yield "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.cells()[:4]) + "</tr>"


def _with_commas(point):
    """Of numbers of flows, and of bytes where there are two."""
    return " / ".join(f"{int(number):,}" for number in point.split("/"))


def noise_sentences(report):
    told = report["noise"]
    rounds = "one round" if report["rounds"] == 1 else f"{report['rounds']} interleaved rounds"
    yield (f"Measured {told['started']} in {told['seconds'] // 60} min {told['seconds'] % 60} s, {rounds}"
           f"{', short ones to see that it runs' if report['quick'] else ''}. Load of the machine when it "
           f"began: {told['load_before']}; used by others between the steps: {told['others_percent']} % of its "
           f"cores; taken by the hypervisor: {told['steal_percent']} % of the time.")
    repeated = figures.repeatability(report)
    if repeated:
        yield ("The references' rounds lie this far apart: " +
               "; ".join(f"{name}: {value:.0f}\u00a0%" for name, value in repeated.items()) + ".")
    seen = Samples(report).distances()
    if seen:
        yield (f"A cache line took {min(seen):.0f} to {max(seen):.0f} ns from core to core and back; over memif only "
               "rounds at one such distance are compared.")
    if not machine.is_quiet(told):
        yield "The machine was not quiet: these figures are for trying the tool."


def build(report):
    s, rows = Samples(report), figures.rows(report)
    parts = ["<h1>turnpike: what relaying costs</h1>",
             f'<p class="soft">{html.escape(machine.sentence(report["machine"]))}</p>']
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in noise_sentences(report)]
    parts.append("<p>Everything was measured in one run, subjects taking turns. A figure is a ratio to "
                 "what stands beside it, round by round; the median is shown, and the spread of the "
                 "rounds. Ratios travel to other machines better than nanoseconds do.</p>")
    parts += ["<h2>The table</h2>", _table(report)]
    for title, draw, caption in CHARTS:
        drawn = draw(s, rows)
        if drawn:
            parts.append(f"<h2>{title}</h2><figure>{drawn}<figcaption>{html.escape(caption)}"
                         "</figcaption></figure>")
    if report["failures"]:
        parts.append("<h2>Failed in some round</h2><ul>" + "".join(
            f"<li>{html.escape(name)}: {html.escape(why)}</li>"
            for name, why in report["failures"].items()) + "</ul>")
    parts += ["<h2>All that was measured</h2>", _absolute(s),
              '<p class="soft">Methods: tests/perf/lab/loops.py, cables.py, memory.py.</p>']
    return ("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width\"><title>turnpike: what relaying costs</title>"
            f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n")
