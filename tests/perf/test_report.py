#!/usr/bin/python3
"""
tests/perf/report without a measurement: table and page from sample.json, which a loaded machine once
wrote. Its numbers say nothing about speed; the right answers stand here, worked out by hand from them.
"""

import copy
import html.parser
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree as ET

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from lab import cables, chart, distance, figures, loops, page, plan  # noqa: E402
from lab.network import BUILD  # noqa: E402

SAMPLE = json.loads((HERE / "sample.json").read_text())


def sample(**changes):
    return {**copy.deepcopy(SAMPLE), **changes}


def cells(report, group, what, against):
    """The row as it is shown; groups by their first words."""
    found = [row.cells() for row in figures.rows(report)
             if row.group.startswith(group) and (row.what, row.against) == (what, against)]
    assert len(found) == 1, (group, what, found)
    return found[0][2:]


def counted(*rounds):
    """(mpps, distance) or None, round by round."""
    return [value and {"mpps": value[0], "distance_ns": value[1]} for value in rounds]


class Distance(unittest.TestCase):
    """Over memif, only what was measured with the cores at one distance is compared, whichever it is."""

    def rates(self, *rounds, preferred=None):
        return distance.like_with_like({name: counted(*values) for name, values in zip("ab", zip(*rounds))},
                                       preferred)

    def test_no_number_is_far(self):
        for unit in (1, 90, 400):
            self.assertEqual(self.rates(((5, 1.0 * unit), (4, 1.3 * unit))), {"a": [5], "b": [4]})

    def test_a_round_at_two_distances_is_left_out(self):
        self.assertEqual(self.rates(((10, 80), (8, 120)), ((5, 400), (8, 80)), ((10, 90), None)),
                         {"a": [10, None, None], "b": [8, None, None]})

    def test_rounds_at_another_distance_than_most_are_left_out(self):
        self.assertEqual(self.rates(((9, 41), (8, 42)), ((5, 130), (4, 125)), ((5, 128), (3, 131))),
                         {"a": [None, 5, 5], "b": [None, 4, 3]})

    def test_one_distance_for_all_that_is_shown_where_there_are_such_rounds(self):
        self.assertEqual(self.rates(((9, 41), (8, 42)), ((5, 130), (4, 125)), ((5, 128), (3, 131)), preferred=40),
                         {"a": [9, None, None], "b": [8, None, None]})
        self.assertEqual(self.rates(((5, 130), (4, 125)), preferred=40), {"a": [5], "b": [4]})

    def test_cores_that_were_moved_meanwhile_are_at_no_distance(self):
        self.assertEqual(self.rates(((9, None), (8, 42))), {"a": [None], "b": [None]})

    def test_usual(self):
        self.assertEqual(distance.usual([41, 130, 125, 131]), 125)
        self.assertEqual(distance.usual([130, 41]), 41)  # the nearer of equals
        self.assertIsNone(distance.usual([]))

    def test_growth_is_of_one_distance(self):  # 1000 / 10 / (1000 / 40); 20 was counted elsewhere
        report = sample()
        polling = report["samples"]["polling"]
        polling["1000000/64"] = {"dpdk": counted((10, 130))}
        polling["1000/64"] = {"dpdk": counted((20, 41))}
        row = ("Growth", "dpdk, memif, 64 bytes", "itself with 1,000 flows")
        self.assertEqual(cells(report, *row)[0], "no figure")
        polling["1000/64"] = {"dpdk": counted((40, 120))}
        self.assertEqual(cells(report, *row)[0], "4.00")

    def test_measured_again_where_the_cores_were_moved(self):
        looks = iter([130, 130, 41, 130, 130, 130, 125, 128])
        results = iter(({"mpps": 1}, {"mpps": 2}))
        with unittest.mock.patch.object(cables, "run", lambda *_: next(looks)), \
                unittest.mock.patch.object(cables, "_seen_ns", [130] * cables.FIRST_LOOKS), \
                unittest.mock.patch.object(cables, "_waited_s", 0), \
                unittest.mock.patch.object(cables.time, "sleep", lambda _: None):
            cables.wait_until_usual()
            self.assertEqual(cables.unmoved(lambda: next(results)), {"mpps": 2, "distance_ns": 130})

    def test_patience_has_an_end(self):
        looks = iter([130, 41])
        with unittest.mock.patch.object(cables, "run", lambda *_: next(looks)), \
                unittest.mock.patch.object(cables, "_seen_ns", [130]), \
                unittest.mock.patch.object(cables, "_waited_s", cables.PATIENCE_S):
            self.assertEqual(cables.unmoved(lambda: {"mpps": 1}), {"mpps": 1, "distance_ns": None})


