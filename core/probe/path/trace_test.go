package path

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// router is one on the way, or at its end the target.
type router struct {
	address  netip.Addr
	delay    time.Duration // of a round trip to it
	silent   bool          // it never says that a hop limit ran out
	mute     bool          // it says nothing of packets that are too long either
	quotes8  bool          // its errors do not say which probe they are about
	mtu      int           // of the link behind it, 0: any
	refuses  error         // it lets nothing through and says so
	loses    int           // answers to begin with
	rests    bool          // it answers no more than 6 times at once, then once a second, as Linux does
	rested   time.Duration // when it could begin to
	answered int
}

// network is a path that exists only here. Its end is the target; where silent it answers nothing.
type network struct {
	t       *testing.T
	clock   *clock.Fake
	mtu     int // of the first link
	routers []router
	coming  []coming
	sizes   []int         // of packets as long as asked for
	most    int           // probes under way at a time
	last    time.Duration // when the last probe was sent
	probes  int
	bytes   int
	lost    bool  // the host has closed the socket
	fails   error // of sending
	closed  int
}

type coming struct {
	at time.Duration
	arrival
}

const firstMTU = 9000

func newNetwork(t *testing.T, routers ...router) *network {
	for i := range routers {
		if !routers[i].address.IsValid() {
			routers[i].address = netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", i+1))
		}
		if routers[i].delay == 0 {
			routers[i].delay = time.Duration(i+1) * time.Millisecond
		}
	}
	return &network{t: t, clock: clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0)), mtu: firstMTU, routers: routers, last: -time.Hour}
}

func (n *network) descriptor() int { return 77 }

func (n *network) owned() bool { return !n.lost }

func (n *network) longest() int { return n.mtu }

func (n *network) close() { n.closed++ }

func (n *network) send(f format, number uint16, ttl, size int) (launch, error) {
	require.Positive(n.t, ttl)
	now := n.clock.Monotonic()
	require.GreaterOrEqual(n.t, now-n.last, probe.LeastInterval, "between two probes")
	if n.fails != nil {
		return launch{}, n.fails
	}
	if size > n.mtu {
		return launch{}, syscall.EMSGSIZE
	}
	n.last = now
	n.probes++
	packet := f.put(nil, number, size)
	if size != 0 {
		n.sizes = append(n.sizes, size)
		require.Len(n.t, packet, size-f.ipHeader()-map[probe.Method]int{probe.UDP: udpHeader}[f.method])
	}
	l := launch{before: stamp.Now(n.clock), bytes: f.ipHeader() + len(packet)}
	n.bytes += l.bytes
	n.answer(now, ttl, size, number)
	return l, nil
}

// answer lets the probe's answer come, if there is one.
func (n *network) answer(now time.Duration, ttl, size int, number uint16) {
	for i := range n.routers {
		r := &n.routers[i]
		target := i == len(n.routers)-1
		a := arrival{number: number, known: !r.quotes8, by: r.address}
		muted := r.silent
		switch {
		case target:
			a.event, a.known = reached, true
		case ttl == i+1:
			a.event = expired
		case r.refuses != nil:
			a.event, a.err = unreachable, r.refuses
		case r.mtu != 0 && size > r.mtu:
			a.event, a.mtu, muted = tooBig, r.mtu, r.mute
		default:
			continue
		}
		r.answered++
		if r.rests {
			r.rested = max(r.rested, now-5*time.Second)
			muted = muted || r.rested > now
			if !muted {
				r.rested += time.Second
			}
		}
		if !muted && r.answered > r.loses {
			n.coming = append(n.coming, coming{at: now + r.delay, arrival: a})
		}
		return
	}
}

func (n *network) receive(_ format, yield func(arrival)) {
	now := n.clock.Monotonic()
	var later []coming
	for _, c := range n.coming {
		if c.at <= now {
			yield(c.arrival)
		} else {
			later = append(later, c)
		}
	}
	n.coming = later
}

