package probe_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"netmon/core/nettest"
	"netmon/core/probe"
	"netmon/core/probe/udp"
)

func openUDP(t testing.TB) *udp.Prober {
	t.Helper()
	p, err := udp.New()
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

// respond runs a responder in the host, in this process.
func respond(h *nettest.Host, at string) *udp.Responder {
	h.T.Helper()
	var r *udp.Responder
	h.Do(func() {
		var err error
		r, err = udp.Listen(netip.MustParseAddrPort(at))
		require.NoError(h.T, err)
	})
	served := make(chan error)
	go func() { served <- r.Serve() }()
	h.T.Cleanup(func() {
		r.Close()
		assert.NoError(h.T, <-served)
	})
	return r
}

const asResponder = "NETMON_TEST_RESPONDER"

// TestMain runs a responder instead of the tests where another test asks for one.
func TestMain(m *testing.M) {
	at := os.Getenv(asResponder)
	if at == "" {
		os.Exit(m.Run())
	}
	r, err := udp.Listen(netip.MustParseAddrPort(at))
	if err == nil {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // until the test is over, however it ends
			r.Close()
		}()
		fmt.Println(r.Addr())
		err = r.Serve()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// respondApart runs a responder in the host, in a process of its own.
func respondApart(h *nettest.Host, at string) *os.Process {
	h.T.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), asResponder+"="+at)
	stdin, err := command.StdinPipe()
	require.NoError(h.T, err)
	stdout, err := command.StdoutPipe()
	require.NoError(h.T, err)
	h.Do(func() { require.NoError(h.T, command.Start()) })
	h.T.Cleanup(func() {
		_ = command.Process.Signal(unix.SIGCONT)
		stdin.Close()
		_ = command.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(h.T, err)
	require.Equal(h.T, at, strings.TrimSpace(line))
	return command.Process
}

// stop stops a process, and returns when all its threads have stopped.
func stop(t *testing.T, process *os.Process) {
	t.Helper()
	require.NoError(t, process.Signal(unix.SIGSTOP))
	require.Eventually(t, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", process.Pid))
		require.NoError(t, err)
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if _, rest, found := strings.Cut(string(text), ") "); err != nil || !found || rest[0] != 'T' {
				return false
			}
		}
		return len(threads) > 0
	}, 10*time.Second, time.Millisecond)
}

func TestUDP_answered(t *testing.T) {
	_, there := nettest.Pair(t)
	r := respond(there, "[::]:29541")
	assert.Equal(t, "[::]:29541", r.Addr().String())
	p := openUDP(t)
	var want uint64
	for range 5 { // enough for every source port
		for _, address := range []string{nettest.There4, nettest.There6, "fe80::2%eth0", "::ffff:" + nettest.There4} {
			want++
			result := one(t, p, to(address, 29541), want)
			assert.NoError(t, result.Err, address)
			assert.Equal(t, probe.UDP, result.Method)
			assert.Greater(t, result.RTT, time.Microsecond, address)
			assert.Less(t, result.RTT, 100*time.Millisecond, address)
		}
	}
	assert.Eventually(t, func() bool {
		c := r.Counters()
		c.CPU = 0
		return c == udp.Counters{Answered: want}
	}, 5*time.Second, time.Millisecond, "%+v", r.Counters())
	assert.LessOrEqual(t, len(p.Descriptors(nil)), 8)
}

// A host with two addresses answers from the one that was asked, though it would choose the other.
func TestUDP_answersFromTheAddressAsked(t *testing.T) {
	here, there := nettest.Pair(t)
	there.Run("ip addr add 10.77.0.1/32 dev lo", "ip addr add fd77::1/128 dev lo")
	here.Run("ip route add 10.77.0.1 via "+nettest.There4, "ip route add fd77::1 via "+nettest.There6)
	here.AwaitAnswer("fd77::1")
	respond(there, "[::]:29541")
	p := openUDP(t)
	assert.NoError(t, one(t, p, to("10.77.0.1", 29541), 1).Err)
	assert.NoError(t, one(t, p, to("fd77::1", 29541), 2).Err)
}

