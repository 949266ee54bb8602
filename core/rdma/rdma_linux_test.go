package rdma

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
	"netmon/core/kernelfs/recorded"
)

// trees are the recordings of core/testdata that hold RDMA devices.
func trees() []string {
	return []string{"prometheus-rdma-host", "documented-mlx5-roce", "documented-efa", "documented-irdma", "documented-bnxt_re", "documented-software"}
}

// host is a recorded machine that the test may change.
type host struct {
	t    *testing.T
	root string
	*Reader
}

func newHost(t *testing.T, tree string) *host {
	t.Helper()
	h := &host{t: t, root: t.TempDir()}
	require.NoError(t, recorded.Unpack("../testdata/"+tree+".ttar", h.root))
	h.Reader = New(kernelfs.Dir(h.root))
	return h
}

func (h *host) write(path, text string) {
	h.t.Helper()
	require.NoError(h.t, os.WriteFile(filepath.Join(h.root, Path, path), []byte(text), 0o600))
}

func (h *host) remove(path string) {
	h.t.Helper()
	require.NoError(h.t, os.RemoveAll(filepath.Join(h.root, Path, path)))
}

// ports are all of them by name, with their readings.
func (h *host) ports() (map[string]*Port, map[string]*Reading) {
	h.t.Helper()
	devices, err := h.Devices()
	require.NoError(h.t, err)
	ports, readings := make(map[string]*Port), make(map[string]*Reading)
	for _, p := range h.Ports(devices) {
		name := fmt.Sprintf("%s/%d", p.Device, p.Number)
		ports[name], readings[name] = p, &Reading{}
		require.NoError(h.t, h.Read(p, readings[name]))
	}
	return ports, readings
}

func (r *Reading) bytes(t *testing.T, p *Port, direction int) uint64 {
	t.Helper()
	require.NoError(t, r.Data[direction].Err)
	return r.Data[direction].Value * p.Data[direction].Unit
}

func (r *Reading) counter(t *testing.T, p *Port, name string) Count {
	t.Helper()
	for i, n := range p.Names {
		if n == name {
			return r.Counters[i]
		}
	}
	require.Fail(t, "no counter "+name)
	return Count{}
}

func TestRead_infiniBand(t *testing.T) {
	ports, readings := newHost(t, "prometheus-rdma-host").ports()
	assert.Len(t, ports, 4)
	p, r := ports["mlx4_0/2"], readings["mlx4_0/2"]
	assert.Equal(t, "active", r.State)
	assert.Equal(t, "link_up", r.PhysicalState)
	assert.Equal(t, "InfiniBand", r.LinkLayer, "the file has an empty line more")
	assert.Equal(t, uint64(40_000_000_000), r.RateBits)
	assert.Equal(t, uint64(4*2460436784), r.bytes(t, p, Receive))
	assert.Equal(t, uint64(4*26540356890), r.bytes(t, p, Transmit))
	assert.Equal(t, Count{Value: 3846}, r.counter(t, p, "port_xmit_wait"))
	assert.Empty(t, p.Driver)
	assert.Empty(t, p.Interface)
	assert.Equal(t, []GID{}, p.GIDs)

	p, r = ports["mlx5_0/1"], readings["mlx5_0/1"]
	assert.Equal(t, Count{Value: 131}, r.counter(t, p, "local_ack_timeout_err"))
	assert.Equal(t, Count{Value: 1}, r.counter(t, p, "out_of_sequence"))
	assert.NotContains(t, p.Names, "lifespan")
	assert.NotContains(t, p.Names, "rx_read_requests", "no trouble")
	assert.NotContains(t, p.Names, "port_rcv_packets")
	assert.NotContains(t, p.Names, "np_cnp_sent", "this device lacks it")

	p, r = ports["hfi1_0/1"], readings["hfi1_0/1"]
	assert.Equal(t, uint64(8*345091702026), r.bytes(t, p, Receive), "flits of Omni-Path hold 8 bytes")
}

