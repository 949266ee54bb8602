package monitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/nettest"
	"netmon/core/sample"
)

// A process that sends to another host is told that its ways are clean. In between, and on demand, samples share what was found.
func TestFindings_ofOwnConnections(t *testing.T) {
	here, there := nettest.Pair(t)
	client, server := connect(t, here, there, there4+":0")
	parsed, err := ParseConfig([]byte(`{"job": {"rank": 1}}`))
	require.NoError(t, err)
	parsed.Variables = map[string]string{}
	now := clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0))
	m, err := New(parsed, Options{Version: "0.0.0-test", NoLoop: true, Clock: now, Tools: (&fakeNetwork{}).tools()})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	newest := func() *sample.Sample {
		all := m.history.since(0)
		return all[len(all)-1]
	}
	round := func(seconds int) {
		move(t, client, server, 4<<20)
		now.Advance(time.Duration(seconds) * time.Second)
		m.peers.renew(t)
		m.Tick()
	}
	m.Tick()
	assert.NotNil(t, newest().Findings)
	assert.Empty(t, newest().Findings, "not measured enough")
	for range 8 {
		round(2)
	}
	found := newest().Findings
	require.Len(t, found, 1)
	assert.Equal(t, "network_clean", found[0].Class)
	assert.EqualValues(t, 1, *found[0].Rank)
	assert.Greater(t, found[0].Evidence["segments_sent"], 500.0)

	assert.Equal(t, found[0].Text, justSampled(t, m).Findings[0].Text)
	for range 3 {
		round(1)
		assert.Same(t, &found[0], &newest().Findings[0], "nothing changed")
	}
}

func TestFindings_withoutConnections(t *testing.T) {
	x := newMachine(t, `{"sources": ["interfaces"]}`)
	s := justSampled(t, x.m)
	assert.Nil(t, s.Findings)
	assert.Equal(t, "the job's connections are not known: not in sources", s.Unavailable["findings"])
}
