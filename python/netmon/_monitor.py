"""The monitor."""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from ctypes import byref, c_uint32, c_uint64, c_void_p
from dataclasses import replace
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, overload

from . import _abi, _loader
from ._alerts import _CLOSE_SECONDS, Alert, AlertCallback, rules_of
from ._cluster_types import ClusterView
from ._environment import job_variables
from ._errors import ClosedError, ConfigError, Error, NoDataError, error_for
from ._phase import PhaseRun
from ._types import AlertEvent, Alerts, BandwidthTest, FineSampling, Health, Path, Probe, Sample, Snapshot, Stats, _build

if TYPE_CHECKING:
    import pandas

    from . import _cluster

_SNAPSHOT_SIZE = ctypes.sizeof(Snapshot)

# history() fetches as many samples at a time as make about this much text: decoding it takes some 20 ms, in which Ctrl-C waits.
_PAGE_BYTES = 1 << 20
_FIRST_PAGE, _MOST_PAGE = 8, 256
_SLICE_SECONDS = 0.05  # how long a call may keep Python from handling a signal

# The sections of the document that may be left out, in the library's order.
_GROUP = "torch.distributed"  # the source of what the job's default group knows
_SOURCES = ("interfaces", "tcp", "udp", "ip", "sockets", "probes", "peers", "rdma", "collectives", "pcie", "nvlink")