def paced(*rounds):
    return [{"ns": ns, "generator": own} for ns, own in rounds]


class Paced(unittest.TestCase):
    """What pump counted in slices of time is what a packet costs."""

    def cost(self, measured, dropped, received=1000):
        return loops.cost_of({"measured_ns": measured, "dropped_ns": dropped, "slice": 100, "sent": 1000,
                              "received": received})

    def test_difference_of_neighbours(self):  # the generator's own share drifts, what is on top does not
        own = [5000 + 700 * i for i in range(10)]
        self.assertEqual(self.cost([value + 20_000 for value in own], own), {"ns": 200, "generator": 81.5})

    def test_what_comes_now_and_then_is_left_out(self):
        measured, dropped = [30_000] * 12, [10_000] * 12
        measured[3], dropped[7] = 10_000_000, 4_000_000
        self.assertEqual(self.cost(measured, dropped), {"ns": 200, "generator": 100})

    def test_of_what_was_relayed(self):
        self.assertEqual(self.cost([30_000] * 4, [10_000] * 4, received=500), {"ns": 400, "generator": 100})

    def test_a_slow_core_is_told_by_the_generator(self):  # 6000 and 4000; 3000 at half the speed, and 1600
        report = sample()
        one = report["samples"]["paced"]["1"]
        one["coturn"] = paced((12_000, 2400), (4000, 1200))
        one["socket"] = paced((3000, 1200), (3200, 2400))
        self.assertEqual(cells(report, "Packets per CPU", "socket, paced, 1 flow", "coturn")[:2],
                         ["2.25", "2.00 to 2.50"])

    def test_the_speed_of_one_rate_is_not_that_of_another(self):
        report = sample()
        report["samples"]["paced"] = {"1": {"coturn": paced((9000, 1800)), "xdp": paced((300, 900))}}
        self.assertEqual(cells(report, "Packets per CPU", "xdp, paced, 1 flow", "coturn")[0], "30.0")

    def test_a_known_cost(self):  # (3310 - 250) / 3000, (8300 - 4300) / 20000; whatever the core's speed
        report = sample()
        report["samples"]["paced"]["1"] |= {"bounce": paced((250, 1200)), "bounce+": paced((3310, 2400)),
                                            "bare": paced((4300, 1200)), "bare+": paced((8300, 1200))}
        group = "A known cost"
        self.assertEqual(cells(report, group, "3,000 ns a packet in XDP", "3,000 ns"),
                         ["1.02", "one round", "0.9 to 1.1", "yes"])
        self.assertEqual(cells(report, group, "20,000 ns a packet in a process", "20,000 ns"),
                         ["0.20", "one round", "0.9 to 1.1", "no"])

    def test_the_least_over_sockets(self):  # 13274.1 / 4424.7
        report = sample()
        report["samples"]["paced"]["1"]["bare"] = paced((4424.7, 1200))
        self.assertEqual(cells(report, "Packets per CPU", "the least over sockets, paced, 1 flow", "coturn"),
                         ["3.00", "one round", "", ""])


