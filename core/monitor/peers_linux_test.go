package monitor

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/sample"
)

// connect makes a connection between two hosts of a lab, or within one.
func (l *lab) connect(from, to int, address string) (client, server *net.TCPConn) {
	l.t.Helper()
	in := func(namespace int, f func() error) {
		var err error
		inThread(func() {
			if err = unix.Setns(namespace, unix.CLONE_NEWNET); err == nil {
				err = f()
			}
		})
		require.NoError(l.t, err)
	}
	var listener *net.TCPListener
	in(to, func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		return err
	})
	defer listener.Close()
	in(from, func() (err error) {
		client, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr))
		return err
	})
	server, err := listener.AcceptTCP()
	require.NoError(l.t, err)
	l.t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// move sends bytes and waits until they have arrived.
func move(t *testing.T, from, to net.Conn, bytes int) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, to, int64(bytes))
		failed <- err
	}()
	_, err := from.Write(make([]byte, bytes))
	require.NoError(t, err)
	require.NoError(t, <-failed)
}

// newWatching is a monitor of the calling thread's namespace, whose loop the test turns.
func newWatching(t *testing.T, config string) *Monitor {
	t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	if parsed.Variables == nil {
		parsed.Variables = map[string]string{}
	}
	m, err := New(parsed, Options{Version: "0.0.0-test", NoLoop: true})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// sampled takes a sample on demand, through its JSON.
func sampled(t *testing.T, m *Monitor) *sample.Sample {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, m.Sample(&text))
	var s sample.Sample
	require.NoError(t, json.Unmarshal(text.Bytes(), &s))
	for _, name := range unexplained(t, text.Bytes()) {
		assert.True(t, strings.HasPrefix(name, "probes."), name) // whose errors and ports may be null
	}
	return &s
}

func peerAt(s *sample.Sample, address string) *sample.Peer {
	for i := range s.Peers {
		if s.Peers[i].Address == address {
			return &s.Peers[i]
		}
	}
	return nil
}

func TestPeers_countWhatIsSent(t *testing.T) {
	l := newLab(t)
	before, beforeFar := l.connect(l.here, l.there, there4+":0")
	move(t, before, beforeFar, 5000) // older than the monitor
	m := newWatching(t, `{"job": {"rank": 1, "peers": [{"rank": 0, "address": "`+there4+`"}, {"rank": 1, "address": "`+there6+`"},
		{"rank": 2, "address": "`+there6+`"}, {"rank": 3, "address": "`+there6+`"}]}}`)
	first := sampled(t, m)
	require.Len(t, first.Peers, 1, "the far ends are in another namespace")
	assert.Equal(t, there4, first.Peers[0].Address)
	assert.Zero(t, *first.Peers[0].SentBytesTotal)
	assert.Equal(t, uint64(1), first.Peers[0].Connections)
	assert.Equal(t, uint64(1), *first.Self.PeersSockets)

	client, server := l.connect(l.here, l.there, there4+":0")
	move(t, client, server, 1_000_000)
	move(t, server, client, 30_000)
	move(t, before, beforeFar, 700)
	six, sixFar := l.connect(l.here, l.there, "["+there6+"]:0")
	move(t, six, sixFar, 123)
	m.Tick()
	s := sampled(t, m)
	p := peerAt(s, there4)
	require.NotNil(t, p)
	assert.Equal(t, uint64(1_000_700), *p.SentBytesTotal)
	assert.Equal(t, uint64(30_000), *p.ReceivedBytesTotal)
	assert.Equal(t, uint64(2), p.Connections)
	assert.Equal(t, int64(0), *p.Rank)
	assert.Equal(t, []int64{0}, p.Ranks)
	assert.Equal(t, "own", p.Process)
	assert.Greater(t, *p.RTTSeconds, 0.0)
	assert.Less(t, *p.IdleSeconds, 5.0)
	p = peerAt(s, there6)
	require.NotNil(t, p)
	assert.Equal(t, uint64(123), *p.SentBytesTotal)
	assert.Nil(t, p.Rank)
	assert.Equal(t, []int64{2, 3}, p.Ranks, "the own rank never")
	assert.Equal(t, "several ranks are there, see ranks: "+there6, s.Unavailable["peers.rank"])

	require.Eventually(t, func() bool {
		m.Tick()
		p := peerAt(sampled(t, m), there6)
		return p.Interface != nil && *p.Interface == "eth0"
	}, 10*time.Second, time.Millisecond)

	// Totals outlive connections.
	client.Close()
	s = sampled(t, m)
	p = peerAt(s, there4)
	assert.Equal(t, uint64(1), p.Connections)
	assert.Equal(t, uint64(1_000_700), *p.SentBytesTotal)
	all := m.history.since(0)
	newest := all[len(all)-1]
	var text strings.Builder
	require.NoError(t, newest.WriteJSON(&text))
	assert.Contains(t, text.String(), `"address":"10.9.0.2","rank":0,"ranks":[0],"process":"own","interface":"eth0","connections":2`)
	metric, err := sample.FindMetric("peers.10.9.0.2.sent_bytes_total")
	require.NoError(t, err)
	value, known := metric.Value(newest)
	assert.True(t, known)
	assert.InDelta(t, 1_000_700, value, 0)

	part := m.parts[0].(*peersPart)
	require.Len(t, part.traffic(), 1)
	assert.Equal(t, "eth0", part.traffic()[0].interfaceName)
	assert.Equal(t, uint64(1_030_823), part.traffic()[0].bytes)
	assert.False(t, part.traffic()[0].loopback)
	assert.Equal(t, uint64(2), part.summary().connections)
}
