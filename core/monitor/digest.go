package monitor

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"netmon/core/cluster"
	"netmon/core/collective"
	"netmon/core/sample"
	"netmon/core/stats"
	"netmon/core/units"
)

// leastDigestWindow is the shortest time that rates of a digest cover, once the monitor is that old.
const leastDigestWindow = time.Second

// digests is what one digest leaves for the next.
type digests struct {
	process uint64 // wall time at which the monitor was started, in ns
	node    uint64

	mu       sync.Mutex // guards what follows
	sequence uint64
	newest   float64 // monotonic seconds of the newest sample that the last digest told of
}

// newDigests names process and node.
func newDigests(m *Monitor) digests {
	process := uint64(m.clock.Wall().UnixNano())
	return digests{process: process, node: nodeOf(m.host, process)}
}

// nodeOf is a number for a network namespace of a running system; where neither has a name, the process is a node of its own.
func nodeOf(h *sample.Host, process uint64) uint64 {
	of := fnv.New64a()
	switch {
	case h.BootID != nil:
		of.Write([]byte(*h.BootID))
	case h.Hostname != nil:
		of.Write([]byte(*h.Hostname))
	default:
		fmt.Fprintf(of, "%d", process)
	}
	if h.NetworkNamespace != nil {
		fmt.Fprintf(of, " %d", *h.NetworkNamespace)
	}
	return of.Sum64()
}

// Digest is what this process says of itself and its node, encoded: at most cluster.MostDigestBytes. It reads what the loop has
// sampled, and waits for no measurement.
// Errors: ErrClosed.
func (m *Monitor) Digest() ([]byte, error) {
	if m.closing.Load() {
		return nil, ErrClosed
	}
	m.digests.mu.Lock()
	defer m.digests.mu.Unlock()
	var text []byte
	m.charge(func() {
		d := m.composeDigest()
		text = d.Encode()
	})
	return text, nil
}

// composeDigest makes the next digest. The caller holds the lock of digests.
func (m *Monitor) composeDigest() cluster.Digest {
	of := &m.digests
	d := cluster.UnknownDigest()
	of.sequence++
	d.Sequence, d.Process, d.Node, d.Interval = of.sequence, of.process, of.node, m.config.ClusterInterval
	d.WallSeconds = wallSeconds(m.clock.Wall())
	if m.host.Hostname != nil {
		d.Hostname = *m.host.Hostname
	}
	j := &m.job.Load().document
	d.Rank, d.LocalRank, d.WorldSize = numberOf(j.Rank), numberOf(j.LocalRank), numberOf(j.WorldSize)

	samples := m.history.since(0)
	if len(samples) == 0 {
		return d // a defect kept the first sample from being taken
	}
	window := digestWindow(samples, of.newest)
	newest := window[len(window)-1]
	of.newest, d.Sampled = newest.MonotonicSeconds, newest.Sequence
	digestNode(&d, window)
	digestPeers(&d, window)
	digestCollectives(&d, window)
	if m.collectives != nil {
		begin, end := units.Duration(window[0].MonotonicSeconds), units.Duration(newest.MonotonicSeconds)
		m.collectives.digest(&d, begin, end, m.clock.Monotonic(), m.config.ClusterInterval)
	}
	d.Phase = m.currentPhase()
	return d
}

// digestWindow are the samples of the loop that a digest covers, the one at which its window begins included: that nearest to the
// newest one of the digest before, at least leastDigestWindow before the newest of all.
func digestWindow(samples []*sample.Sample, before float64) []*sample.Sample {
	newest := samples[len(samples)-1].MonotonicSeconds
	first := 0
	for i, s := range samples {
		const slack = 1e-3 // the loop is not late by less
		if newest-s.MonotonicSeconds < units.Seconds(leastDigestWindow)-slack {
			break
		}
		if before != 0 && math.Abs(s.MonotonicSeconds-before) <= math.Abs(samples[first].MonotonicSeconds-before) || before == 0 {
			first = i
		}
	}
	return samples[first:]
}

func numberOf(value *int64) uint64 {
	if value == nil || *value < 0 {
		return cluster.None
	}
	return uint64(*value)
}

// grown is by how much a counter has grown, cluster.None where that is not known.
func grown(before, now *uint64) uint64 {
	if before == nil || now == nil || *now < *before {
		return cluster.None
	}
	return *now - *before
}

