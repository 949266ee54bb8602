package throughput

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
)

// connection carries bytes of a flow.
type connection struct {
	socket kernelfs.Descriptor
	shut   bool // all was sent
	over   bool // the other end has closed it
}

// flow is one direction of a test at one end.
type flow struct {
	clock       clock.Clock
	sends       bool
	connections []*connection
	duration    time.Duration
	left        uint64 // that may be sent
	buffer      []byte

	began       time.Duration
	first, last time.Duration // when the first and last byte moved; hold when bytes is not 0
	bytes       uint64
	resent      uint64
	rtt         time.Duration // of the sender, 0: not known
	sentAll     bool          // the sender has ended, and the other end has not yet
	endedAt     time.Duration
	over        bool
	err         error // what ended it early
}

// chunk is what one system call moves at most; perTurn is how many of them one connection gets before the next.
const (
	sendChunk    = 256 << 10
	receiveChunk = 1 << 20
	perTurn      = 4
)

func newFlow(clk clock.Clock, sends bool, connections []*connection, duration time.Duration, bytes uint64) *flow {
	f := &flow{clock: clk, sends: sends, connections: connections, duration: duration, left: bytes, began: clk.Monotonic()}
	if !sends {
		f.buffer = make([]byte, receiveChunk)
		return f
	}
	// Nothing on the way can compress it.
	f.buffer = make([]byte, sendChunk)
	x := uint64(0x9e3779b97f4a7c15)
	for i := range f.buffer {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		f.buffer[i] = byte(x)
	}
	return f
}

// poll appends what to wait for.
func (f *flow) poll(set []unix.PollFd) []unix.PollFd {
	for _, c := range f.connections {
		events := int16(unix.POLLIN)
		if f.sends && !c.shut {
			events = unix.POLLOUT
		}
		if !c.over {
			set = append(set, unix.PollFd{Fd: int32(c.socket.Number()), Events: events})
		}
	}
	return set
}

// turn moves what can be moved.
func (f *flow) turn() {
	if f.over {
		return
	}
	if f.sends {
		f.transmit()
	} else {
		f.receive()
	}
	f.over = f.over || f.err != nil
}

func (f *flow) moved(n int) {
	f.last = f.clock.Monotonic()
	if f.bytes == 0 {
		f.first = f.last
	}
	f.bytes += uint64(n)
}

func (f *flow) transmit() {
	now := f.clock.Monotonic()
	if f.bytes == 0 {
		f.first = now // what is sent begins here
	}
	if !f.sentAll && (now-f.began >= f.duration || f.left == 0) {
		_, f.rtt = info(f.connections)
		for _, c := range f.connections {
			if c.socket.Owned() {
				_ = unix.Shutdown(c.socket.Number(), unix.SHUT_WR)
			}
			c.shut = true
		}
		f.sentAll, f.endedAt = true, now
	}
	waiting := 0
	for _, c := range f.connections {
		switch {
		case c.over:
		case c.shut:
			// The other end closes when it has got everything, or has waited long enough.
			var none [16]byte
			if _, err := receive(&c.socket, none[:], 0); err != nil && !later(err) {
				c.over = true
				continue
			}
			waiting++
		default:
			waiting++
			f.fill(c)
		}
	}
	if waiting == 0 || f.sentAll && now-f.endedAt > f.duration+2*drain {
		f.resent, _ = info(f.connections)
		f.over = true
	}
}

// fill sends on one connection until it takes no more.
func (f *flow) fill(c *connection) {
	for range perTurn {
		if f.left == 0 {
			return
		}
		n, err := send(&c.socket, f.buffer[:min(uint64(len(f.buffer)), f.left)])
		switch {
		case later(err):
			return
		case err != nil:
			f.err = fmt.Errorf("the connection broke after %.1f s: %w", (f.clock.Monotonic() - f.began).Seconds(), err)
			return
		}
		f.last = f.clock.Monotonic()
		f.bytes += uint64(n)
		f.left -= uint64(n)
		if f.last-f.began >= f.duration {
			return
		}
	}
}

func (f *flow) receive() {
	waiting := 0
	for _, c := range f.connections {
		if c.over {
			continue
		}
		waiting++
		for range perTurn {
			// MSG_TRUNC: the kernel drops the bytes instead of copying them (tcp(7), recv(2)).
			n, err := receive(&c.socket, f.buffer, unix.MSG_TRUNC)
			if later(err) {
				break
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					f.err = fmt.Errorf("the connection broke after %.1f s: %w", (f.clock.Monotonic() - f.began).Seconds(), err)
				}
				c.over = true
				waiting--
				break
			}
			f.moved(n)
			if f.bytes > MostBytes {
				f.over = true
				return
			}
		}
	}
	now := f.clock.Monotonic()
	switch {
	case waiting == 0:
		f.over = true
	case f.bytes == 0 && now-f.began > silence, f.bytes > 0 && now-f.last > silence:
		f.err = fmt.Errorf("nothing came for %.0f s", silence.Seconds())
	case f.bytes > 0 && now-f.first > f.duration+drain:
		f.over = true // what is still under way is on a queue that somebody else's packets fill too
	}
}

// close closes the connections.
func (f *flow) close() {
	for _, c := range f.connections {
		c.socket.Close()
	}
}

// lasted is the time between the first and the last byte.
func (f *flow) lasted() time.Duration {
	if f.bytes == 0 {
		return 0
	}
	return f.last - f.first
}
