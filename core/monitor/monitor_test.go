package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/sample"
)

var update = flag.Bool("update", false, "renew golden files")

// fakeLinks is a namespace whose links the test decides.
type fakeLinks struct {
	mu           sync.Mutex
	links        []*link.Link
	defaultRoute string
	routes       map[netip.Addr]int
	changed      link.Change
	err          error
	reads        int
	block        chan struct{} // Read waits for it, as for a kernel lock, when it is set
}

func (f *fakeLinks) Changed() link.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	change := f.changed
	f.changed = 0
	return change
}

func (f *fakeLinks) Read() ([]*link.Link, error) {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return append([]*link.Link{}, f.links...), f.err
}

func (f *fakeLinks) Route(a netip.Addr) int { return f.routes[a] }
func (f *fakeLinks) DefaultRoute() string   { return f.defaultRoute }
func (f *fakeLinks) Close()                 {}

// set replaces the links, as a program does that configures them.
func (f *fakeLinks) set(links ...*link.Link) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.links = links
	f.changed = link.LinksChanged
}

// machine is a recorded namespace that the test changes, with a clock it moves.
type machine struct {
	t     *testing.T
	root  string
	clock *clock.Fake
	links *fakeLinks
	m     *Monitor

	mu        sync.Mutex
	published []Snapshot
}

func dockerHost() []*link.Link {
	return []*link.Link{
		{Index: 1, Name: "lo", Kind: link.Loopback, State: "unknown", Up: true, MTU: 65536, Addresses: []string{"127.0.0.1/8"},
			SpeedReason: "loopback has no link speed"},
		{Index: 2, Name: "eth0", Kind: link.Physical, Hardware: true, State: "up", Up: true, MTU: 1500, Duplex: "full",
			LinkSpeedBits: 1e9, Addresses: []string{"10.0.0.5/24"}},
		{Index: 3, Name: "docker0", Kind: link.Bridge, Upper: true, State: "up", Up: true, MTU: 1500,
			Addresses: []string{"172.17.0.1/16"}, SpeedReason: "the driver does not know the link speed"},
		{Index: 4, Name: "vethf345468", Kind: link.Veth, Enslaved: true, Master: "docker0", State: "up", Up: true, MTU: 1500,
			Duplex: "full", LinkSpeedBits: 1e10, Addresses: []string{}},
	}
}

func newMachine(t *testing.T, config string, links ...*link.Link) *machine {
	t.Helper()
	x := &machine{t: t, root: t.TempDir(), clock: clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0))}
	if links == nil {
		links = dockerHost()
	}
	x.links = &fakeLinks{links: links, defaultRoute: "eth0"}
	require.NoError(t, os.CopyFS(x.root, os.DirFS("../testdata/prometheus-docker-host")))
	x.start(config)
	return x
}

func (x *machine) start(config string) {
	x.t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(x.t, err)
	if parsed.Variables == nil {
		parsed.Variables = map[string]string{}
	}
	fs := kernelfs.Dir(x.root)
	x.m, err = New(parsed, Options{
		Version: "0.0.0-test", FS: &fs, Clock: x.clock, Links: x.links, NoLoop: true, Tools: (&fakeNetwork{}).tools(),
		Publish: func(s *Snapshot) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.published = append(x.published, *s)
		},
	})
	require.NoError(x.t, err)
	x.t.Cleanup(x.m.Close)
}

func (x *machine) path(name string) string { return filepath.Join(x.root, "proc/net", name) }

// dev writes interface counters: name, receive bytes, packets, errors, drops, transmit bytes, packets, errors, drops.
func (x *machine) dev(rows ...[]any) {
	x.t.Helper()
	text := "Inter-|   Receive                                                |  Transmit\n" +
		" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
	for _, r := range rows {
		text += fmt.Sprintf("%6s: %v %v %v %v 0 0 0 0 %v %v %v %v 0 0 0 0\n", r...)
	}
	require.NoError(x.t, os.WriteFile(x.path("dev"), []byte(text), 0o600))
}

func row(name string, receive, transmit uint64) []any {
	return []any{name, receive, receive / 1000, 0, 0, transmit, transmit / 1000, 0, 0}
}

// tick lets a second pass and takes the loop's next sample.
func (x *machine) tick() *sample.Sample {
	x.t.Helper()
	x.clock.Advance(time.Second)
	x.m.Tick()
	all := x.m.history.since(0)
	return all[len(all)-1]
}

// now takes a sample on demand, through its JSON.
func (x *machine) now() *sample.Sample {
	x.t.Helper()
	var text bytes.Buffer
	require.NoError(x.t, x.m.Sample(&text))
	var s sample.Sample
	require.NoError(x.t, json.Unmarshal(text.Bytes(), &s))
	return &s
}

func find(t *testing.T, s *sample.Sample, name string) *sample.Interface {
	t.Helper()
	for _, i := range s.Interfaces {
		if i.Name == name {
			return i
		}
	}
	require.Fail(t, "no interface "+name)
	return nil
}

// Golden: the first sample of a recorded machine, and the second one a second and 100,000 bytes later.
func TestSample_document(t *testing.T) {
	x := newMachine(t, `{"job": {"rank": 1, "world_size": 2, "environment": {"LOCAL_RANK": "1"}}}`)
	first := x.m.history.since(0)[0]
	dev, err := os.ReadFile(x.path("dev"))
	require.NoError(t, err)
	dev = bytes.Replace(dev, []byte("874354587 1036395"), []byte("874454587 1036495"), 1)
	dev = bytes.Replace(dev, []byte("563352563  732147    0    0"), []byte("563402563  732197    1    2"), 1)
	require.NoError(t, os.WriteFile(x.path("dev"), dev, 0o600))
	text, err := os.ReadFile(x.path("snmp"))
	require.NoError(t, err)
	text = bytes.Replace(text, []byte("653161 594855 348 98"), []byte("653261 594955 353 98"), 1)
	require.NoError(t, os.WriteFile(x.path("snmp"), text, 0o600))
	second := x.tick()
	for name, s := range map[string]*sample.Sample{"first": first, "second": second} {
		s.Self.CPUSecondsTotal = nil
		reasons := maps.Clone(s.Unavailable)
		delete(reasons, "self.cpu_seconds_total")
		s.Lack(sample.NewReasons(reasons))
		s.Host.Hostname, s.Host.Kernel = nil, nil
		var raw, pretty bytes.Buffer
		require.NoError(t, s.WriteJSON(&raw))
		require.NoError(t, json.Indent(&pretty, raw.Bytes(), "", "  "))
		pretty.WriteByte('\n')
		got := bytes.ReplaceAll(pretty.Bytes(), []byte(x.root), []byte("ROOT"))
		golden := filepath.Join("testdata", name+".golden.json")
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(golden, got, 0o644))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		assert.Equal(t, string(want), string(got), name)
	}
}

