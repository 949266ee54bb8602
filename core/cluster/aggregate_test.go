package cluster

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// job is a job whose processes say digests when a test tells them to.
type job struct {
	t      *testing.T
	a      *Aggregator
	now    time.Duration
	said   map[string]*Digest
	stored map[string][]byte // as a store has them: the newest of each
	world  int64
	gone   []int64
	also   [][]byte // digests beside
}

func newJob(t *testing.T, world int64) *job {
	return &job{t: t, a: NewAggregator(), said: map[string]*Digest{}, stored: map[string][]byte{}, world: world}
}

// start has a process of a rank on a node, which says nothing yet. It is started now, by the clock of all nodes.
func (j *job) start(key string, rank uint64, node uint64, host string) *Digest {
	d := usual(rank)
	d.Node, d.Hostname, d.Sequence, d.Peers, d.Marks = node, host, 0, nil, nil
	d.Process = uint64(j.now) + 1_700_000_000_000_000_000
	d.ReceiveBytesTotal, d.TransmitBytesTotal, d.Addresses = 0, 0, nil
	d.WorldSize = uint64(j.world)
	j.said[key] = &d
	return &d
}

// say has processes say their digests.
func (j *job) say(keys ...string) {
	for _, key := range keys {
		d := j.said[key]
		d.Sequence++
		d.WallSeconds = 1.7e9 + j.now.Seconds()
		j.stored[key] = d.Encode()
	}
}

// after lets time pass, has processes say digests, and looks.
func (j *job) after(d time.Duration, keys ...string) *View {
	j.now += d
	j.say(keys...)
	return j.view()
}

func (j *job) view() *View {
	j.t.Helper()
	r := Request{Engine: "test", Digests: j.also, Gone: j.gone}
	if j.world > 0 {
		r.WorldSize = &j.world
	}
	keys := make([]string, 0, len(j.stored))
	for key := range j.stored {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		r.Digests = append(r.Digests, j.stored[key])
	}
	v := j.a.Aggregate(j.now, time.Unix(1_700_000_000, 0), r)
	unexplained(j.t, v)
	return v
}

// unexplained fails the test for what is null without a reason.
func unexplained(t *testing.T, v *View) {
	t.Helper()
	var text strings.Builder
	require.NoError(t, v.WriteJSON(&text))
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(text.String()), &document))
	missing := make(map[any]bool)
	var walk func(path string, value any)
	walk = func(path string, value any) {
		switch value := value.(type) {
		case nil:
			_, given := v.Unavailable[path]
			if path == "skew.last_rank" || path == "skew.last_ratio" || path == "skew.waiting_p50_seconds" {
				_, given = v.Unavailable["skew.transfer_p50_seconds"]
			}
			assert.True(t, given, "%s is null, and nothing says why", path)
		case map[string]any:
			if value["state"] == Missing {
				missing[value["rank"]] = true
				assert.Contains(t, v.Unavailable["ranks"], "never heard of")
				return
			}
			for key, inner := range value {
				if path == "" {
					walk(key, inner)
				} else {
					walk(path+"."+key, inner)
				}
			}
		case []any:
			for _, inner := range value {
				walk(path, inner)
			}
		}
	}
	walk("", document)
}

func states(v *View) (all []string) {
	for _, r := range v.Ranks {
		name := "?"
		if r.Rank != nil {
			name = fmt.Sprint(*r.Rank)
		}
		all = append(all, name+" "+r.State)
	}
	return all
}

