package diagnose

import (
	"bytes"
	"testing"

	"github.com/goccy/go-json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// What recorded campaigns showed, made small.

// Over a slow link gloo's ring ends at different times, so that one rank seems to be waited for; all compute as long as each other.
func TestJob_whoSeemsWaitedForIsNoSlowHost(t *testing.T) {
	found := words(newJob(4).after(10, func(v *cluster.View) {
		for i := range v.Ranks {
			*v.Ranks[i].WaitingSeconds, *v.Ranks[i].LastRatio = 75e-3, 0
		}
		*v.Ranks[1].WaitingSeconds, *v.Ranks[1].LastRatio = 0, 1
	}))
	assert.NotContains(t, found, "slow_host")
}

// A busy host's collectives take longer too, so that it may seem to wait.
func TestJob_slowHostThatSeemsToWait(t *testing.T) {
	found := words(newJob(4).after(10, func(v *cluster.View) {
		for i := range v.Ranks {
			*v.Ranks[i].WaitingSeconds, *v.Ranks[i].LastRatio, *v.Ranks[i].CollectiveRatio = 75e-3, 0.1, 0.9
		}
		*v.Ranks[1].LastRatio, *v.Ranks[1].CollectiveRatio = 0.6, 0.7
	}))
	assert.Contains(t, found, "slow_host host1")
}

// Half of the ranks say something new in each view, where views come twice as often as digests.
func TestJob_viewsTwiceAsOftenAsDigests(t *testing.T) {
	j := newJob(4)
	before := make([]cluster.Rank, 4)
	fault := slowLink("host2", "", 0.3) // both ways: each half of the ranks knows one
	odd := false
	found := ""
	for range 20 {
		v := j.view()
		if fault(v); odd {
			v.Ranks[0], v.Ranks[1] = before[0], before[1]
		} else if before[2].Rank != nil {
			v.Ranks[2], v.Ranks[3] = before[2], before[3]
		}
		copy(before, v.Ranks)
		odd = !odd
		for _, f := range Job(v, &j.state) {
			if f.Class == SlowLink {
				assert.Nil(t, f.Direction, f.Text)
				found = *f.Host
			}
		}
	}
	assert.Equal(t, "host2", found)
}

func TestBaseline_oneReadingTellsNothing(t *testing.T) {
	var b baseline
	for i := range 12 {
		delivery := 24e6
		if i%4 == 0 {
			delivery = 286e6
		}
		b.add(float64(i)*2+1, delivery, 1e-3)
	}
	usual, _ := b.usual()
	assert.Equal(t, 24e6, usual)
}

func TestLossMemoryOf(t *testing.T) {
	assert.Equal(t, lossMemory, lossMemoryOf(0))
	assert.Equal(t, lossMemory, lossMemoryOf(1000), "few segments need all that is remembered")
	assert.InDelta(t, 0.25, lossMemoryOf(20_000), 1e-9)
}

// 1 % is lost from now on: of a busy way the newest view says so.
func TestJob_lossOnABusyJobIsFoundSoon(t *testing.T) {
	j := newJob(4)
	j.after(30, nil)
	found := words(j.after(4, lossyLink("host1", Receive, 0.01)))
	assert.Contains(t, found, "lossy_link host1 receive")
}

// Of a job that has just begun, two ways of a host were probed, and both probes stood in a queue.
func TestJob_twoProbesAreNoLatency(t *testing.T) {
	j := newJob(4)
	for range 6 {
		v := j.view()
		each(v, func(from, to string, w *cluster.Way) {
			if from != "host3" && to != "host3" {
				return
			}
			w.ProbeRTTLastSeconds = nil
			if j.sequence == 1 && to == "host3" && from != "host0" {
				w.ProbeRTTLastSeconds = pointer(2e-3)
			}
		})
		for _, f := range Job(v, &j.state) {
			assert.NotEqual(t, HighLatency, f.Class, f.Text)
		}
	}
}

// bursts lets all hosts send something small to each other, whose round trips to a host are as given.
func bursts(host string, to, from float64) func(*cluster.View) {
	return func(v *cluster.View) {
		each(v, func(a, b string, w *cluster.Way) {
			if *w.SentBytes >= ringBytes {
				return
			}
			w.SentBytes, w.RTTSeconds = pointer(uint64(512<<10)), pointer(9e-3)
			switch host {
			case b:
				w.RTTSeconds = pointer(to)
			case a:
				w.RTTSeconds = pointer(from)
			}
		})
	}
}

// A host receives at half the rate. Acknowledgements of what it sends stand in the same queue, so that it is its sending that TCP calls slow.
func TestJob_slowReceiverWhoseSendingSeemsSlow(t *testing.T) {
	for _, c := range []struct {
		to, from float64
		want     string
	}{
		{26e-3, 10e-3, "slow_link host2 receive"},
		{12e-3, 10e-3, "slow_link host2 transmit"},
	} {
		j := newJob(4)
		j.after(20, bursts("", 0, 0))
		slow, small := slowLink("host2", Transmit, 0.5), bursts("host2", c.to, c.from)
		found := words(j.after(5, func(v *cluster.View) { slow(v); small(v) }))
		assert.Contains(t, found, c.want, "%g", c.to)
	}
}

// A busy host takes what comes late, and what its neighbour sends it seems slow.
func TestJob_whoSendsToABusyHostIsNotSlow(t *testing.T) {
	j := newJob(4)
	busy := slowHost("host1")
	j.after(10, nil)
	found := words(j.after(6, func(v *cluster.View) {
		busy(v)
		each(v, func(from, to string, w *cluster.Way) {
			if from == "host0" && to == "host1" {
				scale(w.DeliveryBytesPerSecond, 0.6)
				scale(w.RTTSeconds, 4)
			}
			if from == "host0" && w.ProbeRTTLastSeconds != nil {
				*w.ProbeRTTLastSeconds += 2e-3 // its own queue
			}
		})
	}))
	assert.Contains(t, found, "slow_host host1")
	assert.NotContains(t, found, "slow_link")
}

// A host that is clearly waited for is told after two views. Marks seem the same behind a slow link, and outlast its fault.
func TestJob_marksOfALinkThatWasSlow(t *testing.T) {
	waitedFor := func(v *cluster.View) {
		for i := range v.Ranks {
			*v.Ranks[i].WaitingSeconds, *v.Ranks[i].LastRatio, *v.Ranks[i].CollectiveRatio = 30e-3, 0.05, 0.6
		}
		*v.Ranks[1].WaitingSeconds, *v.Ranks[1].LastRatio, *v.Ranks[1].CollectiveRatio = 0, 0.85, 0.4
	}
	j := newJob(4)
	j.after(10, nil)
	assert.Contains(t, words(j.after(2, waitedFor)), "slow_host host1")

	j = newJob(4)
	j.after(10, nil)
	j.after(8, slowLink("host3", Receive, 0.5))
	j.after(1, nil)
	assert.NotContains(t, words(j.after(2, waitedFor)), "slow_host")
}

func TestNearFloor(t *testing.T) {
	w := &way{}
	assert.Equal(t, 1.0, nearFloor([]*way{w}, 5e-3), "no probes")
	for _, last := range []float64{5.1e-3, 9e-3, 12e-3} {
		f := unknownFacts()
		f.probeLast = last
		w.take(0, f, 1)
	}
	assert.InDelta(t, 1.0/3, nearFloor([]*way{w}, 5e-3), 1e-9)
}

func TestMostlyNew(t *testing.T) {
	said, again := &way{now: true}, &way{}
	assert.True(t, mostlyNew([]*way{said, again}))
	assert.False(t, mostlyNew([]*way{said, again, again}))
	assert.False(t, mostlyNew(nil))
}

// A busy host takes what comes to it at 0.39 of the rate: that is no reason not to look at how long it computes.
func TestStrangled(t *testing.T) {
	var s State
	assert.False(t, s.strangled([]suspect{{class: SlowLink, host: "host1", ratio: 0.39}}))
	assert.True(t, s.strangled([]suspect{{class: SlowLink, host: "host1", ratio: 0.2}}))
}

// Views in which a host says something new compare too few collectives, those between compare enough of the same.
func TestJob_slowHostThatSpeaksWhenLittleIsCompared(t *testing.T) {
	j := newJob(4)
	j.after(10, nil)
	busy := slowHost("host1")
	odd, said := false, uint64(1000)
	found := words(j.after(10, func(v *cluster.View) {
		busy(v)
		v.Ranks[1].CollectiveRatio = pointer(0.35) // the others' is 0.6: too much to be told by that alone
		if odd = !odd; odd {
			v.Skew.Compared = leastCompared - 1
			said++
		}
		v.Ranks[1].DigestSequence = pointer(said)
	}))
	assert.Contains(t, found, "slow_host host1")
}

// Two ranks of a host counted in windows of their own, and the node's is that of one of them.
func TestRead_eachRankHasItsWindow(t *testing.T) {
	rank := func(number int64, node string, window float64, sent uint64) cluster.Rank {
		to := cluster.Way{Node: pointer("host1"), SentBytes: &sent, DeliveryBytesPerSecond: pointer(1e6)}
		return cluster.Rank{Rank: &number, Node: &node, State: "live", WindowSeconds: &window, Peers: []cluster.Way{to}}
	}
	v := &cluster.View{Sequence: 1, TimestampSeconds: 1_700_000_000,
		Nodes: []cluster.Node{{Name: "host0", State: "live", WindowSeconds: pointer(1.0)}, {Name: "host1", State: "live"}},
		Ranks: []cluster.Rank{rank(0, "host0", 1, 100e6), rank(1, "host0", 4, 400e6)},
	}
	var s State
	s.prepare(v)
	g := s.read(v)
	assert.Len(t, g.ways, 1)
	assert.InDelta(t, 200e6, g.ways[0].recent[0].delivery, 1)
}

// A view that was written and read again says the same as the one that was made: what is judged of it is in it.
func TestJob_ofARecordedView(t *testing.T) {
	loses, j := lossyLink("host2", Transmit, 0.02), newJob(4)
	var live, replayed State
	for i := range uint64(20) {
		v := j.view()
		loses(v)
		forEachRank(v, func(r *cluster.Rank) { r.Sampled = pointer(i / 2) }) // digests come twice as often as samples
		v.Ranks[1].State, v.Ranks[1].Ended, v.Ranks[1].PendingSeconds = "gone", true, nil
		v.Ranks[0].PendingSeconds = pointer(5.0)

		var text bytes.Buffer
		require.NoError(t, v.WriteJSON(&text))
		read := new(cluster.View)
		require.NoError(t, json.Unmarshal(text.Bytes(), read))
		require.Equal(t, v.Ranks, read.Ranks)
		want := Job(v, &live)
		require.Equal(t, want, Job(read, &replayed))
		if i == 19 {
			assert.Contains(t, words(want), "lossy_link host2 transmit")
			assert.NotContains(t, words(want), "stalled_rank")
		}
	}
}

// everBeside are the words of what is found in views, with a fault that is known.
func (j *job) everBeside(views int, changes ...func(*cluster.View)) (ever map[string]bool) {
	ever = make(map[string]bool)
	for range views {
		for _, f := range j.after(1, func(v *cluster.View) {
			for _, change := range changes {
				change(v)
			}
		}) {
			ever[words([]sample.Finding{f})] = true
		}
	}
	return ever
}

// The queue before a link of half the rate let no probe of 10 s through at once: that is what a slow link does, not a second finding.
func TestJob_queueOfAKnownSlowLinkIsNoLatency(t *testing.T) {
	j := newJob(4)
	j.after(10, nil)
	slow := slowLink("host2", Transmit, 0.5)
	require.Equal(t, "slow_link host2 transmit", words(j.after(15, slow)))
	queue := func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			if from == "host2" || to == "host2" {
				w.ProbeRTTLastSeconds = pointer(5.4e-3)
			}
		})
	}
	assert.Equal(t, map[string]bool{"slow_link host2 transmit": true}, j.everBeside(10, slow, queue))

	// The link is mended, and the path is longer: no probe of a minute says otherwise.
	path := func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			if from == "host2" || to == "host2" {
				w.ProbeRTTMinSeconds = pointer(5.2e-3)
			}
		})
	}
	assert.Contains(t, j.everBeside(10, queue, path), "high_latency host2")
}