class Bare(unittest.TestCase):
    """A relay that only relays does relay, by addresses of its own on the loopback interface."""

    SERVER, PEER, CLIENT = ("127.77.0.1", 3478), ("127.77.0.2", 10000), "127.77.0.3"

    def setUp(self):
        self.process = subprocess.Popen([BUILD / "tests/perf/bare", "--flows", "2", "%s:%d" % self.SERVER,
                                         "%s:%d" % self.PEER], stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.stop)
        self.assertEqual(self.process.stdout.readline(), "ready\n")
        self.peer = self.open(*self.PEER)

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=10)

    def open(self, *address):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(opened.close)
        opened.bind(address)
        opened.settimeout(5)
        return opened

    def relayed(self, count):
        return [self.peer.recvfrom(2048) for _ in range(count)]

    def test_each_flow_by_its_own_socket(self):
        for port in (20000, 20002, 20001):  # the one in the middle is nobody's
            client = self.open(self.CLIENT, port)
            client.sendto(b"\x40\x00\x00\x00", self.SERVER)  # no data
            client.sendto(b"\x40\x00\x00\x05%d" % port, self.SERVER)
        (first, one), (second, other) = self.relayed(2)
        self.assertEqual((first, second), (b"20000", b"20001"))
        self.assertNotEqual(one, other)

    def test_what_leaves_together_arrives_one_by_one(self):
        client = self.open(self.CLIENT, 20000)
        self.process.send_signal(signal.SIGSTOP)
        for words in (b"first", b"other", b"third", b"longer than they are", b"last"):
            client.sendto(b"\x40\x00\x00\x00" + words, self.SERVER)
        self.process.send_signal(signal.SIGCONT)
        self.assertEqual([data for data, _ in self.relayed(5)],
                         [b"first", b"other", b"third", b"longer than they are", b"last"])


class Table(unittest.TestCase):
    def check(self, group, what, against, *expected, report=SAMPLE):
        self.assertEqual(cells(report, group, what, against), list(expected))

    def test_difference(self):  # 254 - 189
        self.check("Cost above", "xdp, 1 flow", "XDP bounce", "65.0 ns", "one round", "≤ 40 ns", "no")

    def test_ratio_of_shares(self):  # (254 - 135) / (774 - 135)
        self.check("CPU per relayed", "xdp, flat out", "kernel forwarding", "0.19", "one round", "≤ 1/5",
                   "yes")

    def test_whole_core(self):  # 1000 / 2.542 / (774 - 135)
        self.check("CPU per relayed", "dpdk, its whole core", "kernel forwarding", "0.62", "one round",
                   "≤ 1/8", "no")

    def test_at_least(self):  # 3.138 / 6.6; 0.2956 / 0.2286
        self.check("Packets through", "dpdk, memif, 1 flow, 64 bytes", "testpmd macswap", "0.48",
                   "one round", "≥ 0.85", "no")
        self.check("Packets through", "afxdp, veth, 100 flows, 218 bytes", "testpmd net_af_xdp", "1.29",
                   "one round", "≥ 0.90", "yes")

    def test_a_failed_round_does_not_shift_the_others(self):  # (254 - 135) / (774 - 135), of the second round
        report = sample()
        one = report["samples"]["flat"]["1"]
        one |= {"end": [None, 135], "xdp": [200, 254], "forward": [135, 774]}
        self.check("CPU per relayed", "xdp, flat out", "kernel forwarding", "0.19", "one round", "≤ 1/5", "yes",
                   report=report)

    def test_rounds_are_paired(self):  # 2463 / 3231 and 2431 / 3167: not any with any
        self.check("Latency", "xdp, p50", "kernel forwarding", "0.76", "0.76 to 0.77", "", "")

    def test_process_and_kernel(self):  # by round: 19034 / 26825 and 9383 / 26430, whatever lies between
        median, spread, aim, met = cells(SAMPLE, "Memory", "socket, 1,000 allocations", "coturn")
        self.assertEqual((spread, aim, met), ("0.36 to 0.71", "≤ 1/8", "no"))
        self.assertEqual(median, "0.53")

    def test_floor_of_a_grant(self):  # 28000 / 225946
        report = sample()
        report["samples"]["grants"]["1"]["canned"] = [28000]
        self.check("Server CPU", "the same datagrams, ready-made", "coturn", "0.12", "one round", "", "",
                   report=report)

    def test_a_round_that_failed_is_left_out(self):
        values = SAMPLE["samples"]["latency"]["20000"]["afxdp"]
        self.assertIsNone(values[0])
        self.check("Latency", "afxdp, p50", "kernel forwarding", "1.24", "one round", "", "")

    def test_what_was_not_measured_has_no_figure(self):
        self.check("Cost above", "xdp, 1,000,000 flows", "XDP bounce", "no figure", "", "≤ 200 ns", "")

    def test_noise_below_nothing_makes_no_ratio(self):  # coturn's cost came out negative
        self.check("Packets per CPU", "xdp, paced, 1,000 flows", "coturn", "no figure", "", "≥ 60", "")

    def test_some_experiments_have_only_their_rows(self):
        report = sample(only=["grants"], samples={"grants": SAMPLE["samples"]["grants"]})
        self.assertEqual({row.group for row in figures.rows(report)},
                         {"Server CPU per allocation with its channel"})

    def test_an_aim_turns_with_the_figure(self):
        report = sample()
        report["samples"]["flat"]["1"]["xdp"] = [229, 230, 228]
        report["samples"]["flat"]["1"]["bounce"] = [189, 189, 189]
        self.check("Cost above", "xdp, 1 flow", "XDP bounce", "40.0 ns", "39.0 to 41.0", "≤ 40 ns", "yes",
                   report=report)

    def test_markdown(self):
        lines = figures.as_markdown(SAMPLE).splitlines()
        self.assertIn("| xdp, 1 flow | XDP bounce | **65.0 ns** | one round | ≤ 40 ns | no |", lines)
        tables = [line for line in lines if line]
        self.assertEqual({line.count("|") for line in tables}, {7})

    def test_text_has_every_row(self):
        text = figures.as_text(SAMPLE)
        for row in figures.rows(SAMPLE):
            self.assertIn(row.what, text)

    def test_spread_of_references(self):  # 4223 and 4543 are not among them, one round each is none
        report = sample()
        report["samples"]["flat"]["1"]["bounce"] = [190, 200, 210]
        self.assertAlmostEqual(figures.repeatability(report)["XDP bounce, flat out"], 10)
        self.assertEqual(figures.repeatability(SAMPLE), {})


