// Package monitor puts the sources together: it samples at an interval in the background and on demand, keeps a bounded history
// and its statistics, and says what it cost.
//
// Readers of history and health take no lock that a measurement holds while it reads the kernel. Samples copy what package reach
// knows of its targets and never wait for a probe; only AwaitProbe waits, as long as it is told. Nothing here prints, and without
// targets nothing sends a packet, but to the system's resolver where the job names its master.
package monitor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"netmon/core/alert"
	"netmon/core/clock"
	"netmon/core/exercise"
	"netmon/core/inventory"
	"netmon/core/job"
	"netmon/core/kernelfs"
	"netmon/core/nvlink"
	"netmon/core/reach"
	"netmon/core/sample"
	"netmon/core/tool"
	"netmon/core/units"
)

// ErrClosed means that the monitor was closed.
var ErrClosed = errors.New("the monitor is closed")

// Options are what a monitor is made of beside its configuration. The zero value of a field means the real thing.
type Options struct {
	Version string
	FS      *kernelfs.FS
	Clock   clock.Clock
	Links   LinkSource
	Sockets SocketSource
	Routes  RouteSource  // where Sockets is given
	Tools   *reach.Tools // what probes are sent with
	NVML    nvlink.Open  // opens the NVIDIA library; nil: NVLinks are not read
	// Spawn starts the programs of bandwidth tests; nil: there are none.
	Spawn tool.Spawn
	// Turn is what all monitors of a process share, so that one bandwidth test runs at a time; nil: this one's own.
	Turn *exercise.Turn
	// Collectives is where records of collectives come from; nil for nowhere.
	Collectives CollectiveSource
	// Publish is given the snapshot of every sample of the loop, one call at a time.
	Publish func(*Snapshot)
	// Released is called once when the loop has ended and everything is closed.
	Released func()
	// NoLoop leaves sampling to Tick, for tests.
	NoLoop bool
}

// Monitor measures one network namespace. All methods are safe for concurrent use.
type Monitor struct {
	options Options
	config  Config
	clock   clock.Clock
	started time.Duration
	host    *sample.Host
	// never are the reasons that hold for every sample of this monitor.
	never map[string]string

	closing atomic.Bool
	waker   clock.Waker
	stopped chan struct{}

	samples atomic.Uint64 // taken
	dropped atomic.Uint64 // samples of the loop that did not happen when they were due
	cpu     atomic.Int64  // nanoseconds

	history history
	events  *eventLog
	health  atomic.Pointer[[]string] // problems of the newest sample
	job     atomic.Pointer[jobState]

	engine     *reach.Engine
	aimProblem atomic.Pointer[string] // why somebody cannot be probed
	exercises  *exercises
	alerts     alerts

	digests     digests
	aggregation aggregation

	mu         sync.Mutex // guards what follows: one sample at a time
	sequence   uint64
	readings   uint64
	readAt     time.Duration
	readTook   time.Duration // how long before readAt reading began
	wall       time.Time     // when readAt was
	reader     reader
	reading    reading
	topology   *watchedTopology
	noTopology *topology // where links cannot be known
	interfaces interfaceTable
	probes     probeTable
	protocols  [protocolSections]*protocolMeter
	parts      []part               // in the order in which they fill their sections
	peers      *peersPart           // one of them, nil where they are not in sources
	fine       *fineSampling        // one of them, nil where interfaces are not read
	records    [keptRecords]*record // of the newest samples of the loop, newest first
	reasons    reasonSets
	lacking    []missing // room for those of one sample
	passing    document  // room for a sample on demand, which is written and forgotten

	collectives *collectives // one of parts, nil where it is not in sources
	phases      *phases      // one of parts
	rdma        *rdmaPart    // one of parts, nil where it is not in sources
}

type jobState struct {
	document sample.Job
	reasons  map[string]string
	peers    []job.Peer
	ray      job.Ray
	identity job.Identity
	base     job.Identity // without what the configuration says
	settings job.Settings // of the communication libraries
}

// firstWait is how long New waits for the links to be read: with everything else it stays within 0.1 s.
const firstWait = 60 * time.Millisecond

