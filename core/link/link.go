// Package link tells what the interfaces of a network namespace are: their kinds, states, speeds, addresses, and which of
// them leads to an address.
//
// Source: rtnetlink (rtnetlink(7): RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE and the notifications of RTMGRP_LINK and
// RTMGRP_*_IFADDR) and, for speed and duplex, ethtool's ioctl. Needs no privilege and sends no packet. Rtnetlink and not
// /sys/class/net, because sysfs shows the namespace it was mounted in and this one need not be that. The package reads no
// counters (netdev does) and computes no rates.
package link

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Kind says what stands behind an interface.
type Kind string

// The kinds of interfaces. A bond member is one whatever it is made of.
const (
	Physical   Kind = "physical"
	Loopback   Kind = "loopback"
	Veth       Kind = "veth"
	Bridge     Kind = "bridge"
	Bond       Kind = "bond"
	BondMember Kind = "bond_member"
	VLAN       Kind = "vlan"
	Tunnel     Kind = "tunnel"
	Other      Kind = "other"
)

// Link is one interface. A Link is not changed after it was made.
type Link struct {
	Index     int    // interface index, unique in its namespace while it lives
	Name      string // current name
	Kind      Kind
	Hardware  bool   // a device of the machine stands behind it, also when it is a bond member
	Master    string // name of the bridge, bond or VRF it belongs to, "" for none
	Enslaved  bool   // its bytes pass through a bridge or bond of this namespace
	Upper     bool   // it carries bytes that another interface of this namespace carries too
	State     string // operational state (RFC 2863) in the kernel's words: up, down, unknown, lowerlayerdown, dormant...
	Up        bool   // administratively up, with carrier
	MTU       uint64 // bytes of a packet above the link layer
	Addresses []string
	// LinkSpeedBits is the speed in bits per second, 0 when unknown, and SpeedReason says why then.
	LinkSpeedBits uint64
	SpeedReason   string
	// Duplex is "full", "half", or "" when the driver does not tell.
	Duplex string
}

// Change says what a Watcher noticed.
type Change uint8

// What may have changed.
const (
	LinksChanged  Change = 1 << iota // links or their addresses
	RoutesChanged                    // the routing table
)

// HasAddress tells whether the interface holds the address.
func (l *Link) HasAddress(address netip.Addr) bool {
	return slices.ContainsFunc(l.Addresses, func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		return err == nil && prefix.Addr() == address
	})
}

// Counted says which interfaces make up the totals, in the order of links, so that each byte counts once.
//
// Without patterns these are the interfaces with hardware behind them, of a device and its members the device. In a namespace that has none, as a container's, they
// are all that are not loopback, not a member of a bridge or bond, and do not carry bytes that another one carries too;
// tunnels only where nothing else is left, because their bytes leave through another interface. With patterns
// (those of glob(7); a leading ! excludes) they are those that match one pattern and no exclusion, loopback included; if there are
// only exclusions they narrow the default.
func Counted(links []*Link, patterns []string) []bool {
	counted := make([]bool, len(links))
	var include, exclude []string
	for _, pattern := range patterns {
		if rest, found := strings.CutPrefix(pattern, "!"); found {
			exclude = append(exclude, rest)
		} else {
			include = append(include, pattern)
		}
	}
	if len(include) > 0 {
		for i, l := range links {
			counted[i] = matches(include, l.Name)
		}
	} else {
		countDefault(links, counted)
	}
	for i, l := range links {
		counted[i] = counted[i] && !matches(exclude, l.Name)
	}
	return counted
}

func countDefault(links []*Link, counted []bool) {
	devices := make(map[string]bool)
	for _, l := range links {
		devices[l.Name] = l.Hardware
	}
	// A device that is member of another one, as a virtual function of a hypervisor's card, is counted there too.
	if mark(links, counted, func(l *Link) bool { return l.Hardware && !(l.Enslaved && devices[l.Master]) }) {
		return
	}
	own := func(l *Link) bool { return l.Kind != Loopback && !l.Enslaved && !l.Upper }
	if mark(links, counted, func(l *Link) bool { return own(l) && l.Kind != Tunnel }) {
		return
	}
	mark(links, counted, own)
}

func mark(links []*Link, counted []bool, accept func(*Link) bool) (any bool) {
	for i, l := range links {
		counted[i] = accept(l)
		any = any || counted[i]
	}
	return any
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(goPattern(pattern), name)
		return err == nil && ok
	})
}

// CheckPattern returns path.ErrBadPattern where a pattern of Counted, without its leading !, is malformed.
func CheckPattern(pattern string) error {
	_, err := path.Match(goPattern(pattern), "")
	return err
}

// goPattern is a glob(7) pattern as package path understands it, which writes [^...] where everybody else writes [!...].
func goPattern(pattern string) string {
	text := []byte(pattern)
	inClass := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\':
			i++
		case inClass:
			inClass = text[i] != ']'
		case text[i] == '[':
			inClass = true
			if i+1 < len(text) && text[i+1] == '!' {
				text[i+1] = '^'
			}
		}
	}
	return string(text)
}

// Primary is the interface that the job's traffic is expected on: the one the route to master leaves by; if master is an
// address of this host, the interface holding it; if that is loopback or master is not known, the default route's; else the
// only one that counts. nil when none of these exists. route looks up the interface index for an address, 0 for none;
// defaultName is the default route's interface, "" for none.
func Primary(links []*Link, counted []bool, master netip.Addr, route func(netip.Addr) int, defaultName string) *Link {
	if master.IsValid() {
		// A link-local address with a zone (fe80::1%eth0) is reached by the interface that the zone names.
		for _, l := range links {
			if zone := master.Zone(); l.Kind != Loopback && zone != "" && (l.Name == zone || strconv.Itoa(l.Index) == zone) {
				return l
			}
		}
		if l := byIndex(links, route(master)); l != nil && l.Kind != Loopback {
			return l
		}
		// The kernel routes an address of its own through lo, whichever interface holds it.
		for _, l := range links {
			if l.Kind != Loopback && l.HasAddress(master) {
				return l
			}
		}
	}
	for _, l := range links {
		if l.Name == defaultName && l.Kind != Loopback {
			return l
		}
	}
	var only *Link
	for i, l := range links {
		if counted[i] {
			if only != nil {
				return nil
			}
			only = l
		}
	}
	return only
}

func byIndex(links []*Link, index int) *Link {
	if index <= 0 {
		return nil
	}
	for _, l := range links {
		if l.Index == index {
			return l
		}
	}
	return nil
}
