"""What probes say of round trips, loss and reachability, against what the lab did to the packets."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from agent import NOBODY, Agent, agent
from lab import Hold, Host, Lab

import netmon

PORT = 5000

# Long enough for any answer on a busy machine, and over before the kernel repeats a SYN.
TIMEOUT = 0.8

MakeLab = Callable[..., Lab]


def serve(host: Host, program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a Python program in a host that prints a line when it is ready."""
    running = host.start(sys.executable, "-c", program, *arguments, stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def listen(host: Host) -> None:
    serve(
        host,
        "import socket, sys\n"
        "with socket.create_server(('', int(sys.argv[1])), backlog=1024) as server:\n"
        "    print('ready', flush=True)\n"
        "    while True: server.accept()[0].close()",
        str(PORT),
    )


def respond(host: Host) -> Agent:
    """Start a monitor that answers UDP echoes; it ends with the lab."""
    return Agent(host, interval=60, udp_responder={"address": host.address})


def addresses_of(host: Host, count: int) -> list[str]:
    """Give a host more addresses."""
    addresses = [f"198.18.{100 + host.number}.{i}" for i in range(1, count + 1)]
    for address in addresses:
        host.ip("address", "add", f"{address}/32", "dev", host.interface)
    return addresses


def until(monitor: Agent, what: str, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    """Wait until something holds of the probes of a monitor, and return them."""
    deadline = time.monotonic() + 30
    while not holds(found := monitor.probes()):
        assert time.monotonic() < deadline, f"not within 30 s: {what}: {json.dumps(found, indent=1)}"
        time.sleep(0.02)
    return found


def probe(target: str, count: int, timeout: float = TIMEOUT) -> str:
    return f"monitor.probe({target!r}, {count}, timeout={timeout}).to_dict()"


# Of each method the target, and what of its traffic is one packet a probe, there and back.
METHODS = {
    "icmp": ("icmp://{}", "icmp type echo-request", "icmp type echo-reply"),
    "tcp": (f"tcp://{{}}:{PORT}", "tcp flags & (syn | ack) == syn", None),  # a lost answer is sent again and again
    "udp": ("udp://{}", "meta l4proto udp", "meta l4proto udp"),
}


@pytest.mark.parametrize(("every", "count"), [(10, 40), (1, 3)])
def test_loss_is_what_was_dropped(make_lab: MakeLab, every: int, count: int) -> None:
    here, *hosts = make_lab(4, ipv6=False).hosts
    listen(hosts[1])
    respond(hosts[2])
    with agent(here, interval=60) as monitor:
        for way in (1, 2):
            measured = []
            for host, (target, *matches) in zip(hosts, METHODS.values(), strict=True):
                match, direction = matches[way - 1], (host.ingress, host.egress)[way - 1]
                if match is not None:
                    direction.lose(every=every, only=match)
                    measured.append(
                        (direction, target.format(host.address), direction.seen().packets, direction.dropped().packets)
                    )
            calls = ", ".join(f"lambda: {probe(target, count)}" for _, target, _, _ in measured)
            for found, (direction, target, seen, dropped) in zip(monitor.ask(f"together({calls})"), measured, strict=True):
                direction.lose_nothing()
                assert direction.seen().packets - seen == count, (direction, target)
                assert direction.dropped().packets - dropped == count // every, (direction, target)
                assert (found["sent"], found["lost"], found["received"]) == (count, count // every, count - count // every), (
                    found
                )
                assert found["loss_ratio"] == pytest.approx(1 / every)
                if every == 1:
                    assert found["rtt_p50_seconds"] is None, "a dead target has no round trip, least of all one of 0"
                    assert "no answer" in found["error"]


def test_loss_in_the_background_is_what_was_dropped(make_lab: MakeLab) -> None:
    here, *hosts = make_lab(4, ipv6=False).hosts
    listen(hosts[1])
    respond(hosts[2])
    targets = [target.format(host.address) for host, (target, _, _) in zip(hosts, METHODS.values(), strict=True)]
    with agent(here, interval=0.1, targets=targets, probe_interval=0.02, probe_timeout=TIMEOUT) as monitor:
        until(monitor, "all answer", lambda found: all(found[target]["received"] for target in targets))
        for host, (_, match, _) in zip(hosts, METHODS.values(), strict=True):
            host.ingress.lose(every=10, only=match)
        until(monitor, "all lose", lambda found: all(found[target]["lost"] > 3 for target in targets))
        for host in hosts:
            host.ingress.lose_nothing()
        dropped = {target: host.ingress.dropped().packets for target, host in zip(targets, hosts, strict=True)}
        answers = {target: probe["received"] for target, probe in monitor.probes().items()}
        found = until(
            monitor,
            "what was under way then has ended",
            lambda found: all(found[target]["received"] > answers[target] + 2 * TIMEOUT / 0.02 for target in targets),
        )
        assert {target: found[target]["lost"] for target in targets} == dropped

        # The snapshot sums up all targets of the loop's newest sample.
        newest, snapshot = None, {"sequence": 0}
        while newest is None or newest["sequence"] != snapshot["sequence"]:
            names = ("sequence", "loss_ratio", "rtt_p50_ns")
            read = f"(lambda s: {{name: getattr(s, name) for name in {names}}})(monitor.latest())"
            snapshot, newest = monitor.ask(f"[{read}, monitor.history(seconds=2)[-1].to_dict()]")
        sent, lost = (sum(probe[name] for probe in newest["probes"]) for name in ("sent", "lost"))
        assert snapshot["loss_ratio"] == pytest.approx(lost / sent)
        medians = sorted(probe["rtt_p50_seconds"] for probe in newest["probes"])
        assert medians[0] <= snapshot["rtt_p50_ns"] / 1e9 <= medians[-1]


def test_prober_that_does_not_run_blames_nobody(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    listen(there)
    respond(there)
    stopped, timeout = 0.4, 0.2
    with agent(here, interval=60) as monitor:
        targets = [target.format(there.address) for target, _, _ in METHODS.values()]
        calls = ", ".join(f"lambda: {probe(target, 100, timeout)}" for target in targets)
        monitor.tell(f"together({calls})")
        for _ in range(5):
            time.sleep(0.1)  # some probes go out; when does not matter
            here.freeze([monitor.process.pid])
            time.sleep(stopped)  # longer than a probe may take
            here.thaw([monitor.process.pid])
        for found in monitor.answer():
            assert (found["sent"], found["received"], found["lost"], found["error"]) == (100, 100, 0, None)
            assert found["rtt_p99_seconds"] < timeout / 4, "the time of a process that was stopped is not the network's"


def held(there: list[Hold], back: list[Hold], protocol: int) -> float:
    """Return the median of the seconds that a protocol's packets were held, there and back together."""
    first_of = {1: 8, 6: 2, 17: 0}, {1: 0, 6: 0x12, 17: 0}
    ways = [
        [packet.seconds for packet in packets if packet.protocol == protocol and packet.kind == kinds[protocol]]
        for packets, kinds in zip((there, back), first_of, strict=True)
    ]
    return float(statistics.median(a + b for a, b in zip(*ways, strict=True)))


def test_round_trips_are_what_the_relay_held(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    listen(there)
    respond(there)
    count, added = 25, 0.010
    with agent(here, interval=60) as monitor:
        targets = {name: target.format(there.address) for name, (target, _, _) in METHODS.items()}
        calls = ", ".join(f"lambda: {probe(target, count)}" for target in targets.values())
        idle = monitor.ask(f"together({calls})")
        there.ingress.delay(added)
        delayed = monitor.ask(f"together({calls})")
    packets = there.ingress.holds(), there.egress.holds()
    for method, protocol, before, after in zip(targets, (1, 6, 17), idle, delayed, strict=True):
        assert (after["sent"], after["received"], after["method"]) == (count, count, method)
        right = held(*packets, protocol) + before["rtt_p50_seconds"]
        assert right > added
        assert after["rtt_p50_seconds"] == pytest.approx(right, rel=0.01, abs=20e-6), method


# Answers every question with NXDOMAIN.
NO_SUCH_NAME = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", 53))
    print("ready", flush=True)
    while True:
        question, asker = s.recvfrom(2048)
        end = question.index(0, 12) + 5
        s.sendto(question[:2] + bytes([0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]) + question[12:end], asker)
"""


def test_unreachable_targets_say_what_they_are_and_delay_nobody(make_lab: MakeLab) -> None:
    here, alive, dead, names, lost = make_lab(5, ipv6=False).hosts
    serve(names, NO_SUCH_NAME)
    silent = addresses_of(dead, 20)
    dead.ingress.black_hole()
    alive.sysctl("net.ipv4.icmp_ratelimit", 0)
    here.set_dns([names.address])
    here.ip("route", "add", "unreachable", "203.0.113.0/24")
    lost.set_dns([dead.address], options="timeout:1 attempts:1")
    ports = range(3000, 3020)
    kinds = {
        "no answer within 0.3 s": [f"icmp://{address}" for address in silent],
        "no answer": [f"tcp://{address}:{PORT}" for address in silent],
        "no responder at port": [f"udp://{alive.address}:{port}" for port in ports],
        "no route to host": [f"icmp://203.0.113.{i}" for i in range(1, 21)],
        "network is unreachable": [f"tcp://192.0.2.{i}:{PORT}" for i in range(1, 21)],
        "name does not resolve": [f"nobody{i}.example" for i in range(1, 21)],
    }
    refused = [f"tcp://{alive.address}:{port}" for port in ports]
    unnamed = {f"resolver {dead.address} did not answer": [f"dns://nobody{i}.example" for i in range(1, 21)]}
    targets = [target for some in kinds.values() for target in some]
    settings: dict[str, Any] = {"interval": 0.05, "probe_interval": 0.5, "probe_timeout": 0.3}
    with (
        agent(here, **settings) as quiet,
        agent(here, **settings, targets=[*targets, *refused, alive.address]) as monitor,
        agent(lost, **settings, targets=unnamed[f"resolver {dead.address} did not answer"]) as unresolved,
    ):

        def told(kinds: dict[str, list[str]]) -> Callable[[dict[str, dict[str, Any]]], bool]:
            return lambda found: all(word in (found[t]["error"] or "") for word, some in kinds.items() for t in some)

        slowest = dict.fromkeys(("sample", "latest"), 0.0)
        found = until(monitor, "each says what it is", told(kinds))
        for running in (monitor, unresolved):
            for name in slowest:
                slowest[name] = max(slowest[name], running.ask(f"slowest(monitor.{name}, 100)"))
        until(unresolved, "each says who did not answer", told(unnamed))
        found = until(monitor, "refusals are round trips", lambda found: all(found[target]["received"] for target in refused))
        assert max(slowest.values()) < 1, slowest
        sampled = [len(a.history()) for a in (quiet, monitor)]
        assert sampled[1] > sampled[0] / 3, "who cannot be reached keeps the loop from sampling"
        for target in targets:
            assert found[target]["received"] == 0, target
            assert found[target]["rtt_p50_seconds"] is None, target
        for target in refused:
            assert (found[target]["method"], found[target]["error"], found[target]["lost"]) == ("tcp_refused", None, 0)
            assert found[target]["rtt_p50_seconds"] > 0
        assert (found[alive.address]["lost"], found[alive.address]["error"]) == (0, None)


def test_target_that_changes_its_address(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    before = there.address
    with agent(here, interval=60, targets=["icmp://h2"], probe_interval=0.05, probe_timeout=0.3) as monitor:
        found = until(monitor, "it answers", lambda found: found["icmp://h2"]["received"] > 5)
        assert found["icmp://h2"]["address"] == before
        there.change_address("198.18.7.7")
        found = until(
            monitor, "it is lost", lambda found: found["icmp://h2"]["lost"] > 0 or found["icmp://h2"]["address"] != before
        )
        found = until(
            monitor,
            "it answers at its new address",
            lambda found: found["icmp://h2"]["address"] == "198.18.7.7" and found["icmp://h2"]["received"] > 0,
        )
        assert found["icmp://h2"]["lost"] == 0, "what the old address lost is not the new one's"
        assert found["icmp://h2"]["error"] is None


def test_interface_goes_down_and_comes_back(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    listen(there)
    respond(there)
    targets = [target.format(there.address) for target, _, _ in METHODS.values()]

    def answering(found: dict[str, dict[str, Any]]) -> bool:
        return all(found[target]["received"] and found[target]["error"] is None for target in targets)

    with agent(here, interval=0.05, targets=targets, probe_interval=0.05, probe_timeout=0.3) as monitor:
        until(monitor, "all answer", answering)
        for down, up, word in ((here.down, here.up, "network is unreachable"), (there.unplug, there.plug, "no answer")):
            before = monitor.ask("monitor.latest().sequence")
            down()

            def telling(found: dict[str, dict[str, Any]], word: str = word) -> bool:
                return all(word in (found[target]["error"] or "") for target in targets)

            until(monitor, f"all say {word}", telling)
            assert monitor.ask("slowest(monitor.sample, 20)") < 1
            up()
            until(monitor, "all answer again", answering)
            assert monitor.ask("monitor.latest().sequence") > before


def test_without_permission_for_icmp(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    here.sysctl("net.ipv4.ping_group_range", "1 0")  # nobody
    listen(there)
    with agent(here, user=NOBODY, interval=60) as monitor:
        refused, accepted, insisting = (
            monitor.ask(probe(target, 3)) for target in (there.address, f"{there.address}:{PORT}", f"icmp://{there.address}")
        )
    for found, method in ((refused, "tcp_refused"), (accepted, "tcp")):
        assert (found["method"], found["received"], found["lost"], found["error"]) == (method, 3, 0, None)
        assert found["methods_refused"] == {"icmp": "permission denied: needs CAP_NET_RAW or ping_group_range"}
    assert insisting["received"] == 0
    assert insisting["error"] == "permission denied: needs CAP_NET_RAW or ping_group_range"


# Prints how many bytes came for each of the packets of one kind, and how long all of it took.
ATTACK = """
import json, os, socket, struct, sys, time
host, spoofed = sys.argv[1:]
def question(sequence, kind=1, version=1):
    return struct.pack("!IBBHQQQ16x", 0x6E6D6F6E, version, kind, 0, 7, sequence, 0)
def exchange(packets, silence=0.3):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        s.connect((host, 29541))
        s.settimeout(silence)
        began, sizes = time.monotonic(), []
        for packet in packets:
            s.send(packet)
        try:
            while True:
                sizes.append(len(s.recv(65536)))
        except TimeoutError:
            return {"sent": sum(map(len, packets)), "sizes": sizes, "seconds": time.monotonic() - began}
def spoof(packets):
    udp = [struct.pack("!HHHH", 4000, 29541, 8 + len(packet), 0) + packet for packet in packets]
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for packet in udp:
            s.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(packet), 0, 0, 64, 17, 0, socket.inet_aton(spoofed),
                                 socket.inet_aton(host)) + packet, (host, 0))
    return {"sent": sum(14 + 20 + len(packet) for packet in udp), "seconds": time.monotonic() - began}
garbage = [b"", b"x", question(1)[:47], question(1) + b"x", bytes(1400), os.urandom(48)]
garbage += [question(1, kind=2), question(1, kind=9), question(1, version=7)]
print(json.dumps({
    "one": exchange([question(1)]),
    "garbage": exchange(garbage * 20),
    "one more": exchange([question(2)]),
    "flood": exchange([question(i) for i in range(5000)]),
    "spoofed": spoof([question(i) for i in range(5000)]),
}))
"""


def test_responder_under_attack(make_lab: MakeLab) -> None:
    attacker, there, victim = make_lab(3, ipv6=False).hosts
    with (
        agent(there, interval=0.05, udp_responder={"address": there.address}) as responder,
        agent(victim, interval=60) as monitor,
    ):
        before = victim.link_counters()["rx"]
        began = time.monotonic()
        done = attacker.run(sys.executable, "-c", ATTACK, there.address, victim.address)
        found = json.loads(done.stdout)
        for name in ("one", "one more"):
            assert found[name]["sizes"] == [48], name
        assert found["garbage"]["sizes"] == []
        most, a_second = 100, 500  # answers to one address: at once, and from then on
        flood = found["flood"]
        assert set(flood["sizes"]) == {48}, "an answer is as long as the question"
        assert 0 < len(flood["sizes"]) <= most + a_second * flood["seconds"]

        # The responder has read all that it will when it answers again.
        deadline = time.monotonic() + 10
        while monitor.ask(probe(f"udp://{there.address}", 1, 0.2))["received"] == 0:
            assert time.monotonic() < deadline
        gone = time.monotonic() - began
        after = victim.link_counters()["rx"]
        assert 0 < after["packets"] - before["packets"] <= most + a_second * gone
        assert after["bytes"] - before["bytes"] <= found["spoofed"]["sent"]

        assert responder.ask("monitor.health().status") == "ok"
        assert responder.ask("slowest(monitor.sample, 20)") < 1
        calm = monitor.ask(probe(f"udp://{there.address}", 5))
        assert (calm["received"], calm["lost"], calm["error"]) == (5, 0, None)


def test_responder_that_stops_and_goes_on(make_lab: MakeLab) -> None:
    here, there = make_lab(2, ipv6=False).hosts
    responder = respond(there)
    udp, icmp = f"udp://{there.address}", f"icmp://{there.address}"
    with agent(here, interval=60, targets=[udp, icmp], probe_interval=0.05, probe_timeout=0.3) as monitor:
        until(monitor, "both answer", lambda found: all(found[t]["received"] and not found[t]["lost"] for t in (udp, icmp)))
        there.freeze([responder.process.pid])
        frozen = until(monitor, "it is lost", lambda found: found[udp]["lost"] >= 5)
        assert frozen[udp]["error"] == "no answer within 0.3 s"
        assert (frozen[icmp]["lost"], frozen[icmp]["error"]) == (0, None), "the host is there, and answers for itself"
        there.thaw([responder.process.pid])
        thawed = until(monitor, "it answers again", lambda found: found[udp]["received"] >= frozen[udp]["received"] + 5)
        assert thawed[udp]["error"] is None
        # The questions that waited are answered now, too late: what was lost stays lost.
        assert thawed[udp]["lost"] >= frozen[udp]["lost"]
        assert thawed[udp]["rtt_p99_seconds"] < 0.3


def test_more_targets_than_there_may_be() -> None:
    with pytest.raises(netmon.ConfigError, match=r"targets.*500.*256"):
        netmon.Monitor(targets=[f"10.0.{i // 250}.{1 + i % 250}" for i in range(500)])
