package collective

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const ms = time.Millisecond

func TestBusFactor(t *testing.T) {
	for op, want := range map[Op]float64{
		AllReduce: 1.5, AllGather: 0.75, ReduceScatter: 0.75, AllToAll: 0.75, Gather: 0.75, Scatter: 0.75,
		Broadcast: 1, Reduce: 1, Send: 1, Recv: 1,
	} {
		got, ok := op.BusFactor(4)
		assert.True(t, ok, op)
		assert.InDelta(t, want, got, 1e-12, op)
	}
	for _, op := range []Op{Barrier, Other, 0, 99} {
		_, ok := op.BusFactor(4)
		assert.False(t, ok, op)
	}
	alone, ok := AllReduce.BusFactor(1)
	assert.True(t, ok)
	assert.Zero(t, alone, "as nccl-tests has it")
}

func TestNames(t *testing.T) {
	assert.Equal(t, "all_reduce", AllReduce.String())
	assert.Equal(t, "other", Other.String())
	assert.Equal(t, "unknown", Op(77).String())
	assert.Equal(t, "failed", EndFailed.String())
	assert.Equal(t, "unknown", End(9).String())
}

func TestBucket(t *testing.T) {
	for size, want := range map[uint64]uint64{0: 0, 1: 1, 3: 2, 4: 4, 1<<20 - 1: 1 << 19, 1 << 20: 1 << 20, 1<<64 - 1: 1 << 63} {
		assert.Equal(t, want, Bucket(size), size)
	}
}

func table(t *testing.T, groups ...Group) *Table {
	t.Helper()
	x := NewTable()
	for i, g := range groups {
		number, err := x.Group(g)
		require.NoError(t, err)
		require.EqualValues(t, i+1, number)
	}
	return x
}

var (
	world = Group{"default_pg", 4, "torch hooks"}
	pair  = Group{"pair", 2, "torch hooks"}
)

func TestTable_rows(t *testing.T) {
	x := table(t, world, pair)
	again, err := x.Group(world)
	require.NoError(t, err)
	assert.EqualValues(t, 1, again, "the same group")

	for i := range 10 {
		require.True(t, x.Add(Record{Op: AllReduce, Group: 1, End: EndExact, Bytes: 1 << 20, Enter: time.Duration(i) * 100 * ms,
			Duration: time.Duration(i+1) * ms, DurationError: 0, Sequence: uint64(i)}))
	}
	x.Add(Record{Op: AllReduce, Group: 2, End: EndPolled, Bytes: 3000, Enter: time.Second, Duration: 10 * ms, DurationError: ms})
	x.Add(Record{Op: Barrier, Group: 2, End: EndExact, Enter: time.Second, Duration: 2 * ms, DurationError: 0})
	x.Add(Record{Op: ReduceScatter, Group: 1, End: EndUnknown, Bytes: 64, Duration: 5, Enter: time.Second})
	x.Add(Record{Op: ReduceScatter, Group: 1, End: EndFailed, Bytes: 64, Duration: Unknown, Enter: time.Second})
	assert.False(t, x.Add(Record{Op: AllReduce, Group: 3}), "not named")
	assert.False(t, x.Add(Record{Op: AllReduce}), "not named")

	rows := x.Rows(2 * time.Second)
	require.Len(t, rows, 4)
	all := rows[0]
	assert.Equal(t, AllReduce, all.Op)
	assert.Equal(t, &world, all.Group)
	assert.EqualValues(t, 1<<20, all.Bucket)
	assert.EqualValues(t, 10, all.Count)
	assert.EqualValues(t, 10<<20, all.Bytes)
	assert.Equal(t, 5500*time.Microsecond, all.P50)
	assert.Equal(t, 9550*time.Microsecond, all.P95)
	assert.Equal(t, 10*ms, all.Max)
	assert.InDelta(t, float64(1<<20)/0.0055, all.AlgBW, 1)
	assert.InDelta(t, 1.5*float64(1<<20)/0.0055, all.BusBW, 1)
	assert.Equal(t, 10, all.Exact)

	assert.Equal(t, 0, rows[1].Exact, "10 % off")
	assert.EqualValues(t, 2048, rows[1].Bucket)
	assert.InDelta(t, 300000, rows[1].AlgBW, 0.01, "the size, not the bucket")
	assert.Equal(t, 2*ms, rows[2].P50)
	assert.Equal(t, Unmoved, rows[2].AlgBW, "a barrier moves nothing")
	assert.Equal(t, 0, rows[3].Ends)
	assert.EqualValues(t, 2, rows[3].Unfinished)
	assert.EqualValues(t, 128, rows[3].Bytes)

	// A minute later only the counts are left.
	later := x.Rows(62 * time.Second)
	assert.Equal(t, 0, later[0].Ends)
	assert.Equal(t, Unmoved, later[0].AlgBW)
	assert.EqualValues(t, 10, later[0].Count)
}

