"""netmon run in front of launchers that are not torch's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import openrlhf_jobs as jobs
import pytest

TESTS = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "accelerate": ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
                   "--dynamo_backend", "no", "--main_process_port", "29612"],
    "deepspeed": ["--num_accelerators", "2", "--master_addr", "127.0.0.1", "--master_port", "29613"],
}  # fmt: skip


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_have_a_monitor_and_the_launcher_has_none(namespace, tmp_path, launcher):
    command = [sys.executable, "-m", "netmon", "run", "--interfaces", "lo", "--"]
    command += [str(BIN / launcher), *LAUNCHERS[launcher], str(TESTS / "run_rank.py")]
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, *command],
        env={**jobs.environment(tmp_path), "GLOO_SOCKET_IFNAME": "lo"},
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    answers = [json.loads(line[line.index("{") :]) for line in done.stdout.splitlines() if '"launcher"' in line]
    assert sorted(answer["rank"] for answer in answers) == [0, 1]
    for answer in answers:
        assert answer["monitor"], done.stderr
        assert answer["job"] == answer["rank"]
        assert answer["collectives"]["all_reduce"] >= 5
        assert answer["launcher"] == []
        assert answer["worker_threads"] == [0.0]
    assert "netmon is not" not in done.stderr
