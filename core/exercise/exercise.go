// Package exercise runs tests of throughput that somebody asked for: netmon's own, iperf3 and speedtest-cli.
//
// One test at a time for all engines that share a Turn, each on a goroutine of its own that is locked to a thread in the monitor's
// network namespace and ends with the test. Whoever asked waits in slices, goes on waiting by the request's id, or cancels it.
// Closing the engine ends what is under way. A server for other hosts' tests is run too, where one is asked for. Nothing is
// started, and no packet sent, before somebody asks.
package exercise

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/tool"
)

// Errors of requests.
var (
	ErrClosed  = errors.New("the monitor is closed")
	ErrBusy    = errors.New("another bandwidth test of this process is under way; wait for it or cancel it")
	ErrUnknown = errors.New("is not the id of a test that is unfinished or not fetched")
)

// Tool is what measures.
type Tool string

// The tools.
const (
	Netmon    Tool = "netmon"
	IPerf3    Tool = "iperf3"
	Speedtest Tool = "speedtest-cli"
)

// Request is a test to run.
type Request struct {
	Tool       Tool
	Target     string     // verbatim, "" where the tool chooses
	Host       string     // of the target, without port
	Address    netip.Addr // what the host means where it is an address
	Port       uint16
	Directions []tool.Direction
	Duration   time.Duration // of each direction
	Bytes      uint64        // of each direction, at most; netmon's own test
	Parallel   int           // connections
	Program    string        // path or name of the tool's program, "" for its usual name
	Timeout    time.Duration // of everything
}

// Test is one direction of a test that ended. It is not changed after it was published.
type Test struct {
	Tool   Tool
	Target string
	Began  time.Time // wall clock
	tool.Result
}

// Answer is what is known of a request. It is not changed after it was published.
type Answer struct {
	ID    uint64
	Done  bool // the id holds no longer
	Tests []Test
}

// Turn lets one test run at a time. The zero value is ready; all engines of a process share one.
type Turn struct{ taken atomic.Bool }

func (t *Turn) take() bool { return t.taken.CompareAndSwap(false, true) }
func (t *Turn) leave()     { t.taken.Store(false) }

// Options are what an engine is made of.
type Options struct {
	Clock clock.Clock
	Turn  *Turn
	// Inside calls f on a thread in the monitor's network namespace, which lives at least as long as the calling goroutine.
	Inside func(f func()) error
	// Resolve looks a name up.
	Resolve func(name string, givenUp func() bool) ([]netip.Addr, error)
	// Spawn starts programs; nil where that cannot be done.
	Spawn tool.Spawn
	// Variable reads the environment that programs are searched in, and get some of.
	Variable func(name string) (value string, found bool)
}