func TestTotals_countEachByteOnce(t *testing.T) {
	x := newMachine(t, "{}")
	x.dev(row("lo", 1000, 1000), row("eth0", 2000, 2000), row("docker0", 3000, 3000), row("vethf345468", 4000, 4000))
	x.tick() // counters of another machine: resets
	x.dev(row("lo", 101000, 101000), row("eth0", 52000, 22000), row("docker0", 53000, 53000), row("vethf345468", 54000, 54000))
	s := x.tick()
	assert.Equal(t, uint64(50000), *s.Totals.ReceiveBytesTotal)
	assert.Equal(t, uint64(20000), *s.Totals.TransmitBytesTotal)
	assert.InDelta(t, 50000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, 20000, *s.Totals.TransmitBytesPerSecond, 1e-9)
	assert.Equal(t, uint64(1e9), *s.Totals.CapacityBitsPerSecond)
	assert.InDelta(t, 8*50000/1e9, *s.Totals.UtilizationRatio, 1e-12)
	assert.True(t, *find(t, s, "eth0").Counted)
	assert.True(t, *find(t, s, "eth0").Primary)
	for _, name := range []string{"lo", "docker0", "vethf345468"} {
		assert.False(t, *find(t, s, name).Counted, name)
		assert.False(t, *find(t, s, name).Primary, name)
	}
	assert.Equal(t, uint64(100000), *find(t, s, "lo").ReceiveBytesTotal)
}

func TestInterfaces_resetIsAnEventAndNoRate(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 500000, 500000))
	x.tick()
	x.dev(row("lo", 0, 0), row("eth0", 600000, 500000))
	before := x.tick()
	x.dev(row("lo", 0, 0), row("eth0", 3000, 2000))
	s := x.tick()
	eth0 := find(t, s, "eth0")
	assert.Equal(t, *find(t, before, "eth0").ReceiveBytesTotal, *eth0.ReceiveBytesTotal)
	assert.Equal(t, *find(t, before, "eth0").Resets+1, *eth0.Resets)
	assert.Nil(t, eth0.ReceiveBytesPerSecond)
	assert.Nil(t, s.Totals.ReceiveBytesPerSecond)
	assert.Nil(t, s.Totals.UtilizationRatio)
	assert.Equal(t, "counters were reset in this window: eth0", s.Unavailable["interfaces.receive_bytes_per_second"])
	assert.Contains(t, s.Unavailable["totals.receive_bytes_per_second"], "reset")
	assert.InDelta(t, 0, *find(t, s, "lo").ReceiveBytesPerSecond, 0, "others have rates")
	assert.Equal(t, uint64(UnknownCount), x.published[len(x.published)-1].ErrorsInWindow)

	x.dev(row("lo", 0, 0), row("eth0", 4000, 2000))
	s = x.tick()
	assert.InDelta(t, 1000, *find(t, s, "eth0").ReceiveBytesPerSecond, 1e-9)
	assert.NotContains(t, s.Unavailable, "interfaces.receive_bytes_per_second")
}

