package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/kernelfs/recorded"
	"netmon/core/nvlink"
	"netmon/core/sample"
)

// node is a recorded machine with devices.
type node struct{ *machine }

func newNode(t *testing.T, config string, trees ...string) *node {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("sysfs is read on Linux only")
	}
	x := &node{&machine{t: t, root: t.TempDir(), clock: clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0))}}
	x.links = &fakeLinks{links: dockerHost(), defaultRoute: "eth0"}
	require.NoError(t, os.CopyFS(x.root, os.DirFS("../testdata/prometheus-docker-host")))
	for _, tree := range trees {
		x.unpack(tree)
	}
	x.start(config)
	return x
}

func (x *node) unpack(tree string) {
	x.t.Helper()
	require.NoError(x.t, recorded.Unpack("../testdata/"+tree+".ttar", x.root))
}

func partOf[T part](x *node) T {
	x.t.Helper()
	for _, p := range x.m.parts {
		if found, is := p.(T); is {
			return found
		}
	}
	require.Fail(x.t, "no such part")
	panic("unreachable")
}

// write changes a file of a device: mlx5_0/ports/1/state.
func (x *node) write(path, text string) {
	x.t.Helper()
	require.NoError(x.t, os.WriteFile(filepath.Join(x.root, "sys/class/infiniband", path), []byte(text+"\n"), 0o600))
}

func (x *node) remove(path string) {
	x.t.Helper()
	require.NoError(x.t, os.RemoveAll(filepath.Join(x.root, "sys/class/infiniband", path)))
}

// settle waits for the readings that are due.
func settle(t *testing.T, b *beside, least uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		b.waker.Wake()
		return b.done.Load() >= least
	}, 10*time.Second, 200*time.Microsecond)
}

// step lets time pass, waits for the reading and takes the loop's next sample.
func (x *node) step(after time.Duration) *sample.Sample {
	x.t.Helper()
	b := partOf[*rdmaPart](x).beside
	settle(x.t, b, 1)
	before := b.done.Load()
	x.clock.Advance(after)
	settle(x.t, b, before+1)
	x.m.Tick()
	all := x.m.history.since(0)
	return all[len(all)-1]
}

func port(t *testing.T, s *sample.Sample, device string, number int64) *sample.RDMAPort {
	t.Helper()
	for _, p := range s.AllRDMA() {
		if p.Device == device && p.Port == number {
			return &p
		}
	}
	require.Fail(t, fmt.Sprintf("no port %s/%d: %s", device, number, s.Unavailable["rdma"]))
	return nil
}

func (x *node) events(class string) (texts []string) {
	events, _ := x.m.events.copy()
	for _, e := range events {
		if e.Class == class {
			texts = append(texts, e.Text)
			assert.Nil(x.t, e.Interface, "a port is no interface")
		}
	}
	return texts
}

const (
	receiveWords  = "mlx5_0/ports/1/counters/port_rcv_data"
	transmitWords = "mlx5_0/ports/1/counters/port_xmit_data"
	outOfSequence = "mlx5_0/ports/1/hw_counters/out_of_sequence"
)