func TestRead_roce(t *testing.T) {
	ports, readings := newHost(t, "documented-mlx5-roce").ports()
	p, r := ports["mlx5_0/1"], readings["mlx5_0/1"]
	assert.Equal(t, "Ethernet", r.LinkLayer)
	assert.Equal(t, "mlx5_core", p.Driver)
	assert.Equal(t, "ens1f0np0", p.Interface)
	require.Len(t, p.GIDs, 4, "zero ones are left out")
	assert.Equal(t, GID{Index: 3, GID: "0000:0000:0000:0000:0000:ffff:0a00:0105", Type: "RoCE v2", Interface: "ens1f0np0"}, p.GIDs[3])
	assert.Equal(t, uint64(4*7004512345678), r.bytes(t, p, Receive))
	for name, want := range map[string]uint64{"out_of_sequence": 6140236, "local_ack_timeout_err": 91316, "rp_cnp_handled": 1733,
		"np_cnp_sent": 1799, "np_ecn_marked_roce_packets": 20480, "port_xmit_discards": 12, "link_downed": 3} {
		assert.Equal(t, Count{Value: want}, r.counter(t, p, name), name)
	}
	assert.Equal(t, ErrFull, r.counter(t, p, "port_xmit_wait").Err, "stands at 2^32-1")

	p, r = ports["mlx5_1/1"], readings["mlx5_1/1"]
	assert.Equal(t, "down", r.State)
	assert.Equal(t, "disabled", r.PhysicalState)
	assert.Equal(t, "ens1f1np1", p.Interface, "without an address of its own, that of the device")
	assert.Equal(t, ErrFull, r.counter(t, p, "link_downed").Err, "stands at 255")
}

func TestRead_countersOfBytes(t *testing.T) {
	for tree, want := range map[string]map[string][directions]uint64{
		"documented-efa":     {"rdmap16s27/1": {927364518000, 918273645000}, "rdmap32s27/1": {927364519000, 918273646000}},
		"documented-irdma":   {"rocep24s0f0/1": {5123456789012 + 4096, 5098765432100 + 8192}},
		"documented-bnxt_re": {"bnxt_re0/1": {3686809600, 3277209600}},
	} {
		ports, readings := newHost(t, tree).ports()
		for name, bytes := range want {
			p, r := ports[name], readings[name]
			require.NotNil(t, p, name)
			assert.Equal(t, bytes[Receive], r.bytes(t, p, Receive), name)
			assert.Equal(t, bytes[Transmit], r.bytes(t, p, Transmit), name)
		}
	}
}

func TestRead_efa(t *testing.T) {
	h := newHost(t, "documented-efa")
	ports, readings := h.ports()
	p, r := ports["rdmap16s27/1"], readings["rdmap16s27/1"]
	assert.Equal(t, "Unspecified", r.LinkLayer)
	assert.Zero(t, r.RateBits)
	assert.Equal(t, "the driver efa says 100 Gb/sec of any device", r.RateMissing)
	assert.Equal(t, Count{Value: 5}, r.counter(t, p, "rx_drops"))
	assert.Equal(t, Count{Value: 2}, r.counter(t, p, "rdma_read_wr_err"))
	assert.Empty(t, p.Interface)
	require.Len(t, p.GIDs, 1)

	// A newer driver tells the truth.
	h.write("rdmap16s27/ports/1/rate", "200 Gb/sec (4X HDR)\n")
	_, readings = h.ports()
	assert.Equal(t, uint64(200_000_000_000), readings["rdmap16s27/1"].RateBits)
}

// Kernels of a time showed the port's counters as the device's.
func TestRead_countersOfTheDevice(t *testing.T) {
	h := newHost(t, "documented-efa")
	device := filepath.Join(h.root, Path, "rdmap16s27")
	require.NoError(t, os.RemoveAll(filepath.Join(device, "hw_counters")))
	require.NoError(t, os.Rename(filepath.Join(device, "ports/1/hw_counters"), filepath.Join(device, "hw_counters")))
	ports, readings := h.ports()
	assert.Equal(t, uint64(927364518000), readings["rdmap16s27/1"].bytes(t, ports["rdmap16s27/1"], Receive))
}

func TestRead_softwareDevices(t *testing.T) {
	ports, readings := newHost(t, "documented-software").ports()
	p, r := ports["rxe0/1"], readings["rxe0/1"]
	assert.Equal(t, Data{Missing: "the driver counts no bytes"}, p.Data[Receive])
	assert.Error(t, r.Data[Receive].Err)
	assert.Equal(t, "eth0", p.Interface)
	assert.Equal(t, Count{Value: 300}, r.counter(t, p, "link_downed"), "the driver's own counter has 64 bits")
	assert.Equal(t, Count{Value: 4}, r.counter(t, p, "completer_retry_err"))
	p, r = ports["siw0/1"], readings["siw0/1"]
	assert.Empty(t, p.Names)
	assert.Equal(t, uint64(2_500_000_000), r.RateBits)
}

