package monitor

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netmon/core/kernelfs"
	"netmon/core/link"
	"netmon/core/peer"
	"netmon/core/process"
	"netmon/core/reach"
	"netmon/core/sample"
	"netmon/core/tcpinfo"
	"netmon/core/units"
)

// SocketSource tells of this process's TCP connections: a tcpinfo.Own, or a test's own.
type SocketSource interface {
	Begin()
	Next(most int, yield func(*tcpinfo.Socket)) (done bool, err error)
	Hidden() int
	Close()
}

// RouteSource tells by which interface connections go: a link.Router, or a test's own. It may wait.
type RouteSource interface {
	Interface(local, remote netip.Addr) (name string, err error)
	Close()
}

const (
	// Own sockets are read in a sample while that takes less than this, and beside the samples else.
	quickReading = time.Millisecond
	// A sample gives a reading up after this, and the first sample, which everything counts from, later.
	mostReading, mostFirstReading = 2 * time.Millisecond, 10 * time.Millisecond
	// Readings beside the samples take one part in restPeers of the time.
	restPeers = 100
	// Whoever needs them at once has so few read at any time, more only so often that it takes one part in restPeers of the time, and
	// still more never. A connection usually takes so long.
	fewConnections, mostReadNow = 64, 2000
	usualReading                = 2 * time.Microsecond
	mostReadingNow              = 5 * time.Millisecond
	// So many descriptors are looked at before others get the processor.
	readTogether = 256
	// The sockets of other processes are read as often, or one part in restPeers of the time.
	othersPeriod = 5 * time.Second
	// Interfaces are looked up again as often, and when links changed.
	routePeriod = time.Minute
)

// selfPeers are the fields of self that tell of the reading of sockets.
func selfPeers() []string {
	return []string{"peers_read_seconds", "peers_age_seconds", "peers_sockets"}
}

// DiagSource tells of all TCP connections of the monitor's network namespace: a tcpinfo.Diag. It takes long.
type DiagSource interface {
	Dump(yield func(*tcpinfo.Socket)) error
	Close()
}

// peersPart makes the section peers. Own sockets are read in the sample, or by the part's goroutine where they are many; it also looks up
// routes.
type peersPart struct {
	clock   clockSource
	refused string // why there is no part of this at all
	err     error  // the same, nil where sockets can be read
	sockets SocketSource
	router  RouteSource // opened when it is needed, by the part's goroutine, as diag is
	diag    DiagSource
	fs      kernelfs.FS
	live    bool               // sockets are those of the system
	inside  func(func()) error // runs something in the monitor's network namespace
	charge  func(func())       // counts CPU time as the monitor's own
	state   func() (*jobState, *reach.Results)

	work    chan struct{} // holds one token while there is work; a parked goroutine costs no thread
	closing atomic.Bool
	stopped atomic.Bool
	failure atomic.Pointer[string] // a defect; nothing is read any more

	wantOwn    atomic.Bool
	wantOthers atomic.Bool
	wantRoutes atomic.Int32                        // 1 new ones, 2 all
	addresses  atomic.Pointer[map[netip.Addr]bool] // of this host

	mu      sync.Mutex // guards what follows; a sample only tries it
	table   *peer.Table
	started bool // a reading is under way
	spent   time.Duration
	closed  bool

	published atomic.Pointer[peersReading]
	others    atomic.Pointer[othersReading]

	// What follows is the samples'.
	aside     bool // sockets are read beside the samples
	routesAt  time.Duration
	routesTop uint64
	readNowAt time.Duration // when somebody had own sockets read at once
	current   *peer.View    // of the last sample
	base      *peer.View    // where its window begins, nil for none
	marks     [keptRecords]peersMark
	lately    *peer.View // the newest that a sample of the loop had
	formerly  *peer.View // the one before, another one
	loopback  string
	rows      peerRows
}

type clockSource interface{ Monotonic() time.Duration }

// peersReading is what a reading came to.
type peersReading struct {
	view  *peer.View // nil before the first
	err   string     // why this one failed
	ended time.Duration
	took  time.Duration
	// usual is the shorter of this reading's duration and the last one's: a single one that the host's own work held up does not keep
	// the next from being made for a hundred times as long.
	usual  time.Duration
	hidden int
}

// othersReading is what the last reading of the sockets of other processes came to.
type othersReading struct {
	problem string // why it failed, or what it lacks
	ended   time.Duration
	took    time.Duration
}

// peersMark says what a sample of the loop was made of.
type peersMark struct {
	reading uint64
	view    *peer.View
}

