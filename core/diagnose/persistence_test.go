package diagnose

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// A finding begins when its reason was first seen, stays while it is, and ends soon after.
func TestJob_onsetAndEnd(t *testing.T) {
	j := newJob(4)
	j.after(20, nil)
	fault := slowLink("host2", Transmit, 0.1)
	began := j.at
	first := 0
	for i := 1; i <= 8; i++ {
		found := j.after(1, fault)
		if strings.Contains(words(found), "slow_link") {
			if first == 0 {
				first = i
			}
			assert.InDelta(t, began, found[0].OnsetSeconds, 5, "view %d", i)
		}
	}
	assert.LessOrEqual(t, first, 4, "it was found after 8 s or later")
	assert.NotZero(t, first)
	found := j.after(1, nil)
	require.Equal(t, "slow_link host2 transmit", words(found))
	assert.InDelta(t, began, found[0].OnsetSeconds, 5)
	assert.NotContains(t, words(j.after(5, nil)), "slow_link")
	assert.Equal(t, "network_clean", words(j.after(10, nil)))
}

// One view may show anything.
func TestJob_oneViewIsNotEnough(t *testing.T) {
	for _, fault := range []func(*cluster.View){
		slowLink("host1", Transmit, 0.1), longWay("host1", 5e-3), slowHost("host1"), func(v *cluster.View) { v.Nodes[1].WrongInterface = true },
	} {
		j := newJob(4)
		j.after(20, nil)
		for range 5 {
			assert.NotContains(t, words(j.after(1, fault)), "host1")
			for range 6 {
				assert.NotContains(t, words(j.after(1, nil)), "host1")
			}
		}
	}
}

// The same view again is no further evidence.
func TestJob_sameView(t *testing.T) {
	j := newJob(4)
	j.after(20, nil)
	j.change = slowLink("host2", Transmit, 0.1)
	v := j.view()
	for range 10 {
		assert.NotContains(t, words(Job(v, &j.state)), "slow_link")
	}
	// An aggregator that makes views faster than digests come.
	for range 10 {
		v.Sequence++
		v.TimestampSeconds += 0.1
		assert.NotContains(t, words(Job(v, &j.state)), "slow_link")
	}
}

// The clock is set back, by an hour: what is there stays.
func TestJob_clockSetBack(t *testing.T) {
	j := newJob(4)
	j.after(20, slowLink("host2", Transmit, 0.1))
	j.at -= 3600
	found := j.after(3, j.change)
	require.Equal(t, "slow_link host2 transmit", words(found))
	assert.LessOrEqual(t, found[0].OnsetSeconds, j.at)
}

// What was usual is forgotten as before, and no finding begins in the future.
func TestJob_clockSetBackWhileClean(t *testing.T) {
	j := newJob(4)
	j.after(10, nil)
	j.at -= 7200
	found := j.after(10, nil)
	require.Equal(t, "network_clean", words(found))
	assert.LessOrEqual(t, found[0].OnsetSeconds, j.at)

	var b baseline
	b.add(10_000, 9e9, 1e-3)
	for i := range 2 * int(baselineSeconds) {
		b.add(float64(1000+i), 1e9, 1e-3)
	}
	usual, _ := b.usual()
	assert.Equal(t, 1e9, usual)
	for i := range b.parts {
		assert.Less(t, b.parts[i].begins, 10_000.0)
	}
}

// A rank that is late while nobody waits has ended or is held up: no stall. Neither is one that waits as the others do.
func TestJob_notStalled(t *testing.T) {
	late := func(v *cluster.View) {
		v.Ranks[1].State, v.Ranks[1].AgeSeconds, v.Ranks[1].DigestSequence = "late", pointer(20.0), pointer(uint64(1))
	}
	assert.NotContains(t, words(newJob(4).after(10, late)), "stalled_rank")
	allWait := func(v *cluster.View) {
		for i := range v.Ranks {
			v.Ranks[i].PendingSeconds = pointer(100.0)
		}
	}
	assert.NotContains(t, words(newJob(4).after(10, allWait)), "stalled_rank")
}

// A rank that came to its end does not stand still, whether anybody records collectives or not; it does where others wait for it.
func TestJob_ended(t *testing.T) {
	ended := func(v *cluster.View) {
		v.Ranks[1].State, v.Ranks[1].Ended, v.Ranks[1].AgeSeconds, v.Ranks[1].DigestSequence = "gone", true, pointer(20.0), pointer(uint64(1))
	}
	waiting := func(seconds float64) func(*cluster.View) {
		return func(v *cluster.View) {
			ended(v)
			for i := range v.Ranks {
				if i != 1 {
					v.Ranks[i].PendingSeconds = pointer(seconds)
				}
			}
		}
	}
	unwatched := func(v *cluster.View) {
		ended(v)
		forEachRank(v, func(r *cluster.Rank) { r.CollectivesTotal, r.PendingSeconds = nil, nil })
	}
	assert.NotContains(t, words(newJob(4).after(10, unwatched)), "stalled_rank")
	assert.NotContains(t, words(newJob(4).after(10, waiting(4))), "stalled_rank")
	assert.Contains(t, words(newJob(4).after(10, waiting(30))), "stalled_rank host1")
}

