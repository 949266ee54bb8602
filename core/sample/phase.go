package sample

// Phase is what the network did in all parts of the job that were given one name.
type Phase struct {
	Name               string  `json:"name"`
	Count              uint64  `json:"count"` // how often it ended
	Running            uint64  `json:"running"`
	SecondsTotal       float64 `json:"seconds_total"`
	ReceiveBytesTotal  *uint64 `json:"receive_bytes_total"`
	TransmitBytesTotal *uint64 `json:"transmit_bytes_total"`
	RDMABytesTotal     *uint64 `json:"rdma_bytes_total"`
	LoopbackBytesTotal *uint64 `json:"loopback_bytes_total"` // of the job's own connections
	TCPBytesTotal      *uint64 `json:"tcp_bytes_total"`      // of the job's own connections
	// PeakBytesPerSecond is the highest rate of one direction in a part of some 20 ms.
	PeakBytesPerSecond    *float64 `json:"peak_bytes_per_second"`
	UtilizationRatio      *float64 `json:"utilization_ratio"` // mean over its time, of the direction that moved more
	BusyRatio             *float64 `json:"busy_ratio"`        // share of its time in which the link was busy
	SegmentsRetransmitted *uint64  `json:"segments_retransmitted_total"`
	RetransmitRatio       *float64 `json:"retransmit_ratio"`
	Verdict               *string  `json:"verdict"` // "link-bound", "software-bound", "idle"
	LastSeconds           *float64 `json:"last_seconds"`
	LastReceiveBytes      *uint64  `json:"last_receive_bytes"`
	LastTransmitBytes     *uint64  `json:"last_transmit_bytes"`
}
