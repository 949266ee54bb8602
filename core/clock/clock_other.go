//go:build !linux

package clock

import (
	"sync"
	"time"
)

// monotonicNow has no start that other programs share on this system.
func monotonicNow() time.Duration { return 0 }

// ThreadCPU is not told on this system.
func ThreadCPU() (cpu time.Duration, ok bool) { return 0, false }

// Waker lets one goroutine wait for a time that any other goroutine may cut short.
type Waker struct {
	once  sync.Once
	wakes chan struct{}
}

func (w *Waker) channel() chan struct{} {
	w.once.Do(func() { w.wakes = make(chan struct{}, 1) })
	return w.wakes
}

// Wait returns after d, or earlier when Wake was called since the last Wait returned.
func (w *Waker) Wait(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.channel():
	case <-timer.C:
	}
}

// Wake ends the current Wait, or the next one at once.
func (w *Waker) Wake() {
	select {
	case w.channel() <- struct{}{}:
	default:
	}
}

// Sleep blocks the calling goroutine for d.
func Sleep(d time.Duration) { time.Sleep(d) }
