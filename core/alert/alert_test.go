package alert

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/sample"
)

var unknown = math.NaN()

func at(second float64, sequence uint64) Moment {
	return Moment{Monotonic: time.Duration(second * float64(time.Second)), Wall: 1.7e9 + second, Sequence: sequence}
}

// The values come a second apart; want has a letter for each: "." nothing, "F" fired, "R" resolved.
func TestState_Step(t *testing.T) {
	above := Rule{Threshold: 0.9, Clear: 0.9}
	below := Rule{Threshold: 10, Clear: 10, Below: true}
	wide := Rule{Threshold: 0.9, Clear: 0.8}
	wideBelow := Rule{Threshold: 10, Clear: 20, Below: true}
	long := Rule{Threshold: 0.9, Clear: 0.8, For: 3 * time.Second}
	short := Rule{Threshold: 0.9, Clear: 0.9, For: 500 * time.Millisecond}
	grown := Rule{Of: Increase}
	rate := Rule{Of: Rate, Threshold: 100, Clear: 50}
	stalled := Rule{Of: Rate, Threshold: 100, Clear: 100, Below: true}
	for name, test := range map[string]struct {
		rule   Rule
		values []float64
		want   string
	}{
		"above":                                   {above, []float64{0.5, 0.95, 0.99, 0.5, 0.95}, ".F.RF"},
		"equal to the threshold is not above":     {above, []float64{0.9, 0.9}, ".."},
		"equal to the threshold ends":             {above, []float64{1, 0.9}, "FR"},
		"below":                                   {below, []float64{11, 9, 8, 10, 0}, ".F.RF"},
		"equal to the threshold is not below":     {below, []float64{10}, "."},
		"zero that was measured is below":         {below, []float64{0, 0}, "F."},
		"hysteresis":                              {wide, []float64{0.95, 0.85, 0.89, 0.801, 0.8, 0.85, 0.91}, "F...R.F"},
		"hysteresis below":                        {wideBelow, []float64{5, 12, 19.9, 20, 12, 9}, "F..R.F"},
		"flapping over the threshold":             {wide, []float64{0.95, 0.85, 0.95, 0.85, 0.95, 0.85}, "F....."},
		"flapping without hysteresis":             {above, []float64{0.95, 0.85, 0.95, 0.85}, "FRFR"},
		"for a time":                              {long, []float64{0.95, 0.95, 0.95, 0.95, 0.95}, "...F."},
		"too short":                               {long, []float64{0.95, 0.95, 0.95, 0.5, 0.95, 0.95, 0.95}, "......."},
		"between clear and threshold begins anew": {long, []float64{0.95, 0.95, 0.85, 0.95, 0.95, 0.95, 0.95}, "......F"},
		"flapping never lasts":                    {long, []float64{1, 0, 1, 0, 1, 0, 1, 0}, "........"},
		"a time below the interval":               {short, []float64{1, 1, 0, 1}, ".FR."},
		"unknown does not fire":                   {above, []float64{unknown, unknown}, ".."},
		"unknown does not resolve":                {above, []float64{1, unknown, unknown, 1, 0}, "F...R"},
		"unknown, then over":                      {above, []float64{1, unknown, 0.5}, "F.R"},
		"unknown is no break":                     {long, []float64{1, 1, unknown, 1, 1}, "....F"},
		"unknown time does not count":             {long, []float64{1, unknown, unknown, unknown, unknown, 1, 1, 1}, ".......F"},
		"known every other time":                  {long, []float64{1, unknown, 1, unknown, 1, unknown, 1, unknown}, "......F."},
		"growth":                                  {grown, []float64{7, 7, 8, 9, 9, 9, 12}, "..F.R.F"},
		"growth of a counter that went back":      {grown, []float64{7, 8, 3, 3, 4}, ".F.RF"},
		"a counter that went back says nothing":   {grown, []float64{7, 8, 0, 5}, ".F.."},
		"growth over a gap is not known":          {grown, []float64{7, unknown, 9, 9, 10}, "....F"},
		"rate":                                    {rate, []float64{0, 100, 301, 360, 410, 700}, "..F.RF"},
		"rate below":                              {stalled, []float64{0, 200, 250, 350}, "..FR"},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			var got strings.Builder
			for i, value := range test.values {
				change := s.Step(&test.rule, Reading{Value: value, Known: !math.IsNaN(value)}, at(float64(i), uint64(i+1)))
				got.WriteString([]string{".", "F", "R"}[change])
				assert.False(t, s.On && s.Pending)
			}
			assert.Equal(t, test.want, got.String())
			assert.Equal(t, uint64(strings.Count(test.want, "F")), s.Fired)
		})
	}
}

