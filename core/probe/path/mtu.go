package path

import (
	"errors"
	"strconv"
	"syscall"
	"time"

	"netmon/core/probe"
)

// sounding looks for the longest packet that reaches the target: the longest that the interface takes, then what routers say, and
// where packets vanish without a word, whatever passes.
type sounding struct {
	begun     bool
	over      bool
	size      int // of the packet under way
	passes    int // the longest that was answered, 0 for none
	fails     int // the shortest that does not pass, 0 for none
	tries     int // of this size
	launched  int
	blackHole bool // a packet vanished without a word
	found     int
	reason    string
}

func (s *sounding) stop(reason string) {
	if !s.over {
		s.over = true
		s.reason = reason
	}
}

const (
	triesPerSize = 2
	// Linux answers a datagram to a closed port no more often, once it has done so 6 times (icmp_ratelimit).
	restOfTarget = 1100 * time.Millisecond
	usualMTU     = 1500
)

// sound sends the next packet that looks for the path's MTU, or ends the trace.
func (t *Trace) sound() {
	s := &t.sounding
	if t.end == 0 || !t.hops[t.end-1].reached {
		s.stop("the target was not reached")
	}
	if !s.begun {
		s.begun = true
		s.size = t.format.mostMTU()
	}
	for !s.over {
		if s.launched >= mostMTUTries {
			s.stop("no end was found with as many packets as may be sent for it")
			break
		}
		err := t.fire(defaultTTL, s.size)
		if errors.Is(err, syscall.EMSGSIZE) {
			// Nothing was sent: the interface takes no more than this.
			longest := t.carrier.longest()
			if longest < t.format.leastMTU() || longest >= s.size {
				s.stop("the system does not tell how long a packet the interface takes")
				break
			}
			s.size = longest
			continue
		}
		if err != nil {
			s.stop(err.Error())
			break
		}
		return
	}
	t.finish()
}

// sounded acts on the answer to a long packet.
func (t *Trace) sounded(shot *shot, a arrival) {
	s := &t.sounding
	switch a.event {
	case reached:
		s.passes = max(s.passes, shot.size)
		t.narrow()
	case tooBig:
		s.fail(shot.size)
		s.size = t.less(shot.size, a.mtu)
		s.tries = 0
		if s.size == 0 {
			s.stop("routers say that packets of " + bytesOf(shot.size) + " are too long, which every link must carry")
		}
	case unreachable:
		s.stop(a.err.Error())
	default:
		t.unheard(shot)
	}
}

func (s *sounding) fail(size int) {
	if s.fails == 0 || size < s.fails {
		s.fails = size
	}
}

// less is the size to try after a router said that one was too long, 0 for none: what it said, or if that makes no sense the next of
// the sizes that links have (RFC 1191 section 7.1).
func (t *Trace) less(size, said int) int {
	least := t.format.leastMTU()
	if t.format.ipv6 && said != 0 {
		said = max(said, least)
	}
	if said >= least && said < size {
		return said
	}
	for _, plateau := range []int{32000, 17914, 9000, 8166, 4352, 2002, usualMTU, 1492, 1280, 1006, 576, 508, 296, 68} {
		if plateau < size && plateau >= least {
			return plateau
		}
	}
	return 0
}

// unheard acts on a long packet that got no answer.
func (t *Trace) unheard(shot *shot) {
	s := &t.sounding
	if t.format.method == probe.UDP {
		t.next = max(t.next, shot.before.Monotonic+restOfTarget)
	}
	if s.tries++; s.tries < triesPerSize {
		return
	}
	s.fail(shot.size)
	s.blackHole = true
	t.narrow()
}

// narrow chooses the next size between what passes and what does not.
func (t *Trace) narrow() {
	s := &t.sounding
	s.tries = 0
	shortest := t.format.ipHeader() + leastPacket // as the probes that the target has answered
	switch low := max(s.passes, shortest); {
	case s.fails == 0, s.passes != 0 && !s.blackHole, s.fails-low <= 1:
		s.over = true
		s.found = low
	case low < usualMTU && usualMTU < s.fails:
		s.size = usualMTU
	default:
		s.size = (low + s.fails) / 2
	}
}

// bytesOf is a number of bytes as people write it.
func bytesOf(n int) string { return strconv.Itoa(n) + " bytes" }
