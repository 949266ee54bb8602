package sample

import (
	"slices"
	"time"
	"unsafe"

	"netmon/core/units"
)

// Peer is what the job's own TCP connections to one address tell, without a probe.
//
// Round trip and delivery are those of the connection that moved most bytes in the window, or that was used last where none did:
// numbers that the kernel holds for one socket, not means over several. Counters and ratios cover all connections.
type Peer struct {
	Address string `json:"address"`
	// Rank is the rank that runs at the address, where that is one only; Ranks are all that do.
	Rank  *int64  `json:"rank"`
	Ranks []int64 `json:"ranks"`
	// Process is whose connections these are: "own" (this process and its children) or "ray" (this node's Ray daemons, which its
	// workers share).
	Process                    string   `json:"process"`
	Interface                  *string  `json:"interface"`
	Connections                uint64   `json:"connections"`       // of this process ("ray": of the daemons)
	ChildConnections           uint64   `json:"child_connections"` // of its children, but those it has itself
	SentBytesTotal             *uint64  `json:"sent_bytes_total"`
	ReceivedBytesTotal         *uint64  `json:"received_bytes_total"`
	SentBytesPerSecond         *float64 `json:"sent_bytes_per_second"`
	ReceivedBytesPerSecond     *float64 `json:"received_bytes_per_second"`
	RTTSeconds                 *float64 `json:"rtt_seconds"`
	RTTMinSeconds              *float64 `json:"rtt_min_seconds"`
	RTTVariationSeconds        *float64 `json:"rtt_variation_seconds"`
	SegmentsSentTotal          *uint64  `json:"segments_sent_total"`
	SegmentsRetransmittedTotal *uint64  `json:"segments_retransmitted_total"`
	DuplicatesReportedTotal    *uint64  `json:"duplicates_reported_total"`
	DeliveryBytesPerSecond     *float64 `json:"delivery_bytes_per_second"`
	DeliveryAppLimited         *bool    `json:"delivery_app_limited"`
	ReceiveWindowLimitedRatio  *float64 `json:"receive_window_limited_ratio"`
	SendBufferLimitedRatio     *float64 `json:"send_buffer_limited_ratio"`
	UnsentBytes                *uint64  `json:"unsent_bytes"`
	IdleSeconds                *float64 `json:"idle_seconds"`

	counts     [6]uint64 // what the pointers above point to
	reals      [9]float64
	appLimited bool
}

// OwnPeer is the Process of the connections of this process and its children, RayPeer that of Ray's daemons.
const (
	OwnPeer = "own"
	RayPeer = "ray"
)

// PeerTexts are what hardly changes of a Peer: many samples share them, and none changes them.
type PeerTexts struct {
	Address   string
	Rank      *int64
	Ranks     []int64
	Process   string
	Interface *string
}

// Unknown values of PeerNumbers.
const (
	UnknownNumber  = 1<<64 - 1
	UnknownMicros  = 1<<32 - 1
	UnknownPortion = -1
)

// PeerNumbers are what changes while a peer's connections are used: those of one that is idle stay the same from sample to sample,
// and samples share them.
type PeerNumbers struct {
	Connections, Children uint32
	// Counters and gauges; UnknownNumber where they are not known.
	Sent, Received, Segments, Retransmitted, Reported, Delivery, Unsent uint64
	SentRate, ReceivedRate                                              float64 // bytes per second; UnknownPortion where they are not known
	RTT, RTTMin, RTTVariation                                           uint32  // µs, UnknownMicros where they are not known
	AppLimited                                                          bool    // where Delivery is known
	ReceiveWindow, SendBuffer                                           float64 // ratios; UnknownPortion where they are not known
	// LastUsed is when data was sent or received last, on the monotonic clock; UnknownTime where there was no connection.
	LastUsed time.Duration
}

