package reach

import (
	"slices"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
	"netmon/core/probe/path"
)

// keptAnswers is how long an answer waits to be fetched.
const keptAnswers = 60 * time.Second

// request is a request under way. The loop writes it; callers read answer, and waiters under the engine's lock.
type request struct {
	Request
	id       uint64
	aim      *aim
	spoilt   int  // probes that tell nothing
	extra    int  // probes beyond Count, to try all methods
	hopeless bool // the method is not allowed, and no other was asked for
	trace    Tracer
	path     *path.Result // as known now

	answer   atomic.Pointer[Answer]
	canceled atomic.Bool
	waiters  []*clock.Waker
	finished time.Duration // 0: it is not
}

func newRequest(id uint64, asked Request) *request {
	r := &request{Request: asked, id: id}
	r.answer.Store(&Answer{ID: id, OfPath: asked.Path, Result: &Result{Target: asked.Text, Address: asked.Address, Refused: map[string]string{}}})
	return r
}

// begin makes the request's aim.
func (l *loop) begin(r *request, port uint16) {
	r.aim = newAim(r.Target, port)
	r.aim.silence = min(mostSilent, r.Count)
	r.aim.due = l.clock.Monotonic()
	// What the background found out need not be found out again.
	r.aim.job = slices.ContainsFunc(l.aims, func(a *aim) bool { return a.target.Host == r.Host && a.publish().Peer })
	for _, a := range l.aims {
		if a.answered && a.target.Host == r.Host && a.target.Method == r.Method && a.portOf(probe.TCP) == r.aim.portOf(probe.TCP) {
			r.aim.address, r.aim.choice, r.aim.refused = a.address, a.choice, a.refused
			break
		}
	}
	if r.aim.name = l.nameOf(r.Target); r.aim.name != nil && r.aim.name.address.IsValid() {
		r.aim.address = r.aim.name.address
	}
	l.requests = append(l.requests, r)
}

// stale tells whether an answer waited too long to be fetched. The caller holds the engine's lock, as for tell.
func (r *request) stale(now time.Duration) bool {
	return r.finished != 0 && now-r.finished > keptAnswers
}

// tell ends the waiting for a request.
func (r *request) tell() {
	for _, w := range r.waiters {
		w.Wake()
	}
}

// ended tells whether all probes that were asked for have ended.
func (r *request) ended() bool {
	most := r.Count
	if !r.aim.answered {
		most += r.extra
	}
	return r.aim.window.sent()+r.spoilt >= most
}

// settled tells whether a request is done.
func (l *loop) settled(r *request) bool {
	a := r.aim
	switch {
	case r.canceled.Load(), r.hopeless:
		return true
	case l.blocked != "":
		a.fail(l.blocked)
		return true
	case !l.sendable(a):
		if a.name != nil && a.name.problem != "" {
			a.fail(a.name.problem)
			return true
		}
		return false
	case r.Path:
		return r.trace != nil && r.trace.Done()
	case a.flying > 0 || !r.ended():
		return false
	case !a.answered && a.silent == 0 && 0 < a.tried && a.tried < len(a.candidates):
		r.extra++ // no answer at all: the methods that are left are tried as well
		return false
	}
	for a.window.sent() > r.Count {
		a.window.dropFirst()
		a.result = nil
	}
	return true
}

// publish makes the answer of what is known now.
func (r *request) publish(done bool) {
	before := r.answer.Load()
	if result := r.aim.publish(); result != before.Result || r.path != before.Path || done != before.Done {
		r.answer.Store(&Answer{ID: r.id, Done: done, Result: result, OfPath: r.Path, Path: r.path})
	}
}

// mostTracing is how long a trace may take, with the time that its last probes wait for an answer beside it.
const mostTracing = 30 * time.Second

// trace goes on with the traces of paths. Each sends at most 50 probes a second; the limit of the rate holds for the others then.
func (l *loop) trace() {
	for _, r := range l.requests {
		if !r.Path || l.blocked != "" || !l.sendable(r.aim) || r.canceled.Load() {
			continue
		}
		if r.trace == nil {
			if !l.spend(l.clock.Monotonic()) {
				continue
			}
			options := path.Options{Target: r.aim.address, PerHop: r.Count, Timeout: r.Timeout, Limit: mostTracing + 3*r.Timeout}
			if method := r.Method; method == probe.ICMP || method == probe.UDP {
				options.Method = method
			}
			trace, err := l.tools.Trace(options)
			if err != nil {
				r.aim.fail(reasonOf(err))
				r.hopeless = true
				continue
			}
			r.trace = trace
		}
		if r.trace.Done() {
			continue
		}
		if sent := r.trace.Receive(); sent > 0 {
			l.count(sent)
			l.tokens--
			l.progress = true
		}
		result := r.trace.Result()
		r.path = &result
	}
}
