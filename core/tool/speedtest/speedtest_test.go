package speedtest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/tool"
)

func both() []tool.Direction { return []tool.Direction{tool.Receive, tool.Transmit} }

func TestArguments(t *testing.T) {
	assert.Equal(t, []string{"speedtest-cli", "--json"}, Arguments(both(), ""))
	assert.Equal(t, []string{"speedtest-cli", "--json", "--no-upload", "--server", "12"}, Arguments(both()[:1], "12"))
	assert.Equal(t, []string{"speedtest-cli", "--json", "--no-download"}, Arguments(both()[1:], ""))
}

func TestResults(t *testing.T) {
	text, err := os.ReadFile("testdata/both.json")
	require.NoError(t, err)
	results := Results(tool.Output{Text: text}, both())
	require.Len(t, results, 2)
	down, up := results[0], results[1]
	require.NoError(t, down.Err)
	require.NoError(t, up.Err)
	assert.Equal(t, tool.Receive, down.Direction)
	assert.InDelta(t, 93784211.27836494/8, *down.Receiver, 1e-6)
	assert.Nil(t, down.Sender)
	assert.Equal(t, uint64(117700000), *down.Bytes)
	assert.InDelta(t, 0.018416, *down.RTT, 1e-12)
	assert.Equal(t, "speedtest.example.net:8080", down.Target)
	assert.Nil(t, down.Seconds)
	assert.Equal(t, tool.Transmit, up.Direction)
	assert.InDelta(t, 41255610.51288613/8, *up.Sender, 1e-6)
	assert.Nil(t, up.Receiver, "nobody timed what arrived")
	assert.Equal(t, uint64(52428800), *up.Bytes)
}

func TestResults_wrong(t *testing.T) {
	for name, tt := range map[string]struct {
		out  tool.Output
		want string
	}{
		"nothing":      {tool.Output{}, "speedtest-cli failed and said nothing"},
		"not reached":  {tool.Output{Errors: []byte("ERROR: <urlopen error timed out>\n"), Exit: tool.Exit{Status: 1}}, "speedtest-cli failed with exit status 1: ERROR: <urlopen error timed out>"},
		"simple":       {tool.Output{Text: []byte("Ping: 18 ms\nDownload: 93.78 Mbit/s\n")}, "no JSON of speedtest-cli"},
		"another tool": {tool.Output{Text: []byte(`{"type": "result", "download": {"bandwidth": 11}, "upload": {"bandwidth": 5}}`)}, "no JSON of speedtest-cli"},
		"zero":         {tool.Output{Text: []byte(`{"download": 0, "upload": 0}`)}, "no rate of this direction"},
		"negative":     {tool.Output{Text: []byte(`{"download": -1, "upload": -1}`)}, "no rate of this direction"},
		"a list":       {tool.Output{Text: []byte(`[]`)}, "no JSON of speedtest-cli"},
		"killed":       {tool.Output{Text: []byte(`{"download": 8, "upload": 8}`), Exit: tool.Exit{Status: -1, Signal: 9}}, "was ended by signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range Results(tt.out, both()) {
				require.ErrorContains(t, r.Err, tt.want)
			}
		})
	}
}

func FuzzResults(f *testing.F) {
	text, err := os.ReadFile("testdata/both.json")
	require.NoError(f, err)
	f.Add(text, 0)
	f.Add([]byte(`{"download": 1e400}`), 1)
	f.Add([]byte(`{"download": null, "server": 3}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, status int) {
		for _, r := range Results(tool.Output{Text: text, Exit: tool.Exit{Status: status}}, both()) {
			if r.Err != nil {
				assert.Nil(t, r.Receiver)
				continue
			}
			require.True(t, (r.Receiver == nil) != (r.Sender == nil))
			for _, rate := range []*float64{r.Receiver, r.Sender} {
				require.True(t, rate == nil || *rate > 0)
			}
		}
	})
}
