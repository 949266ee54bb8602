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
	processes map[place]*member
	nodes     map[uint64]*node
	named     uint64    // nodes so far
	retired   [2]uint64 // bytes of nodes that were forgotten, received and transmitted
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
	gone     uint64   // the process that is said to have ended, 0 for none
	state    string
	parts    [2]offset // of the node's totals
}

type identity struct{ process, sequence uint64 }

// offset is what has to be added to a process's own total to get its node's.
type offset struct {
	value uint64 // may be negative: it wraps
	known bool
}

// node is what is remembered of a node.
type node struct {
	number  uint64 // in the order in which they were first heard of
	name    string
	totals  [2]uint64 // received, transmitted
	known   [2]bool
	until   [2]float64 // wall time of the node at which totals were so
	members []*member  // of this view
}

// NewAggregator returns one that knows nobody.
func NewAggregator() *Aggregator {
	return &Aggregator{processes: make(map[place]*member), nodes: make(map[uint64]*node)}
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
	explain(v)
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
	hidden := 0
	for _, at := range slices.SortedFunc(maps.Keys(newest), comparePlaces) {
		if !a.take(now, at, newest[at]) {
			hidden++
		}
	}
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
	m := a.processes[at]
	says := identity{d.Process, d.Sequence}
	switch {
	case m == nil:
		if len(a.processes) >= MostProcesses && !a.evict() {
			return false
		}
		a.processes[at] = &member{digest: *d, changed: now, joined: a.sequence}
	case m.digest.Process == d.Process && m.digest.Node == d.Node:
		if d.Sequence > m.digest.Sequence {
			m.digest, m.changed = *d, now
		}
	case says.process == m.before.process && says.sequence <= m.before.sequence:
		// Old news of the process before.
	default:
		m.before = identity{m.digest.Process, m.digest.Sequence}
		m.restarts++
		m.digest, m.changed, m.parts = *d, now, [2]offset{}
	}
	return true
}

// evict forgets the process that has been gone for longest; ok is false where none has gone.
func (a *Aggregator) evict() (ok bool) {
	var oldest place
	for at, m := range a.processes {
		if m.state == Gone && (!ok || m.changed < a.processes[oldest].changed || m.changed == a.processes[oldest].changed && comparePlaces(at, oldest) < 0) {
			oldest, ok = at, true
		}
	}
	if ok {
		delete(a.processes, oldest)
	}
	return ok
}

// judge says who is late and who is gone.
func (a *Aggregator) judge(now time.Duration, gone []int64) {
	ended := make(map[uint64]bool, len(gone))
	for _, rank := range gone {
		ended[uint64(rank)] = true
	}
	for at, m := range a.processes {
		if at.rank == None || !ended[at.rank] {
			m.gone = 0
		} else if m.gone == 0 {
			m.gone = m.digest.Process
		}
		m.state = stateAt(now-m.changed, m.digest.Interval)
		if m.gone == m.digest.Process { // and not one that was started since
			m.state = Gone
		}
	}
}

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
			delete(a.processes, at)
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
			a.named++
			n = &node{number: a.named}
			a.nodes[m.digest.Node] = n
			n.name = a.nameFor(&m.digest, n)
		}
		n.members = append(n.members, m)
	}
	for id, n := range a.nodes {
		if len(n.members) == 0 {
			for way, total := range n.totals {
				a.retired[way] = saturated(a.retired[way], total)
			}
			delete(a.nodes, id)
			continue
		}
		for way := range n.totals {
			n.addUp(way)
		}
	}
}

// nameFor is a name for a node that no other one has.
func (a *Aggregator) nameFor(d *Digest, of *node) string {
	taken := make(map[string]bool, len(a.nodes))
	for _, n := range a.nodes {
		if n != of {
			taken[n.name] = true
		}
	}
	base := d.Hostname
	if base == "" {
		base = "unknown"
	}
	name := base
	for i := 2; taken[name]; i++ {
		name = fmt.Sprintf("%s#%d", base, i)
	}
	return name
}

