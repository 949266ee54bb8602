// Package throughput is netmon's own test of throughput between two of its instances: one serves, the other measures.
//
// The asking end opens a control connection and up to 8 data connections to the server; bytes go one way at a time for a bounded
// time, and what the receiving end saw is the figure: bytes / (last byte - first byte). The sender adds what its kernel retransmitted
// and its smoothed round trip. Limits are constants of this package that both ends enforce; a server serves one test at a time and
// rests afterwards for as long as the test took. Sockets bear probe.SocketMark.
//
// Source: tcp(7) TCP_INFO, recv(2) MSG_TRUNC (the receiver's kernel drops the bytes without copying them). Needs no privilege. Linux;
// elsewhere both ends say errors.ErrUnsupported.
package throughput

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"netmon/core/tool"
)

// DefaultPort is a server's TCP port where none is named.
const DefaultPort = 29542

// Hard limits of the traffic. No configuration lifts them, and each end holds to them whatever the other asks for.
const (
	LeastDuration   = 100 * time.Millisecond
	MostDuration    = 10 * time.Second
	MostBytes       = 16 << 30
	MostConnections = 8
)

// What the ends are patient with.
const (
	// helloTime is how long a guest may take to say what it wants, and to open its data connections.
	helloTime = 2 * time.Second
	// drain is how long the receiver goes on after the duration: what fills the queues on the way is still on its way then.
	drain = time.Second
	// silence is how long a receiver that gets nothing at all waits.
	silence = 5 * time.Second
	// leastFigure is the least time from the first byte to the last that makes a rate. In less, what counts is how the bytes lay in
	// buffers, and that those which came first are counted but not timed.
	leastFigure = 10 * time.Millisecond
	// slice bounds each wait, so that whoever stops a test is heard soon.
	slice = 20 * time.Millisecond
)

// Request is what to measure.
type Request struct {
	To          netip.AddrPort
	Directions  []tool.Direction // one after the other
	Duration    time.Duration    // of each
	Bytes       uint64           // to send at most in each
	Connections int
	Timeout     time.Duration // of everything
	Stop        func() bool   // tells that nobody wants it any more
}

// Errors of Measure, each in a sentence that says more.
var (
	ErrRefused   = errors.New("no netmon there answers bandwidth tests")
	ErrBusy      = errors.New("the server is busy")
	ErrNoServer  = errors.New("what answers there is no bandwidth server of netmon")
	ErrVersion   = errors.New("the two ends speak different versions")
	ErrEndedHere = errors.New("this end gave up")
)

func errBusy(to netip.AddrPort, wait time.Duration) error {
	if wait <= 0 {
		return fmt.Errorf("%w: %s serves another test; it serves one at a time, try again later", ErrBusy, to)
	}
	return fmt.Errorf("%w: %s rests after its last test; try again in %.1f s", ErrBusy, to, wait.Seconds())
}

func errVersion(to netip.AddrPort, theirs uint16) error {
	return fmt.Errorf("%w: %s speaks version %d of netmon's test and this is version %d; install the same netmon on both",
		ErrVersion, to, theirs, version)
}

func errNoServer(to netip.AddrPort) error {
	return fmt.Errorf("%w: %s sent something else; name the port of a monitor with \"bandwidth_server\"", ErrNoServer, to)
}
