package sample

// RDMAPort is one port of an RDMA device. Its counters are the node's, not this process's.
type RDMAPort struct {
	Device                 string    `json:"device"`
	Port                   int64     `json:"port"`
	Driver                 *string   `json:"driver"`
	LinkLayer              *string   `json:"link_layer"`     // the kernel's words: InfiniBand, Ethernet, Unspecified (EFA)
	State                  *string   `json:"state"`          // active, down, init, armed, active_defer
	PhysicalState          *string   `json:"physical_state"` // link_up, disabled, polling...
	RateBitsPerSecond      *uint64   `json:"rate_bits_per_second"`
	Interface              *string   `json:"interface"` // the network interface of the same port, of RoCE and IPoIB
	GIDs                   []RDMAGID `json:"gids"`
	ReceiveBytesTotal      *uint64   `json:"receive_bytes_total"`
	TransmitBytesTotal     *uint64   `json:"transmit_bytes_total"`
	ReceiveBytesPerSecond  *float64  `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond *float64  `json:"transmit_bytes_per_second"`
	// Counters are counted since the monitor started, by the kernel's names; CountersPerSecond the same over the window.
	Counters          map[string]uint64  `json:"counters"`
	CountersPerSecond map[string]float64 `json:"counters_per_second"`
	WindowSeconds     *float64           `json:"window_seconds"`
}

// RDMAGID is one address of a port.
type RDMAGID struct {
	Index     int64   `json:"index"`
	GID       string  `json:"gid"`
	Type      *string `json:"type"` // the kernel's words: "IB/RoCE v1", "RoCE v2"
	Interface *string `json:"interface"`
}

// PCIe is the link of a network device or GPU to its machine.
type PCIe struct {
	Address                      string   `json:"address"` // 0000:3b:00.0
	Kind                         string   `json:"kind"`    // network, gpu
	Names                        []string `json:"names"`   // interfaces and RDMA devices behind it
	CurrentTransfersPerSecond    *float64 `json:"current_transfers_per_second"`
	MaximumTransfersPerSecond    *float64 `json:"maximum_transfers_per_second"`
	CurrentLanes                 *int64   `json:"current_lanes"`
	MaximumLanes                 *int64   `json:"maximum_lanes"`
	CurrentCapacityBitsPerSecond *uint64  `json:"current_capacity_bits_per_second"` // lanes by transfers, less the line code
	Limited                      *bool    `json:"limited"`                          // fewer lanes, or slower ones, than the device can use
}

// NVLink is the traffic of one GPU's NVLinks, all of them together.
type NVLink struct {
	GPU                    int64    `json:"gpu"`
	UUID                   *string  `json:"uuid"`
	LinksActive            *int64   `json:"links_active"`
	ReceiveBytesTotal      *uint64  `json:"receive_bytes_total"`
	TransmitBytesTotal     *uint64  `json:"transmit_bytes_total"`
	ReceiveBytesPerSecond  *float64 `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond *float64 `json:"transmit_bytes_per_second"`
	WindowSeconds          *float64 `json:"window_seconds"`
}
