package stamp

import (
	"fmt"
	"net/netip"
	"syscall"
)

// Unreachable is an ICMP error that came instead of an answer.
type Unreachable struct {
	Errno syscall.Errno // what the kernel makes of it, such as EHOSTUNREACH
	IPv6  bool          // ICMPv6, which has types and codes of its own
	Type  uint8
	Code  uint8
	By    netip.Addr // who said it; not valid where the kernel does not tell
	Here  bool       // this host said it: the next hop did not answer to its address on the link
}

// Unwrap gives the errno.
func (u *Unreachable) Unwrap() error { return u.Errno }

func (u *Unreachable) Error() string {
	what := u.what()
	switch {
	case u.Here && u.IPv6:
		return what + ": no answer to neighbour discovery"
	case u.Here:
		return what + ": no answer to ARP"
	case u.By.IsValid():
		return what + ", said by " + u.By.String()
	}
	return what
}

// what names type and code as RFC 792, RFC 1812 and RFC 4443 do.
func (u *Unreachable) what() string {
	const (
		prohibited = "administratively prohibited"
		network    = "network unreachable"
		host       = "host unreachable"
		port       = "port unreachable"
		tooBig     = "packet too big"
		expired    = "time to live exceeded"
		parameter  = "parameter problem"
	)
	type message struct{ kind, code uint8 }
	m := message{u.Type, u.Code}
	switch {
	case u.IPv6:
		switch m {
		case message{1, 0}:
			return network
		case message{1, 1}, message{1, 5}, message{1, 6}:
			return prohibited
		case message{1, 3}:
			return host
		case message{1, 4}:
			return port
		}
		switch u.Type {
		case 1:
			return fmt.Sprintf("destination unreachable (code %d)", u.Code)
		case 2:
			return tooBig
		case 3:
			return expired
		case 4:
			return parameter
		}
	default:
		switch m {
		case message{3, 0}, message{3, 6}, message{3, 11}:
			return network
		case message{3, 1}, message{3, 7}, message{3, 8}, message{3, 12}:
			return host
		case message{3, 2}:
			return "protocol unreachable"
		case message{3, 3}:
			return port
		case message{3, 4}:
			return tooBig
		case message{3, 9}, message{3, 10}, message{3, 13}:
			return prohibited
		}
		switch u.Type {
		case 3:
			return fmt.Sprintf("destination unreachable (code %d)", u.Code)
		case 11:
			return expired
		case 12:
			return parameter
		}
	}
	return u.Errno.Error()
}
