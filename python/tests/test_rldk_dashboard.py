"""The dashboard: rows by kind, alerts, what a browser gets; by itself, and in front of rldk's own."""

from __future__ import annotations

import csv
import io
import json
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rldk_support import answer, lines, run, wait_for
from test_rldk_install import installed, with_rldk  # noqa: F401

from netmon.integrations import rldk
from netmon.integrations.rldk import _dashboard

ALERT = {"timestamp", "type", "message", "severity", "threshold", "current_value"}


@pytest.fixture
def dashboard(tmp_path: Path) -> rldk.OpenRLHFDashboard:
    return rldk.OpenRLHFDashboard(output_dir=tmp_path)


def get(dashboard: Any, path: str, method: str = "GET") -> tuple[str, str, str]:
    """Return status, content type and text of a page, without a server."""
    said: list[Any] = []
    path, _, query = path.partition("?")
    environ = {"PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": method}
    body = b"".join(dashboard.app(environ, lambda status, headers, _=None: said.extend((status, dict(headers)))))
    assert int(said[1]["Content-Length"]) == len(body) or method == "HEAD"
    return said[0], said[1]["Content-Type"], body.decode()


def document(dashboard: Any, path: str) -> Any:
    """Return the JSON of a page, as a browser reads it: without NaN and Infinity."""
    status, kind, text = get(dashboard, path)
    assert (status, kind) == ("200 OK", "application/json")
    return json.loads(text, parse_constant=refuse)


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


