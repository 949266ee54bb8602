package monitor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/cluster"
	"netmon/core/collective"
	"netmon/core/sample"
)

// waiting is a source of records.
type waiting struct {
	mu      sync.Mutex
	records []collective.Record
	lost    uint64
	drained int
	now     time.Duration // of the newest drain
	told    bool
	pending int
	oldest  collective.Record
}

func (w *waiting) put(records ...collective.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, records...)
}

func (w *waiting) Drain(now time.Duration, into []collective.Record) (int, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = now
	got := copy(into, w.records)
	w.records = w.records[got:]
	w.drained += got
	lost := w.lost
	w.lost = 0
	return got, lost
}

func (w *waiting) Pending() (collective.Record, int, bool) { return w.oldest, w.pending, w.told }

func watched(t *testing.T, config string, w *waiting) (*Monitor, *clock.Fake) {
	t.Helper()
	x := newMachine(t, `{"sources": []}`)
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	parsed.Variables = map[string]string{}
	m, err := New(parsed, Options{FS: x.m.options.FS, Clock: x.clock, Links: x.links, NoLoop: true, Tools: (&fakeNetwork{}).tools(), Collectives: w})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m, x.clock
}

// now is a sample on demand.
func now(t *testing.T, m *Monitor) *sample.Sample {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, m.Sample(&text))
	assert.Empty(t, unexplained(t, text.Bytes()))
	var s sample.Sample
	require.NoError(t, json.Unmarshal(text.Bytes(), &s))
	return &s
}

// Groups come and go: the total of a digest and the groups that there are stay right.
func TestCollectives_groupsThatEnd(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	for i := range uint64(2 * collective.MostGroups) {
		number, err := m.CollectiveGroup(fmt.Appendf(nil, `{"name": "g%d", "size": 2}`, i))
		require.NoError(t, err)
		w.put(collective.Record{Op: collective.AllReduce, Group: number, End: collective.EndExact, Bytes: 4, Enter: clock.Monotonic(), Duration: 1})
		number, err = m.CollectiveGroup(fmt.Appendf(nil, `{"name": "g%d", "size": 2, "ended": true}`, i))
		require.NoError(t, err)
		assert.Zero(t, number)
	}
	clock.Advance(time.Second)
	m.Tick()
	assert.EqualValues(t, 2*collective.MostGroups, digest(t, m).CollectivesTotal)
	s := now(t, m)
	assert.Len(t, s.Collectives, collective.MostRows)
	assert.Zero(t, s.Self.CollectivesDroppedTotal)
	_, err := m.CollectiveGroup([]byte(`{"ended": true}`))
	assert.ErrorContains(t, err, "it is a group that ends")
}

// Before somebody watched there was no time without collectives: it is not known what there was.
func TestCollectives_ratioOfTheFirstWindow(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	for range 2 { // attached, and attached anew
		m.Tick()
		clock.Advance(800 * time.Millisecond)
		_, err := m.CollectiveGroup([]byte(`{"source": "torch hooks"}`))
		require.NoError(t, err)
		s := now(t, m)
		assert.Nil(t, s.CollectiveRatio)
		assert.Equal(t, "nobody watched in this window yet", s.Unavailable["collective_ratio"])
		world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
		require.NoError(t, err)
		w.put(collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndExact, Bytes: 1, Enter: clock.Monotonic(),
			Duration: 100 * time.Millisecond})
		clock.Advance(200 * time.Millisecond)
		assert.InDelta(t, 0.5, *now(t, m).CollectiveRatio, 1e-6)
		m.Tick()
		assert.InDelta(t, 0.5, digest(t, m).CollectiveRatio, 1e-6)
		clock.Advance(time.Second)
		assert.Zero(t, *now(t, m).CollectiveRatio)
		m.Tick()
	}
}

