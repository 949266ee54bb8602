package nvlink

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/kernelfs"
)

const (
	closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc version 12.3.0\n"
	opened = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (dvs-builder@U16-I3-B03-4-3)  Tue Mar  5 22:15:33 UTC 2024\n"
)

func TestDriver(t *testing.T) {
	root := t.TempDir()
	_, err := Driver(kernelfs.Dir(root))
	assert.ErrorIs(t, err, ErrNoDriver)
	path := filepath.Join(root, VersionPath)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(closed), 0o600))
	version, err := Driver(kernelfs.Dir(root))
	require.NoError(t, err)
	assert.Equal(t, "535.104.05", version)
}

func TestParseVersion(t *testing.T) {
	for text, want := range map[string]string{closed: "535.104.05", opened: "550.54.15", "": "", "NVRM version:": "", "a 1..2 .3 4.": ""} {
		assert.Equal(t, want, ParseVersion([]byte(text)), "%q", text)
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add([]byte(closed))
	f.Add([]byte(opened))
	f.Fuzz(func(t *testing.T, text []byte) {
		version := ParseVersion(text)
		require.True(t, version == "" || isVersion(version) && len(version) <= 32)
	})
}
