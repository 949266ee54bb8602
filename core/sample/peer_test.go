package sample

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A sample that is kept says the same as one that is written at once.
func TestKeepPeers(t *testing.T) {
	eth0, rank := "eth0", int64(3)
	texts := []*PeerTexts{
		{Address: "10.0.0.2", Rank: &rank, Ranks: []int64{3}, Process: OwnPeer, Interface: &eth0},
		{Address: "10.0.0.3", Ranks: []int64{}, Process: OwnPeer}, {Address: "10.0.0.2", Ranks: []int64{}, Process: RayPeer},
	}
	known := PeerNumbers{
		Connections: 2, Children: 1, Sent: 1 << 60, Received: 7, Segments: 9, Retransmitted: 3, Reported: 1, Delivery: 1e9, Unsent: 4,
		SentRate: 0.5, ReceivedRate: 0, RTT: 150, RTTMin: 20, RTTVariation: 10, AppLimited: true, ReceiveWindow: 0.25, SendBuffer: 0,
		LastUsed: 9 * time.Second,
	}
	unknown := PeerNumbers{
		Sent: UnknownNumber, Received: UnknownNumber, Segments: UnknownNumber, Retransmitted: UnknownNumber, Reported: UnknownNumber,
		Delivery: UnknownNumber, Unsent: UnknownNumber, SentRate: UnknownPortion, ReceivedRate: UnknownPortion, RTT: UnknownMicros,
		RTTMin: UnknownMicros, RTTVariation: UnknownMicros, ReceiveWindow: UnknownPortion, SendBuffer: UnknownPortion, LastUsed: UnknownTime,
	}
	numbers := []*PeerNumbers{&known, &unknown, &unknown}
	const now = 10 * time.Second
	var kept, fresh Sample
	kept.KeepPeers(texts, numbers, now)
	fresh.Peers = make([]Peer, len(texts))
	for i := range texts {
		fresh.Peers[i].Set(texts[i], numbers[i], now)
	}
	var keptText, freshText bytes.Buffer
	require.NoError(t, kept.WriteJSON(&keptText))
	require.NoError(t, fresh.WriteJSON(&freshText))
	assert.Equal(t, freshText.String(), keptText.String())
	var read Sample
	require.NoError(t, json.Unmarshal(keptText.Bytes(), &read))
	require.Len(t, read.Peers, 3)
	p := read.Peers[0]
	assert.Equal(t, uint64(1<<60), *p.SentBytesTotal)
	assert.InDelta(t, 150e-6, *p.RTTSeconds, 1e-12)
	assert.InDelta(t, 1, *p.IdleSeconds, 1e-12)
	assert.True(t, *p.DeliveryAppLimited)
	assert.Zero(t, *p.ReceivedBytesPerSecond, "0 is a rate")
	assert.NotContains(t, keptText.String(), "18446744073709551615")
	assert.Nil(t, read.Peers[1].SentBytesTotal)
	assert.Nil(t, read.Peers[1].DeliveryAppLimited)
	assert.Nil(t, read.Peers[1].IdleSeconds)

	for name, want := range map[string]float64{"peers.10.0.0.2.rtt_seconds": 150e-6, "peers.10.0.0.2.connections": 2, "peers.10.0.0.2.rank": 3} {
		metric, err := FindMetric(name)
		require.NoError(t, err)
		for _, s := range []*Sample{&kept, &fresh} {
			value, ok := metric.Value(s)
			assert.True(t, ok, name)
			assert.InDelta(t, want, value, 1e-12, name)
		}
	}
	for _, name := range []string{"peers.10.0.0.3.rtt_seconds", "peers.10.0.0.9.connections"} {
		metric, err := FindMetric(name)
		require.NoError(t, err)
		for _, s := range []*Sample{&kept, &fresh} {
			_, ok := metric.Value(s)
			assert.False(t, ok, name)
		}
	}
	_, err := FindMetric("peers.rtt_seconds")
	assert.ErrorContains(t, err, "peers.10.0.0.2.rtt_seconds")
	kept.KeepPeers(nil, nil, now)
	keptText.Reset()
	require.NoError(t, kept.WriteJSON(&keptText))
	assert.Contains(t, keptText.String(), `"peers":[]`)
}