// New starts a monitor of the calling thread's network namespace. It has taken and published its first sample when it returns.
//
// Errors: what keeps it from opening any descriptor (EMFILE). Kernel files that do not exist are no error: their sections are
// null with the reason.
func New(config Config, options Options) (*Monitor, error) {
	// Descriptors below are opened in the namespace of this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if options.FS == nil {
		system := kernelfs.System()
		options.FS = &system
	}
	if options.Clock == nil {
		options.Clock = clock.System()
	}
	m := &Monitor{
		options: options, config: config, clock: options.Clock, stopped: make(chan struct{}),
		events: newEventLog(), protocols: newProtocolMeters(),
	}
	m.interfaces = newInterfaceTable(m.events)
	m.health.Store(&[]string{})
	m.alerts.table = alert.NewTable(config.Alerts)
	m.started = m.clock.Monotonic()
	m.describeHost()
	m.digests = newDigests(m)
	m.setJob(config.Job, config.Variables)
	tools := options.Tools
	if tools == nil {
		system := reach.System(*options.FS, options.Clock)
		tools = &system
	}
	var err error
	if m.reader, err = newReader(*options.FS, config.Sources); err != nil {
		return nil, exhaustedError(err)
	}
	if m.engine, err = reach.New(reach.Options{Clock: options.Clock, Tools: *tools}); err != nil {
		m.reader.close()
		return nil, exhaustedError(err)
	}
	links := options.Links
	if links == nil && config.Sources&Interfaces != 0 {
		if links, err = newLinkSource(*options.FS); err != nil {
			if isExhausted(err) {
				m.reader.close()
				m.engine.Close()
				return nil, exhaustedError(err)
			}
			m.noTopology = &topology{problem: err.Error()}
		}
	}
	if links != nil {
		m.topology = watchTopology(links, config.Interfaces, master(m.job.Load()), m.resolve, firstWait)
	}
	m.exercises = m.newExercises()
	m.parts = m.newParts()
	if m.peers != nil && isExhausted(m.peers.err) {
		m.options.NoLoop, m.options.Released = true, nil
		m.Close()
		return nil, exhaustedError(m.peers.err)
	}
	m.aim()
	if config.Responder.IsValid() {
		m.engine.Respond(config.Responder)
	}
	m.Tick()
	if options.NoLoop {
		close(m.stopped)
	} else {
		go m.loop()
	}
	return m, nil
}

func exhaustedError(err error) error {
	return fmt.Errorf("monitor: %w; a monitor needs about 10 descriptors (ulimit -n)", err)
}

func master(j *jobState) string {
	if j.document.MasterAddress == nil {
		return ""
	}
	return *j.document.MasterAddress
}

func (m *Monitor) describeHost() {
	id := inventory.Host(*m.options.FS)
	m.host = &sample.Host{
		Hostname: known(id.Hostname), OS: id.OS, Kernel: known(id.Kernel), BootID: known(id.BootID),
	}
	if id.NetworkNamespace != 0 {
		m.host.NetworkNamespace = &id.NetworkNamespace
	}
	m.never = make(map[string]string)
	for field, reason := range id.Reasons {
		m.never["host."+field] = reason
	}
	for i, name := range sectionNames() {
		if m.config.Sources&(1<<i) == 0 {
			m.never[name] = "not in sources"
		}
	}
	if m.config.Sources&Peers == 0 {
		for _, field := range selfPeers() {
			m.never["self."+field] = "peers are not in sources"
		}
	}
	if m.config.Sources&Collectives == 0 {
		m.never["collective_ratio"] = "collectives are not in sources"
		m.never["collective_pending"] = "collectives are not in sources"
	}
	if m.config.Sources&Interfaces == 0 {
		m.never["totals"] = "interfaces are not in sources"
	}
}

