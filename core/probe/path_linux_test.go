package probe_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/probe/path"
	"netmon/core/probe/stamp"
)

// chain makes hosts in a row, each linked with the next and the inner ones routing; the calling goroutine is in the first afterwards.
// Host i has 10.8.i.1 and fd08:i::1 towards the next one, which has .2 and ::2 there. What is nowhere is sent on as far as the last
// but one, which knows no way.
func chain(t *testing.T, length int) (hosts []*nettest.Host) {
	t.Helper()
	for range length {
		hosts = append(hosts, nettest.NewHost(t))
	}
	for i, h := range hosts[:length-1] {
		h.Link("next", []string{fmt.Sprintf("10.8.%d.1/24", i), fmt.Sprintf("fd08:%d::1/64", i)}, hosts[i+1],
			"back", []string{fmt.Sprintf("10.8.%d.2/24", i), fmt.Sprintf("fd08:%d::2/64", i)})
	}
	for i, h := range hosts {
		if i > 0 && i < length-1 {
			h.Sysctl("net/ipv4/ip_forward", "1")
			h.Sysctl("net/ipv6/conf/all/forwarding", "1")
		}
		if i < length-2 {
			h.Run(fmt.Sprintf("ip route add default via 10.8.%d.2", i), fmt.Sprintf("ip route add default via fd08:%d::2", i))
		}
		if i == length-1 {
			h.Run(fmt.Sprintf("ip route add default via 10.8.%d.1", i-1), fmt.Sprintf("ip route add default via fd08:%d::1", i-1))
			continue
		}
		for back := range i - 1 {
			h.Run(fmt.Sprintf("ip route add 10.8.%d.0/24 via 10.8.%d.1", back, i-1), fmt.Sprintf("ip route add fd08:%d::/64 via fd08:%d::1", back, i-1))
		}
	}
	hosts[0].Enter()
	return hosts
}

// generous lets a host answer as often as it is asked to.
func generous(hosts ...*nettest.Host) {
	for _, h := range hosts {
		h.Sysctl("net/ipv4/icmp_ratelimit", "0")
		h.Sysctl("net/ipv6/icmp/ratelimit", "0")
	}
}

// hides makes a host drop what it would send of this kind, as "icmp type time-exceeded".
func hides(h *nettest.Host, what ...string) {
	h.Run("nft add table inet hide", "nft add chain inet hide out { type filter hook output priority 0 ; }")
	for _, w := range what {
		h.Run("nft add rule inet hide out " + w + " drop")
	}
}

// trace traces a path in the calling thread's host to the end.
func trace(t *testing.T, target string, o path.Options) path.Result {
	t.Helper()
	o.Target = netip.MustParseAddr(target)
	return finish(t, start(t, o), 0)
}

func start(t *testing.T, o path.Options) *path.Trace {
	t.Helper()
	tr, err := path.Start(o, clock.System())
	require.NoError(t, err)
	t.Cleanup(tr.Close)
	return tr
}

// finish runs a trace in this thread, which is busy for a while each time before it looks at what came.
func finish(t *testing.T, tr *path.Trace, busy time.Duration) path.Result {
	t.Helper()
	c := clock.System()
	for end := time.Now().Add(time.Minute); !tr.Done(); {
		tr.Receive()
		require.True(t, time.Now().Before(end), "it never ends")
		due, ok := tr.Due()
		if !ok {
			break
		}
		clock.Sleep(busy)
		left := unix.NsecToTimespec(int64(max(due-c.Monotonic(), 0)))
		var set []unix.PollFd
		for _, d := range tr.Descriptors(nil) {
			set = append(set, unix.PollFd{Fd: int32(d.FD), Events: unix.POLLIN})
		}
		if _, err := unix.Ppoll(set, &left, nil); err != nil && !errors.Is(err, unix.EINTR) {
			require.NoError(t, err)
		}
	}
	return tr.Result()
}

// ways are the methods in both families, with the target at the end of a chain.
func ways(length int) map[string]path.Options {
	four := netip.MustParseAddr(fmt.Sprintf("10.8.%d.2", length-2))
	six := netip.MustParseAddr(fmt.Sprintf("fd08:%d::2", length-2))
	return map[string]path.Options{
		"icmp4": {Target: four, Method: probe.ICMP}, "icmp6": {Target: six, Method: probe.ICMP},
		"udp4": {Target: four, Method: probe.UDP}, "udp6": {Target: six, Method: probe.UDP},
	}
}

