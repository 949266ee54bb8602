package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/job"
	"netmon/core/probe"
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
	assert.Equal(t, []string{"10.0.0.2", "tcp://h:1"}, texts(config.Targets))
	assert.Equal(t, []string{"eth*", "!eth9"}, config.Interfaces)
	assert.Equal(t, TCP|Interfaces, config.Sources)
	assert.Equal(t, int64(0), *config.Job.Rank)
	assert.Equal(t, "configuration", *config.Job.Source)
	assert.Equal(t, map[string]string{"RANK": "1"}, config.Variables)
	config, err = ParseConfig([]byte(`{"sources": []}`))
	require.NoError(t, err)
	assert.Zero(t, config.Sources)
	assert.Equal(t, time.Second, config.ProbeInterval)
	assert.Equal(t, time.Second, config.ProbeTimeout)
	assert.False(t, config.Responder.IsValid())

	config, err = ParseConfig([]byte(`{"probe_interval_seconds": 0.02, "probe_timeout_seconds": 60, "udp_responder": true,
		"job": {"peers": ["10.0.0.2", {"rank": 1, "address": "node7"}, {"address": "::1"}]}}`))
	require.NoError(t, err)
	assert.Equal(t, 20*time.Millisecond, config.ProbeInterval)
	assert.Equal(t, time.Minute, config.ProbeTimeout)
	assert.Equal(t, "127.0.0.1:29541", config.Responder.String())
	rank := int64(1)
	assert.Equal(t, []job.Peer{{Address: "10.0.0.2"}, {Rank: &rank, Address: "node7"}, {Address: "::1"}}, config.Job.Peers)
	for text, want := range map[string]string{
		`false`: "invalid AddrPort", `{}`: "127.0.0.1:29541", `{"port": 7}`: "127.0.0.1:7", `{"address": "::"}`: "[::]:29541",
		`{"address": "10.0.0.1", "port": 65535}`: "10.0.0.1:65535", `null`: "invalid AddrPort",
	} {
		config, err = ParseConfig([]byte(`{"udp_responder": ` + text + `}`))
		require.NoError(t, err, text)
		assert.Equal(t, want, config.Responder.String(), text)
	}
	identity, _, err := ParseJob([]byte(`{"peers": []}`))
	require.NoError(t, err)
	assert.NotNil(t, identity.Peers, "none are known")
}

func texts(targets []probe.Target) (texts []string) {
	for _, t := range targets {
		texts = append(texts, t.Text)
	}
	return texts
}

