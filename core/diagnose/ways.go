package diagnose

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"netmon/core/cluster"
)

// fresh tells whether what is known of a way is of lately: not all hosts say something new for every view.
func (g *graph) fresh(w *way) bool {
	return w.now || !g.standstill && g.at-w.seenAt <= heldSeconds
}

// interfaceOf is the interface that carries a host's traffic, "" where it is not known.
func (g *graph) interfaceOf(name string) string {
	if h := g.hosts[name]; h != nil && h.node.Interface != nil {
		return *h.node.Interface
	}
	return ""
}

// pair is a way from one host to another.
type pair struct{ from, to string }

// facts are what one view says of a way; NaN is not known. Of several processes' connections, counts are added up, round trips are
// those of the connection that carried most, and delivery is the highest: they share what limits them. Each process counts in a
// window of its own, so what they carried is added up as rates.
type facts struct {
	sent, segments, retransmitted float64
	carried                       float64 // bytes a second
	rtt, rttMin, delivery         float64
	probeMin, probeLast           float64
	probeSent, probeLost          float64
	loaded                        bool // it carried a good part of what the busiest way did
}

func unknownFacts() facts {
	n := math.NaN()
	return facts{n, n, n, n, n, n, n, n, n, n, n, false}
}

// way is what is known of a way now and was before.
type way struct {
	pair
	recent   [recentViews]facts // newest first
	scratch  [recentViews]float64
	count    int
	seenAt   float64 // of the newest facts, wall time of the view
	now      bool    // the view being judged has facts of it
	baseline baseline
	// Segments sent, and of them again; older ones weigh less. Rare losses need some time to be told apart.
	segments, again float64
	counted         bool
	// limited is the share of views in which TCP said that the network was the limit; older ones weigh less.
	limited float64

	// What follows is made of it anew with every view.
	rtt, delivery float64 // medians of the recent
	floor         float64 // lowest round trip of the recent: what the path takes now, or a queue that never empties
	probed        bool    // floor is of probes
	path          float64 // lowest round trip that was ever seen: what a queue adds is above it
	queue         float64 // rtt beyond what the path is known to take
	loaded        bool    // carried enough to be judged
	ratio         float64 // of the rate to what it is compared with, NaN where there is nothing
	strong        bool    // and the queue is that much longer that no noise is
	doubtful      bool    // has a long queue, and nothing to compare its rate with
}

// baseline keeps what a way did in the last baselineSeconds, in parts that are forgotten one by one.
type baseline struct {
	parts [5]struct {
		begins, rtt float64               // lowest
		deliveries  [baselineMost]float64 // the newest
		count       int
	}
	frozen bool // while the way is at fault, its better days are not forgotten
}

func (b *baseline) add(at, delivery, rtt float64) {
	newest := &b.parts[0]
	const span = baselineSeconds / float64(len(b.parts))
	if newest.begins == 0 || math.Abs(at-newest.begins) >= span && !b.frozen { // before it: the clock was set back
		copy(b.parts[1:], b.parts[:])
		newest.begins, newest.rtt, newest.count = at, math.NaN(), 0
	}
	newest.rtt = lowest(newest.rtt, rtt)
	if !math.IsNaN(delivery) && !b.frozen {
		newest.deliveries[newest.count%baselineMost] = delivery
		newest.count++
	}
}

// usual are the delivery of the best part, the median in it, and the lowest round trip. Single estimates are far too high now and then:
// over a link of 200 Mbit/s 2,288 after losses.
func (b *baseline) usual() (delivery, rtt float64) {
	delivery, rtt = math.NaN(), math.NaN()
	for i := range b.parts {
		if p := &b.parts[i]; p.begins != 0 {
			rtt = lowest(rtt, p.rtt)
			if p.count >= baselineLeast {
				delivery = highest(delivery, median(slices.Clone(p.deliveries[:min(p.count, baselineMost)])))
			}
		}
	}
	return delivery, rtt
}

// lossMemoryOf is how much of what was counted before still counts, by the segments that are remembered of the busiest way. All ways
// forget alike, else those with few segments would have clean ones of before beside what others lose now.
func lossMemoryOf(segments float64) float64 {
	return min(lossMemory, lossRemembered/max(segments, 1))
}

