package reach

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/dns"
)

const (
	// Sending times are grouped: one time to wake up serves all targets whose turn it is in this part of the interval.
	grain = 200 * time.Millisecond
	// But not more than so many are served together.
	mostTogether = 20
	// A new target is probed for the first time within this, however long the interval is.
	quickly = 500 * time.Millisecond
	// Answers are read this long after probes were sent, all at once: the kernel has noted when they came.
	reading = 5 * time.Millisecond
	// Own addresses are looked up as often.
	ownPeriod = 30 * time.Second
	// What could not be opened is tried again after this.
	openAgain = 30 * time.Second
	// The loop looks after itself at least as often.
	mostSleep = 5 * time.Second
)

// flight is a probe under way.
type flight struct {
	token    uint64
	aim      *aim
	request  *request // nil in the background
	method   probe.Method
	sent     time.Duration
	deadline time.Duration
	timeout  time.Duration
	trial    bool // of a better method, beside the count
}

// gun is a prober, or why there is none.
type gun struct {
	probe.Prober
	err   error
	tried time.Duration
}

// poller waits for descriptors.
type poller interface {
	// wait returns after most, when a descriptor is ready, or when another goroutine woke it.
	wait(descriptors []probe.Descriptor, most time.Duration)
}

// loop is the state of an engine's goroutine. It knows nothing of goroutines, so tests turn it by hand.
type loop struct {
	clock  clock.Clock
	tools  Tools
	poller poller
	count  func(bytes int) // what was sent

	interval, timeout time.Duration
	epoch             time.Duration // where the first interval began
	aims              []*aim
	requests          []*request
	done              []*request // and not told yet
	names             []*name
	own               []netip.Addr
	ownAt             time.Duration
	blocked           string // why nothing can be sent at all

	guns     map[probe.Method]*gun
	resolver Names
	lookups  map[uint64]*name
	flights  map[uint64]*flight
	dropped  []*flight // to be used again
	token    uint64
	*limits                // of the engine
	readAt   time.Duration // answers are not read before
	progress bool          // something was done in this turn
	spins    int           // turns in a row without
	queue    []shot        // of this turn

	round       sorted // trips of all aims
	changed     bool   // the plan
	results     *Results
	descriptors []probe.Descriptor
}

func newLoop(clk clock.Clock, tools Tools, p poller, kept *limits, count func(int)) *loop {
	return &loop{
		clock: clk, tools: tools, poller: p, count: count, epoch: clk.Monotonic(), limits: kept,
		guns: make(map[probe.Method]*gun), lookups: make(map[uint64]*name), flights: make(map[uint64]*flight),
	}
}

// follow takes over a plan. Targets that stay keep what is known of them.
func (l *loop) follow(p Plan) {
	now := l.clock.Monotonic()
	l.interval, l.timeout, l.changed = p.Interval, p.Timeout, true
	before := l.aims
	l.aims = make([]*aim, 0, len(p.Targets))
	for _, t := range p.Targets[:min(len(p.Targets), probe.MostTargets)] {
		i := slices.IndexFunc(before, func(a *aim) bool {
			samePort := a != nil && (a.port == p.Port || a.target.Port != 0 || a.current() != probe.TCP)
			return samePort && a.target == t.Target
		})
		if i >= 0 {
			before[i].port = p.Port
			before[i].enlist(t)
			l.aims = append(l.aims, before[i])
			before[i] = nil
			continue
		}
		a := newAim(t.Target, p.Port)
		a.enlist(t)
		a.quick = true
		a.window.span, a.window.shared = windowSpan, &l.round
		if a.name = l.nameOf(t.Target); a.name != nil {
			if a.name.address.IsValid() {
				a.aimAt(a.name.address)
			} else {
				a.fail(a.name.problem)
			}
		}
		if l.blocked != "" {
			a.fail(l.blocked)
		}
		l.aims = append(l.aims, a)
	}
	for _, a := range before {
		if a != nil {
			l.recall(a)
			l.dropName(a.name)
			a.window.clear()
		}
	}
	if n := len(l.aims); n > 0 {
		l.interval = max(l.interval, time.Duration(float64(n)*float64(time.Second)/(backgroundShare*probesPerSecond)))
		slots := time.Duration(min(n, max(int(l.interval/grain), (n+mostTogether-1)/mostTogether)))
		for i, a := range l.aims {
			slot := time.Duration(i) % slots
			a.phase = l.interval * slot / slots
			if a.quick {
				a.due = now + min(l.interval, quickly)*slot/slots
			}
		}
	}
	l.ownAt = 0
	l.hide()
}

