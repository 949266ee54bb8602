package transport

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"netmon/core/job"
	"netmon/core/link"
)

const (
	kB = 1000
	MB = 1000 * kB
	GB = 1000 * MB
)

func both(bytes uint64) Amount { return Amount{Recent: bytes, Whole: bytes} }

func card(name string, speed uint64, address string, more ...func(*Link)) Link {
	l := Link{Link: &link.Link{Name: name, Kind: link.Physical, Hardware: true, Up: true, LinkSpeedBits: speed, Addresses: []string{}},
		Counted: true, HasBytes: true}
	if address != "" {
		l.Addresses = []string{address}
	}
	for _, f := range more {
		f(&l)
	}
	return l
}

func of(kind link.Kind) func(*Link) {
	return func(l *Link) {
		l.Kind, l.Hardware, l.Counted = kind, false, false
	}
}
func moved(bytes uint64) func(*Link) { return func(l *Link) { l.Bytes = both(bytes) } }
func member(of string) func(*Link)   { return func(l *Link) { l.Master, l.Enslaved = of, true } }
func primary(l *Link)                { l.Primary = true }
func counted(l *Link)                { l.Counted = true }
func down(l *Link)                   { l.Up = false }
func loopback() Link                 { return card("lo", 0, "127.0.0.1/8", of(link.Loopback)) }
func local(size int64) *int64        { return &size }
func address(text string) netip.Addr { return netip.MustParseAddr(text) }
func over(name string, b uint64) Connections {
	return Connections{Interface: name, Loopback: name == "lo", Bytes: both(b)}
}

func infiniband(device string, bytes uint64) Port {
	return Port{Device: device, Port: 1, LinkLayer: "InfiniBand", State: "active", Counted: true, Bytes: both(bytes)}
}

// node is a host of a job over eth0, with one active RDMA port that may be used and is not.
func node(change ...func(*Facts)) Facts {
	f := Facts{
		Recent: time.Minute, Whole: time.Hour,
		Connections:   []Connections{over("eth0", 9*GB), over("lo", 100*MB)},
		Ports:         []Port{infiniband("mlx5_0", 12*kB)},
		Links:         []Link{loopback(), card("eth0", 100e9, "10.0.0.5/24", primary, moved(10*GB))},
		DeviceNodes:   []string{"rdma_cm", "uverbs0"},
		Memlock:       Memlock{Known: true, Bytes: Unlimited},
		Master:        "10.0.0.1",
		MasterAddress: address("10.0.0.1"),
	}
	for _, c := range change {
		c(&f)
	}
	return f
}

func set(name, value string) func(*Facts) {
	return func(f *Facts) {
		if f.Settings == nil {
			f.Settings = job.Settings{}
		}
		f.Settings[name] = value
	}
}

