"""What a server takes: its own pages, those it shares with the kernel or workers, and kernel objects."""

import pathlib


def process_bytes(pid):
    """Resident pages, shared ones (mapped BPF maps among them) and huge ones included."""
    kib = 0
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "HugetlbPages", "VmPTE"):
            kib += int(value.split()[0])
    return kib * 1024


def kernel_bytes():
    """Objects in use in all slab caches: sockets, files, inodes, timers and all the rest."""
    total = 0
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        fields = line.split()
        total += int(fields[1]) * int(fields[3])
    return total


def weigh(pid):
    return {"process": process_bytes(pid), "kernel": kernel_bytes()}
