package phase

import (
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const milli = time.Millisecond

// link is a link whose counters a test moves.
type link struct{ now Reading }

func newLink(capacity float64) *link {
	l := &link{Reading{At: time.Hour, Sharp: true, Capacity: capacity, Sent: 10}}
	if capacity == 0 {
		l.now.NoCapacity = "nobody knows"
	}
	return l
}

// carry lets a time pass at rates of bytes per second.
func (l *link) carry(span time.Duration, receive, transmit float64) *Reading {
	l.now.At += span
	l.now.Receive += uint64(receive * span.Seconds())
	l.now.Transmit += uint64(transmit * span.Seconds())
	l.now.TCP += uint64((receive + transmit) * span.Seconds())
	l.now.Sent += uint64((transmit + receive) * span.Seconds() / 1500)
	return l.read()
}

func (l *link) read() *Reading { r := l.now; return &r }

// run passes readings 20 ms apart.
func (l *link) run(p *Part, times int, receive, transmit func(i int) float64) {
	for i := range times {
		p.Pass(l.carry(20*milli, receive(i), transmit(i)))
	}
}

func at(rate float64) func(int) float64 { return func(int) float64 { return rate } }

func TestPart_figures(t *testing.T) {
	l := newLink(100e6)
	l.now.Receive, l.now.Transmit = 7000, 9000
	var p Part
	p.Start(l.read())
	l.run(&p, 10, at(0), at(90e6))
	l.run(&p, 10, at(1e6), at(0))
	l.now.Retransmitted += 12
	a := p.End(l.carry(5*milli, 1e6, 0))
	assert.Equal(t, 405*milli, a.Span)
	assert.EqualValues(t, 205_000, a.Receive)
	assert.EqualValues(t, 18e6, a.Transmit)
	assert.EqualValues(t, 18.205e6, a.TCP)
	f := a.Facts([2]float64{})
	assert.InDelta(t, 90e6, f.Peak, 1)
	assert.InDelta(t, 18e6/0.405, f.Rate, 1)
	assert.InDelta(t, 18e6/0.405/100e6, f.Utilization, 1e-6)
	assert.InDelta(t, 1, f.Busy, 1e-9, "1 MB/s is a hundredth of what the link can")
	assert.InDelta(t, 200.0/405, f.Full, 1e-9)
	assert.InDelta(t, 90e6, f.Plateau, 9e6)
	assert.InDelta(t, 200.0/405, f.Steady, 1e-9)
	assert.InDelta(t, 12/float64(a.Sent), f.Retransmits, 1e-9)
	assert.Equal(t, SoftwareBound, f.Verdict, "full for less than half of the time")
}

// What is left at the end makes the last interval longer: a rate over a moment says nothing.
func TestPart_rest(t *testing.T) {
	l := newLink(0)
	var p Part
	p.Start(l.read())
	l.run(&p, 2, at(1e6), at(0))
	a := p.End(l.carry(milli, 50e6, 0))
	assert.InDelta(t, (20e3+50e3)/0.021, a.Peak[0], 1)
	assert.Equal(t, 41*milli, a.Covered)

	// The same room, and nothing of what was there.
	p.Start(l.read())
	a = p.End(l.carry(5*milli, 2e6, 0))
	assert.Zero(t, a.Covered)
	assert.EqualValues(t, 10_000, a.Receive)
	f := a.Facts([2]float64{})
	assert.True(t, math.IsNaN(f.Peak))
	assert.Equal(t, "shorter than 10ms", f.NoPeak)

	// As long as one interval, without a reading in between.
	p.Start(l.read())
	a = p.End(l.carry(12*milli, 2e6, 0))
	assert.Equal(t, 12*milli, a.Covered)
	assert.InDelta(t, 2e6, a.Peak[0], 1)
}

// Readings of other phases may come at any moment; they do not cut intervals to pieces.
func TestPart_manyReadings(t *testing.T) {
	l := newLink(0)
	var p Part
	p.Start(l.read())
	for i := range 1000 {
		speed := 0.0
		if i%10 == 0 {
			speed = 10e6
		}
		p.Pass(l.carry(milli/10, speed, 0))
	}
	a := p.End(l.read())
	assert.InDelta(t, 1e6, a.Peak[0], 1e5)
	assert.Equal(t, 100*milli, a.Covered)
}

func TestPart_unknown(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(r *Reading)
		want string
	}{
		"no bytes": {func(r *Reading) { r.NoBytes = "no interface" }, "no interface"},
		"reset":    {func(r *Reading) { r.BytesEpoch++ }, "counters of a counted interface were reset meanwhile"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(1e6)
			var p Part
			p.Start(l.read())
			r := l.carry(time.Second, 1e6, 1e6)
			tt.end(r)
			a := p.End(r)
			assert.False(t, a.Bytes.Known())
			f := a.Facts([2]float64{})
			assert.Equal(t, Unknown, f.Verdict)
			assert.Equal(t, tt.want, f.Why)
			assert.True(t, math.IsNaN(f.Rate) && math.IsNaN(f.Utilization))
			assert.True(t, a.Segments.Known(), "what else is known stays")

			// One of two: the other one's bytes are told, and that one is missing.
			var all Account
			all.Add(a)
			p.Start(l.read())
			all.Add(p.End(l.carry(time.Second, 1e6, 0)))
			assert.EqualValues(t, 1, all.Bytes.Count)
			assert.EqualValues(t, 1, all.Bytes.Lost)
			assert.EqualValues(t, 1e6, all.Receive)
			assert.InDelta(t, 1e6, all.Facts([2]float64{}).Rate, 1, "over the time of which bytes are known")
			assert.Equal(t, 2*time.Second, all.Span)
		})
	}
}

