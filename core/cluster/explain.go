package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// mostNamed is how many are named for a reason.
const mostNamed = 8

// reason is why something is not known of some.
type reason struct {
	text   string
	names  []string // the first of them
	hidden int
}

func (r *reason) add(name string) {
	if len(r.names) < mostNamed {
		r.names = append(r.names, name)
	} else {
		r.hidden++
	}
}

func (r *reason) String() string {
	text := r.text + ": " + strings.Join(r.names, ", ")
	if r.hidden > 0 {
		text += fmt.Sprintf(" and %d more", r.hidden)
	}
	return text
}

// lacking tells whether a field of a row is null.
type lacking[T any] struct {
	field  string
	reason string
	isNull func(*T) bool
}

// explainRows says why fields of rows are null, where the rows are those that may tell.
func explainRows[T any](v *View, prefix string, fields []lacking[T], rows []T, name func(*T) string, asked func(*T) bool) {
	for _, f := range fields {
		why := reason{text: f.reason}
		for i := range rows {
			if asked(&rows[i]) && f.isNull(&rows[i]) {
				why.add(name(&rows[i]))
			}
		}
		v.explain(prefix+f.field, &why)
	}
}

// explain notes a reason, if it concerns anybody.
func (v *View) explain(key string, why *reason) {
	if len(why.names) > 0 {
		v.Unavailable[key] = joined(v.Unavailable[key], why.String())
	}
}

const notTold = "its digest does not tell, its own samples say why"

func nodeFields() []lacking[Node] {
	return []lacking[Node]{
		{"receive_bytes_total", notTold, func(n *Node) bool { return n.ReceiveBytesTotal == nil }},
		{"transmit_bytes_total", notTold, func(n *Node) bool { return n.TransmitBytesTotal == nil }},
		{"drops_total", notTold, func(n *Node) bool { return n.DropsTotal == nil }},
		{"errors_total", notTold, func(n *Node) bool { return n.ErrorsTotal == nil }},
		{"counted_seconds", notTold, func(n *Node) bool { return n.CountedSeconds == nil }},
		{"window_seconds", "its monitor has not sampled for a second yet", func(n *Node) bool { return n.WindowSeconds == nil }},
		{"receive_bytes_per_second", notTold, func(n *Node) bool { return n.ReceiveBytesPerSecond == nil }},
		{"transmit_bytes_per_second", notTold, func(n *Node) bool { return n.TransmitBytesPerSecond == nil }},
		{"receive_best_bytes_per_second", notTold, func(n *Node) bool { return n.ReceiveBestBytesPerSecond == nil }},
		{"transmit_best_bytes_per_second", notTold, func(n *Node) bool { return n.TransmitBestBytesPerSecond == nil }},
		{"capacity_bits_per_second", notTold, func(n *Node) bool { return n.CapacityBitsPerSecond == nil }},
		{"utilization_ratio", "its rates or its capacity are not known", func(n *Node) bool { return n.UtilizationRatio == nil }},
		{"retransmit_ratio", "nothing sent by TCP in the window, or its samples say why", func(n *Node) bool { return n.RetransmitRatio == nil }},
		{"drops", notTold, func(n *Node) bool { return n.Drops == nil }},
		{"errors", notTold, func(n *Node) bool { return n.Errors == nil }},
		{"rtt_p50_seconds", "it probes nobody, or nobody answers", func(n *Node) bool { return n.RTTP50Seconds == nil }},
		{"loss_ratio", "it probes nobody", func(n *Node) bool { return n.LossRatio == nil }},
		{"rdma_bytes_per_second", notTold, func(n *Node) bool { return n.RDMABytesPerSecond == nil }},
		{"plane", notTold, func(n *Node) bool { return n.Plane == nil }},
		{"interface", notTold, func(n *Node) bool { return n.Interface == nil }},
	}
}

