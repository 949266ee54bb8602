package monitor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/cluster"
	"netmon/core/collective"
	"netmon/core/sample"
)

// digest is the next one of a monitor, as others read it.
func digest(t *testing.T, m *Monitor) cluster.Digest {
	t.Helper()
	text, err := m.Digest()
	require.NoError(t, err)
	assert.LessOrEqual(t, len(text), cluster.MostDigestBytes)
	d, err := cluster.ParseDigest(text)
	require.NoError(t, err)
	return d
}

func TestDigest_node(t *testing.T) {
	x := newMachine(t, `{"job": {"rank": 3, "local_rank": 1, "world_size": 8}, "cluster_interval_seconds": 5}`)
	d := digest(t, x.m)
	assert.EqualValues(t, []any{uint64(3), uint64(1), uint64(8), uint64(1), 5 * time.Second},
		[]any{d.Rank, d.LocalRank, d.WorldSize, d.Sequence, d.Interval})
	assert.Equal(t, 1_700_000_000.0, d.WallSeconds)
	assert.EqualValues(t, 1_700_000_000_000_000_000, d.Process)
	assert.Equal(t, cluster.NoTime, d.Window, "there is one sample only")
	assert.True(t, math.IsNaN(d.ReceiveBytesPerSecond))
	assert.EqualValues(t, cluster.None, d.Drops)
	assert.EqualValues(t, 0, d.ReceiveBytesTotal)
	require.NotEmpty(t, d.Addresses)
	assert.Equal(t, "10.0.0.5", d.Addresses[0].String())

	receive, transmit := uint64(1_000_000_000_000), uint64(2_000_000_000_000)
	move := func(in, out uint64) {
		receive, transmit = receive+in, transmit+out
		x.dev(row("eth0", receive, transmit))
		x.tick()
	}
	move(0, 0) // other numbers than the capture's: a reset
	first := digest(t, x.m)
	move(1000, 100)
	move(9000, 300)
	d = digest(t, x.m)
	assert.Equal(t, 2*time.Second, d.Window)
	assert.EqualValues(t, 10_000, d.ReceiveBytesTotal-first.ReceiveBytesTotal)
	assert.Equal(t, 5000.0, d.ReceiveBytesPerSecond, "since the digest before")
	assert.Equal(t, 200.0, d.TransmitBytesPerSecond)
	assert.Equal(t, 9000.0, d.ReceiveBestBytesPerSecond, "in a window of the loop")
	assert.Equal(t, 300.0, d.TransmitBestBytesPerSecond)
	assert.EqualValues(t, 0, d.Drops)
	assert.EqualValues(t, 2_000_000, d.CountedMicroseconds-first.CountedMicroseconds)

	// One that comes sooner than a second after it covers a second.
	d = digest(t, x.m)
	assert.Equal(t, time.Second, d.Window)
	assert.Equal(t, 9000.0, d.ReceiveBytesPerSecond)
	assert.EqualValues(t, 4, d.Sequence)

	// What ends in total is since the monitor was started, whatever the window.
	dropped := row("eth0", receive, transmit)
	dropped[3], dropped[4], dropped[8] = 7, 5, 6
	x.dev(dropped)
	x.tick()
	x.tick()
	after := digest(t, x.m)
	assert.EqualValues(t, 11, after.DropsTotal-d.DropsTotal)
	assert.EqualValues(t, 7, after.ErrorsTotal-d.ErrorsTotal)
}

func TestDigest_closed(t *testing.T) {
	x := newMachine(t, `{}`)
	x.m.Close()
	_, err := x.m.Digest()
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, x.m.Aggregate([]byte(`{}`), &bytes.Buffer{}), ErrClosed)
}