// It is alive, and in no collective that all others are in.
func TestJob_keptAway(t *testing.T) {
	fault := func(v *cluster.View) {
		for i := range v.Ranks {
			if i != 1 {
				v.Ranks[i].PendingSeconds = pointer(30.0)
			}
		}
		v.Ranks[1].Phase = pointer("checkpoint")
		v.Skew = nil
	}
	found := newJob(4).after(10, fault)
	require.NotEmpty(t, found)
	assert.Equal(t, "stalled_rank host1", words(found[:1]))
	assert.Contains(t, found[0].Text, `in the phase "checkpoint"`)
	assert.EqualValues(t, 1, *found[0].Rank)
}

// It records its collectives and does not tell what is under way: it may be in the one that the others are in.
func TestJob_whoDoesNotTellIsNotKeptAway(t *testing.T) {
	found := newJob(4).after(10, func(v *cluster.View) {
		for i := range v.Ranks {
			v.Ranks[i].PendingSeconds = pointer(30.0)
		}
		v.Ranks[1].PendingSeconds, v.Ranks[1].PendingCount = nil, nil
		v.Skew = nil
	})
	assert.NotContains(t, words(found), "stalled_rank")
}

// Nobody tells what is under way, so nobody can be seen to wait: that a rank says nothing new is all there is.
func TestJob_stalledWhereNobodyTells(t *testing.T) {
	found := newJob(4).after(10, func(v *cluster.View) {
		forEachRank(v, func(r *cluster.Rank) { r.PendingCount = nil })
		v.Ranks[1].State, v.Ranks[1].AgeSeconds, v.Ranks[1].DigestSequence = "late", pointer(20.0), pointer(uint64(1))
	})
	require.NotEmpty(t, found)
	assert.Equal(t, "stalled_rank host1", words(found[:1]))
	assert.NotContains(t, found[0].Evidence, "ranks_waiting")
}

func TestJob_wrongInterface(t *testing.T) {
	found := newJob(4).after(10, func(v *cluster.View) { v.Nodes[3].WrongInterface = true })
	require.Equal(t, "wrong_interface host3", words(found))
	assert.Contains(t, found[0].Advice, "GLOO_SOCKET_IFNAME")
	assert.Contains(t, found[0].Advice, "NCCL_SOCKET_IFNAME")
}

// All links are as slow, all lose as much, all are as far: nobody is to blame.
func TestJob_allAlike(t *testing.T) {
	for name, change := range map[string]func(*cluster.View){
		"slow": func(v *cluster.View) {
			each(v, func(_, _ string, w *cluster.Way) { scale(w.DeliveryBytesPerSecond, 0.1) })
		},
		"lossy": func(v *cluster.View) {
			each(v, func(_, _ string, w *cluster.Way) {
				*w.SegmentsRetransmitted = *w.SegmentsSent / 50
				w.RetransmittedRatio = pointer(0.02)
			})
		},
		"far": func(v *cluster.View) {
			each(v, func(_, _ string, w *cluster.Way) {
				*w.ProbeRTTLastSeconds += 20e-3
				*w.ProbeRTTMinSeconds += 20e-3
				*w.RTTSeconds += 20e-3
				*w.RTTMinSeconds += 20e-3
			})
		},
	} {
		for _, n := range []int{2, 4, 64} {
			found := words(newJob(n).after(20, change))
			assert.Contains(t, []string{"", "network_clean"}, found, "%s, %d hosts", name, n)
		}
	}
}

// Two links are slow.
func TestJob_twoFaults(t *testing.T) {
	one, two := slowLink("host2", Transmit, 0.1), slowLink("host9", Receive, 0.1)
	found := newJob(16).after(10, func(v *cluster.View) { one(v); two(v) })
	assert.ElementsMatch(t, []string{"slow_link host2 transmit", "slow_link host9 receive"}, strings.Split(words(found), "; "))
}

