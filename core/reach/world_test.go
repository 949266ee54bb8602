package reach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/dns"
	"netmon/core/probe/path"
)

// world is a network that a test makes up, with the loop that probes it. Time passes only while the loop waits.
type world struct {
	t       *testing.T
	clock   *clock.Fake
	loop    *loop
	behave  map[string]behaviour // by method and address, as "icmp 10.0.0.2"
	refuse  map[probe.Method]error
	lookups map[string]lookup
	gateway netip.Addr
	traces  []*tracer
	own     []netip.Addr

	onTheWay []arrival
	sent     []sending
	waits    int
	waited   time.Duration
	asked    int
	bytes    int
	until    time.Duration // time passes no further
	late     time.Duration // how long it is after it has next taken in what came
	stall    time.Duration // how long the loop's thread is kept from running after its next wait
}

// behaviour is what becomes of the n-th probe, from 0.
type behaviour func(n int) end

type end struct {
	rtt     time.Duration
	method  probe.Method // how it was timed, "" for as sent
	sendErr error
	err     error
	dropped bool
}

type lookup struct {
	addresses []netip.Addr
	err       error
	takes     time.Duration
}

type arrival struct {
	at     time.Duration
	method probe.Method
	probe.Result
}

type sending struct {
	at     time.Duration
	method probe.Method
	to     netip.AddrPort
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, clock: clock.NewFake(1000*time.Hour, time.Unix(1e9, 0)),
		behave: make(map[string]behaviour), refuse: make(map[probe.Method]error), lookups: make(map[string]lookup),
	}
	tools := Tools{
		Prober: func(method probe.Method) (probe.Prober, error) {
			if err := w.refuse[method]; err != nil {
				return nil, err
			}
			return &prober{world: w, method: method}, nil
		},
		Names: func() Names { return &resolver{world: w} },
		Gateway: func() (netip.Addr, error) {
			if !w.gateway.IsValid() {
				return w.gateway, errors.New("there is no default gateway")
			}
			return w.gateway, nil
		},
		Own: func() ([]netip.Addr, error) { return w.own, nil },
		Trace: func(o path.Options) (Tracer, error) {
			if o.Method == probe.UDP {
				return nil, fmt.Errorf("path: %w", syscall.EPERM)
			}
			w.traces = append(w.traces, &tracer{world: w, options: o, due: w.clock.Monotonic()})
			return w.traces[len(w.traces)-1], nil
		},
	}
	w.loop = newLoop(w.clock, tools, w, newLimits(w.clock.Monotonic()), func(bytes int) { w.bytes += bytes })
	return w
}

// wait implements poller.
func (w *world) wait(descriptors []probe.Descriptor, most time.Duration) {
	w.waits++
	now := w.clock.Monotonic()
	until := max(now, min(now+max(most, 0), w.until))
	if descriptors != nil {
		for _, a := range w.onTheWay {
			until = min(until, max(a.at, now))
		}
	}
	w.clock.Advance(until - now + w.stall)
	w.waited += until - now
	w.stall = 0
}

// pass turns the loop for a time.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.until = w.clock.Monotonic() + d
	for turns := 0; w.clock.Monotonic() < w.until; turns++ {
		require.Less(w.t, turns, 1_000_000, "the loop does not wait")
		w.loop.turn()
	}
}

// plan gives the loop its targets.
func (w *world) plan(p Plan, texts ...string) {
	w.t.Helper()
	if p.Interval == 0 {
		p.Interval = time.Second
	}
	if p.Timeout == 0 {
		p.Timeout = time.Second
	}
	for _, text := range texts {
		target, err := probe.ParseTarget(text)
		require.NoError(w.t, err)
		p.Targets = append(p.Targets, Aim{Target: target})
	}
	w.loop.follow(p)
}

func (w *world) result(text string) *Result {
	w.t.Helper()
	if w.loop.results == nil {
		w.loop.finish()
	}
	for _, r := range w.loop.results.Targets {
		if r.Target == text {
			return r
		}
	}
	w.t.Fatalf("no result for %s", text)
	return nil
}

// request begins a request.
func (w *world) request(asked Request, text string) *request {
	w.t.Helper()
	target, err := probe.ParseTarget(text)
	require.NoError(w.t, err)
	if asked.Method != "" {
		target.Method = asked.Method
	}
	asked.Target = target
	if asked.Count == 0 {
		asked.Count = 1
	}
	if asked.Timeout == 0 {
		asked.Timeout = time.Second
	}
	if asked.Interval == 0 {
		asked.Interval = probe.LeastInterval
	}
	r := newRequest(1, asked)
	w.loop.begin(r, 0)
	return r
}

// finish turns the loop until a request is done, and tells how long that took.
func (w *world) finish(r *request) time.Duration {
	w.t.Helper()
	began := w.clock.Monotonic()
	w.until = began + time.Hour
	for turns := 0; !r.answer.Load().Done; turns++ {
		require.Less(w.t, turns, 100_000, "the request does not end")
		w.loop.turn()
	}
	return w.clock.Monotonic() - began
}

