package collective

import (
	"slices"
	"time"
)

// mostSpans bounds the spans that are kept; beyond, the older half of them is kept more coarsely.
const mostSpans = 2048

// busy is the union of the times in which collectives were under way. The zero value is empty.
type busy struct {
	spans []span // apart from each other, by time
}

// span is a time with collectives under way: all of it, or, where old spans were joined, covered of it.
type span struct{ begin, end, covered time.Duration }

// add joins the time from begin to end.
func (b *busy) add(begin, end time.Duration) {
	if end <= begin {
		return
	}
	first, _ := slices.BinarySearchFunc(b.spans, begin, func(s span, t time.Duration) int { return int(min(max(s.end-t, -1), 1)) })
	joined := span{begin, end, 0}
	last := first
	inside := time.Duration(0) // covered by joined spans, and within [begin, end)
	for ; last < len(b.spans) && b.spans[last].begin <= end; last++ {
		s := b.spans[last]
		joined.begin, joined.end = min(joined.begin, s.begin), max(joined.end, s.end)
		joined.covered += s.covered
		inside += s.within(begin, end)
	}
	joined.covered = min(joined.covered+end-begin-inside, joined.end-joined.begin)
	b.spans = slices.Replace(b.spans, first, last, joined)
	if len(b.spans) > mostSpans {
		b.coarsen()
	}
}

// coarsen joins neighbours in the older half.
func (b *busy) coarsen() {
	kept := b.spans[:0]
	for i := 0; i < len(b.spans); i++ {
		s := b.spans[i]
		if i+1 < mostSpans/2 {
			i++
			s.end = b.spans[i].end
			s.covered += b.spans[i].covered
		}
		kept = append(kept, s)
	}
	b.spans = kept
}

// within is how much of a time a span covers, evenly spread where it is a coarse one.
func (s span) within(begin, end time.Duration) time.Duration {
	overlap := min(end, s.end) - max(begin, s.begin)
	if overlap <= 0 {
		return 0
	}
	if overlap == s.end-s.begin {
		return s.covered
	}
	return time.Duration(float64(s.covered) * float64(overlap) / float64(s.end-s.begin))
}

// between is the time covered between two moments.
func (b *busy) between(begin, end time.Duration) (covered time.Duration) {
	for i := len(b.spans) - 1; i >= 0 && b.spans[i].end > begin; i-- {
		covered += b.spans[i].within(begin, end)
	}
	return covered
}

// forget drops what ended before a moment.
func (b *busy) forget(before time.Duration) {
	n := 0
	for n < len(b.spans) && b.spans[n].end < before {
		n++
	}
	b.spans = slices.Delete(b.spans, 0, n)
}
