"""python -m netmon: one sample, or round trips, path or throughput to a target; for people, or as documents."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import sys
import time

import netmon
from netmon._text import describe


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m netmon",
        description="Measure the network of this machine for a moment and print what its counters, and probes, say.",
        epilog="`netmon run -- COMMAND` attaches netmon to a training job instead: `netmon run --help`.",
    )
    parser.add_argument("--json", action="store_true", help="print the sample document (docs/metrics.md)")
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="time that the rates cover, 0.02 to 3600 (default: 1); of --bandwidth, each direction, 0.1 to 10 (default: 2)",
    )
    parser.add_argument(
        "--interfaces", nargs="+", metavar="PATTERN", help="interfaces that count in the totals, as eth* or !docker*"
    )
    parser.add_argument(
        "--targets", nargs="+", metavar="TARGET", help="whom to probe meanwhile, as 10.0.0.2 or tcp://node7:29500"
    )
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--probe", metavar="TARGET", help="measure round trips to a target instead (docs/probes.md)")
    alone.add_argument("--trace", metavar="TARGET", help="find the path to a target instead")
    alone.add_argument(
        "--bandwidth",
        metavar="TARGET",
        nargs="?",
        const="",
        help="measure throughput to a target instead, by filling the way there (docs/bandwidth.md)",
    )
    parser.add_argument(
        "--tool",
        choices=("netmon", "iperf3", "speedtest-cli"),
        default="netmon",
        help="what --bandwidth measures with (default: netmon, with a monitor there that has bandwidth_server)",
    )
    parser.add_argument(
        "--direction",
        choices=("transmit", "receive", "both"),
        help="of --bandwidth, seen from here (default: transmit; with speedtest-cli both)",
    )
    parser.add_argument(
        "--count", type=int, metavar="N", help="probes of --probe (default: 5), per hop of --trace (default: 3)"
    )
    parser.add_argument("--all", action="store_true", help="list every interface and peer, however many there are")
    parser.add_argument("--version", action="store_true", help="print the versions of package and library")
    parser.add_argument("--cflags", action="store_true", help="print the compiler flags for C and C++ programs")
    parser.add_argument("--libs", action="store_true", help="print the linker flags for C and C++ programs")
    return parser


def _bandwidth(options: argparse.Namespace) -> int:
    direction = options.direction or ("both" if options.tool == "speedtest-cli" else "transmit")
    with netmon.Monitor(interval=3600, sources=[]) as monitor:
        found = monitor.measure_bandwidth(options.bandwidth or None, options.seconds, direction, options.tool)
    tests = found if isinstance(found, tuple) else (found,)
    if options.json:
        print(json.dumps([test.to_dict() for test in tests], ensure_ascii=False))
    else:
        print(*tests, sep="\n")
    return 1 if any(test.error for test in tests) else 0


def _measure(options: argparse.Namespace) -> int:
    if options.bandwidth is not None:
        return _bandwidth(options)
    if options.probe is not None or options.trace is not None:
        count = {} if options.count is None else {"count": options.count}
        with netmon.Monitor(interval=3600, sources=[]) as monitor:
            found = monitor.probe(options.probe, **count) if options.trace is None else monitor.trace(options.trace, **count)
        print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else found)
        return 0
    # The window begins with the monitor's first sample, half an interval ago at least; a target is probed some times in it.
    seconds = 1.0 if options.seconds is None else options.seconds
    with netmon.Monitor(
        interval=seconds * 1.5,
        interfaces=options.interfaces,
        targets=options.targets,
        probe_interval=min(1.0, max(0.02, seconds / 10)),
    ) as monitor:
        time.sleep(seconds)
        sample = monitor.sample()
    print(sample.to_json() if options.json else describe(sample, all_interfaces=options.all))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["run"]:
        from netmon._run import main as run

        run(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.bandwidth is None and options.seconds is not None and not 0.02 <= options.seconds <= 3600:
        parser.error(f"--seconds is {options.seconds:g}; it must be from 0.02 to 3600")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of an interface or host may not be in its encoding
    try:
        if options.cflags or options.libs:
            folder = os.path.dirname(netmon.get_library())
            flags = [f"-I{netmon.get_include()}"] if options.cflags else []
            flags += [f"-L{folder}", "-lnetmon", f"-Wl,-rpath,{folder}"] if options.libs else []
            print(shlex.join(flags))
        elif options.version:
            from netmon._loader import load

            print(f"netmon {netmon.__version__} (library {load().version().decode()})")
        else:
            return _measure(options)
    except netmon.Error as error:
        print(f"netmon: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