// to counts what was sent by a method.
func (w *world) to(method probe.Method, address string) (times int) {
	for _, s := range w.sent {
		if s.method == method && (address == "" || s.to.Addr().String() == address) {
			times++
		}
	}
	return times
}

func always(e end) behaviour { return func(int) end { return e } }

func after(rtt time.Duration) behaviour { return always(end{rtt: rtt}) }

var silence = always(end{dropped: true})

var refusal = always(end{rtt: 200 * time.Microsecond, method: probe.TCPRefused})

// prober is a method in a world.
type prober struct {
	world  *world
	method probe.Method
	number map[string]int
	closed bool
}

func (p *prober) Send(to netip.AddrPort, token uint64) (int, error) {
	w := p.world
	require.False(w.t, p.closed)
	key := fmt.Sprintf("%s %s", p.method, to.Addr())
	behave, found := w.behave[key]
	if !found {
		behave = always(end{sendErr: fmt.Errorf("no route to host: %w", syscall.ENETUNREACH)})
	}
	if p.number == nil {
		p.number = make(map[string]int)
	}
	e := behave(p.number[key])
	p.number[key]++
	now := w.clock.Monotonic()
	if e.sendErr != nil {
		return 0, e.sendErr
	}
	w.sent = append(w.sent, sending{at: now, method: p.method, to: to})
	if !e.dropped {
		method := e.method
		if method == "" {
			method = p.method
		}
		w.onTheWay = append(w.onTheWay, arrival{at: now + e.rtt, method: p.method,
			Result: probe.Result{Token: token, Method: method, RTT: e.rtt, Err: e.err}})
	}
	return 84, nil
}

func (p *prober) Descriptors(set []probe.Descriptor) []probe.Descriptor {
	return append(set, probe.Descriptor{})
}

func (p *prober) Receive(yield func(probe.Result)) {
	w := p.world
	now := w.clock.Monotonic()
	var came []arrival
	w.onTheWay = slices.DeleteFunc(w.onTheWay, func(a arrival) bool {
		if a.method == p.method && a.at <= now {
			came = append(came, a)
			return true
		}
		return false
	})
	for _, a := range came {
		yield(a.Result)
	}
	if len(came) > 0 {
		w.clock.Advance(w.late)
		w.late = 0
	}
}

func (p *prober) Forget(token uint64) {
	p.world.onTheWay = slices.DeleteFunc(p.world.onTheWay, func(a arrival) bool { return a.Token == token })
}

func (p *prober) Close() { p.closed = true }

// resolver is the system's resolver of a world.
type resolver struct {
	world *world
	under []pending
}

type pending struct {
	dns.Answer
	at time.Duration
}

func (r *resolver) Lookup(name string, token uint64, timeout time.Duration) {
	w := r.world
	w.asked++
	l, found := w.lookups[name]
	if !found {
		l = lookup{err: errors.New("name does not resolve: NXDOMAIN"), takes: time.Millisecond}
	}
	if l.takes > timeout {
		l = lookup{err: errors.New("resolver 127.0.0.53 did not answer in 1 s"), takes: timeout}
	}
	r.under = append(r.under, pending{at: w.clock.Monotonic() + l.takes,
		Answer: dns.Answer{Token: token, Addresses: slices.Clone(l.addresses), RTT: l.takes, Err: l.err}})
}

func (r *resolver) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

func (r *resolver) Due() (due time.Duration, some bool) {
	for _, p := range r.under {
		if !some || p.at < due {
			due, some = p.at, true
		}
	}
	return due, some
}

func (r *resolver) Receive(yield func(dns.Answer)) int {
	var came []dns.Answer
	r.under = slices.DeleteFunc(r.under, func(p pending) bool {
		if p.at <= r.world.clock.Monotonic() {
			came = append(came, p.Answer)
			return true
		}
		return false
	})
	for _, l := range came {
		yield(l)
	}
	return 0
}

func (r *resolver) Forget(token uint64) {
	r.under = slices.DeleteFunc(r.under, func(p pending) bool { return p.Token == token })
}

func (r *resolver) Close() {}

// tracer sends a probe every 20 ms to as many hops as asked for per hop, all of which answer.
type tracer struct {
	world   *world
	options path.Options
	hops    int
	due     time.Duration
	closed  bool
}

func (t *tracer) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }
func (t *tracer) Due() (time.Duration, bool)                            { return t.due, !t.Done() }
func (t *tracer) Done() bool                                            { return t.closed || t.hops == t.options.PerHop }
func (t *tracer) Close()                                                { t.closed = true }
func (t *tracer) Result() path.Result {
	return path.Result{Target: t.options.Target, Hops: make([]path.Hop, t.hops), Reached: t.Done(), Done: t.Done()}
}

func (t *tracer) Receive() (sent int) {
	require.False(t.world.t, t.closed)
	if now := t.world.clock.Monotonic(); now >= t.due {
		t.due = now + 20*time.Millisecond
		t.hops++
		return 84
	}
	return 0
}
