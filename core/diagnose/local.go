package diagnose

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"netmon/core/sample"
)

// Here is what one monitor knows of its own connections at one moment. What is not known is NaN, nil or "".
type Here struct {
	At        float64 // wall time, in seconds
	Host      string  // of this host
	Rank      *int64
	Transport *sample.Transport
	Ways      []LocalWay
}

// LocalWay is what this process's connections to one other host tell, and probes of it. Counters are totals.
type LocalWay struct {
	Address                                         string
	SentBytes, Segments, Retransmitted, Reported    float64
	RTTSeconds, RTTMinSeconds, DeliveryBytesPerSec  float64 // delivery NaN where the application was the limit
	ProbeMinSeconds, ProbeLastSeconds, Probes, Lost float64
}

// LocalState is what Local remembers. The zero value is that of a monitor that has just begun. Not safe for concurrent use.
type LocalState struct {
	ways       map[string]*localWay
	memory     persistence
	before     float64
	clean      int
	cleanSince float64
	told       []sample.Finding
	toldAt     float64
}

type localWay struct {
	way
	last  LocalWay
	queue baseline // usual queues, as rates are kept
}

// Local says what one process's own ways show. It sees what it sends: of what it receives, of hosts that it has no connection to and of
// ranks that keep others waiting it says nothing, Job does. Call it every localSeconds or so. What it returns is not changed afterwards, and
// the same as before while only numbers change a little.
func Local(h *Here, s *LocalState) []sample.Finding {
	if s.ways == nil {
		s.ways = make(map[string]*localWay)
	}
	if h.At < s.before { // the clock was set back
		s.memory.setBack(h.At)
		s.toldAt, s.cleanSince = h.At, min(s.cleanSince, h.At)
		for _, w := range s.ways {
			w.seenAt = h.At
		}
	}
	ways := s.take(h)
	var suspects []suspect
	if x, ok := localInterface(h); ok {
		suspects = append(suspects, x)
	}
	slow := localSlow(h, ways)
	suspects = append(suspects, slow...)
	queued := queues(ways)
	long := localLong(h, ways, queued)
	if len(slow) == 0 {
		suspects = append(suspects, long...)
	}
	if len(slow) == 0 {
		suspects = append(suspects, localLossy(h, ways)...)
	}
	s.before = h.At
	busy := slices.ContainsFunc(ways, func(w *localWay) bool { return w.loaded })
	found := s.memory.update(h.At, suspects, func(k key) bool { return busy || k.class == WrongInterface })
	doubtful := slices.ContainsFunc(ways, func(w *localWay) bool { return w.baseline.frozen }) ||
		queued && len(long) == 0 && len(localLong(h, ways, false)) > 0
	if f, clean := s.localClean(h, ways, doubtful || len(suspects)+len(found) > 0); clean {
		found = append(found, f)
	}
	if s.told == nil || h.At-s.toldAt >= renewSeconds || !slices.EqualFunc(found, s.told, sameFinding) {
		s.told, s.toldAt = found, h.At
	}
	return s.told
}

func sameFinding(a, b sample.Finding) bool {
	same := func(x, y *string) bool { return x == nil && y == nil || x != nil && y != nil && *x == *y }
	return a.Class == b.Class && a.Severity == b.Severity && same(a.Host, b.Host) && same(a.Peer, b.Peer) &&
		same(a.Direction, b.Direction) && same(a.Interface, b.Interface)
}

