package monitor

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"netmon/core/clock"
	"netmon/core/peer"
	"netmon/core/phase"
	"netmon/core/sample"
	"netmon/core/tcpinfo"
	"netmon/core/units"
)

// Bounds of phases.
const (
	mostPhaseNames     = 64
	mostPhasesUnderWay = 256
	mostPhaseName      = 64 // bytes

	// mostPhaseWait is how long beginning and ending wait for a sample that is being taken. One that takes longer leaves the phase
	// without bytes.
	mostPhaseWait = 80 * time.Millisecond
	phaseWaitStep = 50 * time.Microsecond

	// A phase that is under way has counters read finely for so long at most, and for a moment after its end: the next may follow.
	mostFinePhase = 10 * time.Minute
	afterPhase    = time.Second

	// While phases are under way RDMA ports are read as often. A reading is near enough to the beginning or end of a phase when what
	// both are off is no more than a part in rdmaNear of its time.
	phaseRDMAPeriod = 100 * time.Millisecond
	rdmaNear        = 50
	mostSettling    = 64
	mostSettleTime  = 5 * time.Second
)

// aboutPhases is what problems of phases begin with.
const aboutPhases = "phases: "

// ErrTooManyPhases means that as many phases have names, or are under way, as can be.
var ErrTooManyPhases = errors.New("too many phases")

// ErrNoPhase means that no phase of that number is under way.
var ErrNoPhase = errors.New("no phase of that number is under way; end each once, with the monitor that began it")

// phases is the part of samples about phases: named parts of the job.
type phases struct {
	m         *Monitor
	innermost atomic.Pointer[string]

	mu       sync.Mutex // guards what follows; taken after the lock of sampling
	number   uint64     // of the newest phase
	names    []*phaseName
	under    []*runningPhase // in the order of their beginning
	unused   []*runningPhase // room
	settling []settlingPhase
	track    *rdmaTrack    // readings of RDMA ports, nil where there are none
	noTrack  string        // why
	wantedAt time.Duration // when RDMA ports were wanted last
	refused  uint64        // how many were not begun
	refusal  string        // why the last one was not

	rows []sample.Phase // room for those of a sample on demand

	waits phaseWaits // guarded by the lock of sampling
}

// phaseName is what is known of all phases of a name.
type phaseName struct {
	name    string
	running uint64
	account phase.Account
	last    *sample.PhaseNumbers // of the newest that ended; only the fields of last
	// settling is how many have ended whose RDMA bytes are not known yet.
	settling int
}

// known is the account as far as it is known: while some are not settled, RDMA bytes of it are yet to come.
func (n *phaseName) known() phase.Account {
	a := n.account
	a.RDMABlind = a.RDMABlind || n.settling > 0
	return a
}

type runningPhase struct {
	number uint64
	name   *phaseName
	part   phase.Part
	rdma   nearReading // to its beginning
}

// nearReading is the reading of RDMA ports that is nearest to a moment.
type nearReading struct {
	to    time.Duration
	point rdmaPoint
	off   time.Duration
	found bool // and no nearer one is to come
}

// settlingPhase is one that has ended, and whose RDMA bytes are not known until ports are read again.
type settlingPhase struct {
	name       *phaseName
	begin, end nearReading
}

// PhaseFigures are the numbers of one phase. Counts that are not known are sample.UnknownCount, other numbers NaN.
type PhaseFigures struct {
	Verdict  phase.Verdict
	Duration time.Duration
	sample.PhaseNumbers
}

func newPhases(m *Monitor) *phases {
	// Numbers of a forked child's own phases are not those of its parent.
	p := &phases{m: m, number: uint64(m.clock.Wall().UnixNano())}
	p.findTrack()
	return p
}

// currentPhase is the name of the innermost phase under way, "" for none. It never waits.
func (m *Monitor) currentPhase() string {
	if name := m.phases.innermost.Load(); name != nil {
		return *name
	}
	return ""
}

