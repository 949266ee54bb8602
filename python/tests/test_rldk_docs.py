"""docs/rldk.md and docs/migrating-from-rldk.md: examples run; names, fields and defects are complete and as in the code."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rldk_support import answer, environment
from test_rldk_surface import INTERFACE_KEYS

from netmon.integrations import rldk
from netmon.integrations.rldk._training_metrics import NETWORK

TESTS = Path(__file__).parent
DOCS = TESTS.parents[1] / "docs"
TEXT = (DOCS / "rldk.md").read_text()
MIGRATING = (DOCS / "migrating-from-rldk.md").read_text()
NUMBERS = [f"D{number}" for number in range(1, 66)]
DEFECTS = [*NUMBERS, "D17a", "D19a", "D20a", "D20b"]


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its own head."""
    section = text.partition(f"\n{heading}\n")[2]
    assert section, f"no {heading}"
    table = re.search(r"(?:^\|.*\n)+", re.split(r"\n#+ ", section)[0], re.MULTILINE)
    assert table, f"no table below {heading}"
    # A "|" inside of code is written "\|".
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[0].splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in cells]


def test_examples_run(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 4
    for example in examples:
        subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment(), check=True, timeout=60)
    assert (tmp_path / "logs" / "events_demo.jsonl").exists()


def test_every_name_is_there() -> None:
    for name in rldk.__all__:
        assert f"`{name}`" in TEXT, name


# Defects.


@cache
def defects() -> dict[str, list[str]]:
    table = rows(TEXT, "## The defects of rldk, by number")
    assert len({row[0] for row in table}) == len(table), "a number is there twice"
    return {row[0]: row[1:] for row in table}