func TestCollectives_section(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	assert.Nil(t, now(t, m).Collectives, "nobody watches")

	number, err := m.CollectiveGroup([]byte(`{"source": "torch hooks", "unseen": "graph replays"}`))
	require.NoError(t, err)
	assert.Zero(t, number)
	s := now(t, m)
	assert.Equal(t, []sample.Collective{}, s.Collectives, "watched, and there is none")
	assert.Equal(t, "graph replays", s.Unavailable["collectives.unseen"])

	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4, "source": "torch hooks"}`))
	require.NoError(t, err)
	start := clock.Monotonic()
	const ms = time.Millisecond
	w.put(
		collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndExact, Bytes: 4 << 20, Enter: start + 100*ms, Duration: 200 * ms},
		collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndPolled, Bytes: 4 << 20, Enter: start + 200*ms, Duration: 200 * ms, DurationError: 20 * ms},
		collective.Record{Op: collective.Barrier, Group: world, End: collective.EndExact, Enter: start + 600*ms, Duration: 100 * ms},
		collective.Record{Op: collective.Send, Group: world, End: collective.EndUnknown, Bytes: 9, Duration: collective.Unknown},
		collective.Record{Op: collective.Other, Group: world, End: collective.EndExact, Bytes: 9, Enter: start, Duration: 1},
		collective.Record{Op: collective.Send, Group: 77},
	)
	w.lost = 3
	clock.Advance(time.Second)
	s = now(t, m)
	require.Len(t, s.Collectives, 4)
	row := s.Collectives[0]
	assert.Equal(t, []any{"all_reduce", "default_pg", uint64(4), uint64(4 << 20), uint64(2), uint64(8 << 20), "torch hooks", uint64(2)},
		[]any{row.Op, row.Group, row.GroupSize, row.SizeBucketBytes, row.Count, row.BytesTotal, row.Source, row.DurationCount})
	assert.InDelta(t, 0.2, *row.P50Seconds, 1e-9)
	assert.InDelta(t, 20<<20, *row.AlgBWBytesPerSecond, 1)
	assert.InDelta(t, 30<<20, *row.BusBWBytesPerSecond, 1)
	assert.InDelta(t, 0.5, *row.EndExactRatio, 1e-9)
	assert.Nil(t, s.Collectives[1].AlgBWBytesPerSecond)
	assert.EqualValues(t, 1, s.Collectives[2].Unfinished)
	assert.Equal(t, "no end is known well enough in the last 60 s: send of default_pg", s.Unavailable["collectives.p50_seconds"])
	assert.Equal(t, "no end is known well enough in the last 60 s: send of default_pg; moves no data: barrier of default_pg",
		s.Unavailable["collectives.algbw_bytes_per_second"])
	assert.Contains(t, s.Unavailable["collectives.busbw_bytes_per_second"], "not defined: other of default_pg")
	assert.InDelta(t, 0.4, *s.CollectiveRatio, 1e-6, "300 ms of all_reduce, overlapping, and 100 ms of barrier")
	assert.EqualValues(t, 4, s.Self.CollectivesDroppedTotal, "lost, and of a group that was not named")

	var text bytes.Buffer
	require.NoError(t, m.Query([]byte(`{"view": "collectives", "limit": 2}`), &text))
	var answer sample.Collectives
	require.NoError(t, json.Unmarshal(text.Bytes(), &answer))
	assert.Equal(t, []sample.CollectiveGroup{{Name: "default_pg", Size: 4, Source: "torch hooks"}}, answer.Groups)
	require.Len(t, answer.Recent, 2)
	assert.Equal(t, "send", answer.Recent[0].Op)
	assert.Nil(t, answer.Recent[0].DurationSeconds)
	assert.Equal(t, "exact", answer.Recent[1].End)

	// The next window has nothing in it, and the row stays.
	m.Tick()
	clock.Advance(2 * time.Minute)
	s = now(t, m)
	require.Len(t, s.Collectives, 4)
	assert.Nil(t, s.Collectives[0].P50Seconds)
	assert.Zero(t, *s.CollectiveRatio)
}

func TestCollectives_pending(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	reason := func() string {
		s := now(t, m)
		assert.Nil(t, s.CollectivePending)
		return s.Unavailable["collective_pending"]
	}
	assert.Contains(t, reason(), "nobody records them")
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
	require.NoError(t, err)
	assert.Equal(t, "nobody tells what is under way", reason())
	w.told = true
	assert.Equal(t, "nothing is under way for long", reason())

	w.pending = 2
	w.oldest = collective.Record{Op: collective.AllReduce, Group: world, Bytes: 4096, Enter: clock.Monotonic(), Sequence: 7}
	clock.Advance(3 * time.Second)
	sequence := uint64(7)
	want := sample.CollectivePending{Op: "all_reduce", Group: "default_pg", GroupSize: 4, Bytes: 4096, Sequence: &sequence, Seconds: 3, Count: 2}
	assert.Equal(t, want, *now(t, m).CollectivePending)
	clock.Advance(time.Second)
	want.Seconds = 4
	assert.Equal(t, want, *now(t, m).CollectivePending, "it grows")
	m.Tick()
	var text bytes.Buffer
	require.NoError(t, m.Query([]byte(`{"view": "history"}`), &text))
	assert.Contains(t, text.String(), `"collective_pending":{"op":"all_reduce"`)

	w.oldest.Sequence, w.oldest.Enter = collective.NoSequence, clock.Monotonic()+time.Hour
	want.Sequence, want.Seconds = nil, 0
	assert.Equal(t, want, *now(t, m).CollectivePending)
	w.oldest.Group = 2
	assert.Equal(t, "nothing is under way for long", reason(), "of a group that was not named")
	w.pending, w.oldest = 0, collective.Record{}
	assert.Equal(t, "nothing is under way for long", reason())
}

func TestCollectives_moreThanRoom(t *testing.T) {
	var w waiting
	m, _ := watched(t, `{"sources": ["collectives"]}`, &w)
	_, err := m.CollectiveGroup([]byte(`{"name": "g", "size": 2}`))
	require.NoError(t, err)
	for range 3*drainRoom + 1 {
		w.put(collective.Record{Op: collective.AllReduce, Group: 1, End: collective.EndExact, Bytes: 1, Duration: 1})
	}
	assert.EqualValues(t, 3*drainRoom+1, now(t, m).Collectives[0].Count)
}

func TestCollectives_samplesFarApart(t *testing.T) {
	var w waiting
	m, _ := watched(t, `{"sources": ["collectives"], "interval_seconds": 60}`, &w)
	_, err := m.CollectiveGroup([]byte(`{"name": "g", "size": 2}`))
	require.NoError(t, err)
	w.put(collective.Record{Op: collective.AllReduce, Group: 1})
	require.Eventually(t, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.drained == 1 }, 10*time.Second, 10*time.Millisecond)
	m.Close()
	require.Eventually(t, m.collectives.ended, 10*time.Second, time.Millisecond)
	_, err = m.CollectiveGroup([]byte(`{"name": "g", "size": 2}`))
	require.ErrorIs(t, err, ErrClosed)
}

func TestCollectives_notInSources(t *testing.T) {
	var w waiting
	m, _ := watched(t, `{"sources": ["tcp"]}`, &w)
	_, err := m.CollectiveGroup([]byte(`{"name": "g", "size": 2}`))
	require.ErrorIs(t, err, ErrNoCollectives)
	assert.Nil(t, now(t, m).Collectives)
	var text bytes.Buffer
	require.NoError(t, m.Query([]byte(`{"view": "collectives"}`), &text))
	assert.JSONEq(t, `{"groups": [], "recent": []}`, text.String())
}

func TestCollectives_badGroups(t *testing.T) {
	var w waiting
	m, _ := watched(t, "{}", &w)
	for text, want := range map[string]string{
		`{"name": "g"}`:            `"size" is missing`,
		`{"size": 2}`:              `"name" is missing`,
		`{"name": "g", "size": 0}`: "from 1 to",
		`{"name": "", "size": 2}`:  `"name" is empty`,
		`{"name": 3, "size": 2}`:   "must be a string",
		`{"groups": 1}`:            "the keys are busy_looks, complete_ns, ended, looks, name, size, source, unseen, watching",
		`[]`:                       "must be a JSON object such as",
		`{"source": "` + strings.Repeat("x", 65) + `"}`: "at most 64",
	} {
		_, err := m.CollectiveGroup([]byte(text))
		var wrong *TextError
		require.ErrorAs(t, err, &wrong, text)
		assert.Contains(t, err.Error(), want, text)
	}
}

func FuzzParseGroup(f *testing.F) {
	f.Add([]byte(`{"name": "default_pg", "size": 8, "source": "torch hooks", "unseen": "graph replays"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseGroup(text)
		if err == nil && (g.group.Name == "") != (g.group.Size == 0) {
			t.Errorf("a group without a name or a size: %+v", g)
		}
	})
}

// A sample that had to wait for the lock drains at its own time, not at that of its counters: the ring would take the difference to an
// earlier drain for a long one, and give records up that are being written.
func TestCollectives_drainedInOrder(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	_, err := m.CollectiveGroup([]byte(`{"name": "g", "size": 4}`))
	require.NoError(t, err)
	counted := clock.Monotonic()
	clock.Advance(time.Second)
	m.recentCollectives(1) // while the sample waits
	before := w.now
	m.collectives.fill(&document{}, &occasion{moment: moment{monotonic: counted}})
	assert.GreaterOrEqual(t, w.now, before)
}

// A question that was on its way when the monitor was closed takes nothing out: who opens the next monitor may have the same ring.
func TestCollectives_closed(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	group, err := m.CollectiveGroup([]byte(`{"name": "g", "size": 4}`))
	require.NoError(t, err)
	m.Close()
	w.put(collective.Record{Op: collective.AllReduce, Group: group, End: collective.EndExact, Bytes: 1, Duration: 1})
	m.recentCollectives(1)
	var d cluster.Digest
	m.collectives.digest(&d, 0, 1, clock.Monotonic(), time.Second)
	assert.Zero(t, w.drained)
}
