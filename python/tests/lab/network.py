"""Hosts on a switch, and what is done to them and to their links."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Literal, NamedTuple

from lab import leftovers, namespaces
from lab.leftovers import LabError, run
from lab.namespaces import Namespace
from lab.relay import Hold, Log, Relay, RelayCounts, as_array

_BRIDGE = "br0"
_MOST_HOSTS = 250
_ETHERNET_BYTES = 14
_OFFLOADS = ("gro", "gso", "tso", "tx-udp-segmentation")

# What finds addresses and groups, and not what a test sends: losing it would lose more than one packet, or tell the sender.
_QUIET_TYPES = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report"


_ERRORS = {"icmp": "destination-unreachable, time-exceeded", "icmpv6": "destination-unreachable, packet-too-big, time-exceeded"}


class Count(NamedTuple):
    """Packets, and the bytes of them."""

    packets: int
    bytes: int


class Direction:
    """One way of a host's link: its ``egress`` is what it sends, its ``ingress`` what it gets.

    A packet that a host sends passes, in this order, the rate limit, the delay and the loss of its egress; then those of the
    ingress of the host it goes to: loss, delay, rate limit. All of them are set and lifted at any time, alone or together.
    """

    def __init__(self, lab: Lab, host: Host, name: str) -> None:
        self._lab = lab
        self._host = host
        self._egress = name == "egress"
        self.name = name
        self._chain = f"{host.label}-{name}"

    def __repr__(self) -> str:
        return f"{self._host!r}.{self.name}"

    # Rate

    @property
    def _queue(self) -> tuple[str, str]:
        """The namespace and the interface that packets of this direction queue at."""
        return (self._host.name, self._host.interface) if self._egress else (self._lab.switch.name, self._host.port)

    def limit_rate(self, bits_per_second: float, *, burst_bytes: int | None = None, queue_bytes: int | None = None) -> None:
        """Limit how fast packets pass; ``lift_rate`` ends it.

        Args:
            bits_per_second: of whole Ethernet frames (header included), which is what ``ip -s link`` counts.
            burst_bytes: what may pass at once after a pause; default what passes in 5 ms, at least two full frames. With less,
                a busy machine, where the kernel comes late to the queue, does not reach the rate.
                While packets wait, do not set less than 70,000: TCP's are of up to 64 KiB there and cut up later, and one that
                is larger than the burst waits for ever, with all behind it.
            queue_bytes: what may wait; what comes on top is dropped. Default what passes in 50 ms, at least 20 full frames.
        """
        frame = self._lab.mtu + _ETHERNET_BYTES
        per_second = bits_per_second / 8
        burst = burst_bytes or max(int(per_second * 0.005), 2 * frame)
        queue = queue_bytes or max(int(per_second * 0.05), 20 * frame)
        namespace, interface = self._queue
        run(
            *("tc", "-n", namespace, "qdisc", "replace", "dev", interface, "root", "handle", "1:"),
            *("tbf", "rate", f"{round(bits_per_second)}bit", "burst", f"{burst}b", "limit", f"{queue}b"),
        )

    def lift_rate(self) -> None:
        """End the limit, if there is one."""
        namespace, interface = self._queue
        with contextlib.suppress(LabError):
            run("tc", "-n", namespace, "qdisc", "del", "dev", interface, "root")

    def queue_dropped(self) -> int:
        """Return how many packets the rate limit dropped since it was set, because too many waited."""
        namespace, interface = self._queue
        shown = json.loads(run("tc", "-n", namespace, "-s", "-j", "qdisc", "show", "dev", interface, "root"))
        return sum(int(row["drops"]) for row in shown if row["kind"] == "tbf")

    # Loss

    def lose(self, *, every: int | None = None, ratio: float | None = None, only: str = "") -> None:
        """Drop some packets silently; ``lose_nothing`` ends it. It replaces an earlier loss or black hole of this direction.

        Neighbour discovery (ARP and its ICMPv6 like) passes and does not count.

        Args:
            every: drop exactly the last one of so many: 1 drops all, 10 the 10th, the 20th...
            ratio: drop each with this probability (0 to 1), independently.
            only: what to drop from, as a match of nft: ``"udp dport 5001"``, ``"meta length > 500"``. Default: all.
        """
        if (every is None) == (ratio is None):
            raise ValueError("either every or ratio")
        if every is not None:
            if every < 1:
                raise ValueError(f"every {every}: 1 or more")
            match = f"numgen inc mod {every} == {every - 1}" if every > 1 else ""
        else:
            assert ratio is not None
            if not 0 <= ratio <= 1:
                raise ValueError(f"ratio {ratio}: 0 to 1")
            match = f"numgen random mod 1000000000 < {round(ratio * 1e9)}" if ratio < 1 else ""
        self._filter(f"{only} counter name {self._chain}-seen", f"{only} {match} counter name {self._chain}-dropped drop")

    def black_hole(self) -> None:
        """Drop all packets silently, but neighbour discovery; ``lose_nothing`` ends it. It replaces an earlier loss."""
        self.lose(every=1)

    def lose_nothing(self) -> None:
        """End loss or black hole. The counts stay."""
        if self._lab._filters:
            self._filter()

    def dropped(self) -> Count:
        """Return what loss and black hole dropped since the lab is there."""
        return self._lab._count(f"{self._chain}-dropped")

    def seen(self) -> Count:
        """Return what loss and black hole had to choose from, dropped or not, since the lab is there."""
        return self._lab._count(f"{self._chain}-seen")

    def _filter(self, *rules: str) -> None:
        passing = ["meta protocol != { ip, ip6 } return", f"icmpv6 type {{ {_QUIET_TYPES} }} return"]
        lines = [f"add rule bridge lab {self._chain} {rule}" for rule in ([*passing, *rules] if rules else [])]
        self._lab._nft(f"flush chain bridge lab {self._chain}", *lines)

    # Delay

    def delay(self, seconds: float, jitter_seconds: float = 0.0) -> None:
        """Hold each packet for a time; ``lift_delay`` ends it. Packets stay in order.

        The first delay of a host puts a relay into its link, which takes some milliseconds in which packets get lost. A delay
        of 0 does that too: set it first where a later change is to lose nothing. A change under way applies to packets that
        arrive after it.

        Args:
            seconds: from the arrival of a packet to its leaving, below about 10.
            jitter_seconds: each hold is drawn evenly from ``seconds - jitter_seconds`` to ``seconds + jitter_seconds``.
        """
        if seconds < 0 or jitter_seconds < 0:
            raise ValueError(f"delay {seconds} s, jitter {jitter_seconds} s: not below 0")
        self._host._hold(self.name, round(seconds * 1e9), round(jitter_seconds * 1e9))

    def lift_delay(self) -> None:
        """End the delay, if there is one. The relay leaves the link when neither direction has one; its log stays."""
        self._host._hold(self.name, None, 0)

    def holds(self) -> list[Hold]:
        """Return how long each packet was really held, in the order they left, since the first delay of this host."""
        log = self._host._log
        return log.holds(0 if self._egress else 1) if log else []

    def holds_array(self) -> Any:
        """Return the same as a structured array of numpy, for many packets: ``array["left_ns"] - array["arrived_ns"]``."""
        log = self._host._log
        return as_array(log.records() if log else b"", 0 if self._egress else 1)

    def relay_counts(self) -> RelayCounts:
        """Return what the relay did with the packets of this direction since the first delay of this host."""
        log = self._host._log
        return log.counts(0 if self._egress else 1) if log else RelayCounts(0, 0, 0, 0, 0, False)

    def clear(self) -> None:
        """Lift rate limit, loss, black hole and delay."""
        self.lift_rate()
        self.lose_nothing()
        self.lift_delay()


class Host(Namespace):
    """A namespace whose interface is plugged into the lab's switch.

    Attributes:
        label: its name in the lab and in its names file: ``h1``, ``h2``...
        number: 1, 2...
        mac: the address of its interface.
        address: its IPv4 address; ``change_address`` changes it.
        address6: its IPv6 address, empty in a lab without IPv6.
        egress: the way of what it sends.
        ingress: the way of what it gets.
        port: the interface of the switch that it is plugged into.
    """

    def __init__(self, lab: Lab, tag: str, number: int) -> None:
        super().__init__(f"{tag}-h{number}", "eth0", f"198.18.{number >> 8}.{number & 255}")
        self._lab = lab
        self.number = number
        self.label = f"h{number}"
        self.mac = f"02:00:c6:12:{number >> 8:02x}:{number & 255:02x}"
        self.address6 = f"fd00:c612::{number:x}" if lab.ipv6 else ""
        self.egress = Direction(lab, self, "egress")
        self.ingress = Direction(lab, self, "ingress")
        self.port = self.label
        self._log: Log | None = None
        self._relay: Relay | None = None
        self._delayed: set[str] = set()
        self._nameservers: Sequence[str] = ()
        self._options = ""
        self._names: Mapping[str, str] = {}

    # Interface and addresses

    def down(self) -> None:
        """Take the interface down."""
        self.ip("link", "set", self.interface, "down")

    def up(self) -> None:
        """Bring the interface up again, and wait until packets pass, unless it is unplugged."""
        self.ip("link", "set", self.interface, "up")
        self._lab._introduce([self])
        self._lab._wait_for_link(self)

    def unplug(self) -> None:
        """Take the other end of the link down: the host's interface stays up, without carrier."""
        self._lab.switch.ip("link", "set", self.port, "down")

    def plug(self) -> None:
        """Bring the other end of the link up again, and wait until packets pass, unless the interface is down."""
        self._lab.switch.ip("link", "set", self.port, "up")
        self._lab._introduce([self])
        self._lab._wait_for_link(self)

    def change_address(self, address: str | None = None, address6: str | None = None) -> None:
        """Give the interface another address instead; the names file of every host says so too.

        Args:
            address: in 198.18.0.0/15.
            address6: in fd00:c612::/64.
        """
        if address is not None:
            self.sysctl("net.ipv4.conf.all.promote_secondaries", 1)  # else the new one goes with the old one
            self.ip("address", "add", f"{address}/15", "dev", self.interface)
            self.ip("address", "del", f"{self.address}/15", "dev", self.interface)
            self.address = address
        if address6 is not None:
            if not self.address6:
                raise ValueError("this lab has no IPv6")
            self.ip("address", "add", f"{address6}/64", "dev", self.interface, "nodad")
            self.ip("address", "del", f"{self.address6}/64", "dev", self.interface)
            self.address6 = address6
        self._lab._introduce([self])
        for host in self._lab.hosts:
            host._write_view()

    def set_offloads(self, interface: str | None = None, /, **offloads: bool) -> None:
        """Switch offloads of the interface by their names for ``ethtool -K``: ``set_offloads(tso=False, tx=False)``."""
        words = [word for name, on in offloads.items() for word in (name.replace("_", "-"), "on" if on else "off")]
        run(*self.command("ethtool", "-K", interface or self.interface, *words))

    # Answers that are none

    def reject(self, how: Literal["refused", "no_route", "host_unreachable", "prohibited"] = "refused", only: str = "") -> None:
        """Answer what comes in with an error; ``accept`` ends it. It replaces what was rejected before.

        Neighbour discovery, ICMP errors and loopback pass.

        Args:
            how: ``refused``: a reset for TCP, port unreachable for the rest; the others: the ICMP message of that name.
            only: what to reject, as a match of nft: ``"tcp dport 5001"``. Default: all.
        """
        code = {"no_route": "no-route", "host_unreachable": "host-unreachable", "prohibited": "admin-prohibited"}
        rules = ["iifname lo accept", f"icmpv6 type {{ {_QUIET_TYPES} }} accept"]
        rules += [f"{family} type {{ {_ERRORS[family]} }} accept" for family in _ERRORS]
        if how == "refused":
            rules += [f"{only} meta l4proto tcp reject with tcp reset", f"{only} reject with icmpx port-unreachable"]
        else:
            rules += [f"{only} reject with icmpx {code[how]}"]
        self._no_answer_limits()
        lines = [
            "add table inet lab",
            "add chain inet lab input { type filter hook input priority 0; }",
            "flush chain inet lab input",
        ]
        lines += [f"add rule inet lab input {rule}" for rule in rules]
        run(*self.command("nft", "-f", "-"), given="\n".join(lines) + "\n")

    def accept(self) -> None:
        """Reject nothing any more."""
        run(*self.command("nft", "-f", "-"), given="add table inet lab\ndelete table inet lab\n")

    def _no_answer_limits(self) -> None:
        """Let the kernel send as many ICMP errors as there is reason for; else it is one a second to each address."""
        self.sysctl("net.ipv4.icmp_ratelimit", 0)
        if self.address6:
            self.sysctl("net.ipv6.icmp.ratelimit", 0)

    def become_router(self) -> None:
        """Forward packets for others."""
        self._no_answer_limits()
        for which in ("all", self.interface):
            self.sysctl(f"net.ipv4.conf.{which}.send_redirects", 0)
        self.sysctl("net.ipv4.ip_forward", 1)
        if self.address6:
            self.sysctl("net.ipv6.conf.all.forwarding", 1)

    # Delay

    def _hold(self, direction: str, hold_ns: int | None, jitter_ns: int) -> None:
        if hold_ns is None:
            if direction not in self._delayed:
                return
            self._delayed.discard(direction)
        else:
            self._delayed.add(direction)
            if self._log is None:
                self._log = Log()
        assert self._log is not None
        before = max(sum(self._log.orders(way)) for way in (0, 1))
        self._log.order(0 if direction == "egress" else 1, hold_ns or 0, jitter_ns)
        if self._delayed and self._relay is None:
            seed = self._lab._random.getrandbits(63)
            inner, outer = f"r{self.number}", f"b{self.number}"
            switch = self._lab.switch
            mtu = ("mtu", str(self._lab.mtu))
            switch.ip("link", "add", inner, *mtu, "type", "veth", "peer", "name", outer, *mtu)
            switch.ip("link", "set", inner, "up")
            switch.ip("link", "set", outer, "up")
            self._relay = Relay(switch, self.port, inner, self._log, seed)
            self._lab._plug_in(self, outer, instead_of=self.port)
            self._lab._wait_for_link(self)
        elif not self._delayed and self._relay is not None:
            self._relay.empty(before / 1e9 + 5)
            self._lab._plug_in(self, self.port, instead_of=f"b{self.number}")
            self._relay.close()
            self._relay = None
            self._lab.switch.ip("link", "del", f"b{self.number}")
            self._lab._wait_for_link(self)

    # Processes

    @contextmanager
    def load(self, processes: int) -> Iterator[None]:
        """Keep so many processes busy inside. All hosts share the processors of this machine."""
        busy = [self.start("sh", "-c", "while :; do :; done") for _ in range(processes)]
        try:
            yield
        finally:
            for process in busy:
                process.kill()
                process.wait()
                self._started.remove(process)

    def freeze(self, processes: Iterable[int] | None = None) -> None:
        """Stop processes inside (SIGSTOP): those named, or all there are."""
        self._signal(signal.SIGSTOP, processes)

    def thaw(self, processes: Iterable[int] | None = None) -> None:
        """Let them go on (SIGCONT)."""
        self._signal(signal.SIGCONT, processes)

    def _signal(self, number: signal.Signals, processes: Iterable[int] | None) -> None:
        for pid in self.processes() if processes is None else processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    # Names

    def set_dns(self, nameservers: Sequence[str] = (), *, names: Mapping[str, str] | None = None, options: str = "") -> None:
        """Set how names resolve inside; processes that run see it too.

        Before, there is no name server (a resolver then asks 127.0.0.1) and the hosts of the lab have their labels as names.

        Args:
            nameservers: addresses for resolv.conf.
            names: further names for the hosts file, with an address each.
            options: of resolv.conf, as ``"timeout:1 attempts:1"``.
        """
        self._nameservers, self._names, self._options = nameservers, names or {}, options
        self._write_view()

    def _write_view(self) -> None:
        """Write what this host sees as /etc/resolv.conf and /etc/hosts (``ip netns exec`` puts the files there)."""
        folder = leftovers.make_view(self.name)
        resolver = [f"nameserver {address}" for address in self._nameservers]
        resolver += [f"options {self._options}"] if self._options else []
        names = ["127.0.0.1 localhost", "::1 localhost"]
        for host in self._lab.hosts:
            names += [f"{address} {host.label}" for address in (host.address, host.address6) if address]
        names += [f"{address} {name}" for name, address in self._names.items()]
        # Written in place: who runs has these very files.
        (folder / "resolv.conf").write_text("".join(f"{line}\n" for line in ["# of a lab", *resolver]))
        (folder / "hosts").write_text("".join(f"{line}\n" for line in names))


