"""What netmon adds to a step of DistributedDataParallel: ``PYTHONPATH=python python -m bench.ddp``.

Two gloo ranks train on the loopback interface of a network namespace of their own, in blocks of steps: without netmon (A), with
a monitor and its collectives timed (B), and without once more (C), in the order A B C C B A, so that a drift of the machine
falls on all alike. B against A is what netmon adds, C against A what chance does.

Prints the figures, and renews them in docs/collectives.md. Takes some three minutes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import namespace
from .timing import Ratio, ratio

PAGE = Path(__file__).resolve().parents[2] / "docs/collectives.md"
BEGIN, END = "<!-- python -m bench.ddp -->\n", "<!-- to here -->\n"

_ORDER = "ABCCBA"
_SECONDS = 150.0  # of the blocks together
_STEPS = 16  # of a block
_WARM = 3  # before those that are timed
_WIDTH, _LAYERS, _BATCH = 768, 8, 64
_BUCKET_MIB = 4.0
_FAKE_CALLS, _FAKE_BLOCKS = 10_000, 9


def _train(rank: int, store: str) -> dict[str, Any]:
    """Train as one rank, and return the seconds and CPU seconds of a step, by block, in each round."""
    import torch
    import torch.distributed as dist

    import netmon
    from netmon.integrations.torch import attach

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    layers = [layer for _ in range(_LAYERS) for layer in (torch.nn.Linear(_WIDTH, _WIDTH), torch.nn.ReLU())]
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers), bucket_cap_mb=_BUCKET_MIB)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    batch = torch.randn(_BATCH, _WIDTH)

    def step() -> float:
        begun = time.perf_counter()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        return time.perf_counter() - begun

    def block() -> tuple[float, float]:
        dist.barrier()
        for _ in range(_WARM):
            step()
        processor = time.process_time()
        seconds = [step() for _ in range(_STEPS)]
        return statistics.median(seconds), (time.process_time() - processor) / _STEPS

    rounds: list[list[tuple[str, float, float]]] = []
    source, collectives = "", 0.0
    looking: list[float] = []  # what the thread that looks for ends took, as a share of the time
    more = torch.ones(1)
    block()
    begun = time.monotonic()
    while more.item():
        blocks = []
        for kind in _ORDER:
            if kind == "B":
                with netmon.Monitor() as monitor, attach(monitor) as handle:
                    processor, begun_at = _looking_seconds(), time.monotonic()
                    blocks.append((kind, *block()))
                    looking.append((_looking_seconds() - processor) / (time.monotonic() - begun_at))
                    handle.flush()
                    rows = monitor.sample().collectives or ()
                    source = handle.source
                    collectives = sum(row.count for row in rows if row.op == "all_reduce") / (_STEPS + _WARM)
            else:
                blocks.append((kind, *block()))
        rounds.append(blocks)
        more.fill_(float(time.monotonic() - begun < _SECONDS))
        dist.broadcast(more, 0)
    dist.destroy_process_group()
    # In the first blocks it spends what it may spend at once.
    looked = statistics.mean(looking[len(looking) // 4 :])
    return {"rounds": rounds, "source": source, "collectives": collectives, "torch": torch.__version__, "looking": looked}


def _looking_seconds() -> float:
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "netmon-collectives"]
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _call() -> float:
    """Return the CPU seconds that timing adds to one call, in the thread that calls, on a backend that does nothing."""
    import torch
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    import netmon
    from netmon.integrations.torch import attach

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    tensor = torch.ones(1024)

    def block() -> float:
        begun = time.thread_time()
        for _ in range(_FAKE_CALLS):
            dist.all_reduce(tensor)
        return (time.thread_time() - begun) / _FAKE_CALLS

    block()
    without, attached = [], []
    with netmon.Monitor() as monitor:
        for _ in range(_FAKE_BLOCKS):
            without.append(block())
            with attach(monitor):
                attached.append(block())
    dist.destroy_process_group()
    return statistics.median(attached) - statistics.median(without)


def _in_namespace() -> dict[str, Any]:
    """Run the ranks in this process's network namespace, which is private."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench.ddp", "--store", f"{folder}/store", "--rank"]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
        ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, env=environment) for rank in range(2)]
        try:
            answers = [rank.communicate(timeout=_SECONDS + 120)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        found: dict[str, Any] = json.loads(answers[0])
    found["call"] = _call()
    return found


def _each_round(rounds: Sequence[Sequence[Sequence[Any]]], kind: str, place: int) -> list[float]:
    return [statistics.mean(block[place] for block in blocks if block[0] == kind) for blocks in rounds]


def _slowdown(r: Ratio) -> str:
    return f"{(r.value - 1) * 100:+.2f} % ({(r.low - 1) * 100:+.2f} to {(r.high - 1) * 100:+.2f} %)"


def _report(found: dict[str, Any]) -> str:
    rounds = found["rounds"]
    seconds, processor = ({kind: _each_round(rounds, kind, place) for kind in "ABC"} for place in (1, 2))
    step, cpu = statistics.median(seconds["A"]), statistics.median(processor["A"])
    many, call = found["collectives"], found["call"]
    with open("/proc/loadavg", encoding="ascii") as file:
        load = file.read().split()[0]
    today = datetime.datetime.now(tz=datetime.UTC)
    rows = [("with netmon", "B"), ("without, once more", "C")]
    table = [
        f"| {name} | {_slowdown(ratio(seconds[kind], seconds['A']))} | {_slowdown(ratio(processor[kind], processor['A']))} |"
        for name, kind in rows
    ]
    looking = found["looking"]
    added = call + looking * step / many
    said = [
        f"Medians, and 95 % intervals by resampling, of {len(rounds)} rounds A B C C B A of {_STEPS} steps each; {many:.1f}"
        f" all_reduces a step. What timing adds to the thread that calls is {call * 1e6:.1f} µs a collective (on torch's"
        f" fake backend), so {call * many / step * 100:.3f} % of a step. The thread that looks for ends took"
        f" {looking * 100:.3f} % of the time. Together they are {added * 1e6:.1f} µs of CPU a collective, and"
        f" {added * many / step * 100:.3f} % of a step; the aim is at most 0.1 %.",
        f"{today:%Y-%m-%d}, `make bench-ddp`: torch {found['torch']}, {found['source']}, gloo, 2 ranks on the loopback"
        f" interface of a namespace, {_LAYERS} layers of {_WIDTH} x {_WIDTH}, buckets of {_BUCKET_MIB:g} MiB, one thread"
        f" each; {os.cpu_count()} cores, Linux {platform.release()}, load {load} at the end (2 are the ranks'; more are"
        " other programs').",
    ]
    return "\n".join(
        [
            "| | step time | CPU time of the process |",
            "| --- | --- | --- |",
            f"| without netmon | {step * 1e3:.1f} ms | {cpu * 1e3:.1f} ms |",
            *table,
            "",
            "\n\n".join(textwrap.fill(text, 136, break_long_words=False, break_on_hyphens=False) for text in said),
            "",
        ]
    )


def main() -> None:
    """Measure, print, and renew the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        print(json.dumps(_train(arguments.rank, arguments.store)))
    elif arguments.inside:
        print(json.dumps(_in_namespace()))
    else:
        prefix = namespace.prefix()
        if prefix is None:
            sys.exit("bench.ddp needs network namespaces (unshare, ip), which this user may not have")
        command = [*prefix, sys.executable, "-m", "bench.ddp", "--inside"]
        report = _report(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))
        print(report)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(
            re.sub(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", lambda _: report, page, flags=re.DOTALL), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