func known(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// SetJob takes over what became known of the job after the monitor was made: fields that are given replace what was known
// before, targets those of the configuration too, and variables replace the environment.
func (m *Monitor) SetJob(identity job.Identity, variables map[string]string) error {
	if m.closing.Load() {
		return ErrClosed
	}
	m.setJob(identity, variables)
	m.aim()
	if m.topology != nil {
		m.topology.setMaster(master(m.job.Load()))
		m.topology.refresh(patience)
	}
	return nil
}

func (m *Monitor) setJob(over job.Identity, variables map[string]string) {
	for {
		before := m.job.Load()
		var next jobState
		switch {
		case variables != nil:
			next.base, next.settings = job.FromEnvironment(job.Map(variables)), job.SettingsFrom(job.Map(variables))
		case before != nil:
			next.base, next.settings = before.base, before.settings
		default:
			next.base, next.settings = job.FromProcess(), job.SettingsFromProcess()
		}
		told := over
		if before != nil {
			told = job.Overlay(before.identity, over)
		}
		next.identity = told
		merged := job.Overlay(next.base, told)
		next.document = sample.Job{
			Rank: merged.Rank, LocalRank: merged.LocalRank, WorldSize: merged.WorldSize,
			LocalWorldSize: merged.LocalWorldSize, NodeRank: merged.NodeRank,
			MasterAddress: merged.MasterAddress, MasterPort: merged.MasterPort, Source: merged.Source,
		}
		next.peers, next.ray = merged.Peers, merged.Ray
		next.reasons = jobReasons(&next.document, next.base.Problems)
		if m.job.CompareAndSwap(before, &next) {
			return
		}
	}
}

func jobReasons(j *sample.Job, problems map[string]string) map[string]string {
	reasons := make(map[string]string)
	missing, fields := 0, 0
	lack := func(field string, isNil bool, variables string) {
		fields++
		if !isNil {
			return
		}
		missing++
		reason := "neither configured nor in the environment (" + variables + ")"
		if problem, found := problems[field]; found {
			reason = problem
		}
		reasons["job."+field] = reason
	}
	lack("rank", j.Rank == nil, "RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID")
	lack("local_rank", j.LocalRank == nil, "LOCAL_RANK, RAY_LOCAL_RANK and those of MPI and Slurm")
	lack("world_size", j.WorldSize == nil, "WORLD_SIZE, OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS")
	lack("local_world_size", j.LocalWorldSize == nil, "LOCAL_WORLD_SIZE, RAY_LOCAL_WORLD_SIZE and those of MPI and Slurm")
	lack("node_rank", j.NodeRank == nil, "NODE_RANK, GROUP_RANK, SLURM_NODEID")
	lack("master_address", j.MasterAddress == nil, "MASTER_ADDR")
	lack("master_port", j.MasterPort == nil, "MASTER_PORT")
	if missing == fields && len(problems) == 0 {
		return map[string]string{"job": "no training job: neither configured nor in the environment (RANK, WORLD_SIZE, MASTER_ADDR...)"}
	}
	if j.Source == nil {
		reasons["job.source"] = "no other field of the job is known"
	}
	return reasons
}

// Close stops the loop, waiting at most 0.1 s for it. Samples in flight end as they are or with ErrClosed.
func (m *Monitor) Close() {
	if m.closing.Swap(true) {
		return
	}
	m.waker.Wake()
	m.engine.Close()
	for _, p := range m.parts {
		p.close()
	}
	if m.topology != nil {
		m.topology.close(&m.mu)
	}
	if m.options.NoLoop {
		m.release()
		return
	}
	const step, most = 200 * time.Microsecond, 90 * time.Millisecond
	for waited := time.Duration(0); waited < most; waited += step {
		select {
		case <-m.stopped:
			if m.engine.Ended() && !slices.ContainsFunc(m.parts, func(p part) bool { return !p.ended() }) {
				return
			}
		default:
		}
		clock.Sleep(step)
	}
}

// release closes the descriptors when nothing uses them any more.
func (m *Monitor) release() {
	m.mu.Lock()
	m.reader.close()
	m.mu.Unlock()
	if m.collectives != nil {
		m.collectives.leave()
	}
	if m.options.Released != nil {
		m.options.Released()
	}
}

// loop samples at the interval on the monotonic clock. A sample that comes too late is dropped and counted, not made up for.
func (m *Monitor) loop() {
	defer m.survive()
	defer close(m.stopped)
	defer m.release()
	due := m.readTime() + m.config.Interval
	for !m.closing.Load() {
		now := m.clock.Monotonic()
		next, finely := m.fine.next(now, due)
		if !finely {
			next = due
		}
		if now < next {
			m.waker.Wait(next - now)
			continue
		}
		if finely {
			m.readFinely()
			continue
		}
		if m.topology != nil {
			m.topology.renew(now)
		}
		late := (now - due) / m.config.Interval
		m.dropped.Add(uint64(late))
		due += (late + 1) * m.config.Interval
		m.Tick()
	}
}

// survive keeps a defect outside of sampling from ending the host: the loop ends, and health tells.
func (m *Monitor) survive() {
	if p := recover(); p != nil {
		m.health.Store(&[]string{fmt.Sprintf("internal error, the loop has ended: %v", p)})
	}
}

func (m *Monitor) readTime() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readAt
}

