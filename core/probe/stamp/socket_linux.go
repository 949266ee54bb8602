package stamp

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// Socket is a datagram socket, not connected, whose packets the kernel stamps. It never blocks. Not safe for concurrent use.
type Socket struct {
	kernelfs.Descriptor
	ipv6 bool

	// The kernel numbers what is sent and tells the number with the stamp (SOF_TIMESTAMPING_OPT_ID). Of a packet that it refused
	// it may or may not have used up the number, so the next number is one from next to next+doubt until a stamp shows which.
	next, doubt uint32

	events []Event // read while sending
	box    mailbox
}

// mailbox is where recvmsg(2) puts things.
type mailbox struct {
	message unix.Msghdr
	vector  unix.Iovec
	name    [unix.SizeofSockaddrInet6]byte
	data    []byte
	control [256]byte
}

// DataBytes is how much a socket of Open keeps of a packet.
const DataBytes = 192

// Packet is one that was received.
type Packet struct {
	Data        []byte // holds until the socket is used again
	Whole       bool   // false: the packet was longer than what the socket keeps
	From        Address
	Received    Time       // 0 where the kernel did not stamp it
	Destination netip.Addr // that it was sent to
	Index       uint32     // of the interface it came in by
}

// Event is a message of the error queue: either the stamp of a packet that was sent, or an error that came instead of an answer.
type Event struct {
	Key  Key  // of the packet that was stamped
	Sent Time // its stamp, 0: it is an error

	Err      *Unreachable
	To       Address // where the packet was sent that the error is about
	Received Time    // of the error, 0 where the kernel did not stamp it
	MTU      uint32  // told with "packet too big"
	payload  [64]byte
	size     int
}

// Payload is the beginning of that packet, from behind its IP header (ICMP) or UDP header on; routers must return 8 bytes behind the
// IP header, and mostly return more.
func (e *Event) Payload() []byte { return e.payload[:e.size] }

const (
	// Entering the queueing discipline is where the network begins: the host's own queue counts, and every driver is told of it.
	stampFlags = unix.SOF_TIMESTAMPING_TX_SCHED | unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
		unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY

	mostEvents = 256 // that are kept while sending, and read at a time
	mostErrors = 16  // of earlier packets, in the way of one call
)

// Open opens a socket of the calling thread's network namespace: family AF_INET or AF_INET6, kind SOCK_DGRAM or SOCK_RAW.
//
// Errors: what socket(2) says, bare.
func Open(family, kind, protocol int) (*Socket, error) {
	return OpenWide(family, kind, protocol, DataBytes)
}

// OpenWide is Open for packets of which dataBytes are to be kept.
func OpenWide(family, kind, protocol, dataBytes int) (*Socket, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	descriptor, err := kernelfs.Own(fd)
	if err != nil {
		return nil, err
	}
	s := &Socket{Descriptor: descriptor, ipv6: family == unix.AF_INET6}
	s.box.data = make([]byte, dataBytes)
	// A kernel that refuses any of these, as a sandbox's may, leaves user-space time and errors without their sender.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stampFlags)
	if s.ipv6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
	}
	return s, nil
}

// Address is the address as the kernel knows it. A zone is looked up in the socket's namespace.
func (s *Socket) Address(to netip.AddrPort) (Address, error) {
	return AddressFor(s.Number(), to)
}

// AddressFor is the address as the kernel knows it. Its zone is looked up in the namespace of the socket fd.
func AddressFor(fd int, to netip.AddrPort) (Address, error) {
	ip := to.Addr().Unmap()
	a := Address{IP: ip.WithZone(""), Port: to.Port()}
	switch {
	case !ip.IsValid():
		return a, fmt.Errorf("no address: %w", unix.EINVAL)
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, fmt.Errorf("%s is not the address of one host: %w", ip, unix.EINVAL)
	case ip.Zone() != "":
		index, err := interfaceIndex(fd, ip.Zone())
		if err != nil {
			return a, fmt.Errorf("%s: interface %q: %w", ip.WithZone(""), ip.Zone(), err)
		}
		a.Scope = index
	case ip.Is6() && ip.IsLinkLocalUnicast():
		return a, fmt.Errorf("%s needs its interface, as in %s%%eth0: %w", ip, ip, unix.EINVAL)
	}
	return a, nil
}

// interfaceIndex asks the kernel (netdevice(7) SIOCGIFINDEX).
func interfaceIndex(fd int, name string) (uint32, error) {
	var request struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	if len(name) < len(request.name) {
		copy(request.name[:], name)
		_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFINDEX, uintptr(unsafe.Pointer(&request)))
		if errno == 0 {
			return uint32(request.index), nil
		}
	}
	if index, err := strconv.ParseUint(name, 10, 31); err == nil && index > 0 {
		return uint32(index), nil
	}
	return 0, unix.ENODEV
}

