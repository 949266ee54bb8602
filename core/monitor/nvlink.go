package monitor

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"netmon/core/nvlink"
	"netmon/core/rate"
	"netmon/core/sample"
)

// nvlinkPart fills the section nvlink. The driver's library is opened where there is a driver, by the goroutine that calls it: it
// may take long, and hang.
type nvlinkPart struct {
	*beside
	m       *Monitor
	reading atomic.Pointer[nvlinkReading]

	// Of the goroutine that samples.
	lookedAt time.Duration
	at       time.Duration
	missing  string // why there is no goroutine

	// Of the goroutine that reads.
	library  nvlink.Library
	openedAt time.Duration // when opening was tried last
	refused  string        // why the library was not opened
	gpus     []*nvlinkState
}

// nvlinkReading is not changed after it was published.
type nvlinkReading struct {
	missing string
	rows    []sample.NVLink
	lacking []missing
}

func newNVLinkPart(m *Monitor) *nvlinkPart {
	p := &nvlinkPart{m: m}
	p.beside = newBeside(m, "NVLinks", p.readAll)
	p.look(m.clock.Monotonic())
	return p
}

// look starts reading where there is a driver.
func (p *nvlinkPart) look(now time.Duration) {
	p.lookedAt = now
	if _, err := nvlink.Driver(*p.m.options.FS); err != nil {
		p.missing = err.Error()
		return
	}
	if p.m.options.NVML == nil {
		p.missing = "this build of netmon opens no NVIDIA library"
		return
	}
	p.start()
}

func (p *nvlinkPart) fill(d *document, now *occasion) (bytes int) {
	p.at = now.monotonic
	if !p.started && p.at-p.lookedAt >= lookAgain {
		p.look(p.at)
	}
	missing := p.missing
	reading := p.reading.Load()
	if p.started {
		switch missing = p.silent(p.at); {
		case missing != "":
		case reading == nil:
			missing = notReadYet
		default:
			missing = reading.missing
		}
	}
	if missing != "" {
		d.lack("nvlink", missing)
		return 0
	}
	d.NVLink = reading.rows
	d.lacking = append(d.lacking, reading.lacking...)
	return len(reading.rows) * sample.KeptNVLinkBytes
}

func (p *nvlinkPart) remember(uint64)    { p.tick(p.at) }
func (p *nvlinkPart) problems() []string { return p.beside.problems(p.at) }
func (p *nvlinkPart) ended() bool        { return p.isEnded() }

// nvlinkState follows the links of one GPU.
type nvlinkState struct {
	key     string // UUID, or the index where that is not told
	gpu     nvlink.GPU
	meter   *rate.Meter
	at      time.Duration // of the newest reading in which counters were known
	window  time.Duration // 0 for none
	grown   [2]uint64     // KiB, in the window
	reason  string        // why there are no rates
	counted bool
}

// Counters of a GPU's meter.
const (
	nvlinkReceive = iota
	nvlinkTransmit
)

func (p *nvlinkPart) readAll() {
	now := p.m.clock.Monotonic()
	if p.library == nil {
		if p.refused != "" && now-p.openedAt < lookAgain {
			return
		}
		p.openedAt = now
		library, err := p.m.options.NVML()
		if err != nil {
			p.refused = err.Error()
			p.reading.Store(&nvlinkReading{missing: p.refused})
			return
		}
		p.library, p.refused = library, ""
	}
	gpus, err := p.library.Read()
	if err != nil {
		// The driver may have been loaded anew: the library is opened again then.
		p.library, p.gpus, p.refused, p.openedAt = nil, nil, err.Error(), now
		p.reading.Store(&nvlinkReading{missing: p.refused})
		return
	}
	at := moment{monotonic: p.m.clock.Monotonic(), wall: p.m.clock.Wall()}
	states := make([]*nvlinkState, 0, len(gpus))
	for _, gpu := range gpus {
		key := gpu.UUID
		if key == "" {
			key = fmt.Sprint(gpu.Index)
		}
		i := slices.IndexFunc(p.gpus, func(s *nvlinkState) bool { return s.key == key })
		s := &nvlinkState{key: key, meter: rate.NewMeter(2, 1<<nvlinkReceive|1<<nvlinkTransmit, 0)}
		if i >= 0 {
			s = p.gpus[i]
		}
		s.gpu = gpu
		s.count(at, p.m.events)
		states = append(states, s)
	}
	p.gpus = states
	p.publish()
}

func (s *nvlinkState) count(at moment, log *eventLog) {
	wasCounted := s.counted
	s.counted, s.window, s.grown = s.gpu.CountersMissing == "", 0, [2]uint64{}
	if !s.counted {
		s.reason = s.gpu.CountersMissing
		return
	}
	before := [2]uint64{s.meter.Total(nvlinkReceive), s.meter.Total(nvlinkTransmit)}
	first, elapsed := s.at == 0, at.monotonic-s.at
	event := s.meter.Update([]uint64{s.gpu.ReceiveKiB, s.gpu.TransmitKiB}, elapsed, 0)
	s.at = at.monotonic
	switch {
	case first:
		s.reason = firstReading
	case event.Reset:
		log.add(at, eventReset, "", "NVLink counters of GPU %d were reset", s.gpu.Index)
		s.reason = wasReset
	case !wasCounted:
		s.reason = wasUnknown
	default:
		s.reason, s.window = "", elapsed
		for i := range s.grown {
			s.grown[i] = s.meter.Total(i) - before[i]
		}
	}
}

func (p *nvlinkPart) publish() {
	r := &nvlinkReading{rows: make([]sample.NVLink, len(p.gpus))}
	var uuid, links, totals, rates named
	for i, s := range p.gpus {
		row, name := &r.rows[i], fmt.Sprint(s.gpu.Index)
		*row = sample.NVLink{GPU: int64(s.gpu.Index), UUID: known(s.gpu.UUID)}
		if row.UUID == nil {
			uuid.add("the library does not tell", name)
		}
		if active := int64(s.gpu.LinksActive); active >= 0 {
			row.LinksActive = &active
		} else {
			links.add("the library does not tell", name)
		}
		if !s.counted {
			totals.add(s.reason, name)
			rates.add(s.reason, name)
			continue
		}
		receive, transmit := s.meter.Total(nvlinkReceive)*nvlink.KiB, s.meter.Total(nvlinkTransmit)*nvlink.KiB
		row.ReceiveBytesTotal, row.TransmitBytesTotal = &receive, &transmit
		if s.window == 0 {
			rates.add(s.reason, name)
			continue
		}
		perSecond := func(counter int) *float64 {
			value := rate.PerSecond(0, s.grown[counter]*nvlink.KiB, s.window)
			return &value
		}
		window := s.window.Seconds()
		row.ReceiveBytesPerSecond, row.TransmitBytesPerSecond, row.WindowSeconds = perSecond(nvlinkReceive), perSecond(nvlinkTransmit), &window
	}
	for _, field := range []struct {
		name string
		why  *named
	}{
		{"uuid", &uuid}, {"links_active", &links}, {"receive_bytes_total", &totals}, {"transmit_bytes_total", &totals},
		{"receive_bytes_per_second", &rates}, {"transmit_bytes_per_second", &rates}, {"window_seconds", &rates},
	} {
		if len(field.why.order) > 0 {
			r.lacking = append(r.lacking, missing{"nvlink." + field.name, field.why.String()})
		}
	}
	p.reading.Store(r)
}
