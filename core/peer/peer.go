// Package peer makes peers of sockets: what the TCP connections of a process, of its children and of this node's Ray daemons have sent
// and received, summed by the address at their other end.
//
// It is told of readings of sockets (package tcpinfo) and reads nothing itself. The kernel counts for each socket since its beginning;
// totals here begin with the table and outlive the sockets. Not safe for concurrent use; a View is not changed once it was made.
package peer

import (
	"net/netip"
	"slices"
	"time"

	"netmon/core/tcpinfo"
)

// Origin says whose connection one is.
type Origin uint8

// The origins. What a process shares with its children, or with a daemon, is its own.
const (
	Own Origin = iota
	Child
	Ray
)

// Bounds of a table.
const (
	MostPeers   = 1024
	mostMissing = 4096 // connections that are remembered for a while after they were gone
	mostRoutes  = 4096

	loopback = "lo" // until the kernel is asked, which may know it by another name
	// keep is how long a peer is told of after its last connection.
	keep = 600 * time.Second
	// keepMissing is how long a connection that no reading finds is remembered: it may have been passed to a child, which is read less
	// often, or moved to another descriptor behind a reading's back.
	keepMissing = 15 * time.Second
	// margin is what the kernel's clocks of a socket, which tick every 1 to 10 ms, may be wrong by.
	margin = 20 * time.Millisecond
)

// Totals are what was counted of a peer.
type Totals struct {
	Sent, Received                  uint64 // bytes of data, each once however often it was sent
	Segments, Retransmits, Reported uint64 // segments sent, of them again, and reported as duplicates
	Busy, ReceiveWindow, SendBuffer uint64 // µs with data to send, and of them held up
}

func (t *Totals) add(d *Totals) {
	t.Sent += d.Sent
	t.Received += d.Received
	t.Segments += d.Segments
	t.Retransmits += d.Retransmits
	t.Reported += d.Reported
	t.Busy += d.Busy
	t.ReceiveWindow += d.ReceiveWindow
	t.SendBuffer += d.SendBuffer
}

func (t *Totals) subtract(d *Totals) {
	t.Sent -= d.Sent
	t.Received -= d.Received
	t.Segments -= d.Segments
	t.Retransmits -= d.Retransmits
	t.Reported -= d.Reported
	t.Busy -= d.Busy
	t.ReceiveWindow -= d.ReceiveWindow
	t.SendBuffer -= d.SendBuffer
}

// Peer is whom connections lead to.
type Peer struct {
	Address netip.Addr
	Ray     bool // connections of Ray's daemons

	serial     uint64
	totals     Totals
	others     Totals // of totals, what children (or daemons) counted
	rate       Rate   // of others
	before     Totals // others at the reading before the last
	last       time.Duration
	emptySince time.Duration
	empty      bool
	interfaces []share // by interface
	row        *Row    // while a view is made
	most       *connection
}

// share is what went by one interface.
type share struct {
	name string
	amount
}

// amount is how many bytes moved, and how many of them were children's.
type amount struct{ bytes, others uint64 }

func (a *amount) add(b amount) {
	a.bytes += b.bytes
	a.others += b.others
}

// Rate is bytes per second; it is only known where Known is.
type Rate struct {
	Sent, Received float64
	Known          bool
}

// Route is between what addresses a connection is. Which interface that is has to be looked up, which the table's owner does.
type Route struct {
	Local, Remote netip.Addr

	name    string // "" while it is not known
	pending amount // that is no interface's yet
	peer    *Peer
	flow    othersFlow
}

// othersFlow is what the connections of other processes moved from one of their readings to the next.
type othersFlow struct {
	bytes, before uint64
	perSecond     float64
}

// measure ends a reading.
func (f *othersFlow) measure(elapsed time.Duration) {
	f.perSecond = 0
	if elapsed > 0 {
		f.perSecond = float64(f.bytes-f.before) / elapsed.Seconds()
	}
	f.before = f.bytes
}

