package diagnose

import (
	"math"

	"netmon/core/cluster"
)

// slowHosts finds the host that the others wait for: it comes last to nearly all collectives, and has waited for nobody.
func (g *graph) slowHosts(links []suspect) []suspect {
	if x, ok := g.lastToCome(links); ok {
		return []suspect{x}
	}
	if g.comparable() || len(links) > 0 {
		return nil
	}
	if x, ok := g.leastInCollectives(); ok {
		return []suspect{x}
	}
	return nil
}

// waits are what collectives say of a host: how often it came last to marked ones, how long the rank of it that waited least did, and
// which share of its time the one that computes most spends outside of all of them.
type waits struct {
	last, own, outside float64
	rank               *cluster.Rank
}

// clearly tells whether others, who wait so long, clearly wait for it.
func (w *waits) clearly(waited float64) bool {
	return w.last >= clearlyLast && w.own <= clearlyOwn*waited
}

func (g *graph) lastToCome(links []suspect) (suspect, bool) {
	skew := g.view.Skew
	if !g.comparable() {
		return suspect{}, false
	}
	all := make(map[string]*waits)
	for _, r := range g.ranks {
		waiting, last := real(r.WaitingSeconds), real(r.LastRatio)
		if r.State != "live" || r.Node == nil || math.IsNaN(waiting) || math.IsNaN(last) {
			continue
		}
		w := all[*r.Node]
		if w == nil {
			w = &waits{own: math.NaN(), outside: math.NaN()}
			all[*r.Node] = w
		}
		if w.rank == nil || last > real(w.rank.LastRatio) {
			w.rank = r
		}
		w.last += last
		w.own, w.outside = lowest(w.own, waiting), highest(w.outside, 1-real(r.CollectiveRatio))
	}
	if len(all) < 2 {
		return suspect{}, false
	}
	by := func(w *waits) float64 { return w.last }
	told := true // which share of the time everybody computes
	for _, w := range all {
		told = told && !math.IsNaN(w.outside)
	}
	if told {
		by = func(w *waits) float64 { return w.outside }
	}
	worst := ""
	for name, w := range all {
		if worst == "" || by(w) > by(all[worst]) || by(w) == by(all[worst]) && name < worst {
			worst = name
		}
	}
	var others, outside []float64
	for name, w := range all {
		if name != worst {
			others, outside = append(others, w.own), append(outside, w.outside)
		}
	}
	w, waited, usual, transfer := all[worst], median(others), median(outside), real(skew.TransferP50Seconds)
	// Durations alone may mislead: over a slow link they differ too, where a collective does not end on all ranks together. Over any
	// link all ranks compute as long as each other. Collectives themselves take longer on a busy host, so that it may come last and
	// still seem to wait.
	least := outsideRatio
	if g.linkAtFault { // that makes who waits where vary
		least = clearlyOutside
	}
	slow := w.outside >= least*usual && w.outside >= usual+outsideLeast && !(waited < waitingLeast*transfer) &&
		(w.own <= ownWaitingToOthers*waited || w.last >= mostlyLast)
	if !told {
		slow = w.last >= lastRatio && w.own <= ownWaitingRatio*waited && !(waited < waitingToTransfer*transfer) &&
			(len(links) == 0 || waited >= clearlyWaiting*transfer)
	}
	// What it says again is no second sign. What it said when too little was compared counts now, where it is clearly waited for.
	isNew := g.news[worst] || g.untold[worst] && g.noLink && w.clearly(waited)
	if !slow || waited < waitingSeconds || !isNew {
		return suspect{}, false
	}
	return g.slowHost(worst, w, waited, usual, transfer, len(all)), true
}

// sharesKnown tells whether two hosts at least say which share of their time they are in collectives.
func (g *graph) sharesKnown() bool {
	known := make(map[string]bool)
	for _, r := range g.ranks {
		if r.State == "live" && r.Node != nil && r.CollectiveRatio != nil {
			known[*r.Node] = true
		}
	}
	return len(known) >= 2
}

// leastInCollectives is what remains where durations cannot be compared: the slow host's collectives are short, those of the others
// hold the waiting for it. Of two hosts, one may just do less.
func (g *graph) leastInCollectives() (suspect, bool) {
	shares := make(map[string]float64)
	for _, r := range g.ranks {
		if share := real(r.CollectiveRatio); r.State == "live" && r.Node != nil && !math.IsNaN(share) {
			if before, has := shares[*r.Node]; !has || share < before {
				shares[*r.Node] = share
			}
		}
	}
	if len(shares) < 3 {
		return suspect{}, false
	}
	least := ""
	for name, share := range shares {
		if least == "" || share < shares[least] || share == shares[least] && name < least {
			least = name
		}
	}
	var others []float64
	lowestOther := math.NaN()
	for name, share := range shares {
		if name != least {
			others = append(others, share)
			lowestOther = lowest(lowestOther, share)
		}
	}
	usual := median(others)
	if usual < busyShare || shares[least] > idleShareRatio*usual || lowestOther < 2*shares[least] {
		return suspect{}, false
	}
	return g.idleHost(least, shares[least], usual), true
}
