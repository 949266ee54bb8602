package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/probe"
	"netmon/core/probe/path"
)

const ms = time.Millisecond

// many makes targets 10.0.0.1 and following that answer.
func (w *world) many(n int, rtt time.Duration) (texts []string) {
	for i := range n {
		address := netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(1 + i%250)})
		w.behave["icmp "+address.String()] = after(rtt)
		texts = append(texts, address.String())
	}
	return texts
}

func TestLoop_fiftyTargetsOnceASecond(t *testing.T) {
	w := newWorld(t)
	texts := w.many(50, 100*time.Microsecond)
	for i, text := range texts[1:] {
		w.behave["icmp "+text] = after(time.Duration(80+i) * time.Microsecond) // one by one
	}
	w.plan(Plan{}, texts...)
	w.pass(2 * time.Second)
	for range 20 {
		begin, waits := len(w.sent), w.waits
		w.pass(time.Second)
		bySlot := make(map[time.Duration]int)
		byTarget := make(map[netip.Addr]int)
		for _, s := range w.sent[begin:] {
			bySlot[s.at]++
			byTarget[s.to.Addr()]++
		}
		assert.Len(t, byTarget, 50)
		for target, times := range byTarget {
			assert.Equal(t, 1, times, "%v", target)
		}
		assert.Len(t, bySlot, 5, "sending times are spread over the interval")
		for at, times := range bySlot {
			assert.Equal(t, 10, times, "at %v", at)
		}
		assert.LessOrEqual(t, w.waits-waits, 16, "three system calls to wait for each of five groups")
	}
	w.pass(50 * ms) // the last answers are read
	r := w.result("10.0.0.1")
	assert.Equal(t, probe.ICMP, r.Method)
	assert.Zero(t, r.Lost)
	assert.InDelta(t, 100e-6, r.P50, 1e-12)
	assert.Empty(t, r.Error)
	assert.Equal(t, 84*len(w.sent), w.bytes)
	assert.Equal(t, uint64(len(w.sent)), w.loop.results.Sent)
	assert.InDelta(t, 103e-6, w.loop.results.P50, 1e-6)
}

func TestLoop_firstProbesComeSoonHoweverLongTheInterval(t *testing.T) {
	w := newWorld(t)
	w.plan(Plan{Interval: time.Hour}, w.many(20, ms)...)
	w.pass(time.Second)
	assert.Len(t, w.sent, 20)
	w.pass(time.Hour)
	assert.InDelta(t, 30, len(w.sent), 10, "then they are spread")
	w.pass(time.Hour)
	w.pass(time.Hour)
	assert.InDelta(t, 70, len(w.sent), 10)
	first, last := w.sent[len(w.sent)-20].at, w.sent[len(w.sent)-1].at
	assert.InDelta(t, (57 * time.Minute).Seconds(), (last - first).Seconds(), 1, "over the whole interval")
	assert.Equal(t, uint64(1), w.result("10.0.0.1").Sent, "what is older than the window counts no more")
}

func TestLoop_underWayIsNeitherSentNorLost(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = after(900 * ms)
	w.plan(Plan{}, "10.0.0.2")
	w.pass(500 * ms)
	require.Len(t, w.sent, 1)
	r := w.result("10.0.0.2")
	assert.Zero(t, r.Sent)
	assert.Empty(t, r.Method, "not known before it worked")
	w.pass(450 * ms)
	r = w.result("10.0.0.2")
	assert.Equal(t, [3]uint64{1, 1, 0}, [3]uint64{r.Sent, r.Received, r.Lost})
	assert.InDelta(t, 0.9, r.Last, 1e-9)
	assert.Equal(t, 900*ms, r.Window)
}

func TestLoop_lostAfterTheTimeout(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = func(n int) end { return end{rtt: ms, dropped: n%4 == 3} }
	w.plan(Plan{Timeout: 250 * ms}, "10.0.0.2")
	w.pass(3500 * ms)
	r := w.result("10.0.0.2")
	assert.Equal(t, [3]uint64{4, 3, 1}, [3]uint64{r.Sent, r.Received, r.Lost})
	assert.Equal(t, "no answer within 0.25 s", r.Error)
	ended := r.Ended
	w.pass(time.Second)
	r = w.result("10.0.0.2")
	assert.Empty(t, r.Error, "answers come again")
	assert.Equal(t, uint64(1), r.Lost)
	assert.Greater(t, r.Ended, ended)
}

