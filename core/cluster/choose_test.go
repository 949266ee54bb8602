package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func dump(d Digest) string { return fmt.Sprintf("%+v", d) }

func marksUpTo(first, last uint64, step uint64) (marks []Mark) {
	for s := first; s <= last; s += step {
		marks = append(marks, Mark{Sequence: s, Duration: time.Millisecond, Symmetric: true})
	}
	return marks
}

func sequences(marks []Mark) (all []uint64) {
	for _, m := range marks {
		all = append(all, m.Sequence)
	}
	return all
}

// However many collectives each rank has counted, there are marks that both chose.
func TestChooseMarks_nest(t *testing.T) {
	for _, of := range []struct{ first, last, otherFirst, otherLast uint64 }{
		{1, 10, 1, 10}, {1, 400, 100, 500}, {1, 5000, 2500, 4000}, {70, 90, 60, 95}, {0, 100_000, 50_000, 150_000},
	} {
		a, b := sequences(ChooseMarks(marksUpTo(of.first, of.last, 1))), sequences(ChooseMarks(marksUpTo(of.otherFirst, of.otherLast, 1)))
		assert.LessOrEqual(t, len(a), MostMarks)
		assert.NotEmpty(t, a)
		common := 0
		for _, s := range a {
			if slices.Contains(b, s) {
				common++
			} else {
				assert.False(t, s >= of.otherFirst && s <= of.otherLast && len(a) < len(b), "the coarser choice is part of the finer one")
			}
		}
		assert.Positive(t, common, of)
	}
}

// A step of the job with 8 collectives is not looked at in one place only.
func TestChooseMarks_periodic(t *testing.T) {
	places := make(map[uint64]bool)
	for first := uint64(0); first < 8000; first += 400 {
		for _, s := range sequences(ChooseMarks(marksUpTo(first, first+400, 1))) {
			places[s%8] = true
		}
	}
	assert.Len(t, places, 8)
	assert.NotEmpty(t, ChooseMarks(marksUpTo(1, 4001, 4)), "nor is there nothing where all have odd numbers")
}

func TestChooseMarks_repeated(t *testing.T) {
	got := ChooseMarks(append(marksUpTo(5, 7, 1), marksUpTo(5, 7, 1)...))
	assert.Equal(t, []uint64{5, 6, 7}, sequences(got))
	assert.Empty(t, ChooseMarks(nil))
}
