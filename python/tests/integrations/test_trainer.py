"""transformers' Trainer below netmon run, where torch.distributed is not in use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openrlhf_jobs as jobs

JOB = Path(__file__).with_name("trainer_job.py")


def train(namespace: str, work: Path, **variables: str) -> tuple[dict[str, Any], list[str]]:
    """Return what the job says at its end, and which lines on its stderr are of netmon."""
    command = [sys.executable, "-m", "netmon", "run", "--interfaces", "lo", "--", sys.executable, JOB, work]
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command],
        env={**jobs.environment(work), **variables}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), [line for line in done.stderr.splitlines() if line.startswith("netmon")]


def test_it_trains_with_a_monitor_as_without_one(namespace, tmp_path):
    found, said = train(namespace, tmp_path)
    assert found["before"] == {"library": False, "monitor": False, "threads": []}
    assert found["after"]["library"]
    assert found["after"]["monitor"]
    assert said == []
    without, said = train(namespace, tmp_path, NETMON_LIBRARY=str(tmp_path / "none.so"))
    assert without["after"] == without["before"] == found["before"]
    (line,) = said
    assert line.startswith("netmon is not attached: LibraryError: ")
    assert found["losses"] == without["losses"]
    assert len(found["losses"]) == 4
