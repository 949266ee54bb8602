package monitor

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"netmon/core/sample"
)

// document is one sample with room for what its pointers point to, so that it is allocated in one piece.
type document struct {
	sample.Sample
	totals  sample.Totals
	tcp     sample.TCP
	udp     sample.UDP
	ip      sample.IP
	sockets sample.Sockets
	self    sample.Self
	window  float64
	cpu     float64
	counts  [48]uint64
	reals   [8]float64
	nextU   int
	nextF   int
	shared  bool // Unavailable belongs to the monitor and must be copied before it is changed
}

func (d *document) count(value uint64) *uint64 {
	p := &d.counts[d.nextU]
	d.nextU++
	*p = value
	return p
}

func (d *document) real(value float64) *float64 {
	p := &d.reals[d.nextF]
	d.nextF++
	*p = value
	return p
}

// lack notes why a section or field is null.
func (d *document) lack(key, reason string) {
	if d.shared {
		d.Unavailable = maps.Clone(d.Unavailable)
		d.shared = false
	}
	d.Unavailable[key] = reason
}

// named is a reason that concerns some of the interfaces; it names at most 8.
type named struct {
	reasons map[string][]string // reason to interfaces, in the order found
	order   []string
}

func (n *named) add(reason, name string) {
	if n.reasons == nil {
		n.reasons = make(map[string][]string)
	}
	if _, found := n.reasons[reason]; !found {
		n.order = append(n.order, reason)
	}
	n.reasons[reason] = append(n.reasons[reason], name)
}

func (n *named) String() string {
	const most = 8
	var parts []string
	left := most
	hidden := 0
	for _, reason := range n.order {
		names := n.reasons[reason]
		shown := min(len(names), left)
		left -= shown
		hidden += len(names) - shown
		if shown > 0 {
			parts = append(parts, reason+": "+strings.Join(names[:shown], ", "))
		}
	}
	text := strings.Join(parts, "; ")
	if hidden > 0 {
		text += fmt.Sprintf(" and %d more", hidden)
	}
	return text
}

// record is what later samples need of a sample of the loop to make rates.
type record struct {
	reading   uint64 // number of the reading it was made of
	monotonic time.Duration
	totals    [trafficCounters]uint64
	epoch     uint64 // of totals
	counting  bool   // some interface counted
	protocols [protocolSections]protocolRecord
}

type protocolRecord struct {
	epoch  uint64
	valid  bool
	totals []uint64
}
