"""Alerts: rules and their sentences, what fires and resolves on traffic that a lab sets, and functions that are called."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import traffic
from agent import agent
from lab import Lab

import netmon

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text()
MakeLab = Callable[..., Lab]

# A rule that fires when the monitor has taken so many samples, and one that is on from the first.
GROWS = netmon.Alert("sequence", above=3, name="grows")
ON = netmon.Alert("sequence", above=0, name="on")


def until(true: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.005)
    return value


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "netmon-alerts"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: not threads(), 10)


def test_the_example_of_the_page_runs() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    called, state, event = done.stdout.splitlines()
    assert called == "info: jumbo fired: interfaces.lo.mtu is 65536, above 1000"
    assert re.fullmatch(r"jumbo on 65536\.0 [\d.]+", state)
    assert event == "fired jumbo 65536.0 interfaces.lo.mtu is 65536, above 1000"


def test_the_page_knows_every_key() -> None:
    with netmon.Monitor(interval=3600, alerts=[ON]) as monitor:
        answer = monitor.alerts().to_dict()
    for names in (answer, answer["rules"][0], answer["events"][0], netmon.Alert.__dataclass_fields__):
        for name in names:
            assert re.search(rf"`{name}(\[\])?`", PAGE), name


# Rules


def test_a_rule_is_frozen_and_written_without_defaults() -> None:
    rule = netmon.Alert("tcp.timeouts_total", above=0, increase=True)
    assert rule.to_dict() == {
        "metric": "tcp.timeouts_total",
        "above": 0,
        "for_seconds": 0.0,
        "severity": "warning",
        "increase": True,
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.above = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        netmon.Alert("tcp.established", 3)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([netmon.Alert("tcp.speed", above=1)], 'key "alerts.metric" of entry 1 is not one: .*"speed"'),
        ([ON, netmon.Alert("tcp.established")], 'key "alerts.above" of entry 2 is missing, and so is "below"'),
        ([netmon.Alert("tcp.established", above=1, below=2)], 'key "alerts.below" of entry 1 is given, and so is "above"'),
        ([netmon.Alert("totals.utilization_ratio", above=90)], 'key "alerts.above" of entry 1 is 90; .* 90 % is 0.9'),
        ([netmon.Alert("tcp.established", above=1, clear=2)], 'key "alerts.clear" of entry 1 is 2; it must be at most'),
        ([netmon.Alert("tcp.established", above=1, rate=True)], 'key "alerts.rate" of entry 1 .* is no counter'),
        ([netmon.Alert("tcp.established", above=1, for_seconds=-1)], 'key "alerts.for_seconds" of entry 1 is -1'),
        ([netmon.Alert("tcp.established", above=1, severity="bad")], 'key "alerts.severity" of entry 1 is "bad"'),
        ([netmon.Alert("interfaces.*.mtu", above=1)], 'key "alerts.metric" of entry 1 is .* patterns are not understood'),
        ([{"metric": "tcp.established", "over": 1}], 'key "alerts.over" of entry 1 is not known; the keys are above'),
        ([ON, ON], 'key "alerts.name" of entry 2 is "on", as that of another entry'),
        (["tcp.established"], 'key "alerts" has "tcp.established" as entry 1'),
        ([netmon.Alert("tcp.established", above=n) for n in range(65)], 'key "alerts" has 65 entries; at most 64'),
        ([netmon.Alert("tcp.established", above=float("nan"))], "cannot be written as JSON"),
        ("tcp.established", "alerts must be a list of netmon.Alert, not 'tcp.established'"),
        (ON, "alerts must be a list of netmon.Alert, not Alert"),
    ],
)
def test_nonsense_is_a_sentence_that_names_the_key(rules: Any, words: str) -> None:
    with pytest.raises(netmon.ConfigError, match=words):
        netmon.Monitor(alerts=rules)


def test_rules_are_replaced_while_it_runs() -> None:
    with netmon.Monitor(interval=3600, alerts=[ON]) as monitor:
        (rule,) = monitor.alerts().on
        assert (rule.name, rule.above, rule.below, rule.fired_total) == ("on", 0.0, None, 1)
        with pytest.raises(netmon.InvalidArgumentError, match=r'request key "rules\.above" of entry 1 is missing'):
            monitor.set_alerts([{"metric": "sequence"}])
        assert monitor.alerts().on == (rule,), "the old ones stay"
        assert monitor.set_alerts([ON]).on == (rule,), "the same one goes on"
        answer = monitor.set_alerts([])
        assert answer.rules == ()
        assert [(event.event, event.value) for event in answer.events] == [("fired", 1.0), ("resolved", None)]
        assert str(answer.events[1]) == "warning: on resolved: the rule was taken away or changed"
        assert monitor.alerts(after_sequence=1).events == answer.events[1:]
    with pytest.raises(netmon.ClosedError):
        monitor.alerts()


def test_answers_are_typed_and_frozen() -> None:
    with netmon.Monitor(interval=3600, alerts=[ON, netmon.Alert("interfaces.nowhere0.mtu", below=9000)]) as monitor:
        answer = monitor.alerts()
        assert answer.rules is not None
        known, blind = answer.rules
        assert (known.state, known.value, known.unmeasured_reason) == ("on", 1.0, None)
        assert (blind.state, blind.value, blind.unmeasured_reason) == ("off", None, "the newest sample does not have it")
        assert blind.unmeasured_since_seconds is not None
        assert abs(blind.unmeasured_since_seconds - time.time()) < 60
        assert (
            json.loads(json.dumps(answer.to_dict()))["rules"][1]["unmeasured_since_seconds"] == blind.unmeasured_since_seconds
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            answer.events[0].text = ""  # type: ignore[misc]


def fire(monitor: netmon.Monitor, events: int) -> None:
    """Have rules fire and resolve until there were so many events; no rule is left."""
    rules = [netmon.Alert("sequence", above=0, name=f"{n}") for n in range(64)]
    while monitor.alerts().events_total < events:
        for other in (rules, rules[:0]):
            before = monitor.set_alerts(other).sample_sequence
            until(lambda before=before: monitor.alerts().sample_sequence > before)


def test_all_events_that_are_kept_are_told() -> None:
    """More than one answer of the library holds."""
    with netmon.Monitor(interval=0.01) as monitor:
        fire(monitor, 1400)
        answer = monitor.alerts()
        assert answer.events_dropped_total == answer.events_total - 1024
        assert [event.sequence for event in answer.events] == list(range(answer.events_total - 1023, answer.events_total + 1))
        last = monitor.alerts(after_sequence=answer.events_total - 300)
        assert last.events == answer.events[-300:]


# Traffic

RATES = [
    {"name": "busy", "metric": "interfaces.eth0.transmit_bytes_per_second", "above": 1e6, "clear": 5e5},
    {"name": "long busy", "metric": "totals.transmit_bytes_per_second", "above": 1e6, "for_seconds": 0.5},
    {"name": "too long", "metric": "totals.transmit_bytes_per_second", "above": 1e6, "for_seconds": 3600},
    {"name": "packets", "metric": "interfaces.eth0.transmit_packets_total", "above": 100, "rate": True, "clear": 50},
    {"name": "quiet", "metric": "totals.transmit_bytes_per_second", "below": 5e5},
]


def test_traffic_over_a_limited_link_fires_and_resolves(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    here.egress.limit_rate(40e6)
    with traffic.serving(there), agent(here, interval=0.1, alerts=RATES) as monitor:
        monitor.ask("(got := []) or (calls := monitor.on_alert(lambda e: got.append(e.to_dict()))) and 1")
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")

        def says(name: str, event: str) -> list[dict[str, Any]]:
            return [e for e in monitor.ask("got") if (e["name"], e["event"]) == (name, event)]

        until(lambda: says("quiet", "fired"))
        began = time.time()
        monitor.ask(f"traffic.send({connection}, 10_000_000)")  # 2 s
        sent_for = time.time() - began
        until(lambda: all(says(name, "resolved") for name in ("busy", "long busy", "packets")))
        until(lambda: len(says("quiet", "fired")) == 2)
        ended = monitor.ask("got")
        recorded = monitor.ask("monitor.alerts().to_dict()")
    assert ended == recorded["events"], "each event is told once, in order"
    assert recorded["events_dropped_total"] == 0
    assert [e["event"] for e in ended if e["name"] == "quiet"] == ["fired", "resolved", "fired"]
    # Two processors for everything: the sender may be held up for more than an interval, and be busy twice.
    for name in ("busy", "long busy", "packets"):
        events = [e for e in ended if e["name"] == name]
        assert [e["event"] for e in events] == ["fired", "resolved"] * (len(events) // 2), name
        assert sum(e["active_seconds"] for e in events if e["event"] == "resolved") < sent_for + 1
    assert not [e for e in ended if e["name"] == "too long"]
    fired = next(e for e in ended if e["name"] == "busy")
    assert 1e6 < fired["value"] < 40e6 / 8 * 1.5
    assert (fired["direction"], fired["threshold"], fired["active_seconds"]) == ("above", 1e6, None)
    long = next(e for e in ended if e["name"] == "long busy")
    assert long["timestamp_seconds"] - long["onset_seconds"] >= 0.5
    resolved = next(e for e in ended if (e["name"], e["event"]) == ("busy", "resolved"))
    assert resolved["value"] <= resolved["threshold"] == 5e5


def test_lost_packets_fire_and_resolve(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    rules = [{"name": "again", "metric": "tcp.segments_retransmitted_total", "increase": True, "above": 0}]
    with traffic.serving(there), agent(here, interval=0.1, alerts=rules) as monitor:
        (connection,) = monitor.ask(f"traffic.connect({there.address!r})")
        monitor.ask(f"traffic.send({connection}, 1_000_000)")
        assert monitor.ask("monitor.alerts().to_dict()")["events"] == []
        there.ingress.lose(every=50, only=f"tcp dport {traffic.PORT} meta length > 500")
        monitor.ask(f"traffic.send({connection}, 1_000_000)")
        there.ingress.lose_nothing()
        answer = until(
            lambda: (a := monitor.ask("monitor.alerts().to_dict()"))["rules"][0]["state"] == "off" and a["events"] and a
        )
    events = [(event["event"], event["value"]) for event in answer["events"]]
    assert events[0][0] == "fired"
    assert events[0][1] >= 1
    assert events[-1] == ("resolved", 0.0)


def test_an_interface_that_goes_leaves_the_alert_on_and_blind(make_lab: MakeLab) -> None:
    (here,) = make_lab(1, ipv6=False).hosts
    here.ip("link", "add", "extra0", "type", "veth", "peer", "name", "extra1")
    rules = [{"name": "small", "metric": "interfaces.extra0.mtu", "below": 2000}]
    with agent(here, interval=0.05, alerts=rules) as monitor:

        def rule() -> dict[str, Any]:
            answer: dict[str, Any] = monitor.ask("monitor.alerts().rules[0].to_dict()")
            return answer

        assert (rule()["state"], rule()["unmeasured_since_seconds"]) == ("on", None)
        here.ip("link", "del", "extra0")
        blind = until(lambda: (r := rule())["unmeasured_since_seconds"] and r)
        assert (blind["state"], blind["value"]) == ("on", 1500.0)
        here.ip("link", "add", "extra0", "mtu", "9000", "type", "veth", "peer", "name", "extra1")
        until(lambda: rule()["state"] == "off")
        assert [e["event"] for e in monitor.ask("monitor.alerts().to_dict()")["events"]] == ["fired", "resolved"]


# Functions that are called


def test_no_thread_without_a_function() -> None:
    with netmon.Monitor(interval=0.01, alerts=[ON]) as monitor:
        monitor.alerts()
        assert not threads()
        with monitor.on_alert(print) as callback:
            assert len(threads()) == 1
            assert threads()[0].daemon
            assert not callback.closed
        assert callback.closed
        assert not threads()


ENDS = """
import sys, threading, time, netmon

