package diagnose

import (
	"math"
	"slices"
)

// trials are how often something was tried and how often it failed.
type trials struct{ failed, tried float64 }

func (t *trials) add(failed, tried float64) {
	t.failed += failed
	t.tried += tried
}

func (t trials) less(o trials) trials { return trials{t.failed - o.failed, t.tried - o.tried} }

func (t trials) ratio() float64 {
	if t.tried <= 0 {
		return math.NaN()
	}
	return t.failed / t.tried
}

// likelihood is the logarithm of that of the trials, were their ratio the true one.
func (t trials) likelihood() float64 {
	p := t.ratio()
	if !(p > 0) || p >= 1 {
		return 0
	}
	return t.failed*math.Log(p) + (t.tried-t.failed)*math.Log(1-p)
}

// evidence is how much more likely the trials are if those of a part failed more often than the rest, as a logarithm.
func evidence(part, all trials) float64 {
	rest := all.less(part)
	if rest.tried > 0 && !(part.ratio() > rest.ratio()) || part.failed <= 0 {
		return 0
	}
	return part.likelihood() + rest.likelihood() - all.likelihood()
}

// losses are what was lost on some ways.
type losses struct{ segments, probes trials }

func (l *losses) add(w *way) {
	if w.counted && w.now {
		l.segments.add(w.again, w.segments)
	}
	l.addProbes(w)
}

func (l *losses) addProbes(w *way) {
	if f := &w.recent[0]; w.now && f.probeSent > 0 {
		l.probes.add(f.probeLost, f.probeSent)
	}
}

func (l losses) evidence(all losses) float64 {
	return (evidence(l.segments, all.segments) + evidence(l.probes, all.probes)) / lossBursts
}

type lossCandidate struct {
	culprit
	in, out losses
	gain    float64
}

// lossyLinks finds where segments are lost: of all hosts, their directions and the single ways, that one which explains best which ways
// lose how much. A probe goes both ways, so it speaks for both directions of a host.
func (s *State) lossyLinks(g *graph, slow []suspect) (suspects []suspect) {
	const most = 4
	isSlow := func(name string) bool {
		return slices.ContainsFunc(slow, func(x suspect) bool { return x.host == name || x.peer == name }) || s.memory.reports(SlowLink, name)
	}
	done := make(map[*way]bool)
	for range most {
		c, ok := g.lossiest(done)
		if !ok {
			return suspects
		}
		for _, w := range c.bad {
			done[w] = true
		}
		// The queue before a slow link overflows: that is what is the matter there, and what is lost follows of it.
		if isSlow(c.host) || c.peer != "" && isSlow(c.peer) {
			continue
		}
		suspects = append(suspects, g.lossyLink(c))
	}
	return suspects
}

func (g *graph) lossiest(done map[*way]bool) (best lossCandidate, ok bool) {
	var all losses
	losing := func(w *way) bool {
		f := &w.recent[0]
		return w.now && (w.counted && w.again >= 1 && w.again >= lossRatio/2*w.segments || f.probeLost > 0)
	}
	var bad []*way
	for _, w := range g.ways {
		if done[w] {
			continue
		}
		all.add(w)
		if losing(w) {
			bad = append(bad, w)
		}
	}
	if len(bad) == 0 {
		return best, false
	}
	var candidates []lossCandidate
	consider := func(c culprit, in losses) {
		x := lossCandidate{culprit: c, in: in, gain: in.evidence(all)}
		x.out = losses{all.segments.less(in.segments), all.probes.less(in.probes)}
		candidates = append(candidates, x)
	}
	for _, name := range endsOf(bad, losing) {
		var in [3]losses // transmit, receive, both
		var ways [3][]*way
		for _, w := range g.of[name] {
			if done[w] {
				continue
			}
			i := 0
			if w.to == name {
				i = 1
			}
			in[i].add(w)
			in[1-i].addProbes(w)
			in[2].add(w)
			ways[i], ways[2] = append(ways[i], w), append(ways[2], w)
		}
		for i, direction := range []string{Transmit, Receive, ""} {
			if len(ways[i]) > 0 {
				consider(culprit{host: name, direction: direction, bad: ways[i]}, in[i])
			}
		}
	}
	slices.SortStableFunc(bad, func(a, b *way) int { return int(math.Copysign(1, b.again-a.again)) })
	for _, w := range bad[:min(len(bad), 8)] {
		var in losses
		in.add(w)
		for _, back := range g.of[w.to] {
			if back.from == w.to && back.to == w.from {
				in.addProbes(back)
			}
		}
		consider(culprit{host: w.from, direction: Transmit, peer: w.to, bad: []*way{w}}, in)
	}
	slices.SortStableFunc(candidates, func(a, b lossCandidate) int {
		switch {
		case a.gain > b.gain:
			return -1
		case a.gain < b.gain:
			return 1
		}
		return 0
	})
	best = candidates[0]
	if !best.worth(len(g.names)) {
		return best, false
	}
	// The next best of another host: does it explain as much?
	best.sure = true
	for _, c := range candidates[1:] {
		if best.gain-c.gain >= lossLead {
			break
		}
		switch {
		case c.host == best.host && c.peer == "" && best.peer != "" && len(c.bad) == 1, c.host == best.host && best.peer == "":
			continue // the same in other words
		case best.peer != "" && c.peer == "" && (c.host == best.host || c.host == best.peer):
			best.sure = false
		case c.peer == "" || best.peer == "" && c.host != best.host && c.peer != best.host:
			best.sure = false
			if best.peer == "" && slices.ContainsFunc(best.bad, func(w *way) bool { return w.from == c.host || w.to == c.host }) {
				best.peer = c.host
			}
		}
	}
	if best.peer != "" {
		best.sure = false
		if losers := slices.DeleteFunc(slices.Clone(best.bad), func(w *way) bool { return !losing(w) }); len(losers) == 1 {
			best.host, best.direction, best.peer = losers[0].from, Transmit, losers[0].to
		}
	}
	return best, true
}

// worth tells whether what was lost is enough to speak of, and whose. Of two hosts there is nothing to compare with.
func (c *lossCandidate) worth(hosts int) bool {
	segments, probes := c.in.segments, c.in.probes
	gain := c.gain
	bySegments := segments.failed >= lossSegments && segments.ratio() >= lossRatio
	byProbes := probes.failed >= 3 && probes.ratio() >= loadedProbeLoss
	rest := c.out.segments
	if hosts == 2 && bySegments && !(rest.tried > 0) {
		gain = lossEvidence
	}
	if rest.tried >= cleanSegments && segments.ratio() < lossContrast*rest.ratio() {
		bySegments = false
	}
	if c.out.probes.tried > 0 && probes.ratio() < lossContrast*c.out.probes.ratio() {
		byProbes = false
	}
	return (bySegments || byProbes) && gain >= lossEvidence
}
