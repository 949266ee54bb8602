package monitor

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"netmon/core/alert"
	"netmon/core/sample"
	"netmon/core/stats"
	"netmon/core/units"
)

// mostHistorySamples bounds what one answer holds; more is fetched in pages.
const mostHistorySamples = 256

// Query answers a request about what was recorded, in JSON written to w:
//
//	{"view": "history", "seconds": 60, "after_sequence": 0, "limit": 256}   samples of the loop, oldest first
//	{"view": "stats", "metric": "totals.receive_bytes_per_second", "seconds": 60}
//	{"view": "collectives", "limit": 256}   groups, and the newest records, oldest first
//	{"view": "health"}
//	{"view": "fine", "seconds": 10, "interval_seconds": 0.02}   samples finely for so long
//	{"view": "alerts", "after_sequence": 0, "limit": 256, "events_only": false}   rules as they stand, and events, oldest first
//	{"view": "alerts", "rules": [...]}   the same, with other rules from now on
//
// Errors: *TextError for a request that is not understood, ErrClosed, and what w returns.
func (m *Monitor) Query(request []byte, w io.Writer) error {
	q, err := parseRequest(request)
	if err != nil {
		return err
	}
	if m.closing.Load() {
		return ErrClosed
	}
	switch q.view {
	case "history":
		return sample.WriteHistory(w, m.page(q))
	case "stats":
		answer := m.stats(q)
		return answer.WriteJSON(w)
	case "collectives":
		answer := m.recentCollectives(q.limit)
		return answer.WriteJSON(w)
	case "fine":
		answer, err := m.sampleFinely(q)
		if err != nil {
			return err
		}
		return answer.WriteJSON(w)
	case "alerts":
		answer := m.askAlerts(q)
		return answer.WriteJSON(w)
	default:
		answer := m.healthReport()
		return answer.WriteJSON(w)
	}
}

type request struct {
	view   string
	span   time.Duration
	after  uint64
	limit  int
	metric sample.Metric
	name   string

	fineSpan, fineInterval time.Duration

	rules      []alert.Rule // nil: they stay
	eventsOnly bool
}

func parseRequest(text []byte) (q request, err error) {
	d := decoder{what: "request", example: `{"view": "health"}`}
	q.span, q.limit = historySpan*2, mostHistorySamples
	q.fineSpan, q.fineInterval = defaultFineSpan, defaultFineInterval
	given := make(map[string]bool)
	err = d.object(text, MaxConfigBytes, map[string]func(string, []byte) error{
		"view": func(key string, value []byte) (err error) {
			q.view, err = d.string(key, value)
			return err
		},
		"seconds": func(key string, value []byte) error {
			given[key] = true
			seconds, err := d.number(key, value, 0, 1e9, "seconds")
			q.span = units.Duration(min(seconds, historySpan.Seconds()*2))
			q.fineSpan = q.span
			return err
		},
		"interval_seconds": func(key string, value []byte) (err error) {
			given[key] = true
			q.fineInterval, err = d.duration(key, value, leastFineInterval, mostFineInterval)
			return err
		},
		"after_sequence": func(key string, value []byte) error {
			given[key] = true
			number, err := d.integer(key, value, 0, math.MaxInt64)
			if err == nil {
				q.after = uint64(*number)
			}
			return err
		},
		"limit": func(key string, value []byte) error {
			given[key] = true
			number, err := d.integer(key, value, 1, mostHistorySamples)
			if err == nil {
				q.limit = int(*number)
			}
			return err
		},
		"rules": func(key string, value []byte) (err error) {
			given[key] = true
			q.rules, err = d.rules(key, value)
			return err
		},
		"events_only": func(key string, value []byte) (err error) {
			given[key] = true
			q.eventsOnly, err = d.boolean(key, value)
			return err
		},
		"metric": func(key string, value []byte) (err error) {
			given[key] = true
			if q.name, err = d.string(key, value); err != nil {
				return err
			}
			if q.metric, err = sample.FindMetric(q.name); err != nil {
				return d.fail(key, "is not one: %v", err)
			}
			return nil
		},
	})
	if err != nil {
		return q, err
	}
	allowed := map[string][]string{
		"history": {"seconds", "after_sequence", "limit"}, "stats": {"metric", "seconds"}, "health": {}, "collectives": {"limit"},
		"fine": {"seconds", "interval_seconds"}, "alerts": {"after_sequence", "limit", "rules", "events_only"},
	}
	keys, known := allowed[q.view]
	if !known {
		return q, d.fail("view", "is %q; it must be \"history\", \"stats\", \"collectives\", \"alerts\", \"health\" or \"fine\"", q.view)
	}
	for _, key := range keys {
		delete(given, key)
	}
	for key := range given {
		return q, d.fail(key, "does not belong to the view %q", q.view)
	}
	if q.view == "fine" && q.fineSpan > mostFineSpan {
		return q, d.fail("seconds", "is more than %v; it must be at most that in the view \"fine\": ask again before it is over, or 0 to end it",
			mostFineSpan.Seconds())
	}
	if q.view == "stats" && q.name == "" {
		return q, d.fail("metric", "is missing; name one, as \"totals.receive_bytes_per_second\"")
	}
	return q, nil
}