// recall gives up what an aim has under way.
func (l *loop) recall(a *aim) {
	for token, f := range l.flights {
		if f.aim == a {
			l.abandon(f)
			delete(l.flights, token)
		}
	}
	a.flying = 0
}

func (l *loop) abandon(f *flight) {
	if f.method == probe.DNS {
		l.resolver.Forget(f.token)
	} else if g := l.guns[f.method]; g != nil && g.Prober != nil {
		g.Forget(f.token)
	}
}

// hide leaves out peers that are this host, or that another target stands for, unless they are named.
func (l *loop) hide() {
	standIn := make(map[*aim]bool)
	for i, a := range l.aims {
		own := a.job && (a.address.IsLoopback() || slices.Contains(l.own, a.address.WithZone("")))
		if own != a.own {
			a.own, a.result, l.changed = own, nil, true
		}
		hidden := a.peer && own
		for j, other := range l.aims {
			if hidden || !a.peer {
				break
			}
			same := other != a && a.address.IsValid() && other.address == a.address && other.target.Method == a.target.Method &&
				other.target.Port == a.target.Port
			if hidden = same && (!other.peer || j < i); hidden {
				standIn[other] = true
			}
		}
		if hidden != a.hidden {
			a.hidden, a.result, l.changed = hidden, nil, true
			if hidden {
				l.recall(a)
				a.window.clear()
			}
		}
	}
	for _, a := range l.aims {
		if standIn[a] != a.standIn {
			a.standIn, a.result, l.changed = standIn[a], nil, true
		}
	}
}

// findOwn learns this host's addresses when peers might be it.
func (l *loop) findOwn(now time.Duration) {
	if l.ownAt != 0 && now < l.ownAt || !slices.ContainsFunc(l.aims, func(a *aim) bool { return a.job }) {
		return
	}
	l.ownAt = now + ownPeriod
	if own, err := l.tools.Own(); err == nil {
		l.own = own
	}
	l.hide()
}

// turn waits for what comes next and does what is due.
func (l *loop) turn() {
	// What was due before the waiting began and has no answer after it, has none: answers that had come are read first, however
	// long this thread was kept from running.
	before := l.clock.Monotonic()
	l.wait(before)
	l.receive()
	l.expire(before)
	now := l.clock.Monotonic()
	l.findOwn(now)
	l.lookUp(now)
	if l.send(now) {
		l.receive() // what came at once
	}
	l.trace()
	l.finish()
	l.watch(now - before)
}

// watch keeps a descriptor that is always ready, and that nobody reads, from keeping the processor busy.
func (l *loop) watch(took time.Duration) {
	const quick, most = time.Millisecond, 50
	if l.progress || took > quick {
		l.spins, l.progress = 0, false
	} else if l.spins++; l.spins > most {
		l.poller.wait(nil, 2*reading)
	}
}

// wait sleeps until something is due or comes.
func (l *loop) wait(now time.Duration) {
	sleep := max(0, l.next(now)-now)
	if pause := l.readAt - now; pause > 0 && l.canPause() {
		l.poller.wait(nil, min(pause, sleep))
		return
	}
	l.descriptors = l.descriptors[:0]
	for _, g := range l.guns {
		if g.Prober != nil {
			l.descriptors = g.Descriptors(l.descriptors)
		}
	}
	if l.resolver != nil {
		l.descriptors = l.resolver.Descriptors(l.descriptors)
	}
	for _, r := range l.requests {
		if r.trace != nil {
			l.descriptors = r.trace.Descriptors(l.descriptors)
		}
	}
	l.poller.wait(l.descriptors, sleep)
}

