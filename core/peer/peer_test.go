package peer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/tcpinfo"
)

// world is a table with the sockets that a test sets, a second between two readings.
type world struct {
	*Table
	t       *testing.T
	now     time.Duration
	sockets map[uint64]*tcpinfo.Socket
	others  map[uint64]Origin // of sockets that are not this process's
}

func newWorld(t *testing.T) *world {
	return &world{
		Table: NewTable(), t: t, now: time.Hour, sockets: make(map[uint64]*tcpinfo.Socket), others: make(map[uint64]Origin),
	}
}

// info is a struct tcp_info of a new kernel.
func info() (i tcpinfo.Info) {
	i.ParseInfo(make([]byte, 232))
	i.State, i.MinRTT = tcpinfo.Established, tcpinfo.NoRTT
	return i
}

func (w *world) open(cookie uint64, remote string) *tcpinfo.Socket {
	s := &tcpinfo.Socket{
		Cookie: cookie, Local: netip.MustParseAddrPort("10.0.0.1:5000"), Remote: netip.MustParseAddrPort(remote), Info: info(),
	}
	w.sockets[cookie] = s
	return s
}

func (w *world) read() *View {
	w.now += time.Second
	w.BeginOwn(w.now)
	for cookie, s := range w.sockets {
		if _, other := w.others[cookie]; !other {
			w.TakeOwn(s)
		}
	}
	w.EndOwn(w.now)
	return w.View(0)
}

func (w *world) readOthers() {
	w.BeginOthers(w.now)
	for cookie, origin := range w.others {
		if s := w.sockets[cookie]; s != nil {
			w.TakeOther(s, origin)
		}
	}
	w.EndOthers(w.now)
}

func (w *world) row(v *View, address string, ray bool) *Row {
	w.t.Helper()
	for i := range v.Rows {
		if v.Rows[i].Peer.Address.String() == address && v.Rows[i].Peer.Ray == ray {
			return &v.Rows[i]
		}
	}
	require.Fail(w.t, "no row of "+address)
	return nil
}

const far = "10.0.0.2"

func TestTable_whereTotalsBegin(t *testing.T) {
	w := newWorld(t)
	w.open(1, far+":1").Info.BytesSent = 1000 // older than the table
	assert.Zero(t, w.row(w.read(), far, false).Totals.Sent)
	w.sockets[1].Info.BytesSent = 1500
	w.open(2, far+":1").Info.BytesSent = 70 // new
	old := w.open(3, far+":1")              // passed on: nothing moved since the reading before
	old.Info.BytesSent, old.Info.LastDataSent, old.Info.LastDataReceived = 9000, 5000, 1100
	busy := w.open(4, far+":1") // passed on: busy for longer than the time since
	busy.Info.BytesSent, busy.Info.BusyTime = 9000, 2_000_000
	quiet := w.open(5, far+":1") // it has only ever sent
	quiet.Info.BytesSent, quiet.Info.LastDataReceived = 7, 1000
	assert.Equal(t, uint64(577), w.row(w.read(), far, false).Totals.Sent)
	old.Info.BytesSent += 3
	delete(w.sockets, 2)
	v := w.read()
	assert.Equal(t, uint64(580), w.row(v, far, false).Totals.Sent, "totals outlive sockets")
	assert.Equal(t, uint64(4), w.row(v, far, false).Connections)
	assert.Equal(t, 4, v.Sockets)
}

