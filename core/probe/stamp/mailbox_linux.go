package stamp

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mailbox is where recvmsg(2) puts a message and what is said beside it. It is used again and again.
type Mailbox struct {
	message unix.Msghdr
	vector  unix.Iovec
	name    [unix.SizeofSockaddrInet6]byte
	data    [DataBytes]byte
	wide    []byte // instead, where there is any
	beside  [256]byte
	longest uint32 // packet that the kernel said it would have sent, 0: it has not refused any
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

// receive is recvmsg(2). It never waits, so the scheduler need not hear of it.
func (b *Mailbox) receive(fd, flags int) (data []byte, err error) {
	room := b.data[:]
	if len(b.wide) > 0 {
		room = b.wide
	}
	b.vector.Base = &room[0]
	b.vector.SetLen(len(room))
	b.message = unix.Msghdr{Name: &b.name[0], Namelen: uint32(len(b.name)), Iov: &b.vector, Control: &b.beside[0]}
	b.message.SetIovlen(1)
	b.message.SetControllen(len(b.beside))
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.message)),
			uintptr(flags|unix.MSG_DONTWAIT))
		runtime.KeepAlive(b)
		switch errno {
		case 0:
			return room[:min(int(n), len(room))], nil
		case unix.EINTR:
		default:
			return nil, errno
		}
	}
}

// control is what was said beside the message.
func (b *Mailbox) control() control {
	return parseControl(b.beside[:min(int(b.message.Controllen), len(b.beside))])
}

// sender is the address the message came with.
func (b *Mailbox) sender() []byte { return b.name[:min(int(b.message.Namelen), len(b.name))] }

// Event takes the next event out of the error queue of a socket; more is false when there is none.
func (b *Mailbox) Event(fd int) (e Event, more bool) {
	const most = 256 // that mean nothing to anybody
	for range most {
		data, err := b.receive(fd, unix.MSG_ERRQUEUE)
		if err != nil {
			return e, false
		}
		c := b.control()
		if c.err.origin == unix.SO_EE_ORIGIN_LOCAL && c.err.errno == uint32(unix.EMSGSIZE) {
			b.longest = c.err.info
		}
		if e, is := c.event(data, b.sender()); is {
			return e, true
		}
	}
	return e, false
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
		errno := syscall.Errno(c.err.errno)
		e.Err = &Unreachable{
			Errno: errno, IPv6: ipv6, Type: c.err.kind, Code: c.err.code, By: c.err.offender,
			Here: errno == unix.EHOSTUNREACH && c.err.offender.IsValid() && c.err.offender == c.destination,
		}
		e.MTU = c.err.info
		e.size = copy(e.payload[:], data)
		return e, true
	}
	return e, false // SO_EE_ORIGIN_LOCAL: the send itself said so
}