class Monitor:
    """Answers as a RealNetworkMonitor, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def get_network_health_report(self) -> dict[str, Any]:
        self.asked += 1
        summary = {"avg_ping_latency_ms": math.inf, "best_bandwidth_mbps": 0.0}
        return {"timestamp": 1.0, "overall_health": "good", "issues": [], "recommendations": [], "metrics_summary": summary}


def test_state_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dashboard = rldk.OpenRLHFDashboard()
    assert str(dashboard.output_dir) == "rldk_logs"
    assert (dashboard.port, dashboard.host) == (5000, "localhost")
    assert (dashboard.enable_auto_refresh, dashboard.refresh_interval) == (True, 1.0)
    for name in ("metrics_data", "health_data", "resource_data", "distributed_data", "network_data", "network_alerts"):
        assert getattr(dashboard, name) == [], name
    assert dashboard.network_monitor is None
    assert dashboard.get_dashboard_url() == "http://localhost:5000"
    assert not list(tmp_path.iterdir()), "nothing is written before there is something"


def test_network_rows_are_as_they_were_given(dashboard: rldk.OpenRLHFDashboard, tmp_path: Path) -> None:
    dashboard.add_metrics({"bandwidth_mbps": 940.0, "latency_ms": 0.2})
    dashboard.add_metrics({"latency_ms": 0.3, "timestamp": 5.0, "mine": "yes"})
    rows = document(dashboard, "/api/network")
    assert abs(rows[0].pop("timestamp") - time.time()) < 60
    assert rows == [{"bandwidth_mbps": 940.0, "latency_ms": 0.2}, {"latency_ms": 0.3, "timestamp": 5.0, "mine": "yes"}]
    assert [row["latency_ms"] for row in lines(tmp_path / "network_metrics.jsonl")] == [0.2, 0.3]


def test_rows_go_where_their_keys_say(dashboard: rldk.OpenRLHFDashboard, tmp_path: Path) -> None:
    dashboard.add_metrics({"gpu_memory_used": 3.0})
    dashboard.add_metrics({"cpu_utilization": 4.0, "world_size": 8})
    dashboard.add_metrics({"world_size": 8})
    dashboard.add_metrics({"world_size": 1, "other": 1})
    found = [document(dashboard, f"/api/{name}") for name in ("resources", "distributed", "metrics", "network", "health")]
    assert [len(rows) for rows in found] == [2, 1, 1, 0, 0]
    files = ("resources", "distributed", "metrics")
    assert [len(lines(tmp_path / f"{name}.jsonl")) for name in files] == [2, 1, 1]


def test_d56_a_step_of_training_is_no_network_row(dashboard: rldk.OpenRLHFDashboard, tmp_path: Path) -> None:
    step = rldk.OpenRLHFMetrics(step=3, loss=0.5, bandwidth_mbps=900.0, network_bandwidth=0.1125, global_rank=1)
    dashboard.add_metrics(step)
    (metrics,), (network,) = dashboard.metrics_data, dashboard.network_data
    assert (metrics["loss"], metrics["step"], metrics["bandwidth_mbps"]) == (0.5, 3, 900.0)
    assert network == {
        "step": 3,
        "node_id": "",
        "global_rank": 1,
        "bandwidth_mbps": 900.0,
        "network_bandwidth": 0.1125,
        "timestamp": metrics["timestamp"],
    }
    assert "latency_ms" not in network, "what was not measured is no row of the network"
    dashboard.add_metrics(rldk.OpenRLHFMetrics(step=4, loss=0.4))
    assert (len(dashboard.metrics_data), len(dashboard.network_data)) == (2, 1)
    assert [len(lines(tmp_path / name)) for name in ("metrics.jsonl", "network_metrics.jsonl")] == [2, 1]


def test_d57_a_diagnosis_for_all_who_ask(dashboard: rldk.OpenRLHFDashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document(dashboard, "/api/network/health") == {"error": "Network monitor not initialized"}
    monitor = dashboard.network_monitor = Monitor()
    gate, reports = threading.Barrier(8), []

    def ask() -> None:
        gate.wait()
        reports.append(document(dashboard, "/api/network/health"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.asked == 1
    assert [set(report) for report in reports] == 8 * [
        {"timestamp", "overall_health", "issues", "recommendations", "metrics_summary"}
    ]
    monkeypatch.setattr(_dashboard, "HEALTH_SECONDS", 0.0)
    document(dashboard, "/api/network/health")
    assert monitor.asked == 2
    dashboard.network_monitor = None
    assert "error" in document(dashboard, "/api/network/health")


def test_d57_the_health_report_is_the_real_one_and_takes_4_s_at_most(tmp_path: Path) -> None:
    found = answer(
        """
        dashboard = rldk.OpenRLHFDashboard(output_dir=sys.argv[1])
        dashboard.initialize_network_monitoring()
        dashboard.network_monitor.network_diagnostics.test_hosts = ["127.0.0.1"]
        begun = time.monotonic()
        report = dashboard.network_health()
        print(json.dumps([report, time.monotonic() - begun, type(dashboard.network_monitor).__name__]))
        """,
        str(tmp_path),
    )
    report, seconds, monitor = found
    assert (report["overall_health"], report["issues"], monitor) == ("excellent", [], "RealNetworkMonitor")
    assert seconds < 5


def test_a_monitor_that_raises_is_told_as_json(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.network_monitor = object()
    assert "no attribute" in document(dashboard, "/api/network/health")["error"]


def test_d58_an_idle_link_is_no_alert_and_lost_connectivity_is_one(dashboard: rldk.OpenRLHFDashboard, tmp_path: Path) -> None:
    for _ in range(3):
        dashboard.add_metrics({"bandwidth_mbps": 0.0, "latency_ms": 0.0, "packet_loss_percent": 0.0})
    assert dashboard.network_alerts == []
    for _ in range(3):
        dashboard.add_metrics({"bandwidth_mbps": 0.0, "latency_ms": 0.0, "packet_loss_percent": 100.0})
    (alert,) = document(dashboard, "/api/network/alerts")
    assert set(alert) == ALERT
    assert alert["message"] == "High packet loss detected: 100.00%"
    assert (alert["type"], alert["severity"], alert["threshold"], alert["current_value"]) == ("network", "error", 5.0, 100.0)
    dashboard.add_metrics({"latency_ms": 0.2, "packet_loss_percent": 0.0})
    assert [alert["severity"] for alert in dashboard.network_alerts] == ["error", "info"]
    assert dashboard.network_alerts[-1]["message"] == "Packet loss is over: 0.00%"
    assert [alert["severity"] for alert in lines(tmp_path / "alerts.jsonl")] == ["error", "info"]


def test_d58_each_threshold_alerts_once_an_onset_in_rldks_words(dashboard: rldk.OpenRLHFDashboard) -> None:
    bad = {"latency_ms": 150.0, "bandwidth_mbps": 5.0, "packet_loss_percent": 10.0}
    for _ in range(3):
        dashboard.check_network_thresholds(bad)
    assert [(alert["message"], alert["severity"], alert["threshold"]) for alert in dashboard.network_alerts] == [
        ("High latency detected: 150.00ms", "warning", 100.0),
        ("Low bandwidth detected: 5.00 Mbps", "warning", 10.0),
        ("High packet loss detected: 10.00%", "error", 5.0),
    ]
    dashboard.check_network_thresholds({"latency_ms": 1.0, "bandwidth_mbps": 50.0, "packet_loss_percent": 0.0})
    dashboard.check_network_thresholds(bad)
    assert [alert["severity"] for alert in dashboard.network_alerts][3:] == 3 * ["info"] + ["warning", "warning", "error"]


def test_d58_silence_of_a_host_and_each_rank_alert(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.add_metrics({"latency_ms": math.inf, "rank": 1})
    dashboard.add_metrics({"latency_ms": math.inf, "rank": 1})
    dashboard.add_metrics({"latency_ms": 200.0, "rank": 2})
    assert [alert["message"] for alert in dashboard.network_alerts] == [
        "High latency detected: no answer (rank 1)",
        "High latency detected: 200.00ms (rank 2)",
    ]


def test_d58_thresholds_can_be_set(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.network_thresholds = {"latency_ms": {"above": 1.0, "clear": 0.5}, "tcp_connectivity_ms": 10.0}
    for latency in (2.0, 0.8, 2.0, 0.4):
        dashboard.add_metrics({"latency_ms": latency, "bandwidth_mbps": 1.0, "tcp_connectivity_ms": 20.0})
    assert [alert["message"] for alert in dashboard.network_alerts] == [
        "High latency detected: 2.00ms",
        "tcp_connectivity_ms is 20.00",
        "Latency is back: 0.40ms",
    ]
    dashboard.network_thresholds["latency_ms"] = {"over": 1.0}
    dashboard.add_metrics({"latency_ms": 2.0})
    assert len(dashboard.network_alerts) == 3


def test_d58_what_netmon_did_not_measure_is_not_compared(dashboard: rldk.OpenRLHFDashboard) -> None:
    metrics = rldk.NetworkMetrics(latency_ms=500.0, packet_loss_percent=50.0)
    missing = ("latency_ms", "packet_loss_percent")
    dashboard.check_network_thresholds({**metrics.to_dict(), "unmeasured": missing})
    assert dashboard.network_alerts == []
    dashboard.check_network_thresholds(metrics)
    assert len(dashboard.network_alerts) == 2


def test_d59_browsers_can_read_it(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.network_monitor = Monitor()
    dashboard.add_metrics({"latency_ms": math.inf, "hosts": [{"a": math.nan}, ("b",)], "path": Path("/x")})
    (row,) = document(dashboard, "/api/network")
    assert (row["latency_ms"], row["hosts"], row["path"]) == (None, [{"a": None}, ["b"]], "/x")
    assert document(dashboard, "/api/network/alerts")[0]["current_value"] is None
    assert document(dashboard, "/api/network/health")["metrics_summary"]["avg_ping_latency_ms"] is None


def test_numbers_of_numpy_are_numbers(dashboard: rldk.OpenRLHFDashboard) -> None:
    numpy = pytest.importorskip("numpy")
    dashboard.add_metrics({"latency_ms": numpy.float32(1.5), "network_errors": numpy.int64(2)})
    (row,) = document(dashboard, "/api/network")
    assert (row["latency_ms"], row["network_errors"]) == (1.5, 2)


def test_d60_the_page_asks_for_the_network(dashboard: rldk.OpenRLHFDashboard) -> None:
    for path in ("/", "/network"):
        status, kind, text = get(dashboard, path)
        assert (status, kind) == ("200 OK", "text/html; charset=utf-8")
        assert {"/api/network", "/api/network/alerts", "/api/network/health"} <= set(text.split('"'))
        assert "1000 * 1)" in text


def test_d60_there_is_a_plot_and_an_export(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.add_metrics({"bandwidth_mbps": 1.0, "timestamp": 10.0})
    dashboard.add_metrics({"bandwidth_mbps": 2.0, "latency_ms": 0.5, "timestamp": 11.0})
    plot = document(dashboard, "/api/plots/network")
    assert [(curve["name"], curve["x"], curve["y"]) for curve in plot["data"]] == [
        ("bandwidth_mbps (Mbps)", [10.0, 11.0], [1.0, 2.0]),
        ("latency_ms (ms)", [11.0], [0.5]),
        ("packet_loss_percent (%)", [], []),
    ]
    status, kind, text = get(dashboard, "/api/export/network")
    assert (status, kind) == ("200 OK", "text/csv; charset=utf-8")
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"bandwidth_mbps": "1.0", "timestamp": "10.0", "latency_ms": ""},
        {"bandwidth_mbps": "2.0", "timestamp": "11.0", "latency_ms": "0.5"},
    ]
    assert document(dashboard, "/api/export/network?format=json") == dashboard.network_data
    for name in ("metrics", "health", "resources"):
        assert get(dashboard, f"/api/export/{name}")[0] == "200 OK"


def test_d60_alerts_of_the_network_are_among_the_alerts(dashboard: rldk.OpenRLHFDashboard) -> None:
    dashboard.add_alert("loss", "it rises", "info", 1.0, 2.0)
    dashboard.add_metrics({"latency_ms": 300.0})
    assert [alert["type"] for alert in document(dashboard, "/api/alerts")] == ["loss", "network"]
    assert [alert["type"] for alert in document(dashboard, "/api/network/alerts")] == ["network"]


def test_d60_files_of_others_are_read_as_they_grow_and_own_rows_once(tmp_path: Path) -> None:
    writer, reader = rldk.OpenRLHFDashboard(tmp_path), rldk.OpenRLHFDashboard(str(tmp_path))
    reader.update_data()
    writer.add_metrics({"latency_ms": 200.0})
    reader.add_metrics({"latency_ms": 1.0, "rank": 7})
    writer.add_metrics({"loss": 1.0, "bandwidth_mbps": 50.0})
    # As a callback writes them.
    step = {"step": 1, "wall_time": 12.0, "loss": 0.5, "latency_ms": 3.0, "bandwidth_mbps": 0.0}
    text = json.dumps({**step, "unmeasured": ["bandwidth_mbps"]}) + '\n{"loss": 0.4'
    (tmp_path / "metrics_run.jsonl").write_text(text)
    for _ in range(3):
        writer.update_data()
        reader.update_data()
    for dashboard in (writer, reader):
        assert sorted(row["latency_ms"] for row in dashboard.network_data if "latency_ms" in row) == [1.0, 3.0, 200.0]
        assert [row["loss"] for row in dashboard.metrics_data] == [1.0, 0.5]
        assert [row["timestamp"] for row in dashboard.metrics_data if "step" in row] == [12.0]
        # The one who wrote the row alerted; who read it did too, and took over the other's alert.
        assert {alert["message"] for alert in dashboard.network_alerts} == {"High latency detected: 200.00ms"}
    (tmp_path / "metrics_run.jsonl").write_text(text + ', "step": 2}\n')
    reader.update_data()
    assert reader.metrics_data[-1]["loss"] == 0.4


def test_a_loss_that_is_over_in_rows_of_rldks_form_ends_its_alert(tmp_path: Path) -> None:
    """They do not say what was measured, and have 0 for what was not; beside a round trip a loss of 0 is one."""
    board = rldk.OpenRLHFDashboard(output_dir=tmp_path)

    def step(number: int, latency: float, loss: float) -> None:
        row = {"step": number, "loss": 1.0, "packet_loss_percent": loss, "latency_ms": latency, "timestamp": time.time()}
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        board.update_data()

    for number, (latency, loss) in enumerate(((3.0, 0.0), (3.0, 40.0), (0.0, 0.0), (3.0, 0.0), (3.0, 0.0))):
        step(number, latency, loss)
    assert [alert["message"] for alert in board.network_alerts] == [
        "High packet loss detected: 40.00%",
        "Packet loss is over: 0.00%",
    ]
    assert [row.get("packet_loss_percent") for row in board.network_data] == [0.0, 40.0, 0.0, 0.0]


def test_d61_rows_are_capped_and_a_bad_line_ends_nothing(tmp_path: Path) -> None:
    rows = [json.dumps({"latency_ms": float(number), "timestamp": 1.0}) for number in range(3000)]
    (tmp_path / "network_metrics.jsonl").write_text("\n".join(["{broken", "7", *rows]) + "\n")
    dashboard = rldk.OpenRLHFDashboard(tmp_path)
    dashboard.update_data()
    assert [row["latency_ms"] for row in dashboard.network_data] == [float(number) for number in range(2000, 3000)]
    dashboard.add_metrics({"latency_ms": 1.0})
    assert len(dashboard.network_data) == 1000
    assert dashboard.network_alerts == [], "what happened before is no alert now"
    for number in range(150):
        dashboard.add_alert("network", str(number))
    assert [alert["message"] for alert in dashboard.network_alerts] == [str(number) for number in range(50, 150)]
    # A file that is made anew is read from its beginning.
    (tmp_path / "network_metrics.jsonl").unlink()
    (tmp_path / "network_metrics.jsonl").write_text('{"latency_ms": 9.5}\n')
    dashboard.update_data()
    assert dashboard.network_data[-1]["latency_ms"] == 9.5


ODD: list[Any] = [None, True, "", "2026-01-01T00:00:00", -1, math.inf, [], {}, [None], {"a": 1}]


def test_d61_rows_of_any_form_end_nothing(dashboard: rldk.OpenRLHFDashboard, tmp_path: Path) -> None:
    names = (
        "timestamp",
        "wall_time",
        "world_size",
        "unmeasured",
        "latency_ms",
        "bandwidth_mbps",
        "rank",
        "loss",
        "step",
        "type",
    )
    odd = [{"latency_ms": 1.0, name: value} for name in names for value in ODD]
    odd += [{"world_size": value} for value in ODD] + [{"loss": value, "unmeasured": value} for value in ODD]
    texts = [json.dumps(row) for row in odd]
    for kind in ("metrics_x", "network_metrics", "resources", "distributed", "health", "alerts"):
        (tmp_path / f"{kind}.jsonl").write_text("\n".join([*texts, "[1]", "null", "\x00", '{"latency_ms": 7.5}', ""]))
    dashboard.update_data()
    for row in odd:
        dashboard.add_metrics(row)
    assert len(dashboard.network_data) > 200
    for page in dashboard.app._pages:
        assert get(dashboard, page)[0] == "200 OK"
    assert any(row["latency_ms"] == 7.5 for row in dashboard.network_data if "latency_ms" in row)


@pytest.fixture
def served(dashboard: rldk.OpenRLHFDashboard) -> Iterator[Callable[[str], Any]]:
    dashboard.port, dashboard.refresh_interval = 0, 0.1
    thread = threading.Thread(target=dashboard.start_dashboard)
    thread.start()
    wait_for(lambda: not dashboard.get_dashboard_url().endswith(":0"), "the server")

    def fetch(path: str) -> Any:
        with urllib.request.urlopen(dashboard.get_dashboard_url() + path, timeout=20) as page:
            return json.loads(page.read(), parse_constant=refuse)

    yield fetch
    dashboard.stop_dashboard()
    thread.join(20)
    assert not thread.is_alive()


def test_d61_it_serves_until_it_is_stopped(
    dashboard: rldk.OpenRLHFDashboard, served: Callable[[str], Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = dashboard.get_dashboard_url()
    assert served("/api/network") == []
    # What a rank writes is there without a word: the server looks at the files.
    (tmp_path / "network_metrics.jsonl").write_text('{"bandwidth_mbps": 5.0}\n')
    wait_for(lambda: served("/api/network"), "the row")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        served("/api/none")
    dashboard.stop_dashboard()
    dashboard.stop_dashboard()
    wait_for(lambda: dashboard._server is None, "the end")
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(url, timeout=5)
    assert capfd.readouterr() == ("", "")


def test_d61_nothing_but_get(dashboard: rldk.OpenRLHFDashboard) -> None:
    assert get(dashboard, "/api/network", "POST")[0] == "405 Method Not Allowed"
    status, _, text = get(dashboard, "/api/network", "HEAD")
    assert (status, text) == ("200 OK", "")
    status, _, text = get(dashboard, "/api/none")
    assert status == "404 Not Found"
    assert "/api/network/health" in json.loads(text)["pages"]


def test_d62_a_dashboard_measures_nothing_by_itself(tmp_path: Path) -> None:
    found = answer(
        """
        import urllib.request
        dashboard = rldk.OpenRLHFDashboard(sys.argv[1], port=0)
        thread = threading.Thread(target=dashboard.start_dashboard); thread.start()
        wait_for(lambda: not dashboard.get_dashboard_url().endswith(":0"))
        urllib.request.urlopen(dashboard.get_dashboard_url() + "/api/distributed").read()
        loaded = "libnetmon" in open("/proc/self/maps").read()
        dashboard.stop_dashboard(); thread.join()
        print(json.dumps([loaded, dashboard.distributed_data]))
        """,
        str(tmp_path),
    )
    assert found == [False, []]


def test_a_folder_that_cannot_be_written_is_told_once_and_rows_stay(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = run(
        """
        import logging
        logging.basicConfig(stream=sys.stdout)
        dashboard = rldk.OpenRLHFDashboard(sys.argv[1])
        for _ in range(3):
            dashboard.add_metrics({"latency_ms": 1.0}); dashboard.update_data()
        print(len(dashboard.network_data))
        """,
        str(tmp_path / "file" / "logs"),
    )
    assert told.count("cannot be written") == 1
    assert told.splitlines()[-1] == "3"


IN_RLDK = """
rldk.install()
from rldk.integrations.openrlhf import OpenRLHFDashboard
from rldk.integrations.openrlhf.callbacks import OpenRLHFMetrics
dashboard = OpenRLHFDashboard(output_dir=sys.argv[1], refresh_interval=2.0)
def get(path, environ={}):
    said = []
    body = b"".join(dashboard.app({"REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "localhost", "SERVER_PORT": "80",
                                   "wsgi.url_scheme": "http", "SCRIPT_NAME": "", "QUERY_STRING": "", **environ},
                                  lambda status, headers, _=None: said.append(dict(headers))))
    assert int(said[0]["Content-Length"]) == len(body)
    return body.decode()
