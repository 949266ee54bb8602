package monitor

import (
	"sync"
	"time"

	"netmon/core/units"
)

// mostTracked is how many readings of RDMA ports are remembered.
const mostTracked = 64

// rdmaPoint is what all RDMA ports together had moved at one moment.
type rdmaPoint struct {
	at    time.Duration
	ports []portMoved
	epoch uint64 // differences are known, of the same ports, within one epoch only
	why   string // why it is not known what they moved
}

// portMoved is what one port had moved.
type portMoved struct {
	moved    [2]uint64 // received and transmitted bytes
	capacity float64   // bytes per second in each direction, 0 where it is not known
}

// since is what ports moved since an earlier point of the same epoch, and what share that is of what the fullest can carry.
func (p *rdmaPoint) since(before *rdmaPoint, span time.Duration) (moved [2]uint64, fullest float64) {
	for i := range p.ports {
		now, then := &p.ports[i], &before.ports[i]
		for d := range moved {
			bytes := now.moved[d] - then.moved[d]
			moved[d] += bytes
			if possible := now.capacity * span.Seconds(); possible > 0 {
				fullest = max(fullest, float64(bytes)/possible)
			}
		}
	}
	return moved, fullest
}

// rdmaTrack remembers the newest readings of RDMA ports, for those who need one of a certain moment. Safe for concurrent use.
type rdmaTrack struct {
	mu     sync.Mutex
	points [mostTracked]rdmaPoint
	count  uint64
	ports  []*rdmaState // of the newest
	epoch  uint64
}

// add remembers a reading of ports.
func (t *rdmaTrack) add(ports []*rdmaState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := rdmaPoint{ports: make([]portMoved, 0, len(ports))}
	same := len(ports) == len(t.ports)
	for i, s := range ports {
		same = same && t.ports[i] == s && s.window > 0 // 0: counters were reset
		p.at = max(p.at, s.at)
		if !s.known[rdmaReceive] || !s.known[rdmaTransmit] {
			p.why = "the driver of " + s.label + " does not count bytes"
			continue
		}
		received, _ := s.bytes(rdmaReceive)
		transmitted, _ := s.bytes(rdmaTransmit)
		p.ports = append(p.ports, portMoved{[2]uint64{rdmaReceive: received, rdmaTransmit: transmitted}, units.BitsToBytes(float64(s.now.RateBits))})
	}
	if len(ports) == 0 {
		p.why = "no RDMA device has a port"
	}
	if !same {
		t.epoch++
		t.ports = append([]*rdmaState(nil), ports...)
	}
	p.epoch = t.epoch
	t.points[t.count%mostTracked] = p
	t.count++
}

// nearest is the reading that was made nearest to a moment; behind tells whether one was made at it or later, so that no nearer one
// is to come.
func (t *rdmaTrack) nearest(to time.Duration) (p rdmaPoint, off time.Duration, behind bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	off = -1
	for i := range t.points[:min(t.count, mostTracked)] {
		at := &t.points[i]
		behind = behind || at.at >= to
		if distance := (at.at - to).Abs(); off < 0 || distance < off {
			p, off = *at, distance
		}
	}
	return p, off, behind
}
