//go:build !linux

package reach

import (
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
)

// bell waits, and is rung by other goroutines to end the waiting. What probers received is looked at often instead of waited for.
type bell struct{ waker clock.Waker }

const lookOften = 2 * time.Millisecond

func (b *bell) open()  {}
func (b *bell) close() {}
func (b *bell) ring()  { b.waker.Wake() }

// wait implements poller.
func (b *bell) wait(descriptors []probe.Descriptor, most time.Duration) {
	b.waker.Wait(min(most, lookOften))
}
