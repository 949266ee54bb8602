package cluster

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"
)

// UnknownPeer is a peer of which nothing is known.
func UnknownPeer() PeerDigest {
	nan := math.NaN()
	return PeerDigest{
		Rank: None, SentBytes: None, SegmentsSent: None, Retransmitted: None, RTTSeconds: nan, RTTMinSeconds: nan, DeliveryBytesPerSec: nan,
		ProbeRTTMinSeconds: nan, ProbeRTTLastSeconds: nan, ProbeSent: None, ProbeLost: None,
	}
}

// UnknownDigest is a digest in which nothing is known.
func UnknownDigest() Digest {
	nan := math.NaN()
	return Digest{
		Rank: None, LocalRank: None, WorldSize: None, Sequence: None, Interval: NoTime, Window: NoTime, Sampled: None, WallSeconds: nan,
		ReceiveBytesTotal: None, TransmitBytesTotal: None, ReceiveBytesPerSecond: nan, TransmitBytesPerSecond: nan,
		ReceiveBestBytesPerSecond: nan, TransmitBestBytesPerSecond: nan, CapacityBitsPerSecond: nan, RetransmitRatio: nan,
		Drops: None, Errors: None, DropsTotal: None, ErrorsTotal: None, CountedMicroseconds: None,
		RTTP50Seconds: nan, LossRatio: nan, RDMABytesPerSecond: nan, CollectiveRatio: nan,
		CollectivesTotal: None, CollectiveBytes: None, BusBW: nan, Pending: NoTime, PendingSequence: None, PendingCount: None,
	}
}

// lossRatio is the share of probes that were lost, NaN where none was sent.
func (p *PeerDigest) lossRatio() float64 {
	if p.ProbeSent == None || p.ProbeLost == None || p.ProbeSent == 0 {
		return math.NaN()
	}
	return float64(p.ProbeLost) / float64(p.ProbeSent)
}

// retransmittedRatio is the share of segments that were sent again, NaN where none was sent.
func (p *PeerDigest) retransmittedRatio() float64 {
	if p.SegmentsSent == None || p.Retransmitted == None || p.SegmentsSent == 0 {
		return math.NaN()
	}
	return float64(p.Retransmitted) / float64(p.SegmentsSent)
}

// known is a number, or the least where there is none.
func known(value float64) float64 {
	if math.IsNaN(value) {
		return math.Inf(-1)
	}
	return value
}

// mostImportant are at most MostDigestPeers peers, the most important first: by turns the one to which most was sent, the one with
// the worst loss, and the one with the longest round trip, of those that are left.
func mostImportant(peers []PeerDigest) (chosen []PeerDigest) {
	orders := []func(*PeerDigest) float64{
		func(p *PeerDigest) float64 {
			if p.SentBytes == None {
				return math.Inf(-1)
			}
			return float64(p.SentBytes)
		},
		func(p *PeerDigest) float64 { return max(known(p.retransmittedRatio()), known(p.lossRatio())) },
		func(p *PeerDigest) float64 { return max(known(p.ProbeRTTMinSeconds), known(p.RTTMinSeconds)) },
	}
	left := slices.Clone(peers)
	for turn := 0; len(left) > 0 && len(chosen) < MostDigestPeers; turn++ {
		of := orders[turn%len(orders)]
		// The first of the largest.
		best := 0
		for i := range left {
			if of(&left[i]) > of(&left[best]) {
				best = i
			}
		}
		chosen = append(chosen, left[best])
		left = slices.Delete(left, best, best+1)
	}
	return chosen
}

// ChooseMarks are at most MostMarks of the collectives that ended lately, by sequence, the same that other ranks choose: all whose
// number begins with enough zero bits after it was mixed. The more there are, the more bits; those with more are among those with
// fewer, so that ranks which counted differently still have marks in common. Mixing keeps the choice from falling on the same place
// of every step of the job, as multiples of a number would.
func ChooseMarks(of []Mark) (chosen []Mark) {
	all := slices.Clone(of)
	slices.SortStableFunc(all, func(a, b Mark) int { return cmp.Compare(a.Sequence, b.Sequence) })
	all = slices.CompactFunc(all, func(a, b Mark) bool { return a.Sequence == b.Sequence })
	for zeros := 0; ; zeros++ {
		chosen = chosen[:0]
		for _, m := range all {
			if bits.LeadingZeros64(mixed(m.Sequence)) >= zeros {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) <= MostMarks {
			return chosen
		}
	}
}

// mixed is the finisher of MurmurHash3: every bit of the result depends on every bit of the number. 0 stays 0.
func mixed(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// usualInterval is what a digest without an interval is taken to have, mostInterval the longest that is believed.
const usualInterval, mostInterval = 2 * time.Second, time.Hour
