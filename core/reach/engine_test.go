package reach

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/probe"
)

// echo answers at once, or never.
type echo struct {
	silent atomic.Bool
	broken atomic.Bool
	sent   atomic.Int64
	closed atomic.Int64
	opened atomic.Int64
}

type echoProber struct {
	*echo
	came []probe.Result
}

func (e *echoProber) Send(_ netip.AddrPort, token uint64) (int, error) {
	if e.broken.Load() {
		panic("a defect")
	}
	e.sent.Add(1)
	if !e.silent.Load() {
		e.came = append(e.came, probe.Result{Token: token, Method: probe.ICMP, RTT: time.Millisecond})
	}
	return 84, nil
}

func (e *echoProber) Descriptors(set []probe.Descriptor) []probe.Descriptor { return set }

func (e *echoProber) Receive(yield func(probe.Result)) {
	for _, r := range e.came {
		yield(r)
	}
	e.came = nil
}

func (e *echoProber) Forget(uint64) {}
func (e *echoProber) Close()        { e.closed.Add(1) }

func newEchoEngine(t *testing.T) (*Engine, *echo) {
	t.Helper()
	e := &echo{}
	engine, err := New(Options{Clock: clock.System(), Tools: Tools{
		Prober: func(probe.Method) (probe.Prober, error) {
			e.opened.Add(1)
			return &echoProber{echo: e}, nil
		},
		Own: func() ([]netip.Addr, error) { return nil, nil },
	}})
	require.NoError(t, err)
	t.Cleanup(func() {
		engine.Close()
		eventually(t, engine.Ended)
		assert.Equal(t, e.opened.Load(), e.closed.Load(), "probers are closed")
	})
	return engine, e
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 10*time.Second, time.Millisecond)
}

func aimAt(t *testing.T, texts ...string) (p Plan) {
	t.Helper()
	p.Interval, p.Timeout = 20*ms, time.Second
	for _, text := range texts {
		target, err := probe.ParseTarget(text)
		require.NoError(t, err)
		p.Targets = append(p.Targets, Aim{Target: target})
	}
	return p
}

func ask(t *testing.T, text string, count int) Request {
	t.Helper()
	target, err := probe.ParseTarget(text)
	require.NoError(t, err)
	return Request{Target: target, Count: count, Timeout: time.Second, Interval: 20 * ms}
}

func TestEngine_runsOnlyWhileThereAreTargets(t *testing.T) {
	e, sent := newEchoEngine(t)
	e.Follow(Plan{})
	assert.True(t, e.Ended(), "nobody to probe, and no goroutine")
	e.Follow(aimAt(t, "10.0.0.2"))
	require.Len(t, e.Results().Targets, 1, "who is probed is known at once")
	eventually(t, func() bool { return e.Results().Received > 2 })
	assert.NotZero(t, e.Bytes())
	assert.NotZero(t, e.CPU())
	e.Follow(Plan{})
	eventually(t, e.Ended)
	assert.Empty(t, e.Results().Targets)
	assert.Equal(t, sent.opened.Load(), sent.closed.Load())
	before := sent.sent.Load()
	e.Follow(aimAt(t, "10.0.0.3"))
	eventually(t, func() bool { return sent.sent.Load() > before })
}

func TestEngine_request(t *testing.T) {
	e, _ := newEchoEngine(t)
	id, err := e.Start(ask(t, "10.0.0.2", 3))
	require.NoError(t, err)
	answer, err := e.Wait(id, time.Minute)
	require.NoError(t, err)
	assert.True(t, answer.Done)
	assert.Equal(t, uint64(3), answer.Received)
	_, err = e.Wait(id, time.Minute)
	require.ErrorIs(t, err, ErrUnknown, "an id holds until its answer is fetched")
	_, err = e.Cancel(id)
	require.ErrorIs(t, err, ErrUnknown)
	eventually(t, e.Ended)
}

// The loop ends with each request, the limits do not.
func TestEngine_shortRequestsAreNoWayAroundTheLimits(t *testing.T) {
	e, sent := newEchoEngine(t)
	answer := func(text string) {
		id, err := e.Start(ask(t, text, 1))
		require.NoError(t, err)
		_, err = e.Wait(id, time.Minute)
		require.NoError(t, err)
	}
	began := time.Now()
	const same = 6
	for range same {
		answer("icmp://10.0.0.2")
	}
	assert.GreaterOrEqual(t, time.Since(began), (same-1)*probe.LeastInterval, "to one target")

	began = time.Now()
	const others = 250
	for i := range others {
		answer(fmt.Sprintf("icmp://10.0.1.%d", i+1))
	}
	assert.GreaterOrEqual(t, time.Since(began), (others-burst-1)*time.Second/probesPerSecond, "to all together")
	assert.Equal(t, int64(same+others), sent.sent.Load())
}

func TestEngine_waitsInSlices(t *testing.T) {
	e, sent := newEchoEngine(t)
	sent.silent.Store(true)
	began := time.Now()
	id, err := e.Start(ask(t, "icmp://10.0.0.2", 1000))
	require.NoError(t, err)
	for range 3 {
		answer, err := e.Wait(id, 30*ms)
		require.NoError(t, err)
		assert.False(t, answer.Done)
	}
	assert.GreaterOrEqual(t, time.Since(began), 90*ms)
	answer, err := e.Cancel(id)
	require.NoError(t, err)
	assert.True(t, answer.Done)
	eventually(t, e.Ended)
}

