"""Train with two ranks, watched by netmon, and account for the bytes that pass between them.

It ends with status 0 where the bytes that netmon saw, those that the kernel counted, and those that the gradients needed agree,
1 where they do not, 2 where the training itself fails. run.sh builds and installs what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import account
import network

HERE = Path(__file__).resolve().parent
RANKS = 2
STEPS = 12
# Of what is printed.
WIDTH = 110
# Of netmon's background loop, in seconds: its default.
INTERVAL = 1.0
# Longer than importing torch takes on a slow disk.
SECONDS = 180.0


class TrainingError(Exception):
    """A rank ended, or did not answer."""


class Rank:
    """The process of a rank.

    Args:
        number: which.
        command: of its process.
        folder: for its files.
        arrivals: where its answers go, a line each, and an empty one when it has ended.
    """

    def __init__(self, number: int, command: Sequence[str], folder: Path, arrivals: Arrivals) -> None:
        self.number = number
        self.folder = folder
        self.log = folder / "stderr.log"
        self.waiting: deque[dict[str, Any]] = deque()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the program that started it, which then ends it
            )
        self._listener = threading.Thread(target=self._listen, args=[arrivals], daemon=True)
        self._listener.start()

    def _listen(self, arrivals: Arrivals) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            arrivals.put((self, line))
        arrivals.put((self, ""))

    def tell(self, what: str, **arguments: Any) -> None:
        """Ask for something."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended, which is noticed when its answer is waited for
            print(json.dumps({"do": what, **arguments}), file=self.process.stdin, flush=True)

    def kill(self) -> None:
        """End it, and its namespace with it."""
        with contextlib.suppress(BrokenPipeError), self.process:  # it may not have read all
            self.process.kill()
            self._listener.join()


Arrivals: TypeAlias = "queue.SimpleQueue[tuple[Rank, str]]"


class Ranks:
    """The ranks, which are gone in the end, whatever happens.

    Args:
        net: where they run.
        torch: whether they are to look for torch.
        output: the folder for their files.
    """

    def __init__(self, net: network.Network, torch: bool, output: Path) -> None:
        self._net = net
        self._arrivals: Arrivals = queue.SimpleQueue()
        self._command = [*net.prefix, sys.executable, str(HERE / "rank.py"), *(["--torch"] if torch else [])]
        self._output = output
        self._ranks: list[Rank] = []

    def __enter__(self) -> Ranks:
        for number in range(RANKS):
            folder = self._output / f"rank{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._ranks.append(Rank(number, self._command, folder, self._arrivals))
        return self

    def __exit__(self, *_: object) -> None:
        for rank in self._ranks:
            rank.kill()

    def answers(self) -> list[dict[str, Any]]:
        """Return the next answer of each rank.

        Raises:
            TrainingError: a rank ended, or does not answer.
        """
        while not all(rank.waiting for rank in self._ranks):
            try:
                rank, line = self._arrivals.get(timeout=SECONDS)
            except queue.Empty:
                raise TrainingError(f"no answer of the ranks in {SECONDS:.0f} s; see {self._output}") from None
            if not line:
                last = rank.log.read_text(errors="replace").splitlines()[-12:]
                raise TrainingError("\n".join([f"rank {rank.number} ended; the end of {rank.log}:", *last]))
            rank.waiting.append(json.loads(line))
        return [rank.waiting.popleft() for rank in self._ranks]

    def tell(self, what: str, **arguments: Any) -> None:
        """Ask all ranks for the same."""
        for rank in self._ranks:
            rank.tell(what, **arguments)

    def ask(self, what: str, **arguments: Any) -> list[dict[str, Any]]:
        """Ask all ranks for the same, and return what each answers."""
        self.tell(what, **arguments)
        return self.answers()

    def prepare(self, kind: str) -> int:
        """Make the network, and let the ranks find each other and start their monitors.

        Returns:
            The bytes of a step's gradients.
        """
        net = self._net
        net.connect([rank.process.pid for rank in self._ranks])
        for rank in self._ranks:
            job = {
                "RANK": str(rank.number),
                "LOCAL_RANK": str(rank.number if net.shared else 0),
                "WORLD_SIZE": str(RANKS),
                "LOCAL_WORLD_SIZE": str(RANKS if net.shared else 1),
                "MASTER_ADDR": net.addresses[0],
                "MASTER_PORT": str(net.port),
                "GLOO_SOCKET_IFNAME": net.interface,
            }
            rank.tell("prepare", job=job, interface=net.interface, kind=kind, folder=str(rank.folder), interval=INTERVAL)
        sizes = {answer["gradient_bytes"] for answer in self.answers()}
        assert len(sizes) == 1, sizes
        return int(sizes.pop())