func TestLoop_answersThatComeAfterTheTimeoutAreLost(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = after(1200 * ms)
	w.plan(Plan{Interval: 5 * time.Second}, "icmp://10.0.0.2")
	w.stall = 3 * time.Second
	w.loop.turn()
	w.stall = 3 * time.Second // both the answer and the timeout are there when the thread runs again
	w.pass(4 * time.Second)
	r := w.result("icmp://10.0.0.2")
	assert.Equal(t, [3]uint64{1, 0, 1}, [3]uint64{r.Sent, r.Received, r.Lost})
}

// A thread that does not get to run for long must not find its probes lost: the answers came in time.
func TestLoop_aStalledThreadLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = after(10 * ms)
	w.plan(Plan{}, "10.0.0.2")
	for range 50 {
		w.stall = 7 * time.Second
		w.loop.turn()
	}
	w.pass(100 * ms)
	r := w.result("10.0.0.2")
	assert.NotZero(t, r.Received)
	assert.Zero(t, r.Lost)

	// Nor when it stops between reading what came and looking at the time.
	w.behave["icmp 10.0.0.3"], w.behave["icmp 10.0.0.4"] = after(300*ms), after(500*ms)
	w.plan(Plan{Interval: time.Hour}, "icmp://10.0.0.3", "icmp://10.0.0.4")
	for range 2 * quickly / (10 * ms) {
		w.pass(10 * ms)
		if len(w.loop.flights) == 2 {
			break
		}
	}
	require.Len(t, w.loop.flights, 2)
	w.late = 5 * time.Second
	w.pass(time.Second)
	w.pass(time.Second)
	r = w.result("icmp://10.0.0.4")
	assert.Equal(t, [3]uint64{1, 1, 0}, [3]uint64{r.Sent, r.Received, r.Lost})
}

func TestLoop_window(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = func(n int) end { return end{rtt: time.Duration(n+1) * ms, dropped: n >= 100} }
	w.plan(Plan{}, "10.0.0.2")
	w.pass(99*time.Second + 900*ms)
	r := w.result("10.0.0.2")
	assert.Equal(t, uint64(60), r.Sent)
	assert.InDelta(t, 41e-3, r.Min, 1e-9)
	assert.InDelta(t, 70.5e-3, r.P50, 1e-9)
	assert.InDelta(t, 99.41e-3, r.P99, 1e-9)
	assert.InDelta(t, 100e-3, r.Last, 1e-9)
	assert.InDelta(t, 1e-3, r.Jitter, 1e-9)
	assert.InDelta(t, 59.1, r.Window.Seconds(), 0.01)
	w.pass(30 * time.Second)
	r = w.result("10.0.0.2")
	assert.InDelta(t, 0.5, float64(r.Lost)/float64(r.Sent), 0.05)
	w.pass(60 * time.Second)
	r = w.result("10.0.0.2")
	assert.Equal(t, r.Sent, r.Lost)
	assert.Equal(t, probe.ICMP, r.Method, "a method that has worked is kept")
	assert.Empty(t, r.Refused)
	assert.Zero(t, w.to(probe.TCP, ""))
	assert.Empty(t, w.loop.round)
}

func TestLoop_methodThatIsNotAllowed(t *testing.T) {
	w := newWorld(t)
	w.refuse[probe.ICMP] = fmt.Errorf("icmp: permission denied: needs CAP_NET_RAW or ping_group_range: %w", syscall.EACCES)
	w.behave["tcp 10.0.0.2"] = refusal
	w.plan(Plan{Port: 29500}, "10.0.0.2", "icmp://10.0.0.2", "10.0.0.2:80")
	w.pass(10 * time.Second)
	r := w.result("10.0.0.2")
	assert.Equal(t, probe.TCPRefused, r.Method)
	assert.Equal(t, uint16(29500), r.Port)
	assert.Equal(t, map[string]string{"icmp": "icmp: permission denied: needs CAP_NET_RAW or ping_group_range: permission denied"}, r.Refused)
	assert.Empty(t, r.Error)
	assert.InDelta(t, 10, float64(r.Received), 1)
	assert.Zero(t, r.Lost)
	assert.Equal(t, uint16(80), w.result("10.0.0.2:80").Port)

	r = w.result("icmp://10.0.0.2")
	assert.Contains(t, r.Error, "ping_group_range")
	assert.Zero(t, r.Sent)
	assert.Equal(t, probe.ICMP, r.Method)

	// It is tried again, and then better.
	delete(w.refuse, probe.ICMP)
	w.behave["icmp 10.0.0.2"] = after(ms)
	w.pass(3 * time.Minute)
	r = w.result("10.0.0.2")
	assert.Equal(t, probe.ICMP, r.Method)
	assert.Empty(t, r.Refused)
	assert.InDelta(t, 1e-3, r.Min, 1e-9, "round trips of the other method are gone")
	assert.Empty(t, w.result("icmp://10.0.0.2").Error)
}

