package monitor

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"netmon/core/rate"
	"netmon/core/snmp"
	"netmon/core/sockstat"
)

// The sections made of protocol counters.
const (
	tcpSection = iota
	udpSection
	ipSection
	protocolSections
)

// protocolField is one counter of the document: the sum of an IPv4 counter (or one for both) and, where there is one, its IPv6
// twin.
type protocolField struct {
	name string
	v4   snmp.Counter
	v6   snmp.Counter // -1 for none
}

// protocolMeter follows the counters of one section. Not safe for concurrent use.
type protocolMeter struct {
	section  Section
	name     string
	fields   []protocolField
	counters []snmp.Counter // what the meter holds, in its order
	place    [snmp.Counters]int
	meter    *rate.Meter
	raw      []uint64
	seen     []bool // counters that were read at least once
}

func newProtocolMeters() [protocolSections]*protocolMeter {
	const none = snmp.Counter(-1)
	return [protocolSections]*protocolMeter{
		tcpSection: newProtocolMeter(TCP, "tcp", []protocolField{
			{"segments_sent_total", snmp.TCPOutSegs, none},
			{"segments_received_total", snmp.TCPInSegs, none},
			{"segments_retransmitted_total", snmp.TCPRetransSegs, none},
			{"timeouts_total", snmp.TCPTimeouts, none},
			{"syn_retransmits_total", snmp.TCPSynRetrans, none},
			{"listen_overflows_total", snmp.TCPListenOverflows, none},
			{"listen_drops_total", snmp.TCPListenDrops, none},
			{"resets_sent_total", snmp.TCPOutRsts, none},
			{"in_errors_total", snmp.TCPInErrs, none},
			{"memory_pressures_total", snmp.TCPMemoryPressures, none},
			{"out_of_order_queued_total", snmp.TCPOFOQueue, none},
		}),
		udpSection: newProtocolMeter(UDP, "udp", []protocolField{
			{"datagrams_sent_total", snmp.UDPOutDatagrams, snmp.UDP6OutDatagrams},
			{"datagrams_received_total", snmp.UDPInDatagrams, snmp.UDP6InDatagrams},
			{"in_errors_total", snmp.UDPInErrors, snmp.UDP6InErrors},
			{"receive_buffer_errors_total", snmp.UDPRcvbufErrors, snmp.UDP6RcvbufErrors},
			{"send_buffer_errors_total", snmp.UDPSndbufErrors, snmp.UDP6SndbufErrors},
			{"no_ports_total", snmp.UDPNoPorts, snmp.UDP6NoPorts},
		}),
		ipSection: newProtocolMeter(IP, "ip", []protocolField{
			{"in_discards_total", snmp.IPInDiscards, snmp.IP6InDiscards},
			{"out_discards_total", snmp.IPOutDiscards, snmp.IP6OutDiscards},
			{"in_address_errors_total", snmp.IPInAddrErrors, snmp.IP6InAddrErrors},
			{"out_no_routes_total", snmp.IPOutNoRoutes, snmp.IP6OutNoRoutes},
			{"fragments_failed_total", snmp.IPFragFails, snmp.IP6FragFails},
		}),
	}
}

func newProtocolMeter(section Section, name string, fields []protocolField) *protocolMeter {
	p := &protocolMeter{section: section, name: name, fields: fields}
	for _, f := range fields {
		for _, c := range []snmp.Counter{f.v4, f.v6} {
			if c >= 0 {
				p.place[c] = len(p.counters)
				p.counters = append(p.counters, c)
			}
		}
	}
	p.meter = rate.NewMeter(len(p.counters), 1<<len(p.counters)-1, 0)
	p.raw = make([]uint64, len(p.counters))
	p.seen = make([]bool, len(p.counters))
	return p
}

// update counts a reading.
func (p *protocolMeter) update(r *reading, elapsed time.Duration, at moment, log *eventLog) {
	for i, c := range p.counters {
		if !r.protocols.Has[c] {
			continue // stays where it was
		}
		p.raw[i] = r.protocols.Value[c]
		if !p.seen[i] {
			p.seen[i] = true
			p.meter.Start(i, p.raw[i])
		}
	}
	event := p.meter.Update(p.raw, elapsed, 0)
	if event.Reset {
		log.add(at, eventReset, "", "%s counters were reset", p.name)
	}
	if event.Wraps > 0 {
		log.add(at, eventWrap, "", "%d 32-bit %s counters wrapped", event.Wraps, p.name)
	}
}

// total is what a field counted, with why it is not known where it is not.
func (p *protocolMeter) total(f protocolField, r *reading) (value uint64, reason string) {
	if !r.protocols.Has[f.v4] {
		return 0, whyMissing(f.v4, r)
	}
	value = p.meter.Total(p.place[f.v4])
	if f.v6 < 0 {
		return value, ""
	}
	// A kernel without IPv6 has no such file, and then there is nothing to add.
	if !r.protocols.Has[f.v6] && r.snmp6Err != nil && !errors.Is(r.snmp6Err, fs.ErrNotExist) {
		return 0, r.snmp6Err.Error()
	}
	return value + p.meter.Total(p.place[f.v6]), ""
}

