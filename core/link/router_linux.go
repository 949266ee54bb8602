package link

import (
	"fmt"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// Router looks up by which interface connections go. It has a socket of its own, because a Watcher that reads links may wait.
// Not safe for concurrent use.
type Router struct{ w Watcher }

// OpenRouter opens a router for the calling thread's network namespace.
//
// Errors: as those of Watch.
func OpenRouter() (*Router, error) {
	request, err := openNetlink(0, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptTimeval(request.Number(), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerTimeout})
	return &Router{Watcher{request: request, buffer: make([]byte, 8<<10)}}, nil
}

// Close closes the router's socket.
func (r *Router) Close() { r.w.request.Close() }

// Interface is the name of the interface by which the kernel would send from a local address to a remote one: loopback for addresses
// of this host. The zone of a link-local address is the index of its interface. Marks and bindings of sockets are not considered.
//
// Errors: what the kernel says, as ENETUNREACH.
func (r *Router) Interface(local, remote netip.Addr) (name string, err error) {
	index, err := strconv.Atoi(remote.Zone())
	if err != nil {
		if index, err = r.w.route(local, remote); err != nil {
			return "", fmt.Errorf("link: route from %s to %s: %w", local, remote, err)
		}
	}
	return r.name(index)
}

// name is the name of an interface.
//
// Source: SIOCGIFNAME (netdevice(7)), through any socket of the namespace.
func (r *Router) name(index int) (string, error) {
	if !r.w.request.Owned() {
		return "", kernelfs.ErrForeign
	}
	request := struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}{index: int32(index)}
	_, _, errno := syscall.Syscall(unix.SYS_IOCTL, uintptr(r.w.request.Number()), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return "", fmt.Errorf("link: name of interface %d: %w", index, errno)
	}
	return unix.ByteSliceToString(request.name[:]), nil
}