// connection is one socket.
type connection struct {
	cookie        uint64
	peer          *Peer // nil where there were too many
	local, remote netip.AddrPort
	route         *Route
	origin        Origin
	seen          uint64 // number of the reading of its kind that found it last
	readAt        time.Duration
	missing       bool
	missingSince  time.Duration
	connected     bool
	fin           bool // one of BytesReceived is the other end's FIN
	info          tcpinfo.Info
	moved         uint64 // bytes since the table knows it
	mark          uint64 // moved when the window began
	marked        uint64 // window that mark belongs to
}

// Table follows connections from reading to reading.
type Table struct {
	connections []*connection // places that are free are nil
	free        []int
	byCookie    map[uint64]int // place
	peers       []*Peer        // by serial
	byKey       map[key]*Peer
	routes      map[routeKey]*Route
	planes      []share
	unrouted    amount     // that will be no interface's: of routes that were too many, or that nobody knew
	flow        othersFlow // of routes that were too many
	missing     int
	serial      uint64
	window      uint64
	nameless    bool                // a route has no interface yet
	host        map[netip.Addr]bool // addresses of this host, where they are known

	own    readings
	others readings
	known  tcpinfo.Info // of any socket: which fields its kernel has
	views  uint64
}

// readings follows the readings of one kind.
type readings struct {
	number   uint64
	complete bool          // one was finished
	began    time.Duration // when the last one that was finished began
	current  time.Duration // when this one did
}

type key struct {
	address netip.Addr
	ray     bool
}

type routeKey struct {
	local, remote netip.Addr
	ray           bool
}

// NewTable returns an empty table.
func NewTable() *Table {
	return &Table{byCookie: make(map[uint64]int), byKey: make(map[key]*Peer), routes: make(map[routeKey]*Route), window: 1}
}

// Remembered is how many connections the table knows, with those that are gone.
func (t *Table) Remembered() int { return len(t.byCookie) }

// NewWindow says that a window begins: the connection that moved most bytes is that which did since the reading before.
func (t *Table) NewWindow() { t.window++ }

// SetHost says which addresses this host has. The table does not change them.
func (t *Table) SetHost(addresses map[netip.Addr]bool) { t.host = addresses }

// BeginOwn begins a reading of the process's own sockets.
func (t *Table) BeginOwn(now time.Duration) {
	t.own.number++
	t.own.current = now
}

// TakeOwn counts one of them.
func (t *Table) TakeOwn(s *tcpinfo.Socket) {
	if s.Place == 0 || s.Place > len(t.connections) || t.connections[s.Place-1] == nil || t.connections[s.Place-1].cookie != s.Cookie {
		s.Place = t.find(s, Own, &t.own) + 1
	}
	c := t.connections[s.Place-1]
	t.take(c, &s.Info, Own, &t.own)
}

// EndOwn ends the reading, which found all there were.
func (t *Table) EndOwn(now time.Duration) {
	t.own.complete, t.own.began = true, t.own.current
	t.sweep(now)
}

// BeginOthers begins a reading of sockets of other processes, at the time they were read.
func (t *Table) BeginOthers(now time.Duration) {
	t.others.number++
	t.others.current = now
}

// TakeOther counts one of them, unless the process has it as well.
func (t *Table) TakeOther(s *tcpinfo.Socket, origin Origin) {
	if place, known := t.byCookie[s.Cookie]; known {
		// What was read before the process closed it is no news.
		if c := t.connections[place]; c.origin == Own && !c.missing || c.readAt > t.others.current {
			return
		}
	}
	t.take(t.connections[t.find(s, origin, &t.others)], &s.Info, origin, &t.others)
}