func TestTable_differences(t *testing.T) {
	w := newWorld(t)
	s := w.open(1, far+":1")
	w.read()
	s.Info.BytesSent, s.Info.BytesRetransmitted, s.Info.Retransmits = 5000, 1000, 2
	s.Info.SegmentsSent = 1<<32 - 3
	s.Info.BytesReceived = 100
	w.read()
	s.Info.SegmentsSent = 4                                        // it wrapped
	s.Info.BytesRetransmitted += 10                                // counted, and could not be sent
	s.Info.BytesReceived, s.Info.State = 121, tcpinfo.CloseWait    // with a FIN
	s.Info.ReceiveWindowTime, s.Info.BusyTime = 500_000, 1_000_000 // µs
	totals := w.row(w.read(), far, false).Totals
	assert.Equal(t, Totals{
		Sent: 4000, Received: 120, Segments: 1<<32 + 4, Retransmits: 2, Busy: 1_000_000, ReceiveWindow: 500_000,
	}, totals)
	s.Info.BytesSent += 11 // of which 10 were counted as sent again
	assert.Equal(t, uint64(4001), w.row(w.read(), far, false).Totals.Sent)

	// The same socket connects anew to the same end, and then to another.
	s.Info = info()
	s.Info.BytesSent, s.Info.Retransmits = 5, 1
	totals = w.row(w.read(), far, false).Totals
	assert.Equal(t, uint64(4006), totals.Sent)
	assert.Equal(t, uint64(3), totals.Retransmits)
	delete(w.sockets, 1)
	w.open(1, "10.0.0.3:1").Info.BytesSent = 9
	v := w.read()
	assert.Equal(t, uint64(4006), w.row(v, far, false).Totals.Sent)
	assert.Equal(t, uint64(9), w.row(v, "10.0.0.3", false).Totals.Sent)
}

func TestTable_connectionThatIsShown(t *testing.T) {
	w := newWorld(t)
	for cookie := uint64(1); cookie <= 3; cookie++ {
		s := w.open(cookie, far+":1")
		s.Info.RTT, s.Info.MinRTT, s.Info.UnsentBytes = uint32(cookie*100), uint32(cookie*10), 5
		s.Info.LastDataSent, s.Info.LastDataReceived = uint32(cookie*200), uint32(cookie*300)
	}
	row := w.row(w.read(), far, false)
	assert.Equal(t, uint32(100), row.Most.RTT, "used last")
	assert.Equal(t, uint32(10), row.MinRTT)
	assert.Equal(t, uint64(15), row.Unsent)
	assert.Equal(t, w.now-200*time.Millisecond, row.LastUsed)
	w.NewWindow()
	w.sockets[3].Info.BytesReceived = 5000
	w.sockets[2].Info.BytesSent = 10
	assert.Equal(t, uint32(300), w.row(w.read(), far, false).Most.RTT, "moved most")
	w.sockets[2].Info.BytesSent = 1000
	assert.Equal(t, uint32(300), w.row(w.read(), far, false).Most.RTT, "in the window, not since the last reading")
	w.NewWindow()
	w.sockets[2].Info.BytesSent = 2000
	assert.Equal(t, uint32(200), w.row(w.read(), far, false).Most.RTT)
}

func TestTable_othersAndRates(t *testing.T) {
	w := newWorld(t)
	own := w.open(1, far+":1")
	w.open(2, far+":1")
	w.open(3, far+":1")
	w.others[2], w.others[3] = Child, Ray
	w.readOthers()
	before := w.read()
	own.Info.BytesSent = 1000
	w.sockets[2].Info.BytesSent = 5000
	w.sockets[3].Info.BytesSent = 70_000
	w.now += 4 * time.Second
	w.readOthers() // 5 s later
	v := w.read()
	row := w.row(v, far, false)
	assert.Equal(t, uint64(1), row.Connections)
	assert.Equal(t, uint64(1), row.Children)
	assert.Equal(t, uint64(6000), row.Totals.Sent)
	_, rate := v.Since(before, row)
	assert.True(t, rate.Known)
	assert.InDelta(t, 1000.0/5+5000.0/5, rate.Sent, 1e-9, "own over the window, of others over theirs")
	_, rate = v.Since(before, w.row(v, far, true))
	assert.InDelta(t, 70_000/5.0, rate.Sent, 1e-9)
	assert.True(t, v.Rows[1].Peer.Ray, "own rows first")
	assert.Equal(t, []Plane{{Bytes: 6000, Others: 5000, OthersPerSecond: 1000}}, v.Planes, "without the daemons'")
	w.Name(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr(far), "eth0")
	own.Info.BytesSent = 1500
	v = w.read()
	assert.Equal(t, []Plane{{Interface: "eth0", Bytes: 6500, Others: 5000, OthersPerSecond: 1000}}, v.Planes)
	assert.Equal(t, "eth0", w.row(v, far, false).Interface)

	// A child takes a connection over; what it had counted here is not counted again.
	w.others[1] = Child
	w.read()
	own.Info.BytesSent = 1700
	w.readOthers()
	assert.Equal(t, uint64(6700), w.row(w.read(), far, false).Totals.Sent)
}