// A counter that was reset, or is another one of the same name, has not grown by anything that is known, even where it is higher.
func TestState_Step_broken(t *testing.T) {
	var s State
	r := Rule{Of: Increase}
	assert.Equal(t, None, s.Step(&r, Reading{Value: 5, Known: true}, at(0, 1)))
	assert.Equal(t, None, s.Step(&r, Reading{Value: 500, Known: true, Broken: true}, at(1, 2)))
	assert.True(t, s.Blind)
	assert.Equal(t, None, s.Step(&r, Reading{Value: 500, Known: true}, at(2, 3)))
	assert.False(t, s.Blind)
	assert.Equal(t, Fired, s.Step(&r, Reading{Value: 501, Known: true}, at(3, 4)))
	assert.Equal(t, None, s.Step(&r, Reading{Value: 501, Known: true, Broken: true}, at(4, 5)), "it stays on")
}

func rule(t *testing.T, name, metric string, change func(*Rule)) Rule {
	t.Helper()
	m, err := sample.FindMetric(metric)
	require.NoError(t, err)
	r := Rule{Name: name, MetricName: metric, Metric: m, Severity: "warning"}
	if change != nil {
		change(&r)
	}
	return r
}

func ratio(value float64) *sample.Sample {
	return &sample.Sample{Totals: &sample.Totals{UtilizationRatio: &value}}
}

func TestTable_events(t *testing.T) {
	table := NewTable([]Rule{rule(t, "busy", "totals.utilization_ratio", func(r *Rule) {
		r.Threshold, r.Clear, r.For = 0.9, 0.8, 2*time.Second
	})})
	for i, value := range []float64{0.5, 0.95, 0.96, 0.97, 0.98} {
		table.Evaluate(ratio(value), at(float64(i), uint64(i+1)))
	}
	var answer sample.Alerts
	table.Fill(&answer, nil)
	table.Count(&answer)
	require.Len(t, answer.Rules, 1)
	row := answer.Rules[0]
	assert.Equal(t, "on", row.State)
	assert.InDelta(t, 0.98, *row.Value, 0)
	assert.InDelta(t, 1.7e9+1, *row.OnsetSeconds, 1e-6)
	assert.InDelta(t, 1.7e9+3, *row.FiredSeconds, 1e-6)
	assert.InDelta(t, 0.9, *row.Above, 0)
	assert.Nil(t, row.Below)
	assert.Nil(t, row.UnmeasuredSinceSeconds)
	assert.Equal(t, uint64(5), answer.SampleSequence)

	table.Evaluate(&sample.Sample{}, at(5, 6))
	table.Evaluate(&sample.Sample{}, at(6, 7))
	table.Fill(&answer, &sample.Sample{Unavailable: map[string]string{"totals.utilization_ratio": "the driver does not tell"}})
	row = answer.Rules[0]
	assert.Equal(t, "on", row.State, "it stays on")
	assert.InDelta(t, 1.7e9+5, *row.UnmeasuredSinceSeconds, 1e-6)
	assert.Equal(t, "the driver does not tell", *row.UnmeasuredReason)
	assert.InDelta(t, 0.98, *row.Value, 0)

	table.Evaluate(ratio(0.7), at(8, 9))
	events := table.Events(0, MostEvents)
	require.Len(t, events, 2)
	value, active := 0.97, 5.0
	assert.Equal(t, sample.AlertEvent{
		Sequence: 1, Event: "fired", Name: "busy", Metric: "totals.utilization_ratio", Severity: "warning", Direction: "above", Threshold: 0.9,
		Value: &value, OnsetSeconds: 1.7e9 + 1, TimestampSeconds: 1.7e9 + 3, MonotonicSeconds: 3, SampleSequence: 4,
		Text: "totals.utilization_ratio is 0.97, above 0.9 for 2 s",
	}, events[0])
	value = 0.7
	assert.Equal(t, sample.AlertEvent{
		Sequence: 2, Event: "resolved", Name: "busy", Metric: "totals.utilization_ratio", Severity: "warning", Direction: "above", Threshold: 0.8,
		Value: &value, OnsetSeconds: 1.7e9 + 1, TimestampSeconds: 1.7e9 + 8, MonotonicSeconds: 8, ActiveSeconds: &active, SampleSequence: 9,
		Text: "totals.utilization_ratio is 0.7, at or below 0.8 again after 5 s",
	}, events[1])
	assert.Equal(t, events[1:], table.Events(1, 5))
	assert.Equal(t, events[:1], table.Events(0, 1))
	assert.Empty(t, table.Events(2, 5))
	assert.Empty(t, table.Events(math.MaxUint64, 5))
	table.Fill(&answer, nil)
	assert.Equal(t, "off", answer.Rules[0].State)
	assert.Nil(t, answer.Rules[0].OnsetSeconds)
	assert.Nil(t, answer.Rules[0].FiredSeconds)
	assert.Equal(t, uint64(1), answer.Rules[0].FiredTotal)
}

