package netdev

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
)

const header = "Inter-|   Receive                                                |  Transmit\n" +
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"

func capture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../testdata", name, "proc/net/dev"))
	require.NoError(t, err)
	return text
}

func TestParse_captures(t *testing.T) {
	tests := []struct {
		capture string
		names   []string
		row     int
		want    Row
	}{
		{"linux-6.18-virtio-host", []string{"lo", "ifb0", "ifb1", "eth0"}, 0, Row{Name: "lo", Values: [Counters]uint64{
			ReceiveBytes: 3193, ReceivePackets: 29, TransmitBytes: 3193, TransmitPackets: 29,
		}}},
		{"linux-6.18-container", []string{"lo", "eth0", "br0", "vy", "vx", "tap0", "vxlan7", "mv0"}, 1, Row{
			Name: "eth0", Values: [Counters]uint64{
				ReceiveBytes: 10467, ReceivePackets: 153, TransmitBytes: 20729469, TransmitPackets: 388,
			},
		}},
		{"prometheus-docker-host", []string{"vethf345468", "lo", "docker0", "eth0"}, 3, Row{Name: "eth0", Values: [Counters]uint64{
			ReceiveBytes: 874354587, ReceivePackets: 1036395, TransmitBytes: 563352563, TransmitPackets: 732147,
		}}},
	}
	for _, tt := range tests {
		t.Run(tt.capture, func(t *testing.T) {
			var table Table
			_, err := table.Parse(capture(t, tt.capture))
			require.NoError(t, err)
			var names []string
			for _, row := range table.Rows {
				names = append(names, row.Name)
			}
			assert.Equal(t, tt.names, names)
			assert.Equal(t, tt.want, table.Rows[tt.row])
		})
	}
}

func TestParse_everyColumnLandsInItsCounter(t *testing.T) {
	var table Table
	_, err := table.Parse([]byte(header + " eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"))
	require.NoError(t, err)
	assert.Equal(t, [Counters]uint64{
		ReceiveBytes: 1, ReceivePackets: 2, ReceiveErrors: 3, ReceiveDrops: 4, ReceiveFIFOErrors: 5, ReceiveFrameErrors: 6,
		ReceiveCompressed: 7, ReceiveMulticast: 8, TransmitBytes: 9, TransmitPackets: 10, TransmitErrors: 11,
		TransmitDrops: 12, TransmitFIFOErrors: 13, TransmitCollisions: 14, TransmitCarrierErrors: 15, TransmitCompressed: 16,
	}, table.Rows[0].Values)
}

func TestParse_moreColumnsThanKnown(t *testing.T) {
	text := strings.Replace(header, "multicast|", "multicast nohandler|", 1)
	var table Table
	_, err := table.Parse([]byte(text + "eth0:1 2 3 4 5 6 7 8 99 9 10 11 12 13 14 15 16 77 88\n"))
	require.NoError(t, err)
	assert.Equal(t, uint64(8), table.Rows[0].Values[ReceiveMulticast])
	assert.Equal(t, uint64(9), table.Rows[0].Values[TransmitBytes])
}

func TestParse_brokenRowsAreToldAndOthersKept(t *testing.T) {
	good := " lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
	tests := map[string]struct {
		row string
		err error
	}{
		"truncated line":    {"eth0: 5 ", ErrColumns},
		"huge number":       {"eth0: 18446744073709551616 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", kernelfs.ErrNumber},
		"negative number":   {"eth0: -1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", kernelfs.ErrNumber},
		"no colon":          {"eth0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", ErrFormat},
		"no name":           {" : 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", ErrFormat},
		"a word in a row":   {"eth0: 1 two 3 4 5 6 7 8 9 10 11 12 13 14 15 16", kernelfs.ErrNumber},
		"empty line":        {"", ErrFormat},
		"binary":            {"\x00\xff\x01", ErrFormat},
		"cut in the values": {"eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15", ErrColumns},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var table Table
			_, err := table.Parse([]byte(header + good + tt.row + "\n" + strings.Replace(good, "lo", "eth1", 1)))
			require.ErrorIs(t, err, tt.err)
			var parseError *kernelfs.ParseError
			require.ErrorAs(t, err, &parseError)
			assert.Equal(t, 4, parseError.Line)
			require.Len(t, table.Rows, 2)
			assert.Equal(t, "eth1", table.Rows[1].Name)
			assert.Equal(t, uint64(16), table.Rows[1].Values[TransmitCompressed])
		})
	}
}

