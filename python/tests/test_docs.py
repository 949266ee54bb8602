"""The documents say what the code does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import netmon

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_readme_python_runs(code: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize(("language", "file"), [("c", "first.c"), ("cpp", "first.cpp")])
def test_readme_c_and_cpp_run(language: str, file: str, tmp_path: Path) -> None:
    (code,) = blocks(language)
    (tmp_path / file).write_text(code)
    (build,) = [line for block in blocks("sh") for line in block.splitlines() if f" {file} " in line]
    # The README's commands are given where the library was built.
    build = build.replace("$PWD", str(ROOT))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(ROOT / "build" / "lib" / "pkgconfig")}
    run = subprocess.run(
        ["bash", "-ec", build], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert '"schema":"netmon.sample/1"' in run.stdout


def test_readme_names_only_what_there_is() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"make ([a-z-]+)", README):
        assert target in targets, target
    lowest = re.search(r"^go (\d+\.\d+)", (ROOT / "go.mod").read_text(), re.MULTILINE)
    assert lowest
    assert f"lowest Go is {lowest[1]}" in README


def test_metrics_page_knows_every_field():
    page = (ROOT / "docs/metrics.md").read_text()
    sections: dict[str, str] = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        sections[title.strip("`[]")] = body
    with netmon.Monitor(interval=60, targets=["127.0.0.1"]) as monitor:
        with monitor.phase("step"):
            pass
        document = monitor.sample().to_dict()
    for section, value in document.items():
        if value is None:
            assert section in ("window_seconds", "collective_ratio") or section in sections, section
        elif section in ("interfaces", "probes", "phases"):
            page = sections[section] + (sections["totals"] if section == "interfaces" else "")
            for field in value[0]:
                assert f"`{field}`" in page, f"{section}.{field}"
        elif isinstance(value, dict) and section != "unavailable":
            for field in value:
                assert f"`{field}`" in sections[section], f"{section}.{field}"
        elif isinstance(value, list):  # of devices that this machine may lack
            assert section in sections, section
        elif not isinstance(value, dict):
            assert f"`{section}`" in sections["Top level"], section
    # And knows none that is not there.
    for section in ("host", "job", "totals", "tcp", "udp", "ip", "sockets", "self"):
        for line in sections[section].splitlines():
            if line.startswith("| `"):
                for field in re.findall(r"`([^`]+)`", line.split("|")[1]):
                    assert field in document[section], f"{section}.{field}"
