package cluster

import "netmon/core/sample"

// Schema names the form of a view.
const Schema = "netmon.cluster/1"

// View is the whole job as its processes said it. A nil pointer is not known; Unavailable says why.
type View struct {
	Schema           string  `json:"schema"`
	Sequence         uint64  `json:"sequence"` // of this aggregator
	TimestampSeconds float64 `json:"timestamp_seconds"`
	// Engine is how the digests came ("c10d store", "ray"), Aggregator the rank that made the view.
	Engine     *string `json:"engine"`
	Aggregator *int64  `json:"aggregator_rank"`
	WorldSize  *int64  `json:"world_size"`

	Nodes []Node `json:"nodes"`
	Ranks []Rank `json:"ranks"`
	// Totals add nodes up, each once.
	Totals Totals `json:"totals"`
	// Spread is min, median and max with who, of numbers of nodes ("node.<field>") and ranks ("rank.<field>").
	Spread map[string]Spread `json:"spread"`
	// Skew compares ranks by the collectives that all of them marked.
	Skew        *Skew             `json:"skew"`
	Findings    []sample.Finding  `json:"findings"`
	Unavailable map[string]string `json:"unavailable"`
}

// Rank is one process. States: "live", "late" (nothing new for 3 of its intervals), "gone" (for 10 of them, or it said so), and
// "missing" (of the world, never heard of).
type Rank struct {
	Rank       *int64   `json:"rank"`
	LocalRank  *int64   `json:"local_rank"`
	Node       *string  `json:"node"`
	State      string   `json:"state"`
	AgeSeconds *float64 `json:"age_seconds"` // since its newest digest was first seen
	Restarts   uint64   `json:"restarts"`
	Joined     *uint64  `json:"joined_sequence"` // of the view that saw it first
	// DigestSequence is the number of its newest digest: a view that has the same one again tells nothing new of the rank.
	DigestSequence *uint64 `json:"digest_sequence"`
	// Sampled is the number of the sample that its window ends with: digests with the same one tell the same of the window.
	Sampled *uint64 `json:"sampled_sequence"`
	// Ended tells of one that is gone that somebody said so: it came to its end, and did not fall silent.
	Ended bool `json:"ended"`

	WindowSeconds       *float64 `json:"window_seconds"` // of its rates and bytes, as of the ways to its peers
	CollectiveRatio     *float64 `json:"collective_ratio"`
	CollectivesTotal    *uint64  `json:"collectives_total"`
	CollectiveBytes     *uint64  `json:"collective_bytes"` // of the array, in the window
	BusBWBytesPerSecond *float64 `json:"busbw_bytes_per_second"`
	WaitingSeconds      *float64 `json:"waiting_seconds"` // mean, in marked collectives, for the last rank
	WaitingRatio        *float64 `json:"waiting_ratio"`   // share of the time in marked collectives
	LastRatio           *float64 `json:"last_ratio"`      // share of marked collectives that it came last to
	PendingSeconds      *float64 `json:"pending_seconds"`
	PendingSequence     *uint64  `json:"pending_sequence"`
	PendingOp           *string  `json:"pending_op"`
	PendingCount        *uint64  `json:"pending_count"` // 0: nothing has been under way for long; nil: nobody tells
	Phase               *string  `json:"phase"`
	Peers               []Way    `json:"peers"`
}

// Way is what a rank says of the way to another.
type Way struct {
	Rank                   *int64   `json:"rank"`
	Node                   *string  `json:"node"`
	Address                string   `json:"address"`
	SentBytes              *uint64  `json:"sent_bytes"`
	SegmentsSent           *uint64  `json:"segments_sent"`
	SegmentsRetransmitted  *uint64  `json:"segments_retransmitted"` // less those reported as duplicates
	RetransmittedRatio     *float64 `json:"retransmitted_ratio"`
	RTTSeconds             *float64 `json:"rtt_seconds"`
	RTTMinSeconds          *float64 `json:"rtt_min_seconds"`
	DeliveryBytesPerSecond *float64 `json:"delivery_bytes_per_second"`
	ProbeRTTMinSeconds     *float64 `json:"probe_rtt_min_seconds"`
	ProbeRTTLastSeconds    *float64 `json:"probe_rtt_last_seconds"`
	ProbeLossRatio         *float64 `json:"probe_loss_ratio"`
	ProbeSent              *uint64  `json:"probe_sent"`
	ProbeLost              *uint64  `json:"probe_lost"`
}

