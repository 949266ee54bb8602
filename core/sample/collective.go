package sample

import "unsafe"

// Collective is what is known of the job's collectives of one operation, group and size, as this process saw them.
//
// Quantiles are over those of the last 60 s whose end is known, the newest 512 of them. A duration runs from the call to the end.
type Collective struct {
	Op              string `json:"op"`
	Group           string `json:"group"`
	GroupSize       uint64 `json:"group_size"`
	SizeBucketBytes uint64 `json:"size_bucket_bytes"`
	Count           uint64 `json:"count"` // since the monitor started
	BytesTotal      uint64 `json:"bytes_total"`
	// Unfinished are those of Count whose end is not known, or an error.
	Unfinished          uint64   `json:"unfinished"`
	P50Seconds          *float64 `json:"p50_seconds"`
	P95Seconds          *float64 `json:"p95_seconds"`
	MaxSeconds          *float64 `json:"max_seconds"`
	AlgBWBytesPerSecond *float64 `json:"algbw_bytes_per_second"`
	BusBWBytesPerSecond *float64 `json:"busbw_bytes_per_second"`
	DurationCount       uint64   `json:"duration_count"`  // what the quantiles are of
	EndExactRatio       *float64 `json:"end_exact_ratio"` // share of them whose duration is known to 1 %
	Source              string   `json:"source"`
}

// CollectiveBytes is the memory that one row takes in a sample that is kept, its numbers included.
const CollectiveBytes = int(unsafe.Sizeof(Collective{})) + 6*8

// CollectivePendingBytes is the memory of what is under way.
const CollectivePendingBytes = int(unsafe.Sizeof(CollectivePending{})) + 8

// CollectivePending is the oldest collective that is under way and has not ended, of those that whoever records tells of.
type CollectivePending struct {
	Op        string  `json:"op"`
	Group     string  `json:"group"`
	GroupSize uint64  `json:"group_size"`
	Bytes     uint64  `json:"bytes"`
	Sequence  *uint64 `json:"sequence"`
	Seconds   float64 `json:"seconds"` // since it was called
	Count     uint64  `json:"count"`   // of those under way, this one included
}

// Collectives is what the query "collectives" answers.
type Collectives struct {
	Groups []CollectiveGroup  `json:"groups"`
	Recent []CollectiveRecord `json:"recent"`
}

// CollectiveGroup is a group that was named.
type CollectiveGroup struct {
	Name   string `json:"name"`
	Size   uint64 `json:"size"`
	Source string `json:"source"`
}

// CollectiveRecord is one collective.
type CollectiveRecord struct {
	Op                   string   `json:"op"`
	Group                string   `json:"group"`
	GroupSize            uint64   `json:"group_size"`
	Bytes                uint64   `json:"bytes"`
	EnterSeconds         float64  `json:"enter_seconds"` // monotonic clock
	DurationSeconds      *float64 `json:"duration_seconds"`
	DurationErrorSeconds *float64 `json:"duration_error_seconds"`
	Sequence             *uint64  `json:"sequence"`
	End                  string   `json:"end"`
}
