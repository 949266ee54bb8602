"""The flat keys that all trackers get: where each comes from, and that what was not measured has none."""

from __future__ import annotations

import posixpath
import re
import time
from types import SimpleNamespace
from typing import Any

import pytest

import netmon
from netmon.integrations._flat import FlatValues
from netmon.integrations._phases import Account

RATES = ("receive_bytes_per_second", "transmit_bytes_per_second")


def way(node: str | None, rate: float | None) -> Any:
    return SimpleNamespace(node=node, delivery_bytes_per_second=rate)


def rank(node: str | None, *peers: Any, state: str = "live", number: int | None = None) -> Any:
    return SimpleNamespace(node=node, peers=peers, state=state, rank=number)


COUNTED = ("receive_bytes_total", "transmit_bytes_total", "drops_total", "errors_total", "counted_seconds")


def node(name: str, state: str = "live", ranks: tuple[int, ...] = (), **values: Any) -> Any:
    row = dict.fromkeys((*RATES, "utilization_ratio", "retransmit_ratio", "rtt_p50_seconds", "loss_ratio", "drops", "errors"))
    row |= dict.fromkeys((*COUNTED, "window_seconds", "capacity_bits_per_second"))
    return SimpleNamespace(**row | values, name=name, state=state, ranks=ranks)


def sampled(seconds: float, **totals: Any) -> Any:
    """Return what a monitor measures by itself, so many seconds after it was started."""
    names = (*RATES, "utilization_ratio", "capacity_bits_per_second")
    row = dict.fromkeys(
        (*names, *(f"{way}_{of}_total" for way in ("receive", "transmit") for of in ("bytes", "drops", "errors")))
    )
    return SimpleNamespace(
        totals=SimpleNamespace(**row | totals),
        self=SimpleNamespace(uptime_seconds=seconds),
        window_seconds=1.0,
        job=SimpleNamespace(rank=0),
        tcp=None,
        probes=None,
        findings=None,
        phases=(),
    )


class Job:
    """A monitor that has a view."""

    def __init__(
        self, *nodes: Any, ranks: tuple[Any, ...] = (), findings: tuple[str, ...] = (), problem: str | None = None
    ) -> None:
        totals = SimpleNamespace(nodes=len(nodes))
        found = [SimpleNamespace(class_=name) for name in findings]
        self.view = SimpleNamespace(
            sequence=7, nodes=nodes, ranks=ranks, totals=totals, findings=found, problem=problem, age_seconds=0.5
        )
        self.phases: tuple[Any, ...] = ()
        self.own = sampled(10.0, receive_bytes_per_second=1.5, receive_errors_total=0, transmit_errors_total=0)

    def cluster(self) -> Any:
        return self.view

    def sample(self) -> Any:
        self.own.phases = self.phases
        return self.own


def flat(job: Any, **options: Any) -> dict[str, float]:
    return FlatValues(job, **options).at(1)


def test_of_the_whole_job():
    job = Job(
        node(
            "a",
            receive_bytes_per_second=10.0,
            drops_total=0,
            errors_total=2,
            utilization_ratio=0.25,
            rtt_p50_seconds=0.1,
            loss_ratio=0.0,
        ),
        node("b", receive_bytes_per_second=20.0, utilization_ratio=0.75, rtt_p50_seconds=0.3, retransmit_ratio=0.5),
        node("c", state="gone", receive_bytes_per_second=99.0, utilization_ratio=1.0, rtt_p50_seconds=9.0),
        findings=("slow_link", "lossy_link"),
    )
    assert flat(job) == {
        "network/nodes": 3,
        "network/receive_bytes_per_second": 30,
        "network/drops": 0,
        "network/errors": 2,
        "network/utilization_ratio": 0.75,
        "network/retransmit_ratio": 0.5,
        "network/loss_ratio": 0,
        "network/rtt_p50_seconds": 0.2,
        "network/findings": 2,
    }


