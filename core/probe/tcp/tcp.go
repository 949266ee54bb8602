// Package tcp probes by the beginning of a TCP handshake: a SYN, and how long its answer takes.
//
// Where the port accepts, the kernel has timed the handshake itself, whatever this process was doing meanwhile. Where it refuses,
// that is a round trip too, but one timed in user space around connect(2): probe.TCPRefused. The connection is reset instead of
// being completed, so the peer's program never hears of it: no connection to accept, none to read the end of, and no TIME_WAIT on
// either side. Only where this process gets no processor for 40 ms after the answer, the kernel completes the handshake first.
//
// Source: tcp(7) TCP_INFO, whose tcpi_rtt of a new connection is the time from SYN to SYN-ACK in µs; TCP_QUICKACK, SO_LINGER.
// Needs no privilege. Other systems than Linux have no TCP_INFO, and this package has no prober there.
package tcp

import (
	"fmt"
	"time"

	"netmon/core/probe"
)

// firstRepeat is when the kernel sends the SYN again, and the peer's kernel its answer (TCP_TIMEOUT_INIT, RFC 6298), but for how
// its timers are rounded. Whatever took longer may be the answer to another packet.
const firstRepeat = 990 * time.Millisecond

// handshake is what the kernel says of a connection (struct tcp_info).
type handshake struct {
	rtt     time.Duration // tcpi_rtt, 0: not told
	repeats uint32        // tcpi_total_retrans
	waiting bool          // tcpi_state: there was no answer yet
}

// roundTrip judges a handshake that took so long in user space.
func (h handshake) roundTrip(elapsed time.Duration) (time.Duration, error) {
	rtt := h.rtt
	if rtt == 0 { // kernels that only look like Linux
		rtt = elapsed
	}
	if h.repeats > 0 || rtt >= firstRepeat {
		return 0, fmt.Errorf("%w to the first SYN", probe.ErrLost)
	}
	return rtt, nil
}