// newPeersPart opens what the part reads, in the network namespace of the calling thread.
func (m *Monitor) newPeersPart() *peersPart {
	p := &peersPart{
		clock: m.clock, sockets: m.options.Sockets, router: m.options.Routes, work: make(chan struct{}, 1), table: peer.NewTable(),
		fs: *m.options.FS, charge: m.charge, state: func() (*jobState, *reach.Results) { return m.job.Load(), m.engine.Results() },
	}
	p.inside = func(f func()) error {
		return m.engine.Inside(func() (sent int) {
			f()
			return 0
		})
	}
	p.published.Store(&peersReading{})
	p.others.Store(&othersReading{})
	if p.sockets == nil {
		p.open()
	}
	if p.refused != "" {
		p.stopped.Store(true)
		return p
	}
	go p.run()
	return p
}

func (p *peersPart) open() {
	if p.live = p.fs.Live(); !p.live {
		p.refused = "sockets are those of the running system, and this is a recording of another"
		return
	}
	if p.sockets, p.err = newSocketSource(p.fs); p.err != nil {
		p.refused = p.err.Error()
		if errors.Is(p.err, errors.ErrUnsupported) {
			p.refused = "read on Linux only"
		}
	}
}

// within opens something in the monitor's network namespace.
func (p *peersPart) within(open func() error) error {
	err := errors.New("it was given up")
	done := make(chan struct{})
	// A thread that was moved stays the goroutine's until that ends.
	go func() {
		defer func() {
			if defect := recover(); defect != nil {
				err = fmt.Errorf("internal error: %v", defect)
			}
			close(done)
		}()
		if refused := p.inside(func() { err = open() }); refused != nil {
			err = refused
		}
	}()
	<-done
	return err
}

func (p *peersPart) close() {
	p.closing.Store(true)
	p.wake()
}

func (p *peersPart) ended() bool { return p.stopped.Load() }

func (p *peersPart) problems() (problems []string) {
	if failure := p.failure.Load(); failure != nil {
		problems = append(problems, *failure)
	}
	r := p.published.Load()
	if r.hidden > 0 {
		problems = append(problems, fmt.Sprintf("peers: %d connections are beyond the %d that are read", r.hidden, tcpinfo.MostSockets))
	}
	if r.view != nil && r.view.HiddenPeers > 0 {
		problems = append(problems, fmt.Sprintf("peers: %d connections are to addresses beyond the %d that are told of",
			r.view.HiddenPeers, peer.MostPeers))
	}
	return problems
}

func (p *peersPart) wake() {
	select {
	case p.work <- struct{}{}:
	default:
	}
}

// run does beside the samples what takes long.
func (p *peersPart) run() {
	defer func() {
		if defect := recover(); defect != nil {
			p.fail(defect)
		}
		p.stopped.Store(true)
	}()
	for range p.work {
		if p.closing.Load() {
			break
		}
		p.charge(func() { p.guard(p.turn) })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.sockets.Close()
	if p.router != nil {
		p.router.Close()
	}
	if p.diag != nil {
		p.diag.Close()
	}
}

// guard keeps a defect from ending the host: nothing is read any more, and health tells.
func (p *peersPart) guard(f func()) {
	defer func() {
		if defect := recover(); defect != nil {
			p.fail(defect)
		}
	}()
	if p.failure.Load() == nil {
		f()
	}
}

func (p *peersPart) fail(defect any) {
	text := fmt.Sprintf("internal error, peers are not read any more: %v", defect)
	p.failure.Store(&text)
}

func (p *peersPart) turn() {
	if p.wantOwn.Swap(false) {
		func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.read(0) && p.table.Nameless() {
				p.wantRoutes.CompareAndSwap(0, 1)
			}
		}()
	}
	if p.wantOthers.Swap(false) {
		p.readOthers()
	}
	if want := p.wantRoutes.Swap(0); want > 0 {
		p.lookUp(want > 1)
	}
}

