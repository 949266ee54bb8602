package path

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/stamp"
)

// Trace is one path being traced. It never blocks, starts no goroutine, and is used by one goroutine, which waits for its descriptor
// and for the time it is due.
type Trace struct {
	options Options
	clock   clock.Clock
	format  format
	carrier carrier
	noICMP  string

	number   uint16 // of the last probe
	flying   map[uint16]*shot
	next     time.Duration // when the next probe may go
	until    time.Duration // when the whole trace ends
	one      bool          // probe after probe: a router does not say which it answers
	draining bool          // wait until those are over that were sent before that was known

	hops     []hop // by hop limit, from 1
	farthest int   // hop limit that was answered
	end      int   // least hop limit that ended at the target or at an error, 0 while none is known
	slowest  time.Duration
	heard    time.Duration // when the target answered last
	sounding sounding
	err      error // why nothing can be sent
	done     bool
	sent     int // bytes since Receive told of them
}

// hop is what is known of one hop limit.
type hop struct {
	launched int // probes
	over     int // probes that are not under way any more
	received int
	rtts     []time.Duration
	address  netip.Addr
	others   []netip.Addr
	reached  bool
	err      error
}

// shot is a probe under way.
type shot struct {
	launch
	ttl      int
	size     int // of the whole packet where it looks for the longest, else 0
	deadline time.Duration
	void     bool // it counts for nothing
}

// carrier sends probes and hears of what becomes of them.
type carrier interface {
	descriptor() int
	// owned is false where the host process has closed the socket.
	owned() bool
	// send sends a probe.
	//
	// Errors: an errno: EMSGSIZE where the interface is too small.
	send(f format, number uint16, ttl, size int) (launch, error)
	// longest is the longest packet that would have been sent when send returned EMSGSIZE, 0 where that is not known.
	longest() int
	receive(f format, yield func(arrival))
	close()
}

// launch is how a probe was sent.
type launch struct {
	before stamp.Moment
	sent   stamp.Time
	key    stamp.Key
	bytes  int
}

type event int

const (
	stamped     event = iota // the kernel tells when a probe was sent
	expired                  // the hop limit ran out
	reached                  // the target answered
	tooBig                   // a packet was too long for the next link
	unreachable              // another ICMP error
)

// arrival is something that came.
type arrival struct {
	event    event
	number   uint16
	known    bool // which probe it is about
	key      stamp.Key
	by       netip.Addr // invalid: this host itself
	received stamp.Time // of stamped: when the probe was sent
	mtu      int        // of tooBig
	err      error      // of unreachable
}

// Start starts a trace in the calling thread's network namespace: it opens its socket, and Receive sends the first probe.
//
// Errors: what is wrong with the target, or keeps a socket from being opened.
func Start(o Options, c clock.Clock) (*Trace, error) {
	if !o.Target.IsValid() {
		return nil, errors.New("path: no target")
	}
	o.Target = o.Target.Unmap()
	f := format{method: o.Method, ipv6: o.Target.Is6(), nonce: rand.Uint64()}
	var noICMP string
	if o.Method != probe.UDP {
		f.method = probe.ICMP
		carrier, err := openCarrier(f, o.Target, c)
		if err == nil {
			return newTrace(o, c, f, carrier, ""), nil
		}
		if o.Method == probe.ICMP {
			return nil, fmt.Errorf("path: %w", err)
		}
		noICMP = err.Error()
	}
	f.method = probe.UDP
	carrier, err := openCarrier(f, o.Target, c)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	return newTrace(o, c, f, carrier, noICMP), nil
}

func newTrace(o Options, c clock.Clock, f format, carrier carrier, noICMP string) *Trace {
	fill := func(value *int, usual, most int) {
		if *value <= 0 {
			*value = usual
		}
		*value = min(*value, most)
	}
	fill(&o.PerHop, defaultPerHop, MostPerHop)
	fill(&o.MostHops, defaultHops, MostHops)
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	o.Timeout = min(max(o.Timeout, probe.LeastTimeout), probe.MostTimeout)
	if o.Limit <= 0 {
		o.Limit = defaultLimit
	}
	o.Limit = min(o.Limit, mostLimit)
	now := c.Monotonic()
	return &Trace{
		options: o, clock: c, format: f, carrier: carrier, noICMP: noICMP, hops: make([]hop, o.MostHops),
		flying: make(map[uint16]*shot), number: uint16(rand.Uint32()), next: now, until: now + o.Limit,
	}
}

// Descriptors appends what to wait for now.
func (t *Trace) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	if t.done {
		return set
	}
	return append(set, probe.Descriptor{FD: t.carrier.descriptor()})
}

