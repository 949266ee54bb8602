package monitor

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"netmon/core/rate"
	"netmon/core/sample"
	"netmon/core/stats"
	"netmon/core/units"
)

// Bounds of fine sampling. Whoever wants more asks again: one that forgets to end it costs a minute.
const (
	mostFineSpan    = 60 * time.Second
	defaultFineSpan = 10 * time.Second

	leastFineInterval   = 10 * time.Millisecond
	mostFineInterval    = 50 * time.Millisecond
	defaultFineInterval = 20 * time.Millisecond

	// mostFineGap is the longest time between two readings of a window that still has a peak: where the host's processors are
	// busy, readings come late.
	mostFineGap = 250 * time.Millisecond
	// mostFinePoints is how many readings are kept, in 2 MiB; those of a window of 11 minutes at the least interval.
	mostFinePoints = 1 << 16

	busyRatio = 0.01 // of the capacity that the busier direction carries in an interval that counts as busy
)

// fineSampling reads the counters of interfaces between the samples of the loop, while somebody asks for it, and makes the peaks,
// quantiles and the busy share of samples' windows of that. It also keeps the best rates of the loop's own windows.
//
// Readings are made by the loop, when no sample is due within half an interval. One that comes late is not made up for and not
// counted as dropped: fine_interval_seconds tells how far apart readings were.
type fineSampling struct {
	m     *Monitor
	lease atomic.Pointer[fineLease]
	// While phases are under way they hold a lease of their own: since when and until, 0 before the first.
	phasesSince, phasesUntil atomic.Int64
	bestRate                 [2]atomic.Pointer[float64] // of receive and transmit, nil before the first window of the loop

	// What follows is guarded by the lock of sampling.
	interval time.Duration // of the newest lease
	readAt   time.Duration // when the loop read the counters last, finely or for a sample
	points   []finePoint   // of readings during leases, oldest first; none where no window can need them
	links    uint64        // ticket of the reading of links that has to be waited for, 0 for none
	problem  string
	edges    []finePoint // room for those of one window
	sorted   []float64
}

// heldUpShare is the part of an interval that reading may take.
const heldUpShare = 20

// fineLease is how long to sample finely, and how finely. It is not changed after it was made.
type fineLease struct{ began, until, interval time.Duration }

// finePoint is what counted interfaces had counted at one moment.
type finePoint struct {
	at     time.Duration
	totals [2]uint64 // receive, transmit bytes
	begins bool      // the lease began since the point before
}

func newFineSampling(m *Monitor) *fineSampling {
	return &fineSampling{m: m, interval: defaultFineInterval}
}

// ask samples finely for a time from now on, 0 ends it. While two ask, the later end and the shorter interval hold.
func (f *fineSampling) ask(now, span, interval time.Duration) (left, holds time.Duration) {
	for {
		before := f.lease.Load()
		next := &fineLease{began: now, until: now + span, interval: interval}
		switch {
		case span <= 0:
			next = nil
		case before != nil && before.until > now:
			next.began, next.until, next.interval = before.began, max(next.until, before.until), min(interval, before.interval)
		}
		if !f.lease.CompareAndSwap(before, next) {
			continue
		}
		if next == nil {
			return 0, interval
		}
		return next.until - now, next.interval
	}
}

// held is the lease that holds at a time, if there is one.
func (f *fineSampling) held(now time.Duration) (l fineLease, ok bool) {
	if asked := f.lease.Load(); asked != nil && now < asked.until {
		l, ok = *asked, true
	}
	if until := time.Duration(f.phasesUntil.Load()); now < until {
		since := time.Duration(f.phasesSince.Load())
		if !ok {
			return fineLease{since, until, defaultFineInterval}, true
		}
		l = fineLease{min(l.began, since), max(l.until, until), min(l.interval, defaultFineInterval)}
	}
	return l, ok
}

// hold samples finely until a time because of phases, and wakes the loop where that is new. One call at a time.
func (f *fineSampling) hold(now, until time.Duration) {
	isNew := now >= time.Duration(f.phasesUntil.Load())
	if isNew {
		f.phasesSince.Store(int64(now))
	}
	f.phasesUntil.Store(int64(until))
	if isNew {
		f.m.waker.Wake()
	}
}

// next is when to read before the loop's next sample is due; ok is false where that sample comes first. Only the loop calls it.
func (f *fineSampling) next(now, due time.Duration) (at time.Duration, ok bool) {
	if f == nil {
		return 0, false
	}
	l, held := f.held(now)
	if !held {
		return 0, false
	}
	at = max(f.readAt+l.interval, now)
	return at, at+l.interval/2 <= due
}

// readFinely reads the counters of interfaces between two samples.
func (m *Monitor) readFinely() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing.Load() {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			m.fine.lease.Store(nil)
			m.fine.phasesUntil.Store(0)
			m.fine.problem = fmt.Sprintf("internal error while sampling finely: %v", p)
		}
	}()
	m.charge(m.fine.read)
}