func TestJudge_plane(t *testing.T) {
	for name, tt := range map[string]struct {
		facts             Facts
		plane             Plane
		carrier           string
		reason, noPlane   string
		reasonDoesNotHold string
	}{
		"tcp": {facts: node(), plane: TCP, carrier: "eth0",
			reason: "the job's TCP connections carried 9 GB in the last 60 s, 9 GB of it over eth0; loopback 100 MB, RDMA ports 0 bytes", reasonDoesNotHold: unseen},
		"tcp over two": {facts: node(func(f *Facts) { f.Connections = append(f.Connections, over("eth1", 1*GB)) }), plane: TCP, carrier: "eth0",
			reason: "carried 10 GB in the last 60 s, 9 GB of it over eth0"},
		"tcp without RDMA": {facts: node(func(f *Facts) { f.Ports, f.NoDevices = nil, "no /sys/class/infiniband" }), plane: TCP, carrier: "eth0",
			reason: "loopback 100 MB, there is no RDMA port"},
		"tcp, RDMA not read": {facts: node(func(f *Facts) { f.Ports, f.NoPorts = nil, "not in sources" }), plane: TCP, carrier: "eth0",
			reason: "RDMA ports are not known: not in sources"},
		"tcp, RDMA not counted": {facts: node(func(f *Facts) { f.Ports[0].Counted = false }), plane: TCP, carrier: "eth0",
			reason: "what RDMA ports carry is not counted by their driver"},
		"tcp, interface not known": {facts: node(func(f *Facts) { f.Connections = []Connections{over("", 9*GB)} }), plane: TCP,
			reason: "9 GB of it over an interface that is not known"},
		"rdma": {facts: node(func(f *Facts) { f.Ports = []Port{infiniband("mlx5_0", 80*GB), infiniband("mlx5_1", 81*GB)} }), plane: RDMA, carrier: "mlx5_1:1",
			reason: "RDMA ports of this node carried 161 GB in the last 60 s, most of it mlx5_1:1; the job's TCP connections 9 GB, loopback 100 MB"},
		"rdma over one of several": {facts: node(func(f *Facts) { f.Ports = []Port{infiniband("mlx5_0", 80*GB), infiniband("mlx5_1", 1*GB)} }), plane: RDMA,
			carrier: "mlx5_0:1", reason: "2 ports are active, 1 carries 99 %: mlx5_0:1"},
		"more by TCP than by RDMA": {facts: node(func(f *Facts) { f.Ports[0].Bytes = both(2 * GB) }), plane: TCP, carrier: "eth0", reason: "RDMA ports 2 GB"},
		"management packets are no traffic": {facts: node(func(f *Facts) {
			f.Connections, f.Ports[0].Bytes = nil, Amount{Recent: 900 * kB, Whole: 50 * MB}
		}), plane: None, reason: "the job's connections carried nothing since the monitor started 3600 s ago, and RDMA ports nothing; " + unseen},
		"IP over InfiniBand is no RDMA": {facts: node(func(f *Facts) {
			f.Connections = []Connections{over("ib0", 9*GB)}
			f.Links = append(f.Links, card("ib0", 200e9, "10.1.0.5/24", moved(9*GB)))
			f.Ports[0].Interface, f.Ports[0].Bytes = "ib0", both(9400*MB)
		}), plane: TCP, carrier: "ib0", reason: "ib0 is IP over InfiniBand, which is not RDMA"},
		"RDMA beside IP over InfiniBand": {facts: node(func(f *Facts) {
			f.Connections = []Connections{over("ib0", 9*GB)}
			f.Links = append(f.Links, card("ib0", 200e9, "10.1.0.5/24", moved(9*GB)))
			f.Ports[0].Interface, f.Ports[0].Bytes = "ib0", both(90*GB)
		}), plane: RDMA, carrier: "mlx5_0:1", reason: "carried 81 GB"},
		"RoCE counts apart from Ethernet": {facts: node(func(f *Facts) {
			f.Ports[0].LinkLayer, f.Ports[0].Interface, f.Ports[0].Bytes = "Ethernet", "eth0", both(12*GB)
		}), plane: RDMA, carrier: "mlx5_0:1", reason: "carried 12 GB"},
		"loopback": {facts: node(func(f *Facts) { f.Connections = []Connections{over("lo", 2*GB), over("eth0", 40*kB)} }), plane: Loopback, carrier: "lo",
			reason: "the job's connections inside this node carried 2 GB in the last 60 s; to other hosts 40 kB, RDMA ports 0 bytes; " + unseen},
		"none": {facts: node(func(f *Facts) { f.Connections, f.Ports, f.NoDevices = nil, nil, "no /sys/class/infiniband" }), plane: None,
			reason: "the job's connections carried nothing since the monitor started 3600 s ago, and there is no RDMA port; " + unseen},
		"quiet lately": {facts: node(func(f *Facts) {
			f.Connections = []Connections{{Interface: "eth0", Bytes: Amount{Recent: 10 * kB, Whole: 9 * GB}}, {Interface: "lo", Loopback: true, Bytes: Amount{Recent: 20 * kB, Whole: 1 * MB}}}
		}), plane: TCP, carrier: "eth0", reason: "carried 9 GB since the monitor started 3600 s ago"},
		"changed lately": {facts: node(func(f *Facts) {
			f.Connections = []Connections{{Interface: "eth0", Bytes: Amount{Recent: 10 * kB, Whole: 9 * GB}}, {Interface: "lo", Loopback: true, Bytes: Amount{Recent: 2 * GB, Whole: 2 * GB}}}
		}), plane: Loopback, carrier: "lo", reason: "carried 2 GB in the last 60 s"},
		"nothing but RDMA is known": {facts: node(func(f *Facts) {
			f.Connections, f.NoConnections, f.Ports[0].Bytes = nil, "not in sources", both(80*GB)
		}), plane: RDMA, carrier: "mlx5_0:1", reason: "the job's connections are not known: not in sources"},
		"connections not known": {facts: node(func(f *Facts) { f.Connections, f.NoConnections = nil, "not in sources" }),
			noPlane: "the job's connections are not known: not in sources"},
		"RDMA not known, nothing carried": {facts: node(func(f *Facts) { f.Connections, f.Ports, f.NoPorts = nil, nil, "not read yet" }),
			noPlane: "the job's connections carried nothing, and RDMA ports are not known: not read yet"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge(&tt.facts)
			assert.Equal(t, tt.plane, v.Plane)
			assert.Equal(t, tt.carrier, v.Interface)
			assert.Equal(t, tt.noPlane, v.NoPlane)
			assert.Contains(t, v.Reason, tt.reason)
			if tt.plane == "" {
				assert.Empty(t, v.Reason)
			}
			if tt.reasonDoesNotHold != "" {
				assert.NotContains(t, v.Reason, tt.reasonDoesNotHold)
			}
		})
	}
}

