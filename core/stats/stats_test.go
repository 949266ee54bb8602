package stats

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The expected values are numpy's: mean, std, quantile (default method) of the same numbers.
func TestDescribe(t *testing.T) {
	s := Describe([]float64{9, 1, 5, 3, 7, 2})
	assert.Equal(t, 6, s.Count)
	assert.InDelta(t, 1, s.Min, 0)
	assert.InDelta(t, 9, s.Max, 0)
	assert.InDelta(t, 4.5, s.Mean, 1e-12)
	assert.InDelta(t, 2.8136571693556887, s.StdDeviation, 1e-12)
	assert.InDelta(t, 4, s.P50, 1e-12)
	assert.InDelta(t, 8.5, s.P95, 1e-12)
	assert.InDelta(t, 8.9, s.P99, 1e-12)
}

func TestDescribe_few(t *testing.T) {
	assert.Equal(t, Summary{}, Describe(nil))
	assert.Equal(t, Summary{Count: 1, Min: 3, Max: 3, Mean: 3, P50: 3, P95: 3, P99: 3}, Describe([]float64{3}))
}

func TestDescribe_keepsDigits(t *testing.T) {
	s := Describe([]float64{1e15 + 1, 1e15 + 2, 1e15 + 3})
	assert.InDelta(t, math.Sqrt(2.0/3.0), s.StdDeviation, 1e-9)
}

func FuzzDescribe(f *testing.F) {
	f.Add(1.0, 2.0, 3.0)
	f.Add(0.0, 0.0, math.MaxFloat64)
	f.Fuzz(func(t *testing.T, a, b, c float64) {
		for _, v := range []float64{a, b, c} {
			if math.IsNaN(v) || math.Abs(v) > 1e100 {
				t.Skip()
			}
		}
		s := Describe([]float64{a, b, c})
		assert.LessOrEqual(t, s.Min, s.P50)
		assert.LessOrEqual(t, s.P50, s.P95)
		assert.LessOrEqual(t, s.P95, s.P99)
		assert.LessOrEqual(t, s.P99, s.Max)
		assert.GreaterOrEqual(t, s.StdDeviation, 0.0)
	})
}