// Tick takes the next sample of the loop, keeps it and publishes it.
func (m *Monitor) Tick() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing.Load() {
		return
	}
	// A defect in measuring must not end the loop, let alone the host: it is told as a problem and the next sample is tried.
	defer func() {
		if p := recover(); p != nil {
			m.dropped.Add(1)
			m.health.Store(&[]string{fmt.Sprintf("internal error while sampling: %v", p)})
		}
	}()
	m.charge(func() {
		d, bytes := m.take(true)
		m.history.add(entry{sample: &d.Sample, monotonic: m.readAt, bytes: bytes})
		if m.options.Publish != nil {
			snapshot := m.snapshot(d)
			m.options.Publish(&snapshot)
		}
		m.alerts.evaluate(&d.Sample, moment{monotonic: m.readAt, wall: m.wall})
	})
}

// Sample takes a sample now and writes its JSON to w. It reads local counters only.
// Errors: ErrClosed, and what w returns.
func (m *Monitor) Sample(w io.Writer) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing.Load() {
		return ErrClosed
	}
	m.charge(func() {
		d, _ := m.take(false)
		err = d.WriteJSON(w)
	})
	return err
}

// charge adds the CPU time of f to the monitor's own.
func (m *Monitor) charge(f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, ok := clock.ThreadCPU()
	f()
	if after, _ := clock.ThreadCPU(); ok {
		m.cpu.Add(int64(after - before))
	}
}

// take reads the kernel and makes a sample of it. That of the loop is the caller's to keep; one on demand holds until the next.
func (m *Monitor) take(ofLoop bool) (d *document, bytes int) {
	began := m.clock.Monotonic()
	m.readings++
	m.reader.read(m.config.Sources, ofLoop, &m.reading)
	at := moment{monotonic: m.clock.Monotonic(), wall: m.clock.Wall()}
	top := m.noTopology
	if m.topology != nil {
		top = m.currentTopology(m.config.Sources, &at)
	}
	elapsed := at.monotonic - m.readAt
	m.readAt, m.readTook, m.wall = at.monotonic, at.monotonic-began, at.wall

	if ofLoop {
		d = &document{}
	} else {
		d = &m.passing
		*d = document{passing: true}
	}
	d.lacking = m.lacking[:0]
	d.Schema = sample.Schema
	m.sequence++
	d.Sequence = m.sequence
	d.TimestampSeconds = wallSeconds(at.wall)
	d.MonotonicSeconds = units.Seconds(at.monotonic)
	jobNow := m.job.Load()
	d.Host, d.Job = m.host, &jobNow.document

	base := m.base(ofLoop, at.monotonic)
	var window time.Duration
	if base != nil {
		window = at.monotonic - base.monotonic
		d.window = units.Seconds(window)
		d.WindowSeconds = &d.window
	} else {
		d.lack("window_seconds", m.whyNoWindow())
	}
	problems := m.measure(d, top, base, window, elapsed, at, &bytes)
	m.fillSelf(d, problems, top, began)
	m.commonReasons(jobNow, top)
	d.Lack(m.reasons.with(d.lacking))
	m.lacking, d.lacking = d.lacking, nil
	if ofLoop {
		m.remember()
	}
	return d, bytes + documentBytes
}

const documentBytes = 3 << 10 // of a document, as the allocator rounds it

