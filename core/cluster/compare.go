package cluster

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"netmon/core/stats"
	"netmon/core/units"
)

// compare tells waiting from transferring. A symmetric collective ends on all ranks together, so its shortest duration is that of
// the rank that came last: the transfer. What others took longer they waited. Only durations are compared, never times of
// different hosts. Ranks that are late are left out.
func compare(members []*member, v *View) {
	var ranks []compared
	for i, m := range members {
		if m.state == Live && m.digest.Rank != None && slices.ContainsFunc(m.digest.Marks, func(k Mark) bool { return k.Symmetric }) {
			ranks = append(ranks, compared{marks: m.digest.Marks, row: rowOf(v, i, m)})
		}
	}
	if len(ranks) < 2 {
		v.Unavailable["skew"] = fmt.Sprintf("%d live ranks tell of collectives of the default group; two are needed to compare "+
			"(netmon.integrations.torch.attach(monitor) on every rank)", len(ranks))
		return
	}
	v.Skew = &Skew{Ranks: len(ranks)}
	var transfers, longest []float64
	durations := make([]float64, len(ranks))
	for _, mark := range ranks[0].marks {
		common := true
		for i := 0; common && i < len(ranks); i++ {
			durations[i], common = ranks[i].duration(mark.Sequence)
		}
		if !common {
			continue
		}
		transfer, most := slices.Min(durations), 0.0
		ranks[slices.Index(durations, transfer)].last++
		for i, d := range durations {
			ranks[i].waiting += d - transfer
			ranks[i].total += d
			most = max(most, d-transfer)
		}
		transfers, longest = append(transfers, transfer), append(longest, most)
	}
	n := len(transfers)
	if v.Skew.Compared = n; n == 0 {
		v.Unavailable["skew.transfer_p50_seconds"] = "no collective is marked by all of these ranks: some are far behind others, or not in the default group"
		return
	}
	v.Skew.TransferP50Seconds, v.Skew.WaitingP50Seconds = median(transfers), median(longest)
	last := 0
	for i := range ranks {
		r := &ranks[i]
		if r.last > ranks[last].last {
			last = i
		}
		r.row.WaitingSeconds, r.row.LastRatio = pointer(r.waiting/float64(n)), pointer(float64(r.last)/float64(n))
		if r.total > 0 {
			r.row.WaitingRatio = pointer(r.waiting / r.total)
		}
	}
	v.Skew.LastRank, v.Skew.LastRatio = ranks[last].row.Rank, pointer(float64(ranks[last].last)/float64(n))
}

// pointer is nil for NaN.
func pointer(value float64) *float64 {
	if math.IsNaN(value) {
		return nil
	}
	return &value
}

// compared is a rank with its marked collectives.
type compared struct {
	marks          []Mark
	row            *Rank
	waiting, total float64 // seconds, in those that all have
	last           int     // how often it came last
}

// duration is that of a collective, in seconds; ok is false where the rank did not mark it.
func (c *compared) duration(sequence uint64) (seconds float64, ok bool) {
	for i := range c.marks {
		if m := &c.marks[i]; m.Sequence == sequence && m.Symmetric {
			return units.Seconds(m.Duration), true
		}
	}
	return 0, false
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
	return pointer(stats.Quantile(values, 0.5))
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
	return pointer(float64(*value))
}
