package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseConfig(t *testing.T) {
	for _, text := range []string{"", "  \n", "{}", `{"interval_seconds": null}`} {
		config, err := ParseConfig([]byte(text))
		require.NoError(t, err, text)
		assert.Equal(t, time.Second, config.Interval)
		assert.Equal(t, Section(allSections), config.Sources)
	}
	config, err := ParseConfig([]byte(`{"interval_seconds": 0.01, "targets": ["10.0.0.2", "tcp://h:1"], "interfaces": ["eth*", "!eth9"],
		"sources": ["tcp", "interfaces"], "job": {"rank": 0, "world_size": 1, "master_address": "h", "environment": {"RANK": "1"}}}`))
	require.NoError(t, err)
	assert.Equal(t, 10*time.Millisecond, config.Interval)
	assert.Equal(t, []string{"10.0.0.2", "tcp://h:1"}, config.Targets)
	assert.Equal(t, []string{"eth*", "!eth9"}, config.Interfaces)
	assert.Equal(t, TCP|Interfaces, config.Sources)
	assert.Equal(t, int64(0), *config.Job.Rank)
	assert.Equal(t, "configuration", *config.Job.Source)
	assert.Equal(t, map[string]string{"RANK": "1"}, config.Variables)
	config, err = ParseConfig([]byte(`{"sources": []}`))
	require.NoError(t, err)
	assert.Zero(t, config.Sources)
}

// Each wrong text is answered by a sentence with the key, what it is, and what would be right.
func TestParseConfig_wrong(t *testing.T) {
	for text, parts := range map[string][]string{
		`{`:                                     {"is not JSON"},
		`{"interval_seconds": 1} x`:             {"is not JSON"},
		`[1]`:                                   {"is a list", "JSON object"},
		`3`:                                     {"is a number", "JSON object"},
		`"x"`:                                   {"is a string", "JSON object"},
		`{"interval": 1}`:                       {`"interval"`, "is not known", "interval_seconds"},
		`{"interval_seconds": "1"}`:             {`"interval_seconds"`, `"1"`, "0.01 to 3600"},
		`{"interval_seconds": true}`:            {`"interval_seconds"`, "true"},
		`{"interval_seconds": 0}`:               {`"interval_seconds"`, "0.01 to 3600"},
		`{"interval_seconds": -1}`:              {"-1", "0.01 to 3600"},
		`{"interval_seconds": 1e300}`:           {"1e+300"},
		`{"interval_seconds": 3601}`:            {"3601"},
		`{"targets": "10.0.0.2"}`:               {`"targets"`, "list of strings"},
		`{"targets": [1]}`:                      {`"targets"`, "entry 1"},
		`{"targets": [""]}`:                     {"empty string", "entry 1"},
		`{"interfaces": {}}`:                    {`"interfaces"`, "an object"},
		`{"interfaces": ["a", "[b"]}`:           {`"interfaces"`, `"[b"`, "entry 2", "glob"},
		`{"interfaces": ["!"]}`:                 {`"!"`, "glob"},
		`{"sources": ["tcp", "tpc"]}`:           {`"sources"`, `"tpc"`, "entry 2", "interfaces, tcp"},
		`{"job": 7}`:                            {`"job"`, "object"},
		`{"job": {"rank": -1}}`:                 {`"job.rank"`, "-1", "whole number"},
		`{"job": {"rank": 1.5}}`:                {`"job.rank"`, "1.5"},
		`{"job": {"rank": "1"}}`:                {`"job.rank"`, `"1"`},
		`{"job": {"rank": 2, "world_size": 2}}`: {`"job.rank"`, "below world_size"},
		`{"job": {"master_port": 65536}}`:       {`"job.master_port"`, "1 to 65535"},
		`{"job": {"master_address": ""}}`:       {`"job.master_address"`, "empty"},
		`{"job": {"color": "red"}}`:             {`"job.color"`, "is not known", "local_rank"},
		`{"job": {"environment": ["RANK"]}}`:    {`"job.environment"`, "object of strings"},
		`{"job": {"environment": {"RANK": 1}}}`: {`"job.environment"`},
		"{\"targets\": [\"\xff\"]}":             {"UTF-8", "byte 14"},
		strings.Repeat(" ", MaxConfigBytes+1):   {"1048577 bytes", "1048576"},
		strings.Repeat("[", 100000):             {"is not JSON"},
		`{"targets": [` + strings.Repeat(`"a",`, maxTargets) + `"a"]}`: {"257 entries", "256"},
	} {
		_, err := ParseConfig([]byte(text))
		var wrong *TextError
		require.ErrorAs(t, err, &wrong, "%.60s", text)
		for _, part := range parts {
			assert.ErrorContains(t, err, part, "%.60s", text)
		}
		assert.Less(t, len(err.Error()), 400, "%.60s", text)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"interval_seconds": 0.5, "sources": ["tcp"], "interfaces": ["!a*"], "job": {"rank": 0, "environment": {"A": "b"}}}`))
	f.Add([]byte(`{"job": {"rank": 99999999999999999999}}`))
	f.Add([]byte(`{"targets": [null, {}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := ParseConfig(text)
		if err == nil {
			require.GreaterOrEqual(t, config.Interval, 10*time.Millisecond)
			require.LessOrEqual(t, config.Interval, time.Hour)
		} else {
			var wrong *TextError
			require.ErrorAs(t, err, &wrong)
		}
		_, _ = parseRequest(text)
		_, _, _ = ParseJob(text)
	})
}
