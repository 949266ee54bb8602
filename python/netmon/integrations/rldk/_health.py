"""rldk's grade of a diagnosis: a pure function. What was not measured is neither good nor an issue.

A host that does not answer is an issue that no number of good ones makes up for: with one, the grade is at most "fair"; where
none answers, it is "poor". A loss above 5 %, at which rldk's dashboard alerts, is an issue too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from . import _reading
from ._measured import Measured

HIGHEST_PING_MS = 100.0
HIGHEST_DNS_MS = 1000.0
LOWEST_BANDWIDTH_MBPS = 10.0
HIGHEST_LOSS_PERCENT = 5.0

_CHECK_CONNECTIVITY = "Check network connectivity and firewall settings"
_CHECK_DNS = "Consider using different DNS servers"
_CHECK_BANDWIDTH = "Check network bandwidth and consider upgrading connection"
_OFF_PEAK = "Consider running network diagnostics during off-peak hours"


def report(diagnosis: Mapping[str, Any]) -> Measured:
    """Return rldk's health report.

    Args:
        diagnosis: as ``run_comprehensive_diagnostics`` returns it; parts may be missing.
    """
    pings = _measured(diagnosis.get("ping_tests"))
    names = _measured(diagnosis.get("dns_tests"))
    bandwidths = [
        (tool, float(value))
        for tool, test in _measured(diagnosis.get("bandwidth_tests"))
        for value in [test.get("bandwidth_mbps", test.get("download_mbps"))]
        if test.get("success") and value is not None
    ]
    ping_issues = [text for host, test in pings for text in _slow(host, test, "latency", HIGHEST_PING_MS, "latency to")]
    ping_issues += [
        f"High packet loss to {host}: {test['packet_loss']:.2f}%"
        for host, test in pings
        if test.get("packet_loss", 0.0) > HIGHEST_LOSS_PERCENT
    ]
    dns_issues = [
        text for name, test in names for text in _slow(name, test, "resolution_time_ms", HIGHEST_DNS_MS, "DNS time of")
    ]
    bandwidth_issues = [
        f"Low bandwidth by {tool}: {value:.2f} Mbps" for tool, value in bandwidths if value < LOWEST_BANDWIDTH_MBPS
    ]
    issues = ping_issues + dns_issues + bandwidth_issues
    advice = [
        text
        for text, found in ((_CHECK_CONNECTIVITY, ping_issues), (_CHECK_DNS, dns_issues), (_CHECK_BANDWIDTH, bandwidth_issues))
        if found
    ]
    if len(issues) > 5:
        advice.append(_OFF_PEAK)
    summary = {"best_bandwidth_mbps": max((value for _, value in bandwidths), default=0.0)}
    for key, tests, field in (
        ("avg_ping_latency_ms", pings, "latency"),
        ("avg_dns_resolution_ms", names, "resolution_time_ms"),
    ):
        finite = [float(test[field]) for _, test in tests if math.isfinite(test.get(field, math.inf))]
        if finite:
            summary[key] = sum(finite) / len(finite)
    graded = bool(pings or names or bandwidths)
    silent = sum(not math.isfinite(test.get("latency", math.inf)) for _, test in pings)
    reasons = {} if graded else {"overall_health": _why_not(diagnosis)}
    if not bandwidths:
        reasons["best_bandwidth_mbps"] = _why_no_bandwidth(diagnosis)
    return Measured(
        timestamp=time.time(),
        overall_health=_grade(len(issues), silent, len(pings)) if graded else "unknown",
        issues=issues,
        recommendations=advice,
        metrics_summary=summary,
    ).beside(reasons)


def _measured(tests: object) -> list[tuple[str, Mapping[str, Any]]]:
    found: Iterable[tuple[str, Any]] = tests.items() if isinstance(tests, Mapping) else ()
    return [
        (name, test)
        for name, test in found
        if isinstance(test, Mapping) and test.get("error") != _reading.NOT_YET and not getattr(test, "unmeasured", ())
    ]


def _why_not(diagnosis: Mapping[str, Any]) -> str:
    reasons: Mapping[str, str] = getattr(diagnosis, "reasons", {})
    return reasons.get("ping_tests") or _reading.NOT_YET


def _why_no_bandwidth(diagnosis: Mapping[str, Any]) -> str:
    reasons: Mapping[str, str] = getattr(diagnosis, "reasons", {})
    return reasons.get("bandwidth_tests") or "no bandwidth was measured"


def _slow(name: str, test: Mapping[str, Any], field: str, highest: float, what: str) -> list[str]:
    value = test.get(field, math.inf)
    if not math.isfinite(value):
        return [f"No {what} {name}: {test.get('error', 'it failed')}"]
    return [f"High {what} {name}: {value:.2f}ms"] if value > highest else []


def _grade(issues: int, silent: int, hosts: int) -> str:
    if silent:
        return "poor" if silent == hosts or issues > 5 else "fair"
    if issues == 0:
        return "excellent"
    return "good" if issues <= 2 else "fair" if issues <= 5 else "poor"
