package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"netmon/core/stats"
	"netmon/core/units"
)

// compare tells waiting from transferring. A symmetric collective ends on all ranks together, so its shortest duration is that of
// the rank that came last: the transfer. What others took longer they waited. Only durations are compared, never times of
// different hosts. Ranks that are late are left out.
func compare(members []*member, v *View) {
	var ranks []*compared
	durations := make(map[uint64]int) // by sequence: how many ranks have it
	for i, m := range members {
		if m.state != Live || m.digest.Rank == None {
			continue
		}
		c := &compared{member: m, row: rowOf(v, i, m), of: make(map[uint64]float64)}
		for _, mark := range m.digest.Marks {
			if _, twice := c.of[mark.Sequence]; mark.Symmetric && !twice {
				c.of[mark.Sequence] = units.Seconds(mark.Duration)
				durations[mark.Sequence]++
			}
		}
		if len(c.of) > 0 {
			ranks = append(ranks, c)
		}
	}
	if len(ranks) < 2 {
		v.Unavailable["skew"] = fmt.Sprintf("%d live ranks tell of collectives of the default group; two are needed to compare "+
			"(netmon.integrations.torch.attach(monitor) on every rank)", len(ranks))
		return
	}
	v.Skew = &Skew{Ranks: len(ranks)}
	var transfers, longest []float64
	for _, sequence := range slices.Sorted(maps.Keys(durations)) {
		if durations[sequence] < len(ranks) {
			continue
		}
		last := slices.MinFunc(ranks, func(a, b *compared) int { return compareReal(a.of[sequence], b.of[sequence]) })
		last.last++
		transfer, waited := last.of[sequence], 0.0
		for _, r := range ranks {
			r.waiting += r.of[sequence] - transfer
			r.total += r.of[sequence]
			waited = max(waited, r.of[sequence]-transfer)
		}
		transfers, longest = append(transfers, transfer), append(longest, waited)
	}
	n := len(transfers)
	if v.Skew.Compared = n; n == 0 {
		v.Unavailable["skew.transfer_p50_seconds"] = "no collective is marked by all of these ranks: some are far behind others, or not in the default group"
		return
	}
	v.Skew.TransferP50Seconds, v.Skew.WaitingP50Seconds = median(transfers), median(longest)
	most := slices.MaxFunc(ranks, func(a, b *compared) int { return a.last - b.last })
	v.Skew.LastRank, v.Skew.LastRatio = most.row.Rank, real(float64(most.last)/float64(n))
	for _, r := range ranks {
		r.row.WaitingSeconds, r.row.LastRatio = real(r.waiting/float64(n)), real(float64(r.last)/float64(n))
		if r.total > 0 {
			r.row.WaitingRatio = real(r.waiting / r.total)
		}
	}
}

// compared is a rank with its marked collectives.
type compared struct {
	member         *member
	row            *Rank
	of             map[uint64]float64 // seconds by sequence
	waiting, total float64            // seconds, in those that all have
	last           int                // how often it came last
}