func TestJudge_shares(t *testing.T) {
	f := node(func(f *Facts) {
		f.Links = []Link{loopback(), card("eth0", 100e9, "10.0.0.5/24", moved(990*MB))}
		for _, name := range []string{"eth1", "eth2", "eth3", "eth4", "eth5", "eth6", "eth7"} {
			f.Links = append(f.Links, card(name, 100e9, "", moved(1*MB)))
		}
		f.Links = append(f.Links, card("eth8", 100e9, "", moved(500*MB), down), card("br0", 0, "", of(link.Bridge), moved(5*GB)))
	})
	v := Judge(&f)
	assert.Len(t, v.Shares, 8)
	assert.Equal(t, "eth0", v.Shares[0].Interface)
	assert.InDelta(t, 990.0/997, v.Shares[0].Ratio, 1e-9)
	assert.Contains(t, v.Reason, "; 8 counted interfaces are up, 1 carries 99 % of what all processes send and receive: eth0")

	f.Links[2].Bytes = both(500 * MB)
	assert.NotContains(t, Judge(&f).Reason, "1 carries")
	for i := range f.Links {
		f.Links[i].Bytes = Amount{}
	}
	v = Judge(&f)
	assert.False(t, v.Shares[0].Known)
	f.Links = nil
	assert.Equal(t, []Share{}, Judge(&f).Shares)
	f.NoLinks = "links are not recorded"
	v = Judge(&f)
	assert.Nil(t, v.Shares)
	assert.Equal(t, "links are not recorded", v.NoShares)
	assert.Empty(t, v.Wrong)

	v = Judge(&Facts{Links: make20()})
	assert.Len(t, v.Shares, most)
}

func make20() (links []Link) {
	for i := range 20 {
		links = append(links, card(string(rune('a'+i)), 0, ""))
	}
	return links
}

