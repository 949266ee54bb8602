package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// fakeNVML builds a stand-in for the NVIDIA library, and returns the environment in which it is found. No test of this folder has
// seen a GPU.
func fakeNVML(t *testing.T, flags ...string) (environment []string) {
	t.Helper()
	folder := t.TempDir()
	arguments := append([]string{"-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", filepath.Join(folder, "libnvidia-ml.so.1")}, flags...)
	run(t, cc(), append(arguments, filepath.Join("testdata", "nvml", "fake.c"))...)
	return []string{"LD_LIBRARY_PATH=" + folder, "FAKE_NVML=" + filepath.Join(folder, "numbers")}
}

func TestNVML(t *testing.T) {
	program := compile(t, host("nvml"), "nvml", linked(t)...)
	for _, tt := range []struct {
		name        string
		environment []string
	}{
		{"absent", []string{"LD_LIBRARY_PATH="}},
		{"old", fakeNVML(t, "-DOLD")},
		{"read", fakeNVML(t)},
		{"sample", fakeNVML(t)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := try(t, tt.environment, program, tt.name)
			if r.status == 77 {
				t.Skip("needs a mount namespace of its own")
			}
			require.True(t, r.status == 0 && !r.hung, "%v\n%s", r, r.output)
		})
	}
}
