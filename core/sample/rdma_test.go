package sample

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func keptPorts() []KeptRDMAPort {
	driver, rate := "mlx5_core", uint64(100e9)
	return []KeptRDMAPort{
		{
			Texts: &RDMATexts{Device: "mlx5_0", Port: 1, Driver: &driver, RateBitsPerSecond: &rate, GIDs: []RDMAGID{{Index: 3, GID: "fe80::1"}}},
			Counters: &RDMACounters{Names: []string{"link_downed", "out_of_sequence", "symbol_error"}, Totals: []uint64{0, 7, UnknownCount},
				PerSecond: []float64{0, 3.5, math.NaN()}},
			Numbers: RDMANumbers{ReceiveBytes: 4096, TransmitBytes: UnknownCount, ReceivePerSecond: 2048, TransmitPerSecond: math.NaN(), Window: 2 * time.Second},
		},
		{
			Texts: &RDMATexts{Device: "rocep24s0.4", Port: 2, GIDs: []RDMAGID{}}, Counters: &RDMACounters{},
			Numbers: RDMANumbers{ReceivePerSecond: math.NaN(), TransmitPerSecond: math.NaN(), Window: UnknownTime},
		},
	}
}

// However a sample holds its ports, the document is the same, and unknown is left out of counters and null elsewhere.
func TestKeepRDMA(t *testing.T) {
	kept, plain := &Sample{}, &Sample{RDMA: RDMARows(keptPorts())}
	kept.KeepRDMA(keptPorts())
	assert.Equal(t, encoded(t, plain), encoded(t, kept))
	for _, s := range []*Sample{kept, plain} {
		text := encoded(t, s)
		assert.Contains(t, text, `"counters":{"link_downed":0,"out_of_sequence":7}`)
		assert.Contains(t, text, `"counters_per_second":{"link_downed":0,"out_of_sequence":3.5}`)
		assert.Contains(t, text, `"transmit_bytes_total":null`)
		assert.Contains(t, text, `"gids":[]`)
		assert.Contains(t, text, `"window_seconds":2}`)
	}
	none := &Sample{}
	none.KeepRDMA([]KeptRDMAPort{})
	assert.Contains(t, encoded(t, none), `"rdma":[]`)
	assert.Contains(t, encoded(t, &Sample{}), `"rdma":null`)
	var text bytes.Buffer
	require.NoError(t, WriteHistory(&text, []*Sample{kept, none}))
}

func TestFindMetric_ofAPort(t *testing.T) {
	kept, plain := &Sample{}, &Sample{RDMA: RDMARows(keptPorts())}
	kept.KeepRDMA(keptPorts())
	two, gpu := 2.0, int64(3)
	kept.NVLink = []NVLink{{GPU: gpu, ReceiveBytesPerSecond: &two}}
	plain.NVLink = kept.NVLink
	for name, want := range map[string]any{
		"rdma.mlx5_0.1.receive_bytes_total":                 4096.0,
		"rdma.mlx5_0.1.receive_bytes_per_second":            2048.0,
		"rdma.mlx5_0.1.transmit_bytes_per_second":           nil,
		"rdma.mlx5_0.1.counters.out_of_sequence":            7.0,
		"rdma.mlx5_0.1.counters.symbol_error":               nil,
		"rdma.mlx5_0.1.counters_per_second.out_of_sequence": 3.5,
		"rdma.mlx5_0.1.counters_per_second.np_cnp_sent":     nil,
		"rdma.mlx5_0.2.receive_bytes_total":                 nil,
		"rdma.rocep24s0.4.2.receive_bytes_total":            nil, // a port 4 of rocep24s0, by its looks
		"rdma.rocep24s0.4.port":                             nil,
		"nvlink.3.receive_bytes_per_second":                 2.0,
		"nvlink.4.receive_bytes_per_second":                 nil,
		"nvlink.mlx5_0.1.gpu":                               nil, // GPUs have numbers
	} {
		m, err := FindMetric(name)
		if name == "rdma.rocep24s0.4.2.receive_bytes_total" || name == "nvlink.mlx5_0.1.gpu" {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, name)
		for _, s := range []*Sample{kept, plain} {
			value, ok := m.Value(s)
			assert.Equal(t, want != nil, ok, name)
			if want != nil {
				assert.Equal(t, want, value, name)
			}
		}
	}
	for _, name := range []string{"rdma", "rdma.mlx5_0", "rdma.mlx5_0.1", "rdma.mlx5_0.1.state", "rdma.mlx5_0.1.counters", "rdma.1.port", "rdma.mlx5_0.x.port",
		"nvlink", "nvlink.0", "nvlink.0.uuid"} {
		_, err := FindMetric(name)
		assert.Error(t, err, name)
	}
}

func TestRDMABytes_sharedIsCountedOnce(t *testing.T) {
	first := keptPorts()
	second := append([]KeptRDMAPort{}, first...)
	assert.Equal(t, 2*keptRDMABytes, RDMABytes(second, first))
	assert.Greater(t, RDMABytes(first, nil), RDMABytes(second, first)+300)
}
