package throughput

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe/stamp"
)

// Server serves tests, one at a time. All but Serve may be called from any goroutine at any time.
type Server struct {
	clock clock.Clock
	at    netip.AddrPort
	cpu   atomic.Int64 // nanoseconds

	mu       sync.Mutex // guards what follows; Serve alone uses the listener while it runs
	serving  bool
	closed   bool
	listener kernelfs.Descriptor

	// Serve's own.
	guests  []*guest
	session *session
	rested  time.Duration // when the next test may begin
	deaf    time.Duration // until when nobody is accepted, because that failed
	set     []unix.PollFd
}

// guest has connected and not said yet what it wants.
type guest struct {
	line
	since time.Duration
}

// mostGuests is how many are listened to at once; another one replaces the oldest.
const mostGuests = 2 * (MostConnections + 1)

// session is a test.
type session struct {
	line
	agreed  message
	left    uint8 // directions to come, that of the flow included
	began   time.Duration
	waits   time.Duration // since when, for data connections
	waiting []*connection
	indices uint8 // of those that are there, as bits
	flow    *flow
}

// Listen opens a server at an address of this host, in the calling thread's network namespace. 0.0.0.0 stands for all IPv4 addresses,
// :: for all addresses. Port 0 chooses a port.
//
// Errors: EADDRINUSE where something listens there already, and what else bind(2) says.
func Listen(at netip.AddrPort, clk clock.Clock) (*Server, error) {
	ip := at.Addr().Unmap()
	socket, err := open(ip)
	if err != nil {
		return nil, err
	}
	fd := socket.Number()
	address := stamp.Address{IP: ip.WithZone("")}
	if !ip.IsUnspecified() {
		address, err = stamp.AddressFor(fd, netip.AddrPortFrom(ip, at.Port()))
	}
	if err == nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // ended tests leave TIME_WAIT behind
		if ip.Is6() {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		}
		var name unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: last4(ip)}
		if ip.Is6() {
			name = &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16(), ZoneId: address.Scope}
		}
		err = unix.Bind(fd, name)
	}
	const backlog = 32
	if err == nil {
		err = unix.Listen(fd, backlog)
	}
	port := at.Port()
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			switch n := name.(type) {
			case *unix.SockaddrInet4:
				port = uint16(n.Port)
			case *unix.SockaddrInet6:
				port = uint16(n.Port)
			}
		}
	}
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("listen at %s: %w", at, err)
	}
	return &Server{clock: clk, at: netip.AddrPortFrom(ip, port), listener: socket}, nil
}

// last4 are the bytes of an IPv4 address.
func last4(ip netip.Addr) (b [4]byte) {
	all := ip.As16()
	copy(b[:], all[12:])
	return b
}

// Addr is where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.at }

// CPU is the time that serving has used.
func (s *Server) CPU() time.Duration { return time.Duration(s.cpu.Load()) }

// Close ends Serve, soon; it does not wait for that. Where the host process has closed the socket before, it is up to a second.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed = true; !s.serving {
		s.listener.Close()
	} else if s.listener.Owned() {
		_ = unix.Shutdown(s.listener.Number(), unix.SHUT_RDWR) // which wakes Serve
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// lookAgain is how often Serve looks whether the socket is still its own when nobody comes.
const lookAgain = time.Second

// Serve serves tests until Close, and closes everything then. Its caller gives it a goroutine with a thread of its own
// (runtime.LockOSThread), whose CPU time is counted.
//
// Errors: kernelfs.ErrForeign after the host process closed the socket.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.closed || s.serving {
		s.mu.Unlock()
		return nil
	}
	s.serving = true
	s.mu.Unlock()
	defer s.leave()
	began, timed := clock.ThreadCPU()
	for !s.isClosed() {
		if !s.listener.Owned() {
			return kernelfs.ErrForeign
		}
		now := s.clock.Monotonic()
		most := lookAgain
		if s.session != nil || len(s.guests) > 0 || now < s.deaf {
			most = slice
		}
		s.set = s.set[:0]
		listening := now >= s.deaf
		if listening {
			s.set = append(s.set, unix.PollFd{Fd: int32(s.listener.Number()), Events: unix.POLLIN})
		}
		for _, g := range s.guests {
			s.set = append(s.set, unix.PollFd{Fd: int32(g.socket.Number()), Events: unix.POLLIN})
		}
		if t := s.session; t != nil {
			s.set = append(s.set, unix.PollFd{Fd: int32(t.socket.Number()), Events: unix.POLLIN})
			if t.flow != nil {
				s.set = t.flow.poll(s.set)
			}
		}
		wait(s.set, most)
		if s.isClosed() {
			return nil
		}
		if listening && s.set[0].Revents != 0 {
			s.accept()
		}
		s.hear()
		if s.session != nil && !s.session.turn(s.clock) {
			s.end()
		}
		if used, ok := clock.ThreadCPU(); ok && timed {
			s.cpu.Store(int64(used - began))
		}
	}
	return nil
}

