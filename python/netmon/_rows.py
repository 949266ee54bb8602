"""Sample documents as rows of numbers, by the names that metrics have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from ._types import IP, TCP, UDP, Interface, Job, NVLink, Peer, Phase, Probe, RDMAPort, SelfCost, Sockets, Totals, Transport

_SECTIONS: Mapping[str, type[Any]] = {
    "job": Job,
    "totals": Totals,
    "tcp": TCP,
    "udp": UDP,
    "ip": IP,
    "sockets": Sockets,
    "transport": Transport,
    "self": SelfCost,
}
# Lists whose elements metrics call by name.
_LISTS: Mapping[str, tuple[type[Any], Callable[[Mapping[str, Any]], str]]] = {
    "interfaces": (Interface, lambda row: str(row["name"])),
    "probes": (Probe, lambda row: str(row["target"])),
    "peers": (Peer, lambda row: str(row["address"])),
    "rdma": (RDMAPort, lambda row: f"{row['device']}.{row['port']}"),
    "nvlink": (NVLink, lambda row: str(row["gpu"])),
    "phases": (Phase, lambda row: str(row["name"])),
}
# The fields that never hold a number: where they are None, there is none either.
_WORDS: Mapping[type[Any], frozenset[str]] = {
    cls: frozenset(f.name for f in fields(cls) if not str(f.type).startswith(("int", "float")))
    for cls in (*_SECTIONS.values(), *(cls for cls, _ in _LISTS.values()))
}


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a sample document into numbers by metric name."""
    row: dict[str, Any] = {}
    for key, value in document.items():
        if key in _LISTS:
            cls, name = _LISTS[key]
            for element in value or ():
                for field, number in _numbers(cls, element):
                    # Of several rows of one name, as those of Ray's connections to a peer, the first is meant.
                    row.setdefault(f"{key}.{name(element)}.{field}", number)
        elif key in _SECTIONS:
            row.update({f"{key}.{field}": number for field, number in _numbers(_SECTIONS[key], value or {})})
        elif _is_number(value):
            row[key] = value
    return row


def _numbers(cls: type[Any], section: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for field, value in section.items():
        if _is_number(value) or (value is None and field not in _WORDS[cls]):
            yield field, value
        elif isinstance(value, dict):
            yield from ((f"{field}.{name}", number) for name, number in value.items() if _is_number(number))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
