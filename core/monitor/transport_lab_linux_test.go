package monitor

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/nettest"
	"netmon/core/sample"
)

// swallow accepts connections in a host and reads all that comes.
func swallow(host *nettest.Host, address string) (at netip.AddrPort) {
	host.T.Helper()
	var listener net.Listener
	host.Do(func() {
		var err error
		listener, err = net.Listen("tcp", address+":0")
		require.NoError(host.T, err)
	})
	host.T.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				_, _ = io.Copy(io.Discard, connection)
			}()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String())
}

// Two links lead to the other host: a bridge as docker makes it, and the link that the job should use.
func TestTransport_bytesOverTheWrongLink(t *testing.T) {
	here, there := nettest.Pair(t)
	here.Run("ip link add docker0 type bridge", "ip link add vethd type veth peer name far1 netns "+there.Path(),
		"ip link set vethd master docker0", "ip link set vethd up", "ip link set docker0 up", "ip addr add 172.17.0.1/16 dev docker0")
	there.Run("ip link set far1 up", "ip addr add 172.17.0.2/16 dev far1")
	here.AwaitUp("docker0")

	config, err := ParseConfig([]byte(`{"interval_seconds": 0.1, "sources": ["interfaces", "peers", "rdma"],
		"job": {"environment": {"MASTER_ADDR": "` + there4 + `", "RANK": "1", "NCCL_SOCKET_IFNAME": "docker0"}}}`))
	require.NoError(t, err)
	m, err := New(config, Options{Version: "0.0.0-test"})
	require.NoError(t, err)
	defer m.Close()
	var d *sample.Transport
	until := func(what string, wanted func() bool) {
		t.Helper()
		ok := assert.Eventually(t, func() bool {
			var text bytes.Buffer
			var s sample.Sample
			require.NoError(t, m.Sample(&text))
			require.NoError(t, json.Unmarshal(text.Bytes(), &s))
			d = s.Transport
			return d != nil && wanted()
		}, 20*time.Second, 20*time.Millisecond)
		if !ok {
			text, _ := json.MarshalIndent(d, "", " ")
			t.Fatalf("%s: %s", what, text)
		}
	}
	until("nothing is carried at first", func() bool { return words(d.Plane) == "none" })

	const bytesOfOne = 5 << 20
	send := func(host string, bytes int) {
		t.Helper()
		connection, err := net.Dial("tcp", swallow(there, host).String()) // in the thread of the test, which is here
		require.NoError(t, err)
		t.Cleanup(func() { connection.Close() })
		_, err = connection.Write(make([]byte, bytes))
		require.NoError(t, err)
	}
	send("172.17.0.2", bytesOfOne)
	until("the bridge carries", func() bool {
		return words(d.Plane) == "tcp" && *d.TCPBytesTotal >= bytesOfOne && d.WrongInterface != nil
	})
	assert.Equal(t, "docker0", words(d.Interface))
	assert.Contains(t, words(d.WrongInterface), "docker0")
	assert.Contains(t, words(d.WrongInterface), "is a bridge between containers of this host; eth0")
	assert.Contains(t, words(d.Advice), "set NCCL_SOCKET_IFNAME==eth0, GLOO_SOCKET_IFNAME=eth0 and TP_SOCKET_IFNAME=eth0 (now NCCL_SOCKET_IFNAME=docker0)")
	assert.EqualValues(t, bytesOfOne, *d.TCPBytesTotal, "payload, each byte once")
	assert.Zero(t, *d.LoopbackBytesTotal)
	assert.Contains(t, words(d.RDMAIdleReason), "no /sys/class/infiniband")

	send(there4, 4*bytesOfOne)
	until("the right link carries more", func() bool { return words(d.Interface) == "eth0" && *d.TCPBytesTotal >= 5*bytesOfOne })
	assert.Nil(t, d.WrongInterface)
	assert.Equal(t, "eth0", d.Shares[0].Interface)
	assert.InDelta(t, 1, *d.Shares[0].Ratio, 0, "the bridge does not count")
	assert.EqualValues(t, 5*bytesOfOne, *d.TCPBytesTotal)
}
