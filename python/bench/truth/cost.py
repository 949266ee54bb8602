"""What probing 50 targets costs a monitor, by comparison with one that probes nobody."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from dataclasses import asdict
from statistics import mean
from typing import Any

from agent import agent
from lab import Lab

from .. import loop
from . import tools
from .losses import addresses_of

TARGETS = 50
PAIRS = 3  # of monitors, as memory differs from process to process
_SLICES = 10
WITH, WITHOUT, FPING, PRO_BING = "with", "without", "fping -l", "pro-bing alone"


def measure(seconds: float) -> dict[str, Any]:
    """Watch monitors with targets and without, and other programs with the same targets, all at the same time.

    Returns:
        ``cpu``: by what it is, shares of a core, one for each slice of the time; ``own``: that of the monitors with targets by
        their own account; ``footprints``: by what it is, at the end, one for each process.
    """
    with Lab(hosts=4, ipv6=False) as lab, ExitStack() as running:
        # Each program has a host of its own: a raw socket gets a copy of all answers.
        here, with_fping, with_pro_bing, there = lab.hosts
        for host in (here, with_pro_bing):
            host.sysctl("net.ipv4.ping_group_range", "0 0")
        targets = addresses_of(there, TARGETS)
        monitors = {
            WITHOUT: [running.enter_context(agent(here, interval=1)) for _ in range(PAIRS)],
            WITH: [running.enter_context(agent(here, interval=1, targets=targets)) for _ in range(PAIRS)],
        }
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        others = {
            FPING: with_fping.start("fping", "-l", "-q", "-p", "1000", *targets, **quiet),
            PRO_BING: with_pro_bing.start(str(tools.probing()), "-interval=1s", *targets, **quiet),
        }
        pids = {what: [monitor.process.pid for monitor in some] for what, some in monitors.items()}
        pids |= {what: [process.pid] for what, process in others.items()}
        time.sleep(min(2.0, seconds / 4))  # past the first samples and probes, which cost more

        own = {what: -mean(float(m.ask("monitor.health().cpu_seconds_total")) for m in some) for what, some in monitors.items()}
        before = {pid: loop.cpu_seconds(pid) for some in pids.values() for pid in some}
        cpu: dict[str, list[float]] = {what: [] for what in pids}
        began = time.monotonic()
        for i in range(_SLICES):
            time.sleep(max(0.0, began + (i + 1) * seconds / _SLICES - time.monotonic()))
            for what, some in pids.items():
                used = 0.0
                for pid in some:
                    now = loop.cpu_seconds(pid)
                    used += now - before[pid]
                    before[pid] = now
                cpu[what].append(used / len(some) / (seconds / _SLICES))
        for what, some_monitors in monitors.items():
            own[what] += mean(float(m.ask("monitor.health().cpu_seconds_total")) for m in some_monitors)
        footprints = {what: [asdict(loop.footprint(pid)) for pid in some] for what, some in pids.items()}
        probed = [m.ask("[p.received for p in monitor.sample().probes]") for m in monitors[WITH]]
        if any(len(p) != TARGETS or min(p) == 0 for p in probed):
            raise RuntimeError(f"not all of {TARGETS} targets answered: {probed}")
    return {
        "seconds": seconds,
        "cpu": cpu,
        "own": {what: used / seconds for what, used in own.items()},
        "footprints": footprints,
    }