def train(ranks: Ranks, steps: int) -> None:
    """Train, and print a line for each step.

    Raises:
        TrainingError: the ranks do not have the same weights in the end.
    """
    names = "".join(f"{f'rank {number} sends':>16}{'receives':>10}" for number in range(RANKS))
    print("\nThe steps, and the newest figures that netmon has at the end of each, in Mbit/s, with their age:\n")
    print(f"  step    time   loss{names}       age", flush=True)
    ranks.tell("train", steps=steps)
    for _ in range(steps):
        both = ranks.answers()
        seconds, loss = max(step["seconds"] for step in both), sum(step["loss"] for step in both) / len(both)
        rates = "".join(f"{rate(step['sent_mbps']):>16}{rate(step['received_mbps']):>10}" for step in both)
        ages = [step["age_seconds"] for step in both if step["age_seconds"] is not None]
        age = f"{max(ages):.2f} s" if ages else "-"
        print(f"  {both[0]['step']:4}  {seconds:4.2f} s  {loss:5.3f}{rates}{age:>10}", flush=True)
    fingerprints = {answer["fingerprint"] for answer in ranks.answers()}
    if len(fingerprints) > 1:
        raise TrainingError("the ranks have different weights: the gradients were not averaged")


def rate(megabits: float | None) -> str:
    """Write a rate that netmon measured, or did not."""
    return "-" if megabits is None else f"{megabits:.1f}"


class Count(NamedTuple):
    """What netmon and the kernel have counted for one rank."""

    netmon: dict[str, int | None]
    kernel: network.Counters


def count(net: network.Network, ranks: Ranks) -> list[Count]:
    """Return what was counted for each rank, at one moment: nothing passed meanwhile.

    On a loopback that is never quiet it is nearly one moment.
    """
    kernel = [net.counters(rank) for rank in range(RANKS)]
    for _ in range(20):
        before, netmon = kernel, ranks.ask("count")
        kernel = [net.counters(rank) for rank in range(RANKS)]
        if kernel == before:
            break
    return [Count(*counted) for counted in zip(netmon, kernel, strict=True)]


def difference(before: Count, after: Count, name: str) -> int | None:
    """Return how far a figure of netmon's rose between two counts; None: it is not known."""
    first, last = before.netmon[name], after.netmon[name]
    return None if first is None or last is None else last - first


def flows(net: network.Network, before: Sequence[Count], after: Sequence[Count], needed: int) -> list[account.Flow]:
    """Return what passed between two counts.

    Args:
        net: where it passed.
        before: the first count.
        after: the second one.
        needed: the bytes of gradients that each rank had to send and to receive.
    """
    headers = net.headers()
    passing = needed * (RANKS if net.shared else 1)
    resent = [difference(*counts, "resent_segments") for counts in zip(before, after, strict=True)]
    found = []
    for rank, (first, last) in enumerate(zip(before, after, strict=True)):
        for way in ("sent", "received"):
            # What a rank receives another one sent; over loopback TCP's counters are those of the whole machine.
            sender = rank if way == "sent" or net.shared else 1 - rank
            bytes_, packets = (
                getattr(last.kernel, f"{way}_{unit}") - getattr(first.kernel, f"{way}_{unit}") for unit in ("bytes", "packets")
            )
            found.append(
                account.Flow(
                    name=f"{net.interface} {way}, seen by rank {rank}" if net.shared else f"rank {rank} {way}",
                    needed_bytes=passing,
                    answered_bytes=passing,
                    headers=headers,
                    packets=packets,
                    mtu=last.netmon["mtu"],
                    resent_segments=resent[sender],
                    netmon_bytes=difference(first, last, way),
                    kernel_bytes=bytes_,
                )
            )
    return found