func TestRDMA_document(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	settle(t, partOf[*rdmaPart](x).beside, 1)
	s := x.now()
	p := port(t, s, "mlx5_0", 1)
	assert.Equal(t, "mlx5_core", *p.Driver)
	assert.Equal(t, "Ethernet", *p.LinkLayer)
	assert.Equal(t, "active", *p.State)
	assert.Equal(t, "link_up", *p.PhysicalState)
	assert.Equal(t, uint64(100e9), *p.RateBitsPerSecond)
	assert.Equal(t, "ens1f0np0", *p.Interface)
	require.Len(t, p.GIDs, 4)
	assert.Equal(t, "RoCE v2", *p.GIDs[1].Type)
	assert.Equal(t, "ens1f0np0", *p.GIDs[1].Interface)
	assert.Equal(t, uint64(0), *p.ReceiveBytesTotal, "counted from the first reading on")
	assert.Nil(t, p.ReceiveBytesPerSecond)
	assert.Nil(t, p.WindowSeconds)
	assert.Equal(t, uint64(0), p.Counters["out_of_sequence"])
	assert.Empty(t, p.CountersPerSecond)
	assert.NotContains(t, p.Counters, "port_xmit_wait")
	assert.Equal(t, "the counter is full, and stands still until it is reset: mlx5_0/1 port_xmit_wait, mlx5_1/1 link_downed",
		s.Unavailable["rdma.counters"])
	for _, field := range []string{"receive_bytes_per_second", "transmit_bytes_per_second", "window_seconds", "counters_per_second"} {
		assert.Equal(t, "first reading: no window yet: mlx5_0/1, mlx5_1/1", s.Unavailable["rdma."+field], field)
	}
	assert.NotContains(t, s.Unavailable, "rdma.receive_bytes_total")

	x.m.Tick() // the window's own clock is that of the readings
	x.write(receiveWords, "7004512345928")
	x.write(transmitWords, "6998812346678")
	x.write(outOfSequence, "6140246")
	s = x.step(2 * time.Second)
	p = port(t, s, "mlx5_0", 1)
	assert.Equal(t, uint64(1000), *p.ReceiveBytesTotal, "words of 4 bytes")
	assert.Equal(t, uint64(4000), *p.TransmitBytesTotal)
	assert.InDelta(t, 500, *p.ReceiveBytesPerSecond, 1e-9)
	assert.InDelta(t, 2000, *p.TransmitBytesPerSecond, 1e-9)
	assert.InDelta(t, 2, *p.WindowSeconds, 1e-9)
	assert.Equal(t, uint64(10), p.Counters["out_of_sequence"])
	assert.InDelta(t, 5, p.CountersPerSecond["out_of_sequence"], 1e-9)
	assert.Zero(t, p.CountersPerSecond["np_cnp_sent"])
	assert.Contains(t, p.CountersPerSecond, "np_cnp_sent")
	assert.NotContains(t, s.Unavailable, "rdma.receive_bytes_per_second")
	assert.NotContains(t, s.Unavailable, "rdma.counters_per_second")

	facts, missing := x.m.rdmaPorts()
	assert.Empty(t, missing)
	require.Len(t, facts, 2)
	assert.Equal(t, rdmaFact{device: "mlx5_0", port: 1, driver: "mlx5_core", linkLayer: "Ethernet", state: "active", interfaceName: "ens1f0np0",
		counted: true, receiveBytes: 1000, transmitBytes: 4000, windowReceive: 1000, windowTransmit: 4000, window: 2 * time.Second}, facts[0])

	var stats bytes.Buffer
	require.NoError(t, x.m.Query([]byte(`{"view": "stats", "metric": "rdma.mlx5_0.1.counters_per_second.out_of_sequence"}`), &stats))
	assert.Contains(t, stats.String(), `"max":5`)
}

// Every recording shows in a sample, and the document of each is whole: what is null has a reason.
func TestRDMA_everyRecording(t *testing.T) {
	for tree, ports := range map[string]int{"prometheus-rdma-host": 4, "documented-mlx5-roce": 2, "documented-efa": 2, "documented-irdma": 1,
		"documented-bnxt_re": 1, "documented-software": 2} {
		t.Run(tree, func(t *testing.T) {
			x := newNode(t, "{}", tree)
			s := x.step(time.Second)
			assert.Len(t, s.AllRDMA(), ports)
			assert.Equal(t, "ok", s.Self.Health)
			var text bytes.Buffer
			require.NoError(t, s.WriteJSON(&text))
			var document struct {
				RDMA []map[string]any `json:"rdma"`
			}
			require.NoError(t, json.Unmarshal(text.Bytes(), &document))
			for _, row := range document.RDMA {
				label := fmt.Sprintf("%v/%v", row["device"], row["port"])
				for field, value := range row {
					if value == nil {
						assert.Contains(t, s.Unavailable["rdma."+field], label, field)
					}
				}
			}
		})
	}
}

func TestRDMA_efaCountsBytes(t *testing.T) {
	x := newNode(t, "{}", "documented-efa")
	settle(t, partOf[*rdmaPart](x).beside, 1)
	x.write("rdmap16s27/ports/1/hw_counters/rx_bytes", fmt.Sprint(927364518000+1000))
	s := x.step(time.Second)
	assert.Equal(t, uint64(1000), *port(t, s, "rdmap16s27", 1).ReceiveBytesTotal)
	assert.Equal(t, "no network interface of it is seen here: rdmap16s27/1, rdmap32s27/1", s.Unavailable["rdma.interface"])
	assert.Equal(t, "the driver efa says 100 Gb/sec of any device: rdmap16s27/1, rdmap32s27/1", s.Unavailable["rdma.rate_bits_per_second"])
}

