"""
Fixtures of the netns suite. One lab and at most one server at a time: tests are put in the order
of (engine, configuration), and a server is started only when a test needs another one than runs.

A test says what it is about with `covers("TURN-7.2-18", ...)` or, in tables, with row ids; these
ids are part of its name, and tests/coverage counts them.
"""

import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import turn  # noqa: E402

if sys.version_info < (3, 11):
    raise SystemExit("python 3.11 or later")

KIND = os.environ.get("TURNPIKE_SERVER", "turnpiked")
ENGINES = "socket"
if KIND == "turnpiked":
    ENGINES = os.environ.get("TURNPIKE_ENGINES", "socket,xdp,afxdp,dpdk")
# Of a run in shares: this one has the tests that need none of the engines, or leaves them to another.
SHARE = os.environ.get("TURNPIKE_SHARE", "")


def pytest_configure(config):
    config.addinivalue_line("markers", "config(**sections): changes to the server's configuration")
    config.addinivalue_line("markers", "engines(*names): runs on these engines only")
    config.addinivalue_line("markers", "fresh: needs a server that nobody used, and spoils it")


def pytest_generate_tests(metafunc):
    if "engine" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("engines")
        names = [e for e in ENGINES.split(",") if not only or e in only.args]
        none = pytest.param("none", marks=pytest.mark.skip(reason="not for the engines asked for"))
        metafunc.parametrize("engine", names or [none])


def changes_of(item):
    """The configuration of an item: markers of module, class and function, merged."""
    changes = {}
    for marker in reversed(list(item.iter_markers("config"))):
        for section, value in marker.kwargs.items():
            if isinstance(value, dict) and isinstance(changes.get(section), dict):
                value = {**changes[section], **value}
            changes[section] = value
    return changes


def engine_of(item):
    return item.callspec.params.get("engine", "") if hasattr(item, "callspec") else ""


def pytest_collection_modifyitems(items):
    def order(item):
        fresh = item.get_closest_marker("fresh") is not None
        return engine_of(item), json.dumps(changes_of(item), sort_keys=True), fresh

    items.sort(key=order)
    if SHARE:
        others = {"first": ("none",), "further": ("none", "")}[SHARE]
        items[:] = [item for item in items if engine_of(item) not in others]


def check_log(log):
    for word in ("runtime error:", "Sanitizer", "libevent", "do not add up"):
        assert word not in log, "\n".join(l for l in log.splitlines() if word in l)
    secrets = [p for p in harness.USERS.values() if p in log]
    secrets += [s for s in harness.SECRETS if s in log]
    assert not secrets, f"in the log: {secrets}"  # threat N18


class Servers:
    """Keeps the server that ran last."""

    def __init__(self, lab):
        self.lab = lab
        self.server = None
        self.key = None
        self.broken = {}  # (engine, configuration) -> why it cannot run

    def get(self, engine, changes, fresh):
        key = (engine, json.dumps(changes, sort_keys=True))
        if self.server and self.key == key and not fresh and self.server.is_running():
            return self.server
        self.stop()
        if key in self.broken:
            raise harness.ServerFailed(self.broken[key])
        kind = harness.Coturn if KIND == "coturn" else harness.Server
        try:
            self.server = kind(self.lab, engine, changes)
        except harness.ServerFailed as failure:
            self.broken[key] = str(failure)
            raise
        self.key = key
        return self.server

    def stop(self):
        server, self.server = self.server, None
        if server:
            daemons = [d for d in (server, server.dataplane) if d]
            ends = [(d, d.process.poll(), d.halt(), d.log()) for d in daemons]
            server.stop()
            if server.kind != "turnpiked":
                return
            for daemon, died, code, log in ends:
                assert died is None and code == 0, f"{daemon.name}: exit {code}: {log[-3000:]}"
                check_log(log)


@pytest.fixture(scope="session")
def lab():
    lab = harness.Lab()
    yield lab
    lab.remove()


@pytest.fixture(scope="session")
def servers(lab):
    servers = Servers(lab)
    yield servers
    servers.stop()


@pytest.fixture
def server(request, servers, engine):
    fresh = request.node.get_closest_marker("fresh") is not None
    try:
        server = servers.get(engine, changes_of(request.node), fresh)
    except harness.ServerFailed as failure:
        missing = harness.missing_for(engine, str(failure))
        if missing:
            pytest.skip(f"engine {engine} does not run here: {missing}")
        raise
    mark = len(server.log())
    yield server
    if getattr(request.node, "call_failed", False):
        print("\n--- the server's log of this test ---\n" + server.log()[mark:][-6000:])
        if server.dataplane:
            print("\n--- and its data plane's ---\n" + server.dataplane.log()[-3000:])
    if request.node.get_closest_marker("fresh"):
        servers.stop()
        return
    for daemon in filter(None, (server, server.dataplane)):
        assert daemon.is_running(), f"{daemon.name} died: {daemon.log()[-6000:]}"
    audit = server.audit()
    assert audit["differences"] == 0, audit


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.call_failed = outcome.get_result().failed


@pytest.fixture
def client(lab, server):
    """Makes clients; they deallocate when the test ends, whatever its outcome."""
    made = []

    def make(*arguments, **keywords):
        made.append(turn.Client(lab, *arguments, **keywords))
        return made[-1]

    yield make
    for c in made:
        c.close()


@pytest.fixture
def peer(lab, server):
    made = []

    def make(address=harness.PEERS4[0], port=0):
        made.append(turn.Peer(lab, address, port))
        return made[-1]

    yield make
    for p in made:
        p.close()


@pytest.fixture
def c(client):
    """A client that has not asked for anything yet."""
    return client()


@pytest.fixture
def a(client):
    """A client with an IPv4 allocation."""
    made = client()
    made.alloc()
    return made


@pytest.fixture
def p(peer):
    """A peer at the first address."""
    return peer()


@pytest.fixture(autouse=True)
def rows():
    """Parametrized by covers(); only its id is of interest."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2]}")
