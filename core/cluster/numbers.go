package cluster

import (
	"math"
	"time"

	"netmon/core/units"
)

// numbers is room for what the pointers of a view point to: a view of a large job has 100,000 of them. Views keep the rooms they
// point into.
type numbers struct {
	reals  []float64
	counts []uint64
	whole  []int64
}

const room = 1024

// put is a place for a value.
func put[T any](in *[]T, value T) *T {
	if len(*in) == cap(*in) {
		*in = make([]T, 0, room)
	}
	*in = append(*in, value)
	return &(*in)[len(*in)-1]
}

// real is nil for NaN.
func (n *numbers) real(value float64) *float64 {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil
	}
	return put(&n.reals, value)
}

// count is nil for None.
func (n *numbers) count(value uint64) *uint64 {
	if value == None {
		return nil
	}
	return put(&n.counts, value)
}

// number is nil for None.
func (n *numbers) number(value uint64) *int64 {
	if value == None {
		return nil
	}
	return put(&n.whole, int64(value))
}

// seconds is nil for NoTime.
func (n *numbers) seconds(d time.Duration) *float64 {
	if d == NoTime {
		return nil
	}
	return put(&n.reals, units.Seconds(d))
}

// word is nil for no text.
func word(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
