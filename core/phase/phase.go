// Package phase keeps account of what the network did in parts of a job that were given names, and judges what held them up.
//
// It is told what counters stood at when a part begins, ends, and in between; it reads nothing itself. What was counted between
// beginning and end belongs to the part, whoever caused it: parts that overlap count the same bytes each. Not safe for concurrent
// use.
package phase

import (
	"math"
	"time"

	"netmon/core/rate"
)

// Reading is what counters stood at at one moment. Each group of them has why it is not known, "" where it is.
type Reading struct {
	At time.Duration
	// Sharp: At is the moment of the counters closely enough for rates.
	Sharp bool

	NoBytes           string
	Receive, Transmit uint64 // bytes of counted interfaces
	BytesEpoch        uint64 // differences are known within one epoch only
	Capacity          float64
	NoCapacity        string // bytes per second in each direction

	NoSegments          string
	Sent, Retransmitted uint64
	SegmentsEpoch       uint64

	NoSockets     string
	TCP, Loopback uint64        // bytes of this process's own connections
	Waiting       time.Duration // of connections to other hosts: with data to send that the network did not take
	Queued        time.Duration // of it, on connections whose packets stood in a queue
	Far           time.Duration // of it, on those without a queue, whose way is long: an acknowledgement takes its time there
}

// Verdict says what a part was held up by, as far as the network goes.
type Verdict uint8

// The verdicts; docs/phases.md has them in numbers.
const (
	Unknown Verdict = iota
	Idle
	SoftwareBound
	LinkBound
)

// String is the verdict as the document has it, "" for Unknown.
func (v Verdict) String() string { return [...]string{"", "idle", "software-bound", "link-bound"}[v] }

// Bounds.
const (
	leastInterval = 10 * time.Millisecond  // a rate over less says more of packets than of the link
	mostInterval  = 250 * time.Millisecond // over more it hides what a peak is
	leastCovered  = 0.5                    // of the time, by intervals, to tell peak and shares

	busyShare    = 0.01 // of the reference rate: what an interval carries that counts as busy
	fullShare    = 0.8  // of the capacity: the link is full
	boundShare   = 0.5  // of the time: what holds for so long decides
	lossShare    = 0.001
	idleShare    = 0.001
	idleRate     = 100e3                 // bytes per second
	idleBytes    = 4096                  // in a part, both directions together: notes and acknowledgements, however fast they were
	sendingShare = 0.5                   // of what it received: a part that sent so much may be held up in sending, as in a ring of ranks
	farShare     = 0.9                   // of the time: who has more to send waits for so long where the way is long, and who does not, for less
	leastSteady  = 50 * time.Millisecond // of each part: fewer intervals are steady whatever happens
	reachedShare = 0.8                   // of the best rate seen: the link was seen to carry no more

	// Rates are counted in bins of a tenth, from leastRate on.
	leastRate = 1e3
	binFactor = 1.1
	rateBins  = 220 // up to 1 TB/s
)

// A queue before a link, by round trips of a connection. A packet of 64 KiB, as TCP hands them over, makes one of 2 ms at 260 Mbit/s: of
// links so slow, few packets pass in an interval of 20 ms, so that rates seem to change. On veth pairs without a limit round trips were
// up to 1.5 ms with two busy processors.
const (
	queueTime  = 2 * time.Millisecond
	queueRatio = 0.5              // of the shortest round trip: over long ways they vary more
	farTime    = time.Millisecond // of the shortest round trip: waiting for an acknowledgement may be all of a small packet's waiting
)

// IsQueue tells whether packets stand in a queue, by the round trip of now and the shortest.
func IsQueue(now, shortest time.Duration) bool {
	return now-shortest >= max(queueTime, time.Duration(queueRatio*float64(shortest)))
}

// IsFar tells whether a way is long by its shortest round trip.
func IsFar(shortest time.Duration) bool { return shortest >= farTime }

// directions of histograms.
const (
	receive = iota
	transmit
	busier
	histograms
)

// Amount is a sum over the parts in which it is known.
type Amount struct {
	Count uint64        // of parts in which it is known
	Over  time.Duration // their time
	Why   string        // why it is not known in the newest part in which it is not
	Lost  uint64        // how many these are
}

func (a *Amount) know(span time.Duration) {
	a.Count++
	a.Over += span
}

func (a *Amount) miss(why string) {
	a.Lost++
	a.Why = why
}

