package monitor

import (
	"fmt"
	"slices"
	"time"

	"netmon/core/link"
	"netmon/core/netdev"
	"netmon/core/rate"
	"netmon/core/sample"
	"netmon/core/units"
)

// The counters that totals and interfaces share come first in this order.
const (
	receiveBytes = iota
	transmitBytes
	receivePackets
	transmitPackets
	receiveErrors
	transmitErrors
	receiveDrops
	transmitDrops
	trafficCounters
)

// rated are the traffic counters that have rates.
const rated = transmitPackets + 1

// meterOrder is the order in which a meter holds the counters of an interface.
func meterOrder() [netdev.Counters]netdev.Counter {
	return [netdev.Counters]netdev.Counter{
		netdev.ReceiveBytes, netdev.TransmitBytes, netdev.ReceivePackets, netdev.TransmitPackets,
		netdev.ReceiveErrors, netdev.TransmitErrors, netdev.ReceiveDrops, netdev.TransmitDrops,
		netdev.ReceiveFIFOErrors, netdev.ReceiveFrameErrors, netdev.ReceiveMulticast, netdev.ReceiveCompressed,
		netdev.TransmitFIFOErrors, netdev.TransmitCarrierErrors, netdev.TransmitCollisions, netdev.TransmitCompressed,
	}
}

// interfaceState follows one interface while it lives.
type interfaceState struct {
	name    string
	link    *link.Link // nil where links are not known
	version uint64     // of the topology it was bound with
	static  sample.Interface
	counted bool
	primary bool

	meter   *rate.Meter
	seen    uint64 // number of the last reading that listed it
	born    uint64 // number of the first
	changed uint64 // number of the last reading that counted something

	marks [keptRecords]mark // totals at the newest samples of the loop, newest first

	// row is the last row built, reused while nothing in it changes.
	row        *interfaceRow
	passing    *interfaceRow // room for a row that belongs to one sample on demand only
	rowChanged uint64
	rowVersion uint64
	rowRates   rates
}

// mark is what an interface had counted at a sample of the loop.
type mark struct {
	reading uint64
	epoch   uint64
	totals  [rated]uint64
}

// rates says what kind of rates a row has.
type rates uint8

const (
	noRates   rates = iota // no window for this interface
	idleRates              // nothing counted in the window
	realRates
)

type interfaceRow struct {
	sample.Interface
	resets uint64
	totals [netdev.Counters]uint64
	rates  [rated]float64
}

// trafficMeter sums what counted interfaces count.
type trafficMeter struct {
	totals   [trafficCounters]uint64
	epoch    uint64
	counting bool // some interface counts now
	ever     bool // some interface has counted
	whole    bool // the newest reading has all that count
}

// interfaceTable follows all interfaces of the namespace. Not safe for concurrent use.
type interfaceTable struct {
	order [netdev.Counters]netdev.Counter
	told  [netdev.Counters]bool
	byKey map[interfaceKey]*interfaceState
	rows  []*interfaceState // in the order of the kernel's file
	sum   trafficMeter
	parse uint64        // number of the parsing counted last
	at    time.Duration // when it was
	log   *eventLog
	raw   [netdev.Counters]uint64

	passing []*sample.Interface // room for those of one sample on demand
}

// interfaceKey is the index, or the name where the index is not known.
type interfaceKey struct {
	index int
	name  string
}

func newInterfaceTable(log *eventLog) interfaceTable {
	return interfaceTable{
		order: meterOrder(), byKey: make(map[interfaceKey]*interfaceState), log: log, passing: []*sample.Interface{},
	}
}

// unknownNames tells whether a reading lists an interface that the topology does not know. It looks up only those that did not
// stand there in the reading before.
func (t *interfaceTable) unknownNames(rows []netdev.Row, top *topology) bool {
	if top.links == nil {
		return false
	}
	for i := range rows {
		if i < len(t.rows) && t.rows[i].name == rows[i].Name && t.rows[i].version == top.version {
			continue
		}
		if _, known := top.byName[rows[i].Name]; !known {
			return true
		}
	}
	return false
}