// Node is one network namespace of one host. Its numbers are those of the freshest digest of its live ranks, never a sum of them.
type Node struct {
	Name       string  `json:"name"` // the host's name; "name#2" and so on where several nodes have the same
	Ranks      []int64 `json:"ranks"`
	Processes  int     `json:"processes"` // with those that have no rank
	State      string  `json:"state"`     // the best of its ranks'
	AgeSeconds float64 `json:"age_seconds"`

	// Since the node's first monitor that was heard of was started, over restarts; never less than before.
	ReceiveBytesTotal          *uint64  `json:"receive_bytes_total"`
	TransmitBytesTotal         *uint64  `json:"transmit_bytes_total"`
	DropsTotal                 *uint64  `json:"drops_total"`
	ErrorsTotal                *uint64  `json:"errors_total"`
	CountedSeconds             *float64 `json:"counted_seconds"` // the time in which that was counted, by the node's monotonic clock
	WindowSeconds              *float64 `json:"window_seconds"`  // of the rates, drops and errors
	ReceiveBytesPerSecond      *float64 `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond     *float64 `json:"transmit_bytes_per_second"`
	ReceiveBestBytesPerSecond  *float64 `json:"receive_best_bytes_per_second"`
	TransmitBestBytesPerSecond *float64 `json:"transmit_best_bytes_per_second"`
	CapacityBitsPerSecond      *float64 `json:"capacity_bits_per_second"`
	UtilizationRatio           *float64 `json:"utilization_ratio"`
	RetransmitRatio            *float64 `json:"retransmit_ratio"`
	Drops                      *uint64  `json:"drops"`
	Errors                     *uint64  `json:"errors"`
	RTTP50Seconds              *float64 `json:"rtt_p50_seconds"`
	LossRatio                  *float64 `json:"loss_ratio"`
	RDMABytesPerSecond         *float64 `json:"rdma_bytes_per_second"`
	Plane                      *string  `json:"plane"`
	Interface                  *string  `json:"interface"`
	WrongInterface             bool     `json:"wrong_interface"`
}

// Totals are sums over nodes whose state is "live" or "late", nil where none tells; what ends in _total is of all nodes that were ever
// heard of, so that it never decreases.
type Totals struct {
	Nodes                  int      `json:"nodes"`
	LiveRanks              int      `json:"live_ranks"`
	LateRanks              int      `json:"late_ranks"`
	GoneRanks              int      `json:"gone_ranks"`
	MissingRanks           int      `json:"missing_ranks"`
	UnrankedProcesses      int      `json:"unranked_processes"`
	ReceiveBytesTotal      *uint64  `json:"receive_bytes_total"`
	TransmitBytesTotal     *uint64  `json:"transmit_bytes_total"`
	DropsTotal             *uint64  `json:"drops_total"`
	ErrorsTotal            *uint64  `json:"errors_total"`
	ReceiveBytesPerSecond  *float64 `json:"receive_bytes_per_second"`
	TransmitBytesPerSecond *float64 `json:"transmit_bytes_per_second"`
	CapacityBitsPerSecond  *float64 `json:"capacity_bits_per_second"`
	Drops                  *uint64  `json:"drops"`
	Errors                 *uint64  `json:"errors"`
}

// Spread of a number over nodes or ranks.
type Spread struct {
	Count  int     `json:"count"`
	Min    float64 `json:"min"`
	MinAt  string  `json:"min_at"` // a node's name, or a rank
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
	MaxAt  string  `json:"max_at"`
}

// Skew says how far apart ranks come to collectives.
type Skew struct {
	Ranks              int      `json:"ranks"`                // live ones that told of marked collectives
	Compared           int      `json:"compared"`             // marked collectives that all of them told of
	TransferP50Seconds *float64 `json:"transfer_p50_seconds"` // duration at the rank that came last
	WaitingP50Seconds  *float64 `json:"waiting_p50_seconds"`  // longest waiting of a rank
	LastRank           *int64   `json:"last_rank"`            // that came last most often
	LastRatio          *float64 `json:"last_ratio"`
}
