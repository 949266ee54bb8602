"""The timing of collectives where the job, torch or other monitors do what they should not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_torch_collectives import WAYS, finish

RANK = str(Path(__file__).with_name("collectives_hostile.py"))
FLOAT = 4
HOOKS = (sys.executable, "")
pytestmark = pytest.mark.torch


def run(folder: Path, way: tuple[str, str], scenario: str, ranks: int = 2, returncodes: list[int] | None = None) -> list[Any]:
    """Run ranks on loopback."""
    pytest.importorskip("torch")
    python, option = way
    started = [
        subprocess.Popen(
            [python, RANK, scenario, str(rank), str(ranks), str(folder / "store"), *filter(None, [option])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
        )
        for rank in range(ranks)
    ]
    return finish(started, returncodes)


@pytest.mark.parametrize("way", WAYS)
def test_a_closed_monitor_beside_one_that_goes_on(tmp_path: Path, way: tuple[str, str]) -> None:
    for found in run(tmp_path, way, "monitors"):
        assert found["alive"] == [4, 8], "closing the handle of one ended it for the other"
        assert found["last"] == [16, 20, 24]
        assert found["restored"]
        assert found["threads"] == 0
        assert found["remaining"] == [None, None, None]


@pytest.mark.parametrize("way", WAYS)
def test_sequences_where_some_ranks_send_to_each_other(tmp_path: Path, way: tuple[str, str]) -> None:
    answers = run(tmp_path, way, "point_to_point", ranks=3)
    for found in answers:
        assert found["all"] == [[FLOAT * (100 + i), i] for i in range(4)], "the same call has the same number everywhere"
    assert [found["some"] for found in answers] == [[None] * 4, [None] * 4, []]


@pytest.mark.parametrize("way", WAYS)
def test_calls_that_are_refused(tmp_path: Path, way: tuple[str, str]) -> None:
    for found in run(tmp_path, way, "refused"):
        assert found["raised"] == ["ValueError", "RuntimeError", "RuntimeError", "RuntimeError"], "as without netmon"
        assert [size for size, _ in found["records"]] == [6, 4, 56, 32]
        # Where torch does not say that the caller waits at once, it may be looked at before: it has ended, and not why.
        failed = {"failed"} if way == HOOKS else {"failed", "polled"}
        assert {end for _, end in found["records"][:2]} <= failed
        assert [end for _, end in found["records"][2:]] == ["failed", "exact"]
        assert found["kept"] == 0
        assert found["problem"] is None


@pytest.mark.parametrize("way", WAYS)
def test_sparse_tensors(tmp_path: Path, way: tuple[str, str]) -> None:
    for found in run(tmp_path, way, "sparse"):
        assert found["total"] == [2, 0, 2, 0]
        assert found["problem"] is None
        assert found["records"] == [["all_reduce", 2 * (FLOAT + 8)]], "values and indices"
