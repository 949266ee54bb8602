// Package reach probes targets: it owns the probers of package probe and decides what is sent when, to whom and by which method.
//
// One goroutine, locked to a thread in the network namespace of the monitor, sends, waits in poll(2) for all answers at once and
// publishes what is known as an immutable set; it exists only while there is somebody to probe. Readers take the newest set and
// wait for nothing. Round trips are those the probers measured, loss is lost / sent over a window of 60 s, and what is under way
// is in neither. Needs no privilege; where a method does, another is chosen and the reason told.
package reach

import (
	"errors"
	"net/netip"
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/dns"
	"netmon/core/probe/path"
)

// Errors of requests.
var (
	ErrClosed  = errors.New("the monitor is closed")
	ErrBusy    = errors.New("16 requests are unfinished or not fetched; fetch or cancel one first")
	ErrBroken  = errors.New("internal error: nothing is probed any more")
	ErrUnknown = errors.New("is not the id of a request that is unfinished or not fetched")
)

// Plan says whom to probe in the background.
type Plan struct {
	Targets []Aim
	// Port is the TCP port for targets that name none, 0 for 7.
	Port     uint16
	Interval time.Duration
	Timeout  time.Duration
}

// Aim is one target of a plan.
type Aim struct {
	probe.Target
	Peer bool // a host of the job
	// Named marks a peer that somebody named too. The others are left out where they are this host, or another target has their
	// address.
	Named bool
}

// Results are what is known of all targets at one moment. They are not changed after they were published.
type Results struct {
	Targets []*Result // in the order of the plan
	// Of all targets' windows together.
	Sent, Lost, Received uint64
	P50                  float64 // seconds; holds when Received is not 0
}

// Result is what is known of one target. It is not changed after it was published.
type Result struct {
	Target  string            // verbatim
	Peer    bool              // another host of the job
	Address netip.Addr        // invalid: the name has not been resolved
	Port    uint16            // 0 where the method has none
	Method  probe.Method      // "" before the first probe
	Refused map[string]string // methods that did not work, each with the reason; empty for none
	Error   string            // why there is no answer, "" while answers come

	Sent, Received, Lost uint64        // probes of the window that ended; the rest holds when Sent is not 0
	Window               time.Duration // from the sending of its first probe to the end of its last
	Ended                time.Duration // when its last probe ended, monotonic

	// Seconds. They hold when Received is not 0, Jitter when it is above 1.
	Min, P50, P99, Last, Jitter float64
}

// Request asks for probes on demand.
type Request struct {
	probe.Target
	Path     bool // trace the path instead
	Count    int  // of probes, those of each hop for a path
	Timeout  time.Duration
	Interval time.Duration // at least, between two probes
}

// Answer is what is known of a request. It is not changed after it was published.
type Answer struct {
	ID   uint64
	Done bool // the id holds no longer
	*Result
	OfPath bool
	Path   *path.Result // of a request for the path, nil while that has not begun
}

// Tracer traces a path, as a path.Trace does.
type Tracer interface {
	Descriptors(set []probe.Descriptor) []probe.Descriptor
	Due() (at time.Duration, ok bool)
	Receive() (sent int)
	Done() bool
	Result() path.Result
	Close()
}

// Names looks names up, as a dns.Resolver does.
type Names interface {
	Lookup(name string, token uint64, timeout time.Duration)
	Descriptors(set []probe.Descriptor) []probe.Descriptor
	Due() (at time.Duration, ok bool)
	Receive(yield func(dns.Answer)) (sent int)
	Forget(token uint64)
	Close()
}

// Tools are what an engine sends with and asks. They are called by its goroutine, in the monitor's network namespace.
type Tools struct {
	Prober  func(probe.Method) (probe.Prober, error) // ICMP, TCP, UDP
	Names   func() Names
	Trace   func(path.Options) (Tracer, error)
	Gateway func() (netip.Addr, error)
	// Own are the addresses of this host, loopback aside.
	Own func() ([]netip.Addr, error)
}

// Options are what an engine is made of.
type Options struct {
	Clock clock.Clock
	Tools Tools
}
