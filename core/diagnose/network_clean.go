package diagnose

import (
	"math"
	"slices"

	"netmon/core/sample"
)

// judgeClean says that the network is not what holds the job up, where enough was measured to say so, for cleanViews in a row. A
// suspicion that is not reported yet is enough to be silent.
func (s *State) judgeClean(g *graph, suspects []suspect, found []sample.Finding) (f sample.Finding, ok bool) {
	wrong := slices.ContainsFunc(suspects, func(x suspect) bool { return x.class != SlowHost }) ||
		slices.ContainsFunc(found, func(f sample.Finding) bool { return f.Class != SlowHost })
	x, measured := suspect{}, false
	if !wrong {
		x, measured = g.clean()
	}
	if !measured {
		s.clean = 0
		return f, false
	}
	if s.clean == 0 {
		s.cleanSince = g.at
	}
	if s.clean++; s.clean < cleanViews {
		return f, false
	}
	return x.finding(s.cleanSince), true
}

// clean tells whether every live host was measured, and what that showed.
func (g *graph) clean() (x suspect, measured bool) {
	hosts := 0
	for _, name := range g.names {
		if !g.hosts[name].live {
			continue
		}
		hosts++
		if number(g.hosts[name].node.Errors) > 0 || !measuredWays(g.of[name]) {
			return x, false
		}
	}
	if hosts < 2 {
		return x, false
	}
	var ways []*way
	for _, w := range g.ways {
		if w.loaded && w.doubtful {
			return x, false
		}
		if w.now {
			ways = append(ways, w)
		}
	}
	e := summarize(ways)
	if !(e.lossRatio < lossRatio) || e.probeRatio >= loadedProbeLoss {
		return x, false
	}
	return e.clean(hosts), true
}

// measuredWays tells whether the ways of a host carried enough, and told enough.
func measuredWays(ways []*way) bool {
	segments, bytes, trip := 0.0, 0.0, false
	for _, w := range ways {
		if !w.now || !w.counted {
			continue
		}
		for i := range w.recent[:w.count] {
			bytes += orZero(w.recent[i].sent)
			segments += orZero(w.recent[i].segments)
		}
		trip = trip || !math.IsNaN(w.rtt) || !math.IsNaN(w.floor)
	}
	return trip && (segments >= cleanSegments || bytes >= cleanBytes)
}

// summary is what ways show that have no fault.
type summary struct {
	ways                       int
	segments, again, lossRatio float64 // NaN where not counted
	probes, lost, probeRatio   float64 // 0 where there is no probe
	rtt, longest               float64 // median and highest of the lowest round trips, NaN where not known
	slowest, usual             float64 // delivery, NaN where not known
}

func summarize(ways []*way) (e summary) {
	e.ways = len(ways)
	var all losses
	for _, w := range ways {
		all.add(w)
	}
	e.segments, e.again, e.lossRatio = all.segments.tried, all.segments.failed, all.segments.ratio()
	e.probes, e.lost, e.probeRatio = all.probes.tried, all.probes.failed, orZero(all.probes.ratio())
	floors := sorted(collect(ways, func(w *way) float64 { return w.floor }))
	e.rtt, e.longest, e.slowest = median(floors), math.NaN(), math.NaN()
	if len(floors) > 0 {
		e.longest = floors[len(floors)-1]
	}
	rates := sorted(collect(ways, func(w *way) float64 { return w.delivery }))
	if e.usual = median(rates); len(rates) > 0 {
		e.slowest = rates[0]
	}
	return e
}