func (f *fineSampling) read() {
	m := f.m
	m.readings++
	began := m.clock.Monotonic()
	m.reader.read(Interfaces, false, &m.reading)
	at := moment{monotonic: m.clock.Monotonic(), wall: m.clock.Wall()}
	f.readAt = at.monotonic
	top := f.topology()
	if top == nil || m.reading.interfacesErr != nil || m.interfaces.unknownNames(m.reading.interfaces, top) {
		return // the next sample tells what is wrong
	}
	m.interfaces.update(&m.reading, top, m.readings, at)
	// Where the thread lost its processor between counters and clock, nobody knows of what moment the counters are: rates of so short an
	// interval would be invented.
	heldUp := at.monotonic-began > f.interval/heldUpShare
	if m.interfaces.sum.whole && m.interfaces.sum.counting && !heldUp {
		f.add(at.monotonic)
		m.phases.pass(at.monotonic, top)
	}
}

// topology is what fits the counters just read, nil while links that changed are not read again. It does not wait for that.
func (f *fineSampling) topology() *topology {
	t := f.m.topology
	if t == nil {
		return f.m.noTopology
	}
	if t.source.Changed() != 0 {
		f.links = t.ask()
	}
	if f.links > t.done.Load() {
		return nil
	}
	f.links = 0
	return t.current.Load()
}

// linksChanged tells, once, whether a fine reading found links changed that are not known to have been read since.
func (f *fineSampling) linksChanged() bool {
	if f == nil || f.links == 0 {
		return false
	}
	f.links = 0
	return true
}

// add keeps what counted interfaces have counted now.
func (f *fineSampling) add(at time.Duration) {
	l, held := f.held(at)
	if !held {
		return
	}
	f.interval = l.interval
	begins := len(f.points) == 0 || f.points[len(f.points)-1].at < l.began
	if len(f.points) == mostFinePoints {
		f.points = slices.Delete(f.points, 0, mostFinePoints/4)
	}
	f.points = append(f.points, finePoint{at: at, totals: f.totals(), begins: begins})
}

func (f *fineSampling) totals() [2]uint64 {
	sum := &f.m.interfaces.sum.totals
	return [2]uint64{sum[receiveBytes], sum[transmitBytes]}
}

func (f *fineSampling) remember(uint64) {
	f.readAt = f.m.readAt
	if f.m.interfaces.sum.whole && f.m.interfaces.sum.counting {
		f.add(f.readAt)
	}
	// Windows of samples to come begin at the loop's newest samples.
	oldest := f.readAt
	for _, r := range f.m.records {
		if r != nil {
			oldest = min(oldest, r.monotonic)
		}
	}
	if unused := slices.IndexFunc(f.points, func(p finePoint) bool { return p.at >= oldest }); unused < 0 {
		f.points, f.edges, f.sorted = nil, nil, nil
	} else {
		f.points = slices.Delete(f.points, 0, unused)
	}
}

// window are the readings that cut a window into fine intervals, its ends included; none where it was not sampled finely from one
// end to the other, with the reason.
func (f *fineSampling) window(base *record, now time.Duration) (edges []finePoint, reason string) {
	_, held := f.held(now)
	points := f.points
	for len(points) > 0 && points[0].at < base.monotonic {
		points = points[1:]
	}
	if len(points) == 0 || !held && points[len(points)-1].at == base.monotonic {
		return nil, `not asked for in this window (netmon_query, view "fine")`
	}
	// The ends of a lease need not meet those of the window to the point.
	near := func(from, to time.Duration) bool { return to-from <= 2*f.interval }
	covered := near(base.monotonic, points[0].at) && (held || near(points[len(points)-1].at, now))
	longest := time.Duration(0)
	edges = append(f.edges[:0], finePoint{at: base.monotonic, totals: [2]uint64{base.totals[receiveBytes], base.totals[transmitBytes]}})
	for i, p := range points {
		covered = covered && !(i > 0 && p.begins)
		apart := p.at - edges[len(edges)-1].at
		longest = max(longest, apart)
		// A sample of the loop on the way cuts an interval in two; a rate over a moment says nothing.
		if apart >= f.interval/2 {
			edges = append(edges, p)
		}
	}
	rest := now - edges[len(edges)-1].at
	longest = max(longest, rest)
	if len(edges) > 1 && rest < f.interval/2 {
		edges = edges[:len(edges)-1]
	}
	f.edges = append(edges, finePoint{at: now, totals: f.totals()})
	switch {
	case !covered:
		return nil, `asked for in a part of this window only (netmon_query, view "fine")`
	case longest > mostFineGap:
		return nil, fmt.Sprintf("readings were up to %.2f s apart in this window: this host had no processor free", longest.Seconds())
	}
	return f.edges, ""
}

