package probe_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
	"netmon/core/probe/tcp"
)

const acceptingPort, udpPort = 2500, 29541

// eachMethod runs f in the host here with a prober of each method, aimed by at at what answers there.
func eachMethod(t *testing.T, here, there *nettest.Host, f func(t *testing.T, p probe.Prober, at func(address string) netip.AddrPort)) {
	t.Helper()
	listen(there, acceptingPort)
	respond(there, fmt.Sprintf("[::]:%d", udpPort))
	for _, m := range []struct {
		name string
		open func(*testing.T) probe.Prober
		port uint16
	}{
		{"icmp", func(t *testing.T) probe.Prober { everyone(here); return openICMP(t) }, 0},
		{"icmp_raw", func(t *testing.T) probe.Prober { nobody(here); return openICMP(t) }, 0},
		{"tcp", func(t *testing.T) probe.Prober { return openTCP(t) }, acceptingPort},
		{"udp", func(t *testing.T) probe.Prober { return openUDP(t) }, udpPort},
	} {
		t.Run(m.name, func(t *testing.T) {
			here.Enter()
			f(t, m.open(t), func(address string) netip.AddrPort { return to(address, m.port) })
		})
	}
}

func TestTrouble_noRoute(t *testing.T) {
	here, there := nettest.Pair(t)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		for _, address := range []string{"10.200.0.1", "fd99::1"} {
			_, err := p.Send(at(address), 1)
			assert.ErrorIs(t, err, unix.ENETUNREACH)
			assert.ErrorContains(t, err, address)
		}
		_, err := p.Send(at("fe80::2"), 1)
		assert.ErrorIs(t, err, unix.EINVAL)
		assert.ErrorContains(t, err, "fe80::2 needs its interface, as in fe80::2%eth0")
		_, err = p.Send(at("fe80::2%eth9"), 1)
		assert.ErrorIs(t, err, unix.ENODEV)
		for _, address := range []string{"224.0.0.1", "255.255.255.255", "ff02::1%eth0", "0.0.0.0", "::"} {
			_, err = p.Send(at(address), 1)
			assert.ErrorIs(t, err, unix.EINVAL, address)
		}
		assert.Empty(t, await(t, p, 1, 20*time.Millisecond), "no result follows")
		assert.NoError(t, one(t, p, at(nettest.There4), 2).Err)
	})
}

// Nobody has the address: the kernel asks for it three times, then says so.
func TestTrouble_nobodyOnTheLink(t *testing.T) {
	here, there := nettest.Pair(t)
	for _, family := range []string{"ipv4", "ipv6"} {
		here.Sysctl("net/"+family+"/neigh/eth0/retrans_time_ms", "50")
	}
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		r := one(t, p, at("10.9.0.77"), 1)
		assert.ErrorIs(t, r.Err, unix.EHOSTUNREACH)
		assert.EqualError(t, r.Err, "host unreachable: no answer to ARP")
		r = one(t, p, at("fd09::77"), 2)
		assert.ErrorIs(t, r.Err, unix.EHOSTUNREACH)
		assert.EqualError(t, r.Err, "host unreachable: no answer to neighbour discovery")
	})
}

// router makes the host forward packets, and say of some that it will not. Not by unreachable routes: for these the kernel says so
// only once a second.
func router(h *nettest.Host, rules ...string) {
	h.Sysctl("net/ipv4/ip_forward", "1")
	h.Sysctl("net/ipv6/conf/all/forwarding", "1")
	h.Sysctl("net/ipv4/icmp_ratelimit", "0")
	h.Sysctl("net/ipv6/icmp/ratelimit", "0")
	h.Sysctl("net/ipv4/icmp_msgs_per_sec", "100000")
	h.Sysctl("net/ipv4/icmp_msgs_burst", "100000")
	h.Run("ip route add 10.50.0.0/16 dev lo", "ip route add fd50::/16 dev far0",
		"nft add table inet t; add chain inet t f { type filter hook forward priority 0; }")
	for _, r := range rules {
		h.Run("nft add rule inet t f " + r)
	}
}

