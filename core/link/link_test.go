package link

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// message builds the payload of an RTM_NEWLINK message as the kernel lays it out.
func message(index int32, arphrd uint16, flags uint32, attributes ...[]byte) []byte {
	m := make([]byte, sizeofIfInfomsg)
	binary.NativeEndian.PutUint16(m[2:], arphrd)
	binary.NativeEndian.PutUint32(m[4:], uint32(index))
	binary.NativeEndian.PutUint32(m[8:], flags)
	for _, a := range attributes {
		m = append(m, a...)
	}
	return m
}

func attribute(kind uint16, value []byte) []byte {
	a := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	a = binary.NativeEndian.AppendUint16(a, kind)
	a = append(a, value...)
	for len(a)%4 != 0 {
		a = append(a, 0)
	}
	return a
}

func word(kind uint16, text string) []byte { return attribute(kind, append([]byte(text), 0)) }

func u32(kind uint16, value uint32) []byte {
	return attribute(kind, binary.NativeEndian.AppendUint32(nil, value))
}

const (
	ether    = 1
	loopback = 772
	running  = flagUp | flagLowerUp
)

func info(kind string, member ...string) []byte {
	var inner []byte
	if kind != "" {
		inner = append(inner, word(iflaInfoKind, kind)...)
	}
	if len(member) > 0 {
		inner = append(inner, word(iflaInfoSlaveKind, member[0])...)
	}
	return attribute(iflaLinkinfo|0x8000, inner) // NLA_F_NESTED, as newer kernels set it
}

func parse(t *testing.T, messages ...[]byte) []*Link {
	t.Helper()
	var all []attributes
	for _, m := range messages {
		a, err := parseLink(m)
		require.NoError(t, err)
		all = append(all, a)
	}
	return build(all, map[int][]string{})
}

func TestKinds(t *testing.T) {
	device := word(iflaParentDevName, "0000:17:00.0")
	tests := []struct {
		name     string
		message  []byte
		kind     Kind
		hardware bool
	}{
		{"loopback", message(1, loopback, running|flagLoopback), Loopback, false},
		{"a network card", message(2, ether, running, device), Physical, true},
		{"a card in a bond", message(3, ether, running, device, info("", "bond")), BondMember, true},
		{"a card in a team", message(3, ether, running, device, info("", "team")), BondMember, true},
		{"a card in a bridge", message(3, ether, running, device, info("", "bridge")), Physical, true},
		{"veth in a bond", message(3, ether, running, info("veth", "bond")), BondMember, false},
		{"veth", message(4, ether, running, info("veth")), Veth, false},
		{"netkit", message(4, ether, running, info("netkit")), Veth, false},
		{"bridge", message(5, ether, running, info("bridge")), Bridge, false},
		{"bond", message(6, ether, running, info("bond")), Bond, false},
		{"VLAN", message(7, ether, running, info("vlan"), u32(iflaLink, 2)), VLAN, false},
		{"WireGuard", message(8, 0xfffe, running, info("wireguard")), Tunnel, false},
		{"VXLAN", message(8, ether, running, info("vxlan")), Tunnel, false},
		{"tap", message(8, ether, running, info("tun")), Tunnel, false},
		{"a tunnel of an old kernel", message(8, 768, 0), Tunnel, false},
		{"InfiniBand port", message(9, 32, running, info("ipoib"), device), Physical, true},
		{"InfiniBand partition", message(10, 32, running, info("ipoib"), u32(iflaLink, 9)), VLAN, false},
		{"macvlan", message(11, ether, running, info("macvlan"), u32(iflaLink, 2)), Other, false},
		{"ifb, which has no device", message(12, ether, 0, info("ifb")), Other, false},
		{"no kind and no device", message(13, ether, running), Other, false},
		{"DSA port", message(14, ether, running, info("dsa"), u32(iflaLink, 2), device), Other, false},
	}
	for _, tt := range tests {
		l := parse(t, append(tt.message, word(iflaIfname, "x")...))[0]
		assert.Equal(t, tt.kind, l.Kind, tt.name)
		assert.Equal(t, tt.hardware, l.Hardware, tt.name)
	}
}

func TestBuild_whatALinkSays(t *testing.T) {
	links := parse(t,
		message(2, ether, running, word(iflaIfname, "eth0"), u32(iflaMTU, 9000), attribute(iflaOperstate, []byte{6}),
			u32(iflaMaster, 5), info("", "bridge"), word(iflaParentDevName, "virtio0")),
		message(5, ether, flagUp, word(iflaIfname, "br0"), attribute(iflaOperstate, []byte{3}), info("bridge")),
		message(6, ether, running, word(iflaIfname, "weird"), attribute(iflaOperstate, []byte{200})),
	)
	assert.Equal(t, &Link{Index: 2, Name: "eth0", Kind: Physical, Hardware: true, Master: "br0", Enslaved: true, State: "up",
		Up: true, MTU: 9000, Addresses: []string{}}, links[0])
	assert.Equal(t, &Link{Index: 5, Name: "br0", Kind: Bridge, Upper: true, State: "lowerlayerdown", Addresses: []string{}}, links[1])
	assert.Equal(t, "unknown", links[2].State)
}

