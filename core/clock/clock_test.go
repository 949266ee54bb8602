package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSystem_agreesWithTheKernel(t *testing.T) {
	c := System()
	before := monotonicNow()
	now := c.Monotonic()
	after := monotonicNow()
	if before != 0 {
		assert.GreaterOrEqual(t, now, before-time.Millisecond)
		assert.LessOrEqual(t, now, after+time.Millisecond)
	}
	assert.WithinDuration(t, time.Now(), c.Wall(), time.Second)
}

// However busy the machine is, the clock is not ahead of the kernel's.
func TestSystem_isNotAhead(t *testing.T) {
	for range 20_000 {
		c := System()
		now := c.Monotonic()
		if after := monotonicNow(); after != 0 {
			require.LessOrEqual(t, now, after)
		}
	}
}

func TestFake_wallStepsAreNoTime(t *testing.T) {
	f := NewFake(time.Minute, time.Unix(1000, 0))
	f.StepWall(-time.Hour)
	f.Advance(time.Second)
	assert.Equal(t, time.Minute+time.Second, f.Monotonic())
	assert.Equal(t, time.Unix(1001, 0).Add(-time.Hour), f.Wall())
}

func TestWaker_wakeEndsTheWait(t *testing.T) {
	var w Waker
	returned := make(chan time.Duration)
	began := time.Now()
	go func() {
		w.Wait(time.Minute)
		returned <- time.Since(began)
	}()
	w.Wake()
	select {
	case <-returned:
	case <-time.After(10 * time.Second):
		t.Fatal("Wait did not return")
	}
}

func TestWaker_wakeBeforeTheWait(t *testing.T) {
	var w Waker
	w.Wake()
	began := time.Now()
	w.Wait(time.Minute)
	assert.Less(t, time.Since(began), 10*time.Second)
}

func TestWaker_waitEndsByItself(t *testing.T) {
	var w Waker
	began := time.Now()
	w.Wait(20 * time.Millisecond)
	assert.GreaterOrEqual(t, time.Since(began), 19*time.Millisecond)
	w.Wait(0)
	w.Wait(-time.Second)
}
