package pcie

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
	"netmon/core/kernelfs/recorded"
)

func read(t *testing.T, tree string) map[string]Device {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, recorded.Unpack("../testdata/"+tree+".ttar", root))
	devices, err := Read(kernelfs.Dir(root))
	require.NoError(t, err)
	byAddress := make(map[string]Device)
	for _, d := range devices {
		byAddress[d.Address] = d
	}
	require.Len(t, byAddress, len(devices))
	return byAddress
}

func TestRead_recorded(t *testing.T) {
	devices := read(t, "prometheus-rdma-host")
	assert.Len(t, devices, 2, "a storage controller is left out")
	assert.Equal(t, Device{Address: "0000:a2:00.0", Kind: Network, Names: []string{"enp162s0f0np0"}, Current: Link{16e9, 8}, Maximum: Link{16e9, 8}},
		devices["0000:a2:00.0"])
	assert.Equal(t, Device{Address: "0000:09:00.0", Kind: GPU, Names: []string{}, Current: Link{8e9, 16}, Maximum: Link{8e9, 16}},
		devices["0000:09:00.0"])
}

func TestRead_documented(t *testing.T) {
	devices := read(t, "documented-pcie")
	for address, want := range map[string]struct {
		kind  string
		limit Limit
		names []string
	}{
		"0000:00:03.0": {Network, NotKnown, []string{"eth0"}},
		"0000:17:00.0": {GPU, Resting, []string{}},
		"0000:2a:00.0": {GPU, Limited, []string{}},
		"0000:3a:00.0": {GPU, Unlimited, []string{}},
		"0000:4a:00.0": {GPU, NotKnown, []string{}},
		"0000:3b:00.0": {Network, Limited, []string{"ib0", "mlx5_0"}},
		"0000:3b:00.1": {Network, Limited, []string{"ens1f1np1", "mlx5_1"}},
		"0000:3b:00.2": {Network, NotKnown, []string{"ens1f0v0"}},
		"0000:5e:00.0": {Network, Unlimited, []string{"ens2f0np0", "bnxt_re0"}},
	} {
		d, found := devices[address]
		require.True(t, found, address)
		assert.Equal(t, want.kind, d.Kind, address)
		assert.Equal(t, want.limit, d.Limit(), address)
		assert.Equal(t, want.names, d.Names, address)
		delete(devices, address)
	}
	assert.Empty(t, devices, "bridges, disks and what has no PCI Express are left out")
}

// Reading the link of a device that is powered down would power it up.
func TestRead_sleepingDeviceIsNotAsked(t *testing.T) {
	d := read(t, "documented-pcie")["0000:4a:00.0"]
	assert.True(t, d.Asleep)
	assert.Equal(t, Link{}, d.Current)
	assert.Equal(t, Link{}, d.Maximum)
}

func TestRead_noPCI(t *testing.T) {
	_, err := Read(kernelfs.Dir(t.TempDir()))
	assert.True(t, Absent(err), "%v", err)
	_, err = Read(kernelfs.Dir(filepath.Join(t.TempDir(), "absent")))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestCapacityBits(t *testing.T) {
	for _, tt := range []struct {
		link Link
		want float64
	}{
		{Link{2.5e9, 1}, 2e9}, {Link{5e9, 8}, 32e9}, {Link{8e9, 16}, 126.0e9}, {Link{16e9, 16}, 252.06e9}, {Link{32e9, 16}, 504.1e9},
		{Link{64e9, 16}, 1024e9}, {Link{0, 16}, 0}, {Link{16e9, 0}, 0},
	} {
		assert.InDelta(t, tt.want, float64(tt.link.CapacityBits()), tt.want/1000, "%v", tt.link)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{"0x020000\n": Network, "0x020700": Network, "0x028000": Network, "0x030000": GPU, "0x030200": GPU,
		"0x038000": GPU, "0x120000": GPU, "0x010802": "", "0x060400": "", "": "", "garbage": "", "0x1020000": ""} {
		assert.Equal(t, want, ParseClass([]byte(text)), "%q", text)
	}
	for text, want := range map[string]float64{"16.0 GT/s PCIe\n": 16e9, "8 GT/s\n": 8e9, "2.5 GT/s PCIe": 2.5e9, "Unknown\n": 0, "Unknown speed": 0,
		"": 0, "-8.0 GT/s": 0, "NaN GT/s": 0, "Inf GT/s": 0, "66 MHz PCI": 0} {
		assert.Equal(t, want, ParseSpeed([]byte(text)), "%q", text)
	}
	for text, want := range map[string]int{"16\n": 16, "1": 1, "0\n": 0, "63": 0, "255": 0, "-1": 0, "x": 0, "3": 0} {
		assert.Equal(t, want, ParseLanes([]byte(text)), "%q", text)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"16.0 GT/s PCIe\n", "0x030200\n", "16\n", "1e308 GT/s"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		require.Contains(t, []string{"", Network, GPU}, ParseClass(text))
		speed, lanes := ParseSpeed(text), ParseLanes(text)
		require.False(t, math.IsNaN(speed) || math.IsInf(speed, 0) || speed < 0)
		require.True(t, lanes >= 0 && lanes <= 32)
		_ = Link{speed, lanes}.CapacityBits()
	})
}