// canPause tells whether answers may lie for a moment: not those that this process times itself, nor those somebody waits for.
func (l *loop) canPause() bool {
	if len(l.requests) > 0 {
		return false
	}
	for _, f := range l.flights {
		if f.method == probe.TCP || f.method == probe.DNS {
			return false
		}
	}
	return true
}

// next is when something is due.
func (l *loop) next(now time.Duration) time.Duration {
	next := now + mostSleep
	switch {
	case l.changed, l.blocked != "" && len(l.requests) > 0:
		return now // there is something to publish
	case l.blocked != "":
		return next
	}
	for _, f := range l.flights {
		next = min(next, f.deadline)
	}
	for _, a := range l.aims {
		if l.sendable(a) {
			next = min(next, max(a.due, a.hold))
		}
	}
	for _, r := range l.requests {
		if r.trace != nil {
			if due, some := r.trace.Due(); some {
				next = min(next, due)
			}
		} else if l.sendable(r.aim) && r.aim.flying == 0 {
			next = min(next, max(r.aim.due, r.aim.hold))
		}
	}
	for _, n := range l.names {
		if n.token == 0 {
			next = min(next, n.due)
		}
	}
	if l.resolver != nil {
		if due, some := l.resolver.Due(); some {
			next = min(next, due)
		}
	}
	if l.refill(now); l.tokens < 1 {
		next = max(next, now+time.Duration((1-l.tokens)/probesPerSecond*float64(time.Second))+time.Microsecond)
	}
	return next
}

// sendable tells whether it is known whom to probe.
func (l *loop) sendable(a *aim) bool {
	return !a.hidden && (a.address.IsValid() || a.target.Method == probe.DNS)
}

// send sends what is due, whoever has waited longest first, and tells whether anything was sent.
func (l *loop) send(now time.Duration) (sent bool) {
	if l.blocked != "" {
		return false
	}
	l.queue = l.queue[:0]
	for _, a := range l.aims {
		if l.sendable(a) && max(a.due, a.hold) <= now {
			l.queue = append(l.queue, shot{aim: a})
		}
	}
	for _, r := range l.requests {
		if !r.Path && l.sendable(r.aim) && max(r.aim.due, r.aim.hold) <= now && r.aim.flying == 0 && !r.ended() {
			l.queue = append(l.queue, shot{aim: r.aim, request: r})
		}
	}
	slices.SortStableFunc(l.queue, func(x, y shot) int { return cmp.Compare(x.aim.due, y.aim.due) })
	pausable := true
	for _, s := range l.queue {
		if s.request == nil && s.aim.trial != 0 && s.aim.trial <= now && s.aim.choice > 0 {
			l.try(s.aim, now)
		}
		if s.aim.flying >= probe.MostOutstandingPerTo {
			l.schedule(s.aim, now)
			continue
		}
		fate := l.launch(s.aim, s.request, now)
		if fate == outOfTokens {
			break
		}
		sent = sent || fate == launched
		pausable = pausable && s.request == nil
	}
	if sent && pausable {
		l.readAt = now + reading
	}
	return sent
}

// shot is a probe that is due.
type shot struct {
	aim     *aim
	request *request
}

// schedule says when an aim of the background is probed next: at its place in the interval, but not sooner than half of it.
func (l *loop) schedule(a *aim, now time.Duration) {
	a.quick = false
	place := now + l.interval/2 - l.epoch - a.phase
	turns := (place + l.interval - 1) / l.interval
	a.due = l.epoch + a.phase + turns*l.interval
}

// fate is what became of the try to send a probe.
type fate int

const (
	launched    fate = iota
	held             // too soon after another to the same target
	outOfTokens      // of the rate limit
	failed
)

// launch sends a probe to an aim by the first method that works.
func (l *loop) launch(a *aim, r *request, now time.Duration) fate {
	if wait := l.tooSoon(a, now); wait > 0 {
		a.hold = now + wait
		return held
	}
	if !l.spend(now) {
		return outOfTokens
	}
	l.progress = true
	if r == nil {
		l.schedule(a, now)
	} else {
		a.due = now + r.Interval
	}
	for {
		err := l.shoot(a, r, a.current(), false, now)
		if err == nil {
			return launched
		}
		if judge(err) != notAllowed {
			return failed
		}
		if !a.refuse(reasonOf(err)) {
			if r != nil {
				r.hopeless = true
			}
			return failed
		}
	}
}