func TestLoop_methodThatIsNeverAnswered(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = silence
	w.behave["tcp 10.0.0.2"] = after(2 * ms)
	w.plan(Plan{}, "10.0.0.2:29500")
	w.pass(10 * time.Second)
	r := w.result("10.0.0.2:29500")
	assert.Equal(t, probe.TCP, r.Method)
	assert.Equal(t, map[string]string{"icmp": "no answer to 3 echo requests"}, r.Refused)
	assert.Zero(t, r.Lost, "what a filter swallowed is no loss of the network")
	assert.NotZero(t, r.Received)
	assert.Empty(t, r.Error)
	icmp := w.to(probe.ICMP, "")
	w.pass(10 * time.Minute)
	assert.InDelta(t, 10, w.to(probe.ICMP, "")-icmp, 1, "once a minute the better method is tried")
	r = w.result("10.0.0.2:29500")
	assert.Zero(t, r.Lost)
	assert.Equal(t, uint64(60), r.Sent)
}

func TestLoop_deadTargetIsLost(t *testing.T) {
	w := newWorld(t)
	alive := false
	die := func(int) end { return end{rtt: ms, dropped: !alive} }
	w.behave["icmp 10.0.0.2"], w.behave["tcp 10.0.0.2"] = die, die
	w.plan(Plan{}, "10.0.0.2")
	w.pass(30 * time.Second)
	r := w.result("10.0.0.2")
	assert.InDelta(t, 29, float64(r.Lost), 1.5)
	assert.Equal(t, r.Sent, r.Lost)
	assert.Equal(t, "no answer within 1 s", r.Error)
	assert.NotZero(t, w.to(probe.TCP, ""), "both ways are tried")

	alive = true
	w.pass(10 * time.Second)
	r = w.result("10.0.0.2")
	assert.Equal(t, probe.ICMP, r.Method, "whichever answered first, the better one is found")
	assert.Empty(t, r.Refused)
	assert.Empty(t, r.Error)
}

func TestLoop_networkErrors(t *testing.T) {
	w := newWorld(t)
	down := true
	w.behave["icmp 10.0.0.2"] = func(int) end {
		if down {
			return end{sendErr: fmt.Errorf("no route to host: %w", syscall.ENETUNREACH)}
		}
		return end{rtt: ms}
	}
	w.behave["icmp 10.0.0.3"] = always(end{rtt: ms, err: fmt.Errorf("host unreachable, said by 10.0.0.1: %w", syscall.EHOSTUNREACH)})
	w.plan(Plan{}, "icmp://10.0.0.2", "icmp://10.0.0.3")
	w.pass(5 * time.Second)
	r := w.result("icmp://10.0.0.2")
	assert.Contains(t, r.Error, "no route to host")
	assert.Equal(t, r.Sent, r.Lost)
	assert.NotZero(t, r.Lost)
	r = w.result("icmp://10.0.0.3")
	assert.Contains(t, r.Error, "said by 10.0.0.1")
	assert.Equal(t, r.Sent, r.Lost)

	down = false // the interface is up again
	w.pass(2 * time.Second)
	r = w.result("icmp://10.0.0.2")
	assert.Empty(t, r.Error)
	assert.InDelta(t, 2, float64(r.Received), 1)
}

