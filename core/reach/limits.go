package reach

import (
	"net/netip"
	"time"

	"netmon/core/probe"
)

const (
	// Together with burst never more than probe.MostProbesPerSecond in any second, on demand included; backgroundShare is left to
	// the background.
	burst           = 50
	probesPerSecond = probe.MostProbesPerSecond - burst
	backgroundShare = 0.8
)

// limits are what no configuration lifts: how many probes are sent in all, and how soon after another to the same target. They hold
// for an engine, whose loop ends whenever there is nobody to probe: many short requests are no way around them.
type limits struct {
	pace     map[pacing]time.Duration // when a target was sent to last
	tokens   float64                  // of the rate limit
	filledAt time.Duration
}

// pacing is what the least interval between two probes holds for.
type pacing struct {
	method probe.Method
	to     netip.AddrPort
	name   string
}

func newLimits(now time.Duration) *limits {
	return &limits{pace: make(map[pacing]time.Duration), tokens: burst, filledAt: now}
}

func (l *limits) refill(now time.Duration) {
	l.tokens = min(burst, l.tokens+(now-l.filledAt).Seconds()*probesPerSecond)
	l.filledAt = now
}

// spend takes a token of the rate limit.
func (l *limits) spend(now time.Duration) bool {
	if l.refill(now); l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// sooner is how long it is until a probe may follow the last one.
func (l *limits) sooner(to pacing, now time.Duration) time.Duration {
	if last, found := l.pace[to]; found && now-last < probe.LeastInterval {
		return probe.LeastInterval - (now - last)
	}
	return 0
}

// note notes a probe.
func (l *limits) note(to pacing, now time.Duration) {
	l.pace[to] = now
	if len(l.pace) > 2*probe.MostTargets {
		for other, last := range l.pace {
			if now-last >= probe.LeastInterval {
				delete(l.pace, other)
			}
		}
	}
}
