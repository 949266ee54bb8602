package monitor

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"strconv"
	"time"

	"netmon/core/sample"
	"netmon/core/transport"
	"netmon/core/units"
)

const (
	// A verdict holds for so long: its sentences cost more than the rest of a sample, and its numbers change with every one.
	verdictPeriod = time.Second
	// What is judged is what was carried in the last recentSpan and up to recentStep more.
	recentSpan = time.Minute
	recentStep = 20 * time.Second
	// Limits and device nodes of a process hardly change.
	limitsPeriod = time.Minute

	infinibandClass   = "sys/class/infiniband"
	infinibandDevices = "dev/infiniband"
)

// trafficSource is the part that knows the job's own connections: what moved by each interface as of the last sample, nil where that is
// not known.
type trafficSource interface{ traffic() []planeTraffic }

// transportPart makes the section transport of what other parts found: it stands behind them.
type transportPart struct {
	m      *Monitor
	judged bool
	at     time.Duration // when verdict was made
	// movedBefore is what had moved then, by all planes. When twice as much has, the verdict is renewed before its time: else a
	// sample could name none beside the bytes that were carried.
	movedBefore uint64
	// named is how many interfaces connections were known to go by then. When more are, the verdict is renewed too: it named none, or
	// the wrong one.
	named   int
	verdict transportTexts
	marks   []transportMark // oldest first; the first is recentSpan old or older, where there is one
	limits  processLimits
	links   []transport.Link // room for those of one verdict
	passing transportRow     // room for that of a sample on demand

	carried map[string]portBytes // by port, also of those that are gone

	// Of the last sample.
	ports        []rdmaFact
	portsMissing string
}

// transportTexts is a verdict as samples hold it. It is not changed after it was made.
type transportTexts struct {
	plane, carrier, reason, idle, wrong, advice *string
	shares                                      []sample.InterfaceShare
	lacking                                     []missing
	bytes                                       int // of memory
}

// transportMark is what had been carried at one moment.
type transportMark struct {
	at          time.Duration
	connections map[string]uint64
	ports       map[string]uint64
	interfaces  []interfaceBytes
}

type interfaceBytes struct {
	of    *interfaceState
	bytes uint64
}

// portBytes is what a port carried since the monitor started. A port that comes back counts from 0.
type portBytes struct{ newest, before uint64 }

// transportRow is a section with what it points to.
type transportRow struct {
	sample.Transport
	bytes [3]uint64
	rates [3]float64
}

func newTransportPart(m *Monitor) *transportPart { return &transportPart{m: m} }

func (p *transportPart) fill(d *document, now *occasion) (bytes int) {
	if p.m.config.Sources&(Peers|RDMA) == 0 {
		d.lack("transport", "neither peers nor rdma are in sources")
		return 0
	}
	connections, noConnections := p.connections(d)
	p.ports, p.portsMissing = p.m.rdmaPorts()
	if p.m.config.Sources&RDMA == 0 {
		p.ports, p.portsMissing = nil, "not in sources"
	}
	moved, named := p.moved(connections), namedOf(connections)
	if !p.judged || now.monotonic-p.at >= verdictPeriod || moved > 2*p.movedBefore || named > p.named {
		p.movedBefore, p.named = moved, named
		p.judge(now, connections, noConnections)
		bytes += p.verdict.bytes
	}
	row := &p.passing
	if !d.passing {
		row = &transportRow{}
		bytes += 256 // of it
	}
	v := &p.verdict
	*row = transportRow{Transport: sample.Transport{
		Plane: v.plane, Interface: v.carrier, Reason: v.reason, RDMAIdleReason: v.idle, Shares: v.shares, WrongInterface: v.wrong,
		Advice: v.advice,
	}}
	d.lacking = append(d.lacking, v.lacking...)
	d.Transport = &row.Transport
	p.fillConnections(d, row, connections, noConnections)
	p.fillPorts(d, row)
	return bytes
}

// connections are those of the part that knows them, or why they are not known.
func (p *transportPart) connections(d *document) (rows []planeTraffic, missing string) {
	for _, other := range p.m.parts {
		if source, knows := other.(trafficSource); knows {
			if rows = source.traffic(); rows != nil {
				return rows, ""
			}
		}
	}
	return nil, or(p.m.never["peers"], or(d.reasonOf("peers"), "peers were not read"))
}

