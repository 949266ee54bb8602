// Package sample is the sample document: its types, its JSON and its metrics by name.
//
// The JSON names are a contract (schema "netmon.sample/1"): fields may be added, never renamed. Units are in the names:
// _bytes, _bytes_per_second, _bits_per_second (link speeds only), _seconds, _ratio (0 to 1), _total (counted since the monitor
// started, or since the thing counted appeared). A nil pointer, slice or section is JSON null and means "not measured";
// Unavailable holds the reason. docs/metrics.md describes every field. The package measures nothing.
package sample

// Schema names the form of the document.
const Schema = "netmon.sample/1"

// Sample is what was measured at one moment. It is not changed after it was published.
type Sample struct {
	Schema           string   `json:"schema"`
	Sequence         uint64   `json:"sequence"`
	TimestampSeconds float64  `json:"timestamp_seconds"`
	MonotonicSeconds float64  `json:"monotonic_seconds"`
	WindowSeconds    *float64 `json:"window_seconds"`
	// CollectiveRatio is the share of the window in which collectives were under way, as far as they have ended.
	CollectiveRatio *float64 `json:"collective_ratio"`
	// CollectivePending is what is under way for long; nil where nothing is, or where nobody tells.
	CollectivePending *CollectivePending `json:"collective_pending"`

	Host           *Host             `json:"host"`
	Job            *Job              `json:"job"`
	Totals         *Totals           `json:"totals"`
	Interfaces     []*Interface      `json:"interfaces"`
	TCP            *TCP              `json:"tcp"`
	UDP            *UDP              `json:"udp"`
	IP             *IP               `json:"ip"`
	Sockets        *Sockets          `json:"sockets"`
	Probes         []Probe           `json:"probes"`
	Peers          []Peer            `json:"peers"`
	RDMA           []RDMAPort        `json:"rdma"`
	PCIe           []PCIe            `json:"pcie"`
	NVLink         []NVLink          `json:"nvlink"`
	Collectives    []Collective      `json:"collectives"`
	Phases         []Phase           `json:"phases"`
	Transport      *Transport        `json:"transport"`
	BandwidthTests []BandwidthTest   `json:"bandwidth_tests"`
	Findings       []Finding         `json:"findings"`
	Self           *Self             `json:"self"`
	Unavailable    map[string]string `json:"unavailable"`

	unavailable []byte // its JSON, for one that many samples share
	kept        *keptProbes
	keptPeers   *keptPeers
	keptRDMA    []KeptRDMAPort
}

// Host says where the sample was taken.
type Host struct {
	Hostname         *string `json:"hostname"`
	OS               string  `json:"os"`
	Kernel           *string `json:"kernel"`
	BootID           *string `json:"boot_id"`
	NetworkNamespace *uint64 `json:"network_namespace"`
}

// Job says which process of which training job this is.
type Job struct {
	Rank           *int64  `json:"rank"`
	LocalRank      *int64  `json:"local_rank"`
	WorldSize      *int64  `json:"world_size"`
	LocalWorldSize *int64  `json:"local_world_size"`
	NodeRank       *int64  `json:"node_rank"`
	MasterAddress  *string `json:"master_address"`
	MasterPort     *int64  `json:"master_port"`
	Source         *string `json:"source"`
}