func TestTrouble_saidByARouter(t *testing.T) {
	here, there := nettest.Pair(t)
	router(there, "ip daddr 10.50.1.0/24 reject with icmp type host-unreachable",
		"ip daddr 10.50.2.0/24 reject with icmp type admin-prohibited",
		"ip daddr 10.50.3.0/24 reject with icmp type net-unreachable",
		"ip6 daddr fd50:1::/64 reject with icmpv6 type no-route",
		"ip6 daddr fd50:2::/64 reject with icmpv6 type admin-prohibited",
		"ip6 daddr fd50:3::/64 reject with icmpv6 type addr-unreachable")
	here.Run("ip route add 10.50.0.0/16 via "+nettest.There4, "ip route add fd50::/16 via "+nettest.There6)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		for i, tt := range []struct {
			address, want string
			errno         unix.Errno
		}{
			{"10.50.1.1", "host unreachable, said by 10.9.0.2", unix.EHOSTUNREACH},
			{"10.50.2.1", "administratively prohibited, said by 10.9.0.2", unix.EHOSTUNREACH},
			{"10.50.3.1", "network unreachable, said by 10.9.0.2", unix.ENETUNREACH},
			{"fd50:1::1", "network unreachable, said by fd09::2", unix.ENETUNREACH},
			{"fd50:2::1", "administratively prohibited, said by fd09::2", unix.EACCES},
			{"fd50:3::1", "host unreachable, said by fd09::2", unix.EHOSTUNREACH},
		} {
			began := time.Now()
			r := one(t, p, at(tt.address), uint64(i))
			assert.ErrorIs(t, r.Err, tt.errno, tt.address)
			assert.EqualError(t, r.Err, tt.want, tt.address)
			assert.Less(t, time.Since(began), 500*time.Millisecond, tt.address)
		}
	})
}

// The kernel tells of an error at the next use of the socket, whomever that is about.
func TestTrouble_oneTargetsErrorsAreNotAnothers(t *testing.T) {
	here, there := nettest.Pair(t)
	router(there, "ip daddr 10.50.1.0/24 reject with icmp type host-unreachable")
	here.Run("ip route add 10.50.0.0/16 via " + nettest.There4)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		const rounds = 50
		for i := range uint64(rounds) {
			_, err := p.Send(at("10.50.1.1"), 2*i)
			require.NoError(t, err)
			_, err = p.Send(at(nettest.There4), 2*i+1)
			require.NoError(t, err)
		}
		got := await(t, p, 2*rounds, 10*time.Second)
		require.Len(t, got, 2*rounds)
		for _, r := range got {
			if r.Token%2 == 0 {
				assert.ErrorIs(t, r.Err, unix.EHOSTUNREACH)
			} else {
				assert.NoError(t, r.Err)
			}
		}
	})
}

func TestTrouble_interfaceGoesDownAndComesBack(t *testing.T) {
	here, there := nettest.Pair(t)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		assert.NoError(t, one(t, p, at(nettest.There4), 1).Err)
		here.Run("ip link set eth0 down")
		_, err := p.Send(at(nettest.There4), 2)
		assert.ErrorIs(t, err, unix.ENETUNREACH)
		here.Run("ip link set eth0 up")
		here.AwaitUp("eth0")
		assert.NoError(t, one(t, p, at(nettest.There4), 3).Err)
		assert.Empty(t, await(t, p, 1, 10*time.Millisecond))
	})
}

// The first packet waits for ARP, which takes 0.2 s here. That is not its round trip.
func TestTrouble_waitsForTheNeighbour(t *testing.T) {
	here, there := nettest.Pair(t)
	here.Sysctl("net/ipv4/neigh/eth0/retrans_time_ms", "50")
	here.Sysctl("net/ipv4/neigh/eth0/mcast_solicit", "100")
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		if t.Name() == "TestTrouble_waitsForTheNeighbour/tcp" {
			t.Skip("the kernel's clock for a handshake starts before that")
		}
		one(t, p, at(nettest.There4), 1)
		here.Run("ip neigh flush dev eth0")
		there.Run("nft add table arp t; add chain arp t in { type filter hook input priority 0; }; add rule arp t in drop")
		began := time.Now()
		_, err := p.Send(at(nettest.There4), 2)
		require.NoError(t, err)
		assert.Empty(t, await(t, p, 1, 200*time.Millisecond))
		there.Run("nft flush ruleset")
		got := await(t, p, 1, 10*time.Second)
		require.Len(t, got, 1)
		require.NoError(t, got[0].Err)
		assert.Greater(t, time.Since(began), 200*time.Millisecond)
		assert.Less(t, got[0].RTT, 50*time.Millisecond)
	})
}