// sum adds up, cluster.None if one is not known.
func sum(counts ...uint64) (all uint64) {
	for _, c := range counts {
		if c == cluster.None {
			return cluster.None
		}
		all += c
	}
	return all
}

// digestNode says what is the same for all processes of the node.
func digestNode(d *cluster.Digest, window []*sample.Sample) {
	base, newest := window[0], window[len(window)-1]
	elapsed := newest.MonotonicSeconds - base.MonotonicSeconds
	perSecond := func(bytes uint64) float64 {
		if bytes == cluster.None || elapsed <= 0 {
			return math.NaN()
		}
		return float64(bytes) / elapsed
	}
	if elapsed > 0 {
		d.Window = units.Duration(elapsed)
	}
	if t := newest.Totals; t != nil {
		d.ReceiveBytesTotal, d.TransmitBytesTotal = count(t.ReceiveBytesTotal), count(t.TransmitBytesTotal)
		d.DropsTotal = sum(count(t.ReceiveDropsTotal), count(t.TransmitDropsTotal))
		d.ErrorsTotal = sum(count(t.ReceiveErrorsTotal), count(t.TransmitErrorsTotal))
		d.CountedMicroseconds = uint64(units.Duration(newest.Self.UptimeSeconds) / time.Microsecond)
		if t.CapacityBitsPerSecond != nil {
			d.CapacityBitsPerSecond = float64(*t.CapacityBitsPerSecond)
		}
		if b := base.Totals; b != nil && elapsed > 0 {
			d.ReceiveBytesPerSecond = perSecond(grown(b.ReceiveBytesTotal, t.ReceiveBytesTotal))
			d.TransmitBytesPerSecond = perSecond(grown(b.TransmitBytesTotal, t.TransmitBytesTotal))
			d.Drops = sum(grown(b.ReceiveDropsTotal, t.ReceiveDropsTotal), grown(b.TransmitDropsTotal, t.TransmitDropsTotal))
			d.Errors = sum(grown(b.ReceiveErrorsTotal, t.ReceiveErrorsTotal), grown(b.TransmitErrorsTotal, t.TransmitErrorsTotal))
		}
	}
	for _, s := range window[1:] {
		if s.Totals != nil {
			d.ReceiveBestBytesPerSecond = larger(d.ReceiveBestBytesPerSecond, s.Totals.ReceiveBytesPerSecond)
			d.TransmitBestBytesPerSecond = larger(d.TransmitBestBytesPerSecond, s.Totals.TransmitBytesPerSecond)
		}
	}
	if base.TCP != nil && newest.TCP != nil {
		sent := grown(base.TCP.SegmentsSentTotal, newest.TCP.SegmentsSentTotal)
		again := grown(base.TCP.SegmentsRetransmittedTotal, newest.TCP.SegmentsRetransmittedTotal)
		d.RetransmitRatio = ratio(again, sent)
	}
	digestProbes(d, newest.AllProbes())
	if t := newest.Transport; t != nil {
		if base.Transport != nil {
			d.RDMABytesPerSecond = perSecond(grown(base.Transport.RDMABytesTotal, t.RDMABytesTotal))
		}
		if t.Plane != nil {
			d.Plane = *t.Plane
		}
		if t.Interface != nil {
			d.Interface = *t.Interface
		}
		d.WrongInterface = t.WrongInterface != nil
	}
	d.Addresses = addressesOf(newest.Interfaces, d.Interface)
}

// larger is the larger one of those that are known.
func larger(a float64, b *float64) float64 {
	if b == nil || a >= *b {
		return a
	}
	return *b
}

// ratio is a share, NaN where it is not known or of nothing.
func ratio(part, whole uint64) float64 {
	if part == cluster.None || whole == cluster.None || whole == 0 {
		return math.NaN()
	}
	return float64(part) / float64(whole)
}

// digestProbes sums up the probes of all targets.
func digestProbes(d *cluster.Digest, probes []sample.Probe) {
	var sent, lost uint64
	var medians []float64
	for i := range probes {
		sent += probes[i].Sent
		lost += probes[i].Lost
		if probes[i].RTTP50Seconds != nil {
			medians = append(medians, *probes[i].RTTP50Seconds)
		}
	}
	d.LossRatio = ratio(lost, sent)
	if len(medians) > 0 {
		slices.Sort(medians)
		d.RTTP50Seconds = stats.Quantile(medians, 0.5)
	}
}