func TestTable_bounds(t *testing.T) {
	x := table(t, world)
	for i := range 8 * MostRecent {
		x.Add(Record{Op: Send, Group: 1, End: EndExact, Bytes: 8, Enter: time.Duration(i) * ms, Duration: ms, Sequence: uint64(i)})
	}
	rows := x.Rows(8 * MostRecent * ms)
	assert.Equal(t, mostDurations, rows[0].Ends)
	assert.EqualValues(t, 8*MostRecent, rows[0].Count)
	recent := x.Recent(3)
	assert.Equal(t, []uint64{2045, 2046, 2047}, []uint64{recent[0].Sequence, recent[1].Sequence, recent[2].Sequence})
	assert.Len(t, x.Recent(1<<20), MostRecent)

	for i := range MostGroups - 1 {
		_, err := x.Group(Group{"g", uint64(i), ""})
		require.NoError(t, err)
	}
	_, err := x.Group(Group{"one more", 1, ""})
	require.ErrorIs(t, err, ErrTooManyGroups)
	_, err = x.Group(world)
	require.NoError(t, err, "a known one is fine")
	for i := range MostGroups {
		x.Add(Record{Op: Recv, Group: uint32(i + 1), Bytes: 1})
	}
	assert.Len(t, x.Rows(0), MostRows)
	assert.EqualValues(t, MostGroups-(MostRows-1), x.Unlisted())
}

// A job that makes and destroys groups for days: each has its own number and rows, and what is counted never goes back.
func TestTable_groupsThatEnd(t *testing.T) {
	x := table(t, world)
	seen, before := map[uint32]bool{1: true}, uint64(0)
	for i := range 3 * MostGroups {
		g := Group{strconv.Itoa(i), 2, "torch hooks"}
		number, err := x.Group(g)
		require.NoError(t, err)
		require.False(t, seen[number], "a number is given once")
		seen[number] = true
		for _, of := range []uint32{1, number} {
			require.True(t, x.Add(Record{Op: AllReduce, Group: of, End: EndExact, Bytes: 8, Enter: time.Second, Duration: ms}))
		}
		rows := x.Rows(time.Second)
		last := rows[len(rows)-1]
		require.Equal(t, []any{g, uint64(1)}, []any{*last.Group, last.Count})
		require.Equal(t, []any{world, uint64(i + 1)}, []any{*rows[0].Group, rows[0].Count}, "the group that is there stays")
		x.End(g)
		require.True(t, x.Add(Record{Op: AllReduce, Group: number, End: EndExact, Bytes: 8, Enter: time.Second, Duration: ms}), "late")
		require.Greater(t, x.Listed(), before)
		before = x.Listed()
	}
	assert.Zero(t, x.Unlisted())
	assert.LessOrEqual(t, len(x.Groups()), MostGroups)
	assert.Len(t, x.Rows(0), MostRows)
	assert.False(t, x.Add(Record{Op: AllReduce, Group: 2}), "of one that had to make room: it is of no other")
	recent := x.Recent(2)
	assert.Equal(t, strconv.Itoa(3*MostGroups-1), recent[1].Of.Name)

	// One that is made anew goes on.
	last := Group{strconv.Itoa(3*MostGroups - 1), 2, "torch hooks"}
	number, err := x.Group(last)
	require.NoError(t, err)
	assert.EqualValues(t, 3*MostGroups+1, number)
	for i := range MostGroups {
		if _, err = x.Group(Group{"stays", uint64(i + 1), ""}); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrTooManyGroups)
	assert.Equal(t, last, *x.Named(number))
}