func (m *Monitor) recorded(q request) []*sample.Sample {
	return m.history.since(m.clock.Monotonic() - q.span)
}

// page is the part of the history that a request asks for: the oldest samples after a sequence number, at most limit.
func (m *Monitor) page(q request) []*sample.Sample {
	samples := m.recorded(q)
	first := 0
	for first < len(samples) && samples[first].Sequence <= q.after {
		first++
	}
	samples = samples[first:]
	return samples[:min(len(samples), q.limit)]
}

func (m *Monitor) stats(q request) sample.Stats {
	var values []float64
	samples := m.recorded(q)
	for _, s := range samples {
		if value, ok := q.metric.Value(s); ok {
			values = append(values, value)
		}
	}
	answer := sample.Stats{Metric: q.name, Count: len(values)}
	if len(samples) > 1 {
		span := samples[len(samples)-1].MonotonicSeconds - samples[0].MonotonicSeconds
		answer.WindowSeconds = &span
	}
	if len(values) == 0 {
		return answer
	}
	summary := stats.Describe(values)
	answer.Min, answer.Max, answer.Mean, answer.StdDeviation = &summary.Min, &summary.Max, &summary.Mean, &summary.StdDeviation
	answer.P50, answer.P95, answer.P99 = &summary.P50, &summary.P95, &summary.P99
	return answer
}

func (m *Monitor) healthReport() sample.Health {
	now := m.clock.Monotonic()
	samples, bytes, span, newest := m.history.extent()
	age := units.Seconds(now - newest)
	// Why a phase was not begun is told without waiting for the next sample.
	problems := slices.DeleteFunc(slices.Clone(*m.health.Load()), func(text string) bool { return strings.HasPrefix(text, aboutPhases) })
	problems = append(problems, m.phases.problems()...)
	answer := sample.Health{
		Status: "ok", Problems: problems, IntervalSeconds: units.Seconds(m.config.Interval),
		UptimeSeconds: units.Seconds(now - m.started), SamplesTotal: m.samples.Load(), DroppedTotal: m.dropped.Load(),
		ProbeBytesTotal: m.engine.Bytes(), HistorySamples: samples, HistoryBytes: bytes, HistorySpanSeconds: units.Seconds(span), LastSampleAge: &age,
	}
	answer.Events, answer.EventsTotal = m.events.copy()
	if cpu := m.cpuTime(); cpu > 0 {
		seconds := units.Seconds(cpu)
		answer.CPUSecondsTotal = &seconds
	}
	if late := now - newest; late > 3*m.config.Interval && late > time.Second {
		answer.Problems = append([]string{fmt.Sprintf(
			"the newest sample of the loop is %.1f s old; one is due every %v", late.Seconds(), m.config.Interval)}, problems...)
	}
	if len(answer.Problems) > 0 {
		answer.Status = "degraded"
	}
	return answer
}
