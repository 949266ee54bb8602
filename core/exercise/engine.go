package exercise

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netmon/core/clock"
	"netmon/core/tool"
)

const (
	// keptTests is how many finished tests are remembered.
	keptTests = 16
	// keptAnswers is how long an answer waits to be fetched, mostUnfetched how many do.
	keptAnswers   = 60 * time.Second
	mostUnfetched = 16
	// killing is how long the canceling of a test waits for its end.
	killing = 90 * time.Millisecond
)

// Engine runs tests. Safe for concurrent use.
type Engine struct {
	Options
	closing atomic.Bool
	tests   atomic.Pointer[[]Test] // the newest that ended, oldest first
	cpu     atomic.Int64           // nanoseconds
	server  atomic.Pointer[server] // nil: nobody's tests are served

	mu       sync.Mutex // guards what follows
	running  int        // goroutines
	issued   uint64
	requests map[uint64]*request
}

// request is a test that was asked for.
type request struct {
	Request
	id       uint64
	began    time.Time // wall clock
	tests    []Test    // of its goroutine, until it has ended
	stopped  atomic.Bool
	answer   atomic.Pointer[Answer]
	ended    atomic.Bool    // its goroutine has
	waiters  []*clock.Waker // under the engine's lock
	finished time.Duration  // 0: it is not; under the engine's lock
}

// New makes an engine. It has no goroutine and opens nothing until somebody asks.
func New(options Options) *Engine {
	e := &Engine{Options: options, requests: make(map[uint64]*request)}
	e.tests.Store(&[]Test{})
	return e
}

// Tests are the newest that ended, oldest first.
func (e *Engine) Tests() *[]Test { return e.tests.Load() }

// CPU is the time that netmon's threads have used for tests; that of programs is not in it.
func (e *Engine) CPU() time.Duration {
	used := time.Duration(e.cpu.Load())
	if s := e.server.Load(); s != nil {
		used += s.used()
	}
	return used
}

// Start begins a test.
// Errors: ErrClosed, ErrBusy.
func (e *Engine) Start(asked Request) (id uint64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Load() {
		return 0, ErrClosed
	}
	now := e.Clock.Monotonic()
	maps.DeleteFunc(e.requests, func(_ uint64, r *request) bool { return r.stale(now) })
	if !e.Turn.take() {
		return 0, ErrBusy
	}
	if len(e.requests) >= mostUnfetched { // all of them have ended: one runs at a time
		delete(e.requests, slices.Min(slices.Collect(maps.Keys(e.requests))))
	}
	e.issued++
	r := &request{Request: asked, id: e.issued, began: e.Clock.Wall()}
	r.answer.Store(&Answer{ID: r.id, Tests: []Test{}})
	e.requests[r.id] = r
	e.running++
	go e.exercise(r)
	return r.id, nil
}

// Wait waits for a test to end, at most so long, and tells what is known of it. Once it has ended its id holds no longer.
// Errors: ErrClosed, ErrUnknown.
func (e *Engine) Wait(id uint64, most time.Duration) (*Answer, error) {
	var waker clock.Waker
	r, err := e.find(id, &waker)
	if err != nil {
		return nil, err
	}
	defer e.leave(r, &waker)
	for end := e.Clock.Monotonic() + most; ; {
		answer := r.answer.Load()
		left := end - e.Clock.Monotonic()
		switch {
		case answer.Done:
			e.forget(r)
			return answer, nil
		case e.closing.Load():
			return nil, ErrClosed
		case left <= 0:
			return answer, nil
		}
		waker.Wait(left)
	}
}

// Cancel ends a test, waiting at most 0.1 s for that, and tells what is known of it.
// Errors: ErrClosed, ErrUnknown.
func (e *Engine) Cancel(id uint64) (*Answer, error) {
	var waker clock.Waker
	r, err := e.find(id, &waker)
	if err != nil {
		return nil, err
	}
	defer e.leave(r, &waker)
	r.stopped.Store(true)
	for end := e.Clock.Monotonic() + killing; !r.ended.Load() && e.Clock.Monotonic() < end; {
		waker.Wait(end - e.Clock.Monotonic())
	}
	e.forget(r)
	answer := r.answer.Load()
	if !answer.Done {
		answer = &Answer{ID: r.id, Done: true, Tests: r.failed(tool.ErrStopped)}
	}
	return answer, nil
}

func (e *Engine) find(id uint64, waker *clock.Waker) (*request, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.requests[id]
	switch {
	case e.closing.Load():
		return nil, ErrClosed
	case r == nil, r.stale(e.Clock.Monotonic()):
		return nil, ErrUnknown
	}
	r.waiters = append(r.waiters, waker)
	return r, nil
}

func (e *Engine) forget(r *request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.requests, r.id)
}

func (e *Engine) leave(r *request, waker *clock.Waker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.waiters = slices.DeleteFunc(r.waiters, func(w *clock.Waker) bool { return w == waker })
}

// stale tells whether an answer waited too long to be fetched. The caller holds the engine's lock, as for tell.
func (r *request) stale(now time.Duration) bool {
	return r.finished != 0 && now-r.finished > keptAnswers
}

func (r *request) tell() {
	for _, w := range r.waiters {
		w.Wake()
	}
}

// failed are the tests of a request of which nothing came.
func (r *request) failed(err error) []Test {
	tests := make([]Test, len(r.Directions))
	for i, direction := range r.Directions {
		tests[i] = r.test(tool.Result{Direction: direction, Parallel: r.Parallel, Err: err})
	}
	return tests
}

func (r *request) test(result tool.Result) Test {
	t := Test{Tool: r.Tool, Target: r.Target, Began: r.began, Result: result}
	if t.Target == "" {
		t.Target = result.Target
	}
	return t
}

// Close ends everything that is under way. It does not wait for it: Ended tells.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing.Swap(true) {
		return
	}
	for _, r := range e.requests {
		r.tell()
	}
	if s := e.server.Load(); s != nil {
		s.close()
	}
}

// Ended tells whether an engine that was closed has ended.
func (e *Engine) Ended() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.running == 0
}

// exercise is the goroutine of a test.
func (e *Engine) exercise(r *request) {
	defer e.end(r)
	// A program that is started ends with the thread that started it, and the thread is in the monitor's namespace for good.
	runtime.LockOSThread()
	stop := func() bool { return r.stopped.Load() || e.closing.Load() }
	refused := e.Inside(func() {
		before, timed := clock.ThreadCPU()
		for _, result := range e.measure(&r.Request, stop) {
			r.tests = append(r.tests, r.test(result))
		}
		if after, ok := clock.ThreadCPU(); ok && timed {
			e.cpu.Add(int64(after - before))
		}
	})
	if refused != nil {
		r.tests = r.failed(refused)
	}
}

// end is the end of the goroutine: it publishes what became of the test. A defect must not end the host.
func (e *Engine) end(r *request) {
	if p := recover(); p != nil {
		r.tests = r.failed(fmt.Errorf("internal error: %v", p))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	all := append(slices.Clone(*e.tests.Load()), r.tests...)
	all = slices.Clone(all[max(0, len(all)-keptTests):])
	e.tests.Store(&all)
	r.finished = e.Clock.Monotonic()
	r.answer.Store(&Answer{ID: r.id, Done: true, Tests: r.tests})
	r.ended.Store(true)
	e.running--
	e.Turn.leave()
	r.tell()
}
