package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultUDPPort is the port of a netmon instance that answers UDP echoes, where a target names none.
const DefaultUDPPort = 29541

// Target is what a probe is aimed at, as the caller wrote it and as it was understood. Exactly one of Address, Gateway and a name
// in Host says where it is.
type Target struct {
	Text    string     // verbatim
	Method  Method     // Auto, or what the scheme says
	Host    string     // without scheme, brackets and port
	Port    uint16     // 0: none named. Never 0 for UDP
	Address netip.Addr // what Host means where it is an address; IPv4 unmapped, a link-local IPv6 address with its zone
	Gateway bool       // the default gateway
}

// IsName tells whether Host is a name that has to be resolved.
func (t Target) IsName() bool { return !t.Address.IsValid() && !t.Gateway }

// gateway stands for the default gateway; a host of that name is written with a dot at its end.
const gateway = "gateway"

// ParseTarget understands one target:
//
//	10.0.0.2, fe80::1%eth0, node7    an address or a name; the method is chosen
//	10.0.0.2:29500, [::1]:29500      the same, with the TCP port to try where echoes are not answered
//	icmp://HOST                      ICMP echo
//	tcp://HOST, tcp://HOST:PORT      TCP handshake; without PORT one is chosen
//	udp://HOST, udp://HOST:PORT      UDP echo of another netmon instance; without PORT DefaultUDPPort
//	dns://NAME                       the time that the system's resolver takes for NAME
//	gateway                          the default gateway, also with a scheme: icmp://gateway
//
// Errors: a sentence that names the entry and what would be right.
func ParseTarget(text string) (Target, error) {
	t := Target{Text: text, Method: Auto}
	if err := t.parse(text); err != nil {
		return Target{}, fmt.Errorf("target %s: %w", quote(text), err)
	}
	return t, nil
}

// quote keeps sentences short.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}

func (t *Target) parse(rest string) error {
	if rest == "" {
		return errors.New("is empty; write an address or a name such as 10.0.0.2, node7 or tcp://10.0.0.2:29500")
	}
	if scheme, after, found := strings.Cut(rest, "://"); found {
		switch method := Method(strings.ToLower(scheme)); method {
		case ICMP, TCP, UDP, DNS:
			t.Method, rest = method, after
		default:
			return fmt.Errorf("unknown scheme %s; known are icmp://, tcp://, udp:// and dns://, and none for automatic choice", quote(scheme))
		}
	}
	if err := t.parseHostPort(rest); err != nil {
		return err
	}
	switch {
	case t.Port != 0 && (t.Method == ICMP || t.Method == DNS):
		return fmt.Errorf("%s:// takes no port; write %s://%s, or tcp:// for a TCP port", t.Method, t.Method, t.Host)
	case t.Method == DNS && !t.IsName():
		return fmt.Errorf("%s is an address and has nothing to resolve; write a name such as dns://node7, or icmp://%s", t.Host, t.Host)
	case t.Method == UDP && t.Port == 0:
		t.Port = DefaultUDPPort
	}
	return nil
}

func (t *Target) parseHostPort(rest string) error {
	host, port, hasPort, bracketed := rest, "", false, false
	if inside, ok := strings.CutPrefix(rest, "["); ok {
		var after string
		if host, after, ok = strings.Cut(inside, "]"); !ok {
			return errors.New("the closing ] is missing; write an IPv6 address with a port as [::1]:29500")
		}
		bracketed = true
		if port, hasPort = strings.CutPrefix(after, ":"); !hasPort && after != "" {
			return fmt.Errorf("%s follows the ]; only :PORT may, as in [::1]:29500", quote(after))
		}
	} else if strings.Count(rest, ":") == 1 {
		host, port, hasPort = strings.Cut(rest, ":")
	}
	if hasPort {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 || port[0] == '+' {
			return fmt.Errorf("%s is no port; write a number from 1 to 65535", quote(port))
		}
		t.Port = uint16(number)
	}
	return t.parseHost(host, bracketed)
}

func (t *Target) parseHost(host string, bracketed bool) error {
	if strings.Contains(host, ":") {
		if !bracketed && (t.Method == TCP || t.Method == UDP) {
			return fmt.Errorf("write the IPv6 address in brackets: %s://[::1] or %s://[::1]:29500", t.Method, t.Method)
		}
		if before, zone, found := strings.Cut(host, "%25"); found && zone != "" { // as in a URL (RFC 6874)
			host = before + "%" + zone
		}
	} else if bracketed {
		return fmt.Errorf("only an IPv6 address stands in brackets, as in [::1]:29500, and %s is none", quote(host))
	}
	t.Host = host
	address, err := netip.ParseAddr(host)
	switch {
	case err == nil:
		t.Address = address.Unmap()
		return checkAddress(t.Address)
	case strings.Contains(host, ":"):
		return fmt.Errorf("%s is no IPv6 address; write one such as ::1 or [::1]:29500", quote(host))
	case host == gateway && t.Method != DNS:
		t.Gateway = true
		return nil
	}
	return CheckName(host)
}

// checkAddress refuses what is not one host.
func checkAddress(a netip.Addr) error {
	const mostZone = 15 // IFNAMSIZ - 1
	switch {
	case len(a.Zone()) > mostZone:
		return fmt.Errorf("%s is no interface's name; write a link-local address as fe80::1%%eth0", quote(a.Zone()))
	case a.IsUnspecified():
		return fmt.Errorf("%s is no host's address; write the address of one, 127.0.0.1 or ::1 for this one", a)
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is the address of many hosts; write the address of one", a)
	case a.IsLinkLocalUnicast() && a.Is6() && a.Zone() == "":
		return fmt.Errorf("%s is an address on every link; say which interface, as in %s%%eth0", a, a)
	case a.Zone() != "" && !a.IsLinkLocalUnicast():
		return fmt.Errorf("%s needs no interface; write %s", a, a.WithZone(""))
	}
	return nil
}

// CheckName tells whether name can be looked up: labels of letters, digits, - and _, as RFC 1123 section 2.1 and habit allow, each
// of at most 63 bytes, at most 253 together; a dot may end it.
//
// Errors: a sentence that says what would be right.
func CheckName(name string) error {
	const mostName, mostLabel = 253, 63
	bare := strings.TrimSuffix(name, ".")
	if len(bare) > mostName {
		return fmt.Errorf("the name has %d bytes; at most %d can be looked up", len(bare), mostName)
	}
	digits := true // of the label looked at last
	for label := range strings.SplitSeq(bare, ".") {
		if label == "" || len(label) > mostLabel {
			return fmt.Errorf("%s is no name: between its dots stand 1 to %d bytes; write a name such as node7.example", quote(name), mostLabel)
		}
		digits = true
		for _, c := range []byte(label) {
			letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '-' || c == '_'
			if !letter && (c < '0' || c > '9') {
				return fmt.Errorf("%s is neither an address nor a name; names have letters, digits, '-', '_' and dots (others in their xn-- form)",
					quote(name))
			}
			digits = digits && !letter
		}
	}
	if digits && strings.Contains(bare, ".") {
		return fmt.Errorf("%s is no IPv4 address; write four numbers from 0 to 255 such as 10.0.0.2", quote(name))
	}
	return nil
}
