"""What OpenTelemetry's SDK collects of netmon: names of the conventions, sums that never decrease, one moment a collection."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import exported
import pytest

import netmon
from netmon import _metrics, _shared, _training
from netmon.integrations import opentelemetry

sdk = pytest.importorskip("opentelemetry.sdk.metrics")
from opentelemetry.sdk.metrics import export  # noqa: E402
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader  # noqa: E402
from opentelemetry.semconv._incubating.metrics import system_metrics  # noqa: E402

Points = dict[str, dict[frozenset[tuple[str, Any]], float]]


def collected(reader: InMemoryMetricReader) -> tuple[Points, dict[str, Any]]:
    """Return points by instrument and attributes, and the instruments."""
    data = reader.get_metrics_data()
    points: Points = {}
    instruments = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            assert (scope.scope.name, scope.scope.version) == ("netmon", netmon.__version__)
            for metric in scope.metrics:
                assert metric.name not in instruments, "an instrument is there once"
                instruments[metric.name] = metric
                found = points.setdefault(metric.name, {})
                for point in metric.data.data_points:
                    key = frozenset(point.attributes.items())
                    assert key not in found
                    found[key] = point.value
    return points, instruments


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def provider(reader):
    provider = sdk.MeterProvider([reader])
    yield provider
    provider.shutdown()


def value(points: Points, name: str, **attributes: str) -> float:
    wanted = {(key.replace("__", "."), word) for key, word in attributes.items()}
    (found,) = [number for key, number in points[name].items() if wanted <= key]
    return found


def test_conventional_names_are_those_of_the_conventions(reader, provider):
    monitor = exported.Monitor(exported.known())
    with opentelemetry.instrument(monitor, provider):
        points, instruments = collected(reader)
    named = {getattr(system_metrics, name) for name in dir(system_metrics) if name.startswith("SYSTEM_NETWORK")}
    ours = {name for name in instruments if name.startswith("system.")}
    assert ours <= named
    assert ours == {
        "system.network.io",
        "system.network.packet.count",
        "system.network.packet.dropped",
        "system.network.errors",
        "system.network.connection.count",
    }
    assert all(name.startswith("netmon.") for name in instruments.keys() - ours)
    (first, _) = monitor.sample().interfaces
    attributes = {"network__interface__name": first.name, "node": "here"}
    assert value(points, "system.network.io", network__io__direction="transmit", **attributes) == first.transmit_bytes_total
    assert (
        value(points, "system.network.packet.dropped", network__io__direction="receive", **attributes)
        == first.receive_drops_total
    )
    tcp = {"network__transport": "tcp", "network__connection__state": "established"}
    assert value(points, "system.network.connection.count", **tcp) == monitor.sample().tcp.established
    assert instruments["system.network.io"].unit == "By"


def test_all_metrics_are_there_and_counters_are_monotonic_sums(reader, provider):
    monitor = exported.Monitor(exported.known())
    monitor._hold = object()
    with opentelemetry.instrument(monitor, provider, peers=True, labels={"job": "demo"}):
        points, instruments = collected(reader)
    for metric in _metrics.METRICS:
        one = opentelemetry._instruments.observed(metric)
        data = instruments[one.name].data
        assert isinstance(data, export.Gauge if one.kind == "gauge" else export.Sum), metric.name
        if one.kind == "counter":
            assert data.is_monotonic, metric.name
            assert data.aggregation_temporality is AggregationTemporality.CUMULATIVE
    assert all(("job", "demo") in key for found in points.values() for key in found)
    assert value(points, "netmon.transport.bytes", plane="tcp", rank="3") == monitor.sample().transport.tcp_bytes_total


@pytest.mark.parametrize("sample", [exported.unknown(), exported.without_values()])
def test_what_was_not_measured_is_absent(reader, provider, sample):
    with opentelemetry.instrument(exported.Monitor(sample), provider):
        points, _ = collected(reader)
    assert not any(points.get(name) for name in ("system.network.io", "netmon.tcp.segments_sent", "netmon.receive_bytes"))
    assert points["netmon.self.healthy"]


def changed(section: str, field: str, number: int) -> netmon.Sample:
    document = exported.known().to_dict()
    document[section][field] = number
    return netmon.Sample(document)


def test_a_sum_goes_on_where_a_counter_begins_anew():
    for temporality, wanted in ((AggregationTemporality.CUMULATIVE, [10, 15, 18]), (AggregationTemporality.DELTA, [10, 5, 3])):
        reader = InMemoryMetricReader(preferred_temporality={sdk.ObservableCounter: temporality})
        provider = sdk.MeterProvider([reader])
        monitor = exported.Monitor(changed("tcp", "segments_sent_total", 10))
        with opentelemetry.instrument(monitor, provider):
            seen = []
            for number in (10, 15, 3):
                monitor.samples = [changed("tcp", "segments_sent_total", number)]
                seen.append(value(collected(reader)[0], "netmon.tcp.segments_sent"))
        assert seen == wanted
        provider.shutdown()


def test_a_collection_is_of_one_moment_and_each_is_measured_anew(reader, provider):
    class Counting(exported.Monitor):
        asked = 0

        def sample(self) -> netmon.Sample:
            self.asked += 1
            return super().sample()

    monitor = Counting(exported.known())
    with opentelemetry.instrument(monitor, provider):
        for turn in (1, 2, 3):
            collected(reader)
            assert monitor.asked == turn


def test_a_real_monitor_and_a_file(tmp_path):
    path = tmp_path / "metrics.json"
    with path.open("w") as file:
        exporter = export.ConsoleMetricExporter(out=file, formatter=lambda data: data.to_json(indent=None) + "\n")
        provider = sdk.MeterProvider([export.PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)])
        with netmon.Monitor(interval=0.05, interfaces=["lo"]) as monitor:
            opentelemetry.instrument(monitor, provider)
            with monitor.phase("weight_sync"):
                pass
            provider.force_flush()
            provider.shutdown()
    (line, *_) = path.read_text().splitlines()
    (scope,) = json.loads(line)["resource_metrics"][0]["scope_metrics"]
    found = {metric["name"]: metric["data"]["data_points"] for metric in scope["metrics"]}
    assert {point["attributes"]["network.io.direction"] for point in found["system.network.io"]} == {"receive", "transmit"}
    (point,) = found["netmon.phase.parts"]
    assert (point["attributes"]["phase"], point["value"]) == ("weight_sync", 1)


def test_instrumenting_twice_is_once_and_close_is_the_end(reader, provider):
    monitor = exported.Monitor(exported.known())
    first = opentelemetry.instrument(monitor, provider)
    assert opentelemetry.instrument(monitor, provider) is first
    assert collected(reader)[0]
    first.close()
    first.close()
    assert not any(collected(reader)[0].values())


def test_a_closed_monitor_observes_nothing_and_breaks_nothing(reader, provider, caplog):
    provider.get_meter("training").create_counter("steps").add(3)
    monitor = exported.Monitor(exported.known())
    one = opentelemetry.instrument(monitor, provider)
    monitor.closed = True
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics
    assert [metric.name for scope in metrics for metric in scope.metrics if metric.data.data_points] == ["steps"]
    assert one.problem == "the monitor was closed"
    assert not caplog.records


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_observes_nothing(reader, provider):
    with netmon.Monitor(interval=0.05) as monitor, opentelemetry.instrument(monitor, provider) as one:
        metrics = [metric for metric in _metrics.METRICS if metric.name == "netmon_info"]
        assert len(list(one.observe("netmon.info", metrics))) == 1
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(ends[1], str(len(list(one.observe("netmon.info", metrics)))).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(ends[0], 8) == b"0"
        for end in ends:
            os.close(end)


def test_the_processes_shared_monitor_is_used(reader, provider):
    try:
        with opentelemetry.instrument(meter_provider=provider) as one:
            assert one._monitor is _shared.existing_monitor()
            assert collected(reader)[0]["netmon.info"]
    finally:
        _shared.close_shared_monitor()


def test_without_the_library_the_training_goes_on(reader, provider, monkeypatch, caplog):
    def broken() -> None:
        raise netmon.LibraryError("there is no library")

    monkeypatch.setattr(_training, "training_begins", broken)
    one = opentelemetry.instrument(meter_provider=provider)
    assert not collected(reader)[0]
    assert one.problem == "LibraryError: there is no library"
    (record,) = caplog.records
    assert record.getMessage() == "netmon's instruments: LibraryError: there is no library; the training goes on"


def test_without_the_package_the_sentence_has_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("opentelemetry.metrics")] or ["opentelemetry.metrics"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(netmon.UnsupportedError) as raised:
        opentelemetry.instrument(exported.Monitor(exported.known()))
    assert str(raised.value).endswith("pip install 'libnetmon[opentelemetry]'")


def test_without_the_sdk_nothing_happens():
    """The interface alone has a provider that does nothing."""
    from opentelemetry.metrics import NoOpMeterProvider

    with opentelemetry.instrument(exported.Monitor(exported.known()), NoOpMeterProvider()) as one:
        assert one.problem is None


LATER = """
import netmon
from netmon.integrations.opentelemetry import instrument
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
monitor = netmon.Monitor(interval=0.05, cluster=False)
instrument(monitor)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(sum(metric.name.startswith("netmon.self.") for metric in scope.metrics) > 3)
"""


def test_a_global_provider_that_is_set_later_is_used():
    done = subprocess.run([sys.executable, "-W", "error", "-c", LATER], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("True\n", "")
