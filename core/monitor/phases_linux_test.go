package monitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/peer"
	"netmon/core/phase"
	"netmon/core/sample"
	"netmon/core/tcpinfo"
)

// Ports are read when phases begin and end, long before their turn.
func TestPhases_rdmaPorts(t *testing.T) {
	x := newNode(t, `{"interval_seconds": 3600}`, "documented-mlx5-roce")
	b := partOf[*rdmaPart](x).beside
	settle(t, b, 1)
	read := b.done.Load()
	number := x.begin("weight_sync")
	x.clock.Advance(leastWanted)
	settle(t, b, read+1)
	x.clock.Advance(time.Second)
	x.write(receiveWords, "7004512346678")
	x.write(transmitWords, "7001562345678") // 11 GB in a second of a port of 12.5 GB/s
	read = b.done.Load()
	f := x.end(number)
	if b.done.Load() == read { // they are read after its end, or were just now
		assert.Equal(t, uint64(sample.UnknownCount), f.RDMA)
		assert.Equal(t, phase.Unknown, f.Verdict, "the Ethernet is idle, and what RDMA moved is not known yet")
	}
	x.clock.Advance(leastWanted)
	settle(t, b, read+1)
	row := x.phaseOf("weight_sync")
	require.NotNil(t, row.RDMABytesTotal)
	assert.EqualValues(t, 4*(1000+2_750_000_000), *row.RDMABytesTotal)
	require.NotNil(t, row.Verdict)
	assert.Equal(t, "link-bound", *row.Verdict)
}

// What connections waited for since a reading is known by their round trips: in a queue, or on a long way.
func TestPhaseWaits(t *testing.T) {
	var w phaseWaits
	rows := make([]peer.Row, 4)
	for i, micros := range [][2]uint32{{12000, 30}, {300, 30}, {6000, 5000}, {12000, tcpinfo.NoRTT}} {
		rows[i] = peer.Row{Peer: new(peer.Peer), MinRTT: micros[1]}
		rows[i].Most.RTT = micros[0]
	}
	wait := func(longer time.Duration) {
		for i := range rows {
			w.add(&rows[i], longer)
		}
		w.forget(rows)
	}
	wait(time.Second)
	wait(3 * time.Second)
	assert.Equal(t, 3*time.Second, w.queued)
	assert.Equal(t, 3*time.Second, w.far)
	rows[0].Most.RTT = 50 // the queue is gone
	wait(4 * time.Second)
	wait(time.Second) // of a connection that is another one's now
	assert.Equal(t, 3*time.Second, w.queued)
	rows = rows[:1]
	wait(time.Second)
	assert.Len(t, w.before, 1)
}
