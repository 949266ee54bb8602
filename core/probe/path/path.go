// Package path finds the way to an address: the routers on it, the round trip to each, and the longest packet that passes.
//
// A probe whose hop limit runs out is returned by the router that it ends at, with an ICMP error. Probes are ICMP echoes where the
// system allows ping sockets to this process, because the last host answers those best, else UDP datagrams to a port that nobody
// uses. All probes of a trace have the same ports or identifier, length and checksum, so that routers which share traffic out over
// several ways send them the same way, as "Paris traceroute" introduced it (Augustin et al., 2006).
//
// A router answers when it has time to, and most limit how often: an unanswered probe to a router is no loss of traffic through it,
// and its round trip includes its own leisure. Linux routers answer a host 6 times at once, then once a second.
//
// Source: ICMP time exceeded, destination unreachable (RFC 792, RFC 4443), read from the socket's error queue (ip(7) IP_RECVERR, since
// Linux 2.2); path MTU discovery (RFC 1191, RFC 8201), with IP_PMTUDISC_PROBE (since Linux 2.6.22). Needs no privilege.
package path

import (
	"net/netip"
	"time"

	"netmon/core/probe"
)

// Options are what to trace, and how.
type Options struct {
	Target   netip.Addr   // with a zone where it is link-local
	Method   probe.Method // Auto (the zero value too), ICMP or UDP
	PerHop   int          // probes to each hop, 0: 3
	MostHops int          // 0: 30
	Timeout  time.Duration
	Limit    time.Duration // of the whole trace, 0: 30 s
}

// Limits that no configuration lifts. The time between two probes is probe.LeastInterval.
const (
	MostPerHop   = 10
	MostHops     = 64
	mostLimit    = 5 * time.Minute
	mostAhead    = 8  // hops beyond the farthest that is known about
	mostUnderWay = 16 // probes; more than probe.MostOutstandingPerTo because most end at routers, not at the target
	mostMTUTries = 40 // probes that look for the longest packet: the only ones longer than probe.MostPayloadBytes
	mostOthers   = 4  // addresses of a hop beside its first
)

const (
	defaultPerHop  = 3
	defaultHops    = 30
	defaultTimeout = time.Second
	defaultLimit   = 30 * time.Second
)

// Result is what is known of a path.
type Result struct {
	Target netip.Addr
	Method probe.Method // ICMP or UDP
	NoICMP string       // why Method is UDP although the method was to be chosen
	// Hops are in the order of their hop limit, from 1, those that answered nothing among them: an unanswered one has no address.
	Hops    []Hop
	Reached bool // the last hop is the target
	// PathMTU is the longest packet that reaches the target, from its IP header on, 0 where that is not known; NoPathMTU says why then.
	PathMTU   int
	NoPathMTU string
	// BlackHole: longer packets than PathMTU get no answer, and no router says that they are too long.
	BlackHole bool
	// Err is why the target was not reached: an ICMP error that ended the path, or probe.ErrLost where nothing answered; or why the
	// trace was broken off: what the system said, probe.ErrVoid where the host process closed its socket.
	Err  error
	Done bool
}

// Hop is what answered to one hop limit.
type Hop struct {
	TTL            int
	Address        netip.Addr   // that answered first, invalid where none did
	Others         []netip.Addr // that answered besides: the way changed meanwhile, or traffic is shared out packet by packet
	Sent, Received int          // probes; one under way is not in Sent
	// MinRTT and P50RTT hold when Timed is not 0.
	MinRTT, P50RTT time.Duration
	Timed          int   // round trips that they are of
	Err            error // an ICMP error other than that the hop limit ran out, which ends the path here
}