func TestUDP_listen(t *testing.T) {
	nettest.Pair(t)
	r, err := udp.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	require.NoError(t, err)
	assert.NotZero(t, r.Addr().Port())
	_, err = udp.Listen(r.Addr())
	assert.ErrorIs(t, err, unix.EADDRINUSE)
	assert.ErrorContains(t, err, r.Addr().String())
	r.Close()
	r.Close()
	assert.NoError(t, r.Serve(), "after Close")
	again, err := udp.Listen(r.Addr())
	require.NoError(t, err, "its port is free")
	again.Close()
	_, err = udp.Listen(netip.MustParseAddrPort("10.1.2.3:0"))
	assert.ErrorIs(t, err, unix.EADDRNOTAVAIL)
}

func TestUDP_noResponder(t *testing.T) {
	nettest.Pair(t)
	p := openUDP(t)
	for i, address := range []string{nettest.There4, nettest.There6} {
		r := one(t, p, to(address, 29541), uint64(i))
		assert.ErrorIs(t, r.Err, unix.ECONNREFUSED)
		assert.EqualError(t, r.Err, "no responder at port 29541: port unreachable, said by "+address)
	}
	_, err := p.Send(to(nettest.There4, 0), 9)
	assert.ErrorIs(t, err, unix.EINVAL)
}

// The responder's process is stopped while the question is on its way to it. The network was not slower for that.
func TestUDP_dwellIsSubtracted(t *testing.T) {
	_, there := nettest.Pair(t)
	process := respondApart(there, nettest.There4+":29541")
	p := openUDP(t)
	require.NoError(t, one(t, p, to(nettest.There4, 29541), 1).Err)
	const stopped = 300 * time.Millisecond
	for token := uint64(2); token < 5; token++ {
		stop(t, process)
		began := time.Now()
		_, err := p.Send(to(nettest.There4, 29541), token)
		require.NoError(t, err)
		assert.Empty(t, await(t, p, 1, stopped))
		require.NoError(t, process.Signal(unix.SIGCONT))
		got := await(t, p, 1, 10*time.Second)
		require.Len(t, got, 1)
		require.NoError(t, got[0].Err)
		assert.GreaterOrEqual(t, time.Since(began), stopped)
		assert.Greater(t, got[0].RTT, time.Microsecond)
		assert.Less(t, got[0].RTT, stopped/10, "of what was a busy host")
		t.Log(got[0].RTT)
	}
}

