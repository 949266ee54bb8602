"""What the rldk-compatible classes say of round trips, loss, names and paths, on networks whose faults the test sets.

Each test runs a script on the first host of a lab; the hosts behind it are what the script probes.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lab import Host, Lab
from rldk_support import answer, environment

MakeLab = Callable[..., Lab]
AGENT = str(Path(__file__).with_name("agent.py"))

# What the scripts share.
COMMON = """
    def timed(call):
        start = time.monotonic()
        value = call()
        return value, time.monotonic() - start

    def known(monitor, count=1):
        '''Return what a latency monitor says once so many probes of each of its hosts have ended.'''
        from netmon.integrations.rldk import _reading
        def look():
            rows = {row["target"]: row for row in _reading.measure().to_dict()["probes"]}
            tried = [rows.get(host, {"sent": 0, "error": None}) for host in monitor.target_hosts]
            return all(row["sent"] >= count or row["error"] for row in tried)
        monitor.measure_latency()
        wait_for(look, "a probe")
        return monitor.measure_latency()

    def said(measured):
        sources = {key: list(source) for key, source in measured.sources.items()}
        return [dict(measured), list(measured.unmeasured), dict(measured.reasons), sources]
"""


def on(host: Host, script: str, *arguments: str, **variables: str) -> Any:
    """Run a script on a host and return the document that it prints last."""
    return answer(textwrap.dedent(COMMON) + textwrap.dedent(script), *arguments, prefix=tuple(host.command()), **variables)


def the_first(attempt: Callable[[], Any], right: Callable[[Any], bool], attempts: int = 5) -> Any:
    """Return the first of some attempts that is right, else the last one.

    For what ends in the time it has on a machine whose processors are free, and on another now and then.
    """
    for _ in range(attempts):
        if right(found := attempt()):
            break
    return found


def silent_addresses(lab: Lab, count: int) -> list[str]:
    """Return addresses whose packets are dropped silently on their way from the first host."""
    one, two = lab.hosts[:2]
    addresses = [f"198.18.5.{number}" for number in range(1, count + 1)]
    for address in addresses:
        one.ip("neighbour", "replace", address, "lladdr", two.mac, "dev", one.interface, "nud", "permanent")
    two.ingress.lose(every=1, only="ip daddr 198.18.5.0/24")
    return addresses


def responder(host: Host) -> subprocess.Popen[str]:
    """Start a monitor that answers UDP echoes."""
    options = json.dumps({"udp_responder": {"address": host.address}})
    agent = host.start(sys.executable, AGENT, options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
    assert agent.stdout is not None
    assert agent.stdout.readline().strip() == '"ready"'
    return agent


def test_d7_lost_pings_are_counted(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    two.ingress.lose(every=2)
    found = on(
        one,
        """
        diagnostics = rldk.NetworkDiagnostics()
        diagnostics.test_hosts = [sys.argv[1]]
        print(json.dumps(diagnostics._run_ping_diagnostics()[sys.argv[1]]))
        """,
        two.address,
    )
    assert (found["packet_loss"], found["success"]) == (50.0, True)
    assert two.ingress.dropped().packets == 2
    assert 0 < found["min_latency"] <= found["latency"] <= found["max_latency"] < 750


def test_d8_d32_twenty_silent_hosts_take_4_s_at_most(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    silent = silent_addresses(lab, 20)
    pings, ping_time, whole, whole_time, report = on(
        one,
        """
        real = rldk.RealNetworkMonitor()
        real.network_diagnostics.test_hosts = sys.argv[1:]
        pings, ping_time = timed(real.network_diagnostics._run_ping_diagnostics)
        whole, whole_time = timed(real.run_network_diagnostics)
        print(json.dumps([pings, ping_time, whole, whole_time, real.get_network_health_report()]))
        """,
        *silent,
        two.address,
    )
    assert ping_time < 5
    assert whole_time < 5
    for found in (pings, whole["ping_tests"]):
        assert list(found) == [*silent, two.address]
        for host in silent:
            assert found[host] == {"error": "Ping timeout: no answer within 0.75 s", "latency": math.inf}, "rldk's failure"
        assert found[two.address]["success"] is True
        assert found[two.address]["latency"] < 750
    for test in whole["connectivity_tests"]["tcp_tests"].values():
        assert test == {"error": "no answer within 0.75 s", "connected": False, "success": False}
    assert [path["success"] for path in whole["path_analysis"].values()] == [False] * 3
    assert len(report["issues"]) == 20
    assert report["overall_health"] == "poor"
    assert report["metrics_summary"]["avg_ping_latency_ms"] < 750, "of the one that answers"


def test_d9_a_udp_test_succeeds_when_an_answer_comes(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    script = """
        diagnostics = rldk.NetworkDiagnostics()
        diagnostics.test_hosts = [sys.argv[1]]
        print(json.dumps(diagnostics._run_connectivity_diagnostics()["udp_tests"][sys.argv[1]]))
        """
    closed = on(one, script, two.address)
    responder(two)
    answered = on(one, script, two.address)
    two.ingress.black_hole()
    dropped = on(one, script, two.address)
    assert closed["success"] is False
    assert "port unreachable" in closed["error"]
    assert answered["success"] is True
    assert 0 < answered["connect_time_ms"] < 750
    assert dropped == {"error": "no answer within 0.75 s", "success": False}


def test_d16_a_router_that_does_not_answer_is_a_hop(make_lab: MakeLab) -> None:
    lab = make_lab(4, ipv6=False)
    one, quiet, router, two = lab.hosts
    lab.route_through([one, quiet, router, two])
    quiet.egress.lose(every=1, only=f"ip saddr {quiet.address} icmp type time-exceeded")
    script = """
        diagnostics = rldk.NetworkDiagnostics()
        diagnostics.test_hosts = [sys.argv[1]]
        found = diagnostics._run_path_diagnostics()[sys.argv[1]]
        print(json.dumps([found, diagnostics._traceroute_host(sys.argv[1])["total_hops"]]))
        """
    found, again = on(one, script, two.address)
    assert [(hop["hop"], hop["ip"]) for hop in found["hops"]] == [(1, None), (2, router.address), (3, two.address)]
    assert [hop["latency_ms"] is None for hop in found["hops"]] == [True, False, False]
    assert (found["total_hops"], found["success"], again) == (3, True, 3)
    assert found["final_latency_ms"] == found["hops"][-1]["latency_ms"]

    two.ingress.black_hole()
    (lost, _) = on(one, script, two.address)
    assert lost["success"] is False
    assert lost["final_latency_ms"] == math.inf
    assert [(hop["hop"], hop["ip"]) for hop in lost["hops"]] == [(1, None), (2, router.address)]


def test_d16_names_are_resolved_with_a_timeout(make_lab: MakeLab) -> None:
    if shutil.which("dnsmasq") is None:
        pytest.skip("no dnsmasq here")
    lab = make_lab(3, ipv6=False)
    one, two, server = lab.hosts
    options = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--log-facility=-"]
    records = [f"--host-record=node7.example,{two.address}", "--local=/example/"]
    names = server.start("dnsmasq", *options, *records, stderr=subprocess.PIPE)
    assert names.stderr is not None
    for line in names.stderr:
        if "started" in line:
            break
    one.set_dns([server.address])
    script = """
        diagnostics = rldk.NetworkDiagnostics()
        diagnostics.test_hosts = [*sys.argv[1:], "127.0.0.1"]
        found, spent = timed(diagnostics._run_dns_diagnostics)
        print(json.dumps([found, spent, diagnostics._run_ping_diagnostics()]))
        """
    hosts = ("node7.example", "nowhere.example")
    found, _, pings = the_first(lambda: on(one, script, *hosts), lambda answer: all("did not" not in str(a) for a in answer))
    assert list(found) == ["node7.example", "nowhere.example"], "an address has nothing to resolve"
    assert found["node7.example"]["resolved_ip"] == two.address
    assert found["node7.example"]["success"] is True
    assert 0 < found["node7.example"]["resolution_time_ms"] < 750
    assert found["nowhere.example"]["success"] is False
    assert found["nowhere.example"]["resolution_time_ms"] == math.inf
    assert "does not resolve" in found["nowhere.example"]["error"]
    assert "does not resolve" in pings["nowhere.example"]["error"]
    assert pings["node7.example"]["success"] is True

    server.ingress.black_hole()
    found, spent, _ = on(one, script, "node7.example", "nowhere.example")
    assert spent < 2
    for test in found.values():
        assert test["success"] is False
        assert f"resolver {server.address} did not answer" in test["error"]


def test_d17_latency_is_the_newest_and_an_outage_is_one(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    script = """
        rldk.configure(interval=0.1, probe_interval=0.1, probe_timeout=0.3)
        monitor = rldk.NetworkLatencyMonitor([sys.argv[1]])
        real = rldk.RealNetworkMonitor()
        real.latency_monitor = monitor
        before = known(monitor, 10)[sys.argv[1]]
        print("before", flush=True)
        sys.stdin.readline()
        after = wait_for(lambda: max(v for v in monitor.measure_latency().values()) >= 20 and monitor.measure_latency())
        metrics = wait_for(lambda: real.get_comprehensive_metrics().latency_ms >= 20 and real.get_comprehensive_metrics())
        stats = monitor.get_latency_stats()
        print("after", flush=True)
        sys.stdin.readline()
        gone = wait_for(lambda: monitor.measure_latency()[sys.argv[1]] == float("inf") and monitor.measure_latency())
        lost = wait_for(lambda: "latency_ms" in (m := real.get_comprehensive_metrics()).unmeasured and m)
        print(json.dumps([before, said(after), metrics.to_dict(), stats, said(gone), lost.to_dict(), lost.reasons,
                          lost.sources]), flush=True)
        """
    agent = one.start(
        sys.executable,
        "-c",
        "import json, os, sys, threading, time\nfrom netmon.integrations import rldk\nfrom rldk_support import *\n"
        + textwrap.dedent(COMMON)
        + textwrap.dedent(script),
        two.address,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    assert agent.stdout.readline().strip() == "before"
    two.ingress.delay(0.02)
    print(file=agent.stdin, flush=True)
    assert agent.stdout.readline().strip() == "after"
    two.ingress.black_hole()
    print(file=agent.stdin, flush=True)
    before, after, metrics, stats, gone, lost, reasons, sources = json.loads(agent.stdout.readline())
    assert before < 20
    assert after[0][two.address] >= 20
    assert after[3][two.address][:2] == ["probes.rtt_last_seconds", f"{two.address} by icmp"]
    assert after[3][two.address][2] < 5
    assert metrics["latency_ms"] >= 20, "not diluted by what was before"
    assert stats["min"] < 20 <= stats["max"]
    assert gone[0] == {two.address: math.inf}
    assert gone[2] == {two.address: "no answer within 0.3 s"}
    assert gone[1] == [], "that nobody answers was measured"
    assert lost["latency_ms"] == 0.0
    assert reasons["latency_ms"] == f"{two.address}: no answer within 0.3 s"
    assert lost["packet_loss_percent"] > 0
    assert sources["packet_loss_percent"][0] == "probes.lost / probes.sent"


def test_d21_d22_d23_silent_hosts_cost_nothing_and_no_average(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    silent = silent_addresses(lab, 20)
    first_time = the_first(
        lambda: on(
            one,
            """
            rldk.RealNetworkMonitor().get_comprehensive_metrics()
            print(timed(rldk.NetworkLatencyMonitor(sys.argv[1:]).measure_latency)[1])
            """,
            *silent,
        ),
        lambda seconds: seconds < 0.5,
    )
    assert first_time < 0.5, "0.1 s, once, for hosts of which nothing is known"
    first, found, spent, average, cached, dead, stats = on(
        one,
        """
        *silent, live = sys.argv[1:]
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        monitor = rldk.NetworkLatencyMonitor([*silent, live], sampling_frequency=2)
        first = monitor.measure_latency()
        known(monitor)
        while monitor._invocation_count % 2 == 0:
            monitor.measure_latency()
        found, spent = timed(monitor.measure_latency)
        average = monitor.get_average_latency()
        cached = monitor.measure_latency()
        dead = rldk.NetworkLatencyMonitor(silent)
        known(dead)
        stats = [dead.get_average_latency(), said(dead.get_latency_stats())]
        dead = said(dead.measure_latency())
        print(json.dumps([said(first), said(found), spent, average, said(cached), dead, stats]))
        """,
        *silent,
        two.address,
    )
    assert first[0][two.address] < 100, "and who answers is known at once"
    assert set(first[1]) == set(silent)
    assert spent < 0.5, "nobody is waited for"
    assert list(found[0]) == [*silent, two.address]
    assert {found[0][host] for host in silent} == {math.inf}
    assert set(found[2]) == set(silent)
    assert set(found[2].values()) == {"no answer within 1 s"}
    assert found[1] == []
    assert 0 < average < 100
    assert cached[0] == found[0], "what a call finds that does not measure is what was found last"
    assert cached[3][two.address][2] >= found[3][two.address][2]
    assert set(dead[0].values()) == {math.inf}
    assert stats[0] == 0.0
    assert set(stats[1][2].values()) == {"no host answered in the last 60 s"}


def test_d29_d31_d33_default_targets_are_the_peers(make_lab: MakeLab) -> None:
    lab = make_lab(3, ipv6=False)
    one, two, three = lab.hosts
    metrics, current, stats, targets, reasons = on(
        one,
        """
        rldk.configure(interval=0.1, probe_interval=0.1, job={"peers": json.loads(sys.argv[1])})
        real, network = rldk.RealNetworkMonitor(enable_distributed_monitoring=False), rldk.NetworkMonitor(1)
        names = {"latency_ms", "tcp_connectivity_ms", "network_path_hops", "network_path_latency"}
        metrics = wait_for(lambda: (m := real.get_comprehensive_metrics()) and names.isdisjoint(m.unmeasured) and m)
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        current, _ = real.get_current_metrics(), network.get_current_metrics()
        stats = real.get_network_stats(), network.get_network_stats()
        targets = real.latency_monitor.target_hosts, rldk.NetworkDiagnostics().run_comprehensive_diagnostics()["ping_tests"]
        print(json.dumps([[metrics.to_dict(), metrics.sources], said(current), stats, targets, metrics.reasons]))
        """,
        json.dumps([one.address, two.address, three.address]),
        MASTER_ADDR=two.address,
        MASTER_PORT="29500",
    )
    values, sources = metrics
    assert 0 < values["latency_ms"] < 100
    assert sources["latency_ms"][:2] == ["probes.rtt_last_seconds", f"{two.address} by icmp, {three.address} by icmp"]
    assert values["packet_loss_percent"] == 0.0
    assert sources["packet_loss_percent"][0] == "probes.lost / probes.sent"
    assert 0 < values["tcp_connectivity_ms"] < 1000
    assert f"{two.address} by tcp_refused" in sources["tcp_connectivity_ms"][1]
    assert values["network_path_hops"] == 1
    assert 0 < values["network_path_latency"] < 1000
    assert sources["network_path_hops"][:2] == ["trace.hops", two.address]
    assert 0 < current[0]["latency"] < 100
    assert all(0 < each[f"{kind}_latency"] < 100 for each in stats for kind in ("avg", "min", "max"))
    assert targets[0] == [two.address, three.address], "not the own address"
    assert set(targets[1]) == {two.address, three.address}
    assert reasons["dns_resolution_ms"] == "no host that is probed is known by a name: there is nothing to resolve"
    assert "udp_responder" in reasons["udp_connectivity_ms"]


def test_d12_where_nobody_is_known_no_packet_is_sent(make_lab: MakeLab) -> None:
    """As on the master's own host before the peers are known."""
    lab = make_lab(2, ipv6=False)
    one = lab.hosts[0]
    before = one.link_counters()["tx"]["packets"]
    reasons, latency, health, diagnosis, errors = on(
        one,
        """
        rldk.configure(interval=0.05, probe_interval=0.05)
        real, network, latency = rldk.RealNetworkMonitor(), rldk.NetworkMonitor(1), rldk.NetworkLatencyMonitor()
        pass_windows(5)
        metrics, found = real.get_comprehensive_metrics(), latency.measure_latency()
        network.get_current_metrics()
        report, parts = real.get_network_health_report(), real.run_network_diagnostics()
        print(json.dumps([metrics.reasons, said(found), said(report), parts.reasons, network.get_error_status()]))
        """,
        MASTER_ADDR=one.address,
        MASTER_PORT="29500",
    )
    assert one.link_counters()["tx"]["packets"] == before
    nobody = "nobody is probed: no training peer on another host is known, and no target is named"
    for name in ("latency_ms", "tcp_connectivity_ms", "udp_connectivity_ms", "dns_resolution_ms", "network_path_hops"):
        assert reasons[name] == nobody
    assert latency[:3] == [{}, ["target_hosts"], {"target_hosts": nobody}]
    assert health[0]["overall_health"] == "unknown"
    assert health[2]["overall_health"] == nobody
    for part in ("ping_tests", "connectivity_tests", "path_analysis"):
        assert diagnosis[part] == nobody
    assert errors["latency"] == f"latency is not measured: {nobody}"


