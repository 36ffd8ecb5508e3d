"""What the figures were measured on, and how quiet it was there."""

import os
import pathlib
import platform
import re
import subprocess
import time

from .network import ROOT


def _said(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip()


def _package(name):
    return _said("dpkg-query", "-W", "-f", "${Version}", name) or "not a package"


def _first(pattern, text, otherwise=""):
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else otherwise


def describe():
    lscpu = _said("lscpu")
    memory = pathlib.Path("/proc/meminfo").read_text()
    governor = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    cache = [f"{level} {_first(f'^{level} cache:(.*)$', lscpu)}"
             for level in ("L2", "L3") if f"{level} cache" in lscpu]
    return {
        "processor": _first(r"^Model name:(.*)$", lscpu, platform.machine()),
        "cores": os.cpu_count(),
        "caches": ", ".join(cache),
        "memory": f"{int(_first(r'^MemTotal: *([0-9]+)', memory, '0')) / 2**20:.0f} GiB",
        "virtual": _first(r"^Hypervisor vendor:(.*)$", lscpu, "no hypervisor seen"),
        "governor": governor.read_text().strip() if governor.exists() else "not told",
        "kernel": platform.release(),
        "turnpike": _said("git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "describe",
                          "--always", "--dirty") or "no git here",
        "coturn": _package("coturn"),
        "dpdk": _package("dpdk"),
    }


def is_quiet(noise):
    return noise["load_before"] <= 0.5 and noise["others_percent"] <= 5 and noise["steal_percent"] <= 2


def sentence(machine):
    return (f"{machine['cores']} cores of {machine['processor']} ({machine['caches']}; hypervisor: "
            f"{machine['virtual']}; governor: {machine['governor']}), {machine['memory']}, Linux "
            f"{machine['kernel']}; turnpike {machine['turnpike']}, coturn {machine['coturn']}, DPDK "
            f"{machine['dpdk']}")


class Noise:
    """The load at the beginning, what others used meanwhile, and what the hypervisor took."""

    def __init__(self):
        self.started = time.time()
        self.load_before = os.getloadavg()[0]
        self.times_before = self._times()
        self.idle = self.all = 0

    @staticmethod
    def _times():
        fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        return [int(field) for field in fields]

    def look(self):
        """To be called when nothing of ours runs: what does is somebody else's."""
        before = self._times()
        time.sleep(0.1)
        spent = [now - then for now, then in zip(self._times(), before)]
        self.idle += spent[3] + spent[4]
        self.all += sum(spent)

    def told(self):
        spent = [now - then for now, then in zip(self._times(), self.times_before)]
        return {
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started),
            "load_before": round(self.load_before, 2),
            "others_percent": round(100 * (1 - self.idle / self.all), 1) if self.all else 0,
            "steal_percent": round(100 * spent[7] / max(sum(spent), 1), 2),
        }