func TestRDMA_reset(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	settle(t, partOf[*rdmaPart](x).beside, 1)
	x.write(receiveWords, "7004512345928")
	x.step(time.Second)
	// The driver was loaded anew between two readings.
	x.write(receiveWords, "50")
	x.write(transmitWords, "10")
	x.write(outOfSequence, "0")
	s := x.step(time.Second)
	p := port(t, s, "mlx5_0", 1)
	assert.Equal(t, uint64(1000), *p.ReceiveBytesTotal, "never decreases, and nothing is invented")
	assert.Nil(t, p.ReceiveBytesPerSecond)
	assert.Nil(t, p.WindowSeconds)
	assert.Equal(t, "counters were reset in this window: mlx5_0/1", s.Unavailable["rdma.receive_bytes_per_second"])
	assert.Empty(t, p.CountersPerSecond)
	assert.Equal(t, []string{"counters of RDMA port mlx5_0/1 were reset"}, x.events(eventReset))
	facts, _ := x.m.rdmaPorts()
	assert.Zero(t, facts[0].window)
	x.write(receiveWords, "150")
	p = port(t, x.step(time.Second), "mlx5_0", 1)
	assert.Equal(t, uint64(1400), *p.ReceiveBytesTotal)
	assert.InDelta(t, 400, *p.ReceiveBytesPerSecond, 1e-9)
}

// Somebody resets the counters of errors, as perfquery -R does.
func TestRDMA_errorCountersReset(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	x.write(outOfSequence, "3")
	x.write("mlx5_1/ports/1/counters/link_downed", "0") // it was full
	x.write(receiveWords, "7004512345928")
	s := x.step(time.Second)
	p := port(t, s, "mlx5_0", 1)
	assert.Equal(t, uint64(0), p.Counters["out_of_sequence"])
	assert.NotContains(t, p.CountersPerSecond, "out_of_sequence")
	assert.InDelta(t, 1000, *p.ReceiveBytesPerSecond, 1e-9, "the data went on")
	assert.Equal(t, uint64(0), port(t, s, "mlx5_1", 1).Counters["link_downed"])
	assert.Equal(t, "counters were reset in this window: mlx5_0/1 out_of_sequence; not known when this window began: mlx5_1/1 link_downed",
		s.Unavailable["rdma.counters_per_second"])
	x.write(outOfSequence, "5")
	x.write("mlx5_1/ports/1/counters/link_downed", "2")
	s = x.step(time.Second)
	assert.InDelta(t, 2, port(t, s, "mlx5_0", 1).CountersPerSecond["out_of_sequence"], 1e-9)
	assert.InDelta(t, 2, port(t, s, "mlx5_1", 1).CountersPerSecond["link_downed"], 1e-9)
}

// 32-bit counters of data that go round, as ocrdma's do.
func TestRDMA_wrap(t *testing.T) {
	x := newNode(t, "{}")
	x.unpack("documented-mlx5-roce")
	x.write(receiveWords, "4294967000")
	x.write(transmitWords, "4294967000")
	x.clock.Advance(time.Minute)
	x.m.Tick() // finds them
	x.step(time.Second)
	x.write(receiveWords, "704")
	s := x.step(time.Second)
	if p := port(t, s, "mlx5_0", 1); assert.NotNil(t, p.ReceiveBytesPerSecond, "%v", s.Unavailable) {
		assert.InDelta(t, 4000, *p.ReceiveBytesPerSecond, 1e-9)
	}
	assert.Len(t, x.events(eventWrap), 1)
}