// forge opens a UDP socket in the host.
func forge(h *nettest.Host, port int) (fd int) {
	h.T.Helper()
	h.Do(func() {
		var err error
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		require.NoError(h.T, err)
		require.NoError(h.T, unix.Bind(fd, &unix.SockaddrInet4{Port: port}))
		require.NoError(h.T, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	})
	h.T.Cleanup(func() { unix.Close(fd) })
	return fd
}

// A false responder plays every trick: none of its answers may become a round trip, until the right one comes.
func TestUDP_onlyTheRightAnswerCounts(t *testing.T) {
	_, there := nettest.Pair(t)
	there.Run("ip addr add 10.9.0.3/24 dev far0")
	asked, other := forge(there, 29541), forge(there, 29542)
	p := openUDP(t)
	_, err := p.Send(to(nettest.There4, 29541), 1)
	require.NoError(t, err)
	question := make([]byte, 200)
	n, from, err := unix.Recvfrom(asked, question, 0)
	require.NoError(t, err)
	require.Equal(t, 48, n)
	question = question[:n]
	spoilt := func(change func(b []byte)) []byte {
		b := append([]byte(nil), question...)
		b[5] = 2 // an answer
		change(b)
		return b
	}
	right := spoilt(func([]byte) {})
	for name, b := range map[string][]byte{
		"nothing":         {},
		"the question":    question,
		"truncated":       right[:47],
		"longer":          append(spoilt(func([]byte) {}), 0),
		"another nonce":   spoilt(func(b []byte) { b[9]++ }),
		"another number":  spoilt(func(b []byte) { b[23]++ }),
		"another version": spoilt(func(b []byte) { b[4]++ }),
	} {
		require.NoError(t, unix.Sendto(asked, b, 0, from), name)
	}
	require.NoError(t, unix.Sendto(other, right, 0, from), "from another port")
	assert.Empty(t, await(t, p, 1, 100*time.Millisecond))
	require.NoError(t, unix.Sendto(asked, right, 0, from))
	require.NoError(t, unix.Sendto(asked, right, 0, from), "twice")
	got := await(t, p, 2, 100*time.Millisecond)
	require.Len(t, got, 1)
	assert.NoError(t, got[0].Err)

	// A responder that claims to have held the question for longer than it was away, or not to know.
	for token, dwell := range [][]byte{{0, 0, 0, 1, 0, 0, 0, 0}, {255, 255, 255, 255, 255, 255, 255, 255}} {
		_, err = p.Send(to(nettest.There4, 29541), uint64(token))
		require.NoError(t, err)
		n, from, err = unix.Recvfrom(asked, question[:cap(question)], 0)
		require.NoError(t, err)
		question = question[:n]
		require.NoError(t, unix.Sendto(asked, spoilt(func(b []byte) { copy(b[24:], dwell) }), 0, from))
		got = await(t, p, 1, 10*time.Second)
		require.Len(t, got, 1)
		assert.ErrorIs(t, got[0].Err, probe.ErrVoid)
	}
}

// Whatever is sent to a responder, it sends out no more than it got, and goes on answering.
func TestUDP_responderUnderAttack(t *testing.T) {
	here, there := nettest.Pair(t)
	r := respond(there, nettest.There4+":29541")
	p := openUDP(t)
	require.NoError(t, one(t, p, to(nettest.There4, 29541), 1).Err)

	attacker := forge(here, 29541) // its port is a responder's, so answers to it would be answered by a worse one
	target := &unix.SockaddrInet4{Port: 29541, Addr: netip.MustParseAddr(nettest.There4).As4()}
	observer := forge(here, 29599)
	question := make([]byte, 200)
	_, err := p.Send(to(nettest.Here4, 29599), 2) // over loopback, to see what a question looks like
	require.NoError(t, err)
	n, _, err := unix.Recvfrom(observer, question, 0)
	require.NoError(t, err)
	question = question[:n]
	p.Forget(2)

	garbage := 0
	send := func(b []byte) {
		for {
			err := unix.Sendto(attacker, b, 0, target)
			if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
				continue
			}
			require.NoError(t, err)
			return
		}
	}
	for length := range 100 { // of bytes, truncated questions, answers, too long
		send(make([]byte, length))
		garbage++
		if length < len(question) {
			send(question[:length])
			garbage++
		}
	}
	send(append(append([]byte(nil), question...), make([]byte, 1000)...))
	anAnswer := append([]byte(nil), question...)
	anAnswer[5] = 2
	send(anAnswer)
	garbage += 2
	require.Eventually(t, func() bool { return r.Counters().Garbage == uint64(garbage) }, 5*time.Second, time.Millisecond, "%+v", r.Counters())
	assert.Equal(t, uint64(1), r.Counters().Answered, "nothing of it was answered")

	// A flood of good questions, from one source: 100 at once and 500 a second are answered.
	began := time.Now()
	for range 20_000 {
		send(question)
	}
	flood := time.Since(began)
	require.NoError(t, unix.SetNonblock(attacker, true))
	answers, bytes := 0, 0
	buffer := make([]byte, 2000)
	for idle := 0; idle < 50; {
		n, _, err := unix.Recvfrom(attacker, buffer, 0)
		if err != nil {
			idle++
			time.Sleep(2 * time.Millisecond)
			continue
		}
		answers++
		bytes += n
		assert.Equal(t, len(question), n)
	}
	assert.LessOrEqual(t, answers, 100+int(500*(flood+time.Second).Seconds()))
	assert.Positive(t, answers)
	assert.LessOrEqual(t, bytes, 20_000*len(question))
	c := r.Counters()
	assert.Positive(t, c.Limited)
	assert.Zero(t, c.Failed)

	// Then it answers as before.
	time.Sleep(300 * time.Millisecond)
	assert.NoError(t, one(t, p, to(nettest.There4, 29541), 3).Err)
}

// Questions to a broadcast address get no answer: many hosts would answer one packet.
func TestUDP_responderIgnoresBroadcasts(t *testing.T) {
	here, there := nettest.Pair(t)
	r := respond(there, "0.0.0.0:29541")
	p := openUDP(t)
	asked := forge(here, 29599)
	_, err := p.Send(to(nettest.Here4, 29599), 1)
	require.NoError(t, err)
	question := make([]byte, 200)
	n, _, err := unix.Recvfrom(asked, question, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptInt(asked, unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
	require.NoError(t, unix.Sendto(asked, question[:n], 0, &unix.SockaddrInet4{Port: 29541, Addr: [4]byte{10, 9, 0, 255}}))
	require.Eventually(t, func() bool { return r.Counters().Failed == 1 }, 5*time.Second, time.Millisecond)
	assert.Zero(t, r.Counters().Answered)
}