class Reader(html.parser.HTMLParser):
    VOID = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.wrong = [], [], []
        self.feed(text)
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += attributes

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def drawings(text):
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.S)]


class Page(unittest.TestCase):
    def test_well_formed_and_alone(self):
        text = page.build(SAMPLE)
        reader = Reader(text)
        self.assertEqual(reader.wrong, [])
        self.assertFalse([name for name, _ in reader.attributes if name in ("src", "href")])
        self.assertNotIn("url(", text)

    def test_all_charts(self):
        text = page.build(SAMPLE)
        self.assertEqual(len(drawings(text)), len(page.CHARTS))
        for title, _, _ in page.CHARTS:
            self.assertIn(f"<h2>{title}</h2>", text)

    def test_everything_is_within_its_drawing(self):
        for svg in drawings(page.build(SAMPLE)):
            _, _, width, height = map(float, svg.get("viewBox").split())
            for shape in svg.iter():
                for x, y in places(shape):
                    self.assertTrue(-1 <= x <= width + 1 and -1 <= y <= height + 1, ET.tostring(shape))

    def test_bars_are_as_long_as_their_values(self):
        svg = ET.fromstring(chart.bars("t", [("a", [("red", 2)], "2", None), ("b", [("red", 6)], "6", None)],
                                       "x"))
        short, long = [float(r.get("width")) for r in svg.iter("rect")]
        self.assertAlmostEqual(long / short, 3, places=1)

    def test_a_long_name_has_room(self):
        svg = ET.fromstring(chart.bars("t", [("what relays nothing at all, paced, 1,000 flows", [("red", 2)], "2", None)],
                                       "x"))
        self.assertGreaterEqual(min(x for text in svg.iter("text") for x, _ in places(text)), 0)

    def test_no_aim_is_drawn_through_a_number(self):
        for aim in range(20, 61, 2):
            svg = ET.fromstring(chart.bars("t", [("a", [("red", 19.5)], "19.5 times", aim)], "x", log=True))
            mark, = (float(line.get("x1")) for line in svg.iter("line") if line.get("class") == "aim")
            note, = (text for text in svg.iter("text") if text.get("class") == "value")
            (begin, _), (end, _) = places(note)
            self.assertFalse(begin <= mark <= end, aim)

    def test_memory_that_others_gave_back_is_none(self):
        report = sample()
        report["samples"]["memory"] = {"10000": {"xdp": [{"process": 2048, "kernel": -24}]}}
        self.assertIn(">2.00 + 0<", page.build(report))

    def test_labels_do_not_lie_on_each_other(self):
        placed = sorted(chart._spread([100, 101, 102, 340, 343, 344]))
        self.assertTrue(all(b - a >= 14.9 for a, b in zip(placed, placed[1:])), placed)

    def test_what_others_wrote_is_text(self):
        report = sample(failures={"flat 1 xdp": "<script>alert(1)</script>"})
        report["machine"]["processor"] = "<b>"
        text = page.build(report)
        self.assertNotIn("<script>", text)
        self.assertNotIn("<b>", text)

    def test_nothing_measured(self):
        text = page.build(sample(samples={}))
        self.assertEqual(Reader(text).wrong, [])
        self.assertEqual(drawings(text), [])

    def test_a_loaded_machine_is_told(self):
        quiet = {**SAMPLE["noise"], "load_before": 0.1, "others_percent": 1, "steal_percent": 0}
        self.assertNotIn("was not quiet", page.build(sample(noise=quiet)))
        for what, value in (("load_before", 1), ("others_percent", 10), ("steal_percent", 3)):
            self.assertIn("was not quiet", page.build(sample(noise={**quiet, what: value})))


