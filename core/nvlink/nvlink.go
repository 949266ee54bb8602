// Package nvlink is what is known of the NVLinks between GPUs: how much data they carried, by the driver's own library.
//
// Source: the NVIDIA Management Library (nvml.h: NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX and _RX, in KiB, for all links of a GPU
// together; nvmlDeviceGetNvLinkState). Core opens no library: capi does, and hands a Library over. Whether there is a driver is
// looked up in /proc/driver/nvidia/version. Needs the permission to open /dev/nvidiactl. A call into the library may wait for the
// driver, and hang with it.
package nvlink

import (
	"errors"
	"strings"

	"netmon/core/kernelfs"
)

// VersionPath is where the driver tells its version, below the root.
const VersionPath = "proc/driver/nvidia/version"

// MostGPUs bounds how many are read.
const MostGPUs = 64

// KiB is the unit of the library's counts of data.
const KiB = 1024

// GPU is what the library says of one GPU that has NVLinks.
type GPU struct {
	Index       int    // as the library counts
	UUID        string // "" where it is not told
	LinksActive int    // -1 where it is not told
	// Data that all links together received and transmitted since they came up, in KiB, without protocol overhead.
	ReceiveKiB, TransmitKiB uint64
	CountersMissing         string // why the two are not known, "" where they are
}

// Library reads the GPUs of this machine that the process may use.
type Library interface {
	// Read returns those that have NVLinks, at most MostGPUs. It may wait as long as the driver does. One call at a time. After an
	// error the library has to be opened anew.
	Read() ([]GPU, error)
}

// Open opens the library. It may wait, as Read does.
//
// Errors: why there is none, in a sentence.
type Open func() (Library, error)

// ErrNoDriver means that the machine has no NVIDIA driver.
var ErrNoDriver = errors.New("no NVIDIA driver (no /proc/driver/nvidia/version)")

// Driver is the version of the driver.
//
// Errors: ErrNoDriver where it cannot be read.
func Driver(fs kernelfs.FS) (version string, err error) {
	text, err := fs.ReadAttribute(VersionPath, nil)
	if err != nil {
		return "", ErrNoDriver
	}
	return ParseVersion(text), nil
}

// ParseVersion finds the driver's version in "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC
// 2023", "" where there is none.
func ParseVersion(text []byte) string {
	line, _ := kernelfs.Line(text)
	const most = 32
	for field := range strings.FieldsSeq(string(line)) {
		if len(field) <= most && strings.Contains(field, ".") && isVersion(field) {
			return field
		}
	}
	return ""
}

// isVersion tells whether a word is digits with dots between them.
func isVersion(word string) bool {
	for part := range strings.SplitSeq(word, ".") {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}
