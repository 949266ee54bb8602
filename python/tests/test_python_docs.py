"""docs/python.md and the docstrings: their examples run."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import netmon

ROOT = Path(__file__).resolve().parents[2]
# What runs at once, and classes that derive from those of packages which are not in the test environment; without examples.
NO_EXAMPLES = {"netmon.__main__"} | {
    f"netmon.integrations.{name}" for name in ("accelerate._tracker", "lightning._callback", "transformers._callback")
}
MODULES = ["netmon", *(m.name for m in pkgutil.walk_packages(netmon.__path__, "netmon.") if m.name not in NO_EXAMPLES)]


def code_blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / name).read_text(), re.MULTILINE | re.DOTALL)


def run(code: str, cwd: Path) -> str:
    """Run an example as a program of its own."""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_examples_of_the_python_page_run(tmp_path):
    said = []
    for block in code_blocks("python.md", "python"):
        if "to_pandas" in block:
            pytest.importorskip("pandas")
        said.append(run(block, tmp_path))
    use, peers, bandwidth, phases, _, errors, own_calls = said
    assert phases.splitlines()[1].startswith("3 ")
    assert len(peers.splitlines()) >= 1
    assert bandwidth.startswith("netmon to 127.0.0.1")
    assert "lo         loopback" in use
    assert errors == 'configuration key "interval_seconds" is 0; it must be from 0.01 to 3600 seconds -2\n'
    assert own_calls == "netmon.sample/1\n"


def test_the_python_page_knows_every_error_and_folder():
    page = (ROOT / "docs" / "python.md").read_text()
    for name in netmon.__all__:
        if name.endswith("Error") or name.startswith("get_"):
            assert name in page, name


def test_examples_of_docstrings_run(tmp_path):
    """All of them in one process, as one after the other in a session."""
    code = (
        "import doctest, importlib, sys\n"
        "tried = 0\n"
        "for name in sys.argv[1:]:\n"
        "    failed, attempted = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)\n"
        "    assert failed == 0, name\n"
        "    tried += attempted\n"
        "print(tried)\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, *MODULES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) >= 5
