"""The bench runs and writes a whole report. What it measures is judged by people: nothing here depends on a time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("psutil", reason="the bench compares netmon with psutil")

from bench import ddp, namespace, openrlhf, report, sockets, timing  # noqa: E402


def test_quick_bench_renews_its_part_of_a_document(tmp_path: Path) -> None:
    document = tmp_path / "overhead.md"
    document.write_text(f"by hand, before\n{report.BEGIN}\nold results\n{report.END}\nby hand, after\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--report", str(document)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = document.read_text(encoding="utf-8")
    assert text.startswith("by hand, before\n")
    assert text.endswith("by hand, after\n")
    assert "old results" not in text
    assert not re.search(r"\b(nan|inf|None)\b", text)

    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    for found in tables:
        rows = found.splitlines()
        assert len(rows) > 2, found
        assert len({row.count("|") for row in rows}) == 1, found
    calls, parts, loops, footprints = tables[:4]
    sizes = [f"| {size} |" for size in namespace.SIZES] if namespace.prefix() else ["own) |"]
    for target in report.TARGETS:
        for size in sizes:
            assert re.search(
                rf"^\| {re.escape(target.what)} \| {re.escape(target.against)} .*{re.escape(size)}", calls, re.MULTILINE
            )
    for size in (size.removeprefix("| ") for size in sizes):
        assert size in parts
        assert size in loops
        assert size in footprints
    cost, memory = tables[-2:]
    for count in ("10", "1,000", "2,000"):
        assert re.search(rf"^\| {count} \| ", cost, re.MULTILINE)
    assert "| 2,000 connections, read 1 times |" in memory
    if namespace.prefix():
        for there, moved in re.findall(r"all moving: (\d+) of (\d+) counted", text):
            assert there == moved


def test_document_without_a_place_for_results_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "overhead.md"
    document.write_text("by hand\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no part between"):
        report.write(document, f"{report.BEGIN}\n{report.END}")
    assert document.read_text(encoding="utf-8") == "by hand\n"


def test_ratio_is_that_of_medians_and_its_interval_holds_it() -> None:
    slow, fast = [3.0, 2.0, 40.0, 2.0, 2.5], [1.0, 1.0, 1.0, 20.0, 1.0]
    found = timing.ratio(slow, fast)
    assert found.value == 2.5
    assert found.low <= found.value <= found.high
    assert found.low >= 2.0 / 20.0
    assert found.high <= 40.0
    steady = timing.ratio([2.0] * 9, [1.0] * 9)
    assert (steady.low, steady.value, steady.high) == (2.0, 2.0, 2.0)


def test_interval_keeps_rounds_together() -> None:
    # A machine that is slow in every other round slows both sides: their ratio is the same in all of them.
    slow = [1.0, 10.0] * 10
    found = timing.ratio([2 * value for value in slow], slow)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_sides_take_turns() -> None:
    ran: list[str] = []

    def side(name: str) -> timing.Block:
        def block(count: int) -> float:
            ran.append(name)
            return 0.01

        return block

    results = timing.take_turns({"a": side("a"), "b": side("b")}, rounds=5, block_seconds=0.01)
    assert {name: len(values) for name, values in results.items()} == {"a": 5, "b": 5}
    rounds = [set(pair) for pair in zip(ran[-10::2], ran[-9::2], strict=True)]
    assert rounds == [{"a", "b"}] * 5


@pytest.mark.parametrize(
    ("value", "most", "low", "said"),
    [
        (1.0, 1.4, 0.9, "met"),
        (1.4, 1.4, 1.3, "met"),
        (1.54, 1.4, 1.5, "**missed by 10 %**"),
        (1.54, 1.4, 1.39, "**missed by 10 %**, within the spread"),
        (9.0, None, 8.0, ""),
    ],
)
def test_verdict(value: float, most: float | None, low: float, said: str) -> None:
    assert report.verdict(value, most, low) == said


def test_cost_of_a_connection_is_said_with_what_it_is_compared_with() -> None:
    footprints = {"with": {"rss_bytes": 30 << 20}, "without": {"rss_bytes": 20 << 20}}
    measured = {
        "cost": [
            {
                "connections": count,
                "seconds": {
                    sockets.NETMON: [count * each] * 3,
                    sockets.SS: [10 * count * each] * 3,
                    sockets.PSUTIL: [100 * count * each] * 3,
                },
            }
            for count, each in ((10, 1e-6), (1000, 2.2e-6))
        ],
        "memory": {"connections": 1000, "readings": 7, "stages": {"before": footprints, "after": footprints}},
    }
    lines = report._sockets(measured)
    assert lines[2].startswith("| 10 | 10 µs | 1 µs (1 to 1) |  |  | 100 µs | 0.1 (0.1 to 0.1) | 1,000 µs | 0.01 ")
    assert lines[3].startswith("| 1,000 | 2,200 µs | 2.2 µs (2.2 to 2.2) | ≤ 2 µs | **missed by 10 %** |")
    assert lines[-1] == "| 1,000 connections, read 7 times | 30.0 MiB | 20.0 MiB | +10.0 MiB |"
    assert report._sockets({"missing": "not allowed"}) == ["Not measured: not allowed."]


def test_what_a_step_of_ddp_costs():
    """The slowdown is told apart from chance, and the page has the place for it."""
    seconds = {"A": 0.100, "B": 0.101, "C": 0.100}
    rounds = [[(kind, seconds[kind] + i / 1e6, 0.05) for kind in ddp._ORDER] for i in range(20)]
    found = {"rounds": rounds, "source": "torch hooks", "collectives": 5.0, "call": 4e-6, "torch": "2.15.0", "looking": 5e-4}
    report = ddp._report(found)
    assert "| without netmon | 100.0 ms | 50.0 ms |" in report
    assert "| with netmon | +1.00 % (+1.00 to +1.00 %) |" in report
    assert "| without, once more | +0.00 % (+0.00 to +0.00 %) |" in report
    assert "so 0.020 % of a step" in " ".join(report.split())
    assert "took 0.050 % of the time. Together they are 14.0 µs of CPU a collective, and 0.070 % of a step" in " ".join(
        report.split()
    )
    assert sorted(ddp._ORDER) == sorted("ABC" * 2)
    assert list(ddp._ORDER) == list(reversed(ddp._ORDER)), "a drift falls on all alike"
    page = ddp.PAGE.read_text(encoding="utf-8")
    assert page.count(ddp.BEGIN) == page.count(ddp.END) == 1


def test_what_a_job_of_openrlhf_costs():
    """A change of what OpenRLHF itself logs is no figure but an error, and the page has the place for the figures."""
    own = frozenset({"train/reward", "train/timing/step_total"})
    seconds = {"A": 50.0, "B": 51.0}
    logged = {"A": own, "B": own | {"network/drops"}}
    blocks = [[openrlhf.Run(kind, seconds[kind], 2.0, 4, logged[kind]) for kind in openrlhf._ORDER] for _ in range(4)]
    said = openrlhf.report(blocks, "OpenRLHF 0.11.2")
    assert "| the whole command | 50.0 s | +2.0 % (+2.0 to +2.0 %) | +0.0 % (+0.0 to +0.0 %) |" in said
    assert "| one step, the first left out | 2.0 s | +0.0 %" in said
    assert "own 2 keys were the same" in " ".join(said.split())
    blocks[0][1] = openrlhf.Run("B", 51.0, 2.0, 4, frozenset({"train/reward"}))
    with pytest.raises(SystemExit, match="not the same"):
        openrlhf.report(blocks, "")
    assert list(openrlhf._ORDER) == list(reversed(openrlhf._ORDER)), "a drift falls on all alike"
    page = openrlhf.PAGE.read_text(encoding="utf-8")
    assert page.count(openrlhf.BEGIN) == page.count(openrlhf.END) == 1
