"""What the thread costs that looks for the ends of collectives: ``PYTHONPATH=python python -m bench.looks``.

Collectives of 60 ms that the job does not wait for in Python, ten a second, played without torch: the looks, and the CPU time
of the thread, for each.
"""

from __future__ import annotations

import threading
import time

from netmon.integrations.torch._tracker import OP, Tracker, now

_SECONDS, _EVERY, _STEPS, _WARM = 0.06, 0.1, 100, 5


class Work:
    """A collective that ends by itself."""

    asked = 0

    def __init__(self) -> None:
        self._ends = time.monotonic() + _SECONDS

    def is_completed(self) -> bool:
        """Tell whether it has ended."""
        Work.asked += 1
        return time.monotonic() >= self._ends

    def wait(self) -> bool:
        """Do nothing."""
        return True


def main() -> None:
    """Measure and print."""
    tracker = Tracker()
    group = tracker.group("bench", 2)
    before = set(threading.enumerate())
    tracker.start(Work)
    (thread,) = set(threading.enumerate()) - before
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)
    looks, begun, calling = 0, 0.0, 0.0
    for step in range(_WARM + _STEPS):
        if step == _WARM:
            looks, begun, calling = Work.asked, time.clock_gettime(clock), 0.0
        work = Work()
        processor = time.thread_time()
        tracker.began(work, (OP["all_reduce"], group, 4 << 20, now(), step, 1, None))
        calling += time.thread_time() - processor
        del work
        time.sleep(_EVERY)
    took = time.clock_gettime(clock) - begun
    tracker.stop()
    looks = Work.asked - looks
    share = took / _STEPS / _EVERY
    print(
        f"of the thread {took / _STEPS * 1e6:.0f} us, of the caller {calling / _STEPS * 1e6:.1f} us, {looks / _STEPS:.1f} looks"
    )
    print(f"for each collective of {_SECONDS * 1e3:g} ms, {1 / _EVERY:g} a second: {share * 1e2:.3f} % of the time")


if __name__ == "__main__":
    main()