func TestVerdict(t *testing.T) {
	const rate = 12.5e6
	waiting := func(l *link, share float64) *Reading {
		l.now.Waiting += time.Duration(share * float64(time.Second))
		return l.read()
	}
	for name, tt := range map[string]struct {
		capacity          float64
		best              [2]float64
		receive, transmit func(int) float64
		waiting           float64
		blind             bool // own sockets are not read
		retransmitted     uint64
		want              Verdict
		why               string
	}{
		"full, sending":                 {capacity: 13e6, receive: at(0), transmit: at(rate), want: LinkBound},
		"full, receiving":               {capacity: 13e6, receive: at(rate), transmit: at(0), want: LinkBound},
		"full in half of the time":      {capacity: 13e6, receive: func(i int) float64 { return rate * float64((i+1)%2) }, transmit: at(0), want: LinkBound},
		"full in a third of the time":   {capacity: 13e6, receive: func(i int) float64 { return rate * float64(i%3/2) }, transmit: at(0), want: SoftwareBound},
		"nominal speed lies":            {capacity: 1.25e9, receive: at(1e5), transmit: at(rate), waiting: 0.9, want: LinkBound},
		"no capacity, data waits":       {receive: at(1e5), transmit: at(rate), waiting: 0.9, want: LinkBound},
		"a link that has become slow":   {receive: at(1e5), transmit: at(rate), best: [2]float64{125e6, 125e6}, waiting: 0.9, want: LinkBound},
		"a sender of its own pace":      {receive: at(1e5), transmit: at(rate), waiting: 0.1, want: SoftwareBound},
		"data waits, at changing rates": {receive: at(0), transmit: func(i int) float64 { return rate * (1 + float64(i%5)) }, waiting: 0.9, want: SoftwareBound},
		"and is lost":                   {receive: at(0), transmit: func(i int) float64 { return rate * (1 + float64(i%5)) }, waiting: 0.9, retransmitted: 100, want: LinkBound},
		"a receiver cannot tell":        {receive: at(rate), transmit: at(0), want: Unknown, why: "steady at the best rate"},
		"a receiver that has seen more": {receive: at(rate), transmit: at(0), best: [2]float64{125e6, 0}, want: SoftwareBound},
		"sockets of others":             {receive: at(0), transmit: at(rate), blind: true, want: Unknown, why: "steady at the best rate"},
		"trickle":                       {capacity: 1.25e9, receive: at(0), transmit: func(i int) float64 { return 5e6 * float64(i%5/4) }, want: SoftwareBound},
		"nothing":                       {capacity: 1.25e9, receive: at(0), transmit: at(0), want: Idle},
		"hardly anything":               {receive: at(3e4), transmit: at(3e4), want: Idle},
		"little beside what was seen":   {receive: at(2e6), transmit: at(0), best: [2]float64{12e9, 0}, want: Idle},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(tt.capacity)
			if tt.blind {
				l.now.NoSockets = "too many"
			}
			var p Part
			var all Account
			for range 3 {
				p.Start(l.read())
				l.run(&p, 50, tt.receive, tt.transmit)
				l.now.Retransmitted += tt.retransmitted
				a := p.End(waiting(l, tt.waiting))
				f := a.Facts(tt.best)
				assert.Equal(t, tt.want.String(), f.Verdict.String(), "%+v", f)
				assert.Contains(t, f.Why, tt.why)
				assert.Equal(t, f.Verdict == Unknown, f.Why != "")
				all.Add(a)
			}
			assert.Equal(t, tt.want.String(), all.Facts(tt.best).Verdict.String(), "of all three")
		})
	}
}

