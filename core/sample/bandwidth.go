package sample

// BandwidthTest is one direction of a test of throughput that somebody asked for.
type BandwidthTest struct {
	Tool                   string   `json:"tool"` // netmon, iperf3, speedtest-cli
	Target                 string   `json:"target"`
	Direction              string   `json:"direction"` // transmit, receive: seen from here
	Parallel               *int64   `json:"parallel"`  // connections
	TimestampSeconds       *float64 `json:"timestamp_seconds"`
	Seconds                *float64 `json:"seconds"`
	Bytes                  *uint64  `json:"bytes"` // that the receiver got
	SenderBytesPerSecond   *float64 `json:"sender_bytes_per_second"`
	ReceiverBytesPerSecond *float64 `json:"receiver_bytes_per_second"`
	SegmentsRetransmitted  *uint64  `json:"segments_retransmitted"`
	RTTSeconds             *float64 `json:"rtt_seconds"`
	Error                  *string  `json:"error"`
}

// BandwidthAnswer is what a request for a test is answered.
type BandwidthAnswer struct {
	ID    uint64          `json:"id"`
	Done  bool            `json:"done"`
	Tests []BandwidthTest `json:"tests"`
}
