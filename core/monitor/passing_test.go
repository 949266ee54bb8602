package monitor

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/sample"
)

// pair is a machine with two cards whose received bytes a test moves.
type pair struct{ *machine }

func newPair(t *testing.T) pair {
	t.Helper()
	card := func(name string, index int) *link.Link {
		return &link.Link{Name: name, Index: index, Kind: link.Physical, Hardware: true, Up: true, State: "up", LinkSpeedBits: 1e9}
	}
	p := pair{newMachine(t, "{}", card("eth0", 2), card("eth1", 3))}
	p.move(1000, 1000)
	p.m.Tick()
	return p
}

func (p pair) move(eth0, eth1 uint64) {
	p.t.Helper()
	p.dev([]any{"eth0", eth0, 0, 0, 0, 0, 0, 0, 0}, []any{"eth1", eth1, 0, 0, 0, 0, 0, 0, 0})
}

func (p pair) tick(eth0, eth1 uint64) {
	p.t.Helper()
	p.move(eth0, eth1)
	p.machine.tick()
}

// sample takes a sample on demand.
func (p pair) sample(after time.Duration, eth0, eth1 uint64) *sample.Sample {
	p.t.Helper()
	p.clock.Advance(after)
	p.move(eth0, eth1)
	return p.now()
}

func (p pair) history() string {
	p.t.Helper()
	var out bytes.Buffer
	require.NoError(p.t, p.m.Query([]byte(`{"view": "history"}`), &out))
	return out.String()
}

func receiveRates(s *sample.Sample) map[string]float64 {
	found := map[string]float64{}
	for _, i := range s.Interfaces {
		if i.ReceiveBytesPerSecond != nil {
			found[i.Name] = *i.ReceiveBytesPerSecond
		}
	}
	return found
}

func TestSample_onDemandLeavesTheHistoryAlone(t *testing.T) {
	m := newPair(t)
	m.tick(2000, 1000)
	m.tick(4000, 1000)
	before := m.history()
	for i := range uint64(3) {
		m.sample(600*time.Millisecond, 5000+1000*i, 1500+100*i)
	}
	assert.Equal(t, before, m.history())
}

func TestSample_onDemandIsMeasuredAnewEachTime(t *testing.T) {
	m := newPair(t)
	m.tick(2000, 1000)
	s := m.sample(time.Second, 5000, 1000)
	assert.Equal(t, map[string]float64{"eth0": 3000, "eth1": 0}, receiveRates(s))
	s = m.sample(time.Second, 5000, 7000) // since the same sample of the loop, 2 s ago
	assert.Equal(t, map[string]float64{"eth0": 1500, "eth1": 3000}, receiveRates(s))
	m.tick(5000, 7000)
	s = m.sample(time.Second, 5000, 7000)
	assert.Equal(t, map[string]float64{"eth0": 0, "eth1": 0}, receiveRates(s))
	s = m.sample(time.Second, 5000, 7600)
	assert.Equal(t, map[string]float64{"eth0": 0, "eth1": 300}, receiveRates(s))
	assert.Equal(t, uint64(6600), *s.Interfaces[1].ReceiveBytesTotal+*s.Interfaces[0].ReceiveBytesTotal-4000)
}

func TestSample_reasonsAreThoseOfEachSample(t *testing.T) {
	m := newPair(t)
	s := m.sample(0, 1000, 1000)
	assert.Contains(t, s.Unavailable, "window_seconds")
	m.tick(2000, 1000)
	s = m.sample(time.Second, 3000, 1000)
	assert.NotContains(t, s.Unavailable, "window_seconds")
	assert.Equal(t, "no segment was sent in this window", s.Unavailable["tcp.retransmit_ratio"])
	assert.Contains(t, s.Unavailable, "job")

	rank := int64(3)
	identity, _, err := ParseJob([]byte(`{"rank": 3}`))
	require.NoError(t, err)
	require.NoError(t, m.m.SetJob(identity, nil))
	s = m.sample(0, 3000, 1000)
	assert.Equal(t, &rank, s.Job.Rank)
	assert.NotContains(t, s.Unavailable, "job")
	assert.Contains(t, s.Unavailable, "job.world_size")

	// More sets of reasons than are remembered, and back to the first.
	for range 2 {
		for i := range 2 * mostReasonSets {
			require.NoError(t, os.WriteFile(m.path("sockstat"),
				fmt.Appendf(nil, "sockets: used 1\nTCP: inuse x%d\n", i), 0o644))
			s = m.sample(0, 3000, 1000)
			assert.Contains(t, s.Unavailable["sockets.tcp_in_use"], fmt.Sprintf("x%d", i))
			assert.Contains(t, s.Self.Health, fmt.Sprintf("x%d", i))
		}
	}
}

func TestSample_sourcesWithoutInterfacesAreNull(t *testing.T) {
	fs := kernelfs.System()
	config, err := ParseConfig([]byte(`{"sources": ["tcp"]}`))
	require.NoError(t, err)
	m, err := New(config, Options{FS: &fs, NoLoop: true})
	require.NoError(t, err)
	defer m.Close()
	for range 2 {
		var out bytes.Buffer
		require.NoError(t, m.Sample(&out))
		assert.Contains(t, out.String(), `"interfaces":null`)
	}
}

func TestSample_noInterfaceAtAllIsAnEmptyList(t *testing.T) {
	m := newPair(t)
	path := m.path("dev")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfterN(text, []byte("\n"), 3)
	require.NoError(t, os.WriteFile(path, append(lines[0], lines[1]...), 0o644))
	var out bytes.Buffer
	require.NoError(t, m.m.Sample(&out))
	assert.Contains(t, out.String(), `"interfaces":[]`)
}