class Lab:
    """Hosts on a switch, each in a network namespace of its own, and the switch in another.

    A context manager; ``close`` takes all of it away, and so does the end of this process, however it comes.

    Args:
        hosts: how many, 1 to 250.
        ipv6: whether they have IPv6 addresses too.
        offloads: whether the kernel may carry several packets as one (GRO, GSO, TSO). Off, a packet that is counted or lost is
            one packet on the wire; on, more fits through.
        congestion_control: of TCP in all hosts, as ``"cubic"``; default the kernel's. What the system does not allow in
            namespaces is allowed while the lab is there.
        mtu: of all links, in bytes.
        seed: of what is drawn at random by the relays. Loss at random is the kernel's and has no seed.

    Attributes:
        hosts: the hosts.
        switch: the namespace with the bridge.

    Raises:
        LabError: the kernel or the user's rights do not allow it, or a tool is missing.
    """

    def __init__(
        self,
        hosts: int = 2,
        *,
        ipv6: bool = True,
        offloads: bool = False,
        congestion_control: str | None = None,
        mtu: int = 1500,
        seed: int = 1,
    ) -> None:
        if not 1 <= hosts <= _MOST_HOSTS:
            raise ValueError(f"{hosts} hosts: 1 to {_MOST_HOSTS}")
        self.ipv6 = ipv6
        self.mtu = mtu
        self._random = random.Random(seed)
        self._filters = False
        self.hosts: list[Host] = []
        with ExitStack() as stack:
            tag = stack.enter_context(namespaces.guarded())
            if congestion_control is not None:
                leftovers.claim_congestion_control(tag, congestion_control)
            self.switch = Namespace(f"{tag}-switch", _BRIDGE, "")
            namespaces.add(self.switch.name)
            self.switch.ip("link", "add", _BRIDGE, "mtu", str(mtu), "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
            self.switch.ip("link", "set", _BRIDGE, "up")
            self.hosts += [Host(self, tag, number) for number in range(1, hosts + 1)]
            for host in self.hosts:
                self._add(host, offloads, congestion_control)
            self._introduce(self.hosts)
            for host in self.hosts:
                self._wait_for_link(host)
            self._wait_for_quiet()
            self._taken_down = stack.pop_all()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __getitem__(self, label: str) -> Host:
        """Return the host of a label: ``lab["h1"]``."""
        for host in self.hosts:
            if host.label == label:
                return host
        raise KeyError(f"{label!r}: the hosts are {', '.join(host.label for host in self.hosts)}")

    def close(self) -> None:
        """Take everything away, processes included; a second call does nothing."""
        self._taken_down.close()
        for namespace in (*self.hosts, self.switch):
            namespace.reap()
        for host in self.hosts:
            if host._log is not None:
                host._log.close()
                host._log = None

    def route_through(self, path: Sequence[Host], *, mtu: int | None = None) -> None:
        """Lead packets between the first and the last host of a path through those between, in both directions.

        Args:
            path: at least one host between the first and the last; those become routers.
            mtu: of the path behind the first router on the way: what is larger is answered with an ICMP error.
        """
        if len(path) < 3:
            raise ValueError("a path needs a host between the first and the last")
        for router in path[1:-1]:
            router.become_router()
        for way in (list(path), list(reversed(path))):
            target = way[-1]
            for here, following in itertools.pairwise(way):
                lock = ("mtu", "lock", str(mtu)) if mtu is not None and here is way[1] else ()
                for ours, theirs in ((target.address, following.address), (target.address6, following.address6)):
                    if ours and theirs:
                        via = ("via", theirs) if following is not target else ()
                        here.ip("route", "replace", ours, *via, "dev", here.interface, *lock)

    def _add(self, host: Host, offloads: bool, congestion_control: str | None) -> None:
        host._write_view()
        namespaces.add(host.name)
        if self.ipv6:
            settings = {"disable_ipv6": 0, "accept_ra": 0, "router_solicitations": 0, "autoconf": 0, "accept_dad": 0}
            settings |= {"keep_addr_on_down": 1, "mldv2_unsolicited_report_interval": 1}
            lines = [
                f"echo {value} >/proc/sys/net/ipv6/conf/{which}/{name}"
                for which in ("all", "default", "lo")
                for name, value in settings.items()
            ]
            run(*host.command("sh", "-ec", "\n".join(lines)))
        mtu = str(self.mtu)
        self.switch.ip(
            *("link", "add", host.port, "mtu", mtu, "type", "veth"),
            *("peer", "name", host.interface, "mtu", mtu, "address", host.mac, "netns", host.name),
        )
        if not offloads:
            for namespace, interface in ((self.switch, host.port), (host, host.interface)):
                words = [word for name in _OFFLOADS for word in (name, "off")]
                run(*namespace.command("ethtool", "-K", interface, *words))
        self.switch.ip("link", "set", host.port, "up")
        self._plug_in(host, host.port)
        host.ip("address", "add", f"{host.address}/15", "dev", host.interface)
        if host.address6:
            host.ip("address", "add", f"{host.address6}/64", "dev", host.interface, "nodad")
        host.ip("link", "set", host.interface, "up")
        if congestion_control is not None:
            host.sysctl("net.ipv4.tcp_congestion_control", congestion_control)

    def _wait_for_link(self, host: Host) -> None:
        """Wait until both ends of a host's link carry packets, if both are up; on a busy machine the kernel takes its time."""
        ends = [(self.switch, host.port), (host, host.interface)]
        if host._relay is not None:
            ends += [(self.switch, f"r{host.number}"), (self.switch, f"b{host.number}")]
        deadline = time.monotonic() + 10
        while True:
            rows = [json.loads(end.ip("-d", "-j", "link", "show", "dev", interface))[0] for end, interface in ends]
            if any("UP" not in row["flags"] for row in rows):
                return
            ports = [row["linkinfo"]["info_slave_data"] for row in rows if row.get("master") == _BRIDGE]
            if all(row["operstate"] == "UP" for row in rows) and all(port["state"] == "forwarding" for port in ports):
                return
            if time.monotonic() > deadline:
                raise LabError(f"the link of {host.label} does not come up: {rows}")
            time.sleep(0.005)

    def _wait_for_quiet(self) -> None:
        """Wait until the hosts have announced the multicast groups of IPv6 that they are in: nothing moves from then on."""
        moved, before = True, ""
        while moved:
            time.sleep(0.03)
            ports = json.loads(self.switch.ip("-s", "-j", "link", "show"))
            after = str([port["stats64"] for port in ports])
            moved, before = after != before, after

    def _plug_in(self, host: Host, port: str, *, instead_of: str | None = None) -> None:
        lines = [f"link set {instead_of} nomaster"] if instead_of else []
        run("ip", "-n", self.switch.name, "-batch", "-", given="\n".join([*lines, f"link set {port} master {_BRIDGE}"]))
        run("bridge", "-n", self.switch.name, "fdb", "replace", host.mac, "dev", port, "master", "static")

    def _introduce(self, hosts: Iterable[Host]) -> None:
        """Tell some hosts and all others of each other, so that nobody has to ask: no packet is sent to find an address."""
        known = list(hosts)
        for host in self.hosts:
            lines = []
            for other in self.hosts if host in known else known:
                for address in (other.address, other.address6):
                    if other is not host and address:
                        lines.append(f"neighbour replace {address} lladdr {other.mac} dev {host.interface} nud permanent")
            run("ip", "-n", host.name, "-force", "-batch", "-", given="\n".join(lines))

    def _nft(self, *lines: str) -> None:
        """Change the filter of the switch, at once or not at all."""
        if not self._filters:
            lines = (*self._filter_table(), *lines)
        run(*self.switch.command("nft", "-f", "-"), given="\n".join(lines) + "\n")
        self._filters = True

    def _filter_table(self) -> Iterator[str]:
        # Made when it is first needed, so that packets do not pass it before.
        yield "add table bridge lab"
        yield "add chain bridge lab forward { type filter hook forward priority 0; }"
        for host in self.hosts:
            for direction in ("egress", "ingress"):
                chain = f"{host.label}-{direction}"
                yield f"add chain bridge lab {chain}"
                yield f"add counter bridge lab {chain}-seen"
                yield f"add counter bridge lab {chain}-dropped"
        for direction, match in (("egress", "iifname"), ("ingress", "oifname")):
            for host in self.hosts:
                for port in (host.label, f"b{host.number}"):
                    yield f"add rule bridge lab forward {match} {port} jump {host.label}-{direction}"

    def _count(self, counter: str) -> Count:
        if not self._filters:
            return Count(0, 0)
        shown = json.loads(run(*self.switch.command("nft", "-j", "list", "counter", "bridge", "lab", counter)))
        found = next(item["counter"] for item in shown["nftables"] if "counter" in item)
        return Count(found["packets"], found["bytes"])


if sys.platform != "linux":
    raise ImportError("the lab needs Linux")
