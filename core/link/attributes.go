package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// ErrMessage means that an rtnetlink message is not understood.
var ErrMessage = errors.New("link: malformed rtnetlink message")

// The numbers of the kernel's uapi headers (linux/rtnetlink.h, if_link.h, if_addr.h, if.h, if_arp.h) that are read here. They
// are spelled out so that the parser compiles, and is fuzzed, on every system.
const (
	sizeofIfInfomsg = 16 // struct ifinfomsg
	sizeofIfAddrmsg = 8  // struct ifaddrmsg
	sizeofRtMsg     = 12 // struct rtmsg

	iflaIfname        = 3
	iflaMTU           = 4
	iflaLink          = 5
	iflaMaster        = 10
	iflaOperstate     = 16
	iflaLinkinfo      = 18
	iflaLinkNetnsid   = 37
	iflaParentDevName = 56
	iflaInfoKind      = 1
	iflaInfoSlaveKind = 4

	ifaAddress = 1
	ifaLocal   = 2
	rtaOIF     = 4

	flagUp       = 0x1
	flagLoopback = 0x8
	flagLowerUp  = 0x10000

	afUnspec = 0
	afInet   = 2
	afInet6  = 10

	attributeTypeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// arphrd are hardware types (linux/if_arp.h) that belong to tunnels without a kind of their own.
func tunnelHardware(arphrd uint16) bool {
	switch arphrd {
	case 512, 768, 769, 776, 778, 823, 0xfffe: // PPP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE
		return true
	}
	return false
}

// attributes of one RTM_NEWLINK message.
type attributes struct {
	index       int
	arphrd      uint16
	flags       uint32
	name        string
	mtu         uint32
	lower       int // IFLA_LINK: the interface below, or a veth's other end
	lowerAbroad bool
	master      int
	operstate   uint8
	kind        string // IFLA_INFO_KIND, "" for a plain device
	memberOf    string // IFLA_INFO_SLAVE_KIND
	parentDev   string
}

// eachAttribute calls f with every attribute of a chain, and reports whether the chain was whole.
func eachAttribute(chain []byte, f func(kind uint16, value []byte)) bool {
	for len(chain) >= 4 {
		length := int(binary.NativeEndian.Uint16(chain))
		if length < 4 || length > len(chain) {
			return false
		}
		f(binary.NativeEndian.Uint16(chain[2:])&attributeTypeMask, chain[4:length])
		aligned := (length + 3) &^ 3
		if aligned >= len(chain) {
			return true
		}
		chain = chain[aligned:]
	}
	return len(chain) == 0
}

func text(value []byte) string { return string(bytes.TrimRight(value, "\x00")) }

func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// parseLink parses the payload of an RTM_NEWLINK message.
func parseLink(message []byte) (a attributes, err error) {
	if len(message) < sizeofIfInfomsg {
		return a, fmt.Errorf("%w: %d bytes of ifinfomsg", ErrMessage, len(message))
	}
	a.arphrd = binary.NativeEndian.Uint16(message[2:])
	a.index = int(int32(binary.NativeEndian.Uint32(message[4:])))
	a.flags = binary.NativeEndian.Uint32(message[8:])
	whole := eachAttribute(message[sizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case iflaIfname:
			a.name = text(value)
		case iflaMTU:
			a.mtu = number(value)
		case iflaLink:
			a.lower = int(number(value))
		case iflaLinkNetnsid:
			a.lowerAbroad = true
		case iflaMaster:
			a.master = int(number(value))
		case iflaOperstate:
			if len(value) > 0 {
				a.operstate = value[0]
			}
		case iflaParentDevName:
			a.parentDev = text(value)
		case iflaLinkinfo:
			eachAttribute(value, func(kind uint16, value []byte) {
				switch kind {
				case iflaInfoKind:
					a.kind = text(value)
				case iflaInfoSlaveKind:
					a.memberOf = text(value)
				}
			})
		}
	})
	if !whole || a.name == "" || a.index <= 0 {
		return a, fmt.Errorf("%w: link %d %q", ErrMessage, a.index, a.name)
	}
	return a, nil
}

