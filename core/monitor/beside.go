package monitor

import (
	"fmt"
	"sync/atomic"
	"time"

	"netmon/core/clock"
)

const (
	// leastBeside is the least time between two readings of what may wait for a device.
	leastBeside = time.Second
	// lookAgain is how often a source that is not there is looked for.
	lookAgain = time.Minute
	// besidePatience is how long the first sample waits for the first readings.
	besidePatience = 25 * time.Millisecond
	// Readings that somebody wants are so far apart at least, and take one part in restWanted of the time.
	leastWanted = 5 * time.Millisecond
	restWanted  = 50
	// stuckAfter is how long a reading may last before what was read earlier is no longer told.
	stuckAfter = 5 * time.Second
)

// beside reads what may wait for a device, on a goroutine of its own: as often as the loop samples but once a second at most, and
// shortly before the loop does, so that samples copy what is new.
type beside struct {
	clock   clock.Clock
	what    string // that it reads
	period  time.Duration
	read    func()
	started bool // only the goroutine that samples asks
	waker   clock.Waker
	done    atomic.Uint64 // readings finished
	ticked  atomic.Int64  // when the loop's newest sample was taken, monotonic nanoseconds; 0: none yet
	began   atomic.Int64  // when the reading that goes on began, 0 for none
	closing atomic.Bool
	ended   atomic.Bool
	wanted  atomic.Bool // read anew, as soon as that is within its share of the time
	problem atomic.Pointer[string]
}

func newBeside(m *Monitor, what string, read func()) *beside {
	return &beside{
		clock: m.clock, what: what, period: max(m.config.Interval, leastBeside),
		read: func() { m.charge(read) },
	}
}

// start starts the goroutine.
func (b *beside) start() {
	b.started = true
	go b.run()
}

func (b *beside) run() {
	defer func() {
		if p := recover(); p != nil {
			problem := fmt.Sprintf("internal error, %s are no longer read: %v", b.what, p)
			b.problem.Store(&problem)
		}
		b.ended.Store(true)
	}()
	for !b.closing.Load() {
		began := b.clock.Monotonic()
		b.began.Store(max(1, int64(began)))
		b.read()
		b.began.Store(0)
		b.done.Add(1)
		// Samples that come meanwhile do not put it off.
		ended := b.clock.Monotonic()
		due := nextReading(began, ended-began, time.Duration(b.ticked.Load()), b.period)
		soon := ended + max(leastWanted, restWanted*(ended-began))
		for now := ended; now < due && !b.closing.Load(); now = b.clock.Monotonic() {
			if b.wanted.Load() {
				due = min(due, soon)
			}
			b.waker.Wait(due - now)
		}
		b.wanted.Store(false)
	}
}

// nextReading is when to read again after a reading that began at began and took so long: shortly before the loop's next sample,
// where it goes on as before, else a period later.
func nextReading(began, took, ticked, period time.Duration) time.Duration {
	lead := min(max(2*took, 10*time.Millisecond), period/4)
	due := ticked + period - lead
	switch {
	case ticked == 0 || due <= began:
		return began + period
	case due-began < period/2:
		return due + period
	default:
		return due
	}
}

// hardwareParts are those that read what may wait for a device. The first sample shall tell what they read, so their first readings
// are waited for, a little.
func (m *Monitor) hardwareParts() (parts []part) {
	deadline := besidePatience
	if m.config.Sources&RDMA != 0 {
		p := newRDMAPart(m)
		m.rdma = p
		parts = append(parts, p)
		deadline -= await(deadline, func() bool { return !p.started || p.ended() || p.done.Load() > 0 })
	}
	if m.config.Sources&PCIe != 0 {
		p := newPCIePart(m)
		parts = append(parts, p)
		await(deadline, func() bool { return !p.started || p.ended() || p.reading.Load() != nil })
	}
	if m.config.Sources&NVLink != 0 {
		parts = append(parts, newNVLinkPart(m)) // opening the library may take long
	}
	return parts
}

// await waits until something is done, at most so long, and says how long it waited.
func await(most time.Duration, done func() bool) (waited time.Duration) {
	const step = 100 * time.Microsecond
	for ; waited < most && !done(); waited += step {
		clock.Sleep(step)
	}
	return waited
}

// want has it read anew soon.
func (b *beside) want() {
	if b.started && !b.wanted.Swap(true) {
		b.waker.Wake()
	}
}

// tick notes a sample of the loop.
func (b *beside) tick(at time.Duration) { b.ticked.Store(int64(at)) }

// silent says why what was read last is no longer told, "" where it is.
func (b *beside) silent(now time.Duration) string {
	if problem := b.problem.Load(); problem != nil {
		return *problem
	}
	if began := time.Duration(b.began.Load()); began != 0 && now-began > stuckAfter {
		return fmt.Sprintf("the driver has not answered for more than %v: %s are not known", stuckAfter, b.what)
	}
	return ""
}

// problems are what health tells of.
func (b *beside) problems(now time.Duration) []string {
	if silent := b.silent(now); silent != "" {
		return []string{silent}
	}
	return nil
}

func (b *beside) close() {
	b.closing.Store(true)
	b.waker.Wake()
}

func (b *beside) isEnded() bool { return !b.started || b.ended.Load() }
