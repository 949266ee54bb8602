"""install() and uninstall() on a skeleton of rldk (rldk_skeleton/README.md), in interpreters of their own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from rldk_support import run

SKELETON = Path(__file__).parent / "rldk_skeleton"
PACKAGE = "rldk.integrations.openrlhf"

LOOK = """
import importlib
P = "rldk.integrations.openrlhf"
def modules():
    names = ("", ".network_monitor", ".distributed", ".callbacks", ".dashboard")
    return {name: importlib.import_module(P + name) for name in names}
def state():
    found = {}
    for place, module in modules().items():
        for name in dir(module):
            value = getattr(module, name)
            if isinstance(value, type) and value.__module__ == "netmon.integrations.rldk":
                found[f"{place}:{name}"] = "netmon"
            elif getattr(value, "origin", None) == "rldk":
                found[f"{place}:{name}"] = "rldk"
    return found
def identities():
    return {(place, name): id(getattr(module, name)) for place, module in modules().items() for name in dir(module)}
"""


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A PYTHONPATH with the skeleton, and with empty modules in the place of what it imports."""
    shutil.copytree(SKELETON / "rldk", tmp_path / "rldk", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("flask", "plotly", "torch", "pandas", "numpy", "psutil"):
        (tmp_path / f"{name}.py").write_text("")
    return str(tmp_path)


def with_rldk(script: str, path: str, *arguments: str, **variables: str) -> str:
    return run(
        LOOK + script,
        *arguments,
        PYTHONPATH=os.pathsep.join((path, str(SKELETON.parents[1]), str(SKELETON.parent))),
        **variables,
    )


def document(text: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(text.splitlines()[-1])
    return found


def expect_replaced(state: dict[str, str]) -> None:
    kept = {place for place, whose in state.items() if whose == "rldk"}
    assert kept == {":PerformanceAnalyzer"}
    assert len(state) == 15 + 2 + 7 + 8 + 5 + 1


@pytest.mark.parametrize("when", ["before", "after", "half"])
def test_every_place_is_replaced(when: str, installed: str) -> None:
    imports = {
        "before": "rldk.install()",
        "after": "modules(); rldk.install()",
        "half": "importlib.import_module('rldk'); rldk.install(); rldk.install()",
    }
    expect_replaced(document(with_rldk(f"{imports[when]}\nprint(json.dumps(state()))", installed)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_uninstall_gives_back_exactly_what_was_there(when: str, installed: str) -> None:
    out = with_rldk(
        f"""
finders = list(sys.meta_path)
if {when == "after"}:
    modules(); before = identities()
for _ in range(3):
    rldk.install(); rldk.install()
    changed = state()
    rldk.uninstall(); rldk.uninstall()
    after, again = identities(), state()
if {when == "before"}:
    own = {{}}
    for place, module in modules().items():
        for name, value in vars(module).items():
            if getattr(value, "origin", None) == "rldk":
                own.setdefault(name, value)
                assert value is own[name], (place, name)
else:
    assert after == before
assert set(again.values()) == {{"rldk"}}
assert sys.meta_path == finders
for module in modules().values():
    assert type(module.__loader__).__name__ == "SourceFileLoader", module.__loader__
    assert module.__spec__.loader is module.__loader__
print(json.dumps(changed))
        """,
        installed,
    )
    expect_replaced(document(out))


def test_the_replaced_classes_work_where_rldk_uses_them(installed: str) -> None:
    out = with_rldk(
        """
rldk.install()
import rldk.integrations.openrlhf as package
from rldk.integrations.openrlhf.distributed import DistributedMetricsCollector, NetworkMonitor
from rldk.integrations.openrlhf.callbacks import DistributedTrainingMonitor
from netmon.integrations import rldk as ours
dashboard = package.OpenRLHFDashboard(); dashboard.initialize_network_monitoring()
collector = DistributedMetricsCollector()
callback = DistributedTrainingMonitor(network_monitoring=True)
assert type(dashboard.network_monitor) is ours.RealNetworkMonitor
assert type(collector.network_monitor) is NetworkMonitor is ours.NetworkMonitor
assert type(callback) is package.DistributedTrainingMonitor is ours.DistributedTrainingMonitor
print(json.dumps(dashboard.network_monitor.get_current_metrics()))
        """,
        installed,
    )
    assert set(document(out)) == {"bandwidth", "latency"}


def test_what_others_replaced_since_stays(installed: str) -> None:
    with_rldk(
        """
modules(); rldk.install()
import rldk.integrations.openrlhf.network_monitor as network_monitor
mine = type("Mine", (), {})
network_monitor.RealNetworkMonitor = mine
from netmon.integrations.rldk import uninstall
uninstall()
assert network_monitor.RealNetworkMonitor is mine
assert network_monitor.NetworkMetrics.origin == "rldk"
        """,
        installed,
    )


@pytest.mark.parametrize("how", ["", "ours.uninstall()"])
def test_what_a_program_puts_into_rldks_modules_is_used(how: str, installed: str) -> None:
    """As rldk's own tests do, which replace names by mocks."""
    out = with_rldk(
        f"""
from unittest.mock import patch
from netmon.integrations import rldk as ours
modules(); ours.install()
{how}
callback = ours.DistributedTrainingMonitor(network_monitoring=True)
P = "rldk.integrations.openrlhf."
with patch(P + "network_monitor.RealNetworkMonitor") as real, patch(P + "distributed.NetworkMonitor") as network:
    real.return_value.get_comprehensive_metrics.return_value = ours.NetworkMetrics(bandwidth_mbps=1000.0)
    callback._collect_network_metrics()
    collector = ours.DistributedMetricsCollector()
with patch(P + "distributed.RealNetworkMonitor") as inner:
    monitor = ours.NetworkMonitor()
used = [real.called, network.called, inner.called]
print(json.dumps({{"used": used, "bandwidth": callback.current_metrics.network_bandwidth}}))
        """,
        installed,
    )
    used = not how
    assert json.loads(out.splitlines()[-1])["used"] == [used] * 3
    if used:
        assert json.loads(out.splitlines()[-1])["bandwidth"] == 0.125


@pytest.mark.parametrize("when", ["before", "after"])
def test_modules_of_rldk_that_took_a_name_at_import_get_the_other_one_too(when: str, installed: str) -> None:
    """rldk's dashboard starts a collector; left to itself it would be the one that calls collectives from a thread."""
    taking = "from .integrations.openrlhf.distributed import DistributedMetricsCollector"
    (Path(installed) / "rldk/reports.py").write_text(taking)
    with_rldk(
        f"""
if {when == "after"}:
    import rldk.reports
from netmon.integrations import rldk as ours
ours.install()
from rldk import reports
assert reports.DistributedMetricsCollector is ours.DistributedMetricsCollector
ours.uninstall()
assert reports.DistributedMetricsCollector.origin == "rldk"
ours.install()
assert reports.DistributedMetricsCollector is ours.DistributedMetricsCollector
reports.DistributedMetricsCollector = None
ours.uninstall()
assert reports.DistributedMetricsCollector is None
        """,
        installed,
    )


def test_a_reload_is_replaced_again_and_given_back(installed: str) -> None:
    with_rldk(
        """
modules(); rldk.install()
import rldk.integrations.openrlhf.callbacks as callbacks
importlib.reload(callbacks)
from netmon.integrations import rldk as ours
assert callbacks.OpenRLHFCallback is ours.OpenRLHFCallback
ours.uninstall()
assert callbacks.OpenRLHFCallback.origin == "rldk"
        """,
        installed,
    )


def test_threads_that_install_and_import_at_once(installed: str) -> None:
    out = with_rldk(
        """
gate, wrong = threading.Barrier(12), []
def work(number):
    gate.wait()
    try:
        rldk.install() if number % 2 else modules()
    except Exception as error:
        wrong.append(repr(error))
threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not wrong, wrong
print(json.dumps(state()))
        """,
        installed,
    )
    expect_replaced(document(out))


def test_without_rldk_the_text_says_how_to_get_it() -> None:
    out = run(
        """
        import netmon
        try:
            rldk.install()
        except netmon.Error as error:
            print(error)
        rldk.uninstall()
        """
    )
    assert "rldk is not installed" in out
    assert "pip install git+https://" in out


@pytest.mark.parametrize("when", ["before", "after"])
def test_another_version_is_left_alone_and_the_names_are_said(when: str, installed: str) -> None:
    distributed = Path(installed) / "rldk/integrations/openrlhf/distributed.py"
    distributed.write_text(distributed.read_text().replace("class MultiNodeMonitor", "class NodesMonitor"))
    package = Path(installed) / "rldk/integrations/openrlhf/__init__.py"
    package.write_text(package.read_text().replace("MultiNodeMonitor, ", ""))
    out = with_rldk(
        f"""
import logging, netmon
logging.basicConfig(stream=sys.stdout)
if {when == "after"}:
    modules()
try:
    rldk.install()
except netmon.Error as error:
    print(error)
print(json.dumps(state()))
        """,
        installed,
    )
    assert "is not the one netmon knows" in out
    assert "distributed has no MultiNodeMonitor" in out
    assert set(document(out).values()) == {"rldk"}


def test_d1_the_names_are_there_where_rldk_cannot_be_imported(installed: str) -> None:
    (Path(installed) / "plotly.py").unlink()
    out = with_rldk(
        """
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name == "plotly":
            raise ModuleNotFoundError("No module named 'plotly'")
sys.meta_path.insert(0, Refusing())
rldk.install()
try:
    modules()
except ModuleNotFoundError as error:
    print(error)
print(json.dumps(sorted(rldk.RealNetworkMonitor().get_current_metrics())))
        """,
        installed,
    )
    assert "plotly" in out
    assert json.loads(out.splitlines()[-1]) == ["bandwidth", "latency"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_module_that_is_not_there_is_said(when: str, installed: str) -> None:
    package = Path(installed) / "rldk/integrations/openrlhf"
    (package / "distributed.py").rename(package / "cluster.py")
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text(text.replace("from .distributed", "from .cluster"))
    out = with_rldk(
        f"""
import netmon
if {when == "after"}:
    import rldk.integrations.openrlhf
from netmon.integrations import rldk as ours
finders = list(sys.meta_path)
try:
    ours.install()
except netmon.UnsupportedError as error:
    print(error)
assert sys.meta_path == finders
assert {when == "after"} or "rldk" not in sys.modules, "it was looked for, not imported"
import rldk.integrations.openrlhf.callbacks as callbacks
print(callbacks.OpenRLHFCallback.origin)
        """,
        installed,
    )
    assert "there is no rldk.integrations.openrlhf.distributed" in out
    assert out.splitlines()[-1] == "rldk"


def test_a_version_without_a_dashboard_is_replaced_all_the_same_and_that_is_said(installed: str) -> None:
    package = Path(installed) / "rldk/integrations/openrlhf"
    (package / "dashboard.py").unlink()
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text(text.replace("from .dashboard import OpenRLHFDashboard\n", ""))
    out = with_rldk(
        """
import logging
logging.basicConfig(stream=sys.stdout)
rldk.install()
import rldk.integrations.openrlhf as package
from netmon.integrations import rldk as ours
assert package.NetworkMonitor is ours.NetworkMonitor
ours.uninstall()
assert package.NetworkMonitor.origin == "rldk"
        """,
        installed,
    )
    assert out.count("so its dashboard is not replaced") == 1
    assert "rldk.integrations.openrlhf.dashboard" in out


def test_d2_locks_are_made_by_threading_rlock_as_it_is_then(installed: str) -> None:
    """rldk puts the type in the place of the function for the whole process; who asks then gets what is there then."""
    with_rldk(
        """
function = threading.RLock
rldk.install(); modules()
assert threading.RLock is function
made = []
threading.RLock = lambda: made.append(function()) or made[-1]
from netmon.integrations import rldk as ours
locks = [ours.NetworkDiagnostics()._lock, ours.NetworkInterfaceMonitor()._lock, ours.NetworkLatencyMonitor()._lock,
         ours.NetworkBandwidthMonitor()._lock, ours.DistributedNetworkMonitor()._distributed_lock,
         ours.RealNetworkMonitor()._history_lock]
assert all(any(lock is one for one in made) for lock in locks)
        """,
        installed,
    )


def test_threads_that_install_uninstall_and_import_at_once_leave_one_of_the_two(installed: str) -> None:
    out = with_rldk(
        """
finders = list(sys.meta_path)
gate, wrong = threading.Barrier(12), []
def work(number):
    gate.wait()
    try:
        for _ in range(20):
            (rldk.install, rldk.uninstall, modules)[number % 3]()
    except Exception as error:
        wrong.append(repr(error))
threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
[t.start() for t in threads]; [t.join() for t in threads]
assert not wrong, wrong
rldk.uninstall()
assert set(state().values()) == {"rldk"}, state()
assert sys.meta_path == finders
rldk.install()
print(json.dumps(state()))
        """,
        installed,
    )
    expect_replaced(document(out))


def test_a_dashboard_that_is_reloaded_is_in_front_of_the_new_one(installed: str) -> None:
    with_rldk(
        """
modules(); rldk.install()
import rldk.integrations.openrlhf.dashboard as dashboard
from netmon.integrations import rldk as ours
before = dashboard.OpenRLHFDashboard
importlib.reload(dashboard)
after = dashboard.OpenRLHFDashboard
assert issubclass(after, ours.OpenRLHFDashboard) and after is not before
ours.uninstall()
assert dashboard.OpenRLHFDashboard.origin == "rldk"
assert not issubclass(dashboard.OpenRLHFDashboard, ours.OpenRLHFDashboard)
        """,
        installed,
    )
