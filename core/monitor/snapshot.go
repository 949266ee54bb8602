package monitor

import "math"

// Unknown values of a Snapshot: NaN is the one of its ratios and rates.
const UnknownCount = math.MaxUint64

// Snapshot are the few values that readers get without waiting, in the units their names in netmon_snapshot say.
type Snapshot struct {
	Sequence                      uint64
	WallTimeNanoseconds           uint64
	MonotonicTimeNanoseconds      uint64
	WindowNanoseconds             uint64
	ReceiveBytesTotal             uint64
	TransmitBytesTotal            uint64
	ReceiveBytesPerSecond         float64
	TransmitBytesPerSecond        float64
	PrimaryReceiveBytesPerSecond  float64
	PrimaryTransmitBytesPerSecond float64
	ErrorsInWindow                uint64
	DropsInWindow                 uint64
	TCPRetransmitRatio            float64
	TCPEstablished                uint64
	RTTP50Nanoseconds             uint64
	LossRatio                     float64
	UtilizationRatio              float64
	PeerConnections               uint64
	PeerSentBytesPerSecond        float64
	PeerReceivedBytesPerSecond    float64
	PeerRTTP50Nanoseconds         uint64
	PeerRetransmitRatio           float64
	RDMAReceiveBytesPerSecond     float64
	RDMATransmitBytesPerSecond    float64
	TransportPlane                uint64
}

// The values of TransportPlane.
const (
	planeNone = iota
	planeLoopback
	planeTCP
	planeRDMA
)

// summarizer is a part with values among those that readers get without waiting. It is asked after it filled its sections, and
// sets what it knows: all is unknown before.
type summarizer interface{ summarize(s *Snapshot) }

// UnknownSnapshot is a snapshot in which nothing was measured.
func UnknownSnapshot() Snapshot {
	nan := math.NaN()
	return Snapshot{
		WindowNanoseconds: UnknownCount, ReceiveBytesTotal: UnknownCount, TransmitBytesTotal: UnknownCount,
		ReceiveBytesPerSecond: nan, TransmitBytesPerSecond: nan,
		PrimaryReceiveBytesPerSecond: nan, PrimaryTransmitBytesPerSecond: nan,
		ErrorsInWindow: UnknownCount, DropsInWindow: UnknownCount, TCPRetransmitRatio: nan,
		TCPEstablished: UnknownCount, RTTP50Nanoseconds: UnknownCount, LossRatio: nan,
		UtilizationRatio: nan, PeerConnections: UnknownCount, PeerSentBytesPerSecond: nan, PeerReceivedBytesPerSecond: nan,
		PeerRTTP50Nanoseconds: UnknownCount, PeerRetransmitRatio: nan,
		RDMAReceiveBytesPerSecond: nan, RDMATransmitBytesPerSecond: nan, TransportPlane: UnknownCount,
	}
}

func count(value *uint64) uint64 {
	if value == nil {
		return UnknownCount
	}
	return *value
}

func real(value *float64) float64 {
	if value == nil {
		return math.NaN()
	}
	return *value
}
