package throughput

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/tool"
)

func never() bool { return false }

// serve serves at an address until the test ends.
func serve(t testing.TB, at string) *Server {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort(at), clock.System())
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		runtime.LockOSThread()
		ended <- s.Serve()
	}()
	t.Cleanup(func() {
		s.Close()
		assert.NoError(t, <-ended)
	})
	return s
}

func request(to netip.AddrPort, directions ...tool.Direction) Request {
	return Request{To: to, Directions: directions, Duration: 200 * time.Millisecond, Bytes: MostBytes, Connections: 1,
		Timeout: 10 * time.Second, Stop: never}
}

// measured is a test that has to succeed; it waits while the server rests.
func measured(t *testing.T, r Request) []tool.Result {
	t.Helper()
	var results []tool.Result
	require.Eventually(t, func() bool {
		results = Measure(r, clock.System())
		return results[0].Err == nil
	}, 20*time.Second, 20*time.Millisecond, "%v", results)
	return results
}

func errorOf(t *testing.T, r Request) string {
	t.Helper()
	results := Measure(r, clock.System())
	require.Len(t, results, len(r.Directions))
	for _, one := range results {
		require.Error(t, one.Err)
		assert.Nil(t, one.Receiver)
		assert.Nil(t, one.Bytes)
	}
	return results[0].Err.Error()
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

func TestMeasure_bothEnds(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(at, func(t *testing.T) {
			s := serve(t, at)
			to := s.Addr()
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
			}
			before := descriptors(t)
			r := request(to, tool.Transmit, tool.Receive)
			r.Connections = 3
			for _, one := range measured(t, r) {
				require.NoError(t, one.Err)
				assert.Equal(t, 3, one.Parallel)
				assert.InDelta(t, 0.2, *one.Seconds, 0.15)
				assert.InEpsilon(t, float64(*one.Bytes) / *one.Seconds, *one.Receiver, 1e-9)
				assert.Greater(t, *one.Sender, *one.Receiver/10) // its buffers make it end earlier
				assert.NotNil(t, one.Resent)
				assert.Greater(t, *one.RTT, 0.0)
				assert.Less(t, *one.RTT, 0.2)
			}
			require.Eventually(t, func() bool { return descriptors(t) == before }, 5*time.Second, time.Millisecond)
			assert.Positive(t, s.CPU())
		})
	}
}

// The receiver counts every byte, and no more are sent than somebody allowed.
func TestMeasure_bytes(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	for _, direction := range []tool.Direction{tool.Transmit, tool.Receive} {
		for _, connections := range []int{1, 5} {
			r := request(s.Addr(), direction)
			r.Bytes, r.Connections, r.Duration = 200_000_001, connections, 5*time.Second
			one := measured(t, r)[0]
			assert.Equal(t, uint64(200_000_001), *one.Bytes)
			assert.Less(t, *one.Seconds, 5.0)
		}
	}
	r := request(s.Addr(), tool.Transmit)
	r.Bytes = 1
	require.Eventually(t, func() bool {
		return assert.ObjectsAreEqual("1 bytes arrived at once, which is too little for a rate; ask for more bytes or seconds", errorOf(t, r))
	}, 10*time.Second, 10*time.Millisecond)
}

// What took microseconds says how fast buffers are, not the way.
func TestMeasure_judgesNoBurst(t *testing.T) {
	c := client{Request: Request{To: netip.MustParseAddrPort("127.0.0.1:1")}}
	sent := &flow{sends: true, bytes: 300_000, last: 2 * time.Millisecond, duration: time.Second}
	var r tool.Result
	result := message{kind: kindResult, bytes: 300_000, duration: 18 * time.Microsecond}
	assert.EqualError(t, c.judge(&r, sent, result),
		"300000 bytes arrived within 0.018 ms, which is too little for a rate; ask for more bytes or seconds")

	// A slow way behind a large buffer: the receiver's figure holds, the sender's would be that of copying.
	result.duration = time.Second
	require.NoError(t, c.judge(&r, sent, result))
	assert.Equal(t, 300_000.0, *r.Receiver)
	assert.Nil(t, r.Sender)
	assert.Equal(t, "the sender's buffers took everything at once", r.Lacking["sender_bytes_per_second"])
}

func TestMeasure_nobodyThere(t *testing.T) {
	assert.Equal(t, `127.0.0.1:1 refuses the connection: no netmon there answers bandwidth tests; start a monitor there with "bandwidth_server"`,
		errorOf(t, request(netip.MustParseAddrPort("127.0.0.1:1"), tool.Transmit, tool.Receive)))
}

