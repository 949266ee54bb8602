// Package transport concludes which plane carries a training job's traffic, why RDMA is idle where it is, and whether the interface in
// use looks like the wrong one.
//
// It is a pure function from facts that others read (the job's own connections, RDMA ports, links, settings of the communication
// libraries, limits of this process) to a verdict in sentences with numbers. It reads nothing itself. What it cannot see: shared
// memory inside a node, NVLink, and whose the bytes of RDMA ports are, which count for the whole node. docs/transport.md lists every
// verdict and what it is concluded from.
package transport

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"netmon/core/job"
	"netmon/core/link"
	"netmon/core/units"
)

// Plane is what carries traffic.
type Plane string

// The planes. None means that nothing was carried that can be seen.
const (
	RDMA     Plane = "rdma"
	TCP      Plane = "tcp"
	Loopback Plane = "loopback"
	None     Plane = "none"
)

// Amount is how many bytes passed, both directions added.
type Amount struct{ Recent, Whole uint64 }

// Facts is all that is known. An empty reason means that what it speaks of is known.
type Facts struct {
	Recent, Whole time.Duration // how long the two periods of every Amount are

	Connections   []Connections // the job's own, by interface
	NoConnections string        // why they are not known

	Ports     []Port // RDMA ports of this node
	NoPorts   string // why they are not known
	NoDevices string // why there are none, as "no /sys/class/infiniband"

	Links   []Link
	NoLinks string // why they are not known

	// DeviceNodes are the names in /dev/infiniband; NoDeviceNodes is why they are not known. There being no such folder is known.
	DeviceNodes   []string
	NoDeviceNodes string
	Memlock       Memlock

	Settings       job.Settings
	Master         string     // as the job gives it
	MasterAddress  netip.Addr // invalid where it is not known
	LocalWorldSize *int64
}

// Connections are what the job's TCP connections over one interface carried.
type Connections struct {
	Interface string // "" where it is not known
	Loopback  bool   // they do not leave this host
	Bytes     Amount
}

// Port is a port of an RDMA device.
type Port struct {
	Device    string
	Port      int
	LinkLayer string // InfiniBand, Ethernet, Unspecified (EFA)
	State     string // active, down...
	Interface string // the network interface of the same port
	Counted   bool   // Bytes are known
	Bytes     Amount
}

func (p *Port) name() string { return fmt.Sprintf("%s:%d", p.Device, p.Port) }

// Link is a network interface.
type Link struct {
	*link.Link
	Counted, Primary bool
	Bytes            Amount // of all processes; 0 where HasBytes is not set
	HasBytes         bool
}

// Memlock is how much memory this process may lock.
type Memlock struct {
	Known  bool
	Bytes  uint64 // Unlimited for no limit
	Exempt bool   // the process has CAP_IPC_LOCK, for which there is no limit
}

// Unlimited is RLIM_INFINITY.
const Unlimited = ^uint64(0)

// Verdict is what the facts say. Texts are "" where there is nothing to say, or, with a reason beside them, where it is not known.
type Verdict struct {
	Plane      Plane // "" where it is not known
	NoPlane    string
	Interface  string // or the RDMA port; "" for none
	Reason     string
	IdleReason string // why no RDMA port carries anything
	NoIdle     string // why that is not known
	Shares     []Share
	NoShares   string
	Wrong      string
	Advice     string
}

// Share is a counted interface's part of what all counted interfaces carried, all processes together.
type Share struct {
	Interface string
	Ratio     float64
	Known     bool // something was carried
}

const (
	// significant is how much has to pass in the recent period for that to be what is judged: a job that thinks sends heartbeats.
	significant = 1 << 20
	// managementPerMinute is what RDMA ports may carry without anybody using them: packets of the subnet's management.
	managementPerMinute = 1 << 20
	// most is how many names and shares are told.
	most = 8
	// lonely is the share from which one of several is said to carry it all.
	lonely = 0.9

	unseen = "shared memory inside a node and NVLink are not seen"
)

// judge is a verdict being made.
type judge struct {
	*Facts
	recent              bool // what is judged is the recent period
	span                time.Duration
	tcp, loopback, rdma uint64
	rdmaCarries         bool
}

