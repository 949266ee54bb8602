"""Skeleton."""

import json

import flask
import plotly  # noqa: F401


class OpenRLHFDashboard:
    origin = "rldk"

    def __init__(self, output_dir=None, port=5000, host="localhost", enable_auto_refresh=True, refresh_interval=1.0):
        self.output_dir = output_dir or "./rldk_logs"
        self.port = port
        self.host = host
        self.enable_auto_refresh = enable_auto_refresh
        self.refresh_interval = refresh_interval
        self.metrics_data = []
        self.network_data = []
        self.network_monitor = None
        self.network_alerts = []
        # Nothing else of flask is used, so that the tests do without it.
        self.app = getattr(flask, "Flask", NoFlask)(__name__)
        self.app.add_url_rule("/", "page", lambda: "rldk's page")
        self.app.add_url_rule("/api/metrics", "metrics", lambda: _answer(self.metrics_data))
        self.app.add_url_rule("/api/network", "network", lambda: _answer("rldk's"))
        self.app.add_url_rule("/api/alerts", "alerts", lambda: _answer([{"type": "loss"}]))
        self.app.add_url_rule("/api/plots/loss", "loss", lambda: _answer(json.dumps({"data": [], "layout": {}})))
        self.app.add_url_rule("/api/summary", "summary", lambda: _answer({"kl": float("inf"), "loss": 1.0}))

    def initialize_network_monitoring(self):
        from .network_monitor import RealNetworkMonitor

        self.network_monitor = RealNetworkMonitor()

    def add_metrics(self, metrics):
        self.network_data.append(metrics)

    def update_data(self):
        raise ValueError("a bad line")


def _answer(document):
    return json.dumps(document), 200, {"Content-Type": "application/json"}


class NoFlask:
    """Rules and wsgi_app as Flask's, for where flask is not installed."""

    def __init__(self, name):
        self.rules = {}

    def add_url_rule(self, rule, endpoint, view):
        self.rules[rule] = view

    def __call__(self, environ, start_response):
        return self.wsgi_app(environ, start_response)

    def wsgi_app(self, environ, start_response):
        view = self.rules.get(environ["PATH_INFO"])
        answer = view() if view else ("not found", 404, {})
        body, status, headers = (answer, 200, {"Content-Type": "text/html"}) if isinstance(answer, str) else answer
        start_response(f"{status} .", [*headers.items(), ("Content-Length", str(len(body)))])
        return [body.encode()]