// In a host where packets are dropped.
func TestMeasure_silence(t *testing.T) {
	nettest.Enter(t, "link set lo up", "addr add 10.9.9.9/32 dev lo")
	out, err := exec.Command("nft", "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i tcp dport 7 drop").
		CombinedOutput()
	require.NoError(t, err, "%s", out)
	r := request(netip.MustParseAddrPort("10.9.9.9:7"), tool.Transmit)
	r.Timeout = 300 * time.Millisecond
	began := time.Now()
	assert.Equal(t, "no connection to 10.9.9.9:7: not within 0.3 s", errorOf(t, r))
	assert.Less(t, time.Since(began), 3*time.Second)
	assert.Contains(t, errorOf(t, request(netip.MustParseAddrPort("10.8.8.8:7"), tool.Transmit)), "connect to 10.8.8.8:7: network is unreachable")
}

// Limits are the server's, whatever is asked for.
func TestServer_limits(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	c := dialTest(t, s)
	c.send(message{kind: kindAsk, directions: bitReceive, duration: time.Hour, bytes: 1 << 63, connections: MostConnections})
	answer := c.hear()
	assert.Equal(t, codeAgreed, answer.code)
	assert.Equal(t, 10*time.Second, answer.duration)
	assert.Equal(t, uint64(16<<30), answer.bytes)
	assert.EqualValues(t, 8, answer.connections)
	assert.Equal(t, message{kind: kindAsk, duration: 100 * time.Millisecond, bytes: 1, connections: 1}, message{kind: kindAsk}.limited())
}

// peer is a connection of the test's own.
type peer struct {
	net.Conn
	t *testing.T
}

func dialTest(t *testing.T, s *Server) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return &peer{c, t}
}

func (p *peer) send(m message) {
	p.t.Helper()
	b := m.encode()
	_, err := p.Write(b[:])
	require.NoError(p.t, err)
}

func (p *peer) hear() message {
	p.t.Helper()
	var b [messageBytes]byte
	_, err := io.ReadFull(p, b[:])
	require.NoError(p.t, err)
	m, ok := decode(b[:])
	require.True(p.t, ok)
	return m
}

// closed waits until the server has closed the connection, and returns what it said.
func (p *peer) closed() []byte {
	p.t.Helper()
	said, err := io.ReadAll(p)
	if err != nil {
		require.ErrorIs(p.t, err, unix.ECONNRESET)
	}
	return said
}

func TestServer_guestsThatAreNone(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	before := descriptors(t)
	ask := message{kind: kindAsk, directions: bitTransmit, duration: time.Second, bytes: 1000, connections: 1}
	encoded := ask.encode()
	wrong := func(change func(b []byte)) []byte {
		b := ask.encode()
		change(b[:])
		return b[:]
	}
	for name, said := range map[string][]byte{
		"http":            []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"huge":            bytes.Repeat([]byte{0xff}, 1<<20),
		"no direction":    wrong(func(b []byte) { b[12] = 0 }),
		"wrong direction": wrong(func(b []byte) { b[12] = 4 }),
		"kind 0":          wrong(func(b []byte) { b[10] = 0 }),
		"kind 200":        wrong(func(b []byte) { b[10] = 200 }),
		"an answer":       wrong(func(b []byte) { b[10] = byte(kindAnswer) }),
		"connections":     wrong(func(b []byte) { b[13] = 9 }),
		"index":           wrong(func(b []byte) { b[10], b[14] = byte(kindData), 8 }),
		"a strange nonce": wrong(func(b []byte) { b[10], b[16] = byte(kindData), 77 }),
		"long":            wrong(func(b []byte) { b[32] = 0xff }),
		"half":            encoded[:40],
		"nothing":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, s)
			if len(said) > messageBytes {
				go func() { _, _ = c.Write(said) }()
			} else {
				_, err := c.Write(said)
				require.NoError(t, err)
			}
			began := time.Now()
			assert.Empty(t, c.closed())
			assert.Less(t, time.Since(began), helloTime+3*time.Second)
		})
	}
	t.Run("slow", func(t *testing.T) {
		c := dialTest(t, s)
		began := time.Now()
		for i := range encoded {
			if _, err := c.Write(encoded[i : i+1]); err != nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		assert.Empty(t, c.closed())
		assert.Less(t, time.Since(began), 10*time.Second)
	})
	t.Run("version", func(t *testing.T) {
		c := dialTest(t, s)
		_, err := c.Write(wrong(func(b []byte) { b[9] = 2 }))
		require.NoError(t, err)
		m := c.hear()
		assert.Equal(t, kindAnswer, m.kind)
		assert.Equal(t, codeVersion, m.code)
		assert.Empty(t, c.closed())
	})
	t.Run("a crowd", func(t *testing.T) {
		for range 200 {
			dialTest(t, s)
		}
	})
	require.Eventually(t, func() bool { return descriptors(t) <= before }, 10*time.Second, 10*time.Millisecond)
	measured(t, request(s.Addr(), tool.Transmit))
}

