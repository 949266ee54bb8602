"""netmon run: a command, with netmon attached to what trains below it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import NoReturn

from ._options import RunOptions

_SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_site")


def _parser(several: bool = False) -> argparse.ArgumentParser:
    """Return the parser; where a separator says where the options end, lists may be several words too."""
    parser = argparse.ArgumentParser(
        prog="netmon run",
        usage="netmon run [options] -- COMMAND [ARGUMENT ...]",
        description=(
            "Run a command with netmon attached to every process below it that trains: ranks of torchrun, deepspeed and "
            "accelerate, Ray drivers and their actors. Nothing of the training code changes (docs/run.md)."
        ),
    )
    parser.add_argument("--interval", type=float, metavar="S", help="seconds between two samples (default: 1)")
    words = "+" if several else 1
    parser.add_argument(
        "--interfaces", nargs=words, metavar="PATTERN,...", help="interfaces that count in the totals, as eth*,!docker*"
    )
    parser.add_argument("--targets", nargs=words, metavar="TARGET,...", help="whom to probe beside the training peers")
    parser.add_argument("--cluster-interval", type=float, metavar="S", help="seconds between two digests (default: 2)")
    parser.add_argument("--no-cluster", action="store_true", help="do not take part in a view of the whole job")
    parser.add_argument("--no-collectives", action="store_true", help="do not time the job's collectives")
    parser.add_argument("--nodes", action="store_true", help="log every node's own values too, under network/node/<name>/")
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _split(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the command: what follows the first ``--``, or the first word that is no option."""
    mine, separator, rest = arguments, [], []
    if "--" in arguments:
        place = arguments.index("--")
        mine, separator, rest = arguments[:place], ["--"], arguments[place + 1 :]
    parser = _parser(several=bool(separator))
    options = parser.parse_args(mine)
    # Without our own, the separator is the command's.
    command = [*options.command, *separator, *rest] if options.command else rest
    if not command:
        parser.error("no command is given; for example: netmon run -- torchrun train.py")
    return options, command


def _listed(words: list[str] | None) -> list[str] | None:
    """Return the entries of a list that is written with commas, or as several words."""
    return None if words is None else [entry for word in words for entry in word.split(",")]


def environment(options: RunOptions, before: dict[str, str]) -> dict[str, str]:
    """Return the environment in which Python processes attach netmon, from the one that they would have."""
    folders = before.get("PYTHONPATH", "")
    if folders.split(os.pathsep)[0] != _SITE:
        folders = os.pathsep.join([_SITE, folders]) if folders else _SITE
    return {**before, "PYTHONPATH": folders, **options.variables()}


def _fail(status: int, command: str, why: str) -> NoReturn:
    print(f"netmon run: {command}: {why}", file=sys.stderr)
    raise SystemExit(status)


def main(arguments: list[str]) -> NoReturn:
    """Become the command."""
    options, command = _split(arguments)
    try:
        run_options = RunOptions(
            interval=options.interval,
            interfaces=_listed(options.interfaces),
            targets=_listed(options.targets),
            cluster_interval=options.cluster_interval,
            cluster=not options.no_cluster,
            collectives=not options.no_collectives,
            nodes=options.nodes,
        )
    except ValueError as error:
        _parser().error(str(error))
    sys.stdout.flush()
    # Python ignores them, and what is ignored stays so in the command. What the caller did with them nobody knows any more: the
    # kernel keeps no record, and what the parent itself ignores need not be what it had its child begin with, as by subprocess.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment(run_options, dict(os.environ)))  # noqa: S606 - the command is the user's
    except FileNotFoundError as error:
        _fail(127, command[0], str(error.strerror) if os.sep in command[0] else "command not found")
    except OSError as error:
        _fail(126, command[0], error.strerror or str(error))
    except ValueError as error:
        _fail(126, command[0], str(error))
