"""The view of a job that only has Ray: a driver and actors on three local nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab

pytest.importorskip("ray", reason="ray is not installed")


def test_driver_and_actors_on_three_nodes(make_lab: object) -> None:
    lab: Lab = make_lab(1, ipv6=False)  # type: ignore[operator]
    host = lab.hosts[0]
    done: subprocess.CompletedProcess[str] = host.run(
        sys.executable, str(Path(__file__).with_name("ray_job.py")), host.address, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "ray is not initialised" in found["before"]
    assert found["nodes"] == 3
    for view in found["views"]:
        assert view["engine"] == "ray"
        # Three nodes of Ray on one host are one node: its counters count once.
        assert [node["processes"] for node in view["nodes"]] == [4]
        assert view["totals"]["receive_bytes_total"] == view["nodes"][0]["receive_bytes_total"]
    assert sum(row["state"] in ("late", "gone") for row in found["left"]["ranks"]) == 1
    assert found["shutdown_seconds"] < 30
    assert found["after"]
    assert "netmon" not in done.stderr


def test_ray_is_shut_down_while_a_step_is_logged(make_lab: object) -> None:
    """Phases and values go on from this process alone, nothing starts Ray again, and a job that follows has a view again."""
    host = make_lab(1, ipv6=False).hosts[0]  # type: ignore[operator]
    done: subprocess.CompletedProcess[str] = host.run(
        sys.executable, str(Path(__file__).with_name("ray_shutdown.py")), host.address, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["errors"] == []
    assert found["ended"]
    assert found["stays_down"]
    assert all(found["logged"])
    assert found["longest"] < 5
    assert "netmon" not in done.stderr