// take keeps what is new, and returns the ways that there are now.
func (s *LocalState) take(h *Here) []*localWay {
	apart := h.At - s.before
	ways := make([]*localWay, 0, len(h.Ways))
	busiest, segments := 0.0, 0.0
	for i := range h.Ways {
		now := &h.Ways[i]
		w := s.ways[now.Address]
		if w == nil {
			if len(s.ways) >= mostLocalWays {
				continue
			}
			w = &localWay{way: way{pair: pair{h.Host, now.Address}}}
			w.last = LocalWay{SentBytes: math.NaN(), Segments: math.NaN(), Retransmitted: math.NaN(), Reported: math.NaN()}
			s.ways[now.Address] = w
		}
		busiest, segments = max(busiest, orZero(now.SentBytes-w.last.SentBytes)), max(segments, w.segments)
		ways = append(ways, w)
	}
	for i, w := range ways {
		now := &h.Ways[indexOf(h.Ways, i, w.to)]
		f := unknownFacts()
		f.sent = grown(w.last.SentBytes, now.SentBytes)
		f.segments = grown(w.last.Segments, now.Segments)
		f.retransmitted = grown(w.last.Retransmitted, now.Retransmitted)
		if reported := grown(w.last.Reported, now.Reported); reported > 0 {
			f.retransmitted = max(0, f.retransmitted-reported)
		}
		f.rtt, f.rttMin, f.delivery = now.RTTSeconds, now.RTTMinSeconds, now.DeliveryBytesPerSec
		f.probeMin, f.probeLast, f.probeSent, f.probeLost = now.ProbeMinSeconds, now.ProbeLastSeconds, now.Probes, now.Lost
		f.loaded = f.sent >= max(activeBytes, activeRatio*busiest)
		if apart > 0 && f.sent/apart > f.delivery {
			f.delivery = f.sent / apart
		}
		w.last = *now
		w.take(h.At, f, lossMemoryOf(segments))
		w.settle(h.At)
	}
	if len(s.ways) > len(ways) {
		maps.DeleteFunc(s.ways, func(_ string, w *localWay) bool { return h.At-w.seenAt > baselineSeconds })
	}
	return ways
}

// indexOf is where the entry of an address is, at a place or behind it.
func indexOf(ways []LocalWay, from int, address string) int {
	for i := from; i < len(ways); i++ {
		if ways[i].Address == address {
			return i
		}
	}
	return from
}

// grown is by how much a counter has, NaN where that is not known.
func grown(before, now float64) float64 {
	if now < before {
		return math.NaN()
	}
	return now - before
}

func localInterface(h *Here) (x suspect, ok bool) {
	t := h.Transport
	if t == nil || t.WrongInterface == nil {
		return x, false
	}
	x = suspect{
		class: WrongInterface, severity: Warning, host: h.Host, rank: h.Rank, confidence: 0.8, text: "wrong interface: " + *t.WrongInterface,
		needs: strongHits,
	}
	if t.Interface != nil {
		x.interfaceName = *t.Interface
	}
	if t.Advice != nil {
		x.advice = *t.Advice
	}
	e := numbers{}
	e.add("tcp_bytes_per_second", real(t.TCPBytesPerSecond))
	e.add("rdma_bytes_per_second", real(t.RDMABytesPerSecond))
	e.add("loopback_bytes_per_second", real(t.LoopbackBytesPerSecond))
	x.evidence = e
	return x, true
}

func (h *Here) carrier() string {
	if h.Transport != nil && h.Transport.Interface != nil {
		return *h.Transport.Interface
	}
	return ""
}