// What passes through an ifb comes from another interface and is counted there.
func TestCounted_ifbBesideVeth(t *testing.T) {
	links := parse(t,
		message(2, ether, running, word(iflaIfname, "eth0"), info("veth"), u32(iflaLink, 7), u32(iflaLinkNetnsid, 0)),
		message(3, ether, running, word(iflaIfname, "ifb0"), info("ifb")),
	)
	assert.Equal(t, []bool{true, false}, Counted(links, nil))
	assert.Equal(t, []bool{false, true}, Counted(links, []string{"ifb*"}), "by name all the same")
}

func TestParseLink_malformed(t *testing.T) {
	good := message(2, ether, running, word(iflaIfname, "eth0"))
	for name, m := range map[string][]byte{
		"empty":               {},
		"short header":        good[:10],
		"no name":             message(2, ether, running),
		"no index":            message(0, ether, running, word(iflaIfname, "x")),
		"attribute too long":  append(message(2, ether, running), 0xff, 0x7f, 3, 0),
		"attribute too short": append(message(2, ether, running), 1, 0, 3, 0),
		"rest of a header":    append(good, 1, 2),
	} {
		_, err := parseLink(m)
		assert.ErrorIs(t, err, ErrMessage, name)
	}
}

func TestParseAddress(t *testing.T) {
	header := func(bits byte, index uint32) []byte {
		return append([]byte{2, bits, 0, 0}, binary.NativeEndian.AppendUint32(nil, index)...)
	}
	index, prefix, err := parseAddress(append(header(24, 7), attribute(ifaAddress, []byte{10, 0, 0, 1})...))
	require.NoError(t, err)
	assert.Equal(t, 7, index)
	assert.Equal(t, "10.0.0.1/24", prefix.String())

	// A point-to-point link: IFA_ADDRESS is the other end.
	_, prefix, err = parseAddress(append(append(header(32, 7), attribute(ifaAddress, []byte{10, 0, 0, 2})...),
		attribute(ifaLocal, []byte{10, 0, 0, 1})...))
	require.NoError(t, err)
	assert.Equal(t, "10.0.0.1/32", prefix.String())

	for _, m := range [][]byte{nil, header(24, 7), append(header(33, 7), attribute(ifaAddress, []byte{10, 0, 0, 1})...),
		append(header(8, 7), attribute(ifaAddress, []byte{10, 0})...)} {
		_, _, err := parseAddress(m)
		assert.ErrorIs(t, err, ErrMessage)
	}
}

func named(kind Kind, name string, more ...func(*Link)) *Link {
	l := &Link{Name: name, Kind: kind, Hardware: kind == Physical, Up: true}
	for _, f := range more {
		f(l)
	}
	return l
}

func enslaved(l *Link) { l.Enslaved = true }
func upper(l *Link)    { l.Upper = true }
func hardware(l *Link) { l.Hardware = true }

