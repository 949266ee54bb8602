package reach

import (
	"math"
	"slices"
	"time"

	"netmon/core/stats"
	"netmon/core/units"
)

// Bounds of what is remembered of a target.
const (
	windowSpan   = 60 * time.Second
	mostOutcomes = 1024
)

// outcome is how one probe ended. Times are monotonic.
type outcome struct {
	sent, ended time.Duration
	rtt         time.Duration // lost: there was none
}

const lost = time.Duration(-1)

// window holds the newest outcomes of one target, with their round trips in order, so that quantiles cost no sorting.
type window struct {
	span     time.Duration // 0: as long as it takes
	outcomes []outcome     // in the order they ended, the first head of them forgotten
	head     int
	sorted   sorted
	shared   *sorted // round trips of all targets, nil for none
}

func (w *window) kept() []outcome { return w.outcomes[w.head:] }
func (w *window) sent() int       { return len(w.outcomes) - w.head }

// add takes an outcome in and drops what is too old beside it.
func (w *window) add(o outcome) {
	for w.sent() > 0 && (w.sent() >= mostOutcomes || w.span > 0 && o.ended-w.kept()[0].sent > w.span) {
		w.dropFirst()
	}
	if w.head > 0 && len(w.outcomes) == cap(w.outcomes) {
		w.outcomes = w.outcomes[:copy(w.outcomes, w.kept())]
		w.head = 0
	}
	w.outcomes = append(w.outcomes, o)
	if o.rtt != lost {
		w.sorted.add(units.Seconds(o.rtt))
		if w.shared != nil {
			w.shared.add(units.Seconds(o.rtt))
		}
	}
}

func (w *window) dropFirst() {
	if first := w.outcomes[w.head]; first.rtt != lost {
		w.sorted.remove(units.Seconds(first.rtt))
		if w.shared != nil {
			w.shared.remove(units.Seconds(first.rtt))
		}
	}
	w.head++
}

func (w *window) clear() {
	for w.sent() > 0 {
		w.dropFirst()
	}
	w.outcomes, w.head = w.outcomes[:0], 0
}

// describe fills in what the window says.
func (w *window) describe(r *Result) {
	outcomes := w.kept()
	r.Sent, r.Received = uint64(len(outcomes)), uint64(len(w.sorted))
	r.Lost = r.Sent - r.Received
	if len(outcomes) == 0 {
		return
	}
	begin, end := outcomes[0].sent, outcomes[0].ended
	var last, difference time.Duration = lost, 0
	for _, o := range outcomes {
		begin, end = min(begin, o.sent), max(end, o.ended)
		if o.rtt == lost {
			continue
		}
		if last != lost {
			difference += (o.rtt - last).Abs()
		}
		last = o.rtt
	}
	r.Window, r.Ended = end-begin, end
	if len(w.sorted) == 0 {
		return
	}
	r.Min, r.P50, r.P99 = w.sorted[0], w.sorted.quantile(0.50), w.sorted.quantile(0.99)
	r.Last = units.Seconds(last)
	if pairs := len(w.sorted) - 1; pairs > 0 {
		r.Jitter = units.Seconds(difference) / float64(pairs)
	}
}

// sorted are round trips in seconds, smallest first.
type sorted []float64

func (s *sorted) add(value float64) {
	i, _ := slices.BinarySearch(*s, value)
	*s = slices.Insert(*s, i, value)
}

func (s *sorted) remove(value float64) {
	if i, found := slices.BinarySearch(*s, value); found {
		*s = slices.Delete(*s, i, i+1)
	}
}

func (s *sorted) quantile(q float64) float64 {
	if len(*s) == 0 {
		return math.NaN()
	}
	return stats.Quantile(*s, q)
}