// currentTopology is the topology that fits the counters just read. When links changed they are read anew, and then the
// counters too, so that names mean the same in both.
func (m *Monitor) currentTopology(sections Section, at *moment) *topology {
	changed := m.topology.source.Changed() != 0
	changed = m.fine.linksChanged() || changed
	top := m.topology.current.Load()
	if !changed && !m.interfaces.unknownNames(m.reading.interfaces, top) {
		return top
	}
	m.topology.refresh(patience)
	m.reader.read(sections, false, &m.reading)
	*at = moment{monotonic: m.clock.Monotonic(), wall: m.clock.Wall()}
	return m.topology.current.Load()
}

// base is the sample of the loop at which a window begins that ends now.
func (m *Monitor) base(ofLoop bool, now time.Duration) *record {
	for _, r := range m.records {
		if r != nil && (ofLoop || now-r.monotonic >= m.config.Interval/2) && now > r.monotonic {
			return r
		}
	}
	return nil
}

func (m *Monitor) whyNoWindow() string {
	if m.records[0] == nil {
		return "first sample: no window yet"
	}
	return "no sample of the loop is half an interval old yet"
}

// measure fills the measured sections and returns what went wrong.
func (m *Monitor) measure(d *document, top *topology, base *record, window, elapsed time.Duration, at moment, bytes *int) []string {
	problems := []string{}
	r := &m.reading
	if m.config.Sources&Interfaces != 0 {
		if r.interfacesErr != nil {
			problems = append(problems, r.interfacesErr.Error())
			d.lack("interfaces", r.interfacesErr.Error())
		}
		if r.interfacesErr == nil || len(r.interfaces) > 0 {
			m.interfaces.update(r, top, m.readings, at)
			*bytes = m.interfaces.fill(d, top, base, window)
		} else {
			m.interfaces.miss()
			d.lack("totals", r.interfacesErr.Error())
		}
	}
	for _, p := range m.protocols {
		if m.config.Sources&p.section != 0 {
			p.update(r, elapsed, at, m.events)
		}
	}
	m.fillProtocols(d, r, base)
	if m.config.Sources&Sockets != 0 {
		m.fillSockets(d, r)
	}
	if m.config.Sources&Probes != 0 {
		*bytes += m.probes.fill(d, m.engine.Results(), at.monotonic)
	}
	now := occasion{moment: at, reading: m.readings, base: base, window: window, topology: top}
	for _, p := range m.parts {
		*bytes += p.fill(d, &now)
	}
	for _, err := range []error{r.snmpErr, r.netstatErr, r.snmp6Err, r.sockstatErr, r.sockstat6Err} {
		// A file that this kernel does not have is no defect.
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			problems = append(problems, err.Error())
		}
	}
	return problems
}

func (m *Monitor) fillSelf(d *document, problems []string, top *topology, began time.Duration) {
	if top != nil && top.problem != "" {
		problems = append(problems, top.problem)
	}
	problems = append(problems, m.probeProblems()...)
	for _, p := range m.parts {
		problems = append(problems, p.problems()...)
	}
	m.health.Store(&problems)
	d.Self = &d.self
	d.self.Version = m.options.Version
	d.self.UptimeSeconds = units.Seconds(m.readAt - m.started)
	d.self.ProbeBytesTotal = m.engine.Bytes()
	if cpu := m.cpuTime(); cpu > 0 {
		d.cpu = units.Seconds(cpu)
		d.self.CPUSecondsTotal = &d.cpu
	} else {
		d.lack("self.cpu_seconds_total", "not known before the first sample has ended, or not told by this system")
	}
	d.self.SamplesTotal = m.samples.Add(1)
	d.self.DroppedTotal = m.dropped.Load()
	d.self.Health = healthWord(problems)
	d.self.SampleSeconds = units.Seconds(m.clock.Monotonic() - began)
}

// cpuTime is what samples, probes and bandwidth tests have used.
func (m *Monitor) cpuTime() time.Duration {
	return time.Duration(m.cpu.Load()) + m.engine.CPU() + m.exercises.CPU()
}

func healthWord(problems []string) string {
	switch len(problems) {
	case 0:
		return "ok"
	case 1:
		return "degraded: " + problems[0]
	default:
		return fmt.Sprintf("degraded: %s (and %d more)", problems[0], len(problems)-1)
	}
}