// Without sources little is known, and nothing of it is zero.
func TestDigest_nothing(t *testing.T) {
	x := newMachine(t, `{"sources": []}`)
	x.tick()
	x.tick()
	d := digest(t, x.m)
	for name, value := range map[string]float64{
		"receive": d.ReceiveBytesPerSecond, "best": d.ReceiveBestBytesPerSecond, "capacity": d.CapacityBitsPerSecond,
		"retransmit": d.RetransmitRatio, "rtt": d.RTTP50Seconds, "loss": d.LossRatio, "rdma": d.RDMABytesPerSecond,
		"collectives": d.CollectiveRatio, "busbw": d.BusBW,
	} {
		assert.True(t, math.IsNaN(value), "%s is %v", name, value)
	}
	for name, value := range map[string]uint64{
		"rank": d.Rank, "world": d.WorldSize, "total": d.ReceiveBytesTotal, "drops": d.Drops, "collectives": d.CollectivesTotal,
	} {
		assert.EqualValues(t, cluster.None, value, name)
	}
	assert.Empty(t, d.Peers)
	assert.Empty(t, d.Marks)
	assert.Equal(t, cluster.NoTime, d.Pending)
}

func TestDigestWindow(t *testing.T) {
	var samples []*sample.Sample
	for i := range 21 {
		samples = append(samples, &sample.Sample{MonotonicSeconds: 100 + 0.25*float64(i)})
	}
	for _, of := range []struct{ before, want float64 }{
		{0, 104}, {103, 103}, {103.1, 103}, {104.75, 104}, {105, 104}, {50, 100},
	} {
		assert.Equal(t, of.want, digestWindow(samples, of.before)[0].MonotonicSeconds, of)
	}
	assert.Equal(t, 100.0, digestWindow(samples[:2], 0)[0].MonotonicSeconds, "not a second old: all there is")
	assert.Len(t, digestWindow(samples[:1], 0), 1)
}

func TestDigestPeer(t *testing.T) {
	n := func(value uint64) *uint64 { return &value }
	yes, no, rate := true, false, 5e6
	now := sample.Peer{
		Address: "10.0.0.2", Ranks: []int64{5, 4}, SentBytesTotal: n(5000), SegmentsSentTotal: n(150), SegmentsRetransmittedTotal: n(30),
		DuplicatesReportedTotal: n(10), DeliveryBytesPerSecond: &rate, DeliveryAppLimited: &no,
	}
	before := sample.Peer{SentBytesTotal: n(2000), SegmentsSentTotal: n(50), SegmentsRetransmittedTotal: n(10), DuplicatesReportedTotal: n(5)}
	p := digestPeer(&now, &before, true)
	assert.EqualValues(t, 4, p.Rank)
	assert.True(t, p.Several)
	assert.EqualValues(t, 3000, p.SentBytes)
	assert.EqualValues(t, []uint64{100, 15}, []uint64{p.SegmentsSent, p.Retransmitted}, "20 again, 5 of them for nothing")
	assert.Equal(t, 5e6, p.DeliveryBytesPerSec)

	p = digestPeer(&now, nil, true)
	assert.EqualValues(t, 5000, p.SentBytes, "all of it, where the peer is new")
	p = digestPeer(&now, nil, false)
	assert.EqualValues(t, cluster.None, p.SentBytes)
	assert.EqualValues(t, cluster.None, p.SegmentsSent)

	now.DeliveryAppLimited, now.DuplicatesReportedTotal = &yes, nil
	p = digestPeer(&now, &before, true)
	assert.True(t, math.IsNaN(p.DeliveryBytesPerSec), "the application was the limit")
	assert.EqualValues(t, []uint64{100, 20}, []uint64{p.SegmentsSent, p.Retransmitted}, "an old kernel does not count them")
}

