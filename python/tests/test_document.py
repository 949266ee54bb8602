"""What samples and views have in common: they are decoded when they are looked into, once, also by two threads."""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import netmon
from netmon._document import Document

SAMPLE = json.dumps({"schema": "netmon.sample/1", "sequence": 7, "tcp": None, "unavailable": {}}).encode()
VIEW = zlib.compress(json.dumps({"schema": "netmon.cluster/1", "sequence": 7, "skew": None, "unavailable": {}}).encode())


@pytest.mark.parametrize("make", [lambda: netmon.Sample(SAMPLE), lambda: netmon.ClusterView(VIEW, None, None)])
def test_two_threads_that_look_first(
    make: Callable[[], netmon.Sample | netmon.ClusterView], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, entered, goes_on = Document._read, threading.Event(), threading.Event()

    def slow(text: bytes) -> Mapping[str, Any]:
        document = read(text)
        if not entered.is_set():
            entered.set()
            goes_on.wait(30)
        return document

    document = make()
    monkeypatch.setattr(Document, "_read", staticmethod(slow))
    found: list[int] = []
    first = threading.Thread(target=lambda: found.append(document.sequence))
    first.start()
    entered.wait(30)
    assert document.sequence == 7, "while another thread decodes it"
    goes_on.set()
    first.join()
    assert found == [7]


def test_a_section_is_made_once() -> None:
    made: list[Any] = []
    document = Document(SAMPLE)
    for _ in range(2):
        assert document._made("tcp", lambda value: made.append(value) or "made") == "made"  # type: ignore[func-returns-value]
        assert document._made("not there", lambda value: value) is None
    assert made == [None]
