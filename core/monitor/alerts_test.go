package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/alert"
	"netmon/core/link"
	"netmon/core/sample"
)

func (x *machine) alerts(request string) sample.Alerts {
	x.t.Helper()
	var text bytes.Buffer
	require.NoError(x.t, x.m.Query([]byte(request), &text))
	var answer sample.Alerts
	require.NoError(x.t, json.Unmarshal(text.Bytes(), &answer))
	return answer
}

func TestParseConfig_alerts(t *testing.T) {
	config, err := ParseConfig([]byte(`{"alerts": [
		{"metric": "totals.utilization_ratio", "above": 0.9, "for_seconds": 10, "clear": 0.8, "severity": "critical", "name": "busy"},
		{"metric": "probes.tcp://[::1]:1.received", "below": 3},
		{"metric": "tcp.timeouts_total", "above": 0, "increase": true, "rate": false, "clear": null},
		{"metric": "interfaces.eth0.receive_drops_total", "above": 2.5, "rate": true}]}`))
	require.NoError(t, err)
	require.Len(t, config.Alerts, 4)
	for i := range config.Alerts {
		config.Alerts[i].Metric = sample.Metric{}
	}
	assert.Equal(t, []alert.Rule{
		{Name: "busy", MetricName: "totals.utilization_ratio", Threshold: 0.9, Clear: 0.8, For: 10 * time.Second, Severity: "critical"},
		{Name: "probes.tcp://[::1]:1.received below 3", MetricName: "probes.tcp://[::1]:1.received", Below: true, Threshold: 3, Clear: 3,
			Severity: "warning"},
		{Name: "tcp.timeouts_total increase above 0", MetricName: "tcp.timeouts_total", Of: alert.Increase, Severity: "warning"},
		{Name: "interfaces.eth0.receive_drops_total per second above 2.5", MetricName: "interfaces.eth0.receive_drops_total", Of: alert.Rate,
			Threshold: 2.5, Clear: 2.5, Severity: "warning"},
	}, config.Alerts)
	many := strings.Repeat(`{"metric": "tcp.established", "above": %d}, `, alert.MostRules)
	numbers := make([]any, alert.MostRules)
	for i := range numbers {
		numbers[i] = i
	}
	_, err = ParseConfig([]byte(`{"alerts": [` + strings.TrimSuffix(fmt.Sprintf(many, numbers...), ", ") + `]}`))
	require.NoError(t, err)
}

