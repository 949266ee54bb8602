package collective

import (
	"errors"
	"maps"
	"slices"
	"time"

	"netmon/core/stats"
)

// Bounds of a Table.
const (
	MostGroups    = 1024
	MostRows      = 128
	MostRecent    = 256
	mostDurations = 512 // of a row
	mostNumber    = 1<<31 - 1
	// Window is how far back quantiles look.
	Window = 60 * time.Second
)

// ErrTooManyGroups means that MostGroups are named.
var ErrTooManyGroups = errors.New("collective: 1024 groups are named and have not ended, which is the most that are told apart")

// Group is a set of ranks.
type Group struct {
	Name   string
	Size   uint64
	Source string // who records
}

// Table keeps account of collectives. Not safe for concurrent use.
type Table struct {
	groups   map[uint32]*Group // by number: each is given once, so that a record which is late is of no other group
	numbers  map[Group]uint32
	last     uint32          // number that was given
	gone     map[uint32]bool // groups that have ended: they are known until others need the room
	rows     []*row          // in the order in which they came up
	places   map[place]*row
	listed   uint64
	unlisted uint64
	busy     busy
	dim      busy // when one may have been under way that is not in busy
	watch    watch
	since    time.Duration // busy and dim are whole from here on
	recent   []Recent      // a ring of the newest
	next     int           // in recent, once it is full
}

// Recent is a record with its group.
type Recent struct {
	Record
	Of *Group
}

// place is what a row is of.
type place struct {
	op     Op
	group  uint32
	bucket uint64
}

type row struct {
	Row
	place   place
	ended   []ended // of the window, oldest first
	changed bool
}

type ended struct {
	at              time.Duration
	duration, error time.Duration
	bytes           uint64
	timed           bool
}

// Row is what is known of the collectives of one operation, group and size.
type Row struct {
	Op         Op
	Group      *Group
	Bucket     uint64
	Count      uint64 // since the table was made
	Bytes      uint64
	Unfinished uint64 // whose end is not known, or an error
	// Of the newest 512 that ended in the last 60 s, those that were timed; undefined where Ends is 0.
	Ends          int
	Exact         int // whose end is known exactly, or to a hundredth of the duration
	P50, P95, Max time.Duration
	// AlgBW and BusBW are bytes a second by the p50; Unmoved where there is nothing to move, and where no such thing is defined.
	AlgBW, BusBW float64
}

// Unmoved is a speed that is not known.
const Unmoved = -1.0

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{groups: make(map[uint32]*Group), numbers: make(map[Group]uint32), gone: make(map[uint32]bool),
		places: make(map[place]*row)}
}

// Group is the number of a group, the same one for the same group.
// Errors: ErrTooManyGroups.
func (t *Table) Group(g Group) (uint32, error) {
	if number, found := t.numbers[g]; found {
		delete(t.gone, number)
		return number, nil
	}
	if len(t.groups) >= MostGroups && !t.evict() || t.last == mostNumber {
		return 0, ErrTooManyGroups
	}
	t.last++
	t.groups[t.last], t.numbers[g] = &g, t.last
	return t.last, nil
}

// End says that a group is no more: it makes room where that is needed. Until then its records are taken in.
func (t *Table) End(g Group) {
	if number, found := t.numbers[g]; found {
		t.gone[number] = true
	}
}

// evict forgets the oldest of the groups that have ended; ok is false where none has.
func (t *Table) evict() (ok bool) {
	if len(t.gone) == 0 {
		return false
	}
	number := slices.Min(slices.Collect(maps.Keys(t.gone)))
	delete(t.numbers, *t.groups[number])
	delete(t.groups, number)
	delete(t.gone, number)
	return true
}

// isGone tells whether a group has ended.
func (t *Table) isGone(number uint32) bool { return t.gone[number] || t.groups[number] == nil }

// Groups are those named, in the order in which they were.
func (t *Table) Groups() (groups []*Group) {
	for _, number := range slices.Sorted(maps.Keys(t.groups)) {
		groups = append(groups, t.groups[number])
	}
	return groups
}

// Named is the group of a number, nil where there is none.
func (t *Table) Named(number uint32) *Group { return t.groups[number] }

// Listed is how many records found a row, also one that had to make room since. It never decreases.
func (t *Table) Listed() uint64 { return t.listed }

// Unlisted is how many records found no row: there are MostRows already, of groups that there still are.
func (t *Table) Unlisted() uint64 { return t.unlisted }

