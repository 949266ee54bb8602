package sample

import "unsafe"

// Phase is what the network did in all parts of the job that were given one name, and that have ended. docs/phases.md says what
// belongs to a part, and how the verdict is found.
type Phase struct {
	Name         string  `json:"name"`
	Count        uint64  `json:"count"` // how often it ended
	Running      uint64  `json:"running"`
	SecondsTotal float64 `json:"seconds_total"`
	// Bytes of counted interfaces.
	ReceiveBytesTotal  *uint64 `json:"receive_bytes_total"`
	TransmitBytesTotal *uint64 `json:"transmit_bytes_total"`
	RDMABytesTotal     *uint64 `json:"rdma_bytes_total"`     // of the node's ports, both directions
	LoopbackBytesTotal *uint64 `json:"loopback_bytes_total"` // of this process's own connections, both directions
	TCPBytesTotal      *uint64 `json:"tcp_bytes_total"`      // the same, to other hosts
	// PeakBytesPerSecond is the highest rate of one direction in a part of some 20 ms.
	PeakBytesPerSecond *float64 `json:"peak_bytes_per_second"`
	PeakRatio          *float64 `json:"peak_ratio"`        // of the capacity
	UtilizationRatio   *float64 `json:"utilization_ratio"` // mean over its time, of the direction that moved more
	BusyRatio          *float64 `json:"busy_ratio"`        // share of its time in which the link was busy
	FullRatio          *float64 `json:"full_ratio"`        // ... in which it carried 80 % of the capacity or more
	// PlateauBytesPerSecond is the rate at which the direction that moved more stayed longest, SteadyRatio for what share of the time.
	PlateauBytesPerSecond *float64 `json:"plateau_bytes_per_second"`
	SteadyRatio           *float64 `json:"steady_ratio"`
	// WaitingRatio is the share of its time in which own connections had data to send that the network did not take.
	WaitingRatio          *float64 `json:"waiting_ratio"`
	SegmentsSent          *uint64  `json:"segments_sent_total"`
	SegmentsRetransmitted *uint64  `json:"segments_retransmitted_total"`
	RetransmitRatio       *float64 `json:"retransmit_ratio"`
	Verdict               *string  `json:"verdict"` // "link-bound", "software-bound", "idle"
	LastSeconds           *float64 `json:"last_seconds"`
	LastReceiveBytes      *uint64  `json:"last_receive_bytes"`
	LastTransmitBytes     *uint64  `json:"last_transmit_bytes"`

	counts [9]uint64 // what the pointers above point to
	reals  [10]float64
	texts  [1]string
}

// PhaseNumbers are the numbers of a Phase: UnknownCount and NaN where they are not known, "" for the verdict.
type PhaseNumbers struct {
	Receive, Transmit, RDMA, Loopback, TCP, Sent, Retransmitted, LastReceive, LastTransmit           uint64
	Peak, PeakRatio, Utilization, Busy, Full, Plateau, Steady, Waiting, RetransmitRatio, LastSeconds float64
	Verdict                                                                                          string
}

// Set writes the numbers of a row. The row points into itself afterwards, so it must not be copied.
func (p *Phase) Set(n *PhaseNumbers) {
	p.counts = [9]uint64{n.Receive, n.Transmit, n.RDMA, n.Loopback, n.TCP, n.Sent, n.Retransmitted, n.LastReceive, n.LastTransmit}
	for i, field := range []**uint64{
		&p.ReceiveBytesTotal, &p.TransmitBytesTotal, &p.RDMABytesTotal, &p.LoopbackBytesTotal, &p.TCPBytesTotal, &p.SegmentsSent,
		&p.SegmentsRetransmitted, &p.LastReceiveBytes, &p.LastTransmitBytes,
	} {
		if p.counts[i] != UnknownCount {
			*field = &p.counts[i]
		}
	}
	p.reals = [10]float64{
		n.Peak, n.PeakRatio, n.Utilization, n.Busy, n.Full, n.Plateau, n.Steady, n.Waiting, n.RetransmitRatio, n.LastSeconds,
	}
	for i, field := range []**float64{
		&p.PeakBytesPerSecond, &p.PeakRatio, &p.UtilizationRatio, &p.BusyRatio, &p.FullRatio, &p.PlateauBytesPerSecond, &p.SteadyRatio,
		&p.WaitingRatio, &p.RetransmitRatio, &p.LastSeconds,
	} {
		if p.reals[i] == p.reals[i] { // not NaN
			*field = &p.reals[i]
		}
	}
	if n.Verdict != "" {
		p.texts[0] = n.Verdict
		p.Verdict = &p.texts[0]
	}
}

// PhaseBytes is the memory of a row in a sample that is kept.
const PhaseBytes = int(unsafe.Sizeof(Phase{}))