// tooSoon is how long it is until a target may be probed again.
func (l *loop) tooSoon(a *aim, now time.Duration) time.Duration {
	return l.sooner(l.pacingOf(a, a.current()), now)
}

func (l *loop) pacingOf(a *aim, method probe.Method) pacing {
	if method == probe.DNS {
		return pacing{method: method, name: a.target.Host}
	}
	return pacing{method: method, to: a.to(method)}
}

// try sends one probe by a better method than the one in use.
func (l *loop) try(a *aim, now time.Duration) {
	a.trial = now + trialPeriod
	if a.flying < probe.MostOutstandingPerTo-1 && l.spend(now) {
		_ = l.shoot(a, nil, a.candidates[0], true, now)
	}
}

// shoot sends one probe. What the network says to it at once is an answer like any other; an error that is returned means that
// there was no probe.
func (l *loop) shoot(a *aim, r *request, method probe.Method, trial bool, now time.Duration) error {
	timeout := l.timeout
	if r != nil {
		timeout = r.Timeout
	}
	f := l.newFlight()
	*f = flight{aim: a, request: r, method: method, trial: trial, timeout: timeout}
	// What comes next keeps its distance from when this has been sent.
	to := l.pacingOf(a, method)
	defer func() { l.note(to, l.clock.Monotonic()) }()
	var err error
	if method == probe.DNS {
		f.sent = l.clock.Monotonic()
		f.token = l.ask(a.target.Host, timeout)
	} else {
		var g *gun
		if g, err = l.gun(method, now); err == nil {
			var sent int
			l.token++
			f.token, f.sent = l.token, l.clock.Monotonic()
			sent, err = g.Send(a.to(method), l.token)
			l.count(sent)
		}
	}
	if err == nil {
		f.deadline = f.sent + timeout
		if method == probe.DNS {
			f.deadline += timeout / 10 // the resolver has the same timeout, and can say who did not answer
		}
		l.flights[f.token] = f
		a.flying++
		return nil
	}
	if trial {
		return err
	}
	switch judge(err) {
	case unanswered:
		a.lose(f, reasonOf(err), reasonOf(err), l.clock.Monotonic())
		l.doubt(a)
	case spoilt:
		l.spoil(f, err)
	}
	return err
}

// gun is the prober of a method.
func (l *loop) gun(method probe.Method, now time.Duration) (*gun, error) {
	g := l.guns[method]
	if g == nil || g.err != nil && now-g.tried >= openAgain {
		g = &gun{tried: now}
		if g.Prober, g.err = l.tools.Prober(method); g.err != nil {
			g.Prober = nil
		}
		l.guns[method] = g
	}
	return g, g.err
}

// receive takes in what came.
func (l *loop) receive() {
	for _, g := range l.guns {
		if g.Prober != nil {
			g.Receive(l.came)
		}
	}
	if l.resolver != nil {
		l.count(l.resolver.Receive(l.lookedUp))
	}
}

// came takes in how a probe ended.
func (l *loop) came(r probe.Result) {
	f := l.flights[r.Token]
	if f == nil {
		return
	}
	l.land(f, r)
}

func (l *loop) lookedUp(r dns.Answer) {
	l.progress = true
	if n := l.lookups[r.Token]; n != nil {
		delete(l.lookups, r.Token)
		n.take(r.Addresses, r.Err, l.clock.Monotonic())
		l.renamed(n)
		return
	}
	f := l.flights[r.Token]
	if f == nil {
		return
	}
	if r.Err == nil && len(r.Addresses) > 0 {
		if address := r.Addresses[0].Unmap(); f.aim.address != address && !slices.Contains(r.Addresses, f.aim.address) {
			f.aim.address, f.aim.result = address, nil // what a name means is no part of how long it takes
		}
	}
	l.land(f, probe.Result{Token: r.Token, Method: probe.DNS, RTT: r.RTT, Err: r.Err})
}

