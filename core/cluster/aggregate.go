package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"netmon/core/sample"
	"netmon/core/units"
)

// Bounds of an Aggregator.
const (
	MostProcesses = 4096
	MostDigests   = 8192 // of a request
	// A rank is late after so many of its intervals without a new digest, and gone after so many.
	lateIntervals, goneIntervals = 3, 10
	// Processes without a rank, and ranks that are not of the world any more, are forgotten after so long.
	forgetAfter = 10 * time.Minute
)

// Request is what an Aggregator makes a view of.
type Request struct {
	Engine     string // "" where it is not known
	Aggregator *int64 // the rank that asks
	WorldSize  *int64
	Digests    [][]byte
	Problems   []string // what was wrong with digests before they came here
	Gone       []int64  // ranks that are known to have ended
}

// Aggregator makes views, and remembers what it was given before. Not safe for concurrent use.
type Aggregator struct {
	sequence  uint64
	numbers   numbers // of the view that is made
	processes map[place]*member
	full      bool // none of them has gone that could make room in this view
	nodes     map[uint64]*node
	names     map[string]bool // of nodes
	next      map[string]int  // by a host's name: the number to try for one more node of it; may be missing
	heard     uint64          // nodes so far
	retired   counts          // of nodes that were forgotten
	// forgotten are those whose last digest is still handed in: it does not make them live again. former are nodes without anybody, in
	// case that somebody comes back; their counts are among the retired ones.
	forgotten map[place]*member
	former    map[uint64]*node
}

// place is whom an Aggregator tells apart: a rank, or a process that has none.
type place struct{ rank, process uint64 }

// member is a rank, or a process without one.
type member struct {
	digest   Digest
	changed  time.Duration // when its newest digest was first seen, by the reader's clock
	restarts uint64
	joined   uint64
	before   identity // the process before this one, at its last digest
	ended    bool     // somebody said so, of the process whose number follows
	gone     uint64
	state    string
	parts    [counters]offset // of the node's totals
}

type identity struct{ process, sequence uint64 }

// offset is what has to be added to a process's own total to get its node's.
type offset struct {
	value uint64 // may be negative: it wraps
	known bool
}

// What all processes of a node count, each since its own start.
const (
	receivedBytes = iota
	transmittedBytes
	dropped
	erred
	countedTime // in microseconds
	counters
)

// counts are one of each.
type counts [counters]uint64

// counted is what a process says that it has counted.
func (d *Digest) counted() counts {
	return counts{d.ReceiveBytesTotal, d.TransmitBytesTotal, d.DropsTotal, d.ErrorsTotal, d.CountedMicroseconds}
}

// node is what is remembered of a node.
type node struct {
	number  uint64 // in the order in which they were first heard of
	name    string
	totals  counts
	known   [counters]bool
	until   [counters]float64 // wall time of the node at which totals were so
	members []*member         // of this view
}

// NewAggregator returns one that knows nobody.
func NewAggregator() *Aggregator {
	return &Aggregator{
		processes: make(map[place]*member), nodes: make(map[uint64]*node), names: make(map[string]bool), next: make(map[string]int),
		forgotten: make(map[place]*member), former: make(map[uint64]*node),
	}
}

// The states of ranks and nodes, the best first.
const (
	Live    = "live"
	Late    = "late"
	Gone    = "gone"
	Missing = "missing"
)

func worse(state string) int { return slices.Index([]string{Live, Late, Gone, Missing}, state) }

// Aggregate makes a view of the newest digests of all processes. now is the reader's monotonic clock, wall the time to write in the
// view. What is wrong with a digest is told in the view.
func (a *Aggregator) Aggregate(now time.Duration, wall time.Time, r Request) *View {
	a.sequence++
	v := &View{
		Schema: Schema, Sequence: a.sequence, TimestampSeconds: float64(wall.UnixNano()) / 1e9, Aggregator: r.Aggregator,
		WorldSize: r.WorldSize, Nodes: []Node{}, Ranks: []Rank{}, Spread: map[string]Spread{}, Findings: []sample.Finding{},
		Unavailable: map[string]string{},
	}
	if r.Engine != "" {
		v.Engine = &r.Engine
	} else {
		v.Unavailable["engine"] = "the request does not say it"
	}
	if v.Aggregator == nil {
		v.Unavailable["aggregator_rank"] = "the request does not say it"
	}
	a.takeAll(now, r, v)
	a.judge(now, r.Gone)
	a.forget(now, r.WorldSize)
	members := a.sorted()
	a.addUp(members)
	a.listNodes(now, v)
	a.listRanks(now, members, v)
	compare(members, v)
	a.total(v)
	spread(v)
	explainAll(v)
	return v
}