// addressesOf are the addresses by which others reach an interface, or, where it is not known, the primary one: one of each kind.
func addressesOf(interfaces []*sample.Interface, name string) (addresses []netip.Addr) {
	at := slices.IndexFunc(interfaces, func(i *sample.Interface) bool {
		return name != "" && i.Name == name || name == "" && i.Primary != nil && *i.Primary
	})
	if at < 0 {
		return nil
	}
	var four, six bool
	for _, text := range interfaces[at].Addresses {
		prefix, err := netip.ParsePrefix(text)
		address := prefix.Addr()
		if err != nil || address.IsLoopback() || address.IsLinkLocalUnicast() {
			continue
		}
		if first := map[bool]*bool{true: &four, false: &six}[address.Is4()]; !*first {
			*first = true
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// digestPeers says what is known of the ways to peers: of the process's own connections, and of probes to the same address. Where
// there are no connections, probes of peers stand alone.
func digestPeers(d *cluster.Digest, window []*sample.Sample) {
	base, newest := window[0], window[len(window)-1]
	before := make(map[string]*sample.Peer)
	hasWindow := false
	if newest != base {
		peers := base.AllPeers()
		hasWindow = peers != nil
		for i := range peers {
			if peers[i].Process == sample.OwnPeer {
				before[peers[i].Address] = &peers[i]
			}
		}
	}
	byAddress := make(map[string]int)
	peers := newest.AllPeers()
	for i := range peers {
		p := &peers[i]
		if p.Process != sample.OwnPeer {
			continue
		}
		byAddress[p.Address] = len(d.Peers)
		d.Peers = append(d.Peers, digestPeer(p, before[p.Address], hasWindow))
	}
	probes := newest.AllProbes()
	for i := range probes {
		p := &probes[i]
		if p.Address == nil || p.Sent == 0 {
			continue
		}
		at, found := byAddress[*p.Address]
		switch {
		case found && d.Peers[at].ProbeSent != cluster.None:
			continue // another target of the same address
		case !found && p.Peer:
			at = len(d.Peers)
			byAddress[*p.Address] = at
			d.Peers = append(d.Peers, cluster.UnknownPeer())
			d.Peers[at].Address = *p.Address
		case !found:
			continue
		}
		d.Peers[at].ProbeSent, d.Peers[at].ProbeLost = p.Sent, p.Lost
		d.Peers[at].ProbeRTTMinSeconds, d.Peers[at].ProbeRTTLastSeconds = real(p.RTTMinSeconds), real(p.RTTLastSeconds)
	}
}

// digestPeer is what connections to one peer tell. Where it is new since the window began, all they counted was in the window.
func digestPeer(p, before *sample.Peer, hasWindow bool) cluster.PeerDigest {
	to := cluster.UnknownPeer()
	to.Address = p.Address
	if len(p.Ranks) > 0 {
		to.Rank, to.Several = uint64(slices.Min(p.Ranks)), len(p.Ranks) > 1
	}
	to.RTTSeconds, to.RTTMinSeconds = real(p.RTTSeconds), real(p.RTTMinSeconds)
	if p.DeliveryAppLimited != nil && !*p.DeliveryAppLimited {
		to.DeliveryBytesPerSec = real(p.DeliveryBytesPerSecond)
	}
	if !hasWindow {
		return to
	}
	if before == nil {
		zero := uint64(0)
		before = &sample.Peer{SentBytesTotal: &zero, SegmentsSentTotal: &zero, SegmentsRetransmittedTotal: &zero,
			DuplicatesReportedTotal: &zero}
	}
	to.SentBytes = grown(before.SentBytesTotal, p.SentBytesTotal)
	again := grown(before.SegmentsRetransmittedTotal, p.SegmentsRetransmittedTotal)
	if reported := grown(before.DuplicatesReportedTotal, p.DuplicatesReportedTotal); again != cluster.None && reported != cluster.None {
		again -= min(again, reported)
	}
	if segments := grown(before.SegmentsSentTotal, p.SegmentsSentTotal); segments != cluster.None && again != cluster.None {
		to.SegmentsSent, to.Retransmitted = segments, again
	}
	return to
}

// digestCollectives says what the samples tell of collectives.
func digestCollectives(d *cluster.Digest, window []*sample.Sample) {
	base, newest := window[0], window[len(window)-1]
	if newest.Collectives == nil {
		return
	}
	type row struct {
		op, group, source string
		size, bucket      uint64
	}
	before := make(map[row]uint64, len(base.Collectives))
	of := func(c *sample.Collective) row { return row{c.Op, c.Group, c.Source, c.GroupSize, c.SizeBucketBytes} }
	for i := range base.Collectives {
		before[of(&base.Collectives[i])] = base.Collectives[i].BytesTotal
	}
	total, bytes, most := uint64(0), uint64(0), uint64(0)
	for i := range newest.Collectives {
		c := &newest.Collectives[i]
		total += c.Count
		inWindow := c.BytesTotal
		if was := before[of(c)]; was <= inWindow { // else the row is a new one of the same group
			inWindow -= was
		}
		bytes += inWindow
		if inWindow > most && c.BusBWBytesPerSecond != nil {
			most, d.BusBW = inWindow, *c.BusBWBytesPerSecond
		}
	}
	d.CollectivesTotal = total
	if newest != base && base.Collectives != nil {
		d.CollectiveBytes = bytes
	}
}

// Bounds of what is kept for marks.
const (
	mostMarkRecords = 4096
	// Marks are of so many intervals of digests, so that those of ranks which said theirs at other times are of the same collectives;
	// where that is few, the newest there are, of so long.
	markIntervals = 2
	markAge       = 2 * time.Minute
	// defaultGroup is what integrations call the group of all ranks.
	defaultGroup = "default_pg"
)

// markRecord is a collective of the default group that may be marked.
type markRecord struct {
	op       collective.Op
	sequence uint64
	end      time.Duration
	duration time.Duration
}

// markRing keeps the newest of them. The zero value is empty.
type markRing struct {
	records []markRecord
	next    int
}

// symmetric tells which operations end on all ranks together.
func symmetric(op collective.Op) bool {
	switch op {
	case collective.AllReduce, collective.Barrier, collective.AllGather, collective.ReduceScatter, collective.AllToAll:
		return true
	default:
		return false
	}
}

// add keeps a record if ranks can be compared by it.
func (r *markRing) add(c *collective.Record, group *collective.Group) {
	if !c.Timed() || c.DurationError == collective.Unknown {
		return
	}
	if c.Sequence == collective.NoSequence || group.Name != defaultGroup || !symmetric(c.Op) {
		return
	}
	made := markRecord{c.Op, c.Sequence, c.Enter + c.Duration, c.Duration}
	if len(r.records) < mostMarkRecords {
		r.records = append(r.records, made)
		return
	}
	r.records[r.next] = made
	r.next = (r.next + 1) % mostMarkRecords
}

// choose are the marks of a digest. Barriers are among them only where there is nothing else: who comes last to a barrier is who has
// finished the transfer before it last, which says nothing of how long it computes.
func (r *markRing) choose(now, interval time.Duration) []cluster.Mark {
	records := slices.Clone(r.records)
	isBarrier := func(m markRecord) bool { return m.op == collective.Barrier }
	if others := slices.DeleteFunc(slices.Clone(records), isBarrier); len(others) > 0 {
		records = others
	}
	slices.SortFunc(records, func(a, b markRecord) int { return cmp.Compare(b.end, a.end) }) // newest first
	var marks []cluster.Mark
	for i, c := range records {
		age := now - c.end
		if age > markAge || age > markIntervals*interval && i >= cluster.MostMarks {
			break
		}
		marks = append(marks, cluster.Mark{Sequence: c.sequence, Duration: c.duration, Symmetric: true})
	}
	return cluster.ChooseMarks(marks)
}

// digest says what only records of collectives tell.
func (c *collectives) digest(d *cluster.Digest, begin, end, now, interval time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.watched {
		return
	}
	c.drain()
	if d.CollectivesTotal != cluster.None {
		d.CollectivesTotal = c.table.Listed() // rows of groups that have ended may be gone
	}
	pending := end
	d.Marks = c.marks.choose(now, interval)
	d.PendingCount = c.pendingCount()
	if oldest, _, why := c.pending(); why == "" {
		pending = oldest.Enter // those that have ended meanwhile were under way at the same time
		d.Pending, d.PendingSequence, d.PendingOp = max(now-oldest.Enter, 0), cluster.None, oldest.Op.String()
		if oldest.Sequence != collective.NoSequence {
			d.PendingSequence = oldest.Sequence
		}
	}
	if share, ok := c.table.Share(begin, end, pending); ok && !c.left {
		d.CollectiveRatio = share
	}
}
