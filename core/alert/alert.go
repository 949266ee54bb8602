// Package alert holds rules against samples: a threshold on a metric, in one direction, for a time, with a level at which the alert
// is over again. It reads nothing, keeps no time of its own and calls nobody: events wait in a bounded list until they are read.
//
// What was not measured neither begins nor ends an alert. An alert that is on stays on, and the rule says since when it is blind.
package alert

import (
	"fmt"
	"math"
	"time"

	"netmon/core/sample"
	"netmon/core/units"
)

// Bounds of rules and of what is kept of them.
const (
	MostRules  = 64
	MostEvents = 1024
	MostFor    = 24 * time.Hour
)

// Of is what of a metric a rule compares.
type Of uint8

// The value itself; of a counter also what it grew by since the sample before, in all or per second.
const (
	Value Of = iota
	Increase
	Rate
)

// Rule is a threshold on a metric.
type Rule struct {
	Name       string
	MetricName string
	Metric     sample.Metric
	Of         Of
	Below      bool // fires below the threshold; else above
	Threshold  float64
	Clear      float64       // is over at this level, or on its good side
	For        time.Duration // how long the value must have been beyond the threshold
	Severity   string        // "info", "warning", "critical"
}

// Beyond tells whether a value is on the bad side of the threshold. One that is equal to it is not.
func (r *Rule) Beyond(value float64) bool {
	if r.Below {
		return value < r.Threshold
	}
	return value > r.Threshold
}

// Over tells whether a value ends an alert.
func (r *Rule) Over(value float64) bool {
	if r.Below {
		return value >= r.Clear
	}
	return value <= r.Clear
}

// Moment is when a sample was taken.
type Moment struct {
	Monotonic time.Duration
	Wall      float64 // seconds since 1970
	Sequence  uint64  // of the sample
}

// Change is what an evaluation did to an alert.
type Change uint8

// Nothing, the beginning of an alert, and its end.
const (
	None Change = iota
	Fired
	Resolved
)

// State is how a rule stands. The zero value is of a rule that was not held against a sample yet.
type State struct {
	On      bool
	Pending bool   // beyond the threshold, not for long enough yet
	Fired   uint64 // how often the alert began

	Value float64 // measured last: what the rule compares
	Known bool    // Value is one

	Onset     Moment        // since when the value is beyond the threshold, while pending or on
	FiredAt   Moment        // while on
	Held      time.Duration // how long it was seen beyond the threshold before it fired
	Blind     bool          // the newest sample did not have it
	BlindFrom Moment        // the first of the samples without it

	last    Moment  // of the newest sample
	counter float64 // in the newest sample, where the rule compares its growth
	counted bool
}

// Reading is the metric of a rule in one sample.
type Reading struct {
	Value float64
	Known bool
	// Broken says of a counter that it was reset, or is that of something new: what it grew by is not known.
	Broken bool
}

// Step holds a rule against what a sample says. Samples come in their order.
func (s *State) Step(r *Rule, reading Reading, at Moment) Change {
	if math.IsNaN(reading.Value) {
		reading.Known = false
	}
	value, measured := s.compared(r, reading, at)
	before := s.last
	s.last = at
	if !measured {
		if !s.Blind {
			s.Blind, s.BlindFrom = true, at
		}
		return None
	}
	s.Blind = false
	s.Value, s.Known = value, true
	if s.On {
		if !r.Over(value) {
			return None
		}
		s.On = false
		return Resolved
	}
	if !r.Beyond(value) {
		s.Pending = false
		return None
	}
	if s.Pending {
		// The time before this sample. That before samples without the value is left out.
		s.Held += at.Monotonic - before.Monotonic
	} else {
		s.Pending, s.Onset, s.Held = true, at, 0
	}
	if s.Held < r.For {
		return None
	}
	s.Pending, s.On, s.FiredAt = false, true, at
	s.Fired++
	return Fired
}

// compared is the value that the rule looks at. The growth of a counter is known where the sample before had the counter too, and it
// did not go back: nothing is made up for one that was reset.
func (s *State) compared(r *Rule, reading Reading, at Moment) (value float64, known bool) {
	if r.Of == Value {
		return reading.Value, reading.Known
	}
	before, counted := s.counter, s.counted
	s.counter, s.counted = reading.Value, reading.Known
	growth, passed := reading.Value-before, at.Monotonic-s.last.Monotonic
	switch {
	case !reading.Known || reading.Broken || !counted || growth < 0 || passed <= 0:
		return 0, false
	case r.Of == Rate:
		return growth / units.Seconds(passed), true
	default:
		return growth, true
	}
}

// say is the sentence of an event.
func (s *State) say(r *Rule, change Change, at Moment) string {
	var what string
	switch r.Of {
	case Value:
		what = fmt.Sprintf("%s is %.6g", r.MetricName, s.Value)
	case Increase:
		what = fmt.Sprintf("%s grew by %.6g", r.MetricName, s.Value)
	case Rate:
		what = fmt.Sprintf("%s grows by %.6g per second", r.MetricName, s.Value)
	}
	if change == Fired {
		text := fmt.Sprintf("%s, %s %.6g", what, r.direction(), r.Threshold)
		if r.For > 0 {
			text += fmt.Sprintf(" for %.3g s", units.Seconds(s.Held))
		}
		return text
	}
	side := "at or below"
	if r.Below {
		side = "at or above"
	}
	return fmt.Sprintf("%s, %s %.6g again after %.3g s", what, side, r.Clear, units.Seconds(at.Monotonic-s.FiredAt.Monotonic))
}

func (r *Rule) direction() string {
	if r.Below {
		return "below"
	}
	return "above"
}