// takeAll takes in the digests of a request.
func (a *Aggregator) takeAll(now time.Duration, r Request, v *View) {
	newest := make(map[place]*Digest)
	wrong, problem := len(r.Problems), ""
	if wrong > 0 {
		problem = r.Problems[0]
	}
	var notes []string
	for _, text := range r.Digests {
		d, err := ParseDigest(text)
		if err != nil {
			if wrong++; problem == "" {
				problem = strings.TrimPrefix(err.Error(), "cluster: ")
			}
			continue
		}
		at := place{rank: d.Rank}
		if d.Rank == None {
			at.process = d.Process ^ d.Node
		}
		other := newest[at]
		switch {
		case other == nil:
			newest[at] = &d
		case other.Process == d.Process && other.Node == d.Node:
			if d.Sequence > other.Sequence {
				newest[at] = &d
			}
		default:
			if d.Process > other.Process {
				newest[at], other = &d, &d
			}
			notes = append(notes, fmt.Sprintf("rank %d is claimed by two processes: the one started last is shown, on %s",
				int64(d.Rank), hostOf(other)))
		}
	}
	a.full = false
	hidden := 0
	for _, at := range slices.SortedFunc(maps.Keys(newest), comparePlaces) {
		if !a.take(now, at, newest[at]) {
			hidden++
		}
	}
	maps.DeleteFunc(a.forgotten, func(at place, _ *member) bool { return newest[at] == nil })
	if wrong > 0 {
		v.Unavailable["digests"] = fmt.Sprintf("%d of %d are not understood; the first: %s", wrong, len(r.Digests)+len(r.Problems), problem)
	}
	if hidden > 0 {
		notes = append(notes, fmt.Sprintf("%d processes are beyond the %d that are told apart", hidden, MostProcesses))
	}
	if len(notes) > 0 {
		v.Unavailable["ranks"] = firstOf(notes, 4)
	}
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.process, b.process))
}

func hostOf(d *Digest) string {
	if d.Hostname == "" {
		return fmt.Sprintf("a host without a name (node %016x)", d.Node)
	}
	return d.Hostname
}

