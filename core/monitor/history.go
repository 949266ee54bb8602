package monitor

import (
	"sync"
	"time"

	"netmon/core/sample"
)

// Bounds of the history.
const (
	historySpan  = 600 * time.Second
	historyBytes = 4 << 20
)

// history keeps the newest samples of the loop, 600 s or 4 MiB of them, whichever is less. Its lock is held only to add or to
// copy pointers, never while measuring. Safe for concurrent use.
type history struct {
	mu      sync.Mutex
	entries []entry // oldest first
	bytes   int
}

type entry struct {
	sample    *sample.Sample
	monotonic time.Duration
	bytes     int // what the sample holds alone, without rows it shares with the one before
}

func (h *history) add(e entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = append(h.entries, e)
	h.bytes += e.bytes
	drop := 0
	for drop < len(h.entries)-1 &&
		(h.bytes > historyBytes || e.monotonic-h.entries[drop].monotonic > historySpan) {
		h.bytes -= h.entries[drop].bytes
		drop++
	}
	if drop > 0 {
		rest := copy(h.entries, h.entries[drop:])
		clear(h.entries[rest:])
		h.entries = h.entries[:rest]
	}
}

// since returns the samples taken at or after a monotonic time, oldest first.
func (h *history) since(from time.Duration) []*sample.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	samples := make([]*sample.Sample, 0, len(h.entries))
	for _, e := range h.entries {
		if e.monotonic >= from {
			samples = append(samples, e.sample)
		}
	}
	return samples
}

// extent tells how many samples are kept, in how many bytes, over what time, and when the newest was taken.
func (h *history) extent() (samples, bytes int, span, newest time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.entries) == 0 {
		return 0, 0, 0, 0
	}
	newest = h.entries[len(h.entries)-1].monotonic
	return len(h.entries), h.bytes, newest - h.entries[0].monotonic, newest
}