// One test at a time, and a rest as long as it took.
func TestServer_oneAtATimeAndRests(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	first := make(chan []tool.Result)
	r := request(s.Addr(), tool.Transmit)
	r.Duration = 700 * time.Millisecond
	go func() { first <- Measure(r, clock.System()) }()
	require.Eventually(t, func() bool { return s.CPU() > 20*time.Millisecond }, 5*time.Second, time.Millisecond, "bytes flow")
	want := fmt.Sprintf("the server is busy: %s serves another test; it serves one at a time, try again later", s.Addr())
	for range 20 {
		require.Equal(t, want, errorOf(t, request(s.Addr(), tool.Receive)))
	}
	results := <-first
	require.NoError(t, results[0].Err, "the other one disturbs no test")
	ended := time.Now()
	assert.Regexp(t, `^the server is busy: \S+ rests after its last test; try again in 0\.\d s$`, errorOf(t, request(s.Addr(), tool.Transmit)))
	measured(t, request(s.Addr(), tool.Transmit))
	assert.Greater(t, time.Since(ended), 500*time.Millisecond)
}

// Asking ends that vanish, or never begin what they asked for.
func TestServer_askedForNothing(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	ask := message{kind: kindAsk, directions: bitTransmit | bitReceive, duration: 5 * time.Second, bytes: MostBytes, connections: 2}
	for name, goOn := range map[string]func(c *peer, m message){
		"leaves": func(*peer, message) {},
		"one of two connections": func(c *peer, m message) {
			d := dialTest(t, s)
			m.kind, m.directions = kindData, bitTransmit
			d.send(m)
			d.send(m) // and the same index again
		},
		"in the middle": func(c *peer, m message) {
			m.kind, m.directions = kindData, bitTransmit
			for i := range 2 {
				m.index = uint8(i)
				d := dialTest(t, s)
				d.send(m)
				_, err := d.Write(make([]byte, 100_000))
				require.NoError(t, err)
			}
		},
		"chatters": func(c *peer, m message) { c.send(m) },
	} {
		t.Run(name, func(t *testing.T) {
			var m message
			var c *peer
			require.Eventually(t, func() bool { // it may rest
				c = dialTest(t, s)
				c.send(ask)
				m = c.hear()
				return m.code == codeAgreed
			}, 20*time.Second, 20*time.Millisecond)
			goOn(c, m)
			c.Close()
		})
	}
	t.Run("waits", func(t *testing.T) {
		require.Eventually(t, func() bool {
			c := dialTest(t, s)
			c.send(ask)
			if c.hear().code != codeAgreed {
				return false
			}
			began := time.Now()
			assert.Empty(t, c.closed())
			assert.Less(t, time.Since(began), helloTime+3*time.Second)
			return true
		}, 20*time.Second, 20*time.Millisecond)
	})
	measured(t, request(s.Addr(), tool.Receive))
}

