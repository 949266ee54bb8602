"""The page of slow links is written from what a job says, and nothing is in it that was not measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import report, slow_link
from bench.campaign.faults import KINDS

ROOT = Path(__file__).resolve().parents[2]


def tables(text: str) -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [[[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()] for table in found]


def test_the_page_has_what_the_bench_writes() -> None:
    page = slow_link.PAGE.read_text(encoding="utf-8")
    generated = page.partition(slow_link.BEGIN)[2].partition(report.END)[0]
    assert not re.search(r"\b(nan|inf|None)\b", generated)
    found = tables(generated)
    assert len(found) == len(slow_link.ROWS)
    for table, rows in zip(found, slow_link.ROWS.values(), strict=True):
        assert table[0] == ["", *slow_link.STATES]
        assert [row[0] for row in table[2:]] == list(rows)
        assert all(len(row) == len(table[0]) for row in table)
    for name, fault in slow_link.STATES.items():
        (said,) = re.findall(rf"^- \*\*{re.escape(name)}\*\*\n((?:  - .*\n)+)", generated, re.MULTILINE)
        assert f"`{KINDS[fault].finding or 'network_clean'}`" in said, f"what was found of {name} is not what is there"


@pytest.mark.usefixtures("namespace")
def test_a_short_form_measures_a_lossy_link(tmp_path: Path) -> None:
    document = tmp_path / "slow-link.md"
    document.write_text(f"before\n{slow_link.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    record = tmp_path / "lines.json"
    slow_link.main(["--quick", "--only", "1 % loss", "--report", str(document), "--json", str(record)])
    text = document.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    cells = {row[0]: row[1] for table in tables(text) for row in table[2:]}
    assert float(cells["steps a second (not netmon's)"]) > 0
    own, others = (float(share.removesuffix(" %")) for share in cells["segments sent again"].split(" / "))
    assert 0.3 < own < 3
    assert others < own / 3
    for name in ("compute", "reduce", "broadcast", "barrier"):
        assert re.fullmatch(r"[\d.]+ m?s / [\d.]+ m?s", cells[f"`{name}`: seconds"]), cells
    # What was recorded gives the same again, and a figure that nobody measured is not made up.
    slow_link.main(["--replay", str(record), "--report", str(document)])
    assert document.read_text(encoding="utf-8") == text
    unseen = slow_link.Seen(0.0, 1.0, [[], [], [], []])
    for rows in slow_link.ROWS.values():
        for name, cell in rows.items():
            assert set(cell(unseen)) <= set("- /"), name
