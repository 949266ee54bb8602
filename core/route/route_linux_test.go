package route

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
	"netmon/core/nettest"
)

// The kernel's own files, with the routes that ip(8) made.
func TestDefaults_gatewaysAsIPSetThem(t *testing.T) {
	host := nettest.NewHost(t)
	host.Run("ip link add eth0 type veth peer name far", "ip link set far up", "ip link set eth0 up", "ip addr add 10.9.0.1/24 dev eth0",
		"ip addr add fd09::1/64 dev eth0 nodad")
	host.Enter()
	d, err := Open(kernelfs.System())
	require.NoError(t, err)
	defer d.Close()
	v4, v6 := d.Read()
	assert.Zero(t, v4)
	assert.Zero(t, v6)

	host.Run("ip route add default via 10.9.0.254 metric 50")
	host.Run("ip route add default via 10.9.0.253 metric 60")
	host.Run("ip -6 route add default via fe80::7 dev eth0")
	v4, v6 = d.Read()
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("10.9.0.254")}, v4)
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("fe80::7%eth0")}, v6)

	host.Run("ip route del default via 10.9.0.254")
	host.Run("ip -6 route replace default via fd09::2 dev eth0")
	v4, v6 = d.Read()
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("10.9.0.253")}, v4)
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("fd09::2")}, v6)

	host.Run("ip route replace default dev eth0")
	host.Run("ip route del default via 10.9.0.253")
	v4, _ = d.Read()
	assert.Equal(t, Default{Interface: "eth0"}, v4)
	assert.Equal(t, "eth0", d.Interface())
}