// parseAddress parses the payload of an RTM_NEWADDR message.
func parseAddress(message []byte) (index int, prefix netip.Prefix, err error) {
	if len(message) < sizeofIfAddrmsg {
		return 0, prefix, fmt.Errorf("%w: %d bytes of ifaddrmsg", ErrMessage, len(message))
	}
	bits := int(message[1])
	index = int(int32(binary.NativeEndian.Uint32(message[4:])))
	var local, address netip.Addr
	eachAttribute(message[sizeofIfAddrmsg:], func(kind uint16, value []byte) {
		parsed, ok := netip.AddrFromSlice(value)
		switch {
		case !ok:
		case kind == ifaLocal:
			local = parsed
		case kind == ifaAddress:
			address = parsed
		}
	})
	// On point-to-point links IFA_ADDRESS is the other end's address (rtnetlink(7)).
	if !local.IsValid() {
		local = address
	}
	if !local.IsValid() || bits > local.BitLen() {
		return 0, prefix, fmt.Errorf("%w: address of link %d", ErrMessage, index)
	}
	return index, netip.PrefixFrom(local, bits), nil
}

// parseRoute parses the payload of an RTM_NEWROUTE message down to the interface the route leaves by.
func parseRoute(message []byte) (index int) {
	if len(message) < sizeofRtMsg {
		return 0
	}
	eachAttribute(message[sizeofRtMsg:], func(kind uint16, value []byte) {
		if kind == rtaOIF {
			index = int(number(value))
		}
	})
	return index
}

// state is the operational state in the kernel's words (operstates of net/core/net-sysfs.c, RFC 2863 ifOperStatus).
func (a *attributes) state() string {
	words := [...]string{"unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"}
	if int(a.operstate) < len(words) {
		return words[a.operstate]
	}
	return "unknown"
}

// kindOf classifies a link by what the kernel says of it.
func (a *attributes) kindOf() (kind Kind, hardware bool) {
	hardware = a.kind == "" && a.parentDev != "" && a.flags&flagLoopback == 0
	switch a.kind {
	case "":
		switch {
		case a.flags&flagLoopback != 0:
			kind = Loopback
		case hardware:
			kind = Physical
		case tunnelHardware(a.arphrd):
			kind = Tunnel
		default:
			kind = Other
		}
	case "ipoib":
		// The port's own interface has no lower one; a partition (P_Key) is to it what a VLAN is to Ethernet.
		if kind = VLAN; a.lower == 0 || a.lower == a.index {
			kind, hardware = Physical, true
		}
	case "veth", "netkit", "vxcan":
		kind = Veth
	case "bridge":
		kind = Bridge
	case "bond", "team":
		kind = Bond
	case "vlan":
		kind = VLAN
	case "vxlan", "geneve", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan", "ipip", "sit", "ip6tnl",
		"vti", "vti6", "xfrm", "wireguard", "ovpn", "tun", "gtp", "l2tpeth", "bareudp", "amt", "ppp":
		kind = Tunnel
	default:
		kind = Other
	}
	if a.memberOf == "bond" || a.memberOf == "team" {
		kind = BondMember
	}
	return kind, hardware
}

// build makes the links of a namespace out of their attributes and addresses.
func build(all []attributes, addresses map[int][]string) []*Link {
	names := make(map[int]string, len(all))
	hasMembers := make(map[int]bool)
	for i := range all {
		names[all[i].index] = all[i].name
		if all[i].master != 0 {
			hasMembers[all[i].master] = true
		}
	}
	links := make([]*Link, 0, len(all))
	for i := range all {
		a := &all[i]
		kind, hardware := a.kindOf()
		l := &Link{
			Index: a.index, Name: a.name, Kind: kind, Hardware: hardware,
			Master: names[a.master], State: a.state(), MTU: uint64(a.mtu),
			Up:        a.flags&flagUp != 0 && a.flags&flagLowerUp != 0,
			Addresses: addresses[a.index],
		}
		l.Enslaved = a.master != 0 && a.memberOf != "vrf"
		// The other end of a veth pair is no lower interface, and an index of another namespace means nothing here.
		_, listed := names[a.lower]
		below := a.lower != 0 && a.lower != a.index && !a.lowerAbroad && listed && kind != Veth
		// Packets are sent into an ifb by another interface, on which they come or go.
		l.Upper = hasMembers[a.index] || below || a.kind == "ifb"
		if l.Addresses == nil {
			l.Addresses = []string{}
		}
		links = append(links, l)
	}
	return links
}