func TestDigest_probesOfPeers(t *testing.T) {
	here, there, far := "10.0.0.2", "10.0.0.3", "192.0.2.1"
	rtt := 0.001
	s := &sample.Sample{
		Peers: []sample.Peer{{Address: here, Process: sample.OwnPeer}, {Address: "10.0.0.9", Process: sample.RayPeer}},
		Probes: []sample.Probe{
			{Target: here, Peer: true, Address: &here, Sent: 10, Lost: 1, RTTMinSeconds: &rtt, RTTP50Seconds: &rtt},
			{Target: "udp://" + here, Address: &here, Sent: 99},
			{Target: there, Peer: true, Address: &there, Sent: 10, Lost: 10},
			{Target: "far", Address: &far, Sent: 10},
			{Target: "unresolved", Peer: true},
		},
	}
	d := cluster.UnknownDigest()
	digestPeers(&d, []*sample.Sample{s})
	require.Len(t, d.Peers, 2)
	assert.Equal(t, here, d.Peers[0].Address)
	assert.EqualValues(t, 10, d.Peers[0].ProbeSent)
	assert.Equal(t, 0.001, d.Peers[0].ProbeRTTMinSeconds)
	assert.Equal(t, there, d.Peers[1].Address)
	assert.EqualValues(t, 10, d.Peers[1].ProbeLost)
	assert.True(t, math.IsNaN(d.Peers[1].ProbeRTTMinSeconds))
	digestProbes(&d, s.Probes)
	assert.InDelta(t, 11./129, d.LossRatio, 1e-12)
	assert.Equal(t, 0.001, d.RTTP50Seconds)
}

func TestDigest_collectives(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"], "cluster_interval_seconds": 2}`, &w)
	d := digest(t, m)
	assert.Empty(t, d.Marks)
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4, "source": "torch hooks"}`))
	require.NoError(t, err)
	pair, err := m.CollectiveGroup([]byte(`{"name": "pair", "size": 2, "source": "torch hooks"}`))
	require.NoError(t, err)
	const ms = time.Millisecond
	record := func(op collective.Op, group uint32, sequence uint64, duration, wrong time.Duration) {
		w.put(collective.Record{Op: op, Group: group, End: collective.EndExact, Bytes: 1 << 20, Enter: clock.Monotonic() - duration,
			Duration: duration, DurationError: wrong, Sequence: sequence})
	}
	for range 4 { // a window begins at a sample
		clock.Advance(250 * ms)
		m.Tick()
	}
	digest(t, m)
	for i := range uint64(8) {
		clock.Advance(250 * ms)
		record(collective.AllReduce, world, 10*i, 100*ms, 0)
		record(collective.Broadcast, world, 10*i+1, ms, 0)                       // does not end on all together
		record(collective.AllReduce, pair, 10*i+2, ms, 0)                        // not all ranks
		record(collective.AllReduce, world, 10*i+3, ms, 3*ms)                    // nobody knows how long
		record(collective.Barrier, world, collective.NoSequence, ms, 0)          // nobody knows which
		record(collective.AllGather, world, 10*i+4, ms, collective.Unknown)      // nobody knows how exactly
		record(collective.AllGather, world, 10*i+5, 5*ms, 1500*time.Microsecond) // polled
		m.Tick()
	}
	d = digest(t, m)
	assert.Equal(t, 2*time.Second, d.Window)
	assert.True(t, math.IsNaN(d.CollectiveRatio), "not all ends are known")
	assert.EqualValues(t, 56, d.CollectivesTotal)
	assert.EqualValues(t, 56<<20, d.CollectiveBytes)
	assert.LessOrEqual(t, len(d.Marks), cluster.MostMarks)
	require.NotEmpty(t, d.Marks)
	for _, mark := range d.Marks {
		assert.True(t, mark.Symmetric)
		want := map[uint64]time.Duration{0: 100 * ms, 5: 5 * ms}[mark.Sequence%10]
		assert.InDelta(t, float64(want), float64(mark.Duration), float64(want)/1e4, mark)
	}

	for i := range uint64(2) {
		watch := fmt.Appendf(nil, `{"complete_ns": %d, "looks": %d, "busy_looks": %d}`, clock.Monotonic(), 100*i, 25*i)
		_, err = m.CollectiveGroup(watch)
		require.NoError(t, err)
	}
	assert.InDelta(t, 0.25, digest(t, m).CollectiveRatio, 1e-9, "of the looks")

	// Marks of a job that does little are the newest, also where they are older than some intervals; but not for ever.
	clock.Advance(30 * time.Second)
	assert.Len(t, digest(t, m).Marks, cluster.MostMarks)
	clock.Advance(2 * time.Minute)
	assert.Empty(t, digest(t, m).Marks)

	_, err = m.CollectiveGroup([]byte(`{"watching": false}`))
	require.NoError(t, err)
	d = digest(t, m)
	assert.True(t, math.IsNaN(d.CollectiveRatio))
	assert.EqualValues(t, cluster.None, d.PendingCount, "nobody tells any more")
	s := now(t, m)
	assert.Equal(t, nobodyAnyMore, s.Unavailable["collective_ratio"])
	assert.Equal(t, nobodyAnyMore, s.Unavailable["collective_pending"])
	assert.NotEmpty(t, s.Collectives)
}

// Two who record the same group are two rows of it.
func TestDigest_twoSources(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	for i, source := range []string{"torch hooks", "a plugin"} {
		group, err := m.CollectiveGroup(fmt.Appendf(nil, `{"name": "default_pg", "size": 4, "source": %q}`, source))
		require.NoError(t, err)
		for range 1 + i {
			w.put(collective.Record{Op: collective.AllReduce, Group: group, End: collective.EndExact, Bytes: 1 << 20, Duration: 1})
		}
	}
	clock.Advance(time.Second)
	m.Tick()
	clock.Advance(time.Second)
	m.Tick()
	assert.EqualValues(t, 0, digest(t, m).CollectiveBytes)
}

// The busy share of a window that is longer than those of samples is whole.
func TestDigest_longWindow(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"], "cluster_interval_seconds": 10}`, &w)
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
	require.NoError(t, err)
	digest(t, m)
	for i := range 40 {
		clock.Advance(250 * time.Millisecond)
		if i < 20 {
			w.put(collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndExact, Bytes: 1,
				Enter: clock.Monotonic() - 250*time.Millisecond, Duration: 250 * time.Millisecond, Sequence: uint64(i)})
		}
		m.Tick()
	}
	assert.InDelta(t, 0.5, digest(t, m).CollectiveRatio, 1e-6)
}

