"""docs/rldk.md: its examples run, and it speaks of every name and defect."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from rldk_support import environment

from netmon.integrations import rldk

TEXT = (Path(__file__).parents[2] / "docs" / "rldk.md").read_text()
DEFECTS = [f"D{number}" for number in range(1, 66) if number != 64] + ["D17a", "D19a", "D20a", "D20b"]


def test_examples_run(tmp_path: Path) -> None:
    examples = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=environment(), check=True, timeout=60)
    assert (tmp_path / "logs" / "events_demo.jsonl").exists()


def test_every_name_is_there() -> None:
    for name in rldk.__all__:
        assert f"`{name}`" in TEXT, name


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_defect_is_there(defect: str) -> None:
    rows = re.findall(r"^\| (D[^|]*) \|", TEXT, re.MULTILINE)
    named = set()
    for row in rows:
        for part in row.strip().split(", "):
            first, _, last = part.partition("-")
            numbers = range(int(first[1:]), int(last[1:]) + 1) if last else []
            named |= {f"D{number}" for number in numbers} or {first}
    assert defect in named