// Judge concludes. It keeps nothing of the facts but their texts.
func Judge(facts *Facts) (v Verdict) {
	j := &judge{Facts: facts, recent: true, span: facts.Recent}
	if j.weigh(); j.tcp+j.loopback+j.rdma < significant {
		j.recent, j.span = false, facts.Whole
		j.weigh()
	}
	v.Plane, v.NoPlane = j.plane()
	v.Interface = j.carrier(v.Plane)
	v.Shares, v.NoShares = j.shares()
	v.Reason = j.reason(&v)
	var change, use string
	v.Wrong, change = j.wrong(v.Plane, v.Interface)
	v.IdleReason, use = j.idle()
	v.NoIdle = j.NoPorts
	if v.Plane != TCP { // nothing goes to other hosts that RDMA could carry
		use = ""
	}
	v.Advice = join([]string{change, use})
	return v
}

func join(sentences []string) string {
	return strings.Join(slices.DeleteFunc(sentences, func(s string) bool { return s == "" }), "; ")
}

func (j *judge) of(a Amount) uint64 {
	if j.recent {
		return a.Recent
	}
	return a.Whole
}

// weigh adds what the planes carried in the period that is judged.
func (j *judge) weigh() {
	j.tcp, j.loopback, j.rdma = 0, 0, 0
	for i := range j.Connections {
		if c := &j.Connections[i]; c.Loopback {
			j.loopback += j.of(c.Bytes)
		} else {
			j.tcp += j.of(c.Bytes)
		}
	}
	for i := range j.Ports {
		j.rdma += j.ofPort(&j.Ports[i])
	}
	j.rdmaCarries = j.rdma >= managementPerMinute && float64(j.rdma) >= managementPerMinute*j.span.Minutes()
	if !j.rdmaCarries {
		j.rdma = 0
	}
}

// ofPort is what a port carried beside IP over InfiniBand, whose bytes the port counts as well, with headers of its own.
func (j *judge) ofPort(p *Port) uint64 {
	bytes := j.of(p.Bytes)
	if l := j.link(p.Interface); l != nil && p.LinkLayer == "InfiniBand" {
		ip := j.of(l.Bytes)
		if bytes <= 2*ip {
			return 0
		}
		bytes -= ip
	}
	return bytes
}

func (j *judge) link(name string) *Link {
	for i := range j.Links {
		if name != "" && j.Links[i].Name == name {
			return &j.Links[i]
		}
	}
	return nil
}

func (j *judge) plane() (plane Plane, unknown string) {
	switch {
	case j.NoConnections != "":
		// What interfaces carried is more than the job's connections did.
		var all uint64
		for i := range j.Links {
			if j.Links[i].Counted {
				all += j.of(j.Links[i].Bytes)
			}
		}
		if j.rdmaCarries && j.NoLinks == "" && j.rdma > all {
			return RDMA, ""
		}
		return "", "the job's connections are not known: " + j.NoConnections
	case j.rdmaCarries && j.rdma >= j.tcp+j.loopback:
		return RDMA, ""
	case j.tcp > 0 && j.tcp >= j.loopback:
		return TCP, ""
	case j.loopback > 0:
		return Loopback, ""
	case j.NoPorts != "":
		return "", "the job's connections carried nothing, and RDMA ports are not known: " + j.NoPorts
	default:
		return None, ""
	}
}

// carrier is the interface or RDMA port that carried most of a plane.
func (j *judge) carrier(plane Plane) (name string) {
	var bytes uint64
	if plane == RDMA {
		for i := range j.Ports {
			if p := &j.Ports[i]; j.ofPort(p) > bytes {
				name, bytes = p.name(), j.ofPort(p)
			}
		}
		return name
	}
	if plane != TCP && plane != Loopback {
		return ""
	}
	for i := range j.Connections {
		c := &j.Connections[i]
		if c.Loopback == (plane == Loopback) && j.of(c.Bytes) > bytes {
			name, bytes = c.Interface, j.of(c.Bytes)
		}
	}
	return name
}

func (j *judge) over(name string) (bytes uint64) {
	for i := range j.Connections {
		if j.Connections[i].Interface == name {
			bytes += j.of(j.Connections[i].Bytes)
		}
	}
	return bytes
}

func (j *judge) period() string {
	if j.recent {
		return fmt.Sprintf("in the last %.0f s", j.span.Seconds())
	}
	return fmt.Sprintf("since the monitor started %.0f s ago", j.span.Seconds())
}

