"""What this process has of the integration: its phases and the values that it logs, made when they are first needed."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager
from typing import Any

from ... import _imports, _training
from ..._options import RunOptions
from .._flat import FlatValues
from .._phases import Phases
from .._watch import within
from ..ray._nodes import other_addresses

_lock = threading.Lock()
_phases: Phases | None = None
_values: FlatValues | None = None
_failed = False  # the library is missing: asked once
_nodes: frozenset[str] | None = None  # of the view, when it was last looked where the job runs
_MOST_PEERS = 64


def phase(name: str) -> AbstractContextManager[None]:
    """Be in a phase, where that can be measured. Nothing of netmon's is raised."""
    return within(_made(), name)


def will_log() -> None:
    """Begin to measure what a process that will log needs: what it then has of the first step is known by that time."""
    if _made() is not None:
        _imports.guarded(_look_around, what="the job's other nodes are not probed")


def values(step: object) -> dict[str, float]:
    """Return what is to be logged at a step; nothing where nothing is measured."""
    found: dict[str, float] = {}
    will_log()
    if _values is not None:
        _imports.guarded(lambda: found.update(_values.at(step)), what="the network is not logged")
    return found


def _look_around() -> None:
    """Have the process that logs probe the other nodes of its job of Ray, as ranks of torch probe their master."""
    global _nodes
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    monitor = _training.training_begins()
    nodes = frozenset(node.name for node in monitor.cluster().nodes if node.state != "gone")
    if nodes == _nodes:
        return
    first, _nodes = _nodes is None, nodes
    others = other_addresses(ray)[:_MOST_PEERS]
    if others or not first:
        monitor.set_job(peers=others)


def _made() -> Phases | None:
    global _failed
    if _phases is None and not _failed:
        with _lock:
            if _phases is None and not _failed:
                _failed = True
                _imports.guarded(_make)
    return _phases


def _make() -> None:
    global _phases, _values, _failed
    monitor = _training.training_begins()
    phases = Phases(monitor)
    _values = FlatValues(monitor, phases, nodes=RunOptions.from_environment().nodes)
    _phases, _failed = phases, False


def _after_fork_in_child() -> None:
    global _lock, _phases, _values, _failed, _nodes
    _lock = threading.Lock()
    _phases, _values, _failed, _nodes = None, None, False, None


os.register_at_fork(after_in_child=_after_fork_in_child)