// Each wrong text is answered by a sentence with the key, what it is, and what would be right.
func TestParseConfig_wrong(t *testing.T) {
	for text, parts := range map[string][]string{
		`{`:                                                     {"is not JSON"},
		`{"interval_seconds": 1} x`:                             {"is not JSON"},
		`[1]`:                                                   {"is a list", "JSON object"},
		`3`:                                                     {"is 3", "JSON object"},
		`"x"`:                                                   {`is "x"`, "JSON object"},
		`{"interval": 1}`:                                       {`"interval"`, "is not known", "interval_seconds"},
		`{"interval_seconds": "1"}`:                             {`"interval_seconds"`, `"1"`, "0.01 to 3600"},
		`{"interval_seconds": true}`:                            {`"interval_seconds"`, "true"},
		`{"interval_seconds": 0}`:                               {`"interval_seconds"`, "0.01 to 3600"},
		`{"interval_seconds": -1}`:                              {"-1", "0.01 to 3600"},
		`{"interval_seconds": 1e300}`:                           {"1e+300"},
		`{"interval_seconds": 3601}`:                            {"3601"},
		`{"targets": "10.0.0.2"}`:                               {`"targets"`, "list of strings"},
		`{"targets": [1]}`:                                      {`"targets"`, "entry 1"},
		`{"targets": [""]}`:                                     {"empty string", "entry 1"},
		`{"interfaces": {}}`:                                    {`"interfaces"`, "an object"},
		`{"targets": ["a", "http://b"]}`:                        {`"targets"`, "entry 2", `"http"`, "icmp://"},
		`{"targets": ["10.0.0.256"]}`:                           {`"targets"`, "entry 1", "10.0.0.2"},
		`{"probe_interval_seconds": 0.019}`:                     {`"probe_interval_seconds"`, "0.02 to 3600"},
		`{"probe_interval_seconds": "1"}`:                       {`"probe_interval_seconds"`, "0.02 to 3600"},
		`{"probe_timeout_seconds": 0.009}`:                      {`"probe_timeout_seconds"`, "0.01 to 60"},
		`{"probe_timeout_seconds": 61}`:                         {`"probe_timeout_seconds"`, "0.01 to 60"},
		`{"udp_responder": 1}`:                                  {`"udp_responder"`, "true, false or an object"},
		`{"udp_responder": "yes"}`:                              {`"udp_responder"`, "29541"},
		`{"udp_responder": {"port": 0}}`:                        {`"udp_responder.port"`, "1 to 65535"},
		`{"udp_responder": {"address": "node7"}}`:               {`"udp_responder.address"`, "0.0.0.0"},
		`{"udp_responder": {"adress": "127.0.0.1"}}`:            {`"udp_responder.adress"`, "address, port"},
		`{"job": {"peers": "10.0.0.2"}}`:                        {`"job.peers"`, "must be a list"},
		`{"job": {"peers": [1]}}`:                               {`"job.peers"`, "entry 1"},
		`{"job": {"peers": ["a", "a b"]}}`:                      {`"job.peers"`, "entry 2"},
		`{"job": {"peers": ["icmp://a"]}}`:                      {`"job.peers"`, "entry 1", "address or a name"},
		`{"job": {"peers": [{"rank": 1}]}}`:                     {`"job.peers"`, "entry 1", "empty"},
		`{"job": {"peers": [{"rank": -1, "address": ""}]}}`:     {`"job.peers.rank"`, "whole number"},
		`{"job": {"peers": [{"host": "a"}]}}`:                   {`"job.peers.host"`, "address, rank"},
		`{"job": {"targets": ["10.0.0.2"]}}`:                    {`"job.targets"`, "is not known"},
		`{"targets": [` + strings.Repeat(`"a",`, 499) + `"a"]}`: {`"targets"`, "500 entries", "at most 256"},
		`{"interfaces": ["a", "[b"]}`:                           {`"interfaces"`, `"[b"`, "entry 2", "glob"},
		`{"interfaces": ["!"]}`:                                 {`"!"`, "glob"},
		`{"sources": ["tcp", "tpc"]}`:                           {`"sources"`, `"tpc"`, "entry 2", "interfaces, tcp"},
		`{"job": 7}`:                                            {`"job"`, "object"},
		`{"job": {"rank": -1}}`:                                 {`"job.rank"`, "-1", "whole number"},
		`{"job": {"rank": 1.5}}`:                                {`"job.rank"`, "1.5"},
		`{"job": {"rank": "1"}}`:                                {`"job.rank"`, `"1"`},
		`{"job": {"rank": 2, "world_size": 2}}`:                 {`"job.rank"`, "below world_size"},
		`{"job": {"master_port": 65536}}`:                       {`"job.master_port"`, "1 to 65535"},
		`{"job": {"master_address": ""}}`:                       {`"job.master_address"`, "empty"},
		`{"job": {"color": "red"}}`:                             {`"job.color"`, "is not known", "local_rank"},
		`{"job": {"environment": ["RANK"]}}`:                    {`"job.environment"`, "object of strings"},
		`{"job": {"environment": {"RANK": 1}}}`:                 {`"job.environment.RANK" is 1; it must be a string`},
		"{\"targets\": [\"\xff\"]}":                             {"UTF-8", "byte 14"},
		strings.Repeat(" ", MaxConfigBytes+1):                   {"1048577 bytes", "1048576"},
		strings.Repeat("[", 100000):                             {"is not JSON"},
		`{"targets": [` + strings.Repeat(`"a",`, probe.MostTargets) + `"a"]}`: {"257 entries", "256"},
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
	config, err := ParseConfig([]byte(`{"targets": ["a", "a", "targets"],
		"job": {"environment": {"targets": "job", "job": "targets"}, "source": "job\\"}}`))
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "targets"}, texts(config.Targets), "each once")
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
		`{"": 1}`: `configuration: has the key "", which is not known; the keys are alerts, bandwidth_server, cluster_interval_seconds, interfaces, interval_seconds, job, ` +
			`probe_interval_seconds, probe_timeout_seconds, sources, targets, udp_responder`,
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
	f.Add([]byte(`{"interval_seconds": 0.5, "sources": ["tcp"], "interfaces": ["!a*"], "job": {"rank": 0, "environment": {"A": "b"}}}`))
	f.Add([]byte(`{"job": {"rank": 99999999999999999999}}`))
	f.Add([]byte(`{"targets": [null, {}]}`))
	f.Add([]byte(`{"job": {"rank": 1, "\u0072ank": 2, "peers": ["a", {"rank": 2, "address": "10.0.0.2"}]}}`))
	f.Add([]byte(`{"udp_responder": {"address": "::1", "port": 1}, "probe_interval_seconds": 1, "probe_timeout_seconds": 2}`))
	f.Add([]byte(`{"target": "10.0.0.2:80", "method": "tcp", "count": 5, "timeout_seconds": 1, "wait_seconds": 0}`))
	f.Add([]byte(`{"id": 7, "cancel": true}`))
	f.Add([]byte(`{"a": "\\"}`))
	f.Add([]byte(`{"alerts": [{"metric": "tcp.timeouts_total", "above": 0.5, "clear": 0, "for_seconds": 1, "rate": true, "name": "a"}]}`))
	f.Add([]byte(`{"view": "alerts", "rules": [{"metric": "findings.slow_link.count", "below": 1}], "events_only": true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		config, err := ParseConfig(text)
		if err == nil {
			require.GreaterOrEqual(t, config.Interval, 10*time.Millisecond)
			require.LessOrEqual(t, config.Interval, time.Hour)
			for i := range config.Alerts {
				r := &config.Alerts[i]
				require.False(t, r.Beyond(r.Clear), "what is over is not beyond")
				require.True(t, r.Over(r.Clear))
			}
		} else {
			var wrong *TextError
			require.ErrorAs(t, err, &wrong)
		}
		_, _ = parseRequest(text)
		if q, err := parseProbeRequest(text); err == nil {
			require.True(t, q.id != 0 || q.Count >= 1 && q.Count <= probe.MostCount)
			require.GreaterOrEqual(t, q.wait, time.Duration(0))
		}
		_, _, _ = ParseJob(text)
	})
}