func TestAggregate_states(t *testing.T) {
	j := newJob(t, 4)
	for i := range uint64(3) {
		j.start(fmt.Sprint(i), i, i, fmt.Sprintf("host%d", i))
	}
	v := j.after(0, "0", "1")
	assert.Equal(t, []string{"0 live", "1 live", "2 missing", "3 missing"}, states(v))
	assert.Equal(t, "never heard of: 2, 3", v.Unavailable["ranks"])
	assert.Nil(t, v.Ranks[2].AgeSeconds)

	// Rank 1 says nothing any more, its digest stays in the store. Intervals are 2 s.
	for range 3 {
		v = j.after(2*time.Second, "0")
	}
	assert.Equal(t, []string{"0 live", "1 live"}, states(v)[:2])
	assert.Equal(t, 6.0, *v.Ranks[1].AgeSeconds)
	v = j.after(2*time.Second, "0", "2")
	assert.Equal(t, []string{"0 live", "1 late", "2 live", "3 missing"}, states(v))
	assert.EqualValues(t, 5, *v.Ranks[2].Joined, "added in the fifth view")
	assert.Equal(t, Totals{Nodes: 3, LiveRanks: 2, LateRanks: 1, MissingRanks: 1}, Totals{Nodes: v.Totals.Nodes,
		LiveRanks: v.Totals.LiveRanks, LateRanks: v.Totals.LateRanks, MissingRanks: v.Totals.MissingRanks})
	for range 7 {
		v = j.after(2*time.Second, "0", "2")
	}
	assert.Equal(t, "1 gone", states(v)[1])
	assert.Equal(t, Gone, v.Nodes[1].State)
	assert.False(t, v.Ranks[1].Ended, "nobody said so")
	v = j.after(2*time.Second, "0", "1", "2")
	assert.Equal(t, "1 live", states(v)[1], "it was only stopped")
	assert.Zero(t, v.Ranks[1].Restarts)

	// Who is known to have ended is gone at once, until the rank is started anew.
	j.gone = []int64{1}
	v = j.after(0, "0", "1")
	assert.Equal(t, "1 gone", states(v)[1])
	assert.True(t, v.Ranks[1].Ended)
	j.start("1", 1, 1, "host1")
	v = j.after(time.Second, "1")
	assert.Equal(t, "1 live", states(v)[1])
	assert.EqualValues(t, 1, v.Ranks[1].Restarts)
	assert.False(t, v.Ranks[1].Ended)

	// The job grows.
	j.world = 6
	j.start("5", 5, 5, "host5")
	v = j.after(time.Second, "5")
	assert.Equal(t, []string{"3 missing", "4 missing", "5 live"}, states(v)[3:])
	assert.EqualValues(t, 6, *v.WorldSize)
}

func TestAggregate_worldByDigests(t *testing.T) {
	j := newJob(t, 0)
	j.world = 3
	j.start("0", 0, 0, "a")
	j.world = 0
	v := j.after(0, "0")
	assert.EqualValues(t, 3, *v.WorldSize)
	assert.Equal(t, []string{"0 live", "1 missing", "2 missing"}, states(v))

	j = newJob(t, 0)
	j.start("driver", None, 0, "a").WorldSize = None
	v = j.after(0, "driver")
	assert.Nil(t, v.WorldSize)
	assert.Equal(t, []string{"? live"}, states(v))
	assert.Equal(t, 1, v.Totals.UnrankedProcesses)
	assert.Equal(t, 1, v.Nodes[0].Processes)
	assert.Empty(t, v.Nodes[0].Ranks)
}

func TestAggregate_twoClaimOneRank(t *testing.T) {
	j := newJob(t, 1)
	j.start("old", 0, 1, "a")
	j.now += time.Second
	j.start("new", 0, 2, "b")
	v := j.after(0, "old", "new")
	require.Len(t, v.Ranks, 1)
	assert.Equal(t, "b", *v.Ranks[0].Node, "the one started last")
	assert.Equal(t, "rank 0 is claimed by two processes: the one started last is shown, on b", v.Unavailable["ranks"])
	assert.Zero(t, v.Ranks[0].Restarts)
	for range 5 {
		v = j.after(2*time.Second, "old", "new")
	}
	assert.Zero(t, v.Ranks[0].Restarts, "they do not take turns")

	// The clock of the host on which a rank is started anew may be behind.
	j = newJob(t, 1)
	j.start("0", 0, 1, "a")
	j.after(0, "0")
	j.start("0", 0, 2, "b").Process -= uint64(time.Hour)
	v = j.after(time.Second, "0")
	assert.Equal(t, "b", *v.Ranks[0].Node)
	assert.EqualValues(t, 1, v.Ranks[0].Restarts)
}

