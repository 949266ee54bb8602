package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// Watcher reads the links of the network namespace it was made in, and notices when they change. Safe for concurrent use: Changed
// does not wait for Read, Read and Route exclude each other.
type Watcher struct {
	fs kernelfs.FS

	eventsMu sync.Mutex // guards events, never held while waiting
	events   netlinkSocket

	mu          sync.Mutex // guards what follows
	request     netlinkSocket
	buffer      []byte
	interrupted bool
}

// answerTimeout bounds the wait for each part of the kernel's answer. The kernel answers within the call; only a machine whose
// network configuration is stuck (the RTNL lock) comes near it.
const answerTimeout = 2 // seconds

// Watch opens a watcher for the calling thread's network namespace.
//
// Errors: what socket(2) and bind(2) say, for example where a sandbox allows no netlink.
func Watch(fs kernelfs.FS) (*Watcher, error) {
	events, err := openNetlink(unix.SOCK_NONBLOCK, unix.RTMGRP_LINK|unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR|
		unix.RTMGRP_IPV4_ROUTE|unix.RTMGRP_IPV6_ROUTE)
	if err != nil {
		return nil, err
	}
	request, err := openNetlink(0, 0)
	if err != nil {
		events.Close()
		return nil, err
	}
	_ = unix.SetsockoptTimeval(request.Number(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout})
	return &Watcher{fs: fs, events: events, request: request, buffer: make([]byte, 64<<10)}, nil
}

// Close closes the watcher's sockets.
func (w *Watcher) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.request.Close()
	w.eventsMu.Lock()
	defer w.eventsMu.Unlock()
	w.events.Close()
}

