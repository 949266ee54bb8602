package monitor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/sample"
	"netmon/core/tcpinfo"
)

// connect makes a connection between two hosts, or within one.
func connect(t *testing.T, from, to *nettest.Host, address string) (client, server *net.TCPConn) {
	t.Helper()
	var listener *net.TCPListener
	to.Do(func() {
		var err error
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		require.NoError(t, err)
	})
	defer listener.Close()
	from.Do(func() {
		var err error
		client, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr))
		require.NoError(t, err)
	})
	server, err := listener.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// move sends bytes and waits until they have arrived.
func move(t *testing.T, from, to net.Conn, bytes int) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(io.Discard, to, int64(bytes))
		failed <- err
	}()
	_, err := from.Write(make([]byte, bytes))
	require.NoError(t, err)
	require.NoError(t, <-failed)
}

// newWatching is a monitor of the calling thread's namespace, whose loop the test turns.
func newWatching(t *testing.T, config string) *Monitor {
	t.Helper()
	parsed, err := ParseConfig([]byte(config))
	require.NoError(t, err)
	if parsed.Variables == nil {
		parsed.Variables = map[string]string{}
	}
	m, err := New(parsed, Options{Version: "0.0.0-test", NoLoop: true})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	return m
}

// sampled takes a sample on demand, through its JSON.
func sampled(t *testing.T, m *Monitor) *sample.Sample {
	t.Helper()
	m.peers.renew(t)
	return justSampled(t, m)
}

// renew reads own sockets now, also where readings take so long that samples would copy an earlier one.
func (p *peersPart) renew(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.started { // one that a sample gave up: it may have passed what is to be read
		require.True(t, p.read(0))
	}
	require.True(t, p.read(0))
}

// justSampled is sampled without a reading that the sample itself would not make.
func justSampled(t *testing.T, m *Monitor) *sample.Sample {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, m.Sample(&text))
	var s sample.Sample
	require.NoError(t, json.Unmarshal(text.Bytes(), &s))
	for _, name := range unexplained(t, text.Bytes()) {
		assert.True(t, strings.HasPrefix(name, "probes."), name) // whose errors and ports may be null
	}
	return &s
}

func peerAt(s *sample.Sample, address string) *sample.Peer {
	for i := range s.Peers {
		if s.Peers[i].Address == address {
			return &s.Peers[i]
		}
	}
	return nil
}

