"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import netmon

ROOT = Path(__file__).resolve().parents[2]


def test_metrics_page_knows_every_field():
    page = (ROOT / "docs/metrics.md").read_text()
    sections: dict[str, str] = {}
    for title, body in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL):
        sections[title.strip("`[]")] = body
    with netmon.Monitor(interval=60) as monitor:
        document = monitor.sample().to_dict()
    for section, value in document.items():
        if value is None:
            later = f"`{section}`" in sections["Sections of later versions"]
            assert later or section == "window_seconds" or section in sections
        elif section == "interfaces":
            for field in value[0]:
                assert f"`{field}`" in sections["interfaces"] + sections["totals"], field
        elif isinstance(value, dict) and section != "unavailable":
            for field in value:
                assert f"`{field}`" in sections[section], f"{section}.{field}"
        elif not isinstance(value, dict):
            assert f"`{section}`" in sections["Top level"], section
    # And knows none that is not there.
    for section in ("host", "job", "totals", "tcp", "udp", "ip", "sockets", "self"):
        for line in sections[section].splitlines():
            if line.startswith("| `"):
                for field in re.findall(r"`([^`]+)`", line.split("|")[1]):
                    assert field in document[section], f"{section}.{field}"
