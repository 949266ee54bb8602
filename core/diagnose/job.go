package diagnose

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// State is what Job remembers of the views before. The zero value is that of a job nobody has looked at. Not safe for concurrent use.
type State struct {
	ways    map[pair]*way
	digests map[int64]digestMark
	lean    map[pair]float64 // which end of a way its trouble leans to: positive its beginning
	linkAt  float64          // when a link seemed slow, or a way long, last
	untold  map[string]bool  // hosts that said something new since collectives could be compared, last
	settled map[key]float64  // when a link was known to be at fault for settledSeconds, last
	memory  persistence

	sequence   uint64  // of the last view
	before     float64 // when it was
	apart      float64 // from the one before it
	clean      int     // views in a row in which nothing was wrong and enough was measured
	cleanSince float64
	last       []sample.Finding
}

// digestMark tells apart what digests of a rank count: one that comes before the next sample counts the same once more.
type digestMark struct{ counted, restarts uint64 }

func (s *State) prepare(v *cluster.View) {
	if s.ways == nil {
		s.ways, s.digests, s.lean = make(map[pair]*way), make(map[int64]digestMark), make(map[pair]float64)
		s.untold, s.settled = make(map[string]bool), make(map[key]float64)
	}
	at := v.TimestampSeconds
	if at < s.before-1 { // the clock was set back: what was seen is kept, as if it were of now
		for _, w := range s.ways {
			w.seenAt = at
		}
		s.memory.setBack(at)
		s.before, s.cleanSince = at, min(s.cleanSince, at)
	}
	if s.before != 0 {
		s.apart = max(0, at-s.before)
	}
}

// Job says what holds a job up, of its newest view and what the state remembers of those before. The findings come with the most
// severe first. The view is not changed; the same view again gives the same findings.
func Job(v *cluster.View, s *State) []sample.Finding {
	if v == nil {
		return []sample.Finding{}
	}
	if s.last != nil && v.Sequence == s.sequence && v.TimestampSeconds == s.before {
		return s.last
	}
	s.prepare(v)
	g := s.read(v)
	suspects := s.judge(g)
	s.sequence, s.before = v.Sequence, v.TimestampSeconds
	found := s.memory.update(g.at, suspects, func(k key) bool { return g.measurable(k) })
	s.settle(g.at)
	if f, clean := s.judgeClean(g, suspects, found); clean {
		found = append(found, f)
	}
	s.last = found
	return found
}

// judge is what this view gives reason to suspect.
func (s *State) judge(g *graph) []suspect {
	stalled := g.stalled()
	for _, x := range stalled {
		for _, w := range g.of[x.host] { // nobody reads at one end: its numbers say nothing of the link
			w.now, w.loaded = false, false
		}
	}
	g.standstill = len(stalled) > 0
	// A queue before a link that is known to be slow lets no packet through at once for seconds now and then.
	long := slices.DeleteFunc(g.longWays(), func(x suspect) bool {
		return s.isSettled(g.at, probeSeconds, key{SlowLink, x.host}) && !g.longForAMinute(x.host)
	})
	slow, long := g.arbitrate(s.besides(g, s.slowLinks(g)), long)
	// A queue that is always full looks like a longer way.
	long = slices.DeleteFunc(long, func(x suspect) bool { return s.strangles(x.host) || s.receivesSlowly(x.host) && g.pilesUp(x.host) })
	for i := range slow {
		// TCP needs some time to fill a way that became longer: until then it looks slow.
		if x := &slow[i]; !(x.ratio < clearlySlow) && len(g.names) > 2 && g.maybeLong(x.host) && !(x.direction == Receive && g.pilesUp(x.host)) {
			x.needs = cmp.Or(x.needs, hitsToReport) + 1
		}
	}
	if len(slow)+len(long) > 0 {
		s.linkAt = g.at
	}
	for name := range g.news {
		s.untold[name] = true
	}
	g.untold = s.untold
	g.linkAtFault = s.isSettled(g.at, settledSeconds)
	g.noLink = math.Abs(g.at-s.linkAt) > noLinkSeconds
	var busy []suspect
	if len(stalled) == 0 && !s.strangled(slow) {
		busy = g.slowHosts(slices.Concat(slow, long))
		slow = s.withoutBusy(slow, busy)
	}
	if g.comparable() {
		clear(s.untold)
	}
	links := slices.Concat(slow, long, s.lossyLinks(g, slow))
	// Beside a fault that is known, who waits for it where looks like many things: what cannot be told is not said.
	links = slices.DeleteFunc(links, func(x suspect) bool { return x.peer != "" && len(g.names) > 2 && g.linkAtFault })
	for i := range links {
		switch x := &links[i]; {
		case x.peer != "" && len(g.names) > 2:
			x.needs = viewsToJudge // the next views may tell which end it is
		case x.class == SlowLink && x.direction == "" && len(g.names) > 2:
			x.needs = hitsToReport + 1 // ... or which direction
		case x.class == SlowLink && len(g.names) == 2:
			x.needs = hitsOfTwo
		}
	}
	return slices.Concat(stalled, links, busy, g.wrongInterfaces())
}

// settle notes which links are known to be at fault since a while.
func (s *State) settle(at float64) {
	for k, h := range s.memory.held {
		isLink := k.class == SlowLink || k.class == LossyLink || k.class == HighLatency
		if isLink && h.reported && h.newest.peer == "" && h.lastSeen-h.onset >= settledSeconds {
			s.settled[k] = h.lastSeen
		}
	}
	maps.DeleteFunc(s.settled, func(_ key, seen float64) bool { return math.Abs(at-seen) > probeSeconds })
}

// isSettled tells whether one of some faults of links, or any if none is named, was known since a while at some time of the last seconds.
func (s *State) isSettled(at, seconds float64, which ...key) bool {
	for k, seen := range s.settled {
		if (len(which) == 0 || slices.Contains(which, k)) && math.Abs(at-seen) <= seconds {
			return true
		}
	}
	return false
}

// measurable tells whether the view could have shown what a key stands for.
func (g *graph) measurable(k key) bool {
	switch k.class {
	case SlowLink:
		return slices.ContainsFunc(g.of[k.host], func(w *way) bool { return w.now && w.loaded })
	case LossyLink, HighLatency:
		return slices.ContainsFunc(g.of[k.host], func(w *way) bool { return w.now })
	case SlowHost:
		return g.news[k.host] && (g.comparable() || g.sharesKnown())
	default:
		return true
	}
}

// comparable tells whether enough collectives were compared across ranks.
func (g *graph) comparable() bool { return g.view.Skew != nil && g.view.Skew.Compared >= leastCompared }