// take keeps what a view says. memory is what losses before it still count.
func (w *way) take(at float64, f facts, memory float64) {
	copy(w.recent[1:], w.recent[:])
	w.recent[0] = f
	w.count = min(w.count+1, len(w.recent))
	w.seenAt, w.now = at, true
	w.segments, w.again = w.segments*memory, w.again*memory
	if !math.IsNaN(f.segments) && !math.IsNaN(f.retransmitted) {
		w.segments, w.again, w.counted = w.segments+f.segments, w.again+f.retransmitted, true
	}
}

// each are the recent values of a field that are known, until the next call.
func (w *way) each(field func(*facts) float64) (values []float64) {
	values = w.scratch[:0]
	for i := range w.recent[:w.count] {
		if v := field(&w.recent[i]); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

// settle makes the numbers that are judged.
func (w *way) settle(at float64) {
	w.loaded = w.now && w.recent[0].loaded
	w.rtt = median(w.each(func(f *facts) float64 {
		if !f.loaded {
			return math.NaN()
		}
		return f.rtt
	}))
	w.delivery = median(w.each(func(f *facts) float64 {
		if !f.loaded {
			return math.NaN()
		}
		return f.delivery
	}))
	limited := 0.0
	if w.recent[0].loaded && !math.IsNaN(w.recent[0].delivery) {
		limited = 1
	}
	w.limited = limitedMemory*w.limited + (1-limitedMemory)*limited
	// A single round trip says less than the lowest of several.
	w.floor = least(w.each(func(f *facts) float64 { return f.probeLast }))
	if w.probed = !math.IsNaN(w.floor); !w.probed {
		w.floor = least(w.each(func(f *facts) float64 {
			if !f.loaded {
				return math.NaN()
			}
			return f.rtt
		}))
	}
	_, w.path = w.baseline.usual()
	w.path = lowest(w.path, least(w.each(func(f *facts) float64 { return lowest(f.rttMin, lowest(f.probeMin, f.probeLast)) })))
	w.path = lowest(w.path, w.floor) // of a path that became longer it is too low
	w.queue = w.rtt - w.path
	w.baseline.add(at, w.delivery, w.floor)
}

// host is what a view says of a node.
type host struct {
	name  string
	node  *cluster.Node
	ranks []*cluster.Rank
	live  bool
}

// graph is a view as the classes judge it.
type graph struct {
	at     float64
	view   *cluster.View
	hosts  map[string]*host
	names  []string // of hosts, in order
	ways   []*way   // that the view or recent ones tell of, in order
	ranks  []*cluster.Rank
	hostOf map[int64]string
	of     map[string][]*way // those that begin or end at a host
	news   map[string]bool   // hosts that say something new in this view
	// standstill: a rank is stalled, and what is known of ways is of before.
	standstill bool
	untold     map[string]bool // hosts of which something new was not judged by compared collectives yet
	noLink     bool            // no link seemed slow, and no way long, for noLinkSeconds
	// linkAtFault: a link is known to be at fault since a while.
	linkAtFault bool
}

// read takes a view's numbers into the memory.
func (s *State) read(v *cluster.View) *graph {
	g := &graph{at: v.TimestampSeconds, view: v, hosts: make(map[string]*host), hostOf: make(map[int64]string), of: make(map[string][]*way),
		news: make(map[string]bool)}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if g.hosts[n.Name] == nil {
			g.hosts[n.Name] = &host{name: n.Name, node: n, live: n.State == "live"}
			g.names = append(g.names, n.Name)
		}
	}
	for i := range v.Ranks {
		r := &v.Ranks[i]
		g.ranks = append(g.ranks, r)
		if r.Node == nil {
			continue
		}
		if r.Rank != nil {
			g.hostOf[*r.Rank] = *r.Node
		}
		if h := g.hosts[*r.Node]; h != nil {
			h.ranks = append(h.ranks, r)
		}
	}
	slices.Sort(g.names)
	for _, w := range s.ways {
		w.now = false
	}
	all, busiest, segments := s.facts(g), 0.0, 0.0
	for p, f := range all {
		busiest = max(busiest, orZero(f.sent))
		if w := s.ways[p]; w != nil {
			segments = max(segments, w.segments)
		}
	}
	for p, f := range all {
		f.loaded = f.sent >= max(activeBytes, activeRatio*busiest)
		if f.carried > f.delivery {
			f.delivery = f.carried // the estimate of a moment; more was carried all the time
		}
		w := s.ways[p]
		if w == nil {
			if len(s.ways) >= mostWays {
				continue
			}
			w = &way{pair: p}
			s.ways[p] = w
		}
		w.take(g.at, f, lossMemoryOf(segments))
	}
	for p, w := range s.ways {
		switch {
		case g.at-w.seenAt > baselineSeconds, g.hosts[p.from] == nil && !w.now:
			delete(s.ways, p)
			delete(s.lean, p)
			delete(s.lean, pair{p.to, p.from})
		default:
			if w.now {
				w.settle(g.at)
			} else {
				// Views may come twice as often as digests: what the other half said just before still holds.
				w.loaded = w.recent[0].loaded && g.at-w.seenAt <= viewsToHold*s.apart
			}
			g.ways = append(g.ways, w)
		}
	}
	slices.SortFunc(g.ways, byPair)
	for _, w := range g.ways {
		g.of[w.from], g.of[w.to] = append(g.of[w.from], w), append(g.of[w.to], w)
	}
	return g
}

func byPair(a, b *way) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) }