func TestInterfaces_appearVanishRename(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	lo, eth0 := dockerHost()[0], dockerHost()[1]
	x.dev(row("lo", 0, 0), row("eth0", 1000, 0))
	x.tick()
	// A second card, with a history of its own that is not ours.
	eth1 := &link.Link{Index: 9, Name: "eth1", Kind: link.Physical, Hardware: true, Up: true, LinkSpeedBits: 1e9, Addresses: []string{}}
	x.links.set(lo, eth0, eth1)
	x.dev(row("lo", 0, 0), row("eth0", 2000, 0), row("eth1", 1e12, 0))
	s := x.tick()
	assert.Equal(t, uint64(0), *find(t, s, "eth1").ReceiveBytesTotal)
	assert.Nil(t, find(t, s, "eth1").ReceiveBytesPerSecond)
	assert.Equal(t, "appeared in this window: eth1", s.Unavailable["interfaces.receive_bytes_per_second"])
	assert.InDelta(t, 1000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
	total := *s.Totals.ReceiveBytesTotal

	x.dev(row("lo", 0, 0), row("eth0", 2000, 0), row("eth1", 1e12+500, 0))
	s = x.tick()
	assert.Equal(t, uint64(500), *find(t, s, "eth1").ReceiveBytesTotal)
	assert.Equal(t, total+500, *s.Totals.ReceiveBytesTotal)
	assert.Equal(t, uint64(2e9), *s.Totals.CapacityBitsPerSecond)

	// The same card under another name goes on counting.
	renamed := *eth1
	renamed.Name = "fabric0"
	x.links.set(lo, eth0, &renamed)
	x.dev(row("lo", 0, 0), row("eth0", 2000, 0), row("fabric0", 1e12+700, 0))
	s = x.tick()
	assert.Equal(t, uint64(700), *find(t, s, "fabric0").ReceiveBytesTotal)
	assert.InDelta(t, 200, *find(t, s, "fabric0").ReceiveBytesPerSecond, 1e-9)

	// Gone: what it contributed stays.
	x.links.set(lo, eth0)
	x.dev(row("lo", 0, 0), row("eth0", 2100, 0))
	s = x.tick()
	assert.Len(t, s.Interfaces, 2)
	assert.Equal(t, total+700+100, *s.Totals.ReceiveBytesTotal)
	assert.InDelta(t, 100, *s.Totals.ReceiveBytesPerSecond, 1e-9)

	// Another one of the same name is another one.
	again := *eth1
	again.Index = 12
	x.links.set(lo, eth0, &again)
	x.dev(row("lo", 0, 0), row("eth0", 2100, 0), row("eth1", 1e12+5000, 0))
	s = x.tick()
	assert.Equal(t, uint64(0), *find(t, s, "eth1").ReceiveBytesTotal)
	assert.Equal(t, int64(12), *find(t, s, "eth1").Index)

	health := x.m.healthReport()
	assert.Equal(t, map[string]uint64{eventAppeared: 2, eventRenamed: 1, eventVanished: 1, eventReset: 2}, health.EventsTotal)
	var texts []string
	for _, e := range health.Events {
		texts = append(texts, e.Text)
	}
	assert.Contains(t, texts, "interface eth1 was renamed fabric0")
	assert.Contains(t, texts, "interface fabric0 vanished")
}

// Two interfaces swap their names: each keeps its own counters.
func TestInterfaces_swapNames(t *testing.T) {
	card := func(index int, name string) *link.Link {
		return &link.Link{Index: index, Name: name, Kind: link.Physical, Hardware: true, Up: true, LinkSpeedBits: 1e9, Addresses: []string{}}
	}
	x := newMachine(t, "{}", card(2, "a"), card(3, "b"))
	x.dev(row("a", 5000, 0), row("b", 900000, 0))
	x.tick()
	x.dev(row("a", 5000, 0), row("b", 900000, 0))
	x.tick()
	x.links.set(card(3, "a"), card(2, "b"))
	x.dev(row("a", 900100, 0), row("b", 5010, 0))
	s := x.tick()
	assert.Equal(t, int64(3), *find(t, s, "a").Index)
	assert.Equal(t, uint64(100), *find(t, s, "a").ReceiveBytesTotal)
	assert.Equal(t, uint64(10), *find(t, s, "b").ReceiveBytesTotal)
	// And back, with counters that stand where the other one's stood: unchanged lines must not hide it.
	x.links.set(card(2, "a"), card(3, "b"))
	x.dev(row("a", 5010, 0), row("b", 900100, 0))
	s = x.tick()
	assert.Equal(t, uint64(10), *find(t, s, "a").ReceiveBytesTotal)
	assert.Equal(t, uint64(100), *find(t, s, "b").ReceiveBytesTotal)
	assert.Equal(t, uint64(0), *find(t, s, "b").Resets)
}

func TestInterfaces_wrap32(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), []any{"eth0", uint64(1<<32 - 1000), 10, 0, 0, 0, 0, 0, 0})
	x.tick()
	x.dev(row("lo", 0, 0), []any{"eth0", 500, 12, 0, 0, 0, 0, 0, 0})
	s := x.tick()
	assert.InDelta(t, 1500, *find(t, s, "eth0").ReceiveBytesPerSecond, 1e-9)
	assert.Equal(t, uint64(1), x.m.healthReport().EventsTotal[eventWrap])
}

// A sample on demand looks back to a sample of the loop at least half an interval old, and changes nothing for the loop.
func TestSample_windows(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	assert.Nil(t, x.now().WindowSeconds, "the only sample of the loop is too young")
	assert.Equal(t, "no sample of the loop is half an interval old yet", x.now().Unavailable["window_seconds"])
	x.clock.Advance(499 * time.Millisecond)
	assert.Nil(t, x.now().WindowSeconds)
	x.clock.Advance(time.Millisecond)
	assert.InDelta(t, 0.5, *x.now().WindowSeconds, 1e-9)
	x.clock.Advance(500 * time.Millisecond)
	x.m.Tick()
	x.clock.Advance(200 * time.Millisecond)
	s := x.now()
	assert.InDelta(t, 1.2, *s.WindowSeconds, 1e-9, "from the sample before the newest")
	x.clock.Advance(300 * time.Millisecond)
	s = x.now()
	assert.InDelta(t, 0.5, *s.WindowSeconds, 1e-9)
	assert.Equal(t, uint64(8), s.Sequence, "one sequence for all")
	loop := x.m.history.since(0)
	require.Len(t, loop, 2)
	assert.Nil(t, loop[0].WindowSeconds)
	assert.InDelta(t, 1, *loop[1].WindowSeconds, 1e-9)
	require.Len(t, x.published, 2)
	assert.Equal(t, uint64(1), x.published[0].Sequence)
}

// The loop catches up: a sample comes late, the next at once, and another when it is due.
func TestSample_windowAfterLateTicks(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 10000, 0))
	x.tick()
	x.dev(row("lo", 0, 0), row("eth0", 31000, 0))
	for _, after := range []time.Duration{1980 * time.Millisecond, 5 * time.Millisecond, 15 * time.Millisecond} {
		x.clock.Advance(after)
		x.m.Tick()
	}
	x.clock.Advance(100 * time.Millisecond)
	s := x.now()
	require.NotNil(t, s.WindowSeconds)
	assert.InDelta(t, 2.1, *s.WindowSeconds, 1e-9, "from the newest sample half an interval old")
	assert.InDelta(t, 10000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, 10000, *find(t, s, "eth0").ReceiveBytesPerSecond, 1e-9)
}

func TestSample_onDemandRates(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 10000, 0))
	x.tick()
	x.dev(row("lo", 0, 0), row("eth0", 12000, 0))
	x.clock.Advance(500 * time.Millisecond)
	assert.InDelta(t, 4000, *find(t, x.now(), "eth0").ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, 4000, *x.now().Totals.ReceiveBytesPerSecond, 1e-9, "the same again: nothing was consumed")
	x.dev(row("lo", 0, 0), row("eth0", 13000, 0))
	x.clock.Advance(500 * time.Millisecond)
	x.m.Tick()
	loop := x.m.history.since(0)
	assert.InDelta(t, 3000, *loop[len(loop)-1].Totals.ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, 3000, *find(t, loop[len(loop)-1], "eth0").ReceiveBytesPerSecond, 1e-9)
}