def callback(event):
    began.wait(30)
    if sys.argv[1] == "returns":
        time.sleep(0.5)
        print("returned", flush=True)
    while sys.argv[1] != "returns":
        time.sleep(0.01)

began = threading.Barrier(3)
monitor = netmon.Monitor(interval=0.01, alerts=[netmon.Alert("sequence", above=0)])
called = [monitor.on_alert(callback), monitor.on_alert(callback)]
began.wait(30)
"""


@pytest.mark.parametrize("how", ["returns", "never"])
def test_a_call_that_is_under_way_when_the_interpreter_ends(how: str) -> None:
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", ENDS, how], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("returned\n" * 2 if how == "returns" else "")
    assert time.monotonic() - begun < 20


def test_it_is_told_what_is_on_and_then_what_happens() -> None:
    with netmon.Monitor(interval=0.01, alerts=[ON, GROWS]) as monitor:
        until(lambda: len(monitor.alerts().on) == 2)
        got: list[netmon.AlertEvent] = []
        monitor.on_alert(got.append)
        until(lambda: len(got) == 2)
        assert [(event.name, event.event) for event in got] == [("on", "fired"), ("grows", "fired")]
        monitor.set_alerts([ON])
        until(lambda: len(got) == 3)
        assert (got[2].name, got[2].event) == ("grows", "resolved")
        again: list[netmon.AlertEvent] = []
        monitor.on_alert(again.append)
        until(lambda: len(again) == 1)
        assert again == got[:1], "not what is over"


def test_it_is_called_soon_on_another_thread() -> None:
    with netmon.Monitor(interval=0.05) as monitor:
        where: list[threading.Thread] = []
        monitor.on_alert(lambda event: where.append(threading.current_thread()))
        monitor.set_alerts([ON])
        until(lambda: where)
        assert where[0] is not threading.current_thread()
        assert where[0].name == "netmon-alerts"


def test_what_it_raises_is_caught_and_told_until_it_raises_no_more() -> None:
    with netmon.Monitor(interval=0.01, alerts=[ON]) as monitor:
        broken = True

        def callback(event: netmon.AlertEvent) -> None:
            if broken:
                raise SystemExit("no mail server")

        handle = monitor.on_alert(callback)
        health = until(lambda: (h := monitor.health()).status == "degraded" and h)
        (problem,) = [p for p in health.problems if "alert callback" in p]
        assert "raised SystemExit('no mail server'), at 'on'" in problem
        assert (handle.errors, handle.closed) == (1, False)
        broken = False
        monitor.set_alerts([])
        until(lambda: handle.problem is None)
        assert monitor.health().status == "ok"
        broken = True
        monitor.set_alerts([ON])
        until(lambda: handle.errors == 2)
        handle.close()
        assert monitor.health().status == "ok", "whoever is not called any more is no problem"


def test_a_slow_one_delays_nobody_and_is_not_called_twice_at_once() -> None:
    rules = [netmon.Alert("sequence", above=n, name=f"{n}") for n in range(20)]
    release, inside, most = threading.Event(), 0, 0
    with netmon.Monitor(interval=0.01, alerts=rules) as monitor:

        def slow(event: netmon.AlertEvent) -> None:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            release.wait(30)
            inside -= 1

        quick: list[netmon.AlertEvent] = []
        handle = monitor.on_alert(slow)
        monitor.on_alert(quick.append)
        until(lambda: len(quick) == 20)
        before = monitor.latest().sequence
        until(lambda: monitor.latest().sequence > before + 3)
        began = time.monotonic()
        handle.close()
        assert time.monotonic() - began < 2, "it is not waited for"
        assert not handle.closed, "the call that is under way goes on"
        release.set()
        until(lambda: handle.closed)
    assert most == 1


def test_close_ends_it_at_once_also_from_within() -> None:
    got: list[str] = []
    rules = [netmon.Alert("sequence", above=n, name=f"{n}") for n in range(3)]
    with netmon.Monitor(interval=0.01) as monitor:

        def once(event: netmon.AlertEvent) -> None:
            got.append(event.name)
            handle.close()
            handle.close()

        handle = monitor.on_alert(once)
        monitor.set_alerts(rules)
        until(lambda: handle.closed)
        assert len(got) == 1
        other = monitor.on_alert(lambda event: None)
        began = time.monotonic()
        other.close()
        assert other.closed
        assert time.monotonic() - began < 5
        third = monitor.on_alert(lambda event: monitor.close())
        until(lambda: monitor.closed)
        until(lambda: third.closed)
    with pytest.raises(netmon.ClosedError):
        monitor.on_alert(print)


def test_a_monitor_that_is_dropped_is_not_kept_by_its_functions() -> None:
    monitor = netmon.Monitor(interval=0.01, alerts=[ON])
    got: list[Any] = []
    # A function that holds the monitor.
    monitor.on_alert(lambda event, monitor=monitor: got.append(monitor.closed))
    until(lambda: got)
    gone = weakref.ref(monitor)
    del monitor

    def collected() -> bool:
        gc.collect()
        return gone() is None and not threads()

    until(collected)


def test_events_that_a_slow_one_missed_are_counted() -> None:
    entered, release = threading.Event(), threading.Event()
    with netmon.Monitor(interval=0.01, alerts=[ON]) as monitor:
        got: list[int] = []

        def slow(event: netmon.AlertEvent) -> None:
            entered.set()
            release.wait(60)
            got.append(event.sequence)

        handle = monitor.on_alert(slow)
        assert entered.wait(30)
        fire(monitor, 1300)
        release.set()
        total = monitor.alerts().events_total
        until(lambda: got[-1:] == [total])
        assert handle.missed == total - 1024 - 1
        assert got == [1, *range(total - 1023, total + 1)]


def test_a_forked_child_has_none_of_it() -> None:
    code = """