// reason says what the verdict is concluded from.
func (j *judge) reason(v *Verdict) string {
	rdma := "RDMA ports " + units.AmountText(j.rdma)
	switch {
	case j.NoPorts != "":
		rdma = "RDMA ports are not known: " + j.NoPorts
	case len(j.Ports) == 0:
		rdma = "there is no RDMA port"
	case !slices.ContainsFunc(j.Ports, func(p Port) bool { return p.Counted }):
		rdma = "what RDMA ports carry is not counted by their driver"
	}
	parts := make([]string, 0, 4)
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch v.Plane {
	case RDMA:
		add("RDMA ports of this node carried %s %s, most of it %s", units.AmountText(j.rdma), j.period(), v.Interface)
		if j.NoConnections == "" {
			add("the job's TCP connections %s, loopback %s", units.AmountText(j.tcp), units.AmountText(j.loopback))
		} else {
			add("the job's connections are not known: %s", j.NoConnections)
		}
		parts = append(parts, j.crowdedPort())
	case TCP:
		add("the job's TCP connections carried %s %s, %s of it over %s", units.AmountText(j.tcp), j.period(),
			units.AmountText(j.over(v.Interface)), cmp.Or(v.Interface, "an interface that is not known"))
		add("loopback %s, %s", units.AmountText(j.loopback), rdma)
		if slices.ContainsFunc(j.Ports, func(p Port) bool { return p.Interface == v.Interface && p.LinkLayer == "InfiniBand" }) {
			add("%s is IP over InfiniBand, which is not RDMA", v.Interface)
		}
		parts = append(parts, j.crowded(v.Shares))
	case Loopback:
		add("the job's connections inside this node carried %s %s", units.AmountText(j.loopback), j.period())
		add("to other hosts %s, %s", units.AmountText(j.tcp), rdma)
		add("%s", unseen)
	case None:
		add("the job's connections carried nothing %s, and %s", j.period(), strings.Replace(rdma, "0 bytes", "nothing", 1))
		add("%s", unseen)
	}
	return join(parts)
}

// shares are the parts of interfaces that count and are up, largest first.
func (j *judge) shares() (shares []Share, unknown string) {
	if j.NoLinks != "" {
		return nil, j.NoLinks
	}
	shares = []Share{}
	var sum uint64
	var up []*Link
	for i := range j.Links {
		if l := &j.Links[i]; l.Counted && l.Up && l.HasBytes {
			up = append(up, l)
			sum += j.of(l.Bytes)
		}
	}
	slices.SortStableFunc(up, func(a, b *Link) int { return cmp.Compare(j.of(b.Bytes), j.of(a.Bytes)) })
	for _, l := range up[:min(len(up), most)] {
		share := Share{Interface: l.Name, Known: sum > 0}
		if share.Known {
			share.Ratio = float64(j.of(l.Bytes)) / float64(sum)
		}
		shares = append(shares, share)
	}
	return shares, ""
}

// crowded says that one of several interfaces carries it all.
func (j *judge) crowded(shares []Share) string {
	if len(shares) < 2 || shares[0].Ratio < lonely {
		return ""
	}
	up := 0
	for i := range j.Links {
		if l := &j.Links[i]; l.Counted && l.Up && l.HasBytes {
			up++
		}
	}
	return fmt.Sprintf("%d counted interfaces are up, 1 carries %s of what all processes send and receive: %s",
		up, percent(shares[0].Ratio), shares[0].Interface)
}

func (j *judge) crowdedPort() string {
	active := j.active()
	var highest uint64
	var name string
	for _, p := range active {
		if bytes := j.ofPort(p); bytes > highest {
			highest, name = bytes, p.name()
		}
	}
	if share := float64(highest) / float64(max(j.rdma, 1)); len(active) > 1 && share >= lonely {
		return fmt.Sprintf("%d ports are active, 1 carries %s: %s", len(active), percent(share), name)
	}
	return ""
}

// percent never says 100 where something is missing.
func percent(ratio float64) string {
	if ratio >= 1 {
		return "100 %"
	}
	return fmt.Sprintf("%.0f %%", min(ratio*100, 99))
}

// active are the ports that could carry something.
func (j *judge) active() (ports []*Port) {
	for i := range j.Ports {
		if p := &j.Ports[i]; p.State == "active" {
			ports = append(ports, p)
		}
	}
	return ports
}

// list names at most some, and says how many more there are.
func list(names []string) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
