// Package probe says what a probe of the network is: one packet, or one handshake, to an address, and the time until its answer.
//
// It holds what the methods share: the Prober each of them implements in a package of its own (icmp, tcp, udp, dns), how targets
// are written, and the hard limits that no configuration lifts. Package reach owns probers and decides what is sent when.
// The package itself sends nothing.
package probe

import (
	"errors"
	"net/netip"
	"time"
)

// Method is a way to measure a round trip.
type Method string

// The methods. TCPRefused is never asked for: it is what a TCP probe measured when the peer refused the connection.
const (
	Auto       Method = "auto"
	ICMP       Method = "icmp"
	TCP        Method = "tcp"
	TCPRefused Method = "tcp_refused"
	UDP        Method = "udp"
	DNS        Method = "dns"
)

// Hard limits of the traffic that probes make.
const (
	MostTargets          = 256                   // probed at a time
	LeastInterval        = 20 * time.Millisecond // between two probes of one target
	MostProbesPerSecond  = 1000                  // of one monitor, all targets together
	LeastTimeout         = 10 * time.Millisecond
	MostTimeout          = 60 * time.Second
	MostCount            = 1000 // probes that one request may ask for
	MostPayloadBytes     = 64   // of a probe, above IP and the header of its protocol; DNS questions are as long as their name
	MostRequestsAtATime  = 16   // probes on demand of one monitor
	MostOutstandingPerTo = 4    // probes under way to one target
)

// SocketMark is the TCP_USER_TIMEOUT, in milliseconds, of every TCP socket that netmon opens for itself. Nobody else sets just this value, so that
// whoever lists the process's connections (package tcpinfo) knows netmon's own, those of another monitor and of another copy of the
// library too. It is set before connect(2), and before listen(2), from where accepted sockets inherit it. All that netmon does with a
// socket is over long before it takes effect.
const SocketMark = 1296321

// Errors of a Result. Every other error is something that came instead of an answer, which counts as lost.
var (
	// ErrLost: the method itself found out that the probe was lost, as where only a repeated SYN got an answer.
	ErrLost = errors.New("no answer")
	// ErrVoid: something happened to this host while the probe was under way, and the probe tells nothing about the network: its
	// clock was stepped, or the process closed the socket. Neither lost nor a round trip.
	ErrVoid = errors.New("the probe was spoilt")
)

// Result is how one probe ended.
type Result struct {
	Token  uint64        // as given to Send
	Method Method        // how it was timed
	RTT    time.Duration // the round trip; holds when Err is nil
	Err    error         // what came instead of a round trip: an errno such as EHOSTUNREACH, wrapped in a sentence; ErrLost, ErrVoid
}

// Descriptor is something to wait for with poll(2).
type Descriptor struct {
	FD    int
	Write bool // until it can be written, else read
}

// Prober probes many addresses by one method. It never blocks, starts no goroutine on Linux, and is used by one goroutine, which
// waits for its descriptors.
type Prober interface {
	// Send sends one probe. Its end comes from Receive under the same token, which the caller never uses twice.
	// sent are the bytes it has put on the wire since the last call, from the IP header on: for this probe, and for earlier ones
	// after their Send had returned, as the end of a handshake.
	//
	// Errors: what the system says at once: EACCES or EPERM where the method needs a right, ENETUNREACH where there is no route.
	// Then nothing was sent, and no Result follows.
	Send(to netip.AddrPort, token uint64) (sent int, err error)
	// Descriptors appends what to wait for now.
	Descriptors(set []Descriptor) []Descriptor
	// Receive hands out what has come since the last call. Send may have found some of it, for which no descriptor wakes anybody
	// again: call Receive after sending and before waiting. yield must not use the Prober.
	Receive(yield func(Result))
	// Forget gives a probe up: it was lost, and an answer that comes later is dropped.
	Forget(token uint64)
	// Close closes the sockets.
	Close()
}