// EndOthers ends the reading.
func (t *Table) EndOthers(now time.Duration) {
	elapsed := t.others.current - t.others.began
	if !t.others.complete {
		elapsed = 0
	}
	for _, r := range t.routes {
		r.flow.measure(elapsed)
	}
	t.flow.measure(elapsed)
	for _, p := range t.peers {
		p.rate = Rate{}
		if elapsed > 0 {
			p.rate = Rate{
				Sent:     float64(p.others.Sent-p.before.Sent) / elapsed.Seconds(),
				Received: float64(p.others.Received-p.before.Received) / elapsed.Seconds(),
				Known:    true,
			}
		}
		p.before = p.others
	}
	t.others.complete, t.others.began = true, t.others.current
	t.sweep(now)
}

// LoseOthers says that a reading of them failed: at what rate their connections move bytes is not known.
func (t *Table) LoseOthers() {
	for _, p := range t.peers {
		p.rate = Rate{}
	}
}

// find returns the place of a socket, a new one where it is not known.
func (t *Table) find(s *tcpinfo.Socket, origin Origin, r *readings) (place int) {
	if place, known := t.byCookie[s.Cookie]; known {
		c := t.connections[place]
		if c.remote == s.Remote && c.local == s.Local && (c.peer == nil || c.peer.Ray == (origin == Ray)) {
			return place
		}
		t.release(place) // the same socket with another connection, or in other hands
	}
	c := &connection{cookie: s.Cookie, local: s.Local, remote: s.Remote, origin: origin}
	if c.peer = t.peer(s.Remote.Addr(), origin == Ray); c.peer != nil {
		c.route = t.route(c.peer, s.Local.Addr())
	}
	// What the kernel counted before does not belong to the table's time.
	if !r.complete || olderThan(&s.Info, r.current-r.began) {
		c.info = s.Info
		c.fin = s.Info.State.FinReceived()
	}
	if n := len(t.free); n > 0 {
		place, t.free = t.free[n-1], t.free[:n-1]
		t.connections[place] = c
	} else {
		place = len(t.connections)
		t.connections = append(t.connections, c)
	}
	t.byCookie[s.Cookie] = place
	return place
}

// olderThan tells whether a socket's own clocks show that its handshake was done before the last reading that did not find it: it was
// in other hands then.
func olderThan(i *tcpinfo.Info, elapsed time.Duration) bool {
	elapsed += margin
	return i.Idle() > elapsed || time.Duration(i.BusyTime)*time.Microsecond > elapsed
}

func (t *Table) peer(address netip.Addr, ray bool) *Peer {
	k := key{address, ray}
	if p := t.byKey[k]; p != nil {
		return p
	}
	if len(t.peers) >= MostPeers {
		return nil
	}
	t.serial++
	p := &Peer{Address: address, Ray: ray, serial: t.serial}
	t.byKey[k] = p
	t.peers = append(t.peers, p)
	return p
}

func (t *Table) route(p *Peer, local netip.Addr) *Route {
	k := routeKey{local, p.Address, p.Ray}
	r := t.routes[k]
	if r != nil || len(t.routes) >= mostRoutes {
		return r
	}
	r = &Route{Local: local, Remote: p.Address, peer: p}
	t.routes[k] = r
	if p.Address.IsLoopback() || p.Address == local || t.host[p.Address.WithZone("")] {
		r.name = loopback // the kernel has no other way there, and what goes there must not pass for traffic to another host
	} else {
		t.nameless = true
	}
	return r
}

// take counts what a connection did since its last reading.
func (t *Table) take(c *connection, now *tcpinfo.Info, origin Origin, r *readings) {
	c.seen, c.readAt, c.origin = r.number, r.current, origin
	if c.missing {
		c.missing = false
		t.missing--
	}
	t.known = *now
	c.connected = now.State.Connected()
	d := c.difference(now)
	if c.marked != t.window {
		c.mark, c.marked = c.moved, t.window
	}
	c.moved += d.Sent + d.Received
	if c.peer == nil {
		return
	}
	c.peer.totals.add(&d)
	if origin != Own {
		c.peer.others.add(&d)
	}
	moved, flow := amount{bytes: d.Sent + d.Received}, &t.flow
	if c.route != nil {
		flow = &c.route.flow
	}
	if origin != Own && !c.peer.Ray {
		moved.others = moved.bytes
		flow.bytes += moved.bytes
	}
	if c.route != nil {
		t.credit(c.route, moved)
	} else if !c.peer.Ray {
		t.unrouted.add(moved)
	}
}

