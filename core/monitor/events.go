package monitor

import (
	"fmt"
	"maps"
	"sync"
	"time"

	"netmon/core/sample"
)

// moment is when something happened on both clocks.
type moment struct {
	monotonic time.Duration
	wall      time.Time
}

// The classes of events.
const (
	eventReset    = "counter_reset"
	eventWrap     = "counter_wrap"
	eventAppeared = "interface_appeared"
	eventVanished = "interface_vanished"
	eventRenamed  = "interface_renamed"
)

// mostEvents is how many events are kept; all are counted.
const mostEvents = 256

// eventLog keeps what happened to interfaces and counters. Safe for concurrent use.
type eventLog struct {
	mu     sync.Mutex
	events []sample.Event // oldest first
	counts map[string]uint64
}

func newEventLog() *eventLog { return &eventLog{counts: make(map[string]uint64)} }

func (l *eventLog) add(at moment, class, name, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[class]++
	if len(l.events) == mostEvents {
		l.events = append(l.events[:0], l.events[1:]...)
	}
	event := sample.Event{
		TimestampSeconds: wallSeconds(at.wall), MonotonicSeconds: at.monotonic.Seconds(), Class: class,
		Text: fmt.Sprintf(format, args...),
	}
	if name != "" {
		event.Interface = &name
	}
	l.events = append(l.events, event)
}

// copy returns the events kept and how many there were of each class since the start.
func (l *eventLog) copy() ([]sample.Event, map[string]uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]sample.Event{}, l.events...), maps.Clone(l.counts)
}

func wallSeconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