// Who asks more rarely than the configuration says does not get what was forgotten meanwhile as time without collectives.
func TestDigest_askedForRarely(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"], "cluster_interval_seconds": 2}`, &w)
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
	require.NoError(t, err)
	digest(t, m)
	for i := range 60 {
		clock.Advance(time.Second)
		w.put(collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndExact, Bytes: 1,
			Enter: clock.Monotonic() - 500*time.Millisecond, Duration: 500 * time.Millisecond, Sequence: uint64(i)})
		m.Tick()
	}
	d := digest(t, m)
	assert.InDelta(t, 0.5, d.CollectiveRatio, 1e-6)
	assert.Equal(t, d.Sampled, digest(t, m).Sampled, "nothing was sampled in between")
	clock.Advance(time.Second)
	m.Tick()
	assert.Equal(t, d.Sampled+1, digest(t, m).Sampled)
}

// What has ended while the oldest is still under way is not counted beside it.
func TestDigest_endedBesidePending(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
	require.NoError(t, err)
	clock.Advance(2 * time.Second)
	w.told, w.pending = true, 1
	w.oldest = collective.Record{Op: collective.Recv, Group: world, Enter: clock.Monotonic() - 500*time.Millisecond}
	w.put(collective.Record{Op: collective.AllReduce, Group: world, End: collective.EndExact, Bytes: 1,
		Enter: clock.Monotonic() - 400*time.Millisecond, Duration: 200 * time.Millisecond})
	m.Tick()
	assert.InDelta(t, 0.25, digest(t, m).CollectiveRatio, 1e-6)
}

// That nobody tells what is under way is not that nothing is.
func TestDigest_pendingCount(t *testing.T) {
	var w waiting
	m, clock := watched(t, `{"sources": ["collectives"]}`, &w)
	world, err := m.CollectiveGroup([]byte(`{"name": "default_pg", "size": 4}`))
	require.NoError(t, err)
	clock.Advance(time.Second)
	m.Tick()
	assert.EqualValues(t, cluster.None, digest(t, m).PendingCount)
	w.told = true
	assert.Zero(t, digest(t, m).PendingCount)
	w.pending, w.oldest = 2, collective.Record{Op: collective.AllReduce, Group: world, Enter: clock.Monotonic()}
	assert.EqualValues(t, 2, digest(t, m).PendingCount)
	w.oldest.Group = 99
	assert.EqualValues(t, cluster.None, digest(t, m).PendingCount, "of a group that nobody named")
}

