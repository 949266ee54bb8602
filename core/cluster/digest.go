// Package cluster makes one view of a job out of what each of its processes says of itself.
//
// A process says it in a Digest of at most 512 bytes, which travels by whatever the job has (a store, an actor, MPI); the package
// neither sends nor receives. An Aggregator remembers what it was given before, so that it can tell which processes are late, gone
// or new. Times of different hosts are never compared: what is late is late by the reader's own clock, and who came last to a
// collective is told by durations.
package cluster

import (
	"net/netip"
	"time"
)

// MostDigestBytes bounds an encoded digest.
const MostDigestBytes = 512

// Bounds of what a digest lists; of more, those are kept that matter most.
const (
	MostDigestPeers  = 8
	MostMarks        = 12
	mostAddresses    = 2
	mostNameBytes    = 32 // of a host
	mostShortBytes   = 16 // of an interface, a phase
	mostAddressBytes = 40 // of a peer, where it is no IP address
)

// Digest is what one process says of itself and its node at one moment. Whole numbers that are not known are None, times are
// NoTime, and other numbers are NaN.
type Digest struct {
	Rank, LocalRank, WorldSize uint64
	// Node tells nodes apart: processes of one network namespace of one host have the same. Hostname need not.
	Node        uint64
	Hostname    string
	Process     uint64        // changes when a process is started anew for the same rank
	Sequence    uint64        // of this digest, from 1 on
	Interval    time.Duration // to the next one
	Window      time.Duration // of the rates
	Sampled     uint64        // number of the sample at which that ends: digests with the same one tell the same of the window
	WallSeconds float64

	// Of the node.
	ReceiveBytesTotal, TransmitBytesTotal         uint64
	ReceiveBytesPerSecond, TransmitBytesPerSecond float64
	// Best are the highest rates of a window of the loop since the digest before.
	ReceiveBestBytesPerSecond, TransmitBestBytesPerSecond float64
	CapacityBitsPerSecond                                 float64
	RetransmitRatio                                       float64
	Drops, Errors                                         uint64 // in the window
	RTTP50Seconds, LossRatio                              float64
	RDMABytesPerSecond                                    float64
	Plane                                                 string // as in transport.plane, "" where not known
	Interface                                             string // that carries the job's traffic
	WrongInterface                                        bool
	Addresses                                             []netip.Addr // of that interface, at most 2
	// Since the monitor started, with the time on the monotonic clock for which it has counted these and the bytes.
	DropsTotal, ErrorsTotal uint64
	CountedMicroseconds     uint64

	// Of the process.
	Peers []PeerDigest
	// CollectiveRatio is the share of the window in which collectives were under way.
	CollectiveRatio  float64
	CollectivesTotal uint64
	CollectiveBytes  uint64 // in the window
	BusBW            float64
	// Pending is for how long the oldest unfinished collective has been under way, NoTime where none is or nobody knows.
	Pending         time.Duration
	PendingSequence uint64
	PendingOp       string // as in sample.Collective
	// PendingCount is how many have been under way for long, None where nobody tells: 0 is no such thing.
	PendingCount uint64
	// Marks are collectives of the default group by which ranks are compared, oldest first. All ranks choose the same: see
	// ChooseMarks.
	Marks []Mark
	Phase string // the innermost under way, "" for none
}

// None is a whole number that is not known. NoTime is a time that is not.
const (
	None   = ^uint64(0)
	NoTime = time.Duration(-1 << 63)
)

// PeerDigest is what the process knows of the way to another one.
type PeerDigest struct {
	Rank                 uint64 // the lowest there, None where only the address is known
	Several              bool   // ranks are at the address
	Address              string // shortened where it is long
	SentBytes            uint64 // in the window
	SegmentsSent         uint64 // in the window
	Retransmitted        uint64 // of them, without those reported as duplicates; None where SegmentsSent is
	RTTSeconds           float64
	RTTMinSeconds        float64 // since the connection began
	DeliveryBytesPerSec  float64 // NaN where the application was the limit
	ProbeRTTMinSeconds   float64 // of probes in their window of a minute, like the two that follow
	ProbeRTTLastSeconds  float64 // of the newest: the minimum of a minute hides what begins in it
	ProbeSent, ProbeLost uint64
}

// Mark is one collective.
type Mark struct {
	Sequence uint64
	Duration time.Duration
	// Symmetric operations (all_reduce, barrier, all_gather, reduce_scatter, all_to_all) end on all ranks together.
	Symmetric bool
}