LETTER = 6  # at least as wide as one is


def places(shape):
    if shape.tag == "polyline":
        return [tuple(map(float, point.split(","))) for point in shape.get("points").split()]
    if shape.tag == "rect":
        x, y, w, h = (float(shape.get(name)) for name in ("x", "y", "width", "height"))
        return [(x, y), (x + w, y + h)]
    if shape.tag == "text":
        begin, width, y = float(shape.get("x")), LETTER * len(shape.text), float(shape.get("y"))
        begin -= {"start": 0, "middle": width / 2, "end": width}[shape.get("text-anchor")]
        return [(begin, y), (begin + width, y)]
    return []


class Plan(unittest.TestCase):
    def test_a_round_has_every_experiment_and_the_veth_first(self):
        steps = plan.Plan(pathlib.Path("/nowhere")).steps()
        self.assertEqual({step.experiment for step in steps}, set(plan.EXPERIMENTS))
        self.assertEqual([step.lent for step in steps], sorted(step.lent for step in steps))

    def test_within_a_quarter_of_an_hour(self):
        steps = plan.Plan(pathlib.Path("/nowhere")).steps()
        self.assertLess(sum(step.seconds * min(3, step.rounds) for step in steps), 15 * 60)

    def test_quick_has_no_million(self):
        steps = plan.Plan(pathlib.Path("/nowhere"), quick=True).steps(["flat", "polling"])
        self.assertFalse([step for step in steps if step.point.startswith("1000000")])

    def test_a_subject_that_fails_costs_only_itself(self):
        def broken():
            raise RuntimeError("no pages")

        samples, failures = {}, {}
        for measure in (broken, lambda: 5):
            plan._perform(plan.Step("flat", "1", "xdp", 1, measure), samples, failures)
        self.assertEqual(samples, {"flat": {"1": {"xdp": [None, 5]}}})
        self.assertEqual(failures, {"flat 1 xdp": "no pages"})


class Command(unittest.TestCase):
    def call(self, *arguments):
        return subprocess.run([sys.executable, HERE / "report", *arguments], capture_output=True, text=True)

    def test_help(self):
        done = self.call("--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("--quick", "--only", "--markdown", *plan.EXPERIMENTS):
            self.assertIn(word, done.stdout)

    def test_unknown_experiment(self):
        done = self.call("--only", "flat,warp")
        self.assertEqual(done.returncode, 2)
        self.assertIn("warp", done.stderr)

    def test_from_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            target = pathlib.Path(folder) / "page.html"
            done = self.call("--from", HERE / "sample.json", "--html", target, "--markdown")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(target.read_text(), page.build(SAMPLE))
            self.assertIn(figures.as_markdown(SAMPLE), done.stdout)


if __name__ == "__main__":
    unittest.main()
