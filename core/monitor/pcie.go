package monitor

import (
	"fmt"
	"sync/atomic"
	"time"

	"netmon/core/pcie"
	"netmon/core/sample"
)

// pciePart fills the section pcie. Links hardly change, so they are read once a minute: when a sample asks for it, by a goroutine
// that is parked meanwhile and takes no thread then.
type pciePart struct {
	m       *Monitor
	reading atomic.Pointer[pcieReading]
	work    chan struct{} // holds a token while a reading is asked for
	began   atomic.Int64  // when the reading that goes on began, monotonic nanoseconds; 0 for none
	closing atomic.Bool
	stopped atomic.Bool
	problem atomic.Pointer[string]

	// Of the goroutine that samples.
	started bool
	missing string // why there is no goroutine
	askedAt time.Duration
	at      time.Duration
	kept    *pcieReading // the one whose memory is counted in the history
}

// pcieReading is not changed after it was published.
type pcieReading struct {
	missing string
	rows    []sample.PCIe
	lacking []missing
	bytes   int
}

func newPCIePart(m *Monitor) *pciePart {
	p := &pciePart{m: m, work: make(chan struct{}, 1)}
	p.look(m.clock.Monotonic())
	return p
}

// look asks for a reading, where there is PCI.
func (p *pciePart) look(now time.Duration) {
	p.askedAt = now
	if !p.started {
		// Listing the folder asks no device.
		if _, err := p.m.options.FS.List(pcie.Path); err != nil {
			p.missing = noPCI(err)
			return
		}
		p.started = true
		go p.run()
	}
	select {
	case p.work <- struct{}{}:
	default:
	}
}

func noPCI(err error) string {
	if pcie.Absent(err) {
		return "no /" + pcie.Path
	}
	return err.Error()
}

func (p *pciePart) run() {
	defer func() {
		if r := recover(); r != nil {
			problem := fmt.Sprintf("internal error, PCI Express links are no longer read: %v", r)
			p.problem.Store(&problem)
		}
		p.stopped.Store(true)
	}()
	for range p.work {
		if p.closing.Load() {
			return
		}
		p.began.Store(max(1, int64(p.m.clock.Monotonic())))
		p.m.charge(p.read)
		p.began.Store(0)
	}
}

func (p *pciePart) read() {
	devices, err := pcie.Read(*p.m.options.FS)
	if err != nil {
		p.reading.Store(&pcieReading{missing: noPCI(err)})
		return
	}
	p.reading.Store(pcieRows(devices))
}

// pcieRows are the rows of devices, with what they lack.
func pcieRows(devices []pcie.Device) *pcieReading {
	const rowBytes = 300 // of a row with its numbers and texts
	r := &pcieReading{rows: make([]sample.PCIe, len(devices)), bytes: rowBytes * len(devices)}
	var current, maximum, capacity, limited named
	for i := range devices {
		d := &devices[i]
		row := &r.rows[i]
		*row = sample.PCIe{Address: d.Address, Kind: d.Kind, Names: d.Names}
		unknown := "the device does not tell"
		if d.Asleep {
			unknown = "powered down; asking would wake it"
		}
		row.CurrentTransfersPerSecond, row.CurrentLanes = linkRow(d.Current)
		row.MaximumTransfersPerSecond, row.MaximumLanes = linkRow(d.Maximum)
		if bits := d.Current.CapacityBits(); bits != 0 {
			row.CurrentCapacityBitsPerSecond = &bits
		} else {
			capacity.add(unknown, d.Address)
		}
		if row.CurrentTransfersPerSecond == nil || row.CurrentLanes == nil {
			current.add(unknown, d.Address)
		}
		if row.MaximumTransfersPerSecond == nil || row.MaximumLanes == nil {
			maximum.add(unknown, d.Address)
		}
		switch limit := d.Limit(); limit {
		case pcie.Limited, pcie.Unlimited:
			is := limit == pcie.Limited
			row.Limited = &is
		case pcie.Resting:
			limited.add("a GPU slows its link down while it is idle, so a slower one says nothing", d.Address)
		default:
			limited.add(unknown, d.Address)
		}
	}
	lack := func(why *named, fields ...string) {
		if len(why.order) == 0 {
			return
		}
		for _, field := range fields {
			r.lacking = append(r.lacking, missing{"pcie." + field, why.String()})
		}
	}
	lack(&current, "current_transfers_per_second", "current_lanes")
	lack(&maximum, "maximum_transfers_per_second", "maximum_lanes")
	lack(&capacity, "current_capacity_bits_per_second")
	lack(&limited, "limited")
	return r
}

func linkRow(l pcie.Link) (transfers *float64, lanes *int64) {
	if l.TransfersPerSecond != 0 {
		transfers = &l.TransfersPerSecond
	}
	if l.Lanes != 0 {
		number := int64(l.Lanes)
		lanes = &number
	}
	return transfers, lanes
}

func (p *pciePart) fill(d *document, now *occasion) (bytes int) {
	if p.at = now.monotonic; p.at-p.askedAt >= lookAgain {
		p.look(p.at)
	}
	reading := p.reading.Load()
	missing := p.missing
	switch {
	case !p.started:
	case p.problem.Load() != nil:
		missing = *p.problem.Load()
	case reading == nil:
		missing = notReadYet
	default:
		missing = reading.missing
	}
	if missing != "" {
		d.lack("pcie", missing)
		return 0
	}
	d.PCIe = reading.rows
	d.lacking = append(d.lacking, reading.lacking...)
	if !d.passing && p.kept != reading {
		p.kept = reading
		bytes = reading.bytes
	}
	return bytes
}

func (p *pciePart) remember(uint64) {}

func (p *pciePart) problems() (problems []string) {
	if problem := p.problem.Load(); problem != nil {
		problems = append(problems, *problem)
	}
	if began := time.Duration(p.began.Load()); began != 0 && p.at-began > stuckAfter {
		problems = append(problems, fmt.Sprintf("a device has not answered for more than %v: PCI Express links are not read", stuckAfter))
	}
	return problems
}

func (p *pciePart) close() {
	p.closing.Store(true)
	select {
	case p.work <- struct{}{}:
	default:
	}
}

func (p *pciePart) ended() bool { return !p.started || p.stopped.Load() }
