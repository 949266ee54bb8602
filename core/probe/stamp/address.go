package stamp

import "net/netip"

// Address is where a packet goes or comes from, as the kernel knows it.
type Address struct {
	IP    netip.Addr // without a zone, never an IPv4 address mapped into IPv6
	Port  uint16
	Scope uint32 // index of the interface that a link-local IPv6 address is on
}

// Key is the number under which the kernel tells when it sent a packet.
type Key struct {
	number uint32
	known  bool
}