func TestLoop_ownTroubleIsNoLoss(t *testing.T) {
	w := newWorld(t)
	w.behave["tcp 10.0.0.2"] = always(end{sendErr: fmt.Errorf("tcp: %w", syscall.EMFILE)})
	w.behave["icmp 10.0.0.2"] = always(end{rtt: ms, err: fmt.Errorf("the clock was stepped: %w", probe.ErrVoid)})
	w.plan(Plan{}, "tcp://10.0.0.2", "icmp://10.0.0.2")
	w.pass(5 * time.Second)
	for text, word := range map[string]string{"tcp://10.0.0.2": "too many open files", "icmp://10.0.0.2": "stepped"} {
		r := w.result(text)
		assert.Zero(t, r.Sent, text)
		assert.Contains(t, r.Error, word)
	}
}

func TestLoop_refusedOrAccepted(t *testing.T) {
	w := newWorld(t)
	w.behave["tcp 10.0.0.2"] = func(n int) end {
		if n < 5 {
			return end{rtt: 8 * ms, method: probe.TCPRefused}
		}
		return end{rtt: ms}
	}
	w.plan(Plan{}, "tcp://10.0.0.2:29500")
	w.pass(4500 * ms)
	assert.Equal(t, probe.TCPRefused, w.result("tcp://10.0.0.2:29500").Method)
	w.pass(4 * time.Second)
	r := w.result("tcp://10.0.0.2:29500")
	assert.Equal(t, probe.TCP, r.Method)
	assert.Equal(t, uint64(4), r.Received)
	assert.InDelta(t, 1e-3, r.P99, 1e-9)
}

func TestLoop_names(t *testing.T) {
	w := newWorld(t)
	one, two := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	w.behave["icmp 10.0.0.2"], w.behave["icmp 10.0.0.3"] = after(ms), after(2*ms)
	w.lookups["slow"] = lookup{takes: time.Hour}
	w.plan(Plan{}, "node7", "nobody", "slow", "icmp://nobody")
	w.lookups["node7"] = lookup{addresses: []netip.Addr{netip.MustParseAddr("2001:db8::2"), one}, takes: 20 * ms}
	w.pass(5 * time.Second)
	r := w.result("node7")
	assert.Equal(t, one, r.Address, "IPv4 first")
	assert.NotZero(t, r.Received)
	assert.Empty(t, r.Error)
	for text, word := range map[string]string{"nobody": "NXDOMAIN", "icmp://nobody": "NXDOMAIN", "slow": "127.0.0.53 did not answer"} {
		r := w.result(text)
		assert.Contains(t, r.Error, word, text)
		assert.Zero(t, r.Sent)
		assert.False(t, r.Address.IsValid())
	}
	asked := w.asked
	w.pass(time.Minute)
	assert.Less(t, w.asked-asked, 2+13+13, "three names, those that resolve twice a minute")

	// The name comes to mean another address.
	w.lookups["node7"] = lookup{addresses: []netip.Addr{two}, takes: 20 * ms}
	w.pass(31 * time.Second)
	r = w.result("node7")
	assert.Equal(t, two, r.Address)
	assert.InDelta(t, 2e-3, r.Min, 1e-9, "the window starts anew")
	assert.Zero(t, r.Lost)

	// An address that is still among those of the name is kept, in whatever order they come.
	w.lookups["node7"] = lookup{addresses: []netip.Addr{one, two}}
	w.pass(31 * time.Second)
	assert.Equal(t, two, w.result("node7").Address)

	// Where the target does not answer any more, that is found out sooner.
	w.behave["icmp 10.0.0.3"] = silence
	w.lookups["node7"] = lookup{addresses: []netip.Addr{one}, takes: 20 * ms}
	w.pass(8 * time.Second)
	assert.Equal(t, one, w.result("node7").Address)

	// A name that stops resolving keeps its address.
	delete(w.lookups, "node7")
	w.pass(2 * time.Minute)
	r = w.result("node7")
	assert.Equal(t, one, r.Address)
	assert.Empty(t, r.Error)

	// And one that begins to is found.
	w.lookups["nobody"] = lookup{addresses: []netip.Addr{one}}
	w.pass(7 * time.Second)
	assert.Empty(t, w.result("nobody").Error)
	assert.NotZero(t, w.result("icmp://nobody").Received)

	// What nobody asks for is not looked up.
	w.plan(Plan{}, "10.0.0.2")
	w.pass(time.Second)
	asked = w.asked
	w.pass(2 * time.Minute)
	assert.Equal(t, asked, w.asked)
	assert.Empty(t, w.loop.names)
}

