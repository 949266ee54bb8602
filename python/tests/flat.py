"""A process that uses netmon from several threads for a while and says in JSON what it used before and after.

    flat.py SECONDS

Memory is that of the process when it settled and at the end: a history that fills up is no leak.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from typing import Any

import netmon


def used() -> dict[str, int]:
    gc.collect()
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.split(":", 1) for line in file)
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "kibibytes": int(status["VmRSS"].split()[0]),
    }


def main(seconds: float) -> None:
    kept = netmon.Monitor(interval=0.01)
    failures: list[BaseException] = []
    opened = 0

    def read() -> None:
        kept.sample()
        kept.latest()
        kept.stats("tcp.established", 1.0)
        kept.history(0.1)
        kept.health()

    def open_and_close() -> None:
        nonlocal opened
        with netmon.Monitor(interval=0.01) as monitor:
            monitor.sample()
            opened += 1

    def repeat(call: Any, end: float) -> None:
        try:
            while time.monotonic() < end:
                call()
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test must see it
            failures.append(error)

    def work(seconds: float) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=repeat, args=(call, end)) for call in (read, read, read, open_and_close)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    work(seconds / 2)
    before = used()
    work(seconds / 2)
    after = used()
    print(json.dumps({"before": before, "after": after, "opened": opened, "failures": [repr(f) for f in failures]}))


main(float(sys.argv[1]))
