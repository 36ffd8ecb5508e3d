#!/usr/bin/python3
"""
The scripts for other people's generators (tests/perf/pktgen), without the generators: DPDK Pktgen and TRex
are stand-ins here that only know a relay's limit. The kernel's pktgen runs for real in tests/perf/qemu.
"""

import importlib.machinery
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
PKTGEN = pathlib.Path(__file__).resolve().parent / "pktgen"


def loaded(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(PKTGEN / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class NoLoss(unittest.TestCase):
    search = staticmethod(loaded("noloss").search)

    def test_finds_the_limit_within_the_resolution(self):
        for limit in (1000, 1001, 54_321, 999_999):
            found = self.search(lambda rate: rate <= limit, 1000, 1_000_000, 0.01)
            self.assertTrue(limit * 0.99 <= found <= limit, (limit, found))

    def test_ends(self):
        self.assertIsNone(self.search(lambda rate: False, 1000, 2000, 0.01))
        self.assertEqual(self.search(lambda rate: True, 1000, 2000, 0.01), 2000)

    def sender(self, folder, limit, most=10**9):
        """A command that sends at most `most` a second and loses what is above `limit`."""
        path = pathlib.Path(folder) / "sender"
        path.write_text("#!/usr/bin/python3\nimport json, sys\n"
                        f"sent = min(int(sys.argv[1]), {most}) * int(sys.argv[2])\n"
                        f"print(json.dumps({{'sent': sent, 'received': min(sent, {limit} * "
                        "int(sys.argv[2]))}))\n")
        path.chmod(0o755)
        return subprocess.run([PKTGEN / "noloss", "--from", "100", "--to", "1000", "--seconds", "2",
                               "--resolution", "0.1", "--", path, "{rate}", "{seconds}"],
                              capture_output=True, text=True)

    def test_command(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.sender(folder, 500)
            self.assertEqual(done.returncode, 0, done.stderr)
            rate = int(re.search(r"no loss up to ([\d,]+)", done.stdout)[1].replace(",", ""))
            self.assertTrue(450 <= rate <= 500, rate)
            self.assertIn("sent 2,000  lost 1,000", done.stdout)

    def test_losses_from_the_start(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.sender(folder, 50)
            self.assertEqual(done.returncode, 1)
            self.assertIn("losses at 100 pps", done.stderr)

    def test_a_slow_sender_is_no_limit_of_the_relay(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("the sender did not reach it", self.sender(folder, 900, most=300).stdout)


LIMITED = """
-- A link of a million packets a second, and a relay that takes LIMIT percent of it.
local rate, sent, received, log = 0, 0, 0, {}
pktgen = {
	screen = function() end, pcap = function() end, stop = function() end,
	clr = function() sent, received = 0, 0 end,
	set = function(_, what, value) if what == "rate" then rate = value end end,
	start = function() sent, received = -1, 0 end,
	delay = function(ms)
		if sent ~= -1 then return end
		sent = math.floor(rate / 100 * 1000 * ms)
		received = math.floor(math.min(rate, LIMIT) / 100 * 1000 * ms)
	end,
	portStats = function(port)
		return {[tonumber(port)] = {opackets = port == "0" and sent or 0, ipackets = port == "1" and received or 0}}
	end,
	quit = function() end,
}
"""


@unittest.skipUnless(shutil.which("lua5.3"), "lua5.3 is not installed")
class DpdkPktgen(unittest.TestCase):
    def run_with(self, limit, **settings):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "limited.lua"
            path.write_text(f"LIMIT = {limit}\n{LIMITED}")
            done = subprocess.run(["lua5.3", "-l", "limited", PKTGEN / "dpdk-pktgen.lua"], text=True,
                                  capture_output=True, env={**os.environ, **settings,
                                                            "LUA_PATH": f"{folder}/?.lua"})
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_search(self):
        rate, pps = re.search(r"no loss up to ([\d.]+) %.*, (\d+) packets", self.run_with(37.5)).groups()
        self.assertTrue(37.4 <= float(rate) <= 37.5, rate)
        self.assertAlmostEqual(int(pps), float(rate) * 10_000, delta=10)

    def test_line_rate(self):
        self.assertIn("no loss up to 100.000 %", self.run_with(100))

    def test_losses_from_the_start(self):
        self.assertIn("losses at 0.100 % already", self.run_with(0.01))

    def test_allowed_loss(self):
        self.assertIn("no loss up to 100.000 %", self.run_with(99.9995, LOSS_ALLOWED="10"))

    def test_fixed_rates(self):
        told = self.run_with(20, FIXED="10,50", TRIAL_S="1")
        self.assertIn(" 10.000 %  sent 100000  received 100000  lost 0", told)
        self.assertIn(" 50.000 %  sent 500000  received 200000  lost 300000", told)


class Trex(unittest.TestCase):
    """With a stand-in for TRex's library; packets are scapy's, as there."""

    @classmethod
    def setUpClass(cls):
        import scapy.all as scapy
        cls.scapy = scapy
        api = types.ModuleType("trex_stl_lib.api")
        api.PcapReader, api.UDP = scapy.PcapReader, scapy.UDP
        for name in ("STLFlowLatencyStats", "STLPktBuilder", "STLStream", "STLTXCont"):
            setattr(api, name, lambda **given: types.SimpleNamespace(**given))
        api.STLProfile = lambda streams: types.SimpleNamespace(get_streams=lambda: streams)
        sys.modules["trex_stl_lib"] = types.ModuleType("trex_stl_lib")
        sys.modules["trex_stl_lib.api"] = api
        cls.profile = loaded("trex_profile.py").register()

    def streams(self, count, payload, *tunables):
        scapy = self.scapy
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/flows.pcap"
            scapy.wrpcap(path, [scapy.Ether() / scapy.IP(dst="192.0.2.1") /
                                scapy.UDP(sport=20000 + i, dport=3478) / payload for i in range(count)])
            return self.profile.get_streams(tunables=["--pcap", path, *tunables])

    def test_a_stream_a_flow(self):
        streams = self.streams(3, b"@\0\0\4data")
        self.assertEqual([s.packet.pkt["UDP"].sport for s in streams], [20000, 20001, 20002])
        self.assertEqual({s.mode.pps for s in streams}, {1})

    def test_latency(self):
        *_, last = self.streams(2, b"@\0\0\x14" + bytes(20), "--latency_pps", "500")
        self.assertEqual((last.mode.pps, last.packet.pkt["UDP"].chksum), (500, 0))
        self.assertEqual(str(last.packet.pkt["IP"].flags), "DF")

    def test_no_room_for_the_time(self):
        with self.assertRaises(ValueError):
            self.streams(1, b"@\0\0\4data", "--latency_pps", "500")


class Usage(unittest.TestCase):
    def test_scripts_say_how(self):
        for name in ("testpmd-replay", "kernel-pktgen"):
            done = subprocess.run([PKTGEN / name], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"{name} --", done.stderr)
            self.assertNotIn("set -eu", done.stderr.splitlines()[-1])


if __name__ == "__main__":
    unittest.main()