func TestEngine_cancelEndsTheWaiting(t *testing.T) {
	e, sent := newEchoEngine(t)
	sent.silent.Store(true)
	id, err := e.Start(ask(t, "icmp://10.0.0.2", 1000))
	require.NoError(t, err)
	var waiters sync.WaitGroup
	for range 3 {
		waiters.Add(1)
		go func() {
			defer waiters.Done()
			answer, err := e.Wait(id, time.Minute)
			// The request may have been canceled before this one began to wait.
			if err == nil {
				assert.True(t, answer.Done)
			} else {
				assert.ErrorIs(t, err, ErrUnknown)
			}
		}()
	}
	_, err = e.Cancel(id)
	require.NoError(t, err)
	waiters.Wait()
}

func TestEngine_closeEndsTheWaiting(t *testing.T) {
	e, sent := newEchoEngine(t)
	sent.silent.Store(true)
	e.Follow(aimAt(t, "10.0.0.2", "10.0.0.3"))
	id, err := e.Start(ask(t, "icmp://10.0.0.2", 1000))
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		_, err := e.Wait(id, time.Minute)
		ended <- err
	}()
	eventually(t, func() bool { return sent.sent.Load() > 0 })
	e.Close()
	require.ErrorIs(t, <-ended, ErrClosed)
	_, err = e.Start(ask(t, "10.0.0.2", 1))
	require.ErrorIs(t, err, ErrClosed)
	_, err = e.Cancel(id)
	require.ErrorIs(t, err, ErrClosed)
	e.Follow(aimAt(t, "10.0.0.2"))
	e.Close()
	eventually(t, e.Ended)
}

func TestEngine_sixteenRequests(t *testing.T) {
	e, sent := newEchoEngine(t)
	sent.silent.Store(true)
	var ids []uint64
	for range probe.MostRequestsAtATime {
		id, err := e.Start(ask(t, "icmp://10.0.0.2", 1000))
		require.NoError(t, err)
		ids = append(ids, id)
	}
	_, err := e.Start(ask(t, "10.0.0.2", 1))
	require.ErrorIs(t, err, ErrBusy)
	_, err = e.Cancel(ids[3])
	require.NoError(t, err)
	id, err := e.Start(ask(t, "10.0.0.2", 1))
	require.NoError(t, err)
	assert.Greater(t, id, ids[15], "ids are not used twice")
}

func TestEngine_answersNobodyFetchesAreForgotten(t *testing.T) {
	fake := clock.NewFake(time.Hour, time.Unix(1e9, 0))
	e, err := New(Options{Clock: fake})
	require.NoError(t, err)
	defer e.Close()
	for id := range uint64(probe.MostRequestsAtATime) {
		r := newRequest(id+1, Request{})
		r.finished = fake.Monotonic()
		e.requests[id+1] = r
	}
	_, err = e.Start(Request{})
	require.ErrorIs(t, err, ErrBusy)
	fake.Advance(keptAnswers + time.Second)
	_, err = e.Wait(5, 0)
	require.ErrorIs(t, err, ErrUnknown)
	e.bell = &bell{} // no goroutine in this test
	_, err = e.Start(Request{})
	require.NoError(t, err)
	assert.Len(t, e.requests, 1)
}

func TestEngine_aDefectIsTold(t *testing.T) {
	e, broken := newEchoEngine(t)
	e.Follow(aimAt(t, "10.0.0.2"))
	eventually(t, func() bool { return e.Results().Received > 0 })
	id, err := e.Start(ask(t, "10.0.0.3", 1000))
	require.NoError(t, err)
	broken.broken.Store(true)
	answer, err := e.Wait(id, time.Minute)
	require.NoError(t, err)
	assert.Contains(t, answer.Error, "a defect")
	assert.Contains(t, strings.Join(e.Problems(), ""), "a defect")
	assert.Contains(t, e.Results().Targets[0].Error, "a defect")
	_, err = e.Start(ask(t, "10.0.0.2", 1))
	require.ErrorIs(t, err, ErrBroken)
	e.Follow(aimAt(t, "10.0.0.4"))
	assert.True(t, e.Ended())
}

// Everybody at once, for the race detector.
func TestEngine_crowd(t *testing.T) {
	e, _ := newEchoEngine(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for n := range 30 {
				switch (i + n) % 4 {
				case 0:
					e.Follow(aimAt(t, "10.0.0.2", "10.0.0.3"))
				case 1:
					e.Follow(Plan{})
				case 2:
					if id, err := e.Start(ask(t, "10.0.0.4", 1)); err == nil {
						_, err = e.Wait(id, time.Minute)
						assert.NoError(t, err)
					}
				default:
					if id, err := e.Start(ask(t, "10.0.0.5", 1000)); err == nil {
						_, _ = e.Wait(id, ms)
						_, _ = e.Cancel(id)
					}
				}
				for _, r := range e.Results().Targets {
					assert.NotEmpty(t, r.Target)
				}
				runtime.Gosched()
			}
		}()
	}
	all.Wait()
}