func TestRDMA_portsComeAndGo(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	assert.Empty(t, x.events(eventPortAppeared), "what was there first did not appear")
	x.write("mlx5_0/ports/1/state", "1: DOWN")
	x.step(time.Second)
	assert.Equal(t, []string{"RDMA port mlx5_0/1 went from active to down"}, x.events(eventPortState))

	x.remove("mlx5_0")
	s := x.step(time.Second)
	require.Len(t, s.AllRDMA(), 1)
	assert.Equal(t, []string{"RDMA port mlx5_0/1 vanished"}, x.events(eventPortVanished))
	x.unpack("documented-mlx5-roce")
	x.step(time.Second)
	x.write(receiveWords, "7004512345928")
	s = x.step(time.Second)
	assert.Equal(t, []string{"RDMA port mlx5_0/1 appeared"}, x.events(eventPortAppeared))
	assert.Equal(t, uint64(1000), *port(t, s, "mlx5_0", 1).ReceiveBytesTotal, "counted since it appeared")

	// The module is unloaded as a whole.
	require.NoError(t, os.RemoveAll(filepath.Join(x.root, "sys")))
	s = x.step(time.Second)
	assert.Nil(t, s.AllRDMA())
	assert.Equal(t, "no /sys/class/infiniband", s.Unavailable["rdma"])
	facts, missing := x.m.rdmaPorts()
	assert.Empty(t, facts)
	assert.Equal(t, "no /sys/class/infiniband", missing)
	x.unpack("documented-mlx5-roce")
	assert.Len(t, x.step(time.Second).AllRDMA(), 2)
	require.NoError(t, os.RemoveAll(filepath.Join(x.root, "sys/class/infiniband")))
	require.NoError(t, os.MkdirAll(filepath.Join(x.root, "sys/class/infiniband"), 0o700))
	s = x.step(time.Second)
	assert.Equal(t, []sample.RDMAPort{}, s.AllRDMA(), "measured, and there is nothing")
	assert.Equal(t, "ok", s.Self.Health)
}

// A file that fails is not a port that is gone.
func TestRDMA_unreadable(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	path := filepath.Join(x.root, "sys/class/infiniband", receiveWords)
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700)) // reading says EISDIR
	s := x.step(time.Second)
	p := port(t, s, "mlx5_0", 1)
	assert.Nil(t, p.ReceiveBytesTotal)
	assert.Equal(t, "the kernel cannot read it: is a directory: mlx5_0/1", s.Unavailable["rdma.receive_bytes_total"])
	assert.NotNil(t, p.TransmitBytesPerSecond)
	facts, _ := x.m.rdmaPorts()
	assert.False(t, facts[0].counted)

	// What was counted meanwhile counts, but has no rate.
	require.NoError(t, os.Remove(path))
	x.write(receiveWords, "7004512345928")
	s = x.step(time.Second)
	assert.Equal(t, uint64(1000), *port(t, s, "mlx5_0", 1).ReceiveBytesTotal)
	assert.Equal(t, "not known when this window began: mlx5_0/1", s.Unavailable["rdma.receive_bytes_per_second"])

	// Counters that come with another firmware do not end the others' totals.
	x.write("mlx5_0/ports/1/hw_counters/cc_rx_ce_pkts", "5")
	x.step(2 * time.Minute)
	s = x.step(time.Second)
	p = port(t, s, "mlx5_0", 1)
	assert.Equal(t, uint64(1000), *p.ReceiveBytesTotal)
	assert.Contains(t, p.CountersPerSecond, "cc_rx_ce_pkts")
}

// A driver that hangs holds up nothing but what it would have told.
func TestRDMA_hangingDriver(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	path := filepath.Join(x.root, "sys/class/infiniband/mlx5_0/ports/1/rate")
	release := hang(t, path)
	part := partOf[*rdmaPart](x)
	before := part.done.Load()
	x.clock.Advance(time.Second)
	part.waker.Wake()
	require.Eventually(t, func() bool { return part.began.Load() != 0 }, 10*time.Second, time.Millisecond)
	x.m.Tick()
	assert.Len(t, x.now().RDMA, 2, "what was read last")
	x.clock.Advance(6 * time.Second)
	began := time.Now()
	s := x.now()
	assert.Less(t, time.Since(began), 2*time.Second)
	assert.Nil(t, s.RDMA)
	assert.Equal(t, "the driver has not answered for more than 5s: RDMA ports are not known", s.Unavailable["rdma"])
	assert.Contains(t, s.Self.Health, "has not answered")
	assert.Equal(t, before, part.done.Load())

	began = time.Now()
	x.m.Close()
	assert.Less(t, time.Since(began), 2*time.Second)
	assert.False(t, part.ended())
	release()
	assert.Eventually(t, part.ended, 10*time.Second, time.Millisecond)
}

func TestRDMA_foundLater(t *testing.T) {
	x := newNode(t, "{}")
	assert.Equal(t, "no /sys/class/infiniband", x.tick().Unavailable["rdma"])
	x.unpack("documented-efa")
	assert.Equal(t, "no /sys/class/infiniband", x.tick().Unavailable["rdma"], "not looked for with every sample")
	x.clock.Advance(time.Minute)
	x.m.Tick()
	settle(t, partOf[*rdmaPart](x).beside, 1)
	assert.Len(t, x.now().RDMA, 2)
}