def test_d32_a_healthy_node_without_internet_is_excellent(make_lab: MakeLab) -> None:
    lab = make_lab(3, ipv6=False)
    one, two, three = lab.hosts
    script = """
        rldk.configure(targets=sys.argv[1:])
        real = rldk.RealNetworkMonitor()
        print(json.dumps(said(real.get_network_health_report())))
        """
    healthy = on(one, script, two.address, three.address)
    three.ingress.black_hole()
    one_silent = on(one, script, two.address, three.address)
    two.ingress.black_hole()
    all_silent = on(one, script, two.address, three.address)
    assert (healthy[0]["overall_health"], healthy[0]["issues"]) == ("excellent", [])
    assert healthy[2] == {"best_bandwidth_mbps": "not run: it makes traffic, so its server has to be named (iperf3_server=...)"}
    assert (one_silent[0]["overall_health"], len(one_silent[0]["issues"])) == ("fair", 1)
    assert three.address in one_silent[0]["issues"][0]
    assert all_silent[0]["overall_health"] == "poor"


def test_d41_d43_every_packet_dropped_is_no_perfect_latency(make_lab: MakeLab) -> None:
    lab = make_lab(3, ipv6=False)
    one, two, three = lab.hosts
    two.ingress.black_hole()
    slowest, found, errors, infinite, pings, handshakes = on(
        one,
        """
        silent, live = sys.argv[1:]
        network = rldk.NetworkMonitor(1)
        network.latency_targets = [silent]
        spent = []
        def look():
            found, took = timed(network.get_current_metrics)
            spent.append(took)
            return "no answer" in found.reasons["latency_ms"] and found
        found = wait_for(look)
        errors = network.get_error_status()
        infinite = network._measure_latency()
        pings = [timed(lambda host=host: network._icmp_ping(host)) for host in (silent, live)]
        handshakes = [timed(lambda host=host: network._tcp_handshake(host)) for host in (silent, live)]
        print(json.dumps([max(spent), said(found), errors, infinite, pings, handshakes]))
        """,
        two.address,
        three.address,
    )
    assert slowest < 0.5
    assert found[0]["latency_ms"] == 0.0
    assert "latency_ms" in found[1]
    assert found[2]["latency_ms"] == f"{two.address}: no answer within 1 s"
    assert errors["latency"] == f"All latency measurements failed: {two.address}: no answer within 1 s"
    assert infinite == math.inf
    assert pings[0][0] is None
    assert handshakes[0][0] is None
    assert pings[0][1] < 1.5
    assert handshakes[0][1] < 1.5, "all ports side by side"
    assert 0 < pings[1][0] < 1000
    assert 0 < handshakes[1][0] < 1000, "a refusal is a round trip"


