package kernelfs

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestUint(t *testing.T) {
	tests := []struct {
		text  string
		value uint64
		rest  string
		err   error
	}{
		{"7", 7, "", nil},
		{"  42 x", 42, " x", nil},
		{"\t0\t1", 0, "\t1", nil},
		{"18446744073709551615", math.MaxUint64, "", nil},
		{"18446744073709551616", 0, "", ErrNumber},
		{"99999999999999999999999", 0, "", ErrNumber},
		{"-1", 0, "", ErrNumber},
		{"1a", 0, "", ErrNumber},
		{"0x10", 0, "", ErrNumber},
		{"", 0, "", ErrNumber},
		{"   ", 0, "", ErrNumber},
	}
	for _, tt := range tests {
		value, rest, err := Uint([]byte(tt.text))
		assert.ErrorIs(t, err, tt.err, tt.text)
		if tt.err == nil {
			assert.Equal(t, tt.value, value, tt.text)
			assert.Equal(t, tt.rest, string(rest), tt.text)
		}
	}
}

func FuzzUint(f *testing.F) {
	for _, seed := range []string{"", "1", " 18446744073709551615 2", "-1", "1.5", "00012"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		field, _ := Field(text)
		want, wantErr := strconv.ParseUint(string(field), 10, 64)
		if len(bytes.Trim(field, "0123456789")) > 0 {
			wantErr = ErrNumber // strconv accepts signs and underscores elsewhere; the kernel writes none
		}
		value, _, err := Uint(text)
		require.Equal(t, wantErr == nil, err == nil)
		if err == nil {
			require.Equal(t, want, value)
		}
	})
}

func TestFile_readsFromTheStartToTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dev")
	long := bytes.Repeat([]byte("0123456789abcdef\n"), 5000)
	require.NoError(t, os.WriteFile(path, long, 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	var buffer []byte
	for range 3 {
		buffer, err = f.Read(buffer)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(long, buffer))
	}
	require.NoError(t, os.WriteFile(path, []byte("short"), 0o600))
	buffer, err = f.Read(buffer)
	require.NoError(t, err)
	assert.Equal(t, "short", string(buffer))
}

func TestFile_tooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "huge")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, MaxFileBytes+1))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Read(nil)
	assert.ErrorIs(t, err, ErrTooLarge)
	head, err := f.ReadHead(nil, 10)
	require.NoError(t, err)
	assert.Less(t, len(head), MaxFileBytes/2)
}

func TestOpen_missingFileSaysWhich(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent")
	_, err := Open(path)
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, path)
}

func TestDir_leadsToTheRecordedTree(t *testing.T) {
	fs := Dir("../testdata/linux-6.18-container")
	f, err := Open(fs.NetPath("dev"))
	require.NoError(t, err)
	defer f.Close()
	text, err := f.Read(nil)
	require.NoError(t, err)
	assert.Contains(t, string(text), "vxlan7")
	assert.False(t, fs.Live())
}

func TestParseError_isShort(t *testing.T) {
	err := NewParseError("dev", 3, bytes.Repeat([]byte("x"), 1000), ErrNumber)
	assert.ErrorIs(t, err, ErrNumber)
	assert.ErrorContains(t, err, "dev line 3")
	assert.Less(t, len(err.Error()), 250)
}
