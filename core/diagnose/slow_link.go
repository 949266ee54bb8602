package diagnose

import (
	"math"
	"slices"
)

// slowLinks finds ways that are limited, with a queue before the limit, and slower than others or than they were.
func (s *State) slowLinks(g *graph) []suspect {
	var loaded []*way
	for _, w := range g.ways {
		if w.loaded {
			loaded = append(loaded, w)
		}
	}
	// What a way can carry: what it carries while the network is the limit, else what it carried when it was.
	able := func(w *way) float64 {
		if !math.IsNaN(w.delivery) {
			return w.delivery
		}
		usual, _ := w.baseline.usual()
		return usual
	}
	rates := sorted(collect(loaded, able))
	// Where segments are lost TCP holds back, and the queue is short.
	queues := sorted(collect(loaded, func(w *way) float64 {
		if w.counted && w.again >= lossRatio*w.segments {
			return math.NaN()
		}
		return w.queue
	}))
	var bad []*way
	for _, w := range loaded {
		shortest := math.NaN()
		if len(queues) > 0 {
			shortest = queues[0]
		}
		// Where most others have never been limited by the network, the rest is no measure: it may be as slow.
		others := math.NaN()
		if known := len(rates) - ones(!math.IsNaN(able(w))); 2*known > len(loaded)-1 {
			others = medianWithout(rates, able(w))
		}
		slow := w.slow(others, shortest, len(g.names) == 2)
		w.baseline.frozen = slow
		if slow {
			bad = append(bad, w)
		}
	}
	var suspects []suspect
	for _, c := range s.culprits(g, bad, loaded) {
		if !slices.ContainsFunc(c.bad, func(w *way) bool { return w.now }) {
			continue // what is said again is no second sign
		}
		if slices.ContainsFunc(c.bad, func(w *way) bool {
			return w.from != c.host && s.strangles(w.from) || w.to != c.host && s.strangles(w.to)
		}) {
			continue // it waits for one that is known
		}
		suspects = append(suspects, g.slowLink(g.direct(c), loaded, able))
	}
	return suspects
}

// slow tells whether a way is, beside what the others carry and the shortest queue of another.
func (w *way) slow(others, shortest float64, two bool) bool {
	w.doubtful = false
	limit := slowRatio
	if two {
		limit = slowRatioOfTwo
	}
	if math.IsNaN(w.delivery) || !(w.queue >= queueSeconds) || !two && w.queue < queueRatio*shortest {
		return false
	}
	before, _ := w.baseline.usual()
	w.strong = !two && w.queue >= strongQueueRatio*shortest
	w.ratio = w.delivery / highest(others, before)
	if w.ratio < limit {
		return true
	}
	// Nobody else is limited by the network: that is to compare with, too.
	w.doubtful = math.IsNaN(others) && w.queue >= queueAloneSeconds
	return w.doubtful && (two || w.queue >= queueAloneRatio*shortest)
}

// direct corrects the direction of a culprit whose received bursts pile up before it, of what is only somewhat slow. Acknowledgements of
// what it sends stand behind them, so that its sending may seem slow, or both.
func (g *graph) direct(c culprit) culprit {
	clearly := slices.ContainsFunc(c.bad, func(w *way) bool {
		// TCP's estimates of ways that wait for a slow one are too high: what a way did itself is the better measure, where that is known.
		if usual, _ := w.baseline.usual(); !math.IsNaN(usual) {
			return w.delivery < clearlySlow*usual
		}
		return w.ratio < clearlySlow
	})
	if c.sure && c.peer == "" && !clearly && g.pilesUp(c.host) {
		c.direction = Receive
	}
	return c
}

// pilesUp tells whether what a host receives stands in a queue before it that what it sends does not: on ways that carry something,
// but are not those that carry most, round trips to it are that much longer than round trips from it. A burst to a host that receives
// slowly leaves its sender at full speed, and waits in the network. One from a host that sends slowly waits in the socket, of
// which a round trip knows nothing; a longer path is as long both ways. On the ways that carry most, acknowledgements wait too.
func (g *graph) pilesUp(name string) bool {
	var to, from []float64
	for _, w := range g.of[name] {
		if w.loaded || !g.fresh(w) {
			continue
		}
		rtt := median(w.each(func(f *facts) float64 {
			if f.sent < activeBytes {
				return math.NaN()
			}
			return f.rtt
		}))
		switch {
		case math.IsNaN(rtt):
		case w.to == name:
			to = append(to, rtt)
		default:
			from = append(from, rtt)
		}
	}
	return len(to) >= pileWays && len(from) >= pileWays && median(to) >= pileRatio*median(from)
}

// otherDirectionFine tells whether the ways of a host in the other direction are used, and are not as slow: where TCP never says that the
// network was the limit, it was not.
func (g *graph) otherDirectionFine(x suspect) bool {
	var values []float64
	used := false
	for _, w := range g.of[x.host] {
		if (w.from == x.host) != (x.direction == Transmit) && w.loaded {
			used = true
			if !math.IsNaN(w.delivery) {
				values = append(values, w.delivery)
			}
		}
	}
	return used && !(median(values) <= x.delivery/slowRatio)
}

// strangles tells whether a host's link was found to be a small part of what it was.
func (s *State) strangles(host string) bool {
	h := s.memory.held[key{SlowLink, host}]
	return h != nil && h.reported && h.newest.ratio < clearlySlow && h.hits&(1<<recentViews-1) != 0
}

// receivesSlowly tells whether what a host receives was found to be slow, and was of late.
func (s *State) receivesSlowly(host string) bool {
	h := s.memory.held[key{SlowLink, host}]
	return h != nil && h.reported && h.newest.direction == Receive && h.hits&(1<<recentViews-1) != 0
}

// strangled tells whether a link is so slow that all there is to see of computing is who waits where for it.
func (s *State) strangled(slow []suspect) bool {
	for k, h := range s.memory.held {
		if k.class == SlowLink && h.newest.ratio < strangledRatio && h.hits&(1<<recentViews-1) != 0 {
			return true
		}
	}
	return slices.ContainsFunc(slow, func(x suspect) bool { return x.ratio < strangledRatio })
}

// besides leaves out links that seem somewhat slow beside one that is known to be so slow that all others have little to do: TCP's estimates
// of now and then are of single bursts.
func (s *State) besides(g *graph, slow []suspect) []suspect {
	return slices.DeleteFunc(slow, func(x suspect) bool {
		if x.ratio < clearlySlow {
			return false
		}
		for k, h := range s.memory.held {
			if k.class == SlowLink && k.host != x.host && h.newest.ratio < strangledRatio && s.isSettled(g.at, settledSeconds, k) {
				return true
			}
		}
		return false
	})
}

// withoutBusy leaves out links that seem somewhat slow and have a slow host at one end, of each way that seems so: it takes what comes
// late, so what the other end sends waits.
func (s *State) withoutBusy(slow, busy []suspect) []suspect {
	isBusy := func(name string) bool {
		return name != "" && (s.memory.reports(SlowHost, name) || slices.ContainsFunc(busy, func(x suspect) bool { return x.host == name }))
	}
	return slices.DeleteFunc(slow, func(x suspect) bool {
		toBusy := len(x.ends) > 0 && !slices.ContainsFunc(x.ends, func(name string) bool { return !isBusy(name) })
		return !(x.ratio < strangledRatio) && (isBusy(x.host) || isBusy(x.peer) || toBusy)
	})
}