// readOthers reads the sockets of children and of Ray's daemons, if there are any.
func (p *peersPart) readOthers() {
	began := p.clock.Monotonic()
	j, _ := p.state()
	family, err := process.Family{}, error(nil)
	if j.ray.Worker || process.HasChildren() {
		family, err = process.Read(p.fs, process.Ray{Worker: j.ray.Worker, Raylet: int(j.ray.Raylet)})
	}
	found := make([]foundSocket, 0, 16)
	read := p.clock.Monotonic()
	if len(family.Children)+len(family.Ray) > 0 && err == nil {
		if p.diag == nil {
			err = p.within(func() (err error) {
				p.diag, err = newDiagSource()
				return err
			})
		}
		if err == nil {
			read = p.clock.Monotonic()
			err = p.diag.Dump(func(s *tcpinfo.Socket) {
				switch {
				case len(found) >= tcpinfo.MostSockets:
				case family.Children[s.Inode]:
					found = append(found, foundSocket{*s, peer.Child})
				case family.Ray[s.Inode]:
					found = append(found, foundSocket{*s, peer.Ray})
				}
			})
		}
	}
	r := &othersReading{}
	switch {
	case err != nil:
		r.problem = err.Error()
	case family.Refused > 0:
		r.problem = fmt.Sprintf("not permitted for %d of %d other processes: %s", family.Refused, family.Processes, family.Reason)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.table.LoseOthers()
	} else {
		p.table.BeginOthers(read)
		for i := range found {
			p.table.TakeOther(&found[i].Socket, found[i].origin)
		}
		p.table.EndOthers(p.clock.Monotonic())
		if p.table.Nameless() {
			p.wantRoutes.CompareAndSwap(0, 1)
		}
	}
	r.ended = p.clock.Monotonic()
	r.took = r.ended - began
	p.others.Store(r)
}

// foundSocket is a socket of another process.
type foundSocket struct {
	tcpinfo.Socket
	origin peer.Origin
}

// lookUp finds the interfaces of connections.
func (p *peersPart) lookUp(all bool) {
	var routes []peer.Route
	func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		routes = p.table.Routes(all)
	}()
	if len(routes) > 0 && p.router == nil {
		if !p.live || p.within(func() (err error) {
			p.router, err = newRouteSource()
			return err
		}) != nil {
			return
		}
	}
	names := make([]string, len(routes))
	for i, r := range routes {
		if p.closing.Load() {
			return
		}
		names[i], _ = p.router.Interface(r.Local, r.Remote)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range routes {
		p.table.Name(r.Local, r.Remote, names[i])
	}
}

// read reads own sockets on from where the last call stopped, until all are read, or most has passed (0: however long it takes, with
// others getting the processor in between). The caller holds the lock.
func (p *peersPart) read(most time.Duration) (done bool) {
	if p.closed {
		return true
	}
	began := p.clock.Monotonic()
	if !p.started {
		p.started, p.spent = true, 0
		if addresses := p.addresses.Load(); addresses != nil {
			p.table.SetHost(*addresses)
		}
		p.sockets.Begin()
		p.table.BeginOwn(began)
	}
	for {
		done, err := p.sockets.Next(readTogether, p.table.TakeOwn)
		now := p.clock.Monotonic()
		switch {
		case err != nil:
			p.started = false
			p.publish(&peersReading{err: err.Error(), ended: now, took: p.spent + now - began})
			return true
		case done:
			p.started = false
			p.table.EndOwn(now)
			view := p.table.View(p.spent + now - began)
			p.publish(&peersReading{view: view, ended: now, took: view.Took, hidden: p.sockets.Hidden()})
			return true
		case most > 0 && now-began > most, p.closing.Load():
			p.spent += now - began
			return false
		case most == 0:
			runtime.Gosched()
		}
	}
}

func (p *peersPart) publish(r *peersReading) {
	r.usual = r.took
	if last := p.published.Load(); last.ended != 0 {
		r.usual = min(r.took, last.took)
	}
	p.published.Store(r)
}

// refresh brings what samples copy up to date, as far as that is quick.
func (p *peersPart) refresh(now *occasion) {
	var version uint64
	if now.topology != nil {
		version = now.topology.version
	}
	if version != p.routesTop || now.monotonic-p.routesAt > routePeriod {
		if version != p.routesTop {
			addresses := now.topology.addresses()
			p.addresses.Store(&addresses)
		}
		p.routesTop, p.routesAt = version, now.monotonic
		p.wantRoutes.Store(2)
	}
	r := p.published.Load()
	if !p.aside && p.mu.TryLock() {
		func() {
			defer p.mu.Unlock()
			most := mostReading
			if r.ended == 0 {
				most = mostFirstReading
			}
			if p.aside = !p.read(most); p.aside {
				p.wantOwn.Store(true)
			}
			if p.table.Nameless() {
				p.wantRoutes.CompareAndSwap(0, 1)
			}
		}()
		if r = p.published.Load(); r.usual > quickReading {
			p.aside = true
		}
	} else if p.aside && r.ended != 0 && now.monotonic-r.ended >= restPeers*r.usual {
		if r.usual < quickReading && r.err == "" {
			p.aside = false // the next sample reads
		} else {
			p.wantOwn.Store(true)
		}
	}
	if others := p.others.Load(); p.live && now.monotonic-others.ended >= max(othersPeriod, restPeers*others.took) {
		p.wantOthers.Store(true)
	}
	if p.wantOwn.Load() || p.wantOthers.Load() || p.wantRoutes.Load() > 0 {
		p.wake()
	}
}