// Send sends one packet. sent is the kernel's stamp of it where it is there at once, which it is unless the packet waits for the
// address of the next hop; then an Event with this key may follow. before is a moment just before the call.
//
// Errors: what sendto(2) says about this packet, bare. Errors of earlier ones become events.
func (s *Socket) Send(packet []byte, to Address, before Moment) (sent Time, key Key, err error) {
	var name [unix.SizeofSockaddrInet6]byte
	length := putSockaddr(&name, to, s.ipv6)
	for range 2 {
		err = s.sendto(packet, &name, length)
		if err == nil || err == unix.EPERM || err == unix.EAGAIN || err == unix.ENOBUFS {
			break
		}
		// It may be about an earlier packet: the kernel tells of errors at the next call, whatever that is.
		s.doubt++
		s.readEvents(nil)
	}
	if err != nil {
		s.doubt++
		s.readEvents(nil)
		return 0, Key{}, err
	}
	key = Key{number: s.next, known: s.doubt == 0}
	s.next++
	s.readEvents(func(k uint32, at Time) bool {
		if past := k - key.number; past > s.doubt || sent != 0 || !key.known && at < before.Wall-Time(before.Blur) {
			return false
		}
		sent, key = at, Key{number: k, known: true}
		s.next, s.doubt = k+1, 0
		return true
	})
	return sent, key, nil
}

// sendto is sendto(2); unlike unix.Sendto it does not allocate.
func (s *Socket) sendto(packet []byte, name *[unix.SizeofSockaddrInet6]byte, length int) error {
	for {
		_, _, errno := syscall.Syscall6(unix.SYS_SENDTO, uintptr(s.Number()), uintptr(unsafe.Pointer(unsafe.SliceData(packet))),
			uintptr(len(packet)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(name)), uintptr(length))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// recvmsg is recvmsg(2) into the socket's box. It never waits, so the scheduler need not hear of it.
func (s *Socket) recvmsg(flags int) (data []byte, err error) {
	b := &s.box
	b.vector.Base = &b.data[0]
	b.vector.SetLen(len(b.data))
	b.message = unix.Msghdr{Name: &b.name[0], Namelen: uint32(len(b.name)), Iov: &b.vector, Control: &b.control[0]}
	b.message.SetIovlen(1)
	b.message.SetControllen(len(b.control))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.Number()), uintptr(unsafe.Pointer(&b.message)),
			uintptr(flags|unix.MSG_DONTWAIT))
		runtime.KeepAlive(s)
		switch errno {
		case 0:
			return b.data[:min(int(n), len(b.data))], nil
		case unix.EINTR:
		default:
			return nil, errno
		}
	}
}

// Receive returns the next packet that has come.
//
// Errors: EAGAIN when there is none; what recvmsg(2) says, bare.
func (s *Socket) Receive() (p Packet, err error) {
	for range mostErrors {
		p.Data, err = s.recvmsg(0)
		if err == nil || err == unix.EAGAIN {
			break
		}
		s.readEvents(nil) // the error of an earlier packet
	}
	if err != nil {
		return Packet{}, err
	}
	c := parseControl(s.box.control[:s.box.message.Controllen])
	p.Whole = s.box.message.Flags&unix.MSG_TRUNC == 0
	p.From = parseSockaddr(s.box.name[:min(int(s.box.message.Namelen), len(s.box.name))])
	p.Received, p.Destination, p.Index = c.stamp, c.destination, c.index
	return p, nil
}

// Events hands out what the error queue says, and what was read of it while sending.
func (s *Socket) Events(yield func(*Event)) {
	s.readEvents(nil)
	for i := range s.events {
		yield(&s.events[i])
	}
	s.events = s.events[:0]
}

// readEvents empties the error queue into events, but for the stamp that take takes.
func (s *Socket) readEvents(take func(number uint32, at Time) bool) {
	for len(s.events) < mostEvents {
		data, err := s.recvmsg(unix.MSG_ERRQUEUE)
		if err != nil {
			return
		}
		c := parseControl(s.box.control[:s.box.message.Controllen])
		event, is := c.event(data, s.box.name[:min(int(s.box.message.Namelen), len(s.box.name))])
		if !is || event.Sent != 0 && take != nil && take(event.Key.number, event.Sent) {
			continue
		}
		s.events = append(s.events, event)
	}
}

// event is what a message of the error queue means, if anything.
func (c *control) event(data, name []byte) (e Event, is bool) {
	switch c.err.origin {
	case unix.SO_EE_ORIGIN_TIMESTAMPING:
		e.Key, e.Sent = Key{number: c.err.data, known: true}, c.stamp
		return e, c.stamp != 0
	case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6:
		ipv6 := c.err.origin == unix.SO_EE_ORIGIN_ICMP6
		const sourceQuench = 4 // obsolete (RFC 6633), and never an error
		if !ipv6 && c.err.kind == sourceQuench {
			return e, false
		}
		e.To, e.Received = parseSockaddr(name), c.stamp
		e.Err = &Unreachable{
			Errno: syscall.Errno(c.err.errno), IPv6: ipv6, Type: c.err.kind, Code: c.err.code, By: c.err.offender,
			Here: c.err.offender.IsValid() && c.err.offender == c.destination,
		}
		e.MTU = c.err.info
		e.size = copy(e.payload[:], data)
		return e, true
	}
	return e, false // SO_EE_ORIGIN_LOCAL: the send itself said so
}