// localSlow finds ways that TCP sends less by than it used to, with a longer queue. All of several: this host's link; one: either end's.
func localSlow(h *Here, ways []*localWay) []suspect {
	var bad []*way
	loaded := 0
	for _, w := range ways {
		if !w.loaded || math.IsNaN(w.delivery) {
			continue
		}
		loaded++
		before, _ := w.baseline.usual()
		usualQueue, _ := w.queue.usual()
		slow := w.delivery < slowRatioOfTwo*before && w.way.queue >= queueAloneSeconds && w.way.queue >= strongQueueRatio*usualQueue
		w.baseline.frozen, w.queue.frozen = slow, slow
		w.queue.add(h.At, w.way.queue, math.NaN())
		if slow {
			w.ratio = w.delivery / before
			bad = append(bad, &w.way)
		}
	}
	if len(bad) == 0 || len(bad) > 1 && len(bad) < loaded {
		return nil
	}
	x := suspect{class: SlowLink, severity: Warning, host: h.Host, rank: h.Rank, direction: Transmit, interfaceName: h.carrier()}
	delivery, rtt := median(collect(bad, func(w *way) float64 { return w.delivery })), median(collect(bad, func(w *way) float64 { return w.rtt }))
	before := median(collect(bad, func(w *way) float64 {
		usual, _ := w.baseline.usual()
		return usual
	}))
	path := median(collect(bad, func(w *way) float64 { return w.path }))
	e := numbers{}
	e.add("delivery_bytes_per_second", delivery)
	e.add("usual_delivery_bytes_per_second", before)
	e.add("rtt_seconds", rtt)
	e.add("rtt_min_seconds", path)
	e.add("ways", float64(len(bad)))
	x.evidence, x.ratio = e, delivery/before
	if delivery < 0.25*before {
		x.severity = Critical
	}
	dev := device(x.interfaceName)
	if len(bad) == 1 {
		x.peer, x.confidence = bad[0].to, unsure
		x.text = fmt.Sprintf("slow link to %s: TCP delivers %s, it was %s, and packets wait %s; whether this host sends or that one receives slowly cannot be told from here",
			x.peer, speed(delivery), speed(before), ms(rtt-path))
	} else {
		x.confidence = confident(0.6, delivery < 0.4*before, len(bad) > 2)
		x.text = fmt.Sprintf("slow link of this host: on all %d ways TCP delivers less, %s, it was %s, and packets wait %s", len(bad), speed(delivery), speed(before), ms(rtt-path))
	}
	x.advice = fmt.Sprintf("run `ethtool %s` (speed, duplex) and `tc -s qdisc show dev %s`; the view of the job (monitor.cluster()) compares with other hosts", dev, dev)
	return []suspect{x}
}

// queues tells whether packets of this host stand in a queue before a link that is full: where the network is the limit of one way, packets
// of all others stand in it too.
func queues(ways []*localWay) bool {
	return slices.ContainsFunc(ways, func(w *localWay) bool {
		return w.loaded && !math.IsNaN(w.delivery) && w.way.queue >= queueAloneSeconds
	})
}

// localLong finds the host that is further away than the others, or that all are since a while. Where there is a queue it may never be empty
// when a probe comes: what the connection and the probes of a minute had as their shortest counts then.
func localLong(h *Here, ways []*localWay, queued bool) []suspect {
	var known []*localWay
	floors := make(map[*localWay]float64, len(ways))
	for _, w := range ways {
		if w.probed {
			known = append(known, w)
			if floors[w] = w.floor; queued {
				floors[w] = lowest(w.floor, lowest(w.recent[0].probeMin, w.recent[0].rttMin))
			}
		}
	}
	if len(known) == 0 {
		return nil
	}
	slices.SortFunc(known, func(a, b *localWay) int { return cmp.Compare(floors[b], floors[a]) })
	long := func(w *localWay, than float64) bool {
		floor := floors[w]
		return floor >= than+latencySeconds && floor >= latencyRatio*than && hardFloor([]*way{&w.way}, w.floor)
	}
	x := suspect{class: HighLatency, severity: Warning, host: h.Host, rank: h.Rank, interfaceName: h.carrier(), confidence: unsure}
	e := numbers{}
	switch n := len(known); {
	case n >= 3 && long(known[0], floors[known[1]]):
		x.peer = known[0].to
		far, others := floors[known[0]], floors[known[1]]
		e.add("rtt_min_seconds", far)
		e.add("others_rtt_min_seconds", others)
		x.text = fmt.Sprintf("high latency to %s: at least %s a round trip, to the other hosts %s or less", x.peer, ms(far), ms(others))
	case !slices.ContainsFunc(known, func(w *localWay) bool { return !long(w, w.path) }):
		low := known[n-1]
		if n == 1 {
			x.peer = low.to
		}
		e.add("rtt_min_seconds", floors[low])
		e.add("usual_rtt_min_seconds", low.path)
		x.text = fmt.Sprintf("high latency: at least %s a round trip to all %d hosts that are probed, it was %s", ms(floors[low]), n, ms(low.path))
	default:
		return nil
	}
	x.evidence = e
	x.advice = "look at the path: `ip route get ADDRESS`, a traceroute (a netmon query \"trace\"), tunnels and other zones or racks on the way"
	return []suspect{x}
}