func TestJudge_idle(t *testing.T) {
	efa := func(f *Facts) {
		f.Ports[0] = Port{Device: "rdmap0s31", Port: 1, LinkLayer: "Unspecified", State: "active", Counted: true}
	}
	for name, tt := range map[string]struct {
		facts        Facts
		want, advice string // "" for none
	}{
		"RDMA carries":      {facts: node(func(f *Facts) { f.Ports[0].Bytes = both(90 * GB) })},
		"RDMA carries some": {facts: node(func(f *Facts) { f.Ports[0].Bytes = both(2 * GB) })},
		"not known":         {facts: node(func(f *Facts) { f.Ports, f.NoPorts = nil, "not in sources" })},
		"no class":          {facts: node(func(f *Facts) { f.Ports, f.NoDevices = nil, "no /sys/class/infiniband" }), want: "no /sys/class/infiniband"},
		"no ports":          {facts: node(func(f *Facts) { f.Ports = nil }), want: "no RDMA device"},
		"down": {facts: node(func(f *Facts) {
			f.Ports[0].State = "down"
			f.Ports = append(f.Ports, Port{Device: "mlx5_1", Port: 1, State: "init"}, Port{Device: "mlx5_2", Port: 1})
		}, set("NCCL_IB_DISABLE", "1")), want: "no port is active: mlx5_0:1 is down, mlx5_1:1 is init, mlx5_2:1 is in an unknown state", advice: "cables"},
		"no device node": {facts: node(func(f *Facts) { f.DeviceNodes = nil }),
			want: "there is no device node /dev/infiniband/uverbs*", advice: "--device=/dev/infiniband"},
		"no uverbs among the nodes": {facts: node(func(f *Facts) { f.DeviceNodes = []string{"rdma_cm", "umad0"} }), want: "no device node"},
		"nodes not known":           {facts: node(func(f *Facts) { f.DeviceNodes, f.NoDeviceNodes = nil, "EACCES" }), want: "active (mlx5_0:1), and nothing is seen"},
		"memlock": {facts: node(func(f *Facts) { f.Memlock.Bytes = 65536 }),
			want: "RLIMIT_MEMLOCK is 65536 bytes (65.5 kB) and this process has no CAP_IPC_LOCK", advice: "raise the limit to unlimited (ulimit -l unlimited"},
		"memlock that holds not": {facts: node(func(f *Facts) { f.Memlock = Memlock{Known: true, Bytes: 65536, Exempt: true} }), want: "nothing is seen"},
		"memlock not known":      {facts: node(func(f *Facts) { f.Memlock = Memlock{} }), want: "nothing is seen"},
		"memlock of a GiB":       {facts: node(func(f *Facts) { f.Memlock.Bytes = 1 << 30 }), want: "nothing is seen"},
		"disabled":               {facts: node(set("NCCL_IB_DISABLE", "1")), want: "NCCL_IB_DISABLE=1 tells NCCL not to use it", advice: "unset NCCL_IB_DISABLE"},
		"disabled, hexadecimal":  {facts: node(set("NCCL_IB_DISABLE", "0x1")), want: "NCCL_IB_DISABLE=0x1"},
		"not disabled":           {facts: node(set("NCCL_IB_DISABLE", "0")), want: "nothing is seen"},
		"no number":              {facts: node(set("NCCL_IB_DISABLE", "true")), want: "nothing is seen"},
		"sockets":                {facts: node(set("NCCL_NET", "socket")), want: "NCCL_NET=socket makes NCCL use sockets", advice: "unset NCCL_NET"},
		"another net":            {facts: node(set("NCCL_NET", "IB")), want: "nothing is seen"},
		"filter": {facts: node(set("NCCL_IB_HCA", "=mlx5_0:2,mlx5_9")), want: "NCCL_IB_HCA==mlx5_0:2,mlx5_9 leaves no active port over: mlx5_0:1",
			advice: "NCCL_IB_HCA==mlx5_0:1"},
		"filter excludes":            {facts: node(set("NCCL_IB_HCA", "^mlx5")), want: "leaves no active port"},
		"filter matches":             {facts: node(set("NCCL_IB_HCA", "mlx5")), want: "nothing is seen"},
		"filter matches a down port": {facts: node(set("NCCL_IB_HCA", "mlx5_1"), func(f *Facts) { f.Ports = append(f.Ports, Port{Device: "mlx5_1", Port: 1, State: "down"}) }), want: "leaves no active port"},
		"provider": {facts: node(set("FI_PROVIDER", "tcp;ofi_rxm"), efa), want: "FI_PROVIDER=tcp;ofi_rxm leaves libfabric, and NCCL's plugin for it, no provider",
			advice: "unset FI_PROVIDER"},
		"provider efa":       {facts: node(set("FI_PROVIDER", "efa"), efa), want: "nothing is seen"},
		"providers":          {facts: node(set("FI_PROVIDER", "tcp,verbs;ofi_rxm")), want: "nothing is seen"},
		"provider excluded":  {facts: node(set("FI_PROVIDER", "^efa"), efa), want: "FI_PROVIDER=^efa leaves"},
		"other one excluded": {facts: node(set("FI_PROVIDER", "^tcp,udp"), efa), want: "nothing is seen"},
		"verbs excluded":     {facts: node(set("FI_PROVIDER", "^verbs")), want: "FI_PROVIDER=^verbs leaves"},
		"UCX":                {facts: node(set("UCX_NET_DEVICES", "eth0")), want: "UCX_NET_DEVICES=eth0 names no active port: mlx5_0:1", advice: "UCX_NET_DEVICES=mlx5_0:1"},
		"UCX all":            {facts: node(set("UCX_NET_DEVICES", "all")), want: "nothing is seen"},
		"UCX port":           {facts: node(set("UCX_NET_DEVICES", "eth0,mlx5_0:1")), want: "nothing is seen"},
		"UCX excludes":       {facts: node(set("UCX_NET_DEVICES", "^eth0")), want: "nothing is seen"},
		"several":            {facts: node(set("NCCL_IB_DISABLE", "1"), func(f *Facts) { f.DeviceNodes = nil }), want: "was not given them; NCCL_IB_DISABLE=1", advice: "; unset NCCL_IB_DISABLE"},
		"nothing is carried": {facts: node(func(f *Facts) { f.Connections = nil }), want: "active (mlx5_0:1), but the job's connections carry nothing either"},
		"not counted":        {facts: node(func(f *Facts) { f.Ports[0].Counted = false }), want: "does not count what active ports carry (mlx5_0:1)"},
		"nothing is seen":    {facts: node(), want: "gloo does not use RDMA", advice: "NCCL_DEBUG=INFO"},
		"no advice inside a node": {facts: node(set("NCCL_IB_DISABLE", "1"), func(f *Facts) {
			f.Connections, f.MasterAddress = []Connections{over("lo", 9*GB)}, address("127.0.0.1")
		}), want: "NCCL_IB_DISABLE=1"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge(&tt.facts)
			if tt.want == "" {
				assert.Empty(t, v.IdleReason)
			}
			assert.Contains(t, v.IdleReason, tt.want)
			assert.Contains(t, v.Advice, tt.advice)
			if name == "no advice inside a node" {
				assert.Empty(t, v.Advice)
			}
			assert.Equal(t, tt.facts.NoPorts, v.NoIdle)
		})
	}
}

