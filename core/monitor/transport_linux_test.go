package monitor

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/job"
	"netmon/core/transport"
)

// fakeTraffic is what the test says that the job's own connections carried.
type fakeTraffic struct{ rows []planeTraffic }

func (f *fakeTraffic) traffic() []planeTraffic           { return f.rows }
func (f *fakeTraffic) fill(*document, *occasion) (n int) { return 0 }
func (f *fakeTraffic) remember(uint64)                   {}
func (f *fakeTraffic) problems() []string                { return nil }
func (f *fakeTraffic) close()                            {}
func (f *fakeTraffic) ended() bool                       { return true }

// carry makes the job's connections have carried so much by an interface since the monitor started.
func (f *fakeTraffic) carry(name string, bytes uint64, perSecond float64) {
	for i := range f.rows {
		if f.rows[i].interfaceName == name {
			f.rows[i].bytes, f.rows[i].bytesPerSecond = bytes, perSecond
			return
		}
	}
	f.rows = append(f.rows, planeTraffic{interfaceName: name, loopback: name == "lo", bytes: bytes, bytesPerSecond: perSecond})
}

// jobNode is a recorded machine whose job's connections the test decides.
func jobNode(t *testing.T, config string, trees ...string) (*node, *fakeTraffic) {
	x := newNode(t, config, trees...)
	f := &fakeTraffic{rows: []planeTraffic{}}
	kept := []part{f}
	for _, p := range x.m.parts {
		if _, knows := p.(trafficSource); !knows {
			kept = append(kept, p)
		}
	}
	x.m.mu.Lock()
	x.m.parts = kept
	x.m.mu.Unlock()
	return x, f
}

