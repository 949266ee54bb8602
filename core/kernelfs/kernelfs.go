// Package kernelfs reads kernel files (procfs, sysfs) under a root that tests can replace.
//
// A File stays open and is read from its start each time, because opening costs more than reading. No file is ever
// written. Needs no privilege.
package kernelfs

import (
	"errors"
	"os"
	"path/filepath"
)

// MaxFileBytes bounds what is read of one file: /proc/net/dev of 40,000 interfaces is about 5 MB.
const MaxFileBytes = 16 << 20

// ErrTooLarge means that a file went on beyond MaxFileBytes.
var ErrTooLarge = errors.New("file larger than 16 MiB")

// FS is a tree of kernel files.
type FS struct {
	root string
	live bool
}

// System is the running machine's tree. Network files are those of the calling thread's network namespace.
func System() FS { return FS{root: "/", live: true} }

// Dir is a recorded tree: root holds proc/net/dev and so on.
func Dir(root string) FS { return FS{root: root} }

// Live tells the running machine's tree from a recorded one.
func (fs FS) Live() bool { return fs.live }

// NetPath is the path of a file of /proc/net, as the calling thread sees it.
//
// Source: /proc/thread-self/net (proc(5), since Linux 3.17): /proc/net is the main thread's namespace, which is another one
// in a program that gave one of its threads a namespace of its own.
func (fs FS) NetPath(name string) string {
	if fs.live {
		return filepath.Join("/proc/thread-self/net", name)
	}
	return filepath.Join(fs.root, "proc/net", name)
}

// Path is where a path below the root leads to.
func (fs FS) Path(path string) string { return filepath.Join(fs.root, path) }

// ReadFile reads a whole file once, at a path below the root such as "proc/sys/kernel/random/boot_id".
func (fs FS) ReadFile(path string) ([]byte, error) {
	// Not os.ReadFile: os.File makes the Go runtime open descriptors for its poller (see clock.Waker).
	f, err := Open(filepath.Join(fs.root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Read(nil)
}

// Readlink reads a symbolic link at a path below the root.
func (fs FS) Readlink(path string) (string, error) {
	return os.Readlink(filepath.Join(fs.root, path))
}

// Stat describes the file that a path below the root leads to. Two descriptions tell whether it was replaced or written in between.
func (fs FS) Stat(path string) (os.FileInfo, error) {
	return os.Stat(filepath.Join(fs.root, path))
}