// BeginPhase begins a part of the job that is called by a name, and returns its number. Phases may be nested and overlap.
// It waits no longer than 0.1 s.
// Errors: *TextError for the name, ErrClosed, ErrTooManyPhases. All but ErrClosed are told by health too.
func (m *Monitor) BeginPhase(name []byte) (number uint64, err error) {
	p := m.phases
	if err := checkPhaseName(name); err != nil {
		return 0, p.refuse(err)
	}
	err = p.read(func(r *phase.Reading) (err error) {
		number, err = p.begin(string(name), r)
		return err
	})
	if err != nil {
		return 0, p.refuse(err)
	}
	return number, nil
}

// EndPhase ends a phase and tells its numbers. It waits no longer than 0.1 s.
// Errors: ErrNoPhase, ErrClosed.
func (m *Monitor) EndPhase(number uint64) (figures PhaseFigures, err error) {
	p := m.phases
	err = p.read(func(r *phase.Reading) (err error) {
		figures, err = p.end(number, r)
		return err
	})
	return figures, err
}

func checkPhaseName(name []byte) error {
	wrong := func(format string, args ...any) error {
		return &TextError{What: "phase", Key: "name", Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(name) == 0:
		return wrong("is empty; say what the job does, as \"weight_sync\"")
	case len(name) > mostPhaseName:
		return wrong("is longer than %d bytes", mostPhaseName)
	case !utf8.Valid(name):
		return wrong("is not UTF-8 text")
	case strings.ContainsFunc(string(name), unicode.IsControl):
		return wrong("holds a control character")
	}
	return nil
}

// refuse notes why a phase was not begun, for health, and returns that.
func (p *phases) refuse(err error) error {
	if errors.Is(err, ErrClosed) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused++
	p.refusal = err.Error()
	return err
}

// read reads counters and hands them on. Where a sample takes too long, there are none in the reading but the time.
func (p *phases) read(use func(*phase.Reading) error) (err error) {
	m := p.m
	defer func() {
		if defect := recover(); defect != nil {
			err = fmt.Errorf("internal error: %v", defect)
		}
	}()
	locked := m.lockSampling(mostPhaseWait)
	if locked {
		defer m.mu.Unlock()
	}
	if m.closing.Load() {
		return ErrClosed
	}
	m.charge(func() {
		r := phase.Reading{At: m.clock.Monotonic()}
		if locked {
			p.measure(&r)
		} else {
			const why = "a sample took too long when it began or ended"
			r.NoBytes, r.NoSegments, r.NoSockets = why, why, why
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.note(&r)
		err = use(&r)
	})
	return err
}

// lockSampling takes the lock of sampling, unless that takes too long.
func (m *Monitor) lockSampling(most time.Duration) bool {
	began := m.clock.Monotonic()
	for waited := time.Duration(0); !m.mu.TryLock(); waited += phaseWaitStep {
		// A step takes longer than it is told, twice as long on an idle machine.
		if waited >= most || m.clock.Monotonic()-began >= most {
			return false
		}
		clock.Sleep(phaseWaitStep)
	}
	return true
}

// measure reads the counters. The caller holds the lock of sampling.
func (p *phases) measure(r *phase.Reading) {
	m := p.m
	sections := m.config.Sources & Interfaces
	if m.config.Sources&TCP != 0 {
		sections |= segments
	}
	began := m.clock.Monotonic()
	m.readings++
	m.reader.read(sections, false, &m.reading)
	at := moment{monotonic: m.clock.Monotonic(), wall: m.clock.Wall()}
	top := m.noTopology
	if m.topology != nil {
		top = m.currentTopology(sections, &at)
	}
	r.At = at.monotonic
	r.Sharp = isSharp(r.At - began)
	if m.config.Sources&Interfaces != 0 {
		if m.reading.interfacesErr == nil || len(m.reading.interfaces) > 0 {
			m.interfaces.update(&m.reading, top, m.readings, at)
		}
		p.fillBytes(r, top, m.reading.interfacesErr)
	} else {
		r.NoBytes = m.never["interfaces"]
	}
	if m.config.Sources&TCP != 0 {
		tcp := m.protocols[tcpSection]
		tcp.update(&m.reading, 0, at, m.events)
		const sent, repeated = 0, 2 // of its fields
		r.SegmentsEpoch = tcp.meter.Epoch()
		if r.Sent, r.NoSegments = tcp.total(tcp.fields[sent], &m.reading); r.NoSegments == "" {
			r.Retransmitted, r.NoSegments = tcp.total(tcp.fields[repeated], &m.reading)
		}
	} else {
		r.NoSegments = m.never["tcp"]
	}
	if m.peers != nil {
		p.fillSockets(r, top)
	} else {
		r.NoSockets = m.never["peers"]
	}
}

// isSharp tells whether counters that took so long to read are of the moment at which that ended, closely enough for rates.
func isSharp(took time.Duration) bool { return took <= defaultFineInterval/heldUpShare }

// fillBytes copies what interfaces have counted by now.
func (p *phases) fillBytes(r *phase.Reading, top *topology, err error) {
	t := &p.m.interfaces
	switch {
	case err != nil:
		r.NoBytes = err.Error()
	case !t.sum.counting:
		r.NoBytes = "no interface counts now: " + t.whyNoTotals(top)
	case !t.sum.whole:
		r.NoBytes = "not all counted interfaces could be read"
	default:
		r.Receive, r.Transmit, r.BytesEpoch = t.sum.totals[receiveBytes], t.sum.totals[transmitBytes], t.sum.epoch
	}
	switch {
	case top.capacityBits != 0:
		r.Capacity = units.BitsToBytes(float64(top.capacityBits))
	case top.links != nil:
		r.NoCapacity = top.noCapacity
	default:
		r.NoCapacity = t.whyNoTotals(top)
	}
}

// fillSockets reads this process's own connections, where that is quick.
func (p *phases) fillSockets(r *phase.Reading, top *topology) {
	view, why := p.m.peers.readNow()
	if r.NoSockets = why; why != "" {
		return
	}
	loopback := loopbackName(top)
	for i := range view.Planes {
		plane := &view.Planes[i]
		if plane.Interface == loopback {
			r.Loopback += plane.Bytes - plane.Others
		} else {
			r.TCP += plane.Bytes - plane.Others
		}
	}
	for i := range view.Rows {
		row := &view.Rows[i]
		if row.Peer.Ray || row.Interface == loopback || row.Peer.Address.IsLoopback() {
			continue
		}
		own := row.Totals
		others := row.Others
		waited := int64(own.Busy-others.Busy) - int64(own.ReceiveWindow-others.ReceiveWindow) - int64(own.SendBuffer-others.SendBuffer)
		r.Waiting += time.Duration(max(0, waited)) * time.Microsecond
		p.waits.add(row, time.Duration(max(0, waited))*time.Microsecond)
	}
	p.waits.forget(view.Rows)
	r.Queued, r.Far = p.waits.queued, p.waits.far
}

// phaseWaits adds up what connections waited for since the reading before, by what their round trips say at this one.
type phaseWaits struct {
	before      map[*peer.Peer]time.Duration
	queued, far time.Duration
}

func (w *phaseWaits) add(row *peer.Row, waited time.Duration) {
	if w.before == nil {
		w.before = make(map[*peer.Peer]time.Duration)
	}
	since := waited - w.before[row.Peer]
	if since == 0 {
		return
	}
	w.before[row.Peer] = waited
	if since < 0 || row.Most.RTT == 0 || row.MinRTT == tcpinfo.NoRTT {
		return
	}
	now, shortest := time.Duration(row.Most.RTT)*time.Microsecond, time.Duration(row.MinRTT)*time.Microsecond
	switch {
	case phase.IsQueue(now, shortest):
		w.queued += since
	case phase.IsFar(shortest):
		w.far += since
	}
}

// forget drops peers that are not told of any more.
func (w *phaseWaits) forget(rows []peer.Row) {
	if len(w.before) > len(rows) {
		maps.DeleteFunc(w.before, func(p *peer.Peer, _ time.Duration) bool {
			return !slices.ContainsFunc(rows, func(row peer.Row) bool { return row.Peer == p })
		})
	}
}

// note tells phases under way of a reading. The caller holds the phases' lock.
func (p *phases) note(r *phase.Reading) {
	for _, running := range p.under {
		running.part.Pass(r)
		running.rdma.look(p.track)
	}
	if len(p.under) > 0 && r.At-p.wantedAt >= phaseRDMAPeriod {
		p.wantRDMA(r.At)
	}
	p.settle(r.At)
}

// pass tells phases under way of counters of interfaces that were read otherwise. The caller holds the lock of sampling.
func (p *phases) pass(at time.Duration, top *topology) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.under) == 0 {
		return
	}
	r := phase.Reading{At: at, Sharp: true}
	p.fillBytes(&r, top, nil)
	p.note(&r)
}