// update counts a reading. number numbers readings.
func (t *interfaceTable) update(r *reading, top *topology, number uint64, at moment) {
	elapsed := at.monotonic - t.at
	t.at = at.monotonic
	t.told = r.told
	inSequence := r.parse == t.parse+1
	t.parse = r.parse
	t.sum.counting = false
	kept, unknown := 0, r.interfacesErr != nil
	for i := range r.interfaces {
		row := &r.interfaces[i]
		var state *interfaceState
		if kept < len(t.rows) && t.rows[kept].name == row.Name && t.rows[kept].version == top.version {
			state = t.rows[kept]
		} else {
			state = t.bind(row.Name, top, number, at)
		}
		if state == nil {
			unknown = true
			continue
		}
		// A row that stood here unchanged, for this same interface, needs no counting.
		same := row.Same && inSequence && kept < len(t.rows) && t.rows[kept] == state
		if kept < len(t.rows) {
			t.rows[kept] = state
		} else {
			t.rows = append(t.rows[:kept], state)
		}
		kept++
		state.seen = number
		if !same {
			t.count(state, row, number, elapsed, at)
		}
		t.sum.counting = t.sum.counting || state.counted
	}
	clear(t.rows[kept:])
	t.rows = t.rows[:kept]
	t.sum.ever = t.sum.ever || t.sum.counting
	t.sum.whole = true
	if len(t.byKey) == kept {
		return
	}
	for key, state := range t.byKey {
		switch {
		case state.seen == number:
		case unknown: // while a name is not known yet, or a row not understood, what seems gone may still be there
			t.sum.whole = t.sum.whole && !state.counted
		default:
			delete(t.byKey, key)
			t.log.add(at, eventVanished, state.name, "interface %s vanished", state.name)
		}
	}
}

// miss notes a reading that has no interface at all.
func (t *interfaceTable) miss() { t.sum.whole = false }

func (t *interfaceTable) count(state *interfaceState, row *netdev.Row, number uint64, elapsed time.Duration, at moment) {
	for i, counter := range t.order {
		t.raw[i] = row.Values[counter]
	}
	var before [trafficCounters]uint64
	for i := range before {
		before[i] = state.meter.Total(i)
	}
	event := state.meter.Update(t.raw[:], elapsed, mostBytes(state.link, elapsed))
	switch {
	case event.Reset:
		t.log.add(at, eventReset, state.name, "counters of %s were reset", state.name)
		if state.counted {
			t.sum.epoch++
		}
	case event.Back > 0:
		t.log.add(at, eventReset, state.name, "%d counters of %s went back", event.Back, state.name)
	}
	if event.Wraps > 0 {
		t.log.add(at, eventWrap, state.name, "%d 32-bit counters of %s wrapped", event.Wraps, state.name)
	}
	state.changed = number
	if state.counted {
		for i := range before {
			t.sum.totals[i] += state.meter.Total(i) - before[i]
		}
	}
}

// mostBytes is the most an interface can have carried in a time, 0 when its speed is not known.
func mostBytes(l *link.Link, elapsed time.Duration) uint64 {
	if l == nil || l.LinkSpeedBits == 0 {
		return 0
	}
	const slack = 1 << 20 // what waited in queues
	return uint64(2*float64(l.LinkSpeedBits)/units.BitsPerByte*elapsed.Seconds()) + slack
}

// bind finds the state of the interface that has a name now, nil when the topology does not know it.
func (t *interfaceTable) bind(name string, top *topology, number uint64, at moment) *interfaceState {
	key := interfaceKey{name: name}
	var l *link.Link
	place := -1
	if top.links != nil {
		var known bool
		if place, known = top.byName[name]; !known {
			return nil
		}
		l = top.links[place]
		key = interfaceKey{index: l.Index}
	}
	state := t.byKey[key]
	if state == nil && l != nil {
		// Links were not known when it appeared.
		if nameless := t.byKey[interfaceKey{name: name}]; nameless != nil {
			delete(t.byKey, interfaceKey{name: name})
			t.byKey[key], state = nameless, nameless
		}
	}
	if state == nil {
		leading := uint64(1)<<rated - 1
		bytes := uint64(1<<receiveBytes | 1<<transmitBytes)
		state = &interfaceState{name: name, meter: rate.NewMeter(len(t.order), leading, bytes), born: number}
		t.byKey[key] = state
		if number > 1 {
			t.log.add(at, eventAppeared, name, "interface %s appeared", name)
		}
	} else if state.name != name {
		t.log.add(at, eventRenamed, name, "interface %s was renamed %s", state.name, name)
	}
	state.name, state.link, state.version = name, l, top.version
	state.describe(place, top)
	return state
}

// describe fills in what does not change from sample to sample.
func (s *interfaceState) describe(place int, top *topology) {
	s.static = sample.Interface{Name: s.name}
	s.counted, s.primary = false, false
	l := s.link
	if l == nil {
		return
	}
	s.counted, s.primary = top.counted[place], top.primary == l
	index, kind, state, mtu := int64(l.Index), string(l.Kind), l.State, l.MTU
	s.static.Index, s.static.Kind, s.static.State, s.static.MTU = &index, &kind, &state, &mtu
	counted, primary := s.counted, s.primary
	s.static.Counted, s.static.Primary = &counted, &primary
	s.static.Addresses = l.Addresses
	if l.Master != "" {
		master := l.Master
		s.static.Master = &master
	}
	if l.Duplex != "" {
		duplex := l.Duplex
		s.static.Duplex = &duplex
	}
	if l.LinkSpeedBits != 0 {
		speed := l.LinkSpeedBits
		s.static.LinkSpeedBitsPerSecond = &speed
	}
}

