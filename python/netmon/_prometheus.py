"""The text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ._errors import ConfigError
from ._metrics import Family, Number

_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")


def check_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels that a caller gave.

    Raises:
        ConfigError: one is none for Prometheus.
    """
    for name, value in (labels or {}).items():
        if not isinstance(name, str) or not _LABEL.match(name):
            raise ConfigError(f"label {name!r}: letters, digits and underscores, and no digit and no two underscores first")
        if not isinstance(value, str):
            raise ConfigError(f"label {name!r} is {value!r}: it must be a text")
    return dict(labels or {})


def text(families: Iterable[Family]) -> str:
    """Write families as Prometheus and node_exporter read them."""
    lines: list[str] = []
    for family in families:
        metric = family.metric
        lines.append(f"# HELP {metric.name} {_escaped(metric.help)}")
        lines.append(f"# TYPE {metric.name} {'counter' if metric.is_counter else 'gauge'}")
        lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in family.points]
    return "\n".join(lines) + "\n" if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value, quotes=True)}"' for name, value in sorted(labels.items()))
    return f"{{{','.join(pairs)}}}"


def _escaped(words: str, quotes: bool = False) -> str:
    words = words.replace("\\", "\\\\").replace("\n", "\\n")
    return words.replace('"', '\\"') if quotes else words


def _number(value: Number) -> str:
    return repr(value)