func TestPeers_countWhatIsSent(t *testing.T) {
	here, there := nettest.Pair(t)
	before, beforeFar := connect(t, here, there, there4+":0")
	move(t, before, beforeFar, 5000) // older than the monitor
	m := newWatching(t, `{"job": {"rank": 1, "peers": [{"rank": 0, "address": "`+there4+`"}, {"rank": 1, "address": "`+there6+`"},
		{"rank": 2, "address": "`+there6+`"}, {"rank": 3, "address": "`+there6+`"}]}}`)
	first := sampled(t, m)
	require.Len(t, first.Peers, 1, "the far ends are in another namespace")
	assert.Equal(t, there4, first.Peers[0].Address)
	assert.Zero(t, *first.Peers[0].SentBytesTotal)
	assert.Equal(t, uint64(1), first.Peers[0].Connections)
	assert.Equal(t, uint64(1), *first.Self.PeersSockets)

	client, server := connect(t, here, there, there4+":0")
	move(t, client, server, 1_000_000)
	move(t, server, client, 30_000)
	move(t, before, beforeFar, 700)
	six, sixFar := connect(t, here, there, "["+there6+"]:0")
	move(t, six, sixFar, 123)
	m.Tick()
	s := sampled(t, m)
	p := peerAt(s, there4)
	require.NotNil(t, p)
	assert.Equal(t, uint64(1_000_700), *p.SentBytesTotal)
	assert.Equal(t, uint64(30_000), *p.ReceivedBytesTotal)
	assert.Equal(t, uint64(2), p.Connections)
	assert.Equal(t, int64(0), *p.Rank)
	assert.Equal(t, []int64{0}, p.Ranks)
	assert.Equal(t, "own", p.Process)
	assert.Greater(t, *p.RTTSeconds, 0.0)
	assert.Less(t, *p.IdleSeconds, 5.0)
	p = peerAt(s, there6)
	require.NotNil(t, p)
	assert.Equal(t, uint64(123), *p.SentBytesTotal)
	assert.Nil(t, p.Rank)
	assert.Equal(t, []int64{2, 3}, p.Ranks, "the own rank never")
	assert.Equal(t, "several ranks are there, see ranks: "+there6, s.Unavailable["peers.rank"])

	eventually(t, m, "interfaces", func(s *sample.Sample) bool {
		p, q := peerAt(s, there6), peerAt(s, there4)
		return p.Interface != nil && *p.Interface == "eth0" && q.Interface != nil
	})

	// Totals outlive connections.
	client.Close()
	s = sampled(t, m)
	p = peerAt(s, there4)
	assert.Equal(t, uint64(1), p.Connections)
	assert.Equal(t, uint64(1_000_700), *p.SentBytesTotal)
	all := m.history.since(0)
	newest := all[len(all)-1]
	var text strings.Builder
	require.NoError(t, newest.WriteJSON(&text))
	assert.Contains(t, text.String(), `"address":"10.9.0.2","rank":0,"ranks":[0],"process":"own","interface":"eth0","connections":2`)
	metric, err := sample.FindMetric("peers.10.9.0.2.sent_bytes_total")
	require.NoError(t, err)
	value, known := metric.Value(newest)
	assert.True(t, known)
	assert.InDelta(t, 1_000_700, value, 0)

	part := m.peers
	require.Len(t, part.traffic(), 1)
	assert.Equal(t, "eth0", part.traffic()[0].interfaceName)
	assert.Equal(t, uint64(1_030_823), part.traffic()[0].bytes)
	assert.False(t, part.traffic()[0].loopback)
	assert.Equal(t, uint64(2), part.summary().connections)
}

// eventually takes samples of the loop and on demand until one is as wanted.
func eventually(t *testing.T, m *Monitor, what string, wanted func(*sample.Sample) bool) *sample.Sample {
	t.Helper()
	return eventuallyBy(t, m, sampled, what, wanted)
}

func eventuallyBy(t *testing.T, m *Monitor, take func(*testing.T, *Monitor) *sample.Sample, what string,
	wanted func(*sample.Sample) bool) *sample.Sample {
	t.Helper()
	var s *sample.Sample
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		m.Tick()
		if s = take(t, m); wanted(s) {
			return s
		}
	}
	text, _ := json.MarshalIndent(map[string]any{"peers": s.Peers, "self": s.Self}, "", " ")
	t.Fatalf("%s: %s", what, text)
	return nil
}

