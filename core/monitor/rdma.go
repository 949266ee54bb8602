package monitor

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"netmon/core/rate"
	"netmon/core/rdma"
	"netmon/core/sample"
	"netmon/core/units"
)

// Events of RDMA ports.
const (
	eventPortAppeared = "rdma_port_appeared"
	eventPortVanished = "rdma_port_vanished"
	eventPortState    = "rdma_port_state"
)

// rdmaFact is what other parts may ask of an RDMA port. Texts are empty where they are not known.
type rdmaFact struct {
	device        string
	port          int
	driver        string
	linkLayer     string // InfiniBand, Ethernet, Unspecified
	state         string // active, down...
	interfaceName string // the network interface of the same port
	counted       bool   // the driver counts bytes, and they could be read; what follows is known then

	receiveBytes, transmitBytes uint64 // since the monitor started, or the port appeared

	// What was counted between the newest two readings, known where window is not 0. It is the part's own window, not the sample's.
	windowReceive, windowTransmit uint64
	window                        time.Duration
}

// rdmaPorts is what was read last of the RDMA ports, by device and port, and why nothing was: then there are none. Called with the
// lock of sampling held, after the part was filled.
func (m *Monitor) rdmaPorts() (ports []rdmaFact, missing string) {
	for _, p := range m.parts {
		if part, is := p.(*rdmaPart); is {
			if part.missing != "" {
				return nil, part.missing
			}
			return part.newest.facts, ""
		}
	}
	return nil, "not in sources"
}

// rdmaPart fills the section rdma.
type rdmaPart struct {
	*beside
	reader *rdma.Reader
	log    *eventLog

	reading atomic.Pointer[rdmaReading]

	// Of the goroutine that samples.
	lookedAt time.Duration
	at       time.Duration // of the sample filled last
	missing  string        // why the section is null, "" where it is not
	newest   *rdmaReading  // that the sample was filled from
	kept     *rdmaReading  // the one whose memory is counted in the history
	rows     []sample.RDMAPort
	rowsOf   *rdmaReading

	// Of the goroutine that reads.
	devices   []string
	described time.Duration // when the ports were described last
	ports     []*rdmaState
	again     bool // describe them anew
	track     rdmaTrack
	readings  int
}

// rdmaReading is a reading of all ports. It is not changed after it was published.
type rdmaReading struct {
	missing string // why there is none
	kept    []sample.KeptRDMAPort
	lacking []missing
	facts   []rdmaFact
	bytes   int // what it takes in the history
}

func newRDMAPart(m *Monitor) *rdmaPart {
	p := &rdmaPart{reader: rdma.New(*m.options.FS), log: m.events}
	p.reader.Now = m.clock.Monotonic
	p.beside = newBeside(m, "RDMA ports", func() { p.readAll(moment{monotonic: m.clock.Monotonic(), wall: m.clock.Wall()}) })
	p.look(m.clock.Monotonic())
	return p
}

// look starts reading where there are devices. Listing their folder asks none of them.
func (p *rdmaPart) look(now time.Duration) {
	p.lookedAt = now
	if _, err := p.reader.Devices(); err != nil {
		p.missing = noRDMA(err)
		return
	}
	p.missing = notReadYet
	p.start()
}

const notReadYet = "not read yet"

func noRDMA(err error) string {
	if rdma.Absent(err) {
		return "no /" + rdma.Path
	}
	return err.Error()
}

func (p *rdmaPart) fill(d *document, now *occasion) (bytes int) {
	p.at = now.monotonic
	if !p.started && p.at-p.lookedAt >= lookAgain {
		p.look(p.at)
	}
	reading := p.reading.Load()
	if p.newest = reading; p.started {
		switch p.missing = p.silent(p.at); {
		case p.missing != "":
		case reading == nil:
			p.missing = notReadYet
		default:
			p.missing = reading.missing
		}
	}
	if p.missing != "" {
		d.lack("rdma", p.missing)
		return 0
	}
	d.lacking = append(d.lacking, reading.lacking...)
	if d.passing {
		if p.rowsOf != reading {
			p.rows, p.rowsOf = sample.RDMARows(reading.kept), reading
		}
		d.RDMA = p.rows
		return 0
	}
	d.KeepRDMA(reading.kept)
	if p.kept != reading {
		p.kept = reading
		bytes = reading.bytes
	}
	return bytes
}

func (p *rdmaPart) remember(uint64)    { p.tick(p.at) }
func (p *rdmaPart) problems() []string { return p.beside.problems(p.at) }
func (p *rdmaPart) ended() bool        { return p.isEnded() }

// rdmaState follows one port while it lives.
type rdmaState struct {
	port  *rdma.Port
	label string // mlx5_0/1
	now   rdma.Reading
	at    time.Duration // of the last reading

	meter   *rate.Meter
	carried []uint64 // what a meter before this one had counted
	raw     []uint64 // as fed to the meter: data, then the counters of port.Names
	known   []bool   // raw is of this reading
	ever    []bool   // it was known once
	totals  []uint64
	grown   []uint64  // of totals, since the reading before
	rates   []float64 // NaN where there is none
	reason  []string  // why it is not known, or has no rate
	window  time.Duration

	texts    *sample.RDMATexts
	counters *sample.RDMACounters
}

// places of raw.
const (
	rdmaReceive  = rdma.Receive
	rdmaTransmit = rdma.Transmit
	rdmaCounters = 2 // the first counter
)

// adopt makes a state follow a port as it was described now. What was counted before stays counted.
func (s *rdmaState) adopt(port *rdma.Port) {
	before := s.port
	s.port = port
	if before != nil && slices.Equal(before.Names, port.Names) && before.Data[rdmaReceive].Unit == port.Data[rdmaReceive].Unit &&
		before.Data[rdmaTransmit].Unit == port.Data[rdmaTransmit].Unit {
		return
	}
	n := rdmaCounters + len(port.Names)
	carried := make([]uint64, n)
	if before != nil {
		for direction := range port.Data {
			if unit := port.Data[direction].Unit; unit != 0 {
				carried[direction] = s.totals[direction] * before.Data[direction].Unit / unit
			}
		}
		for i, name := range port.Names {
			if old := slices.Index(before.Names, name); old >= 0 {
				carried[rdmaCounters+i] = s.totals[rdmaCounters+old]
			}
		}
	}
	const data = 1<<rdmaReceive | 1<<rdmaTransmit
	s.meter, s.carried = rate.NewMeter(n, data, data), carried
	s.raw, s.known, s.ever = make([]uint64, n), make([]bool, n), make([]bool, n)
	s.totals, s.grown, s.rates, s.reason = slices.Clone(carried), make([]uint64, n), make([]float64, n), make([]string, n)
	s.at, s.counters = 0, nil
}

// Why a number that is known has no rate.
const (
	firstReading = "first reading: no window yet"
	wasReset     = "counters were reset in this window"
	wasUnknown   = "not known when this window began"
)

// count counts a reading that was made at a moment.
func (s *rdmaState) count(at moment, log *eventLog) {
	first := s.at == 0
	elapsed := at.monotonic - s.at
	before := slices.Clone(s.totals)
	wasKnown := slices.Clone(s.known)
	back := make([]bool, len(s.raw))
	for i := range s.raw {
		count := s.countOf(i)
		if s.known[i] = count.Err == nil; !s.known[i] {
			s.reason[i] = rdma.Reason(count.Err)
			continue
		}
		if !first && !s.ever[i] {
			s.meter.Start(i, count.Value)
		}
		s.ever[i] = true
		back[i] = count.Value < s.raw[i]
		s.raw[i] = count.Value
	}
	event := s.meter.Update(s.raw, elapsed, s.mostCounts(elapsed))
	switch {
	case event.Reset:
		log.add(at, eventReset, "", "counters of RDMA port %s were reset", s.label)
	case event.Back > 0:
		log.add(at, eventReset, "", "%d counters of RDMA port %s went back", event.Back, s.label)
	}
	if event.Wraps > 0 {
		log.add(at, eventWrap, "", "%d 32-bit counters of RDMA port %s wrapped", event.Wraps, s.label)
	}
	s.window = 0
	if !first && !event.Reset {
		s.window = elapsed
	}
	for i := range s.raw {
		s.totals[i] = s.carried[i] + s.meter.Total(i)
		s.grown[i] = s.totals[i] - before[i]
		s.rates[i] = math.NaN()
		switch {
		case !s.known[i]:
		case first:
			s.reason[i] = firstReading
		case event.Reset, back[i] && s.grown[i] == 0:
			s.reason[i] = wasReset
		case !wasKnown[i]:
			s.reason[i] = wasUnknown
		default:
			s.reason[i] = ""
			s.rates[i] = rate.PerSecond(before[i], s.totals[i], elapsed)
		}
	}
	s.at = at.monotonic
}

func (s *rdmaState) countOf(i int) rdma.Count {
	if i < rdmaCounters {
		return s.now.Data[i]
	}
	return s.now.Counters[i-rdmaCounters]
}

// mostCounts is the most a counter of data can have counted in a time, 0 when the port's rate is not known.
func (s *rdmaState) mostCounts(elapsed time.Duration) uint64 {
	unit := s.port.Data[rdmaReceive].Unit
	if s.now.RateBits == 0 || unit == 0 {
		return 0
	}
	const slack = 1 << 20 // what waited in queues
	return (uint64(2*float64(s.now.RateBits)/units.BitsPerByte*elapsed.Seconds()) + slack) / unit
}

// readAll reads all ports and publishes what they said.
func (p *rdmaPart) readAll(at moment) {
	devices, err := p.reader.Devices()
	if err != nil {
		p.vanish(func(*rdmaState) bool { return true }, at)
		p.devices, p.again = nil, true
		p.reading.Store(&rdmaReading{missing: noRDMA(err)})
		p.readings++
		return
	}
	if p.again || !slices.Equal(devices, p.devices) || at.monotonic-p.described >= lookAgain || p.readings == 0 {
		p.describe(devices, at)
	}
	gone := make(map[*rdmaState]bool)
	for _, s := range p.ports {
		state := s.now.State
		err := p.reader.Read(s.port, &s.now)
		if rdma.IsGone(err) {
			gone[s] = true
			continue
		}
		if err != nil {
			s.now = failedReading(s.port, err)
			s.now.At = p.clock.Monotonic()
		}
		read := moment{monotonic: s.now.At, wall: at.wall.Add(s.now.At - at.monotonic)}
		if state != s.now.State && state != "" && s.now.State != "" {
			p.log.add(read, eventPortState, "", "RDMA port %s went from %s to %s", s.label, state, s.now.State)
		}
		s.count(read, p.log)
	}
	if len(gone) > 0 {
		p.vanish(func(s *rdmaState) bool { return gone[s] }, at)
		p.again = true
	}
	p.publish()
	p.readings++
}

// failedReading is that of a port whose state cannot be read.
func failedReading(port *rdma.Port, err error) rdma.Reading {
	r := rdma.Reading{RateMissing: rdma.Reason(err), Counters: make([]rdma.Count, len(port.Names))}
	for i := range r.Data {
		r.Data[i].Err = err
	}
	for i := range r.Counters {
		r.Counters[i].Err = err
	}
	return r
}

// describe finds out what ports there are.
func (p *rdmaPart) describe(devices []string, at moment) {
	p.devices, p.described, p.again = devices, at.monotonic, false
	states := make(map[string]*rdmaState)
	for _, s := range p.ports {
		states[s.label] = s
	}
	found := p.reader.Ports(devices)
	ports := make([]*rdmaState, 0, len(found))
	listed := make(map[*rdmaState]bool)
	for _, port := range found {
		label := fmt.Sprintf("%s/%d", port.Device, port.Number)
		s := states[label]
		if s == nil {
			s = &rdmaState{label: label}
			if p.readings > 0 {
				p.log.add(at, eventPortAppeared, "", "RDMA port %s appeared", label)
			}
		}
		s.adopt(port)
		listed[s] = true
		ports = append(ports, s)
	}
	p.vanish(func(s *rdmaState) bool { return !listed[s] }, at)
	p.ports = ports
}

