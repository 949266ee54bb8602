package monitor

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"netmon/core/clock"
	"netmon/core/cluster"
	"netmon/core/collective"
	"netmon/core/sample"
	"netmon/core/units"
)

// CollectiveSource is where records of collectives wait to be taken in.
type CollectiveSource interface {
	// Drain takes records out, into as many as there is room for, and tells how many were lost since the last call. One call at a
	// time.
	Drain(now time.Duration, into []collective.Record) (got int, lost uint64)
	// Pending is what is under way for long: the oldest, and how many; 0 for none. told is false where nobody has told yet.
	Pending() (oldest collective.Record, count int, told bool)
}

// ErrNoCollectives means that the configuration does not have the section.
var ErrNoCollectives = errors.New(`"collectives" is not in the configuration's sources`)

// drainInterval is how often records are taken in where samples come more rarely: the ring they wait in is bounded.
const drainInterval = time.Second

const nobodyAnyMore = "nobody records collectives any more"

// drainRoom is how many records are taken out at a time.
const drainRoom = 256

// collectives is the part of samples about collectives.
type collectives struct {
	m      *Monitor
	waker  clock.Waker
	going  atomic.Bool // the goroutine that takes records in
	closed atomic.Bool

	mu      sync.Mutex // guards what follows
	table   *collective.Table
	watched bool   // somebody records, or did
	left    bool   // nobody does any more
	unseen  string // what they do not see
	dropped uint64
	failure string // what ended the goroutine
	marks   markRing
	room    [drainRoom]collective.Record
}

func newCollectives(m *Monitor) *collectives { return &collectives{m: m, table: collective.NewTable()} }

// groupRequest is what the caller of netmon_collective_group says.
type groupRequest struct {
	group  collective.Group
	ended  bool
	unseen string
	watch  *collective.Watch // what was watched so far
	left   bool              // nobody watches any more
}

// Bounds of its texts, in bytes.
const (
	mostGroupName   = 256
	mostSourceName  = 64
	mostUnseenBytes = 1024
)

func parseGroup(text []byte) (g groupRequest, err error) {
	d := decoder{what: "group", example: `{"name": "default_pg", "size": 8}`}
	word := func(into *string, most int) func(string, []byte) error {
		return func(key string, value []byte) (err error) {
			if *into, err = d.string(key, value); err != nil {
				return err
			}
			if *into == "" {
				return d.fail(key, "is empty; leave it out where it is not known")
			}
			if len(*into) > most {
				return d.fail(key, "is %d bytes long; at most %d are read", len(*into), most)
			}
			if !utf8.ValidString(*into) {
				return d.fail(key, "is not UTF-8 text")
			}
			return nil
		}
	}
	watched := func(set func(*collective.Watch, int64)) func(string, []byte) error {
		return func(key string, value []byte) error {
			number, err := d.integer(key, value, 0, math.MaxInt64)
			if err != nil {
				return err
			}
			if g.watch == nil {
				g.watch = &collective.Watch{}
			}
			set(g.watch, *number)
			return nil
		}
	}
	err = d.object(text, MaxConfigBytes, map[string]func(string, []byte) error{
		"name":   word(&g.group.Name, mostGroupName),
		"source": word(&g.group.Source, mostSourceName),
		"unseen": word(&g.unseen, mostUnseenBytes),
		"ended": func(key string, value []byte) (err error) {
			g.ended, err = d.boolean(key, value)
			return err
		},
		"size": func(key string, value []byte) error {
			number, err := d.integer(key, value, 1, 1<<31-1)
			if err == nil {
				g.group.Size = uint64(*number)
			}
			return err
		},
		"watching": func(key string, value []byte) error {
			is, err := d.boolean(key, value)
			g.left = !is
			return err
		},
		"complete_ns": watched(func(w *collective.Watch, n int64) { w.Until = time.Duration(n) }),
		"looks":       watched(func(w *collective.Watch, n int64) { w.Looks = uint64(n) }),
		"busy_looks":  watched(func(w *collective.Watch, n int64) { w.Busy = uint64(n) }),
	})
	if err == nil && g.group.Name != "" && g.group.Size == 0 {
		err = d.fail("size", "is missing; say how many ranks the group has")
	}
	if err == nil && g.group.Name == "" && g.group.Size != 0 {
		err = d.fail("name", "is missing; a size is of a group")
	}
	if err == nil && g.group.Name == "" && g.ended {
		err = d.fail("name", "is missing; it is a group that ends")
	}
	return g, err
}