// fill implements part.
func (p *peersPart) fill(d *document, now *occasion) (bytes int) {
	p.current, p.base = nil, nil
	reason := p.refused
	var r *peersReading
	if reason == "" {
		p.guard(func() { p.refresh(now) })
		r = p.published.Load()
		switch failure := p.failure.Load(); {
		case failure != nil:
			reason = *failure
		case r.err != "":
			reason = r.err
		case r.view == nil:
			reason = "the first reading of this process's sockets has not ended yet: they are many"
		}
	}
	if reason != "" {
		d.lack("peers", reason)
		for _, field := range selfPeers() {
			d.lack("self."+field, reason)
		}
		return 0
	}
	p.current = r.view
	if now.base != nil {
		p.base = p.beginning(now.base.reading)
	}
	p.loopback = loopbackName(now.topology)
	age := max(0, now.monotonic-p.current.At)
	d.self.PeersReadSeconds, d.self.PeersAgeSeconds = d.real(units.Seconds(p.current.Took)), d.real(units.Seconds(age))
	d.self.PeersSockets = d.count(uint64(p.current.Sockets))
	if problem := p.others.Load().problem; problem != "" {
		d.lack("peers.child_connections", problem)
	} else if !p.current.OthersRead && p.live && process.HasChildren() {
		d.lack("peers.child_connections", "the sockets of children were not read yet: they are not among these")
	}
	return p.rows.fill(d, p, now)
}

// beginning is the reading at which the window begins that began with a sample of the loop: another one than the newest.
func (p *peersPart) beginning(reading uint64) *peer.View {
	i := slices.IndexFunc(p.marks[:], func(m peersMark) bool { return m.view != nil && m.reading == reading })
	if i >= 0 && p.marks[i].view != p.current {
		return p.marks[i].view
	}
	for _, v := range []*peer.View{p.lately, p.formerly} {
		if v != nil && v.At < p.current.At {
			return v
		}
	}
	return nil
}

// remember implements part.
func (p *peersPart) remember(reading uint64) {
	copy(p.marks[1:], p.marks[:])
	p.marks[0] = peersMark{reading, p.current}
	if p.current == nil || p.current == p.lately {
		return
	}
	p.lately, p.formerly = p.current, p.lately
	if p.mu.TryLock() { // else the window of connections goes on, which only decides which of them is shown
		p.table.NewWindow()
		p.mu.Unlock()
	}
}

func loopbackName(top *topology) string {
	if top != nil {
		for _, l := range top.links {
			if l.Kind == link.Loopback {
				return l.Name
			}
		}
	}
	return "lo"
}

// window is what the rates of the last sample cover, 0 where they are not known.
func (p *peersPart) window() time.Duration {
	if p.current == nil || p.base == nil {
		return 0
	}
	return p.current.At - p.base.At
}

// planeTraffic is what this process and its children moved by one interface.
type planeTraffic struct {
	interfaceName string // "" where that is not known
	loopback      bool
	bytes         uint64 // sent and received since the monitor started
	// bytesPerSecond is over the window of the last sample, of children between their last two readings; NaN where it is not known. It
	// adds up over planes: it is negative where the interface of connections has become known in the window.
	bytesPerSecond float64
}

// traffic is what moved by each interface, as of the last sample; nil where peers are not known. Ray's daemons are not in it.
func (p *peersPart) traffic() (planes []planeTraffic) {
	if p == nil || p.current == nil {
		return nil
	}
	planes = []planeTraffic{}
	window := p.window()
	for _, plane := range p.current.Planes {
		t := planeTraffic{
			interfaceName: plane.Interface, loopback: plane.Interface == p.loopback, bytes: plane.Bytes, bytesPerSecond: math.NaN(),
		}
		if window > 0 && !p.current.OthersUnrated {
			own := float64(plane.Bytes - plane.Others)
			for _, b := range p.base.Planes {
				if b.Interface == plane.Interface {
					own -= float64(b.Bytes - b.Others)
				}
			}
			t.bytesPerSecond = own/window.Seconds() + plane.OthersPerSecond
		}
		planes = append(planes, t)
	}
	if window > 0 {
		// Connections whose interface has become known since are those of another plane now, which has as much more.
		for _, b := range p.base.Planes {
			if !slices.ContainsFunc(p.current.Planes, func(plane peer.Plane) bool { return plane.Interface == b.Interface }) {
				planes = append(planes, planeTraffic{
					interfaceName: b.Interface, bytesPerSecond: -float64(b.Bytes-b.Others) / window.Seconds(),
				})
			}
		}
	}
	return planes
}