// Without collectives to compare, shares of time tell.
func TestJob_slowHostByShares(t *testing.T) {
	fault := func(v *cluster.View) {
		v.Skew = nil
		for i := range v.Ranks {
			v.Ranks[i].WaitingSeconds, v.Ranks[i].LastRatio = nil, nil
			v.Ranks[i].CollectiveRatio = pointer(0.8)
		}
		v.Ranks[2].CollectiveRatio = pointer(0.1)
	}
	assert.Contains(t, words(newJob(4).after(10, fault)), "slow_host host2")
	assert.NotContains(t, words(newJob(2).after(10, func(v *cluster.View) {
		v.Skew = nil
		v.Ranks[0].CollectiveRatio = pointer(0.1)
	})), "slow_host", "one of two may just do less")
}

// Evidence is what was measured, and can be written as JSON.
func TestJob_evidence(t *testing.T) {
	for _, change := range []func(*cluster.View){
		nil, slowLink("host1", Transmit, 0.1), lossyLink("host1", Receive, 0.01), longWay("host1", 5e-3), slowHost("host1"), stopped("host1"),
	} {
		for _, limited := range []bool{true, false} {
			for _, probes := range []bool{true, false} {
				j := newJob(4)
				j.limited, j.probes = limited, probes
				j.after(10, nil)
				wellFormed(t, j.after(10, change))
			}
		}
	}
}

func wellFormed(t testing.TB, found []sample.Finding) {
	for _, f := range found {
		assert.NotEmpty(t, f.Text)
		assert.NotEmpty(t, f.Advice)
		assert.NotEmpty(t, f.Evidence, f.Text)
		assert.Contains(t, []string{Info, Warning, Critical}, f.Severity)
		assert.True(t, f.Confidence > 0 && f.Confidence < 1, f.Text)
		assert.Positive(t, f.OnsetSeconds)
		for name, value := range f.Evidence {
			assert.False(t, math.IsNaN(value) || math.IsInf(value, 0), name)
		}
		assert.NotContains(t, f.Text, "NaN")
		assert.NotContains(t, f.Text, "%!")
		_, err := json.Marshal(f)
		assert.NoError(t, err)
	}
}

