package tcp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// Prober probes by TCP handshakes, each with a socket of its own.
type Prober struct {
	clock    clock.Clock
	attempts []attempt
	done     []probe.Result
	owed     int // bytes sent after Send had returned
	set      []unix.PollFd
	info     unix.TCPInfo
	box      stamp.Mailbox
}

// attempt is a connection being made.
type attempt struct {
	socket kernelfs.Descriptor
	token  uint64
	ipv6   bool
	began  time.Duration
}

const (
	synBytes   = 40 // with the options that Linux sends
	resetBytes = 32
	ipv4Header = 20
	ipv6Header = 40
)

// wire is how long a segment is on the wire.
func wire(segment int, ipv6 bool) int {
	if ipv6 {
		return ipv6Header + segment
	}
	return ipv4Header + segment
}

// New returns a prober. It opens nothing yet: each probe opens its socket in the network namespace of the thread that sends it.
func New() *Prober { return &Prober{clock: clock.System()} }

// Send implements probe.Prober.
func (p *Prober) Send(to netip.AddrPort, token uint64) (sent int, err error) {
	a := attempt{token: token, ipv6: to.Addr().Unmap().Is6()}
	family := unix.AF_INET
	if a.ipv6 {
		family = unix.AF_INET6
	}
	if to.Port() == 0 {
		return 0, fmt.Errorf("connect to %s: no port: %w", to.Addr(), unix.EINVAL)
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err == nil {
		a.socket, err = kernelfs.Own(fd)
	}
	if err != nil {
		return 0, fmt.Errorf("open a socket for TCP: %w", err)
	}
	address, err := stamp.AddressFor(fd, to)
	if err == nil {
		prepare(fd, a.ipv6)
		a.began = p.clock.Monotonic()
		err = stamp.Connect(fd, address)
		switch {
		case err == nil, errors.Is(err, unix.EINPROGRESS):
			err = nil
		case errors.Is(err, unix.ECONNREFUSED):
			err = nil
			p.end(&a, unix.ECONNREFUSED)
			return p.sent(&a), nil
		default:
			err = fmt.Errorf("connect to %s: %w", to, err)
		}
	}
	if err != nil {
		a.socket.Close()
		return 0, err
	}
	p.attempts = append(p.attempts, a)
	p.collect(len(p.attempts) - 1) // over a short link the answer is there already
	return p.sent(&a), nil
}

// sent counts an attempt's SYN, and what earlier attempts sent meanwhile.
func (p *Prober) sent(a *attempt) int {
	bytes := wire(synBytes, a.ipv6) + p.owed
	p.owed = 0
	return bytes
}

// prepare sets the options of a socket. None is worth failing for.
func prepare(fd int, ipv6 bool) {
	stamp.HearErrors(fd, ipv6)
	// Closing resets the connection. That of a completed handshake would have the store of torch.distributed (libuv) print a warning
	// each time, and a FIN would leave a TIME_WAIT here; a handshake that is not completed does neither.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	// The kernel waits with the ACK of the answer, in the hope of sending it with data; the reset comes first.
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_QUICKACK, 0)
	stamp.Mark(fd)
	// One repetition, however long the probe is waited for.
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_SYNCNT, 1)
}

// Descriptors implements probe.Prober.
func (p *Prober) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	for i := range p.attempts {
		set = append(set, probe.Descriptor{FD: p.attempts[i].socket.Number(), Write: true})
	}
	return set
}

// Receive implements probe.Prober.
func (p *Prober) Receive(yield func(probe.Result)) {
	p.collect(0)
	for _, r := range p.done {
		yield(r)
	}
	p.done = p.done[:0]
}

// collect ends the attempts, from the first one on, that have got an answer.
func (p *Prober) collect(first int) {
	p.set = p.set[:0]
	for i := range p.attempts[first:] {
		p.set = append(p.set, unix.PollFd{Fd: int32(p.attempts[first+i].socket.Number()), Events: unix.POLLOUT})
	}
	if !stamp.Ready(p.set) {
		return
	}
	kept := first
	for i := range p.set {
		a := p.attempts[first+i]
		switch {
		case p.set[i].Revents == 0:
			p.attempts[kept] = a
			kept++
		case !a.socket.Owned():
			p.finish(&a, 0, stamp.ErrForeign, probe.TCP)
		case !p.ended(&a):
			p.attempts[kept] = a
			kept++
		}
	}
	clear(p.attempts[kept:])
	p.attempts = p.attempts[:kept]
}

