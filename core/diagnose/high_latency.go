package diagnose

import "math"

// longWays finds hosts whose packets take longer than others', at their quickest. The quickest of all of a host's is compared: queues of
// healthy links are as long as a longer path, but not all of them all the time.
func (g *graph) longWays() (suspects []suspect) {
	var ways []*way
	quickest := make(map[string]float64)
	for _, w := range g.ways {
		if g.fresh(w) && !math.IsNaN(w.floor) {
			ways = append(ways, w)
			for _, h := range []string{w.from, w.to} {
				if q, has := quickest[h]; !has || w.floor < q {
					quickest[h] = w.floor
				}
			}
		}
	}
	if len(quickest) == 2 && len(g.names) == 2 {
		return g.longWayOfTwo(ways)
	}
	all := make([]float64, 0, len(quickest))
	for _, q := range quickest {
		all = append(all, q)
	}
	if len(all) < 3 {
		return nil
	}
	usual := medianOfLow(sorted(all))
	for _, name := range g.names {
		q, has := quickest[name]
		if !has || q < usual+latencySeconds || q < latencyRatio*usual || len(suspects) >= mostLong {
			continue
		}
		c := culprit{host: name, sure: true}
		for _, w := range g.of[name] {
			if g.fresh(w) && !math.IsNaN(w.floor) {
				c.bad = append(c.bad, w)
			}
		}
		if ends := distinct(c.bad, name); ends == 1 {
			// One other end only: it may be the other's.
			c.sure, c.peer = false, other(c.bad[0], name)
		}
		share := nearFloor(c.bad, q)
		// What is said again is no second sign, where the first is weak.
		if n := probesOf(c.bad); (n == 0 || n >= latencyProbes) && (share >= floorShare && mostlyNew(c.bad) || share >= clearFloorShare) {
			suspects = append(suspects, g.longWay(c, q, usual))
		}
	}
	return suspects
}

// longForAMinute tells whether not one probe of the last minute was as short as those of the other hosts.
func (g *graph) longForAMinute(name string) bool {
	shortest := func(of string) float64 {
		return least(collect(g.of[of], func(w *way) float64 {
			if !g.fresh(w) {
				return math.NaN()
			}
			return w.recent[0].probeMin
		}))
	}
	var all []float64
	for _, host := range g.names {
		if q := shortest(host); !math.IsNaN(q) {
			all = append(all, q)
		}
	}
	if len(all) < 3 {
		return false
	}
	q, usual := shortest(name), medianOfLow(sorted(all))
	return q >= usual+latencySeconds && q >= latencyRatio*usual
}

// mostlyNew tells whether the view says something new of half of the ways at least: views come twice as often as digests.
func mostlyNew(ways []*way) bool {
	count := 0
	for _, w := range ways {
		count += ones(w.now)
	}
	return count > 0 && 2*count >= len(ways)
}

// longWayOfTwo compares the way between two hosts with what it was. Of one without probes the queue would be taken for it.
func (g *graph) longWayOfTwo(ways []*way) []suspect {
	c := culprit{host: g.names[0], peer: g.names[1], bad: ways}
	q, path := math.NaN(), math.NaN()
	for _, w := range ways {
		if !w.probed {
			return nil
		}
		q, path = lowest(q, w.floor), lowest(path, w.path)
	}
	if !(q >= path+latencySeconds) || q < latencyRatio*path || !hardFloor(ways, q) {
		return nil
	}
	return []suspect{g.longWay(c, q, path)}
}

// maybeLong tells whether the newest probes of a host were all long, and not those of others: too few to say that its ways are.
func (g *graph) maybeLong(name string) bool {
	newest := func(name string) float64 {
		return least(collect(g.of[name], func(w *way) float64 {
			if !g.fresh(w) {
				return math.NaN()
			}
			return w.recent[0].probeLast
		}))
	}
	var all []float64
	for _, host := range g.names {
		if q := newest(host); !math.IsNaN(q) {
			all = append(all, q)
		}
	}
	if len(all) < 3 {
		return false
	}
	q, usual := newest(name), medianOfLow(sorted(all))
	return q >= usual+latencySeconds && q >= latencyRatio*usual
}

// probesOf is how many newest round trips of probes are known of ways.
func probesOf(ways []*way) (n int) {
	for _, w := range ways {
		n += len(w.each(func(f *facts) float64 { return f.probeLast }))
	}
	return n
}

// hardFloor tells whether round trips of probes are near the lowest often, as where the path is long, not a queue.
func hardFloor(ways []*way, lowest float64) bool { return nearFloor(ways, lowest) >= floorShare }

// nearFloor is the share of the newest probes that are near the lowest, 1 where there are none.
func nearFloor(ways []*way, lowest float64) float64 {
	near, all := 0, 0
	for _, w := range ways {
		for _, last := range w.each(func(f *facts) float64 { return f.probeLast }) {
			all++
			if last <= floorWidth*lowest {
				near++
			}
		}
	}
	if all == 0 {
		return 1
	}
	return float64(near) / float64(all)
}

// arbitrate decides where a host seems to have both a slow link and a long way. The queue before a slow link lets a packet through now and then at
// once, unless the link is very slow; a longer path never does.
func (g *graph) arbitrate(slow, long []suspect) (slowLeft, longLeft []suspect) {
	about := func(x, y suspect) bool {
		return x.host == y.host || x.peer == y.host && x.peer != "" || y.peer == x.host && y.peer != ""
	}
	dropSlow := make([]bool, len(slow))
	for _, l := range long {
		isQueue := false
		for i, x := range slow {
			if !about(x, l) {
				continue
			}
			oneWay := x.direction != "" && g.otherDirectionFine(x)
			switch {
			case x.ratio < clearlySlow || !l.probed || oneWay && math.IsNaN(x.ratio), x.direction == Receive && g.pilesUp(x.host):
				isQueue = true
			default:
				dropSlow[i] = true
			}
		}
		if !isQueue {
			longLeft = append(longLeft, l)
		}
	}
	for i, x := range slow {
		if !dropSlow[i] {
			slowLeft = append(slowLeft, x)
		}
	}
	return slowLeft, longLeft
}