import os, threading, time, netmon
monitor = netmon.Monitor(interval=0.01, alerts=[netmon.Alert("sequence", above=0)])
got = []
handle = monitor.on_alert(lambda event: got.append(os.getpid()))
while not got:
    time.sleep(0.001)
for n in range(20):
    child = os.fork()
    if child == 0:
        del got[:]
        assert handle.closed
        handle.close()
        if n % 2:
            # Opened anew: its own alerts, and no function.
            assert monitor.alerts().events_total == 1
            assert monitor.health().status == "ok"
            time.sleep(0.02)
        monitor.close()
        os._exit(1 if got or threading.active_count() > 1 else 0)
    assert os.waitpid(child, 0)[1] == 0, n
assert not handle.closed
monitor.set_alerts([])
while len(got) < 2:
    time.sleep(0.001)
assert set(got) == {os.getpid()}
print("well")
"""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


def test_a_process_ends_with_a_function_under_way() -> None:
    code = """
import time, netmon
monitor = netmon.Monitor(interval=0.01, alerts=[netmon.Alert("sequence", above=0)])
monitor.on_alert(lambda event: time.sleep(600))
time.sleep(0.2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with netmon.Monitor(interval=3600, alerts=[ON]) as monitor:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(netmon.ResourceError, match="no thread can be started to call"):
            monitor.on_alert(print)
        assert monitor._callbacks == []