func TestRDMA_notInSources(t *testing.T) {
	x := newNode(t, `{"sources": ["interfaces"]}`, "documented-mlx5-roce", "documented-pcie")
	for _, p := range x.m.parts {
		switch p.(type) {
		case *rdmaPart, *pciePart, *nvlinkPart:
			assert.Fail(t, "nobody asked for it", "%T", p)
		}
	}
	s := x.now()
	for _, section := range []string{"rdma", "pcie", "nvlink"} {
		assert.Equal(t, "not in sources", s.Unavailable[section])
	}
	_, missing := x.m.rdmaPorts()
	assert.Equal(t, "not in sources", missing)
}

// Samples of the history share what did not change.
func TestRDMA_historyIsSmall(t *testing.T) {
	x := newNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	_, before, _, _ := x.m.history.extent()
	for range 10 {
		x.step(time.Second)
	}
	_, after, _, _ := x.m.history.extent()
	assert.Less(t, (after-before)/10, documentBytes+4*900+2*200, "two idle ports take numbers only")
}

// With the real clock and the loop, as it is used.
func TestHardware_loop(t *testing.T) {
	root := t.TempDir()
	for _, tree := range []string{"documented-mlx5-roce", "documented-pcie"} {
		require.NoError(t, recorded.Unpack("../testdata/"+tree+".ttar", root))
	}
	fs := kernelfs.Dir(root)
	m, err := New(DefaultConfig(), Options{FS: &fs, Links: &fakeLinks{}, Tools: (&fakeNetwork{}).tools()})
	require.NoError(t, err)
	defer m.Close()
	require.Eventually(t, func() bool {
		all := m.history.since(0)
		newest := all[len(all)-1]
		return newest.Sequence > 1 && len(newest.AllRDMA()) == 2 && newest.AllRDMA()[0].ReceiveBytesPerSecond != nil && len(newest.PCIe) == 9
	}, 10*time.Second, 20*time.Millisecond)
	m.Close()
	for _, p := range m.parts {
		assert.Eventually(t, p.ended, 10*time.Second, time.Millisecond)
	}
}

// Samples far more often than once a second do not keep the next reading from coming.
func TestHardware_fastLoop(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, recorded.Unpack("../testdata/documented-efa.ttar", root))
	fs := kernelfs.Dir(root)
	config := DefaultConfig()
	config.Interval = 20 * time.Millisecond
	m, err := New(config, Options{FS: &fs, Links: &fakeLinks{}, Tools: (&fakeNetwork{}).tools()})
	require.NoError(t, err)
	defer m.Close()
	part := partOf[*rdmaPart](&node{&machine{t: t, m: m}})
	require.Eventually(t, func() bool { return part.done.Load() >= 3 }, 10*time.Second, 10*time.Millisecond)
	assert.GreaterOrEqual(t, m.clock.Monotonic()-m.started, 1500*time.Millisecond, "nor do they hurry it")
}

func TestNextReading(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct{ began, took, ticked, period, want time.Duration }{
		{5000 * ms, ms, 0, 1000 * ms, 6000 * ms},              // no sample yet
		{5000 * ms, ms, 5010 * ms, 1000 * ms, 6000 * ms},      // 10 ms before the next sample
		{5000 * ms, ms, 4010 * ms, 1000 * ms, 6000 * ms},      // the sample is only due
		{5000 * ms, 50 * ms, 4100 * ms, 1000 * ms, 6000 * ms}, // long readings begin earlier
		{5000 * ms, 5 * time.Second, 5900 * ms, 1000 * ms, 6650 * ms},
		{5000 * ms, ms, 5002 * ms, 1000 * ms, 5992 * ms},
		{5000 * ms, ms, 5000 * ms, time.Minute, 5000*ms + time.Minute - 10*ms},
		{5000 * ms, ms, 4500 * ms, 1000 * ms, 6490 * ms}, // not twice a period
	} {
		assert.Equal(t, tt.want, nextReading(tt.began, tt.took, tt.ticked, tt.period), "%+v", tt)
	}
}

