package phase

import (
	"fmt"
	"math"
	"time"
)

// Facts are what is known of an account: numbers where it is said, NaN where they are not known.
type Facts struct {
	Rate        float64 // mean rate of the direction that moved more
	Utilization float64 // of the capacity
	Retransmits float64 // retransmitted / sent

	// By intervals of some 20 ms.
	Peak    float64
	Busy    float64 // share of the time in which the busier direction carried 1 % of the reference rate or more
	Full    float64 // ... 80 % of the capacity or more
	Plateau float64 // rate at which that direction which moved more stayed longest, within a fifth
	Steady  float64 // share of the time in which it did

	// Waiting is the share of the time in which own connections had data to send that the network did not take.
	Waiting float64
	// Queued and Far are shares of the time too: with packets of those connections in a queue, or without one on a long way.
	Queued, Far float64

	Verdict Verdict
	Why     string // why there is no verdict
	NoPeak  string // why what intervals tell is not known
}

// Facts tells what the account says. best are the highest rates of either direction that a link has been seen to carry; 0 for none.
func (a *Account) Facts(best [2]float64) Facts {
	nan := math.NaN()
	f := Facts{
		Rate: nan, Utilization: nan, Retransmits: nan, Peak: nan, Busy: nan, Full: nan, Plateau: nan, Steady: nan, Waiting: nan,
		Queued: nan, Far: nan,
	}
	direction := receive
	if a.Transmit > a.Receive {
		direction = transmit
	}
	if a.Bytes.Known() && a.Bytes.Over > 0 {
		f.Rate = float64(max(a.Receive, a.Transmit)) / a.Bytes.Over.Seconds()
	}
	if a.Capacity.Known() && a.Possible > 0 {
		f.Utilization = float64(max(a.Moved[receive], a.Moved[transmit])) / a.Possible
	}
	if a.Segments.Known() && a.Sent > 0 {
		f.Retransmits = float64(a.Resent) / float64(a.Sent)
	}
	if a.Sockets.Known() && a.Sockets.Over > 0 {
		f.Waiting = share(a.Waiting, a.Sockets.Over)
		f.Queued, f.Far = share(a.Queued, a.Sockets.Over), share(a.Far, a.Sockets.Over)
	}
	reference := a.reference(best)
	if f.NoPeak = a.noPeak(); f.NoPeak == "" {
		f.Peak = max(a.Peak[receive], a.Peak[transmit])
		f.Busy = a.above(busyShare * reference)
		if a.Capacity.Known() && a.Rated > 0 {
			f.Full = share(a.Full, a.Rated)
		}
		f.Plateau, f.Steady = a.plateau(direction)
	}
	f.Verdict, f.Why = a.judge(&f, direction, reference, best[direction])
	return f
}

func share(part, whole time.Duration) float64 { return float64(part) / float64(whole) }

// noPeak is why intervals tell nothing, "" where they do.
func (a *Account) noPeak() string {
	switch {
	case !a.Bytes.Known() && a.Bytes.Lost > 0:
		return a.Bytes.Why
	case a.Ended > 0 && a.Covered == 0 && a.Span < time.Duration(a.Ended)*leastInterval:
		return fmt.Sprintf("shorter than %v", leastInterval)
	case a.Covered == 0 || share(a.Covered, a.Span) < leastCovered:
		return "counters were not read in between: too short, or this host had no processor free"
	}
	return ""
}

// reference is the highest rate that the link has been seen to carry, which may be less than what its driver says.
func (a *Account) reference(best [2]float64) float64 {
	seen := max(best[receive], best[transmit], a.Peak[receive], a.Peak[transmit])
	if a.Capacity.Known() && a.Capacity.Over > 0 {
		seen = min(seen, a.Possible/a.Capacity.Over.Seconds())
	}
	return seen
}

// above is the share of the time in which the busier direction was as fast or faster, to a tenth of the rate.
func (a *Account) above(speed float64) float64 {
	if a.bins == nil {
		return 0
	}
	sum := 0.0
	for _, seconds := range a.bins[busier][max(0, binOf(speed)):] {
		sum += seconds
	}
	return min(1, sum/a.Covered.Seconds())
}