// Changed tells what may have changed since it was asked the last time. It never blocks.
func (w *Watcher) Changed() (change Change) {
	// Closed while it is read here, the descriptor could be somebody else's by the time of the next recv.
	w.eventsMu.Lock()
	defer w.eventsMu.Unlock()
	if !w.events.Owned() {
		return 0
	}
	// Only the header is read and the rest of each message dropped: what changed is read anew as a whole.
	var header [unix.SizeofNlMsghdr]byte
	for {
		_, err := recv(w.events.Number(), header[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case err == nil:
			switch binary.NativeEndian.Uint16(header[4:]) {
			case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
				change |= RoutesChanged
			default:
				change |= LinksChanged
			}
		case errors.Is(err, unix.ENOBUFS): // more happened than the socket could hold
			change |= LinksChanged | RoutesChanged
		case errors.Is(err, unix.EINTR):
		default:
			return change
		}
	}
}

// recv is recv(2); unlike unix.Recvfrom it does not allocate the sender's address.
func recv(fd int, buffer []byte, flags int) (int, error) {
	n, _, errno := syscall.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&buffer[0])),
		uintptr(len(buffer)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Read returns all links of the namespace. It may wait for other programs that are configuring interfaces, so it does not
// belong on a path that must not wait.
func (w *Watcher) Read() ([]*Link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var links []*Link
	// Links that change while the kernel lists them interrupt the list; the last try is taken as it is, because whatever
	// changed is announced and read again.
	const tries = 3
	for range tries {
		w.interrupted = false
		var err error
		if links, err = w.readOnce(); err != nil {
			return nil, err
		}
		if !w.interrupted {
			break
		}
	}
	for _, l := range links {
		readSpeed(w.request.Number(), l)
	}
	return links, nil
}

func (w *Watcher) readOnce() ([]*Link, error) {
	var all []attributes
	err := w.exchange(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, sizeofIfInfomsg), unix.RTM_NEWLINK,
		func(message []byte) error {
			a, err := parseLink(message)
			if err == nil {
				all = append(all, a)
			}
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("link: read links: %w", err)
	}
	addresses := make(map[int][]string)
	err = w.exchange(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, sizeofIfAddrmsg), unix.RTM_NEWADDR,
		func(message []byte) error {
			index, prefix, err := parseAddress(message)
			if err == nil {
				addresses[index] = append(addresses[index], prefix.String())
			}
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("link: read addresses: %w", err)
	}
	for i := range all {
		w.findParent(&all[i])
	}
	return build(all, addresses), nil
}

// findParent fills in what kernels before 5.14 do not send (IFLA_PARENT_DEV_NAME). Sysfs may show another namespace; only
// plain devices are asked for, which containers do not have.
func (w *Watcher) findParent(a *attributes) {
	plain := a.kind == "" && a.parentDev == "" && a.flags&flagLoopback == 0
	if !plain {
		return
	}
	if target, err := w.fs.Readlink("sys/class/net/" + a.name + "/device"); err == nil {
		a.parentDev = target
	}
}

// Route is the index of the interface by which the kernel would send to destination, 0 where it knows no way. It looks up the
// routing table (RTM_GETROUTE) and sends nothing.
func (w *Watcher) Route(destination netip.Addr) int {
	index, err := w.route(netip.Addr{}, destination)
	if err != nil {
		return 0
	}
	return index
}

// route looks up the interface from source, where that is valid, to destination.
func (w *Watcher) route(source, destination netip.Addr) (index int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	destination = destination.Unmap().WithZone("")
	family := byte(afInet)
	if destination.Is6() {
		family = afInet6
	}
	body := make([]byte, sizeofRtMsg)
	body[0], body[1] = family, byte(destination.BitLen())
	body = appendAddress(body, unix.RTA_DST, destination)
	if source = source.Unmap().WithZone(""); source.BitLen() == destination.BitLen() {
		body[2] = byte(source.BitLen())
		body = appendAddress(body, unix.RTA_SRC, source)
	}
	err = w.exchange(unix.RTM_GETROUTE, 0, body, unix.RTM_NEWROUTE, func(message []byte) error {
		index = parseRoute(message)
		return nil
	})
	return index, err
}

func appendAddress(body []byte, kind uint16, address netip.Addr) []byte {
	octets := address.AsSlice()
	body = binary.NativeEndian.AppendUint16(body, uint16(4+len(octets)))
	body = binary.NativeEndian.AppendUint16(body, kind)
	return append(body, octets...)
}

// exchange sends one request and hands the payload of every answering message to f.
func (w *Watcher) exchange(kind uint16, flags uint16, body []byte, answer uint16, f func([]byte) error) error {
	if !w.request.Owned() {
		return kernelfs.ErrForeign
	}
	w.request.sequence++
	message := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(message[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(message[8:], w.request.sequence)
	message = append(message, body...)
	if err := unix.Sendto(w.request.Number(), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, err := recv(w.request.Number(), w.buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		done, err := w.answers(w.buffer[:n], answer, f)
		if done || err != nil {
			return err
		}
	}
}

// answers handles one datagram of an answer and tells whether it was the last.
func (w *Watcher) answers(datagram []byte, answer uint16, f func([]byte) error) (done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return true, err
	}
	for _, m := range messages {
		w.interrupted = w.interrupted || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
		switch {
		case m.Header.Seq != w.request.sequence: // the rest of an answer given up before
		case m.Header.Type == unix.NLMSG_DONE:
			return true, nil
		case m.Header.Type == unix.NLMSG_ERROR:
			if len(m.Data) < 4 {
				return true, ErrMessage
			}
			if errno := int32(binary.NativeEndian.Uint32(m.Data)); errno != 0 {
				return true, syscall.Errno(-errno)
			}
			return true, nil
		case m.Header.Type == answer:
			if err := f(m.Data); err != nil {
				return true, err
			}
			if m.Header.Flags&unix.NLM_F_MULTI == 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

// netlinkSocket is a routing socket.
type netlinkSocket struct {
	kernelfs.Descriptor
	sequence uint32
}

func openNetlink(flags int, groups uint32) (netlinkSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|flags, unix.NETLINK_ROUTE)
	if err != nil {
		return netlinkSocket{}, fmt.Errorf("link: open a routing socket: %w", err)
	}
	descriptor, err := kernelfs.Own(fd)
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			descriptor.Close()
		}
	}
	if err != nil {
		return netlinkSocket{}, fmt.Errorf("link: bind a routing socket: %w", err)
	}
	return netlinkSocket{Descriptor: descriptor}, nil
}