@pytest.mark.parametrize(("findings", "number"), [((), None), (("network_clean",), 0), (("slow_host",), 1)])
def test_findings_are_absent_until_something_can_be_said(findings, number):
    assert flat(Job(node("a"), findings=findings)).get("network/findings") == number


def test_nodes_that_are_not_there_have_no_values_of_their_own():
    job = Job(node("a", drops_total=3), node("late", state="late", drops_total=4), node("gone", state="gone", drops_total=5))
    own = {name: value for name, value in flat(job, nodes=True).items() if name.startswith("network/node/")}
    assert own == {"network/node/a/drops": 3}
    assert not any(name.startswith("network/node/") for name in flat(job))


def test_names_are_such_as_every_tracker_takes():
    """One character that MLflow refuses costs a whole row; and no two names may become one."""
    taken = re.compile(r"network/(node|phase)/[A-Za-z0-9_.\- :]+(/[A-Za-z0-9_.\- :]+)*/[a-z0-9_]+")
    nodes = ("host", "host#2", "host#3", "host:2", "host_2", "host-2", "a/b", "a_b", "ä", "ö", "x#y", "x#y#2")
    phases = ("sync", "eval/held out", "a,b", "a;b", "a_b", "a/../b", "/a", "a/", "..", "日本", "100 %", "x:1", "x#1")
    job = Job(*(node(name, drops_total=number) for number, name in enumerate(nodes)))
    values = FlatValues(job, nodes=True)  # type: ignore[arg-type]
    job.phases = tuple(phase(name, 1, number, None, None, None) for number, name in enumerate(phases))
    found = {name: value for name, value in values.at(1).items() if name.startswith(("network/node/", "network/phase/"))}
    assert all(taken.fullmatch(name) and posixpath.normpath(name) == name for name in found), found
    assert sorted(found.values()) == sorted([*range(len(nodes)), *range(len(phases))])
    assert found["network/node/host:2/drops"] == 1
    assert found["network/phase/eval/held out/seconds"] == 1


@pytest.mark.parametrize(
    ("ranks", "ratio"),
    [
        # A ring in which a sends slowly.
        ((rank("a", way("b", 10)), rank("b", way("c", 100)), rank("c", way("a", 80))), 10 / 80),
        ((rank("a", way("b", 10)), rank("b", way("a", 100))), 0.1),
        ((rank("a", way("b", 50)), rank("b", way("a", 50))), 1),
        # Two ranks of a node talk to each other faster than any network.
        ((rank("a", way("a", 9000), way("b", 10)), rank("a", way("a", 9000)), rank("b", way("a", 100))), 0.1),
        # Those that only receive, as the engines of a policy: c's link is slow.
        ((rank("a", way("b", 100), way("c", 20)), rank("b"), rank("c")), 0.2),
        # Of several ranks the best one tells what the link carries.
        ((rank("a", way("b", 10)), rank("a", way("b", 100)), rank("b", way("a", 100))), 1),
        # Who is gone says nothing.
        ((rank("a", way("b", 100)), rank("b", way("a", 50)), rank("gone", way("a", 1))), 0.5),
        ((rank("a", way("b", 100)), rank("b", way("a", 50)), rank("b", way("a", 1), state="gone")), 0.5),
        ((rank("a", way(None, 100)),), None),
        ((rank(None, way("a", 100)), rank("a", way("b", None))), None),
        ((), None),
    ],
)
def test_the_slowest_node(ranks, ratio):
    job = Job(node("a"), node("b"), node("c"), node("gone", state="gone"), ranks=ranks)
    assert flat(job).get("network/slowest_node_ratio") == ratio


def test_an_old_view_says_nothing_of_now():
    job = Job(node("a", utilization_ratio=0.5), problem="no process has made a new view for 60.0 s")
    job.view.age_seconds = 60.0
    assert flat(job, nodes=True) == {"network/receive_bytes_per_second": 1.5, "network/errors": 0}
    job.view.age_seconds = 1.0
    assert flat(job)["network/utilization_ratio"] == 0.5, "a silence of a second is none"