// What a filter drops is what is sent again, but for what the other end reports to have got twice.
func TestPeers_retransmits(t *testing.T) {
	here, there := nettest.Pair(t)
	here.Run("ip link set eth0 gso_max_segs 1") // what is dropped are segments then, not bundles of them
	there.Run("nft add table inet t", "nft add chain inet t in { type filter hook input priority 0; }",
		"nft add rule inet t in tcp flags & (syn|fin|rst) == 0 meta length > 200 numgen random mod 50 == 0 counter drop")
	m := newWatching(t, "{}")
	dropped := func() int {
		var out []byte
		there.Do(func() {
			var err error
			out, err = exec.Command("nft", "list", "table", "inet", "t").Output()
			require.NoError(t, err)
		})
		match := regexp.MustCompile(`counter packets (\d+)`).FindSubmatch(out)
		require.NotNil(t, match, "%s", out)
		number, err := strconv.Atoi(string(match[1]))
		require.NoError(t, err)
		return number
	}
	// A sender that is kept waiting for its processor sends again what was not lost, and the other end cannot report all of that.
	const tries, bytes = 10, 5_000_000
	var lost, sentBefore int
	near := false
	for i := range uint64(tries) {
		client, server := connect(t, here, there, there4+":0")
		raw, err := client.SyscallConn()
		require.NoError(t, err)
		require.NoError(t, raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptString(int(fd), unix.SOL_TCP, unix.TCP_CONGESTION, "reno") // BBR's count is within 5 % only
		}))
		move(t, client, server, bytes)
		p := peerAt(sampled(t, m), there4)
		require.NotNil(t, p)
		assert.Equal(t, bytes*(i+1), *p.SentBytesTotal, "each byte once")
		assert.Greater(t, *p.SegmentsSentTotal, *p.SegmentsRetransmittedTotal)
		all := dropped()
		sentAgain := int(*p.SegmentsRetransmittedTotal - *p.DuplicatesReportedTotal)
		t.Logf("%d dropped, %d sent again", all-lost, sentAgain-sentBefore)
		assert.GreaterOrEqual(t, sentAgain, all)
		near = float64(sentAgain-sentBefore-(all-lost)) <= max(1, 0.005*float64(all-lost))
		if lost, sentBefore = all, sentAgain; near {
			break
		}
	}
	assert.True(t, near)
	require.NotZero(t, lost)
	m.Tick()
	assert.Greater(t, m.peers.summary().retransmitRatio, 0.0)
}

// An own probe is no peer of the job.
func TestPeers_leaveOutProbes(t *testing.T) {
	nettest.Pair(t)
	m := newWatching(t, `{"targets": ["tcp://127.0.0.1:1"]}`)
	for range 20 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_USER_TIMEOUT, probe.SocketMark))
		m.Tick()
		unix.Close(fd)
	}
	assert.Empty(t, sampled(t, m).Peers)
}

// A socket that is passed on counts from then on, wherever it was before.
func TestPeers_passedOn(t *testing.T) {
	here, there := nettest.Pair(t)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	client, server := connect(t, here, there, there4+":0")
	move(t, client, server, 100_000)
	raw, err := client.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		require.NoError(t, unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(int(fd)), nil, 0))
	}))
	client.Close() // it is in the message alone
	m := newWatching(t, "{}")
	assert.Empty(t, sampled(t, m).Peers)
	time.Sleep(100 * time.Millisecond) // the socket's clocks tell that it is older than the last reading without it
	assert.Empty(t, sampled(t, m).Peers)
	control := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(ends[1], make([]byte, 1), control, 0)
	require.NoError(t, err)
	messages, err := unix.ParseSocketControlMessage(control[:n])
	require.NoError(t, err)
	fds, err := unix.ParseUnixRights(&messages[0])
	require.NoError(t, err)
	defer unix.Close(fds[0])
	p := peerAt(sampled(t, m), there4)
	require.NotNil(t, p)
	assert.Zero(t, *p.SentBytesTotal, "what was sent before it came is not ours")
	_, err = unix.Write(fds[0], make([]byte, 321))
	require.NoError(t, err)
	p = peerAt(sampled(t, m), there4)
	assert.Equal(t, uint64(321), *p.SentBytesTotal)

	// Given away for a moment and taken back, it goes on.
	require.NoError(t, unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(fds[0]), nil, 0))
	require.NoError(t, unix.Close(fds[0]))
	p = peerAt(sampled(t, m), there4)
	assert.Zero(t, p.Connections)
	assert.Nil(t, p.RTTSeconds)
	_, n, _, _, err = unix.Recvmsg(ends[1], make([]byte, 1), control, 0)
	require.NoError(t, err)
	messages, err = unix.ParseSocketControlMessage(control[:n])
	require.NoError(t, err)
	fds, err = unix.ParseUnixRights(&messages[0])
	require.NoError(t, err)
	_, err = unix.Write(fds[0], make([]byte, 79))
	require.NoError(t, err)
	p = peerAt(sampled(t, m), there4)
	assert.Equal(t, uint64(400), *p.SentBytesTotal)
	assert.Equal(t, uint64(1), p.Connections)
}

