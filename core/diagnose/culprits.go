package diagnose

import (
	"cmp"
	"math"
	"slices"
)

// culprit is a host's direction that bad ways have in common.
type culprit struct {
	host, direction, peer string
	bad                   []*way
	sure                  bool // of the host
}

// culprits are the hosts, with directions, that the bad ones of ways have in common. What cannot be told is said with both ends, or not.
func (s *State) culprits(g *graph, bad, ways []*way) (found []culprit) {
	const most = 8
	bad = slices.Clone(bad)
	isBad := make(map[*way]bool)
	for _, w := range bad {
		isBad[w] = true
	}
	for len(bad) > 0 && len(found) < most {
		candidates := candidatesOf(bad, ways, isBad)
		if len(candidates) == 0 {
			return found
		}
		tied := tiedWith(candidates)
		c, ok := s.choose(g, tied)
		if !ok {
			return found
		}
		found = append(found, c)
		bad = slices.DeleteFunc(bad, func(w *way) bool { return slices.Contains(c.bad, w) })
		for _, w := range c.bad {
			delete(isBad, w)
		}
	}
	return found
}

// tiedWith are the candidates that explain as much as the first, of the same ways: those of others are another fault.
func tiedWith(candidates []candidate) (tied []candidate) {
	first := &candidates[0]
	for _, c := range candidates {
		if c.score == first.score && slices.ContainsFunc(c.bad, func(w *way) bool { return slices.Contains(first.bad, w) }) {
			tied = append(tied, c)
		}
	}
	return tied
}

type candidate struct {
	host, direction string
	bad             []*way
	score           int
}

// candidatesOf are the hosts and directions most of whose ways are bad, the best first.
func candidatesOf(bad, ways []*way, isBad map[*way]bool) (all []candidate) {
	type tally struct{ bad, good [2][]*way } // by from, to
	hosts := make(map[string]*tally)
	for _, w := range bad {
		for _, h := range []string{w.from, w.to} {
			if hosts[h] == nil {
				hosts[h] = &tally{}
			}
		}
	}
	for _, w := range ways {
		for i, h := range []string{w.from, w.to} {
			if t := hosts[h]; t != nil {
				if isBad[w] {
					t.bad[i] = append(t.bad[i], w)
				} else {
					t.good[i] = append(t.good[i], w)
				}
			}
		}
	}
	for h, t := range hosts {
		nets := [2]int{len(t.bad[0]) - len(t.good[0]), len(t.bad[1]) - len(t.good[1])}
		for i, direction := range []string{Transmit, Receive} {
			if nets[i] > 0 {
				all = append(all, candidate{h, direction, t.bad[i], nets[i]})
			}
		}
		if nets[0] > 0 && nets[1] > 0 {
			both := slices.Concat(t.bad[0], t.bad[1])
			slices.SortFunc(both, byPair)
			all = append(all, candidate{h, "", both, nets[0] + nets[1]})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.host, b.host), cmp.Compare(a.direction, b.direction))
	})
	return all
}

// choose decides between hosts that explain as many bad ways: the other ways of the culprit are held up too, because what they carry,
// or its acknowledgements, stands in the same queue.
func (s *State) choose(g *graph, tied []candidate) (c culprit, ok bool) {
	if len(tied) == 1 {
		return oneDirection(tied[0]), true
	}
	common := tied[0].bad
	for _, t := range tied[1:] {
		if len(t.bad) != len(common) || !slices.Equal(t.bad, common) {
			common = nil
		}
	}
	if len(tied) == 2 && len(common) > 0 {
		from, to := tied[0], tied[1]
		if from.direction == Receive || from.direction == "" && from.host > to.host {
			from, to = to, from
		}
		p := pair{from.host, to.host}
		lean := g.lean(p)
		if !math.IsNaN(lean) {
			lean = leanMemory*s.lean[p] + (1-leanMemory)*lean
			if len(s.lean) < mostWays {
				s.lean[p] = lean
			}
		}
		switch limit := math.Log(leanRatio) * (1 - leanMemory); {
		case lean >= limit:
			return culprit{host: from.host, direction: from.direction, bad: common, sure: true}, true
		case lean <= -limit:
			return culprit{host: to.host, direction: to.direction, bad: common, sure: true}, true
		}
		return culprit{host: from.host, direction: from.direction, peer: to.host, bad: common}, true
	}
	// All are slower than they were, as where the slowest paces the others. The longest queue says who that is.
	slices.SortStableFunc(tied, func(a, b candidate) int { return cmp.Compare(g.held(b.host, nil), g.held(a.host, nil)) })
	first := g.held(tied[0].host, nil)
	second := math.NaN()
	for _, t := range tied[1:] {
		if t.host != tied[0].host {
			second = g.held(t.host, nil)
			break
		}
	}
	if first >= leanRatio*second {
		pick, rate := tied[0], func(w *way) float64 { return w.delivery }
		for _, t := range tied[1:] { // of its directions, the one that carries less
			if t.host == pick.host && mean(t.bad, rate) < mean(pick.bad, rate) {
				pick = t
			}
		}
		return culprit{host: pick.host, direction: pick.direction, bad: pick.bad, sure: true}, true
	}
	return culprit{}, false
}