func TestLoop_resolvingTime(t *testing.T) {
	w := newWorld(t)
	w.lookups["node7"] = lookup{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, takes: 3 * ms}
	w.lookups["slow"] = lookup{takes: time.Hour}
	w.plan(Plan{}, "dns://node7", "dns://nobody", "dns://slow")
	w.pass(10 * time.Second)
	r := w.result("dns://node7")
	assert.Equal(t, probe.DNS, r.Method)
	assert.Equal(t, "10.0.0.2", r.Address.String())
	assert.InDelta(t, 3e-3, r.P50, 1e-9)
	assert.InDelta(t, 10, float64(r.Sent), 1)
	assert.Zero(t, r.Lost)
	r = w.result("dns://slow")
	assert.Equal(t, r.Sent, r.Lost)
	assert.NotZero(t, r.Lost)
	assert.Contains(t, r.Error, "did not answer")
	assert.Contains(t, w.result("dns://nobody").Error, "NXDOMAIN")
}

func TestLoop_gateway(t *testing.T) {
	w := newWorld(t)
	w.plan(Plan{}, "gateway")
	w.pass(time.Second)
	assert.Equal(t, "there is no default gateway", w.result("gateway").Error)
	w.gateway = netip.MustParseAddr("10.0.0.254")
	w.behave["icmp 10.0.0.254"] = after(ms)
	w.pass(6 * time.Second)
	r := w.result("gateway")
	assert.Equal(t, "10.0.0.254", r.Address.String())
	assert.NotZero(t, r.Received)
}

func peers(t *testing.T, texts ...string) (aims []Aim) {
	for _, text := range texts {
		target, err := probe.ParseTarget(text)
		require.NoError(t, err)
		aims = append(aims, Aim{Target: target, Peer: true})
	}
	return aims
}

func (w *world) targets() (texts []string) {
	for _, r := range w.loop.results.Targets {
		texts = append(texts, r.Target)
	}
	return texts
}

func TestLoop_peersThatAreThisHost(t *testing.T) {
	w := newWorld(t)
	w.own = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	w.many(9, ms)
	w.lookups["node0"] = lookup{addresses: []netip.Addr{w.own[0]}}
	w.lookups["node3"] = lookup{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}
	w.plan(Plan{Targets: peers(t, "node0", "127.0.0.1", "::1", "10.0.0.1", "2001:db8::1", "10.0.0.2", "node3", "10.0.0.3", "10.0.0.4")},
		"10.0.0.1", "10.0.0.4", "127.0.0.1")
	w.behave["icmp 127.0.0.1"] = after(ms)
	w.pass(3 * time.Second)
	assert.Equal(t, []string{"10.0.0.2", "node3", "10.0.0.1", "10.0.0.4", "127.0.0.1"}, w.targets(),
		"peers once and not this host; what was named always")
	assert.Positive(t, w.to(probe.ICMP, "10.0.0.1"))
	assert.InDelta(t, w.to(probe.ICMP, "10.0.0.2"), w.to(probe.ICMP, "10.0.0.4"), 1)

	for _, r := range w.loop.results.Targets {
		assert.Equal(t, r.Target != "127.0.0.1" && r.Target != "10.0.0.1", r.Peer, "%s: a peer, or named in place of one", r.Target)
	}

	// An address that this host gets later is seen.
	w.own = append(w.own, netip.MustParseAddr("10.0.0.2"))
	w.pass(ownPeriod + time.Second)
	assert.NotContains(t, w.targets(), "10.0.0.2")
}

func TestLoop_onlyThisHostIsNobody(t *testing.T) {
	w := newWorld(t)
	w.own = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	w.plan(Plan{Targets: peers(t, "10.0.0.1")})
	w.pass(time.Minute)
	assert.Empty(t, w.sent)
	assert.Empty(t, w.targets())
}