// firstOf joins sentences, of many the first.
func firstOf(sentences []string, most int) string {
	if len(sentences) <= most {
		return strings.Join(sentences, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(sentences[:most], "; "), len(sentences)-most)
}

// take takes in the newest digest of a rank; ok is false where there is no room for another one.
func (a *Aggregator) take(now time.Duration, at place, d *Digest) (ok bool) {
	if d.Interval <= 0 {
		d.Interval = usualInterval
	}
	d.Interval = min(d.Interval, mostInterval)
	m := a.processes[at]
	says := identity{d.Process, d.Sequence}
	switch {
	case m == nil && a.forgotten[at].hasSaid(says):
		// Its last words.
	case m == nil:
		if len(a.processes) >= MostProcesses && !a.evict() {
			return false
		}
		m = &member{digest: *d, changed: now, joined: a.sequence}
		if last := a.forgotten[at]; last != nil && last.digest.Process == d.Process && last.digest.Node == d.Node && a.remembers(d.Node) {
			m.parts, m.restarts = last.parts, last.restarts // it goes on
		}
		delete(a.forgotten, at)
		a.processes[at] = m
	case m.digest.Process == d.Process && m.digest.Node == d.Node:
		if d.Sequence > m.digest.Sequence {
			m.digest, m.changed = *d, now
		}
	case says.process == m.before.process && says.sequence <= m.before.sequence:
		// Old news of the process before.
	default:
		m.before = identity{m.digest.Process, m.digest.Sequence}
		m.restarts++
		m.digest, m.changed, m.parts = *d, now, [counters]offset{}
	}
	return true
}

// evict forgets the process that has been gone for longest; ok is false where none has gone.
func (a *Aggregator) evict() (ok bool) {
	if a.full {
		return false
	}
	var oldest place
	for at, m := range a.processes {
		if m.state == Gone && (!ok || m.changed < a.processes[oldest].changed || m.changed == a.processes[oldest].changed && comparePlaces(at, oldest) < 0) {
			oldest, ok = at, true
		}
	}
	if ok {
		a.drop(oldest)
	}
	a.full = !ok
	return ok
}

// drop forgets a process, but for what it said last.
func (a *Aggregator) drop(at place) {
	m := a.processes[at]
	m.digest.Peers, m.digest.Marks = nil, nil
	a.forgotten[at] = m
	delete(a.processes, at)
}

// hasSaid tells whether a digest is one of the process, and none that is newer.
func (m *member) hasSaid(d identity) bool {
	return m != nil && m.digest.Process == d.process && m.digest.Sequence >= d.sequence
}

// remembers tells whether a node's totals are known, also where nobody is on it.
func (a *Aggregator) remembers(id uint64) bool { return a.nodes[id] != nil || a.former[id] != nil }

// judge says who is late and who is gone.
func (a *Aggregator) judge(now time.Duration, gone []int64) {
	ended := make(map[uint64]bool, len(gone))
	for _, rank := range gone {
		ended[uint64(rank)] = true
	}
	for at, m := range a.processes {
		if said := at.rank != None && ended[at.rank]; said && !m.ended {
			m.ended, m.gone = true, m.digest.Process
		} else if !said {
			m.ended = false
		}
		m.state = stateAt(now-m.changed, m.digest.Interval)
		if m.saidEnded() {
			m.state = Gone
		}
	}
}

// saidEnded tells whether somebody said that the process has ended, and not one before it.
func (m *member) saidEnded() bool { return m.ended && m.gone == m.digest.Process }

func stateAt(age, interval time.Duration) string {
	switch {
	case age > goneIntervals*interval:
		return Gone
	case age > lateIntervals*interval:
		return Late
	default:
		return Live
	}
}

// forget drops whom nobody expects back, so that memory stays the same over days.
func (a *Aggregator) forget(now time.Duration, world *int64) {
	for at, m := range a.processes {
		expected := at.rank != None && (world == nil || at.rank < uint64(*world))
		if m.state == Gone && !expected && now-m.changed > forgetAfter {
			a.drop(at)
		}
	}
}

// sorted are all processes by rank, those without one last.
func (a *Aggregator) sorted() []*member {
	members := make([]*member, 0, len(a.processes))
	for _, at := range slices.SortedFunc(maps.Keys(a.processes), comparePlaces) {
		members = append(members, a.processes[at])
	}
	return members
}

// addUp brings nodes and their totals up to date.
func (a *Aggregator) addUp(members []*member) {
	for _, n := range a.nodes {
		n.members = n.members[:0]
	}
	for _, m := range members {
		n := a.nodes[m.digest.Node]
		if n == nil {
			a.heard++
			n = a.comeBack(m.digest.Node)
			n.number, n.name = a.heard, a.nameFor(&m.digest)
			a.nodes[m.digest.Node] = n
		}
		n.members = append(n.members, m)
	}
	for id, n := range a.nodes {
		if len(n.members) == 0 {
			a.retire(id, n)
			delete(a.nodes, id)
			delete(a.names, n.name)
			clear(a.next)
			continue
		}
		for of := range n.totals {
			n.addUp(of)
		}
	}
}

// retire keeps the counts of a node that nobody is on any more.
func (a *Aggregator) retire(id uint64, n *node) {
	whole := true
	for of, total := range n.totals {
		a.retired[of] = saturated(a.retired[of], total)
		whole = whole && a.retired[of] != math.MaxUint64
	}
	if whole && len(a.former) < MostProcesses {
		a.former[id] = n
	}
}

// comeBack is a node as it was when the last one on it was forgotten, or a new one: what it counted then is not counted again.
func (a *Aggregator) comeBack(id uint64) *node {
	n := a.former[id]
	if n == nil {
		return &node{}
	}
	delete(a.former, id)
	for of, total := range n.totals {
		if a.retired[of] != math.MaxUint64 {
			a.retired[of] -= total
		}
	}
	return n
}

// nameFor is a name for a node that no other one has.
func (a *Aggregator) nameFor(d *Digest) string {
	base := d.Hostname
	if base == "" {
		base = "unknown"
	}
	name := base
	for i := max(2, a.next[base]); a.names[name]; i++ {
		name = fmt.Sprintf("%s#%d", base, i)
		a.next[base] = i + 1
	}
	a.names[name] = true
	return name
}

// addUp brings one total of a node up to date. All its processes count the same, each since its own start. The first one's
// count begins the total, and each later one is joined to it where it is first heard of: with all it counted where it was started
// after the moment of which the total is, and else with what it counts from now on, because others have counted the rest. So what
// nobody was there to count is missing, and nothing is in it twice. Start and moment are told by one clock, the node's own.
func (n *node) addUp(of int) {
	counted := func(m *member) uint64 { return m.digest.counted()[of] }
	advance := func(m *member) {
		sum := m.parts[of].value + counted(m)
		if ahead := sum - n.totals[of]; !n.known[of] || ahead > 0 && ahead < 1<<63 {
			n.totals[of], n.known[of], n.until[of] = sum, true, m.digest.WallSeconds
		}
	}
	others := false // who go on counting
	for _, m := range n.members {
		if m.parts[of].known && counted(m) != None {
			advance(m)
			others = others || m.state != Gone
		}
	}
	for _, m := range n.members {
		part := &m.parts[of]
		if part.known || counted(m) == None || others && m.digest.WallSeconds < n.until[of] { // an older digest: the next one will do
			continue
		}
		*part = offset{value: n.totals[of], known: true}
		if started := float64(m.digest.Process) / 1e9; n.known[of] && !(started > n.until[of]) {
			part.value -= counted(m)
		}
		advance(m)
		others = true
	}
}

// saturated adds without running over.
func saturated(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

// byFreshness orders members by how well their digests speak for their node: of the best state first, and there the newest.
func byFreshness(a, b *member) int {
	return cmp.Or(cmp.Compare(worse(a.state), worse(b.state)), cmp.Compare(b.changed, a.changed),
		cmp.Compare(b.digest.WallSeconds, a.digest.WallSeconds))
}

// ofProcesses writes what not every process of a node knows: each number is that of the freshest digest that has it.
func (n *node) ofProcesses(row *Node, in *numbers) {
	for _, m := range n.members {
		if m.state != row.State {
			break
		}
		d := &m.digest
		if row.RTTP50Seconds == nil {
			row.RTTP50Seconds = in.real(d.RTTP50Seconds)
		}
		if row.LossRatio == nil {
			row.LossRatio = in.real(d.LossRatio)
		}
		if row.Interface == nil && (row.Plane == nil || d.Interface != "") {
			row.Plane, row.Interface = word(d.Plane), word(d.Interface)
		}
		row.WrongInterface = row.WrongInterface || d.WrongInterface
	}
}

// listNodes writes the nodes of a view in the order in which they were first heard of.
func (a *Aggregator) listNodes(now time.Duration, v *View) {
	for _, n := range slices.SortedFunc(maps.Values(a.nodes), func(a, b *node) int { return cmp.Compare(a.number, b.number) }) {
		slices.SortStableFunc(n.members, byFreshness)
		m := n.members[0]
		d := &m.digest
		row := Node{
			Name: n.name, Ranks: []int64{}, Processes: len(n.members), State: m.state, AgeSeconds: units.Seconds(now - m.changed),
			WindowSeconds:         a.numbers.seconds(d.Window),
			ReceiveBytesPerSecond: a.numbers.real(d.ReceiveBytesPerSecond), TransmitBytesPerSecond: a.numbers.real(d.TransmitBytesPerSecond),
			ReceiveBestBytesPerSecond: a.numbers.real(d.ReceiveBestBytesPerSecond), TransmitBestBytesPerSecond: a.numbers.real(d.TransmitBestBytesPerSecond),
			CapacityBitsPerSecond: a.numbers.real(d.CapacityBitsPerSecond), RetransmitRatio: a.numbers.real(d.RetransmitRatio), Drops: a.numbers.count(d.Drops),
			Errors: a.numbers.count(d.Errors), RDMABytesPerSecond: a.numbers.real(d.RDMABytesPerSecond),
		}
		n.ofProcesses(&row, &a.numbers)
		for of, to := range map[int]**uint64{
			receivedBytes: &row.ReceiveBytesTotal, transmittedBytes: &row.TransmitBytesTotal, dropped: &row.DropsTotal, erred: &row.ErrorsTotal,
		} {
			if n.known[of] {
				*to = a.numbers.count(n.totals[of])
			}
		}
		if n.known[countedTime] {
			row.CountedSeconds = a.numbers.real(float64(n.totals[countedTime]) / 1e6)
		}
		if busier := max(d.ReceiveBytesPerSecond, d.TransmitBytesPerSecond); d.CapacityBitsPerSecond > 0 {
			row.UtilizationRatio = a.numbers.real(units.BytesToBits(busier) / d.CapacityBitsPerSecond)
		}
		for _, m := range n.members {
			if m.digest.Rank != None {
				row.Ranks = append(row.Ranks, int64(m.digest.Rank))
			}
		}
		slices.Sort(row.Ranks)
		v.Nodes = append(v.Nodes, row)
	}
}

// listRanks writes the ranks of a view, those that were never heard of too.
func (a *Aggregator) listRanks(now time.Duration, members []*member, v *View) {
	where := a.directory()
	v.Ranks = make([]Rank, 0, len(members))
	if v.WorldSize == nil {
		v.WorldSize = worldOf(members, &a.numbers)
	}
	if v.WorldSize == nil {
		v.Unavailable["world_size"] = "neither the request nor a digest says it"
	}
	next := int64(0) // rank
	missing := func(before int64) {
		if v.WorldSize == nil {
			return
		}
		for ; next < min(before, *v.WorldSize) && len(v.Ranks) < MostProcesses; next++ {
			rank := next
			v.Ranks = append(v.Ranks, Rank{Rank: &rank, State: Missing, Peers: []Way{}})
		}
	}
	for _, m := range members {
		d := &m.digest
		age := a.numbers.seconds(now - m.changed)
		row := Rank{
			Rank: a.numbers.number(d.Rank), LocalRank: a.numbers.number(d.LocalRank), Node: &a.nodes[d.Node].name, State: m.state,
			AgeSeconds: age, Restarts: m.restarts, Joined: &m.joined, DigestSequence: a.numbers.count(d.Sequence), Sampled: a.numbers.count(d.Sampled),
			WindowSeconds:   a.numbers.seconds(d.Window),
			CollectiveRatio: a.numbers.real(d.CollectiveRatio), CollectivesTotal: a.numbers.count(d.CollectivesTotal),
			CollectiveBytes: a.numbers.count(d.CollectiveBytes), BusBWBytesPerSecond: a.numbers.real(d.BusBW),
			PendingSeconds: a.numbers.seconds(d.Pending), PendingSequence: a.numbers.count(d.PendingSequence),
			PendingCount: a.numbers.count(d.PendingCount), Ended: m.saidEnded(), PendingOp: word(d.PendingOp), Phase: word(d.Phase), Peers: make([]Way, len(d.Peers)),
		}
		for i := range d.Peers {
			row.Peers[i] = where.way(&d.Peers[i], &a.numbers)
		}
		if row.Rank != nil {
			missing(*row.Rank)
			next = *row.Rank + 1
		} else {
			missing(math.MaxInt64)
		}
		v.Ranks = append(v.Ranks, row)
	}
	missing(math.MaxInt64)
	if v.WorldSize != nil && next < *v.WorldSize {
		v.Unavailable["ranks"] = joined(v.Unavailable["ranks"], fmt.Sprintf("ranks from %d on are beyond the %d that are listed", next, MostProcesses))
	}
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// worldOf is the size of the job as the digests of live processes have it, or of all where none is live.
func worldOf(members []*member, n *numbers) *int64 {
	var sizes [2]*int64
	for _, m := range members {
		for i, counts := range []bool{m.state == Live, true} {
			if size := n.number(m.digest.WorldSize); counts && size != nil && (sizes[i] == nil || *size > *sizes[i]) {
				sizes[i] = size
			}
		}
	}
	if sizes[0] != nil {
		return sizes[0]
	}
	return sizes[1]
}

// directory tells which node an address or a rank is of.
type directory struct {
	byAddress map[string]*string // nil where several nodes have it
	byRank    map[uint64]*string
}

func (a *Aggregator) directory() directory {
	where := directory{make(map[string]*string), make(map[uint64]*string)}
	for _, n := range a.nodes {
		for _, m := range n.members {
			if m.digest.Rank != None {
				where.byRank[m.digest.Rank] = &n.name
			}
			if m.state == Gone {
				continue
			}
			for _, address := range m.digest.Addresses {
				text := address.String()
				if other, found := where.byAddress[text]; found && other != &n.name {
					where.byAddress[text] = nil
				} else {
					where.byAddress[text] = &n.name
				}
			}
		}
	}
	return where
}

func (w *directory) way(p *PeerDigest, n *numbers) Way {
	way := Way{
		Address: p.Address, SentBytes: n.count(p.SentBytes), SegmentsSent: n.count(p.SegmentsSent),
		SegmentsRetransmitted: n.count(p.Retransmitted), RetransmittedRatio: n.real(p.retransmittedRatio()), RTTSeconds: n.real(p.RTTSeconds),
		RTTMinSeconds: n.real(p.RTTMinSeconds), DeliveryBytesPerSecond: n.real(p.DeliveryBytesPerSec),
		ProbeRTTMinSeconds: n.real(p.ProbeRTTMinSeconds), ProbeRTTLastSeconds: n.real(p.ProbeRTTLastSeconds),
		ProbeLossRatio: n.real(p.lossRatio()), ProbeSent: n.count(p.ProbeSent), ProbeLost: n.count(p.ProbeLost),
	}
	if !p.Several {
		way.Rank = n.number(p.Rank)
	}
	if way.Node = w.byRank[p.Rank]; way.Node == nil {
		way.Node = w.byAddress[p.Address]
	}
	return way
}

// total adds nodes up.
func (a *Aggregator) total(v *View) {
	t := &v.Totals
	t.Nodes = len(v.Nodes)
	for i := range v.Ranks {
		switch r := &v.Ranks[i]; {
		case r.Rank == nil:
			t.UnrankedProcesses++
		case r.State == Live:
			t.LiveRanks++
		case r.State == Late:
			t.LateRanks++
		case r.State == Gone:
			t.GoneRanks++
		default:
			t.MissingRanks++
		}
	}
	sumOf(v, "receive_bytes_total", &t.ReceiveBytesTotal, true, func(n *Node) *uint64 { return n.ReceiveBytesTotal })
	sumOf(v, "transmit_bytes_total", &t.TransmitBytesTotal, true, func(n *Node) *uint64 { return n.TransmitBytesTotal })
	sumOf(v, "drops_total", &t.DropsTotal, true, func(n *Node) *uint64 { return n.DropsTotal })
	sumOf(v, "errors_total", &t.ErrorsTotal, true, func(n *Node) *uint64 { return n.ErrorsTotal })
	for of, total := range []**uint64{&t.ReceiveBytesTotal, &t.TransmitBytesTotal, &t.DropsTotal, &t.ErrorsTotal} {
		if retired := a.retired[of]; *total != nil {
			**total = saturated(**total, retired)
		} else if retired > 0 {
			*total = &retired
		}
	}
	sumOf(v, "receive_bytes_per_second", &t.ReceiveBytesPerSecond, false, func(n *Node) *float64 { return n.ReceiveBytesPerSecond })
	sumOf(v, "transmit_bytes_per_second", &t.TransmitBytesPerSecond, false, func(n *Node) *float64 { return n.TransmitBytesPerSecond })
	sumOf(v, "drops", &t.Drops, false, func(n *Node) *uint64 { return n.Drops })
	sumOf(v, "errors", &t.Errors, false, func(n *Node) *uint64 { return n.Errors })
	if !sumOf(v, "capacity_bits_per_second", &t.CapacityBitsPerSecond, false, func(n *Node) *float64 { return n.CapacityBitsPerSecond }) {
		t.CapacityBitsPerSecond = nil // a share of an unknown whole says nothing
	}
}

// sumOf adds a number of nodes up, of those that went too or not, as far as it is known; whole is false where one of them does not
// tell.
func sumOf[T uint64 | float64](v *View, field string, to **T, gone bool, of func(*Node) *T) (whole bool) {
	without := reason{text: "without"}
	asked := false
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if !gone && n.State != Live && n.State != Late {
			continue
		}
		asked = true
		value := of(n)
		if value == nil {
			without.add(n.Name)
			continue
		}
		if *to == nil {
			*to = new(T)
		}
		if sum := **to + *value; sum >= **to {
			**to = sum // and not where a counter runs over
		}
	}
	v.explain("totals."+field, &without)
	if !asked {
		v.Unavailable["totals."+field] = "no node is live"
	}
	return asked && len(without.names) == 0
}