func (s *Server) leave() {
	for _, g := range s.guests {
		g.socket.Close()
	}
	if s.session != nil {
		s.session.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.serving = true, false
	s.listener.Close()
}

// accept takes one guest.
func (s *Server) accept() {
	if !s.listener.Owned() {
		return
	}
	now := s.clock.Monotonic()
	fd, _, err := unix.Accept4(s.listener.Number(), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	switch {
	case later(err), errors.Is(err, unix.ECONNABORTED):
		return
	case err != nil: // no descriptor is left
		s.deaf = now + 100*time.Millisecond
		return
	}
	g := &guest{since: now}
	if g.socket, err = kernelfs.Own(fd); err != nil {
		return
	}
	stamp.Mark(fd)
	if len(s.guests) >= mostGuests {
		s.guests[0].socket.Close()
		s.guests = slices.Delete(s.guests, 0, 1)
	}
	s.guests = append(s.guests, g)
}

// hear finds out what guests want.
func (s *Server) hear() {
	now := s.clock.Monotonic()
	s.guests = slices.DeleteFunc(s.guests, func(g *guest) bool {
		m, whole, err := g.receive()
		switch {
		case err != nil, !whole && now-g.since > helloTime:
			g.socket.Close()
			return true
		case !whole:
			return false
		}
		if !s.welcome(g, m, now) {
			g.socket.Close()
		}
		return true
	})
}

// welcome does what a guest wants. False: the connection is of no more use.
func (s *Server) welcome(g *guest, m message, now time.Duration) bool {
	refusal := message{kind: kindAnswer, nonce: m.nonce, code: codeBusy}
	switch {
	case m.version != version:
		refusal.code = codeVersion
		_ = g.send(refusal)
		return false
	case m.kind == kindData:
		return s.session != nil && s.session.join(g, m)
	case m.kind != kindAsk, m.directions == 0:
		return false
	case s.session != nil:
		_ = g.send(refusal)
		return false
	case now < s.rested:
		refusal.rtt = s.rested - now
		_ = g.send(refusal)
		return false
	}
	agreed := m.limited()
	answer := agreed
	answer.kind, answer.code = kindAnswer, codeAgreed
	if g.send(answer) != nil {
		return false
	}
	s.session = &session{line: g.line, agreed: agreed, left: agreed.directions, began: now, waits: now}
	return true
}

// end ends the test, and begins the rest.
func (s *Server) end() {
	now := s.clock.Monotonic()
	s.rested = now + (now - s.session.began)
	s.session.close()
	s.session = nil
}

// direction is that of the flow that is on, or comes next.
func (t *session) direction() uint8 {
	if t.left&bitTransmit != 0 {
		return bitTransmit
	}
	return bitReceive
}

// join takes a data connection.
func (t *session) join(g *guest, m message) bool {
	bit := uint8(1) << m.index
	if m.nonce != t.agreed.nonce || m.directions != t.direction() || m.index >= t.agreed.connections || t.flow != nil || t.indices&bit != 0 {
		return false
	}
	t.indices |= bit
	t.waiting = append(t.waiting, &connection{socket: g.socket})
	return true
}

// turn goes on with the test; false: it is over.
func (t *session) turn(clk clock.Clock) bool {
	now := clk.Monotonic()
	// The asking end says nothing more on this connection: whatever comes is its end.
	if _, whole, err := t.receive(); whole || err != nil {
		return false
	}
	if t.flow == nil {
		switch {
		case len(t.waiting) == int(t.agreed.connections):
			t.flow = newFlow(clk, t.direction() == bitReceive, t.waiting, t.agreed.duration, t.agreed.bytes)
			t.waiting, t.indices = nil, 0
		default:
			return now-t.waits <= helloTime
		}
	}
	f := t.flow
	if f.turn(); !f.over {
		const most = MostDuration + 3*silence // whatever happens
		return now-f.began < most
	}
	f.close()
	result := message{
		kind: kindResult, nonce: t.agreed.nonce, directions: t.direction(), bytes: f.bytes, duration: f.lasted(), resent: f.resent, rtt: f.rtt,
	}
	if f.err != nil {
		result.code = codeFailed
	}
	t.left &^= t.direction()
	t.flow, t.waits = nil, now
	return t.send(result) == nil && f.err == nil && t.left != 0
}

func (t *session) close() {
	t.socket.Close()
	for _, c := range t.waiting {
		c.socket.Close()
	}
	if t.flow != nil {
		t.flow.close()
	}
}
