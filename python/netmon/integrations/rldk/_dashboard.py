"""rldk's dashboard: rows that a program or its files give it, the network's apart, alerts, and what a browser may ask for.

The standard library serves it. In an installed rldk it stands in front of rldk's own (``over``), whose page and plots stay.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import _web
from ._alerts import Threshold
from ._install import in_use
from ._metrics import MEASURABLE as MEASURED_OF_THE_NETWORK
from ._rows import RowFile
from ._training_metrics import LOOKED_AT, TRAINING, plain_number
from ._trouble import process
from ._worker import worker

MOST_ROWS = 1000
MOST_ALERTS = 100
_MOST_WATCHED = 10_000  # metrics times ranks
# A diagnosis probes; of browsers that ask for one more often, all get the same.
HEALTH_SECONDS = 5.0

# Keys that only a step of training has, and keys of the network.
_STEPS = frozenset(TRAINING) - {"epoch", "phase"}
_NETWORK = frozenset({*LOOKED_AT, *MEASURED_OF_THE_NETWORK})
_WHO = ("node_id", "global_rank", "rank")
_KINDS = ("metrics", "health", "resources", "distributed", "network_metrics")
# rldk's thresholds, severities and words, and what is said when it is over.
_ALERTS: dict[str, tuple[float | Mapping[str, float], str, str, str]] = {
    "latency_ms": (100.0, "warning", "High latency detected: {:.2f}ms", "Latency is back: {:.2f}ms"),
    "bandwidth_mbps": ({"below": 10.0}, "warning", "Low bandwidth detected: {:.2f} Mbps", "Bandwidth is back: {:.2f} Mbps"),
    "packet_loss_percent": (5.0, "error", "High packet loss detected: {:.2f}%", "Packet loss is over: {:.2f}%"),
}


class OpenRLHFDashboard:
    """Rows of a run by kind, the network's alerts, and a server for both.

    Nothing is measured for the rows: they are what ``add_metrics`` is given and what files in ``output_dir`` hold, so that they
    are the job's, wherever the dashboard runs. Only ``/api/network/health`` measures, on the host of the dashboard.

    Args:
        output_dir: where rows are kept, and read from; default ``./rldk_logs``.
        port: of the server; 0: one that is free.
        host: the address to listen on. Nobody is asked who he is, so another than the default lets everybody in who reaches it.
        enable_auto_refresh: whether files are looked at while the server runs.
        refresh_interval: seconds between two looks.

    Attributes:
        app: the WSGI application that is served.
        network_thresholds: name of a metric to its highest value or to a mapping, as ``alert_thresholds`` of a callback; may be
            changed at any time.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        port: int = 5000,
        host: str = "localhost",
        enable_auto_refresh: bool = True,
        refresh_interval: float = 1.0,
    ) -> None:
        self.output_dir: Any = Path(output_dir if output_dir is not None else "./rldk_logs")
        self.port = port
        self.host = host
        self.enable_auto_refresh = enable_auto_refresh
        self.refresh_interval = refresh_interval
        self.metrics_data: list[dict[str, Any]] = []
        self.health_data: list[dict[str, Any]] = []
        self.resource_data: list[dict[str, Any]] = []
        self.distributed_data: list[dict[str, Any]] = []
        self.network_data: list[dict[str, Any]] = []
        self.network_monitor: Any = None
        self.network_alerts: list[dict[str, Any]] = []
        self.network_thresholds: dict[str, Any] = {name: rule[0] for name, rule in _ALERTS.items()}
        self.app: Any = _web.Pages(self)
        # Of rows and alerts; nothing is measured under it.
        self._lock = threading.RLock()
        self._alerts: list[dict[str, Any]] = []
        self._on: dict[tuple[str, tuple[str, ...]], Threshold] = {}
        self._files: dict[Path, RowFile] = {}
        self._folder = Path(os.path.abspath(self.output_dir))
        self._began = time.time()
        self._health_lock = threading.Lock()
        self._health: tuple[float, Mapping[str, Any]] | None = None
        self._server: Any = None
        self._refresh: Any = None

    # The server.

    def start_dashboard(self) -> None:
        """Serve until ``stop_dashboard`` is called by another thread, or Ctrl-C.

        Raises:
            OSError: it cannot listen there.
        """
        from ._nodes import Periodic
        from ._server import Server

        with Server(self.host, self.port, self.app) as server:
            self._server = server
            if self.enable_auto_refresh:
                self._refresh = Periodic(self.update_data, self.refresh_interval)
                worker.add(self._refresh)
            try:
                server.serve_forever(poll_interval=0.1)
            finally:
                self._server = None
                if self._refresh is not None:
                    worker.discard(self._refresh)
                    self._refresh = None

    # What rldk's documents call it.
    start = start_dashboard

    def stop_dashboard(self) -> None:
        """End ``start_dashboard``; returns once it takes no more requests."""
        server = self._server
        if server is not None:
            server.shutdown()

    def get_dashboard_url(self) -> str:
        """Return where a browser finds it."""
        server = self._server
        return f"http://{self.host}:{self.port if server is None else server.server_port}"

    # Rows.

    def add_metrics(self, metrics: Any) -> None:
        """Take a row: a mapping, or an object with ``to_dict()``.

        A step of training goes to ``metrics_data``, and what it knows of the network to ``network_data``. What else has
        ``bandwidth_mbps`` or ``latency_ms`` is about the network, ``gpu_memory_used`` or ``cpu_utilization`` about resources,
        a ``world_size`` above 1 about the job. Each goes to a file of its own too.
        """
        row = _row(metrics)
        row["timestamp"] = row.get("timestamp") or time.time()
        with self._lock:
            for kind, part in _parts(row):
                self._take(kind, part)
                self._file(f"{kind}.jsonl").append(part)
        self.check_network_thresholds(metrics)

    def update_data(self) -> None:
        """Take the rows that others wrote into files of ``output_dir`` since: rldk's, and those of a callback."""
        news: list[dict[str, Any]] = []
        with self._lock:
            for kind in _KINDS:
                for path in (self._folder / f"{kind}.jsonl", *sorted(self._folder.glob(f"{kind}_*.jsonl"))):
                    for row in self._file(path.name).new_rows():
                        row["timestamp"] = row.get("timestamp") or _when(row)
                        parts = _parts(row) if kind == "metrics" else [(kind, row)]
                        for where, part in parts:
                            self._take(where, part)
                            if where == "network_metrics" and _when(part) >= self._began:
                                news.append(part)
            for alert in self._file("alerts.jsonl").new_rows():
                self._keep_alert(alert)
        for row in news:
            self.check_network_thresholds(row)

    def _file(self, name: str) -> RowFile:
        path = self._folder / name
        return self._files.setdefault(path, RowFile(path, most=MOST_ROWS))

    def _take(self, kind: str, row: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = getattr(self, _LISTS[kind])
        rows.append(row)
        del rows[:-MOST_ROWS]

    # The network.

    def initialize_network_monitoring(self) -> None:
        """Make the object that ``/api/network/health`` asks."""
        if self.network_monitor is None:
            self.network_monitor = in_use("network_monitor", "RealNetworkMonitor")()

    def network_health(self) -> Mapping[str, Any]:
        """Return the health report, at most 5 s old however many ask; measuring one takes 4 s at most."""
        monitor = self.network_monitor
        if monitor is None:
            return {"error": "Network monitor not initialized"}
        with self._health_lock:
            known = self._health
            if known is None or time.monotonic() - known[0] > HEALTH_SECONDS:
                try:
                    report: Mapping[str, Any] = monitor.get_network_health_report()
                except Exception as error:  # noqa: BLE001 - a monitor of the caller's own may raise anything
                    report = {"error": f"the network could not be looked at: {error!r}"}
                known = self._health = (time.monotonic(), report)
            return known[1]

    def check_network_thresholds(self, metrics: Any) -> None:
        """Hold the network's values against ``network_thresholds``: one alert when one is passed, one when that is over.

        ``add_metrics`` and files do this by themselves. What was not measured neither begins nor ends an alert, and 0.0 of
        latency or bandwidth is not measured, or an idle link. An infinite latency is a host that does not answer.
        """
        row = _row(metrics)
        missing, now = _unmeasured(row) or (), _when(row)
        who = tuple("" if row.get(name) is None else str(row[name]) for name in _WHO)
        for name, bound in list(self.network_thresholds.items()):
            value = plain_number(row.get(name))
            with self._lock:
                threshold = self._threshold(name, bound, who)
                if threshold is None:
                    continue
                unknown = value is None or math.isnan(value) or name in missing
                if unknown or (not value and name != "packet_loss_percent"):
                    threshold.miss(now)
                elif threshold.changed(value, now):  # type: ignore[arg-type]
                    self._tell(name, value, threshold, who)

    def _threshold(self, name: str, bound: Any, who: tuple[str, ...]) -> Threshold | None:
        known = self._on.get((name, who))
        if known is not None and known.given is bound:
            return known
        if len(self._on) >= _MOST_WATCHED:
            return None
        try:
            threshold = self._on[name, who] = Threshold(name, bound)
        except ValueError as error:
            process.tell(f"dashboard threshold {name}", str(error).replace("alert_thresholds", "network_thresholds"))
            return None
        return threshold

    def _tell(self, name: str, value: Any, threshold: Threshold, who: tuple[str, ...]) -> None:
        _, severity, high, over = _ALERTS.get(name, (0, "warning", name + " is {:.2f}", name + " is back: {:.2f}"))
        text = (high if threshold.on else over).format(value)
        if math.isinf(value):
            text = high.partition(":")[0] + ": no answer"
        known = [f"{key} {of}" for key, of in zip(_WHO, who, strict=True) if of]
        text += f" ({', '.join(known)})" if known else ""
        self.add_alert("network", text, severity if threshold.on else "info", threshold.passed, value)

    def add_alert(
        self,
        alert_type: str,
        message: str,
        severity: str = "warning",
        threshold: float | None = None,
        current_value: float | None = None,
    ) -> None:
        """Keep an alert, of the type "network" for ``/api/network/alerts`` too, and write it to ``alerts.jsonl``."""
        alert = {
            "timestamp": time.time(),
            "type": alert_type,
            "message": message,
            "severity": severity,
            "threshold": threshold,
            "current_value": current_value,
        }
        with self._lock:
            self._keep_alert(alert)
            self._file("alerts.jsonl").append(alert)

    def _keep_alert(self, alert: dict[str, Any]) -> None:
        self._alerts.append(alert)
        del self._alerts[:-MOST_ALERTS]
        if alert.get("type") == "network":
            self.network_alerts.append(alert)
            del self.network_alerts[:-MOST_ALERTS]


_LISTS = {
    "metrics": "metrics_data",
    "health": "health_data",
    "resources": "resource_data",
    "distributed": "distributed_data",
    "network_metrics": "network_data",
}


def _row(metrics: Any) -> dict[str, Any]:
    """Return metrics as a dictionary of values that JSON has."""
    given = metrics if isinstance(metrics, Mapping) else metrics.to_dict() if hasattr(metrics, "to_dict") else vars(metrics)
    found = {name: value for name, value in given.items() if not name.startswith("_")}
    for name, value in found.items():
        plain = plain_number(value)
        if plain is not None and not isinstance(value, bool):
            found[name] = plain
    missing = getattr(metrics, "unmeasured", None)
    if isinstance(missing, tuple):
        found.setdefault("unmeasured", list(missing))
    return found


def _when(row: Mapping[str, Any]) -> float:
    """Return when a row was, as Unix seconds; now, where it does not say it so."""
    times = (plain_number(row.get(name)) for name in ("timestamp", "wall_time"))
    return next((seconds for seconds in times if seconds), time.time())


def _unmeasured(row: Mapping[str, Any]) -> list[str] | None:
    """Return the names of what a row says was not measured; None where it does not say."""
    names = row.get("unmeasured")
    return list(map(str, names)) if isinstance(names, (list, tuple)) else None


def _defaults(row: Mapping[str, Any]) -> list[str]:
    """Return the names of what rldk's own rows, which do not say what was measured, seem to have as a default: 0.

    No loss is measured where a round trip is, for the same probes tell both; else an alert of a loss would never end.
    """
    measured = {"packet_loss_percent"} if row.get("latency_ms") and row.get("packet_loss_percent") is not None else set()
    return [name for name in _NETWORK if not row.get(name) and name not in measured]


def _parts(row: dict[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Return which rows a row becomes, by kind."""
    if _STEPS & row.keys():
        yield "metrics", row
        missing = _unmeasured(row)
        unknown = missing if missing is not None else _defaults(row)
        found = {name: value for name, value in row.items() if name in _NETWORK and name not in unknown}
        if found:
            beside = {name: row[name] for name in ("step", *_WHO, "timestamp") if name in row}
            yield "network_metrics", {**beside, **found}
    elif "bandwidth_mbps" in row or "latency_ms" in row:
        yield "network_metrics", row
    elif "gpu_memory_used" in row or "cpu_utilization" in row:
        yield "resources", row
    elif (plain_number(row.get("world_size")) or 0) > 1:
        yield "distributed", row
    else:
        yield "metrics", row


@functools.lru_cache(maxsize=8)
def over(original: type) -> type:
    """Return a class that is rldk's dashboard with this one in front: rows, network, alerts and server are netmon's.

    Args:
        original: rldk's class.
    """

    def __init__(  # noqa: N807
        self: Any,
        output_dir: str | os.PathLike[str] | None = None,
        port: int = 5000,
        host: str = "localhost",
        enable_auto_refresh: bool = True,
        refresh_interval: float = 1.0,
    ) -> None:
        OpenRLHFDashboard.__init__(self, output_dir, port, host, enable_auto_refresh, refresh_interval)
        original.__init__(  # type: ignore[misc]
            self,
            output_dir=output_dir,
            port=port,
            host=host,
            enable_auto_refresh=enable_auto_refresh,
            refresh_interval=refresh_interval,
        )
        # A Flask application: who asks it, and its test client, comes by here first.
        self.app.wsgi_app = _web.Pages(self, self.app.wsgi_app)

    names = {"__init__": __init__, "__doc__": OpenRLHFDashboard.__doc__, "__module__": __package__}
    return type("OpenRLHFDashboard", (OpenRLHFDashboard, original), names)