// trace runs a trace to its end, by the clock of the network.
func (n *network) trace(o Options, method probe.Method) (*Trace, Result) {
	n.t.Helper()
	o.Target = n.routers[len(n.routers)-1].address
	f := format{method: method, ipv6: o.Target.Is6(), nonce: 0x0123456789abcdef}
	t := newTrace(o, n.clock, f, n, "")
	sent := 0
	for range 100_000 {
		sent += t.Receive()
		n.most = max(n.most, len(t.flying))
		if t.Done() {
			break
		}
		require.Len(n.t, t.Descriptors(nil), 1)
		at, due := t.Due()
		require.True(n.t, due)
		for _, c := range n.coming {
			at = min(at, c.at)
		}
		n.clock.Advance(max(at-n.clock.Monotonic(), 0))
	}
	require.True(n.t, t.Done(), "it never ends")
	require.Equal(n.t, 1, n.closed)
	require.Empty(n.t, t.Descriptors(nil))
	_, due := t.Due()
	require.False(n.t, due)
	require.Equal(n.t, n.bytes, sent)
	r := t.Result()
	require.True(n.t, r.Done)
	return t, r
}

func TestTrace(t *testing.T) {
	for _, method := range []probe.Method{probe.ICMP, probe.UDP} {
		n := newNetwork(t, router{}, router{}, router{}, router{})
		_, r := n.trace(Options{}, method)
		require.NoError(t, r.Err)
		assert.True(t, r.Reached)
		assert.Equal(t, method, r.Method)
		require.Len(t, r.Hops, 4)
		for i, h := range r.Hops {
			rtt := time.Duration(i+1) * time.Millisecond
			assert.Equal(t, Hop{TTL: i + 1, Address: n.routers[i].address, Sent: 3, Received: 3, MinRTT: rtt, P50RTT: rtt, Timed: 3}, h)
		}
		assert.Equal(t, firstMTU, r.PathMTU)
		assert.Empty(t, r.NoPathMTU)
		assert.False(t, r.BlackHole)
		assert.Equal(t, []int{firstMTU}, n.sizes)
		assert.Equal(t, 3*4+1, n.probes, "near hops answer before a farther one is asked")
	}
}

func TestTrace_farHopsAreAskedAtATime(t *testing.T) {
	n := newNetwork(t, router{delay: 200 * time.Millisecond}, router{delay: 200 * time.Millisecond}, router{delay: 200 * time.Millisecond})
	began := n.clock.Monotonic()
	_, r := n.trace(Options{}, probe.ICMP)
	require.NoError(t, r.Err)
	require.Len(t, r.Hops, 3)
	assert.Less(t, n.clock.Monotonic()-began, 1500*time.Millisecond)
	assert.LessOrEqual(t, n.most, mostUnderWay)
	assert.LessOrEqual(t, n.probes, 3*3+mostAhead+1)
}

func TestTrace_hopsThatDoNotAnswer(t *testing.T) {
	n := newNetwork(t, router{}, router{silent: true}, router{loses: 1}, router{})
	began := n.clock.Monotonic()
	_, r := n.trace(Options{}, probe.UDP)
	require.NoError(t, r.Err)
	assert.True(t, r.Reached)
	require.Len(t, r.Hops, 4)
	assert.Equal(t, Hop{TTL: 2, Sent: 3}, r.Hops[1])
	assert.Equal(t, 2, r.Hops[2].Received)
	assert.Equal(t, 3, r.Hops[2].Sent)
	assert.Less(t, n.clock.Monotonic()-began, 3*time.Second)
}

// The first answer of the target may be lost: what it answers to a larger hop limit is not its place on the path.
func TestTrace_targetAnswersLate(t *testing.T) {
	n := newNetwork(t, router{delay: 100 * time.Millisecond}, router{delay: 100 * time.Millisecond, loses: 1})
	_, r := n.trace(Options{}, probe.ICMP)
	assert.True(t, r.Reached)
	require.Len(t, r.Hops, 2)
	assert.Equal(t, 3, r.Hops[1].Sent)
	assert.Equal(t, 2, r.Hops[1].Received)
}

