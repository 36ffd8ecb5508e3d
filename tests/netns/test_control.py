"""
The positive control. Debian's coturn is known to fail some rows; the tests of these rows must see
it. A test that finds nothing there would find nothing here either.
"""

import subprocess
import sys
import xml.etree.ElementTree

import pytest

from harness import *

# Row, the test that must fail, and what in its name picks the case.
KNOWN = [
    ("P03", "test_threats_peers.py::test_denied", "P03"),
    ("P04", "test_threats_peers.py::test_denied", "P04"),
    ("P05", "test_threats_peers.py::test_denied", "P05"),
    ("P06", "test_threats_peers.py::test_denied", "P06"),
    ("P10", "test_threats_peers.py::test_denied", "P10"),
    ("P11", "test_threats_peers.py::test_denied", "P11"),
    ("P12", "test_threats_peers.py::test_denied", "P12"),
    ("P13", "test_threats_peers.py::test_denied", "P13"),
    ("P15", "test_threats_peers.py::test_own_relay_address", "P15"),
    ("N06", "test_t05_integrity.py::test_behind_integrity_all_is_ignored", "N06"),
    ("F10", "test_t16_channel.py::test_numbers", "F10"),
    ("R01", "test_t10_retransmit.py::test_nothing_is_kept_of_strangers", "R01"),
    ("R05", "test_t12_evenport.py::test_even_port_holds_no_neighbour", "R05"),
    ("R06", "test_t14_permission.py::test_table_is_full", "R06"),
]


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Names of the tests that failed against coturn."""
    if not shutil.which("turnserver"):
        pytest.skip("coturn is not installed")
    report = tmp_path_factory.mktemp("control") / "report.xml"
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}",
         *sorted({f"{here}/{test}" for _, test, _ in KNOWN})],
        env={**os.environ, "TURNPIKE_SERVER": "coturn"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, timeout=600, cwd=here, check=False)
    cases = xml.etree.ElementTree.parse(report).iter("testcase")
    return [case.get("name") for case in cases if case.find("failure") is not None]


@pytest.mark.parametrize("row, test, pick", [pytest.param(*k, id=k[0]) for k in KNOWN])
def test_coturn_is_found_wanting(failures, row, test, pick):
    name = test.split("::")[1]
    assert [f for f in failures if f.startswith(name) and pick in f]
