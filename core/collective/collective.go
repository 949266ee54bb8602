// Package collective makes numbers of the collectives that a training job runs: rows by operation, group and size, and the share
// of time spent in them.
//
// It is told of each collective when it has ended, by one process. algbw and busbw are those of nccl-tests (doc/PERFORMANCE.md
// there): algbw = S/t with S the size of the whole array, busbw = algbw times a factor that makes it comparable with the speed of
// the links, whatever the number of ranks. A duration runs from the call in this process to its end: it holds the waiting for the
// last rank, which one process cannot tell from transferring. Needs no privilege, starts nothing, keeps no more than its bounds.
package collective

import (
	"math"
	"math/bits"
	"time"
)

// Op is what a collective does. The numbers are those of NETMON_COLLECTIVE_.
type Op uint32

// The operations.
const (
	AllReduce Op = iota + 1
	Broadcast
	Reduce
	AllGather
	ReduceScatter
	AllToAll
	Gather
	Scatter
	Barrier
	Send
	Recv
	Other
)

// String is the name that torch.distributed has for it.
func (o Op) String() string {
	names := [...]string{"unknown", "all_reduce", "broadcast", "reduce", "all_gather", "reduce_scatter", "all_to_all", "gather",
		"scatter", "barrier", "send", "recv", "other"}
	if int(o) >= len(names) {
		o = 0
	}
	return names[o]
}

// BusFactor is by what algbw is multiplied to make busbw, in a group of n ranks; ok is false where there is no such thing.
// Source: nccl-tests, the GetBw function of each test.
func (o Op) BusFactor(n uint64) (factor float64, ok bool) {
	if n == 0 {
		return 0, false
	}
	others := float64(n-1) / float64(n)
	switch o {
	case AllReduce:
		return 2 * others, true
	case AllGather, ReduceScatter, AllToAll, Gather, Scatter:
		return others, true
	case Broadcast, Reduce, Send, Recv:
		return 1, true
	default:
		return 0, false
	}
}

// End is how the end of a collective is known. The numbers are those of NETMON_END_.
type End uint32

// The ways.
const (
	EndUnknown End = iota
	EndExact
	EndPolled
	EndBound
	EndFailed
)

// String is the name in documents.
func (e End) String() string {
	names := [...]string{"unknown", "exact", "polled", "bound", "failed"}
	if int(e) >= len(names) {
		e = EndUnknown
	}
	return names[e]
}

// Unknown is a time that is not known.
const Unknown = time.Duration(math.MinInt64)

// NoSequence is the sequence number of a record without one.
const NoSequence = math.MaxUint64

// Record is one collective.
type Record struct {
	Op            Op
	Group         uint32 // from Table.Group
	End           End
	Bytes         uint64        // S
	Enter         time.Duration // monotonic clock
	Duration      time.Duration // Unknown where the end is not known
	DurationError time.Duration // by how much Duration may be too long, Unknown where that is not known
	Sequence      uint64
}

// mostError is by how much a duration may be wrong to be a measurement, as long as that is no more than half of it; or a tenth of it.
const mostError = 2 * time.Millisecond

// Ended tells whether the end was seen.
func (r *Record) Ended() bool {
	// What cannot be is not known: Unknown is negative, and an end that no clock will show is.
	return r.Enter >= 0 && r.Duration >= 0 && r.Enter+r.Duration >= 0 && r.End != EndUnknown && r.End != EndFailed
}

// Timed tells whether it was seen well enough for the duration to be a measurement, and not only a bound.
func (r *Record) Timed() bool {
	if !r.Ended() || r.DurationError == Unknown {
		return r.Ended() && r.End == EndExact
	}
	return r.DurationError <= max(r.Duration/10, min(mostError, r.Duration/2))
}

// Bucket is the largest power of two that is not above a size; 0 for 0.
func Bucket(size uint64) uint64 {
	if size == 0 {
		return 0
	}
	return 1 << (bits.Len64(size) - 1)
}
