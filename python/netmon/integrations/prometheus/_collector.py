"""A collector for registries of prometheus_client, and a port for Prometheus where one is asked for."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ... import _metrics
from ..._errors import UnsupportedError
from ..._prometheus import check_labels
from .._guest import Guest, package

if TYPE_CHECKING:
    from ..._monitor import Monitor


class Collector:
    """Measures when a registry of prometheus_client collects.

    Where nothing can be measured, for the monitor was closed or the library is missing, it has no metrics, and the registry's
    others are collected as before.

    Args:
        monitor: who measures; None: the process's shared monitor.
        registry: the registry that is to have it, such as ``prometheus_client.REGISTRY``; None: it is registered by the caller.
        node: as in ``Monitor.prometheus``.
        peers: as in ``Monitor.prometheus``.
        labels: as in ``Monitor.prometheus``.

    Raises:
        UnsupportedError: prometheus_client is not installed.
        ConfigError: a label is none for Prometheus.
    """

    def __init__(
        self,
        monitor: Monitor | None = None,
        registry: Any = None,
        *,
        node: bool | None = None,
        peers: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._client = package("prometheus_client.core", "prometheus", "netmon's collector")
        self._options: dict[str, Any] = {"node": node, "peers": peers, "labels": check_labels(labels)}
        self._guest = Guest("netmon's collector")
        self._monitor = self._guest.monitor(monitor)
        self._registry = registry
        if registry is not None:
            registry.register(self)

    def describe(self) -> Iterable[Any]:
        """Return all metrics that there may be, without measuring."""
        return [self._family(metric) for metric in _metrics.METRICS]

    def collect(self) -> Iterator[Any]:
        """Measure now."""
        for family in self._measured():
            made = self._family(family.metric)
            for labels, value in family.points:
                made.add_sample(family.metric.name, labels, value)
            yield made

    def _measured(self) -> list[_metrics.Family]:
        monitor = self._monitor
        return [] if monitor is None else self._guest.ask(lambda: _metrics.read(monitor, **self._options)) or []

    def _family(self, metric: _metrics.Metric) -> Any:
        kind = self._client.CounterMetricFamily if metric.is_counter else self._client.GaugeMetricFamily
        return kind(metric.name, metric.help)

    def close(self) -> None:
        """Take it out of the registry that it was made with. Closing twice is fine."""
        registry, self._registry = self._registry, None
        if registry is not None:
            with contextlib.suppress(KeyError):
                registry.unregister(self)

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


_PORT = "netmon's port for Prometheus"
_OLDEST = (0, 19)  # an older one's port can never be closed


def _check_version() -> None:
    version = importlib.metadata.version("prometheus_client")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is not None and tuple(map(int, numbers.groups())) < _OLDEST:
        raise UnsupportedError(
            f"{_PORT} needs prometheus_client {'.'.join(map(str, _OLDEST))} or newer, and this is {version}: "
            "pip install -U 'libnetmon[prometheus]'"
        )


class Server:
    """A port that answers Prometheus, until ``close``.

    Attributes:
        port: its number.
    """

    def __init__(self, server: Any, thread: Any) -> None:
        self._server, self._thread = server, thread
        self._pid = os.getpid()
        self.port: int = server.server_port

    def close(self) -> None:
        """Close the port. Closing twice is fine. In a forked child the parent's stays open."""
        server, self._server = self._server, None
        if server is None:
            return
        if os.getpid() == self._pid:
            server.shutdown()  # waits for the thread that serves, which a child has not got
        server.server_close()
        if os.getpid() == self._pid:
            self._thread.join(1)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def serve(
    port: int,
    monitor: Monitor | None = None,
    address: str = "127.0.0.1",
    *,
    node: bool | None = None,
    peers: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Server:
    """Open a port on which Prometheus finds netmon's metrics, and nothing else. Nothing of netmon's opens one by itself.

    Args:
        port: its number; 0: one that is free.
        monitor: who measures; None: the process's shared monitor.
        address: of this host, on which it listens; ``"0.0.0.0"``: on all, for whoever can reach them.
        node: as in ``Monitor.prometheus``.
        peers: as in ``Monitor.prometheus``.
        labels: as in ``Monitor.prometheus``.

    Raises:
        UnsupportedError: prometheus_client is not installed, or older than 0.19.
        OSError: the port cannot be opened.
    """
    client = package("prometheus_client", "prometheus", _PORT)
    _check_version()
    registry = client.CollectorRegistry()
    Collector(monitor, registry, node=node, peers=peers, labels=labels)
    return Server(*client.start_http_server(port, address, registry))
