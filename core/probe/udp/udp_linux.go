package udp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// ports is how many source ports a prober has for each of IPv4 and IPv6.
const ports = 4

// Prober asks responders.
type Prober struct {
	clock    clock.Clock
	nonce    uint64
	sequence uint64
	sockets  [2 * ports]*stamp.Socket // of IPv4, then of IPv6; nil: not open
	flights  stamp.Flights
	spoilt   []uint64 // tokens of probes whose socket is gone
	set      []unix.PollFd
	polled   []int // which sockets set is about
	packet   [messageBytes]byte
}

const (
	mostProbes  = 1 << 16 // under way
	mostPackets = 256     // read at a time of one socket
)

// errDwell is a probe.ErrVoid: the responder's clock was stepped, or its kernel did not stamp the question.
const errDwell stamp.Spoilt = "the responder does not know how long it held the question"

// New returns a prober. Its sockets are opened by the probes that need them, in the network namespace of the thread that sends.
func New() (*Prober, error) { return &Prober{clock: clock.System(), nonce: rand.Uint64()}, nil }

// Send implements probe.Prober.
func (p *Prober) Send(to netip.AddrPort, token uint64) (sent int, err error) {
	family, index, ipv6 := unix.AF_INET, rand.IntN(ports), to.Addr().Unmap().Is6()
	if ipv6 {
		family, index = unix.AF_INET6, ports+index
	}
	if to.Port() == 0 {
		return 0, fmt.Errorf("send to %s: no port: %w", to.Addr(), unix.EINVAL)
	}
	if s := p.sockets[index]; s != nil && !s.Owned() {
		p.lose(index)
	}
	if p.sockets[index] == nil {
		if p.sockets[index], err = stamp.Open(family, unix.SOCK_DGRAM, unix.IPPROTO_UDP); err != nil {
			return 0, fmt.Errorf("open a socket for UDP: %w", err)
		}
	}
	socket := p.sockets[index]
	address, err := socket.Address(to)
	if err != nil {
		return 0, err
	}
	if p.flights.Len() >= mostProbes {
		return 0, fmt.Errorf("%d probes are under way: %w", mostProbes, unix.ENOBUFS)
	}
	p.sequence++
	(&message{kind: question, nonce: p.nonce, sequence: p.sequence}).put(&p.packet)
	before := stamp.Now(p.clock)
	at, key, err := socket.Send(p.packet[:], address, before)
	if err != nil {
		return 0, fmt.Errorf("send to %s: %w", to, err)
	}
	p.flights.Add(p.sequence, stamp.Flight{Token: token, To: address, Before: before, Sent: at, Key: key, Socket: index})
	return sentBytes(ipv6), nil
}

// Descriptors implements probe.Prober.
func (p *Prober) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	for _, s := range p.sockets {
		if s != nil {
			set = append(set, probe.Descriptor{FD: s.Number()})
		}
	}
	return set
}

// Receive implements probe.Prober.
func (p *Prober) Receive(yield func(probe.Result)) {
	p.set, p.polled = p.set[:0], p.polled[:0]
	for i, s := range p.sockets {
		if s != nil {
			p.set = append(p.set, unix.PollFd{Fd: int32(s.Number()), Events: unix.POLLIN})
			p.polled = append(p.polled, i)
		}
	}
	ready := stamp.Ready(p.set)
	for i, index := range p.polled {
		s := p.sockets[index]
		switch {
		case ready && p.set[i].Revents != 0 && !s.Owned():
			p.lose(index)
		case ready && p.set[i].Revents != 0:
			p.readEvents(index, yield)
			for range mostPackets {
				packet, err := s.Receive()
				if err != nil {
					break
				}
				p.answered(index, &packet, yield)
			}
		case s.Pending():
			p.readEvents(index, yield)
		}
	}
	for _, token := range p.spoilt {
		yield(probe.Result{Token: token, Method: probe.UDP, Err: stamp.ErrForeign})
	}
	p.spoilt = p.spoilt[:0]
}

// answered ends the probe that a packet answers, if it answers one: it has to come from whom was asked, to the port that asked, and
// to know what was asked.
func (p *Prober) answered(index int, packet *stamp.Packet, yield func(probe.Result)) {
	m, ok := parse(packet.Data)
	if !ok || !packet.Whole || m.kind != answer || m.nonce != p.nonce {
		return
	}
	flight, found := p.flights.Get(m.sequence)
	if !found || flight.Socket != index || flight.To != packet.From {
		return
	}
	if flight.Sent == 0 {
		// The stamp is in the error queue before the packet is on the wire, but perhaps not yet when that was read.
		p.readEvents(index, yield)
		if flight, found = p.flights.Get(m.sequence); !found {
			return
		}
	}
	p.flights.Remove(m.sequence)
	rtt, err := stamp.RoundTrip(flight.Before, flight.Sent, packet.Received, stamp.Now(p.clock))
	switch {
	case err != nil:
	case m.dwell < 0 || m.dwell > rtt:
		rtt, err = 0, errDwell
	default:
		rtt -= m.dwell
	}
	yield(probe.Result{Token: flight.Token, Method: probe.UDP, RTT: rtt, Err: err})
}

// readEvents notes when packets were sent, and ends the probes that ICMP errors are about.
func (p *Prober) readEvents(index int, yield func(probe.Result)) {
	p.sockets[index].Events(func(e *stamp.Event) {
		if e.Sent != 0 {
			p.flights.Stamp(index, e.Key, e.Sent)
			return
		}
		sequence, found := p.flights.Oldest(index, e.To) // for routers that quote no more than the UDP header
		if quoted, ok := parseHead(e.Payload()); ok {
			sequence, found = quoted.sequence, quoted.nonce == p.nonce && quoted.kind == question
		} else if len(e.Payload()) >= head {
			found = false
		}
		flight, underWay := p.flights.Get(sequence)
		if !found || !underWay || flight.Socket != index || flight.To != e.To {
			return
		}
		p.flights.Remove(sequence)
		var err error = e.Err
		if e.Err.Errno == unix.ECONNREFUSED && e.Err.By == e.To.IP {
			err = fmt.Errorf("no responder at port %d: %w", e.To.Port, e.Err)
		}
		yield(probe.Result{Token: flight.Token, Method: probe.UDP, Err: err})
	})
}

// lose gives up a socket that the host process closed. The next probe that needs it opens another.
func (p *Prober) lose(index int) {
	p.sockets[index].Close()
	p.sockets[index] = nil
	p.flights.Drop(index, func(token uint64) { p.spoilt = append(p.spoilt, token) })
}

// Forget implements probe.Prober.
func (p *Prober) Forget(token uint64) {
	p.flights.Forget(token)
	p.spoilt = slices.DeleteFunc(p.spoilt, func(t uint64) bool { return t == token })
}

// Close implements probe.Prober.
func (p *Prober) Close() {
	for i, s := range p.sockets {
		if s != nil {
			s.Close()
			p.sockets[i] = nil
		}
	}
}
