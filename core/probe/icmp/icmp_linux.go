//go:build !probing

package icmp

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// Prober probes by ICMP echo.
type Prober struct {
	clock    clock.Clock
	nonce    uint64
	sequence uint64
	families [2]family
	flights  stamp.Flights
	spoilt   []uint64 // tokens of probes whose socket is gone
	packet   [packetBytes]byte
}

// family is what one of IPv4 and IPv6 needs.
type family struct {
	ipv6       bool
	socket     *stamp.Socket // nil: not open
	raw        bool
	identifier uint16 // of a raw socket; the kernel gives ping sockets one
}

const (
	mostProbes  = 1 << 16 // under way, as many as the header can tell apart
	mostReplies = 256     // read at a time of one socket
)

// errNotPermitted names both ways to get the right.
var errNotPermitted = errors.New("needs CAP_NET_RAW or ping_group_range")

// New opens a prober in the calling thread's network namespace. The socket for IPv6 is opened by the first probe that needs it.
//
// Errors: EACCES where neither kind of socket is allowed.
func New() (*Prober, error) {
	p := &Prober{clock: clock.System(), nonce: rand.Uint64(), sequence: rand.Uint64N(1 << 16)}
	p.families[1].ipv6 = true
	err := p.families[0].open()
	if err != nil && !errors.Is(err, fs.ErrPermission) { // no IPv4
		err = p.families[1].open()
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// open opens a ping socket, or a raw one where there are no ping sockets for this process.
func (f *family) open() error {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if f.ipv6 {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	socket, err := stamp.Open(domain, unix.SOCK_DGRAM, protocol)
	f.raw = errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPROTONOSUPPORT)
	if f.raw {
		socket, err = stamp.Open(domain, unix.SOCK_RAW, protocol)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", unix.EACCES, errNotPermitted)
	} else if err != nil {
		return fmt.Errorf("open a socket for ICMP: %w", err)
	}
	if f.raw {
		f.identifier = uint16(rand.Uint32())
		if err = f.filter(socket.Number()); err != nil {
			socket.Close()
			return fmt.Errorf("filter a raw socket for ICMP: %w", err)
		}
	}
	f.socket = socket
	return nil
}

// filter keeps all from a raw socket but replies to its own identifier: it would get a copy of every ICMP message of the host.
func (f *family) filter(fd int) error {
	load := []unix.SockFilter{
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0}, // X = length of the IPv4 header
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 4},  // A = identifier
	}
	if f.ipv6 { // whose header is not there
		load = []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}}
	}
	program := append(load,
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(f.identifier), Jf: 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	)
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err != nil {
		return err
	}
	if !f.ipv6 {
		const icmpFilter = 1 // ICMP_FILTER (linux/icmp.h), of level SOL_RAW
		return unix.SetsockoptInt(fd, unix.SOL_RAW, icmpFilter, ^(1 << echoReply4))
	}
	var blocked unix.ICMPv6Filter // a bit for each type
	for i := range blocked.Data {
		blocked.Data[i] = ^uint32(0)
	}
	blocked.Data[echoReply6>>5] &^= 1 << (echoReply6 & 31)
	return unix.SetsockoptICMPv6Filter(fd, unix.SOL_ICMPV6, unix.ICMPV6_FILTER, &blocked)
}

// Send implements probe.Prober.
func (p *Prober) Send(to netip.AddrPort, token uint64) (sent int, err error) {
	index := 0
	if to.Addr().Unmap().Is6() {
		index = 1
	}
	f := &p.families[index]
	if f.socket != nil && !f.socket.Owned() {
		p.lose(index)
	}
	if f.socket == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	address, err := f.socket.Address(to)
	if err != nil {
		return 0, err
	}
	address.Port = 0
	if p.flights.Len() >= mostProbes {
		return 0, fmt.Errorf("%d probes are under way: %w", mostProbes, unix.ENOBUFS)
	}
	p.sequence++
	for ; ; p.sequence++ {
		if _, taken := p.flights.Get(p.sequence & 0xffff); !taken {
			break
		}
	}
	number := uint16(p.sequence)
	request := echo{kind: echoRequest4, identifier: f.identifier, number: number, nonce: p.nonce, sequence: p.sequence}
	if f.ipv6 {
		request.kind = echoRequest6
	}
	request.put(&p.packet)

	before := stamp.Now(p.clock)
	at, key, err := f.socket.Send(p.packet[:], address, before)
	if err != nil {
		return 0, fmt.Errorf("send to %s: %w", to.Addr(), err)
	}
	p.flights.Add(uint64(number), stamp.Flight{
		Token: token, To: address, Before: before, Sent: at, Key: key, Socket: index, Check: p.sequence,
	})
	return sentBytes(f.ipv6), nil
}

