"""The lab at the command line: run a command in it, play with it, see what is there, clean up.

PYTHONPATH=python/tests python3 -m lab run --hosts 3 --do 'h2.ingress.lose(every=10)' -- ping -c 20 h2
PYTHONPATH=python/tests python3 -m lab console --hosts 3
PYTHONPATH=python/tests python3 -m lab list
PYTHONPATH=python/tests python3 -m lab clean
"""

from __future__ import annotations

import argparse
import code
import os
import sys
from collections.abc import Sequence
from typing import Any

from lab import Lab, LabError, leftovers


def _make(arguments: argparse.Namespace) -> Lab:
    try:
        return Lab(
            arguments.hosts,
            ipv6=not arguments.ipv4_only,
            offloads=arguments.offloads,
            congestion_control=arguments.congestion_control,
            mtu=arguments.mtu,
            seed=arguments.seed,
        )
    except ValueError as error:
        raise LabError(str(error)) from error


def _names(lab: Lab) -> dict[str, Any]:
    return {"lab": lab, **{host.label: host for host in lab.hosts}}


def _run(arguments: argparse.Namespace) -> int:
    with _make(arguments) as lab:
        names = _names(lab)
        if arguments.host not in names:
            raise LabError(f"no host {arguments.host}: the hosts are {', '.join(host.label for host in lab.hosts)}")
        for text in arguments.do:
            exec(compile(text, "--do", "exec"), names)  # what the caller wants done
        try:
            return lab[arguments.host].start(*arguments.command).wait()
        except KeyboardInterrupt:
            return 130


def _console(arguments: argparse.Namespace) -> int:
    with _make(arguments) as lab:
        names = _names(lab)
        lines = [f"{host.label}: {host.address} {host.address6}  ip netns exec {host.name} bash" for host in lab.hosts]
        banner = "\n".join([*lines, f"Python, with lab, {', '.join(host.label for host in lab.hosts)}; end with Ctrl-D."])
        if not sys.stdin.isatty():
            exec(compile(sys.stdin.read(), "stdin", "exec"), names)
            return 0
        code.interact(banner, local=names, exitmsg="")
    return 0


def _list(_: argparse.Namespace) -> int:
    for tag in sorted(leftovers.tags()):
        pid = leftovers.owner(tag)[0]
        names = leftovers.namespaces_of(tag)
        running = list(leftovers.processes_in(*names).values())
        print(f"{tag}: process {pid}, {'running' if leftovers.owner_lives(tag) else 'dead'}")
        for name in names:
            print(f"  {name}: {running.count(name)} processes")
    return 0


def _clean(_: argparse.Namespace) -> int:
    for tag in sorted(leftovers.tags()):
        if not leftovers.owner_lives(tag):
            leftovers.remove(tag)
            print(f"removed {tag}")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m lab", description="Hosts on a switch, in network namespaces; needs root.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("--hosts", type=int, default=2, help="how many (default 2); they are called h1, h2...")
    made.add_argument("--ipv4-only", action="store_true", help="no IPv6")
    made.add_argument("--offloads", action="store_true", help="let the kernel carry several packets as one")
    made.add_argument("--congestion-control", metavar="NAME", help="of TCP, as cubic (default the kernel's)")
    made.add_argument("--mtu", type=int, default=1500, help="of all links (default 1500)")
    made.add_argument("--seed", type=int, default=1, help="of what relays draw at random (default 1)")

    run = commands.add_parser("run", parents=[made], help="make a lab, run a command in one of its hosts, take it away")
    run.add_argument("--do", action="append", default=[], metavar="PYTHON", help="before, as 'h2.egress.limit_rate(100e6)'")
    run.add_argument("--host", default="h1", help="where to run it (default h1)")
    run.add_argument("command", nargs="+", help="after --; hosts are known to it by name")
    run.set_defaults(function=_run)
    console = commands.add_parser(
        "console", parents=[made], help="make a lab and read Python for it from the terminal or a file"
    )
    console.set_defaults(function=_console)
    shown = commands.add_parser("list", help="show the labs of this machine")
    shown.set_defaults(function=_list)
    clean = commands.add_parser("clean", help="remove what dead processes left; labs of running ones stay")
    clean.set_defaults(function=_clean)

    arguments = parser.parse_args(words)
    try:
        return int(arguments.function(arguments))
    except (LabError, PermissionError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