// child runs one test of this program as a child, in the namespace of the calling thread, with a socket as its descriptor 3.
func child(t *testing.T, name, mode string, files ...*os.File) (in io.WriteCloser, out *bufio.Reader) {
	t.Helper()
	program := "/proc/self/exe"
	if name != "" {
		text, err := os.ReadFile(program)
		require.NoError(t, err)
		program = filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(program, text, 0o755))
	}
	command := exec.Command(program, "-test.run", "^TestPeers_helper$")
	command.Env = append(os.Environ(), "NETMON_TEST_CHILD="+mode)
	command.ExtraFiles = files
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	require.NoError(t, err)
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		in.Close()
		_ = command.Wait()
	})
	out = bufio.NewReader(output)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "READY\n", line)
	return in, out
}

// TestPeers_helper is the process that child runs. For each line it is told it sends 1000 bytes.
func TestPeers_helper(t *testing.T) {
	mode := os.Getenv("NETMON_TEST_CHILD")
	if mode == "" {
		return // no test of its own
	}
	var connection net.Conn
	var err error
	switch address, connects := strings.CutPrefix(mode, "connect "); {
	case connects:
		connection, err = net.Dial("tcp", address)
	case mode == "inherit":
		connection, err = net.FileConn(os.NewFile(3, "socket"))
	case mode == "hidden":
		err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	require.NoError(t, err)
	fmt.Println("READY")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); fmt.Println("SENT") {
		if connection != nil {
			_, err := connection.Write(make([]byte, 1000))
			require.NoError(t, err)
		}
	}
}

func tell(t *testing.T, in io.Writer, out *bufio.Reader) {
	t.Helper()
	_, err := io.WriteString(in, "send\n")
	require.NoError(t, err)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "SENT\n", line)
}

// sink accepts and reads whatever comes, in a host.
func sink(host *nettest.Host, address string) (at string) {
	return serve(host, address, func(connection net.Conn) {
		go func() { _, _ = io.Copy(io.Discard, connection) }()
	}).String()
}

// again lets the part read the sockets of other processes now.
func (p *peersPart) again() {
	o := *p.others.Load()
	o.ended = -time.Hour
	p.others.Store(&o)
}

func TestPeers_children(t *testing.T) {
	_, there := nettest.Pair(t)
	at := sink(there, there4+":0")
	before, beforeOut := child(t, "", "connect "+at)
	tell(t, before, beforeOut)
	m := newWatching(t, `{"interval_seconds": 0.01}`)
	first := m.history.since(0)[0]
	assert.Contains(t, first.Unavailable["peers.child_connections"], "not read yet", "that none is known is not that there is none")
	s := eventually(t, m, "a child's connection", func(s *sample.Sample) bool { return peerAt(s, there4) != nil })
	p := peerAt(s, there4)
	assert.Zero(t, p.Connections)
	assert.Equal(t, uint64(1), p.ChildConnections)
	assert.Equal(t, "own", p.Process)
	assert.Zero(t, *p.SentBytesTotal, "older than the monitor")
	assert.NotContains(t, s.Unavailable, "peers.child_connections")
	tell(t, before, beforeOut)
	eventually(t, m, "what a child sends", func(s *sample.Sample) bool {
		m.peers.again()
		return *peerAt(s, there4).SentBytesTotal == 1000
	})

	// A socket that a child inherits is its parent's, and goes on when that closes it.
	var connection net.Conn
	var err error
	var file *os.File
	connection, err = net.Dial("tcp", at) // from the thread of the test
	require.NoError(t, err)
	_, err = connection.Write(make([]byte, 500))
	require.NoError(t, err)
	file, err = connection.(*net.TCPConn).File()
	require.NoError(t, err)
	in, out := child(t, "", "inherit", file)
	tell(t, in, out)
	s = eventually(t, m, "both", func(s *sample.Sample) bool {
		m.peers.again()
		return *peerAt(s, there4).SentBytesTotal >= 2500
	})
	p = peerAt(s, there4)
	assert.Equal(t, uint64(1), p.Connections, "two descriptors here, and one there")
	assert.Equal(t, uint64(1), p.ChildConnections)
	assert.Equal(t, uint64(2500), *p.SentBytesTotal)
	connection.Close()
	file.Close()
	tell(t, in, out)
	s = eventually(t, m, "the child's alone, where it goes on", func(s *sample.Sample) bool {
		m.peers.again()
		p := peerAt(s, there4)
		return p.ChildConnections == 2 && *p.SentBytesTotal >= 3500
	})
	p = peerAt(s, there4)
	assert.Zero(t, p.Connections)
	assert.Equal(t, uint64(3500), *p.SentBytesTotal)
	assert.Equal(t, uint64(2), m.peers.summary().connections)

	// What children sent between two of their readings is no burst of the sample that comes next.
	const half = 5 * time.Millisecond // of the interval: windows are longer
	moving := 0
	for range 10 {
		m.peers.again()
		for range 3 {
			tell(t, in, out)
			m.Tick()
			time.Sleep(2 * half)
			s = sampled(t, m)
			p, of := peerAt(s, there4), s.Transport
			if assert.NotNil(t, p.SentBytesPerSecond) && assert.NotNil(t, of.TCPBytesPerSecond) {
				assert.InDelta(t, *p.SentBytesPerSecond+*p.ReceivedBytesPerSecond, *of.TCPBytesPerSecond, 1e-6)
				if *p.SentBytesPerSecond > 0 {
					moving++
				}
			}
		}
	}
	assert.NotZero(t, moving)
}