func (p *transportPart) fillConnections(d *document, row *transportRow, connections []planeTraffic, missing string) {
	if missing != "" {
		for _, field := range []string{"tcp_bytes_total", "loopback_bytes_total", "tcp_bytes_per_second", "loopback_bytes_per_second"} {
			d.lack("transport."+field, missing)
		}
		return
	}
	const tcp, loopback = 0, 1
	for _, c := range connections {
		i := tcp
		if c.loopback {
			i = loopback
		}
		row.bytes[i] += c.bytes
		row.rates[i] += c.bytesPerSecond
	}
	row.TCPBytesTotal, row.LoopbackBytesTotal = &row.bytes[tcp], &row.bytes[loopback]
	if d.WindowSeconds == nil {
		return // its reason speaks for rates
	}
	for i, field := range []string{"tcp_bytes_per_second", "loopback_bytes_per_second"} {
		if math.IsNaN(row.rates[i]) {
			d.lack("transport."+field, "sockets were not read twice yet")
		} else if i == tcp {
			row.TCPBytesPerSecond = &row.rates[i]
		} else {
			row.LoopbackBytesPerSecond = &row.rates[i]
		}
	}
}

func (p *transportPart) fillPorts(d *document, row *transportRow) {
	const rdma = 2
	missing := p.portsMissing
	counted, windows := 0, 0
	for i := range p.ports {
		port := &p.ports[i]
		if !port.counted {
			continue
		}
		counted++
		p.count(port)
		if port.window > 0 {
			windows++
			row.rates[rdma] += float64(port.windowReceive+port.windowTransmit) / port.window.Seconds()
		}
	}
	if counted == 0 {
		missing = or(missing, "no RDMA port whose bytes the driver counts")
	} else if row.bytes[rdma], row.RDMABytesTotal = p.allCarried(), &row.bytes[rdma]; windows > 0 {
		row.RDMABytesPerSecond = &row.rates[rdma]
		return
	} else {
		d.lack("transport.rdma_bytes_per_second", "RDMA ports were not read twice yet")
		return
	}
	d.lack("transport.rdma_bytes_total", missing)
	d.lack("transport.rdma_bytes_per_second", missing)
}

func namedOf(connections []planeTraffic) (named int) {
	for _, c := range connections {
		if c.interfaceName != "" && c.bytes > 0 {
			named++
		}
	}
	return named
}

func (p *transportPart) count(port *rdmaFact) {
	if p.carried == nil {
		p.carried = make(map[string]portBytes)
	}
	name, now := portName(port), port.receiveBytes+port.transmitBytes
	c := p.carried[name]
	if now < c.newest {
		c.before += c.newest
	}
	c.newest = now
	p.carried[name] = c
}

func (p *transportPart) allCarried() (bytes uint64) {
	for _, c := range p.carried {
		bytes += c.before + c.newest
	}
	return bytes
}

// moved is what all planes moved since the monitor started.
func (p *transportPart) moved(connections []planeTraffic) (bytes uint64) {
	for _, c := range connections {
		bytes += c.bytes
	}
	for i := range p.ports {
		bytes += p.ports[i].receiveBytes + p.ports[i].transmitBytes
	}
	return bytes
}

// judge renews the verdict.
func (p *transportPart) judge(now *occasion, connections []planeTraffic, noConnections string) {
	mark := p.mark(now.monotonic, connections)
	if len(p.marks) == 0 || now.monotonic-p.marks[len(p.marks)-1].at >= recentStep {
		p.marks = append(p.marks, mark)
		for len(p.marks) > 1 && now.monotonic-p.marks[1].at >= recentSpan {
			p.marks = append(p.marks[:0], p.marks[1:]...)
		}
	}
	j := p.m.job.Load()
	facts := transport.Facts{
		Recent: now.monotonic - p.marks[0].at, Whole: now.monotonic - p.m.started,
		NoConnections: noConnections, Settings: j.settings, Master: master(j), LocalWorldSize: j.document.LocalWorldSize,
	}
	since := &p.marks[0]
	for _, c := range connections {
		facts.Connections = append(facts.Connections, transport.Connections{
			Interface: c.interfaceName, Loopback: c.loopback, Bytes: amount(c.bytes, since.connections[c.interfaceName]),
		})
	}
	p.tellPorts(&facts, now.monotonic)
	p.tellLinks(&facts, now.topology, mark.interfaces, since.interfaces)
	if p.m.topology != nil {
		facts.MasterAddress = p.m.topology.knownMaster()
	}
	verdict := transport.Judge(&facts)
	p.verdict = textsOfVerdict(&verdict, &facts)
	p.judged, p.at = true, now.monotonic
}

