package sample

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
}