func rankFields() []lacking[Rank] {
	const (
		unwatched = "nobody records collectives there, or none has ended yet"
		unpending = "no collective is under way, or nobody tells"
	)
	return []lacking[Rank]{
		{"rank", "not known to the process", func(r *Rank) bool { return r.Rank == nil }},
		{"digest_sequence", notTold, func(r *Rank) bool { return r.DigestSequence == nil }},
		{"sampled_sequence", notTold, func(r *Rank) bool { return r.Sampled == nil }},
		{"local_rank", notTold, func(r *Rank) bool { return r.LocalRank == nil }},
		{"window_seconds", "its monitor has not sampled for a second yet", func(r *Rank) bool { return r.WindowSeconds == nil }},
		{"collective_ratio", unwatched, func(r *Rank) bool { return r.CollectiveRatio == nil }},
		{"collectives_total", unwatched, func(r *Rank) bool { return r.CollectivesTotal == nil }},
		{"collective_bytes", unwatched, func(r *Rank) bool { return r.CollectiveBytes == nil }},
		{"busbw_bytes_per_second", unwatched, func(r *Rank) bool { return r.BusBWBytesPerSecond == nil }},
		{"pending_seconds", unpending, func(r *Rank) bool { return r.PendingSeconds == nil }},
		{"pending_sequence", unpending, func(r *Rank) bool { return r.PendingSequence == nil }},
		{"pending_op", unpending, func(r *Rank) bool { return r.PendingOp == nil }},
		{"pending_count", "nobody tells there what is under way", func(r *Rank) bool { return r.PendingCount == nil }},
		{"phase", "in none", func(r *Rank) bool { return r.Phase == nil }},
	}
}

func comparedFields(reason string) []lacking[Rank] {
	return []lacking[Rank]{
		{"waiting_seconds", reason, func(r *Rank) bool { return r.WaitingSeconds == nil }},
		{"waiting_ratio", reason, func(r *Rank) bool { return r.WaitingRatio == nil }},
		{"last_ratio", reason, func(r *Rank) bool { return r.LastRatio == nil }},
	}
}

func wayFields() []lacking[Rank] {
	any := func(isNull func(*Way) bool) func(*Rank) bool {
		return func(r *Rank) bool {
			for i := range r.Peers {
				if isNull(&r.Peers[i]) {
					return true
				}
			}
			return false
		}
	}
	const unprobed = "no probe of that address was answered"
	return []lacking[Rank]{
		{"rank", "no rank or several ranks are known at an address", any(func(w *Way) bool { return w.Rank == nil })},
		{"node", "no node of the view is known at an address", any(func(w *Way) bool { return w.Node == nil })},
		{"sent_bytes", notTold, any(func(w *Way) bool { return w.SentBytes == nil })},
		{"segments_sent", notTold, any(func(w *Way) bool { return w.SegmentsSent == nil })},
		{"segments_retransmitted", notTold, any(func(w *Way) bool { return w.SegmentsRetransmitted == nil })},
		{"retransmitted_ratio", "no segment was sent in the window", any(func(w *Way) bool { return w.RetransmittedRatio == nil })},
		{"rtt_seconds", notTold, any(func(w *Way) bool { return w.RTTSeconds == nil })},
		{"rtt_min_seconds", notTold, any(func(w *Way) bool { return w.RTTMinSeconds == nil })},
		{"delivery_bytes_per_second", "the application was the limit, or the kernel has measured none",
			any(func(w *Way) bool { return w.DeliveryBytesPerSecond == nil })},
		{"probe_rtt_min_seconds", unprobed, any(func(w *Way) bool { return w.ProbeRTTMinSeconds == nil })},
		{"probe_rtt_last_seconds", unprobed, any(func(w *Way) bool { return w.ProbeRTTLastSeconds == nil })},
		{"probe_sent", "that address is not probed", any(func(w *Way) bool { return w.ProbeSent == nil })},
		{"probe_lost", "that address is not probed", any(func(w *Way) bool { return w.ProbeLost == nil })},
		{"probe_loss_ratio", "that address is not probed", any(func(w *Way) bool { return w.ProbeLossRatio == nil })},
	}
}

// explainAll says why fields of nodes and ranks are null.
func explainAll(v *View) {
	explainRows(v, "nodes.", nodeFields(), v.Nodes, func(n *Node) string { return n.Name }, func(*Node) bool { return true })
	nameless := func(r *Rank) string {
		if r.Rank == nil {
			return "a process without a rank"
		}
		return strconv.FormatInt(*r.Rank, 10)
	}
	heard := func(r *Rank) bool { return r.State != Missing }
	live := func(r *Rank) bool { return r.State == Live }
	never := []lacking[Rank]{{"", "never heard of", func(r *Rank) bool { return r.State == Missing }}}
	explainRows(v, "ranks", never, v.Ranks, nameless, func(*Rank) bool { return true })
	explainRows(v, "ranks.", rankFields(), v.Ranks, nameless, heard)
	explainRows(v, "ranks.", comparedFields("no marked collective of it could be compared"), v.Ranks, nameless, live)
	explainRows(v, "ranks.", comparedFields("only live ranks are compared"), v.Ranks, nameless,
		func(r *Rank) bool { return heard(r) && !live(r) })
	explainRows(v, "ranks.peers.", wayFields(), v.Ranks, nameless, heard)
}
