package snmp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func captures() []string {
	return []string{"linux-6.18-virtio-host", "linux-6.18-container", "prometheus-docker-host"}
}

func read(t testing.TB, capture, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata", capture, "proc/net", name))
	require.NoError(t, err)
	return text
}

func parseAll(t testing.TB, p *Parser, capture string) (v Values) {
	t.Helper()
	require.NoError(t, p.ParseTable(PathSNMP, read(t, capture, PathSNMP), &v))
	require.NoError(t, p.ParseTable(PathNetstat, read(t, capture, PathNetstat), &v))
	require.NoError(t, p.ParseSNMP6(read(t, capture, PathSNMP6), &v))
	return v
}

func TestParse_captures(t *testing.T) {
	p := NewParser()
	for range 2 { // the second time with remembered columns
		for _, capture := range captures() {
			v := parseAll(t, p, capture)
			for c := Counter(0); c < Counters; c++ {
				assert.True(t, v.Has[c], "%s: %s", capture, c.Name())
			}
		}
		// Figures read off the files by eye.
		v := parseAll(t, p, "prometheus-docker-host")
		for c, want := range map[Counter]uint64{
			IPInAddrErrors: 1, IPOutDiscards: 20, IPOutNoRoutes: 231, TCPCurrEstab: 15, TCPInSegs: 653161, TCPOutSegs: 594855,
			TCPRetransSegs: 348, TCPInErrs: 98, TCPOutRsts: 1038, UDPInDatagrams: 10179, UDPNoPorts: 50, UDPOutDatagrams: 9846,
			TCPTimeouts: 0, TCPSynRetrans: 16, TCPOFOQueue: 65515, IP6OutNoRoutes: 169, UDP6NoPorts: 0, UDP6InDatagrams: 2016,
			UDP6OutDatagrams: 1546,
		} {
			assert.Equal(t, want, v.Value[c], c.Name())
		}
	}
}

// Every counter is found by its kernel name in the right file: the value is compared with what a plain search finds.
func TestParse_agreesWithAPlainSearch(t *testing.T) {
	for _, capture := range captures() {
		v := parseAll(t, NewParser(), capture)
		want := make(map[string]string)
		for _, name := range []string{PathSNMP, PathNetstat} {
			lines := strings.Split(strings.TrimSpace(string(read(t, capture, name))), "\n")
			for i := 0; i+1 < len(lines); i += 2 {
				keys, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
				for j := 1; j < len(keys); j++ {
					want[strings.TrimSuffix(keys[0], ":")+" "+keys[j]] = values[j]
				}
			}
		}
		for _, line := range strings.Split(strings.TrimSpace(string(read(t, capture, PathSNMP6))), "\n") {
			fields := strings.Fields(line)
			want[fields[0]] = fields[1]
		}
		for c := Counter(0); c < Counters; c++ {
			assert.Equal(t, want[c.Name()], uintString(v.Value[c]), "%s: %s", capture, c.Name())
		}
	}
}

func uintString(v uint64) string {
	if v == 0 {
		return "0"
	}
	var digits []byte
	for ; v > 0; v /= 10 {
		digits = append([]byte{byte('0' + v%10)}, digits...)
	}
	return string(digits)
}

func TestParseTable_brokenPairsAreToldAndOthersKept(t *testing.T) {
	udp := "Udp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 1 2 3 4\n"
	tests := map[string]string{
		"values of another protocol": "Tcp: InSegs OutSegs\nUdp: 1 2\n",
		"fewer values than names":    "Tcp: RtoMin InSegs OutSegs RetransSegs\nTcp: 200 5\n",
		"cut before the values":      "Tcp: RtoMin InSegs OutSegs\nTcp:\n",
		"no colon":                   "Tcp InSegs\nTcp 1\n",
		"huge number":                "Tcp: InSegs\nTcp: 99999999999999999999\n",
		"negative number":            "Tcp: InSegs\nTcp: -3\n",
		"words":                      "Tcp: InSegs\nTcp: many\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			var v Values
			err := NewParser().ParseTable(PathSNMP, []byte(text+udp), &v)
			require.Error(t, err)
			assert.ErrorContains(t, err, "snmp line 2")
			assert.True(t, v.Has[UDPOutDatagrams])
			assert.Equal(t, uint64(4), v.Value[UDPOutDatagrams])
		})
	}
}

func TestParseTable_negativeWhereNotRead(t *testing.T) {
	var v Values
	require.NoError(t, NewParser().ParseTable(PathSNMP, []byte("Tcp: MaxConn InSegs\nTcp: -1 9\n"), &v))
	assert.Equal(t, uint64(9), v.Value[TCPInSegs])
}

func TestParseTable_columnsThatMove(t *testing.T) {
	p := NewParser()
	var v Values
	require.NoError(t, p.ParseTable(PathSNMP, []byte("Tcp: InSegs OutSegs\nTcp: 1 2\n"), &v))
	require.NoError(t, p.ParseTable(PathSNMP, []byte("Tcp: OutSegs New InSegs\nTcp: 3 4 5\n"), &v))
	assert.Equal(t, uint64(3), v.Value[TCPOutSegs])
	assert.Equal(t, uint64(5), v.Value[TCPInSegs])
}

func TestParseSNMP6_linesThatMove(t *testing.T) {
	p := NewParser()
	var v Values
	require.NoError(t, p.ParseSNMP6([]byte("Ip6InDiscards\t1\nUdp6NoPorts\t2\n"), &v))
	v = Values{}
	require.NoError(t, p.ParseSNMP6([]byte("Ip6InDiscards\t3\nIcmp6InType1\t9\nUdp6NoPorts\t4\nUdp6NoPortsX\t5\n"), &v))
	assert.Equal(t, uint64(3), v.Value[IP6InDiscards])
	assert.Equal(t, uint64(4), v.Value[UDP6NoPorts])
	v = Values{}
	require.NoError(t, p.ParseSNMP6([]byte("Udp6NoPorts 6\n"), &v))
	assert.Equal(t, uint64(6), v.Value[UDP6NoPorts])
	assert.False(t, v.Has[IP6InDiscards])
}

func TestCounter_names(t *testing.T) {
	seen := make(map[string]bool)
	for c := Counter(0); c < Counters; c++ {
		assert.NotEmpty(t, c.Name(), "%d", c)
		assert.False(t, seen[c.Name()], c.Name())
		seen[c.Name()] = true
	}
	assert.Equal(t, "unknown counter", Counters.Name())
}

// Whatever was parsed before, a text gives what a fresh parser makes of it.
func FuzzParse(f *testing.F) {
	for _, capture := range captures() {
		for _, name := range []string{PathSNMP, PathNetstat, PathSNMP6} {
			text := read(f, capture, name)
			f.Add(text, text)
			f.Add(text, text[:len(text)*2/3])
			f.Add(text, bytes.ReplaceAll(text, []byte(" 0"), []byte(" 18446744073709551616")))
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		used, fresh := NewParser(), NewParser()
		var ignored, a, b Values
		_, _ = used.ParseTable(PathSNMP, first, &ignored), used.ParseSNMP6(first, &ignored)
		errA, errA6 := used.ParseTable(PathSNMP, second, &a), used.ParseSNMP6(second, &a)
		errB, errB6 := fresh.ParseTable(PathSNMP, second, &b), fresh.ParseSNMP6(second, &b)
		require.Equal(t, b, a)
		require.Equal(t, errB == nil, errA == nil)
		require.Equal(t, errB6 == nil, errA6 == nil)
	})
}