func TestPCIe_document(t *testing.T) {
	x := newNode(t, "{}", "documented-pcie")
	part := partOf[*pciePart](x)
	require.Eventually(t, func() bool { return part.reading.Load() != nil }, 10*time.Second, time.Millisecond)
	s := x.now()
	rows := make(map[string]sample.PCIe)
	for _, row := range s.PCIe {
		rows[row.Address] = row
	}
	require.Len(t, rows, 9)
	ib := rows["0000:3b:00.0"]
	assert.Equal(t, "network", ib.Kind)
	assert.Equal(t, []string{"ib0", "mlx5_0"}, ib.Names)
	assert.Equal(t, 16e9, *ib.CurrentTransfersPerSecond)
	assert.Equal(t, int64(8), *ib.CurrentLanes)
	assert.Equal(t, int64(16), *ib.MaximumLanes)
	assert.InDelta(t, 126e9, float64(*ib.CurrentCapacityBitsPerSecond), 1e8)
	assert.True(t, *ib.Limited)
	assert.False(t, *rows["0000:3a:00.0"].Limited)
	assert.True(t, *rows["0000:2a:00.0"].Limited, "fewer lanes limit a GPU, idle or not")
	assert.Nil(t, rows["0000:17:00.0"].Limited)
	assert.Contains(t, s.Unavailable["pcie.limited"], "a GPU slows its link down while it is idle, so a slower one says nothing: 0000:17:00.0")
	assert.Contains(t, s.Unavailable["pcie.current_lanes"], "powered down; asking would wake it: 0000:4a:00.0")
	assert.Contains(t, s.Unavailable["pcie.current_lanes"], "the device does not tell: 0000:00:03.0, 0000:3b:00.2")
	assert.Nil(t, rows["0000:3b:00.2"].CurrentTransfersPerSecond)
	assert.NotNil(t, rows["0000:3b:00.2"].MaximumTransfersPerSecond)

	// Read again once a minute.
	first := part.reading.Load()
	x.tick()
	assert.Same(t, first, part.reading.Load())
	x.clock.Advance(time.Minute)
	x.m.Tick()
	assert.Eventually(t, func() bool { return part.reading.Load() != first }, 10*time.Second, time.Millisecond)
}

// fakeLibrary is an NVIDIA library that the test decides.
type fakeLibrary struct {
	mu    sync.Mutex
	gpus  []nvlink.GPU
	err   error
	block chan struct{}
}

func (f *fakeLibrary) Read() ([]nvlink.GPU, error) {
	f.mu.Lock()
	block := f.block
	f.mu.Unlock()
	if block != nil {
		<-block
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]nvlink.GPU{}, f.gpus...), f.err
}

func (f *fakeLibrary) set(gpus ...nvlink.GPU) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gpus = gpus
}

func newGPUNode(t *testing.T, open nvlink.Open) *node {
	t.Helper()
	x := &node{&machine{t: t, root: t.TempDir(), clock: clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0)), links: &fakeLinks{links: dockerHost()}}}
	require.NoError(t, os.CopyFS(x.root, os.DirFS("../testdata/prometheus-docker-host")))
	version := filepath.Join(x.root, nvlink.VersionPath)
	require.NoError(t, os.MkdirAll(filepath.Dir(version), 0o700))
	require.NoError(t, os.WriteFile(version, []byte("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05\n"), 0o600))
	fs := kernelfs.Dir(x.root)
	var err error
	x.m, err = New(DefaultConfig(), Options{FS: &fs, Clock: x.clock, Links: x.links, NoLoop: true, Tools: (&fakeNetwork{}).tools(), NVML: open})
	require.NoError(t, err)
	t.Cleanup(x.m.Close)
	return x
}

func (x *node) stepNVLink(after time.Duration) *sample.Sample {
	x.t.Helper()
	b := partOf[*nvlinkPart](x).beside
	settle(x.t, b, 1)
	before := b.done.Load()
	x.clock.Advance(after)
	settle(x.t, b, before+1)
	x.m.Tick()
	all := x.m.history.since(0)
	return all[len(all)-1]
}

