package stamp

import (
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
)

// Socket is a datagram socket, not connected, whose packets the kernel stamps. It never blocks. Not safe for concurrent use.
type Socket struct {
	kernelfs.Descriptor
	ipv6    bool
	stamped bool // the kernel knows what that is

	// The kernel numbers what is sent and tells the number with the stamp (SOF_TIMESTAMPING_OPT_ID). Of a packet that it refused
	// it may or may not have used up the number, so the next number is one from next to next+doubt until a stamp shows which.
	next, doubt uint32

	events []Event // read while sending
	box    Mailbox
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

const (
	// Entering the queueing discipline is where the network begins: the host's own queue counts, and every driver is told of it.
	sendFlags    = unix.SOF_TIMESTAMPING_TX_SCHED | unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
	receiveFlags = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE

	mostEvents = 256 // that are kept while sending, and read at a time
	mostErrors = 16  // of earlier packets, in the way of one call
)

// Open opens a socket of the calling thread's network namespace: family AF_INET or AF_INET6, kind SOCK_DGRAM or SOCK_RAW. It may
// take some milliseconds until the kernel stamps what arrives.
//
// Errors: what socket(2) says, bare.
func Open(family, kind, protocol int) (*Socket, error) {
	s, err := open(family, kind, protocol, receiveFlags|sendFlags)
	if err == nil {
		HearErrors(s.Number(), s.ipv6)
		awaitStamps()
	}
	return s, err
}

// OpenWide is Open for packets of which dataBytes, more than DataBytes, are to be kept.
func OpenWide(family, kind, protocol, dataBytes int) (*Socket, error) {
	s, err := Open(family, kind, protocol)
	if err == nil {
		s.box.wide = make([]byte, dataBytes)
	}
	return s, err
}

// OpenReceiving opens a socket that stamps only what it receives, and has no error queue: one that answers does not mind what
// becomes of its answers.
func OpenReceiving(family, kind, protocol int) (*Socket, error) {
	s, err := open(family, kind, protocol, receiveFlags)
	if err == nil {
		tellDestination(s.Number(), s.ipv6)
		awaitStamps()
	}
	return s, err
}

// awaitStamps waits until the kernel stamps what arrives. It begins when the machine's first socket wants it, but leaves that to a
// worker (net_enable_timestamp in net/core/dev.c): up to 7 ms and 860 packets later, measured. Until then it sends itself a byte
// over loopback now and then. It gives up after 20 ms, where it never will.
func awaitStamps() {
	s, err := open(unix.AF_INET, unix.SOCK_DGRAM, 0, receiveFlags)
	if err != nil || !s.stamped {
		return
	}
	defer s.Close()
	if s.Bind(Address{IP: netip.AddrFrom4([4]byte{127, 0, 0, 1})}) != nil {
		return
	}
	self, err := s.Local()
	if err != nil {
		return
	}
	for range 20 {
		if _, _, err := s.Send([]byte{0}, self, Moment{}); err != nil {
			return
		}
		for {
			p, err := s.Receive()
			if err != nil {
				break
			}
			if p.Received != 0 {
				return
			}
		}
		clock.Sleep(time.Millisecond)
	}
}

func open(family, kind, protocol, flags int) (*Socket, error) {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	descriptor, err := kernelfs.Own(fd)
	if err != nil {
		return nil, err
	}
	s := &Socket{Descriptor: descriptor, ipv6: family == unix.AF_INET6}
	// A kernel that refuses these, as a sandbox's may, leaves user-space time, and errors without their sender.
	s.stamped = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags) == nil
	return s, nil
}

// Bind gives the socket an address of this host. The IPv6 address that stands for all takes in IPv4, no other does.
func (s *Socket) Bind(at Address) error {
	if s.ipv6 {
		only := 1
		if at.IP.IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(s.Number(), unix.SOL_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
		return unix.Bind(s.Number(), &unix.SockaddrInet6{Port: int(at.Port), ZoneId: at.Scope, Addr: at.IP.As16()})
	}
	return unix.Bind(s.Number(), &unix.SockaddrInet4{Port: int(at.Port), Addr: at.IP.As4()})
}

// Local is the socket's own address.
func (s *Socket) Local() (Address, error) {
	name, err := unix.Getsockname(s.Number())
	if err != nil {
		return Address{}, err
	}
	switch n := name.(type) {
	case *unix.SockaddrInet4:
		return Address{IP: netip.AddrFrom4(n.Addr), Port: uint16(n.Port)}, nil
	case *unix.SockaddrInet6:
		return Address{IP: netip.AddrFrom16(n.Addr).Unmap(), Port: uint16(n.Port), Scope: n.ZoneId}, nil
	}
	return Address{}, unix.EAFNOSUPPORT
}

// HearErrors has the ICMP errors about what a socket sends put into its error queue, with who sent them and to whom.
func HearErrors(fd int, ipv6 bool) {
	if ipv6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
	}
	tellDestination(fd, ipv6)
}

