//go:build probing

package icmp

import (
	"errors"
	"io/fs"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/probe"
)

func TestProBing_overLoopback(t *testing.T) {
	p, err := New()
	require.NoError(t, err)
	defer p.Close()
	for i, address := range []string{"127.0.0.1", "::1"} {
		token := uint64(i)
		sent, err := p.Send(netip.AddrPortFrom(netip.MustParseAddr(address), 0), token)
		if errors.Is(err, fs.ErrPermission) {
			t.Skip(err)
		}
		require.NoError(t, err)
		assert.Equal(t, sentBytes(i == 1), sent)
		var got []probe.Result
		require.Eventually(t, func() bool {
			p.Receive(func(r probe.Result) { got = append(got, r) })
			return len(got) > 0
		}, 10*time.Second, time.Millisecond)
		assert.NoError(t, got[0].Err)
		assert.Equal(t, token, got[0].Token)
		assert.Positive(t, got[0].RTT)
	}
	_, err = p.Send(netip.MustParseAddrPort("127.0.0.1:0"), 9)
	require.NoError(t, err)
	p.Forget(9)
	p.Close()
	p.Receive(func(r probe.Result) { t.Errorf("of a probe that was given up: %v", r) })
}
