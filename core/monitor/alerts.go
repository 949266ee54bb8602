package monitor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"netmon/core/alert"
	"netmon/core/sample"
)

// mostAlertName bounds the name of a rule, in bytes.
const mostAlertName = 256

// alerts are the rules of a monitor. They are held against each sample of the loop after it was published, so that nobody who reads
// samples waits for it.
type alerts struct {
	mu    sync.Mutex // guards what follows, and is held for no longer than it takes to copy
	table *alert.Table
}

func (a *alerts) evaluate(s *sample.Sample, at moment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.Evaluate(s, alert.Moment{Monotonic: at.monotonic, Wall: wallSeconds(at.wall), Sequence: s.Sequence})
}

// askAlerts answers the query "alerts".
func (m *Monitor) askAlerts(q request) sample.Alerts {
	newest := m.history.newest()
	a := &m.alerts
	a.mu.Lock()
	defer a.mu.Unlock()
	if q.rules != nil {
		a.table.Set(q.rules, alert.Moment{Monotonic: m.clock.Monotonic(), Wall: wallSeconds(m.clock.Wall())})
	}
	var answer sample.Alerts
	a.table.Count(&answer)
	answer.Events = a.table.Events(q.after, q.limit)
	if !q.eventsOnly {
		a.table.Fill(&answer, newest)
	}
	return answer
}

// newest is the newest sample of the loop, nil for none.
func (h *history) newest() *sample.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.entries) == 0 {
		return nil
	}
	return h.entries[len(h.entries)-1].sample
}

const alertExample = `{"metric": "totals.utilization_ratio", "above": 0.9, "for_seconds": 10}`

// rules reads a list of alert rules.
func (d *decoder) rules(key string, value []byte) ([]alert.Rule, error) {
	items, err := d.list(key, value, alert.MostRules, "such as ["+alertExample+"]")
	if err != nil {
		return nil, err
	}
	rules := make([]alert.Rule, len(items))
	for i, item := range items {
		if kindOf(item) != "an object" {
			return nil, d.fail(key, "has %s as entry %d; it must be an object such as %s", describe(item), i+1, alertExample)
		}
		r := ruleReader{decoder: decoder{what: d.what, prefix: d.prefix + key + ".", example: alertExample}, number: i + 1}
		if err := r.read(item); err != nil {
			return nil, err
		}
		rules[i] = r.rule
		if slices.ContainsFunc(rules[:i], func(other alert.Rule) bool { return other.Name == rules[i].Name }) {
			return nil, r.located(r.fail("name", "is %q, as that of another entry; alerts are told apart by their names", shorten(rules[i].Name)))
		}
	}
	return rules, nil
}

// ruleReader reads one rule. Its errors say which entry of the list it is.
type ruleReader struct {
	decoder
	number              int // of the entry, from 1
	rule                alert.Rule
	above, below, clear *float64
	rate, increase      bool
}

func (r *ruleReader) read(text []byte) error {
	r.rule.Severity = "warning"
	real := func(into **float64) func(string, []byte) error {
		return func(key string, value []byte) (err error) {
			*into, err = r.real(key, value)
			return err
		}
	}
	flag := func(into *bool) func(string, []byte) error {
		return func(key string, value []byte) (err error) {
			*into, err = r.boolean(key, value)
			return err
		}
	}
	err := r.object(text, MaxConfigBytes, map[string]func(string, []byte) error{
		"name": func(key string, value []byte) (err error) {
			if r.rule.Name, err = r.string(key, value); err == nil && (r.rule.Name == "" || len(r.rule.Name) > mostAlertName) {
				err = r.fail(key, "is %d bytes long; it must be from 1 to %d", len(r.rule.Name), mostAlertName)
			}
			return err
		},
		"metric": func(key string, value []byte) (err error) {
			if r.rule.MetricName, err = r.string(key, value); err != nil {
				return err
			}
			if strings.Contains(r.rule.MetricName, "*") {
				return r.fail(key, "is %q; a rule is of one metric: patterns are not understood", shorten(r.rule.MetricName))
			}
			if r.rule.Metric, err = sample.FindMetric(r.rule.MetricName); err != nil {
				return r.fail(key, "is not one: %v", err)
			}
			return nil
		},
		"above": real(&r.above), "below": real(&r.below), "clear": real(&r.clear),
		"for_seconds": func(key string, value []byte) (err error) {
			r.rule.For, err = r.duration(key, value, 0, alert.MostFor)
			return err
		},
		"severity": func(key string, value []byte) (err error) {
			severities := []string{"info", "warning", "critical"}
			if r.rule.Severity, err = r.string(key, value); err == nil && !slices.Contains(severities, r.rule.Severity) {
				err = r.fail(key, "is %q; it must be one of %s", shorten(r.rule.Severity), strings.Join(severities, ", "))
			}
			return err
		},
		"rate": flag(&r.rate), "increase": flag(&r.increase),
	})
	if err == nil {
		err = r.finish()
	}
	return r.located(err)
}

