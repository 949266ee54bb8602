//go:build !linux

package inventory

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	gopsutil "github.com/shirou/gopsutil/v3/net"

	"netmon/core/link"
	"netmon/core/netdev"
)

// Watcher lists interfaces through gopsutil. It is the counterpart of link.Watcher.
type Watcher struct{}

// Changed says that links may have changed: these systems are not asked to tell.
func (Watcher) Changed() link.Change { return link.LinksChanged | link.RoutesChanged }

// Close does nothing.
func (Watcher) Close() {}

// Read returns all interfaces. Kinds follow BSD's names; where these say nothing (Windows) an interface is "other". State is up
// or down by its flag, and speeds are unknown.
func (Watcher) Read() ([]*link.Link, error) {
	stats, err := gopsutil.Interfaces()
	if err != nil {
		return nil, err
	}
	links := make([]*link.Link, 0, len(stats))
	for _, s := range stats {
		l := &link.Link{
			Index: s.Index, Name: s.Name, MTU: uint64(max(s.MTU, 0)), Addresses: []string{},
			State: "down", SpeedReason: "gopsutil does not report link speeds",
		}
		if slices.Contains(s.Flags, "up") {
			l.State, l.Up = "up", true
		}
		l.Kind = kindOf(s.Name, s.Flags)
		l.Hardware = l.Kind == link.Physical
		for _, address := range s.Addrs {
			l.Addresses = append(l.Addresses, address.Addr)
		}
		links = append(links, l)
	}
	return links, nil
}

func kindOf(name string, flags []string) link.Kind {
	if slices.Contains(flags, "loopback") {
		return link.Loopback
	}
	for prefix, kind := range map[string]link.Kind{
		"en": link.Physical, "bridge": link.Bridge, "bond": link.Bond, "vlan": link.VLAN, "feth": link.Veth,
		"utun": link.Tunnel, "tun": link.Tunnel, "tap": link.Tunnel, "gif": link.Tunnel, "stf": link.Tunnel,
		"ipsec": link.Tunnel, "ppp": link.Tunnel,
	} {
		digits, found := strings.CutPrefix(name, prefix)
		if found && digits != "" && strings.Trim(digits, "0123456789") == "" {
			return kind
		}
	}
	return link.Other
}

// DefaultRoute is the interface by which the system would send to an address of the documentation block of RFC 5737; nothing is
// sent to it.
func (w Watcher) DefaultRoute() string {
	index := w.Route(netip.AddrFrom4([4]byte{192, 0, 2, 1}))
	links, _ := w.Read()
	for _, l := range links {
		if l.Index == index {
			return l.Name
		}
	}
	return ""
}

// Route is the index of the interface that the system would send to destination by, 0 where it knows none. Connecting a UDP
// socket looks up the route and sends nothing.
func (Watcher) Route(destination netip.Addr) int {
	connection, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(destination, 9)))
	if err != nil {
		return 0
	}
	defer connection.Close()
	local, err := netip.ParseAddrPort(connection.LocalAddr().String())
	if err != nil {
		return 0
	}
	links, err := Watcher{}.Read()
	if err != nil {
		return 0
	}
	for _, l := range links {
		if l.HasAddress(local.Addr()) {
			return l.Index
		}
	}
	return 0
}

// Told are the counters that gopsutil reports.
func Told() (told [netdev.Counters]bool) {
	for _, c := range []netdev.Counter{
		netdev.ReceiveBytes, netdev.TransmitBytes, netdev.ReceivePackets, netdev.TransmitPackets,
		netdev.ReceiveErrors, netdev.TransmitErrors, netdev.ReceiveDrops, netdev.TransmitDrops,
	} {
		told[c] = true
	}
	return told
}

// ReadCounters returns what the interfaces counted, appended to rows[:0].
func ReadCounters(rows []netdev.Row) ([]netdev.Row, error) {
	stats, err := gopsutil.IOCounters(true)
	if err != nil {
		return rows[:0], err
	}
	rows = rows[:0]
	for _, s := range stats {
		row := netdev.Row{Name: s.Name}
		row.Values[netdev.ReceiveBytes], row.Values[netdev.TransmitBytes] = s.BytesRecv, s.BytesSent
		row.Values[netdev.ReceivePackets], row.Values[netdev.TransmitPackets] = s.PacketsRecv, s.PacketsSent
		row.Values[netdev.ReceiveErrors], row.Values[netdev.TransmitErrors] = s.Errin, s.Errout
		row.Values[netdev.ReceiveDrops], row.Values[netdev.TransmitDrops] = s.Dropin, s.Dropout
		rows = append(rows, row)
	}
	return rows, nil
}