// Before Linux 4.5: 32 bits in counters, 64 in counters_ext; and ports without any.
func TestRead_oldKernels(t *testing.T) {
	h := newHost(t, "prometheus-rdma-host")
	port := "mlx4_0/ports/1/"
	h.write(port+"counters/port_rcv_data", "4294967295\n")
	_, readings := h.ports()
	assert.Equal(t, ErrFull, readings["mlx4_0/1"].Data[Receive].Err)
	assert.NoError(t, readings["mlx4_0/1"].Data[Transmit].Err)

	require.NoError(t, os.Mkdir(filepath.Join(h.root, Path, port, "counters_ext"), 0o700))
	h.write(port+"counters_ext/port_rcv_data_64", "5000000000\n")
	ports, readings := h.ports()
	assert.Equal(t, uint64(20_000_000_000), readings["mlx4_0/1"].bytes(t, ports["mlx4_0/1"], Receive))

	h.write(port+"counters/symbol_error", "N/A (no PMA)\n")
	ports, readings = h.ports()
	assert.Equal(t, ErrNoPMA, readings["mlx4_0/1"].counter(t, ports["mlx4_0/1"], "symbol_error").Err)
}

func TestRead_fullCounters(t *testing.T) {
	h := newHost(t, "prometheus-rdma-host")
	for name, full := range map[string]int{"symbol_error": 65535, "link_downed": 255, "local_link_integrity_errors": 15, "VL15_dropped": 65535} {
		for _, value := range []int{full - 1, full, full + 1} {
			h.write("mlx4_0/ports/1/counters/"+name, fmt.Sprintln(value))
			ports, readings := h.ports()
			got := readings["mlx4_0/1"].counter(t, ports["mlx4_0/1"], name)
			if value == full {
				assert.Equal(t, ErrFull, got.Err, name)
			} else {
				assert.Equal(t, Count{Value: uint64(value)}, got, "%s, a wider one then", name)
			}
		}
	}
}

// The driver is unloaded between two readings, or in the middle of one.
func TestRead_vanishing(t *testing.T) {
	h := newHost(t, "documented-mlx5-roce")
	devices, err := h.Devices()
	require.NoError(t, err)
	ports := h.Ports(devices)
	require.Len(t, ports, 2)
	h.remove("mlx5_0/ports/1/hw_counters")
	var r Reading
	require.NoError(t, h.Read(ports[0], &r))
	assert.True(t, IsGone(r.counter(t, ports[0], "out_of_sequence").Err))
	assert.NoError(t, r.counter(t, ports[0], "link_downed").Err)
	h.remove("mlx5_0")
	err = h.Read(ports[0], &r)
	assert.True(t, IsGone(err), "%v", err)
	assert.Len(t, h.Ports(devices), 1, "listed, and gone when it is looked at")
	require.NoError(t, h.Read(ports[1], &r))

	require.NoError(t, os.RemoveAll(filepath.Join(h.root, Path)))
	_, err = h.Devices()
	assert.True(t, Absent(err), "%v", err)
}

func TestRead_hugeCounts(t *testing.T) {
	h := newHost(t, "documented-irdma")
	h.write("rocep24s0f0/ports/1/hw_counters/ip4InOctets", fmt.Sprintln(uint64(math.MaxUint64-4000)))
	_, readings := h.ports()
	assert.Equal(t, ErrNumber, readings["rocep24s0f0/1"].Data[Receive].Err, "no sum wraps")
	h.write("rocep24s0f0/ports/1/hw_counters/ip4InOctets", "garbage\n")
	_, readings = h.ports()
	assert.Equal(t, ErrNumber, readings["rocep24s0f0/1"].Data[Receive].Err)
}

func TestPorts_bounded(t *testing.T) {
	h := newHost(t, "documented-mlx5-roce")
	for i := range 300 {
		require.NoError(t, os.MkdirAll(filepath.Join(h.root, Path, "many", "ports", fmt.Sprint(i)), 0o700))
	}
	gids := filepath.Join(h.root, Path, "mlx5_0/ports/1/gids")
	for i := range 200 {
		require.NoError(t, os.WriteFile(filepath.Join(gids, fmt.Sprint(i)), []byte("fe80:0000:0000:0000:966d:aeff:fe12:3456\n"), 0o600))
	}
	ports := h.Ports([]string{"mlx5_0", "many"})
	assert.Len(t, ports, MostPorts)
	assert.Len(t, ports[0].GIDs, MostListedGIDs)
	assert.Equal(t, 10, ports[0].GIDs[10].Index, "in the order of their numbers")
}

