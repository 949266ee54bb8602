package reach

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
)

// Engine probes in the background and on demand. Safe for concurrent use.
type Engine struct {
	clock     clock.Clock
	tools     Tools
	namespace *namespace
	limits    *limits // of the loop that runs; handed on under the lock
	bytes     atomic.Uint64
	cpu       atomic.Int64 // nanoseconds
	results   atomic.Pointer[Results]
	problem   atomic.Pointer[string]
	responder atomic.Pointer[responder] // nil: UDP echoes are not answered
	ordered   atomic.Bool               // something below changed that the loop has not seen

	mu       sync.Mutex // guards what follows
	closed   bool
	broken   bool
	bell     *bell // of the loop that runs, nil where none does
	loops    int   // that run or are ending
	plan     *Plan // to be followed, nil for the one that is
	port     uint16
	targets  bool // there are some
	issued   uint64
	fresh    []*request // the loop has not seen them
	requests map[uint64]*request
}

// New makes an engine for the calling thread's network namespace. It has no goroutine and no socket as long as nobody is to be
// probed.
//
// Errors: where no descriptor is left.
func New(options Options) (*Engine, error) {
	e := &Engine{
		clock: options.Clock, tools: options.Tools, limits: newLimits(options.Clock.Monotonic()), requests: make(map[uint64]*request),
	}
	var err error
	if e.namespace, err = thisNamespace(); err != nil {
		return nil, fmt.Errorf("reach: %w", err)
	}
	e.results.Store(&Results{})
	return e, nil
}

// Follow takes over a plan.
func (e *Engine) Follow(p Plan) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.port = p.Port
	if e.closed || e.broken || len(p.Targets) == 0 && !e.targets {
		return
	}
	if !e.targets {
		// Who is probed is known at once; whether peers are this host is found out by the loop.
		first := &Results{}
		for _, t := range p.Targets {
			if a := newAim(t.Target, p.Port); !t.Peer || t.Named {
				a.enlist(t)
				first.Targets = append(first.Targets, a.publish())
			}
		}
		e.results.Store(first)
	}
	e.plan, e.targets = &p, len(p.Targets) > 0
	e.wake()
}

// Results are the newest.
func (e *Engine) Results() *Results { return e.results.Load() }

// Bytes is what probes, and answers to those of others, have sent, from the IP header on.
func (e *Engine) Bytes() uint64 {
	total := e.bytes.Load()
	if r := e.responder.Load(); r != nil {
		total += r.state.Load().bytes(r.at)
	}
	return total
}

// CPU is the time that the engine's threads have used: the one that probes, and the one that answers others' probes.
func (e *Engine) CPU() time.Duration {
	used := time.Duration(e.cpu.Load())
	if r := e.responder.Load(); r != nil {
		used += r.state.Load().used()
	}
	return used
}

// Problems are what keeps probes, or the answering of others' probes, from working at all.
func (e *Engine) Problems() (problems []string) {
	if p := e.problem.Load(); p != nil && *p != "" {
		problems = append(problems, *p)
	}
	if r := e.responder.Load(); r != nil {
		if p := r.problem.Load(); p != nil && *p != "" {
			problems = append(problems, *p)
		}
	}
	return problems
}

// Start begins a request.
// Errors: ErrClosed, ErrBusy, ErrBroken.
func (e *Engine) Start(asked Request) (id uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return 0, ErrClosed
	case e.broken:
		return 0, ErrBroken
	}
	now := e.clock.Monotonic()
	maps.DeleteFunc(e.requests, func(_ uint64, r *request) bool { return r.stale(now) })
	if len(e.requests) >= probe.MostRequestsAtATime {
		return 0, ErrBusy
	}
	e.issued++
	r := newRequest(e.issued, asked)
	e.requests[r.id] = r
	e.fresh = append(e.fresh, r)
	e.wake()
	return r.id, nil
}

// Wait waits for a request to be done, at most so long, and tells what is known of it. Once it is done its id holds no longer.
// Errors: ErrClosed, ErrUnknown.
func (e *Engine) Wait(id uint64, most time.Duration) (*Answer, error) {
	var waker clock.Waker
	r, err := e.find(id, &waker)
	if err != nil {
		return nil, err
	}
	for end := e.clock.Monotonic() + most; ; {
		answer, err := e.look(r)
		if err != nil || answer.Done {
			e.leave(r, &waker)
			return answer, err
		}
		left := end - e.clock.Monotonic()
		if left <= 0 {
			e.leave(r, &waker)
			return answer, nil
		}
		waker.Wait(left)
	}
}

// Cancel ends a request and tells what is known of it.
// Errors: ErrClosed, ErrUnknown.
func (e *Engine) Cancel(id uint64) (*Answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.requests[id]
	switch {
	case e.closed:
		return nil, ErrClosed
	case r == nil:
		return nil, ErrUnknown
	}
	delete(e.requests, id)
	r.canceled.Store(true) // the loop gives up what is under way
	answer := *r.answer.Load()
	answer.Done = true
	r.answer.Store(&answer)
	r.tell()
	e.wake()
	return &answer, nil
}