// ended ends an attempt that something has come for, unless that is not its end.
func (p *Prober) ended(a *attempt) bool {
	code, err := unix.GetsockoptInt(a.socket.Number(), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		p.finish(a, 0, err, probe.TCP)
		return true
	}
	if code == 0 && p.handshake(a.socket.Number()).waiting {
		// The kernel would go on trying, but somebody has said that it is of no use.
		unreachable := p.unreachable(a)
		if unreachable != nil {
			p.finish(a, 0, unreachable, probe.TCP)
		}
		return unreachable != nil
	}
	p.end(a, unix.Errno(code))
	return true
}

// end ends an attempt whose connect(2) ended with errno.
func (p *Prober) end(a *attempt, errno unix.Errno) {
	elapsed := p.clock.Monotonic() - a.began
	switch errno {
	case 0:
		h := p.handshake(a.socket.Number())
		p.owed += wire(resetBytes, a.ipv6) + int(h.repeats)*wire(synBytes, a.ipv6)
		rtt, err := h.roundTrip(elapsed)
		p.finish(a, rtt, err, probe.TCP)
	case unix.ECONNREFUSED:
		if unreachable := p.unreachable(a); unreachable != nil { // said by a firewall, in ICMP
			p.finish(a, 0, unreachable, probe.TCP)
			return
		}
		rtt, err := handshake{repeats: p.handshake(a.socket.Number()).repeats}.roundTrip(elapsed)
		p.finish(a, rtt, err, probe.TCPRefused)
	case unix.ETIMEDOUT:
		p.owed += wire(synBytes, a.ipv6)
		p.finish(a, 0, fmt.Errorf("%w to two SYNs", probe.ErrLost), probe.TCP)
	default:
		var err error = errno
		if unreachable := p.unreachable(a); unreachable != nil {
			err = unreachable
		}
		p.finish(a, 0, err, probe.TCP)
	}
}

// unreachable is the ICMP error that ended an attempt, if one did.
func (p *Prober) unreachable(a *attempt) *stamp.Unreachable {
	for {
		e, more := p.box.Event(a.socket.Number())
		if !more || e.Err != nil {
			return e.Err
		}
	}
}

// handshake asks the kernel how it went.
func (p *Prober) handshake(fd int) handshake {
	p.info = unix.TCPInfo{}
	length := uint32(unsafe.Sizeof(p.info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&p.info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return handshake{}
	}
	const synSent, synReceived = 2, 3 // TCP_SYN_SENT, TCP_SYN_RECV (net/tcp_states.h)
	return handshake{
		rtt: time.Duration(p.info.Rtt) * time.Microsecond, repeats: p.info.Total_retrans,
		waiting: p.info.State == synSent || p.info.State == synReceived,
	}
}

// finish closes the socket and notes the result.
func (p *Prober) finish(a *attempt, rtt time.Duration, err error, method probe.Method) {
	a.socket.Close()
	p.done = append(p.done, probe.Result{Token: a.token, Method: method, RTT: rtt, Err: err})
}

// Forget implements probe.Prober.
func (p *Prober) Forget(token uint64) {
	p.done = slices.DeleteFunc(p.done, func(r probe.Result) bool { return r.Token == token })
	for i := range p.attempts {
		if a := &p.attempts[i]; a.token == token {
			if a.socket.Owned() {
				p.owed += int(p.handshake(a.socket.Number()).repeats) * wire(synBytes, a.ipv6)
			}
			a.socket.Close()
			last := len(p.attempts) - 1
			p.attempts[i] = p.attempts[last]
			p.attempts[last] = attempt{}
			p.attempts = p.attempts[:last]
			return
		}
	}
}

// Close implements probe.Prober.
func (p *Prober) Close() {
	for i := range p.attempts {
		p.attempts[i].socket.Close()
	}
	p.attempts, p.done = nil, nil
}
