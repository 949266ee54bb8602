"""Where all numbers of this package come from: the one monitor of the process.

Nothing here raises: where netmon cannot measure, there is no sample, and the reason is told once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from ..._environment import job_variables
from ..._errors import ConfigError, Error
from ..._monitor import Monitor
from ..._shared import configure_shared, existing_monitor, shared_interval, shared_monitor, shared_option
from ..._types import Sample
from ._trouble import process

_RETRY_SECONDS = 10.0
_MOST_NAMES = 8

NOT_YET = "netmon does not measure it"

_failed_at: float | None = None
_failure = ""
# The monitor that was told what is known of the job, and what: (environment, rank and world size found in torch).
_told: tuple[Monitor | None, dict[str, str] | None, tuple[int, int] | None] = (None, None, None)


def configure(
    *,
    interfaces: list[str] | None = None,
    interval: float | None = None,
    targets: list[str] | None = None,
    sources: list[str] | None = None,
    job: dict[str, Any] | None = None,
    probe_interval: float | None = None,
    probe_timeout: float | None = None,
    udp_responder: bool | dict[str, Any] | None = None,
    peers: bool | None = None,
    bandwidth_server: bool | dict[str, Any] | None = None,
    cluster: bool | str | None = None,
    cluster_interval: float | None = None,
) -> None:
    """Say how the process's one monitor is to measure, before any object of this module measures.

    Args:
        interfaces: which interfaces count, as glob patterns; ``["lo"]`` for ranks that talk over loopback.
        interval: seconds between two samples, default 1.
        targets: whom to probe beside the training peers, as ``netmon.Monitor`` takes them: ``"10.0.0.2"``,
            ``"tcp://node7:29500"``, ``"udp://node7"``, ``"dns://node7"``, ``"gateway"``.
        sources: which sections are read.
        job: what is known of the training job (``peers``, ``master_address``...); wins over the environment.
        probe_interval: seconds between two probes of one target, default 1.
        probe_timeout: seconds after which a probe without an answer is lost, default 1.
        udp_responder: answer the UDP echoes of other monitors: True on loopback, or ``{"address": "10.0.0.1", "port": 29541}``.
        peers: whether to read the state of this process's own TCP sockets, default True.
        bandwidth_server: let other monitors measure throughput to here: True on loopback, or
            ``{"address": "10.0.0.1", "port": 29542}``.
        cluster: whether this process takes part in the view of its job, as ``netmon.Monitor`` takes it.
        cluster_interval: seconds between two digests of this process for that view, default 2.

    Raises:
        ConfigError: a value is wrong, or it is too late.
    """
    given = {
        "interfaces": interfaces,
        "interval": interval,
        "targets": targets,
        "sources": sources,
        "job": job,
        "probe_interval": probe_interval,
        "probe_timeout": probe_timeout,
        "udp_responder": udp_responder,
        "peers": peers,
        "bandwidth_server": bandwidth_server,
        "cluster": cluster,
        "cluster_interval": cluster_interval,
    }
    try:
        configure_shared(**{name: value for name, value in given.items() if value is not None})
    except ConfigError:
        raise
    except Error as error:
        _cannot(error)


def monitor() -> Monitor | None:
    """Return the process's monitor, None where there can be none. After a failure it is tried again, but not at every call."""
    global _failed_at
    if _failed_at is not None and time.monotonic() - _failed_at < _RETRY_SECONDS:
        return None
    try:
        found = shared_monitor()
    except Error as error:
        _cannot(error)
        return None
    _failed_at = None
    return found


def _cannot(error: Error) -> None:
    global _failed_at, _failure
    _failed_at = time.monotonic()
    _failure = str(error)
    process.tell("monitor", f"netmon measures nothing, and training goes on without it: {error}")


def measure() -> Sample | None:
    """Measure now: local reads only, about 0.1 ms."""
    if not _told[1]:
        # Launchers may set their variables after the monitor was made.
        tell_environment()
    return _sample(Monitor.sample)


def newest() -> Sample | None:
    """Return the newest sample of the background loop."""
    return _sample(_newest)


def _sample(take: Any) -> Sample | None:
    global _failure
    source = monitor()
    if source is None:
        return None
    try:
        sample: Sample = take(source)
    except Error as error:
        _failure = str(error)
        process.tell("sample", f"netmon could not measure: {error}")
        return None
    return sample


def _newest(source: Monitor) -> Sample:
    samples = source.history(seconds=1.5 * interval())
    return samples[-1] if samples else source.sample()


def origin() -> tuple[int, int]:
    """Return what counts must have in common to be compared: the process and the monitor. In others they begin at zero."""
    source = monitor()
    return os.getpid(), source.handle if source is not None else 0


def interval() -> float:
    """Return the seconds between two samples of the background loop."""
    return shared_interval()


def tell_environment() -> bool:
    """Hand over what the environment says of the job, where it changed since the monitor was made; whether it had."""
    source = monitor()
    if source is None:
        return False
    global _told
    known_by, environment, ranks = _told
    variables = job_variables()
    if known_by is source and environment == variables:
        return False
    _told = (source, variables, ranks if known_by is source else None)
    if known_by is source or variables:
        _tell(source, environment=variables)
        return True
    return False


def tell_ranks(rank: int, world_size: int) -> None:
    """Hand over the ranks that torch.distributed knows, once."""
    source = monitor()
    if source is None:
        return
    global _told
    known_by, environment, ranks = _told
    if known_by is source and ranks == (rank, world_size):
        return
    _told = (source, environment if known_by is source else None, (rank, world_size))
    _tell(source, rank=rank, world_size=world_size, source="torch.distributed")


def _tell(about: Monitor, /, **fields: Any) -> None:
    try:
        about.set_job(**fields)
    except Error as error:
        process.tell("job", f"netmon could not be told the ranks: {error}")


def targets() -> tuple[str, ...]:
    """Return whom the monitor probes because ``configure`` said so."""
    return tuple(shared_option("targets") or ())


def why_no_probes() -> str | None:
    """Return why nothing can be probed at all, None where it can."""
    sources = shared_option("sources")
    if sources is not None and "probes" not in sources:
        return "not in sources"
    return why(None, "probes") if monitor() is None else None


def problems() -> list[str]:
    """Return what the monitor itself has to complain about, if there is one."""
    source = existing_monitor()
    try:
        return list(source.health().problems) if source is not None else []
    except Error as error:
        return [f"netmon's health is not known: {error}"]


def interfaces(sample: Sample) -> list[dict[str, Any]]:
    """Return the interfaces of a sample as the document has them: decoding hundreds into types would cost milliseconds."""
    return list(sample._decoded()["interfaces"] or ())


def interface(sample: Sample, name: str) -> dict[str, Any] | None:
    """Return one interface."""
    return next((row for row in interfaces(sample) if row["name"] == name), None)


def primary(sample: Sample) -> str | None:
    """Return the name of the primary interface."""
    return next((row["name"] for row in interfaces(sample) if row["primary"]), None)


def counted(sample: Sample) -> str:
    """Return the names of the interfaces that count in the totals."""
    return listed([row["name"] for row in interfaces(sample) if row["counted"]])


def listed(words: Sequence[str], separator: str = ", ") -> str:
    """Return words in a row, 8 of them at most."""
    more = len(words) - _MOST_NAMES
    return separator.join(words[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def why(sample: Sample | None, name: str) -> str:
    """Return why a section or field of a sample is not there."""
    if sample is None:
        return f"netmon measures nothing here: {_failure}"
    return sample.reason(name) or "not measured"
