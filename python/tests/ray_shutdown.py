"""A job that shuts Ray down while another thread logs, and starts it once more. Prints what that thread saw, as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray

import netmon
from netmon.integrations._flat import FlatValues
from netmon.integrations._phases import Phases


def init() -> None:
    ray.init(_node_ip_address=sys.argv[1], num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")


def main() -> None:
    init()
    steps: list[tuple[float, frozenset[str]]] = []
    enough = threading.Event()
    with netmon.Monitor(interval=0.1, cluster="ray", cluster_interval=0.2) as monitor:
        phases = Phases(monitor)
        values = FlatValues(monitor, phases)

        def log() -> None:
            while not enough.is_set():
                begun = time.monotonic()
                with phases.phase("broadcast"):
                    time.sleep(0.01)
                found = values.at(len(steps))
                steps.append((time.monotonic() - begun, frozenset(found)))

        def until_there_is_a_view() -> None:
            limit = time.monotonic() + 60
            while not monitor.cluster().sequence or monitor.cluster().problem:
                if time.monotonic() > limit:
                    raise SystemExit(f"no view within 60 s: {monitor.cluster().problem}")
                time.sleep(0.05)

        thread = threading.Thread(target=log)
        thread.start()
        until_there_is_a_view()
        before = len(steps)
        ray.shutdown()
        during = len(steps)
        while len(steps) < during + 20 and thread.is_alive():
            time.sleep(0.05)
        stays_down = not ray.is_initialized()
        after = len(steps)
        init()
        until_there_is_a_view()
        enough.set()
        thread.join(30)
        ray.shutdown()
    found = {
        "stays_down": stays_down,
        "longest": max(seconds for seconds, _ in steps),
        "logged": ["network/phase/broadcast/seconds" in keys for _, keys in steps[before:after]],
        "ended": not thread.is_alive(),
        "errors": monitor_errors,
    }
    print(json.dumps(found))


monitor_errors: list[str] = []
threading.excepthook = lambda what: monitor_errors.append(f"{what.exc_type.__name__}: {what.exc_value}")

if __name__ == "__main__":
    main()
