// Package stats describes recorded values: how many, how large, how spread.
//
// The values given are taken as the whole population, so the standard deviation divides by their number. Quantiles interpolate
// linearly between the two nearest ranks (type 7 of Hyndman and Fan, the default of numpy.quantile).
package stats

import (
	"math"
	"slices"
)

// Summary describes a set of values in their own unit. All but Count are undefined when Count is 0.
type Summary struct {
	Count              int
	Min, Max           float64
	Mean, StdDeviation float64
	P50, P95, P99      float64
}

// Describe summarises values. It sorts them in place.
func Describe(values []float64) (s Summary) {
	s.Count = len(values)
	if s.Count == 0 {
		return s
	}
	slices.Sort(values)
	s.Min, s.Max = values[0], values[len(values)-1]
	s.P50, s.P95, s.P99 = Quantile(values, 0.50), Quantile(values, 0.95), Quantile(values, 0.99)
	// Welford's recurrence: no sum of squares that could lose its digits.
	var mean, squares float64
	for i, v := range values {
		delta := v - mean
		mean += delta / float64(i+1)
		squares += delta * (v - mean)
	}
	s.Mean, s.StdDeviation = mean, math.Sqrt(squares/float64(s.Count))
	return s
}

// Quantile is the value below which the share q (0 to 1) of the sorted values lies. It needs at least one value.
func Quantile(sorted []float64, q float64) float64 {
	position := q * float64(len(sorted)-1)
	below := int(position)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	share := position - float64(below)
	return sorted[below] + share*(sorted[below+1]-sorted[below])
}