func (p *phases) begin(name string, r *phase.Reading) (number uint64, err error) {
	place := slices.IndexFunc(p.names, func(n *phaseName) bool { return n.name == name })
	switch {
	case place < 0 && len(p.names) == mostPhaseNames:
		return 0, fmt.Errorf("%w: %d names are in use, which is the most; %q is not begun. Number steps by metrics, not by names",
			ErrTooManyPhases, mostPhaseNames, name)
	case len(p.under) == mostPhasesUnderWay:
		return 0, fmt.Errorf("%w: %d are under way, which is the most; %q is not begun. Is each ended?", ErrTooManyPhases, mostPhasesUnderWay, name)
	case place < 0:
		place = len(p.names)
		p.names = append(p.names, &phaseName{name: name})
	}
	n := p.names[place]
	n.running++
	running := &runningPhase{}
	if last := len(p.unused) - 1; last >= 0 {
		running, p.unused = p.unused[last], p.unused[:last]
	}
	p.number++
	running.number, running.name, running.rdma = p.number, n, nearReading{to: r.At}
	running.part.Start(r)
	p.under = append(p.under, running)
	p.innermost.Store(&n.name)
	if p.m.fine != nil {
		p.m.fine.hold(r.At, r.At+mostFinePhase)
	}
	p.wantRDMA(r.At)
	return running.number, nil
}