func TestInterfaceOfAPort(t *testing.T) {
	h := newHost(t, "prometheus-rdma-host")
	nets := filepath.Join(h.root, Path, "mlx4_0/device/net")
	for name, files := range map[string][2]string{"ib0": {"0", "0x0"}, "ib0.8001": {"0", "0x0"}, "ib1": {"1", "0x1"}, "ib1.8001": {"1", "0x1"}} {
		require.NoError(t, os.MkdirAll(filepath.Join(nets, name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(nets, name, "dev_port"), []byte(files[0]+"\n"), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(nets, name, "dev_id"), []byte(files[1]+"\n"), 0o600))
	}
	ports, _ := h.ports()
	assert.Equal(t, "ib0", ports["mlx4_0/1"].Interface)
	assert.Equal(t, "ib1", ports["mlx4_0/2"].Interface)
	// Old drivers tell it in the other file only.
	for _, name := range []string{"ib1", "ib1.8001"} {
		require.NoError(t, os.WriteFile(filepath.Join(nets, name, "dev_port"), []byte("0\n"), 0o600))
	}
	ports, _ = h.ports()
	assert.Equal(t, "ib1", ports["mlx4_0/2"].Interface)
}

func TestParseState(t *testing.T) {
	for text, want := range map[string]string{"4: ACTIVE\n": "active", "5: LinkUp\n": "link_up", "5: ACTIVE_DEFER": "active_defer",
		"4: PortConfigurationTraining\n": "port_configuration_training", "7: Phy Test\n": "phy_test", "3: Disabled": "disabled",
		"0: <unknown>\n": "", "9: UNKNOWN\n": "", "": "", "ACTIVE": "", "4: \xff": ""} {
		assert.Equal(t, want, ParseState([]byte(text)), "%q", text)
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{"100 Gb/sec (4X EDR)\n": 100e9, "2.5 Gb/sec (1X SDR)\n": 2.5e9, "800 Gb/sec (4X XDR)": 800e9,
		"56 Gb/sec (4X FDR)": 56e9, "": 0, "100": 0, "100 Mb/sec": 0, "-1 Gb/sec": 0, "1e9 Gb/sec": 0, "2.25 Gb/sec": 0, "99999999999999 Gb/sec": 0} {
		assert.Equal(t, want, ParseRate([]byte(text)), "%q", text)
	}
}

func FuzzParseState(f *testing.F) {
	for _, seed := range []string{"4: ACTIVE\n", "7: Phy Test", "0: <unknown>", ":", "4: ÄCTIVE"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, c := range []byte(ParseState(text)) {
			require.True(t, c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
		}
	})
}

func FuzzParseRate(f *testing.F) {
	for _, seed := range []string{"100 Gb/sec (4X EDR)\n", "2.5 Gb/sec (1X SDR)\n", "9999999999999999999999 Gb/sec"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		require.LessOrEqual(t, ParseRate(text), uint64(1e15+5e8))
	})
}

func FuzzParseCount(f *testing.F) {
	for _, seed := range []string{"0\n", "18446744073709551615\n", "N/A (no PMA)\n", "-1", "1 2"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if value, err := ParseCount(text); err == nil {
			again, err := ParseCount([]byte(fmt.Sprintln(value)))
			require.NoError(t, err)
			require.Equal(t, value, again)
		}
	})
}

func FuzzParseDevice(f *testing.F) {
	for _, seed := range []string{"DRIVER=mlx5_core\nPCI_CLASS=20000\n", "DRIVER=\xff\n", "fe80:0000:0000:0000:966d:aeff:fe12:3456\n", "::ffff:1.2.3.4", "fe80::1%eth0"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		require.LessOrEqual(t, len(ParseDriver(text)), 64)
		require.LessOrEqual(t, len(parseGID(text)), 64)
	})
}

// The time of a reading is that of its data, however long the counters after them take.
func TestRead_timeOfTheData(t *testing.T) {
	h := newHost(t, "documented-mlx5-roce")
	ports, _ := h.ports()
	p := ports["mlx5_0/1"]
	require.NotNil(t, p)
	h.write("mlx5_0/ports/1/counters/port_rcv_data", "1000\n")
	h.write("mlx5_0/ports/1/hw_counters/out_of_sequence", "1\n")
	h.Now = func() time.Duration {
		h.write("mlx5_0/ports/1/counters/port_rcv_data", "2000\n")
		h.write("mlx5_0/ports/1/hw_counters/out_of_sequence", "2\n")
		return 7 * time.Second
	}
	var r Reading
	require.NoError(t, h.Read(p, &r))
	assert.Equal(t, 7*time.Second, r.At)
	assert.Equal(t, uint64(1000), r.Data[Receive].Value)
	at := slices.Index(p.Names, "out_of_sequence")
	require.GreaterOrEqual(t, at, 0)
	assert.Equal(t, uint64(2), r.Counters[at].Value)
}