// A target that limits its answers may leave those unanswered that find its place.
func TestTrace_targetThatRests(t *testing.T) {
	n := newNetwork(t, router{}, router{delay: 300 * time.Millisecond}, router{delay: 300 * time.Millisecond, rests: true})
	n.routers[2].rested = n.clock.Monotonic() // it has just answered others
	n.routers[2].loses = 2
	_, r := n.trace(Options{}, probe.UDP)
	require.NoError(t, r.Err)
	assert.True(t, r.Reached)
	require.Len(t, r.Hops, 3)
	assert.Equal(t, n.routers[2].address, r.Hops[2].Address)
	assert.Equal(t, firstMTU, r.PathMTU)

	// A router before the target that does not answer is asked once more, and no router twice.
	n = newNetwork(t, router{}, router{silent: true}, router{silent: true}, router{})
	_, r = n.trace(Options{}, probe.UDP)
	require.Len(t, r.Hops, 4)
	assert.Equal(t, []int{3, 3, 4, 3}, []int{r.Hops[0].Sent, r.Hops[1].Sent, r.Hops[2].Sent, r.Hops[3].Sent})
	n = newNetwork(t, router{}, router{silent: true}, router{})
	_, r = n.trace(Options{}, probe.ICMP)
	assert.Equal(t, 3, r.Hops[1].Sent)
}

func TestTrace_targetThatDoesNotAnswer(t *testing.T) {
	n := newNetwork(t, router{}, router{}, router{silent: true})
	began := n.clock.Monotonic()
	_, r := n.trace(Options{MostHops: 30}, probe.UDP)
	assert.False(t, r.Reached)
	assert.ErrorIs(t, r.Err, probe.ErrLost)
	assert.EqualError(t, r.Err, "no answer from the target within 30 hops")
	require.Len(t, r.Hops, 30)
	assert.Equal(t, n.routers[1].address, r.Hops[1].Address)
	assert.Equal(t, 3, r.Hops[1].Received)
	for _, h := range r.Hops[2:] {
		assert.Equal(t, Hop{TTL: h.TTL, Sent: 1}, h, "beyond what answers once is enough")
	}
	assert.Zero(t, r.PathMTU)
	assert.Equal(t, "the target was not reached", r.NoPathMTU)
	assert.Less(t, n.clock.Monotonic()-began, 6*time.Second)
}

func TestTrace_timeIsOver(t *testing.T) {
	n := newNetwork(t, router{}, router{silent: true})
	began := n.clock.Monotonic()
	_, r := n.trace(Options{Timeout: time.Minute, Limit: 2 * time.Second}, probe.UDP)
	assert.Equal(t, 2*time.Second, n.clock.Monotonic()-began)
	assert.ErrorIs(t, r.Err, probe.ErrLost)
	assert.ErrorContains(t, r.Err, "before the time was over")
	assert.Zero(t, r.Hops[1].Sent, "what is under way is neither sent nor lost")
	assert.Equal(t, "the time was over before it was found", r.NoPathMTU)
}

func TestTrace_pathEndsAtAnError(t *testing.T) {
	no := errors.New("host unreachable, said by 10.0.2.1")
	n := newNetwork(t, router{}, router{refuses: no}, router{})
	_, r := n.trace(Options{}, probe.UDP)
	assert.False(t, r.Reached)
	assert.Equal(t, no, r.Err)
	require.Len(t, r.Hops, 3)
	assert.Equal(t, no, r.Hops[2].Err)
	assert.Equal(t, n.routers[1].address, r.Hops[2].Address)
	assert.NoError(t, r.Hops[1].Err)
	assert.Equal(t, "the target was not reached", r.NoPathMTU)
}