// Due is when Receive wants to be called although nothing came, on the monotonic clock; false for never.
func (t *Trace) Due() (at time.Duration, ok bool) {
	if t.done {
		return 0, false
	}
	at = t.until
	for _, s := range t.flying {
		at = min(at, s.deadline)
	}
	if t.free() {
		at = min(at, t.next)
	}
	return at, true
}

// Receive takes what has come, sends what is due, and tells the bytes that it sent, from the IP header on.
func (t *Trace) Receive() (sent int) {
	if t.done {
		return 0
	}
	if !t.carrier.owned() {
		t.fail(stamp.ErrForeign)
		return 0
	}
	t.carrier.receive(t.format, t.arrive)
	now := t.clock.Monotonic()
	for number, s := range t.flying {
		if now >= s.deadline {
			delete(t.flying, number)
			t.silent(s)
		}
	}
	if now >= t.until && !t.done {
		t.sounding.stop("the time was over before it was found")
		t.finish()
	}
	if !t.done && t.advance(now) {
		// Sending takes messages that come meanwhile, and no descriptor tells of them again.
		t.carrier.receive(t.format, t.arrive)
	}
	sent, t.sent = t.sent, 0
	return sent
}

// Done tells whether the trace is over. Its socket is closed then.
func (t *Trace) Done() bool { return t.done }

// Close ends the trace.
func (t *Trace) Close() { t.finish() }

func (t *Trace) finish() {
	if !t.done {
		t.done = true
		t.carrier.close()
	}
}

func (t *Trace) fail(err error) {
	t.err = err
	t.finish()
}

// free tells whether a probe may be sent as far as those under way are concerned.
func (t *Trace) free() bool {
	switch {
	case len(t.flying) == 0:
		return true
	case t.one, t.draining, t.sounding.begun:
		return false
	}
	return len(t.flying) < mostUnderWay && t.nextHop() != 0
}

// advance sends the next probe if one is due, or ends the trace. It tells whether the trace goes on with one more probe.
func (t *Trace) advance(now time.Duration) (goesOn bool) {
	if t.draining && len(t.flying) == 0 {
		t.draining = false
	}
	if now < t.next || !t.free() {
		return false
	}
	ttl := t.nextHop()
	if ttl == 0 && !t.sounding.begun {
		if ttl = t.doubtful(); ttl != 0 && now < t.heard+restOfTarget {
			t.next = t.heard + restOfTarget
			return false
		}
	}
	if ttl == 0 {
		t.sound()
		return !t.done
	}
	if err := t.fire(ttl, 0); err != nil {
		t.fail(err)
	}
	return !t.done
}

// doubtful is a hop limit whose silence may be the target's, 0 for none: a target that limits how often it answers datagrams may have
// answered none of those to the hop limit of its place, and one to a larger one.
func (t *Trace) doubtful() int {
	if t.format.method != probe.UDP || t.end < 2 || !t.hops[t.end-1].reached {
		return 0
	}
	before := &t.hops[t.end-2]
	if before.received > 0 || before.launched > t.options.PerHop {
		return 0
	}
	return t.end - 1
}

// nextHop is the hop limit to probe next, 0 for none now: one probe to each hop as far as the path goes, then a second one.
func (t *Trace) nextHop() int {
	for round := 1; round <= t.options.PerHop; round++ {
		last := len(t.hops)
		switch {
		case t.end != 0:
			last = t.end
		case round > 1:
			last = t.farthest // beyond it one silence is as good as three
		}
		for ttl := 1; ttl <= last; ttl++ {
			if t.hops[ttl-1].launched >= round {
				continue
			}
			if round == 1 && t.end == 0 && ttl > t.frontier()+mostAhead {
				return 0
			}
			return ttl
		}
	}
	return 0
}

// frontier is the farthest hop limit that is known about: one that was answered, or all up to it have had their time.
func (t *Trace) frontier() int {
	f := t.farthest
	for f < len(t.hops) && t.hops[f].over > 0 {
		f++
	}
	return f
}

// fire sends one probe. Where the system is short of buffers it is as if it had been sent and lost nothing: the next turn sends it.
func (t *Trace) fire(ttl, size int) error {
	t.number++
	for t.flying[t.number] != nil {
		t.number++
	}
	l, err := t.carrier.send(t.format, t.number, ttl, size)
	now := t.clock.Monotonic()
	t.next = now + probe.LeastInterval
	if errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN) {
		return nil
	}
	if err != nil {
		return err
	}
	t.sent += l.bytes
	s := &shot{launch: l, ttl: ttl, size: size, deadline: now + t.options.Timeout}
	if size != 0 {
		s.deadline = now + t.patience()
		t.sounding.launched++
	} else {
		t.hops[ttl-1].launched++
	}
	t.flying[t.number] = s
	return nil
}