// oneDirection leaves of a host's bad ways those of the direction that carries much less, where both seem to be bad: the limit of one holds
// up the acknowledgements of the other.
func oneDirection(x candidate) culprit {
	c := culprit{host: x.host, direction: x.direction, bad: x.bad, sure: true}
	if c.direction != "" {
		return c
	}
	var out, in []*way
	for _, w := range x.bad {
		if w.from == x.host {
			out = append(out, w)
		} else {
			in = append(in, w)
		}
	}
	rate, limited := func(w *way) float64 { return w.delivery }, func(w *way) float64 { return w.limited }
	sends, receives, apart := mean(out, rate), mean(in, rate), mean(out, limited)-mean(in, limited)
	switch {
	case sends < oneDirectionRatio*receives, apart >= limitedApart && !(receives < oneDirectionRatio*sends):
		c.direction = Transmit
	case receives < oneDirectionRatio*sends, apart <= -limitedApart:
		c.direction = Receive
	}
	return c
}

// lean is how much longer the other ways of the beginning of a pair are held up than those of its end, as a logarithm; NaN where
// neither has others.
func (g *graph) lean(p pair) float64 {
	between := func(w *way) bool { return w.from == p.from && w.to == p.to || w.from == p.to && w.to == p.from }
	from, to := g.held(p.from, between), g.held(p.to, between)
	if math.IsNaN(from) || math.IsNaN(to) {
		return math.NaN()
	}
	const least = 20e-6 // differences below are noise
	return max(-3, min(3, math.Log((from+least)/(to+least))))
}

// held is for how long packets of a host are held up, on its ways but those that without names. Probes come at any moment, so their mean
// over the newest views counts how often a queue is there, too: a connection's round trip is that of its own last burst. Without
// probes it is the median over its loaded ways.
func (g *graph) held(name string, without func(*way) bool) float64 {
	var loaded, probed []float64
	for _, w := range g.of[name] {
		if without != nil && without(w) || !g.fresh(w) {
			continue
		}
		if w.loaded && !math.IsNaN(w.queue) {
			loaded = append(loaded, max(0, w.queue))
		}
		low := lowest(w.floor, least(w.each(func(f *facts) float64 { return f.probeMin })))
		for _, last := range w.each(func(f *facts) float64 { return f.probeLast }) {
			probed = append(probed, max(0, last-low))
		}
	}
	if len(probed) >= heldProbes || len(loaded) == 0 {
		return mean(probed, func(seconds float64) float64 { return seconds })
	}
	return median(loaded)
}

func distinct(ways []*way, name string) int {
	ends := make(map[string]bool)
	for _, w := range ways {
		ends[other(w, name)] = true
	}
	return len(ends)
}

func other(w *way, name string) string {
	if w.from == name {
		return w.to
	}
	return w.from
}

// endsOf are the hosts at the ends of ways, that of most first; 32 at most.
func endsOf(ways []*way, which func(*way) bool) []string {
	const most = 32
	count := make(map[string]int)
	for _, w := range ways {
		if which(w) {
			count[w.from]++
			count[w.to]++
		}
	}
	names := make([]string, 0, len(count))
	for name := range count {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	return names[:min(len(names), most)]
}
