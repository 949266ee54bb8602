package peer

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"netmon/core/tcpinfo"
)

// Row is what was known of a peer at a reading.
type Row struct {
	Peer        *Peer
	Interface   string // "" where it is not known
	Connections uint64 // own, or Ray's daemons'
	Children    uint64
	Totals      Totals
	Others      Totals // of Totals, what children or daemons counted, at their last reading
	OthersRate  Rate   // between their last two readings
	Unsent      uint64
	MinRTT      uint32        // µs, the least of all connections; tcpinfo.NoRTT where none has any
	LastUsed    time.Duration // on the clock of the readings
	// Most is what the kernel tells of the connection that moved most bytes since the window began, or was used last where none moved
	// any. It holds where there is a connection.
	Most tcpinfo.Info
}

// Plane is what the process and its children sent and received by one interface, "" where it is not known yet.
type Plane struct {
	Interface string
	Bytes     uint64
	Others    uint64 // of Bytes, what children counted, at their last reading
	// OthersPerSecond is what children moved between their last two readings.
	OthersPerSecond float64
}

// View is a reading, with what was counted until then. It is not changed any more.
type View struct {
	Number  uint64
	At      time.Duration // when the reading of own sockets began
	Took    time.Duration
	Sockets int   // connections that the reading found, of this process
	Rows    []Row // own first, in the order in which the peers were found
	Planes  []Plane
	// OthersUnrated: there are connections of children, and at what rate they move bytes is not known.
	OthersUnrated bool
	Known         tcpinfo.Info // which fields the kernel has
	// HiddenPeers are connections to addresses that were too many to be told.
	HiddenPeers int
}

// Before finds a row's peer in an earlier view; a peer that was not found yet had counted nothing.
func (v *View) Before(r *Row) (totals, others Totals) {
	i, found := slices.BinarySearchFunc(v.Rows, r.Peer, func(r Row, p *Peer) int { return order(r.Peer, p) })
	if !found {
		return Totals{}, Totals{}
	}
	return v.Rows[i].Totals, v.Rows[i].Others
}

func order(a, b *Peer) int {
	if a.Ray != b.Ray {
		if b.Ray {
			return -1
		}
		return 1
	}
	return cmp.Compare(a.serial, b.serial)
}

// View is what is known after a reading.
func (t *Table) View(took time.Duration) *View {
	t.views++
	now := t.own.current
	v := &View{Number: t.views, At: now, Took: took, Known: t.known}
	slices.SortStableFunc(t.peers, order)
	v.Rows = make([]Row, len(t.peers))
	for i, p := range t.peers {
		v.Rows[i] = Row{Peer: p, Totals: p.totals, Others: p.others, OthersRate: p.rate, MinRTT: tcpinfo.NoRTT, LastUsed: p.last}
		p.row, p.most = &v.Rows[i], nil
	}
	for _, c := range t.connections {
		if c == nil || !c.connected || c.missing {
			continue
		}
		if c.origin == Own {
			v.Sockets++
		}
		if c.peer == nil {
			v.HiddenPeers++
			continue
		}
		t.show(c)
	}
	kept := v.Rows[:0]
	peers := t.peers[:0]
	for i, p := range t.peers {
		row := p.row
		p.row = nil
		if p.most == nil {
			if !p.empty {
				p.empty, p.emptySince = true, now
			}
			if now-p.emptySince > keep {
				t.forget(p)
				continue
			}
		} else {
			p.empty = false
			row.Most = p.most.info
		}
		p.most = nil
		if !p.Ray && (row.Children > 0 || row.Others != (Totals{})) && !p.rate.Known {
			v.OthersUnrated = true
		}
		row.Interface = most(p.interfaces)
		p.last = row.LastUsed
		kept = append(kept, v.Rows[i])
		peers = append(peers, p)
	}
	clear(t.peers[len(peers):])
	v.Rows, t.peers = kept, peers
	v.Planes = t.viewPlanes()
	return v
}

