"""TCP by the wall clock, as a program without netmon measures it: connect(2), and the time around it.

``connect.py PORT COUNT INTERVAL TIMEOUT ADDRESS...`` connects so many times to each address, all addresses at the same time,
and prints a JSON object of what was found of each: ``{"sent": 3, "seconds": [0.0001, ...]}``.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def connect(address: str, port: int, count: int, interval: float, timeout: float) -> dict[str, object]:
    """Connect again and again, one connection after the other."""
    seconds = []
    due = time.perf_counter()
    for _ in range(count):
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due, time.perf_counter() - interval) + interval
        with socket.socket() as attempt:
            attempt.settimeout(timeout)
            began = time.perf_counter()
            try:
                attempt.connect((address, port))
            except TimeoutError:
                continue
            seconds.append(time.perf_counter() - began)
    return {"sent": count, "seconds": seconds}


def main(port: str, count: str, interval: str, timeout: str, *addresses: str) -> None:
    """Connect to all addresses and print what was found."""
    with ThreadPoolExecutor(len(addresses)) as pool:
        running = {
            address: pool.submit(connect, address, int(port), int(count), float(interval), float(timeout))
            for address in addresses
        }
        print(json.dumps({address: found.result() for address, found in running.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
