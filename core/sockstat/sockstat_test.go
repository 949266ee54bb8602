package sockstat

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func read(t testing.TB, capture, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata", capture, "proc/net", name))
	require.NoError(t, err)
	return text
}

func TestParse_captures(t *testing.T) {
	for _, capture := range []string{"linux-6.18-virtio-host", "linux-6.18-container", "prometheus-docker-host"} {
		var v Values
		require.NoError(t, Parse(Path, read(t, capture, Path), &v))
		require.NoError(t, Parse(Path6, read(t, capture, Path6), &v))
		for g := Gauge(0); g < Gauges; g++ {
			assert.True(t, v.Has[g], "%s: gauge %d", capture, g)
		}
	}
	var v Values
	require.NoError(t, Parse(Path, read(t, "prometheus-docker-host", Path), &v))
	require.NoError(t, Parse(Path6, read(t, "prometheus-docker-host", Path6), &v))
	assert.Equal(t, [Gauges]uint64{
		TCPInUse: 35, TCPOrphaned: 0, TCPTimeWait: 4, TCPMemoryPages: 22, UDPInUse: 12, TCP6InUse: 17, UDP6InUse: 9,
	}, v.Value)
}

func TestParse_brokenLinesAreToldAndOthersKept(t *testing.T) {
	for _, broken := range []string{"TCP inuse 1", "TCP: inuse", "TCP: inuse x", "TCP: inuse 1 orphan -2", "", "TCP: inuse 18446744073709551616"} {
		var v Values
		err := Parse(Path, []byte("sockets: used 8\n"+broken+"\nUDP: inuse 3 mem 1\n"), &v)
		require.Error(t, err, broken)
		assert.ErrorContains(t, err, "sockstat line 2")
		assert.Equal(t, uint64(3), v.Value[UDPInUse], broken)
	}
}

func FuzzParse(f *testing.F) {
	for _, capture := range []string{"linux-6.18-virtio-host", "prometheus-docker-host"} {
		f.Add(read(f, capture, Path))
		f.Add(read(f, capture, Path6))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		var v Values
		_ = Parse(Path, text, &v)
	})
}
