package stamp

import (
	"net/netip"
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

// OpenWide is Open for packets of which dataBytes, more than DataBytes, are to be kept.
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
	if dataBytes > DataBytes {
		s.box.wide = make([]byte, dataBytes)
	}
	// A kernel that refuses any of these, as a sandbox's may, leaves user-space time and errors without their sender.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stampFlags)
	HearErrors(fd, s.ipv6)
	return s, nil
}

// HearErrors has the ICMP errors about what a socket sends put into its error queue, with who sent them and to whom.
func HearErrors(fd int, ipv6 bool) {
	if ipv6 {
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVERR, 1)
		_ = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else {
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVERR, 1)
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