// patience is how long the target gets to answer a long packet, whose round trip is known by then.
func (t *Trace) patience() time.Duration {
	const least = 250 * time.Millisecond
	return min(t.options.Timeout, max(least, 4*t.slowest))
}

// arrive takes something that came.
func (t *Trace) arrive(a arrival) {
	if a.event == stamped {
		for _, s := range t.flying {
			if s.key == a.key && s.sent == 0 {
				s.sent = a.received
			}
		}
		return
	}
	number, found := a.number, a.known
	if !a.known {
		number, found = t.guess()
	}
	s := t.flying[number]
	if !found || s == nil {
		return
	}
	delete(t.flying, number)
	switch {
	case s.void:
	case s.size != 0:
		t.sounded(s, a)
	case a.event == tooBig: // which a probe this short cannot be
		t.hops[s.ttl-1].over++
	default:
		t.answered(s, a)
	}
}

// guess finds the probe that an answer is about which does not say: that is clear where only one is under way. Some routers quote no
// more than the 8 bytes they must (RFC 792), in which a datagram has no number.
func (t *Trace) guess() (number uint16, ok bool) {
	if len(t.flying) == 1 && !t.draining {
		for number = range t.flying {
			return number, true
		}
	}
	if !t.draining {
		t.one, t.draining = true, true
		for _, s := range t.flying {
			s.void = true
			if s.size == 0 {
				t.hops[s.ttl-1].launched--
			}
		}
	}
	return 0, false
}

// answered notes what answered a probe.
func (t *Trace) answered(s *shot, a arrival) {
	h := &t.hops[s.ttl-1]
	h.over++
	if a.by.IsValid() {
		h.received++
		switch {
		case !h.address.IsValid():
			h.address = a.by
		case h.address != a.by && !slices.Contains(h.others, a.by) && len(h.others) < mostOthers:
			h.others = append(h.others, a.by)
		}
		if rtt, err := stamp.RoundTrip(s.before, s.sent, a.received, stamp.Now(t.clock)); err == nil {
			h.rtts = append(h.rtts, rtt)
			t.slowest = max(t.slowest, rtt)
		}
		t.farthest = max(t.farthest, s.ttl)
	}
	switch a.event {
	case reached:
		h.reached = true
		t.heard = t.clock.Monotonic()
	case unreachable:
		h.err = a.err
	default:
		return
	}
	if t.end == 0 || s.ttl < t.end {
		t.end = s.ttl
	}
}

// silent notes that a probe got no answer in time.
func (t *Trace) silent(s *shot) {
	switch {
	case s.void:
	case s.size != 0:
		t.unheard(s)
	default:
		t.hops[s.ttl-1].over++
	}
}

// Result is what is known so far.
func (t *Trace) Result() Result {
	r := Result{
		Target: t.options.Target, Method: t.format.method, NoICMP: t.noICMP, Done: t.done,
		PathMTU: t.sounding.found, NoPathMTU: t.sounding.reason, BlackHole: t.sounding.blackHole && t.sounding.found != 0,
	}
	last := t.end
	if last == 0 {
		for i := range t.hops {
			if t.hops[i].launched > 0 {
				last = i + 1
			}
		}
	}
	for i := range t.hops[:last] {
		r.Hops = append(r.Hops, t.hops[i].result(i+1))
	}
	r.Reached = t.end != 0 && t.hops[t.end-1].reached
	switch {
	case t.err != nil:
		r.Err = t.err
	case r.Reached:
	case t.end != 0:
		r.Err = t.hops[t.end-1].err
	case t.done && t.options.MostHops == last && len(t.flying) == 0:
		r.Err = fmt.Errorf("%w from the target within %d hops", probe.ErrLost, last)
	case t.done:
		r.Err = fmt.Errorf("%w from the target before the time was over", probe.ErrLost)
	}
	if r.Done && r.PathMTU == 0 && r.NoPathMTU == "" {
		r.NoPathMTU = "the trace was broken off"
		if !r.Reached {
			r.NoPathMTU = "the target was not reached"
		}
	}
	return r
}

func (h *hop) result(ttl int) Hop {
	r := Hop{TTL: ttl, Address: h.address, Others: slices.Clone(h.others), Sent: h.over, Received: h.received, Timed: len(h.rtts), Err: h.err}
	if n := len(h.rtts); n > 0 {
		sorted := slices.Sorted(slices.Values(h.rtts))
		r.MinRTT, r.P50RTT = sorted[0], (sorted[(n-1)/2]+sorted[n/2])/2
	}
	return r
}