// Add takes a record in; ok is false for one of a group that was not named.
func (t *Table) Add(r Record) (ok bool) {
	group := t.groups[r.Group]
	if group == nil {
		return false
	}
	known, timed := r.Ended(), r.Timed()
	if !known {
		r.Duration, r.DurationError = Unknown, Unknown
	}
	if len(t.recent) < MostRecent {
		t.recent = append(t.recent, Recent{r, group})
	} else {
		t.recent[t.next] = Recent{r, group}
		t.next = (t.next + 1) % MostRecent
	}
	switch end := r.Enter + r.Duration; {
	case timed:
		t.busy.add(r.Enter, end)
	case known:
		from := r.Enter
		if r.DurationError != Unknown {
			from = max(from, end-r.DurationError)
		}
		t.busy.add(r.Enter, from)
		t.dim.add(from, end)
	}
	of := t.row(place{r.Op, r.Group, Bucket(r.Bytes)})
	if of == nil {
		t.unlisted++
		return true
	}
	of.Count++
	t.listed++
	if sum := of.Bytes + r.Bytes; sum >= of.Bytes {
		of.Bytes = sum // and not where it runs over: totals never go back
	}
	if !known {
		of.Unfinished++
		return true
	}
	if !timed && r.End == EndBound {
		return true
	}
	if len(of.ended) == mostDurations {
		of.ended = slices.Delete(of.ended, 0, 1)
	}
	of.ended = append(of.ended, ended{r.Enter + r.Duration, r.Duration, r.DurationError, r.Bytes, timed})
	of.changed = true
	return true
}

func (t *Table) row(p place) *row {
	of := t.places[p]
	if of == nil && (len(t.rows) < MostRows || t.evictRow()) {
		of = &row{place: p, Row: Row{Op: p.op, Group: t.groups[p.group], Bucket: p.bucket, AlgBW: Unmoved, BusBW: Unmoved}}
		t.rows = append(t.rows, of)
		t.places[p] = of
	}
	return of
}

// evictRow drops the first row of a group that has ended; ok is false where there is none.
func (t *Table) evictRow() (ok bool) {
	at := slices.IndexFunc(t.rows, func(r *row) bool { return t.isGone(r.place.group) })
	if at < 0 {
		return false
	}
	delete(t.places, t.rows[at].place)
	t.rows = slices.Delete(t.rows, at, at+1)
	return true
}

// Rows are all rows as they are now, in the order in which they came up. The slice is the caller's.
func (t *Table) Rows(now time.Duration) []Row {
	rows := make([]Row, len(t.rows))
	var room [mostDurations]float64
	for i, r := range t.rows {
		r.expire(now - Window)
		if r.changed {
			r.summarise(room[:0])
			r.changed = false
		}
		rows[i] = r.Row
	}
	return rows
}

// expire drops what ended before a moment. Ends come nearly in order; one that is late goes with those around it.
func (r *row) expire(before time.Duration) {
	n := 0
	for n < len(r.ended) && r.ended[n].at < before {
		n++
	}
	if n > 0 {
		r.ended = slices.Delete(r.ended, 0, n)
		r.changed = true
	}
}

// exactly is what share of a duration its error may be for the end to count as known exactly.
const exactly = 0.01

func (r *row) summarise(seconds []float64) {
	r.Ends, r.Exact = 0, 0
	r.AlgBW, r.BusBW = Unmoved, Unmoved
	for _, e := range r.ended {
		if e.timed {
			r.Ends++
		}
	}
	// Where most end too soon to be timed, the others are not like them.
	if r.Ends == 0 || 2*r.Ends < len(r.ended) {
		r.Ends = 0
		return
	}
	bytes := 0.0
	for _, e := range r.ended {
		if !e.timed {
			continue
		}
		seconds = append(seconds, e.duration.Seconds())
		bytes += float64(e.bytes)
		if e.error != Unknown && float64(e.error) <= exactly*float64(e.duration) {
			r.Exact++
		}
	}
	slices.Sort(seconds)
	p50 := stats.Quantile(seconds, 0.5)
	of := func(s float64) time.Duration { return time.Duration(s*1e9 + 0.5) }
	r.P50, r.P95, r.Max = of(p50), of(stats.Quantile(seconds, 0.95)), of(seconds[len(seconds)-1])
	if bytes == 0 || p50 <= 0 {
		return
	}
	r.AlgBW = bytes / float64(r.Ends) / p50
	if factor, ok := r.Op.BusFactor(r.Group.Size); ok {
		r.BusBW = factor * r.AlgBW
	}
}

// Recent are the newest records, oldest first, at most so many. The slice is the caller's.
func (t *Table) Recent(most int) []Recent {
	most = min(most, len(t.recent))
	records := make([]Recent, 0, most)
	for i := len(t.recent) - most; i < len(t.recent); i++ {
		records = append(records, t.recent[(t.next+i)%len(t.recent)])
	}
	return records
}

// Forget drops what Share needs for moments before this one, before which nobody may have recorded.
func (t *Table) Forget(before time.Duration) {
	t.busy.forget(before)
	t.dim.forget(before)
	t.watch.forget(before)
	t.since = max(t.since, before)
}

// Since is the moment from which on Share knows all.
func (t *Table) Since() time.Duration { return t.since }