func (a *Amount) add(b *Amount) {
	a.Count += b.Count
	a.Over += b.Over
	a.Lost += b.Lost
	if b.Why != "" {
		a.Why = b.Why
	}
}

// Known tells whether it is known in any part.
func (a *Amount) Known() bool { return a.Count > 0 }

// Account is what was counted in a part that has ended, or in all parts of a name.
type Account struct {
	Ended uint64
	Span  time.Duration

	Bytes             Amount
	Receive, Transmit uint64
	Capacity          Amount
	Possible          float64   // bytes that the capacity allowed in one direction
	Moved             [2]uint64 // receive and transmit in the parts whose capacity is known
	Segments          Amount
	Sent, Resent      uint64
	Sockets           Amount
	TCP, Loopback     uint64
	Waiting           time.Duration // in the parts whose sockets are known, each at most its own time
	Queued, Far       time.Duration // of Waiting
	RDMA              Amount
	RDMABytes         uint64
	RDMAMoved         [2]uint64
	RDMAUsed          float64 // seconds for which the fullest port of each part had been full, had it not been idle otherwise
	RDMABlind         bool    // there are ports, and what they moved is not known in some part

	// By intervals of some 20 ms.
	Covered time.Duration
	Rated   time.Duration // of Covered, with a known capacity
	Full    time.Duration // of Rated
	Peak    [2]float64
	bins    *[histograms][rateBins]float64 // seconds at a rate; nil while nothing is covered
}

// Add adds what another account has.
func (a *Account) Add(b *Account) {
	a.Ended += b.Ended
	a.Span += b.Span
	a.Bytes.add(&b.Bytes)
	a.Receive += b.Receive
	a.Transmit += b.Transmit
	a.Capacity.add(&b.Capacity)
	a.Possible += b.Possible
	a.Segments.add(&b.Segments)
	a.Sent += b.Sent
	a.Resent += b.Resent
	a.Sockets.add(&b.Sockets)
	a.TCP += b.TCP
	a.Loopback += b.Loopback
	a.Waiting += b.Waiting
	a.Queued += b.Queued
	a.Far += b.Far
	a.RDMA.add(&b.RDMA)
	a.RDMABytes += b.RDMABytes
	a.RDMAUsed += b.RDMAUsed
	a.RDMABlind = a.RDMABlind || b.RDMABlind
	a.Covered += b.Covered
	a.Rated += b.Rated
	a.Full += b.Full
	for d := range a.Peak {
		a.Moved[d] += b.Moved[d]
		a.RDMAMoved[d] += b.RDMAMoved[d]
		a.Peak[d] = max(a.Peak[d], b.Peak[d])
	}
	if b.Covered == 0 {
		return
	}
	if a.bins == nil {
		a.bins = new([histograms][rateBins]float64)
	}
	for d := range a.bins {
		for i := range a.bins[d] {
			a.bins[d][i] += b.bins[d][i]
		}
	}
}

// edge is where an interval begins.
type edge struct {
	at     time.Duration
	totals [2]uint64
	epoch  uint64
}

func edgeOf(r *Reading) (e edge, ok bool) {
	return edge{r.At, [2]uint64{r.Receive, r.Transmit}, r.BytesEpoch}, r.Sharp && r.NoBytes == ""
}

// Part is a part of the job that is under way.
type Part struct {
	Begin Reading

	account     Account
	first, last edge // of the interval that is not counted yet, as a short rest may make it longer
	open        bool // first is there
	whole       bool // last is too
}

// Start begins a part. Its room is used again.
func (p *Part) Start(r *Reading) {
	bins := p.account.bins
	if bins != nil && p.account.Covered > 0 {
		*bins = [histograms][rateBins]float64{}
	}
	*p = Part{Begin: *r}
	p.account.bins = bins
	p.first, p.open = edgeOf(r)
}

// Pass notes a reading while the part is under way.
func (p *Part) Pass(r *Reading) {
	e, ok := edgeOf(r)
	switch {
	case !ok:
	case !p.open:
		p.first, p.open = e, true
	case p.whole && e.at-p.last.at >= leastInterval:
		p.count(r.Capacity)
		p.first, p.last = p.last, e
	case !p.whole && e.at-p.first.at >= leastInterval:
		p.last, p.whole = e, true
	}
}

