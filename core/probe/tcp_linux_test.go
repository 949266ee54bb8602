package probe_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/probe/tcp"
)

func openTCP(t testing.TB) *tcp.Prober {
	p := tcp.New()
	t.Cleanup(p.Close)
	return p
}

// listen opens a port that accepts, for IPv4 and IPv6. The descriptor never blocks.
func listen(h *nettest.Host, port int) (fd int) {
	h.T.Helper()
	h.Do(func() {
		var err error
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		require.NoError(h.T, err)
		require.NoError(h.T, unix.Bind(fd, &unix.SockaddrInet6{Port: port}))
		require.NoError(h.T, unix.Listen(fd, 64))
	})
	h.T.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestTCP_accepted(t *testing.T) {
	_, there := nettest.Pair(t)
	listener := listen(there, 2500)
	p := openTCP(t)
	for i, address := range []string{nettest.There4, nettest.There6, "fe80::2%eth0", "::ffff:" + nettest.There4, nettest.There4, nettest.There4} {
		r := one(t, p, to(address, 2500), uint64(i))
		assert.NoError(t, r.Err, address)
		assert.Equal(t, probe.TCP, r.Method)
		assert.Greater(t, r.RTT, time.Microsecond, address)
		assert.Less(t, r.RTT, 100*time.Millisecond, address)
	}
	assert.Empty(t, p.Descriptors(nil), "the sockets are closed")
	_, _, err := unix.Accept(listener)
	assert.ErrorIs(t, err, unix.EAGAIN, "the peer's program never hears of it")
	for _, h := range []string{"here", "there"} {
		check := func() {
			for _, file := range []string{"tcp", "tcp6"} {
				text, err := os.ReadFile("/proc/thread-self/net/" + file)
				require.NoError(t, err)
				for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
					assert.Equal(t, "0A", strings.Fields(line)[3], "%s: only the listener is left: %s", h, line)
				}
			}
		}
		if h == "there" {
			there.Do(check)
		} else {
			check()
		}
	}
}

func TestTCP_refused(t *testing.T) {
	nettest.Pair(t)
	p := openTCP(t)
	for i, address := range []string{nettest.There4, nettest.There6, "127.0.0.1", "::1"} {
		r := one(t, p, to(address, 2501), uint64(i))
		assert.NoError(t, r.Err, address)
		assert.Equal(t, probe.TCPRefused, r.Method)
		assert.Greater(t, r.RTT, time.Microsecond, address)
		assert.Less(t, r.RTT, 100*time.Millisecond, address)
	}
	_, err := p.Send(to(nettest.There4, 0), 9)
	assert.ErrorIs(t, err, unix.EINVAL)
}

func TestTCP_refusedByAFirewall(t *testing.T) {
	_, there := nettest.Pair(t)
	there.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; " +
		"add rule inet t in tcp dport 2502 reject with icmpx type port-unreachable")
	p := openTCP(t)
	for i, address := range []string{nettest.There4, nettest.There6} {
		r := one(t, p, to(address, 2502), uint64(i))
		assert.ErrorIs(t, r.Err, unix.ECONNREFUSED)
		assert.EqualError(t, r.Err, "port unreachable, said by "+address)
	}
}

func TestTCP_blackHole(t *testing.T) {
	_, there := nettest.Pair(t)
	listen(there, 2500)
	there.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in tcp dport 2500 drop")
	p := openTCP(t)
	_, err := p.Send(to(nettest.There4, 2500), 1)
	require.NoError(t, err)
	assert.Empty(t, await(t, p, 1, 300*time.Millisecond))
	require.Len(t, p.Descriptors(nil), 1)
	mark, err := unix.GetsockoptInt(p.Descriptors(nil)[0].FD, unix.SOL_TCP, unix.TCP_USER_TIMEOUT)
	require.NoError(t, err)
	assert.Equal(t, probe.SocketMark, mark, "it is known for netmon's own")
	p.Forget(1)
	p.Forget(1)
	assert.Empty(t, p.Descriptors(nil))
	there.Run("nft flush ruleset")
	assert.Empty(t, await(t, p, 1, 50*time.Millisecond))
	assert.NoError(t, one(t, p, to(nettest.There4, 2500), 2).Err)
}

