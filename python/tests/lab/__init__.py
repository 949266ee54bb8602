"""The network lab: hosts on a switch, with rates, losses, delays and faults that are set, and known, by the test.

Hosts are network namespaces. No packet leaves them, nothing of them stays, even when the process is killed, and any number of
labs can run at once. Needs root, iproute2, nftables and ethtool; a C compiler for delays.

    from lab import Lab

    with Lab(hosts=3, congestion_control="cubic") as lab:
        one, two, three = lab.hosts                       # or lab["h1"]
        one.run("ping", "-c", "1", two.address)           # 198.18.0.2; two.address6 is fd00:c612::2
        server = two.start("iperf3", "-s")                # a Popen; killed with the lab

        one.egress.limit_rate(100e6)                      # bits per second of whole Ethernet frames
        two.ingress.lose(every=10)                        # exactly every 10th packet; or ratio=0.01 at random
        two.ingress.dropped().packets                     # how many, exactly
        two.egress.black_hole()                           # one way only, silently
        three.ingress.delay(0.005, jitter_seconds=0.001)  # by a relay in user space
        three.ingress.holds()[0].seconds                  # that logs how long each packet was really held
        three.ingress.clear()                             # lifts rate, loss, black hole and delay

        with two.load(4): ...                             # busy processes
        two.freeze(); two.thaw()                          # SIGSTOP, SIGCONT to all processes of the host
        two.down(); two.up(); two.unplug(); two.plug()    # interface; carrier
        two.change_address("198.18.7.7")
        two.set_dns(["198.18.0.1"], names={"storage": "198.18.0.3"})
        two.link_counters()["tx"]["bytes"]                # ip -s link
        two.sysctl("net.ipv4.ping_group_range", "0 2147483647")

Each host's link has two directions, seen from the host: ``egress`` is what it sends, ``ingress`` what it gets. See Direction,
Host and Lab, docs/lab.md, and ``python -m lab --help``. ``veth_link()`` makes two namespaces joined by nothing but a veth link,
``namespace()`` one with only loopback.
"""

from lab.leftovers import LabError
from lab.namespaces import Link, Namespace, namespace, veth_link
from lab.network import Count, Direction, Host, Lab
from lab.relay import Hold, RelayCounts

__all__ = [
    "Count",
    "Direction",
    "Hold",
    "Host",
    "Lab",
    "LabError",
    "Link",
    "Namespace",
    "RelayCounts",
    "namespace",
    "veth_link",
]
