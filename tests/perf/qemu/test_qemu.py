"""
Real drivers under turnpike, without any: a machine in QEMU with Debian's stock kernel, in which the engine
xdp runs on virtio-net, the engine dpdk on an e1000e that belongs to vfio-pci behind an IOMMU, and the
kernel's pktgen, through tests/perf/pktgen/kernel-pktgen, is the peer; and turnpike-bench sends and receives
through two more e1000e's. Everything is emulated instruction by instruction:
what works is of interest, not how fast.

Needs qemu-system-x86, busybox-static, cpio, and the kernel's package, which `apt-get download` fetches into the
build folder once (70 MB) unless TURNPIKE_KERNEL names a linux-image-*.deb.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = pathlib.Path(os.environ.get("TURNPIKE_BUILD", ROOT / "build"))
TIMEOUT_S = int(os.environ.get("TURNPIKE_QEMU_S", "420"))
OURS = ("controlplane/turnpiked", "controlplane/ctl/turnpikectl", "turnpike-dataplane",
        "tests/perf/turnload", "tests/perf/turnpike-bench")
PMDS = ("librte_bus_pci", "librte_bus_vdev", "librte_mempool_ring", "librte_net_e1000")
MODULES = ("virtio_pci", "virtio_net", "pktgen", "tun", "vfio_iommu_type1", "vfio-pci")
COMMAND = ["qemu-system-x86_64", "-machine", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi",
           "-cpu", "max", "-smp", "2", "-m", "1536", "-nographic", "-no-reboot", "-nic", "none",
           "-device", "intel-iommu,intremap=on,caching-mode=on"]
# MAC, hub, device
NICS = (("52:54:00:00:00:01", 0, "virtio-net-pci"), ("52:54:00:00:00:02", 0, "virtio-net-pci"),
        ("52:54:00:00:00:03", 1, "virtio-net-pci"), ("52:54:00:00:00:04", 1, "e1000e,addr=0x5"),
        ("52:54:00:00:00:05", 0, "e1000e,addr=0x6"), ("52:54:00:00:00:06", 0, "e1000e,addr=0x7"))


def need(condition, why):
    if not condition:
        pytest.skip(why)


def kernel_package():
    """The newest of what was fetched before, or what apt knows."""
    named = os.environ.get("TURNPIKE_KERNEL")
    if named:
        need(pathlib.Path(named).exists(), f"{named} is not there")
        return pathlib.Path(named)
    folder = BUILD / "qemu"
    folder.mkdir(exist_ok=True)
    found = sorted(folder.glob("linux-image-*.deb"))
    if found:
        return found[-1]
    told = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True)
    name = re.search(r"Depends: (linux-image-\S+)", told.stdout)
    need(name, "apt knows no linux-image-amd64")
    done = subprocess.run(["apt-get", "-qq", "download", name[1]], cwd=folder, capture_output=True, text=True)
    need(done.returncode == 0, f"{name[1]} cannot be fetched: {done.stderr.strip()[-200:]}")
    return sorted(folder.glob("linux-image-*.deb"))[-1]


def in_order(folder):
    """Files of the modules wanted and of those they need, these first."""
    files = {path.stem.replace("-", "_"): path for path in folder.rglob("*.ko")}
    order = []

    def add(name):
        path = files.get(name.replace("-", "_"))
        if not path or path in order:
            return  # built into the kernel, or there already
        needed = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
        for other in needed[1].decode().split(",") if needed and needed[1] else []:
            add(other)
        order.append(path)

    for module in MODULES:
        add(module)
    return order


def libraries(path):
    told = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    return {pathlib.Path(name) for name in re.findall(r"(/\S+) \(0x", told)}


def copy(path, root, to=None):
    """Links stay links: a library that is found by two names must not be loaded twice."""
    real = pathlib.Path(path).resolve()
    place, own = root / str(real).lstrip("/"), root / str(to or path).lstrip("/")
    if to:
        place = own
    for target in (place, own):
        target.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy(real, place)
    if not os.path.lexists(own):
        own.symlink_to(real)


def fill(root, kernel):
    """The machine's memory disk: busybox, our programs, what they need, and the modules."""
    for folder in ("bin", "proc", "sys", "dev", "tmp", "etc", "modules"):
        (root / folder).mkdir()
    copy(shutil.which("busybox"), root, "/bin/busybox")
    shutil.copy(HERE / "guest", root / "init")
    shutil.copy(HERE.parent / "pktgen/kernel-pktgen", root / "bin/kernel-pktgen")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    programs = {BUILD / name: f"/bin/{name.split('/')[-1]}" for name in OURS}
    programs[shutil.which("ip")] = "/iproute2/ip"
    drivers = [path for path in pathlib.Path("/usr/lib").glob("*/dpdk/pmds-*/*.so.*.*")
               if path.name.split(".")[0] in PMDS]
    needed = set()
    for path, name in programs.items():
        copy(path, root, name)
        needed |= libraries(path)
    for path in drivers:
        copy(path, root)
        needed |= libraries(path)
    for path in needed:
        copy(path, root)
    order = in_order(kernel / "lib/modules")
    for path in order:
        shutil.copy(path, root / "modules")
    (root / "modules/order").write_text("".join(f"{path.name}\n" for path in order))