// A step of the wall clock changes time stamps and nothing else.
func TestSample_clockStep(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 10000, 0))
	before := x.tick()
	x.clock.StepWall(-time.Hour)
	x.dev(row("lo", 0, 0), row("eth0", 11000, 0))
	s := x.tick()
	assert.InDelta(t, 1, *s.WindowSeconds, 1e-9)
	assert.InDelta(t, 1000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, before.TimestampSeconds-3599, s.TimestampSeconds, 1e-3)
}

func TestProtocols(t *testing.T) {
	x := newMachine(t, "{}")
	edit := func(name, before, after string) {
		t.Helper()
		text, err := os.ReadFile(x.path(name))
		require.NoError(t, err)
		require.Contains(t, string(text), before)
		require.NoError(t, os.WriteFile(x.path(name), bytes.Replace(text, []byte(before), []byte(after), 1), 0o600))
	}
	s := x.tick()
	assert.Nil(t, s.TCP.RetransmitRatio)
	assert.Equal(t, "no segment was sent in this window", s.Unavailable["tcp.retransmit_ratio"])
	edit("snmp", "653161 594855 348 98 1038", "653261 595055 358 99 1048")
	edit("snmp", "10179 50 0 9846 0 0", "10189 51 5 9946 3 2")
	edit("snmp6", "Udp6InDatagrams                 \t2016", "Udp6InDatagrams                 \t2116")
	edit("snmp6", "Ip6OutNoRoutes                  \t169", "Ip6OutNoRoutes                  \t170")
	edit("snmp", "0 1 0 0 0 593186 547253 20 231", "0 2 0 0 0 593186 547253 20 235")
	edit("sockstat", "TCP: inuse 35 orphan 0 tw 4 alloc 59 mem 22", "TCP: inuse 36 orphan 1 tw 5 alloc 59 mem 10")
	s = x.tick()
	assert.InDelta(t, 10.0/200, *s.TCP.RetransmitRatio, 1e-12)
	assert.Equal(t, uint64(15), *s.TCP.Established)
	assert.Equal(t, uint64(100), *s.TCP.SegmentsReceivedTotal)
	assert.Equal(t, uint64(200), *s.TCP.SegmentsSentTotal)
	assert.Equal(t, uint64(10), *s.TCP.SegmentsRetransmittedTotal)
	assert.Equal(t, uint64(1), *s.TCP.InErrorsTotal)
	assert.Equal(t, uint64(10), *s.TCP.ResetsSentTotal)
	assert.Equal(t, uint64(110), *s.UDP.DatagramsReceivedTotal, "IPv4 and IPv6 added")
	assert.Equal(t, uint64(100), *s.UDP.DatagramsSentTotal)
	assert.Equal(t, uint64(5), *s.UDP.InErrorsTotal)
	assert.Equal(t, uint64(3), *s.UDP.ReceiveBufferErrorsTotal)
	assert.Equal(t, uint64(2), *s.UDP.SendBufferErrorsTotal)
	assert.Equal(t, uint64(1), *s.UDP.NoPortsTotal)
	assert.Equal(t, uint64(1), *s.IP.InAddressErrorsTotal)
	assert.Equal(t, uint64(5), *s.IP.OutNoRoutesTotal)
	assert.Equal(t, uint64(36+17), *s.Sockets.TCPInUse)
	assert.Equal(t, uint64(1), *s.Sockets.TCPOrphaned)
	assert.Equal(t, uint64(5), *s.Sockets.TCPTimeWait)
	assert.Equal(t, uint64(12+9), *s.Sockets.UDPInUse)
	assert.Equal(t, uint64(10*os.Getpagesize()), *s.Sockets.TCPMemoryBytes)
	last := x.published[len(x.published)-1]
	assert.InDelta(t, 0.05, last.TCPRetransmitRatio, 1e-12)
	assert.Equal(t, uint64(15), last.TCPEstablished)
}

// Every pointer of the protocol sections belongs to the counter of its name.
func TestProtocols_namesMatchFields(t *testing.T) {
	x := newMachine(t, "{}")
	// All counters of all files at distinct distances from what they were.
	for _, name := range []string{"snmp", "netstat", "snmp6"} {
		text, err := os.ReadFile(x.path(name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(x.path(name), bump(text), 0o600))
	}
	s := x.tick()
	var document map[string]any
	var raw bytes.Buffer
	require.NoError(t, s.WriteJSON(&raw))
	require.NoError(t, json.Unmarshal(raw.Bytes(), &document))
	for _, p := range x.m.protocols {
		section := document[p.name].(map[string]any)
		for _, f := range p.fields {
			value, reason := p.total(f, &x.m.reading)
			require.Empty(t, reason)
			assert.NotZero(t, value, "%s.%s", p.name, f.name)
			assert.InDelta(t, float64(value), section[f.name], 0, "%s.%s", p.name, f.name)
		}
	}
}

// bump adds 1000 to the first number of a text, 1001 to the second and so on, but leaves numbers in names alone.
func bump(text []byte) []byte {
	var out []byte
	add := uint64(1000)
	for i := 0; i < len(text); {
		if text[i] < '0' || text[i] > '9' || i > 0 && text[i-1] != ' ' && text[i-1] != '\t' {
			out = append(out, text[i])
			i++
			continue
		}
		var v uint64
		for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
			v = v*10 + uint64(text[i]-'0')
		}
		out = fmt.Append(out, v+add)
		add++
	}
	return out
}

func TestSources_chosenSectionsOnly(t *testing.T) {
	x := newMachine(t, `{"sources": ["tcp", "sockets"]}`)
	s := x.tick()
	assert.NotNil(t, s.TCP)
	assert.NotNil(t, s.Sockets)
	assert.Nil(t, s.Interfaces)
	assert.Nil(t, s.Totals)
	assert.Nil(t, s.UDP)
	assert.Nil(t, s.IP)
	for _, section := range []string{"interfaces", "udp", "ip", "probes", "rdma"} {
		assert.Equal(t, "not in sources", s.Unavailable[section], section)
	}
	assert.Equal(t, "interfaces are not in sources", s.Unavailable["totals"])
	assert.True(t, x.published[0].ReceiveBytesTotal == UnknownCount)
}