// Traffic are the counters and rates that an interface and the totals share.
type Traffic struct {
	ReceiveBytesTotal        *uint64  `json:"receive_bytes_total"`
	TransmitBytesTotal       *uint64  `json:"transmit_bytes_total"`
	ReceivePacketsTotal      *uint64  `json:"receive_packets_total"`
	TransmitPacketsTotal     *uint64  `json:"transmit_packets_total"`
	ReceiveErrorsTotal       *uint64  `json:"receive_errors_total"`
	TransmitErrorsTotal      *uint64  `json:"transmit_errors_total"`
	ReceiveDropsTotal        *uint64  `json:"receive_drops_total"`
	TransmitDropsTotal       *uint64  `json:"transmit_drops_total"`
	ReceiveBytesPerSecond    *float64 `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond   *float64 `json:"transmit_bytes_per_second"`
	ReceivePacketsPerSecond  *float64 `json:"receive_packets_per_second"`
	TransmitPacketsPerSecond *float64 `json:"transmit_packets_per_second"`
}

// Totals sum the interfaces that count, each byte once.
type Totals struct {
	Traffic
	CapacityBitsPerSecond *uint64  `json:"capacity_bits_per_second"`
	UtilizationRatio      *float64 `json:"utilization_ratio"`
	// Best are the highest rates that any window of the loop had since the monitor started.
	ReceiveBestBytesPerSecond  *float64 `json:"receive_best_bytes_per_second"`
	TransmitBestBytesPerSecond *float64 `json:"transmit_best_bytes_per_second"`
	// What follows is known where the window was sampled finely: nil else.
	FineIntervalSeconds        *float64 `json:"fine_interval_seconds"`
	ReceivePeakBytesPerSecond  *float64 `json:"receive_peak_bytes_per_second"`
	TransmitPeakBytesPerSecond *float64 `json:"transmit_peak_bytes_per_second"`
	ReceiveP95BytesPerSecond   *float64 `json:"receive_p95_bytes_per_second"`
	TransmitP95BytesPerSecond  *float64 `json:"transmit_p95_bytes_per_second"`
	BusyRatio                  *float64 `json:"busy_ratio"`
}

// Interface is one network interface of the namespace.
type Interface struct {
	Name                   string   `json:"name"`
	Index                  *int64   `json:"index"`
	Kind                   *string  `json:"kind"`
	Counted                *bool    `json:"counted"`
	Primary                *bool    `json:"primary"`
	Master                 *string  `json:"master"`
	State                  *string  `json:"state"`
	MTU                    *uint64  `json:"mtu"`
	Duplex                 *string  `json:"duplex"`
	LinkSpeedBitsPerSecond *uint64  `json:"link_speed_bits_per_second"`
	Addresses              []string `json:"addresses"`
	Resets                 *uint64  `json:"resets"`
	Traffic
	ReceiveFIFOErrorsTotal     *uint64 `json:"receive_fifo_errors_total"`
	ReceiveFrameErrorsTotal    *uint64 `json:"receive_frame_errors_total"`
	ReceiveMulticastTotal      *uint64 `json:"receive_multicast_total"`
	ReceiveCompressedTotal     *uint64 `json:"receive_compressed_total"`
	TransmitFIFOErrorsTotal    *uint64 `json:"transmit_fifo_errors_total"`
	TransmitCarrierErrorsTotal *uint64 `json:"transmit_carrier_errors_total"`
	TransmitCollisionsTotal    *uint64 `json:"transmit_collisions_total"`
	TransmitCompressedTotal    *uint64 `json:"transmit_compressed_total"`

	encoded []byte // its JSON, for one that many samples share
}

// TCP are the kernel's TCP counters, IPv4 and IPv6 together.
type TCP struct {
	Established                *uint64  `json:"established"`
	SegmentsSentTotal          *uint64  `json:"segments_sent_total"`
	SegmentsReceivedTotal      *uint64  `json:"segments_received_total"`
	SegmentsRetransmittedTotal *uint64  `json:"segments_retransmitted_total"`
	RetransmitRatio            *float64 `json:"retransmit_ratio"`
	TimeoutsTotal              *uint64  `json:"timeouts_total"`
	SYNRetransmitsTotal        *uint64  `json:"syn_retransmits_total"`
	ListenOverflowsTotal       *uint64  `json:"listen_overflows_total"`
	ListenDropsTotal           *uint64  `json:"listen_drops_total"`
	ResetsSentTotal            *uint64  `json:"resets_sent_total"`
	InErrorsTotal              *uint64  `json:"in_errors_total"`
	MemoryPressuresTotal       *uint64  `json:"memory_pressures_total"`
	OutOfOrderQueuedTotal      *uint64  `json:"out_of_order_queued_total"`
}

// UDP are the kernel's UDP counters, IPv4 and IPv6 added.
type UDP struct {
	DatagramsSentTotal       *uint64 `json:"datagrams_sent_total"`
	DatagramsReceivedTotal   *uint64 `json:"datagrams_received_total"`
	InErrorsTotal            *uint64 `json:"in_errors_total"`
	ReceiveBufferErrorsTotal *uint64 `json:"receive_buffer_errors_total"`
	SendBufferErrorsTotal    *uint64 `json:"send_buffer_errors_total"`
	NoPortsTotal             *uint64 `json:"no_ports_total"`
}

// IP are the kernel's IP counters that explain trouble, IPv4 and IPv6 added.
type IP struct {
	InDiscardsTotal      *uint64 `json:"in_discards_total"`
	OutDiscardsTotal     *uint64 `json:"out_discards_total"`
	InAddressErrorsTotal *uint64 `json:"in_address_errors_total"`
	OutNoRoutesTotal     *uint64 `json:"out_no_routes_total"`
	FragmentsFailedTotal *uint64 `json:"fragments_failed_total"`
}

// Sockets are the sockets in use.
type Sockets struct {
	TCPInUse       *uint64 `json:"tcp_in_use"`
	TCPOrphaned    *uint64 `json:"tcp_orphaned"`
	TCPTimeWait    *uint64 `json:"tcp_time_wait"`
	TCPMemoryBytes *uint64 `json:"tcp_memory_bytes"`
	UDPInUse       *uint64 `json:"udp_in_use"`
}

// Self is what the monitor itself cost.
type Self struct {
	Version         string   `json:"version"`
	UptimeSeconds   float64  `json:"uptime_seconds"`
	CPUSecondsTotal *float64 `json:"cpu_seconds_total"`
	SampleSeconds   float64  `json:"sample_seconds"`
	SamplesTotal    uint64   `json:"samples_total"`
	DroppedTotal    uint64   `json:"dropped_total"`
	ProbeBytesTotal uint64   `json:"probe_bytes_total"`
	// Of the reading of sockets that Peers tells of: how long it took, how old it is, how many it read.
	PeersReadSeconds *float64 `json:"peers_read_seconds"`
	PeersAgeSeconds  *float64 `json:"peers_age_seconds"`
	PeersSockets     *uint64  `json:"peers_sockets"`
	Health           string   `json:"health"`

	// Records of collectives that came too fast to be taken in, or found no row.
	CollectivesDroppedTotal  uint64 `json:"collectives_dropped_total"`
	CollectivesUnlistedTotal uint64 `json:"collectives_unlisted_total"`
}

// Fine is what the query "fine" answers: how long, and at what interval, counters of interfaces are read between samples.
type Fine struct {
	Seconds         float64 `json:"seconds"`
	IntervalSeconds float64 `json:"interval_seconds"`
}

// Health is what the query "health" answers.
type Health struct {
	Status             string            `json:"status"`
	Problems           []string          `json:"problems"`
	IntervalSeconds    float64           `json:"interval_seconds"`
	UptimeSeconds      float64           `json:"uptime_seconds"`
	CPUSecondsTotal    *float64          `json:"cpu_seconds_total"`
	SamplesTotal       uint64            `json:"samples_total"`
	DroppedTotal       uint64            `json:"dropped_total"`
	ProbeBytesTotal    uint64            `json:"probe_bytes_total"`
	LastSampleAge      *float64          `json:"last_sample_age_seconds"`
	HistorySamples     int               `json:"history_samples"`
	HistoryBytes       int               `json:"history_bytes"`
	HistorySpanSeconds float64           `json:"history_span_seconds"`
	EventsTotal        map[string]uint64 `json:"events_total"`
	Events             []Event           `json:"events"`
}

// Event is something that happened to an interface or its counters.
type Event struct {
	TimestampSeconds float64 `json:"timestamp_seconds"`
	MonotonicSeconds float64 `json:"monotonic_seconds"`
	Class            string  `json:"class"`
	Interface        *string `json:"interface"`
	Text             string  `json:"text"`
}

// Stats is what the query "stats" answers, in the metric's own unit.
type Stats struct {
	Metric        string   `json:"metric"`
	WindowSeconds *float64 `json:"window_seconds"`
	Count         int      `json:"count"`
	Min           *float64 `json:"min"`
	Max           *float64 `json:"max"`
	Mean          *float64 `json:"mean"`
	StdDeviation  *float64 `json:"stddev"`
	P50           *float64 `json:"p50"`
	P95           *float64 `json:"p95"`
	P99           *float64 `json:"p99"`
}
