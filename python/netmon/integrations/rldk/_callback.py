"""The callbacks: each step of training gets the network's newest figures, and files, for a few microseconds of its time."""

from __future__ import annotations

import logging
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..._types import Sample
from . import _identity, _reading, _resources
from ._alerts import Threshold, thresholds_of
from ._distributed import dataframe
from ._install import in_use
from ._lines import Row
from ._metrics import Counts, Sums, sums
from ._real import RealNetworkMonitor
from ._run import MOST_PENDING, WRITE_EVENTS, WRITE_METRICS, Run
from ._sampling import from_environment
from ._training_metrics import (
    DEFAULTS,
    LOOKED_AT,
    MEASURABLE,
    NAMES,
    NOTHING,
    TRAINING,
    Found,
    OpenRLHFMetrics,
    network_values,
    plain_number,
    row_of,
)
from ._trouble import Troubles, process
from ._worker import in_forked_child, worker

if TYPE_CHECKING:
    import pandas

_log = logging.getLogger("netmon.integrations.rldk")
_TRAINING = frozenset(TRAINING)
# Arguments of a hook that hold values by name.
_NESTED = ("metrics", "logs", "logs_dict")
_OPEN_SECONDS = 2.0
_END_SECONDS = 30.0
_LATER = dict.fromkeys(LOOKED_AT, "the monitor was not asked yet")
_OWN_METRICS = RealNetworkMonitor.get_comprehensive_metrics