def refuse(name):
    raise AssertionError(name)
dashboard.add_metrics(OpenRLHFMetrics(step=1, loss=2.0, latency_ms=500.0))
dashboard.update_data()
pages = {path: json.loads(get(path), parse_constant=refuse) for path in (
    "/api/network", "/api/network/alerts", "/api/network/health", "/api/alerts", "/api/metrics", "/api/plots/loss",
    "/api/plots/network", "/api/summary")}
dashboard.initialize_network_monitoring()
from netmon.integrations import rldk as ours
assert type(dashboard.network_monitor) is ours.RealNetworkMonitor
print(json.dumps({
    "page": get("/"), "network": "/api/network" in get("/network"), "pages": pages,
    "bases": [base.__module__ for base in OpenRLHFDashboard.__mro__[:3]], "origin": dashboard.origin,
    "interval": dashboard.refresh_interval, "flask": type(dashboard.app).__name__,
}))
"""


def expect_netmons_in_front(found: dict[str, Any]) -> None:
    pages = found["pages"]
    assert found["page"] == "rldk's page", "what is rldk's stays"
    assert found["network"] is True
    assert (found["interval"], found["origin"]) == (2.0, "rldk")
    assert found["bases"] == ["netmon.integrations.rldk", "netmon.integrations.rldk", "rldk.integrations.openrlhf.dashboard"]
    assert [row["latency_ms"] for row in pages["/api/network"]] == [500.0]
    assert [row["loss"] for row in pages["/api/metrics"]] == [2.0]
    assert [alert["type"] for alert in pages["/api/alerts"]] == ["loss", "network"]
    assert len(pages["/api/network/alerts"]) == 1
    assert pages["/api/network/health"] == {"error": "Network monitor not initialized"}
    assert pages["/api/plots/loss"] == {"data": [], "layout": {}}
    assert len(pages["/api/plots/network"]["data"]) == 3
    assert pages["/api/summary"] == {"kl": None, "loss": 1.0}


def test_d56_d59_d60_d61_in_front_of_rldks_own(installed: str, tmp_path: Path) -> None:  # noqa: F811
    found = json.loads(with_rldk(IN_RLDK, installed, str(tmp_path / "logs")).splitlines()[-1])
    assert found["flask"] == "NoFlask"
    expect_netmons_in_front(found)


def test_d56_d59_d60_d61_in_front_of_rldks_own_with_flask(installed: str, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("flask")
    (Path(installed) / "flask.py").unlink()
    found = json.loads(with_rldk(IN_RLDK, installed, str(tmp_path / "logs")).splitlines()[-1])
    assert found["flask"] == "Flask"
    expect_netmons_in_front(found)