func TestPath_routersAndTheShortestLink(t *testing.T) {
	hosts := chain(t, 5)
	everyone(hosts[0])
	hides(hosts[2], "icmp type time-exceeded", "icmpv6 type time-exceeded")
	hosts[2].Run("ip link set next mtu 1400")
	hosts[3].Run("ip link set back mtu 1400")
	generous(hosts[1:]...)
	for name, o := range ways(5) {
		hosts[0].Run("ip route flush cache", "ip -6 route flush cache") // what earlier traces taught about the path
		o.Timeout = 500 * time.Millisecond
		r := finish(t, start(t, o), 0)
		require.NoError(t, r.Err, name)
		assert.True(t, r.Reached, name)
		assert.True(t, r.Done, name)
		assert.Equal(t, o.Method, r.Method, name)
		require.Len(t, r.Hops, 4, name)
		for i, h := range r.Hops {
			assert.Equal(t, i+1, h.TTL, name)
			assert.Equal(t, 3, h.Sent, name)
			assert.NoError(t, h.Err, name)
			assert.Empty(t, h.Others, name)
			if i == 1 {
				assert.False(t, h.Address.IsValid(), "%s: it answers nothing", name)
				assert.Zero(t, h.Received+h.Timed, name)
				continue
			}
			want := fmt.Sprintf("10.8.%d.2", i)
			if o.Target.Is6() {
				want = fmt.Sprintf("fd08:%d::2", i)
			}
			assert.Equal(t, netip.MustParseAddr(want), h.Address, name)
			assert.Equal(t, 3, h.Received, name)
			assert.Equal(t, 3, h.Timed, name)
			assert.Positive(t, h.MinRTT, name)
			assert.GreaterOrEqual(t, h.P50RTT, h.MinRTT, name)
			assert.Less(t, h.P50RTT, 100*time.Millisecond, name)
		}
		assert.Equal(t, 1400, r.PathMTU, "%s: %s", name, r.NoPathMTU)
		assert.False(t, r.BlackHole, name)
	}
}

// Routers as they come, which limit how often they answer.
func TestPath_usualRouters(t *testing.T) {
	for _, method := range []probe.Method{probe.ICMP, probe.UDP} {
		for _, target := range []string{"10.8.2.2", "fd08:2::2"} {
			hosts := chain(t, 4)
			everyone(hosts[0])
			r := trace(t, target, path.Options{Method: method})
			require.NoError(t, r.Err, target)
			require.Len(t, r.Hops, 3, target)
			for _, h := range r.Hops {
				assert.True(t, h.Address.IsValid(), "%s %s: %d", method, target, h.TTL)
				assert.Positive(t, h.Received, "%s %s: %d", method, target, h.TTL)
			}
			assert.Equal(t, 1500, r.PathMTU, "%s %s: %s", method, target, r.NoPathMTU)
		}
	}
}

func TestPath_needsNoRight(t *testing.T) {
	hosts := chain(t, 3)
	run := func(o path.Options) (r path.Result, err error) {
		hosts[0].Do(func() {
			dropRights(t)
			var tr *path.Trace
			if tr, err = path.Start(o, clock.System()); err == nil {
				r = finish(t, tr, 0)
			}
		})
		return r, err
	}
	target := netip.MustParseAddr("10.8.1.2")
	hosts[0].Sysctl("net/ipv4/ping_group_range", "1 0") // nobody
	r, err := run(path.Options{Target: target})
	require.NoError(t, err)
	require.NoError(t, r.Err)
	assert.Equal(t, probe.UDP, r.Method)
	assert.Equal(t, "permission denied: needs a group in ping_group_range", r.NoICMP)
	assert.Len(t, r.Hops, 2)
	assert.Equal(t, 1500, r.PathMTU)
	_, err = run(path.Options{Target: target, Method: probe.ICMP})
	assert.ErrorIs(t, err, unix.EACCES)

	everyone(hosts[0])
	r, err = run(path.Options{Target: target, Method: probe.Auto})
	require.NoError(t, err)
	require.NoError(t, r.Err)
	assert.Equal(t, probe.ICMP, r.Method)
	assert.Empty(t, r.NoICMP)
	assert.Len(t, r.Hops, 2)
}