func amount(now, before uint64) transport.Amount {
	return transport.Amount{Recent: now - min(now, before), Whole: now}
}

// mark is what has been carried now.
func (p *transportPart) mark(at time.Duration, connections []planeTraffic) (mark transportMark) {
	mark.at = at
	mark.connections = make(map[string]uint64, len(connections))
	for _, c := range connections {
		mark.connections[c.interfaceName] = c.bytes
	}
	mark.ports = make(map[string]uint64, len(p.ports))
	for i := range p.ports {
		mark.ports[portName(&p.ports[i])] = p.ports[i].receiveBytes + p.ports[i].transmitBytes
	}
	mark.interfaces = make([]interfaceBytes, len(p.m.interfaces.rows))
	for i, s := range p.m.interfaces.rows {
		mark.interfaces[i] = interfaceBytes{s, s.meter.Total(receiveBytes) + s.meter.Total(transmitBytes)}
	}
	return mark
}

func portName(f *rdmaFact) string { return f.device + ":" + strconv.Itoa(f.port) }

func (p *transportPart) tellPorts(facts *transport.Facts, now time.Duration) {
	if now-p.limits.at >= limitsPeriod || !p.judged {
		p.limits = readLimits(p.m)
		p.limits.at = now
	}
	facts.DeviceNodes, facts.NoDeviceNodes, facts.Memlock = p.limits.nodes, p.limits.noNodes, p.limits.memlock
	switch {
	case p.m.config.Sources&RDMA == 0:
		facts.NoPorts = p.portsMissing
	case len(p.ports) == 0 && p.limits.noDevices != "":
		facts.NoDevices = p.limits.noDevices
	case p.portsMissing != "":
		facts.NoPorts = p.portsMissing
	}
	for i := range p.ports {
		f := &p.ports[i]
		facts.Ports = append(facts.Ports, transport.Port{
			Device: f.device, Port: f.port, LinkLayer: f.linkLayer, State: f.state, Interface: f.interfaceName, Counted: f.counted,
			Bytes: amount(f.receiveBytes+f.transmitBytes, p.marks[0].ports[portName(f)]),
		})
	}
}

func (p *transportPart) tellLinks(facts *transport.Facts, top *topology, now, before []interfaceBytes) {
	switch {
	case p.m.config.Sources&Interfaces == 0:
		facts.NoLinks = "interfaces are not in sources"
		return
	case top == nil || top.links == nil:
		facts.NoLinks = "links are not known"
		if top != nil {
			facts.NoLinks = or(top.problem, facts.NoLinks)
		}
		return
	}
	p.links = p.links[:0]
	for i, l := range top.links {
		p.links = append(p.links, transport.Link{Link: l, Counted: top.counted[i], Primary: top.primary == l})
	}
	for i, n := range now {
		place, known := top.byName[n.of.name]
		if !known {
			continue
		}
		var then uint64
		if i < len(before) && before[i].of == n.of {
			then = before[i].bytes
		} else {
			for _, b := range before {
				if b.of == n.of {
					then = b.bytes
				}
			}
		}
		p.links[place].Bytes, p.links[place].HasBytes = amount(n.bytes, then), true
	}
	facts.Links = p.links
}

// textsOfVerdict is a verdict as samples hold it.
func textsOfVerdict(v *transport.Verdict, facts *transport.Facts) (t transportTexts) {
	lack := func(field, reason string) { t.lacking = append(t.lacking, missing{"transport." + field, reason}) }
	t.plane, t.carrier, t.reason = known(string(v.Plane)), known(v.Interface), known(v.Reason)
	t.idle, t.wrong, t.advice = known(v.IdleReason), known(v.Wrong), known(v.Advice)
	switch {
	case v.Plane == "":
		for _, field := range []string{"plane", "interface", "reason"} {
			lack(field, v.NoPlane)
		}
	case v.Plane == transport.None:
		lack("interface", "nothing is carried")
	case v.Interface == "":
		lack("interface", "not known by which interface the connections go")
	}
	if v.NoIdle != "" {
		lack("rdma_idle_reason", v.NoIdle)
	}
	if unjudged := or(v.NoPlane, facts.NoLinks); unjudged != "" && v.Wrong == "" {
		lack("wrong_interface", unjudged)
		if v.Advice == "" {
			lack("advice", unjudged)
		}
	}
	if v.NoShares != "" {
		lack("shares", v.NoShares)
	} else {
		t.shares = make([]sample.InterfaceShare, len(v.Shares))
	}
	ratios := make([]float64, len(v.Shares))
	for i, s := range v.Shares {
		t.shares[i].Interface, ratios[i] = s.Interface, s.Ratio
		if s.Known {
			t.shares[i].Ratio = &ratios[i]
		}
	}
	for _, share := range t.shares {
		if share.Ratio == nil {
			lack("shares", "no counted interface carried anything")
			break
		}
	}
	t.bytes = len(v.Reason) + len(v.IdleReason) + len(v.Wrong) + len(v.Advice) + len(v.Interface) + 32*len(v.Shares) + 6*16
	return t
}

