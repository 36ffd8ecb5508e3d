"""The include rules: which module may know which. Dependencies show in #include lines, so that is where they are held.

A module is a folder. Inside it headers are named "x.h"; another module's "module/x.h", from the root.
"""
import os
import re

EVERYTHING = "everything"
ENGINES = {"base", "dataplane/core", "dataplane/table", "dataplane/engine"}

# module: the modules whose headers it may include, beside its own
ALLOWED = {
    "base": set(),
    "bpf": {"dataplane/core"},
    "dataplane/core": set(),
    "dataplane/table": {"base", "dataplane/core"},
    "dataplane/engine": ENGINES,
    "dataplane/link": ENGINES,
    "dataplane/worker": ENGINES,
    "dataplane/engine/socket": ENGINES,
    "dataplane/engine/remote": ENGINES | {"dataplane/link"},
    "dataplane/engine/xdp": ENGINES | {"bpf"},
    "dataplane/engine/afxdp": ENGINES | {"bpf", "dataplane/engine/xdp", "dataplane/worker"},
    "dataplane/engine/dpdk": ENGINES | {"dataplane/worker"},
    "controlplane/stun": {"base"},
    "controlplane/auth": {"base", "controlplane/stun"},
    "controlplane/policy": {"base"},
    "controlplane/alloc": {"base", "controlplane/auth", "controlplane/stun"},
    "controlplane/turn": {"base", "controlplane/alloc", "controlplane/auth", "controlplane/policy", "controlplane/stun"},
    "controlplane/route": {"base", "dataplane/core", "dataplane/table"},
    "controlplane/flows": {"base", "controlplane/alloc", "controlplane/route", "dataplane/core", "dataplane/table"},
    "controlplane/config": {"base", "controlplane/alloc", "controlplane/auth", "controlplane/policy", "controlplane/turn", "dataplane/engine", "dataplane/link"},
    "controlplane/transport": EVERYTHING,
    "controlplane/control": EVERYTHING,
    "controlplane/ctl": {"base"},
    "controlplane": EVERYTHING,
    "dataplane": EVERYTHING,
}

# The core runs in the kernel too: no libc behind these.
CORE_SYSTEM_HEADERS = re.compile(r"linux/.*|bpf/.*|stdint\.h|stddef\.h|stdbool\.h")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.M)


def violations(root, names):
    for name in names:
        text = (root / name).read_text()
        folder = os.path.dirname(name)
        headers = list(INCLUDE.finditer(text))
        if name.endswith(".h") and "#pragma once" not in text:
            yield f"{name}: no #pragma once"
        yield from own_header_first(root, name, headers)
        for match in headers:
            line = text.count("\n", 0, match.start()) + 1
            why = fault(root, folder, match.group(1), match.group(2))
            if why:
                yield f"{name}:{line}: {why}"


def own_header_first(root, name, headers):
    """A header that stands first proves that it stands alone. A header of the module's inside may take the place of its public one."""
    own = os.path.splitext(os.path.basename(name))[0] + ".h"
    first = headers[0].group(1) if headers else None
    if name.endswith(".c") and (root / os.path.dirname(name) / own).exists() and (not first or "/" in first):
        yield f'{name}: its own header "{own}" is not the first include'


def fault(root, folder, quoted, system):
    if system:
        if folder == "dataplane/core" and not CORE_SYSTEM_HEADERS.fullmatch(system):
            return f"the core may not include <{system}>"
        return None
    if "/" not in quoted:
        return None if is_generated(quoted) or (root / folder / quoted).exists() else f'"{quoted}" is not in {folder}/'
    target = os.path.dirname(quoted)
    if not is_generated(quoted) and not (root / quoted).exists():
        return f'"{quoted}" is not there, seen from the root'
    if target == folder:
        return f'"{os.path.basename(quoted)}" is enough inside {folder}/'
    if folder.startswith("tests"):
        return None
    allowed = ALLOWED.get(folder)
    if allowed is None:
        return f"{folder}/ has no row in tests/lint/includes.py"
    if allowed is EVERYTHING or target in allowed:
        return None
    return f"{folder}/ may not include {target}/"


def is_generated(name):
    return name.endswith(".skel.h") or os.path.basename(name) == "vmlinux.h"