// While a host's segments are lost, another comes last, and the others wait a little for it: it computes 1.45 times as long.
func TestJob_slowHostBesideAKnownFault(t *testing.T) {
	busy := func(outside float64) func(*cluster.View) {
		return func(v *cluster.View) {
			for i := range v.Ranks {
				v.Ranks[i].WaitingSeconds, v.Ranks[i].LastRatio, v.Ranks[i].CollectiveRatio = pointer(16e-3), pointer(0.0), pointer(0.8)
			}
			v.Ranks[2].WaitingSeconds, v.Ranks[2].LastRatio, v.Ranks[2].CollectiveRatio = pointer(0.0), pointer(1.0), pointer(1-outside)
		}
	}
	for _, c := range []struct {
		outside float64
		want    bool
	}{{0.29, false}, {0.45, true}} {
		j, loses := newJob(4), lossyLink("host1", Transmit, 0.01)
		j.after(10, nil)
		require.Contains(t, words(j.after(15, loses)), "lossy_link host1 transmit")
		ever := j.everBeside(10, loses, busy(c.outside))
		assert.Equal(t, c.want, ever["slow_host host2"], "%v", ever)
		assert.True(t, ever["lossy_link host1 transmit"])
	}
	j := newJob(4)
	j.after(10, nil)
	assert.Contains(t, j.everBeside(10, busy(0.29)), "slow_host host2", "where nothing else is wrong")
}

