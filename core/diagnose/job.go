package diagnose

import (
	"cmp"
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
		s.untold = make(map[string]bool)
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
	slow, long := g.arbitrate(s.slowLinks(g), g.longWays())
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

// culprit is a host's direction that bad ways have in common.
type culprit struct {
	host, direction, peer string
	bad                   []*way
	sure                  bool // of the host
}

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

func ones(is bool) int {
	if is {
		return 1
	}
	return 0
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

func mean[T any](all []T, field func(T) float64) float64 {
	sum := 0.0
	for _, x := range all {
		sum += field(x)
	}
	return sum / float64(len(all))
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

// mostlyNew tells whether the view says something new of half of the ways at least: views come twice as often as digests.
func mostlyNew(ways []*way) bool {
	count := 0
	for _, w := range ways {
		count += ones(w.now)
	}
	return count > 0 && 2*count >= len(ways)
}

// medianOfLow is the median of the lower half: half the hosts may have a longer way between them and the rest.
func medianOfLow(values []float64) float64 {
	return median(values[:(len(values)+1)/2])
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

// fresh tells whether what is known of a way is of lately: not all hosts say something new for every view.
func (g *graph) fresh(w *way) bool {
	return w.now || !g.standstill && g.at-w.seenAt <= heldSeconds
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

func sorted(values []float64) []float64 {
	slices.Sort(values)
	return values
}

// medianWithout is the median of sorted values but one of them; NaN where there is no other.
func medianWithout(values []float64, one float64) float64 {
	if math.IsNaN(one) {
		return medianSorted(len(values), func(i int) float64 { return values[i] })
	}
	at, found := slices.BinarySearch(values, one)
	if !found {
		return medianSorted(len(values), func(i int) float64 { return values[i] })
	}
	return medianSorted(len(values)-1, func(i int) float64 {
		if i >= at {
			i++
		}
		return values[i]
	})
}

func medianSorted(n int, value func(int) float64) float64 {
	switch {
	case n <= 0:
		return math.NaN()
	case n%2 == 1:
		return value(n / 2)
	}
	return value(n/2-1) + (value(n/2)-value(n/2-1))/2
}