// Old news of a process that was replaced do not bring it back.
func TestAggregate_oldNews(t *testing.T) {
	j := newJob(t, 1)
	j.start("0", 0, 1, "a")
	j.after(0, "0")
	before := j.stored["0"]
	j.start("0", 0, 1, "a")
	j.said["0"].Process++
	v := j.after(time.Second, "0")
	assert.EqualValues(t, 1, v.Ranks[0].Restarts)
	j.stored["0"] = before
	v = j.after(time.Second)
	assert.EqualValues(t, 1, v.Ranks[0].Restarts)
	assert.Equal(t, 1.0, *v.Ranks[0].AgeSeconds)
}

// A node with many ranks counts once, by the freshest of their digests.
func TestAggregate_nodesOnce(t *testing.T) {
	j := newJob(t, 5)
	for i := range uint64(4) {
		d := j.start(fmt.Sprint(i), i, 7, "host")
		d.ReceiveBytesTotal, d.ReceiveBytesPerSecond, d.TransmitBytesPerSecond, d.CapacityBitsPerSecond = 1000, 125, 0, 1e4
	}
	j.start("4", 4, 8, "host").ReceiveBytesPerSecond = 25
	v := j.after(0, "0", "1", "2", "3", "4")
	require.Len(t, v.Nodes, 2)
	assert.Equal(t, "host", v.Nodes[0].Name)
	assert.Equal(t, "host#2", v.Nodes[1].Name)
	assert.Equal(t, []int64{0, 1, 2, 3}, v.Nodes[0].Ranks)
	assert.Equal(t, 150.0, *v.Totals.ReceiveBytesPerSecond)
	assert.EqualValues(t, 1000, *v.Totals.ReceiveBytesTotal)
	assert.Equal(t, 0.1, *v.Nodes[0].UtilizationRatio)
	assert.Equal(t, "host#2", *v.Ranks[4].Node)

	j.said["2"].ReceiveBytesPerSecond = 999
	v = j.after(time.Second, "2")
	assert.Equal(t, 999.0, *v.Nodes[0].ReceiveBytesPerSecond)
	// A late one does not speak for its node while another is live.
	for range 5 {
		v = j.after(2*time.Second, "0", "1", "3", "4")
	}
	assert.Equal(t, "2 late", states(v)[2])
	assert.Equal(t, 125.0, *v.Nodes[0].ReceiveBytesPerSecond)
	assert.Equal(t, Live, v.Nodes[0].State)

	assert.Equal(t, Spread{Count: 2, Min: 25, MinAt: "host#2", Median: 75, Max: 125, MaxAt: "host"}, v.Spread["node.receive_bytes_per_second"])
}

func TestAggregate_totalsOverRestarts(t *testing.T) {
	j := newJob(t, 2)
	j.start("0", 0, 1, "a").ReceiveBytesTotal = 1000
	v := j.after(time.Second, "0")
	total := func(v *View) int { return int(*v.Nodes[0].ReceiveBytesTotal) }
	assert.Equal(t, 1000, total(v))

	// Another rank of the node counts the same bytes, since a little later.
	j.start("1", 1, 1, "a").Process -= uint64(time.Second / 2)
	j.said["1"].ReceiveBytesTotal = 400
	assert.Equal(t, 1000, total(j.after(0, "1")))
	j.said["0"].ReceiveBytesTotal, j.said["1"].ReceiveBytesTotal = 1100, 500
	assert.Equal(t, 1100, total(j.after(time.Second, "0", "1")))
	j.said["1"].ReceiveBytesTotal = 700
	assert.Equal(t, 1300, total(j.after(time.Second, "1")), "whoever is the freshest")

	// Rank 0 is started anew, and counts from 0, while rank 1 goes on.
	j.start("0", 0, 1, "a").ReceiveBytesTotal = 0
	assert.Equal(t, 1300, total(j.after(0, "0")))
	j.said["0"].ReceiveBytesTotal, j.said["1"].ReceiveBytesTotal = 50, 750
	assert.Equal(t, 1350, total(j.after(time.Second, "0", "1")))

	// All end; what a new one has counted since it was started is added.
	j.now += time.Minute
	j.start("0", 0, 1, "a").ReceiveBytesTotal = 25
	v = j.after(time.Second, "0")
	assert.Equal(t, 1375, total(v))
	assert.EqualValues(t, 1375, *v.Totals.ReceiveBytesTotal)

	// Nor does a node that is gone, or whose ranks are elsewhere now, take its bytes along.
	v = j.after(time.Hour)
	assert.Equal(t, Gone, v.Nodes[0].State)
	assert.EqualValues(t, 1375, *v.Totals.ReceiveBytesTotal)
	assert.Nil(t, v.Totals.ReceiveBytesPerSecond)
	j.start("0", 0, 2, "b").ReceiveBytesTotal = 5
	j.start("1", 1, 2, "b").ReceiveBytesTotal = 5
	v = j.after(time.Second, "0", "1")
	require.Len(t, v.Nodes, 1)
	assert.EqualValues(t, 1380, *v.Totals.ReceiveBytesTotal)
}

