package sample

// Transport says which plane carries the job's traffic.
type Transport struct {
	Plane     *string `json:"plane"` // rdma, tcp, loopback, none
	Interface *string `json:"interface"`
	Reason    *string `json:"reason"`
	// Bytes per plane, both directions added: tcp and loopback are those of Peers, rdma those of the node's ports.
	RDMABytesTotal         *uint64  `json:"rdma_bytes_total"`
	TCPBytesTotal          *uint64  `json:"tcp_bytes_total"`
	LoopbackBytesTotal     *uint64  `json:"loopback_bytes_total"`
	RDMABytesPerSecond     *float64 `json:"rdma_bytes_per_second"`
	TCPBytesPerSecond      *float64 `json:"tcp_bytes_per_second"`
	LoopbackBytesPerSecond *float64 `json:"loopback_bytes_per_second"`
	// RDMAIdleReason says why no RDMA port carries anything, nil where one does.
	RDMAIdleReason *string `json:"rdma_idle_reason"`
	// Shares are the parts of the bytes of interfaces that count and are up, largest first.
	Shares []InterfaceShare `json:"shares"`
	// WrongInterface says what is wrong with the interface that the job uses, nil where nothing seems to be.
	WrongInterface *string `json:"wrong_interface"`
	// Advice names the setting that would change it.
	Advice *string `json:"advice"`
}

// InterfaceShare is one interface's part of the traffic.
type InterfaceShare struct {
	Interface string   `json:"interface"`
	Ratio     *float64 `json:"ratio"`
}
