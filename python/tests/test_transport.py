"""The section transport: what the environment says of the libraries, as Python changed it, and docs/transport.md."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import netmon
from netmon import _environment

ROOT = Path(__file__).resolve().parents[2]


def judged(monitor: netmon.Monitor) -> dict:
    time.sleep(1.05)  # a verdict holds for a second
    return monitor.sample().to_dict()["transport"]


def test_variables_are_handed_over_and_renewed(monkeypatch):
    for name in _environment.job_variables():
        monkeypatch.delenv(name)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    monkeypatch.setenv("NCCL_DEBUG_FILE", "not for netmon")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert _environment.job_variables() == {"GLOO_SOCKET_IFNAME": "nosuch0"}
    with netmon.Monitor(interval=60) as monitor:
        wrong = monitor.sample().to_dict()["transport"]["wrong_interface"]
        assert wrong.startswith('GLOO_SOCKET_IFNAME=nosuch0: "nosuch0" is no interface with an address here (')
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
        monkeypatch.setenv("TP_SOCKET_IFNAME", "nosuch1")
        monitor.set_job(environment=_environment.job_variables())
        assert judged(monitor)["wrong_interface"].startswith("TP_SOCKET_IFNAME=nosuch1 is no interface with an address here: ")
        monitor.set_job(rank=0)  # without an environment the last one holds
        assert judged(monitor)["wrong_interface"].startswith("TP_SOCKET_IFNAME=nosuch1")
        monitor.set_job(environment={})
        assert judged(monitor)["wrong_interface"] is None


def test_the_lists_of_variables_are_one():
    listed = re.findall(r'^\t\w+ += "([A-Z_]+)"$', (ROOT / "core/job/settings.go").read_text(), re.MULTILINE)
    assert len(listed) == 8
    page = (ROOT / "docs/transport.md").read_text()
    for name in listed:
        assert name in _environment._NAMES
        assert f"`{name}`" in page


def test_the_example_of_the_page_runs(tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/transport.md").read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3
