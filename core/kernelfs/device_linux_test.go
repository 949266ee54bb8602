package kernelfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestReadAttribute(t *testing.T) {
	fs := Dir(t.TempDir())
	for _, size := range []int{0, 1, minRoom - 1, minRoom, minRoom + 1, 5 * minRoom} {
		want := bytes.Repeat([]byte("x"), size)
		require.NoError(t, os.WriteFile(filepath.Join(fs.root, "rate"), want, 0o600))
		for _, buf := range [][]byte{nil, make([]byte, 7), make([]byte, 0, 9*minRoom)} {
			got, err := fs.ReadAttribute("rate", buf)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(want, got), "%d bytes", size)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(fs.root, "huge"), make([]byte, 3*mostAttribute), 0o600))
	got, err := fs.ReadAttribute("huge", nil)
	require.NoError(t, err)
	assert.Less(t, len(got), 3*mostAttribute, "bounded")

	_, err = fs.ReadAttribute("absent", nil)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "absent")
	require.NoError(t, os.Mkdir(filepath.Join(fs.root, "folder"), 0o700))
	_, err = fs.ReadAttribute("folder", nil)
	assert.ErrorIs(t, err, unix.EISDIR)
}

func TestReadAttribute_leavesNothingOpen(t *testing.T) {
	next := func() int {
		fd, err := unix.Dup(0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		return fd
	}
	before := next()
	for range 100 {
		_, err := System().ReadAttribute("/proc/self/stat", nil)
		require.NoError(t, err)
		_, err = System().List("/proc/self/ns")
		require.NoError(t, err)
		_, err = System().List("/proc/self/stat")
		require.ErrorIs(t, err, unix.ENOTDIR)
	}
	assert.Equal(t, before, next())
}

func TestList(t *testing.T) {
	fs := Dir(t.TempDir())
	names, err := fs.List("")
	require.NoError(t, err)
	assert.Empty(t, names)
	var want []string
	for i := range 1000 { // more than one buffer
		name := fmt.Sprintf("a-name-that-is-somewhat-long-%d", i)
		require.NoError(t, os.WriteFile(filepath.Join(fs.root, name), nil, 0o600))
		want = append(want, name)
	}
	slices.Sort(want)
	names, err = fs.List("")
	require.NoError(t, err)
	assert.Equal(t, want, names)
	_, err = fs.List("absent")
	assert.ErrorIs(t, err, os.ErrNotExist)
}