// processLimits are what a process needs to use RDMA.
type processLimits struct {
	at        time.Duration
	noDevices string   // why there is no RDMA device
	nodes     []string // in /dev/infiniband
	noNodes   string   // why these are not known
	memlock   transport.Memlock
}

// readLimits reads them, where there is an RDMA device.
//
// Source: /sys/class/infiniband, /dev/infiniband, and of /proc/self limits, status and uid_map (proc(5)).
func readLimits(m *Monitor) (l processLimits) {
	files := m.options.FS
	devices, err := files.List(infinibandClass)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.noDevices = "no /" + infinibandClass + ": this host has no RDMA device, or shows this process none"
	case err == nil && len(devices) == 0:
		l.noDevices = "no device in /" + infinibandClass
	}
	if l.noDevices != "" {
		return l
	}
	if l.nodes, err = files.List(infinibandDevices); err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.noNodes = err.Error()
	}
	limits, _ := files.ReadFile("proc/self/limits")
	status, _ := files.ReadFile("proc/self/status")
	users, _ := files.ReadFile("proc/self/uid_map")
	l.memlock = memlock(limits, status, users)
	return l
}

// memlock is the limit of locked memory as /proc/self/limits tells it. CAP_IPC_LOCK lifts it, but not in a user namespace of its own.
func memlock(limits, status, users []byte) (m transport.Memlock) {
	const capIPCLock = 14
	for line := range bytes.Lines(limits) {
		rest, found := bytes.CutPrefix(line, []byte("Max locked memory"))
		if fields := bytes.Fields(rest); found && len(fields) > 0 {
			if value, err := strconv.ParseUint(string(fields[0]), 10, 64); err == nil {
				m.Known, m.Bytes = true, value
			} else if string(fields[0]) == "unlimited" {
				m.Known, m.Bytes = true, transport.Unlimited
			}
		}
	}
	for line := range bytes.Lines(status) {
		if rest, found := bytes.CutPrefix(line, []byte("CapEff:")); found {
			mask, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 16, 64)
			m.Exempt = err == nil && mask>>capIPCLock&1 == 1
		}
	}
	// "0 0 4294967295" is that of the first user namespace (user_namespaces(7)).
	all := bytes.Fields(users)
	m.Exempt = m.Exempt && len(all) == 3 && string(all[0]) == "0" && string(all[1]) == "0" && string(all[2]) == "4294967295"
	return m
}

func (p *transportPart) summarize(s *Snapshot) {
	if p.verdict.plane != nil && p.judged {
		switch transport.Plane(*p.verdict.plane) {
		case transport.None:
			s.TransportPlane = planeNone
		case transport.Loopback:
			s.TransportPlane = planeLoopback
		case transport.TCP:
			s.TransportPlane = planeTCP
		case transport.RDMA:
			s.TransportPlane = planeRDMA
		}
	}
	var receive, transmit float64
	known := false
	for i := range p.ports {
		if f := &p.ports[i]; f.counted && f.window > 0 {
			known = true
			receive += float64(f.windowReceive) / units.Seconds(f.window)
			transmit += float64(f.windowTransmit) / units.Seconds(f.window)
		}
	}
	if known {
		s.RDMAReceiveBytesPerSecond, s.RDMATransmitBytesPerSecond = receive, transmit
	}
}

func (p *transportPart) remember(uint64)    {}
func (p *transportPart) problems() []string { return nil }
func (p *transportPart) close()             {}
func (p *transportPart) ended() bool        { return true }