// Drops, errors and the time in which they came go on where a rank's monitor is started anew. Digests of an older netmon do not tell.
func TestAggregate_dropsOverRestarts(t *testing.T) {
	j := newJob(t, 2)
	first := j.start("0", 0, 1, "a")
	first.DropsTotal, first.ErrorsTotal, first.CountedMicroseconds = 500, 3, 20e6
	other := j.start("1", 1, 2, "b")
	other.DropsTotal, other.ErrorsTotal, other.CountedMicroseconds = None, None, None
	v := j.after(time.Second, "0", "1")
	assert.Nil(t, v.Nodes[1].DropsTotal)
	assert.Nil(t, v.Nodes[1].CountedSeconds)
	assert.Equal(t, "without: b", v.Unavailable["totals.drops_total"])
	told := func(v *View) []any {
		n := &v.Nodes[0]
		return []any{*n.DropsTotal, *n.ErrorsTotal, *n.CountedSeconds, *v.Totals.DropsTotal, *v.Totals.ErrorsTotal}
	}
	assert.Equal(t, []any{uint64(500), uint64(3), 20.0, uint64(500), uint64(3)}, told(v))

	again := j.start("0", 0, 1, "a")
	again.DropsTotal, again.ErrorsTotal, again.CountedMicroseconds = 0, 0, 0
	assert.Equal(t, []any{uint64(500), uint64(3), 20.0, uint64(500), uint64(3)}, told(j.after(0, "0")), "never less than before")
	again.DropsTotal, again.CountedMicroseconds = 7, 2e6
	assert.Equal(t, []any{uint64(507), uint64(3), 22.0, uint64(507), uint64(3)}, told(j.after(2*time.Second, "0")))
}

// Totals never decrease, and are never more than what there was, whatever is started anew and when.
func TestAggregate_totalsRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 20 {
		j := newJob(t, 3)
		truth, last := uint64(0), uint64(0)
		since := map[string]uint64{}
		for i := range 3 {
			j.start(fmt.Sprint(i), uint64(i), 1, "a")
			since[fmt.Sprint(i)] = 0
		}
		for range 60 {
			truth += uint64(random.IntN(1000))
			key := fmt.Sprint(random.IntN(3))
			if random.IntN(6) == 0 {
				j.start(key, j.said[key].Rank, 1, "a")
				since[key] = truth
			}
			j.said[key].ReceiveBytesTotal = truth - since[key]
			v := j.after(time.Duration(1+random.IntN(5000))*time.Millisecond, key)
			got := *v.Totals.ReceiveBytesTotal
			require.GreaterOrEqual(t, got, last)
			require.LessOrEqual(t, got, truth)
			last = got
		}
		require.Greater(t, float64(last), 0.6*float64(truth), "some of what nobody was there to count")
	}
}

func marked(d *Digest, durations map[uint64]time.Duration) {
	d.Marks = nil
	for sequence, duration := range durations {
		d.Marks = append(d.Marks, Mark{sequence, duration, true})
	}
	slices.SortFunc(d.Marks, func(a, b Mark) int { return int(a.Sequence) - int(b.Sequence) })
}

