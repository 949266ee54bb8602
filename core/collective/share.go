package collective

import "time"

// Watch is what somebody who records tells of how he watches.
type Watch struct {
	Until time.Duration // all that ended before this was recorded
	// Looks is how often he looked, at moments that have nothing to do with the job, and Busy how often something was under way then.
	Looks, Busy uint64
}

// leastLooks are as many as a share is told by: it is right to some 8 % of the time then, and to 3 % by those of Window.
const leastLooks = 40

// mostTold bounds what is kept, where samples are hours apart: it is some minutes of it.
const mostTold = 1024

// watch is what was told, oldest first. The zero value is of somebody who tells nothing: what ends is recorded at once.
type watch struct {
	told []told
}

type told struct {
	Watch
	at time.Duration
}

func (w *watch) add(now time.Duration, next Watch) {
	if n := len(w.told); n > 0 {
		last := &w.told[n-1]
		if next.Looks < last.Looks || next.Busy < last.Busy {
			w.told = w.told[:0] // of somebody else
		}
		next.Until = max(next.Until, last.Until) // one whose call was not known yet is no reason to begin anew
	}
	if len(w.told) == mostTold {
		w.forget(w.told[mostTold/2].at)
	}
	w.told = append(w.told, told{next, now})
}

func (w *watch) forget(before time.Duration) {
	n := 0
	for n+1 < len(w.told) && w.told[n+1].at <= before {
		n++
	}
	w.told = append(w.told[:0], w.told[n:]...)
}

// period is the time that is known of between two moments: to what was complete at each of them, or, where nothing came to that
// between them, the newest there is.
func (w *watch) period(begin, end time.Duration) (from, to time.Duration) {
	if len(w.told) == 0 {
		return begin, end
	}
	from, to = begin, end
	for i := len(w.told) - 1; i >= 0; i-- {
		if w.told[i].at <= end {
			to = min(end, w.told[i].Until)
			break
		}
	}
	for i := len(w.told) - 1; i >= 0; i-- {
		if t := &w.told[i]; t.at <= begin {
			if from = min(begin, t.Until); from < to {
				break
			}
		}
	}
	return from, to
}

// looked is the share of the looks of Window at which something was under way.
func (w *watch) looked(end time.Duration) (share float64, ok bool) {
	var first, last *told
	for i := range w.told {
		t := &w.told[i]
		if t.at >= end-Window && t.at <= end {
			if first == nil {
				first = t
			}
			last = t
		}
	}
	if first == nil || last.Looks-first.Looks < leastLooks {
		return 0, false
	}
	return min(float64(last.Busy-first.Busy)/float64(last.Looks-first.Looks), 1), true
}

// Watched takes note of what somebody who records tells.
func (t *Table) Watched(now time.Duration, w Watch) { t.watch.add(now, w) }

// Restart forgets what was under way before this moment, and who told of it: another one records from now on.
func (t *Table) Restart(now time.Duration) {
	t.watch = watch{}
	t.Forget(now)
}

// Share is in which share of the time between two moments at least one collective was under way, of those that have ended, and of one
// that has been since pending (end or later: there is none). Where it is not known when all have ended, it is the share of the looks
// of the last 60 s at which one was; ok is false where there are too few.
func (t *Table) Share(begin, end, pending time.Duration) (share float64, ok bool) {
	if pending <= begin && pending < end {
		return 1, true
	}
	from, to := t.watch.period(begin, end)
	from = max(from, t.since) // the newer part speaks for all
	to = min(to, max(pending, from))
	whole := max(to-from, 0)
	if whole > 0 && t.dim.between(from, to) > 0 {
		return t.watch.looked(end)
	}
	waited := time.Duration(0)
	if pending < end {
		waited = end - pending
	}
	if whole+waited <= 0 {
		return 0, false
	}
	known := time.Duration(0)
	if whole > 0 {
		known = t.busy.between(from, to)
	}
	return min((known+waited).Seconds()/(whole+waited).Seconds(), 1), true
}
