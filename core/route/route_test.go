package route

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
)

func read(t testing.TB, capture, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata", capture, "proc/net", name))
	require.NoError(t, err)
	return text
}

func TestParse_captures(t *testing.T) {
	address := netip.MustParseAddr
	for capture, want := range map[string][2]Default{
		"linux-6.18-virtio-host": {{"eth0", address("192.0.2.1")}, {"eth0", address("fd00::1")}},
		"linux-6.18-container":   {{"eth0", address("10.9.0.2")}, {}},
	} {
		assert.Equal(t, want[0], ParseDefault(read(t, capture, Path)), capture)
		assert.Equal(t, want[1], ParseDefault6(read(t, capture, Path6)), capture)
	}
}

func TestParse_gateways(t *testing.T) {
	tests := map[string]struct {
		gateway, flags string
		want           netip.Addr
	}{
		"a link without gateway":  {"00000000", "0001", netip.Addr{}},
		"flag without address":    {"00000000", "0003", netip.Addr{}},
		"address without flag":    {"010200C0", "0001", netip.Addr{}},
		"not a number":            {"gateway!", "0003", netip.Addr{}},
		"longer than an address":  {"010200C001", "0003", netip.Addr{}},
		"an address with a flag":  {"010200C0", "0003", netip.MustParseAddr("192.0.2.1")},
		"the next hop's own flag": {"FE0200C0", "0007", netip.MustParseAddr("192.0.2.254")},
	}
	for name, tt := range tests {
		got := ParseDefault([]byte("eth0\t00000000\t" + tt.gateway + "\t" + tt.flags + "\t0\t0\t0\t00000000\t0\t0\t0\n"))
		assert.Equal(t, Default{"eth0", tt.want}, got, name)
	}
	tests6 := map[string]struct {
		gateway, flags string
		want           netip.Addr
	}{
		"a router's link-local address": {"fe800000000000000000000000000001", "00450003", netip.MustParseAddr("fe80::1%eth0")},
		"a global address":              {"20010db8000000000000000000000001", "00000003", netip.MustParseAddr("2001:db8::1")},
		"no gateway":                    {"00000000000000000000000000000000", "00000001", netip.Addr{}},
		"flag without address":          {"00000000000000000000000000000000", "00000003", netip.Addr{}},
		"half an address":               {"fe80000000000000", "00000003", netip.Addr{}},
		"an odd digit":                  {"fe8000000000000000000000000000012", "00000003", netip.Addr{}},
		"not hexadecimal":               {"fe80::000000000000000000000000001", "00000003", netip.Addr{}},
	}
	const zeros = "00000000000000000000000000000000"
	for name, tt := range tests6 {
		got := ParseDefault6([]byte(zeros + " 00 " + zeros + " 00 " + tt.gateway + " 00000400 00000002 00000000 " + tt.flags + "     eth0\n"))
		assert.Equal(t, Default{"eth0", tt.want}, got, name)
	}
}

func TestParseDefault_lowestMetricWins(t *testing.T) {
	const header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	row := func(name, destination, flags, metric, mask string) string {
		return name + "\t" + destination + "\t010200C0\t" + flags + "\t0\t0\t" + metric + "\t" + mask + "\t0\t0\t0\n"
	}
	tests := map[string]struct{ rows, want string }{
		"two defaults":          {row("wlan0", "00000000", "0003", "600", "00000000") + row("eth0", "00000000", "0003", "100", "00000000"), "eth0"},
		"down":                  {row("eth0", "00000000", "0002", "0", "00000000"), ""},
		"unreachable":           {row("*", "00000000", "0201", "0", "00000000"), ""},
		"half of the internet":  {row("tun0", "00000000", "0003", "0", "00000080"), ""},
		"no default":            {row("eth0", "000200C0", "0001", "0", "00FFFFFF"), ""},
		"cut in the line":       {row("eth0", "00000000", "0003", "0", "00000000") + "eth1\t0000", "eth0"},
		"words for numbers":     {row("eth0", "00000000", "up", "low", "00000000"), ""},
		"nothing but a header":  {"", ""},
		"same metric, first is": {row("a", "00000000", "0003", "0", "00000000") + row("b", "00000000", "0003", "0", "00000000"), "a"},
	}
	for name, tt := range tests {
		assert.Equal(t, tt.want, ParseDefault([]byte(header+tt.rows)).Interface, name)
	}
}

func TestDefaults_readsAgain(t *testing.T) {
	root := t.TempDir()
	folder := filepath.Join(root, "proc/net")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, Path), read(t, "linux-6.18-container", Path), 0o600))
	d, err := Open(kernelfs.Dir(root))
	require.ErrorIs(t, err, fs.ErrNotExist, "there is no ipv6_route")
	defer d.Close()
	assert.Equal(t, "eth0", d.Interface())
	v4, v6 := d.Read()
	assert.Equal(t, Default{"eth0", netip.MustParseAddr("10.9.0.2")}, v4)
	assert.Zero(t, v6)
	require.NoError(t, os.WriteFile(filepath.Join(folder, Path), []byte("Iface\n"), 0o600))
	assert.Equal(t, "", d.Interface())
}

func FuzzParse(f *testing.F) {
	for _, capture := range []string{"linux-6.18-virtio-host", "linux-6.18-container"} {
		f.Add(read(f, capture, Path))
		f.Add(read(f, capture, Path6))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		ParseDefault(text)
		ParseDefault6(text)
	})
}
