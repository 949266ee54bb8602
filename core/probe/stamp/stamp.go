// Package stamp times packets by the kernel's clock: sockets whose packets the kernel stamps as they leave and arrive, what their
// error queues say (the stamps of what was sent, and ICMP errors with who sent them), and the arithmetic from stamps to a round trip
// that a stepped clock cannot spoil.
//
// User-space time around a send and a receive also counts how long this process waited for a processor: on a busy host that is a
// hundred times the round trip.
//
// Source: Documentation/networking/timestamping.rst, ip(7) IP_RECVERR, ipv6(7) IPV6_RECVERR; Linux 3.17 for the stamp of entering
// the queue. Needs no privilege by itself: what a socket needs depends on its kind.
package stamp

import (
	"time"

	"netmon/core/clock"
	"netmon/core/probe"
)

// Time is a stamp of the kernel, in nanoseconds of the time of day (CLOCK_REALTIME). 0: none.
type Time int64

// Moment is a point in time on both clocks.
type Moment struct {
	Monotonic time.Duration
	Wall      Time
	Blur      time.Duration // how far apart the two may have been read
}

// Now reads both clocks, as close together as the scheduler allows.
func Now(c clock.Clock) (least Moment) {
	const (
		tries = 4
		close = time.Microsecond
	)
	for i := range tries {
		before := c.Monotonic()
		wall := Time(c.Wall().UnixNano())
		after := c.Monotonic()
		if i == 0 || after-before < least.Blur {
			least = Moment{Monotonic: after, Wall: wall, Blur: after - before}
		}
		if least.Blur <= close {
			break
		}
	}
	return least
}

// stepTolerance is how far the two clocks may drift apart within a probe before that is a step. The kernel steers both in the same
// way, so they keep their distance exactly; this is room for how they are read.
const stepTolerance = 10 * time.Microsecond

// Stepped tells whether the time of day was set between two moments, or the machine slept: then stamps taken between them cannot be
// subtracted.
func Stepped(from, to Moment) bool {
	apart := time.Duration(to.Wall-from.Wall) - (to.Monotonic - from.Monotonic)
	return apart.Abs() > stepTolerance+from.Blur+to.Blur
}

// Spoilt is a probe.ErrVoid that says what happened.
type Spoilt string

// What spoils a probe.
const (
	ErrStepped     Spoilt = "the clock was stepped during this probe"
	ErrImplausible Spoilt = "the kernel's time stamps contradict the clock"
	ErrForeign     Spoilt = "the probe's socket was closed by the host process"
)

func (s Spoilt) Error() string { return string(s) }

// Unwrap makes it a probe.ErrVoid.
func (Spoilt) Unwrap() error { return probe.ErrVoid }

// callTime is the longest that a send call takes on a processor that was asleep: 7 to 20 µs were seen. What takes longer is a process
// that lost its processor.
const callTime = 50 * time.Microsecond

// CallStart is where a round trip begins that ping(8) would measure: at the moment before the send call. A process that lost its
// processor on the way to the kernel's stamp begins at the stamp, so that a busy host does not read as a slow network.
func CallStart(before Moment, sent Time) Time {
	if sent != 0 && time.Duration(sent-before.Wall) > callTime {
		return sent
	}
	return before.Wall
}

// RoundTrip is the time from the stamp sent to the stamp received. before is a moment before the packet was handed to the kernel,
// after one at which the answer had been read. A stamp that the kernel did not give is replaced by that moment.
//
// Errors: ErrStepped, ErrImplausible.
func RoundTrip(before Moment, sent, received Time, after Moment) (time.Duration, error) {
	if Stepped(before, after) {
		return 0, ErrStepped
	}
	start, end, elapsed := time.Duration(0), after.Monotonic-before.Monotonic, after.Monotonic-before.Monotonic
	if sent != 0 {
		start = time.Duration(sent - before.Wall)
	}
	if received != 0 {
		end = time.Duration(received - before.Wall)
	}
	slack := stepTolerance + before.Blur + after.Blur
	if start < -slack || end < start || end > elapsed+slack {
		return 0, ErrImplausible
	}
	return end - start, nil
}