// Set writes the row of a peer in a sample taken at a time of the monotonic clock. The row points into itself afterwards, so it must
// not be copied.
func (p *Peer) Set(texts *PeerTexts, n *PeerNumbers, now time.Duration) {
	*p = Peer{
		Address: texts.Address, Rank: texts.Rank, Ranks: texts.Ranks, Process: texts.Process, Interface: texts.Interface,
		Connections: uint64(n.Connections), ChildConnections: uint64(n.Children),
	}
	count := func(place int, value uint64) *uint64 {
		if value == UnknownNumber {
			return nil
		}
		p.counts[place] = value
		return &p.counts[place]
	}
	real := func(place int, known bool, value float64) *float64 {
		if !known {
			return nil
		}
		p.reals[place] = value
		return &p.reals[place]
	}
	micros := func(place int, value uint32) *float64 {
		return real(place, value != UnknownMicros, units.Seconds(time.Duration(value)*time.Microsecond))
	}
	p.SentBytesTotal, p.ReceivedBytesTotal = count(0, n.Sent), count(1, n.Received)
	p.SegmentsSentTotal, p.SegmentsRetransmittedTotal = count(2, n.Segments), count(3, n.Retransmitted)
	p.DuplicatesReportedTotal, p.UnsentBytes = count(4, n.Reported), count(5, n.Unsent)
	p.SentBytesPerSecond, p.ReceivedBytesPerSecond = real(0, n.SentRate >= 0, n.SentRate), real(1, n.ReceivedRate >= 0, n.ReceivedRate)
	p.RTTSeconds, p.RTTMinSeconds, p.RTTVariationSeconds = micros(2, n.RTT), micros(3, n.RTTMin), micros(4, n.RTTVariation)
	if p.DeliveryBytesPerSecond = real(5, n.Delivery != UnknownNumber, float64(n.Delivery)); p.DeliveryBytesPerSecond != nil {
		p.appLimited = n.AppLimited
		p.DeliveryAppLimited = &p.appLimited
	}
	p.ReceiveWindowLimitedRatio = real(6, n.ReceiveWindow >= 0, n.ReceiveWindow)
	p.SendBufferLimitedRatio = real(7, n.SendBuffer >= 0, n.SendBuffer)
	p.IdleSeconds = real(8, n.LastUsed != UnknownTime, units.Seconds(max(0, now-n.LastUsed)))
}

// keptPeers is the section peers of a sample that is kept for long.
type keptPeers struct {
	texts   []*PeerTexts
	numbers []*PeerNumbers
	now     time.Duration
}

// KeepPeers gives a sample its section peers. texts and numbers are of the same peers in the same order, own ones first, and not
// changed afterwards.
func (s *Sample) KeepPeers(texts []*PeerTexts, numbers []*PeerNumbers, now time.Duration) {
	s.keptPeers = &keptPeers{texts, numbers, now}
}

// AllPeers is the section peers, however the sample holds it; nil where it was not measured.
func (s *Sample) AllPeers() []Peer {
	if s.keptPeers == nil {
		return s.Peers
	}
	peers := make([]Peer, len(s.keptPeers.texts))
	for i := range peers {
		peers[i].Set(s.keptPeers.texts[i], s.keptPeers.numbers[i], s.keptPeers.now)
	}
	return peers
}

// peerOf is the row of an address's own connections, else of Ray's, nil for none; into has room for it.
func (s *Sample) peerOf(address string, into *Peer) *Peer {
	if s.keptPeers != nil {
		if i := slices.IndexFunc(s.keptPeers.texts, func(t *PeerTexts) bool { return t.Address == address }); i >= 0 {
			into.Set(s.keptPeers.texts[i], s.keptPeers.numbers[i], s.keptPeers.now)
			return into
		}
		return nil
	}
	if i := slices.IndexFunc(s.Peers, func(p Peer) bool { return p.Address == address }); i >= 0 {
		return &s.Peers[i]
	}
	return nil
}

// KeptPeerBytes is the memory of a peer in each sample that is kept, KeptPeerNumbersBytes what it takes beside where its numbers are
// not those of the sample before.
const (
	KeptPeerBytes        = 2 * int(unsafe.Sizeof(uintptr(0)))
	KeptPeerNumbersBytes = int(unsafe.Sizeof(PeerNumbers{}))
)

// Bytes is the memory that texts take.
func (t *PeerTexts) Bytes() int {
	bytes := int(unsafe.Sizeof(*t)) + len(t.Address) + 8*len(t.Ranks)
	if t.Interface != nil {
		bytes += int(unsafe.Sizeof("")) + len(*t.Interface)
	}
	return bytes
}
