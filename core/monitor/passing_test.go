package monitor

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-json"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/sample"
)

// fixedLinks are links that do not change.
type fixedLinks []*link.Link

func (fixedLinks) Changed() link.Change          { return 0 }
func (l fixedLinks) Read() ([]*link.Link, error) { return l, nil }
func (fixedLinks) Route(netip.Addr) int          { return 0 }
func (fixedLinks) DefaultRoute() string          { return "" }
func (fixedLinks) Close()                        {}

// machine is a recorded tree, made of this machine's own files, whose interfaces a test moves.
type machine struct {
	t       *testing.T
	root    string
	clock   *clock.Fake
	monitor *Monitor
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir(), clock: clock.NewFake(time.Hour, time.Unix(1.7e9, 0))}
	require.NoError(t, os.MkdirAll(filepath.Join(m.root, "proc/net"), 0o755))
	for _, name := range []string{"dev", "snmp", "netstat", "snmp6", "sockstat", "sockstat6"} {
		text, err := os.ReadFile("/proc/net/" + name)
		if err != nil {
			t.Skip(err)
		}
		require.NoError(t, os.WriteFile(filepath.Join(m.root, "proc/net", name), text, 0o644))
	}
	m.move(1000, 1000)
	fs := kernelfs.Dir(m.root)
	links := fixedLinks{
		{Name: "eth0", Index: 2, Kind: link.Physical, Hardware: true, Up: true, State: "up", LinkSpeedBits: 1e9},
		{Name: "eth1", Index: 3, Kind: link.Physical, Hardware: true, Up: true, State: "up", LinkSpeedBits: 1e9},
	}
	config, err := ParseConfig([]byte(`{"interval_seconds": 1}`))
	require.NoError(t, err)
	m.monitor, err = New(config, Options{FS: &fs, Clock: m.clock, Links: links, NoLoop: true})
	require.NoError(t, err)
	t.Cleanup(m.monitor.Close)
	return m
}

// move writes what the interfaces have received.
func (m *machine) move(eth0, eth1 uint64) {
	m.t.Helper()
	path := filepath.Join(m.root, "proc/net/dev")
	text, err := os.ReadFile(path)
	require.NoError(m.t, err)
	lines := bytes.SplitAfterN(text, []byte("\n"), 3)
	moved := append(append([]byte{}, lines[0]...), lines[1]...)
	const row = "%6s: %d 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	moved = fmt.Appendf(moved, row+row, "eth0", eth0, "eth1", eth1)
	// In place: the monitor keeps the file open.
	require.NoError(m.t, os.WriteFile(path, moved, 0o644))
}

func (m *machine) tick(after time.Duration, eth0, eth1 uint64) {
	m.t.Helper()
	m.clock.Advance(after)
	m.move(eth0, eth1)
	m.monitor.Tick()
}

// sample takes a sample on demand.
func (m *machine) sample(after time.Duration, eth0, eth1 uint64) (s sample.Sample, text string) {
	m.t.Helper()
	m.clock.Advance(after)
	m.move(eth0, eth1)
	var out bytes.Buffer
	require.NoError(m.t, m.monitor.Sample(&out))
	require.NoError(m.t, json.Unmarshal(out.Bytes(), &s))
	return s, out.String()
}

func (m *machine) history() string {
	m.t.Helper()
	var out bytes.Buffer
	require.NoError(m.t, m.monitor.Query([]byte(`{"view": "history"}`), &out))
	return out.String()
}

func receiveRates(s sample.Sample) map[string]float64 {
	found := map[string]float64{}
	for _, i := range s.Interfaces {
		if i.ReceiveBytesPerSecond != nil {
			found[i.Name] = *i.ReceiveBytesPerSecond
		}
	}
	return found
}

func TestSample_onDemandLeavesTheHistoryAlone(t *testing.T) {
	m := newMachine(t)
	m.tick(time.Second, 2000, 1000)
	m.tick(time.Second, 4000, 1000)
	before := m.history()
	for i := range uint64(3) {
		m.sample(600*time.Millisecond, 5000+1000*i, 1500+100*i)
	}
	assert.Equal(t, before, m.history())
}

func TestSample_onDemandIsMeasuredAnewEachTime(t *testing.T) {
	m := newMachine(t)
	m.tick(time.Second, 2000, 1000)
	s, _ := m.sample(time.Second, 5000, 1000)
	assert.Equal(t, map[string]float64{"eth0": 3000, "eth1": 0}, receiveRates(s))
	s, _ = m.sample(time.Second, 5000, 7000) // since the same sample of the loop, 2 s ago
	assert.Equal(t, map[string]float64{"eth0": 1500, "eth1": 3000}, receiveRates(s))
	m.tick(time.Second, 5000, 7000)
	s, _ = m.sample(time.Second, 5000, 7000)
	assert.Equal(t, map[string]float64{"eth0": 0, "eth1": 0}, receiveRates(s))
	s, _ = m.sample(time.Second, 5000, 7600)
	assert.Equal(t, map[string]float64{"eth0": 0, "eth1": 300}, receiveRates(s))
	assert.Equal(t, uint64(6600), *s.Interfaces[1].ReceiveBytesTotal+*s.Interfaces[0].ReceiveBytesTotal-4000)
}

func TestSample_reasonsAreThoseOfEachSample(t *testing.T) {
	m := newMachine(t)
	s, _ := m.sample(0, 1000, 1000)
	assert.Contains(t, s.Unavailable, "window_seconds")
	m.tick(time.Second, 2000, 1000)
	s, _ = m.sample(time.Second, 3000, 1000)
	assert.NotContains(t, s.Unavailable, "window_seconds")
	assert.Equal(t, "no segment was sent in this window", s.Unavailable["tcp.retransmit_ratio"])
	assert.Contains(t, s.Unavailable, "job")

	rank := int64(3)
	identity, _, err := ParseJob([]byte(`{"rank": 3}`))
	require.NoError(t, err)
	require.NoError(t, m.monitor.SetJob(identity, nil))
	s, _ = m.sample(0, 3000, 1000)
	assert.Equal(t, &rank, s.Job.Rank)
	assert.NotContains(t, s.Unavailable, "job")
	assert.Contains(t, s.Unavailable, "job.world_size")

	// More sets of reasons than are remembered, and back to the first.
	for range 2 {
		for i := range 2 * mostReasonSets {
			require.NoError(t, os.WriteFile(filepath.Join(m.root, "proc/net/sockstat"),
				fmt.Appendf(nil, "sockets: used 1\nTCP: inuse x%d\n", i), 0o644))
			s, _ = m.sample(0, 3000, 1000)
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
	m := newMachine(t)
	path := filepath.Join(m.root, "proc/net/dev")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	lines := bytes.SplitAfterN(text, []byte("\n"), 3)
	require.NoError(t, os.WriteFile(path, append(lines[0], lines[1]...), 0o644))
	var out bytes.Buffer
	require.NoError(t, m.monitor.Sample(&out))
	assert.Contains(t, out.String(), `"interfaces":[]`)
}