// land ends a flight.
func (l *loop) land(f *flight, r probe.Result) {
	delete(l.flights, f.token)
	defer l.drop(f)
	l.progress = true
	a, now := f.aim, l.clock.Monotonic()
	a.flying--
	switch {
	case r.Err == nil && r.RTT <= f.timeout:
		a.answer(f, r, now)
	case f.trial:
	case r.Err == nil, r.Err == probe.ErrLost: // a wrapped one has a sentence of its own
		l.silent(f, now)
	case errors.Is(r.Err, probe.ErrLost):
		a.lose(f, reasonOf(r.Err), "", now)
		l.doubt(a)
	case judge(r.Err) == spoilt:
		l.spoil(f, r.Err)
	default:
		a.lose(f, reasonOf(r.Err), reasonOf(r.Err), now)
		l.doubt(a)
	}
}

// spoil ends a probe that tells nothing about the network.
func (l *loop) spoil(f *flight, err error) {
	f.aim.fail(reasonOf(err))
	if f.request != nil {
		f.request.spoilt++
	}
}

// silent counts a probe that nothing answered.
func (l *loop) silent(f *flight, now time.Duration) {
	if f.trial {
		return
	}
	f.aim.lose(f, fmt.Sprintf("no answer within %s", secondsOf(f.timeout)), "", now)
	l.doubt(f.aim)
}

// doubt looks up the name of a target that does not answer: it may mean another address by now.
func (l *loop) doubt(a *aim) {
	if a.name != nil {
		a.name.hurry()
	}
}

// expire gives up probes that were due before a time.
func (l *loop) expire(before time.Duration) {
	for token, f := range l.flights {
		if f.deadline > before {
			continue
		}
		l.progress = true
		l.abandon(f)
		delete(l.flights, token)
		f.aim.flying--
		l.silent(f, f.sent+f.timeout)
		l.drop(f)
	}
}

// newFlight and drop reuse the memory of probes that have ended.
func (l *loop) newFlight() *flight {
	n := len(l.dropped)
	if n == 0 {
		return &flight{}
	}
	f := l.dropped[n-1]
	l.dropped = l.dropped[:n-1]
	return f
}

func (l *loop) drop(f *flight) { l.dropped = append(l.dropped, f) }

// finish publishes what changed.
func (l *loop) finish() {
	changed := l.changed || l.results == nil
	for _, a := range l.aims {
		changed = changed || a.result == nil
	}
	l.changed = false
	if changed {
		l.results = l.summarize()
	}
	l.requests = slices.DeleteFunc(l.requests, func(r *request) bool {
		done := l.settled(r)
		r.publish(done)
		if done {
			l.recall(r.aim)
			l.dropName(r.aim.name)
			if r.trace != nil {
				r.trace.Close()
			}
			l.done = append(l.done, r)
		}
		return done
	})
}

func (l *loop) summarize() *Results {
	all := &Results{Targets: make([]*Result, 0, len(l.aims))}
	for _, a := range l.aims {
		r := a.publish()
		if a.hidden {
			continue
		}
		if a.peer && l.ownAt == 0 {
			continue // it is not known yet whether it is this host
		}
		all.Targets = append(all.Targets, r)
		all.Sent += r.Sent
		all.Lost += r.Lost
		all.Received += r.Received
	}
	all.P50 = l.round.quantile(0.5)
	return all
}

// idle tells whether there is nobody to probe.
func (l *loop) idle() bool { return len(l.aims) == 0 && len(l.requests) == 0 }

// close closes everything.
func (l *loop) close() {
	for _, g := range l.guns {
		if g.Prober != nil {
			g.Close()
		}
	}
	if l.resolver != nil {
		l.resolver.Close()
	}
	for _, r := range l.requests {
		if r.trace != nil {
			r.trace.Close()
		}
	}
	clear(l.guns)
	l.resolver = nil
}

// reasonOf is the sentence of an error.
func reasonOf(err error) string { return err.Error() }

// secondsOf writes a timeout as people do: "1 s", "0.25 s".
func secondsOf(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }
