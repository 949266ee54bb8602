package kernelfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A host process may close every descriptor (os.closerange) and open something else under the same number.
func TestFile_descriptorTakenOverByTheHost(t *testing.T) {
	folder := t.TempDir()
	ours, theirs := filepath.Join(folder, "ours"), filepath.Join(folder, "theirs")
	require.NoError(t, os.WriteFile(ours, []byte("counters"), 0o600))
	require.NoError(t, os.WriteFile(theirs, []byte("the host's data"), 0o600))
	f, err := Open(ours)
	require.NoError(t, err)
	require.NoError(t, unix.Close(f.fd))
	_, err = f.Read(nil)
	assert.ErrorIs(t, err, ErrForeign, "closed and not used again")

	fd, err := unix.Open(theirs, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	if fd != f.fd {
		require.NoError(t, unix.Dup3(fd, f.fd, unix.O_CLOEXEC))
		require.NoError(t, unix.Close(fd))
	}
	assert.False(t, f.Owned())
	number := f.fd
	f.Close()
	_, _, err = Identity(number)
	assert.NoError(t, err, "the host's descriptor stays open")
	require.NoError(t, unix.Close(number))
}