// peersSummary is what snapshots tell of all peers, own rows only.
type peersSummary struct {
	known                  bool
	connections            uint64  // with those of children
	sentRate, receivedRate float64 // bytes per second, NaN where they are not known
	rttMedian              uint32  // µs, over the peers that have one; sample.UnknownMicros for none
	retransmitRatio        float64 // (retransmitted - reported as duplicates) / sent, in the window; NaN where it is not known
}

// summary tells of the last sample.
func (p *peersPart) summary() peersSummary {
	s := peersSummary{sentRate: math.NaN(), receivedRate: math.NaN(), rttMedian: sample.UnknownMicros, retransmitRatio: math.NaN()}
	if p == nil || p.current == nil {
		return s
	}
	s.known = true
	hasWindow := p.window() > 0
	rates := peer.Rate{Known: true}
	var inWindow peer.Totals
	var rtts []uint32
	for i := range p.current.Rows {
		r := &p.current.Rows[i]
		if r.Peer.Ray {
			continue
		}
		s.connections += r.Connections + r.Children
		if r.Most.RTT != 0 {
			rtts = append(rtts, r.Most.RTT)
		}
		if !hasWindow {
			continue
		}
		d, rate := p.current.Since(p.base, r)
		rates.Known = rates.Known && rate.Known
		rates.Sent += rate.Sent
		rates.Received += rate.Received
		inWindow.Segments += d.Segments
		inWindow.Retransmits += d.Retransmits
		inWindow.Reported += d.Reported
	}
	if hasWindow {
		if rates.Known {
			s.sentRate, s.receivedRate = rates.Sent, rates.Received
		}
		if inWindow.Segments > 0 {
			s.retransmitRatio = float64(inWindow.Retransmits-min(inWindow.Retransmits, inWindow.Reported)) / float64(inWindow.Segments)
		}
	}
	if n := len(rtts); n > 0 {
		slices.Sort(rtts)
		s.rttMedian = rtts[n/2]
		if n%2 == 0 {
			s.rttMedian = uint32((uint64(rtts[n/2-1]) + uint64(rtts[n/2])) / 2)
		}
	}
	return s
}

// summarize writes what readers get of peers without waiting.
func (p *peersPart) summarize(s *Snapshot) {
	of := p.summary()
	if !of.known {
		return
	}
	s.PeerConnections, s.PeerRetransmitRatio = of.connections, of.retransmitRatio
	s.PeerSentBytesPerSecond, s.PeerReceivedBytesPerSecond = of.sentRate, of.receivedRate
	if of.rttMedian != sample.UnknownMicros {
		s.PeerRTTP50Nanoseconds = uint64(time.Duration(of.rttMedian) * time.Microsecond)
	}
}

// readNow reads this process's own connections for somebody who needs them of this moment, where that is cheap; else it says why not.
// The caller holds the lock of sampling.
func (p *peersPart) readNow() (view *peer.View, why string) {
	if p.refused != "" {
		return nil, p.refused
	}
	// By their number, not by the time that readings took: that says more of what else the host does.
	if view = p.published.Load().view; view != nil && view.Sockets > fewConnections {
		rest := restPeers * usualReading * time.Duration(view.Sockets)
		if view.Sockets > mostReadNow || p.clock.Monotonic()-p.readNowAt < rest {
			return nil, fmt.Sprintf("this process has so many connections (%d) that they are not read for every phase", view.Sockets)
		}
	}
	if !p.mu.TryLock() {
		return nil, "this process's connections were just being read"
	}
	done := false
	func() {
		defer p.mu.Unlock()
		p.guard(func() {
			// One that a sample has begun is of an earlier moment.
			if done = !p.started || p.read(mostReadingNow); done {
				p.readNowAt = p.clock.Monotonic()
				done = p.read(mostReadingNow)
			}
		})
		if p.table.Nameless() {
			p.wantRoutes.CompareAndSwap(0, 1)
		}
	}()
	if p.wantRoutes.Load() > 0 {
		p.wake()
	}
	if failure := p.failure.Load(); failure != nil {
		return nil, *failure
	}
	r := p.published.Load()
	if !done || r.err != "" || r.view == nil {
		return nil, or(r.err, "reading this process's connections took too long")
	}
	return r.view, ""
}