func TestNVLink_document(t *testing.T) {
	library := &fakeLibrary{}
	gpu := nvlink.GPU{Index: 0, UUID: "GPU-0", LinksActive: 18, ReceiveKiB: 5000, TransmitKiB: 7000}
	dumb := nvlink.GPU{Index: 1, LinksActive: -1, CountersMissing: "nvmlDeviceGetFieldValues: not supported"}
	library.set(gpu, dumb)
	x := newGPUNode(t, func() (nvlink.Library, error) { return library, nil })
	x.stepNVLink(time.Second)
	gpu.ReceiveKiB, gpu.TransmitKiB = 5002, 7004
	library.set(gpu, dumb)
	s := x.stepNVLink(2 * time.Second)
	require.Len(t, s.NVLink, 2)
	row := s.NVLink[0]
	assert.Equal(t, "GPU-0", *row.UUID)
	assert.Equal(t, int64(18), *row.LinksActive)
	assert.Equal(t, uint64(2048), *row.ReceiveBytesTotal)
	assert.InDelta(t, 2048, *row.TransmitBytesPerSecond, 1e-9)
	assert.InDelta(t, 2, *row.WindowSeconds, 1e-9)
	assert.Equal(t, sample.NVLink{GPU: 1}, s.NVLink[1])
	assert.Equal(t, "the library does not tell: 1", s.Unavailable["nvlink.links_active"])
	assert.Equal(t, "nvmlDeviceGetFieldValues: not supported: 1", s.Unavailable["nvlink.receive_bytes_total"])

	gpu.ReceiveKiB, gpu.TransmitKiB = 1, 1 // the GPU was reset
	library.set(gpu)
	s = x.stepNVLink(time.Second)
	require.Len(t, s.NVLink, 1)
	assert.Equal(t, uint64(2048), *s.NVLink[0].ReceiveBytesTotal)
	assert.Nil(t, s.NVLink[0].ReceiveBytesPerSecond)
	assert.Equal(t, "counters were reset in this window: 0", s.Unavailable["nvlink.receive_bytes_per_second"])
	assert.Equal(t, []string{"NVLink counters of GPU 0 were reset"}, x.events(eventReset))

	library.mu.Lock()
	library.err = errors.New("the GPU has fallen off the bus")
	library.mu.Unlock()
	s = x.stepNVLink(time.Second)
	assert.Nil(t, s.NVLink)
	assert.Equal(t, "the GPU has fallen off the bus", s.Unavailable["nvlink"])
}

func TestNVLink_libraryRefused(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	x := newGPUNode(t, func() (nvlink.Library, error) {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries < 2 {
			return nil, errors.New("libnvidia-ml.so.1: cannot open shared object file")
		}
		return &fakeLibrary{}, nil
	})
	s := x.stepNVLink(time.Second)
	assert.Contains(t, s.Unavailable["nvlink"], "libnvidia-ml.so.1")
	assert.Equal(t, "ok", s.Self.Health, "no library is no defect")
	s = x.stepNVLink(2 * time.Minute)
	assert.Equal(t, []sample.NVLink{}, s.NVLink)
}

func TestNVLink_noWayToTheLibrary(t *testing.T) {
	x := newGPUNode(t, nil)
	assert.Equal(t, "this build of netmon opens no NVIDIA library", x.now().Unavailable["nvlink"])
}

func TestNVLink_hanging(t *testing.T) {
	library := &fakeLibrary{block: make(chan struct{})}
	x := newGPUNode(t, func() (nvlink.Library, error) { return library, nil })
	part := partOf[*nvlinkPart](x)
	require.Eventually(t, func() bool { return part.began.Load() != 0 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, notReadYet, x.now().Unavailable["nvlink"])
	x.clock.Advance(10 * time.Second)
	assert.Contains(t, x.now().Unavailable["nvlink"], "has not answered for more than 5s")
	x.m.Close()
	close(library.block)
	assert.Eventually(t, part.ended, 10*time.Second, time.Millisecond)
}

// A defect of a part ends that part only, and health tells.
func TestBeside_panic(t *testing.T) {
	x := newGPUNode(t, func() (nvlink.Library, error) { panic("defect") })
	part := partOf[*nvlinkPart](x)
	require.Eventually(t, part.ended, 10*time.Second, time.Millisecond)
	s := x.now()
	assert.True(t, strings.HasPrefix(s.Unavailable["nvlink"], "internal error"), s.Unavailable["nvlink"])
	assert.Contains(t, s.Self.Health, "defect")
}

// hang replaces a file by one whose opening waits, until release is called.
func hang(t *testing.T, path string) (release func()) {
	t.Helper()
	require.NoError(t, os.Remove(path))
	require.NoError(t, unix.Mkfifo(path, 0o600))
	return func() {
		// A writer lets the reader's open return; its end is the end of the file.
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
	}
}