func fineFields() [6]string {
	return [6]string{"fine_interval_seconds", "receive_peak_bytes_per_second", "transmit_peak_bytes_per_second",
		"receive_p95_bytes_per_second", "transmit_p95_bytes_per_second", "busy_ratio"}
}

// fill writes what totals say of the best rates and of fine intervals. Totals are filled before.
func (f *fineSampling) fill(d *document, now *occasion) (bytes int) {
	t := d.Totals
	if t == nil {
		return 0
	}
	f.fillBest(d)
	if now.base == nil {
		d.lack("totals.fine_interval_seconds", f.m.whyNoWindow())
		return 0 // unavailable["window_seconds"] speaks for the rest
	}
	var edges []finePoint
	reason := d.reasonOf("totals.receive_bytes_per_second")
	if t.ReceiveBytesPerSecond != nil {
		edges, reason = f.window(now.base, now.monotonic)
	}
	if edges == nil {
		for _, field := range fineFields() {
			d.lack("totals."+field, reason)
		}
		return 0
	}
	intervals := edges[1:]
	t.FineIntervalSeconds = d.real(units.Seconds(now.window) / float64(len(intervals)))
	for i, fields := range [2][2]**float64{
		{&t.ReceivePeakBytesPerSecond, &t.ReceiveP95BytesPerSecond}, {&t.TransmitPeakBytesPerSecond, &t.TransmitP95BytesPerSecond},
	} {
		f.sorted = f.sorted[:0]
		for n, p := range intervals {
			f.sorted = append(f.sorted, rate.PerSecond(edges[n].totals[i], p.totals[i], p.at-edges[n].at))
		}
		slices.Sort(f.sorted)
		*fields[0], *fields[1] = d.real(f.sorted[len(f.sorted)-1]), d.real(stats.Quantile(f.sorted, 0.95))
	}
	t.BusyRatio = d.real(busy(edges, f.capacity(t)))
	return 0
}

// fillBest writes the highest rates that windows of the loop have had, that of this sample included if it is the loop's.
func (f *fineSampling) fillBest(d *document) {
	t := d.Totals
	for i, perSecond := range [2]*float64{t.ReceiveBytesPerSecond, t.TransmitBytesPerSecond} {
		if best := f.bestRate[i].Load(); !d.passing && perSecond != nil && (best == nil || *perSecond > *best) {
			rate := *perSecond
			f.bestRate[i].Store(&rate)
		}
	}
	t.ReceiveBestBytesPerSecond, t.TransmitBestBytesPerSecond = f.bestRate[0].Load(), f.bestRate[1].Load()
	if t.ReceiveBestBytesPerSecond == nil {
		for _, field := range []string{"receive_best", "transmit_best"} {
			d.lack("totals."+field+"_bytes_per_second", "no sample of the loop has had a rate yet")
		}
	}
}

// capacity is what busy is measured against, in bytes a second: the capacity, or where that is not known the best rate so far.
func (f *fineSampling) capacity(t *sample.Totals) float64 {
	if t.CapacityBitsPerSecond != nil {
		return units.BitsToBytes(float64(*t.CapacityBitsPerSecond))
	}
	best := max(*t.ReceiveBytesPerSecond, *t.TransmitBytesPerSecond)
	for i := range f.bestRate {
		if b := f.bestRate[i].Load(); b != nil {
			best = max(best, *b)
		}
	}
	return best
}

// busy is the share of fine intervals, by their length, in which the busier direction carried a hundredth of the capacity or more.
func busy(edges []finePoint, capacity float64) float64 {
	var share time.Duration
	for n, p := range edges[1:] {
		before := &edges[n]
		moved := max(p.totals[0]-before.totals[0], p.totals[1]-before.totals[1])
		if moved > 0 && float64(moved) >= busyRatio*capacity*units.Seconds(p.at-before.at) {
			share += p.at - before.at
		}
	}
	return float64(share) / float64(edges[len(edges)-1].at-edges[0].at)
}

func (f *fineSampling) problems() []string {
	if f.problem == "" {
		return nil
	}
	return []string{f.problem}
}

func (f *fineSampling) close()      {}
func (f *fineSampling) ended() bool { return true }

// sampleFinely answers a request for fine sampling.
func (m *Monitor) sampleFinely(q request) (sample.Fine, error) {
	if m.fine == nil {
		return sample.Fine{}, &TextError{What: "request", Key: "view", Text: `is "fine", but "interfaces" are not in sources`}
	}
	left, interval := m.fine.ask(m.clock.Monotonic(), q.fineSpan, q.fineInterval)
	m.waker.Wake()
	return sample.Fine{Seconds: units.Seconds(left), IntervalSeconds: units.Seconds(interval)}, nil
}
