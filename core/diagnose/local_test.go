package diagnose

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/sample"
)

// here plays a process that sends to others, each as fast.
type here struct {
	Here
	state LocalState
	step  int
}

func newHere(peers int) *here {
	h := &here{Here: Here{At: 1_700_000_000, Host: "host0", Rank: pointer(int64(0))}}
	for i := range peers {
		h.Ways = append(h.Ways, LocalWay{
			Address: fmt.Sprintf("10.0.0.%d", i+2), SentBytes: 0, Segments: 0, Retransmitted: 0, Reported: 0,
			RTTMinSeconds: healthyPath, ProbeMinSeconds: healthyPath, Probes: 60, Lost: 0,
		})
	}
	return h
}

func (h *here) after(steps int, change func(*Here)) (found []sample.Finding) {
	for range steps {
		h.At += 2
		h.step++
		for i := range h.Ways {
			w := &h.Ways[i]
			w.SentBytes += 40 << 20
			w.Segments += 40 << 20 / 1448
			w.RTTSeconds, w.DeliveryBytesPerSec, w.ProbeLastSeconds = healthyRTT, healthyDelivery, 0.1e-3
		}
		if change != nil {
			change(&h.Here)
		}
		found = Local(&h.Here, &h.state)
	}
	return found
}

func TestLocal(t *testing.T) {
	slow := func(ways ...int) func(*Here) {
		return func(h *Here) {
			for _, i := range ways {
				h.Ways[i].DeliveryBytesPerSec, h.Ways[i].RTTSeconds = healthyDelivery/8, 6e-3
				h.Ways[i].SentBytes -= 20 << 20
			}
		}
	}
	lossy := func(ways ...int) func(*Here) {
		return func(h *Here) {
			for _, i := range ways {
				h.Ways[i].Retransmitted += 400
				h.Ways[i].Reported += 50
			}
		}
	}
	long := func(ways ...int) func(*Here) {
		return func(h *Here) {
			for _, i := range ways {
				h.Ways[i].ProbeLastSeconds += 5e-3
				h.Ways[i].RTTSeconds += 5e-3
			}
		}
	}
	// On ways that the network does not limit there is no queue.
	quiet := func(change func(*Here)) func(*Here) {
		return func(h *Here) {
			for i := range h.Ways {
				h.Ways[i].DeliveryBytesPerSec = math.NaN()
			}
			change(h)
		}
	}
	// For so long that nothing shorter is remembered.
	lasting := func(change func(*Here), ways ...int) func(*Here) {
		return func(h *Here) {
			for _, i := range ways {
				h.Ways[i].ProbeMinSeconds, h.Ways[i].RTTMinSeconds = 5.05e-3, 5.05e-3
			}
			change(h)
		}
	}
	wrong := func(h *Here) {
		h.Transport = &sample.Transport{
			Interface: pointer("docker0"), WrongInterface: pointer("traffic goes by docker0, a bridge"), Advice: pointer("export GLOO_SOCKET_IFNAME=eth0"),
			TCPBytesPerSecond: pointer(1e6),
		}
	}
	for _, c := range []struct {
		name   string
		peers  int
		change func(*Here)
		want   string
	}{
		{"healthy", 3, nil, "network_clean host0"},
		{"healthy, one peer", 1, nil, "network_clean host0"},
		{"slow on all ways", 3, slow(0, 1, 2), "slow_link host0 transmit"},
		{"slow on one of three", 3, slow(1), "slow_link host0 transmit 10.0.0.3"},
		{"slow on two of three", 3, slow(0, 1), ""},
		{"slow, one peer", 1, slow(0), "slow_link host0 transmit 10.0.0.2"},
		{"lossy on all ways", 3, lossy(0, 1, 2), "lossy_link host0 transmit"},
		{"lossy on one of three", 3, lossy(2), "lossy_link host0 transmit 10.0.0.4"},
		{"far, one of three", 3, quiet(long(1)), "high_latency host0 10.0.0.3"},
		{"far, all", 3, quiet(long(0, 1, 2)), "high_latency host0"},
		{"far, behind full links", 3, lasting(long(1), 1), "high_latency host0 10.0.0.3"},
		{"far, all, behind full links", 3, lasting(long(0, 1, 2), 0, 1, 2), "high_latency host0"},
		{"a queue that never empties, one of three", 3, long(1), ""},
		{"a queue that never empties", 3, long(0, 1, 2), ""},
		{"wrong interface", 3, wrong, "wrong_interface host0"},
		{"wrong interface, no peers", 0, wrong, "wrong_interface host0"},
		{"duplicates reported", 3, func(h *Here) {
			h.Ways[0].Retransmitted += 400
			h.Ways[0].Reported += 400
		}, "network_clean host0"},
		{"counters begin again", 3, func(h *Here) { h.Ways[0].Segments, h.Ways[0].SentBytes, h.Ways[0].Retransmitted = 5, 5, 5 }, "network_clean host0"},
		{"idle", 3, func(h *Here) {
			for i := range h.Ways {
				h.Ways[i].SentBytes, h.Ways[i].Segments = 1e9, 1e6
			}
		}, ""},
		{"nothing known", 3, func(h *Here) {
			n := math.NaN()
			for i := range h.Ways {
				h.Ways[i] = LocalWay{h.Ways[i].Address, n, n, n, n, n, n, n, n, n, n, n}
			}
		}, ""},
		{"others come and go", 3, func(h *Here) { h.Ways[0].Address = fmt.Sprint(h.At) }, "network_clean host0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHere(c.peers)
			h.after(20, nil)
			found := h.after(20, c.change)
			assert.Equal(t, c.want, words(found))
			wellFormed(t, found)
		})
	}
}

// While only numbers change, samples share what was found.
func TestLocal_shares(t *testing.T) {
	h := newHere(3)
	before := h.after(10, nil)
	require.Len(t, before, 1)
	same := 0
	for range 20 {
		if found := h.after(1, nil); &found[0] == &before[0] {
			same++
		} else {
			before = found
		}
	}
	assert.GreaterOrEqual(t, same, 15)
}

func BenchmarkLocal(b *testing.B) {
	for _, n := range []int{3, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHere(n)
			h.after(10, nil)
			b.ReportAllocs()
			for b.Loop() {
				h.after(1, nil)
			}
		})
	}
}