// Each rule that makes no sense is answered by a sentence with its key and place.
func TestParseConfig_wrongAlerts(t *testing.T) {
	const good = `{"metric": "tcp.established", "above": 1}`
	for rules, want := range map[string]string{
		`{}`:         `key "alerts" is an object; it must be a list such as [{"metric": "totals.utilization_ratio", "above": 0.9, "for_seconds": 10}]`,
		`["busy"]`:   `key "alerts" has "busy" as entry 1; it must be an object such as {"metric"`,
		`[null]`:     `key "alerts" has null as entry 1`,
		`[{}]`:       `key "alerts.metric" of entry 1 is missing; name one, as "totals.utilization_ratio"`,
		`[{"": 1}]`:  `key "alerts" of entry 1 has the key "", which is not known`,
		`[{"x": 1}]`: `key "alerts.x" of entry 1 is not known; the keys are above, below, clear, for_seconds, increase, metric, name, rate, severity`,
		`[` + good + `, {"metric": "tcp.speed", "above": 1}]`:                            `key "alerts.metric" of entry 2 is not one: metric "tcp.speed": "tcp" has no number "speed"`,
		`[{"metric": "interfaces.*.mtu", "above": 1}]`:                                   `key "alerts.metric" of entry 1 is "interfaces.*.mtu"; a rule is of one metric: patterns are not understood`,
		`[{"metric": 3, "above": 1}]`:                                                    `key "alerts.metric" of entry 1 is 3; it must be a string`,
		`[{"metric": "tcp.established"}]`:                                                `key "alerts.above" of entry 1 is missing, and so is "below"; give one of them`,
		`[{"metric": "tcp.established", "above": 2, "below": 1}]`:                        `key "alerts.below" of entry 1 is given, and so is "above"; give one of them`,
		`[{"metric": "tcp.established", "above": "high"}]`:                               `key "alerts.above" of entry 1 is "high"; it must be a number`,
		`[{"metric": "tcp.established", "above": 1e999}]`:                                `key "alerts.above" of entry 1 is 1e999; it must be a number`,
		`[{"metric": "tcp.established", "above": -1}]`:                                   `key "alerts.above" of entry 1 is -1; no metric is negative, so it would always be on`,
		`[{"metric": "tcp.established", "below": 0}]`:                                    `key "alerts.below" of entry 1 is 0; no metric is negative, so it would never be on`,
		`[{"metric": "tcp.retransmit_ratio", "above": 5}]`:                               `key "alerts.above" of entry 1 is 5; tcp.retransmit_ratio is a ratio, from 0 to 1: 90 % is 0.9`,
		`[{"metric": "tcp.established", "above": 5, "clear": 6}]`:                        `key "alerts.clear" of entry 1 is 6; it must be at most what "above" is, 5`,
		`[{"metric": "tcp.established", "above": 5, "clear": -1}]`:                       `key "alerts.clear" of entry 1 is -1; no metric is negative, so it would be on for ever`,
		`[{"metric": "tcp.established", "below": 5, "clear": 4}]`:                        `key "alerts.clear" of entry 1 is 4; it must be at least what "below" is, 5`,
		`[{"metric": "tcp.established", "above": 1, "for_seconds": -1}]`:                 `key "alerts.for_seconds" of entry 1 is -1; it must be from 0 to 86400 seconds`,
		`[{"metric": "tcp.established", "above": 1, "severity": "bad"}]`:                 `key "alerts.severity" of entry 1 is "bad"; it must be one of info, warning, critical`,
		`[{"metric": "tcp.established", "above": 1, "rate": true}]`:                      `key "alerts.rate" of entry 1 is true, and tcp.established is no counter; leave it out`,
		`[{"metric": "tcp.established", "above": 1, "increase": true}]`:                  `key "alerts.increase" of entry 1 is true, and tcp.established is no counter; leave it out`,
		`[{"metric": "tcp.timeouts_total", "above": 1, "increase": true, "rate": true}]`: `key "alerts.increase" of entry 1 is true, and so is "rate"; choose one of them`,
		`[{"metric": "tcp.established", "above": 1, "rate": 1}]`:                         `key "alerts.rate" of entry 1 is 1; it must be true or false`,
		`[{"metric": "tcp.established", "above": 1, "name": ""}]`:                        `key "alerts.name" of entry 1 is 0 bytes long; it must be from 1 to 256`,
		`[` + good + `, ` + good + `]`:                                                   `key "alerts.name" of entry 2 is "tcp.established above 1", as that of another entry; alerts are told apart by their names`,
		`[{"metric": "tcp.established", "above": 1, "above": 2}]`:                        `key "alerts.above" of entry 1 is given twice; give it once`,
		`[` + strings.Repeat(good+",", alert.MostRules) + good + `]`:                     `key "alerts" has 65 entries; at most 64 are allowed`,
	} {
		_, err := ParseConfig([]byte(`{"alerts": ` + rules + `}`))
		var wrong *TextError
		require.ErrorAs(t, err, &wrong, "%.200s", rules)
		assert.ErrorContains(t, err, "configuration "+want, "%.200s", rules)
		_, err = parseRequest([]byte(`{"view": "alerts", "rules": ` + rules + `}`))
		require.ErrorAs(t, err, &wrong, "%.200s", rules)
		assert.ErrorContains(t, err, strings.ReplaceAll("request "+want, `"alerts`, `"rules`), "%.200s", rules)
	}
}