func words(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (x *node) limits(memlock, capabilities, users string) {
	x.t.Helper()
	folder := filepath.Join(x.root, "proc/self")
	require.NoError(x.t, os.MkdirAll(folder, 0o755))
	for name, text := range map[string]string{
		"limits": "Limit                     Soft Limit           Hard Limit           Units     \n" +
			"Max processes             256000               256000               processes \n" +
			"Max locked memory         " + memlock + "                65536                bytes     \n",
		"status":  "Name:\tpython\nCapPrm:\tffffffffffffffff\nCapEff:\t" + capabilities + "\n",
		"uid_map": users,
	} {
		require.NoError(x.t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
}

// add makes a counter of a port count.
func (x *node) add(path string, more uint64) {
	x.t.Helper()
	text, err := os.ReadFile(filepath.Join(x.root, "sys/class/infiniband", path))
	require.NoError(x.t, err)
	before, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	require.NoError(x.t, err)
	x.write(path, strconv.FormatUint(before+more, 10))
}

func (x *node) deviceNodes(names ...string) {
	x.t.Helper()
	folder := filepath.Join(x.root, "dev/infiniband")
	require.NoError(x.t, os.MkdirAll(folder, 0o755))
	for _, name := range names {
		require.NoError(x.t, os.WriteFile(filepath.Join(folder, name), nil, 0o600))
	}
}

const allUsers = "         0          0 4294967295\n"

// NCCL went to sockets in a container without device nodes: bytes by plane, rates, reason and advice.
func TestTransport_tcpBesideIdlePorts(t *testing.T) {
	x, connections := jobNode(t, `{"job": {"environment": {"NCCL_IB_HCA": "=mlx5_7"}}}`, "documented-mlx5-roce")
	x.limits("65536", "00000000a80425fb", allUsers)
	x.step(time.Minute) // limits are read once a minute
	connections.carry("eth0", 9_000_000_000, 3e9)
	connections.carry("lo", 1_000_000, 1e5)
	s := x.step(time.Second)
	d := s.Transport
	assert.Equal(t, "tcp", words(d.Plane))
	assert.Equal(t, "eth0", words(d.Interface))
	assert.Equal(t, "the job's TCP connections carried 9 GB in the last 61 s, 9 GB of it over eth0; loopback 1 MB, RDMA ports 0 bytes", words(d.Reason))
	assert.EqualValues(t, 9_000_000_000, *d.TCPBytesTotal)
	assert.EqualValues(t, 1_000_000, *d.LoopbackBytesTotal)
	assert.EqualValues(t, 0, *d.RDMABytesTotal)
	assert.InDelta(t, 3e9, *d.TCPBytesPerSecond, 0)
	assert.InDelta(t, 1e5, *d.LoopbackBytesPerSecond, 0)
	assert.InDelta(t, 0, *d.RDMABytesPerSecond, 0)
	assert.Contains(t, words(d.RDMAIdleReason), "there is no device node /dev/infiniband/uverbs*")
	assert.Contains(t, words(d.RDMAIdleReason), "RLIMIT_MEMLOCK is 65536 bytes")
	assert.Contains(t, words(d.RDMAIdleReason), "NCCL_IB_HCA==mlx5_7 leaves no active port over: mlx5_0:1")
	assert.Contains(t, words(d.Advice), "--device=/dev/infiniband")
	assert.Nil(t, d.WrongInterface)
	assert.Equal(t, "eth0", d.Shares[0].Interface)
	snapshot := x.published[len(x.published)-1]
	assert.EqualValues(t, planeTCP, snapshot.TransportPlane)
	assert.InDelta(t, 0, snapshot.RDMAReceiveBytesPerSecond, 0)

	// The variables are renewed; limits and nodes are read again after a minute.
	require.NoError(t, x.m.SetJob(job.Identity{}, map[string]string{"NCCL_IB_DISABLE": "1"}))
	idle := words(x.step(time.Second).Transport.RDMAIdleReason)
	assert.Contains(t, idle, "NCCL_IB_DISABLE=1")
	assert.NotContains(t, idle, "NCCL_IB_HCA")
	x.limits("unlimited", "00000000a80425fb", allUsers)
	x.deviceNodes("uverbs0", "rdma_cm")
	idle = words(x.step(time.Minute).Transport.RDMAIdleReason)
	assert.Equal(t, "NCCL_IB_DISABLE=1 tells NCCL not to use it", idle)
	require.NoError(t, x.m.SetJob(job.Identity{}, nil))
	assert.Equal(t, idle, words(x.step(time.Second).Transport.RDMAIdleReason), "not given: as before")
}

func TestTransport_rdma(t *testing.T) {
	x, connections := jobNode(t, "{}", "documented-mlx5-roce")
	x.deviceNodes("uverbs0")
	x.step(time.Second)
	connections.carry("eth0", 1_000_000, math.NaN())
	for _, path := range []string{receiveWords, transmitWords} {
		x.add(path, 500_000_000) // words of 4 bytes
	}
	s := x.step(time.Second)
	d := s.Transport
	rdma := *s.Transport.RDMABytesTotal
	require.EqualValues(t, 4_000_000_000, rdma)
	assert.Equal(t, "rdma", words(d.Plane))
	assert.Equal(t, "mlx5_0:1", words(d.Interface))
	assert.Contains(t, words(d.Reason), "RDMA ports of this node carried")
	assert.Nil(t, d.RDMAIdleReason)
	assert.InDelta(t, float64(rdma), *d.RDMABytesPerSecond, 1)
	assert.Nil(t, d.TCPBytesPerSecond)
	assert.Equal(t, "sockets were not read twice yet", s.Unavailable["transport.tcp_bytes_per_second"])
	snapshot := x.published[len(x.published)-1]
	assert.EqualValues(t, planeRDMA, snapshot.TransportPlane)
	assert.InDelta(t, float64(rdma), snapshot.RDMAReceiveBytesPerSecond+snapshot.RDMATransmitBytesPerSecond, 1)
}

// What ports that are gone have carried stays counted.
func TestTransport_portsThatVanish(t *testing.T) {
	x, _ := jobNode(t, "{}", "documented-mlx5-roce")
	x.step(time.Second)
	x.add(receiveWords, 1000)
	require.EqualValues(t, 4000, *x.step(time.Second).Transport.RDMABytesTotal)
	x.remove("mlx5_0")
	x.step(time.Second)
	x.unpack("documented-mlx5-roce")
	x.step(2 * lookAgain) // which looks for the class again, if it was gone
	s := x.step(time.Second)
	require.NotNil(t, s.Transport.RDMABytesTotal)
	assert.EqualValues(t, 4000, *s.Transport.RDMABytesTotal)
	x.add(receiveWords, 10)
	assert.EqualValues(t, 4040, *x.step(time.Second).Transport.RDMABytesTotal)
}

// What is judged is the last minute, where anything to speak of was carried in it.
func TestTransport_theLastMinute(t *testing.T) {
	x, connections := jobNode(t, "{}")
	x.tick()
	connections.carry("eth0", 9_000_000_000, 9e9)
	assert.Equal(t, "tcp", words(x.tick().Transport.Plane))
	for second := range uint64(80) {
		connections.carry("lo", (second+1)*10_000_000, 1e7)
		x.tick()
	}
	d := x.tick().Transport
	assert.Equal(t, "loopback", words(d.Plane))
	assert.Contains(t, words(d.Reason), transportUnseen)
	assert.Regexp(t, `^the job's connections inside this node carried [678].. MB in the last (6|7).?.? s`, words(d.Reason))
	assert.EqualValues(t, 9_000_000_000, *d.TCPBytesTotal)
	assert.LessOrEqual(t, len(partOf[*transportPart](x).marks), 5)
	for range 100 {
		x.tick()
	}
	d = x.tick().Transport
	assert.Equal(t, "tcp", words(d.Plane), "nothing lately: what was carried since the start")
	assert.Contains(t, words(d.Reason), "since the monitor started")
}

const transportUnseen = "shared memory inside a node and NVLink are not seen"

func TestTransport_nothing(t *testing.T) {
	x, _ := jobNode(t, `{"sources": ["peers", "rdma"]}`)
	x.tick()
	s := x.tick()
	assert.Equal(t, "none", words(s.Transport.Plane))
	assert.Contains(t, words(s.Transport.Reason), transportUnseen)
	assert.Equal(t, "nothing is carried", s.Unavailable["transport.interface"])
	assert.Equal(t, "interfaces are not in sources", s.Unavailable["transport.shares"])
	assert.Equal(t, "interfaces are not in sources", s.Unavailable["transport.wrong_interface"])
	assert.EqualValues(t, planeNone, x.published[len(x.published)-1].TransportPlane)

	x.start(`{"sources": ["interfaces"]}`)
	s = x.tick()
	assert.Nil(t, s.Transport)
	assert.Equal(t, "neither peers nor rdma are in sources", s.Unavailable["transport"])

	x.start(`{"sources": ["rdma"]}`)
	s = x.tick()
	assert.Nil(t, s.Transport.Plane)
	assert.Equal(t, "not in sources", s.Unavailable["transport.tcp_bytes_total"])
	assert.EqualValues(t, uint64(UnknownCount), x.published[len(x.published)-1].TransportPlane)

	x.start(`{"sources": ["peers"]}`)
	s = x.tick()
	assert.Equal(t, "not in sources", s.Unavailable["transport.rdma_bytes_total"])
	assert.Equal(t, "not in sources", s.Unavailable["transport.rdma_idle_reason"])
}

// Samples tell the same verdict for a second, and samples on demand their own numbers.
func TestTransport_onDemand(t *testing.T) {
	x, connections := jobNode(t, "{}")
	connections.carry("eth0", 5_000_000, 5e6)
	x.tick()
	connections.carry("eth0", 6_000_000, 1e6)
	x.clock.Advance(600 * time.Millisecond)
	s := x.now()
	assert.Contains(t, words(s.Transport.Reason), "carried 5 MB")
	assert.EqualValues(t, 6_000_000, *s.Transport.TCPBytesTotal)
	x.clock.Advance(400 * time.Millisecond)
	s = x.now()
	assert.Contains(t, words(s.Transport.Reason), "carried 6 MB")
	kept := x.m.history.since(0)
	assert.EqualValues(t, 5_000_000, *kept[len(kept)-1].Transport.TCPBytesTotal, "what the history keeps does not change")
}

// A verdict that could not name the interface does not outlive the sample in which that becomes known.
func TestTransport_interfaceBecomesKnown(t *testing.T) {
	x, connections := jobNode(t, "{}")
	connections.carry("", 5_000_000, 5e6)
	s := x.tick()
	assert.Equal(t, "tcp", words(s.Transport.Plane))
	assert.Nil(t, s.Transport.Interface)
	assert.Equal(t, "not known by which interface the connections go", s.Unavailable["transport.interface"])
	connections.carry("", 0, 0)
	connections.carry("eth0", 5_000_000, 0)
	x.clock.Advance(10 * time.Millisecond)
	s = x.now()
	assert.Equal(t, "eth0", words(s.Transport.Interface))
	assert.NotContains(t, s.Unavailable, "transport.interface")
}

func TestMemlock(t *testing.T) {
	limits := "Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         "
	status := "CapPrm:\t0\nCapEff:\t"
	for name, tt := range map[string]struct {
		limits, status, users string
		want                  transport.Memlock
	}{
		"a limit":                       {limits + "65536                65536                bytes\n", status + "0\n", allUsers, transport.Memlock{Known: true, Bytes: 65536}},
		"no limit":                      {limits + "unlimited            unlimited            bytes\n", status + "0\n", allUsers, transport.Memlock{Known: true, Bytes: transport.Unlimited}},
		"the right to ignore":           {limits + "65536 65536 bytes\n", status + "000001ffffffffff\n", allUsers, transport.Memlock{Known: true, Bytes: 65536, Exempt: true}},
		"the right to all but that":     {limits + "65536 65536 bytes\n", status + "000001ffffffbfff\n", allUsers, transport.Memlock{Known: true, Bytes: 65536}},
		"the right in a user namespace": {limits + "65536 65536 bytes\n", status + "000001ffffffffff\n", "0 1000 1\n", transport.Memlock{Known: true, Bytes: 65536}},
		"nothing read":                  {"", "", "", transport.Memlock{}},
		"not understood":                {limits + "much\n", status + "x\n", allUsers, transport.Memlock{}},
	} {
		assert.Equal(t, tt.want, memlock([]byte(tt.limits), []byte(tt.status), []byte(tt.users)), name)
	}
	m, err := readSelf()
	require.NoError(t, err)
	assert.True(t, m.Known, "of this process")
}

func readSelf() (m transport.Memlock, err error) {
	limits, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return m, err
	}
	return memlock(limits, nil, nil), nil
}

func FuzzMemlock(f *testing.F) {
	f.Add([]byte("Max locked memory         65536                65536                bytes     \n"), []byte("CapEff:\t0000000000004000\n"), []byte(allUsers))
	f.Add([]byte("Max locked memory 99999999999999999999"), []byte(""), []byte(""))
	f.Add([]byte("Max locked memory unlimited"), []byte("CapEff:"), []byte("0 0"))
	f.Fuzz(func(t *testing.T, limits, status, users []byte) {
		if m := memlock(limits, status, users); !m.Known && m.Bytes != 0 {
			t.Errorf("%+v", m)
		}
	})
}
