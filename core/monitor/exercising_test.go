package monitor

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/exercise"
	"netmon/core/tool"
)

func TestParseTestRequest(t *testing.T) {
	q, err := parseTestRequest([]byte(`{"target": "10.0.0.2"}`))
	require.NoError(t, err)
	assert.Equal(t, exercise.Request{
		Tool: exercise.Netmon, Target: "10.0.0.2", Host: "10.0.0.2", Address: netip.MustParseAddr("10.0.0.2"), Port: 29542,
		Directions: []tool.Direction{tool.Transmit}, Duration: 2 * time.Second, Bytes: 16 << 30, Parallel: 1, Timeout: 12 * time.Second,
	}, q.Request)
	assert.Greater(t, q.wait, q.Timeout)

	q, err = parseTestRequest([]byte(`{"tool": "iperf3", "target": "node7:77", "direction": "both", "seconds": 10, "parallel": 8,
		"program": "/opt/iperf3", "timeout_seconds": 30, "wait_seconds": 0.5}`))
	require.NoError(t, err)
	assert.Equal(t, exercise.Request{
		Tool: exercise.IPerf3, Target: "node7:77", Host: "node7", Port: 77, Directions: []tool.Direction{tool.Transmit, tool.Receive},
		Duration: 10 * time.Second, Bytes: 16 << 30, Parallel: 8, Program: "/opt/iperf3", Timeout: 30 * time.Second,
	}, q.Request)
	assert.Equal(t, 500*time.Millisecond, q.wait)

	q, err = parseTestRequest([]byte(`{"tool": "speedtest-cli"}`))
	require.NoError(t, err)
	assert.Equal(t, []tool.Direction{tool.Receive, tool.Transmit}, q.Directions)
	assert.Equal(t, 90*time.Second, q.Timeout)
	assert.Zero(t, q.Parallel)

	q, err = parseTestRequest([]byte(`{"id": 3, "cancel": true}`))
	require.NoError(t, err)
	assert.Equal(t, Pending{ID: 3, Left: q.wait, cancel: true}, q.pending())
}

// No request, and no configuration, lifts a limit.
func TestParseTestRequest_limits(t *testing.T) {
	for key, values := range map[string][]string{
		"seconds": {"0", "0.09", "10.001", "1e9", "-1"}, "bytes": {"0", "17179869185", "-1"}, "parallel": {"0", "9"},
		"timeout_seconds": {"0.5", "121"},
	} {
		for _, value := range values {
			_, err := parseTestRequest(fmt.Appendf(nil, `{"target": "10.0.0.2", %q: %s}`, key, value))
			var wrong *TextError
			require.ErrorAs(t, err, &wrong, "%s %s", key, value)
			assert.Equal(t, key, wrong.Key)
		}
	}
}

func FuzzParseTestRequest(f *testing.F) {
	f.Add([]byte(`{"target": "10.0.0.2", "seconds": 3, "bytes": 5, "parallel": 2, "direction": "both", "wait_seconds": 1}`))
	f.Add([]byte(`{"tool": "speedtest-cli", "target": "12", "timeout_seconds": 3}`))
	f.Add([]byte(`{"id": 1, "cancel": true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		q, err := parseTestRequest(text)
		if err != nil || q.id != 0 {
			return
		}
		require.LessOrEqual(t, q.Duration, 10*time.Second)
		require.LessOrEqual(t, q.Bytes, uint64(16<<30))
		require.LessOrEqual(t, q.Parallel, 8)
		require.LessOrEqual(t, q.Timeout, 2*time.Minute)
		require.NotEmpty(t, q.Directions)
	})
}