// CollectiveGroup names a group of ranks, or, without a name, says that somebody watches collectives from now on. The number is
// what records of its collectives carry, 0 without a name.
// Errors: *TextError, ErrClosed, ErrNoCollectives, collective.ErrTooManyGroups.
func (m *Monitor) CollectiveGroup(text []byte) (number uint32, err error) {
	request, err := parseGroup(text)
	if err != nil {
		return 0, err
	}
	if m.closing.Load() {
		return 0, ErrClosed
	}
	c := m.collectives
	if c == nil {
		return 0, ErrNoCollectives
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if request.ended {
		c.table.End(request.group)
		return 0, nil
	}
	if request.group.Name != "" {
		c.drain() // its room may be that of a group whose records wait
		if number, err = c.table.Group(request.group); err != nil {
			return 0, err
		}
	}
	switch now := m.clock.Monotonic(); {
	case request.left:
		c.left = true
		c.drain()
		return 0, nil
	case request.watch != nil:
		c.drain() // what he says is complete
		c.table.Watched(now, *request.watch)
		return 0, nil
	case !c.watched || request.group.Name == "":
		c.table.Restart(now) // what was under way before nobody saw
	}
	c.watched, c.left = true, false
	if request.unseen != "" {
		c.unseen = request.unseen
	}
	if m.config.Interval > drainInterval && m.options.Collectives != nil && !c.closed.Load() && !c.going.Swap(true) {
		go c.keepDraining()
	}
	return number, nil
}

// keepDraining takes records in between samples that are far apart.
func (c *collectives) keepDraining() {
	defer c.going.Store(false)
	defer func() {
		if p := recover(); p != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.failure = fmt.Sprintf("internal error, collectives are taken in by samples only: %v", p)
		}
	}()
	for !c.closed.Load() {
		c.waker.Wait(drainInterval)
		c.m.charge(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.drain()
		})
	}
}

// drain takes in what was recorded. The caller holds the lock. Nothing is taken in after the end: the records that wait there may be
// those of another monitor by then.
func (c *collectives) drain() {
	source := c.m.options.Collectives
	if source == nil || !c.watched || c.closed.Load() {
		return
	}
	// Not without end, should records come as fast as they are taken out.
	const rounds = 64
	now := c.m.clock.Monotonic() // not that of a sample which waited for the lock: one drain is not before another
	for range rounds {
		got, lost := source.Drain(now, c.room[:])
		c.dropped += lost
		for i := range c.room[:got] {
			if !c.table.Add(c.room[i]) {
				c.dropped++
				continue
			}
			c.marks.add(&c.room[i], c.table.Named(c.room[i].Group))
		}
		if got < len(c.room) {
			return
		}
	}
}

func (c *collectives) fill(d *document, now *occasion) (bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.watched {
		const reason = "nobody records them; netmon.integrations.torch.attach(monitor) does"
		d.lack("collectives", reason)
		d.lack("collective_ratio", reason)
		d.lack("collective_pending", reason)
		return 0
	}
	c.drain()
	d.self.CollectivesDroppedTotal, d.self.CollectivesUnlistedTotal = c.dropped, c.table.Unlisted()
	c.fillRatio(d, now)
	rows := c.table.Rows(now.monotonic)
	d.Collectives = make([]sample.Collective, len(rows))
	for i := range rows {
		setCollective(&d.Collectives[i], &rows[i])
	}
	c.explain(d, rows)
	return len(rows)*sample.CollectiveBytes + c.fillPending(d, now.monotonic)
}

// fillRatio says which share of the window collectives were under way, of one in which somebody began to watch of the part since.
func (c *collectives) fillRatio(d *document, now *occasion) {
	switch {
	case c.left:
		d.lack("collective_ratio", nobodyAnyMore)
		return
	case now.base == nil || now.window <= 0:
		d.lack("collective_ratio", c.m.whyNoWindow())
		return
	}
	pending := now.monotonic
	if oldest, _, why := c.pending(); why == "" {
		pending = oldest.Enter
	}
	share, ok := c.table.Share(now.base.monotonic, now.monotonic, pending)
	switch {
	case ok:
		d.CollectiveRatio = d.real(share)
	case c.table.Since() > now.base.monotonic:
		d.lack("collective_ratio", "nobody watched in this window yet")
	default:
		d.lack("collective_ratio", "ends are looked for now and then only, to spare the job, and there were too few looks yet")
	}
}

// pending is what is under way for long: the oldest, and how many. Where none is, why says so. The caller holds the lock.
func (c *collectives) pending() (oldest collective.Record, count int, why string) {
	source := c.m.options.Collectives
	switch {
	case source == nil:
		return oldest, 0, "nobody tells what is under way"
	case c.left:
		return oldest, 0, nobodyAnyMore
	}
	oldest, count, told := source.Pending()
	switch {
	case !told:
		return oldest, 0, "nobody tells what is under way"
	case count == 0 || !c.isNamed(oldest.Group):
		return oldest, 0, "nothing is under way for long"
	}
	return oldest, count, ""
}

// pendingCount is how many are under way for long, cluster.None where nobody tells, or not in which group. The caller holds the lock.
func (c *collectives) pendingCount() uint64 {
	source := c.m.options.Collectives
	if source == nil || c.left {
		return cluster.None
	}
	oldest, count, told := source.Pending()
	if !told || count > 0 && !c.isNamed(oldest.Group) {
		return cluster.None
	}
	return uint64(count)
}

// isNamed tells whether a number is that of a group. The caller holds the lock.
func (c *collectives) isNamed(group uint32) bool { return c.table.Named(group) != nil }

