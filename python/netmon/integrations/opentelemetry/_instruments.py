"""Observable instruments: what they are called, and what they observe."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import netmon

from ... import _metrics
from .._guest import Guest, package

if TYPE_CHECKING:
    from ..._metrics import Metric, Number
    from ..._monitor import Monitor

# Older than this, what was read for one instrument is read anew for the next one.
_OLD_SECONDS = 1.0
_RENAMED = {"interface": "network.interface.name"}


@dataclass(frozen=True, slots=True)
class Observed:
    """What a metric is in OpenTelemetry.

    Attributes:
        name: of its instrument, which two metrics may share.
        unit: in UCUM.
        kind: ``"counter"``, ``"up_down_counter"`` or ``"gauge"``.
        attributes: those of all its values.
    """

    name: str
    unit: str
    kind: str
    attributes: Mapping[str, str]


def _conventional() -> dict[str, Observed]:
    """Return what the semantic conventions for system metrics have a name for."""
    found = {}
    for field, name, unit in (
        ("bytes", "system.network.io", "By"),
        ("packets", "system.network.packet.count", "{packet}"),
        ("errors", "system.network.errors", "{error}"),
        ("drops", "system.network.packet.dropped", "{packet}"),
    ):
        for way in ("receive", "transmit"):
            observed = Observed(name, unit, "counter", {"network.io.direction": way})
            found[f"netmon_interface_{way}_{field}_total"] = observed
    for metric, state in (("netmon_tcp_established", "established"), ("netmon_sockets_tcp_time_wait", "time_wait")):
        attributes = {"network.transport": "tcp", "network.connection.state": state}
        found[metric] = Observed("system.network.connection.count", "{connection}", "up_down_counter", attributes)
    return found


_CONVENTIONAL = _conventional()


def observed(metric: Metric) -> Observed:
    """Return what a metric is in OpenTelemetry: by the conventions, else ``netmon.SECTION.FIELD``."""
    known = _CONVENTIONAL.get(metric.name)
    if known is not None:
        return known
    name = metric.name.removesuffix("_total").removeprefix("netmon_")
    own = name.removeprefix(f"{metric.namespace}_")
    dotted = f"netmon.{name}" if own == name else f"netmon.{metric.namespace}.{own}"
    return Observed(dotted, metric.unit, "counter" if metric.is_counter else "gauge", {})


class Instrumentation:
    """The instruments of one monitor. They cannot be taken back, but observe nothing any more after ``close``.

    Attributes:
        problem: why nothing is observed; None: it is.
    """

    def __init__(self, monitor: Monitor | None, api: Any, provider: Any, options: Mapping[str, Any], guest: Guest) -> None:
        self._monitor, self._api, self._options, self._guest = monitor, api, options, guest
        self._provider = provider  # known by its id, which is its own while it lives
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._families: dict[str, _metrics.Family] = {}
        self._read_at = 0.0
        self._asked: set[str] = set()  # instruments that have had what was read last
        self._counters: dict[tuple[str, frozenset[tuple[str, str]]], _Counter] = {}
        if monitor is None:
            return
        meter = provider.get_meter("netmon", guest.ask(lambda: netmon.__version__))
        instruments: dict[str, list[Metric]] = {}
        for metric in _metrics.METRICS:
            instruments.setdefault(observed(metric).name, []).append(metric)
        for name, metrics in instruments.items():
            one = observed(metrics[0])
            create = getattr(meter, f"create_observable_{one.kind}")
            create(name, callbacks=[_Callback(self, name, metrics)], unit=one.unit, description=_described(metrics))

    @property
    def problem(self) -> str | None:
        """Why nothing is observed."""
        return self._guest.problem

    def observe(self, name: str, metrics: Iterable[Metric]) -> Iterator[Any]:
        """Return what an instrument observes now. All that are asked in one collection tell of the same moment."""
        if os.getpid() != self._pid or self._monitor is None:
            return  # the parent tells of this node
        with self._lock:
            now = time.monotonic()
            if name in self._asked or not self._asked or now - self._read_at > _OLD_SECONDS:
                self._read(self._monitor)
                self._read_at = now
                self._asked.clear()
            self._asked.add(name)
            observations = [seen for metric in metrics for seen in self._observations(metric)]
        yield from observations

    def _read(self, monitor: Monitor) -> None:
        families = self._guest.ask(lambda: _metrics.read(monitor, **self._options))
        self._families = {family.metric.name: family for family in families or ()}

    def _observations(self, metric: Metric) -> Iterator[Any]:
        family = self._families.get(metric.name)
        if family is None:
            return
        common = observed(metric).attributes
        for labels, value in family.points:
            attributes = {**common, **{_RENAMED.get(name, name): word for name, word in labels.items()}}
            if metric.is_counter:
                key = (metric.name, frozenset(labels.items()))
                value = self._counters.setdefault(key, _Counter()).at(value)
            yield self._api.Observation(value, attributes)

    def close(self) -> None:
        """Observe nothing any more. Closing twice is fine."""
        self._monitor = None
        with _instrumented_lock:
            for key in [key for key, one in _instrumented.items() if one is self]:
                del _instrumented[key]

    def __enter__(self) -> Instrumentation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


class _Counter:
    """A sum that never decreases: what begins anew, as an interface that comes back, is added to what there was."""

    def __init__(self) -> None:
        self._before: Number = 0
        self._last: Number = 0

    def at(self, value: Number) -> Number:
        if value < self._last:
            self._before += self._last
        self._last = value
        return self._before + value


class _Callback:
    def __init__(self, owner: Instrumentation, name: str, metrics: list[Metric]) -> None:
        self._owner, self._name, self._metrics = owner, name, metrics

    def __call__(self, options: Any) -> Iterable[Any]:
        return self._owner.observe(self._name, self._metrics)


def _described(metrics: list[Metric]) -> str:
    return " / ".join(dict.fromkeys(metric.help for metric in metrics))


_instrumented: dict[tuple[int, int], Instrumentation] = {}
_instrumented_lock = threading.Lock()


def instrument(
    monitor: Monitor | None = None,
    meter_provider: Any = None,
    *,
    node: bool | None = None,
    peers: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Instrumentation:
    """Have a meter provider observe what netmon measures, at each collection of its readers.

    Nothing is exported but by the readers that the provider has, and no thread started. Doing it again for the same monitor and
    provider returns what is there. A forked child observes nothing: its parent tells of the node.

    Args:
        monitor: who measures; None: the process's shared monitor.
        meter_provider: None: the process's global one, also where that is set later.
        node: as in ``Monitor.prometheus``.
        peers: as in ``Monitor.prometheus``.
        labels: further attributes of all values.

    Raises:
        UnsupportedError: opentelemetry-api is not installed.
    """
    api = package("opentelemetry.metrics", "opentelemetry", "netmon's instruments")
    guest = Guest("netmon's instruments")
    monitor = guest.monitor(monitor)
    provider = api.get_meter_provider() if meter_provider is None else meter_provider
    key = (id(monitor), id(provider))
    with _instrumented_lock:
        known = _instrumented.get(key)
    if known is not None and monitor is not None and not monitor.closed:
        return known
    options = {"node": node, "peers": peers, "labels": labels}
    made = Instrumentation(monitor, api, provider, options, guest)
    if monitor is not None:
        with _instrumented_lock:
            _instrumented[key] = made
    return made


def _after_fork_in_child() -> None:
    global _instrumented_lock
    _instrumented_lock = threading.Lock()
    _instrumented.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
