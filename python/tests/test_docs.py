"""The documents say what the code does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import netmon
from netmon.integrations._flat import FlatValues
from netmon.integrations._phases import Phases

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


def pages() -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}


def names_in_tables(text: str, pattern: str) -> set[str]:
    """Return what stands in backticks in first columns of tables."""
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`([^`]+)`", cell) if re.fullmatch(pattern, name)}


# Fields of documents are compared with the types they are made of in core/monitor/documented_test.go. Here are those of this
# machine, as they arrive in Python.
def test_metrics_page_knows_every_field() -> None:
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", pages()["metrics.md"], re.MULTILINE | re.DOTALL))
    known = {title.strip("`[]"): names_in_tables(body, r".+") for title, body in sections.items()}
    known["interfaces"] |= known["totals"]
    with netmon.Monitor(interval=60, targets=["127.0.0.1"]) as monitor:
        with monitor.phase("step"):
            pass
        document = monitor.sample().to_dict()
        latest = monitor.latest().to_dict()
    for section, value in document.items():
        rows = value if isinstance(value, list) else [value] if isinstance(value, dict) and section != "unavailable" else []
        assert section in known or section in known["Top level"], section
        for row in rows:
            for field in row:
                assert field in known[section] or any(name.startswith(f"{field}[].") for name in known[section]), (
                    f"{section}.{field}"
                )
    assert set(latest) == known["netmon_snapshot"]


class Whole(netmon.Monitor):
    """A monitor whose view of the job has every number."""

    def cluster(self) -> netmon.ClusterView:
        def row(cls: type, **given: Any) -> dict[str, Any]:
            return {name: given.get(name, 1) for name in cls.__dataclass_fields__}

        way = row(netmon.ClusterWay, node="b", address="10.0.0.2")
        ranks = [
            row(netmon.ClusterRank, rank=rank, node=node, state="live", phase=None, pending_op=None, peers=[way])
            for rank, node in enumerate(("a", "b"))
        ]
        nodes = [
            row(netmon.ClusterNode, name=node, ranks=[rank], state="live", plane="tcp", interface="eth0", wrong_interface=False)
            for rank, node in enumerate(("a", "b"))
        ]
        finding = {"class": "network_clean", "severity": "info", "host": None, "rank": None, "interface": None, "peer": None}
        finding |= {"direction": None, "onset_seconds": 1.0, "confidence": 0.9, "evidence": {}, "advice": "", "text": ""}
        document = {
            "schema": "netmon.cluster/1",
            "sequence": 1,
            "timestamp_seconds": 1.0,
            "engine": "store",
            "aggregator_rank": 0,
        }
        document |= {"world_size": 2, "nodes": nodes, "ranks": ranks, "totals": row(netmon.ClusterTotals), "spread": {}}
        return netmon.ClusterView.from_dict({**document, "skew": None, "findings": [finding], "unavailable": {}})


def test_flat_keys_are_documented_and_are_there() -> None:
    told = {name for text in pages().values() for name in names_in_tables(text, r"network/[^ ]+")}
    with Whole(interval=0.1, interfaces=["lo"], cluster=False) as monitor:
        phases = Phases(monitor)
        with phases.phase("step"):
            pass
        logged = set(FlatValues(monitor, phases, nodes=True).at(1))
        logged |= set(FlatValues(monitor, phases).at(2))
    general = {re.sub(r"^network/phase/step/", "network/phase/<phase>/", name) for name in logged}
    general = {re.sub(r"^network/node/[ab]/.*", "network/node/<name>/...", name) for name in general}
    assert general <= told, general - told
    # What this machine cannot measure: no speed is known of its loopback interface.
    assert told - general <= {"network/phase/<phase>/utilization_ratio"}, told - general


def test_pages_name_only_what_there_is() -> None:
    """Links lead somewhere: to files, and to headings in them."""

    def anchors(text: str) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text()
        for link in re.findall(r"\]\(([^)]+)\)", text):
            if link.startswith("http"):
                continue
            file, _, anchor = link.partition("#")
            target = (path.parent / file) if file else path
            assert target.exists(), f"{path.name}: {link}"
            assert not anchor or anchor in anchors(target.read_text()), f"{path.name}: {link}"
        for page in re.findall(r"\bdocs/[\w-]+\.md\b", text):
            assert (ROOT / page).exists(), f"{path.name}: {page}"
        for target in re.findall(r"`make ([a-z-]+)[` ]", text):
            assert target in targets, f"{path.name}: make {target}"
        for module in re.findall(r"python -m (bench(?:\.\w+)?)", text):
            place = ROOT / "python" / Path(*module.split("."))
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), f"{path.name}: {module}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for name in pages():
        assert name == "README.md" or f"]({name})" in index, f"docs/README.md does not name {name}"
    assert "](docs/README.md)" in README
