package rdma

import (
	"testing"

	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
	"netmon/core/kernelfs/recorded"
)

// BenchmarkRead reads one port with RoCE. What the device's firmware takes to answer comes on top on real machines.
func BenchmarkRead(b *testing.B) {
	root := b.TempDir()
	require.NoError(b, recorded.Unpack("../testdata/documented-mlx5-roce.ttar", root))
	r := New(kernelfs.Dir(root))
	port := r.Ports([]string{"mlx5_0"})[0]
	var reading Reading
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, r.Read(port, &reading))
	}
	b.ReportMetric(float64(len(port.counters)+6), "files/op")
}