// count counts the interval that was held back.
func (p *Part) count(capacity float64) {
	a := &p.account
	span := p.last.at - p.first.at
	if span > mostInterval || p.first.epoch != p.last.epoch {
		return
	}
	if a.bins == nil {
		a.bins = new([histograms][rateBins]float64)
	}
	a.Covered += span
	fastest := 0.0
	for d := range a.Peak {
		speed := rate.PerSecond(p.first.totals[d], p.last.totals[d], span)
		a.Peak[d] = max(a.Peak[d], speed)
		a.note(d, speed, span)
		fastest = max(fastest, speed)
	}
	a.note(busier, fastest, span)
	if capacity > 0 {
		a.Rated += span
		if fastest >= fullShare*capacity {
			a.Full += span
		}
	}
}

func (a *Account) note(histogram int, speed float64, span time.Duration) {
	if bin := binOf(speed); bin >= 0 {
		a.bins[histogram][bin] += span.Seconds()
	}
}

func binOf(speed float64) int {
	if speed < leastRate {
		return -1
	}
	return min(int(math.Log(speed/leastRate)/math.Log(binFactor)), rateBins-1)
}

// End ends the part and returns its account, which holds until the part is used again.
func (p *Part) End(r *Reading) *Account {
	// What is left after the last interval makes it longer where it is none of its own.
	if e, ok := edgeOf(r); ok && p.open {
		if p.whole && e.at-p.last.at >= leastInterval {
			p.count(r.Capacity)
			p.first = p.last
			p.last = e
		} else if p.whole || e.at-p.first.at >= leastInterval {
			p.last, p.whole = e, true
		}
	}
	if p.whole {
		p.count(r.Capacity)
	}
	b, a := &p.Begin, &p.account
	span := r.At - b.At
	a.Ended, a.Span = 1, span
	switch {
	case b.NoBytes != "" || r.NoBytes != "":
		a.Bytes.miss(either(b.NoBytes, r.NoBytes))
	case b.BytesEpoch != r.BytesEpoch:
		a.Bytes.miss("counters of a counted interface were reset meanwhile")
	default:
		a.Bytes.know(span)
		a.Receive, a.Transmit = r.Receive-b.Receive, r.Transmit-b.Transmit
	}
	switch {
	case a.Bytes.Why != "":
		a.Capacity.miss(a.Bytes.Why)
	case b.NoCapacity != "" || r.NoCapacity != "":
		a.Capacity.miss(either(b.NoCapacity, r.NoCapacity))
	default:
		a.Capacity.know(span)
		a.Possible = r.Capacity * span.Seconds()
		a.Moved = [2]uint64{a.Receive, a.Transmit}
	}
	switch {
	case b.NoSegments != "" || r.NoSegments != "":
		a.Segments.miss(either(b.NoSegments, r.NoSegments))
	case b.SegmentsEpoch != r.SegmentsEpoch:
		a.Segments.miss("counters of TCP were reset meanwhile")
	default:
		a.Segments.know(span)
		a.Sent, a.Resent = r.Sent-b.Sent, r.Retransmitted-b.Retransmitted
	}
	switch {
	case b.NoSockets != "" || r.NoSockets != "":
		a.Sockets.miss(either(b.NoSockets, r.NoSockets))
	case r.TCP < b.TCP || r.Loopback < b.Loopback:
		a.Sockets.miss("connections came to be those of another interface meanwhile")
	default:
		a.Sockets.know(span)
		a.TCP, a.Loopback = r.TCP-b.TCP, r.Loopback-b.Loopback
		// Connections that wait at the same time wait once.
		a.Waiting = min(span, max(0, r.Waiting-b.Waiting))
		a.Queued = min(a.Waiting, max(0, r.Queued-b.Queued))
		a.Far = min(a.Waiting, max(0, r.Far-b.Far))
	}
	return a
}

// KnowRDMA adds what RDMA ports received and transmitted in a part that took so long, and how much that was of what the fullest of
// them can carry in the direction that moved more, 0 to 1.
func (a *Account) KnowRDMA(span time.Duration, moved [2]uint64, fullest float64) {
	a.RDMA.know(span)
	a.RDMABytes += moved[receive] + moved[transmit]
	a.RDMAMoved[receive] += moved[receive]
	a.RDMAMoved[transmit] += moved[transmit]
	a.RDMAUsed += fullest * span.Seconds()
}

// MissRDMA says why that is not known; there tells whether there are ports at all.
func (a *Account) MissRDMA(why string, there bool) {
	a.RDMA.miss(why)
	a.RDMABlind = a.RDMABlind || there
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