// scripted is a server of the test's, which plays one part for each connection.
func scripted(t *testing.T, parts ...func(c *peer)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				parts[min(i, len(parts)-1)](&peer{c, t})
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

func TestMeasure_serversThatAreNone(t *testing.T) {
	// agree plays a server until the data come.
	agree := func(change func(m *message)) func(c *peer) {
		return func(c *peer) {
			m := c.hear()
			m.kind = kindAnswer
			change(&m)
			c.send(m)
			_, _ = io.Copy(io.Discard, c)
		}
	}
	drop := func(c *peer) { _, _ = io.Copy(io.Discard, c) }
	const none = "no bandwidth server of netmon"
	for name, tt := range map[string]struct {
		direction tool.Direction
		parts     []func(c *peer)
		want      string
	}{
		"ssh":         {parts: []func(*peer){func(c *peer) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")); drop(c) }}, want: none},
		"garbage":     {parts: []func(*peer){func(c *peer) { _, _ = c.Write(bytes.Repeat([]byte{7}, 1<<20)); drop(c) }}, want: none},
		"silent":      {parts: []func(*peer){drop}, want: "no answer from"},
		"closes":      {parts: []func(*peer){func(c *peer) { c.hear() }}, want: "closed the connection"},
		"half":        {parts: []func(*peer){func(c *peer) { c.hear(); _, _ = c.Write([]byte("netmonBW")) }}, want: "closed the connection"},
		"echo":        {parts: []func(*peer){func(c *peer) { _, _ = io.Copy(c, c) }}, want: none},
		"other nonce": {parts: []func(*peer){agree(func(m *message) { m.nonce[0]++ })}, want: none},
		"version 2": {parts: []func(*peer){func(c *peer) {
			m := c.hear()
			b := m.encode()
			b[9], b[10] = 2, byte(kindAnswer)
			_, _ = c.Write(b[:])
			drop(c)
		}}, want: "speaks version 2 of netmon's test and this is version 1"},
		"no connections": {parts: []func(*peer){agree(func(m *message) { m.connections = 0 })}, want: none},
		"many answers": {parts: []func(*peer){func(c *peer) {
			m := c.hear()
			m.kind = kindAnswer
			for range 100 {
				c.send(m)
			}
			drop(c)
		}}, want: none},
		"leaves the test": {parts: []func(*peer){func(c *peer) {
			m := c.hear()
			m.kind = kindAnswer
			c.send(m)
			time.Sleep(50 * time.Millisecond)
		}, drop}, want: "the test ended early"},
		"drops the data": {parts: []func(*peer){agree(func(*message) {}), func(c *peer) { c.hear() }}, want: "the connection broke"},
		"no result": {parts: []func(*peer){func(c *peer) {
			m := c.hear()
			m.kind = kindAnswer
			c.send(m)
			_, _ = io.CopyN(io.Discard, c, 1)
		}, drop}, want: "the test"},
		"more than was sent": {parts: []func(*peer){func(c *peer) {
			m := c.hear()
			m.kind = kindAnswer
			c.send(m)
			time.Sleep(600 * time.Millisecond)
			m.kind, m.bytes, m.duration = kindResult, 1<<50, time.Second
			c.send(m)
			drop(c)
		}, drop}, want: none},
		"sends nothing": {direction: tool.Receive, parts: []func(*peer){agree(func(*message) {}), drop}, want: "nothing came for 5 s"},
		"sends an end":  {direction: tool.Receive, parts: []func(*peer){agree(func(*message) {}), func(c *peer) { c.hear() }}, want: "no answer from"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direction := tool.Transmit
			if tt.direction != "" {
				direction = tt.direction
			}
			r := request(scripted(t, tt.parts...), direction)
			r.Timeout = 7 * time.Second
			began := time.Now()
			assert.Contains(t, errorOf(t, r), tt.want)
			assert.Less(t, time.Since(began), 15*time.Second)
		})
	}
}

// A server cannot make the asking end send or take more than it asked for.
func TestMeasure_limitsAreThisEnds(t *testing.T) {
	var sent atomic.Int64
	to := scripted(t, func(c *peer) {
		m := c.hear()
		m.kind, m.duration, m.bytes, m.connections = kindAnswer, time.Hour, 1<<60, MostConnections
		c.send(m)
		_, _ = io.Copy(io.Discard, c)
	}, func(c *peer) {
		n, _ := io.Copy(io.Discard, c)
		sent.Add(n - messageBytes)
	})
	r := request(to, tool.Transmit)
	r.Bytes, r.Timeout = 1_000_000, 2*time.Second
	errorOf(t, r)
	require.Eventually(t, func() bool { return sent.Load() == 1_000_000 }, 5*time.Second, time.Millisecond)
	for range 10 {
		time.Sleep(time.Millisecond)
		require.EqualValues(t, 1_000_000, sent.Load())
	}
}

func TestMeasure_nobodyWantsItAnyMore(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	for _, direction := range []tool.Direction{tool.Transmit, tool.Receive} {
		var unwanted atomic.Bool
		r := request(s.Addr(), direction)
		r.Duration, r.Stop = 5*time.Second, unwanted.Load
		go func() {
			time.Sleep(200 * time.Millisecond)
			unwanted.Store(true)
		}()
		began := time.Now()
		require.Eventually(t, func() bool {
			one := Measure(r, clock.System())[0]
			return one.Err != nil && one.Err.Error() == tool.ErrStopped.Error()
		}, 10*time.Second, time.Millisecond)
		assert.Less(t, time.Since(began), 3*time.Second)
	}
}

// Both ends' sockets can be told from those of the job.
func TestSockets_areMarked(t *testing.T) {
	s := serve(t, "127.0.0.1:0")
	r := request(s.Addr(), tool.Transmit)
	r.Connections = 2
	ended := make(chan []tool.Result)
	go func() { ended <- Measure(r, clock.System()) }()
	found := 0
	require.Eventually(t, func() bool {
		found = 0
		for fd := range 128 {
			name, err := unix.Getsockname(fd)
			v4, is := name.(*unix.SockaddrInet4)
			remote, _ := unix.Getpeername(fd)
			there, connected := remote.(*unix.SockaddrInet4)
			if err != nil || !is || v4.Port != int(s.Addr().Port()) && (!connected || there.Port != int(s.Addr().Port())) {
				continue
			}
			mark, err := unix.GetsockoptInt(fd, unix.SOL_TCP, unix.TCP_USER_TIMEOUT)
			if err != nil {
				continue
			}
			require.Equal(t, probe.SocketMark, mark)
			for _, half := range []int{unix.IP_MULTICAST_LOOP, unix.IP_MULTICAST_ALL} {
				on, err := unix.GetsockoptInt(fd, unix.SOL_IP, half)
				require.NoError(t, err)
				require.Zero(t, on)
			}
			found++
		}
		return found >= 7 // the listener, control and two data connections, at both ends
	}, 10*time.Second, time.Millisecond, "%d", &found)
	<-ended
}

// The host closes every descriptor it did not open.
func TestServer_hostClosesTheSocket(t *testing.T) {
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), clock.System())
	require.NoError(t, err)
	fd := s.listener.Number()
	ended := make(chan error)
	go func() { ended <- s.Serve() }()
	var other [2]int
	require.NoError(t, unix.Pipe2(other[:], unix.O_CLOEXEC))
	require.NoError(t, unix.Dup3(other[0], fd, unix.O_CLOEXEC))
	require.ErrorIs(t, <-ended, kernelfs.ErrForeign)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err, "what the host has under the number stays open")
	for _, one := range []int{fd, other[0], other[1]} {
		unix.Close(one)
	}
}