func TestAggregate_skew(t *testing.T) {
	const ms = time.Millisecond
	j := newJob(t, 4)
	for i := range uint64(4) {
		j.start(fmt.Sprint(i), i, i, fmt.Sprintf("host%d", i))
	}
	// Transfers take 10 ms; rank 2 comes 50 ms late to three of four, rank 1 to one.
	for i := range uint64(4) {
		durations := map[uint64]time.Duration{}
		for _, s := range []uint64{8, 16, 24, 32} {
			durations[s] = 60 * ms
			if i == 2 && s != 24 || i == 1 && s == 24 {
				durations[s] = 10 * ms
			}
		}
		durations[100+i] = time.Hour // nobody else has it
		marked(j.said[fmt.Sprint(i)], durations)
	}
	j.said["0"].Marks = append(j.said["0"].Marks, Mark{Sequence: 999, Duration: ms})
	v := j.after(0, "0", "1", "2", "3")
	require.NotNil(t, v.Skew)
	assert.Equal(t, 4, v.Skew.Ranks)
	assert.Equal(t, 4, v.Skew.Compared)
	assert.InDelta(t, 0.010, *v.Skew.TransferP50Seconds, 1e-6)
	assert.InDelta(t, 0.050, *v.Skew.WaitingP50Seconds, 1e-6)
	assert.EqualValues(t, 2, *v.Skew.LastRank)
	assert.Equal(t, 0.75, *v.Skew.LastRatio)
	assert.InDelta(t, 0.050, *v.Ranks[0].WaitingSeconds, 1e-6)
	assert.InDelta(t, 50./60, *v.Ranks[0].WaitingRatio, 1e-4)
	assert.Zero(t, *v.Ranks[0].LastRatio)
	assert.InDelta(t, 0.0125, *v.Ranks[2].WaitingSeconds, 1e-6)
	assert.Equal(t, "2", v.Spread["rank.waiting_seconds"].MinAt)

	// Rank 2 is late: the others are compared.
	for range 4 {
		v = j.after(2*time.Second, "0", "1", "3")
	}
	assert.Equal(t, 3, v.Skew.Ranks)
	assert.EqualValues(t, 4, v.Skew.Compared)
	assert.Nil(t, v.Ranks[2].WaitingSeconds)

	// Operations that do not end together say nothing.
	for _, key := range []string{"0", "1", "3"} {
		for i := range j.said[key].Marks {
			j.said[key].Marks[i].Symmetric = false
		}
	}
	v = j.after(time.Second, "0", "1", "3")
	assert.Nil(t, v.Skew)
	assert.Contains(t, v.Unavailable["skew"], "0 live ranks tell")

	marked(j.said["0"], map[uint64]time.Duration{1: ms})
	marked(j.said["1"], map[uint64]time.Duration{2: ms})
	v = j.after(time.Second, "0", "1", "3")
	assert.Zero(t, v.Skew.Compared)
	assert.Contains(t, v.Unavailable["skew.transfer_p50_seconds"], "no collective is marked by all")
}

// Ranks choose marks by what they counted; those that counted more have fewer of the same.
func TestAggregate_skewOfOtherChoices(t *testing.T) {
	j := newJob(t, 2)
	for i, of := range [][2]uint64{{0, 1000}, {300, 1500}} {
		d := j.start(fmt.Sprint(i), uint64(i), uint64(i), "host")
		d.Marks = ChooseMarks(marksUpTo(of[0], of[1], 1))
	}
	v := j.after(0, "0", "1")
	assert.Positive(t, v.Skew.Compared)
}

func TestAggregate_badDigests(t *testing.T) {
	j := newJob(t, 2)
	j.start("0", 0, 1, "a")
	j.start("1", 1, 2, "b")
	j.say("0", "1")
	j.also = [][]byte{nil, []byte("garbage"), j.stored["0"][:40], make([]byte, 4000)}
	v := j.view()
	assert.Equal(t, []string{"0 live", "1 live"}, states(v))
	assert.Equal(t, `4 of 6 are not understood; the first: these 0 bytes are no digest: they do not begin with "nmd"`, v.Unavailable["digests"])
	j.also = nil
	assert.NotContains(t, j.view().Unavailable, "digests")
}