func (p *phases) end(number uint64, r *phase.Reading) (figures PhaseFigures, err error) {
	place := slices.IndexFunc(p.under, func(running *runningPhase) bool { return running.number == number })
	if place < 0 {
		return figures, ErrNoPhase
	}
	running := p.under[place]
	p.under = slices.Delete(p.under, place, place+1)
	p.unused = append(p.unused, running)
	running.name.running--
	p.innermost.Store(nil)
	if left := len(p.under); left > 0 {
		p.innermost.Store(&p.under[left-1].name.name)
	} else if p.m.fine != nil {
		p.m.fine.hold(r.At, r.At+afterPhase)
	}
	account := running.part.End(r)
	settled := p.knowRDMA(account, running, r.At)
	running.name.account.Add(account)
	if !settled {
		running.name.settling++
		p.settling = append(p.settling, settlingPhase{name: running.name, begin: running.rdma, end: nearReading{to: r.At}})
		account.RDMABlind = true
	}
	figures = p.figures(account)
	running.name.last = &sample.PhaseNumbers{
		LastSeconds: units.Seconds(account.Span), LastReceive: figures.Receive, LastTransmit: figures.Transmit,
	}
	return figures, nil
}

// figures are the numbers of an account.
func (p *phases) figures(a *phase.Account) PhaseFigures {
	f := a.Facts(p.best())
	figures := PhaseFigures{Verdict: f.Verdict, Duration: a.Span}
	count := func(of *phase.Amount, value uint64) uint64 {
		if !of.Known() {
			return sample.UnknownCount
		}
		return value
	}
	figures.PhaseNumbers = sample.PhaseNumbers{
		Receive: count(&a.Bytes, a.Receive), Transmit: count(&a.Bytes, a.Transmit), RDMA: count(&a.RDMA, a.RDMABytes),
		Loopback: count(&a.Sockets, a.Loopback), TCP: count(&a.Sockets, a.TCP),
		Sent: count(&a.Segments, a.Sent), Retransmitted: count(&a.Segments, a.Resent),
		Peak: f.Peak, PeakRatio: math.NaN(), Utilization: f.Utilization, Busy: f.Busy, Full: f.Full, Plateau: f.Plateau, Steady: f.Steady,
		Waiting: f.Waiting, RetransmitRatio: f.Retransmits, Verdict: f.Verdict.String(),
		LastReceive: sample.UnknownCount, LastTransmit: sample.UnknownCount, LastSeconds: math.NaN(),
	}
	if a.Possible > 0 {
		figures.PeakRatio = f.Peak / (a.Possible / a.Capacity.Over.Seconds())
	}
	return figures
}

