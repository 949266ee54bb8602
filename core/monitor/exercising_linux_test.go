package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/sample"
)

// testBy answers a request for a bandwidth test, waiting in slices as the C half does.
func testBy(m *Monitor, request string) (answer sample.BandwidthAnswer, err error) {
	var text bytes.Buffer
	p, err := m.Test([]byte(request))
	for answered := false; err == nil && !answered; {
		answered, err = m.AwaitTest(&p, 100*time.Millisecond, &text)
	}
	if err == nil {
		err = json.Unmarshal(text.Bytes(), &answer)
	}
	return answer, err
}

// newExercising is a monitor with real sockets, on an own free port where it serves.
func newExercising(t *testing.T, config string) *Monitor {
	t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	parsed.Variables = map[string]string{}
	m, err := New(parsed, Options{Version: "0.0.0-test"})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

func serving(t *testing.T, address string) (*Monitor, string) {
	t.Helper()
	parsed, err := ParseConfig(fmt.Appendf(nil, `{"interval_seconds": 0.05, "bandwidth_server": {"address": %q}}`, address))
	require.NoError(t, err)
	at := parsed.Bandwidth.Addr()
	parsed.Bandwidth = netip.AddrPortFrom(at, 0)
	m, err := New(parsed, Options{Version: "0.0.0-test"})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m, m.exercises.Serving().String()
}

func TestBandwidth_betweenTwoMonitors(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		t.Run(address, func(t *testing.T) {
			server, at := serving(t, address)
			m := newExercising(t, `{"interval_seconds": 0.05}`)
			answer, err := testBy(m, fmt.Sprintf(`{"target": %q, "direction": "both", "seconds": 0.3, "parallel": 3}`, at))
			require.NoError(t, err)
			require.True(t, answer.Done)
			require.Len(t, answer.Tests, 2)
			for i, direction := range []string{"transmit", "receive"} {
				row := answer.Tests[i]
				require.Nil(t, row.Error, direction)
				assert.Equal(t, "netmon", row.Tool)
				assert.Equal(t, at, row.Target)
				assert.Equal(t, direction, row.Direction)
				assert.EqualValues(t, 3, *row.Parallel)
				assert.InDelta(t, 0.3, *row.Seconds, 0.2)
				assert.InDelta(t, float64(*row.Bytes) / *row.Seconds, *row.ReceiverBytesPerSecond, 1)
				assert.Greater(t, *row.RTTSeconds, 0.0)
			}
			var text bytes.Buffer
			require.NoError(t, m.Sample(&text))
			var s sample.Sample
			require.NoError(t, json.Unmarshal(text.Bytes(), &s))
			assert.Equal(t, answer.Tests, s.BandwidthTests)
			assert.Empty(t, unexplained(t, text.Bytes()))

			// It rests now.
			answer, err = testBy(m, fmt.Sprintf(`{"target": %q, "seconds": 0.3}`, at))
			require.NoError(t, err)
			require.NotNil(t, answer.Tests[0].Error)
			assert.Contains(t, *answer.Tests[0].Error, "rests after its last test")
			text.Reset()
			require.NoError(t, m.Sample(&text))
			assert.Empty(t, unexplained(t, text.Bytes()))
			server.Close()
		})
	}
}

func TestBandwidth_nobodyServes(t *testing.T) {
	m := newExercising(t, `{}`)
	answer, err := testBy(m, `{"target": "127.0.0.1:1"}`)
	require.NoError(t, err)
	assert.Equal(t, `127.0.0.1:1 refuses the connection: no netmon there answers bandwidth tests; `+
		`start a monitor there with "bandwidth_server"`, *answer.Tests[0].Error)
}