// Files that are missing, truncated or garbage cost their own section, with the reason, and nothing else.
func TestReading_badFiles(t *testing.T) {
	tests := []struct {
		file, content string
		missing       bool
		key, reason   string
		check         func(*testing.T, *sample.Sample)
	}{
		{"dev", "", true, "interfaces", "dev: no such file", func(t *testing.T, s *sample.Sample) { assert.Nil(t, s.Interfaces); assert.Nil(t, s.Totals) }},
		{"dev", "garbage\n", false, "interfaces", "dev line 1", func(t *testing.T, s *sample.Sample) { assert.Nil(t, s.Interfaces) }},
		{"snmp", "", true, "tcp.segments_sent_total", "snmp: no such file", func(t *testing.T, s *sample.Sample) { assert.NotNil(t, s.TCP.TimeoutsTotal) }},
		{"snmp", "Tcp: InSegs OutSegs RetransSegs\nTcp: 1 2\n", false, "tcp.segments_retransmitted_total", "snmp line 2",
			func(t *testing.T, s *sample.Sample) { assert.Nil(t, s.UDP.NoPortsTotal) }},
		{"netstat", "TcpExt: TCPTimeouts\nTcpExt: 5\n", false, "tcp.listen_drops_total", "this kernel does not count TcpExt ListenDrops",
			func(t *testing.T, s *sample.Sample) { assert.NotNil(t, s.TCP.TimeoutsTotal) }},
		{"snmp6", "Udp6InDatagrams\tmany\n", false, "udp.datagrams_received_total", "snmp6 line 1",
			func(t *testing.T, s *sample.Sample) { assert.NotNil(t, s.TCP.SegmentsSentTotal) }},
		{"sockstat", "", true, "sockets.tcp_in_use", "sockstat: no such file", func(t *testing.T, s *sample.Sample) { assert.Nil(t, s.Sockets.UDPInUse) }},
	}
	for _, tt := range tests {
		t.Run(tt.file+" "+tt.content, func(t *testing.T) {
			x := newMachine(t, "{}")
			x.m.Close()
			if tt.missing {
				require.NoError(t, os.Remove(x.path(tt.file)))
			} else {
				require.NoError(t, os.WriteFile(x.path(tt.file), []byte(tt.content), 0o600))
			}
			x.start("{}")
			s := x.tick()
			require.Contains(t, s.Unavailable, tt.key)
			assert.Contains(t, s.Unavailable[tt.key], tt.reason)
			tt.check(t, s)
			assert.NotNil(t, s.Self)
		})
	}
}

// A kernel without IPv6 has no snmp6: what IPv4 counts is all there is.
func TestReading_withoutIPv6(t *testing.T) {
	x := newMachine(t, "{}")
	x.m.Close()
	require.NoError(t, os.Remove(x.path("snmp6")))
	require.NoError(t, os.Remove(x.path("sockstat6")))
	x.start("{}")
	s := x.tick()
	assert.NotNil(t, s.UDP.DatagramsReceivedTotal)
	assert.Equal(t, uint64(35), *s.Sockets.TCPInUse)
	assert.Equal(t, "ok", s.Self.Health)
	// The module is loaded later: its counters start then.
	require.NoError(t, os.WriteFile(x.path("snmp6"), []byte("Udp6InDatagrams\t5000\n"), 0o600))
	s = x.tick()
	assert.Equal(t, uint64(0), *s.UDP.DatagramsReceivedTotal)
	require.NoError(t, os.WriteFile(x.path("snmp6"), []byte("Udp6InDatagrams\t5007\n"), 0o600))
	assert.Equal(t, uint64(7), *x.tick().UDP.DatagramsReceivedTotal)
}

// A broken row costs its own interface for that moment; its total goes on when it can be read again.
func TestReading_brokenRowRecovers(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 10000, 0))
	x.tick()
	x.dev(row("lo", 0, 0), row("eth0", 11000, 0))
	x.tick()
	dev, err := os.ReadFile(x.path("dev"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(x.path("dev"), dev[:len(dev)-9], 0o600))
	s := x.tick()
	assert.Len(t, s.Interfaces, 1)
	assert.Contains(t, s.Unavailable["interfaces"], "dev line 4")
	assert.Contains(t, s.Self.Health, "degraded")
	assert.Equal(t, "degraded", x.m.healthReport().Status)
	x.dev(row("lo", 0, 0), row("eth0", 12500, 0))
	s = x.tick()
	assert.Equal(t, uint64(2500), *find(t, s, "eth0").ReceiveBytesTotal)
	assert.Equal(t, "ok", s.Self.Health)
}