// What a broken caller says neither runs over nor lasts.
func TestTable_absurdRecords(t *testing.T) {
	x := table(t, world)
	add := func(enter, duration time.Duration, bytes uint64) {
		require.True(t, x.Add(Record{Op: AllReduce, Group: 1, End: EndExact, Bytes: bytes, Enter: enter, Duration: duration}))
	}
	const last = time.Duration(math.MaxInt64)
	add(last, last, 1<<63)     // its end runs over
	add(Unknown, last, 1<<63)  // it began before all time
	add(Unknown, ms, 1<<63)    // so did this
	add(time.Second, -5*ms, 1) // it ended before
	add(2*time.Second, ms, 8)
	rows := x.Rows(3 * time.Second)
	assert.EqualValues(t, 3, rows[0].Count)
	assert.Equal(t, uint64(1<<63), rows[0].Bytes, "a total never goes back")
	assert.EqualValues(t, 3, rows[0].Unfinished)
	assert.Zero(t, rows[0].Ends)
	assert.Equal(t, []int{0, 1}, []int{rows[1].Ends, rows[2].Ends})
	share, ok := x.Share(0, 3*time.Second, 3*time.Second)
	assert.True(t, ok)
	assert.InDelta(t, 1.0/3000, share, 1e-12)
}

func TestTable_recentBeforeFull(t *testing.T) {
	x := table(t, world)
	assert.Empty(t, x.Recent(5))
	for i := range 4 {
		x.Add(Record{Op: Send, Group: 1, Sequence: uint64(i)})
	}
	recent := x.Recent(2)
	assert.EqualValues(t, 2, recent[0].Sequence)
	assert.EqualValues(t, 3, recent[1].Sequence)
}

// Only what is known well enough is a duration; of the others the part in which they were under way for sure counts.
func TestRecord_timed(t *testing.T) {
	for _, x := range []struct {
		end             End
		duration, error time.Duration
		timed           bool
	}{
		{EndExact, 5 * ms, 0, true},
		{EndExact, 5 * ms, Unknown, true},
		{EndBound, 5 * ms, Unknown, false},
		{EndPolled, 5 * ms, ms, true},
		{EndPolled, ms, ms, false},
		{EndPolled, 3 * ms, 2 * ms, false},
		{EndPolled, 5 * ms, 2*ms + 1, false},
		{EndPolled, time.Second, 100 * ms, true},
		{EndPolled, time.Second, 101 * ms, false},
		{EndPolled, time.Second, 2 * time.Second, false},
		{EndFailed, time.Second, 0, false},
	} {
		r := Record{Op: AllReduce, Group: 1, End: x.end, Bytes: 8, Enter: time.Second, Duration: x.duration, DurationError: x.error}
		assert.Equal(t, x.timed, r.Timed(), x)
		table := table(t, world)
		table.Add(r)
		row := table.Rows(time.Second)[0]
		assert.EqualValues(t, 1, row.Count)
		assert.Equal(t, x.timed, row.Ends == 1, x)
		_, known := table.Share(time.Second, 3*time.Second, 3*time.Second)
		assert.Equal(t, x.timed || x.end == EndFailed, known, x)
	}
}

// Most end too soon to be timed: the few that can be are the longest, and say nothing of the others. Bounds say nothing at all.
func TestTable_endsTooSoonToBeTimed(t *testing.T) {
	x := table(t, world)
	add := func(n int, end End, duration, error time.Duration) {
		for range n {
			x.Add(Record{Op: AllReduce, Group: 1, End: end, Bytes: 8, Enter: time.Second, Duration: duration, DurationError: error})
		}
	}
	row := func() Row { return x.Rows(2 * time.Second)[0] }
	add(10, EndPolled, 5*ms, ms)
	add(300, EndBound, 9*ms, 9*ms)
	assert.Equal(t, 10, row().Ends)
	assert.Equal(t, 5*ms, row().P50)
	add(10, EndPolled, ms, ms)
	assert.Equal(t, 10, row().Ends)
	add(1, EndPolled, ms, ms)
	assert.Zero(t, row().Ends)
	assert.Equal(t, Unmoved, row().BusBW)
	add(1, EndPolled, 6*ms, ms)
	assert.Equal(t, 11, row().Ends)
}

