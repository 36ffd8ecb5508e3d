#!/usr/bin/python3
"""Adds up what the steps of tests/run left in the results folder, and prints the closing line.

STEP.json  meson's log of a step, one test a line; cmocka's own counts stand in each test's output
STEP*.xml  JUnit, from pytest and from the lint
STEP.rc    the step's exit code: a step that failed or ran nothing without a result to show for it counts as failed
"""
import argparse
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

CMOCKA = {
    "passed": re.compile(r"^\[  PASSED  \] (\d+) test", re.M),
    "failed": re.compile(r"^\[  FAILED  \] (?:.*: )?(\d+) test", re.M),
    "skipped": re.compile(r"^\[  SKIPPED \] (?:.*: )?(\d+) test", re.M),
}


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []   # (name, why)
        self.skipped = []

    def total(self):
        return self.passed + len(self.failed) + len(self.skipped)

    def add_meson(self, step, path):
        for line in path.read_text().splitlines():
            test = json.loads(line)
            self.add_program(f"{step}: {test['name']}", test)

    def add_program(self, name, test):
        """One test program; meson's verdict rules, the counts in its output only refine it."""
        output = test.get("stdout", "") + "\n" + test.get("stderr", "")
        count = {kind: sum(map(int, pattern.findall(output))) for kind, pattern in CMOCKA.items()}
        result = test["result"]
        if result == "SKIP":
            self.skipped.append((name, last_line(output)))
            return
        if result not in ("OK", "EXPECTEDFAIL"):
            count["failed"] = max(count["failed"], 1)
        elif not any(count.values()):
            count["passed"] = 1
        self.passed += count["passed"]
        self.failed += [(name, result.lower())] * count["failed"]
        reasons = re.findall(r"^\[  SKIPPED \] ([a-zA-Z_]\w*)$", output, re.M)
        self.skipped += [(name, ", ".join(sorted(set(reasons))))] * count["skipped"]

    def add_junit(self, step, path):
        for case in ET.parse(path).getroot().iter("testcase"):
            name = f"{step}: {case.get('classname', '')} {case.get('name')}"
            bad = [kind for kind in case if kind.tag in ("failure", "error")]
            skip = case.find("skipped")
            if bad:
                self.failed.append((name, bad[0].get("message", "").split("\n")[0][:160]))
            elif skip is not None:
                self.skipped.append((name, skip.get("message", "")))
            else:
                self.passed += 1


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def collect(results, narrowed):
    tally = Tally()
    for code in sorted(results.glob("*.rc"), key=lambda path: path.stat().st_mtime_ns):
        step = code.stem
        before, failed_before = tally.total(), len(tally.failed)
        for path in results.glob(f"{step}.json"):
            tally.add_meson(step, path)
        for path in sorted(results.glob(f"{step}*.xml")):
            tally.add_junit(path.stem, path)
        status = int(code.read_text() or 1)
        if status and len(tally.failed) == failed_before:
            tally.failed.append((step, f"the step ended with exit code {status}"))
        elif tally.total() == before and not narrowed:
            tally.failed.append((step, "the step ran no test"))
    return tally


def record(path, name, failure):
    """Writes a JUnit file of one test."""
    suite = ET.Element("testsuite")
    case = ET.SubElement(suite, "testcase", classname=path.stem, name=name)
    if failure:
        ET.SubElement(case, "failure", message=failure)
    ET.ElementTree(suite).write(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=pathlib.Path, nargs="?")
    parser.add_argument("--narrowed", action="store_true", help="steps that ran nothing are no failure")
    parser.add_argument("--record", nargs=3, metavar=("FILE", "NAME", "FAILURE"))
    args = parser.parse_args()
    if args.record:
        record(pathlib.Path(args.record[0]), *args.record[1:])
        return 0
    tally = collect(args.results, args.narrowed)
    for kind, rows in (("skipped", tally.skipped), ("FAILED", tally.failed)):
        for name, why in rows:
            print(f"{kind}  {name}: {why}")
    if not tally.total():
        print("no test ran")
    print(f"{tally.passed} passed, {len(tally.failed)} failed, {len(tally.skipped)} skipped")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