// before is what the interface had counted at a record, and what rates follow.
func (s *interfaceState) before(base *record) (m *mark, kind rates) {
	switch m = s.markOf(base); {
	case m == nil || m.epoch != s.meter.Epoch():
		return nil, noRates
	case s.changed <= base.reading:
		return m, idleRates
	default:
		return m, realRates
	}
}

func (s *interfaceState) markOf(base *record) *mark {
	for i := range s.marks {
		if base != nil && s.marks[i].reading == base.reading {
			return &s.marks[i]
		}
	}
	return nil
}

// whyNoRates is why before has none, where there is a window.
func (s *interfaceState) whyNoRates(base *record) string {
	switch {
	case s.born > base.reading:
		return "appeared in this window"
	case s.markOf(base) == nil:
		return "not read when this window began"
	default:
		return "counters were reset in this window"
	}
}

// build makes the row of an interface for a sample whose window began at base and is so long. A passing sample is written and
// forgotten before the next.
func (t *interfaceTable) build(s *interfaceState, base *record, window time.Duration, passing bool) (row *interfaceRow, fresh bool) {
	m, kind := s.before(base)
	if s.row != nil && kind != realRates && s.rowRates == kind && s.rowChanged == s.changed && s.rowVersion == s.version {
		return s.row, false
	}
	passing = passing && kind == realRates
	switch {
	case !passing:
		row = &interfaceRow{}
	case s.passing == nil:
		s.passing = &interfaceRow{}
		row = s.passing
	default:
		row = s.passing
	}
	*row = interfaceRow{Interface: s.static, resets: s.meter.Resets()}
	row.Resets = &row.resets
	for i := range row.totals {
		row.totals[i] = s.meter.Total(i)
	}
	if kind == realRates {
		for i := range row.rates {
			row.rates[i] = rate.PerSecond(m.totals[i], row.totals[i], window)
		}
	}
	row.point(&t.told, t.order, kind != noRates)
	if passing {
		return row, true
	}
	if kind != realRates {
		_ = row.Keep() // it is encoded when it is written otherwise
	}
	s.row, s.rowChanged, s.rowVersion, s.rowRates = row, s.changed, s.version, kind
	return row, true
}

// point lets the document's pointers point at what is known.
func (row *interfaceRow) point(told *[netdev.Counters]bool, order [netdev.Counters]netdev.Counter, hasRates bool) {
	d := &row.Interface
	fields := [netdev.Counters]**uint64{
		&d.ReceiveBytesTotal, &d.TransmitBytesTotal, &d.ReceivePacketsTotal, &d.TransmitPacketsTotal,
		&d.ReceiveErrorsTotal, &d.TransmitErrorsTotal, &d.ReceiveDropsTotal, &d.TransmitDropsTotal,
		&d.ReceiveFIFOErrorsTotal, &d.ReceiveFrameErrorsTotal, &d.ReceiveMulticastTotal, &d.ReceiveCompressedTotal,
		&d.TransmitFIFOErrorsTotal, &d.TransmitCarrierErrorsTotal, &d.TransmitCollisionsTotal, &d.TransmitCompressedTotal,
	}
	for i, field := range fields {
		if told[order[i]] {
			*field = &row.totals[i]
		}
	}
	if hasRates {
		d.ReceiveBytesPerSecond, d.TransmitBytesPerSecond = &row.rates[receiveBytes], &row.rates[transmitBytes]
		d.ReceivePacketsPerSecond, d.TransmitPacketsPerSecond = &row.rates[receivePackets], &row.rates[transmitPackets]
	}
}

// mark remembers what the interfaces of a reading have counted, for the rates of samples to come.
func (t *interfaceTable) mark(number uint64) {
	for _, s := range t.rows {
		if s.seen != number {
			continue
		}
		copy(s.marks[1:], s.marks[:])
		m := &s.marks[0]
		m.reading, m.epoch = number, s.meter.Epoch()
		for i := range m.totals {
			m.totals[i] = s.meter.Total(i)
		}
	}
}

