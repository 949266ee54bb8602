package tcpinfo

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// Diag asks for all TCP connections of a network namespace. Not safe for concurrent use.
type Diag struct {
	socket   kernelfs.Descriptor
	sequence uint32
	buffer   []byte
}

// dumpTimeout bounds the wait for each part of the kernel's answer, which it makes within the call.
const dumpTimeout = 2 // seconds

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY of linux/sock_diag.h.
const sockDiagByFamily = 20

// OpenDiag opens a socket in the calling thread's network namespace.
//
// Errors: what socket(2) says, as where a sandbox allows no netlink.
func OpenDiag() (*Diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("tcpinfo: open an inet_diag socket: %w", err)
	}
	socket, err := kernelfs.Own(fd)
	if err != nil {
		return nil, fmt.Errorf("tcpinfo: open an inet_diag socket: %w", err)
	}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: dumpTimeout})
	return &Diag{socket: socket, buffer: make([]byte, 32<<10)}, nil
}

// Close closes the socket.
func (d *Diag) Close() { d.socket.Close() }

// Dump yields all connections of the namespace, whosever they are, but those that netmon opened for itself (before Linux 5.10 they
// cannot be told apart). The Socket holds until yield returns. It takes about as long as all
// their readings do, so it does not belong on a path that must not wait.
//
// Errors: what the kernel says, as ENOENT where it has no inet_diag; ErrMessage.
func (d *Diag) Dump(yield func(*Socket)) error {
	for _, family := range []byte{familyInet, familyInet6} {
		if err := d.dump(family, yield); err != nil {
			return fmt.Errorf("tcpinfo: list connections: %w", err)
		}
	}
	return nil
}

func (d *Diag) dump(family byte, yield func(*Socket)) error {
	if !d.socket.Owned() {
		return kernelfs.ErrForeign
	}
	d.sequence++
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+sizeofRequest)
	binary.NativeEndian.PutUint32(message[0:], unix.SizeofNlMsghdr+sizeofRequest)
	binary.NativeEndian.PutUint16(message[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(message[8:], d.sequence)
	message = appendRequest(message, family)
	if err := unix.Sendto(d.socket.Number(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, errno := syscall.Syscall6(unix.SYS_RECVFROM, uintptr(d.socket.Number()), uintptr(unsafe.Pointer(&d.buffer[0])),
			uintptr(len(d.buffer)), 0, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		done, err := eachMessage(d.buffer[:n], d.sequence, yield)
		if done || err != nil {
			return err
		}
	}
}

// eachMessage yields the connections of one datagram and tells whether it was the last.
func eachMessage(datagram []byte, sequence uint32, yield func(*Socket)) (done bool, err error) {
	var s Socket
	for len(datagram) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(datagram))
		if length < unix.SizeofNlMsghdr || length > len(datagram) {
			return true, ErrMessage
		}
		body := datagram[unix.SizeofNlMsghdr:length]
		kind, number := binary.NativeEndian.Uint16(datagram[4:]), binary.NativeEndian.Uint32(datagram[8:])
		datagram = datagram[min((length+3)&^3, len(datagram)):]
		switch {
		case number != sequence: // the rest of an answer given up before
		case kind == unix.NLMSG_DONE:
			return true, nil
		case kind == unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, ErrMessage
			}
			if errno := int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return true, syscall.Errno(-errno)
			}
			return true, nil
		case kind == sockDiagByFamily:
			ok, err := parseMessage(body, &s)
			if err != nil {
				return true, err
			}
			if ok {
				yield(&s)
			}
		}
	}
	if len(datagram) > 0 {
		return true, ErrMessage
	}
	return false, nil
}