// The list of events is bounded: the oldest are dropped and counted, and the rest is handed out in order.
func TestTable_bounded(t *testing.T) {
	table := NewTable([]Rule{rule(t, "busy", "totals.utilization_ratio", func(r *Rule) { r.Threshold, r.Clear = 0.5, 0.5 })})
	const more = 300
	for i := range MostEvents + more {
		table.Evaluate(ratio(float64((i+1)%2)), at(float64(i), uint64(i+1)))
	}
	var answer sample.Alerts
	table.Count(&answer)
	assert.Equal(t, uint64(MostEvents+more), answer.EventsTotal)
	assert.Equal(t, uint64(more), answer.EventsDroppedTotal)
	for _, after := range []uint64{0, more - 1, more, more + 5, more + MostEvents - 1} {
		events := table.Events(after, 2*MostEvents)
		first := max(after, more) + 1
		require.Len(t, events, int(MostEvents+more+1-first), "%d", after)
		for i, e := range events {
			require.Equal(t, first+uint64(i), e.Sequence)
			require.Equal(t, []string{"resolved", "fired"}[e.Sequence%2], e.Event)
		}
	}
}

func TestTable_Set(t *testing.T) {
	high := func(r *Rule) { r.Threshold, r.Clear = 0.9, 0.9 }
	busy, other := rule(t, "busy", "totals.utilization_ratio", high), rule(t, "other", "totals.utilization_ratio", high)
	table := NewTable([]Rule{busy, other})
	table.Evaluate(ratio(1), at(0, 1))
	require.Len(t, table.Events(0, 9), 2)

	table.Set([]Rule{rule(t, "new", "totals.utilization_ratio", high), busy}, at(0.5, 0))
	events := table.Events(2, 9)
	require.Len(t, events, 1, "busy goes on")
	assert.Equal(t, "resolved", events[0].Event)
	assert.Equal(t, "other", events[0].Name)
	assert.Nil(t, events[0].Value)
	assert.InDelta(t, 0.5, *events[0].ActiveSeconds, 1e-9)
	assert.Equal(t, uint64(1), events[0].SampleSequence)
	assert.Equal(t, "the rule was taken away or changed", events[0].Text)

	table.Evaluate(ratio(1), at(1, 2))
	events = table.Events(3, 9)
	require.Len(t, events, 1, "busy does not fire again")
	assert.Equal(t, "new", events[0].Name)

	changed := busy
	changed.Clear = 0.5
	table.Set([]Rule{changed}, at(1.5, 0))
	assert.Len(t, table.Events(4, 9), 2, "both are resolved")
	table.Evaluate(ratio(1), at(2, 3))
	assert.Equal(t, "fired", table.Events(6, 9)[0].Event)
	table.Set([]Rule{}, at(3, 0))
	table.Evaluate(ratio(0), at(3, 4))
	assert.Len(t, table.Events(7, 9), 1)
	assert.Zero(t, table.Len())
}