// What was counted while nothing could be read belongs to no window.
func TestReading_noRateAfterAReadingThatFailed(t *testing.T) {
	card := func(index int, name string) *link.Link {
		return &link.Link{Index: index, Name: name, Kind: link.Physical, Hardware: true, Up: true, LinkSpeedBits: 1e9, Addresses: []string{}}
	}
	broken := []any{"eth1", "x", 0, 0, 0, 0, 0, 0, 0}
	for name, tt := range map[string]struct {
		failing   [][]any // rows of the reading that fails
		fileFails bool
	}{
		"the file":            {fileFails: true},
		"a row":               {failing: [][]any{row("eth0", 2000, 0), broken}},
		"a row on demand":     {failing: [][]any{row("eth0", 2000, 0), broken}},
		"the file, on demand": {fileFails: true},
	} {
		t.Run(name, func(t *testing.T) {
			x := newMachine(t, "{}", card(2, "eth0"), card(3, "eth1"))
			x.dev(row("eth0", 0, 0), row("eth1", 0, 0))
			x.tick()
			x.dev(row("eth0", 1000, 0), row("eth1", 1000, 0))
			s := x.tick()
			require.InDelta(t, 2000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
			total := *s.Totals.ReceiveBytesTotal

			x.dev(tt.failing...)
			if tt.fileFails {
				require.NoError(t, os.WriteFile(x.path("dev"), []byte("nonsense\n"), 0o600))
			}
			if strings.HasSuffix(name, "on demand") {
				x.now()
				x.dev(row("eth0", 2000, 0), row("eth1", 2000, 0))
				s = x.tick()
				assert.InDelta(t, 2000, *s.Totals.ReceiveBytesPerSecond, 1e-9, "the window began before")
				assert.InDelta(t, 1000, *find(t, s, "eth1").ReceiveBytesPerSecond, 1e-9)
				return
			}
			s = x.tick()
			assert.True(t, s.Totals == nil || s.Totals.ReceiveBytesPerSecond == nil, "eth1 is missing")
			assert.Equal(t, uint64(UnknownCount), x.published[len(x.published)-1].DropsInWindow)

			x.dev(row("eth0", 3000, 0), row("eth1", 3000, 0))
			s = x.tick()
			assert.Equal(t, total+4000, *s.Totals.ReceiveBytesTotal)
			assert.Nil(t, s.Totals.ReceiveBytesPerSecond)
			assert.Equal(t, "not all counted interfaces were read when this window began", s.Unavailable["totals.receive_bytes_per_second"])
			assert.Nil(t, find(t, s, "eth1").ReceiveBytesPerSecond)
			assert.Contains(t, s.Unavailable["interfaces.receive_bytes_per_second"], "not read when this window began: ")
			assert.Equal(t, !tt.fileFails, find(t, s, "eth0").ReceiveBytesPerSecond != nil)

			x.dev(row("eth0", 4000, 0), row("eth1", 4000, 0))
			s = x.tick()
			assert.InDelta(t, 2000, *s.Totals.ReceiveBytesPerSecond, 1e-9)
			assert.InDelta(t, 1000, *find(t, s, "eth1").ReceiveBytesPerSecond, 1e-9)
		})
	}
}

func TestProtocols_noRatioAfterAReadingThatFailed(t *testing.T) {
	x := newMachine(t, "{}")
	snmp, err := os.ReadFile(x.path("snmp"))
	require.NoError(t, err)
	snmp = bytes.Replace(snmp, []byte("653161 594855 348 98"), []byte("653261 594955 353 98"), 1)
	require.NoError(t, os.WriteFile(x.path("snmp"), []byte("nonsense\n"), 0o600))
	assert.Nil(t, x.tick().TCP.RetransmitRatio)
	require.NoError(t, os.WriteFile(x.path("snmp"), snmp, 0o600))
	s := x.tick()
	assert.Equal(t, uint64(5), *s.TCP.SegmentsRetransmittedTotal)
	assert.Nil(t, s.TCP.RetransmitRatio, "sent and repeated in another window")
	assert.Equal(t, "not read when this window began", s.Unavailable["tcp.retransmit_ratio"])
}

func TestTotals_countedButNotRead(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), []any{"eth0", "x", 0, 0, 0, 0, 0, 0, 0})
	x.start("{}")
	s := x.tick()
	assert.Nil(t, s.Totals)
	assert.Equal(t, "no counters are known of what is chosen to count: eth0", s.Unavailable["totals"])
}

func TestTotals_noneCounts(t *testing.T) {
	x := newMachine(t, `{"interfaces": ["ib*"]}`)
	s := x.tick()
	assert.Nil(t, s.Totals)
	assert.Contains(t, s.Unavailable["totals"], "eth0 (physical)")
	assert.Contains(t, s.Unavailable["totals"], "lo (loopback)")
}

func TestTotals_unknownCapacity(t *testing.T) {
	links := dockerHost()[:2]
	links[1].LinkSpeedBits, links[1].SpeedReason = 0, "the driver does not know the link speed"
	x := newMachine(t, "{}", links...)
	x.dev(row("lo", 0, 0), row("eth0", 10, 0))
	x.tick()
	s := x.tick()
	assert.Nil(t, s.Totals.CapacityBitsPerSecond)
	assert.Nil(t, s.Totals.UtilizationRatio)
	assert.Equal(t, "the driver does not know the link speed: eth0", s.Unavailable["totals.capacity_bits_per_second"])
	assert.Contains(t, s.Unavailable, "totals.utilization_ratio")
	assert.NotNil(t, s.Totals.ReceiveBytesPerSecond)
}

// The kernel's lock for network configuration is held by somebody: samples go on with what was known.
func TestTopology_stuckKernelDelaysNoSample(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	x.dev(row("lo", 0, 0), row("eth0", 10, 0))
	x.tick()
	block := make(chan struct{})
	x.links.mu.Lock()
	x.links.block = block
	x.links.mu.Unlock()
	defer close(block)
	x.links.set(dockerHost()...)
	began := time.Now()
	s := x.tick()
	assert.Less(t, time.Since(began), time.Second)
	assert.Equal(t, "up", *find(t, s, "eth0").State)
}

