"""
What tests/perf/report measures, one step after the other. A round is all steps once, so that what is
compared was measured minutes apart at most; what takes minutes to set up, and what hardly varies, is in
the first rounds only.

A step's result is a number, or a number by name. They are kept as
samples[experiment][point][subject] = [one result a round, or None].
"""

import dataclasses
import itertools
import json
import pathlib
import time
import typing

from . import cables, loops, servers
from .network import BUILD, run, s0_lent

EXPERIMENTS = {
    "flat": "the whole loop per packet, flat out, by number of flows (ns)",
    "core": "what relaying adds to a MAC swap in a polling loop without NIC (ns)",
    "paced": "CPU of the machine per relayed packet at a fixed rate (ns)",
    "ways": "the whole loop by the way a packet takes through xdp (ns)",
    "grants": "server CPU per allocation with a channel (ns)",
    "latency": "time under way at 20,000 packets a second (ns, percentiles)",
    "memory": "per idle allocation with a channel, process and kernel (bytes)",
    "afxdp": "packets per second through an AF_XDP worker on veth (millions)",
    "polling": "packets per second through a DPDK worker over memif (millions)",
}
FLOWS = {1: (1, 1), 1000: (1000, 1), 10_000: (1000, 10), 100_000: (1000, 100),
         1_000_000: (250, 4000)}
MILLION = 1_000_000
LATENCY_RATE = 20_000
RTP_FRAME = 14 + 20 + 8 + 4 + loops.SIZE  # the frame that the others relay
FRAMES = {"64": 64, "218": RTP_FRAME, "1000": 1000}


@dataclasses.dataclass
class Step:
    experiment: str
    point: str
    subject: str
    seconds: float  # about how long it takes
    measure: typing.Callable
    rounds: int = 1000  # the first ones it is part of
    lent: bool = False  # needs s0 to be lent to DPDK


