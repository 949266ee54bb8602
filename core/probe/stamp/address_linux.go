package stamp

import (
	"fmt"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// AddressFor is the address as the kernel knows it. Its zone is looked up in the namespace of the socket fd.
func AddressFor(fd int, to netip.AddrPort) (Address, error) {
	ip := to.Addr().Unmap()
	a := Address{IP: ip.WithZone(""), Port: to.Port()}
	switch {
	case !ip.IsValid():
		return a, fmt.Errorf("no address: %w", unix.EINVAL)
	case ip.IsMulticast(), ip.IsUnspecified(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
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

// Connect is connect(2). A TCP socket that does not block answers EINPROGRESS.
//
// Errors: what the system says, bare.
func Connect(fd int, to Address) error {
	var name [unix.SizeofSockaddrInet6]byte
	length := putSockaddr(&name, to, to.IP.Is6())
	// After EINTR the connection goes on being made.
	_, _, errno := syscall.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&name)), uintptr(length))
	switch errno {
	case 0:
		return nil
	case unix.EINTR:
		return unix.EINPROGRESS
	}
	return errno
}