func TestLoop_plansThatChange(t *testing.T) {
	w := newWorld(t)
	texts := w.many(3, ms)
	w.plan(Plan{}, texts...)
	w.pass(9900 * ms)
	w.plan(Plan{}, texts[1], texts[2])
	w.pass(10 * time.Second)
	assert.Equal(t, texts[1:], w.targets())
	assert.Equal(t, uint64(20), w.result(texts[1]).Sent, "what stays keeps its window")
	assert.Len(t, w.loop.round, 40)
	assert.Equal(t, 10, w.to(probe.ICMP, texts[0]))

	// Another port for TCP concerns those that are probed there.
	w.behave["tcp 10.0.0.9"] = refusal
	w.plan(Plan{}, texts[1], "tcp://10.0.0.9", "tcp://10.0.0.9:80")
	w.pass(5 * time.Second)
	w.plan(Plan{Port: 29500}, texts[1], "tcp://10.0.0.9", "tcp://10.0.0.9:80")
	w.pass(100 * ms)
	assert.Equal(t, uint64(25), w.result(texts[1]).Sent)
	assert.Less(t, w.result("tcp://10.0.0.9").Sent, uint64(2))
	assert.Equal(t, uint16(29500), w.result("tcp://10.0.0.9").Port)
	assert.Equal(t, uint64(5), w.result("tcp://10.0.0.9:80").Sent)
	w.plan(Plan{})
	w.loop.turn()
	assert.Empty(t, w.targets())
	assert.True(t, w.loop.idle())
	assert.Empty(t, w.loop.round)
	assert.Empty(t, w.loop.flights)
}

func TestLoop_limits(t *testing.T) {
	w := newWorld(t)
	texts := w.many(300, ms)
	w.plan(Plan{Interval: 20 * ms}, texts...)
	var requests []*request
	for i := range probe.MostRequestsAtATime {
		// Some of them for the same target.
		requests = append(requests, w.request(Request{Count: 1000, Target: probe.Target{Method: probe.ICMP}}, texts[i/2*2]))
	}
	w.pass(10 * time.Second)
	assert.Len(t, w.loop.aims, probe.MostTargets)
	last := make(map[netip.AddrPort]time.Duration)
	for i, s := range w.sent {
		if j := i - probe.MostProbesPerSecond; j >= 0 {
			require.GreaterOrEqual(t, s.at-w.sent[j].at, time.Second, "more than %d in a second", probe.MostProbesPerSecond)
		}
		if before, found := last[s.to]; found {
			require.GreaterOrEqual(t, s.at-before, probe.LeastInterval, "%v", s.to)
		}
		last[s.to] = s.at
	}
	assert.Greater(t, len(w.sent), 8000, "and not much fewer")
	for _, r := range w.loop.results.Targets {
		assert.Greater(t, r.Sent, uint64(15), "%s: everybody has his turn", r.Target)
	}
	for _, r := range requests {
		assert.Greater(t, r.answer.Load().Sent, uint64(50))
	}
}

func TestLoop_mostUnderWayToOneTarget(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = silence
	w.plan(Plan{Interval: 20 * ms, Timeout: 10 * time.Second}, "icmp://10.0.0.2")
	w.pass(9 * time.Second)
	assert.Len(t, w.sent, probe.MostOutstandingPerTo)
	w.pass(10 * time.Second)
	assert.Len(t, w.sent, 2*probe.MostOutstandingPerTo)
}

func TestLoop_nothingIsSentWhereItIsBlocked(t *testing.T) {
	w := newWorld(t)
	w.loop.blocked = "not in this namespace"
	w.plan(Plan{}, w.many(2, ms)...)
	r := w.request(Request{Count: 5}, "10.0.0.2")
	assert.Zero(t, w.finish(r), "it is told at once")
	w.pass(time.Minute)
	assert.Empty(t, w.sent)
	assert.Less(t, w.waits, 20)
	assert.Equal(t, "not in this namespace", w.result("10.0.0.1").Error)
	assert.True(t, r.answer.Load().Done)
	assert.Equal(t, "not in this namespace", r.answer.Load().Error)
}

// What is under way to an address that does not count any more does not count either.
func TestLoop_answersOfTheOldAddress(t *testing.T) {
	w := newWorld(t)
	one, two := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	w.lookups["node7"] = lookup{addresses: []netip.Addr{one}}
	w.behave["icmp 10.0.0.2"], w.behave["icmp 10.0.0.3"] = silence, after(ms)
	w.plan(Plan{Timeout: 20 * time.Second}, "icmp://node7")
	w.pass(10 * time.Second)
	assert.Len(t, w.loop.flights, probe.MostOutstandingPerTo)
	w.lookups["node7"] = lookup{addresses: []netip.Addr{two}}
	w.loop.names[0].due = 0
	w.pass(5 * time.Second)
	r := w.result("icmp://node7")
	assert.Equal(t, two, r.Address)
	assert.Zero(t, r.Lost)
	assert.InDelta(t, 5, float64(r.Received), 1)
}

