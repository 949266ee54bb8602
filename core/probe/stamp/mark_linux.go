package stamp

import (
	"golang.org/x/sys/unix"

	"netmon/core/probe"
)

// Mark makes a TCP socket known as netmon's own to whoever lists connections (package tcpinfo): by probe.SocketMark to the process
// that holds it, and to its parents, which see it by inet_diag only, by two options of multicast that mean nothing to TCP and that
// are on by default. None is worth failing for.
func Mark(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, probe.SocketMark)
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MULTICAST_LOOP, 0)
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MULTICAST_ALL, 0)
}