// The daemons of Ray's node have rows of their own, and only a worker of Ray looks for them.
func TestPeers_ray(t *testing.T) {
	_, there := nettest.Pair(t)
	at := sink(there, there4+":0")
	in, out := child(t, "raylet", "connect "+at)
	m := newWatching(t, `{"job": {"environment": {"RAY_JOB_ID": "01000000"}}}`)
	s := eventually(t, m, "the raylet", func(s *sample.Sample) bool { return peerAt(s, there4) != nil })
	p := peerAt(s, there4)
	assert.Equal(t, "ray", p.Process)
	assert.Equal(t, uint64(1), p.Connections)
	tell(t, in, out)
	eventually(t, m, "what it sends", func(s *sample.Sample) bool {
		m.peers.again()
		return *peerAt(s, there4).SentBytesTotal == 1000
	})
	assert.Empty(t, m.peers.traffic(), "it is not the job's own")
	assert.Zero(t, m.peers.summary().connections)
	connection, err := net.Dial("tcp", at)
	require.NoError(t, err)
	defer connection.Close()
	s = sampled(t, m)
	require.Len(t, s.Peers, 2)
	assert.Equal(t, "own", s.Peers[0].Process, "own rows first")
}

// Whom one may not look into is said, and does not keep the others from being told of.
func TestPeers_childrenNotPermitted(t *testing.T) {
	nettest.Pair(t)
	answer := asNobody(t, "TestPeers_helperNobody", "NETMON_TEST_NOBODY=1")
	assert.Contains(t, answer, "not permitted for 1 of 1 other processes")
	assert.Contains(t, answer, "permission denied")
}

