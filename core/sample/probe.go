package sample

import (
	"math"
	"slices"
	"time"
	"unsafe"

	"netmon/core/units"
)

// Probe is what is known of one target when the sample was taken.
type Probe struct {
	Target         string            `json:"target"`
	Peer           bool              `json:"peer"`
	Address        *string           `json:"address"`
	Port           *int64            `json:"port"`
	Method         *string           `json:"method"`
	MethodsRefused map[string]string `json:"methods_refused"`
	Sent           uint64            `json:"sent"`
	Received       uint64            `json:"received"`
	Lost           uint64            `json:"lost"`
	LossRatio      *float64          `json:"loss_ratio"`
	RTTMinSeconds  *float64          `json:"rtt_min_seconds"`
	RTTP50Seconds  *float64          `json:"rtt_p50_seconds"`
	RTTP99Seconds  *float64          `json:"rtt_p99_seconds"`
	RTTLastSeconds *float64          `json:"rtt_last_seconds"`
	JitterSeconds  *float64          `json:"jitter_seconds"`
	WindowSeconds  *float64          `json:"window_seconds"`
	AgeSeconds     *float64          `json:"age_seconds"`
	Error          *string           `json:"error"`

	reals [8]float64 // what the pointers above point to
}

// ProbeTexts are what hardly changes of a Probe: many samples share them, and none changes them.
type ProbeTexts struct {
	Target         string
	Peer           bool
	Address        *string
	Port           *int64
	Method         *string
	MethodsRefused map[string]string
	Error          *string
}

// ProbeNumbers are what changes with every probe. The durations are UnknownTime where they were not measured.
type ProbeNumbers struct {
	Sent, Received                           uint32
	Min, P50, P99, Last, Jitter, Window, Age time.Duration
}

// UnknownTime is a duration that was not measured.
const UnknownTime = time.Duration(math.MinInt64)

// Set writes the row of a target. The row points into itself afterwards, so it must not be copied.
func (p *Probe) Set(texts *ProbeTexts, n *ProbeNumbers) {
	*p = Probe{
		Target: texts.Target, Peer: texts.Peer, Address: texts.Address, Port: texts.Port, Method: texts.Method,
		MethodsRefused: texts.MethodsRefused, Error: texts.Error, Sent: uint64(n.Sent), Received: uint64(n.Received), Lost: uint64(n.Sent - n.Received),
	}
	real := func(place int, known bool, value float64) *float64 {
		if !known {
			return nil
		}
		p.reals[place] = value
		return &p.reals[place]
	}
	seconds := func(place int, value time.Duration) *float64 {
		return real(place, value != UnknownTime, units.Seconds(value))
	}
	p.LossRatio = real(0, n.Sent > 0, float64(p.Lost)/float64(n.Sent))
	p.RTTMinSeconds, p.RTTP50Seconds, p.RTTP99Seconds = seconds(1, n.Min), seconds(2, n.P50), seconds(3, n.P99)
	p.RTTLastSeconds, p.JitterSeconds = seconds(4, n.Last), seconds(5, n.Jitter)
	p.WindowSeconds, p.AgeSeconds = seconds(6, n.Window), seconds(7, n.Age)
}

// keptProbes is the section probes of a sample that is kept for long: a quarter of the memory that rows take.
type keptProbes struct {
	texts   []*ProbeTexts
	numbers []ProbeNumbers
}

// KeepProbes gives a sample its section probes. texts and numbers are of the same targets in the same order, and not changed
// afterwards.
func (s *Sample) KeepProbes(texts []*ProbeTexts, numbers []ProbeNumbers) {
	s.kept = &keptProbes{texts, numbers}
}

// AllProbes is the section probes, however the sample holds it; nil where it was not measured.
func (s *Sample) AllProbes() []Probe {
	if s.kept == nil {
		return s.Probes
	}
	probes := make([]Probe, len(s.kept.texts))
	for i := range probes {
		probes[i].Set(s.kept.texts[i], &s.kept.numbers[i])
	}
	return probes
}

// probeOf is the row of one target, nil for none; into has room for it.
func (s *Sample) probeOf(target string, into *Probe) *Probe {
	if s.kept != nil {
		if i := slices.IndexFunc(s.kept.texts, func(t *ProbeTexts) bool { return t.Target == target }); i >= 0 {
			into.Set(s.kept.texts[i], &s.kept.numbers[i])
			return into
		}
		return nil
	}
	if i := slices.IndexFunc(s.Probes, func(p Probe) bool { return p.Target == target }); i >= 0 {
		return &s.Probes[i]
	}
	return nil
}

// KeptProbeBytes is the memory that one target takes in each sample that is kept.
const KeptProbeBytes = int(unsafe.Sizeof(ProbeNumbers{}))

// Bytes is the memory that texts take.
func (t *ProbeTexts) Bytes() int {
	const pointed = int(unsafe.Sizeof("")) // for each text that is pointed to
	bytes := int(unsafe.Sizeof(*t)) + len(t.Target)
	for _, text := range []*string{t.Address, t.Method, t.Error} {
		if text != nil {
			bytes += pointed + len(*text)
		}
	}
	for method, reason := range t.MethodsRefused {
		bytes += 2*pointed + len(method) + len(reason)
	}
	return bytes
}

// ProbeAnswer is what a request for probes on demand is answered.
type ProbeAnswer struct {
	ID   uint64 `json:"id"`
	Done bool   `json:"done"`
	Probe
}

// PathAnswer is what a request for the path is answered.
type PathAnswer struct {
	ID               uint64            `json:"id"`
	Done             bool              `json:"done"`
	Target           string            `json:"target"`
	Address          *string           `json:"address"`
	Method           *string           `json:"method"`
	MethodsRefused   map[string]string `json:"methods_refused"`
	Hops             []Hop             `json:"hops"`
	Reached          *bool             `json:"reached"`
	PathMTUBytes     *int64            `json:"path_mtu_bytes"`
	PathMTUReason    *string           `json:"path_mtu_reason"`
	PathMTUBlackHole *bool             `json:"path_mtu_black_hole"`
	Error            *string           `json:"error"`
}

// Hop is what answered to one hop limit.
type Hop struct {
	TTL            int64    `json:"ttl"`
	Address        *string  `json:"address"`
	OtherAddresses []string `json:"other_addresses"`
	Sent           uint64   `json:"sent"`
	Received       uint64   `json:"received"`
	RTTMinSeconds  *float64 `json:"rtt_min_seconds"`
	RTTP50Seconds  *float64 `json:"rtt_p50_seconds"`
	Error          *string  `json:"error"`
}
