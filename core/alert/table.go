package alert

import (
	"netmon/core/sample"
	"netmon/core/units"
)

// Table holds rules against samples and keeps the newest events. Not safe for concurrent use.
type Table struct {
	rules  []Rule
	states []State
	newest uint64 // sequence of the newest sample
	room   sample.Room

	events []sample.AlertEvent // a ring once it is full
	first  int                 // the oldest of it
	total  uint64
}

// NewTable returns a table with rules, MostRules at most.
func NewTable(rules []Rule) *Table { return &Table{rules: rules, states: make([]State, len(rules))} }

// Set replaces the rules. One that was there before, the same in everything, goes on as it stands. An alert whose rule is gone, or was
// changed, is resolved.
func (t *Table) Set(rules []Rule, at Moment) {
	states := make([]State, len(rules))
	for i := range t.rules {
		stays := false
		for j := range rules {
			if same(&t.rules[i], &rules[j]) {
				states[j], stays = t.states[i], true
			}
		}
		if !stays && t.states[i].On {
			at.Sequence = t.newest
			t.add(&t.rules[i], &t.states[i], Resolved, at, true)
		}
	}
	t.rules, t.states = rules, states
}

func same(a, b *Rule) bool {
	return a.Name == b.Name && a.MetricName == b.MetricName && a.Of == b.Of && a.Below == b.Below && a.Threshold == b.Threshold &&
		a.Clear == b.Clear && a.For == b.For && a.Severity == b.Severity
}

// Len is how many rules there are.
func (t *Table) Len() int { return len(t.rules) }

// Evaluate holds the rules against a sample. It takes no memory where nothing fires or resolves.
func (t *Table) Evaluate(s *sample.Sample, at Moment) {
	t.newest = at.Sequence
	for i := range t.rules {
		r, state := &t.rules[i], &t.states[i]
		var reading Reading
		reading.Value, reading.Known = r.Metric.ValueIn(s, &t.room)
		reading.Broken = r.Of != Value && reading.Known && !r.Metric.GoesOn(s)
		if change := state.Step(r, reading, at); change != None {
			t.add(r, state, change, at, false)
		}
	}
}

// add keeps an event.
func (t *Table) add(r *Rule, s *State, change Change, at Moment, gone bool) {
	t.total++
	event := sample.AlertEvent{
		Sequence: t.total, Event: "fired", Name: r.Name, Metric: r.MetricName, Severity: r.Severity, Direction: r.direction(),
		Threshold: r.Threshold, OnsetSeconds: s.Onset.Wall, TimestampSeconds: at.Wall, MonotonicSeconds: units.Seconds(at.Monotonic),
		SampleSequence: at.Sequence,
	}
	if change == Resolved {
		active := units.Seconds(at.Monotonic - s.FiredAt.Monotonic)
		event.Event, event.Threshold, event.ActiveSeconds = "resolved", r.Clear, &active
	}
	if gone {
		event.Text = "the rule was taken away or changed"
	} else {
		value := s.Value
		event.Value, event.Text = &value, s.say(r, change, at)
	}
	if len(t.events) < MostEvents {
		t.events = append(t.events, event)
		return
	}
	t.events[t.first] = event
	t.first = (t.first + 1) % MostEvents
}

// Events are those after a sequence number that are kept, oldest first, limit at most.
func (t *Table) Events(after uint64, limit int) []sample.AlertEvent {
	oldest := t.total - uint64(len(t.events)) + 1
	skip := 0
	if after >= oldest {
		skip = int(min(after-oldest+1, uint64(len(t.events))))
	}
	kept := len(t.events)
	found := make([]sample.AlertEvent, min(kept-skip, limit))
	for i := range found {
		found[i] = t.events[(t.first+skip+i)%kept]
	}
	return found
}

// Fill writes into an answer how the rules stand; newest is the sample that says why something is not measured, nil for none.
func (t *Table) Fill(answer *sample.Alerts, newest *sample.Sample) {
	answer.Rules = make([]sample.AlertRule, len(t.rules))
	for i := range t.rules {
		r, s := &t.rules[i], &t.states[i]
		row := &answer.Rules[i]
		*row = sample.AlertRule{
			Name: r.Name, Metric: r.MetricName, Clear: r.Clear, ForSeconds: units.Seconds(r.For), Rate: r.Of == Rate,
			Increase: r.Of == Increase, Severity: r.Severity, State: s.word(), FiredTotal: s.Fired,
		}
		if r.Below {
			row.Below = known(r.Threshold)
		} else {
			row.Above = known(r.Threshold)
		}
		if s.Known {
			row.Value = known(s.Value)
		}
		if s.On || s.Pending {
			row.OnsetSeconds = known(s.Onset.Wall)
		}
		if s.On {
			row.FiredSeconds = known(s.FiredAt.Wall)
		}
		if s.Blind {
			row.UnmeasuredSinceSeconds = known(s.BlindFrom.Wall)
			row.UnmeasuredReason = s.whyBlind(r, newest)
		}
	}
}

// Count writes into an answer how many events there were, and which sample was looked at last.
func (t *Table) Count(answer *sample.Alerts) {
	answer.SampleSequence = t.newest
	answer.EventsTotal, answer.EventsDroppedTotal = t.total, t.total-uint64(len(t.events))
}

func (s *State) word() string {
	switch {
	case s.On:
		return "on"
	case s.Pending:
		return "pending"
	default:
		return "off"
	}
}

func (s *State) whyBlind(r *Rule, newest *sample.Sample) *string {
	reason := "the newest sample does not have it"
	if newest != nil {
		if _, measured := r.Metric.Value(newest); measured {
			reason = "what a counter grew by is not known in its first sample, nor where it was reset"
		} else {
			reason = r.Metric.Reason(newest)
		}
	}
	return &reason
}

func known(value float64) *float64 { return &value }
