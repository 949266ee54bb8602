package diagnose

import (
	"math"
	"slices"

	"netmon/core/cluster"
)

// Numbers that may not be known: NaN.

func real(p *float64) float64 {
	if p == nil || math.IsInf(*p, 0) {
		return math.NaN()
	}
	return *p
}

// positive is a round trip or a rate, which 0 is not.
func positive(p *float64) float64 {
	if v := real(p); v > 0 {
		return v
	}
	return math.NaN()
}

func number(p *uint64) float64 {
	if p == nil || *p == cluster.None {
		return math.NaN()
	}
	return float64(*p)
}

func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// sum adds what is known.
func sum(a, b float64) float64 {
	switch {
	case math.IsNaN(a):
		return b
	case math.IsNaN(b):
		return a
	}
	return a + b
}

func lowest(a, b float64) float64 {
	if math.IsNaN(a) || b < a {
		return b
	}
	return a
}

func highest(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

func least(values []float64) float64 {
	v := math.NaN()
	for _, x := range values {
		v = lowest(v, x)
	}
	return v
}

// median of known values, NaN of none. It sorts them.
func median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	if n%2 == 1 {
		return values[n/2]
	}
	return values[n/2-1] + (values[n/2]-values[n/2-1])/2
}

func collect(ways []*way, field func(*way) float64) (values []float64) {
	for _, w := range ways {
		if v := field(w); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

func ones(is bool) int {
	if is {
		return 1
	}
	return 0
}

func mean[T any](all []T, field func(T) float64) float64 {
	sum := 0.0
	for _, x := range all {
		sum += field(x)
	}
	return sum / float64(len(all))
}

// medianOfLow is the median of the lower half: half the hosts may have a longer way between them and the rest.
func medianOfLow(values []float64) float64 {
	return median(values[:(len(values)+1)/2])
}

func sorted(values []float64) []float64 {
	slices.Sort(values)
	return values
}

// medianWithout is the median of sorted values but one of them; NaN where there is no other.
func medianWithout(values []float64, one float64) float64 {
	if math.IsNaN(one) {
		return medianSorted(len(values), func(i int) float64 { return values[i] })
	}
	at, found := slices.BinarySearch(values, one)
	if !found {
		return medianSorted(len(values), func(i int) float64 { return values[i] })
	}
	return medianSorted(len(values)-1, func(i int) float64 {
		if i >= at {
			i++
		}
		return values[i]
	})
}

func medianSorted(n int, value func(int) float64) float64 {
	switch {
	case n <= 0:
		return math.NaN()
	case n%2 == 1:
		return value(n / 2)
	}
	return value(n/2-1) + (value(n/2)-value(n/2-1))/2
}