// A rule on a rate, from counters of the kernel to events, and nobody's window changes by it.
func TestAlerts_fireAndResolve(t *testing.T) {
	x := newMachine(t, `{"alerts": [
		{"name": "busy", "metric": "totals.receive_bytes_per_second", "above": 1000, "clear": 500, "for_seconds": 2},
		{"name": "drops", "metric": "interfaces.eth0.receive_drops_total", "increase": true, "above": 0}]}`, dockerHost()[:2]...)
	first := x.alerts(`{"view": "alerts"}`)
	assert.Equal(t, uint64(1), first.SampleSequence)
	require.Len(t, first.Rules, 2)
	assert.Equal(t, "first sample: no window yet", *first.Rules[0].UnmeasuredReason)
	assert.Equal(t, "what a counter grew by is not known in its first sample, nor where it was reset", *first.Rules[1].UnmeasuredReason)
	assert.Equal(t, "off", first.Rules[0].State)
	assert.Nil(t, first.Rules[0].Value)
	assert.Equal(t, []sample.AlertEvent{}, first.Events)

	total, dropped := uint64(0), 0
	pass := func(bytes uint64, drops int) {
		total, dropped = total+bytes, dropped+drops
		x.dev(row("lo", 0, 0), []any{"eth0", total, 1, 0, dropped, 0, 0, 0, 0})
		x.tick()
	}
	pass(1e6, 1000) // other counters than the recorded ones: a reset, so nothing is known
	assert.Empty(t, x.alerts(`{"view": "alerts"}`).Events)
	pass(100, 0)
	pass(5000, 3)
	x.now() // changes nothing
	pass(5000, 0)
	pass(5000, 0)
	pass(700, 0)
	pass(400, 0)
	events := x.alerts(`{"view": "alerts"}`).Events
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s %s at %d: %s", e.Name, e.Event, e.SampleSequence, e.Text))
	}
	assert.Equal(t, []string{
		"drops fired at 4: interfaces.eth0.receive_drops_total grew by 3, above 0",
		"drops resolved at 6: interfaces.eth0.receive_drops_total grew by 0, at or below 0 again after 1 s",
		"busy fired at 7: totals.receive_bytes_per_second is 5000, above 1000 for 2 s",
		"busy resolved at 9: totals.receive_bytes_per_second is 400, at or below 500 again after 2 s",
	}, got)
	assert.Equal(t, events[2:3], x.alerts(`{"view": "alerts", "after_sequence": 2, "limit": 1}`).Events)
	only := x.alerts(`{"view": "alerts", "after_sequence": 4, "events_only": true}`)
	assert.Nil(t, only.Rules)
	assert.Empty(t, only.Events)
	assert.Equal(t, uint64(4), only.EventsTotal)
}

// What was reset in a window did not grow by anything that is known.
func TestAlerts_counterReset(t *testing.T) {
	x := newMachine(t, `{"alerts": [{"name": "drops", "metric": "interfaces.eth0.receive_drops_total", "increase": true, "above": 0},
		{"name": "sum", "metric": "totals.receive_drops_total", "rate": true, "above": 0}]}`, dockerHost()[:2]...)
	drops := func(bytes uint64, drops int) []sample.AlertRule {
		x.dev(row("lo", 0, 0), []any{"eth0", bytes, bytes / 1000, 0, drops, 0, 0, 0, 0})
		x.tick()
		return x.alerts(`{"view": "alerts"}`).Rules
	}
	drops(500000, 5)
	drops(600000, 5)
	for _, r := range drops(700000, 9) {
		assert.Equal(t, "on", r.State, r.Name)
	}
	for _, r := range drops(3000, 7) {
		assert.Equal(t, "on", r.State, r.Name)
		assert.NotNil(t, r.UnmeasuredSinceSeconds, r.Name)
		assert.InDelta(t, 4, *r.Value, 1e-9, "the one measured last")
	}
	for _, r := range drops(4000, 7) {
		assert.Equal(t, "off", r.State, r.Name)
		assert.Nil(t, r.UnmeasuredSinceSeconds, r.Name)
	}
}

