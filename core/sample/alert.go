package sample

// Alerts is what the query "alerts" answers.
type Alerts struct {
	// SampleSequence is that of the newest sample that the rules were held against, 0 for none.
	SampleSequence uint64       `json:"sample_sequence"`
	Rules          []AlertRule  `json:"rules"`  // nil where only events were asked for
	Events         []AlertEvent `json:"events"` // oldest first
	EventsTotal    uint64       `json:"events_total"`
	// EventsDroppedTotal are those of EventsTotal that are not kept any more.
	EventsDroppedTotal uint64 `json:"events_dropped_total"`
}

// AlertRule is a rule and how it stands. Times are wall times.
type AlertRule struct {
	Name       string   `json:"name"`
	Metric     string   `json:"metric"`
	Above      *float64 `json:"above"` // one of these two
	Below      *float64 `json:"below"`
	Clear      float64  `json:"clear"`
	ForSeconds float64  `json:"for_seconds"`
	Rate       bool     `json:"rate"`
	Increase   bool     `json:"increase"`
	Severity   string   `json:"severity"` // "info", "warning", "critical"

	State        string   `json:"state"`         // "off", "pending", "on"
	Value        *float64 `json:"value"`         // measured last
	OnsetSeconds *float64 `json:"onset_seconds"` // since when the value is beyond the threshold; nil while off
	FiredSeconds *float64 `json:"fired_seconds"` // when the alert that is on began
	FiredTotal   uint64   `json:"fired_total"`
	// UnmeasuredSinceSeconds is when the value was first found not to be measured, nil while it is.
	UnmeasuredSinceSeconds *float64 `json:"unmeasured_since_seconds"`
	UnmeasuredReason       *string  `json:"unmeasured_reason"`
}

// AlertEvent says that an alert began or ended.
type AlertEvent struct {
	Sequence  uint64 `json:"sequence"` // from 1, without gaps
	Event     string `json:"event"`    // "fired", "resolved"
	Name      string `json:"name"`
	Metric    string `json:"metric"`
	Severity  string `json:"severity"`
	Direction string `json:"direction"` // "above", "below"
	// Threshold is the level that was passed: to fire that of the rule, to resolve its clear.
	Threshold float64  `json:"threshold"`
	Value     *float64 `json:"value"` // nil where the rule was taken away
	// OnsetSeconds is the wall time at which the value was first seen beyond the threshold.
	OnsetSeconds     float64  `json:"onset_seconds"`
	TimestampSeconds float64  `json:"timestamp_seconds"`
	MonotonicSeconds float64  `json:"monotonic_seconds"`
	ActiveSeconds    *float64 `json:"active_seconds"` // how long it was on; nil where it fired
	SampleSequence   uint64   `json:"sample_sequence"`
	Text             string   `json:"text"`
}
