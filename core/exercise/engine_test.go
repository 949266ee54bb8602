package exercise

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/clock"
	"netmon/core/tool"
)

func both() []tool.Direction { return []tool.Direction{tool.Transmit, tool.Receive} }

// newEngine is one whose tests do what the test says.
func newEngine(t *testing.T, clk clock.Clock, inside func(f func()) error) *Engine {
	t.Helper()
	e := New(Options{
		Clock: clk, Turn: &Turn{}, Inside: inside,
		Resolve: func(name string, _ func() bool) ([]netip.Addr, error) {
			return nil, errors.New(name + " does not resolve")
		},
		Variable: func(string) (string, bool) { return "", false },
	})
	t.Cleanup(func() {
		e.Close()
		require.Eventually(t, e.Ended, 10*time.Second, time.Millisecond)
	})
	return e
}

func straight(f func()) error {
	f()
	return nil
}

func errorsOf(t *testing.T, answer *Answer) (texts []string) {
	t.Helper()
	require.True(t, answer.Done)
	for _, one := range answer.Tests {
		require.Error(t, one.Err)
		texts = append(texts, one.Err.Error())
	}
	return texts
}

func TestEngine_failures(t *testing.T) {
	for want, tt := range map[string]struct {
		inside func(f func()) error
		asked  Request
	}{
		"node7 does not resolve":   {straight, Request{Tool: Netmon, Host: "node7"}},
		"there is no way in":       {func(func()) error { return errors.New("there is no way in") }, Request{Tool: Netmon}},
		"internal error: it broke": {func(func()) error { panic("it broke") }, Request{Tool: Netmon}},
		"iperf3: programs cannot be run here: unsupported operation": {straight, Request{Tool: IPerf3, Timeout: time.Second}},
	} {
		t.Run(want, func(t *testing.T) {
			e := newEngine(t, clock.System(), tt.inside)
			tt.asked.Directions, tt.asked.Target = both(), "node7"
			id, err := e.Start(tt.asked)
			require.NoError(t, err)
			answer, err := e.Wait(id, 10*time.Second)
			require.NoError(t, err)
			assert.Equal(t, []string{want, want}, errorsOf(t, answer))
			assert.Equal(t, answer.Tests, *e.Tests())
			_, err = e.Wait(id, 0)
			require.ErrorIs(t, err, ErrUnknown)
			_, err = e.Start(tt.asked)
			require.NoError(t, err, "the turn was given back")
		})
	}
}

func TestEngine_oneAtATime(t *testing.T) {
	release := make(chan struct{})
	e := newEngine(t, clock.System(), func(func()) error {
		<-release
		return errors.New("ended")
	})
	defer close(release)
	first, err := e.Start(Request{Directions: both()})
	require.NoError(t, err)
	_, err = e.Start(Request{Directions: both()})
	require.ErrorIs(t, err, ErrBusy)
	answer, err := e.Wait(first, 10*time.Millisecond)
	require.NoError(t, err)
	assert.False(t, answer.Done)
	assert.Empty(t, answer.Tests)
	// One that cannot be ended at once is answered, and the turn stays taken.
	began := time.Now()
	answer, err = e.Cancel(first)
	require.NoError(t, err)
	assert.Less(t, time.Since(began), 5*time.Second)
	assert.Equal(t, []string{"canceled", "canceled"}, errorsOf(t, answer))
	_, err = e.Start(Request{Directions: both()})
	require.ErrorIs(t, err, ErrBusy)
	release <- struct{}{}
	require.Eventually(t, func() bool {
		_, err := e.Start(Request{Directions: both()})
		return err == nil
	}, 10*time.Second, time.Millisecond)
}

func TestEngine_closeEndsTheWaiting(t *testing.T) {
	release := make(chan struct{})
	e := newEngine(t, clock.System(), func(func()) error {
		<-release
		return nil
	})
	id, err := e.Start(Request{Directions: both()})
	require.NoError(t, err)
	waited := make(chan error)
	go func() {
		_, err := e.Wait(id, time.Minute)
		waited <- err
	}()
	time.Sleep(10 * time.Millisecond)
	e.Close()
	require.ErrorIs(t, <-waited, ErrClosed)
	_, err = e.Start(Request{})
	require.ErrorIs(t, err, ErrClosed)
	assert.False(t, e.Ended())
	close(release)
}

// Answers wait a minute to be fetched, sixteen at most, and the newest sixteen directions are kept.
func TestEngine_forgets(t *testing.T) {
	fake := clock.NewFake(time.Hour, time.Unix(1_700_000_000, 0))
	e := newEngine(t, fake, straight)
	var ids []uint64
	for range 20 {
		require.Eventually(t, func() bool {
			id, err := e.Start(Request{Tool: Netmon, Directions: both(), Host: "node7"})
			ids = append(ids, id)
			if err != nil {
				ids = ids[:len(ids)-1]
			}
			return err == nil
		}, 10*time.Second, time.Millisecond)
	}
	require.Eventually(t, func() bool { return e.Turn.take() }, 10*time.Second, time.Millisecond)
	e.Turn.leave()
	assert.Len(t, *e.Tests(), 16)
	_, err := e.Wait(ids[3], 0)
	require.ErrorIs(t, err, ErrUnknown)
	answer, err := e.Wait(ids[4], 0)
	require.NoError(t, err)
	assert.True(t, answer.Done)
	fake.Advance(61 * time.Second)
	_, err = e.Wait(ids[19], 0)
	require.ErrorIs(t, err, ErrUnknown)
}