def test_d43_targets_that_answer_no_echo_are_measured_by_tcp(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    two.ingress.lose(every=1, only="ip protocol icmp")
    found = on(
        one,
        """
        rldk.configure(interval=0.1, probe_interval=0.1, probe_timeout=0.2)
        networks = rldk.NetworkMonitor(1), rldk.NetworkMonitor(1, enable_icmp=False)
        for network in networks:
            network.latency_targets = [sys.argv[1]]
        found = [wait_for(lambda: (m := network.get_current_metrics())["latency_ms"] and m) for network in networks]
        print(json.dumps([said(each) for each in found]))
        """,
        two.address,
    )
    for each, target in zip(found, (two.address, f"tcp://{two.address}"), strict=True):
        assert 0 < each[0]["latency_ms"] < 1000
        assert each[3]["latency_ms"][1] == f"{target} by tcp_refused"


def test_d49_a_callback_of_a_job_whose_master_is_silent(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    two.ingress.black_hole()
    spent, step, unmeasured, sources, alerts, ended = on(
        one,
        """
        rldk.configure(interval=0.05, probe_interval=0.1, probe_timeout=0.2)
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="x", network_sampling_frequency=1,
                                                   alert_thresholds={"latency_ms": 100.0, "packet_loss_percent": 5.0})
        alerts = []
        callback.add_alert_callback(lambda alert: alerts.append(alert["metric"]))
        spent = [timed(lambda: callback.on_train_begin(None))[1]]
        number = iter(range(10**9))
        def step():
            which = next(number)
            spent.append(timed(lambda: callback.on_step_begin(None, which))[1])
            spent.append(timed(lambda: callback.on_step_end(None, which, loss=1.0))[1])
            return callback.current_metrics.packet_loss_percent == 100.0
        wait_for(step)
        metrics = callback.current_metrics
        ended = timed(lambda: callback.on_train_end(None))[1]
        print(json.dumps([max(spent), metrics.to_dict(), metrics.unmeasured, metrics.sources, alerts, ended]))
        """,
        str(tmp_path),
        MASTER_ADDR=two.address,
        MASTER_PORT="29500",
        RANK="1",
        WORLD_SIZE="2",
    )
    assert spent < 2.5, "the first opens files"
    assert step["latency_ms"] == step["network_latency"] == 0.0
    assert {"latency_ms", "network_latency"} <= set(unmeasured)
    assert step["packet_loss_percent"] == 100.0
    assert sources["packet_loss_percent"][:2] == ["probes.lost / probes.sent", f"{two.address} by icmp"] or (
        sources["packet_loss_percent"][1] == f"{two.address} by tcp"
    )
    assert alerts == ["packet_loss_percent"]
    assert ended < 5


def test_steps_carry_latency_loss_and_the_time_names_take(make_lab: MakeLab, tmp_path: Path) -> None:
    lab = make_lab(2, ipv6=False)
    one = lab.hosts[0]
    step, sources = on(
        one,
        """
        rldk.configure(interval=0.05, probe_interval=0.1)
        callback = rldk.DistributedTrainingMonitor(output_dir=sys.argv[1], run_id="x", network_sampling_frequency=1)
        callback.on_train_begin(None)
        number = iter(range(10**9))
        def step():
            callback.on_step_end(None, next(number))
            return {"latency_ms", "dns_resolution_ms"}.isdisjoint(callback.current_metrics.unmeasured)
        wait_for(step)
        metrics = callback.current_metrics
        callback.on_train_end(None)
        print(json.dumps([metrics.to_dict(), metrics.sources]))
        """,
        str(tmp_path),
        MASTER_ADDR="h2",
        MASTER_PORT="29500",
    )
    assert 0 < step["latency_ms"] < 1000
    assert step["network_latency"] == step["latency_ms"]
    assert step["packet_loss_percent"] == 0.0
    assert 0 <= step["dns_resolution_ms"] < 1000
    assert sources["latency_ms"][:2] == ["probes.rtt_last_seconds", "h2 by icmp"]
    assert sources["dns_resolution_ms"][1] == "h2 by dns"
    assert sources["latency_ms"][2] < 5


def test_udp_connectivity_of_named_targets(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    responder(two)
    values, sources = on(
        one,
        """
        rldk.configure(interval=0.1, probe_interval=0.1, targets=[f"udp://{sys.argv[1]}"])
        real = rldk.RealNetworkMonitor()
        metrics = wait_for(lambda: (m := real.get_comprehensive_metrics()).udp_connectivity_ms and m)
        print(json.dumps([metrics.to_dict(), metrics.sources]))
        """,
        two.address,
    )
    assert 0 < values["udp_connectivity_ms"] < 1000
    assert values["latency_ms"] == values["udp_connectivity_ms"]
    assert sources["udp_connectivity_ms"][1] == f"udp://{two.address} by udp"


def test_configure_takes_the_probe_keywords(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    found = on(
        one,
        """
        from netmon import ConfigError
        try:
            rldk.configure(probe_interval=0.001)
        except ConfigError as error:
            refused = str(error)
        rldk.configure(targets=[sys.argv[1], "udp://127.0.0.1"], probe_interval=0.05, probe_timeout=0.1, udp_responder=True)
        from netmon.integrations.rldk import _reading
        rows = lambda: _reading.measure().to_dict()["probes"]
        wait_for(lambda: all(row["sent"] >= 20 for row in rows()))
        print(json.dumps([refused, rows()]))
        """,
        two.address,
    )
    assert "probe_interval_seconds" in found[0]
    assert [row["received"] > 0 for row in found[1]] == [True, True]
    assert found[1][0]["window_seconds"] < 20, "more often than once a second"


def test_named_hosts_are_probed_as_long_as_somebody_names_them(make_lab: MakeLab) -> None:
    lab = make_lab(3, ipv6=False)
    one, two, three = lab.hosts
    both, one_left, none, default = on(
        one,
        """
        from netmon.integrations.rldk import _reading
        two, three = sys.argv[1:]
        rldk.configure(interval=0.1, probe_interval=0.1, targets=["127.0.0.1"])
        targets = lambda: [row["target"] for row in _reading.measure().to_dict()["probes"]]
        first, second = rldk.NetworkLatencyMonitor([two]), rldk.NetworkLatencyMonitor([two, three])
        known(first); known(second)
        both = targets()
        second.target_hosts.remove(two)         # changed in place counts
        del first
        second.measure_latency()
        one_left = wait_for(lambda: len(targets()) == 2 and targets())
        default = rldk.RealNetworkMonitor().get_comprehensive_metrics().sources["latency_ms"]
        del second
        rldk.NetworkLatencyMonitor().measure_latency()
        none = wait_for(lambda: len(targets()) == 1 and targets())
        print(json.dumps([both, one_left, none, default]))
        """,
        two.address,
        three.address,
    )
    assert both == ["127.0.0.1", two.address, three.address]
    assert one_left == ["127.0.0.1", three.address]
    assert none == ["127.0.0.1"]
    assert default[1] == "127.0.0.1 by icmp", "what others named is no part of the training's figures"


def test_hosts_that_are_none_are_told_and_the_others_measured(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    found, many = on(
        one,
        """
        monitor = rldk.NetworkLatencyMonitor(["http://a", sys.argv[1], "a b", ""])
        found = wait_for(lambda: (m := monitor.measure_latency())[sys.argv[1]] < 1000 and m)
        many = rldk.NetworkLatencyMonitor([f"127.0.1.{n}" for n in range(1, 255)] + [f"127.0.2.{n}" for n in range(1, 20)])
        print(json.dumps([said(found), said(many.measure_latency())]))
        """,
        two.address,
    )
    assert {host for host, value in found[0].items() if value == math.inf} == {"http://a", "a b", ""}
    assert 'unknown scheme "http"' in found[2]["http://a"]
    assert "neither an address nor a name" in found[2]["a b"]
    assert "empty" in found[2][""]
    left_out = [reason for reason in many[2].values() if reason.startswith("not probed: 192 targets at most")]
    assert len(left_out) == 254 + 19 - 191


def test_programs_that_measure_in_their_own_way_are_asked(make_lab: MakeLab) -> None:
    lab = make_lab(1, ipv6=False)
    found = on(
        lab.hosts[0],
        """
        from unittest import mock
        monitor, network = rldk.NetworkLatencyMonitor(["10.0.0.2"]), rldk.NetworkMonitor(1)
        network.latency_targets = ["10.0.0.2"]
        with mock.patch.object(monitor, "_ping_host", return_value=7.5):
            found = [monitor.measure_latency()]
        with mock.patch.object(network, "_icmp_ping", return_value=None), mock.patch.object(network, "_tcp_handshake") as tcp:
            tcp.return_value = 3.5
            found.append(network.get_current_metrics()["latency_ms"])
        with mock.patch.object(network, "_measure_latency", return_value=float("inf")):
            found.append(network.get_current_metrics()["latency_ms"])
        found.append(network.get_error_status()["latency"])
        with mock.patch.object(rldk.NetworkDiagnostics, "_run_ping_diagnostics", return_value={"a": {"latency": 1.0}}):
            pass
        diagnostics = rldk.NetworkDiagnostics()
        with mock.patch.object(diagnostics, "_run_ping_diagnostics", return_value={"a": {"latency": 1.0}}):
            found.append(diagnostics.run_comprehensive_diagnostics()["ping_tests"])
        print(json.dumps(found))
        """,
    )
    assert found == [{"10.0.0.2": 7.5}, 3.5, 0.0, "All latency measurements failed", {"a": {"latency": 1.0}}]


def test_without_probes_in_sources_nothing_is_sent(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    before = one.link_counters()["tx"]["packets"]
    found, ping, reasons = on(
        one,
        """
        rldk.configure(sources=["interfaces", "tcp"], interval=0.05)
        monitor, diagnostics = rldk.NetworkLatencyMonitor([sys.argv[1]]), rldk.NetworkDiagnostics()
        diagnostics.test_hosts = [sys.argv[1]]
        pass_windows()
        metrics = rldk.RealNetworkMonitor().get_comprehensive_metrics()
        print(json.dumps([said(monitor.measure_latency()), diagnostics._run_ping_diagnostics(), metrics.reasons]))
        """,
        two.address,
        MASTER_ADDR=two.address,
    )
    assert one.link_counters()["tx"]["packets"] == before
    assert found[:3] == [{two.address: math.inf}, [two.address], {two.address: "not in sources"}]
    assert ping == {two.address: {"error": "not in sources", "latency": math.inf}}
    assert reasons["latency_ms"] == reasons["network_path_hops"] == "not in sources"


def test_a_forked_child_probes_by_itself(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    found = on(
        one,
        """
        rldk.configure(interval=0.1, probe_interval=0.1)
        monitor = rldk.NetworkLatencyMonitor([sys.argv[1]])
        known(monitor)
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                child = known(monitor)
                diagnostics = rldk.NetworkDiagnostics()
                diagnostics.test_hosts = [sys.argv[1]]
                os.write(writer, json.dumps([child, diagnostics._run_ping_diagnostics()]).encode())
            finally:
                os._exit(0)
        os.close(writer)
        print(os.fdopen(reader).read())
        """,
        two.address,
    )
    assert 0 < found[0][two.address] < 1000
    assert found[1][two.address]["success"] is True


def test_ctrl_c_ends_a_diagnosis_at_once(make_lab: MakeLab) -> None:
    lab = make_lab(2, ipv6=False)
    one = lab.hosts[0]
    silent = silent_addresses(lab, 8)
    script = """
        import json, sys, time
        from netmon.integrations import rldk
        diagnostics = rldk.NetworkDiagnostics()
        diagnostics.test_hosts = sys.argv[1:]
        rldk.RealNetworkMonitor().get_comprehensive_metrics()
        print("ready", flush=True)
        try:
            diagnostics.run_comprehensive_diagnostics()
        except KeyboardInterrupt:
            print(json.dumps(time.monotonic()), flush=True)
        """
    asking = one.start(
        sys.executable,
        "-c",
        textwrap.dedent(script),
        *silent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert asking.stdout is not None
    assert asking.stdout.readline().strip() == "ready"
    time.sleep(0.5)  # in the middle of it
    sent = time.monotonic()
    asking.send_signal(signal.SIGINT)
    line = asking.stdout.readline()
    assert line, asking.communicate()[1]
    assert json.loads(line) - sent < 0.5
    assert asking.wait(10) == 0


@pytest.mark.torch
def test_ranks_on_other_hosts_are_found(make_lab: MakeLab) -> None:
    pytest.importorskip("torch")
    lab = make_lab(2, ipv6=False)
    one, two = lab.hosts
    script = """
        import datetime, torch.distributed
        rank = int(os.environ["RANK"])
        rldk.configure(interval=0.1, probe_interval=0.1)
        if rank == 0:
            store = torch.distributed.TCPStore(os.environ["MASTER_ADDR"], 29500, is_master=True, wait_for_workers=False)
        search = wait_for(lambda: (s := rldk.find_peers()) and s.wait(5) and s.problem is None and s)
        real = rldk.RealNetworkMonitor()
        metrics = wait_for(lambda: (m := real.get_comprehensive_metrics()).latency_ms and m)
        print(json.dumps([dict(search.peers), metrics.sources["latency_ms"]]), flush=True)
        sys.stdin.read()
        """
    text = "import json, os, sys, threading, time\nfrom netmon.integrations import rldk\nfrom rldk_support import *\n"
    ranks = [
        host.start(
            sys.executable,
            "-c",
            text + textwrap.dedent(script),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(MASTER_ADDR=one.address, MASTER_PORT="29500", RANK=str(rank), WORLD_SIZE="2"),
        )
        for rank, host in enumerate((one, two))
    ]
    found = [json.loads(rank.stdout.readline()) for rank in ranks if rank.stdout is not None]
    assert found[0] == [{"1": two.address}, ["probes.rtt_last_seconds", f"{two.address} by icmp", found[0][1][2]]]
    assert found[1] == [{"0": one.address}, ["probes.rtt_last_seconds", f"{one.address} by icmp", found[1][1][2]]]
