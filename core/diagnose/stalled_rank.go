package diagnose

import (
	"math"

	"netmon/core/cluster"
)

// stalled finds ranks that do not go on while others wait for them.
func (g *graph) stalled() (suspects []suspect) {
	// What the others wait for: the longest, and whether any of them tells what it waits for at all. Who records collectives and does not
	// tell what is under way is not in none: that is not known.
	var pending []float64 // seconds
	live, telling, none := 0, 0, []*cluster.Rank{}
	for _, r := range g.ranks {
		if r.State != "live" {
			continue
		}
		live++
		switch p := positive(r.PendingSeconds); {
		case r.CollectivesTotal == nil:
			continue
		case !math.IsNaN(p):
			pending = append(pending, p)
		case number(r.PendingCount) == 0:
			none = append(none, r)
		default:
			continue
		}
		telling++
	}
	longest := 0.0
	for _, seconds := range pending {
		longest = max(longest, seconds)
	}
	byHost := make(map[string][]*cluster.Rank)
	for _, r := range g.ranks {
		if r.Node == nil || r.State != "late" && r.State != "gone" || live == 0 {
			continue
		}
		// Where nobody waits for it, it has ended, or its digest is held up: no stall.
		if telling > 0 && longest < pendingLatenessOnly {
			continue
		}
		// One that came to its end is no stall, unless others clearly count on it.
		if r.Ended && longest < pendingSeconds {
			continue
		}
		byHost[*r.Node] = append(byHost[*r.Node], r)
	}
	for _, name := range g.names {
		if ranks := byHost[name]; len(ranks) > 0 {
			suspects = append(suspects, g.stoodStill(name, ranks, longest, len(pending), telling))
		}
	}
	if len(suspects) > 0 || len(pending) == 0 {
		return suspects
	}
	// Alive, and not there: all others wait.
	limit := pendingSeconds
	if skew := g.view.Skew; skew != nil {
		usual := sum(positive(skew.TransferP50Seconds), positive(skew.WaitingP50Seconds))
		limit = max(limit, pendingToUsual*orZero(usual))
	}
	shortest := least(pending)
	if shortest < limit || len(none) == 0 || len(none) > max(1, telling/4) {
		return nil
	}
	for _, r := range none {
		if r.Node != nil {
			byHost[*r.Node] = append(byHost[*r.Node], r)
		}
	}
	for _, name := range g.names {
		if ranks := byHost[name]; len(ranks) > 0 {
			suspects = append(suspects, g.keptAway(name, ranks, shortest, len(pending), live))
		}
	}
	return suspects
}