func whyMissing(c snmp.Counter, r *reading) string {
	err := r.snmpErr
	if c >= snmp.TCPTimeouts && c <= snmp.TCPOFOQueue {
		err = r.netstatErr
	}
	if err != nil {
		return err.Error()
	}
	return "this kernel does not count " + c.Name()
}

// remember is what later samples need to make ratios.
func (p *protocolMeter) remember(r *reading) protocolRecord {
	totals := make([]uint64, len(p.counters))
	for i := range totals {
		totals[i] = p.meter.Total(i)
	}
	return protocolRecord{epoch: p.meter.Epoch(), valid: r.snmpErr == nil, totals: totals}
}

// fillProtocols writes the sections tcp, udp and ip of a sample.
func (m *Monitor) fillProtocols(d *document, r *reading, base *record) {
	for i, p := range m.protocols {
		if m.config.Sources&p.section == 0 {
			continue
		}
		var fields []**uint64
		switch i {
		case tcpSection:
			t := &d.tcp
			d.TCP = t
			fields = []**uint64{&t.SegmentsSentTotal, &t.SegmentsReceivedTotal, &t.SegmentsRetransmittedTotal,
				&t.TimeoutsTotal, &t.SYNRetransmitsTotal, &t.ListenOverflowsTotal, &t.ListenDropsTotal,
				&t.ResetsSentTotal, &t.InErrorsTotal, &t.MemoryPressuresTotal, &t.OutOfOrderQueuedTotal}
			m.fillTCP(d, p, r, base)
		case udpSection:
			u := &d.udp
			d.UDP = u
			fields = []**uint64{&u.DatagramsSentTotal, &u.DatagramsReceivedTotal, &u.InErrorsTotal,
				&u.ReceiveBufferErrorsTotal, &u.SendBufferErrorsTotal, &u.NoPortsTotal}
		case ipSection:
			x := &d.ip
			d.IP = x
			fields = []**uint64{&x.InDiscardsTotal, &x.OutDiscardsTotal, &x.InAddressErrorsTotal,
				&x.OutNoRoutesTotal, &x.FragmentsFailedTotal}
		}
		for j, field := range fields {
			value, reason := p.total(p.fields[j], r)
			if reason != "" {
				d.lack(p.name+"."+p.fields[j].name, reason)
				continue
			}
			*field = d.count(value)
		}
	}
}

// fillTCP writes what is no counter of the section tcp.
func (m *Monitor) fillTCP(d *document, p *protocolMeter, r *reading, base *record) {
	if r.protocols.Has[snmp.TCPCurrEstab] {
		d.tcp.Established = d.count(r.protocols.Value[snmp.TCPCurrEstab])
	} else {
		d.lack("tcp.established", whyMissing(snmp.TCPCurrEstab, r))
	}
	if base == nil {
		return // unavailable["window_seconds"] says why
	}
	sent, repeated := p.place[snmp.TCPOutSegs], p.place[snmp.TCPRetransSegs]
	before := base.protocols[tcpSection]
	switch {
	case !r.protocols.Has[snmp.TCPOutSegs] || !r.protocols.Has[snmp.TCPRetransSegs]:
		d.lack("tcp.retransmit_ratio", whyMissing(snmp.TCPOutSegs, r))
	case !before.valid:
		d.lack("tcp.retransmit_ratio", "not read when this window began")
	case before.epoch != p.meter.Epoch():
		d.lack("tcp.retransmit_ratio", "counters were reset in this window")
	case p.meter.Total(sent) == before.totals[sent]:
		d.lack("tcp.retransmit_ratio", "no segment was sent in this window")
	default:
		d.tcp.RetransmitRatio = d.real(float64(p.meter.Total(repeated)-before.totals[repeated]) /
			float64(p.meter.Total(sent)-before.totals[sent]))
	}
}

// fillSockets writes the section sockets of a sample.
func (m *Monitor) fillSockets(d *document, r *reading) {
	d.Sockets = &d.sockets
	s := &d.sockets
	read := func(field **uint64, name string, scale uint64, v4, v6 sockstat.Gauge) {
		if !r.sockets.Has[v4] {
			reason := "this kernel does not tell"
			if r.sockstatErr != nil {
				reason = r.sockstatErr.Error()
			}
			d.lack("sockets."+name, reason)
			return
		}
		value := r.sockets.Value[v4]
		if v6 >= 0 {
			if !r.sockets.Has[v6] && r.sockstat6Err != nil && !errors.Is(r.sockstat6Err, fs.ErrNotExist) {
				d.lack("sockets."+name, r.sockstat6Err.Error())
				return
			}
			value += r.sockets.Value[v6]
		}
		*field = d.count(value * scale)
	}
	const none = sockstat.Gauge(-1)
	read(&s.TCPInUse, "tcp_in_use", 1, sockstat.TCPInUse, sockstat.TCP6InUse)
	read(&s.TCPOrphaned, "tcp_orphaned", 1, sockstat.TCPOrphaned, none)
	read(&s.TCPTimeWait, "tcp_time_wait", 1, sockstat.TCPTimeWait, none)
	read(&s.TCPMemoryBytes, "tcp_memory_bytes", uint64(os.Getpagesize()), sockstat.TCPMemoryPages, none)
	read(&s.UDPInUse, "udp_in_use", 1, sockstat.UDPInUse, sockstat.UDP6InUse)
}