@cache
def functions_in(module: str) -> set[str]:
    body = ast.parse((TESTS / f"{module}.py").read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_the_list_of_defects_is_complete_and_in_order() -> None:
    def order(name: str) -> tuple[int, str]:
        number, letter = re.fullmatch(r"D(\d+)([ab]?)", name).groups()  # type: ignore[union-attr]
        return int(number), letter

    assert list(defects()) == sorted(DEFECTS, key=order)
    assert set(NUMBERS) <= set(defects()), "D1 to D65"


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_is_fixed_and_tested_or_kept_with_a_reason(defect: str) -> None:
    what, state, how, tests = defects()[defect]
    assert state in ("fixed", "kept")
    assert len(what) > 15, "what is wrong in rldk"
    assert how, "what netmon does, or why it is kept"
    named = re.findall(r"`(\w+)::(test_\w+)`", tests)
    if state == "kept":
        assert len(how) > 60, "the reason"
        return
    assert named, f"no test of {defect}"
    for module, test in named:
        there = {
            node.name for node in ast.parse((TESTS / f"{module}.py").read_text()).body if isinstance(node, ast.FunctionDef)
        }
        assert test in there, f"{module}.py has no {test}"
        assert f"_{defect.lower()}_" in f"{test}_", f"{test} does not name {defect}"


# Field by field.

MADE = """
import tempfile
rldk.configure(interfaces=["lo"], interval=0.05)
real, latency, bandwidth = rldk.RealNetworkMonitor(), rldk.NetworkLatencyMonitor(), rldk.NetworkBandwidthMonitor()
collector, nodes = rldk.DistributedMetricsCollector(), rldk.MultiNodeMonitor()
callback = rldk.DistributedTrainingMonitor(output_dir=tempfile.mkdtemp(), run_id="r", network_sampling_frequency=1)
real.get_comprehensive_metrics(); callback._collect_network_metrics(); bandwidth.measure_bandwidth()
collector._collect_distributed_metrics()
pass_windows(); over_loopback(1 << 20); pass_windows(); over_loopback(1 << 20)
bandwidth.measure_bandwidth(); nodes._monitoring_loop()
callback._collect_distributed_metrics()
metrics = real.get_comprehensive_metrics()
def said(found):
    return {"names": list(found), "unmeasured": list(found.unmeasured)}
def object_(found):
    return {"names": [], "unmeasured": list(found.unmeasured)}
total = collector._collect_distributed_metrics()
print(json.dumps({
    "`NetworkMetrics`": object_(metrics),
    "`OpenRLHFMetrics`, the network": object_(callback.current_metrics),
    "`NetworkInterfaceMonitor.get_interface_stats()`": said(rldk.NetworkInterfaceMonitor("lo").get_interface_stats()),
    "`NetworkLatencyMonitor.get_latency_stats()`": said(latency.get_latency_stats()),
    "`NetworkBandwidthMonitor.get_bandwidth_stats()`": said(bandwidth.get_bandwidth_stats()),
    "`DistributedNetworkMonitor.get_performance_summary()`": said(real.distributed_monitor.get_performance_summary()),
    "`RealNetworkMonitor.get_current_metrics()`": said(real.get_current_metrics()),
    "`RealNetworkMonitor.get_network_stats()`": said(real.get_network_stats()),
    "`RealNetworkMonitor.get_network_health_report()`": said(real.get_network_health_report()),
    "`NetworkMonitor.get_current_metrics()`": said(rldk.NetworkMonitor(1).get_current_metrics()),
    "`NetworkDiagnostics.run_comprehensive_diagnostics()`": said(real.run_network_diagnostics()),
    "`NodeMetrics`": object_(next(iter(collector.node_metrics.values()))),
    "`DistributedMetrics`": object_(total),
    "`MultiNodeMonitor.get_aggregated_metrics()`, each": said(nodes.get_aggregated_metrics()[-1]),
    "first": rldk.DistributedNetworkMonitor().get_performance_summary() | {"distributed_metrics": None},
}))
"""
CLASSES = {
    "`NetworkMetrics`": rldk.NetworkMetrics,
    "`OpenRLHFMetrics`, the network": rldk.OpenRLHFMetrics,
    "`NodeMetrics`": rldk.NodeMetrics,
    "`DistributedMetrics`": rldk.DistributedMetrics,
}
UNITS = {
    "_mbps": "Mbps", "_ms": "ms", "_percent": "%", "bytes_in_per_sec": "bytes/s", "bytes_out_per_sec": "bytes/s",
    "packets_in_per_sec": "packets/s", "packets_out_per_sec": "packets/s", "_hops": "hops", "_path_latency": "ms",

    **{f"{name}_time": "s" for name in ("step", "allreduce", "broadcast", "gather", "scatter")},
    "timestamp": "Unix s", "_connections": "count", "_errors": "count", "dropped_packets": "count",
    "cpu_utilization": "%", "gpu_utilization": "%", "_memory_used": "GiB", "_memory_allocated": "GiB", "world_size": "ranks",
    "node_count": "nodes",
}  # fmt: skip
HEADINGS = re.findall(r"^### (.*)$", MIGRATING.partition("## Field by field")[2], re.MULTILINE)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """What the code has: the keys of dictionaries, and what is not measured in a process without a job."""
    found: dict[str, Any] = answer(MADE)
    return found


def test_every_object_of_rldk_is_in_the_migration_page(made: dict[str, Any]) -> None:
    assert set(HEADINGS) == set(made) - {"first"}


@pytest.mark.parametrize("heading", HEADINGS)
def test_migration_field_by_field(heading: str, made: dict[str, Any]) -> None:
    table = rows(MIGRATING, f"### {heading}")
    names = [row[0].strip("`") for row in table]
    cls = CLASSES.get(heading)
    fields = {field.name: field for field in dataclasses.fields(cls)} if cls is not None else {}
    expected = list(fields) or made[heading]["names"]
    if cls is rldk.OpenRLHFMetrics:
        beside = ["step", "phase", "step_time", "wall_time", "world_size", "local_rank", "global_rank", "node_id", "run_id"]
        expected = sorted({*NETWORK, "allreduce_time", *beside})
        names_found = sorted(names)
    else:
        names_found = names
    assert names_found == expected
    for name, (_, unit, default, before, now, alone) in zip(names, table, strict=True):
        assert before, f"{name}: what rldk does"
        assert now, f"{name}: what netmon does"
        if name in fields and default:
            field = fields[name]
            value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
            assert default.replace('"', "'") == repr(value), name
        elif name in fields:
            assert fields[name].default is dataclasses.MISSING, name
        measured = name not in made[heading]["unmeasured"]
        assert alone in ("", "psutil") or measured is (alone == "yes"), f"{name} is {'' if measured else 'not '}measured alone"
        ends = [wanted for end, wanted in UNITS.items() if name.endswith(end)]
        if name.endswith("_bandwidth") and cls is rldk.OpenRLHFMetrics:
            ends = ["GB/s"]
        elif name.endswith("_bandwidth"):
            ends = ["Mbps"]
        if ends:
            assert unit in ends, f"{name} is in {ends}"
    if heading.startswith("`NetworkInterfaceMonitor"):
        assert names == INTERFACE_KEYS


def test_migration_speaks_of_defaults_that_are_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "RLDK_NETWORK_SAMPLING_FREQUENCY"):
        monkeypatch.delenv(name, raising=False)
    diagnostics, network = rldk.NetworkDiagnostics(), rldk.NetworkMonitor()
    assert [diagnostics.test_hosts, diagnostics.dns_servers, network.latency_targets] == [[], [], []]
    table = {row[0]: row[1:] for row in rows(MIGRATING, "## Classes and their arguments")}
    thresholds = rldk.OpenRLHFDashboard().network_thresholds
    assert thresholds == {"latency_ms": 100.0, "bandwidth_mbps": {"below": 10.0}, "packet_loss_percent": 5.0}
    assert table["`OpenRLHFDashboard.network_thresholds`"][1].startswith("100 ms, 10 Mbps, 5 %")
    for row in table:
        for written in re.findall(r"`(\w+)[.(`]", row):
            if written not in ("RLDK_NETWORK_SAMPLING_FREQUENCY", "RLDK_DISABLE_JSONL", "sampling_frequency"):
                assert written in rldk.__all__, written


def test_migration_names_every_key_of_events_and_every_page(tmp_path: Path) -> None:
    keys = MIGRATING.partition("## Files")[2].partition("## The dashboard")[0]
    for name in NETWORK:
        assert f"`{name}`" in keys, name
    pages = MIGRATING.partition("## The dashboard")[2]
    for page in rldk.OpenRLHFDashboard(tmp_path).app._pages:
        if "network" in page:
            assert f"`{page}`" in pages, page


def test_the_two_pages_point_at_each_other() -> None:
    assert "migrating-from-rldk.md" in TEXT
    assert "(rldk.md)" in MIGRATING