class OpenRLHFCallback:
    """Writes a run's metrics to files, with the network's figures in every step, and alerts.

    Nothing it does raises into training: what goes wrong is logged once and kept for ``health``. The network is looked at by
    netmon's background loop; the hooks only take over what it found.

    Args:
        output_dir: where files go, default ``./rldk_logs``.
        log_interval: every how many steps a line goes into ``metrics_{run_id}.jsonl``.
        alert_thresholds: name of a metric to its highest value, or to a mapping: ``{"below": 10.0}`` or ``{"above": 100.0}``,
            with ``"clear"`` (the level at which the alert is over, default the same) and ``"for_seconds"`` (how long the value
            must have been beyond). One that is passed alerts once, and again only after it was over in between. What was not
            measured neither begins nor ends an alert.
        enable_resource_monitoring: whether memory and processor figures are taken where they are cheap: the processor's where
            psutil is installed, the GPU's where the job uses one through torch.
        enable_distributed_monitoring: whether ranks and the network are looked at.
        run_id: part of the files' names, default ``openrlhf_run_<unix seconds>``.
        model_name: goes into files.
        dataset_name: goes into files.
        enable_jsonl_logging: whether events are written; RLDK_DISABLE_JSONL=1 in the environment turns it off.
        jsonl_log_interval: every how many steps.
        network_sampling_frequency: every how many steps the newest network figures are taken over; the steps between carry the
            last ones on. Default: RLDK_NETWORK_SAMPLING_FREQUENCY in the environment, else 10.

    Raises:
        ValueError: an interval or frequency is below 1, or a threshold is none.

    Attributes:
        current_metrics: the step that runs or ended last, also after ``on_train_end``.
    """

    # For the lazy creation of what a callback has only once it needs it; reset in a forked child.
    _class_lock = threading.Lock()

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        log_interval: int = 10,
        alert_thresholds: Mapping[str, float | Mapping[str, float]] | None = None,
        enable_resource_monitoring: bool = True,
        enable_distributed_monitoring: bool = True,
        run_id: str | None = None,
        model_name: str | None = None,
        dataset_name: str | None = None,
        enable_jsonl_logging: bool = True,
        jsonl_log_interval: int = 1,
        network_sampling_frequency: int | None = None,
    ) -> None:
        if network_sampling_frequency is None:
            network_sampling_frequency = from_environment()
        self.log_interval = _positive("log_interval", log_interval)
        self.jsonl_log_interval = _positive("jsonl_log_interval", jsonl_log_interval)
        self.network_sampling_frequency = _positive("network_sampling_frequency", network_sampling_frequency)
        self._thresholds = thresholds_of(alert_thresholds)
        self.alert_thresholds: dict[str, Any] = dict(alert_thresholds or {})
        self.output_dir = Path(output_dir if output_dir is not None else "./rldk_logs")
        self.enable_resource_monitoring = enable_resource_monitoring
        self.enable_distributed_monitoring = enable_distributed_monitoring
        self._own_run_id = run_id is None
        self.run_id = run_id or f"openrlhf_run_{int(time.time())}"
        self.model_name = model_name or "unknown_model"
        self.dataset_name = dataset_name or "unknown_dataset"
        self.enable_jsonl_logging = enable_jsonl_logging and not _switched_on("RLDK_DISABLE_JSONL")
        self.alert_callbacks: list[Callable[[dict[str, Any]], Any]] = []
        self.resolve_callbacks: list[Callable[[dict[str, Any]], Any]] = []
        self.step_start_time: float | None = None
        # The folder must not change when the process changes its own.
        self._folder = Path(os.path.abspath(self.output_dir))
        self._troubles = Troubles()
        self._counts = Counts()
        self._found = self._taken = NOTHING
        self._sums: Sums | None = None
        self._seen: tuple[int, tuple[int, int]] | None = None
        self._device: int | None = None
        self._run: Run | None = None
        self._threadless = False
        self._next_tick = 0.0
        self._seeks_rank = False
        self._step_open = False
        self._steps = 0
        # What the next step starts with: defaults, and what is carried on.
        self._carried: dict[str, Any] = {**DEFAULTS, "run_id": self.run_id}
        self.current_metrics = OpenRLHFMetrics(run_id=self.run_id)
        self._finished_row = row_of(self.current_metrics.__dict__)
        for name in self.alert_thresholds:
            if name not in DEFAULTS:
                self._troubles.tell(f"threshold {name}", f"alert_thresholds names {name!r}, which is no metric")
        _live.add(self)

    # Hooks.

    def on_train_begin(self, trainer: Any, **kwargs: Any) -> None:
        """Start, with a first look at the network."""
        self._guarded(self._start)

    def on_step_begin(self, trainer: Any, step: int, **kwargs: Any) -> None:
        """A step begins: ``current_metrics`` is a new object from now on."""
        self._guarded(self._begin_step, step)

    def on_step_end(self, trainer: Any, step: int, **kwargs: Any) -> None:
        """A step ended.

        Args:
            trainer: not looked at.
            step: its number.
            kwargs: values of the step by the names of ``OpenRLHFMetrics`` (``loss=...``), or in a mapping called ``metrics``,
                ``logs`` or ``logs_dict``. Tensors on a GPU are left out: reading one would wait for the GPU.
        """
        self._guarded(self._end_step, step, kwargs)

    def on_train_end(self, trainer: Any, **kwargs: Any) -> None:
        """Write what waits, the tables and the summary; waits for the disk 30 s at most."""
        self._guarded(self._end)

    # What a user asks.

    def add_alert_callback(self, callback: Callable[[dict[str, Any]], Any]) -> None:
        """Have a function called with ``metric, current_value, threshold, step, timestamp`` when a threshold is passed."""
        self.alert_callbacks.append(callback)

    def add_resolve_callback(self, callback: Callable[[dict[str, Any]], Any]) -> None:
        """Have a function called when an alert is over, with the same keys; ``threshold`` is the level at which it ends."""
        self.resolve_callbacks.append(callback)

    def get_latest_metrics(self) -> OpenRLHFMetrics | None:
        """Return the step that ended last, None before the first."""
        run = self._run
        return _step(run.rows[-1]) if run is not None and run.rows else None

    @property
    def metrics_history(self) -> Sequence[OpenRLHFMetrics]:
        """The steps that ended, oldest first: the newest 50,000."""
        return _History(self._run)

    def get_metrics_dataframe(self) -> pandas.DataFrame | None:
        """Return the steps as a DataFrame with a row each; None, with a warning, where pandas is not installed."""
        return dataframe([metrics.to_dataframe_row() for metrics in self.metrics_history], list(NAMES))

    def health(self) -> dict[str, Any]:
        """Return how monitoring is doing: ``status``, ``problems`` (sentences), ``alerts`` that are on, lost lines."""
        run = self._run
        problems = [*process.problems(), *self._troubles.problems(), *_reading.problems()]
        return {
            "status": "degraded" if problems else "ok",
            "problems": problems,
            "steps": run.steps if run else 0,
            "steps_waiting": len(run.pending) if run else 0,
            "steps_not_written": run.dropped if run else 0,
            "lines_lost": run.files.lost_lines if run else 0,
            "unmeasured": self._found.reasons(),
            "alerts": [name for name in self.alert_thresholds if (t := self._thresholds.get(name)) is not None and t.on],
        }

    # rldk's own names for what the hooks do.

    def _collect_distributed_metrics(self) -> None:
        """Write the rank into ``current_metrics``."""
        self._take_over(_job_values(_identity.identify(_reading.newest())))

    def _collect_network_metrics(self) -> None:
        """Measure now, and write the network's figures into ``current_metrics``. The hooks do not need this."""
        try:
            found = network_values(self._get_network_monitor().get_comprehensive_metrics(), time.monotonic())
        except Exception as error:  # noqa: BLE001 - whatever a monitor of the caller's own raises, training goes on
            self._troubles.tell("look", f"the network could not be looked at: {error!r}")
            return
        self._last_network_collection_step = self.current_metrics.step
        self._take_over(found.values)
        jobs = {name: source for name, source in self._found.sources.items() if name not in LOOKED_AT}
        self._found = found.beside(self._found.values, jobs)
        self.current_metrics.__dict__.update(_found=self._found, _age=max(0.0, time.monotonic() - found.taken_at))

    def _take_over(self, values: Mapping[str, Any]) -> None:
        self.current_metrics.__dict__.update(values)
        self._carried.update(values)

    def _get_network_monitor(self) -> Any:
        try:
            return self._network_monitor
        except AttributeError:
            pass
        with self._get_network_monitor_lock():
            if "_network_monitor" not in self.__dict__:
                # Looked up when it is needed, as in rldk.
                self._network_monitor: Any = in_use("network_monitor", "RealNetworkMonitor")(
                    enable_distributed_monitoring=True, enable_distributed_measurements=False
                )
            return self._network_monitor

    def _get_network_monitor_lock(self) -> threading.Lock:
        with OpenRLHFCallback._class_lock:
            if "_network_monitor_lock" not in self.__dict__:
                self._network_monitor_lock = threading.Lock()
            return self._network_monitor_lock

    # The training thread.

    def _guarded(self, call: Callable[..., object], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # noqa: BLE001 - a monitor never raises into training
            self._troubles.tell(f"hook {call.__name__}", f"a defect of netmon, and training goes on: {error!r}")

    def _start(self) -> Run:
        run = self._run
        if run is not None and not run.over:
            return run
        about = {"run_id": self.run_id, "model_name": self.model_name, "dataset_name": self.dataset_name}
        jsonl = self.enable_jsonl_logging
        before, run = run, Run(self._look, self._folder, self.run_id, about, jsonl, self._troubles)
        if before is not None:
            run.rows, run.steps = before.rows, before.steps
        if before is not None and before.inherited:
            run.files.suffixes = []
        # What one step finds has to be the rank, so that the first look is not left to the thread.
        run.look()
        self._name_files(run)
        self._run = run
        self._take(run.newest)
        self._threadless = worker.add(run) is None
        if not self._threadless:
            run.wait_for_files(_OPEN_SECONDS)
        return run

    def _name_files(self, run: Run) -> None:
        """Say what may stand after the run's name in file names, where several ranks may write into one folder."""
        values = run.newest.values
        rank, world_size = values.get("global_rank", 0), values.get("world_size", 1)
        if world_size > 1 and run.files.suffixes:
            own = f"_rank{rank}"
            # A name that the user did not choose is the same for all ranks that began in the same second.
            run.files.suffixes = [own] if self._own_run_id and rank > 0 else ["", own]
            run.files.suffix_without_locks = own if rank > 0 else ""

    def _begin_step(self, step: int) -> None:
        self._new_step()["step"] = int(step)
        self._step_open = True
        self.step_start_time = time.monotonic()

    def _new_step(self) -> dict[str, Any]:
        before = self.current_metrics.__dict__
        metrics = OpenRLHFMetrics.__new__(OpenRLHFMetrics)
        values = metrics.__dict__
        values.update(self._carried)
        row = row_of(before)
        if row != self._finished_row:
            # Somebody wrote into current_metrics after the last step ended: that is about the next one.
            for name, old, new in zip(NAMES, self._finished_row, row, strict=True):
                # NaN differs from itself.
                if old is not new and old != new:
                    values[name] = new
        self.current_metrics = metrics
        return values

    def _end_step(self, step: int, arguments: Mapping[str, Any]) -> None:
        step = int(step)
        run = self._run
        if run is None or run.over:
            run = self._start()
        values = self.current_metrics.__dict__ if self._step_open else self._new_step()
        self._step_open = False
        now = time.monotonic()
        begun, self.step_start_time = self.step_start_time, now
        values["step"] = step
        values["wall_time"] = time.time()
        values["step_time"] = now - begun if begun is not None else 0.0
        given = _take_training(arguments, values) if arguments else ()
        if self._threadless and now >= self._next_tick:
            self._next_tick = run.tick(now) or now
        self._steps += 1
        newest = run.newest
        if newest is not self._taken:
            lacking = "bandwidth_mbps" in self._found.unmeasured
            due = self._steps % self.network_sampling_frequency == 0 and newest.taken_at >= self._found.taken_at
            if lacking or due:
                self._take(newest)
                values.update(self._found.values)
                self._device = _resources.current_device()
        if self._seeks_rank:
            self._seek_rank(values)
        found = self._found
        age = max(0.0, now - found.taken_at)
        values["_found"] = found
        values["_age"] = age
        self._finished_row = row = row_of(values)
        entry = (row, found, age)
        run.rows.append(entry)
        run.steps += 1
        which = WRITE_METRICS if step % self.log_interval == 0 else 0
        if self.enable_jsonl_logging and step % self.jsonl_log_interval == 0:
            which |= WRITE_EVENTS
        if which:
            run.pending.append((entry, which))
            if len(run.pending) % 1024 == 0:
                worker.hurry(run)
                if len(run.pending) >= MOST_PENDING and not self._threadless:
                    run.make_room()
        if self.alert_thresholds:
            self._check_alerts(given, now)

    def _take(self, newest: Found) -> None:
        """Take over what the background found last; errors and loss are those since it was done before."""
        self._taken = newest
        self._found = found = newest.counted_from(self._sums)
        self._sums = newest.sums or self._sums
        self._carried.update(found.values)
        self._carried["_found"] = found
        self._seeks_rank = self.enable_distributed_monitoring and "global_rank" in found.unmeasured

    def _seek_rank(self, values: dict[str, Any]) -> None:
        """Take the rank from torch.distributed in the very step after the job has set it up; the rest learns it by itself."""
        ranks = _identity.torch_ranks()
        if ranks is not None:
            known = {"global_rank": ranks[0], "world_size": ranks[1]}
            values.update(known)
            self._carried.update(known)
            self._found = self._carried["_found"] = self._found.plus(known, "torch.distributed")
            self._seeks_rank = False

    def _end(self) -> None:
        run = self._run
        if run is None or run.over:
            return
        run.end("on_train_end")
        if self._threadless:
            run.tick(time.monotonic())
        worker.hurry(run)
        if not run.wait_for_end(_END_SECONDS):
            self._troubles.tell(
                "end",
                f"{len(run.pending)} steps and the tables are not written after {_END_SECONDS:.0f} s, and training goes on",
            )

    def _check_alerts(self, given: Any, now: float) -> None:
        metrics = self.current_metrics
        values = metrics.__dict__
        missing = metrics.unmeasured
        for name, bound in self.alert_thresholds.items():
            threshold = self._thresholds.get(name)
            if threshold is None or threshold.given is not bound:
                threshold = self._new_threshold(name, bound)
                if threshold is None:
                    continue
            value = values.get(name)
            not_said = name not in MEASURABLE and value == DEFAULTS.get(name) and name not in given
            if not_said or name in missing or not isinstance(value, (int, float)):
                threshold.miss(now)
            elif threshold.changed(value, now):
                self._alert(name, value, threshold)

    def _new_threshold(self, name: str, bound: Any) -> Threshold | None:
        """Take over what a program put into ``alert_thresholds`` meanwhile."""
        try:
            threshold = self._thresholds[name] = Threshold(name, bound)
        except ValueError as error:
            self._troubles.tell(f"threshold {name}", str(error))
            return None
        return threshold

    def _alert(self, name: str, value: float, threshold: Threshold) -> None:
        metrics = self.current_metrics
        alert = {
            "metric": name,
            "current_value": value,
            "threshold": threshold.passed,
            "step": metrics.step,
            "timestamp": metrics.wall_time,
        }
        side = "below" if threshold.below else "above"
        if threshold.on:
            if self._run is not None:
                self._run.alerts += 1
            _log.warning("step %s: %s is %.6g, %s its threshold %.6g", metrics.step, name, value, side, threshold.passed)
        else:
            _log.info("step %s: %s is %.6g, not %s %.6g any more", metrics.step, name, value, side, threshold.passed)
        for callback in list(self.alert_callbacks if threshold.on else self.resolve_callbacks):
            try:
                callback(dict(alert))
            except Exception as error:  # noqa: BLE001 - whatever the user's function raises, training goes on
                self._troubles.tell(f"alert {callback!r}", f"an alert callback raised {error!r}")

    # The worker's thread, and once the training thread at the start.

    def _looks_at_network(self) -> bool:
        return self.enable_distributed_monitoring

    def _look(self) -> tuple[Found, float]:
        """Return what is known now, and when to look again, on the clock of ``time.monotonic``."""
        now = time.monotonic()
        # The first look of a run is the training thread's.
        first = self._run is None or self._run.over
        if first:
            self._seen = None
        later = False
        sample = None
        found = Found({}, {}, now, dict.fromkeys(LOOKED_AT, "not looked at: monitoring of the network is switched off"))
        if self.enable_distributed_monitoring:
            # A sample from before something new was told would not know it.
            sample = _reading.measure() if _reading.tell_environment() else _reading.newest()
            if sample is not None and self._run is not None and not first:
                seen = (sample.sequence, _reading.origin())
                if seen == self._seen:
                    # The loop is late: nothing is new.
                    return self._run.newest, now + _reading.interval() / 4
                self._seen = seen
            if self._looks_at_network():
                # A monitor of the caller's own may take its time, but not that of training.
                later = first and not self._measures_itself()
                found = Found({}, {}, now, _LATER) if later else self._look_at_network(sample, now)
            found = found.plus(_job_values(_identity.identify(sample)), "job")
        if self.enable_resource_monitoring:
            found = found.plus(_resources.processor(), "psutil")
            if self._device is not None:
                found = found.plus(_resources.gpu_memory(self._device), "torch.cuda")
        interval = _reading.interval()
        again = now + interval
        if sample is not None:
            # Shortly after the loop's next sample.
            again = max(sample.monotonic_seconds + interval + 0.02, now + interval / 2)
        return found, now if later else again

    def _measures_itself(self) -> bool:
        return getattr(self._get_network_monitor().get_comprehensive_metrics, "__func__", None) is _OWN_METRICS

    def _look_at_network(self, sample: Sample | None, now: float) -> Found:
        monitor = self._get_network_monitor()
        if self._measures_itself():
            return network_values(monitor._metrics_of(sample, self._counts), now, sums(sample))
        return network_values(monitor.get_comprehensive_metrics(), now)


class DistributedTrainingMonitor(OpenRLHFCallback):
    """The callback for distributed training: ranks, resources and network are always looked at.

    Args:
        kwargs: those of ``OpenRLHFCallback`` (the two that switch monitoring off change nothing), and:
        sync_interval: rldk's, default 5; not used there either.
        network_monitoring: whether the network is looked at, default True.
    """

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("enable_distributed_monitoring", None)
        kwargs.pop("enable_resource_monitoring", None)
        self.sync_interval = kwargs.pop("sync_interval", 5)
        self.network_monitoring = kwargs.pop("network_monitoring", True)
        super().__init__(enable_distributed_monitoring=True, enable_resource_monitoring=True, **kwargs)

    def _looks_at_network(self) -> bool:
        return bool(self.network_monitoring)

    def _collect_distributed_metrics(self) -> None:
        """Write the rank, and the network's figures measured now, into ``current_metrics``."""
        super()._collect_distributed_metrics()
        if self.network_monitoring:
            self._collect_network_metrics()


class OpenRLHFMonitor(OpenRLHFCallback):
    """``OpenRLHFCallback`` under another name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class MultiGPUMonitor(OpenRLHFCallback):
    """``OpenRLHFCallback`` under another name."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class _History(Sequence[OpenRLHFMetrics]):
    """The steps of a run as objects, each made when it is asked for."""

    def __init__(self, run: Run | None) -> None:
        self._rows = list(run.rows) if run is not None else []

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        return _step(self._rows[place])


def _step(entry: Row) -> OpenRLHFMetrics:
    row, found, age = entry
    metrics = OpenRLHFMetrics.__new__(OpenRLHFMetrics)
    metrics.__dict__.update(zip(NAMES, row, strict=True), _found=found, _age=age)
    return metrics


def _take_training(arguments: Mapping[str, Any], values: dict[str, Any]) -> set[str]:
    """Take over what a hook was told of the step, and return which names those are."""
    given = set()
    for source in (arguments, *(arguments.get(name) for name in _NESTED)):
        if not isinstance(source, Mapping):
            continue
        for name, value in source.items():
            if name not in _TRAINING:
                continue
            # A loss that is NaN is what a user most wants to see.
            taken = str(value) if name == "phase" else plain_number(value)
            if taken is not None:
                values[name] = taken
                given.add(name)
    return given


def _job_values(identity: _identity.Identity) -> dict[str, Any]:
    names = {"world_size": "world_size", "local_rank": "local_rank", "global_rank": "rank", "node_id": "node_id"}
    return {field: getattr(identity, name) for field, name in names.items() if name in identity.known}


def _positive(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}") from None
    if number <= 0:
        # rldk's words.
        raise ValueError(f"{name} must be positive")
    return number


def _switched_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in ("1", "true", "yes", "on")


_live: weakref.WeakSet[OpenRLHFCallback] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held a lock.
    OpenRLHFCallback._class_lock = threading.Lock()
    for callback in list(_live):
        if "_network_monitor_lock" in callback.__dict__:
            callback._network_monitor_lock = threading.Lock()


in_forked_child(_after_fork_in_child)
