package diagnose

import (
	"fmt"
	"math/rand/v2"

	"netmon/core/cluster"
	"netmon/core/sample"
)

// job plays a job of n hosts with a rank each: an all_reduce by a ring, so that each host sends to the next one, acknowledgements and small
// notes go back, and everybody probes everybody.
type job struct {
	n        int
	random   *rand.Rand
	at       float64
	sequence uint64
	change   func(v *cluster.View) // a fault
	allPairs bool                  // all_to_all instead
	probes   bool
	limited  bool // TCP says that the network was the limit on all ways, as behind slow links
	state    State
}

func newJob(n int) *job {
	return &job{n: n, random: rand.New(rand.NewPCG(1, uint64(n))), at: 1_700_000_000, probes: true, limited: true}
}

func pointer[T any](v T) *T { return &v }

func hostName(i int) string { return fmt.Sprintf("host%d", i) }

// noise is a number about a value.
func (j *job) noise(value, part float64) float64 { return value * (1 + part*(2*j.random.Float64()-1)) }

const (
	healthyDelivery = 125e6
	healthyRTT      = 0.8e-3 // of a loaded way: its own queue
	healthyPath     = 0.05e-3
	ringBytes       = 40 << 20
)

// view is the next one of the job, with its fault.
func (j *job) view() *cluster.View {
	j.at += 2
	j.sequence++
	v := &cluster.View{Schema: cluster.Schema, Sequence: j.sequence, TimestampSeconds: j.at, WorldSize: pointer(int64(j.n))}
	for i := range j.n {
		v.Nodes = append(v.Nodes, cluster.Node{Name: hostName(i), Ranks: []int64{int64(i)}, State: "live", Interface: pointer("eth0")})
		r := cluster.Rank{
			Rank: pointer(int64(i)), Node: pointer(hostName(i)), State: "live", AgeSeconds: pointer(0.5), DigestSequence: pointer(j.sequence),
			CollectiveRatio: pointer(j.noise(0.6, 0.05)), CollectivesTotal: pointer(20 * j.sequence), PendingCount: pointer(uint64(0)),
			WaitingSeconds: pointer(j.noise(2e-3, 0.5)), LastRatio: pointer(1 / float64(j.n)),
		}
		for k := range j.n {
			if k != i {
				r.Peers = append(r.Peers, j.way(i, k))
			}
		}
		v.Ranks = append(v.Ranks, r)
	}
	v.Skew = &cluster.Skew{Compared: 8, TransferP50Seconds: pointer(j.noise(50e-3, 0.1)), WaitingP50Seconds: pointer(3e-3)}
	if j.change != nil {
		j.change(v)
	}
	return v
}

func (j *job) way(from, to int) cluster.Way {
	w := cluster.Way{Rank: pointer(int64(to)), Node: pointer(hostName(to)), Address: fmt.Sprintf("10.0.0.%d", to+1)}
	back := (to+1)%j.n == from
	forth := (from+1)%j.n == to
	switch {
	case forth || j.allPairs:
		w.SentBytes, w.SegmentsSent, w.SegmentsRetransmitted = pointer(uint64(ringBytes)), pointer(uint64(ringBytes/1448)), pointer(uint64(0))
		w.RTTSeconds = pointer(j.noise(healthyRTT, 0.2))
		if !j.limited {
			*w.RTTSeconds /= 6
		} else {
			w.DeliveryBytesPerSecond = pointer(j.noise(healthyDelivery, 0.1))
		}
	case back:
		w.SentBytes, w.SegmentsSent, w.SegmentsRetransmitted = pointer(uint64(3000)), pointer(uint64(60)), pointer(uint64(0))
		w.RTTSeconds = pointer(j.noise(healthyRTT, 0.2))
	default:
		w.SentBytes, w.SegmentsSent, w.SegmentsRetransmitted = pointer(uint64(0)), pointer(uint64(0)), pointer(uint64(0))
		w.RTTSeconds = pointer(3e-3) // of long ago
	}
	w.RTTMinSeconds = pointer(j.noise(healthyPath, 0.2))
	w.RetransmittedRatio = pointer(0.0)
	if j.probes {
		w.ProbeRTTMinSeconds, w.ProbeRTTLastSeconds = pointer(healthyPath), pointer(j.noise(0.1e-3, 0.5))
		w.ProbeSent, w.ProbeLost, w.ProbeLossRatio = pointer(uint64(60)), pointer(uint64(0)), pointer(0.0)
	}
	return w
}