func compareReal(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// rowOf is the row of the view that a member has; rows of ranks that are missing may stand before it.
func rowOf(v *View, at int, m *member) *Rank {
	for ; ; at++ {
		if r := v.Ranks[at].Rank; v.Ranks[at].State != Missing && r != nil && uint64(*r) == m.digest.Rank {
			return &v.Ranks[at]
		}
	}
}

func median(values []float64) *float64 {
	slices.Sort(values)
	return real(stats.Quantile(values, 0.5))
}

// spread says how numbers differ over live nodes and ranks, and where the ends are.
func spread(v *View) {
	of := make(map[string][]told)
	add := func(name, who string, value *float64) {
		if value != nil {
			of[name] = append(of[name], told{*value, who})
		}
	}
	for i := range v.Nodes {
		n := &v.Nodes[i]
		if n.State != Live {
			continue
		}
		add("node.receive_bytes_per_second", n.Name, n.ReceiveBytesPerSecond)
		add("node.transmit_bytes_per_second", n.Name, n.TransmitBytesPerSecond)
		add("node.receive_best_bytes_per_second", n.Name, n.ReceiveBestBytesPerSecond)
		add("node.transmit_best_bytes_per_second", n.Name, n.TransmitBestBytesPerSecond)
		add("node.utilization_ratio", n.Name, n.UtilizationRatio)
		add("node.retransmit_ratio", n.Name, n.RetransmitRatio)
		add("node.rtt_p50_seconds", n.Name, n.RTTP50Seconds)
		add("node.loss_ratio", n.Name, n.LossRatio)
		add("node.rdma_bytes_per_second", n.Name, n.RDMABytesPerSecond)
		add("node.drops", n.Name, whole(n.Drops))
		add("node.errors", n.Name, whole(n.Errors))
	}
	for i := range v.Ranks {
		r := &v.Ranks[i]
		if r.State != Live || r.Rank == nil {
			continue
		}
		who := strconv.FormatInt(*r.Rank, 10)
		add("rank.collective_ratio", who, r.CollectiveRatio)
		add("rank.collectives_total", who, whole(r.CollectivesTotal))
		add("rank.busbw_bytes_per_second", who, r.BusBWBytesPerSecond)
		add("rank.waiting_seconds", who, r.WaitingSeconds)
		add("rank.waiting_ratio", who, r.WaitingRatio)
		add("rank.pending_seconds", who, r.PendingSeconds)
	}
	for name, values := range of {
		// Of equals the first one stays the first.
		slices.SortStableFunc(values, func(a, b told) int { return compareReal(a.value, b.value) })
		sorted := make([]float64, len(values))
		for i := range values {
			sorted[i] = values[i].value
		}
		least, most := values[0], values[len(values)-1]
		v.Spread[name] = Spread{
			Count: len(values), Min: least.value, MinAt: least.who, Median: stats.Quantile(sorted, 0.5), Max: most.value, MaxAt: most.who,
		}
	}
}

// told is a number, and whose it is.
type told struct {
	value float64
	who   string
}

func whole(value *uint64) *float64 {
	if value == nil {
		return nil
	}
	return real(float64(*value))
}

// reasons are sentences by whom they concern; at most 8 are named.
type reasons struct {
	names map[string][]string
	order []string
}

func (r *reasons) add(reason, name string) {
	if r.names == nil {
		r.names = make(map[string][]string)
	}
	if _, found := r.names[reason]; !found {
		r.order = append(r.order, reason)
	}
	r.names[reason] = append(r.names[reason], name)
}

func (r *reasons) String() string {
	const most = 8
	var all []string
	for _, reason := range r.order {
		names := r.names[reason]
		text := reason + ": " + strings.Join(names[:min(most, len(names))], ", ")
		if len(names) > most {
			text += fmt.Sprintf(" and %d more", len(names)-most)
		}
		all = append(all, text)
	}
	return strings.Join(all, "; ")
}

// explain says why fields of nodes and ranks are null.
func explain(v *View) {
	of := make(map[string]*reasons)
	lack := func(field string, isNil bool, reason, who string) {
		if isNil {
			if of[field] == nil {
				of[field] = &reasons{}
			}
			of[field].add(reason, who)
		}
	}
	const itself = "its digest does not tell, its own samples say why"
	for i := range v.Nodes {
		n := &v.Nodes[i]
		for field, isNil := range map[string]bool{
			"receive_bytes_total": n.ReceiveBytesTotal == nil, "transmit_bytes_total": n.TransmitBytesTotal == nil,
			"window_seconds": n.WindowSeconds == nil, "receive_bytes_per_second": n.ReceiveBytesPerSecond == nil,
			"transmit_bytes_per_second":      n.TransmitBytesPerSecond == nil,
			"receive_best_bytes_per_second":  n.ReceiveBestBytesPerSecond == nil,
			"transmit_best_bytes_per_second": n.TransmitBestBytesPerSecond == nil,
			"capacity_bits_per_second":       n.CapacityBitsPerSecond == nil, "retransmit_ratio": n.RetransmitRatio == nil,
			"utilization_ratio": n.UtilizationRatio == nil, "drops": n.Drops == nil, "errors": n.Errors == nil,
			"rtt_p50_seconds": n.RTTP50Seconds == nil, "loss_ratio": n.LossRatio == nil,
			"rdma_bytes_per_second": n.RDMABytesPerSecond == nil, "plane": n.Plane == nil, "interface": n.Interface == nil,
		} {
			lack("nodes."+field, isNil, itself, n.Name)
		}
	}
	for i := range v.Ranks {
		r := &v.Ranks[i]
		if r.State == Missing {
			lack("ranks", true, "never heard of", strconv.FormatInt(*r.Rank, 10))
			continue
		}
		who := "a process without a rank"
		if r.Rank != nil {
			who = strconv.FormatInt(*r.Rank, 10)
		}
		lack("ranks.rank", r.Rank == nil, "not known to the process", who)
		for field, isNil := range map[string]bool{
			"local_rank": r.LocalRank == nil, "collective_ratio": r.CollectiveRatio == nil, "collectives_total": r.CollectivesTotal == nil,
			"collective_bytes": r.CollectiveBytes == nil, "busbw_bytes_per_second": r.BusBWBytesPerSecond == nil,
		} {
			lack("ranks."+field, isNil, itself, who)
		}
		waiting := "no marked collective could be compared"
		if r.State != Live {
			waiting = "only live ranks are compared"
		}
		for field, isNil := range map[string]bool{
			"waiting_seconds": r.WaitingSeconds == nil, "waiting_ratio": r.WaitingRatio == nil, "last_ratio": r.LastRatio == nil,
		} {
			lack("ranks."+field, isNil, waiting, who)
		}
		for field, isNil := range map[string]bool{
			"pending_seconds": r.PendingSeconds == nil, "pending_sequence": r.PendingSequence == nil, "pending_op": r.PendingOp == nil,
		} {
			lack("ranks."+field, isNil, "no collective is under way, or nobody tells", who)
		}
		lack("ranks.phase", r.Phase == nil, "in none", who)
	}
	for field, why := range of {
		v.Unavailable[field] = joined(v.Unavailable[field], why.String())
	}
}