// manyRows has what rules of all kinds look at, as a sample of the loop keeps it.
func manyRows() *sample.Sample {
	s := ratio(0.5)
	received, rate := uint64(7), 1.0
	for i := range 400 {
		s.Interfaces = append(s.Interfaces, &sample.Interface{Name: fmt.Sprintf("eth%d", i), Traffic: sample.Traffic{
			ReceiveDropsTotal: &received, ReceiveBytesPerSecond: &rate,
		}})
	}
	s.KeepProbes([]*sample.ProbeTexts{{Target: "10.0.0.2"}}, []sample.ProbeNumbers{{Sent: 1, Received: 1, P50: time.Millisecond}})
	s.KeepPeers([]*sample.PeerTexts{{Address: "10.0.0.2"}}, []*sample.PeerNumbers{{RTT: 7}}, time.Second)
	s.KeepRDMA([]sample.KeptRDMAPort{{
		Texts:    &sample.RDMATexts{Device: "mlx5_0", Port: 1},
		Counters: &sample.RDMACounters{Names: []string{"out_of_sequence"}, Totals: []uint64{7}, PerSecond: []float64{0}},
	}})
	s.NVLink = []sample.NVLink{{GPU: 0, ReceiveBytesPerSecond: &rate}}
	s.Findings = []sample.Finding{{Class: "network_clean"}}
	return s
}

func manyRules(t testing.TB) []Rule {
	t.Helper()
	var rules []Rule
	for _, name := range []string{
		"totals.utilization_ratio", "tcp.retransmit_ratio", "interfaces.eth399.receive_drops_total", "probes.10.0.0.2.rtt_p50_seconds",
		"peers.10.0.0.2.rtt_seconds", "rdma.mlx5_0.1.receive_bytes_per_second", "rdma.mlx5_0.1.counters.out_of_sequence",
		"nvlink.0.receive_bytes_per_second", "findings.slow_link.count", "interfaces.none.mtu",
	} {
		m, err := sample.FindMetric(name)
		require.NoError(t, err)
		rules = append(rules, Rule{Name: name, MetricName: name, Metric: m, Threshold: 1e18})
		if m.IsCounter() {
			rules = append(rules, Rule{Name: name + " growth", MetricName: name, Metric: m, Threshold: 1e18, Of: Increase})
		}
	}
	return rules
}

func TestTable_Evaluate_takesNoMemory(t *testing.T) {
	table, s := NewTable(manyRules(t)), manyRows()
	second := 0.0
	allocations := testing.AllocsPerRun(100, func() {
		second++
		table.Evaluate(s, at(second, uint64(second)))
	})
	assert.Zero(t, allocations)
	blind := 0
	for i := range table.states {
		if table.states[i].Blind {
			blind++
		}
	}
	assert.Equal(t, 2, blind, "tcp and an interface that is not there")
}

func BenchmarkEvaluate(b *testing.B) {
	s := manyRows()
	for name, rules := range map[string][]Rule{"all kinds": manyRules(b), "64 rules": nil} {
		for name == "64 rules" && len(rules) < MostRules {
			rules = append(rules, manyRules(b)[0])
		}
		b.Run(name, func(b *testing.B) {
			table := NewTable(rules)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Evaluate(s, at(float64(i), uint64(i+1)))
			}
		})
	}
}
