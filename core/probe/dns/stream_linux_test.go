package dns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/probe"
)

// Whoever lists the process's connections knows netmon's own.
func TestStream_isMarked(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	s, err := openStream(netip.MustParseAddrPort(listener.Addr().String()), nil)
	require.NoError(t, err)
	defer s.Close()
	mark, err := unix.GetsockoptInt(s.Number(), unix.SOL_TCP, unix.TCP_USER_TIMEOUT)
	require.NoError(t, err)
	assert.Equal(t, probe.SocketMark, mark)
}
