package link

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
	"netmon/core/nettest"
)

func read(t *testing.T, w *Watcher) map[string]*Link {
	t.Helper()
	links, err := w.Read()
	require.NoError(t, err)
	byName := make(map[string]*Link)
	for _, l := range links {
		byName[l.Name] = l
	}
	return byName
}

// What the watcher says of every interface is what ip(8) says.
func TestWatcher_againstIP(t *testing.T) {
	nettest.Enter(t,
		"link add eth0 type veth peer name far", "link set eth0 up mtu 4321", "link set far up", "addr add 10.9.0.1/24 dev eth0",
		"addr add fd09::1/64 dev eth0 nodad",
		"link add br0 type bridge", "link add vx type veth peer name vy", "link set vx master br0",
		"link add vxlan7 type vxlan id 7 dstport 4789 dev eth0", "tuntap add tap0 mode tap",
	)
	w, err := Watch(kernelfs.System())
	require.NoError(t, err)
	defer w.Close()
	links := read(t, w)

	out, err := exec.Command("ip", "-j", "-d", "addr").Output()
	require.NoError(t, err)
	var said []struct {
		Index    int    `json:"ifindex"`
		Name     string `json:"ifname"`
		MTU      uint64 `json:"mtu"`
		State    string `json:"operstate"`
		Master   string `json:"master"`
		LinkInfo struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
		Addresses []struct {
			Local string `json:"local"`
			Bits  int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	require.NoError(t, json.Unmarshal(out, &said))
	require.Len(t, links, len(said))
	kinds := map[string]Kind{"": Loopback, "veth": Veth, "bridge": Bridge, "vxlan": Tunnel, "tun": Tunnel}
	for _, want := range said {
		got := links[want.Name]
		require.NotNil(t, got, want.Name)
		assert.Equal(t, want.Index, got.Index, want.Name)
		assert.Equal(t, want.MTU, got.MTU, want.Name)
		assert.Equal(t, want.Master, got.Master, want.Name)
		assert.Equal(t, strings.ToLower(want.State), got.State, want.Name)
		assert.Equal(t, kinds[want.LinkInfo.Kind], got.Kind, want.Name)
		addresses := []string{}
		for _, a := range want.Addresses {
			addresses = append(addresses, fmt.Sprintf("%s/%d", a.Local, a.Bits))
		}
		assert.ElementsMatch(t, addresses, got.Addresses, want.Name)
	}
	assert.Equal(t, uint64(10_000_000_000), links["eth0"].LinkSpeedBits, "veth's driver says 10 Gbit/s (ethtool eth0)")
	assert.Equal(t, "full", links["eth0"].Duplex)
	assert.Zero(t, links["tap0"].LinkSpeedBits)
	assert.NotEmpty(t, links["tap0"].SpeedReason)
	assert.NotEmpty(t, links["lo"].SpeedReason)
	assert.True(t, links["br0"].Upper)
	assert.True(t, links["vx"].Enslaved)
	assert.True(t, links["eth0"].Up)
	assert.False(t, links["vy"].Up)
}

func TestWatcher_noticesChanges(t *testing.T) {
	host := nettest.Enter(t, "link add eth0 type veth peer name far", "link set far up", "link set eth0 up",
		"addr add 10.9.0.1/24 dev eth0")
	w, err := Watch(kernelfs.System())
	require.NoError(t, err)
	defer w.Close()
	settle := func() Change {
		// Carrier changes are announced by a worker of the kernel, a little later.
		var all Change
		for range 20 {
			all |= w.Changed()
			time.Sleep(5 * time.Millisecond)
		}
		return all
	}
	settle()
	assert.Zero(t, w.Changed())

	host.Run("ip link set eth0 mtu 9000")
	assert.Equal(t, LinksChanged, settle()&LinksChanged)
	assert.Equal(t, uint64(9000), read(t, w)["eth0"].MTU)

	host.Run("ip link set far down")
	assert.Equal(t, LinksChanged, settle()&LinksChanged)
	assert.False(t, read(t, w)["eth0"].Up)
	host.Run("ip link set far up")
	settle()

	host.Run("ip route add default via 10.9.0.2")
	assert.Equal(t, RoutesChanged, settle())

	host.Run("ip link set eth0 down")
	host.Run("ip link set eth0 name eth9")
	settle()
	assert.Contains(t, read(t, w), "eth9")
	host.Run("ip link del eth9")
	assert.Equal(t, LinksChanged, settle()&LinksChanged)
	assert.NotContains(t, read(t, w), "eth9")
}

func TestWatcher_route(t *testing.T) {
	nettest.Enter(t, "link add eth0 type veth peer name far", "link set far up", "link set eth0 up",
		"addr add 10.9.0.1/24 dev eth0", "addr add fd09::1/64 dev eth0 nodad")
	w, err := Watch(kernelfs.System())
	require.NoError(t, err)
	defer w.Close()
	links := read(t, w)
	for address, want := range map[string]int{
		"10.9.0.7": links["eth0"].Index, "fd09::7": links["eth0"].Index, "::ffff:10.9.0.7": links["eth0"].Index,
		"10.9.0.1": links["lo"].Index, "127.0.0.1": links["lo"].Index,
		"203.0.113.1": 0, "2001:db8::1": 0,
	} {
		assert.Equal(t, want, w.Route(netip.MustParseAddr(address)), address)
	}
}

// 300 links fill many datagrams, and links that come and go while the kernel lists them must not lose one.
func TestWatcher_manyLinksThatComeAndGo(t *testing.T) {
	host := nettest.Enter(t)
	for i := range 150 {
		host.Run(fmt.Sprintf("ip link add a%d type veth peer name b%d", i, i))
	}
	w, err := Watch(kernelfs.System())
	require.NoError(t, err)
	defer w.Close()
	namespace := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			action := "add"
			if i%2 == 1 {
				action = "del"
			}
			line := "link " + action + " churn"
			if action == "add" {
				line += " type veth peer name churned"
			}
			_ = exec.Command("nsenter", append([]string{"--net=" + namespace, "ip"}, strings.Fields(line)...)...).Run()
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 30 {
		links := read(t, w)
		assert.GreaterOrEqual(t, len(links), 301)
		for i := range 150 {
			require.Contains(t, links, fmt.Sprintf("a%d", i))
			require.Contains(t, links, fmt.Sprintf("b%d", i))
		}
	}
}

// The host closes our descriptors and opens its own connection under their numbers: it must see none of our bytes, and lose
// none of its own.
func TestWatcher_descriptorTakenOverByTheHost(t *testing.T) {
	w, err := Watch(kernelfs.System())
	require.NoError(t, err)
	numbers := []int{w.events.Number(), w.request.Number()}
	var others []int
	for _, fd := range numbers {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Dup3(pair[0], fd, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(pair[0]))
		_, err = unix.Write(pair[1], []byte("the host's data"))
		require.NoError(t, err)
		others = append(others, pair[1])
	}
	assert.Zero(t, w.Changed())
	_, err = w.Read()
	assert.ErrorIs(t, err, kernelfs.ErrForeign)
	assert.Zero(t, w.Route(netip.MustParseAddr("127.0.0.1")))
	w.Close()
	for i, fd := range numbers {
		buffer := make([]byte, 64)
		n, err := unix.Read(fd, buffer)
		require.NoError(t, err, "the host's connection stays open")
		assert.Equal(t, "the host's data", string(buffer[:n]))
		_, err = unix.Read(others[i], buffer)
		assert.ErrorIs(t, err, unix.EAGAIN, "nothing was sent into the host's connection")
		require.NoError(t, unix.Close(fd))
		require.NoError(t, unix.Close(others[i]))
	}
}

// A sample may still ask while the watcher is closed: the race detector watches, and the descriptor is asked for no more.
func TestWatcher_changedWhileClosing(t *testing.T) {
	for range 50 {
		w, err := Watch(kernelfs.System())
		require.NoError(t, err)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			for range 200 {
				w.Changed()
			}
		}()
		w.Close()
		<-asked
		assert.Zero(t, w.Changed())
	}
}

// A router knows the way from an address as well as to one.
func TestRouter(t *testing.T) {
	nettest.Enter(t,
		"link add eth0 type veth peer name far", "link set eth0 up", "link set far up", "addr add 10.9.0.1/24 dev eth0",
		"addr add fd09::1/64 dev eth0 nodad", "link add eth1 type veth peer name far1", "link set eth1 up", "link set far1 up",
		"addr add 10.8.0.1/24 dev eth1", "route add 10.7.0.0/16 via 10.9.0.2 dev eth0", "rule add from 10.8.0.1 lookup 100",
		"route add 10.7.0.0/16 via 10.8.0.2 dev eth1 table 100")
	r, err := OpenRouter()
	require.NoError(t, err)
	defer r.Close()
	for _, tt := range []struct{ local, remote, want string }{
		{"10.9.0.1", "10.9.0.7", "eth0"}, {"10.9.0.1", "10.7.1.1", "eth0"}, {"10.8.0.1", "10.7.1.1", "eth1"},
		{"10.9.0.1", "10.9.0.1", "lo"}, {"127.0.0.1", "127.0.0.9", "lo"}, {"fd09::1", "fd09::7", "eth0"}, {"::1", "::1", "lo"},
		{"fe80::1", "fe80::2%1", "lo"}, // the zone is an index
	} {
		name, err := r.Interface(netip.MustParseAddr(tt.local), netip.MustParseAddr(tt.remote))
		assert.NoError(t, err, "%+v", tt)
		assert.Equal(t, tt.want, name, "%+v", tt)
	}
	_, err = r.Interface(netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("192.0.2.1"))
	assert.ErrorIs(t, err, unix.ENETUNREACH)
	_, err = r.Interface(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2%4711"))
	assert.ErrorIs(t, err, unix.ENODEV)
}