func TestPath_thatEndsEarly(t *testing.T) {
	hosts := chain(t, 4)
	everyone(hosts[0])
	generous(hosts[1:]...)
	for _, method := range []probe.Method{probe.ICMP, probe.UDP} {
		r := trace(t, "10.99.0.1", path.Options{Method: method})
		assert.False(t, r.Reached)
		assert.ErrorIs(t, r.Err, unix.ENETUNREACH)
		assert.EqualError(t, r.Err, "network unreachable, said by 10.8.1.2")
		require.Len(t, r.Hops, 2)
		assert.NoError(t, r.Hops[0].Err)
		assert.Equal(t, "10.8.1.2", r.Hops[1].Address.String())
		assert.Equal(t, r.Err, r.Hops[1].Err, "beyond the second router there is no way")
		assert.Zero(t, r.PathMTU)
		assert.NotEmpty(t, r.NoPathMTU)

		r = trace(t, "fd99::1", path.Options{Method: method})
		assert.EqualError(t, r.Err, "network unreachable, said by fd08:1::2")
	}
	// A firewall on the way refuses as a host whose port is closed does.
	hosts[2].Run("nft add table inet refuse", "nft add chain inet refuse pass { type filter hook forward priority 0 ; }",
		"nft add rule inet refuse pass reject with icmpx type port-unreachable")
	r := trace(t, "10.8.2.2", path.Options{Method: probe.UDP})
	assert.False(t, r.Reached)
	assert.EqualError(t, r.Err, "port unreachable, said by 10.8.1.2")
}

func TestPath_thatNeverBegins(t *testing.T) {
	h := nettest.NewHost(t)
	peer := nettest.NewHost(t)
	h.Link("eth0", []string{"10.9.0.1/24"}, peer, "far0", []string{"10.9.0.2/24"})
	everyone(h)
	h.Enter()
	for _, method := range []probe.Method{probe.ICMP, probe.UDP} {
		r := trace(t, "192.0.2.1", path.Options{Method: method})
		assert.ErrorIs(t, r.Err, unix.ENETUNREACH)
		assert.Empty(t, r.Hops)
		assert.Equal(t, "the target was not reached", r.NoPathMTU)
	}
	h.Sysctl("net/ipv4/neigh/eth0/retrans_time_ms", "50")
	r := trace(t, "10.9.0.9", path.Options{Method: probe.UDP})
	assert.ErrorIs(t, r.Err, unix.EHOSTUNREACH)
	assert.EqualError(t, r.Err, "host unreachable: no answer to ARP")
	require.Len(t, r.Hops, 1)
	assert.False(t, r.Hops[0].Address.IsValid())

	_, err := path.Start(path.Options{Target: netip.MustParseAddr("fe80::1%nowhere9")}, clock.System())
	assert.ErrorIs(t, err, unix.ENODEV)
	h.Run("nft add table inet none", "nft add chain inet none out { type filter hook output priority 0 ; }",
		"nft add rule inet none out udp dport 33434 drop")
	r = trace(t, "10.9.0.2", path.Options{Method: probe.UDP})
	assert.ErrorIs(t, r.Err, unix.EPERM, "this host's own firewall")
}

func TestPath_silentTarget(t *testing.T) {
	hosts := chain(t, 3)
	hosts[2].Run("nft add table inet none", "nft add chain inet none in { type filter hook input priority 0 ; }",
		"nft add rule inet none in udp dport 33434 drop")
	began := time.Now()
	r := trace(t, "10.8.1.2", path.Options{Method: probe.UDP, MostHops: 12, Timeout: 200 * time.Millisecond})
	assert.Less(t, time.Since(began), 10*time.Second)
	assert.False(t, r.Reached)
	assert.ErrorIs(t, r.Err, probe.ErrLost)
	require.Len(t, r.Hops, 12)
	assert.Equal(t, "10.8.0.2", r.Hops[0].Address.String())
	for _, h := range r.Hops[1:] {
		assert.Equal(t, path.Hop{TTL: h.TTL, Sent: 1}, h)
	}
}

// The black hole of path MTU discovery: a router that drops what is too long, and what it would say about it.
func TestPath_blackHole(t *testing.T) {
	hosts := chain(t, 4)
	everyone(hosts[0])
	generous(hosts[1:]...)
	hides(hosts[1], "icmp type destination-unreachable", "icmpv6 type packet-too-big")
	hosts[1].Run("ip link set next mtu 1430")
	hosts[2].Run("ip link set back mtu 1430")
	for _, target := range []string{"10.8.2.2", "fd08:2::2"} {
		r := trace(t, target, path.Options{Method: probe.ICMP})
		require.NoError(t, r.Err)
		assert.Equal(t, 1430, r.PathMTU, "%s: %s", target, r.NoPathMTU)
		assert.True(t, r.BlackHole, target)
	}
}