def report(net: network.Network, found: Sequence[account.Flow], gradients: int, steps: int, kind: str) -> bool:
    """Print the table and what it is made of; returns whether the figures agree."""
    print("\nWhat passed from before the first step to after the last, read while nothing passed:\n")
    print(textwrap.indent("\n".join(account.table(found, net.source)), "  ") + "\n")
    each = account.ring_all_reduce_bytes(gradients, RANKS)
    both = f"; {net.interface} counts what either rank sends, once as sent and once as received" if net.shared else ""
    torch = kind == "torch"
    packets, headers = found[0].packets, found[0].headers
    senders = found[:1] if net.shared else found[::2]
    resent = ", ".join(f"{flow.resent_text} ({net.interface if net.shared else flow.name})" for flow in senders)
    explain(
        "gradients",
        f"a ring all-reduce over n = {RANKS} ranks: each sends 2(n-1)/n of {megabytes(gradients)}, {megabytes(each)},"
        f" and receives as much, in each of {steps} steps{both}",
    )
    explain(
        "headers",
        f"{sum(headers)} bytes ({headers.text}) in each packet that {net.source} counted ({packets:,} in the first row), bare"
        " acknowledgements included. With segmentation offload a packet holds up to 64 kB; more than one each way for 1448"
        " bytes would not be put down to the gradients",
    )
    explain(
        "sent again",
        f"segments that TCP repeated, counted by netmon: {resent}; each is at most a full one, and no more is put down to"
        " them than is left",
    )
    explain(
        "left out",
        f"what came before the first step: the rendezvous{', and the first broadcast of the weights' if torch else ''}",
    )
    gloo = "gloo's announcements of its messages, DDP's exchange of its order of gradients, " if torch else ""
    explain("not computed", f"{gloo}ARP, and what IPv6 sends when an interface comes up: they are in the last column")
    worst, allowed = account.percent(max(flow.off_ratio for flow in found)), account.percent(account.ALLOWED_RATIO)
    if account.agree(found):
        print(f"\nThe figures agree: expected, netmon and {net.source} are at most {worst} apart ({allowed} is allowed).")
        return True
    print(f"\nTHE FIGURES DISAGREE: expected, netmon and {net.source} are {worst} apart; {allowed} is allowed.")
    if net.shared:
        print("What other programs send over loopback is in them, too: try again while it is quiet.")
    return False


def explain(word: str, text: str) -> None:
    """Print a paragraph under a word."""
    print(textwrap.fill(text, WIDTH, initial_indent=f"  {word:14}", subsequent_indent=" " * 16))


def describe(word: str, text: str) -> None:
    """Print a line of the introduction."""
    print(textwrap.fill(text, WIDTH, initial_indent=f"{word:10}", subsequent_indent=" " * 10), flush=True)


def megabytes(amount: int) -> str:
    """Write a number of bytes for a sentence."""
    return f"{amount / 1e6:.1f} MB"


def how(ranks: Ranks, using: str) -> tuple[str, str]:
    """Return how the ranks are to train, ``"torch"`` or ``"sockets"``, and a sentence about it.

    Raises:
        TrainingError: torch was asked for and cannot be used.
    """
    answers = ranks.answers()
    ring = "a ring all-reduce over plain sockets"
    if using == "sockets":
        return "sockets", ring
    missing = next((answer["torch_missing"] for answer in answers if "torch_missing" in answer), None)
    if missing is None:
        return "torch", f"DistributedDataParallel on gloo (torch {answers[0]['torch']})"
    if using == "torch":
        raise TrainingError(f"torch {missing}")
    return "sockets", f"{ring}, because torch {missing}"


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and return its exit status."""
    net, refusal = network.choose(arguments.over)
    with Ranks(net, arguments.using != "sockets", arguments.output) as ranks:
        kind, sentence = how(ranks, arguments.using)
        describe("training", f"two ranks, {sentence}")
        describe("network", net.text + (f"; no link of its own is possible here: {refusal}" if refusal else ""))
        if net.source != "ip -s link":
            describe("", f"without an ip command, the kernel's file {net.source} is read in place of ip -s link")
        gradients = ranks.prepare(kind)
        describe("model", f"{gradients // 4:,} weights: {megabytes(gradients)} of gradients in each of {arguments.steps} steps")
        describe("watched", f"by DistributedTrainingMonitor in each rank; its figures are means over {INTERVAL:g} s")
        before = count(net, ranks)
        train(ranks, arguments.steps)
        after = count(net, ranks)
        needed = account.ring_all_reduce_bytes(gradients, RANKS) * arguments.steps
        agreed = report(net, flows(net, before, after, needed), gradients, arguments.steps, kind)
        for problem in sorted({problem for answer in ranks.ask("end") for problem in answer["problems"]}):
            print(f"netmon has a problem: {problem}")
        print(f"The metrics of every step are in {arguments.output}/rank0 and rank1.")
    return 0 if agreed else 1


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="demo.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--over",
        choices=("auto", "link", "loopback"),
        default="auto",
        help="a veth link of its own, or loopback; default: a link where this user may have one",
    )
    parser.add_argument(
        "--using",
        choices=("auto", "torch", "sockets"),
        default="auto",
        help="DistributedDataParallel, or a ring over plain sockets; default: torch where it is installed",
    )
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training; default {STEPS}")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/demo"),
        help="folder for the metrics' files; rank0 and rank1 in it are made anew",
    )
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error("--steps must be at least 1")
    try:
        return run(arguments)
    except (TrainingError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # As any program that Ctrl-C ends, so that make and the shell know.
        print(file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 2


if __name__ == "__main__":
    sys.exit(main())
