"""The harness in C, on hosts of a lab: it says what holds the job up. That it builds and runs at all is tested in capi."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lab
import pytest

ROOT = Path(__file__).resolve().parents[2]
_RATE, _BURST = 200e6, 125_000


def build(source: Path, program: Path) -> None:
    """Build an example as its first lines say."""
    if not shutil.which("cc") or not shutil.which("pkg-config"):
        pytest.skip("needs cc and pkg-config")
    prefix = ROOT / "build" / "lib"
    environment = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "pkgconfig")}
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "netmon"], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    subprocess.run(["cc", str(source), *found, f"-Wl,-rpath,{prefix}", "-o", str(program)], check=True)


def test_the_harness_in_c_names_the_slow_link(make_lab: Callable[..., lab.Lab], tmp_path: Path) -> None:
    program = tmp_path / "training"
    build(ROOT / "bindings/examples/c/training.c", program)
    hosts = make_lab(3, ipv6=False, congestion_control="cubic").hosts
    addresses = ",".join(host.address for host in hosts)
    for host in hosts:
        for way in (host.egress, host.ingress):
            way.limit_rate(_RATE, burst_bytes=_BURST)
    ranks = []
    for number, host in enumerate(hosts):
        # A name of its own, so that findings can name it.
        named = ["unshare", "--uts", "sh", "-c", f'hostname {host.label}; exec "$@"', "sh"]
        options = ["--rank", str(number), "--hosts", addresses, "--steps", "1000000", "--bytes", "524288"]
        ranks.append(host.start(*named, str(program), *options, stdout=subprocess.PIPE, text=True))
    found, said = threading.Event(), []

    def read() -> None:
        for line in ranks[0].stdout or ():
            said.append(line)
            if line.startswith("finding: slow link of h2: what it sends"):
                found.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + 60
    while not any(line.startswith("step ") for line in said):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    hosts[1].egress.limit_rate(_RATE / 10, burst_bytes=_BURST)
    assert found.wait(60), said
    ranks[2].terminate()  # and all end
    assert [rank.wait(30) for rank in ranks] == [0, 0, 0]
    reader.join(5)
    assert not [line for line in said if line.startswith("finding: slow") and "h2" not in line], said