// An interface that goes takes its numbers along: the alert stays on, and says since when and why nothing is known.
func TestAlerts_blind(t *testing.T) {
	lo, eth0 := dockerHost()[0], dockerHost()[1]
	x := newMachine(t, `{"alerts": [{"metric": "interfaces.eth0.mtu", "below": 2000}, {"metric": "udp.no_ports_total", "above": 1e9}],
		"sources": ["interfaces"]}`, lo, eth0)
	assert.Equal(t, "on", x.alerts(`{"view": "alerts"}`).Rules[0].State)
	x.links.set(lo)
	x.dev(row("lo", 0, 0))
	x.tick()
	gone := x.clock.Wall()
	x.tick()
	rules := x.alerts(`{"view": "alerts"}`).Rules
	assert.Equal(t, "on", rules[0].State)
	assert.InDelta(t, wallSeconds(gone), *rules[0].UnmeasuredSinceSeconds, 1e-3)
	assert.Equal(t, "not in sources", *rules[1].UnmeasuredReason)
	big := *eth0
	big.MTU = 9000
	x.links.set(lo, &big)
	x.dev(row("lo", 0, 0), row("eth0", 0, 0))
	x.tick()
	answer := x.alerts(`{"view": "alerts"}`)
	assert.Equal(t, "off", answer.Rules[0].State)
	require.Len(t, answer.Events, 2)
	assert.InDelta(t, 3, *answer.Events[1].ActiveSeconds, 1e-9)
}

// Rules can be replaced while the monitor runs.
func TestAlerts_replaced(t *testing.T) {
	x := newMachine(t, `{"alerts": [{"name": "a", "metric": "interfaces.lo.mtu", "above": 1}, {"name": "b", "metric": "interfaces.eth0.mtu", "above": 1}]}`)
	require.Len(t, x.alerts(`{"view": "alerts"}`).Events, 2)
	answer := x.alerts(`{"view": "alerts", "rules": [{"name": "b", "metric": "interfaces.eth0.mtu", "above": 1}], "after_sequence": 2}`)
	require.Len(t, answer.Rules, 1)
	assert.Equal(t, "on", answer.Rules[0].State)
	require.Len(t, answer.Events, 1)
	assert.Equal(t, "resolved", answer.Events[0].Event)
	x.tick()
	assert.Len(t, x.alerts(`{"view": "alerts", "rules": null}`).Rules, 1, "null changes nothing")
	answer = x.alerts(`{"view": "alerts", "rules": []}`)
	assert.Empty(t, answer.Rules)
	assert.Equal(t, uint64(4), answer.EventsTotal)
	require.Error(t, x.m.Query([]byte(`{"view": "alerts", "rules": [{}]}`), io.Discard))
	require.Error(t, x.m.Query([]byte(`{"view": "health", "events_only": true}`), io.Discard))
	x.m.Close()
	assert.ErrorIs(t, x.m.Query([]byte(`{"view": "alerts"}`), io.Discard), ErrClosed)
}

// Readers have a sample before the rules are held against it.
func TestAlerts_afterPublishing(t *testing.T) {
	config, err := ParseConfig([]byte(`{"sources": [], "alerts": [{"metric": "sequence", "above": 1}]}`))
	require.NoError(t, err)
	var m *Monitor
	var seen []uint64
	m, err = New(config, Options{NoLoop: true, Publish: func(s *Snapshot) {
		if m == nil {
			return // the first, before New returns
		}
		var text bytes.Buffer
		assert.NoError(t, m.Query([]byte(`{"view": "alerts"}`), &text))
		var answer sample.Alerts
		assert.NoError(t, json.Unmarshal(text.Bytes(), &answer))
		seen = append(seen, s.Sequence, answer.SampleSequence)
	}})
	require.NoError(t, err)
	defer m.Close()
	m.Tick()
	m.Tick()
	assert.Equal(t, []uint64{2, 1, 3, 2}, seen)
}

func TestAlerts_concurrent(t *testing.T) {
	config, err := ParseConfig([]byte(`{"interval_seconds": 0.01, "sources": ["interfaces"], "alerts": [{"metric": "sequence", "above": 3}]}`))
	require.NoError(t, err)
	m, err := New(config, Options{Links: &fakeLinks{links: []*link.Link{}}})
	require.NoError(t, err)
	defer m.Close()
	var all sync.WaitGroup
	for n := range 4 {
		all.Add(1)
		go func() {
			defer all.Done()
			for i := range 50 {
				request := `{"view": "alerts"}`
				if n == 0 {
					request = fmt.Sprintf(`{"view": "alerts", "rules": [{"metric": "sequence", "above": %d}]}`, i%2)
				}
				assert.NoError(t, m.Query([]byte(request), io.Discard))
				assert.NoError(t, m.Sample(io.Discard))
			}
		}()
	}
	all.Wait()
}