// The other end's FIN is no data, also where this end closed first and the connection is over when it is read next.
func TestTable_closedAtBothEnds(t *testing.T) {
	w := newWorld(t)
	w.read()
	s := w.open(1, far+":1")
	s.Info.BytesReceived = 10
	w.read()
	s.Info.State = tcpinfo.FinWait2
	w.read()
	s.Info.State, s.Info.BytesReceived = tcpinfo.Close, 31
	assert.Equal(t, uint64(30), w.row(w.read(), far, false).Totals.Received)
	delete(w.sockets, 1)
	assert.Equal(t, uint64(30), w.row(w.read(), far, false).Totals.Received)
}

// What was told as carried to other hosts does not go back.
func TestTable_planesNeverGoBack(t *testing.T) {
	w := newWorld(t)
	w.read()
	s := w.open(1, far+":1")
	s.Info.BytesSent = 1000
	assert.Equal(t, []Plane{{Bytes: 1000}}, w.read().Planes)
	w.Name(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr(far), "lo") // an address of this host, as it turns out
	s.Info.BytesSent = 1100
	assert.Equal(t, []Plane{{Interface: "lo", Bytes: 100}, {Bytes: 1000}}, w.read().Planes)
	w.open(2, "10.0.0.3:1").Info.BytesSent = 10 // nobody knows by which interface
	assert.Equal(t, []Plane{{Interface: "lo", Bytes: 100}, {Bytes: 1010}}, w.read().Planes)
	clear(w.sockets)
	w.read()
	w.now += keep
	v := w.read()
	assert.Empty(t, v.Rows)
	assert.Equal(t, []Plane{{Interface: "lo", Bytes: 100}, {Bytes: 1010}}, v.Planes)
}

// What goes to another of this host's addresses is loopback's from the beginning.
func TestTable_otherAddressOfThisHost(t *testing.T) {
	w := newWorld(t)
	w.SetHost(map[netip.Addr]bool{netip.MustParseAddr(far): true, netip.MustParseAddr("fe80::2"): true})
	w.read()
	w.open(1, far+":1").Info.BytesSent = 100
	w.open(2, "[fe80::2%3]:1").Info.BytesSent = 20
	w.open(3, "10.0.0.3:1").Info.BytesSent = 3
	assert.Equal(t, []Plane{{Interface: "lo", Bytes: 120}, {Bytes: 3}}, w.read().Planes)
}

// At what rate children move bytes is known from their second reading on, until one fails.
func TestTable_othersRates(t *testing.T) {
	w := newWorld(t)
	w.read()
	w.open(1, far+":1").Info.BytesSent = 1000
	w.others[1] = Child
	w.readOthers()
	assert.True(t, w.read().OthersUnrated)
	w.readOthers()
	before := w.read()
	assert.False(t, before.OthersUnrated)
	w.LoseOthers()
	v := w.read()
	assert.True(t, v.OthersUnrated)
	_, rate := v.Since(before, w.row(v, far, false))
	assert.False(t, rate.Known)
}

func TestTable_bounds(t *testing.T) {
	w := newWorld(t)
	for i := range MostPeers + 10 {
		w.open(uint64(i+1), fmt.Sprintf("10.1.%d.%d:1", i/256, i%256)).Info.BytesSent = 1
	}
	v := w.read()
	assert.Len(t, v.Rows, MostPeers)
	assert.Equal(t, 10, v.HiddenPeers)
	assert.Equal(t, MostPeers+10, v.Sockets)
	clear(w.sockets)
	for i := range 3 * mostMissing {
		w.open(uint64(10_000+i), far+":1")
	}
	w.read()
	clear(w.sockets)
	w.read()
	assert.LessOrEqual(t, w.Remembered(), mostMissing)
	places := len(w.connections)
	for range 20 {
		w.read()
	}
	assert.Zero(t, w.Remembered())
	for i := range 3 * mostMissing {
		w.open(uint64(50_000+i), far+":1")
	}
	w.read()
	assert.Len(t, w.connections, places, "places are used again")
	clear(w.sockets)
	w.now += keep
	w.read()
	w.now += keep
	assert.Empty(t, w.read().Rows, "rows vanish")
	assert.Empty(t, w.routes)
	assert.Empty(t, w.byKey)
}