func (t *Table) viewPlanes() (planes []Plane) {
	for _, s := range t.planes {
		planes = append(planes, Plane{Interface: s.name, Bytes: s.bytes, Others: s.others})
	}
	unknown, flow := t.unrouted, t.flow.perSecond
	for _, r := range t.routes {
		if r.peer.Ray {
			continue
		}
		unknown.add(r.pending)
		if i := slices.IndexFunc(planes, func(p Plane) bool { return p.Interface == r.name }); i >= 0 {
			planes[i].OthersPerSecond += r.flow.perSecond
		} else {
			flow += r.flow.perSecond
		}
	}
	if unknown.bytes > 0 {
		planes = append(planes, Plane{Bytes: unknown.bytes, Others: unknown.others, OthersPerSecond: flow})
	}
	return planes
}

// show adds a connection to its peer's row.
func (t *Table) show(c *connection) {
	p, row := c.peer, c.peer.row
	if c.origin == Child {
		row.Children++
	} else {
		row.Connections++
	}
	row.Unsent += uint64(c.info.UnsentBytes)
	row.MinRTT = min(row.MinRTT, c.info.MinRTT)
	read := t.own.current
	if c.origin != Own {
		read = t.others.current
	}
	row.LastUsed = max(row.LastUsed, read-c.info.Idle())
	if p.most == nil || c.leads(p.most, t.window) {
		p.most = c
	}
}

// leads tells whether a connection moved more in the window, or was used later where none moved anything.
func (c *connection) leads(other *connection, window uint64) bool {
	mine, theirs := c.inWindow(window), other.inWindow(window)
	if mine != theirs {
		return mine > theirs
	}
	return c.info.Idle() < other.info.Idle()
}

func (c *connection) inWindow(window uint64) uint64 {
	if c.marked != window {
		return 0
	}
	return c.moved - c.mark
}

// forget drops a peer that had no connection for long, with its routes.
func (t *Table) forget(p *Peer) {
	delete(t.byKey, key{p.Address, p.Ray})
	for k, r := range t.routes {
		if r.peer == p {
			t.settle(r)
			delete(t.routes, k)
		}
	}
	// A peer that is found anew is another one, to connections that are only missing too.
	for place, c := range t.connections {
		if c != nil && c.peer == p {
			t.release(place)
		}
	}
}

// most is the interface by which most bytes went.
func most(shares []share) (name string) {
	var bytes uint64
	for _, s := range shares {
		if name == "" || s.bytes > bytes {
			name, bytes = s.name, s.bytes
		}
	}
	return name
}

// Nameless tells whether interfaces have to be looked up: those of new connections.
func (t *Table) Nameless() bool { return t.nameless }

// Routes are between what addresses connections are whose interface is not known, or all of them.
func (t *Table) Routes(all bool) (routes []Route) {
	for _, r := range t.routes {
		if all || r.name == "" {
			routes = append(routes, Route{Local: r.Local, Remote: r.Remote})
		}
	}
	t.nameless = false
	return routes
}

// Name says by which interface connections between two addresses go. "": nobody knows.
func (t *Table) Name(local, remote netip.Addr, name string) {
	for _, ray := range []bool{false, true} {
		r := t.routes[routeKey{local, remote, ray}]
		if r == nil || name == "" {
			continue
		}
		if name == loopback {
			t.settle(r) // it passed for traffic to another host, and totals do not go back
		}
		r.name = name
		t.credit(r, r.pending)
		r.pending = amount{}
	}
}

// settle leaves what a route moved so far without an interface for good.
func (t *Table) settle(r *Route) {
	if !r.peer.Ray {
		t.unrouted.add(r.pending)
	}
	r.pending = amount{}
}

// Since is what a row's peer counted since an earlier view, and at what rate: own connections between the two readings, those of others
// between their last two.
func (v *View) Since(base *View, r *Row) (d Totals, rate Rate) {
	totals, others := base.Before(r)
	d = r.Totals
	d.subtract(&totals)
	seconds := (v.At - base.At).Seconds()
	if seconds <= 0 {
		return d, Rate{}
	}
	ownSent := d.Sent - (r.Others.Sent - others.Sent)
	ownReceived := d.Received - (r.Others.Received - others.Received)
	rate = Rate{Sent: float64(ownSent) / seconds, Received: float64(ownReceived) / seconds, Known: true}
	if r.Peer.Ray || r.Children > 0 || r.Others != (Totals{}) {
		rate.Sent += r.OthersRate.Sent
		rate.Received += r.OthersRate.Received
		rate.Known = r.OthersRate.Known
	}
	return d, rate
}