// remember keeps what the windows of later samples begin with.
func (m *Monitor) remember() {
	r := &record{
		reading: m.readings, monotonic: m.readAt,
		totals: m.interfaces.sum.totals, epoch: m.interfaces.sum.epoch,
		counting: m.interfaces.sum.counting, whole: m.interfaces.sum.whole,
	}
	for i, p := range m.protocols {
		if m.config.Sources&p.section != 0 {
			r.protocols[i] = p.remember(&m.reading)
		}
	}
	m.interfaces.mark(m.readings)
	for _, p := range m.parts {
		p.remember(m.readings)
	}
	copy(m.records[1:], m.records[:])
	m.records[0] = r
}

// commonReasons renews the reasons that hold until the job or the links change.
func (m *Monitor) commonReasons(j *jobState, top *topology) {
	var version uint64
	if top != nil {
		version = top.version
	}
	if m.reasons.common != nil && m.reasons.job == j && m.reasons.links == version {
		return
	}
	reasons := maps.Clone(m.never)
	maps.Copy(reasons, j.reasons)
	if top != nil && m.config.Sources&Interfaces != 0 {
		linkReasons(reasons, top)
	}
	m.reasons = reasonSets{common: reasons, job: j, links: version}
}

func linkReasons(reasons map[string]string, top *topology) {
	if top.links == nil {
		for _, field := range []string{"index", "kind", "counted", "primary", "master", "state", "mtu", "duplex",
			"link_speed_bits_per_second", "addresses"} {
			reasons["interfaces."+field] = top.problem
		}
		return
	}
	var speed, duplex named
	for _, l := range top.links {
		if l.LinkSpeedBits == 0 {
			speed.add(l.SpeedReason, l.Name)
		}
		if l.Duplex == "" {
			duplex.add("the driver does not tell", l.Name)
		}
	}
	if len(speed.order) > 0 {
		reasons["interfaces.link_speed_bits_per_second"] = speed.String()
	}
	if len(duplex.order) > 0 {
		reasons["interfaces.duplex"] = duplex.String()
	}
}

// snapshot is what readers get of a sample without waiting.
func (m *Monitor) snapshot(d *document) Snapshot {
	s := UnknownSnapshot()
	s.Sequence = d.Sequence
	s.WallTimeNanoseconds = uint64(m.wall.UnixNano())
	s.MonotonicTimeNanoseconds = uint64(m.readAt)
	if d.WindowSeconds != nil {
		s.WindowNanoseconds = uint64(units.Duration(*d.WindowSeconds))
	}
	if t := d.Totals; t != nil {
		s.ReceiveBytesTotal, s.TransmitBytesTotal = count(t.ReceiveBytesTotal), count(t.TransmitBytesTotal)
		s.ReceiveBytesPerSecond, s.TransmitBytesPerSecond = real(t.ReceiveBytesPerSecond), real(t.TransmitBytesPerSecond)
		s.UtilizationRatio = real(t.UtilizationRatio)
		if base := m.records[1]; t.ReceiveBytesPerSecond != nil && base != nil {
			sum := &m.interfaces.sum.totals
			s.ErrorsInWindow = sum[receiveErrors] + sum[transmitErrors] - base.totals[receiveErrors] - base.totals[transmitErrors]
			s.DropsInWindow = sum[receiveDrops] + sum[transmitDrops] - base.totals[receiveDrops] - base.totals[transmitDrops]
		}
	}
	if i := slices.IndexFunc(d.Interfaces, func(i *sample.Interface) bool { return i.Primary != nil && *i.Primary }); i >= 0 {
		s.PrimaryReceiveBytesPerSecond = real(d.Interfaces[i].ReceiveBytesPerSecond)
		s.PrimaryTransmitBytesPerSecond = real(d.Interfaces[i].TransmitBytesPerSecond)
	}
	if d.TCP != nil {
		s.TCPRetransmitRatio, s.TCPEstablished = real(d.TCP.RetransmitRatio), count(d.TCP.Established)
	}
	if m.config.Sources&Probes != 0 {
		fillSnapshot(&s, m.probes.of)
	}
	for _, p := range m.parts {
		if has, ok := p.(summarizer); ok {
			has.summarize(&s)
		}
	}
	return s
}