func TestPeers_helperNobody(t *testing.T) {
	if os.Getenv("NETMON_TEST_NOBODY") == "" {
		return // no test of its own
	}
	// A process that may not be looked into (PR_SET_DUMPABLE, prctl(2)), as one of other rights.
	in, _ := child(t, "", "hidden")
	defer in.Close()
	m := newWatching(t, "{}")
	var reason string
	for range 2000 {
		m.Tick()
		s := sampled(t, m)
		if reason = s.Unavailable["peers.child_connections"]; reason != "" && !strings.Contains(reason, "not read yet") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println("ANSWER " + reason)
}

// Ten thousand idle connections: they are read beside the samples, memory stays what it is, and self says so.
func TestPeers_many(t *testing.T) {
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	const connections = 5000 // with both ends here
	if limit.Cur < 2*connections+200 {
		t.Skipf("needs %d descriptors, has %d", 2*connections+200, limit.Cur)
	}
	nettest.Pair(t)
	m := newWatching(t, `{"interval_seconds": 0.05}`) // before, so that its descriptors have low numbers
	listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(listening, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(listening, 16))
	address, err := unix.Getsockname(listening)
	require.NoError(t, err)
	fds := []int{listening}
	for range connections {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Connect(client, address))
		server, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC)
		require.NoError(t, err)
		fds = append(fds, client, server)
	}
	s := eventuallyBy(t, m, justSampled, "all connections", func(s *sample.Sample) bool { return len(s.Peers) == 1 && s.Peers[0].Connections == 2*connections })
	assert.Equal(t, uint64(2*connections), *s.Self.PeersSockets)
	require.Greater(t, *s.Self.PeersReadSeconds, 0.001)
	s = eventuallyBy(t, m, justSampled, "an older reading", func(s *sample.Sample) bool { return *s.Self.PeersAgeSeconds > 0.02 })
	assert.Less(t, s.Self.SampleSeconds, *s.Self.PeersReadSeconds, "not in the sample")
	assert.Equal(t, "ok", s.Self.Health)

	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	reading := func() { m.peers.renew(t) }
	reading()
	before := heap()
	for range 30 {
		reading()
	}
	grown := int64(heap()) - int64(before)
	t.Logf("%d sockets read in %v; 30 readings grow the heap by %d bytes", 2*connections,
		time.Duration(*s.Self.PeersReadSeconds*1e9).Round(time.Microsecond), grown)
	assert.Less(t, grown, int64(1<<20))
	for _, fd := range fds {
		unix.Close(fd)
	}
	for range 3 {
		reading()
	}
	m.peers.mu.Lock()
	assert.Less(t, m.peers.table.Remembered(), 5000, "of what is gone a bounded number is remembered")
	m.peers.mu.Unlock()
	eventuallyBy(t, m, justSampled, "none is left", func(s *sample.Sample) bool {
		return len(s.Peers) == 1 && s.Peers[0].Connections == 0 && *s.Self.PeersSockets == 0
	})
}

// fakeSockets are what a test says.
type fakeSockets struct {
	clock   *clock.Fake
	each    time.Duration // to read one
	all     []*tcpinfo.Socket
	next    int
	refused error
}

func (f *fakeSockets) Begin()      { f.next = 0 }
func (f *fakeSockets) Hidden() int { return 0 }
func (f *fakeSockets) Close()      {}

func (f *fakeSockets) Next(most int, yield func(*tcpinfo.Socket)) (done bool, err error) {
	if f.refused != nil {
		return false, f.refused
	}
	for end := min(f.next+most, len(f.all)); f.next < end; f.next++ {
		yield(f.all[f.next])
		f.clock.Advance(f.each)
	}
	return f.next == len(f.all), nil
}

