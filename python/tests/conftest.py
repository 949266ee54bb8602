"""What all tests share: the package of this checkout, and network namespaces."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The package of this checkout, for this process and those that tests start.
sys.path.insert(0, str(ROOT / "python"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))

# A runner that starts the tests in the background has them ignore Ctrl-C, and what they start too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from lab.fixtures import FIXTURES, make_lab, namespace, namespaces  # noqa: E402, F401  (beside this file)


@pytest.fixture(scope="module", autouse=True)
def _leaves_no_shared_monitor() -> Generator[None, None, None]:
    """What a module's tests configured is not for the next one's."""
    yield
    shared = sys.modules.get("netmon._shared")
    if shared is not None:
        shared.close_shared_monitor()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the namespace fixtures."""
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("namespaces")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where NETMON_REQUIRE_NAMESPACES is 1, as in CI, a test marked ``namespaces`` that skips has failed."""
    report = yield
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and os.environ.get("NETMON_REQUIRE_NAMESPACES") == "1"
        and item.get_closest_marker("namespaces")
    ):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not skip here (NETMON_REQUIRE_NAMESPACES=1): {reason}"
    return report
