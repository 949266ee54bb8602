"""Every sentence that the documents quote, docs/troubleshooting.md first of all, is one that the sources can say."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGE = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
# What stands for a number, an address or a name, in a sentence as in an example of one, and where one sentence goes on with
# another's. Pieces that are shorter say nothing.
_GAP = re.compile(
    r"\.\.\.|[:;](?= )|, (?=said by)|\b(?:\d[\d.:]*|[A-Z]\w+Error|worker_process_setup_hook|iperf3|speedtest-cli)\b"
)
_LEAST = 8
# What others say: the system, a tool.
_OTHERS = {
    "no route to host", "network is unreachable", "permission denied", "NXDOMAIN", "Connection refused",
    "unable to connect to server", "the server is busy running a test. try again later",
}  # fmt: skip


def sentences(page: str) -> list[str]:
    found: list[str] = []
    for table in re.findall(r"^\| (?:sentence|`error`).*\n\| --- .*\n((?:\|.*\n)+)", page, re.MULTILINE):
        for row in table.splitlines():
            quoted = re.findall(r"`([^`]+)`", row.split("|")[1])
            assert quoted, row
            found += quoted
    return found


@cache
def sources() -> str:
    """Return the text of all sources, literals that are written in parts put together."""
    files = [*ROOT.glob("core/**/*.go"), *ROOT.glob("capi/*.go"), *ROOT.glob("capi/*.c"), *ROOT.glob("python/netmon/**/*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if not file.name.endswith("_test.go"))
    text = text.replace('\\"', "\0")  # a quotation mark that belongs to a sentence
    text = re.sub(r'"\s*\+?\s*f?"', "", text)
    return text.replace("\0", '"').replace("%%", "%")


def pieces(sentence: str) -> list[str]:
    return [piece for part in _GAP.split(sentence) if len(piece := part.strip(" ")) >= _LEAST]


@pytest.mark.parametrize(
    "sentence", [sentence for path in sorted(DOCS.glob("*.md")) for sentence in sentences(path.read_text(encoding="utf-8"))]
)
def test_the_sources_say_it(sentence: str) -> None:
    assert pieces(sentence), f"nothing is left of {sentence!r} that could be looked for"
    for piece in pieces(sentence):
        assert piece in _OTHERS or piece in sources(), f"nobody says {piece!r} any more"


def test_there_is_something_to_look_for() -> None:
    assert len(sentences(PAGE)) > 90
    assert "the monitor was closed" in sources()
    assert "no such sentence at all" not in sources()
    # Every part that the list at the top names is there, and has a table or says why not.
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    named = re.findall(r"^- \[.*\]\(#(.*)\)$", PAGE, re.MULTILINE)
    assert named == [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_three_places_are_there(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    problems, unavailable, why = done.stdout.splitlines()
    assert problems.startswith(("(", "["))
    assert "'window_seconds': 'no sample of the loop is half an interval old yet'" in unavailable
    assert why != "None"