func TestTrace_waysThatChange(t *testing.T) {
	n := newNetwork(t, router{}, router{})
	other := netip.MustParseAddr("10.0.9.1")
	f := format{method: probe.UDP, nonce: 1}
	tr := newTrace(Options{Target: n.routers[1].address}, n.clock, f, n, "")
	for i, by := range []netip.Addr{n.routers[0].address, other, other} {
		tr.hops[0].launched++
		tr.flying[uint16(i)] = &shot{ttl: 1, launch: launch{before: stamp.Now(n.clock)}}
		tr.arrive(arrival{event: expired, number: uint16(i), known: true, by: by})
	}
	h := tr.Result().Hops[0]
	assert.Equal(t, n.routers[0].address, h.Address)
	assert.Equal(t, []netip.Addr{other}, h.Others)
	tr.Close()
	tr.Close()
	assert.Equal(t, 1, n.closed)
}

// A router that quotes the 8 bytes it must does not say which datagram it answers: then they go one by one.
func TestTrace_shortQuotes(t *testing.T) {
	n := newNetwork(t, router{quotes8: true, delay: 50 * time.Millisecond}, router{quotes8: true, delay: 50 * time.Millisecond},
		router{delay: 50 * time.Millisecond})
	began := n.clock.Monotonic()
	tr, r := n.trace(Options{}, probe.UDP)
	assert.True(t, tr.one)
	require.NoError(t, r.Err)
	assert.True(t, r.Reached)
	require.Len(t, r.Hops, 3)
	for i, h := range r.Hops {
		assert.Equal(t, Hop{TTL: i + 1, Address: n.routers[i].address, Sent: 3, Received: 3, MinRTT: 50 * time.Millisecond,
			P50RTT: 50 * time.Millisecond, Timed: 3}, h)
	}
	assert.Less(t, n.clock.Monotonic()-began, 3*time.Second)
}

func TestTrace_foreignAnswers(t *testing.T) {
	n := newNetwork(t, router{}, router{silent: true})
	tr := newTrace(Options{Target: n.routers[1].address}, n.clock, format{method: probe.ICMP}, n, "")
	tr.arrive(arrival{event: reached, number: 1, known: true})
	tr.arrive(arrival{event: expired}) // nothing is under way
	assert.Zero(t, tr.end)
	assert.Zero(t, tr.farthest)
	tr.Close()
}

func TestTrace_sendingFails(t *testing.T) {
	n := newNetwork(t, router{})
	n.fails = syscall.ENETUNREACH
	tr := newTrace(Options{Target: n.routers[0].address}, n.clock, format{method: probe.UDP}, n, "no right")
	tr.Receive()
	r := tr.Result()
	assert.True(t, r.Done)
	assert.ErrorIs(t, r.Err, syscall.ENETUNREACH)
	assert.Empty(t, r.Hops)
	assert.Equal(t, "no right", r.NoICMP)
	assert.NotEmpty(t, r.NoPathMTU)

	n = newNetwork(t, router{})
	n.lost = true
	tr = newTrace(Options{Target: n.routers[0].address}, n.clock, format{method: probe.UDP}, n, "")
	tr.Receive()
	assert.ErrorIs(t, tr.Result().Err, probe.ErrVoid)

	n = newNetwork(t, router{})
	n.fails = syscall.ENOBUFS
	tr = newTrace(Options{Target: n.routers[0].address}, n.clock, format{method: probe.UDP}, n, "")
	tr.Receive()
	assert.False(t, tr.Done())
	n.fails = nil
	n.clock.Advance(probe.LeastInterval)
	assert.Positive(t, tr.Receive())
	tr.Close()
}

