package recorded

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func unpack(t *testing.T, text string) (folder string, err error) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "tree.ttar")
	require.NoError(t, os.WriteFile(archive, []byte(text), 0o600))
	folder = t.TempDir()
	return folder, Unpack(archive, folder)
}

func TestUnpack(t *testing.T) {
	folder, err := unpack(t, "Path: sys/a\nLines: 2\none\ntwo\nPath: sys/b/c\nLines: 1\n0a7f:bc12EOF\nPath: sys/empty\nLines: 0\n")
	require.NoError(t, err)
	for path, want := range map[string]string{"sys/a": "one\ntwo\n", "sys/b/c": "0a7f:bc12", "sys/empty": ""} {
		got, err := os.ReadFile(filepath.Join(folder, path))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}

func TestUnpack_refuses(t *testing.T) {
	for _, text := range []string{"sys/a\n", "Path: a\n", "Path: a\nLines: x\n", "Path: a\nLines: 9\nx\n", "Path: ../a\nLines: 1\nx\n", "Path: a\nLines: -1\n"} {
		_, err := unpack(t, text)
		assert.Error(t, err, "%q", text)
	}
}