// The kernel tries again after a second. Its handshake then takes microseconds, and says nothing of the first SYN.
func TestTCP_firstSYNLost(t *testing.T) {
	_, there := nettest.Pair(t)
	listen(there, 2500)
	there.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in tcp dport 2500 drop")
	p := openTCP(t)
	_, err := p.Send(to(nettest.There4, 2500), 1)
	require.NoError(t, err)
	assert.Empty(t, await(t, p, 1, 300*time.Millisecond))
	there.Run("nft flush ruleset")
	got := await(t, p, 1, 10*time.Second)
	require.Len(t, got, 1)
	assert.ErrorIs(t, got[0].Err, probe.ErrLost)
	assert.EqualError(t, got[0].Err, "no answer to the first SYN")
}

// The SYN arrives and its answer is lost: the peer's kernel answers again after a second, which is no round trip either.
func TestTCP_answerLost(t *testing.T) {
	here, there := nettest.Pair(t)
	listen(there, 2500)
	here.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in tcp sport 2500 drop")
	p := openTCP(t)
	_, err := p.Send(to(nettest.There4, 2500), 1)
	require.NoError(t, err)
	assert.Empty(t, await(t, p, 1, 300*time.Millisecond))
	here.Run("nft flush ruleset")
	got := await(t, p, 1, 10*time.Second)
	require.Len(t, got, 1)
	assert.ErrorIs(t, got[0].Err, probe.ErrLost)
}

func TestTCP_noAnswerAtAll(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 3 seconds")
	}
	_, there := nettest.Pair(t)
	there.Run("nft add table inet t; add chain inet t in { type filter hook input priority 0; }; add rule inet t in tcp dport 2500 drop")
	p := openTCP(t)
	r := one(t, p, to(nettest.There4, 2500), 1)
	assert.ErrorIs(t, r.Err, probe.ErrLost)
	assert.EqualError(t, r.Err, "no answer to two SYNs")
}

// sentBytes is what eth0 has sent, from the IP header on.
func sentBytes(t *testing.T) (bytes, packets int) {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	require.NoError(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if name, rest, found := strings.Cut(strings.TrimSpace(line), ":"); found && name == "eth0" {
			fields := strings.Fields(rest)
			bytes, err = strconv.Atoi(fields[8])
			require.NoError(t, err)
			packets, err = strconv.Atoi(fields[9])
			require.NoError(t, err)
		}
	}
	const ethernetHeader = 14
	return bytes - packets*ethernetHeader, packets
}

func TestTCP_countsItsBytes(t *testing.T) {
	_, there := nettest.Pair(t)
	listen(there, 2500)
	p := openTCP(t)
	for _, address := range []string{nettest.There4, nettest.There6} {
		one(t, p, to(address, 2500), 0) // so that the neighbour is known
		one(t, p, to(address, 2501), 0) // whose Send counted the last one's reset
		settled(t)
		before, packets := sentBytes(t)
		want := 0
		for i := range uint64(10) {
			port := uint16(2500 + i%2)
			sent, err := p.Send(to(address, port), i)
			require.NoError(t, err)
			want += sent
			require.Len(t, await(t, p, 1, time.Second), 1)
		}
		after, packetsAfter := sentBytes(t)
		assert.Equal(t, 15, packetsAfter-packets, "a SYN each, and a reset where the port accepts")
		assert.Equal(t, want, after-before, address)
	}
}

// settled waits until eth0 has sent nothing for a while.
func settled(t *testing.T) {
	t.Helper()
	last := -1
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, packets := sentBytes(t)
		if packets == last {
			return
		}
		last = packets
	}
}
