"""A sample in which everything is known, for tests of what is told of samples; and one in which nothing is."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import netmon
from netmon import _metrics

_ROWS = {
    "interfaces": netmon.Interface,
    "probes": netmon.Probe,
    "peers": netmon.Peer,
    "rdma": netmon.RDMAPort,
    "pcie": netmon.PCIe,
    "nvlink": netmon.NVLink,
    "collectives": netmon.Collective,
    "phases": netmon.Phase,
    "findings": netmon.Finding,
}
_SECTIONS = {
    "host": netmon.Host,
    "job": netmon.Job,
    "totals": netmon.Totals,
    "tcp": netmon.TCP,
    "udp": netmon.UDP,
    "ip": netmon.IP,
    "sockets": netmon.Sockets,
    "transport": netmon.Transport,
    "collective_pending": netmon.CollectivePending,
    "self": netmon.SelfCost,
}


def _filled(cls: type[Any], seed: int) -> dict[str, Any]:
    """Return a row with a value of its own in each field."""
    row: dict[str, Any] = {}
    for place, field in enumerate(fields(cls), seed):
        kind = str(field.type)
        if kind.startswith("int"):
            row[field.name.rstrip("_")] = 1000 + place
        elif kind.startswith("float"):
            row[field.name.rstrip("_")] = place + 0.25
        elif kind.startswith("bool"):
            row[field.name.rstrip("_")] = True
        elif kind.startswith("str"):
            row[field.name.rstrip("_")] = f'{field.name} "{place}" \\ \n'
        elif kind.startswith("Mapping"):
            row[field.name.rstrip("_")] = {"one": place, "two": place + 1}
        else:
            row[field.name.rstrip("_")] = []
    return row


def known(**job: Any) -> netmon.Sample:
    """Return a sample with two rows of everything."""
    document: dict[str, Any] = {"schema": "netmon.sample/1", "sequence": 3, "timestamp_seconds": 1.7e9, "unavailable": {}}
    document |= {"monotonic_seconds": 12.5, "window_seconds": 1.0, "collective_ratio": 0.5, "bandwidth_tests": []}
    for seed, (name, cls) in enumerate(_SECTIONS.items()):
        document[name] = _filled(cls, 100 * seed)
    for seed, (name, cls) in enumerate(_ROWS.items()):
        document[name] = [_filled(cls, 5000 + 100 * seed), _filled(cls, 7000 + 100 * seed)]
    document["host"]["hostname"] = "here"
    document["self"]["health"] = "ok"
    document["job"] |= {"rank": 3, "local_rank": 0, **job}
    return netmon.Sample(document)


def unknown() -> netmon.Sample:
    """Return a sample of which only what is always known is."""
    document = dict(known().to_dict())
    for name in (*_ROWS, "totals", "tcp", "udp", "ip", "sockets", "transport", "collective_pending", "job"):
        document[name] = None
    document |= {"window_seconds": None, "collective_ratio": None}
    document["self"] = dict.fromkeys(document["self"]) | {"uptime_seconds": 1.0, "version": "0", "health": "ok"}
    return netmon.Sample(document)


def without_values() -> netmon.Sample:
    """Return a sample with its rows, in which no number is known."""
    document = known().to_dict()
    for name in (*_ROWS, "totals", "tcp", "udp", "ip", "sockets"):
        rows = document[name] if isinstance(document[name], list) else [document[name]]
        for row in rows:
            row.update({key: None for key, value in row.items() if isinstance(value, int | float)})
    return netmon.Sample(document)


class Monitor:
    """A monitor that has measured one sample, and closes."""

    def __init__(self, sample: netmon.Sample) -> None:
        self.samples = [sample]
        self.closed = False
        self._hold: Any = None

    def sample(self) -> netmon.Sample:
        if self.closed:
            raise netmon.ClosedError("the monitor was closed")
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]

    def cluster(self) -> Any:
        finding = SimpleNamespace(class_="slow_link", severity="warning", host="there", peer="here")
        totals = SimpleNamespace(nodes=2, live_ranks=4, late_ranks=0, gone_ranks=0, missing_ranks=None)
        return SimpleNamespace(sequence=5, aggregator_rank=3, totals=totals, findings=[finding, finding])

    def prometheus(self, **options: Any) -> str:
        return netmon.Monitor.prometheus(self, **options)  # type: ignore[arg-type]


def names() -> set[str]:
    return {metric.name for metric in _metrics.METRICS}
