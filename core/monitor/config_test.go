package monitor

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseConfig_repeatedKey(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"top level", `{"interval_seconds": 1, "targets": [], "interval_seconds": 2}`,
			`configuration key "interval_seconds" is given twice; give it once`},
		{"the last would win", `{"interval_seconds": "x", "interval_seconds": 2}`,
			`configuration key "interval_seconds" is given twice; give it once`},
		{"escaped", `{"job": {"rank": 1, "\u0072ank": 2}}`, `configuration key "job.rank" is given twice; give it once`},
		{"not known", `{"a\"b": 1, "a\"b": 2}`, `configuration key "a\"b" is given twice; give it once`},
		{"environment", `{"job": {"environment": {"RANK": "0", "RANK" : "1"}}}`,
			`configuration key "job.environment" gives the variable "RANK" twice; give it once`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(test.text))
			require.Error(t, err)
			assert.Equal(t, test.want, err.Error())
		})
	}
}

func TestParseConfig_sameWordsElsewhere(t *testing.T) {
	config, err := ParseConfig([]byte(`{"targets": ["a", "a", "targets", "{\"targets\":"],
		"job": {"environment": {"targets": "job", "job": "targets"}, "source": "job\\"}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "a", "targets", `{"targets":`}, config.Targets)
	assert.Equal(t, map[string]string{"targets": "job", "job": "targets"}, config.Variables)
	assert.Equal(t, `job\`, *config.Job.Source)
}

func TestQuery_repeatedKey(t *testing.T) {
	_, err := parseRequest([]byte(`{"view": "stats", "view": "health"}`))
	require.Error(t, err)
	assert.Equal(t, `request key "view" is given twice; give it once`, err.Error())
}

func TestParseConfig_saysWhere(t *testing.T) {
	for text, want := range map[string]string{
		`{"": 1}`:                      `configuration: has the key "", which is not known; the keys are interfaces, interval_seconds, job, sources, targets`,
		`[1]`:                          `configuration: is a list; it must be a JSON object such as {"interval_seconds": 1}`,
		`{"interval_seconds": 1`:       "configuration: is not JSON: unexpected end of JSON input, at byte 22 of 22",
		`{"interval_seconds" 1}`:       "configuration: is not JSON: invalid character '1' after object key, at byte 21 of 22",
		`{"interval_seconds": 1} more`: "configuration: is not JSON: invalid character 'm' after top-level value, at byte 25 of 28",
	} {
		_, err := ParseConfig([]byte(text))
		require.Error(t, err)
		assert.Equal(t, want, err.Error())
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"interval_seconds": 1, "targets": ["a"], "job": {"rank": 0, "environment": {"A": "1"}}}`))
	f.Add([]byte(`{"job": {"rank": 1, "\u0072ank": 2}}`))
	f.Add([]byte(`{"a": "\\"}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = ParseConfig(text)
		_, _, _ = ParseJob(text)
		_, _ = parseRequest(text)
	})
}