func TestCounted(t *testing.T) {
	lo, eth0, eth1 := named(Loopback, "lo"), named(Physical, "eth0"), named(Physical, "eth1")
	tests := map[string]struct {
		links    []*Link
		patterns []string
		want     []string
	}{
		"one card":            {[]*Link{lo, eth0}, nil, []string{"eth0"}},
		"docker host":         {[]*Link{lo, eth0, named(Bridge, "docker0", upper), named(Veth, "veth1", enslaved)}, nil, []string{"eth0"}},
		"bridge over a card":  {[]*Link{lo, named(Physical, "eth0", enslaved), named(Bridge, "br0", upper)}, nil, []string{"eth0"}},
		"bond over two cards": {[]*Link{lo, named(BondMember, "eth0", hardware, enslaved), named(BondMember, "eth1", hardware, enslaved), named(Bond, "bond0", upper)}, nil, []string{"eth0", "eth1"}},
		"virtual function of a card": {[]*Link{lo, named(Physical, "eth0", upper), named(Physical, "enP1s1", enslaved, func(l *Link) { l.Master = "eth0" })},
			nil, []string{"eth0"}},
		"VLAN over a card":          {[]*Link{lo, eth0, named(VLAN, "eth0.100", upper)}, nil, []string{"eth0"}},
		"VPN over a card":           {[]*Link{lo, eth0, named(Tunnel, "wg0")}, nil, []string{"eth0"}},
		"container, a lone veth":    {[]*Link{lo, named(Veth, "eth0")}, nil, []string{"eth0"}},
		"container, two veths":      {[]*Link{lo, named(Veth, "eth0"), named(Veth, "net1")}, nil, []string{"eth0", "net1"}},
		"container with a bridge":   {[]*Link{lo, named(Veth, "eth0"), named(Bridge, "docker0", upper), named(Veth, "veth1", enslaved)}, nil, []string{"eth0"}},
		"container, VLAN over veth": {[]*Link{lo, named(Veth, "eth0"), named(VLAN, "eth0.7", upper)}, nil, []string{"eth0"}},
		"container with a VPN":      {[]*Link{lo, named(Veth, "eth0"), named(Tunnel, "tun0")}, nil, []string{"eth0"}},
		"rootless container":        {[]*Link{lo, named(Tunnel, "tap0")}, nil, []string{"tap0"}},
		"macvlan from elsewhere":    {[]*Link{lo, named(Other, "eth0")}, nil, []string{"eth0"}},
		"nothing but loopback":      {[]*Link{lo}, nil, nil},
		"nothing at all":            {nil, nil, nil},
		"loopback by name":          {[]*Link{lo, eth0}, []string{"lo"}, []string{"lo"}},
		"glob":                      {[]*Link{lo, eth0, eth1}, []string{"eth*"}, []string{"eth0", "eth1"}},
		"glob, one of these":        {[]*Link{lo, eth0, eth1}, []string{"eth[0-7]"}, []string{"eth0", "eth1"}},
		"glob, none of these":       {[]*Link{lo, eth0, eth1}, []string{"[!l]*", "!eth[!0]"}, []string{"eth0"}},
		"glob, none, Go's way":      {[]*Link{lo, eth0, eth1}, []string{"[^l]*"}, []string{"eth0", "eth1"}},
		"glob, taken as it is":      {[]*Link{named(Other, "[!x]"), named(Other, "a!"), eth0}, []string{`\[!x]`, "a[x!]", "[[!]?x]"}, []string{"[!x]", "a!"}},
		"exclusion narrows":         {[]*Link{lo, eth0, eth1}, []string{"!eth1"}, []string{"eth0"}},
		"exclusion wins":            {[]*Link{lo, eth0, eth1}, []string{"!eth1", "eth*"}, []string{"eth0"}},
		"no match":                  {[]*Link{lo, eth0}, []string{"ib*"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for i, counted := range Counted(tt.links, tt.patterns) {
				if counted {
					got = append(got, tt.links[i].Name)
				}
			}
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestPrimary(t *testing.T) {
	lo := &Link{Index: 1, Name: "lo", Kind: Loopback, Addresses: []string{"127.0.0.1/8"}}
	eth0 := &Link{Index: 2, Name: "eth0", Kind: Physical, Addresses: []string{"10.0.0.1/24", "fd00::1/64"}}
	eth1 := &Link{Index: 3, Name: "eth1", Kind: Physical, Addresses: []string{"10.1.0.1/24"}}
	links := []*Link{lo, eth0, eth1}
	both, one := []bool{false, true, true}, []bool{false, false, true}
	routes := map[string]int{"10.1.0.9": 3, "10.0.0.1": 1, "fd00::1": 1, "127.0.0.1": 1}
	route := func(a netip.Addr) int { return routes[a.String()] }
	tests := []struct {
		name, master, defaultName string
		counted                   []bool
		want                      *Link
	}{
		{"the route to the master", "10.1.0.9", "eth0", both, eth1},
		{"the master is here: who holds its address", "10.0.0.1", "eth1", both, eth0},
		{"the same over IPv6", "fd00::1", "eth1", both, eth0},
		{"a link-local address: the interface of its zone", "fe80::9%eth1", "eth0", both, eth1},
		{"a zone by its index", "fe80::9%3", "eth0", both, eth1},
		{"a zone that is not here: the default route", "fe80::9%eth7", "eth0", both, eth0},
		{"loopback says nothing: the default route", "127.0.0.1", "eth1", both, eth1},
		{"no route to it: the default route", "192.168.9.9", "eth0", both, eth0},
		{"no master: the default route", "", "eth0", both, eth0},
		{"no default route: the only one that counts", "", "", one, eth1},
		{"no default route and two that count: none", "", "", both, nil},
		{"a default route through loopback is none", "", "lo", both, nil},
	}
	for _, tt := range tests {
		var master netip.Addr
		if tt.master != "" {
			master = netip.MustParseAddr(tt.master)
		}
		assert.Same(t, tt.want, Primary(links, tt.counted, master, route, tt.defaultName), tt.name)
	}
}

func FuzzMessages(f *testing.F) {
	f.Add(message(2, ether, running, word(iflaIfname, "eth0"), u32(iflaMTU, 1500), info("veth", "bridge")))
	f.Add(append([]byte{2, 24, 0, 0, 7, 0, 0, 0}, attribute(ifaLocal, []byte{10, 0, 0, 1})...))
	f.Add(append(make([]byte, sizeofRtMsg), u32(rtaOIF, 3)...))
	f.Fuzz(func(t *testing.T, m []byte) {
		if a, err := parseLink(m); err == nil {
			require.Len(t, build([]attributes{a, a}, nil), 2)
		}
		if _, prefix, err := parseAddress(m); err == nil {
			require.True(t, prefix.IsValid())
		}
		parseRoute(m)
	})
}