// At a tenth of the rate of one host the others send bursts now and then: another one's link seemed half as fast as before.
func TestBesides_aStrangledLink(t *testing.T) {
	const at = 1_700_000_100
	known := suspect{class: SlowLink, host: "host2", ratio: 0.08}
	for _, c := range []struct {
		ratio, since float64
		want         int
	}{{0.08, 30, 2}, {0.08, 5, 3}, {0.5, 30, 3}} {
		var s State
		s.prepare(&cluster.View{TimestampSeconds: at})
		known.ratio = c.ratio
		s.memory.held = map[key]*holding{known.key(): {newest: known, onset: at - c.since, lastSeen: at, reported: true, hits: 1}}
		s.settle(at)
		slow := []suspect{known, {class: SlowLink, host: "host3", ratio: 0.57}, {class: SlowLink, host: "host1", ratio: 0.2}}
		assert.Len(t, s.besides(&graph{at: at}, slow), c.want, "%+v", c)
	}
}

// Beside a fault that is known, what cannot be told to be one end's or the other's is not said.
func TestJob_noDoubtsBesideAKnownFault(t *testing.T) {
	doubt := func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			if from == "host3" && to == "host0" {
				scale(w.DeliveryBytesPerSecond, 0.5)
				*w.RTTSeconds *= 5
			}
		})
	}
	j := newJob(4)
	j.after(10, nil)
	alone := j.everBeside(15, doubt)
	assert.Contains(t, alone, "slow_link host3 transmit host0", "where nothing else is wrong")

	j = newJob(4)
	loses := lossyLink("host1", Transmit, 0.01)
	j.after(10, nil)
	j.after(15, loses)
	ever := j.everBeside(15, loses, doubt)
	assert.NotContains(t, ever, "slow_link host3 transmit host0")
	assert.Contains(t, ever, "lossy_link host1 transmit")
}
