"""What an installed netmon has to do under every Python, with nothing beside it. Prints ``smoke: fine`` at the end."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable

import netmon
import netmon.integrations


def importing_does_nothing() -> None:
    with open("/proc/self/maps", encoding="utf-8") as file:
        maps = file.read()
    assert "libnetmon" not in maps, "the library is loaded"
    assert os.listdir("/proc/self/task") == [str(os.getpid())], "a thread is started"
    assert not {"torch", "numpy", "pandas", "psutil", "openrlhf"} & set(sys.modules)


def measuring() -> None:
    with netmon.Monitor(interval=0.01) as monitor:
        end = time.monotonic() + 20
        while monitor.latest().sequence < 5:
            assert time.monotonic() < end, "the loop does not run"
            time.sleep(0.005)
        sample, latest = monitor.sample(), monitor.latest()
        assert sample.schema == "netmon.sample/1"
        assert json.loads(sample.to_json()) == sample.to_dict()
        assert sample.interfaces is not None
        assert sample.interfaces["lo"].kind == "loopback"
        assert latest.monotonic_time_ns <= time.monotonic_ns()
        assert latest.rtt_p50_ns is None, "not measured, and not 0"
        history = monitor.history()
        assert [s.sequence for s in history] == sorted({s.sequence for s in history})
        assert len(history) >= 5
        stats = monitor.stats("self.sample_seconds")
        assert stats.count >= 5
        assert stats.min is not None
        assert stats.max is not None
        assert 0 < stats.min <= stats.max
        assert monitor.health().status == "ok", monitor.health()
        assert str(sample).startswith(sample.host.hostname or "")
        with contextlib.suppress(ImportError):
            monitor.to_pandas()
    assert refused(monitor.sample, netmon.ClosedError) == "the monitor was closed"


def wrong_arguments() -> None:
    assert "interval_seconds" in refused(lambda: netmon.Monitor(interval=-1), netmon.ConfigError)


def refused(call: Callable[[], object], kind: type[netmon.Error]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def forking() -> None:
    with netmon.Monitor(interval=0.01) as monitor:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    assert monitor.latest().sequence >= 1
                    assert monitor.sample().sequence >= 1
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0, "the child failed"
        assert monitor.sample().sequence > 1


importing_does_nothing()
# Python 3.12 and newer warn of any fork in a process with threads.
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded.*fork")
measuring()
wrong_arguments()
forking()
print("smoke: fine,", netmon.__version__)