func TestJudge_wrongInterface(t *testing.T) {
	links := func(carrier string, links ...Link) func(*Facts) {
		return func(f *Facts) {
			f.Connections, f.Links = []Connections{over(carrier, 9*GB)}, append([]Link{loopback()}, links...)
		}
	}
	eth0 := card("eth0", 100e9, "10.0.0.5/24", primary)
	alone := func(size *int64) func(*Facts) { return func(f *Facts) { f.LocalWorldSize = size } }
	only := func(c ...Connections) func(*Facts) { return func(f *Facts) { f.Connections = c } }
	const export = "before the ranks start, set NCCL_SOCKET_IFNAME==eth0, GLOO_SOCKET_IFNAME=eth0 and TP_SOCKET_IFNAME=eth0"
	for name, tt := range map[string]struct {
		facts        Facts
		want, advice string // "" for none
	}{
		"right": {facts: node()},
		"docker": {facts: node(links("docker0", eth0, card("docker0", 0, "172.17.0.1/16", of(link.Bridge)), card("veth1", 10e9, "", of(link.Veth), member("docker0")))),
			want: "docker0 is a bridge between containers of this host; eth0 (100 Gbit/s) leads to others", advice: export},
		"a bridge with a card": {facts: node(links("br0", card("br0", 0, "10.0.0.5/24", of(link.Bridge)), card("eth0", 100e9, "", member("br0")), card("eth1", 1e9, "10.9.0.1/24")))},
		"a bridge over a bond": {facts: node(links("br0", card("br0", 0, "10.0.0.5/24", of(link.Bridge)), card("bond0", 0, "", of(link.Bond), member("br0")), eth0))},
		"no other interface":   {facts: node(links("docker0", card("docker0", 0, "172.17.0.1/16", of(link.Bridge))))},
		"veth of the host":     {facts: node(links("veth1", eth0, card("veth1", 10e9, "10.8.0.1/24", of(link.Veth)))), want: "veth1 (10 Gbit/s) leads to a container of this host", advice: export},
		"veth of a container":  {facts: node(links("eth0", card("eth0", 10e9, "10.0.0.5/24", of(link.Veth), counted, primary)))},
		"tunnel": {facts: node(links("wg0", eth0, card("wg0", 0, "10.99.0.1/24", of(link.Tunnel))), set("GLOO_SOCKET_IFNAME", "wg0")),
			want: "wg0 is a tunnel (VPN)", advice: export + " (now GLOO_SOCKET_IFNAME=wg0)"},
		"tunnel alone": {facts: node(links("tun0", card("tun0", 0, "10.99.0.1/24", of(link.Tunnel), counted)))},
		"management": {facts: node(links("eno1", card("eno1", 1e9, "192.168.1.5/24", primary), card("eth0", 100e9, "10.0.0.5/24"))),
			want: "eno1 (1 Gbit/s) is slower than eth0 (100 Gbit/s), which is up as well: it looks like the management network", advice: export},
		"slower, but the faster one is down":       {facts: node(links("eno1", card("eno1", 1e9, "192.168.1.5/24"), card("eth0", 100e9, "10.0.0.5/24", down)))},
		"slower, but the faster has no address":    {facts: node(links("eno1", card("eno1", 1e9, "192.168.1.5/24"), card("eth0", 100e9, "fe80::1/64")))},
		"slower, but the faster does not count":    {facts: node(links("eno1", card("eno1", 1e9, "192.168.1.5/24"), card("x", 100e9, "10.0.0.5/24", of(link.Other))))},
		"speed not known":                          {facts: node(links("eno1", card("eno1", 0, "192.168.1.5/24"), card("eth0", 100e9, "10.0.0.5/24")))},
		"a bond of the same cards":                 {facts: node(links("bond0", card("bond0", 50e9, "10.0.0.5/24", of(link.Bond)), card("eth0", 25e9, "", member("bond0"))))},
		"RDMA carries, and TCP begins on the slow": {facts: node(links("eno1", card("eno1", 1e9, "192.168.1.5/24"), eth0), func(f *Facts) { f.Ports[0].Bytes = both(90 * GB) })},
		"carrier not known":                        {facts: node(links("", eth0))},

		"loopback, nothing to others": {facts: node(only(over("lo", 20*MB)), alone(local(4))),
			want: "the master 10.0.0.1 is another host, and no connection of this process carried anything to any other host", advice: export + "; see that this host's own name"},
		"loopback, alone here": {facts: node(only(over("lo", 20*MB), over("eth0", 30*kB)), alone(local(1))),
			want: "the master 10.0.0.1 is another host and this is the only rank here, yet loopback carried 20 MB and connections to other hosts 30 kB"},
		"loopback, ranks here not known": {facts: node(only(over("lo", 20*MB), over("eth0", 30*kB))), want: "the only rank here"},
		"loopback among ranks":           {facts: node(only(over("lo", 20*MB), over("eth0", 30*kB)), alone(local(4)))},
		"loopback and much to others":    {facts: node(only(over("lo", 20*MB), over("eth0", 3*MB)), alone(local(1)))},
		"loopback, master here":          {facts: node(only(over("lo", 20*MB)), func(f *Facts) { f.MasterAddress = address("10.0.0.5") })},
		"loopback, master on loopback":   {facts: node(only(over("lo", 20*MB)), func(f *Facts) { f.MasterAddress = address("127.0.0.1") })},
		"loopback, no master":            {facts: node(only(over("lo", 20*MB)), func(f *Facts) { f.MasterAddress = netip.Addr{} })},

		"NCCL_SOCKET_IFNAME": {facts: node(set("NCCL_SOCKET_IFNAME", "=eth")), want: "NCCL_SOCKET_IFNAME==eth matches no interface with an address here: lo, eth0",
			advice: export + " (now NCCL_SOCKET_IFNAME==eth)"},
		"NCCL_SOCKET_IFNAME matches": {facts: node(set("NCCL_SOCKET_IFNAME", "^lo,docker"))},
		"GLOO_SOCKET_IFNAME": {facts: node(set("GLOO_SOCKET_IFNAME", "^lo,docker")),
			want: `GLOO_SOCKET_IFNAME=^lo,docker: "^lo" is no interface with an address here (lo, eth0); gloo takes whole names`, advice: export},
		"GLOO_SOCKET_IFNAME matches": {facts: node(set("GLOO_SOCKET_IFNAME", "eth0,lo"))},
		"TP_SOCKET_IFNAME":           {facts: node(set("TP_SOCKET_IFNAME", "eth")), want: "TP_SOCKET_IFNAME=eth is no interface with an address here: lo, eth0"},
		"TP_SOCKET_IFNAME matches":   {facts: node(set("TP_SOCKET_IFNAME", "eth0"))},
		"no interface at all":        {facts: node(links("eth0"), set("TP_SOCKET_IFNAME", "eth"), func(f *Facts) { f.Links = nil })},
		"nothing but a variable is known": {facts: node(set("TP_SOCKET_IFNAME", "eth"), func(f *Facts) { f.Connections, f.NoConnections = nil, "not in sources" }),
			want: "TP_SOCKET_IFNAME=eth", advice: export},
		"both": {facts: node(links("wg0", eth0, card("wg0", 0, "10.99.0.1/24", of(link.Tunnel))), set("TP_SOCKET_IFNAME", "eth1")),
			want: "TP_SOCKET_IFNAME=eth1 is no interface with an address here: lo, eth0, wg0; wg0 is a tunnel"},
	} {
		t.Run(name, func(t *testing.T) {
			v := Judge(&tt.facts)
			if tt.want == "" {
				assert.Empty(t, v.Wrong)
				assert.NotContains(t, v.Advice, "IFNAME")
			}
			assert.Contains(t, v.Wrong, tt.want)
			assert.Contains(t, v.Advice, tt.advice)
		})
	}
}

func TestPercent(t *testing.T) {
	assert.Equal(t, "100 %", percent(1))
	assert.Equal(t, "99 %", percent(math.Nextafter(1, 0)))
	assert.Equal(t, "94 %", percent(0.94))
}

func TestList_namesAtMostEight(t *testing.T) {
	assert.Equal(t, "a, b", list([]string{"a", "b"}))
	assert.Equal(t, "1, 2, 3, 4, 5, 6, 7, 8 and 2 more", list([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}))
}

func BenchmarkJudge(b *testing.B) {
	f := node(func(f *Facts) {
		for i := range 400 {
			f.Links = append(f.Links, card(string(rune('a'+i)), 10e9, "10.0.0.5/24", moved(uint64(i))))
		}
	})
	for b.Loop() {
		Judge(&f)
	}
}