// addUp brings one total of a node up to date. All its processes count the same bytes, each since its own start. The first one's
// count begins the total, and each later one is joined to it where it is first heard of: with all it counted where it was started
// after the total was last known, and else without, because then the others have counted the same. Start and total are told by one
// clock, the node's own.
func (n *node) addUp(way int) {
	total := func(m *member) uint64 {
		if way == 0 {
			return m.digest.ReceiveBytesTotal
		}
		return m.digest.TransmitBytesTotal
	}
	for joining := range 2 { // those that are joined already come first
		for _, m := range n.members {
			part, counted := &m.parts[way], total(m)
			if counted == None || part.known != (joining == 0) {
				continue
			}
			if !part.known {
				*part = offset{value: n.totals[way], known: true}
				if started := float64(m.digest.Process) / 1e9; n.known[way] && !(started >= n.until[way]) {
					part.value -= counted
				}
			}
			if sum := part.value + counted; !n.known[way] || sum > n.totals[way] && sum-n.totals[way] < 1<<63 {
				n.totals[way], n.known[way], n.until[way] = sum, true, m.digest.WallSeconds
			}
		}
	}
}

// saturated adds without running over.
func saturated(a, b uint64) uint64 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint64
}

// freshest is the member whose digest speaks for its node: of the best state, and there the newest.
func (n *node) freshest() *member {
	return slices.MinFunc(n.members, func(a, b *member) int {
		return cmp.Or(cmp.Compare(worse(a.state), worse(b.state)), cmp.Compare(b.changed, a.changed),
			cmp.Compare(b.digest.WallSeconds, a.digest.WallSeconds))
	})
}

// listNodes writes the nodes of a view in the order in which they were first heard of.
func (a *Aggregator) listNodes(now time.Duration, v *View) {
	for _, n := range slices.SortedFunc(maps.Values(a.nodes), func(a, b *node) int { return cmp.Compare(a.number, b.number) }) {
		m := n.freshest()
		d := &m.digest
		row := Node{
			Name: n.name, Ranks: []int64{}, Processes: len(n.members), State: m.state, AgeSeconds: units.Seconds(now - m.changed),
			WindowSeconds:         secondsOf(d.Window),
			ReceiveBytesPerSecond: real(d.ReceiveBytesPerSecond), TransmitBytesPerSecond: real(d.TransmitBytesPerSecond),
			ReceiveBestBytesPerSecond: real(d.ReceiveBestBytesPerSecond), TransmitBestBytesPerSecond: real(d.TransmitBestBytesPerSecond),
			CapacityBitsPerSecond: real(d.CapacityBitsPerSecond), RetransmitRatio: real(d.RetransmitRatio), Drops: count(d.Drops),
			Errors: count(d.Errors), RTTP50Seconds: real(d.RTTP50Seconds), LossRatio: real(d.LossRatio),
			RDMABytesPerSecond: real(d.RDMABytesPerSecond), Plane: word(d.Plane), Interface: word(d.Interface),
			WrongInterface: d.WrongInterface,
		}
		if n.known[0] {
			row.ReceiveBytesTotal = count(n.totals[0])
		}
		if n.known[1] {
			row.TransmitBytesTotal = count(n.totals[1])
		}
		if busier := max(d.ReceiveBytesPerSecond, d.TransmitBytesPerSecond); d.CapacityBitsPerSecond > 0 {
			row.UtilizationRatio = real(units.BytesToBits(busier) / d.CapacityBitsPerSecond)
		}
		for _, m := range n.members {
			if m.digest.Rank != None {
				row.Ranks = append(row.Ranks, int64(m.digest.Rank))
			}
		}
		v.Nodes = append(v.Nodes, row)
	}
}

