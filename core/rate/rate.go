// Package rate turns raw counters into totals that never decrease.
//
// Kernel and driver counters start anywhere, wrap at 32 bits on some drivers, go back to zero when a driver resets its device,
// and sometimes jump. A Meter follows the counters of one row (an interface, a protocol), counts from its first reading on,
// and reports every such event instead of hiding it. It reads nothing and keeps no time.
package rate

import "time"

// Event says what an update found besides counting.
type Event struct {
	// Reset: the row's leading counters went back, or jumped beyond belief. Nothing was added in this update, so no rate can be
	// had for the time since the one before.
	Reset bool
	// Back counts single counters, not leading ones, that went back by themselves; only these were not added to.
	Back int
	// Wraps counts counters recognised as 32 bits wide that passed 2^32; what they counted was added.
	Wraps int
}

// Meter holds the totals of one row of counters. Not safe for concurrent use.
type Meter struct {
	last, total []uint64
	leading     uint64 // bit i: counter i is a leading one
	bytes       uint64 // bit i: counter i counts bytes, so that a link speed bounds it
	wide        uint64 // bit i: counter i was seen at 2^32 or above, so it is not 32 bits wide
	started     bool
	resets      uint64
	epoch       uint64
}

// NewMeter returns a meter for a row of at most 64 counters. leading has a bit for each counter whose going back means that the
// whole row started anew; bytes has a bit for each that counts bytes.
func NewMeter(counters int, leading, bytes uint64) *Meter {
	if counters < 1 || counters > 64 {
		panic("rate: a meter has 1 to 64 counters")
	}
	both := make([]uint64, 2*counters)
	return &Meter{last: both[:counters], total: both[counters:], leading: leading, bytes: bytes}
}

// Start begins counter i at value, for one that appears after the others.
func (m *Meter) Start(i int, value uint64) { m.last[i] = value }

// Total is what counter i counted since the first update. It never decreases.
func (m *Meter) Total(i int) uint64 { return m.total[i] }

// Resets is how often counters went back or jumped.
func (m *Meter) Resets() uint64 { return m.resets }

// Epoch changes with every reset of the row. Differences of totals are rates only within one epoch.
func (m *Meter) Epoch() uint64 { return m.epoch }

const (
	wrap32 = 1 << 32
	// A counter that wrapped stood in the upper half before and counted less than half its range since. A driver that is reset
	// starts at zero from anywhere.
	half32 = 1 << 31
	// mostPerSecond is more than any interface counts: 100 TB/s, or 1e14 packets.
	mostPerSecond = 1e14
)

// Update takes the counters as read now, elapsed after the update before. maxBytes is the most bytes a byte counter can have
// counted in that time, 0 when not known. The first update starts all totals at zero.
func (m *Meter) Update(raw []uint64, elapsed time.Duration, maxBytes uint64) (event Event) {
	if !m.started {
		m.started = true
		copy(m.last, raw)
		m.noteWidth()
		return event
	}
	var wrapped, back uint64
	most := uint64(mostPerSecond * max(1, elapsed.Seconds()))
	for i, now := range raw[:len(m.last)] {
		last := m.last[i]
		bit := uint64(1) << i
		switch {
		case now >= last:
			if now-last > most {
				back |= bit
			}
		case m.wide&bit == 0 && last >= half32 && last < wrap32 && wrap32-last+now < half32 &&
			(m.bytes&bit == 0 || maxBytes == 0 || wrap32-last+now <= maxBytes):
			wrapped |= bit
		default:
			back |= bit
		}
	}
	if back&m.leading != 0 {
		// The device or its counters started anew: whatever stands higher than before does not count from before either.
		copy(m.last, raw)
		m.noteWidth()
		m.resets++
		m.epoch++
		return Event{Reset: true}
	}
	for i, now := range raw[:len(m.last)] {
		bit := uint64(1) << i
		switch {
		case back&bit != 0:
			event.Back++
		case wrapped&bit != 0:
			m.total[i] += wrap32 - m.last[i] + now
			event.Wraps++
		default:
			m.total[i] += now - m.last[i]
		}
		m.last[i] = now
	}
	if event.Back > 0 {
		m.resets++
	}
	m.noteWidth()
	return event
}

func (m *Meter) noteWidth() {
	for i, value := range m.last {
		if value >= wrap32 {
			m.wide |= 1 << i
		}
	}
}

// PerSecond is the rate at which a total grew over a window.
func PerSecond(before, now uint64, window time.Duration) float64 {
	return float64(now-before) / window.Seconds()
}