// credit counts what a route moved for its interface.
func (t *Table) credit(r *Route, moved amount) {
	if r.name == "" {
		r.pending.add(moved)
		return
	}
	add(&r.peer.interfaces, r.name, moved)
	if !r.peer.Ray {
		add(&t.planes, r.name, moved)
	}
}

func add(shares *[]share, name string, moved amount) {
	i := slices.IndexFunc(*shares, func(s share) bool { return s.name == name })
	if i < 0 {
		*shares = append(*shares, share{name: name})
		i = len(*shares) - 1
	}
	(*shares)[i].add(moved)
}

// difference is what a connection did since its last reading, which this one becomes.
func (c *connection) difference(now *tcpinfo.Info) (d Totals) {
	before := &c.info
	if now.BytesReceived < before.BytesReceived || now.BytesSent < before.BytesSent || now.BytesAcked < before.BytesAcked {
		// The same socket has connected to the same address anew.
		*before, c.fin = tcpinfo.Info{}, false
	}
	sentNow, sentBefore := sentBytes(now), sentBytes(before)
	if sentNow > sentBefore {
		d.Sent = sentNow - sentBefore
	}
	d.Received = now.BytesReceived - before.BytesReceived
	// A connection that is over has had the other end's FIN, but for one that was reset.
	if !c.fin && (now.State.FinReceived() || now.State == tcpinfo.Close) {
		c.fin = true
		d.Received -= min(d.Received, 1)
	}
	d.Segments = grown(before.SegmentsSent, now.SegmentsSent)
	d.Retransmits = grown(before.Retransmits, now.Retransmits)
	d.Reported = grown(before.DuplicatesReported, now.DuplicatesReported)
	d.Busy = now.BusyTime - min(now.BusyTime, before.BusyTime)
	d.ReceiveWindow = now.ReceiveWindowTime - min(now.ReceiveWindowTime, before.ReceiveWindowTime)
	d.SendBuffer = now.SendBufferTime - min(now.SendBufferTime, before.SendBufferTime)
	c.info = *now
	if sentNow < sentBefore { // a segment that could not be sent again is counted as if it had been
		c.info.BytesRetransmitted = now.BytesSent - min(now.BytesSent, sentBefore)
	}
	return d
}

// sentBytes is the data that was sent, each byte once. Before Linux 4.19 it is what was acknowledged.
func sentBytes(i *tcpinfo.Info) uint64 {
	if i.HasSent() {
		return i.BytesSent - min(i.BytesSent, i.BytesRetransmitted)
	}
	return i.BytesAcked
}

// grown is the difference of two readings of a counter of 32 bits, which wraps.
func grown(before, now uint32) uint64 {
	if now < before && before-now < 1<<31 { // went back: it began anew
		return uint64(now)
	}
	return uint64(now - before)
}

// sweep notes which connections are gone, and forgets those that were gone long ago.
func (t *Table) sweep(now time.Duration) {
	for place, c := range t.connections {
		if c == nil {
			continue
		}
		r := &t.own
		if c.origin != Own {
			r = &t.others
		}
		if !c.missing && c.seen != r.number {
			c.missing, c.missingSince, c.connected = true, now, false
			t.missing++
		}
		if c.missing && (now-c.missingSince > keepMissing || t.missing > mostMissing) {
			t.release(place)
		}
	}
}

func (t *Table) release(place int) {
	c := t.connections[place]
	if c.missing {
		t.missing--
	}
	delete(t.byCookie, c.cookie)
	t.connections[place] = nil
	t.free = append(t.free, place)
}