// finish checks what belongs together, and fills in what was left out.
func (r *ruleReader) finish() error {
	rule := &r.rule
	switch {
	case rule.MetricName == "":
		return r.fail("metric", "is missing; name one, as \"totals.utilization_ratio\"")
	case r.above == nil && r.below == nil:
		return r.fail("above", "is missing, and so is \"below\"; give one of them")
	case r.above != nil && r.below != nil:
		return r.fail("below", "is given, and so is \"above\"; give one of them")
	case r.rate && r.increase:
		return r.fail("increase", "is true, and so is \"rate\"; choose one of them")
	case r.increase && !rule.Metric.IsCounter():
		return r.fail("increase", "is true, and %s is no counter; leave it out", rule.MetricName)
	case r.rate && !rule.Metric.IsCounter():
		return r.fail("rate", "is true, and %s is no counter; leave it out", rule.MetricName)
	}
	// What can never be, or always is, was meant otherwise: no metric is negative, and a ratio is a share of one.
	switch {
	case r.above != nil && *r.above < 0:
		return r.fail("above", "is %v; no metric is negative, so it would always be on", *r.above)
	case r.below != nil && *r.below <= 0:
		return r.fail("below", "is %v; no metric is negative, so it would never be on", *r.below)
	case r.above != nil && *r.above > 1 && rule.Metric.IsRatio():
		return r.fail("above", "is %v; %s is a ratio, from 0 to 1: 90 %% is 0.9", *r.above, rule.MetricName)
	case r.clear != nil && r.above != nil && *r.clear > *r.above:
		return r.fail("clear", "is %v; it must be at most what \"above\" is, %v", *r.clear, *r.above)
	case r.clear != nil && r.above != nil && *r.clear < 0:
		return r.fail("clear", "is %v; no metric is negative, so it would be on for ever", *r.clear)
	case r.clear != nil && r.below != nil && *r.clear < *r.below:
		return r.fail("clear", "is %v; it must be at least what \"below\" is, %v", *r.clear, *r.below)
	}
	direction := "above"
	if rule.Below = r.below != nil; rule.Below {
		direction, rule.Threshold = "below", *r.below
	} else {
		rule.Threshold = *r.above
	}
	if rule.Clear = rule.Threshold; r.clear != nil {
		rule.Clear = *r.clear
	}
	of := ""
	switch {
	case r.rate:
		rule.Of, of = alert.Rate, " per second"
	case r.increase:
		rule.Of, of = alert.Increase, " increase"
	}
	if rule.Name == "" {
		rule.Name = fmt.Sprintf("%s%s %s %v", rule.MetricName, of, direction, rule.Threshold)
	}
	return nil
}

// located adds to an error which entry it is about.
func (r *ruleReader) located(err error) error {
	var wrong *TextError
	if !errors.As(err, &wrong) {
		return err
	}
	key := wrong.Key
	if key == "" {
		key = strings.TrimSuffix(r.prefix, ".")
	}
	return &TextError{What: wrong.What, Key: key, Text: fmt.Sprintf("of entry %d %s", r.number, wrong.Text)}
}