func TestParse_notThisFile(t *testing.T) {
	for _, text := range []string{"", "\n", "hello", header[:40], strings.Replace(header, "drop", "lost", 1), strings.Replace(header, "|", "/", 9)} {
		var table Table
		_, err := table.Parse([]byte(text))
		assert.ErrorIs(t, err, ErrFormat, "%q", text)
		assert.Empty(t, table.Rows)
	}
}

// Rows that did not change are recognised, and only those: a counter that is wrongly taken for unchanged would be lost.
func TestParse_sameMeansUnchangedAtThisPlace(t *testing.T) {
	row := func(name string, bytes int) string {
		return fmt.Sprintf("%6s: %d 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n", name, bytes)
	}
	var table Table
	var spare []byte
	parse := func(rows ...string) (same []bool) {
		var err error
		spare, err = table.Parse(append(spare[:0], header+strings.Join(rows, "")...))
		require.NoError(t, err)
		for _, r := range table.Rows {
			same = append(same, r.Same)
		}
		return same
	}
	assert.Equal(t, []bool{false, false}, parse(row("lo", 1), row("eth0", 1)))
	assert.Equal(t, []bool{true, true}, parse(row("lo", 1), row("eth0", 1)))
	assert.Equal(t, []bool{true, false}, parse(row("lo", 1), row("eth0", 2)))
	assert.Equal(t, []bool{true, true}, parse(row("lo", 1), row("eth0", 2)))
	assert.Equal(t, []bool{false, false}, parse(row("eth0", 2), row("lo", 1)))
	assert.Equal(t, "lo", table.Rows[1].Name)
	assert.Equal(t, []bool{true}, parse(row("eth0", 2)))
	assert.Equal(t, []bool{true, false}, parse(row("eth0", 2), row("lo", 1)), "gone for a while")

	_, err := table.Parse([]byte(header + row("eth0", 2) + " lo: 7\n" + row("eth1", 1)))
	require.Error(t, err)
	_, err = table.Parse([]byte(header + row("eth0", 2) + " lo: 7\n" + row("eth1", 1)))
	require.Error(t, err, "a broken row stays broken")
	assert.True(t, table.Rows[0].Same)
	assert.Equal(t, []bool{true, false}, parse(row("eth0", 2), row("lo", 1)))
	assert.Equal(t, uint64(1), table.Rows[1].Values[ReceiveBytes])
}

// Whatever the file held before, parsing a text gives what a fresh table makes of it.
func FuzzParse(f *testing.F) {
	for _, name := range []string{"linux-6.18-virtio-host", "linux-6.18-container", "prometheus-docker-host"} {
		text := capture(f, name)
		f.Add(text, text)
		f.Add(text, text[:len(text)/2])
		f.Add(text[:len(text)-7], text)
		f.Add(text, bytes.ReplaceAll(text, []byte("0 "), []byte("18446744073709551615 ")))
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var used, fresh Table
		_, _ = used.Parse(bytes.Clone(first))
		spare, usedErr := used.Parse(bytes.Clone(second))
		require.Equal(t, len(first), len(spare))
		_, freshErr := fresh.Parse(bytes.Clone(second))
		require.Equal(t, freshErr == nil, usedErr == nil)
		require.Equal(t, len(fresh.Rows), len(used.Rows))
		for i := range fresh.Rows {
			require.Equal(t, fresh.Rows[i].Name, used.Rows[i].Name)
			require.Equal(t, fresh.Rows[i].Values, used.Rows[i].Values)
			require.NotEmpty(t, fresh.Rows[i].Name)
		}
	})
}