func TestTopology_linksUnknown(t *testing.T) {
	x := newMachine(t, "{}")
	x.m.Close()
	x.links.err = errors.New("netlink is not allowed here")
	x.start("{}")
	s := x.tick()
	eth0 := find(t, s, "eth0")
	assert.Nil(t, eth0.Kind)
	assert.Nil(t, eth0.Counted)
	assert.NotNil(t, eth0.ReceiveBytesTotal)
	assert.Nil(t, s.Totals)
	assert.Contains(t, s.Unavailable["interfaces.kind"], "not allowed")
	assert.Contains(t, s.Unavailable["totals"], "not allowed")
	assert.Contains(t, s.Self.Health, "not allowed")
	// It is allowed later: interfaces keep what they counted.
	dev, err := os.ReadFile(x.path("dev"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(x.path("dev"), bytes.Replace(dev, []byte("874354587"), []byte("874354687"), 1), 0o600))
	x.tick()
	x.links.mu.Lock()
	x.links.err = nil
	x.links.mu.Unlock()
	x.links.set(dockerHost()...)
	s = x.tick()
	assert.Equal(t, uint64(100), *find(t, s, "eth0").ReceiveBytesTotal)
	assert.Equal(t, "physical", *find(t, s, "eth0").Kind)
	assert.NotNil(t, s.Totals)
}

func TestPrimary_followsTheMaster(t *testing.T) {
	links := append(dockerHost()[:2], &link.Link{Index: 7, Name: "eth1", Kind: link.Physical, Hardware: true, Up: true,
		LinkSpeedBits: 1e9, Addresses: []string{"10.1.0.5/24"}})
	x := newMachine(t, "{}", links...)
	x.links.routes = map[netip.Addr]int{netip.MustParseAddr("10.1.0.9"): 7}
	x.dev(row("lo", 0, 0), row("eth0", 10, 0), row("eth1", 10, 0))
	s := x.tick()
	assert.True(t, *find(t, s, "eth0").Primary, "the default route while no master is known")
	require.NoError(t, x.m.Query([]byte(`{"view": "health"}`), &bytes.Buffer{}))
	identity, variables, err := ParseJob([]byte(`{"master_address": "10.1.0.9", "rank": 3, "world_size": 4, "source": "torch.distributed"}`))
	require.NoError(t, err)
	require.NoError(t, x.m.SetJob(identity, variables))
	x.dev(row("lo", 0, 0), row("eth0", 10, 0), row("eth1", 2010, 0))
	s = x.tick()
	assert.False(t, *find(t, s, "eth0").Primary)
	assert.True(t, *find(t, s, "eth1").Primary)
	assert.Equal(t, int64(3), *s.Job.Rank)
	assert.Equal(t, "torch.distributed", *s.Job.Source)
	assert.InDelta(t, 2000, x.published[len(x.published)-1].PrimaryReceiveBytesPerSecond, 1e-9)
}

// A name that cannot be one is refused before any resolver is asked. What came of it is told at once, not at the next refresh.
func TestPrimary_masterThatDoesNotResolve(t *testing.T) {
	x := newMachine(t, `{"job": {"master_address": "no name!"}}`)
	require.Eventually(t, func() bool { return x.now().Self.Health != "ok" }, 10*time.Second, time.Millisecond)
	s := x.now()
	assert.Contains(t, s.Self.Health, `the master address "no name!" is not known`)
	assert.True(t, *find(t, s, "eth0").Primary, "the default route's, while the address is not known")
}

// A master given by name is looked up by the resolver's configuration; one that is not known is a reason.
func TestPrimary_followsTheMastersName(t *testing.T) {
	links := append(dockerHost()[:2], &link.Link{Index: 7, Name: "eth1", Kind: link.Physical, Hardware: true, Up: true,
		Addresses: []string{"10.1.0.5/24"}})
	x := newMachine(t, "{}", links...)
	x.m.Close()
	x.links.routes = map[netip.Addr]int{netip.MustParseAddr("10.1.0.9"): 7}
	x.dev(row("lo", 0, 0), row("eth0", 10, 0), row("eth1", 10, 0))
	require.NoError(t, os.MkdirAll(filepath.Join(x.root, "etc"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(x.root, "etc/hosts"), []byte("fd01::9 master7\n10.1.0.9 master7\n"), 0o600))
	x.start(`{"job": {"master_address": "master7"}}`)
	require.Eventually(t, func() bool { return *find(t, x.tick(), "eth1").Primary }, 10*time.Second, time.Millisecond)

	x.m.Close()
	x.start(`{"job": {"master_address": "not_a..name"}}`)
	require.Eventually(t, func() bool {
		return strings.Contains(x.tick().Self.Health, `the master address "not_a..name" is not known: name does not resolve`)
	}, 10*time.Second, time.Millisecond)
}

func TestHistory_isBounded(t *testing.T) {
	x := newMachine(t, "{}")
	for range 700 {
		x.tick()
	}
	samples, size, span, _ := x.m.history.extent()
	assert.Equal(t, 601, samples)
	assert.LessOrEqual(t, size, historyBytes)
	assert.Equal(t, 600*time.Second, span)
	assert.Len(t, x.m.history.since(x.clock.Monotonic()-10*time.Second), 11)
}

func TestHistory_isBoundedInBytes(t *testing.T) {
	var h history
	for i := range 100 {
		h.add(entry{sample: &sample.Sample{}, monotonic: time.Duration(i), bytes: 1 << 20})
	}
	samples, size, _, _ := h.extent()
	assert.Equal(t, 4, samples)
	assert.Equal(t, historyBytes, size)
	h.add(entry{sample: &sample.Sample{}, monotonic: 101, bytes: historyBytes * 2})
	samples, _, _, _ = h.extent()
	assert.Equal(t, 1, samples, "the newest is always kept")
}

func TestQuery(t *testing.T) {
	x := newMachine(t, "{}", dockerHost()[:2]...)
	for i := range 10 {
		x.dev(row("lo", 0, 0), row("eth0", uint64(1000*i*i), 0))
		x.tick()
	}
	ask := func(request string, into any) {
		t.Helper()
		var text bytes.Buffer
		require.NoError(t, x.m.Query([]byte(request), &text))
		require.NoError(t, json.Unmarshal(text.Bytes(), into))
	}
	var page []sample.Sample
	ask(`{"view": "history"}`, &page)
	assert.Len(t, page, 11)
	ask(`{"view": "history", "seconds": 3}`, &page)
	assert.Len(t, page, 4)
	ask(`{"view": "history", "limit": 2, "after_sequence": 4}`, &page)
	require.Len(t, page, 2)
	assert.Equal(t, uint64(5), page[0].Sequence)
	ask(`{"view": "history", "seconds": 0}`, &page)
	assert.Len(t, page, 1)

	var s sample.Stats
	ask(`{"view": "stats", "metric": "totals.receive_bytes_per_second", "seconds": 3}`, &s)
	// Rates of the last 4 seconds: 1000 * (2i+1) for i = 5..8.
	assert.Equal(t, 4, s.Count)
	assert.InDelta(t, 11000, *s.Min, 1e-6)
	assert.InDelta(t, 17000, *s.Max, 1e-6)
	assert.InDelta(t, 14000, *s.Mean, 1e-6)
	assert.InDelta(t, 2236.0679774997896, *s.StdDeviation, 1e-6)
	assert.InDelta(t, 3, *s.WindowSeconds, 1e-9)
	ask(`{"view": "stats", "metric": "interfaces.eth7.mtu"}`, &s)
	assert.Equal(t, 0, s.Count)
	assert.Nil(t, s.Mean)

	var h sample.Health
	ask(`{"view": "health"}`, &h)
	assert.Equal(t, "ok", h.Status)
	assert.Equal(t, uint64(11), h.SamplesTotal)
	assert.Equal(t, 11, h.HistorySamples)
}

func TestQuery_badRequests(t *testing.T) {
	x := newMachine(t, "{}")
	for request, part := range map[string]string{
		``:                  `request key "view" is ""`,
		`{}`:                `"history", "stats", "collectives", "alerts", "health" or "fine"`,
		`{"view": "rates"}`: `is "rates"`,
		`{"view": 3}`:       `request key "view" is 3; it must be a string`,
		`{"view": "stats"}`: `request key "metric" is missing`,
		`{"view": "stats", "metric": "totals.speed"}`: "utilization_ratio",
		`{"view": "health", "seconds": 3}`:            `does not belong to the view "health"`,
		`{"view": "history", "seconds": -1}`:          "must be from 0",
		`{"view": "history", "limit": 0}`:             "from 1 to 256",
		`{"view": "history", "after_sequence": 1.5}`:  "whole number",
		`{"view": "history", "since": 3}`:             `"since" is not known`,
		`[`:                                           "is not JSON",
		`"history"`:                                   "must be a JSON object",
	} {
		err := x.m.Query([]byte(request), &bytes.Buffer{})
		var text *TextError
		require.ErrorAs(t, err, &text, request)
		assert.ErrorContains(t, err, part, request)
	}
}

func TestClose(t *testing.T) {
	x := newMachine(t, "{}")
	x.m.Close()
	x.m.Close()
	assert.ErrorIs(t, x.m.Sample(&bytes.Buffer{}), ErrClosed)
	assert.ErrorIs(t, x.m.Query([]byte(`{"view": "health"}`), &bytes.Buffer{}), ErrClosed)
	identity, variables, err := ParseJob([]byte(`{"rank": 0}`))
	require.NoError(t, err)
	assert.ErrorIs(t, x.m.SetJob(identity, variables), ErrClosed)
	x.m.Tick()
}

// The loop on real clocks and files, with everybody else at it too.
// slowLinks tells when it is asked for changes, and answers when it may.
type slowLinks struct {
	*fakeLinks
	asked, answer, closed chan struct{}
}

func (s slowLinks) Changed() link.Change {
	s.asked <- struct{}{}
	<-s.answer
	return 0
}

func (s slowLinks) Close() { close(s.closed) }

// A descriptor that is closed while a sample uses it may be another one's by then.
func TestClose_leavesLinksToTheSampleUnderWay(t *testing.T) {
	x := newMachine(t, "{}")
	links := slowLinks{x.links, make(chan struct{}, 1), make(chan struct{}), make(chan struct{})}
	config, err := ParseConfig([]byte("{}"))
	require.NoError(t, err)
	go func() { links.answer <- struct{}{} }()
	fs := kernelfs.Dir(x.root)
	m, err := New(config, Options{FS: &fs, Clock: x.clock, Links: links, NoLoop: true})
	require.NoError(t, err)
	<-links.asked
	go func() { _ = m.Sample(&bytes.Buffer{}) }()
	<-links.asked
	go m.Close()
	require.Eventually(t, m.topology.closing.Load, 10*time.Second, time.Millisecond)
	<-m.topology.stopped
	select {
	case <-links.closed:
		require.Fail(t, "the links were closed")
	case <-time.After(50 * time.Millisecond):
	}
	close(links.answer)
	<-links.closed
}

func TestLoop_concurrentUse(t *testing.T) {
	config, err := ParseConfig([]byte(`{"interval_seconds": 0.01}`))
	require.NoError(t, err)
	published, released := make(chan Snapshot, 1000), make(chan struct{})
	m, err := New(config, Options{
		Publish:  func(s *Snapshot) { published <- *s },
		Released: func() { close(released) },
	})
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				var text bytes.Buffer
				if err := m.Sample(&text); err != nil {
					assert.ErrorIs(t, err, ErrClosed)
					return
				}
				assert.True(t, json.Valid(text.Bytes()))
				text.Reset()
				if err := m.Query([]byte(`{"view": "history", "seconds": 0.05}`), &text); err != nil {
					assert.ErrorIs(t, err, ErrClosed)
				}
			}
		}()
	}
	last := uint64(0)
	for range 20 {
		s := <-published
		assert.Greater(t, s.Sequence, last)
		last = s.Sequence
	}
	began := time.Now()
	m.Close()
	assert.Less(t, time.Since(began), time.Second)
	group.Wait()
	<-released
}

func TestLoop_lateTicksAreDroppedAndCounted(t *testing.T) {
	config, err := ParseConfig([]byte(`{"interval_seconds": 0.01, "sources": ["sockets"]}`))
	require.NoError(t, err)
	slow := make(chan struct{})
	first := true
	m, err := New(config, Options{Publish: func(*Snapshot) {
		if !first {
			time.Sleep(35 * time.Millisecond) // a host that was stopped for a while
		}
		if first = false; slow != nil {
			select {
			case slow <- struct{}{}:
			default:
			}
		}
	}})
	require.NoError(t, err)
	defer m.Close()
	for range 3 {
		<-slow
	}
	assert.Positive(t, m.dropped.Load())
}
