package throughput

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/probe/stamp"
)

const tcpFlags = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// open opens a marked socket.
func open(a netip.Addr) (socket kernelfs.Descriptor, err error) {
	fd, err := unix.Socket(familyOf(a), tcpFlags, unix.IPPROTO_TCP)
	if err == nil {
		socket, err = kernelfs.Own(fd)
	}
	if err != nil {
		return socket, fmt.Errorf("open a socket for TCP: %w", err)
	}
	stamp.Mark(fd)
	return socket, nil
}

// dial begins a connection. Bare errors of connect(2).
func dial(to netip.AddrPort) (socket kernelfs.Descriptor, err error) {
	if socket, err = open(to.Addr().Unmap()); err != nil {
		return socket, err
	}
	address, err := stamp.AddressFor(socket.Number(), to)
	if err == nil {
		err = stamp.Connect(socket.Number(), address)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		socket.Close()
		return socket, err
	}
	return socket, nil
}

// connected tells how a connection went that can be written to.
func connected(socket *kernelfs.Descriptor) error {
	if !socket.Owned() {
		return kernelfs.ErrForeign
	}
	code, err := unix.GetsockoptInt(socket.Number(), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// send is send(2) without SIGPIPE. It does not wait: EAGAIN.
func send(socket *kernelfs.Descriptor, data []byte) (n int, err error) {
	if !socket.Owned() {
		return 0, kernelfs.ErrForeign
	}
	r, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(socket.Number()), uintptr(unsafe.Pointer(unsafe.SliceData(data))),
		uintptr(len(data)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// receive is recv(2) with flags. It does not wait: EAGAIN. io.EOF at the end.
func receive(socket *kernelfs.Descriptor, room []byte, flags int) (n int, err error) {
	if !socket.Owned() {
		return 0, kernelfs.ErrForeign
	}
	r, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(socket.Number()), uintptr(unsafe.Pointer(unsafe.SliceData(room))),
		uintptr(len(room)), uintptr(flags|unix.MSG_DONTWAIT), 0, 0)
	switch {
	case errno != 0:
		return 0, errno
	case r == 0:
		return 0, io.EOF
	}
	return int(r), nil
}

func later(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) }

// line is a connection on which messages are exchanged.
type line struct {
	socket kernelfs.Descriptor
	in     [messageBytes]byte
	n      int
}

var errGarbage = errors.New("not a message of netmon")

// receive reads a message, as far as it has come. whole: here it is.
// Errors: io.EOF, errGarbage, and what the system says.
func (l *line) receive() (m message, whole bool, err error) {
	for l.n < len(l.in) {
		n, err := receive(&l.socket, l.in[l.n:], 0)
		if later(err) {
			return m, false, nil
		}
		if err != nil {
			return m, false, err
		}
		// What cannot become a message is not waited for.
		if l.n += n; string(l.in[:min(l.n, len(magic))]) != magic[:min(l.n, len(magic))] {
			return m, false, errGarbage
		}
	}
	l.n = 0
	if m, whole = decode(l.in[:]); !whole {
		return m, false, errGarbage
	}
	return m, true, nil
}

// send sends a message; the buffer of a connection has room for the few there are.
func (l *line) send(m message) error {
	b := m.encode()
	n, err := send(&l.socket, b[:])
	if err == nil && n < len(b) {
		err = unix.EAGAIN
	}
	return err
}

// wait is ppoll(2); it may return early.
func wait(set []unix.PollFd, most time.Duration) {
	ts := unix.NsecToTimespec(int64(max(0, most)))
	if _, err := unix.Ppoll(set, &ts, nil); err != nil {
		for i := range set { // the numbers may have been set before
			set[i].Revents = 0
		}
	}
}

// info is what the kernel knows of connections that sent: segments retransmitted, and the mean of their round trips.
func info(connections []*connection) (resent uint64, rtt time.Duration) {
	known := 0
	for _, c := range connections {
		if !c.socket.Owned() {
			continue
		}
		i, err := unix.GetsockoptTCPInfo(c.socket.Number(), unix.SOL_TCP, unix.TCP_INFO)
		if err != nil {
			continue
		}
		resent += uint64(i.Total_retrans)
		if i.Rtt > 0 {
			known++
			rtt += time.Duration(i.Rtt) * time.Microsecond
		}
	}
	if known > 0 {
		rtt /= time.Duration(known)
	}
	return resent, rtt
}