func TestMarkRing_bounded(t *testing.T) {
	var r markRing
	group := &collective.Group{Name: "default_pg", Size: 2}
	for i := range 3 * mostMarkRecords {
		r.add(&collective.Record{Op: collective.AllReduce, End: collective.EndExact, Enter: time.Duration(i), Duration: 1, Sequence: uint64(i)}, group)
	}
	assert.Len(t, r.records, mostMarkRecords)
	marks := r.choose(3*mostMarkRecords, time.Second)
	assert.NotEmpty(t, marks)
	for _, m := range marks {
		assert.GreaterOrEqual(t, m.Sequence, uint64(2*mostMarkRecords))
	}
}

func TestMarkRing_barriersOnlyWhereThereIsNothingElse(t *testing.T) {
	group := &collective.Group{Name: "default_pg", Size: 2}
	sequences := func(ops ...collective.Op) (marked []uint64) {
		var r markRing
		for i, op := range ops {
			r.add(&collective.Record{Op: op, End: collective.EndExact, Enter: time.Duration(i), Duration: 1, Sequence: uint64(i + 1)}, group)
		}
		for _, m := range r.choose(time.Second, time.Second) {
			marked = append(marked, m.Sequence)
		}
		return marked
	}
	assert.Equal(t, []uint64{1, 3}, sequences(collective.AllReduce, collective.Barrier, collective.ReduceScatter, collective.Barrier))
	assert.Equal(t, []uint64{1, 2}, sequences(collective.Barrier, collective.Barrier))
}

func TestAggregate_request(t *testing.T) {
	x := newMachine(t, `{"job": {"rank": 0}}`)
	text, err := x.m.Digest()
	require.NoError(t, err)
	aggregate := func(request string) (v cluster.View) {
		t.Helper()
		var out bytes.Buffer
		require.NoError(t, x.m.Aggregate([]byte(request), &out), request)
		require.NoError(t, json.Unmarshal(out.Bytes(), &v))
		return v
	}
	coded := base64.StdEncoding.EncodeToString(text)
	v := aggregate(fmt.Sprintf(`{"engine": "c10d store", "rank": 0, "world_size": 2, "digests": [%q, "?", 5], "gone": []}`, coded))
	assert.Equal(t, "c10d store", *v.Engine)
	assert.EqualValues(t, 1, v.Sequence)
	assert.Equal(t, "live", v.Ranks[0].State)
	assert.Equal(t, "missing", v.Ranks[1].State)
	assert.Equal(t, `2 of 3 are not understood; the first: a text that is no base64: illegal base64 data at input byte 0`, v.Unavailable["digests"])

	x.clock.Advance(7 * time.Second)
	v = aggregate(fmt.Sprintf(`{"digests": [%q]}`, coded))
	assert.Equal(t, "late", v.Ranks[0].State, "the monitor remembers")
	assert.Equal(t, 7.0, *v.Ranks[0].AgeSeconds)
	v = aggregate(``)
	assert.EqualValues(t, 3, v.Sequence)

	for request, want := range map[string]string{
		`{"digests": 1}`:             `request key "digests" is 1; it must be a list of digests in base64`,
		`{"world_size": 0}`:          `request key "world_size" is 0; it must be a whole number from 1 to 2147483647`,
		`{"gone": [1, "x"]}`:         `request key "gone" is "x"; it must be a whole number from 0 to 2147483647`,
		`{"gone": {}}`:               `request key "gone" is an object; it must be a list of ranks`,
		`{"engine": ["c10d store"]}`: `request key "engine" is a list; it must be a string`,
	} {
		err := x.m.Aggregate([]byte(request), &bytes.Buffer{})
		var wrong *TextError
		require.ErrorAs(t, err, &wrong, request)
		assert.Equal(t, want, err.Error(), request)
	}
}

func BenchmarkDigest(b *testing.B) {
	m, err := New(DefaultConfig(), Options{NoLoop: true})
	require.NoError(b, err)
	defer m.Close()
	for range 5 {
		m.Tick()
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = m.Digest()
	}
}