// best are the highest rates that windows of the loop have had.
func (p *phases) best() (rates [2]float64) {
	if f := p.m.fine; f != nil {
		for i := range rates {
			if best := f.bestRate[i].Load(); best != nil {
				rates[i] = *best
			}
		}
	}
	return rates
}

// RDMA ports are read beside samples, since a driver may not answer for long: the nearest readings have to do.

// findTrack finds out where their readings are. The caller holds the lock of sampling.
func (p *phases) findTrack() {
	switch rdma := p.m.rdma; {
	case rdma == nil:
		p.noTrack = p.m.never["rdma"]
	case rdma.started:
		p.track = &rdma.track
	default:
		p.noTrack = rdma.missing
	}
}

func (p *phases) wantRDMA(now time.Duration) {
	if p.track != nil {
		p.wantedAt = now
		p.m.rdma.want()
	}
}

func (n *nearReading) look(track *rdmaTrack) {
	if track != nil && !n.found {
		if point, off, behind := track.nearest(n.to); off >= 0 {
			n.point, n.off, n.found = point, off, behind
		}
	}
}

// knowRDMA adds what RDMA ports moved to an account that has just ended; settled is false where readings to come may tell.
func (p *phases) knowRDMA(account *phase.Account, running *runningPhase, now time.Duration) (settled bool) {
	if p.track == nil {
		account.MissRDMA(p.noTrack, false)
		return true
	}
	p.wantRDMA(now)
	end := nearReading{to: now}
	running.rdma.look(p.track)
	end.look(p.track)
	if near(&running.rdma, &end) {
		addRDMA(account, &running.rdma, &end)
		return true
	}
	if len(p.settling) == mostSettling {
		account.MissRDMA(notReadNear, true)
		return true
	}
	return false
}

const notReadNear = "ports were not read near enough to its beginning and end"

// near tells whether readings are near enough to the beginning and end of a phase.
func near(begin, end *nearReading) bool {
	return begin.point.at != 0 && end.point.at != 0 && (begin.off+end.off)*rdmaNear <= end.to-begin.to
}

func addRDMA(account *phase.Account, begin, end *nearReading) {
	switch b, e := &begin.point, &end.point; {
	case b.why != "" || e.why != "":
		account.MissRDMA(or(e.why, b.why), true)
	case b.epoch != e.epoch:
		account.MissRDMA("ports came, went, or had their counters reset meanwhile", true)
	default:
		span := end.to - begin.to
		moved, fullest := e.since(b, span)
		account.KnowRDMA(span, moved, fullest)
	}
}

// settle adds what has become known of phases that have ended.
func (p *phases) settle(now time.Duration) {
	p.settling = slices.DeleteFunc(p.settling, func(s settlingPhase) bool {
		s.begin.look(p.track)
		s.end.look(p.track)
		switch {
		case near(&s.begin, &s.end):
			addRDMA(&s.name.account, &s.begin, &s.end)
		case s.end.found && s.begin.found, now-s.end.to > mostSettleTime:
			s.name.account.MissRDMA(notReadNear, true)
		default:
			return false
		}
		s.name.settling--
		return true
	})
}

// fill implements part.
func (p *phases) fill(d *document, now *occasion) (bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.findTrack()
	if len(p.under) > 0 {
		r := phase.Reading{At: now.monotonic, Sharp: isSharp(p.m.readTook)}
		if top := now.topology; top != nil && p.m.config.Sources&Interfaces != 0 {
			p.fillBytes(&r, top, p.m.reading.interfacesErr)
		} else {
			r.NoBytes = p.m.never["interfaces"]
			r.Sharp = false
		}
		p.note(&r)
	} else {
		p.settle(now.monotonic)
	}
	if d.passing {
		p.rows = slices.Grow(p.rows[:0], len(p.names))[:len(p.names)]
		d.Phases = p.rows
	} else {
		d.Phases = make([]sample.Phase, len(p.names))
		bytes = len(p.names) * sample.PhaseBytes
	}
	if d.Phases == nil {
		d.Phases = []sample.Phase{}
	}
	var why phaseReasons
	for i, n := range p.names {
		account := n.known()
		figures := p.figures(&account)
		if n.last != nil {
			figures.LastSeconds, figures.LastReceive, figures.LastTransmit = n.last.LastSeconds, n.last.LastReceive, n.last.LastTransmit
		}
		row := &d.Phases[i]
		*row = sample.Phase{Name: n.name, Count: n.account.Ended, Running: n.running, SecondsTotal: units.Seconds(n.account.Span)}
		row.Set(&figures.PhaseNumbers)
		why.of(n, row, p.best())
	}
	why.tell(d)
	return bytes
}

