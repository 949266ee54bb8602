package rate

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The counters of these tests: bytes, packets (leading) and errors (not).
const (
	bytes = iota
	packets
	errs
	counters
)

func newMeter() *Meter { return NewMeter(counters, 1<<bytes|1<<packets, 1<<bytes) }

func totals(m *Meter) [counters]uint64 {
	return [counters]uint64{m.Total(bytes), m.Total(packets), m.Total(errs)}
}

func TestMeter_countsFromItsFirstReading(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{1e15, 1e12, 7}, 0, 0)
	assert.Equal(t, [counters]uint64{}, totals(m))
	event := m.Update([]uint64{1e15 + 100, 1e12 + 2, 8}, time.Second, 0)
	assert.Equal(t, Event{}, event)
	assert.Equal(t, [counters]uint64{100, 2, 1}, totals(m))
}

// A driver that resets its device starts all counters anew. Nothing is added for that reading: what stands higher than before
// does not count from before either.
func TestMeter_reset(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{5000, 50, 1}, 0, 0)
	m.Update([]uint64{6000, 60, 1}, time.Second, 0)
	event := m.Update([]uint64{200, 2, 3}, time.Second, 0)
	assert.True(t, event.Reset)
	assert.Equal(t, [counters]uint64{1000, 10, 0}, totals(m))
	assert.Equal(t, uint64(1), m.Resets())
	assert.Equal(t, uint64(1), m.Epoch())
	m.Update([]uint64{300, 3, 5}, time.Second, 0)
	assert.Equal(t, [counters]uint64{1100, 11, 2}, totals(m))
}

// One that is not leading, as some drivers' drop counters, concerns itself only.
func TestMeter_singleCounterBack(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{5000, 50, 10}, 0, 0)
	event := m.Update([]uint64{6000, 60, 9}, time.Second, 0)
	assert.Equal(t, Event{Back: 1}, event)
	assert.Equal(t, [counters]uint64{1000, 10, 0}, totals(m))
	assert.Equal(t, uint64(1), m.Resets())
	assert.Equal(t, uint64(0), m.Epoch(), "rates of the others hold")
	m.Update([]uint64{6000, 60, 12}, time.Second, 0)
	assert.Equal(t, uint64(3), m.Total(errs))
}

func TestMeter_wrap32(t *testing.T) {
	tests := []struct {
		name      string
		last, now uint64
		packets   uint64 // 1000 before
		maxBytes  uint64
		want      Event
		counted   uint64
	}{
		{"just past", 1<<32 - 100, 50, 1001, 0, Event{Wraps: 1}, 150},
		{"within what the link can carry", 1<<32 - 100, 900, 1001, 1000, Event{Wraps: 1}, 1000},
		{"more than the link can carry", 1<<32 - 100, 901, 1001, 1000, Event{Reset: true}, 0},
		{"from the lower half it is a reset", 1<<31 - 1, 50, 1001, 0, Event{Reset: true}, 0},
		{"to the upper half it is a reset", 1<<32 - 1, 1<<31 + 5, 1001, 0, Event{Reset: true}, 0},
		{"packets started anew too, so it is a reset", 1<<32 - 100, 50, 1, 0, Event{Reset: true}, 0},
		{"counters of 64 bits do not wrap at 32", 1<<32 + 5, 50, 1001, 0, Event{Reset: true}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMeter()
			m.Update([]uint64{tt.last, 1000, 0}, 0, 0)
			event := m.Update([]uint64{tt.now, tt.packets, 0}, time.Second, tt.maxBytes)
			assert.Equal(t, tt.want, event)
			assert.Equal(t, tt.counted, m.Total(bytes))
		})
	}
}

func TestMeter_onceWideNeverWraps(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{1<<33 + 5, 10, 0}, 0, 0)
	m.Update([]uint64{1<<32 - 5, 11, 0}, time.Second, 0) // went back: reset, still 64 bits wide
	event := m.Update([]uint64{3, 12, 0}, time.Second, 0)
	assert.True(t, event.Reset)
}

func TestMeter_jump(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{5, 5, 5}, 0, 0)
	event := m.Update([]uint64{math.MaxUint64, 6, 5}, time.Second, 0)
	assert.True(t, event.Reset, "no link carries 16 exabytes a second")
	assert.Equal(t, uint64(0), m.Total(bytes))
	event = m.Update([]uint64{10, 7, 5}, time.Second, 0)
	assert.True(t, event.Reset)
	m.Update([]uint64{30, 8, 5}, time.Second, 0)
	assert.Equal(t, uint64(20), m.Total(bytes))
}

func TestMeter_lateCounter(t *testing.T) {
	m := newMeter()
	m.Update([]uint64{100, 10, 0}, 0, 0)
	m.Start(errs, 5000)
	m.Update([]uint64{110, 11, 5000}, time.Second, 0)
	assert.Equal(t, [counters]uint64{10, 1, 0}, totals(m))
}

func TestPerSecond(t *testing.T) {
	assert.InDelta(t, 250, PerSecond(1000, 1500, 2*time.Second), 1e-9)
}

// Whatever the kernel says, totals never decrease, and grow by less than any link carries.
func FuzzMeter(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0), uint64(0))
	f.Add(uint64(1<<32-1), uint64(0), uint64(7), uint64(1<<31), uint64(1000))
	f.Add(uint64(math.MaxUint64), uint64(1), uint64(math.MaxUint64), uint64(0), uint64(1))
	f.Fuzz(func(t *testing.T, a, b, c, d, maxBytes uint64) {
		m := newMeter()
		last := totals(m)
		for _, raw := range [][]uint64{{a, b, c}, {b, c, d}, {c, d, a}, {d, a, b}, {a, a, a}} {
			epoch := m.Epoch()
			event := m.Update(raw, time.Second, maxBytes)
			now := totals(m)
			for i := range now {
				require.GreaterOrEqual(t, now[i], last[i])
				require.LessOrEqual(t, now[i]-last[i], uint64(mostPerSecond))
			}
			require.Equal(t, event.Reset, m.Epoch() != epoch)
			if event.Reset {
				require.Equal(t, last, now)
			}
			last = now
		}
	})
}