// facts puts together what the processes of each host say of the ways to others, those only that say something new.
func (s *State) facts(g *graph) map[pair]facts {
	all := make(map[pair]facts)
	most := make(map[pair]float64)
	if len(s.digests) > len(g.ranks) { // of ranks that the view does not have any more
		maps.DeleteFunc(s.digests, func(rank int64, _ digestMark) bool { return g.hostOf[rank] == "" })
	}
	for _, r := range g.ranks {
		if r.State != "live" || r.Node == nil || !s.isNew(r) {
			continue
		}
		g.news[*r.Node] = true
		for i := range r.Peers {
			peer := &r.Peers[i]
			to := ""
			if peer.Node != nil {
				to = *peer.Node
			} else if peer.Rank != nil {
				to = g.hostOf[*peer.Rank]
			}
			if to == "" || to == *r.Node || g.hosts[to] == nil {
				continue
			}
			p := pair{*r.Node, to}
			f, has := all[p]
			if !has {
				f = unknownFacts()
				most[p] = -1
			}
			sent := number(peer.SentBytes)
			f.sent, f.carried = sum(f.sent, sent), sum(f.carried, sent/g.windowOf(r))
			again, segments := number(peer.SegmentsRetransmitted), number(peer.SegmentsSent)
			if ratio := real(peer.RetransmittedRatio); (math.IsNaN(segments) || math.IsNaN(again)) && !math.IsNaN(ratio) && sent >= 0 {
				segments = math.Ceil(sent / segmentBytes)
				again = ratio * segments
			}
			if !math.IsNaN(segments) && !math.IsNaN(again) {
				f.segments, f.retransmitted = sum(f.segments, segments), sum(f.retransmitted, min(again, segments))
			}
			f.delivery = highest(f.delivery, positive(peer.DeliveryBytesPerSecond))
			f.rttMin = lowest(f.rttMin, positive(peer.RTTMinSeconds))
			f.probeMin = lowest(f.probeMin, positive(peer.ProbeRTTMinSeconds))
			f.probeLast = lowest(f.probeLast, positive(peer.ProbeRTTLastSeconds))
			if probes, lost := number(peer.ProbeSent), number(peer.ProbeLost); probes > 0 && lost <= probes {
				f.probeSent, f.probeLost = sum(f.probeSent, probes), sum(f.probeLost, lost)
			}
			if carried := orZero(sent); carried > most[p] {
				if rtt := positive(peer.RTTSeconds); !math.IsNaN(rtt) {
					f.rtt, most[p] = rtt, carried
				}
			}
			all[p] = f
		}
	}
	return all
}

// windowOf is the time in which a rank counted; where its view does not say it, that of its node's freshest digest.
func (g *graph) windowOf(r *cluster.Rank) float64 {
	if own := positive(r.WindowSeconds); !math.IsNaN(own) {
		return own
	}
	if h := g.hosts[*r.Node]; h != nil {
		return positive(h.node.WindowSeconds)
	}
	return math.NaN()
}

// isNew tells whether a rank's digest counts something else than in the view before. Without a number, age tells.
func (s *State) isNew(r *cluster.Rank) bool {
	if r.Rank == nil || r.DigestSequence == nil {
		return s.before == 0 || !(real(r.AgeSeconds) > s.apart)
	}
	mark := digestMark{*r.DigestSequence, r.Restarts}
	if r.Sampled != nil {
		mark.counted = *r.Sampled
	}
	if s.digests[*r.Rank] == mark {
		return false
	}
	s.digests[*r.Rank] = mark
	return true
}
