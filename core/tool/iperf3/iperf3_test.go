package iperf3

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/tool"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return text
}

func TestArguments(t *testing.T) {
	assert.Equal(t, []string{"iperf3", "--client", "fe80::1%eth0", "--port", "5201", "--time", "2", "--parallel", "4",
		"--connect-timeout", "2500", "--json", "--reverse"}, Arguments(Options{
		Host: "fe80::1%eth0", Port: 5201, Direction: tool.Receive, Seconds: 2, Parallel: 4, Connect: 2500 * time.Millisecond,
	}))
}

func TestResult_forward(t *testing.T) {
	r := Result(tool.Output{Text: recorded(t, "forward-2.json")}, tool.Transmit)
	require.NoError(t, r.Err)
	assert.Equal(t, 2, r.Parallel)
	assert.InDelta(t, 1, *r.Seconds, 0.1)
	assert.Greater(t, *r.Bytes, uint64(1e8))
	assert.InEpsilon(t, float64(*r.Bytes) / *r.Seconds, *r.Receiver, 1e-12)
	assert.InEpsilon(t, *r.Sender, *r.Receiver, 0.05)
	assert.NotNil(t, r.Resent)
	assert.Greater(t, *r.RTT, 1e-6)
	assert.Less(t, *r.RTT, 1e-1)
}

func TestResult_reverse(t *testing.T) {
	r := Result(tool.Output{Text: recorded(t, "reverse.json")}, tool.Receive)
	require.NoError(t, r.Err)
	assert.Equal(t, 1, r.Parallel)
	assert.Greater(t, *r.Receiver, 1e8)
	assert.NotNil(t, r.Resent)
	assert.Nil(t, r.RTT, "the server's round trip is not passed on")
	assert.Contains(t, r.Lacking, "rtt_seconds")
}

func TestResult_wrong(t *testing.T) {
	forward := recorded(t, "forward-2.json")
	for name, tt := range map[string]struct {
		out  tool.Output
		want string
	}{
		"refused": {tool.Output{Text: recorded(t, "refused.json")}, "iperf3 failed: unable to connect to server: Connection refused"},
		"nothing": {tool.Output{}, "iperf3 failed and said nothing"},
		"another iperf": {tool.Output{Errors: []byte("iperf: unrecognized option '--json'\n"), Exit: tool.Exit{Status: 1}},
			"iperf3 failed with exit status 1: iperf: unrecognized option '--json'"},
		"cut":          {tool.Output{Text: forward[:len(forward)/2]}, "no JSON of iperf3"},
		"no end":       {tool.Output{Text: []byte(`{"start": {}, "end": {}}`)}, "no receiver's figure"},
		"nothing came": {tool.Output{Text: []byte(`{"end": {"sum_received": {"seconds": 2, "bytes": 0}}}`)}, "no receiver's figure"},
		"no time":      {tool.Output{Text: []byte(`{"end": {"sum_received": {"seconds": 0, "bytes": 9}}}`)}, "no receiver's figure"},
		"negative":     {tool.Output{Text: []byte(`{"end": {"sum_received": {"seconds": 2, "bytes": -9}}}`)}, "no receiver's figure"},
		"half a byte":  {tool.Output{Text: []byte(`{"end": {"sum_received": {"seconds": 2, "bytes": 0.5}}}`)}, "no receiver's figure"},
		"words":        {tool.Output{Text: []byte("[ ID] Interval\n")}, "no JSON of iperf3"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Result(tt.out, tool.Transmit)
			require.ErrorContains(t, r.Err, tt.want)
			assert.Nil(t, r.Receiver)
			assert.Nil(t, r.Bytes)
		})
	}
}

func TestResult_largeCounts(t *testing.T) {
	text := bytes.Replace([]byte(`{"end": {"sum_received": {"seconds": 2, "bytes": BYTES}}}`), []byte("BYTES"), []byte("1.7179869184e+10"), 1)
	r := Result(tool.Output{Text: text}, tool.Transmit)
	require.NoError(t, r.Err)
	assert.Equal(t, uint64(16<<30), *r.Bytes)
	assert.Nil(t, r.Sender)
	assert.Nil(t, r.Resent)
}

func FuzzResult(f *testing.F) {
	for _, name := range []string{"forward-2.json", "reverse.json", "refused.json"} {
		f.Add(recorded(f, name), 0)
	}
	f.Add([]byte(`{"end": {"sum_received": {"seconds": 1e-308, "bytes": 1e18}, "streams": [{"sender": {"mean_rtt": 1e308}}]}}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, status int) {
		r := Result(tool.Output{Text: text, Exit: tool.Exit{Status: status}}, tool.Transmit)
		if r.Err != nil {
			require.Nil(t, r.Receiver)
			return
		}
		require.Greater(t, *r.Receiver, 0.0)
		require.Greater(t, *r.Seconds, 0.0)
		require.NotZero(t, *r.Bytes)
	})
}