func (e *Engine) find(id uint64, waker *clock.Waker) (*request, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.requests[id]
	switch {
	case e.closed:
		return nil, ErrClosed
	case r == nil, r.stale(e.clock.Monotonic()):
		return nil, ErrUnknown
	}
	r.waiters = append(r.waiters, waker)
	return r, nil
}

// look tells what is known of a request that is waited for.
func (e *Engine) look(r *request) (*Answer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	answer := r.answer.Load()
	if answer.Done {
		delete(e.requests, r.id)
	} else if e.closed {
		return nil, ErrClosed
	}
	return answer, nil
}

func (e *Engine) leave(r *request, waker *clock.Waker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.waiters = slices.DeleteFunc(r.waiters, func(w *clock.Waker) bool { return w == waker })
}

// wake makes the loop look at its orders, and starts it where it does not run. The caller holds the lock.
func (e *Engine) wake() {
	e.ordered.Store(true)
	if e.bell != nil {
		e.bell.ring()
		return
	}
	e.bell = &bell{}
	e.loops++
	go e.run(e.bell)
}

// Close ends everything that is under way. It does not wait for it: Ended tells.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	e.closed = true
	for _, r := range e.requests {
		r.tell()
	}
	if e.bell != nil {
		e.ordered.Store(true)
		e.bell.ring()
	}
	if r := e.responder.Load(); r != nil {
		r.close()
	}
	if e.loops == 0 {
		e.namespace.close()
	}
}

// ended counts a goroutine that ends. The caller holds the lock.
func (e *Engine) ended() {
	e.loops--
	if e.closed && e.loops == 0 {
		e.namespace.close()
	}
}

// Ended tells whether an engine that was closed has ended.
func (e *Engine) Ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.loops == 0
}

// Inside calls f on a thread in the engine's network namespace; f returns how many bytes it has sent.
// Errors: ErrClosed, and why there is no such thread.
func (e *Engine) Inside(f func() (sent int)) error {
	runtime.LockOSThread()
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		runtime.UnlockOSThread()
		return ErrClosed
	}
	leave, err := e.namespace.enter()
	e.mu.Unlock()
	if leave != nil {
		// As in run: where the thread cannot be moved back, it ends with the goroutine.
		defer leave()
	} else {
		defer runtime.UnlockOSThread()
	}
	if err != nil {
		return err
	}
	e.bytes.Add(uint64(f()))
	return nil
}

// run is the goroutine.
func (e *Engine) run(b *bell) {
	defer e.end()
	// TCP takes a socket a probe, so this goroutine keeps a thread in the monitor's namespace.
	runtime.LockOSThread()
	l := newLoop(e.clock, e.tools, b, e.limits, func(bytes int) { e.bytes.Add(uint64(bytes)) })
	leave, err := e.namespace.enter()
	if leave != nil {
		// The thread is not used for anything else afterwards: a goroutine that ends without giving it back ends it.
		defer leave()
	} else {
		defer runtime.UnlockOSThread()
	}
	if err != nil {
		l.blocked = err.Error()
	}
	e.problem.Store(&l.blocked)
	defer l.close()
	b.open()
	defer b.close()
	spent := time.Duration(e.cpu.Load())
	began, _ := clock.ThreadCPU()
	for e.instruct(l) {
		l.turn()
		if l.results != e.results.Load() {
			e.results.Store(l.results)
		}
		if len(l.done) > 0 {
			e.deliver(l)
		}
		if now, ok := clock.ThreadCPU(); ok {
			e.cpu.Store(int64(spent + now - began))
		}
	}
}

// instruct hands the loop what it is to do, and tells whether it goes on.
func (e *Engine) instruct(l *loop) bool {
	if !e.ordered.Load() && !l.idle() {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ordered.Store(false)
	if e.closed {
		e.bell = nil
		return false
	}
	if e.plan != nil {
		l.follow(*e.plan)
		e.plan = nil
	}
	for _, r := range e.fresh {
		l.begin(r, e.port)
	}
	e.fresh = nil
	if l.idle() && !l.changed {
		e.bell = nil
		return false
	}
	return true
}

// deliver ends the waiting for requests that are done.
func (e *Engine) deliver(l *loop) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.clock.Monotonic()
	for _, r := range l.done {
		r.finished = now
		r.tell()
	}
	l.done = l.done[:0]
}

// end is the end of the goroutine. A defect must not end the host: it is told as a problem, and nothing is probed any more.
func (e *Engine) end() {
	p := recover()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended()
	if p == nil {
		return
	}
	problem := fmt.Sprintf("internal error, nothing is probed any more: %v", p)
	e.problem.Store(&problem)
	e.broken, e.bell = true, nil
	failed := *e.results.Load()
	failed.Targets = slices.Clone(failed.Targets)
	for i, r := range failed.Targets {
		one := *r
		one.Error = problem
		failed.Targets[i] = &one
	}
	e.results.Store(&failed)
	for _, r := range e.requests {
		if before := r.answer.Load(); !before.Done {
			result := *before.Result
			result.Error = problem
			r.answer.Store(&Answer{ID: r.id, Done: true, Result: &result, OfPath: r.Path, Path: before.Path})
			r.finished = e.clock.Monotonic()
			r.tell()
		}
	}
}