def test_drops_and_rates_of_a_node_are_of_the_time_since_the_last_step():
    """Steps take 10 to 100 s, and the newest window is of one."""
    job = Job()
    job.view.sequence = 0
    values = FlatValues(job)  # type: ignore[arg-type]

    def at(step: int, seconds: float, received: int, sent: int, drops: int) -> dict[str, float]:
        job.own = sampled(
            seconds,
            receive_bytes_total=received,
            transmit_bytes_total=sent,
            receive_drops_total=drops,
            transmit_drops_total=0,
            receive_bytes_per_second=7.0,
            transmit_bytes_per_second=8.0,
            utilization_ratio=0.5,
            capacity_bits_per_second=8000,
        )
        found = values.at(step)
        return {name.removeprefix("network/"): value for name, value in found.items()}

    first = {"drops": 5, "receive_bytes_per_second": 10, "transmit_bytes_per_second": 20, "utilization_ratio": 0.02}
    assert at(1, 10, 100, 200, 5) == first, "since the monitor was started"
    assert at(2, 110, 50_100, 200, 505)["drops"] == 500
    assert at(2, 120, 99_100, 200, 999)["drops"] == 500, "the same step, another tracker"
    third = at(3, 130, 60_100, 10_200, 505)
    assert third == {"drops": 0, "receive_bytes_per_second": 500, "transmit_bytes_per_second": 500, "utilization_ratio": 0.5}
    soon = at(4, 130.5, 60_100, 10_200, 506)
    assert soon == {"drops": 1, "receive_bytes_per_second": 7, "transmit_bytes_per_second": 8, "utilization_ratio": 0.5}, (
        "sooner than the window is long: its own rates"
    )
    assert at(5, 3, 30, 30, 2)["drops"] == 2, "in a forked child counters begin anew"


def test_drops_and_rates_of_the_job_are_of_the_time_since_the_last_step():
    job = Job(ranks=(rank("a", number=0), rank("b", number=1)))
    values = FlatValues(job, nodes=True)  # type: ignore[arg-type]

    def counted(
        name: str, seconds: float | None, received: int | None, drops: int | None, *ranks: int, state: str = "live"
    ) -> Any:
        bytes_ = {"receive_bytes_total": received, "transmit_bytes_total": None if received is None else 0}
        options = {"capacity_bits_per_second": 8000.0, "window_seconds": 2.0, "drops": 77, "utilization_ratio": 0.9}
        options |= {"receive_bytes_per_second": 77.0, "transmit_bytes_per_second": 77.0}
        return node(name, state, ranks, counted_seconds=seconds, drops_total=drops, **bytes_, **options)

    def at(step: int, own: tuple[float, int, int], *nodes: Any) -> dict[str, float]:
        job.own = sampled(
            own[0],
            receive_bytes_total=own[1],
            transmit_bytes_total=0,
            receive_drops_total=own[2],
            transmit_drops_total=0,
        )
        job.view.nodes, job.view.sequence = nodes, len(nodes)
        return {name.removeprefix("network/"): value for name, value in values.at(step).items()}

    alone = at(1, (10, 100, 5))
    assert alone["drops"] == 5
    first = at(2, (20, 400, 15), counted("a", 19, 390, 14, 0), counted("b", 10, 100, 3, 1))
    assert first["drops"] == 10 + 3, "what this node had dropped before there was a view is told already"
    assert first["receive_bytes_per_second"] == 30 + 10
    assert first["utilization_ratio"] == 0.03
    assert first["node/b/drops"] == 3
    second = at(3, (120, 400, 15), counted("a", 119, 400, 15, 0), counted("b", 60, 50_100, 503, 1))
    assert second["drops"] == second["node/b/drops"] == 500
    assert second["receive_bytes_per_second"] == second["node/b/receive_bytes_per_second"] == 1000
    assert second["utilization_ratio"] == 1
    same = at(4, (121, 400, 15), counted("a", 119, 400, 15, 0), counted("b", 60, 50_100, 503, 1))
    assert same["drops"] == 0
    assert same["node/b/receive_bytes_per_second"] == 77, "no new view: the newest window"
    lost = at(5, (130, 400, 16))
    assert lost["drops"] == 1, "without a view those of this node"
    back = at(6, (140, 400, 18), counted("a", 139, 400, 18, 0), counted("b", 80, 50_100, 510, 1))
    assert back["drops"] == 2 + 7
    # Another process makes the view, and has not seen what was before b's monitor was started anew.
    anew = at(7, (150, 400, 18), counted("a", 139, 400, 18, 0), counted("b", 5, 100, 1, 1), counted("c", 5, 100, 2))
    assert "node/b/drops" not in anew
    assert anew["drops"] == 2, "of the node that is new"
    other = at(8, (160, 400, 18), counted("b", 90, 99_999, 9999, 2), counted("c", 15, 100, None))
    assert "drops" not in other, "b is now the name of another node, and c does not tell"
    gone = at(9, (170, 400, 18), counted("b", 95, 99_999, 9999, 2), counted("c", 25, 100, 5, state="gone"))
    assert gone["drops"] == 0


