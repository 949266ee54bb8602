package probe_test

import (
	"io/fs"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/probe/icmp"
)

func openICMP(t testing.TB) *icmp.Prober {
	t.Helper()
	p, err := icmp.New()
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// everyone may ping in the host.
func everyone(h *nettest.Host) { h.Sysctl("net/ipv4/ping_group_range", "0 2147483647") }

// nobody may ping in the host, but for those who may open raw sockets.
func nobody(h *nettest.Host) { h.Sysctl("net/ipv4/ping_group_range", "1 0") }

// kind is the type of the prober's only socket.
func kind(t *testing.T, p probe.Prober) int {
	t.Helper()
	descriptors := p.Descriptors(nil)
	require.Len(t, descriptors, 1)
	kind, err := unix.GetsockoptInt(descriptors[0].FD, unix.SOL_SOCKET, unix.SO_TYPE)
	require.NoError(t, err)
	return kind
}

func TestICMP_pingSocketNeedsNoRight(t *testing.T) {
	here, _ := nettest.Pair(t)
	everyone(here)
	dropRights(t)
	p := openICMP(t)
	assert.Equal(t, unix.SOCK_DGRAM, kind(t, p))
	for i, address := range []string{nettest.There4, nettest.There6, "fe80::2%eth0", "::ffff:" + nettest.There4} {
		r := one(t, p, to(address, 0), uint64(i))
		assert.NoError(t, r.Err, address)
		assert.Equal(t, probe.ICMP, r.Method)
		assert.Greater(t, r.RTT, time.Microsecond, address)
		assert.Less(t, r.RTT, 100*time.Millisecond, address)
	}
}

func TestICMP_rawWhereThereAreNoPingSockets(t *testing.T) {
	nettest.Pair(t)
	p := openICMP(t)
	assert.Equal(t, unix.SOCK_RAW, kind(t, p))
	for i, address := range []string{nettest.There4, nettest.There6, "fe80::2%eth0"} {
		r := one(t, p, to(address, 0), uint64(i))
		assert.NoError(t, r.Err, address)
		assert.Greater(t, r.RTT, time.Microsecond, address)
		assert.Less(t, r.RTT, 100*time.Millisecond, address)
	}
}

func TestICMP_neitherIsAllowed(t *testing.T) {
	nettest.Pair(t)
	dropRights(t)
	_, err := icmp.New()
	assert.ErrorIs(t, err, fs.ErrPermission)
	assert.ErrorIs(t, err, unix.EACCES)
	assert.EqualError(t, err, "permission denied: needs CAP_NET_RAW or ping_group_range")
}

var pingTimes = regexp.MustCompile(`time=([0-9.]+) ms`)

// ping runs ping(8), which takes the kernel's stamp of the reply, and returns its round trips.
func ping(t *testing.T, address string, count int) (rtts []time.Duration) {
	t.Helper()
	out, err := exec.Command("ping", "-n", "-i", "0.005", "-c", strconv.Itoa(count), address).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, m := range pingTimes.FindAllStringSubmatch(string(out), -1) {
		ms, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		rtts = append(rtts, time.Duration(ms*float64(time.Millisecond)))
	}
	require.NotEmpty(t, rtts)
	return rtts
}

func median(all []time.Duration) time.Duration { return quantile(all, 0.5) }

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1))]
}

func TestICMP_againstPing(t *testing.T) {
	here, _ := nettest.Pair(t)
	everyone(here)
	p := openICMP(t)
	var rtts []time.Duration
	for i := range uint64(100) {
		r := one(t, p, to(nettest.There4, 0), i)
		require.NoError(t, r.Err)
		rtts = append(rtts, r.RTT)
		time.Sleep(2 * time.Millisecond)
	}
	pinged := ping(t, nettest.There4, 100)
	t.Logf("p50: netmon %v, ping %v", median(rtts), median(pinged))
	// The machine may be busy: what the lab measures with care is not asserted here.
	assert.Less(t, (median(rtts) - median(pinged)).Abs(), 100*time.Microsecond)
}