// fill writes the interfaces and totals of a sample.
func (t *interfaceTable) fill(d *document, top *topology, base *record, window time.Duration) (bytes int) {
	const rowBytes = 900 // of an interfaceRow, as the allocator rounds it
	if d.passing {
		t.passing = slices.Grow(t.passing[:0], len(t.rows))[:len(t.rows)]
		d.Interfaces = t.passing
	} else {
		d.Interfaces = make([]*sample.Interface, len(t.rows))
	}
	var without named
	for i, s := range t.rows {
		row, fresh := t.build(s, base, window, d.passing)
		d.Interfaces[i] = &row.Interface
		bytes += 8
		if fresh {
			bytes += rowBytes + row.KeptBytes()
		}
		if base != nil && row.ReceiveBytesPerSecond == nil {
			without.add(s.whyNoRates(base), s.name)
		}
	}
	if len(without.order) > 0 {
		text := without.String()
		for _, field := range rateFields() {
			d.lack("interfaces."+field, text)
		}
	}
	t.fillTotals(d, top, base, window)
	return bytes
}

func rateFields() [rated]string {
	return [rated]string{"receive_bytes_per_second", "transmit_bytes_per_second",
		"receive_packets_per_second", "transmit_packets_per_second"}
}

func (t *interfaceTable) fillTotals(d *document, top *topology, base *record, window time.Duration) {
	if !t.sum.ever {
		d.lack("totals", t.whyNoTotals(top))
		return
	}
	d.Totals = &d.totals
	traffic := &d.totals.Traffic
	for i, field := range [trafficCounters]**uint64{
		&traffic.ReceiveBytesTotal, &traffic.TransmitBytesTotal, &traffic.ReceivePacketsTotal, &traffic.TransmitPacketsTotal,
		&traffic.ReceiveErrorsTotal, &traffic.TransmitErrorsTotal, &traffic.ReceiveDropsTotal, &traffic.TransmitDropsTotal,
	} {
		*field = d.count(t.sum.totals[i])
	}
	switch {
	case top.capacityBits != 0:
		d.totals.CapacityBitsPerSecond = d.count(top.capacityBits)
	case top.links != nil:
		d.lack("totals.capacity_bits_per_second", top.noCapacity)
		d.lack("totals.utilization_ratio", top.noUtilization)
	default:
		d.lack("totals.capacity_bits_per_second", t.whyNoTotals(top))
		d.lack("totals.utilization_ratio", t.whyNoTotals(top))
	}
	reason := ""
	switch {
	case base == nil: // unavailable["window_seconds"] says why
	case !t.sum.counting:
		reason = "no interface counts now: " + t.whyNoTotals(top)
	case !t.sum.whole:
		reason = "not all counted interfaces could be read"
	case !base.whole:
		reason = "not all counted interfaces were read when this window began"
	case !base.counting:
		reason = "no interface counted when this window began"
	case base.epoch != t.sum.epoch:
		reason = "counters of a counted interface were reset in this window"
	default:
		var perSecond [rated]float64
		for i := range perSecond {
			perSecond[i] = rate.PerSecond(base.totals[i], t.sum.totals[i], window)
		}
		traffic.ReceiveBytesPerSecond, traffic.TransmitBytesPerSecond = d.real(perSecond[receiveBytes]), d.real(perSecond[transmitBytes])
		traffic.ReceivePacketsPerSecond = d.real(perSecond[receivePackets])
		traffic.TransmitPacketsPerSecond = d.real(perSecond[transmitPackets])
		if d.totals.CapacityBitsPerSecond != nil {
			busier := max(perSecond[receiveBytes], perSecond[transmitBytes])
			d.totals.UtilizationRatio = d.real(units.BytesToBits(busier) / float64(*d.totals.CapacityBitsPerSecond))
		}
	}
	if reason != "" {
		for _, field := range rateFields() {
			d.lack("totals."+field, reason)
		}
		d.lack("totals.utilization_ratio", reason)
	}
}

// capacity sums the link speeds of counted interfaces that are up; one that is not known makes the sum unknown.
func capacity(links []*link.Link, counted []bool) (bits uint64, why, whyNoUtilization string) {
	var unknown named
	for i, l := range links {
		if !counted[i] || !l.Up {
			continue
		}
		bits += l.LinkSpeedBits
		if l.LinkSpeedBits == 0 {
			unknown.add(l.SpeedReason, l.Name)
		}
	}
	switch {
	case len(unknown.order) > 0:
		why = unknown.String()
		return 0, why, "no capacity: " + why
	case bits == 0:
		const why = "no counted interface is up"
		return 0, why, why
	default:
		return bits, "", ""
	}
}

func (t *interfaceTable) whyNoTotals(top *topology) string {
	if top.links == nil {
		return "kinds of interfaces are not known: " + top.problem
	}
	var present, unread named
	for i, l := range top.links {
		if top.counted[i] {
			unread.add("no counters are known of what is chosen to count", l.Name)
		}
		present.add("none of the interfaces here is chosen to count", fmt.Sprintf("%s (%s)", l.Name, l.Kind))
	}
	if len(unread.order) > 0 {
		return unread.String()
	}
	return present.String()
}