class Plan:
    """Makes the steps of one round."""

    def __init__(self, scratch, quick=False):
        self.scratch, self.quick = scratch, quick
        self.table = loops.subjects(scratch)
        self.sharing = loops.subjects(scratch, core=0)  # the generator's core
        self.pinned = loops.subjects(scratch, core=1)
        self.count = 300_000 if quick else 2_000_000
        self.seconds = 1 if quick else 3
        self.allocations = 500 if quick else 5000
        self.idle = 1000 if quick else 10_000

    def steps(self, only=None):
        chosen = [name for name in EXPERIMENTS if not only or name in only]
        steps = [step for name in chosen for step in getattr(self, name)()]
        if self.quick:
            steps = [step for step in steps if step.point.split("/")[0] != str(MILLION)]
        return sorted(steps, key=lambda step: step.lent)

    @staticmethod
    def time_of(flows, key, usually):
        """Real flows are made one after the other."""
        return usually if flows < MILLION else 60 if key in ("xdp", "dpdk") else 5

    def flat(self):
        for flows, shape in FLOWS.items():
            for key in ("end", "bounce", "xdp", "forward"):
                if key == "forward" and flows > 1:
                    continue
                yield Step("flat", str(flows), key, self.time_of(flows, key, 2.5),
                           lambda key=key, shape=shape: loops.flat_out_ns(
                               self.table[key], self.scratch, shape, self.count,
                               random=shape != (1, 1)),
                           rounds=1 if flows == MILLION else 1000)

    def core(self):
        for flows in FLOWS:
            yield Step("core", str(flows), "core", 1, lambda flows=flows: json.loads(run(
                BUILD / "tests/perf/corebench", "--flows", flows, "--random", "--rounds",
                2 if self.quick else 6))["added_ns"], rounds=2)

    def paced(self):
        for flows in (1, 1000):
            for key, rate in loops.PACED.items():
                if flows > 1 and key in ("bounce", "bounce+", "bare+"):
                    continue  # they do not look at the flow
                yield Step("paced", str(flows), key, self.seconds + 1.5,
                           lambda f=flows, k=key, r=rate: loops.paced_ns(
                               self.sharing[k], self.scratch, FLOWS[f], r, self.seconds))

    def ways(self):
        yield Step("ways", "1", "xdp", 6, lambda: loops.ways_ns(self.scratch, self.count))

    def grants(self):
        starts = {key: self.table[key].start
                  for key in ("coturn", "canned", "socket", "each", "xdp", "afxdp")}
        starts["dpdk"] = lambda: servers.turnpike_dpdk(self.scratch)
        for key, start in starts.items():
            yield Step("grants", "1", key, 1.5, lambda start=start: loops.grant_ns(
                start, self.allocations), lent=key == "dpdk")

    def latency(self):
        for key in ("forward", "bounce", "xdp", "afxdp", "bare", "socket", "coturn"):
            yield Step("latency", str(LATENCY_RATE), key, self.seconds + 1,
                       lambda key=key: loops.latency(self.pinned[key], self.scratch, LATENCY_RATE,
                                                     self.seconds))
        for key in cables.SUBJECTS:
            yield Step("latency", str(LATENCY_RATE), key, self.seconds + 2,
                       lambda key=key: cables.latency(key, self.scratch, RTP_FRAME, LATENCY_RATE,
                                                      self.seconds), lent=True)

    def memory(self):
        room = {"flows": self.idle * 21 // 5, "allocations": self.idle}  # four records each
        starts = {"coturn": (lambda: servers.coturn(self.scratch),) * 2}
        for key, engine, sockets in (("socket", "socket", "auto"), ("xdp", "xdp", "auto"),
                                     ("each", "socket", "per_allocation")):
            starts[key] = tuple(lambda engine=engine, sockets=sockets, room=room: servers.turnpike(
                self.scratch, engine, room, sockets=sockets) for room in (servers.TINY, room))
        for key, (empty, sized) in starts.items():
            yield Step("memory", str(self.idle), key, 4, lambda empty=empty, sized=sized:
                       loops.idle_bytes(empty, sized, self.scratch, self.idle), rounds=2)

    def afxdp(self):
        for key in ("testpmd", "afxdp"):
            yield Step("afxdp", "100", key, 3, lambda key=key: loops.flat_out_mpps(
                self.table[key], self.scratch, (100, 1), self.count))

    def polling(self):
        for flows, size in ((1, "64"), (1, "218"), (1, "1000"), (1000, "64"), (10_000, "64"),
                            (MILLION, "64")):
            for key, measure in cables.SUBJECTS.items():
                if flows == 1000 and key == "testpmd":
                    continue  # growth is told against turnpike itself
                yield Step("polling", f"{flows}/{size}", key, self.time_of(flows, key, 4.5),
                           lambda m=measure, f=flows, s=size: self.rate(m, FLOWS[f], FRAMES[s], random=f == MILLION),
                           rounds=1 if flows in (1000, MILLION) else 1000, lent=True)

    def rate(self, measure, shape, size, **options):
        counted = measure(self.scratch, shape, size, self.seconds - (not self.quick), **options)
        return {part: counted[part] for part in ("mpps", "distance_ns")}


class Progress:
    """A line a step: where we are, how long it will take, what came out."""

    def __init__(self, steps, rounds):
        self.total = sum(step.seconds * min(rounds, step.rounds) for step in steps)
        self.count = sum(min(rounds, step.rounds) for step in steps)
        self.done, self.passed, self.begin = 0, 0.0, time.monotonic()

    def tell(self, number, step, result):
        self.done += 1
        self.passed += step.seconds
        spent = time.monotonic() - self.begin
        left = spent / self.passed * (self.total - self.passed)
        print(f"[{self.done}/{self.count}, {_clock(spent)}, {_clock(left)} to go] round {number + 1}: "
              f"{step.experiment} {step.point} {step.subject}: {_short(result)}", flush=True)


def _clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _short(result):
    if isinstance(result, dict):
        return ", ".join(f"{key} {value:.4g}" for key, value in list(result.items())[:5])
    return f"{result:.4g}" if isinstance(result, (int, float)) else str(result)


def _perform(step, samples, failures, look=lambda: None):
    """A subject that does not run here costs its own figures, not the report."""
    look()
    try:
        result = step.measure()
    except (RuntimeError, OSError, ValueError, LookupError, ArithmeticError) as error:
        failures[f"{step.experiment} {step.point} {step.subject}"] = str(error)[-300:]
        result = None
    points = samples.setdefault(step.experiment, {}).setdefault(step.point, {})
    points.setdefault(step.subject, []).append(result)
    return failures[f"{step.experiment} {step.point} {step.subject}"] if result is None else result


def perform(scratch, rounds, quick, only, look):
    """Returns samples and, by step, why there is none of some round; `look` is called before each."""
    steps = Plan(pathlib.Path(scratch), quick).steps(only)
    progress, samples, failures = Progress(steps, rounds), {}, {}

    for number in range(rounds):
        todo = [step for step in steps if number < step.rounds]
        for lent, group in itertools.groupby(todo, key=lambda step: step.lent):
            if not lent:
                for step in group:
                    progress.tell(number, step, _perform(step, samples, failures, look))
                continue
            with s0_lent():
                for step in group:
                    progress.tell(number, step, _perform(step, samples, failures, look))
    return samples, failures