def packed(root, target):
    names = "\0".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with target.open("wb") as out:
        subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc"], cwd=root, input=names.encode(),
                       stdout=out, check=True)


def boot(kernel, disk, log):
    command = [*COMMAND, "-kernel", next((kernel / "boot").glob("vmlinuz-*")), "-initrd", disk, "-append",
               "console=ttyS0 quiet panic=-1 intel_iommu=on hugepages=160"]
    for number, (mac, hub, device) in enumerate(NICS):
        name, *more = device.split(",")
        command += ["-netdev", f"hubport,id=n{number},hubid={hub}",
                    "-device", ",".join([name, f"netdev=n{number}", f"mac={mac}", "romfile=", *more])]
    with log.open("w") as out:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            machine.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            machine.kill()
            machine.wait()
            out.write(f"\nnot done within {TIMEOUT_S} s\n")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By engine, what the machine printed; and all it said."""
    for tool in ("qemu-system-x86_64", "busybox", "cpio", "dpkg-deb"):
        need(shutil.which(tool), f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("qemu")
    kernel, root, log = folder / "kernel", folder / "root", folder / "log"
    root.mkdir()
    subprocess.run(["dpkg-deb", "-x", kernel_package(), kernel], check=True)
    fill(root, kernel)
    packed(root, folder / "disk")
    begin = time.monotonic()
    boot(kernel, folder / "disk", log)
    said = log.read_text(errors="replace").replace("\r", "")
    print(f"the machine ran for {time.monotonic() - begin:.0f} s")
    found = {engine: json.loads(text) for engine, text in re.findall(r"^RESULT (\w+) (.*)$", said, re.M)}
    return found, said


@pytest.mark.parametrize("engine, driver", [("xdp", "virtio_net"), ("dpdk", "vfio-pci")])
def test_pktgen_is_relayed(results, engine, driver):
    found, said = results
    assert engine in found, said[-6000:]
    result = found[engine]
    print(engine, json.dumps({"pktgen": result["pktgen"], "status": result["status"]}))
    assert result["driver"] == driver
    assert result["status"]["engine"] == engine
    assert engine != "xdp" or [i["mode"] for i in result["status"]["interfaces"]] == ["native"]
    sent, received = result["pktgen"]["sent"], result["pktgen"]["received"]
    assert sent >= 1000
    assert 0.95 * sent <= received <= 1.01 * sent + 20
    # In the fast path, not by the sockets.
    assert result["stats"]["verdicts"]["relayed"] >= 0.95 * sent
    assert result["stats"]["slow_path"]["packets"] <= 0.05 * sent
    assert result["audit"]["differences"] == 0


def test_bench_through_its_own_ports(results):
    """Requests, neighbours and packets in both directions, by PCI address."""
    found, said = results
    assert "bench" in found, said[-6000:]
    assert found["bench"]["backend"] == "dpdk"
    for way in found["bench"]["steps"][0]["directions"].values():
        print(json.dumps(way))
        assert 0 < way["relayed"] == way["offered"] and way["duplicated"] == way["foreign"] == 0