func (c *collectives) fillPending(d *document, now time.Duration) (bytes int) {
	oldest, count, why := c.pending()
	if why != "" {
		d.lack("collective_pending", why)
		return 0
	}
	if oldest.Sequence == collective.NoSequence {
		d.lack("collective_pending.sequence", "it has no number that ranks share")
	}
	group := c.table.Named(oldest.Group)
	d.CollectivePending = &sample.CollectivePending{
		Op: oldest.Op.String(), Group: group.Name, GroupSize: group.Size, Bytes: oldest.Bytes, Sequence: knownSequence(oldest.Sequence),
		Seconds: units.Seconds(max(now-oldest.Enter, 0)), Count: uint64(count),
	}
	return sample.CollectivePendingBytes
}

// setCollective writes one row of a document.
func setCollective(to *sample.Collective, r *collective.Row) {
	*to = sample.Collective{
		Op: r.Op.String(), Group: r.Group.Name, GroupSize: r.Group.Size, Source: r.Group.Source, SizeBucketBytes: r.Bucket,
		Count: r.Count, BytesTotal: r.Bytes, Unfinished: r.Unfinished, DurationCount: uint64(r.Ends),
	}
	if r.Ends == 0 {
		return
	}
	reals := &[6]float64{units.Seconds(r.P50), units.Seconds(r.P95), units.Seconds(r.Max), r.AlgBW, r.BusBW,
		float64(r.Exact) / float64(r.Ends)}
	to.P50Seconds, to.P95Seconds, to.MaxSeconds, to.EndExactRatio = &reals[0], &reals[1], &reals[2], &reals[5]
	if r.AlgBW != collective.Unmoved {
		to.AlgBWBytesPerSecond = &reals[3]
	}
	if r.BusBW != collective.Unmoved {
		to.BusBWBytesPerSecond = &reals[4]
	}
}

// explain says what the rows lack, and what nobody sees.
func (c *collectives) explain(d *document, rows []collective.Row) {
	if c.unseen != "" {
		d.lack("collectives.unseen", c.unseen)
	}
	var unended, unmoved, undefined named
	for i := range rows {
		r := &rows[i]
		name := r.Op.String() + " of " + r.Group.Name
		switch {
		case r.Ends == 0:
			unended.add("no end is known well enough in the last 60 s", name)
		case r.AlgBW == collective.Unmoved:
			unmoved.add("moves no data", name)
		case r.BusBW == collective.Unmoved:
			undefined.add("not defined", name)
		}
	}
	lack := func(reason string, fields ...string) {
		for _, field := range fields {
			if reason != "" {
				d.lack("collectives."+field, reason)
			}
		}
	}
	lack(unended.String(), "p50_seconds", "p95_seconds", "max_seconds", "end_exact_ratio")
	lack(join(unended.String(), unmoved.String()), "algbw_bytes_per_second")
	lack(join(unended.String(), unmoved.String(), undefined.String()), "busbw_bytes_per_second")
}

// join puts reasons together, those that there are.
func join(reasons ...string) (all string) {
	for _, r := range reasons {
		if r != "" && all != "" {
			all += "; "
		}
		all += r
	}
	return all
}

// remember drops what no window can begin before any more.
func (c *collectives) remember(uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The records are moved on after this: the last one goes. Windows of digests begin further back.
	if r := c.m.records[keptRecords-2]; r != nil {
		c.table.Forget(min(r.monotonic, c.m.readAt-max(markIntervals*c.m.config.ClusterInterval, collective.Window)))
	}
}

func (c *collectives) problems() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != "" {
		return []string{c.failure}
	}
	return nil
}

func (c *collectives) close() {
	c.closed.Store(true)
	c.waker.Wake()
}

// leave waits until nobody takes records in any more; it is closed.
func (c *collectives) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
}

func (c *collectives) ended() bool { return !c.going.Load() }

// recentCollectives is what was taken in last.
func (m *Monitor) recentCollectives(most int) sample.Collectives {
	answer := sample.Collectives{Groups: []sample.CollectiveGroup{}, Recent: []sample.CollectiveRecord{}}
	c := m.collectives
	if c == nil {
		return answer
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	for _, g := range c.table.Groups() {
		answer.Groups = append(answer.Groups, sample.CollectiveGroup{Name: g.Name, Size: g.Size, Source: g.Source})
	}
	for _, r := range c.table.Recent(most) {
		g := r.Of
		row := sample.CollectiveRecord{
			Op: r.Op.String(), Group: g.Name, GroupSize: g.Size, Bytes: r.Bytes, EnterSeconds: units.Seconds(r.Enter), End: r.End.String(),
			DurationSeconds: knownSeconds(r.Duration), DurationErrorSeconds: knownSeconds(r.DurationError),
			Sequence: knownSequence(r.Sequence),
		}
		answer.Recent = append(answer.Recent, row)
	}
	return answer
}

func knownSeconds(d time.Duration) *float64 {
	if d == collective.Unknown {
		return nil
	}
	seconds := units.Seconds(d)
	return &seconds
}

func knownSequence(sequence uint64) *uint64 {
	if sequence == collective.NoSequence {
		return nil
	}
	return &sequence
}