// Any view may come, with anything missing or odd. Nothing is made of nothing.
func FuzzJob(f *testing.F) {
	for _, n := range []int{0, 1, 2, 4} {
		j := newJob(n)
		text, err := json.Marshal(j.view())
		require.NoError(f, err)
		f.Add(text)
		if n > 1 {
			stopped("host1")(j.view())
		}
	}
	f.Add([]byte(`{"nodes": [{"name": ""}, {"name": ""}], "ranks": [{"peers": [{"rank": 0, "delivery_bytes_per_second": -1}]}]}`))
	f.Add([]byte(`{"timestamp_seconds": 1e300, "skew": {"compared": -1}, "ranks": [{"rank": 0, "node": "a", "state": "late"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var v cluster.View
		if json.Unmarshal(text, &v) != nil {
			return
		}
		var s State
		for range 8 {
			for _, finding := range Job(&v, &s) {
				_, err := json.Marshal(finding)
				require.NoError(t, err)
				require.NotEmpty(t, finding.Text)
			}
			v.Sequence++
			v.TimestampSeconds += 2
			for i := range v.Ranks {
				if p := v.Ranks[i].DigestSequence; p != nil {
					*p++
				}
			}
		}
	})
}

// Everything that may be null is, one after the other and all together.
func TestJob_nothingKnown(t *testing.T) {
	forget := map[string]func(*cluster.View){
		"skew":     func(v *cluster.View) { v.Skew = nil },
		"peers":    func(v *cluster.View) { forEachRank(v, func(r *cluster.Rank) { r.Peers = nil }) },
		"nodes":    func(v *cluster.View) { v.Nodes = nil },
		"ranks":    func(v *cluster.View) { v.Ranks = nil },
		"of nodes": func(v *cluster.View) { forEachRank(v, func(r *cluster.Rank) { r.Node = nil }) },
		"rank": func(v *cluster.View) {
			forEachRank(v, func(r *cluster.Rank) { r.Rank, r.DigestSequence, r.AgeSeconds = nil, nil, nil })
		},
		"numbers": func(v *cluster.View) {
			each(v, func(_, _ string, w *cluster.Way) { *w = cluster.Way{Rank: w.Rank, Node: w.Node, Address: w.Address} })
		},
		"collectives": func(v *cluster.View) {
			forEachRank(v, func(r *cluster.Rank) {
				r.CollectiveRatio, r.CollectivesTotal, r.WaitingSeconds, r.LastRatio, r.PendingSeconds = nil, nil, nil, nil, nil
			})
		},
	}
	for name, f := range forget {
		j := newJob(4)
		found := j.after(10, f)
		wellFormed(t, found)
		for _, x := range found {
			assert.Equal(t, NetworkClean, x.Class, "without %s", name)
		}
		assert.NotPanics(t, func() { Job(nil, &j.state) })
	}
	assert.Empty(t, Job(&cluster.View{}, &State{}))
	all := func(v *cluster.View) {
		for _, f := range []string{"numbers", "collectives", "rank", "skew"} {
			forget[f](v)
		}
	}
	assert.Empty(t, newJob(4).after(10, all))
}

func forEachRank(v *cluster.View, f func(*cluster.Rank)) {
	for i := range v.Ranks {
		f(&v.Ranks[i])
	}
}

// Digests that come more often than samples count the same losses again and again: they are counted once.
func TestJob_sameSampleAgain(t *testing.T) {
	lost := func(again int) (segments, retransmitted float64) {
		j := newJob(4)
		j.change = func(v *cluster.View) {
			each(v, func(from, to string, w *cluster.Way) { w.SegmentsRetransmitted = pointer(uint64(2)) })
			forEachRank(v, func(r *cluster.Rank) { r.Sampled = pointer(uint64(7)) })
		}
		for range again {
			Job(j.view(), &j.state)
		}
		w := j.state.ways[pair{"host0", "host1"}]
		return w.segments, w.again
	}
	segments, retransmitted := lost(1)
	manySegments, manyRetransmitted := lost(5)
	assert.Equal(t, []float64{segments, retransmitted}, []float64{manySegments, manyRetransmitted})
}

// What is remembered is bounded.
func TestJob_bounded(t *testing.T) {
	var s State
	for i := range 400 {
		j := newJob(3)
		j.sequence, j.at = uint64(i), float64(1_700_000_000+2*i)
		v := j.view()
		for k := range v.Nodes { // other hosts and ranks each time
			v.Ranks[k].Rank = pointer(int64(3*i + k))
			name := v.Nodes[k].Name + strings.Repeat("x", i)
			v.Nodes[k].Name, v.Ranks[k].Node = name, pointer(name)
			v.Nodes[k].WrongInterface = true
			for p := range v.Ranks[k].Peers {
				v.Ranks[k].Peers[p].Node = nil
			}
		}
		Job(v, &s)
	}
	assert.LessOrEqual(t, len(s.memory.held), mostHeld)
	assert.LessOrEqual(t, len(s.ways), 400)
	assert.LessOrEqual(t, len(s.digests), 6)
}

func BenchmarkJob(b *testing.B) {
	for _, n := range []int{4, 64, 1024} {
		j := newJob(n)
		v := j.view()
		for i := range v.Ranks { // eight are told of
			v.Ranks[i].Peers = v.Ranks[i].Peers[:min(8, n-1)]
		}
		b.Run(hostName(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v.Sequence++
				v.TimestampSeconds += 2
				for i := range v.Ranks {
					*v.Ranks[i].DigestSequence++
				}
				Job(v, &j.state)
			}
		})
	}
}

func TestThresholds_documented(t *testing.T) {
	text, err := os.ReadFile("../../docs/findings.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "## Thresholds")
	require.True(t, found)
	for _, want := range []string{
		fmt.Sprintf("%g of the others' median or of its own median before; between two hosts %g", slowRatio, slowRatioOfTwo),
		fmt.Sprintf("%g ms at least, and %g times the shortest", queueSeconds*1e3, queueRatio),
		fmt.Sprintf("to the host %g times those from it, on %d ways or more each", pileRatio, pileWays),
		fmt.Sprintf("%d KiB and %g of the busiest", activeBytes>>10, activeRatio),
		fmt.Sprintf("%g %% and %d,", lossRatio*100, lossSegments),
		fmt.Sprintf("%g ms, and three times", latencySeconds*1e3),
		fmt.Sprintf("%g %% of the collectives; others wait %g ms and half the transfer", lastRatio*100, waitingSeconds*1e3),
		fmt.Sprintf("%g times the others' and %g %% of the time more", outsideRatio, outsideLeast*100),
		fmt.Sprintf("last to %g %% of the collectives, its own waiting %g of the others', no sign of a slow link or a longer way for %g s", clearlyLast*100, clearlyOwn, noLinkSeconds),
		fmt.Sprintf("%g of them where the view says something new of half the ways, else %g", floorShare, clearFloorShare),
		fmt.Sprintf("%g s, a slow host: time outside of collectives %g times the others'; far: no shorter probe in %g s", settledSeconds, clearlyOutside, probeSeconds),
		fmt.Sprintf("%g s, and %g times", pendingSeconds, pendingToUsual),
		fmt.Sprintf("%d segments or %d MiB in three views; below %g %% sent again, %g %% of probes", cleanSegments, cleanBytes>>20, lossRatio*100, loadedProbeLoss*100),
	} {
		assert.Contains(t, table, want)
	}
	assert.Equal(t, []float64{3, 3, 0.5, 4}, []float64{recentViews, latencyRatio, waitingToTransfer, lossContrast}, "written as words")
}
