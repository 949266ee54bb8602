package monitor

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unexplained lists the sections and fields of a document that are null without a reason in unavailable.
func unexplained(t *testing.T, text []byte) (names []string) {
	t.Helper()
	var document map[string]any
	require.NoError(t, json.Unmarshal(text, &document))
	reasons := document["unavailable"].(map[string]any)
	has := func(key string) bool {
		reason, _ := reasons[key].(string)
		return reason != ""
	}
	check := func(section string, row map[string]any) {
		for field, value := range row {
			name := section + "." + field
			isRate := strings.HasSuffix(field, "_ratio") || strings.HasSuffix(field, "_per_second") && !strings.Contains(field, "_bits_")
			switch {
			case value != nil, has(name), nullMeansNone(name):
			case section == "job" && has("job"):
			case isRate && document["window_seconds"] == nil && has("window_seconds"):
			default:
				names = append(names, name)
			}
		}
	}
	for section, value := range document {
		switch v := value.(type) {
		case nil:
			if !has(section) {
				names = append(names, section)
			}
		case map[string]any:
			if section != "unavailable" {
				check(section, v)
			}
		case []any:
			for _, row := range v {
				check(section, row.(map[string]any))
			}
		}
	}
	return names
}

// nullMeansNone tells whether null is an answer of its own, as for an interface without a master.
func nullMeansNone(name string) bool {
	return slices.Contains([]string{
		"interfaces.master", "transport.rdma_idle_reason", "transport.wrong_interface", "transport.advice", "bandwidth_tests.error",
		"findings.host", "findings.rank", "findings.interface", "findings.peer", "findings.direction", // it is not one's
	}, name)
}

func TestSample_everyNullHasAReason(t *testing.T) {
	for name, tt := range map[string]struct {
		config  string
		without []string // files of /proc/net
	}{
		"defaults":            {config: "{}"},
		"job":                 {config: `{"job": {"environment": {"RANK": "1", "WORLD_SIZE": "2"}}}`},
		"job of a wrong port": {config: `{"job": {"environment": {"MASTER_PORT": "29500.0"}}}`},
		"job of wrong ranks":  {config: `{"job": {"environment": {"RANK": "x", "WORLD_SIZE": "0"}}}`},
		"no source":           {config: `{"sources": []}`},
		"one source":          {config: `{"sources": ["tcp"]}`},
		"nothing counts":      {config: `{"interfaces": ["nosuch*"]}`},
		"loopback counts":     {config: `{"interfaces": ["lo"]}`},
		"no interfaces":       {config: "{}", without: []string{"dev"}},
		"no protocols":        {config: "{}", without: []string{"snmp", "netstat", "snmp6"}},
		"no sockets":          {config: "{}", without: []string{"sockstat", "sockstat6"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMachine(t, "{}")
			for _, file := range tt.without {
				require.NoError(t, os.Remove(x.path(file)))
			}
			x.start(tt.config)
			for range 2 {
				var text bytes.Buffer
				require.NoError(t, x.m.Sample(&text))
				assert.Empty(t, unexplained(t, text.Bytes()))
				x.clock.Advance(time.Second)
				x.m.Tick()
			}
		})
	}
}