// phaseReasons collect why fields are null, or lack something.
type phaseReasons struct {
	fields  []string
	byField map[string]*named
}

func (w *phaseReasons) add(reason, name string, fields ...string) {
	if w.byField == nil {
		w.byField = make(map[string]*named)
	}
	for _, field := range fields {
		if w.byField[field] == nil {
			w.byField[field] = &named{}
			w.fields = append(w.fields, field)
		}
		w.byField[field].add(reason, name)
	}
}

// lack tells why numbers of an amount are not known, or are not of all phases of the name.
func (w *phaseReasons) lack(amount *phase.Amount, name string, fields ...string) {
	switch {
	case amount.Lost > 0 && amount.Known():
		w.add(fmt.Sprintf("not known of %d of %d, which are not in it (%s)", amount.Lost, amount.Lost+amount.Count, amount.Why), name, fields...)
	case !amount.Known():
		w.add(or(amount.Why, "the end of it is not settled yet"), name, fields...)
	}
}

func (w *phaseReasons) of(n *phaseName, row *sample.Phase, best [2]float64) {
	known := n.known()
	a := &known
	if a.Ended == 0 {
		w.add("none has ended yet", n.name, "receive_bytes_total", "transmit_bytes_total", "rdma_bytes_total", "loopback_bytes_total",
			"tcp_bytes_total", "peak_bytes_per_second", "peak_ratio", "utilization_ratio", "busy_ratio", "full_ratio",
			"plateau_bytes_per_second", "steady_ratio", "waiting_ratio", "segments_sent_total", "segments_retransmitted_total",
			"retransmit_ratio", "verdict", "last_seconds", "last_receive_bytes", "last_transmit_bytes")
		return
	}
	w.lack(&a.Bytes, n.name, "receive_bytes_total", "transmit_bytes_total")
	w.lack(&a.RDMA, n.name, "rdma_bytes_total")
	w.lack(&a.Sockets, n.name, "loopback_bytes_total", "tcp_bytes_total")
	w.lack(&a.Segments, n.name, "segments_sent_total", "segments_retransmitted_total")
	facts := a.Facts(best)
	missing := func(field string, isNil bool, reasons ...string) {
		if isNil {
			w.add(or(join(reasons...), "it took no time"), n.name, field)
		}
	}
	noPeak, noCapacity := facts.NoPeak, ""
	if !a.Capacity.Known() {
		noCapacity = a.Capacity.Why
	}
	missing("peak_bytes_per_second", row.PeakBytesPerSecond == nil, noPeak)
	missing("peak_ratio", row.PeakRatio == nil, noPeak, noCapacity)
	missing("utilization_ratio", row.UtilizationRatio == nil, noCapacity)
	missing("busy_ratio", row.BusyRatio == nil, noPeak)
	missing("full_ratio", row.FullRatio == nil, noPeak, noCapacity)
	missing("plateau_bytes_per_second", row.PlateauBytesPerSecond == nil, noPeak)
	missing("steady_ratio", row.SteadyRatio == nil, noPeak)
	missing("waiting_ratio", row.WaitingRatio == nil, a.Sockets.Why)
	if row.RetransmitRatio == nil {
		w.add(or(a.Segments.Why, "no segment was sent"), n.name, "retransmit_ratio")
	}
	missing("verdict", row.Verdict == nil, facts.Why)
	missing("last_receive_bytes", row.LastReceiveBytes == nil, a.Bytes.Why)
	missing("last_transmit_bytes", row.LastTransmitBytes == nil, a.Bytes.Why)
}

func (w *phaseReasons) tell(d *document) {
	for _, field := range w.fields {
		d.lack("phases."+field, w.byField[field].String())
	}
}

func (p *phases) remember(uint64) {}

func (p *phases) problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s%d not begun; the last one: %s", aboutPhases, p.refused, p.refusal)}
}

func (p *phases) close()      {}
func (p *phases) ended() bool { return true }