// Parts too short for readings in between are judged by what they moved.
// Parts whose capacity is not known say nothing of whether the link was full: they are not those in which it was not.
func TestVerdict_capacityOfSome(t *testing.T) {
	var all Account
	for _, capacity := range []float64{100e6, 0, 0, 0} {
		l := newLink(capacity)
		var p Part
		p.Start(l.read())
		l.run(&p, 20, at(0), at(95e6))
		all.Add(p.End(l.carry(5*milli, 0, 95e6)))
	}
	f := all.Facts([2]float64{})
	assert.InDelta(t, 1, f.Full, 1e-9)
	assert.InDelta(t, 0.95, f.Utilization, 1e-6)
	assert.Equal(t, LinkBound, f.Verdict)
}

func TestVerdict_short(t *testing.T) {
	for name, tt := range map[string]struct {
		capacity, rate float64
		waiting        time.Duration
		want           Verdict
	}{
		"full":                {capacity: 13e6, rate: 12.5e6, want: LinkBound},
		"not full":            {capacity: 13e6, rate: 5e6, want: SoftwareBound},
		"no capacity, no one": {rate: 12.5e6, want: SoftwareBound},
		"data waits":          {rate: 12.5e6, waiting: 4 * milli, want: Unknown},
		"nothing":             {capacity: 13e6, want: Idle},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(tt.capacity)
			var all Account
			var p Part
			for range 1000 {
				p.Start(l.read())
				r := l.carry(5*milli, 0, tt.rate)
				l.now.Waiting += tt.waiting
				r.Waiting = l.now.Waiting
				all.Add(p.End(r))
			}
			f := all.Facts([2]float64{})
			assert.Equal(t, tt.want.String(), f.Verdict.String(), f.Why)
			require.EqualValues(t, 1000, all.Ended)
			assert.Equal(t, 5*time.Second, all.Span)
		})
	}
}

func TestVerdict_rdma(t *testing.T) {
	l := newLink(1.25e9)
	account := func() *Account {
		var p Part
		p.Start(l.read())
		l.run(&p, 50, at(0), at(0))
		return p.End(l.read())
	}
	a := account()
	a.KnowRDMA(time.Second, [2]uint64{1e9, 45e9}, 0.9)
	assert.Equal(t, LinkBound, a.Facts([2]float64{}).Verdict)
	a = account()
	a.KnowRDMA(time.Second, [2]uint64{1e9, 20e9}, 0.4)
	assert.Equal(t, SoftwareBound, a.Facts([2]float64{}).Verdict, "the Ethernet is idle, and RDMA is not")
	a = account()
	a.MissRDMA("ports were not read", true)
	assert.Equal(t, Unknown, a.Facts([2]float64{}).Verdict, "nobody knows what they moved")
	a = account()
	a.MissRDMA("no /sys/class/infiniband", false)
	assert.Equal(t, Idle, a.Facts([2]float64{}).Verdict)
}

// However rates change, shares stay shares.
func TestPart_gap(t *testing.T) {
	l := newLink(1e9)
	var p Part
	p.Start(l.read())
	l.run(&p, 5, at(1e6), at(0))
	p.Pass(l.carry(time.Second, 1e9, 0)) // the host had no processor
	l.run(&p, 5, at(1e6), at(0))
	a := p.End(l.read())
	assert.Equal(t, 200*milli, a.Covered)
	assert.InDelta(t, 1e6, a.Peak[0], 1, "a mean over a second is no peak")
	f := a.Facts([2]float64{})
	assert.Contains(t, f.NoPeak, "no processor free")
	assert.True(t, math.IsNaN(f.Busy))
}

func BenchmarkPart(b *testing.B) {
	l := newLink(1e9)
	var p Part
	var all Account
	b.ReportAllocs()
	for b.Loop() {
		p.Start(l.read())
		all.Add(p.End(l.carry(milli, 1e6, 1e6)))
	}
}

