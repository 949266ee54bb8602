// Package clock supplies the two times every sample carries, and waiting that another goroutine can end.
//
// Durations and windows come from the monotonic clock, time stamps from the wall clock; neither is ever subtracted from
// the other. Tests use Fake.
package clock

import (
	"math"
	"sync"
	"time"
)

// Clock tells monotonic and wall time.
type Clock interface {
	// Monotonic is the time since an arbitrary start that no clock step moves.
	// Source: CLOCK_MONOTONIC on Linux (the clock of Python's time.monotonic), the Go runtime's monotonic clock elsewhere.
	Monotonic() time.Duration
	// Wall is the time of day.
	Wall() time.Time
}

// System returns the machine's clocks.
func System() Clock {
	// Between two readings that belong together the thread may lose its processor, so the closest of some pairs is taken.
	// The count may then be behind the kernel's clock by less than a microsecond, and is never ahead of it.
	const tries, near = 16, time.Microsecond
	var best system
	least := time.Duration(math.MaxInt64)
	for i := 0; i < tries && least >= near; i++ {
		offset := monotonicNow()
		start := time.Now()
		if apart := monotonicNow() - offset; apart < least {
			best, least = system{start: start, offset: offset}, apart
		}
	}
	return best
}

// system counts from start with the Go runtime's monotonic clock, which is read without a system call; offset makes the
// count agree with other readers of the same kernel clock.
type system struct {
	start  time.Time
	offset time.Duration
}

func (system) Wall() time.Time { return time.Now() }

func (s system) Monotonic() time.Duration { return s.offset + time.Since(s.start) }

// Fake is a clock that moves only when told to. Safe for concurrent use.
type Fake struct {
	mu        sync.Mutex
	monotonic time.Duration
	wall      time.Time
}

// NewFake returns a fake clock at the given times.
func NewFake(monotonic time.Duration, wall time.Time) *Fake {
	return &Fake{monotonic: monotonic, wall: wall}
}

// Monotonic implements Clock.
func (f *Fake) Monotonic() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.monotonic
}

// Wall implements Clock.
func (f *Fake) Wall() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wall
}

// Advance moves both clocks by d.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.monotonic += d
	f.wall = f.wall.Add(d)
}

// StepWall moves the wall clock only, as an NTP step does.
func (f *Fake) StepWall(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall = f.wall.Add(d)
}
