package path

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// socketCarrier sends probes by a ping socket or a UDP socket.
type socketCarrier struct {
	socket *stamp.Socket
	clock  clock.Clock
	to     stamp.Address
	ipv6   bool
	ttl    int // as set last
	buffer []byte
}

func openCarrier(f format, target netip.Addr, c clock.Clock) (carrier, error) {
	family, protocol, level := unix.AF_INET, 0, unix.SOL_IP
	if f.ipv6 {
		family, level = unix.AF_INET6, unix.SOL_IPV6
	}
	port := uint16(tracePort)
	if f.method == probe.ICMP {
		port, protocol = 0, unix.IPPROTO_ICMP
		if f.ipv6 {
			protocol = unix.IPPROTO_ICMPV6
		}
	}
	socket, err := stamp.Open(family, unix.SOCK_DGRAM, protocol)
	if errors.Is(err, fs.ErrPermission) && f.method == probe.ICMP {
		return nil, fmt.Errorf("%w: needs a group in ping_group_range", err)
	} else if err != nil {
		return nil, fmt.Errorf("open a socket: %w", err)
	}
	s := &socketCarrier{socket: socket, clock: c, ipv6: f.ipv6}
	if s.to, err = socket.Address(netip.AddrPortFrom(target, port)); err != nil {
		socket.Close()
		return nil, err
	}
	// Packets are neither split nor bound to what is known of the path. A kernel that refuses this says nothing of the path's MTU.
	option, probing := unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if f.ipv6 {
		option, probing = unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
		_ = unix.SetsockoptInt(socket.Number(), level, unix.IPV6_DONTFRAG, 1)
	}
	_ = unix.SetsockoptInt(socket.Number(), level, option, probing)
	return s, nil
}

func (s *socketCarrier) descriptor() int { return s.socket.Number() }

func (s *socketCarrier) owned() bool { return s.socket.Owned() }

func (s *socketCarrier) longest() int { return int(s.socket.Longest()) }

func (s *socketCarrier) close() { s.socket.Close() }

func (s *socketCarrier) send(f format, number uint16, ttl, size int) (l launch, err error) {
	if ttl != s.ttl {
		level, option := unix.SOL_IP, unix.IP_TTL
		if s.ipv6 {
			level, option = unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS
		}
		if err := unix.SetsockoptInt(s.socket.Number(), level, option, ttl); err != nil {
			return l, err
		}
		s.ttl = ttl
	}
	s.buffer = f.put(s.buffer, number, size)
	l.before = stamp.Now(s.clock)
	l.sent, l.key, err = s.socket.Send(s.buffer, s.to, l.before)
	l.bytes = f.ipHeader() + len(s.buffer)
	if f.method == probe.UDP {
		l.bytes += udpHeader
	}
	return l, err
}

const mostAtATime = 256 // answers

func (s *socketCarrier) receive(f format, yield func(arrival)) {
	s.socket.Events(func(e *stamp.Event) {
		switch {
		case e.Sent != 0:
			yield(arrival{event: stamped, key: e.Key, received: e.Sent})
		case e.To.IP == s.to.IP && e.To.Port == s.to.Port:
			if a, ours := s.understand(f, e); ours {
				yield(a)
			}
		}
	})
	for range mostAtATime {
		packet, err := s.socket.Receive()
		if err != nil {
			return
		}
		a := arrival{event: reached, by: s.to.IP, received: packet.Received}
		if packet.From.IP != s.to.IP {
			continue
		}
		if f.method == probe.ICMP {
			if a.number, a.known = f.reply(packet.Data); !a.known {
				continue
			}
		}
		yield(a) // of a datagram: somebody does use the port
	}
}

// understand says what an ICMP error means, if it is about a probe of this trace.
func (s *socketCarrier) understand(f format, e *stamp.Event) (a arrival, ours bool) {
	number, known, foreign := f.quoted(e.Payload())
	if foreign {
		return a, false
	}
	a = arrival{event: unreachable, number: number, known: known, received: e.Received, err: e.Err}
	if !e.Err.Here {
		a.by = e.Err.By
	}
	type message struct {
		ipv6       bool
		kind, code uint8
	}
	switch (message{e.Err.IPv6, e.Err.Type, e.Err.Code}) {
	case message{false, 11, 0}, message{true, 3, 0}:
		a.event = expired
	case message{false, 3, 4}, message{true, 2, 0}:
		a.event, a.mtu = tooBig, int(min(e.MTU, mostPacket6))
	case message{false, 3, 3}, message{true, 1, 4}:
		// Whose port it is says it: a firewall on the way may say so too.
		if f.method == probe.UDP && a.by == s.to.IP {
			a.event = reached
		}
	}
	return a, true
}