func TestTrace_limits(t *testing.T) {
	n := newNetwork(t, router{})
	tr := newTrace(Options{PerHop: 99, MostHops: 999, Timeout: time.Hour, Limit: time.Hour}, n.clock, format{}, n, "")
	assert.Equal(t, Options{PerHop: MostPerHop, MostHops: MostHops, Timeout: probe.MostTimeout, Limit: mostLimit}, tr.options)
	tr = newTrace(Options{PerHop: -1, Timeout: 1}, n.clock, format{}, n, "")
	assert.Equal(t, Options{PerHop: 3, MostHops: 30, Timeout: probe.LeastTimeout, Limit: 30 * time.Second}, tr.options)
	_, err := Start(Options{}, n.clock)
	assert.Error(t, err)
}

func TestTrace_pathMTU(t *testing.T) {
	tests := map[string]struct {
		routers   []router
		method    probe.Method
		want      int
		blackHole bool
		most      int // packets
	}{
		"the interface's":                   {[]router{{}, {}}, probe.UDP, 9000, false, 1},
		"a link's in the middle":            {[]router{{}, {mtu: 1400}, {}}, probe.UDP, 1400, false, 2},
		"two links', each shorter":          {[]router{{mtu: 1500}, {mtu: 1280}, {}}, probe.ICMP, 1280, false, 3},
		"very short":                        {[]router{{mtu: 68}, {}}, probe.ICMP, 68, false, 2},
		"a router that says nothing":        {[]router{{}, {mtu: 1430, mute: true}, {}}, probe.ICMP, 1430, true, mostMTUTries},
		"the same, and the usual fits":      {[]router{{}, {mtu: 4000, mute: true}, {}}, probe.ICMP, 4000, true, mostMTUTries},
		"the same, by datagrams":            {[]router{{}, {mtu: 1500, mute: true}, {}}, probe.UDP, 1500, true, mostMTUTries},
		"one that speaks, one that doesn't": {[]router{{mtu: 1500}, {mtu: 1300, mute: true}, {}}, probe.ICMP, 1300, true, mostMTUTries},
	}
	for name, tt := range tests {
		n := newNetwork(t, tt.routers...)
		_, r := n.trace(Options{Limit: 2 * time.Minute}, tt.method)
		assert.True(t, r.Reached, name)
		assert.Equal(t, tt.want, r.PathMTU, "%s: %v %s", name, n.sizes, r.NoPathMTU)
		assert.Equal(t, tt.blackHole, r.BlackHole, name)
		assert.Empty(t, r.NoPathMTU, name)
		assert.LessOrEqual(t, len(n.sizes), tt.most, name)
	}
}

func TestTrace_pathMTUUnknown(t *testing.T) {
	n := newNetwork(t, router{}, router{})
	tr := newTrace(Options{Target: n.routers[1].address}, n.clock, format{method: probe.ICMP}, n, "")
	for _, tt := range []struct{ size, said, want int }{
		{9000, 0, 8166}, {1500, 1500, 1492}, {1500, 9000, 1492}, {1500, 1400, 1400}, {1500, 60, 1492}, {100, 0, 68}, {68, 0, 0}, {68, 60, 0},
	} {
		assert.Equal(t, tt.want, tr.less(tt.size, tt.said), "%+v", tt)
	}
	tr.format.ipv6 = true
	assert.Equal(t, 1280, tr.less(1500, 1000))
	assert.Equal(t, 0, tr.less(1280, 1000))

	n.mtu = 0
	_, r := n.trace(Options{}, probe.ICMP)
	assert.True(t, r.Reached)
	assert.Zero(t, r.PathMTU)
	assert.Equal(t, "the system does not tell how long a packet the interface takes", r.NoPathMTU)

	n = newNetwork(t, router{}, router{})
	n.routers[0].mtu, n.routers[0].mute = 1, true // nothing that is asked for in so many bytes passes
	_, r = n.trace(Options{Limit: 2 * time.Minute}, probe.ICMP)
	assert.True(t, r.Reached)
	assert.Equal(t, 40, r.PathMTU, "as long as the probes that were answered")
	assert.True(t, r.BlackHole)
}
