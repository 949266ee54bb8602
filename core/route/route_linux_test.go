package route

import (
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/kernelfs"
)

// The kernel's own files, with the routes that ip(8) made.
func TestDefaults_gatewaysAsIPSetThem(t *testing.T) {
	runtime.LockOSThread() // the thread ends with the test: its namespace is no other test's
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if os.Getenv("NETMON_REQUIRE_NAMESPACES") == "1" {
			t.Fatalf("network namespaces are required here: %v", err)
		}
		t.Skipf("needs the right to make a network namespace: %v", err)
	}
	ip := func(line string) {
		t.Helper()
		out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", line, out)
	}
	for _, line := range []string{"link set lo up", "link add eth0 type veth peer name far", "link set far up", "link set eth0 up",
		"addr add 10.9.0.1/24 dev eth0", "addr add fd09::1/64 dev eth0 nodad"} {
		ip(line)
	}
	d, err := Open(kernelfs.System())
	require.NoError(t, err)
	defer d.Close()
	v4, v6 := d.Read()
	assert.Zero(t, v4)
	assert.Zero(t, v6)

	ip("route add default via 10.9.0.254 metric 50")
	ip("route add default via 10.9.0.253 metric 60")
	ip("-6 route add default via fe80::7 dev eth0")
	v4, v6 = d.Read()
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("10.9.0.254")}, v4)
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("fe80::7%eth0")}, v6)

	ip("route del default via 10.9.0.254")
	ip("-6 route replace default via fd09::2 dev eth0")
	v4, v6 = d.Read()
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("10.9.0.253")}, v4)
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("fd09::2")}, v6)

	ip("route replace default dev eth0")
	ip("route del default via 10.9.0.253")
	v4, _ = d.Read()
	assert.Equal(t, Default{Interface: "eth0"}, v4)
	assert.Equal(t, "eth0", d.Interface())
}