// each calls f with every way of a view.
func each(v *cluster.View, f func(from, to string, w *cluster.Way)) {
	for i := range v.Ranks {
		for k := range v.Ranks[i].Peers {
			f(*v.Ranks[i].Node, *v.Ranks[i].Peers[k].Node, &v.Ranks[i].Peers[k])
		}
	}
}

func scale(p *float64, by float64) {
	if p != nil {
		*p *= by
	}
}

// slowLink limits what a host sends or receives. All its packets stand in the queue: those the other way are acknowledged through it.
func slowLink(name, direction string, part float64) func(*cluster.View) {
	random := rand.New(rand.NewPCG(2, 3))
	return func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			limited := direction != Receive && from == name || direction != Transmit && to == name
			if limited {
				scale(w.DeliveryBytesPerSecond, part)
				if w.DeliveryBytesPerSecond == nil && *w.SentBytes >= activeBytes {
					w.DeliveryBytesPerSecond = pointer(healthyDelivery * part)
				}
			}
			if from == name || to == name {
				if *w.SentBytes > 0 {
					*w.RTTSeconds += healthyRTT/part - healthyRTT
				}
				if w.ProbeRTTLastSeconds != nil {
					*w.ProbeRTTLastSeconds += random.Float64() * (healthyRTT/part - healthyRTT) // of a queue that is not always full
				}
			}
		})
		slowDown(v, 1/part)
	}
}

// slowDown makes collectives take longer for all: who passes on what came in over the slow link is last by a part of it.
func slowDown(v *cluster.View, by float64) {
	scale(v.Skew.TransferP50Seconds, by)
	for i := range v.Ranks {
		scale(v.Ranks[i].WaitingSeconds, by)
	}
}

// lossyLink drops a share of what a host sends or receives.
func lossyLink(name, direction string, ratio float64) func(*cluster.View) {
	return func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			if direction != Receive && from == name || direction != Transmit && to == name {
				again := uint64(float64(*w.SegmentsSent)*ratio + 0.4)
				w.SegmentsRetransmitted = pointer(again)
				w.RetransmittedRatio = pointer(float64(again) / float64(max(1, *w.SegmentsSent)))
			}
			if (from == name || to == name) && w.ProbeSent != nil {
				w.ProbeLost = pointer(uint64(float64(*w.ProbeSent)*ratio + 0.5))
			}
		})
	}
}

func longWay(name string, seconds float64) func(*cluster.View) {
	return func(v *cluster.View) {
		each(v, func(from, to string, w *cluster.Way) {
			if from == name || to == name {
				*w.RTTSeconds += seconds
				if w.ProbeRTTLastSeconds != nil {
					*w.ProbeRTTLastSeconds += seconds // the lowest of the last minute is of before
				}
				scale(w.DeliveryBytesPerSecond, 0.5)
			}
		})
		slowDown(v, 2)
	}
}

func slowHost(name string) func(*cluster.View) {
	return func(v *cluster.View) {
		for i := range v.Ranks {
			r := &v.Ranks[i]
			if *r.Node == name {
				r.WaitingSeconds, r.LastRatio, r.CollectiveRatio = pointer(0.1e-3), pointer(0.95), pointer(0.1)
			} else {
				r.WaitingSeconds, r.LastRatio = pointer(80e-3), pointer(0.01)
			}
		}
		v.Skew.TransferP50Seconds = pointer(8e-3)
	}
}

func stopped(name string) func(*cluster.View) {
	began := 0.0
	return func(v *cluster.View) {
		if began == 0 {
			began = v.TimestampSeconds - 7
		}
		since := v.TimestampSeconds - began
		for i := range v.Ranks {
			r := &v.Ranks[i]
			r.WaitingSeconds, r.LastRatio = nil, nil
			if *r.Node == name {
				r.State, r.AgeSeconds, r.DigestSequence = "late", pointer(since), pointer(uint64(1))
				continue
			}
			r.PendingSeconds = pointer(since)
			for k := range r.Peers {
				w := &r.Peers[k]
				*w.SentBytes, *w.SegmentsSent = 0, 0
				if *w.Node == name { // its window is closed: what is tried again now and then is not lost
					*w.SentBytes, *w.SegmentsSent, w.SegmentsRetransmitted = 1<<20, 10, pointer(uint64(3))
				}
			}
		}
		for i := range v.Nodes {
			if v.Nodes[i].Name == name {
				v.Nodes[i].State = "late"
			}
		}
		v.Skew = nil
	}
}

// after runs a number of views and returns what is found at the last.
func (j *job) after(views int, change func(*cluster.View)) (found []sample.Finding) {
	j.change = change
	for range views {
		found = Job(j.view(), &j.state)
	}
	return found
}