// localLossy finds where this process's segments are lost: on all ways alike, or on one.
func localLossy(h *Here, ways []*localWay) []suspect {
	var all losses
	var worst *localWay
	lossy, measured := 0, 0
	for _, w := range ways {
		all.add(&w.way)
		if !w.counted || w.segments < cleanSegments/recentViews {
			continue
		}
		measured++
		if w.again >= lossRatio*w.segments {
			lossy++
		}
		if worst == nil || w.again > worst.again {
			worst = w
		}
	}
	if worst == nil {
		return nil
	}
	x := suspect{class: LossyLink, severity: Warning, host: h.Host, rank: h.Rank, direction: Transmit, interfaceName: h.carrier()}
	in, where := all, "on all ways"
	if lossy < measured || measured == 1 {
		in = losses{}
		in.add(&worst.way)
		x.peer, where = worst.to, "to "+worst.to
		if rest := all.segments.less(in.segments); rest.tried >= cleanSegments && in.segments.ratio() < lossContrast*rest.ratio() {
			return nil
		}
	}
	if in.segments.failed < lossSegments || !(in.segments.ratio() >= lossRatio) {
		return nil
	}
	e := numbers{}
	e.add("retransmitted_ratio", in.segments.ratio())
	e.add("segments_retransmitted", math.Round(in.segments.failed))
	e.add("segments_sent", math.Round(in.segments.tried))
	if in.probes.tried > 0 {
		e.add("probe_loss_ratio", in.probes.ratio())
	}
	x.evidence = e
	x.confidence = confident(0.5, x.peer == "", in.probes.failed > 0)
	if in.segments.ratio() >= criticalLoss {
		x.severity = Critical
	}
	dev := device(x.interfaceName)
	x.text = fmt.Sprintf("lossy link %s: %s of %.0f TCP segments were sent again", where, percent(in.segments.ratio()), in.segments.tried)
	x.advice = fmt.Sprintf("run `ethtool -S %s` and `ip -s link show dev %s` twice, here and at the other end, and compare errors and drops; the view of the job (monitor.cluster()) tells which end it is", dev, dev)
	return []suspect{x}
}

// localClean says that nothing is wrong with the ways of this process.
func (s *LocalState) localClean(h *Here, ways []*localWay, wrong bool) (f sample.Finding, ok bool) {
	own := make([]*way, 0, len(ways))
	for _, w := range ways {
		own = append(own, &w.way)
	}
	e := summarize(own)
	if wrong || !measuredWays(own) || !(e.lossRatio < lossRatio) || e.probeRatio >= loadedProbeLoss {
		s.clean = 0
		return f, false
	}
	if s.clean == 0 {
		s.cleanSince = h.At
	}
	if s.clean++; s.clean < cleanViews {
		return f, false
	}
	x := e.clean(0)
	x.host, x.rank, x.confidence = h.Host, h.Rank, min(x.confidence, localConfidence)
	x.text = fmt.Sprintf("network clean from here: on %s %s of %.0f TCP segments were sent again, the longest of the lowest round trips is %s",
		wayCount(e.ways), percent(e.lossRatio), e.segments, unknownOr(e.longest, ms))
	x.advice = "what other hosts see is in the view of the job (monitor.cluster())"
	delete(x.evidence, "hosts")
	return x.finding(s.cleanSince), true
}