// A descriptor that is always ready and that its prober does not read must not keep the processor busy.
func TestLoop_doesNotSpin(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = silence
	w.plan(Plan{Interval: 10 * time.Second, Timeout: 5 * time.Second}, "icmp://10.0.0.2")
	w.loop.turn()
	w.onTheWay = append(w.onTheWay, arrival{method: "nobody reads this"})
	waits := w.waits
	w.pass(4 * time.Second)
	assert.Less(t, w.waits-waits, 1000)
}

func TestRequest_countsAndSpacing(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = func(n int) end { return end{rtt: time.Duration(1+n%3) * ms, dropped: n == 4} }
	r := w.request(Request{Count: 10}, "10.0.0.2")
	took := w.finish(r)
	answer := r.answer.Load()
	assert.Equal(t, [3]uint64{10, 9, 1}, [3]uint64{answer.Sent, answer.Received, answer.Lost})
	assert.Empty(t, answer.Error)
	assert.Equal(t, probe.ICMP, answer.Method)
	assert.InDelta(t, (8*20*ms + time.Second).Seconds(), took.Seconds(), 0.05)
	for i := range w.sent[1:] {
		assert.GreaterOrEqual(t, w.sent[i+1].at-w.sent[i].at, 20*ms)
	}
	assert.True(t, w.loop.idle())

	r = w.request(Request{Count: 3, Interval: time.Second}, "10.0.0.2")
	assert.InDelta(t, 2, w.finish(r).Seconds(), 0.05)
}

func TestRequest_tellsWhatThereIsSoFar(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"] = after(ms)
	r := w.request(Request{Count: 1000, Interval: 100 * ms}, "10.0.0.2")
	w.pass(time.Second)
	answer := r.answer.Load()
	assert.False(t, answer.Done)
	assert.Equal(t, uint64(10), answer.Sent)
	r.canceled.Store(true)
	w.loop.turn()
	assert.True(t, w.loop.idle())
	assert.Empty(t, w.loop.flights)
}

func TestRequest_findsAMethod(t *testing.T) {
	for _, count := range []int{1, 2, 3, 5} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			w := newWorld(t)
			w.behave["icmp 10.0.0.2"], w.behave["tcp 10.0.0.2"] = silence, refusal
			r := w.request(Request{Count: count, Timeout: 100 * ms}, "10.0.0.2:80")
			w.finish(r)
			answer := r.answer.Load()
			assert.Equal(t, probe.TCPRefused, answer.Method)
			assert.Equal(t, [3]uint64{uint64(count), uint64(count), 0}, [3]uint64{answer.Sent, answer.Received, answer.Lost})
			plural := map[bool]string{true: "", false: "s"}[min(count, 3) == 1]
			assert.Equal(t, map[string]string{"icmp": fmt.Sprintf("no answer to %d echo request%s", min(count, 3), plural)}, answer.Refused)
			assert.Empty(t, answer.Error)

			// Nobody there at all.
			w.behave["icmp 10.0.0.3"], w.behave["tcp 10.0.0.3"] = silence, silence
			r = w.request(Request{Count: count, Timeout: 100 * ms}, "10.0.0.3")
			took := w.finish(r)
			answer = r.answer.Load()
			assert.Equal(t, [3]uint64{uint64(count), 0, uint64(count)}, [3]uint64{answer.Sent, answer.Received, answer.Lost})
			assert.Equal(t, "no answer within 0.1 s", answer.Error)
			assert.Less(t, took, time.Duration(count+1)*110*ms)
		})
	}
}

func TestRequest_knowsWhatTheBackgroundKnows(t *testing.T) {
	w := newWorld(t)
	w.behave["icmp 10.0.0.2"], w.behave["tcp 10.0.0.2"] = silence, after(ms)
	w.plan(Plan{}, "10.0.0.2")
	w.pass(10 * time.Second)
	r := w.request(Request{Count: 1}, "10.0.0.2")
	assert.Less(t, w.finish(r), 100*ms)
	answer := r.answer.Load()
	assert.Equal(t, probe.TCP, answer.Method)
	assert.Equal(t, map[string]string{"icmp": "no answer to 3 echo requests"}, answer.Refused)
}