// vanish forgets ports that are no longer there.
func (p *rdmaPart) vanish(gone func(*rdmaState) bool, at moment) {
	p.ports = slices.DeleteFunc(p.ports, func(s *rdmaState) bool {
		if !gone(s) {
			return false
		}
		p.log.add(at, eventPortVanished, "", "RDMA port %s vanished", s.label)
		return true
	})
}

// publish makes the reading that samples copy.
func (p *rdmaPart) publish() {
	r := &rdmaReading{kept: make([]sample.KeptRDMAPort, len(p.ports)), facts: make([]rdmaFact, len(p.ports))}
	var why rdmaReasons
	for i, s := range p.ports {
		r.kept[i] = s.keep()
		r.facts[i] = s.fact()
		why.of(s)
	}
	r.lacking = why.lacking()
	var before []sample.KeptRDMAPort
	if last := p.reading.Load(); last != nil {
		before = last.kept
	}
	r.bytes = sample.RDMABytes(r.kept, before)
	p.reading.Store(r)
	p.track.add(p.ports)
}

// keep is the row of a port, sharing with the one before what did not change.
func (s *rdmaState) keep() sample.KeptRDMAPort {
	texts := s.textsNow()
	if s.texts == nil || !sameRDMATexts(s.texts, texts) {
		s.texts = texts
	}
	s.keepCounters()
	n := sample.RDMANumbers{Window: sample.UnknownTime}
	if s.window > 0 {
		n.Window = s.window
	}
	n.ReceiveBytes, n.ReceivePerSecond = s.bytes(rdmaReceive)
	n.TransmitBytes, n.TransmitPerSecond = s.bytes(rdmaTransmit)
	return sample.KeptRDMAPort{Texts: s.texts, Counters: s.counters, Numbers: n}
}

// bytes are a direction's total and rate.
func (s *rdmaState) bytes(direction int) (total uint64, perSecond float64) {
	if !s.known[direction] {
		return sample.UnknownCount, math.NaN()
	}
	unit := s.port.Data[direction].Unit
	return s.totals[direction] * unit, s.rates[direction] * float64(unit)
}

func (s *rdmaState) textsNow() *sample.RDMATexts {
	t := &sample.RDMATexts{
		Device: s.port.Device, Port: int64(s.port.Number), Driver: known(s.port.Driver), LinkLayer: known(s.now.LinkLayer),
		State: known(s.now.State), PhysicalState: known(s.now.PhysicalState), Interface: known(s.port.Interface),
		GIDs: make([]sample.RDMAGID, len(s.port.GIDs)),
	}
	if bits := s.now.RateBits; bits != 0 {
		t.RateBitsPerSecond = &bits
	}
	for i, gid := range s.port.GIDs {
		t.GIDs[i] = sample.RDMAGID{Index: int64(gid.Index), GID: gid.GID, Type: known(gid.Type), Interface: known(gid.Interface)}
	}
	return t
}

func sameRDMATexts(a, b *sample.RDMATexts) bool {
	return a.Device == b.Device && a.Port == b.Port && same(a.Driver, b.Driver) && same(a.LinkLayer, b.LinkLayer) && same(a.State, b.State) &&
		same(a.PhysicalState, b.PhysicalState) && same(a.RateBitsPerSecond, b.RateBitsPerSecond) && same(a.Interface, b.Interface) &&
		slices.EqualFunc(a.GIDs, b.GIDs, func(a, b sample.RDMAGID) bool {
			return a.Index == b.Index && a.GID == b.GID && same(a.Type, b.Type) && same(a.Interface, b.Interface)
		})
}

// same tells whether two values are known and equal, or both not known.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }

func (s *rdmaState) keepCounters() {
	next := &sample.RDMACounters{Names: s.port.Names, Totals: slices.Clone(s.totals[rdmaCounters:]), PerSecond: slices.Clone(s.rates[rdmaCounters:])}
	for i := range next.Totals {
		if !s.known[rdmaCounters+i] {
			next.Totals[i] = sample.UnknownCount
		}
	}
	alike := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
	if c := s.counters; c != nil && slices.Equal(c.Totals, next.Totals) && slices.EqualFunc(c.PerSecond, next.PerSecond, alike) {
		return
	}
	s.counters = next
}

func (s *rdmaState) fact() rdmaFact {
	f := rdmaFact{
		device: s.port.Device, port: s.port.Number, driver: s.port.Driver, linkLayer: s.now.LinkLayer, state: s.now.State,
		interfaceName: s.port.Interface, counted: s.known[rdmaReceive] && s.known[rdmaTransmit],
	}
	if !f.counted {
		return f
	}
	f.receiveBytes, _ = s.bytes(rdmaReceive)
	f.transmitBytes, _ = s.bytes(rdmaTransmit)
	if receive, transmit := s.rates[rdmaReceive], s.rates[rdmaTransmit]; !math.IsNaN(receive) && !math.IsNaN(transmit) {
		f.window = s.window
		f.windowReceive = s.grown[rdmaReceive] * s.port.Data[rdmaReceive].Unit
		f.windowTransmit = s.grown[rdmaTransmit] * s.port.Data[rdmaTransmit].Unit
	}
	return f
}

// rdmaReasons collect why fields are null, or counters left out.
type rdmaReasons struct {
	byField map[string]*named
}

func (w *rdmaReasons) add(field, reason, name string) {
	if w.byField == nil {
		w.byField = make(map[string]*named)
	}
	if w.byField[field] == nil {
		w.byField[field] = &named{}
	}
	w.byField[field].add(reason, name)
}

func (w *rdmaReasons) of(s *rdmaState) {
	for _, field := range []struct{ name, value, reason string }{
		{"driver", s.port.Driver, "no device of a driver is behind it"},
		{"link_layer", s.now.LinkLayer, "the driver does not tell"},
		{"state", s.now.State, "the driver does not tell"},
		{"physical_state", s.now.PhysicalState, "the driver does not tell"},
		{"interface", s.port.Interface, "no network interface of it is seen here"},
	} {
		if field.value == "" {
			w.add(field.name, field.reason, s.label)
		}
	}
	if s.now.RateBits == 0 {
		w.add("rate_bits_per_second", s.now.RateMissing, s.label)
	}
	for _, gid := range s.port.GIDs {
		if gid.Type == "" {
			w.add("gids", "the kernel tells no type of addresses", s.label)
			break
		}
	}
	for direction, field := range []string{"receive_bytes", "transmit_bytes"} {
		if s.known[direction] && s.reason[direction] == "" {
			continue
		}
		reason := s.reason[direction]
		if missing := s.port.Data[direction].Missing; missing != "" {
			reason = missing
		}
		if !s.known[direction] {
			w.add(field+"_total", reason, s.label)
		}
		w.add(field+"_per_second", reason, s.label)
	}
	if s.window == 0 {
		w.add("window_seconds", or(s.whyNoWindow(), firstReading), s.label)
	}
	for i, name := range s.port.Names {
		switch i += rdmaCounters; {
		case !s.known[i]:
			w.add("counters", s.reason[i], s.label+" "+name)
		case s.window != 0 && s.reason[i] != "":
			w.add("counters_per_second", s.reason[i], s.label+" "+name)
		}
	}
	if s.window == 0 && len(s.port.Names) > 0 {
		w.add("counters_per_second", or(s.whyNoWindow(), firstReading), s.label)
	}
}

// whyNoWindow is why no counter has a rate, "" where none is known.
func (s *rdmaState) whyNoWindow() string {
	for i, reason := range s.reason {
		if s.known[i] {
			return reason
		}
	}
	return ""
}

func (w *rdmaReasons) lacking() (all []missing) {
	for _, field := range slices.Sorted(maps.Keys(w.byField)) {
		all = append(all, missing{"rdma." + field, w.byField[field].String()})
	}
	return all
}
