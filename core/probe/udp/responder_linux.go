package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe/stamp"
)

// Responder answers questions. All but Serve may be called from any goroutine at any time.
type Responder struct {
	clock  clock.Clock
	socket *stamp.Socket
	at     netip.AddrPort

	mu      sync.Mutex // guards what follows, and the socket's descriptor from being closed twice
	serving bool
	closed  bool

	answered, garbage, limited, failed atomic.Uint64
	cpu                                atomic.Int64 // nanoseconds
}

// Listen opens a responder at an address of this host, in the calling thread's network namespace. 0.0.0.0 stands for all IPv4
// addresses, :: for all addresses. Port 0 chooses a port.
//
// Errors: EADDRINUSE where something listens there already, and what else bind(2) says.
func Listen(at netip.AddrPort) (*Responder, error) {
	ip := at.Addr().Unmap()
	family := unix.AF_INET
	if ip.Is6() {
		family = unix.AF_INET6
	}
	socket, err := stamp.OpenReceiving(family, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open a socket for UDP: %w", err)
	}
	address := stamp.Address{IP: ip, Port: at.Port()}
	if !ip.IsUnspecified() {
		address, err = socket.Address(netip.AddrPortFrom(ip, at.Port()))
	}
	if err == nil {
		err = socket.Bind(address)
	}
	if err == nil {
		address, err = socket.Local()
	}
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("listen at %s: %w", at, err)
	}
	return &Responder{clock: clock.System(), socket: socket, at: netip.AddrPortFrom(ip, address.Port)}, nil
}

// Addr is where the responder listens.
func (r *Responder) Addr() netip.AddrPort { return r.at }

// Counters are what it has done.
func (r *Responder) Counters() Counters {
	return Counters{
		Answered: r.answered.Load(), Garbage: r.garbage.Load(), Limited: r.limited.Load(), Failed: r.failed.Load(),
		CPU: time.Duration(r.cpu.Load()),
	}
}

// Close ends Serve, soon; it does not wait for that. Where the host process has closed the socket before, it is up to a second.
func (r *Responder) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	switch {
	case !r.serving:
		r.socket.Close()
	case r.socket.Owned():
		// Serve may be using the descriptor, and closes it. This wakes it up, though it says that nothing is connected.
		_ = unix.Shutdown(r.socket.Number(), unix.SHUT_RD)
	}
}

// lookAgain is how often Serve looks whether the socket is still its own when nothing comes.
const lookAgain = time.Second

// Serve answers questions until Close. Its caller gives it a goroutine, with a thread of its own (runtime.LockOSThread), whose CPU time
// is counted.
//
// Errors: kernelfs.ErrForeign after the host process closed the socket; then Listen has to be called again, by a thread that is in
// the right network namespace.
func (r *Responder) Serve() error {
	r.mu.Lock()
	if r.closed || r.serving {
		r.mu.Unlock()
		return nil
	}
	r.serving = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.closed = true
		r.socket.Close()
		r.mu.Unlock()
	}()
	s := session{Responder: r, limits: newLimiter(), last: stamp.Now(r.clock)}
	set := []unix.PollFd{{Fd: int32(r.socket.Number()), Events: unix.POLLIN}}
	timeout := unix.NsecToTimespec(int64(lookAgain))
	began, timed := clock.ThreadCPU()
	for {
		wait := timeout
		if _, err := unix.Ppoll(set, &wait, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("udp: wait for questions: %w", err)
		}
		if r.isClosed() {
			return nil
		}
		if !r.socket.Owned() {
			return kernelfs.ErrForeign
		}
		all := s.answerAll()
		if now, ok := clock.ThreadCPU(); ok && timed {
			r.cpu.Store(int64(now - began))
		}
		if !all {
			clock.Sleep(pause)
		}
	}
}

func (r *Responder) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// session is what Serve needs.
type session struct {
	*Responder
	limits *limiter
	intake bucket
	last   stamp.Moment // when the last packet was looked at
	packet [messageBytes]byte
}

const (
	mostPerTurn = 64
	pause       = 10 * time.Millisecond // after which a tenth of a burst is there again
)

// answerAll answers what has come, or some of it; false when that was more than is read at all.
func (s *session) answerAll() bool {
	for range mostPerTurn {
		packet, err := s.socket.Receive()
		if err != nil {
			return true
		}
		woke := s.clock.Monotonic()
		if !s.intake.take(woke, time.Second/packetsPerSecond, burstOfPackets) {
			s.limited.Add(1)
			return false
		}
		m, ok := parse(packet.Data)
		switch {
		case !ok || !packet.Whole || m.kind != question || packet.From.Port == 0:
			s.garbage.Add(1)
		case !s.limits.allow(packet.From.IP, woke):
			s.limited.Add(1)
		default:
			s.answer(m, &packet, woke)
		}
	}
	return true
}

// answer answers a question. The last thing before sending is to look at the clock.
func (s *session) answer(m message, packet *stamp.Packet, woke time.Duration) {
	m.kind, m.dwell = answer, 0
	now := stamp.Now(s.clock)
	switch {
	case packet.Received == 0 && !s.socket.Stamped():
		m.dwell = now.Monotonic - woke
	case packet.Received == 0, stamp.Stepped(s.last, now):
		m.dwell = -1
	default:
		m.dwell = time.Duration(now.Wall - packet.Received)
	}
	s.last = now
	m.put(&s.packet)
	if err := s.socket.Reply(s.packet[:], packet); err != nil {
		s.failed.Add(1)
	} else {
		s.answered.Add(1)
	}
}