def phase(name: str, count: int, seconds: float, received: int | None, sent: int | None, share: float | None) -> Any:
    return SimpleNamespace(
        name=name,
        count=count,
        seconds_total=seconds,
        receive_bytes_total=received,
        transmit_bytes_total=sent,
        utilization_ratio=share,
    )


def test_phases_that_this_process_names():
    job = Job(node("a"))
    job.phases = (phase("before", 1, 1.0, 1, 1, None),)
    values = FlatValues(job)  # type: ignore[arg-type]
    job.phases = (*job.phases, phase("sync", 1, 2.0, 10, 500, 0.5), phase("never", 0, 0.0, None, None, None))
    at_1 = values.at(1)
    assert {name: value for name, value in at_1.items() if "/phase/" in name} == {
        "network/phase/sync/seconds": 2,
        "network/phase/sync/bytes": 500,
        "network/phase/sync/utilization_ratio": 0.5,
    }
    assert values.at(1) == at_1, "the same step, another tracker"
    assert not any("/phase/" in name for name in values.at(2)), "there was none since"
    job.phases = (phase("sync", 3, 3.0, 700, 600, 0.75),)
    at_3 = values.at(3)
    assert at_3["network/phase/sync/seconds"] == 1
    assert at_3["network/phase/sync/bytes"] == 690
    assert at_3["network/phase/sync/utilization_ratio"] == pytest.approx(1.25)
    job.phases = (phase("sync", 4, 4.0, None, None, None),)
    assert {name for name in values.at(4) if "/phase/" in name} == {"network/phase/sync/seconds"}


def test_what_is_prepared_adds_up_to_the_step():
    told = [{"sync": Account(1, 1.0, 10, None, 0.5)}, {"sync": Account(2, 3.0, 5, None, 0.1)}, {"sync": Account(1, 1.0)}, {}]
    phases = SimpleNamespace(step=lambda: told.pop(0))
    values = FlatValues(Job(node("a")), phases)  # type: ignore[arg-type]
    assert values.prepared(0) == {}, "nothing was prepared yet"
    for _ in range(3):
        values.prepare()
    found = values.prepared(1)
    assert found["network/phase/sync/seconds"] == 5
    assert found["network/phase/sync/bytes"] == 15
    assert found["network/phase/sync/utilization_ratio"] == pytest.approx((0.5 * 1 + 0.1 * 3) / 4)
    values.prepare()
    assert not any("/phase/" in name for name in values.prepared(2))
    values.forget()
    assert values.prepared(3) == {}


def test_with_a_real_monitor():
    with netmon.Monitor(interval=0.05, interfaces=["lo"], cluster=False) as monitor:
        values = FlatValues(monitor)
        with monitor.phase("weight_sync"):
            time.sleep(0.1)
        found = values.at(1)
    assert {f"network/{name}" for name in (*RATES, "drops", "errors")} <= found.keys()
    assert 0.1 <= found["network/phase/weight_sync/seconds"] < 5
    assert "network/nodes" not in found
    assert all(type(value) is float for value in found.values())
