//go:build linux

package kernelfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadRecord_returnsAllOfTheFile(t *testing.T) {
	for _, size := range []int{0, 1, minRoom - 1, minRoom, minRoom + 1, 4 * minRoom, 4*minRoom + 1, 9 * minRoom} {
		for _, end := range []string{"\n", "9"} {
			t.Run(fmt.Sprintf("%d%q", size, end), func(t *testing.T) {
				want := bytes.Repeat([]byte("1234567\n"), size/8+1)[:size]
				if size > 0 {
					want[size-1] = end[0]
				}
				path := filepath.Join(t.TempDir(), "file")
				require.NoError(t, os.WriteFile(path, want, 0o600))
				file, err := Open(path)
				require.NoError(t, err)
				defer file.Close()
				for _, room := range []int{0, 1, minRoom, 4 * minRoom, 100 * minRoom} {
					got, err := file.ReadRecord(make([]byte, 0, room))
					require.NoError(t, err)
					assert.True(t, bytes.Equal(want, got), "with room for %d", room)
				}
			})
		}
	}
}

func TestReadRecord_isReadOnTheKernelsFiles(t *testing.T) {
	for _, name := range []string{"snmp", "netstat", "snmp6", "sockstat", "sockstat6"} {
		file, err := Open(System().NetPath(name))
		if err != nil {
			t.Skip(err)
		}
		defer file.Close()
		record, err := file.ReadRecord(nil)
		require.NoError(t, err)
		whole, err := file.Read(nil)
		require.NoError(t, err)
		// Counters move meanwhile; names and lines do not.
		assert.Equal(t, bytes.Count(whole, []byte("\n")), bytes.Count(record, []byte("\n")), name)
		require.NotEmpty(t, record)
		assert.Equal(t, byte('\n'), record[len(record)-1], name)
	}
}

func TestReadRecord_closedDescriptor(t *testing.T) {
	file, err := Open("/proc/self/stat")
	require.NoError(t, err)
	file.fd, file.ino = -1, 0
	_, err = file.ReadRecord(nil)
	require.ErrorIs(t, err, ErrForeign)
}