// Descriptors implements probe.Prober.
func (p *Prober) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	for i := range p.families {
		if s := p.families[i].socket; s != nil {
			set = append(set, probe.Descriptor{FD: s.Number()})
		}
	}
	return set
}

// Receive implements probe.Prober.
func (p *Prober) Receive(yield func(probe.Result)) {
	for i := range p.families {
		f := &p.families[i]
		if f.socket == nil {
			continue
		}
		if !f.socket.Owned() {
			p.lose(i)
			continue
		}
		p.readEvents(i, yield)
		for range mostReplies {
			packet, err := f.socket.Receive()
			if err != nil {
				break
			}
			p.answered(i, &packet, yield)
		}
	}
	for _, token := range p.spoilt {
		yield(probe.Result{Token: token, Method: probe.ICMP, Err: stamp.ErrForeign})
	}
	p.spoilt = p.spoilt[:0]
}

// answered ends the probe that a packet answers, if it answers one.
func (p *Prober) answered(index int, packet *stamp.Packet, yield func(probe.Result)) {
	f := &p.families[index]
	data, kind := packet.Data, uint8(echoReply6)
	if !f.ipv6 {
		kind = echoReply4
		if f.raw {
			var ok bool
			if data, ok = cutIPv4(data); !ok {
				return
			}
		}
	}
	reply, ok := parseEcho(data)
	if !ok || reply.kind != kind || !reply.complete || reply.nonce != p.nonce {
		return
	}
	flight, found := p.flights.Get(uint64(reply.number))
	if !found || flight.Check != reply.sequence || flight.Socket != index || flight.To.IP != packet.From.IP {
		return
	}
	if flight.Sent == 0 {
		// The stamp is in the error queue before the packet is on the wire, but perhaps not yet when that was read.
		p.readEvents(index, yield)
		if flight, found = p.flights.Get(uint64(reply.number)); !found {
			return
		}
	}
	p.flights.Remove(uint64(reply.number))
	start := stamp.CallStart(flight.Before, flight.Sent)
	rtt, err := stamp.RoundTrip(flight.Before, start, packet.Received, stamp.Now(p.clock))
	yield(probe.Result{Token: flight.Token, Method: probe.ICMP, RTT: rtt, Err: err})
}

// readEvents notes when packets were sent, and ends the probes that ICMP errors are about.
func (p *Prober) readEvents(index int, yield func(probe.Result)) {
	f := &p.families[index]
	f.socket.Events(func(e *stamp.Event) {
		if e.Sent != 0 {
			p.flights.Stamp(index, e.Key, e.Sent)
			return
		}
		kind := uint8(echoRequest4)
		if f.ipv6 {
			kind = echoRequest6
		}
		request, ok := parseEcho(e.Payload())
		if !ok || request.kind != kind || f.raw && request.identifier != f.identifier || request.complete && request.nonce != p.nonce {
			return // of another program's ping
		}
		flight, found := p.flights.Get(uint64(request.number))
		if !found || flight.Socket != index || request.complete && flight.Check != request.sequence || flight.To.IP != e.To.IP {
			return
		}
		p.flights.Remove(uint64(request.number))
		yield(probe.Result{Token: flight.Token, Method: probe.ICMP, Err: e.Err})
	})
}

// lose gives up a socket that the host process closed. The next probe opens another.
func (p *Prober) lose(index int) {
	p.families[index].socket.Close()
	p.families[index].socket = nil
	p.flights.Drop(index, func(token uint64) { p.spoilt = append(p.spoilt, token) })
}

// Forget implements probe.Prober.
func (p *Prober) Forget(token uint64) {
	p.flights.Forget(token)
	p.spoilt = slices.DeleteFunc(p.spoilt, func(t uint64) bool { return t == token })
}

// Close implements probe.Prober.
func (p *Prober) Close() {
	for i := range p.families {
		if p.families[i].socket != nil {
			p.families[i].socket.Close()
			p.families[i].socket = nil
		}
	}
}
