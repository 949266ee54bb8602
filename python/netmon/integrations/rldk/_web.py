"""What a browser may ask a dashboard for, as a WSGI application."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ._files import csv_text

if TYPE_CHECKING:
    from ._dashboard import OpenRLHFDashboard

_Environ = dict[str, Any]
_JSON = "application/json"
_CURVES = (("bandwidth_mbps", "Mbps", "y"), ("latency_ms", "ms", "y2"), ("packet_loss_percent", "%", "y2"))


class Pages:
    """The pages about the network, and in front of another application what its answers need.

    Args:
        dashboard: whose rows they show.
        otherwise: the application that answers the rest; without, the plain lists are here too.
    """

    def __init__(self, dashboard: OpenRLHFDashboard, otherwise: Callable[..., Iterable[bytes]] | None = None) -> None:
        self._dashboard = dashboard
        self._otherwise = otherwise
        self._pages: dict[str, Callable[[str], tuple[str, bytes]]] = {
            "/network": self._page,
            "/api/network": lambda _: _json(dashboard.network_data),
            "/api/network/alerts": lambda _: _json(dashboard.network_alerts),
            "/api/network/health": lambda _: _json(dashboard.network_health()),
            "/api/plots/network": lambda _: _json(_figure(list(dashboard.network_data))),
            "/api/export/network": lambda query: _export(list(dashboard.network_data), query),
        }
        if otherwise is None:
            self._pages |= {
                "/": self._page,
                "/api/metrics": lambda _: _json(dashboard.metrics_data),
                "/api/health": lambda _: _json(dashboard.health_data),
                "/api/resources": lambda _: _json(dashboard.resource_data),
                "/api/distributed": lambda _: _json(dashboard.distributed_data),
                "/api/alerts": lambda _: _json(dashboard._alerts),
                "/api/export/metrics": lambda query: _export(list(dashboard.metrics_data), query),
                "/api/export/health": lambda query: _export(list(dashboard.health_data), query),
                "/api/export/resources": lambda query: _export(list(dashboard.resource_data), query),
            }

    def __call__(self, environ: _Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        path = environ.get("PATH_INFO", "/")
        page = self._pages.get(path)
        if page is None and self._otherwise is not None:
            return self._mended(environ, start_response, path)
        status, kind, body = "200 OK", _JSON, b""
        if page is None:
            status, body = "404 Not Found", _dump({"error": f"no {path} here", "pages": sorted(self._pages)})
        elif environ.get("REQUEST_METHOD", "GET") not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", _dump({"error": "only GET"})
        else:
            kind, body = page(environ.get("QUERY_STRING", ""))
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]

    def _mended(self, environ: _Environ, start_response: Callable[..., Any], path: str) -> Iterable[bytes]:
        """Pass on the other application's answer: its JSON as browsers read it, its alerts with the network's."""
        said: list[Any] = []
        written: list[bytes] = []

        def note(*arguments: Any) -> Callable[[bytes], object]:
            said[:] = arguments
            return written.append

        assert self._otherwise is not None
        answer = self._otherwise(environ, note)
        kind = dict(said[1]).get("Content-Type", "") if said else _JSON
        if _JSON not in kind or environ.get("REQUEST_METHOD") == "HEAD":
            start_response(*said)
            return answer
        try:
            body = b"".join((*written, *answer))
        finally:
            getattr(answer, "close", lambda: None)()
        body = self._mend(path, body)
        headers = [(name, value) for name, value in said[1] if name.lower() != "content-length"]
        start_response(said[0], [*headers, ("Content-Length", str(len(body)))], *said[2:])
        return [body]

    def _mend(self, path: str, body: bytes) -> bytes:
        try:
            document = json.loads(body)
            if path.startswith("/api/plots/") and isinstance(document, str):
                document = json.loads(document)
        except ValueError:
            return body
        if path == "/api/alerts" and isinstance(document, list):
            document = [*document, *(alert for alert in self._dashboard.network_alerts if alert not in document)]
        return _dump(document)

    def _page(self, _: str) -> tuple[str, bytes]:
        seconds = max(0.5, float(self._dashboard.refresh_interval))
        return "text/html; charset=utf-8", _PAGE.replace("SECONDS", f"{seconds:g}").encode()


def _json(document: Any) -> tuple[str, bytes]:
    return _JSON, _dump(document)


def _dump(document: Any) -> bytes:
    """Return a document as JSON; numbers that JSON does not have, infinite or NaN, are null."""
    return json.dumps(_known(document), allow_nan=False, default=str).encode()


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in list(value.items())}
    if isinstance(value, (list, tuple)):
        return [_known(item) for item in list(value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figure(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a figure as plotly has it."""
    curves = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{name} ({unit})",
            "x": [row.get("timestamp") for row in rows if name in row],
            "y": [row[name] for row in rows if name in row],
            "yaxis": axis,
        }
        for name, unit, axis in _CURVES
    ]
    layout = {
        "title": {"text": "Network"},
        "xaxis": {"title": {"text": "time"}},
        "yaxis": {"title": {"text": "Mbps"}},
        "yaxis2": {"title": {"text": "ms, %"}, "overlaying": "y", "side": "right"},
    }
    return {"data": curves, "layout": layout}


def _export(rows: list[dict[str, Any]], query: str) -> tuple[str, bytes]:
    """Return rows as CSV, or as JSON where ``?format=json`` asks for it."""
    if "format=json" in query.split("&"):
        return _json(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return "text/csv; charset=utf-8", csv_text(names, ([row.get(name, "") for name in names] for row in rows))


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Network</title>
<style>body{font:14px sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:right}.error{color:#b00}.info{color:#070}</style>
</head><body><h1>Network</h1><table id="rows"></table><h2>Alerts</h2><ul id="alerts"></ul>
<p><button id="ask">Health</button> <span id="health"></span></p>
<script>
const names = ["node_id", "global_rank", "rank", "step", "bandwidth_mbps", "latency_ms", "packet_loss_percent"];
const get = path => fetch(path).then(answer => answer.json());
function cell(row, text, kind) { const c = document.createElement(kind); c.textContent = text; row.appendChild(c); }
async function show() {
  const rows = await get("/api/network"), newest = new Map();
  for (const row of rows) newest.set([row.node_id, row.global_rank, row.rank].join(), row);
  const table = document.getElementById("rows"); table.replaceChildren();
  const head = table.insertRow(); for (const name of names) cell(head, name, "th");
  for (const row of newest.values()) {
    const line = table.insertRow(), missing = row.unmeasured || [];
    for (const name of names) {
      const value = missing.includes(name) || row[name] == null ? "" : row[name];
      cell(line, typeof value == "number" ? Math.round(value * 1000) / 1000 : value, "td");
    }
  }
  const list = document.getElementById("alerts"); list.replaceChildren();
  for (const alert of (await get("/api/network/alerts")).reverse()) {
    const item = document.createElement("li"); item.className = alert.severity;
    item.textContent = new Date(alert.timestamp * 1000).toLocaleTimeString() + " " + alert.message; list.appendChild(item);
  }
}
document.getElementById("ask").onclick = async () => {
  const report = await get("/api/network/health");
  document.getElementById("health").textContent = report.error || [report.overall_health, ...report.issues].join("; ");
};
show(); setInterval(() => show().catch(() => 0), 1000 * SECONDS);
</script></body></html>
"""