// plateau is the rate at which a direction stayed longest, and for what share of the time.
func (a *Account) plateau(direction int) (speed, steady float64) {
	if a.bins == nil {
		return 0, 0
	}
	bins := &a.bins[direction]
	place, longest := -1, 0.0
	for i := range rateBins - 1 {
		if both := bins[i] + bins[i+1]; both > longest {
			place, longest = i, both
		}
	}
	if place < 0 {
		return 0, 0
	}
	// In the middle of both, by their time.
	upper := bins[place+1] / longest
	speed = leastRate * math.Pow(binFactor, float64(place)+0.5+upper)
	return speed, min(1, longest/a.Covered.Seconds())
}

// judge says what the account was held up by, or why that cannot be told.
func (a *Account) judge(f *Facts, direction int, reference, best float64) (v Verdict, why string) {
	if !a.Bytes.Known() {
		return Unknown, either(a.Bytes.Why, "it has not ended yet")
	}
	if math.IsNaN(f.Rate) {
		return Unknown, "it took no time"
	}
	rdma := 0.0
	if a.RDMA.Known() && a.RDMA.Over > 0 {
		rdma = float64(max(a.RDMAMoved[receive], a.RDMAMoved[transmit])) / a.RDMA.Over.Seconds()
	}
	idle := func() (Verdict, string) {
		if a.RDMABlind {
			return Unknown, "what RDMA ports moved is not known: " + either(a.RDMA.Why, "they were not read since")
		}
		return Idle, ""
	}
	waited, held := a.held(f)
	switch {
	case a.Receive+a.Transmit < idleBytes*a.Bytes.Count && rdma < idleRate:
		return idle()
	case f.Full >= boundShare, math.IsNaN(f.Full) && f.Utilization >= fullShare:
		return LinkBound, ""
	case a.RDMA.Known() && a.RDMAUsed >= fullShare*a.RDMA.Over.Seconds():
		return LinkBound, ""
	case held:
		return LinkBound, ""
	case max(f.Rate, rdma) < idleRate, max(f.Rate, rdma) < idleShare*reference:
		return idle()
	case waited && !a.tellsSteady(f):
		return Unknown, "data waited for the network, and whether that was at a steady rate is not known: " +
			either(f.NoPeak, fmt.Sprintf("shorter than %v", leastSteady))
	case f.Steady >= boundShare && f.Plateau >= reachedShare*best && (direction == receive || math.IsNaN(f.Waiting)):
		return Unknown, "steady at the best rate seen, without knowing whether the sender had more: its own monitor may know"
	case math.IsNaN(f.Utilization) && math.IsNaN(f.Steady) && (direction == receive || math.IsNaN(f.Waiting)):
		return Unknown, "neither capacity nor what intervals tell is known: " + f.NoPeak
	}
	return SoftwareBound, ""
}

// held tells whether data waited for the network in a part that sends, and whether that was because of a link: packets stood in a queue, or
// got lost, or the rate hardly changed. False where that is not known.
func (a *Account) held(f *Facts) (waited, held bool) {
	if !(f.Waiting >= boundShare) || float64(a.Transmit) < sendingShare*float64(a.Receive) {
		return false, false
	}
	if f.Queued >= boundShare {
		return true, true
	}
	// Waiting for acknowledgements on a long way is none for the link, unless there is more to send all the time.
	if f.Waiting-f.Far < boundShare && f.Waiting < farShare {
		return false, false
	}
	steady := 0.0
	if a.tellsSteady(f) {
		_, steady = a.plateau(transmit)
	}
	return true, steady >= boundShare || f.Retransmits >= lossShare
}

// tellsSteady tells whether intervals tell if the rate was steady.
func (a *Account) tellsSteady(f *Facts) bool {
	return !math.IsNaN(f.Steady) && a.Covered >= time.Duration(a.Ended)*leastSteady
}