// tellDestination has the address that a packet was sent to told with it.
func tellDestination(fd int, ipv6 bool) {
	if ipv6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
	}
}

// Address is the address as the kernel knows it. A zone is looked up in the socket's namespace.
func (s *Socket) Address(to netip.AddrPort) (Address, error) {
	return AddressFor(s.Number(), to)
}

// Send sends one packet. sent is the kernel's stamp of it where it is there at once, which it is unless the packet waits for the
// address of the next hop; then an Event with this key may follow. before is a moment just before the call.
//
// Errors: what sendto(2) says about this packet, bare. Errors of earlier ones become events.
func (s *Socket) Send(packet []byte, to Address, before Moment) (sent Time, key Key, err error) {
	var name [unix.SizeofSockaddrInet6]byte
	length := putSockaddr(&name, to, s.ipv6)
	for range 3 {
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

// Longest is the longest packet, from its IP header on, that the kernel would have sent when it refused one with EMSGSIZE: the MTU of
// the interface, where the socket's own setting (IP_MTU_DISCOVER) makes it neither split packets nor mind what is known of the path.
// 0 where it has refused none.
func (s *Socket) Longest() uint32 { return s.box.longest }

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

// Reply sends a packet to where another came from, from the address that one was sent to.
//
// Errors: what sendmsg(2) says, bare.
func (s *Socket) Reply(packet []byte, to *Packet) error {
	b := &s.box
	b.vector.Base = unsafe.SliceData(packet)
	b.vector.SetLen(len(packet))
	b.message = unix.Msghdr{Name: &b.name[0], Iov: &b.vector, Control: &b.beside[0]}
	b.message.Namelen = uint32(putSockaddr(&b.name, to.From, s.ipv6))
	b.message.SetIovlen(1)
	b.message.SetControllen(putSource(b.beside[:], to.Destination, s.ipv6))
	for {
		_, _, errno := syscall.Syscall(unix.SYS_SENDMSG, uintptr(s.Number()), uintptr(unsafe.Pointer(&b.message)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		runtime.KeepAlive(packet)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// Receive returns the next packet that has come.
//
// Errors: EAGAIN when there is none; what recvmsg(2) says, bare.
func (s *Socket) Receive() (p Packet, err error) {
	for range mostErrors {
		p.Data, err = s.box.receive(s.Number(), 0)
		if err == nil || err == unix.EAGAIN {
			break
		}
		s.readEvents(nil) // the error of an earlier packet
	}
	if err != nil {
		return Packet{}, err
	}
	c := s.box.control()
	p.Whole = s.box.message.Flags&unix.MSG_TRUNC == 0
	p.From = parseSockaddr(s.box.sender())
	p.Received, p.Destination, p.Index = c.stamp, c.destination, c.index
	return p, nil
}

// Pending tells whether Events has something that was read while sending.
func (s *Socket) Pending() bool { return len(s.events) > 0 }

// Stamped tells whether the kernel stamps what the socket receives.
func (s *Socket) Stamped() bool { return s.stamped }

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
		event, more := s.box.Event(s.Number())
		if !more {
			return
		}
		if event.Sent != 0 && take != nil && take(event.Key.number, event.Sent) {
			continue
		}
		s.events = append(s.events, event)
	}
}

// Ready asks which descriptors poll(2) would return for, without waiting, and tells whether any is.
func Ready(set []unix.PollFd) bool {
	if len(set) == 0 {
		return false
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set[0])), uintptr(len(set)),
		uintptr(unsafe.Pointer(&unix.Timespec{})), 0, 0, 0)
	return errno == 0 && n > 0
}