func TestAggregate_ways(t *testing.T) {
	j := newJob(t, 3)
	j.start("0", 0, 1, "a").Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	j.start("1", 1, 2, "b").Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("172.17.0.1")}
	j.start("2", 2, 3, "c").Addresses = []netip.Addr{netip.MustParseAddr("172.17.0.1")}
	way := func(address string, rank uint64) PeerDigest {
		p := UnknownPeer()
		p.Address, p.Rank, p.ProbeSent, p.ProbeLost = address, rank, 20, 5
		return p
	}
	j.said["0"].Peers = []PeerDigest{way("10.0.0.2", None), way("172.17.0.1", None), way("10.9.9.9", 2), way("10.8.8.8", None)}
	j.said["0"].Peers[2].Several = true
	v := j.after(0, "0", "1", "2")
	of := map[string]Way{}
	for _, w := range v.Ranks[0].Peers {
		of[w.Address] = w
	}
	assert.Equal(t, "b", *of["10.0.0.2"].Node, "by its address")
	assert.Nil(t, of["172.17.0.1"].Node, "two nodes have it")
	assert.Equal(t, "c", *of["10.9.9.9"].Node, "by a rank there")
	assert.Nil(t, of["10.9.9.9"].Rank, "several are")
	assert.Nil(t, of["10.8.8.8"].Node)
	assert.Equal(t, 0.25, *of["10.8.8.8"].ProbeLossRatio)
}

// Memory stays the same over days in which processes come and go.
func TestAggregate_bounded(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	a := NewAggregator()
	world := int64(16)
	for i := range 800 {
		d := usual(uint64(random.IntN(6000)))
		if i%3 == 0 {
			d.Rank = None
		}
		d.Node, d.Process, d.Peers, d.Marks = random.Uint64(), random.Uint64(), nil, nil
		a.Aggregate(time.Duration(i)*10*time.Second, time.Unix(0, 0), Request{Digests: [][]byte{d.Encode()}, WorldSize: &world})
		require.LessOrEqual(t, len(a.processes), 16+62, "those of ten minutes, and the world's")
		require.LessOrEqual(t, len(a.nodes), len(a.processes))
	}
}

// Who has gone makes room for who is new.
func TestAggregate_evicts(t *testing.T) {
	all := Request{}
	for i := range uint64(MostProcesses) {
		d := UnknownDigest()
		d.Rank, d.Process, d.Sequence = i, 1, 1
		all.Digests = append(all.Digests, d.Encode())
	}
	a := NewAggregator()
	a.Aggregate(0, time.Unix(0, 0), all)
	d := UnknownDigest()
	d.Rank, d.Process, d.Sequence = 70_000, 1, 1
	late := Request{Digests: [][]byte{d.Encode()}}
	assert.NotContains(t, states(a.Aggregate(time.Minute, time.Unix(0, 0), late)), "70000 live", "nobody was known to have gone yet")
	v := a.Aggregate(61*time.Second, time.Unix(0, 0), late)
	assert.Contains(t, states(v), "70000 live")
	assert.Len(t, v.Ranks, MostProcesses)
}

// Who has no rank and is gone is forgotten, and its last digest, which stays in the store, does not make it live again, nor count its
// bytes once more; when it comes back, it goes on.
func TestAggregate_forgotten(t *testing.T) {
	j := newJob(t, 1)
	j.start("0", 0, 1, "a").ReceiveBytesTotal = 1
	j.start("daemon", None, 2, "b").ReceiveBytesTotal = 1000
	v := j.after(time.Second, "0", "daemon")
	require.EqualValues(t, 1001, *v.Totals.ReceiveBytesTotal)
	for range 40 {
		v = j.after(time.Minute, "0")
		assert.EqualValues(t, 1001, *v.Totals.ReceiveBytesTotal)
		assert.NotContains(t, states(v), "? live")
	}
	assert.Len(t, v.Ranks, 1)
	j.said["daemon"].ReceiveBytesTotal = 1500
	v = j.after(time.Second, "0", "daemon")
	assert.Contains(t, states(v), "? live")
	assert.EqualValues(t, 1501, *v.Totals.ReceiveBytesTotal)

	// What is remembered of it goes with its digest.
	j.after(time.Hour, "0")
	assert.Len(t, j.a.forgotten, 1)
	delete(j.stored, "daemon")
	j.after(time.Second, "0")
	assert.Empty(t, j.a.forgotten)
}