// The host process closes our descriptors and opens its own files under their numbers: nothing is written to them, and the prober
// goes on with new sockets.
func TestTrouble_descriptorsTakenOverByTheHost(t *testing.T) {
	here, there := nettest.Pair(t)
	there.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; " +
		"add rule inet t in ip daddr 10.9.0.3 drop")
	there.Run("ip addr add 10.9.0.3/24 dev far0")
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		_, err := p.Send(at("10.9.0.3"), 1) // dropped, so the probe is under way
		require.NoError(t, err)
		p.Receive(func(probe.Result) {})
		path := filepath.Join(t.TempDir(), "theirs")
		require.NoError(t, os.WriteFile(path, []byte("the host's data"), 0o600))
		var numbers []int
		for _, d := range p.Descriptors(nil) {
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			require.NoError(t, unix.Dup3(fd, d.FD, unix.O_CLOEXEC))
			require.NoError(t, unix.Close(fd))
			numbers = append(numbers, d.FD)
		}
		require.NotEmpty(t, numbers)
		got := await(t, p, 1, 10*time.Second)
		require.Len(t, got, 1)
		assert.ErrorIs(t, got[0].Err, probe.ErrVoid)
		assert.EqualError(t, got[0].Err, "the probe's socket was closed by the host process")
		for token := uint64(2); token < 12; token++ { // enough for every source port
			assert.NoError(t, one(t, p, at(nettest.There4), token).Err)
		}

		// Once more, and now the next thing is to send.
		_, err = p.Send(at("10.9.0.3"), 20)
		require.NoError(t, err)
		var more []int
		for _, d := range p.Descriptors(nil) {
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			require.NoError(t, unix.Dup3(fd, d.FD, unix.O_CLOEXEC))
			require.NoError(t, unix.Close(fd))
			more = append(more, d.FD)
		}
		for token := uint64(21); token < 31; token++ {
			_, err := p.Send(at(nettest.There4), token)
			require.NoError(t, err)
		}
		assert.Len(t, await(t, p, 11, 10*time.Second), 11)
		_, err = p.Send(at("10.9.0.3"), 40)
		require.NoError(t, err)
		p.Forget(40)
		p.Close()
		for _, fd := range append(numbers, more...) {
			_, err := unix.Seek(fd, 0, unix.SEEK_CUR)
			assert.NoError(t, err, "the host's file stays open")
			require.NoError(t, unix.Close(fd))
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, "the host's data", string(text))
	})
}

func TestTrouble_answerOfAProbeThatWasGivenUp(t *testing.T) {
	here, there := nettest.Pair(t)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		_, err := p.Send(at(nettest.There4), 1)
		require.NoError(t, err)
		p.Forget(1)
		p.Forget(1)
		p.Forget(99)
		assert.Empty(t, await(t, p, 1, 50*time.Millisecond))
		p.Close()
		p.Close()
		p.Receive(func(r probe.Result) { t.Errorf("after Close: %v", r) })
		assert.Empty(t, p.Descriptors(nil))
	})
}

func TestTrouble_bytesSent(t *testing.T) {
	here, there := nettest.Pair(t)
	eachMethod(t, here, there, func(t *testing.T, p probe.Prober, at func(string) netip.AddrPort) {
		if _, is := p.(*tcp.Prober); is {
			t.Skip("see TestTCP_countsItsBytes")
		}
		for _, address := range []string{nettest.There4, nettest.There6} {
			one(t, p, at(address), 0) // so that the neighbour is known
			settled(t)
			want, _ := sentBytes(t)
			for i := range uint64(10) {
				sent, err := p.Send(at(address), 1+i)
				require.NoError(t, err)
				want += sent
				require.Len(t, await(t, p, 1, time.Second), 1)
			}
			got, _ := sentBytes(t)
			assert.Equal(t, want, got, address)
		}
	})
}

// A packet that the system refused may or may not have used up a number, and the stamps of later ones must still be found.
func TestStamp_afterRefusedPackets(t *testing.T) {
	here, there := nettest.Pair(t)
	everyone(here)
	here.Run("ip route add unreachable 10.60.0.0/24",
		"nft add table inet t; add chain inet t out { type filter hook output priority 0; }; add rule inet t out ip daddr 10.9.0.3 drop")
	_ = there
	c := clock.System()
	for _, protocol := range []int{unix.IPPROTO_ICMP, unix.IPPROTO_UDP} {
		s, err := stamp.Open(unix.AF_INET, unix.SOCK_DGRAM, protocol)
		require.NoError(t, err)
		defer s.Close()
		packet := make([]byte, 48)
		packet[0] = 8
		refused := map[string]error{"10.9.0.3": unix.EPERM, "10.60.0.1": unix.EHOSTUNREACH, "10.200.0.1": unix.ENETUNREACH}
		for range 5 {
			for bad, want := range refused {
				address, err := s.Address(to(bad, 9))
				require.NoError(t, err)
				_, _, err = s.Send(packet, address, stamp.Now(c))
				require.ErrorIs(t, err, want, bad)
			}
			for range 3 {
				good, err := s.Address(to(nettest.There4, 9))
				require.NoError(t, err)
				before := stamp.Now(c)
				sent, _, err := s.Send(packet, good, before)
				require.NoError(t, err)
				if sent != 0 { // the first waits for ARP
					assert.GreaterOrEqual(t, sent, before.Wall)
				}
				s.Events(func(e *stamp.Event) {})
				time.Sleep(time.Millisecond)
			}
		}
		for bad := range refused {
			address, _ := s.Address(to(bad, 9))
			_, _, err = s.Send(packet, address, stamp.Now(c))
			require.Error(t, err)
			good, _ := s.Address(to(nettest.There4, 9))
			before := stamp.Now(c)
			sent, _, err := s.Send(packet, good, before)
			require.NoError(t, err)
			assert.NotZero(t, sent, "the stamp is found after %s", bad)
			assert.Less(t, time.Duration(stamp.Now(c).Wall-sent), time.Second)
		}
	}
}
