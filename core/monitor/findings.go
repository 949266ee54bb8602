package monitor

import (
	"math"
	"net/netip"
	"time"
	"unsafe"

	"netmon/core/diagnose"
	"netmon/core/reach"
	"netmon/core/sample"
)

// findingsPeriod is how often findings are made: in between nothing has changed that they would not find a moment later, and samples share
// them.
const findingsPeriod = 2 * time.Second

// findingsPart makes the section findings of what other parts filled: it stands behind them all.
type findingsPart struct {
	m     *Monitor
	state diagnose.LocalState
	made  bool
	at    time.Duration
	found []sample.Finding
	// Why there are none, and as samples say it.
	why, reason string

	here   diagnose.Here // room for one
	probed map[netip.Addr]*reach.Result
	of     *reach.Results // that probed is of
}

func newFindingsPart(m *Monitor) *findingsPart { return &findingsPart{m: m} }

func (p *findingsPart) fill(d *document, now *occasion) (bytes int) {
	wrong := d.Transport != nil && d.Transport.WrongInterface != nil
	if (p.m.peers == nil || p.m.peers.current == nil) && !wrong {
		if why := or(p.m.never["peers"], or(d.reasonOf("peers"), "peers were not read")); p.why != why {
			p.why, p.reason = why, "the job's connections are not known: "+why
		}
		d.lack("findings", p.reason)
		return 0
	}
	// Samples on demand come as often as somebody likes; only those of the loop are looked at.
	if !p.made || !d.passing && now.monotonic-p.at >= findingsPeriod {
		before := p.found
		p.found = p.find(d)
		p.made, p.at = true, now.monotonic
		if len(p.found) > 0 && (len(before) == 0 || &before[0] != &p.found[0]) {
			bytes = findingsBytes(p.found)
		}
	}
	d.Findings = p.found
	return bytes
}

func (p *findingsPart) find(d *document) []sample.Finding {
	h := &p.here
	h.At, h.Host, h.Rank, h.Transport, h.Ways = d.TimestampSeconds, "", nil, d.Transport, h.Ways[:0]
	if d.Host != nil && d.Host.Hostname != nil {
		h.Host = *d.Host.Hostname
	}
	if d.Job != nil {
		h.Rank = d.Job.Rank
	}
	p.ways(h)
	return diagnose.Local(h, &p.state)
}

// ways are the connections to other hosts, as the part peers has just filled them into the sample.
func (p *findingsPart) ways(h *diagnose.Here) {
	peers := p.m.peers
	if peers == nil || peers.current == nil {
		return
	}
	p.probes()
	for i := range peers.current.Rows {
		row, texts, n := &peers.current.Rows[i], peers.rows.shown[i], &peers.rows.numbers[i]
		if row.Peer.Ray || texts.Interface != nil && *texts.Interface == peers.loopback {
			continue
		}
		w := diagnose.LocalWay{
			Address: texts.Address, SentBytes: knownCount(n.Sent), Segments: knownCount(n.Segments),
			Retransmitted: knownCount(n.Retransmitted), Reported: knownCount(n.Reported),
			RTTSeconds: knownMicros(n.RTT), RTTMinSeconds: knownMicros(n.RTTMin), DeliveryBytesPerSec: math.NaN(),
			ProbeMinSeconds: math.NaN(), ProbeLastSeconds: math.NaN(), Probes: math.NaN(), Lost: math.NaN(),
		}
		if !n.AppLimited {
			w.DeliveryBytesPerSec = knownCount(n.Delivery)
		}
		if r := p.probed[row.Peer.Address.WithZone("")]; r != nil && r.Sent > 0 {
			w.Probes, w.Lost = float64(r.Sent), float64(r.Lost)
			if r.Received > 0 {
				w.ProbeMinSeconds, w.ProbeLastSeconds = r.Min, r.Last
			}
		}
		h.Ways = append(h.Ways, w)
	}
}

// probes finds those of addresses.
func (p *findingsPart) probes() {
	results := p.m.engine.Results()
	if results == p.of || results == nil {
		return
	}
	p.of = results
	if p.probed == nil {
		p.probed = make(map[netip.Addr]*reach.Result, len(results.Targets))
	}
	clear(p.probed)
	for _, r := range results.Targets {
		if r.Address.IsValid() {
			p.probed[r.Address.WithZone("")] = r
		}
	}
}

func knownCount(n uint64) float64 {
	if n == sample.UnknownNumber {
		return math.NaN()
	}
	return float64(n)
}

func knownMicros(n uint32) float64 {
	if n == sample.UnknownMicros || n == 0 {
		return math.NaN()
	}
	return float64(n) * 1e-6
}

// findingsBytes is the memory that findings take in the history.
func findingsBytes(found []sample.Finding) (bytes int) {
	const entry = 48 // of evidence
	for i := range found {
		f := &found[i]
		bytes += int(unsafe.Sizeof(*f)) + len(f.Advice) + len(f.Text) + entry*len(f.Evidence) + 4*16
	}
	return bytes
}

func (p *findingsPart) remember(uint64)    {}
func (p *findingsPart) problems() []string { return nil }
func (p *findingsPart) close()             {}
func (p *findingsPart) ended() bool        { return true }