// Where reading takes long it moves out of the samples, goes on there from where it stopped, and comes back.
func TestPeers_asideAndBack(t *testing.T) {
	x := newMachine(t, `{"sources": []}`)
	f := &fakeSockets{clock: x.clock, each: 3 * time.Microsecond}
	for i := range 2000 {
		f.all = append(f.all, &tcpinfo.Socket{
			Cookie: uint64(i + 1), Local: netip.MustParseAddrPort("10.0.0.5:1"), Remote: netip.MustParseAddrPort("10.0.0.6:2"),
			Info: tcpinfo.Info{State: tcpinfo.Established},
		})
	}
	fs := kernelfs.Dir(x.root)
	m, err := New(Config{Interval: time.Second, Sources: Peers, Variables: map[string]string{}}, Options{
		Version: "0.0.0-test", FS: &fs, Clock: x.clock, Links: x.links, NoLoop: true, Tools: (&fakeNetwork{}).tools(), Sockets: f, Routes: noRoutes{},
	})
	require.NoError(t, err)
	t.Cleanup(m.Close)
	first := justSampled(t, m)
	require.Len(t, first.Peers, 1, "the first reading may take longer")
	assert.Equal(t, uint64(2000), first.Peers[0].Connections)
	assert.InDelta(t, 0.006, *first.Self.PeersReadSeconds, 1e-6)
	require.True(t, m.peers.aside)
	for range 5 { // it rests for 0.6 s
		x.clock.Advance(100 * time.Millisecond)
		assert.InDelta(t, 0.006, *justSampled(t, m).Self.PeersReadSeconds, 1e-6)
	}
	assert.Equal(t, uint64(1), m.peers.published.Load().view.Number)
	m.peers.mu.Lock()
	f.all = f.all[:100]
	m.peers.mu.Unlock()
	x.clock.Advance(200 * time.Millisecond)
	m.Tick()
	require.Eventually(t, func() bool { return m.peers.published.Load().view.Number == 2 }, 10*time.Second, time.Millisecond)
	x.clock.Advance(time.Second)
	m.Tick()
	require.False(t, m.peers.aside)
	x.clock.Advance(time.Second)
	s := justSampled(t, m)
	assert.Zero(t, *s.Self.PeersAgeSeconds)
	assert.Equal(t, uint64(100), s.Peers[0].Connections)

	f.each = 15 * time.Microsecond // the host's own work holds one reading up
	x.clock.Advance(time.Second)
	assert.InDelta(t, 0.0015, *justSampled(t, m).Self.PeersReadSeconds, 1e-6)
	f.each = 3 * time.Microsecond
	x.clock.Advance(10 * time.Millisecond)
	assert.InDelta(t, 0.0003, *justSampled(t, m).Self.PeersReadSeconds, 1e-6, "which is no reason to rest for 0.15 s")

	f.refused = unix.ENOPROTOOPT
	s = justSampled(t, m)
	assert.Nil(t, s.Peers)
	assert.Nil(t, s.Self.PeersSockets)
	assert.Equal(t, "protocol not available", s.Unavailable["peers"])
	assert.Equal(t, "protocol not available", s.Unavailable["self.peers_sockets"])
	assert.Nil(t, m.peers.traffic())
	assert.False(t, m.peers.summary().known)
}

type noRoutes struct{}

func (noRoutes) Interface(netip.Addr, netip.Addr) (string, error) { return "", unix.ENETUNREACH }
func (noRoutes) Close()                                           {}

// Sockets that open and close all the time leave nothing behind, and totals that are right.
func TestPeers_storm(t *testing.T) {
	_, there := nettest.Pair(t)
	at := sink(there, there4+":0")
	m := newWatching(t, `{"interval_seconds": 0.01}`)
	done := make(chan int, 1)
	stop := make(chan struct{})
	ended := sync.OnceValue(func() int { close(stop); return <-done })
	t.Cleanup(func() { ended() }) // or it closes the descriptors of the tests that come after
	go func() {
		opened := 0
		runtime.LockOSThread()
		for ; ; opened++ {
			select {
			case <-stop:
				done <- opened
				return
			default:
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				unix.Close(fd)
			}
		}
	}()
	sent := 0
	for began := time.Now(); time.Since(began) < time.Second; {
		connection, err := net.Dial("tcp", at)
		require.NoError(t, err)
		m.Tick()
		_, err = connection.Write(make([]byte, 1000))
		require.NoError(t, err)
		sent += 1000
		// A reading that a busy machine held up moves the next ones beside the samples, which then tell what was read before.
		require.Eventually(t, func() bool {
			s := sampled(t, m)
			require.Empty(t, s.Unavailable["peers"])
			total := uint64(0)
			if p := peerAt(s, there4); p != nil && p.SentBytesTotal != nil {
				total = *p.SentBytesTotal
			}
			require.LessOrEqual(t, total, uint64(sent))
			return total == uint64(sent)
		}, 20*time.Second, time.Millisecond)
		connection.Close()
	}
	t.Logf("%d bytes over %d connections, %d other sockets meanwhile", sent, sent/1000, ended())
	assert.Empty(t, m.healthReport().Problems)
}
