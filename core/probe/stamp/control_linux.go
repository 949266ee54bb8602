package stamp

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// control is what the control messages beside a packet say.
type control struct {
	stamp       Time
	destination netip.Addr // of the packet (IP_PKTINFO)
	index       uint32     // of the interface it came in by
	err         extendedError
}

// extendedError is struct sock_extended_err (linux/errqueue.h).
type extendedError struct {
	errno              uint32
	origin, kind, code uint8
	info, data         uint32
	offender           netip.Addr
}

const (
	sizeofTimespec      = 16
	sizeofTimespec32    = 8
	sizeofExtendedError = 16
	scmTimestampingNew  = 65 // SO_TIMESTAMPING_NEW (asm-generic/socket.h): always with 64-bit seconds
)

// parseControl reads the control messages of one recvmsg(2). What it does not know or cannot read it leaves out.
func parseControl(b []byte) (c control) {
	for len(b) >= unix.SizeofCmsghdr {
		length, level, kind := header(b)
		if length < unix.SizeofCmsghdr || length > len(b) {
			return c
		}
		data := b[min(unix.CmsgLen(0), length):length]
		switch {
		case level == unix.SOL_SOCKET && (kind == unix.SCM_TIMESTAMPING || kind == scmTimestampingNew):
			c.stamp = parseStamp(data)
		case level == unix.SOL_IP && kind == unix.IP_RECVERR, level == unix.SOL_IPV6 && kind == unix.IPV6_RECVERR:
			c.err = parseExtendedError(data)
		case level == unix.SOL_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			c.index = binary.NativeEndian.Uint32(data)
			c.destination = netip.AddrFrom4([4]byte(data[8:12]))
		case level == unix.SOL_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			c.destination = netip.AddrFrom16([16]byte(data[:16])).Unmap()
			c.index = binary.NativeEndian.Uint32(data[16:])
		}
		next := unix.CmsgSpace(length - unix.CmsgLen(0))
		if next <= 0 || next >= len(b) {
			return c
		}
		b = b[next:]
	}
	return c
}

// header is struct cmsghdr, whose length is as wide as a pointer.
func header(b []byte) (length, level, kind int) {
	if unix.SizeofCmsghdr == 16 {
		if n := binary.NativeEndian.Uint64(b); n <= uint64(len(b)) {
			length = int(n)
		}
	} else if n := binary.NativeEndian.Uint32(b); uint64(n) <= uint64(len(b)) {
		length = int(n)
	}
	rest := b[unix.SizeofCmsghdr-8:]
	return length, int(int32(binary.NativeEndian.Uint32(rest))), int(int32(binary.NativeEndian.Uint32(rest[4:])))
}

// parseStamp reads struct scm_timestamping, of whose three times the first is the software's. In the older form seconds and
// nanoseconds are as wide as the machine's words.
func parseStamp(data []byte) Time {
	switch {
	case len(data) >= 3*sizeofTimespec:
		seconds, nanoseconds := int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:]))
		return stampOf(seconds, nanoseconds)
	case len(data) >= 3*sizeofTimespec32:
		seconds, nanoseconds := int32(binary.NativeEndian.Uint32(data)), int32(binary.NativeEndian.Uint32(data[4:]))
		return stampOf(int64(seconds), int64(nanoseconds))
	}
	return 0
}

func stampOf(seconds, nanoseconds int64) Time {
	const most = 1<<63/1_000_000_000 - 1 // seconds that nanoseconds can count
	if seconds < 0 || seconds > most || nanoseconds < 0 || nanoseconds >= 1_000_000_000 {
		return 0
	}
	return Time(seconds*1_000_000_000 + nanoseconds)
}

// parseExtendedError reads struct sock_extended_err and the address behind it: whoever sent the ICMP error.
func parseExtendedError(data []byte) (e extendedError) {
	if len(data) < sizeofExtendedError {
		return e
	}
	e = extendedError{
		errno: binary.NativeEndian.Uint32(data), origin: data[4], kind: data[5], code: data[6],
		info: binary.NativeEndian.Uint32(data[8:]), data: binary.NativeEndian.Uint32(data[12:]),
	}
	e.offender = parseSockaddr(data[sizeofExtendedError:]).IP
	return e
}

// parseSockaddr reads struct sockaddr_in or sockaddr_in6. The zero Address where it is neither.
func parseSockaddr(b []byte) (a Address) {
	if len(b) < 2 {
		return a
	}
	switch family := binary.NativeEndian.Uint16(b); {
	case family == syscall.AF_INET && len(b) >= 8:
		a.Port = binary.BigEndian.Uint16(b[2:])
		a.IP = netip.AddrFrom4([4]byte(b[4:8]))
	case family == syscall.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		a.Port = binary.BigEndian.Uint16(b[2:])
		a.IP = netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		a.Scope = binary.NativeEndian.Uint32(b[24:])
	}
	return a
}

// putSockaddr writes a as the kernel takes it for a socket of this family, and returns how many bytes it is long.
func putSockaddr(b *[unix.SizeofSockaddrInet6]byte, a Address, ipv6 bool) int {
	clear(b[:])
	binary.BigEndian.PutUint16(b[2:], a.Port)
	if !ipv6 {
		binary.NativeEndian.PutUint16(b[:], syscall.AF_INET)
		*(*[4]byte)(b[4:8]) = a.IP.As4()
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(b[:], syscall.AF_INET6)
	*(*[16]byte)(b[8:24]) = a.IP.As16()
	binary.NativeEndian.PutUint32(b[24:], a.Scope)
	return unix.SizeofSockaddrInet6
}

// putSource writes the control message (IP_PKTINFO) that has a packet sent from this address of the host, and returns how many bytes
// it is long.
func putSource(b []byte, source netip.Addr, ipv6 bool) int {
	level, kind, size := unix.SOL_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo
	if ipv6 {
		level, kind, size = unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	}
	if !source.IsValid() {
		return 0
	}
	clear(b[:unix.CmsgSpace(size)])
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(size)))
	} else {
		binary.NativeEndian.PutUint32(b, uint32(unix.CmsgLen(size)))
	}
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-8:], uint32(level))
	binary.NativeEndian.PutUint32(b[unix.SizeofCmsghdr-4:], uint32(kind))
	data := b[unix.CmsgLen(0):]
	if ipv6 { // in6_pktinfo: address, index
		*(*[16]byte)(data) = source.As16()
	} else { // in_pktinfo: index, source, destination
		*(*[4]byte)(data[4:]) = source.As4()
	}
	return unix.CmsgSpace(size)
}