// TestMain lets TestMeasure_opensNoPoller run a process in which nothing but a test happened.
func TestMain(m *testing.M) {
	if os.Getenv("NETMON_TEST_POLLER") == "" {
		os.Exit(m.Run())
	}
	s, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), clock.System())
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve() }()
	results := Measure(request(s.Addr(), tool.Transmit, tool.Receive), clock.System())
	s.Close()
	fmt.Println("error:", results[0].Err, results[1].Err, <-ended)
	for fd := range 64 {
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil {
			fmt.Println(target)
		}
	}
}

// Go's poller must stay unopened: a host that closes its descriptors would be aborted.
func TestMeasure_opensNoPoller(t *testing.T) {
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), "NETMON_TEST_POLLER=1")
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "error: <nil> <nil> <nil>")
	for _, kind := range []string{"eventpoll", "eventfd", "socket:"} {
		assert.NotContains(t, string(out), kind)
	}
}

func TestMessage_thereAndBack(t *testing.T) {
	m := message{
		version: version, kind: kindResult, code: codeFailed, directions: 3, connections: 8, index: 7, nonce: [16]byte{1, 2, 15: 3},
		duration: time.Minute, bytes: 1<<64 - 1, resent: 77, rtt: time.Millisecond,
	}
	b := m.encode()
	got, ok := decode(b[:])
	require.True(t, ok)
	assert.Equal(t, m, got)
}

func FuzzDecode(f *testing.F) {
	for _, m := range []message{{kind: kindAsk, directions: 3, connections: 8}, {kind: kindResult, bytes: 1 << 63}, {kind: kindData, index: 7}} {
		b := m.encode()
		f.Add(b[:])
		b[9]++
		f.Add(b[:])
	}
	f.Add([]byte("netmonBW"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := decode(b)
		if !ok || m.version != version {
			return
		}
		again := m.encode()
		require.Equal(t, b, again[:])
		l := m.limited()
		require.True(t, l.duration >= LeastDuration && l.duration <= MostDuration && l.bytes >= 1 && l.bytes <= MostBytes)
		require.True(t, l.connections >= 1 && l.connections <= MostConnections)
	})
}