// What waits in a queue waits for a link, whatever its rate seems to do: of a slow one few packets pass in an interval.
func TestVerdict_queue(t *testing.T) {
	changing := func(i int) float64 { return 2.5e6 * float64(i%3) }
	for name, tt := range map[string]struct {
		intervals, notes  int
		receive, transmit func(int) float64
		// Shares of the time.
		waiting, queued, far float64
		want                 Verdict
	}{
		"a slow link":                         {intervals: 50, receive: at(0), transmit: changing, waiting: 1, queued: 1, want: LinkBound},
		"... in a ring of ranks":              {intervals: 50, receive: at(3e6), transmit: changing, waiting: 1, queued: 1, want: LinkBound},
		"... in a short part":                 {intervals: 0, receive: at(0), transmit: at(2.5e6), waiting: 1, queued: 1, want: LinkBound},
		"it waits for less than half":         {intervals: 50, receive: at(0), transmit: changing, waiting: 0.45, queued: 0.45, want: SoftwareBound},
		"no queue, at changing rates":         {intervals: 50, receive: at(0), transmit: changing, waiting: 1, want: SoftwareBound},
		"mostly no queue":                     {intervals: 50, receive: at(0), transmit: changing, waiting: 1, queued: 0.4, want: SoftwareBound},
		"who only receives":                   {intervals: 50, receive: changing, transmit: at(1e5), waiting: 1, queued: 1, want: SoftwareBound},
		"steady, over a long way":             {intervals: 50, receive: at(0), transmit: at(25e6), waiting: 1, far: 1, want: LinkBound},
		"the application's pace, on the same": {intervals: 50, receive: at(0), transmit: at(6e6), waiting: 0.67, far: 0.67, want: SoftwareBound},
		"one interval is always steady":       {intervals: 1, receive: at(0), transmit: at(6e6), waiting: 1, want: Unknown},
		"a note, waited for":                  {intervals: 1, notes: 66, receive: at(0), transmit: at(0), waiting: 1, queued: 1, want: Idle},
		"a note in no time":                   {notes: 66, receive: at(0), transmit: at(0), want: Idle},
		"notes of a barrier":                  {intervals: 3, notes: 1000, receive: at(0), transmit: at(0), waiting: 1, queued: 1, want: Idle},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(1.25e9)
			var p Part
			var all Account
			for range 3 {
				p.Start(l.read())
				began := l.now.At
				l.run(&p, tt.intervals, tt.receive, tt.transmit)
				l.carry(milli/2, tt.receive(0), tt.transmit(0))
				if tt.intervals == 0 {
					l.carry(4*milli, tt.receive(0), tt.transmit(0))
				}
				l.now.Transmit += uint64(tt.notes)
				span := float64(l.now.At - began)
				l.now.Waiting += time.Duration(tt.waiting * span)
				l.now.Queued += time.Duration(tt.queued * span)
				l.now.Far += time.Duration(tt.far * span)
				a := p.End(l.read())
				assert.Equal(t, tt.want.String(), a.Facts([2]float64{}).Verdict.String(), "%+v", a.Facts([2]float64{}))
				all.Add(a)
			}
			assert.Equal(t, tt.want.String(), all.Facts([2]float64{}).Verdict.String(), "of all three")
		})
	}
}

func TestIsQueue(t *testing.T) {
	assert.True(t, IsQueue(3*milli, milli/50), "200 Mbit/s")
	assert.False(t, IsQueue(3*milli/2, milli/50), "two processors that are busy")
	assert.True(t, IsQueue(10*milli, 5*milli))
	assert.False(t, IsQueue(72*milli/10, 5*milli))
	assert.True(t, IsFar(5*milli))
	assert.False(t, IsFar(milli/10))
}

func TestBounds_documented(t *testing.T) {
	text, err := os.ReadFile("../../docs/phases.md")
	require.NoError(t, err)
	for _, want := range []string{
		fmt.Sprintf("less than %d bytes", idleBytes),
		fmt.Sprintf("is %g ms\nabove their shortest and %g times as long", queueTime.Seconds()*1e3, 1+queueRatio),
		fmt.Sprintf("steady >= %g over phases of %d ms and more, or `retransmit_ratio` >= %g.", boundShare, leastSteady/milli, lossShare),
		fmt.Sprintf("Where round trips take %d ms or more without a queue, waiting >= %g", farTime/milli, farShare),
		fmt.Sprintf("intervals cover less than %d ms", leastSteady/milli),
		fmt.Sprintf("rate < %g kB/s, or < %g %% of the reference rate", idleRate/1e3, idleShare*100),
	} {
		assert.Contains(t, string(text), want)
	}
	assert.Equal(t, 0.5, sendingShare, "written as half")
}