class Monitor:
    """Samples the network counters of this machine in the background and on demand.

    It probes the training peers and the targets it is given, and nobody else: without them it sends no packet, but to the
    system's resolver where the job's master address is a name, and to the job's store where it takes part in the view of its
    job (``cluster``). It opens no port unasked, starts no Python thread but the one for that view, and needs no privilege. What
    it measures is that of the network namespace of the thread that creates it. All methods may be called from any thread. After
    a fork, ``latest`` reads what the parent measures; the other methods open the monitor anew in the child, with totals from
    zero.

    Args:
        interval: seconds between two samples of the background loop, 0.01 to 3600.
        targets: whom to probe beside the training peers: ``"10.0.0.2"``, ``"node7"``, ``"tcp://node7:29500"``,
            ``"udp://node7"``, ``"dns://node7"``, ``"gateway"``; docs/probes.md says how they are written.
        interfaces: which interfaces count in ``totals``, as glob patterns; ``!`` excludes; loopback only if it is named.
            Default: those with hardware behind them, and in a container its own.
        sources: which sections are read (``"interfaces"``, ``"tcp"``, ``"udp"``, ``"ip"``, ``"sockets"``...). Default: all.
        job: what is known of the training job (``rank``, ``world_size``, ``master_address``, ``peers``...); wins over the
            environment.
        probe_interval: seconds between two probes of one target, 0.02 to 3600.
        probe_timeout: seconds after which a probe without an answer is lost, 0.01 to 60.
        udp_responder: answer the UDP echoes of other monitors: ``True`` on loopback, port 29541, or
            ``{"address": "10.0.0.1", "port": 29541}``. Default: no port is opened.
        peers: whether to read the state of this process's own TCP sockets (``sample.peers``, and from it
            ``sample.transport``). No packet is sent for it, and nothing done to a socket.
        bandwidth_server: let other monitors measure throughput to here (``measure_bandwidth``), within limits that are fixed:
            ``True`` on loopback, port 29542, or ``{"address": "10.0.0.1", "port": 29542}``. Default: no port is opened.
        cluster: whether this process takes part in the view of its job (``cluster()``): ``True`` from now on, ``None`` from the
            first call of ``cluster()`` or ``netmon.integrations.torch.attach`` on, ``False`` never; ``"store"`` or ``"ray"``:
            from now on, by that only.
        cluster_interval: seconds between two digests of this process for the view, 0.1 to 3600. All processes of a job should
            have the same.
        alerts: at most 64 rules that the loop's samples are held against (``netmon.Alert``).

    Raises:
        ConfigError: an argument is wrong; the text names it.
        LibraryError: the library cannot be loaded here.
        ResourceError: too many monitors, or too little left of what the process may use.

    Example:
        >>> import netmon
        >>> with netmon.Monitor(interval=0.1) as monitor:
        ...     sample = monitor.sample()
        ...     sample.schema
        'netmon.sample/1'
    """

    def __init__(
        self,
        interval: float = 1.0,
        *,
        targets: Iterable[str] | None = None,
        interfaces: Iterable[str] | None = None,
        sources: Iterable[str] | None = None,
        job: Mapping[str, Any] | None = None,
        probe_interval: float = 1.0,
        probe_timeout: float = 1.0,
        udp_responder: bool | Mapping[str, Any] = False,
        peers: bool = True,
        bandwidth_server: bool | Mapping[str, Any] = False,
        cluster: bool | str | None = None,
        cluster_interval: float = 2.0,
        alerts: Iterable[Alert | Mapping[str, Any]] | None = None,
    ) -> None:
        self._hold: _cluster.Hold | None = None
        self._cluster = _engine(cluster)
        self._cluster_interval = cluster_interval
        self._configured = {name for name, value in (job or {}).items() if value is not None}  # of the job, by who uses this
        # The library writes into it and reads from it, so that no interrupt (Ctrl-C) falls between what is open and who knows.
        self._handle = c_uint64()
        self._callbacks: list[AlertCallback] = []
        config: dict[str, Any] = {
            "interval_seconds": interval,
            "probe_interval_seconds": probe_interval,
            "probe_timeout_seconds": probe_timeout,
            "cluster_interval_seconds": cluster_interval,
        }
        if udp_responder is not False:
            config["udp_responder"] = udp_responder
        if bandwidth_server is not False:
            config["bandwidth_server"] = bandwidth_server
        for name, value in (("targets", targets), ("interfaces", interfaces), ("sources", sources)):
            if value is not None:
                # A lone string is an iterable of letters; handed on as it is, it is refused with a sentence.
                config[name] = value if isinstance(value, str) else list(value)
        if alerts is not None:
            config["alerts"] = rules_of(alerts)
        if not peers:
            config["sources"] = _without_peers(config.get("sources"))
        config["job"] = {"environment": job_variables(), **(job or {})}
        text = _encode(config)
        self._library = _loader.load()
        self._latest = self._library.latest
        self._finally = partial(self._library.close, self._handle)
        error = c_void_p()
        self._check(self._library.init(text, byref(self._handle), byref(error)), error)
        if cluster:
            self._hold = self._join()

    def _check(self, status: int, error: c_void_p) -> None:
        if status != _abi.OK:
            raise error_for(status, self._take(error).decode() if error.value else "")

    def _take(self, text: c_void_p) -> bytes:
        """Copy text that the library handed out, and free it."""
        try:
            assert text.value is not None
            return ctypes.string_at(text.value)
        finally:
            self._library.free(text)

    @property
    def handle(self) -> int:
        """The library's handle, for calls of your own through ctypes; 0 after ``close``."""
        return self._handle.value

    @property
    def closed(self) -> bool:
        """Whether the monitor was closed."""
        return self._handle.value == 0

    def sample(self) -> Sample:
        """Measure now.

        Returns:
            The sample. Its rates cover the time since the newest sample of the loop that is at least half an interval old.

        Raises:
            ClosedError: the monitor was closed.
            ForkedProcessError: this is a forked child in which the library cannot be used.
        """
        text, error = c_void_p(), c_void_p()
        self._check(self._library.sample(self._handle.value or self._gone(), byref(text), byref(error)), error)
        return Sample(self._take(text))

    def latest(self) -> Snapshot:
        """Return the values of the background loop's newest sample, without waiting, also in a forked child.

        It takes under a microsecond.

        Raises:
            ClosedError: the monitor was closed.
        """
        snapshot = Snapshot()
        snapshot.struct_size = _SNAPSHOT_SIZE
        if self._latest(self._handle, byref(snapshot)):
            self._no_snapshot(snapshot)
        return snapshot

    def _no_snapshot(self, snapshot: Snapshot) -> None:
        status = self._latest(self._handle.value or self._gone(), byref(snapshot))
        if status == _abi.CLOSED:
            raise ClosedError("the monitor was closed")
        if status != _abi.OK:
            raise NoDataError("the newest values were overwritten twice while they were read; try again")

    def _gone(self) -> int:
        raise ClosedError("the monitor was closed")

    def _query(self, request: Mapping[str, Any]) -> bytes:
        text, error = c_void_p(), c_void_p()
        request = {key: value for key, value in request.items() if value is not None}
        status = self._library.query(self._handle.value or self._gone(), _encode(request), byref(text), byref(error))
        self._check(status, error)
        return self._take(text)

    def history(self, seconds: float | None = None) -> list[Sample]:
        """Return the samples of the background loop, oldest first.

        Args:
            seconds: how far back, default all that is kept: 600 s, or 4 MiB.
        """
        samples: list[Sample] = []
        after, limit = 0, _FIRST_PAGE
        while True:
            text = self._query({"view": "history", "seconds": seconds, "after_sequence": after, "limit": limit})
            page = json.loads(text)
            samples.extend(Sample(document) for document in page)
            if len(page) < limit:
                return samples
            after = page[-1]["sequence"]
            limit = max(1, min(_MOST_PAGE, _PAGE_BYTES * len(page) // len(text)))

    def stats(self, metric: str, seconds: float | None = None) -> Stats:
        """Return count, min, max, mean, standard deviation and quantiles of a metric as the loop recorded it.

        Args:
            metric: its name in the sample document, what there are several of by name: ``"totals.receive_bytes_per_second"``,
                ``"tcp.retransmit_ratio"``, ``"interfaces.eth0.receive_drops_total"``, ``"probes.10.0.0.2.rtt_p50_seconds"``,
                ``"peers.10.0.0.2.rtt_seconds"``, ``"rdma.mlx5_0.1.receive_bytes_per_second"``.
            seconds: how far back, default all that is kept.

        Raises:
            InvalidArgumentError: there is no such metric; the text says which there are.
        """
        return _build(Stats, json.loads(self._query({"view": "stats", "metric": metric, "seconds": seconds})))

    def health(self) -> Health:
        """Return how the monitor is doing: problems, cost, dropped samples, and what happened to interfaces and counters."""
        health = _build(Health, json.loads(self._query({"view": "health"})))
        problems = [callback.problem for callback in self._callbacks if callback.problem and not callback.closed]
        return replace(health, status="degraded", problems=(*health.problems, *problems)) if problems else health

    def alerts(self, after_sequence: int = 0) -> Alerts:
        """Return the alert rules as they stand, and what fired and resolved, oldest first.

        Args:
            after_sequence: leave out events up to this one; the newest 1,024 are kept.
        """
        answer = page = self._alerts(after_sequence)
        events = list(page.events)
        while len(page.events) == _MOST_PAGE:
            page = self._alerts(page.events[-1].sequence, events_only=True)
            events.extend(page.events)
        return replace(answer, events=tuple(events), events_total=page.events_total)

    def set_alerts(self, alerts: Iterable[Alert | Mapping[str, Any]]) -> Alerts:
        """Replace the alert rules from now on.

        A rule that stays the same goes on as it stands. An alert that is on, and whose rule is gone or was changed, resolves.

        Raises:
            InvalidArgumentError: a rule is wrong; the text says which and why. The old ones stay.
        """
        return _build(Alerts, json.loads(self._query({"view": "alerts", "rules": rules_of(alerts)})))

    def on_alert(self, callback: Callable[[AlertEvent], Any]) -> AlertCallback:
        """Have a function called with each event, on a daemon thread of its own: first with what is on already.

        It may take its time: neither samples nor other callbacks wait for it, and it is not called twice at once. What it
        raises is caught and told by ``health``, until a later call raises nothing. A forked child has none of this.

        Returns:
            What ends it by ``close``; the monitor's ``close`` does too. It need not be kept.

        Raises:
            ClosedError: the monitor was closed.
            ResourceError: no thread can be started.
        """
        interval: float = self.health().interval_seconds
        one = AlertCallback(self, callback, interval)
        self._callbacks.append(one)
        return one

    def _alerts(self, after_sequence: int, events_only: bool = False) -> Alerts:
        request = {"view": "alerts", "after_sequence": after_sequence, "limit": _MOST_PAGE, "events_only": events_only}
        return _build(Alerts, json.loads(self._query(request)))

    def _forget_callback(self, callback: AlertCallback) -> None:
        with contextlib.suppress(ValueError):
            self._callbacks.remove(callback)

    def sample_finely(self, seconds: float = 10.0, interval: float = 0.02) -> FineSampling:
        """Read the counters of interfaces also between samples for a while, so that samples know peaks.

        While it lasts, ``totals`` of samples have ``receive_peak_bytes_per_second``, ``receive_p95_bytes_per_second``, the same
        for ``transmit``, and ``busy_ratio``, over the sample's window. It ends by itself; asked again it goes on. Where two
        ask, the later end and the shorter interval hold.

        Args:
            seconds: for how long from now, 0 to 60; 0 ends it.
            interval: seconds between two readings, 0.01 to 0.05.

        Returns:
            What holds now.

        Raises:
            InvalidArgumentError: an argument is wrong; the text names it.
            ClosedError: the monitor was closed.
        """
        return _build(FineSampling, json.loads(self._query({"view": "fine", "seconds": seconds, "interval_seconds": interval})))

    def probe(
        self, target: str, count: int = 5, method: str = "auto", timeout: float = 1.0, *, interval: float = 0.02
    ) -> Probe:
        """Measure round trips to one target now, beside what the background does.

        The next probe goes out after an answer or the timeout, and not before ``interval`` has passed. Ctrl-C ends it within
        0.1 s. A target that cannot be reached is no exception: ``error`` says what it is.

        Args:
            target: as in ``targets``.
            count: probes, 1 to 1000.
            method: ``"auto"``, ``"icmp"``, ``"tcp"``, ``"udp"`` or ``"dns"``.
            timeout: seconds after which a probe without an answer is lost, 0.01 to 60.
            interval: seconds between the sending of two probes, 0.02 to 60.

        Raises:
            InvalidArgumentError: an argument is wrong; the text names it.
            ClosedError: the monitor was closed, perhaps while this waited.
            ResourceError: 16 probes of this monitor are under way.
        """
        request = {"target": target, "count": count, "method": method, "timeout_seconds": timeout, "interval_seconds": interval}
        return _build(Probe, self._on_demand(self._library.probe, request))

    def trace(self, target: str, count: int = 3, timeout: float = 1.0) -> Path:
        """Find the hops on the way to a target, with their round trips, and the path MTU. Needs no privilege.

        Args:
            target: an address or a name.
            count: probes per hop, 1 to 10.
            timeout: seconds after which a hop did not answer, 0.01 to 60.

        Raises:
            InvalidArgumentError: an argument is wrong; the text names it.
            ClosedError: the monitor was closed, perhaps while this waited.
            ResourceError: 16 probes of this monitor are under way.
        """
        request = {"target": target, "count": count, "method": "path", "timeout_seconds": timeout}
        return _build(Path, self._on_demand(self._library.probe, request))

    @overload
    def measure_bandwidth(
        self,
        target: str | None = None,
        seconds: float | None = None,
        direction: Literal["transmit", "receive"] = "transmit",
        tool: str = "netmon",
        parallel: int | None = None,
        *,
        timeout: float | None = None,
        program: str | None = None,
    ) -> BandwidthTest: ...
    @overload
    def measure_bandwidth(
        self,
        target: str | None = None,
        seconds: float | None = None,
        direction: Literal["both"] = ...,
        tool: str = "netmon",
        parallel: int | None = None,
        *,
        timeout: float | None = None,
        program: str | None = None,
    ) -> tuple[BandwidthTest, ...]: ...
    @overload
    def measure_bandwidth(
        self,
        target: str | None = None,
        seconds: float | None = None,
        direction: str = ...,
        tool: str = "netmon",
        parallel: int | None = None,
        *,
        timeout: float | None = None,
        program: str | None = None,
    ) -> BandwidthTest | tuple[BandwidthTest, ...]: ...
    def measure_bandwidth(
        self,
        target: str | None = None,
        seconds: float | None = None,
        direction: str = "transmit",
        tool: str = "netmon",
        parallel: int | None = None,
        *,
        timeout: float | None = None,
        program: str | None = None,
    ) -> BandwidthTest | tuple[BandwidthTest, ...]:
        """Measure throughput by sending as much as goes through for a while. Only ever done because of this call.

        The figure is what the receiving end got. Nothing is raised for a test that fails: ``error`` says why. One test runs at
        a time in a process. Ctrl-C ends it within 0.1 s. Finished tests are in the samples' ``bandwidth_tests`` too.

        Args:
            target: whom to measure with: ``"10.0.0.2"`` or ``"10.0.0.2:29542"``. ``"netmon"`` needs a monitor there with
                ``bandwidth_server``, ``"iperf3"`` an ``iperf3 --server``. ``"speedtest-cli"`` chooses a server on the internet
                by itself, or takes the number of one.
            seconds: for how long each direction is measured, 0.1 to 10, default 2; whole ones with ``"iperf3"``; none with
                ``"speedtest-cli"``, which chooses it.
            direction: seen from here: ``"transmit"``, ``"receive"``, or ``"both"``, one after the other.
            tool: ``"netmon"`` (its own test, at most 16 GiB), ``"iperf3"`` or ``"speedtest-cli"``, which must be installed.
            parallel: connections, 1 to 8, default 1; none with ``"speedtest-cli"``.
            timeout: seconds after which all is ended, 1 to 120; default: what is measured and 10 s; ``"speedtest-cli"``: 90.
            program: the tool's program, where it is not the one on PATH.

        Returns:
            The test, for ``"both"`` the two tests.

        Raises:
            InvalidArgumentError: an argument is wrong; the text names it.
            ClosedError: the monitor was closed, perhaps while this waited.
            ResourceError: another test of this process is under way.
        """
        request = {
            "tool": tool,
            "target": target,
            "direction": direction,
            "seconds": seconds,
            "parallel": parallel,
            "program": program,
            "timeout_seconds": timeout,
        }
        asked = {key: value for key, value in request.items() if value is not None}
        tests = tuple(_build(BandwidthTest, test) for test in self._on_demand(self._library.bandwidth, asked)["tests"])
        return tests if direction == "both" else tests[0]

    def _on_demand(self, function: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a function of the library do what takes its time, in slices between which Python handles signals."""
        # The first answer is kept in the library's hands to the end: an interrupt that comes before Python has read it finds
        # there what is to be cancelled.
        first = c_void_p()
        try:
            # Not written out here: CPython 3.13 does not cover a loop's way back with the handlers around it.
            return self._until_done(function, request, first)
        except BaseException:
            if first.value is not None:
                cancelled = c_void_p()
                with contextlib.suppress(Error):
                    self._request(function, {"id": _decode(first)["id"], "cancel": True}, cancelled)
                self._library.free(cancelled)
            raise
        finally:
            self._library.free(first)

    def _until_done(self, function: Any, request: Mapping[str, Any], first: c_void_p) -> dict[str, Any]:
        self._request(function, {**request, "wait_seconds": 0}, first)
        answer = _decode(first)
        while not answer["done"]:
            answer = self._answer(function, {"id": answer["id"], "wait_seconds": _SLICE_SECONDS})
        return answer

    def _answer(self, function: Any, request: Mapping[str, Any]) -> dict[str, Any]:
        text = c_void_p()
        self._request(function, request, text)
        answer: dict[str, Any] = json.loads(self._take(text))
        return answer

    def _request(self, function: Any, request: Mapping[str, Any], text_out: c_void_p) -> None:
        error = c_void_p()
        status = function(self._handle.value or self._gone(), _encode(request), byref(text_out), byref(error))
        self._check(status, error)

    def cluster(self) -> ClusterView:
        """Return the newest view of the whole job: nodes, ranks, totals, who is slow, and who is late or gone.

        It returns at once what a thread in the background fetches. That thread starts with the first call, where
        ``cluster=True`` or ``attach`` did not start it before. Nobody has to wait for anybody, and no collective is called.
        Every process of the job that is to be seen has to take part. Where there is no view yet, the one returned has
        ``sequence`` 0 and a ``problem``.

        Raises:
            ClosedError: the monitor was closed.
        """
        hold = self._held()
        return ClusterView(None, None, "the monitor was made with cluster=False") if hold is None else hold.view()

    def _held(self) -> _cluster.Hold | None:
        """Have this process take part from the first call on, unless it is never to."""
        if self.closed:
            self._gone()
        if self._hold is None:
            if self._cluster is False:
                return None
            self._hold = self._join()
        return self._hold

    def _leave_note(self, note: bytes) -> None:
        """Leave a note for the other processes of the job, in place of the one before, without waiting for it."""
        hold = self._held()
        if hold is not None:
            hold.leave_note(note)

    def _notes(self, seconds: float) -> Mapping[int, bytes]:
        """Return the newest notes of the job's processes, if they come in so many seconds; else none."""
        hold = self._held()
        return {} if hold is None else hold.notes(seconds)

    def _join(self) -> _cluster.Hold:
        """Have this process take part in the view of its job, as long as what is returned is not released."""
        from . import _cluster

        return _cluster.join(self, self._cluster if isinstance(self._cluster, str) else None, self._cluster_interval)

    def _tell_rank(self, rank: int, world_size: int | None) -> None:
        """Take over what the job's default group knows, unless who uses the monitor said something else.

        The environment may know less: Slurm numbers the tasks that it started, of which each may spawn ranks.
        """
        job = self.sample().job
        known = {"rank": rank, "world_size": world_size}
        told = {
            name: value
            for name, value in known.items()
            if value is not None and name not in self._configured and (job is None or getattr(job, name) != value)
        }
        if told:
            self.set_job(**told, source=_GROUP)

    def _digest(self) -> bytes:
        """Return what this process says of itself and its node, for another process's ``_aggregate``: at most 512 bytes.

        Raises:
            ClosedError: the monitor was closed.
        """
        buffer, length, error = ctypes.create_string_buffer(_abi.DIGEST_BYTES), c_uint32(), c_void_p()
        status = self._library.digest(
            self._handle.value or self._gone(), buffer, _abi.DIGEST_BYTES, byref(length), byref(error)
        )
        self._check(status, error)
        return buffer.raw[: length.value]

    def _aggregate(self, request: Mapping[str, Any]) -> bytes:
        """Return one view of the digests of a job's processes, as text: the document of ``ClusterView``.

        Args:
            request: ``digests``, a list of bytes, and whatever else ``netmon_aggregate`` takes.

        Raises:
            InvalidArgumentError: the request is wrong; the text names the key.
            ClosedError: the monitor was closed.
        """
        text = c_void_p()
        digests = [b64encode(digest).decode() for digest in request.get("digests", ())]
        self._request(self._library.aggregate, {**request, "digests": digests}, text)
        return self._take(text)

    def phase(self, name: str) -> PhaseRun:
        """Name a part of the job, to know what the network did meanwhile and whether the link held it up.

        Beginning and end read the counters, some 50 µs each, so that bytes are exact. Phases may be nested, overlap, and
        run in any thread; each counts all that moved meanwhile. Totals by name are in ``sample.phases``; docs/phases.md says
        how it is measured. Nothing is ever raised: one that cannot be begun does nothing, and says why in ``problem``, and
        in ``health()``. An exception of the job ends the phase and passes unchanged.

        Args:
            name: what the job does, 1 to 64 bytes; at most 64 names are kept apart.

        Returns:
            A context manager, which yields itself and has the numbers of this one phase after its end.

        Example:
            >>> import netmon
            >>> with netmon.Monitor(interval=0.1) as monitor:
            ...     with monitor.phase("weight_sync") as phase:
            ...         pass                            # the job's own work
            ...     monitor.sample().phases["weight_sync"].count
            1
            >>> phase.seconds is not None
            True
        """
        return PhaseRun(self._library, self._handle, name)

    def to_pandas(self, seconds: float | None = None) -> pandas.DataFrame:
        """Return the history as a DataFrame: a row per sample, a column per metric, indexed by time (UTC).

        Columns are named as in ``stats``. Values that were not measured are NaN.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("Monitor.to_pandas needs pandas: pip install pandas") from error
        from ._rows import flat

        samples = self.history(seconds)
        times = pandas.to_datetime([s.timestamp_seconds for s in samples], unit="s", utc=True)
        rows = [flat(s.to_dict()) for s in samples]
        frame: pandas.DataFrame = pandas.DataFrame(rows, index=pandas.Index(times, name="time"))
        return frame

    def prometheus(self, *, node: bool | None = None, peers: bool = False, labels: Mapping[str, str] | None = None) -> str:
        """Measure now, and return it in the text format of Prometheus: totals as counters, what was not measured left out.

        docs/trackers.md lists the metrics. ``netmon.integrations.prometheus`` keeps such a text in a file for node_exporter,
        and has a collector for registries of prometheus_client.

        Args:
            node: whether the values of the whole node are in it, as those of interfaces and TCP; None: where this process is
                the first of its node's ranks, or is alone. So each node's are told once.
            peers: whether own connections are told peer by peer: 14 series a peer.
            labels: further labels of all series, beside ``node`` and ``rank``.

        Raises:
            ConfigError: a label is none for Prometheus.
            ClosedError: the monitor was closed.

        Example:
            >>> import netmon
            >>> with netmon.Monitor(interval=0.1) as monitor:
            ...     "# TYPE netmon_tcp_segments_sent_total counter" in monitor.prometheus()
            True
        """
        from . import _metrics, _prometheus

        more = _prometheus.check_labels(labels)
        return _prometheus.text(_metrics.read(self, node=node, peers=peers, labels=more))

    def set_job(self, **fields: Any) -> None:
        """Say what became known of the training job: ``rank``, ``world_size``, ``local_rank``, ``master_address``, ``peers``...

        ``targets`` replaces the targets that the monitor was made with; of those that stay, what is known is kept.

        Raises:
            ConfigError: a field is not known or wrong.
        """
        error = c_void_p()
        status = self._library.set_job(self._handle.value or self._gone(), _encode(fields), byref(error))
        self._check(status, error)
        if fields.get("source") != _GROUP:
            self._configured.update(name for name, value in fields.items() if value is not None)

    def close(self) -> None:
        """Stop the background loop, and calling functions with alerts. Closing twice is fine."""
        hold = self._hold
        if hold is not None:
            hold.release()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback._end()
        if self._handle.value:
            self._library.close(self._handle)
            self._handle.value = 0
        deadline = time.monotonic() + _CLOSE_SECONDS
        for callback in callbacks:
            callback._join(deadline)

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    # What is dropped is closed. The interpreter throws away what is raised in a finalizer, so one written in Python would
    # swallow a Ctrl-C that comes meanwhile. This one runs no Python: it fetches a call into the library and calls it.
    # (Without a library, as after a failed __init__, it calls bool.)
    _finally: Callable[[], object] = bool
    __del__ = property(attrgetter("_finally"))

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a netmon.Monitor cannot be pickled or copied: it measures in the process that made it; "
            "make one in the other process (a forked one inherits it)"
        )

    def __repr__(self) -> str:
        return f"<netmon.Monitor {'closed' if self.closed else f'0x{self.handle:x}'}>"


def _engine(cluster: object) -> bool | str | None:
    """Check the argument ``cluster``."""
    if cluster is None or isinstance(cluster, bool):
        return cluster
    from ._cluster import ENGINES

    if isinstance(cluster, str) and cluster in ENGINES:
        return cluster
    raise ConfigError(f"cluster {cluster!r}: True, False, None, or one of {', '.join(map(repr, ENGINES))}")


def _decode(text: c_void_p) -> dict[str, Any]:
    assert text.value is not None
    document: dict[str, Any] = json.loads(ctypes.string_at(text.value))
    return document


def _encode(document: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(document, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the arguments cannot be written as JSON: {error}") from error


def _without_peers(sources: Any) -> Any:
    if sources is None:
        return [name for name in _SOURCES if name != "peers"]
    if "peers" in sources:
        raise ConfigError('peers=False contradicts sources, which has "peers"; leave one of them out')
    return sources