// Where records come late, a window is that of what was complete at its ends.
func TestTable_shareOfWhatIsComplete(t *testing.T) {
	x := table(t, world)
	var shares []float64
	for i := range 200 {
		now := time.Duration(i+1) * 250 * ms
		// Two in a quarter of a second, told at its end; a third is under way then.
		for k := range 2 {
			x.Add(Record{Op: AllReduce, Group: 1, End: EndExact, Enter: now - time.Duration(220-100*k)*ms, Duration: 80 * ms})
		}
		x.Watched(now, Watch{Until: now - 20*ms, Looks: uint64(i), Busy: uint64(i)})
		for _, at := range []time.Duration{now + 10*ms, now + 130*ms, now + 240*ms} {
			for _, long := range []time.Duration{100 * ms, 200 * ms, time.Second, 2 * time.Second} {
				if i < 20 {
					continue
				}
				share, ok := x.Share(at-long, at, at)
				require.True(t, ok)
				assert.InDelta(t, 160./250, share, 1e-9)
				shares = append(shares, share)
			}
		}
		x.Forget(now - Window)
	}
	assert.Len(t, shares, 180*12)
	now := 200 * 250 * ms
	share, ok := x.Share(now-time.Second, now+3*time.Second, now)
	require.True(t, ok)
	assert.InDelta(t, 1-0.36/4, share, 0.01, "one is under way for three seconds")
	share, _ = x.Share(now+time.Second, now+3*time.Second, now)
	assert.Equal(t, 1.0, share)
	x.Restart(now + 3*time.Second)
	_, ok = x.Share(now, now+3*time.Second, now+3*time.Second)
	assert.False(t, ok, "nobody watched")
}

// Where ends are not known, the share is that of the looks.
func TestTable_shareOfLooks(t *testing.T) {
	x := table(t, world)
	for i := range uint64(300) {
		now := time.Duration(i+1) * 250 * ms
		x.Add(Record{Op: AllReduce, Group: 1, End: EndPolled, Enter: now - 240*ms, Duration: 240 * ms, DurationError: 240 * ms})
		x.Watched(now, Watch{Until: now, Looks: i, Busy: i / 3})
		share, ok := x.Share(now-time.Second, now, now)
		require.Equal(t, i >= leastLooks, ok)
		if ok {
			assert.InDelta(t, 1./3, share, 0.02)
		}
		x.Forget(now - Window)
		assert.LessOrEqual(t, len(x.watch.told), 242)
	}
	x.Watched(75*time.Second, Watch{Until: 70 * time.Second, Looks: 300, Busy: 100})
	_, ok := x.Share(74*time.Second, 75*time.Second, 75*time.Second)
	assert.True(t, ok, "a call that became known late takes nothing back")
	for i := range uint64(4 * mostTold) {
		x.Watched(75*time.Second+time.Duration(i), Watch{Until: 75 * time.Second, Looks: 300 + i, Busy: 100})
	}
	assert.LessOrEqual(t, len(x.watch.told), mostTold)

	x.Watched(76*time.Second, Watch{Until: 76 * time.Second})
	_, ok = x.Share(74*time.Second, 76*time.Second, 76*time.Second)
	assert.False(t, ok, "another one tells, and has not looked yet")
}

func TestBusy_countsEachMomentOnce(t *testing.T) {
	var b busy
	b.add(10, 20)
	b.add(30, 40)
	b.add(15, 18) // inside
	b.add(38, 45) // overlaps
	b.add(20, 22) // touches
	b.add(5, 5)   // nothing
	assert.EqualValues(t, 12+15, b.between(0, 100))
	assert.EqualValues(t, 7+5, b.between(15, 35))
	b.add(0, 100)
	assert.EqualValues(t, 100, b.between(0, 100))
	assert.Len(t, b.spans, 1)
	b.forget(101)
	assert.Empty(t, b.spans)
}

// The union of random spans is what marking every moment finds.
func TestBusy_random(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var b busy
		var marked [300]bool
		for range 40 {
			begin := random.IntN(280)
			end := begin + random.IntN(20)
			b.add(time.Duration(begin), time.Duration(end))
			for i := begin; i < end; i++ {
				marked[i] = true
			}
		}
		from, to := random.IntN(150), 150+random.IntN(150)
		want := 0
		for i := from; i < to; i++ {
			if marked[i] {
				want++
			}
		}
		require.EqualValues(t, want, b.between(time.Duration(from), time.Duration(to)))
	}
}

// However many there are, the share of a long time stays right.
func TestBusy_coarse(t *testing.T) {
	var b busy
	const n = 20 * mostSpans
	for i := range n {
		b.add(time.Duration(i)*10*ms, time.Duration(i)*10*ms+3*ms)
	}
	assert.LessOrEqual(t, len(b.spans), mostSpans)
	assert.InDelta(t, 0.3, float64(b.between(0, n*10*ms))/float64(n*10*ms), 0.001)
	assert.InDelta(t, 0.3, float64(b.between((n-1000)*10*ms, n*10*ms))/float64(10000*ms), 0.001)
	assert.InDelta(t, 0.3, float64(b.between(n*2*ms, n*7*ms))/float64(n*5*ms), 0.02, "the old ones are spread evenly")
}