func TestPath_toThisHost(t *testing.T) {
	h := nettest.NewHost(t)
	everyone(h)
	h.Enter()
	for _, method := range []probe.Method{probe.ICMP, probe.UDP} {
		for target, mtu := range map[string]int{"127.0.0.1": 65535, "::1": 65536} {
			r := trace(t, target, path.Options{Method: method})
			require.NoError(t, r.Err, "%s %s", method, target)
			require.Len(t, r.Hops, 1)
			assert.Equal(t, target, r.Hops[0].Address.String())
			assert.Equal(t, 3, r.Hops[0].Received)
			assert.Equal(t, mtu, r.PathMTU, "%s %s: %s", method, target, r.NoPathMTU)
		}
	}
}

// A port that somebody does use answers with a datagram, or not at all.
func TestPath_usedPort(t *testing.T) {
	h := nettest.NewHost(t)
	h.Enter()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Port: 33434, Addr: [4]byte{127, 0, 0, 1}}))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := unix.Recvfrom(fd, buffer, 0)
			if err != nil || n == 0 {
				return
			}
			_ = unix.Sendto(fd, []byte("not an answer to you"), 0, from)
		}
	}()
	r := trace(t, "127.0.0.1", path.Options{Method: probe.UDP})
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // says ENOTCONN, and wakes the reader
	<-stopped
	unix.Close(fd)
	require.NoError(t, r.Err)
	assert.True(t, r.Reached)
	assert.Equal(t, 65535, r.PathMTU)
}

// Routers that share traffic out by flow send all probes of a trace the same way, and those of another trace perhaps another.
func TestPath_oneWayOfSeveral(t *testing.T) {
	hosts := chain(t, 4)
	other := nettest.NewHost(t) // beside hosts[2]: from hosts[1] to hosts[3]
	hosts[1].Link("other", []string{"10.8.101.1/24"}, other, "back", []string{"10.8.101.2/24"})
	other.Link("next", []string{"10.8.102.1/24"}, hosts[3], "otherback", []string{"10.8.102.2/24"})
	other.Sysctl("net/ipv4/ip_forward", "1")
	other.Run("ip route add 10.8.0.0/24 via 10.8.101.1", "ip route add 10.8.2.0/24 via 10.8.102.2")
	hosts[1].Sysctl("net/ipv4/fib_multipath_hash_policy", "1") // by ports too
	hosts[1].Run("ip route del default", "ip route add 10.8.2.0/24 nexthop via 10.8.1.2 nexthop via 10.8.101.2")
	generous(hosts[1], hosts[2], hosts[3], other)
	seen := make(map[string]int)
	for range 40 {
		r := trace(t, "10.8.2.2", path.Options{Method: probe.UDP})
		require.NoError(t, r.Err)
		require.Len(t, r.Hops, 3)
		assert.Empty(t, r.Hops[1].Others)
		assert.Equal(t, 3, r.Hops[1].Received)
		seen[r.Hops[1].Address.String()]++
		if len(seen) == 2 {
			break
		}
	}
	assert.Contains(t, seen, "10.8.1.2")
	assert.Contains(t, seen, "10.8.101.2", "%v", seen)
}

// A busy process looks at the answers late; their time is that of their arrival.
func TestPath_timeIsTheKernels(t *testing.T) {
	hosts := chain(t, 3)
	everyone(hosts[0])
	for name, o := range ways(3) {
		r := finish(t, start(t, o), 60*time.Millisecond)
		require.NoError(t, r.Err, name)
		require.Len(t, r.Hops, 2, name)
		for _, h := range r.Hops {
			require.Positive(t, h.Timed, name)
			assert.Less(t, h.MinRTT, 30*time.Millisecond, name)
		}
	}
}

func TestPath_descriptorTakenOverByTheHost(t *testing.T) {
	h := nettest.NewHost(t)
	h.Enter()
	tr := start(t, path.Options{Target: netip.MustParseAddr("127.0.0.1"), Method: probe.UDP})
	tr.Receive()
	fd := tr.Descriptors(nil)[0].FD
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	defer unix.Close(pair[1])
	require.NoError(t, unix.Dup3(pair[0], fd, unix.O_CLOEXEC))
	require.NoError(t, unix.Close(pair[0]))
	require.NoError(t, unix.Sendto(pair[1], []byte("the host's data"), 0, nil))
	tr.Receive()
	assert.True(t, tr.Done())
	assert.ErrorIs(t, tr.Result().Err, stamp.ErrForeign)
	tr.Close()
	buffer := make([]byte, 64)
	n, _, err := unix.Recvfrom(fd, buffer, 0)
	require.NoError(t, err, "it is open, and nothing was taken from it")
	assert.Equal(t, "the host's data", string(buffer[:n]))
	require.NoError(t, unix.Close(fd))
}
