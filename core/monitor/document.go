package monitor

import (
	"fmt"
	"maps"
	"slices"
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
	counts  [49]uint64
	reals   [18]float64
	nextU   int
	nextF   int
	lacking []missing
	passing bool // on demand: written, and forgotten before the next
}

// missing is a section or field that a sample lacks, beside what all samples of its monitor lack.
type missing struct{ key, reason string }

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
func (d *document) lack(key, reason string) { d.lacking = append(d.lacking, missing{key, reason}) }

// reasonOf is why a section or field is null, "" where nothing was noted.
func (d *document) reasonOf(key string) string {
	for i := range d.lacking {
		if d.lacking[i].key == key {
			return d.lacking[i].reason
		}
	}
	return ""
}

// reasonSets makes the reasons of samples. Samples that lack the same share a set, and with it its JSON. Not safe for concurrent
// use.
type reasonSets struct {
	common map[string]string // reasons that hold until job or links change
	job    *jobState
	links  uint64 // version of the topology
	recent []reasonSet
}

type reasonSet struct {
	lacking []missing
	reasons *sample.Reasons
}

// mostReasonSets is how many are remembered: those of the loop and of samples on demand, each as before and as now.
const mostReasonSets = 4

func (r *reasonSets) with(lacking []missing) *sample.Reasons {
	for i := range r.recent {
		if slices.Equal(r.recent[i].lacking, lacking) {
			return r.recent[i].reasons
		}
	}
	all := maps.Clone(r.common)
	for _, m := range lacking {
		all[m.key] = m.reason
	}
	set := reasonSet{lacking: slices.Clone(lacking), reasons: sample.NewReasons(all)}
	r.recent = append([]reasonSet{set}, r.recent[:min(len(r.recent), mostReasonSets-1)]...)
	return set.reasons
}

// named is a reason that concerns some of the interfaces or targets; it names at most 8.
type named struct {
	reasons map[string][]string // reason to names, in the order found
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

// keptRecords is how many samples of the loop a window may begin at. One that comes late is followed by the next at once, and
// that by another when it is due, so three may be younger than half an interval; the fourth is older than a whole one.
const keptRecords = 4

// record is what later samples need of a sample of the loop to make rates.
type record struct {
	reading   uint64 // number of the reading it was made of
	monotonic time.Duration
	totals    [trafficCounters]uint64
	epoch     uint64 // of totals
	counting  bool   // some interface counted
	whole     bool   // all that counted were read
	protocols [protocolSections]protocolRecord
}

type protocolRecord struct {
	epoch  uint64
	valid  bool // snmp was read
	totals []uint64
}
