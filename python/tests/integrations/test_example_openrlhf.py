"""examples/openrlhf as its reader runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "openrlhf" / "train.sh"


def test_the_network_stands_beside_the_loss(namespace: str, tmp_path: Path) -> None:
    if find_spec("openrlhf") is None:
        pytest.skip("needs OpenRLHF: make test-integrations")
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, EXAMPLE, tmp_path],
        env={**os.environ, "NETMON_INTEGRATIONS_ENV": sys.prefix},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = dict(re.findall(r"^(\S+) +(step .*)$", done.stdout, re.MULTILINE))
    assert rows["train/gpt_loss"].count("step ") == 4
    for name in ("receive_bytes_per_second", "retransmit_ratio", "drops", "errors", "nodes"):
        assert f"network/{name}" in rows, done.stdout
    assert float(re.findall(r": ([\d.e+]+)", rows["network/transmit_bytes_per_second"])[-1]) > 10_000
    assert done.stdout.endswith(f"tensorboard --logdir {tmp_path}/events\n")