// listRanks writes the ranks of a view, those that were never heard of too.
func (a *Aggregator) listRanks(now time.Duration, members []*member, v *View) {
	where := a.directory()
	if v.WorldSize == nil {
		v.WorldSize = worldOf(members)
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
		age := units.Seconds(now - m.changed)
		row := Rank{
			Rank: number(d.Rank), LocalRank: number(d.LocalRank), Node: &a.nodes[d.Node].name, State: m.state,
			AgeSeconds: &age, Restarts: m.restarts, Joined: &m.joined,
			CollectiveRatio: real(d.CollectiveRatio), CollectivesTotal: count(d.CollectivesTotal), CollectiveBytes: count(d.CollectiveBytes),
			BusBWBytesPerSecond: real(d.BusBW), PendingSeconds: secondsOf(d.Pending), PendingSequence: count(d.PendingSequence),
			PendingOp: word(d.PendingOp), Phase: word(d.Phase), Peers: make([]Way, len(d.Peers)),
		}
		for i := range d.Peers {
			row.Peers[i] = where.way(&d.Peers[i])
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
func worldOf(members []*member) *int64 {
	var sizes [2]*int64
	for _, m := range members {
		for i, counts := range []bool{m.state == Live, true} {
			if size := number(m.digest.WorldSize); counts && size != nil && (sizes[i] == nil || *size > *sizes[i]) {
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

func (w *directory) way(p *PeerDigest) Way {
	way := Way{
		Address: p.Address, SentBytes: count(p.SentBytes), RetransmittedRatio: real(p.RetransmittedRatio), RTTSeconds: real(p.RTTSeconds),
		RTTMinSeconds: real(p.RTTMinSeconds), DeliveryBytesPerSecond: real(p.DeliveryBytesPerSec),
		ProbeRTTMinSeconds: real(p.ProbeRTTMinSeconds), ProbeLossRatio: real(p.lossRatio()), ProbesSent: count(p.ProbeSent),
	}
	if !p.Several {
		way.Rank = number(p.Rank)
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
		if v.Ranks[i].Rank == nil {
			t.UnrankedProcesses++
			continue
		}
		*map[string]*int{Live: &t.LiveRanks, Late: &t.LateRanks, Gone: &t.GoneRanks, Missing: &t.MissingRanks}[v.Ranks[i].State]++
	}
	retired := a.retired
	addCount := func(to **uint64, value *uint64) {
		if value != nil {
			if *to == nil {
				*to = new(uint64)
			}
			**to = saturated(**to, *value)
		}
	}
	whole := map[string]*reasons{}
	addReal := func(name string, to **float64, n *Node, value *float64) {
		if value == nil {
			if whole[name] == nil {
				whole[name] = &reasons{}
			}
			whole[name].add("without", n.Name)
			return
		}
		if *to == nil {
			*to = new(float64)
		}
		**to += *value
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		addCount(&t.ReceiveBytesTotal, n.ReceiveBytesTotal)
		addCount(&t.TransmitBytesTotal, n.TransmitBytesTotal)
		if n.State != Live && n.State != Late {
			continue
		}
		addReal("receive_bytes_per_second", &t.ReceiveBytesPerSecond, n, n.ReceiveBytesPerSecond)
		addReal("transmit_bytes_per_second", &t.TransmitBytesPerSecond, n, n.TransmitBytesPerSecond)
		addReal("capacity_bits_per_second", &t.CapacityBitsPerSecond, n, n.CapacityBitsPerSecond)
		addCount(&t.Drops, n.Drops)
		addCount(&t.Errors, n.Errors)
	}
	if whole["capacity_bits_per_second"] != nil {
		t.CapacityBitsPerSecond = nil // a share of an unknown whole says nothing
	}
	for name, missing := range whole {
		v.Unavailable["totals."+name] = missing.String()
	}
	for way, total := range []**uint64{&t.ReceiveBytesTotal, &t.TransmitBytesTotal} {
		if retired[way] > 0 {
			addCount(total, &retired[way])
		}
	}
}

func real(value float64) *float64 {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil
	}
	return &value
}

func count(value uint64) *uint64 {
	if value == None {
		return nil
	}
	return &value
}

func number(value uint64) *int64 {
	if value == None {
		return nil
	}
	signed := int64(value)
	return &signed
}

func word(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func secondsOf(d time.Duration) *float64 {
	if d == NoTime {
		return nil
	}
	seconds := units.Seconds(d)
	return &seconds
}