func TestAggregate_tooMany(t *testing.T) {
	r := Request{}
	for i := range uint64(MostProcesses + 100) {
		d := UnknownDigest()
		d.Rank, d.Process, d.Sequence = i, 1, 1
		r.Digests = append(r.Digests, d.Encode())
	}
	a := NewAggregator()
	v := a.Aggregate(0, time.Unix(0, 0), r)
	assert.Len(t, v.Ranks, MostProcesses)
	assert.Equal(t, "100 processes are beyond the 4096 that are told apart", v.Unavailable["ranks"])
	huge := int64(1 << 30)
	v = NewAggregator().Aggregate(0, time.Unix(0, 0), Request{WorldSize: &huge})
	assert.Len(t, v.Ranks, MostProcesses)
	assert.Contains(t, v.Unavailable["ranks"], "ranks from 4096 on are beyond the 4096 that are listed")
}

// Whoever says that it will be silent for ever is late after three hours.
func TestAggregate_absurdIntervals(t *testing.T) {
	j := newJob(t, 2)
	j.start("0", 0, 0, "host").Interval = 1 << 62
	j.start("1", 1, 0, "host").Interval = NoTime
	j.said["0"].Process, j.said["1"].Process = 0, 0
	assert.Equal(t, []string{"0 live", "1 live"}, states(j.after(0, "0", "1")))
	assert.Equal(t, []string{"0 live", "1 late"}, states(j.after(7*time.Second)))
	assert.Equal(t, []string{"0 late", "1 gone"}, states(j.after(4*time.Hour)))
}

func TestAggregate_manyNodesOfOneName(t *testing.T) {
	r := Request{}
	for i := range uint64(MostProcesses) {
		d := UnknownDigest()
		d.Rank, d.Process, d.Sequence, d.Node, d.Hostname = i, 1, 1, i, fmt.Sprintf("host%d", i%2)
		r.Digests = append(r.Digests, d.Encode())
	}
	v := NewAggregator().Aggregate(0, time.Unix(0, 0), r)
	names := map[string]bool{}
	for _, n := range v.Nodes {
		names[n.Name] = true
	}
	assert.Len(t, names, MostProcesses)
	assert.True(t, names["host1#2048"])
}

// Numbers that only a hostile digest has do not spoil sums.
func TestAggregate_hugeNumbers(t *testing.T) {
	j := newJob(t, 2)
	for i := range uint64(2) {
		d := j.start(fmt.Sprint(i), i, i, "host")
		d.ReceiveBytesTotal, d.Drops, d.ReceiveBytesPerSecond = None-1, None-1, math.MaxFloat32
	}
	v := j.after(0, "0", "1")
	assert.GreaterOrEqual(t, *v.Totals.Drops, None-1)
	assert.GreaterOrEqual(t, *v.Totals.ReceiveBytesTotal, None-1)
}

func BenchmarkAggregate(b *testing.B) {
	for _, ranks := range []uint64{16, 256, 1024, 4096} {
		b.Run(fmt.Sprint(ranks), func(b *testing.B) {
			r := Request{Engine: "c10d store"}
			digests := make([]Digest, ranks)
			for i := range digests {
				digests[i] = usual(uint64(i))
				digests[i].Node = uint64(i / 8)
				digests[i].Hostname = fmt.Sprintf("node%d", i/8)
				for k := range uint64(4) {
					p := digests[i].Peers[k]
					p.Address = netip.AddrFrom4([4]byte{10, 1, byte(i), byte(k)}).String()
					digests[i].Peers = append(digests[i].Peers, p)
				}
			}
			a := NewAggregator()
			now := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				now += 2 * time.Second
				r.Digests = r.Digests[:0]
				for i := range digests {
					digests[i].Sequence++
					r.Digests = append(r.Digests, digests[i].Encode())
				}
				b.StartTimer()
				a.Aggregate(now, time.Unix(0, 0), r)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	d := usual(3)
	b.ReportAllocs()
	for b.Loop() {
		d.Encode()
	}
}
