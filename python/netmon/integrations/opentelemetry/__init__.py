"""OpenTelemetry metrics: what netmon measures, as observable instruments of a meter provider.

    >>> from netmon.integrations import opentelemetry  # does not import opentelemetry, starts nothing

docs/trackers.md lists the instruments.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._instruments import Instrumentation, instrument

__all__: Sequence[str] = ["Instrumentation", "instrument"]

for _name in __all__:
    globals()[_name].__module__ = "netmon.integrations.opentelemetry"
