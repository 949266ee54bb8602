"""The laboratory itself: what it makes works, and nothing of it stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lab
import pytest


def existing() -> set[str]:
    lines = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[0] for line in lines}


def test_the_two_ends_reach_each_other(namespaces: lab.Link) -> None:
    left, right = namespaces.left, namespaces.right
    before = left.link_counters()
    server = right.start(
        sys.executable,
        "-c",
        "import socket; s = socket.create_server(('198.18.0.2', 0)); print(s.getsockname()[1], flush=True)\n"
        "c = s.accept()[0]; n = 0\n"
        "while data := c.recv(65536): n += len(data)\n"
        "print(n)",
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    left.run(
        sys.executable,
        "-c",
        f"import socket; s = socket.create_connection(('198.18.0.2', {port}), timeout=10); s.sendall(bytes(100_000))",
    )
    assert server.communicate(timeout=10)[0].strip() == "100000"
    assert left.link_counters()["tx"]["bytes"] - before["tx"]["bytes"] > 100_000


def test_nothing_stays_when_a_test_fails() -> None:
    try:
        with lab.veth_link() as link:
            names = {link.left.name, link.right.name}
            assert names <= existing()
            sleeper = link.left.start("sleep", "600")
            raise ZeroDivisionError
    except lab.LabError as error:
        pytest.skip(f"no network namespaces here: {error}")
    except ZeroDivisionError:
        pass
    assert not names & existing()
    assert sleeper.wait(timeout=10) == -9


@pytest.mark.parametrize(("require", "outcome"), [("1", "error"), ("0", "skipped")])
def test_a_skip_fails_where_namespaces_are_required(tmp_path: Path, require: str, outcome: str) -> None:
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    shutil.copytree(Path(__file__).parent / "lab", tmp_path / "lab")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = namespaces: x\n")
    (tmp_path / "test_inner.py").write_text("def test_it(namespaces): pass\n")
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "NETMON_REQUIRE_NAMESPACES": require, "PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"1 {outcome}" in done.stdout
    assert "install iproute2" in done.stdout
    assert done.returncode == (1 if outcome == "error" else 0)