func TestRequest_thatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.refuse[probe.ICMP] = fmt.Errorf("icmp: not permitted: %w", syscall.EPERM)
	w.lookups["slow"] = lookup{takes: time.Hour}
	w.behave["tcp 10.0.0.4"] = always(end{sendErr: fmt.Errorf("tcp: %w", syscall.EMFILE)})
	w.refuse[probe.UDP] = errors.ErrUnsupported
	for text, word := range map[string]string{
		"icmp://10.0.0.2": "icmp: not permitted", "udp://10.0.0.2": "unsupported", "tcp://10.0.0.3": "no route to host",
		"tcp://10.0.0.4": "too many open files", "nobody": "NXDOMAIN", "slow": "did not answer in 1 s", "dns://nobody": "NXDOMAIN",
		"gateway": "no default gateway",
	} {
		r := w.request(Request{Count: 3}, text)
		assert.Less(t, w.finish(r), 4*time.Second, text)
		answer := r.answer.Load()
		assert.Contains(t, answer.Error, word, text)
		assert.Zero(t, answer.Received)
	}
}

func TestRequest_path(t *testing.T) {
	w := newWorld(t)
	w.lookups["node7"] = lookup{addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, takes: 20 * ms}
	r := w.request(Request{Path: true, Count: 5, Timeout: 2 * time.Second}, "tcp://node7:80")
	w.pass(50 * ms)
	answer := r.answer.Load()
	assert.True(t, answer.OfPath)
	assert.False(t, answer.Done)
	require.NotNil(t, answer.Path)
	assert.Len(t, answer.Path.Hops, 2, "what there is so far")
	w.finish(r)
	answer = r.answer.Load()
	assert.True(t, answer.Path.Reached)
	assert.Len(t, answer.Path.Hops, 5)
	assert.Equal(t, "10.0.0.2", answer.Address.String())
	assert.Equal(t, 5*84, w.bytes)
	assert.Empty(t, w.sent, "nothing else is sent")
	assert.Equal(t, path.Options{Target: answer.Address, PerHop: 5, Timeout: 2 * time.Second, Limit: 36 * time.Second}, w.traces[0].options)

	r = w.request(Request{Path: true, Count: 1000}, "10.0.0.2")
	w.pass(100 * ms)
	r.canceled.Store(true)
	w.pass(time.Second)
	assert.True(t, w.traces[1].closed)
	assert.True(t, w.loop.idle())

	for text, word := range map[string]string{"udp://10.0.0.2": "not permitted", "nobody": "NXDOMAIN", "gateway": "no default gateway"} {
		r = w.request(Request{Path: true, Count: 3}, text)
		w.finish(r)
		assert.Contains(t, r.answer.Load().Error, word)
		assert.Nil(t, r.answer.Load().Path)
	}
	_ = w.request(Request{Path: true, Count: 1000}, "10.0.0.2")
	w.pass(100 * ms)
	w.loop.close()
	assert.True(t, w.traces[2].closed)
}

func TestWindow_neverHoldsMoreThanItsBound(t *testing.T) {
	var shared sorted
	w := window{shared: &shared}
	for i := range 5000 {
		at := time.Duration(i) * ms
		rtt := time.Duration(i%7) * ms
		if i%5 == 0 {
			rtt = lost
		}
		w.add(outcome{sent: at, ended: at + ms, rtt: rtt})
		require.LessOrEqual(t, w.sent(), mostOutcomes)
		require.Equal(t, len(w.sorted), len(shared))
	}
	assert.Equal(t, mostOutcomes, w.sent())
	assert.LessOrEqual(t, cap(w.outcomes), 2*mostOutcomes)
	assert.True(t, slices.IsSorted(w.sorted))
	var r Result
	w.describe(&r)
	assert.Equal(t, uint64(mostOutcomes), r.Sent)
	assert.InDelta(t, 0.2, float64(r.Lost)/float64(r.Sent), 0.01)
	w.clear()
	assert.Empty(t, w.sorted)
	assert.Empty(t, shared)
}
